-- name: page
-- The members of a compartment after one of them, with the room that each takes; null bounds of care dates mean any.
-- What has no care date is in every range of them.
select r.rid, pg_column_size(r.doc)
from resource r
where r.rid in (select t.rid from token t where t.h = any(%(hashes)s::bigint[]) and t.rid > %(after)s)
  and not r.deleted and r.updated >= %(since)s and in_sight(r)
  and ((%(low)s::bigint is null and %(high)s::bigint is null)
       or not exists (select from period p where p.rid = r.rid and p.param = any(%(dates)s::integer[]))
       or exists (select from period p where p.rid = r.rid and p.param = any(%(dates)s::integer[])
                  and (%(low)s::bigint is null or p.high > %(low)s) and (%(high)s::bigint is null or p.low < %(high)s)))
order by r.rid
limit %(limit)s

-- name: members
-- The documents of these members, in their order.
select r.rid, r.type, r.id, r.doc from resource r
where r.rid = any(%s::bigint[]) and not r.deleted
order by r.rid
