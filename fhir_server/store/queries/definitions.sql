-- name: found
-- Which resources of a type, and in which version, the index has under any of these hashes; the newest first.
select r.type, r.id, r.version, r.updated
from resource r
where r.rid in (select t.rid from token t where t.h = any(%s::bigint[])) and r.type = %s and not r.deleted
order by r.rid desc
limit %s
