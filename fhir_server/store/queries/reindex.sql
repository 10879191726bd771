-- name: hold_index
-- The version of the index rows; one process at a time makes them again.
select version from index_state for update

-- name: forget_rows
-- Every index row.
truncate token, period, word, measure, place, narrative

-- name: resources_after
-- The next resources in the order of their internal keys.
select rid, type, id, doc from resource where rid > %s order by rid limit %s

-- name: state_columns
-- The columns of a resource that searches use.
update resource r set own_hash = n.own_hash, refs = n.refs::bigint[], present = n.present::smallint[]
from unnest(%s::bigint[], %s::bigint[], %s::text[], %s::text[]) as n(rid, own_hash, refs, present)
where r.rid = n.rid

-- name: state_version
-- The rows are of this version now.
update index_state set version = %s
