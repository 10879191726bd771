-- name: begin_index
-- A new tenant has no rows yet.
insert into index_state (version) values (0) on conflict do nothing

-- name: hold_index
-- The version of the index rows, and whether words of whole resources are there; one process at a time makes them again.
select version, content from index_state for update

-- name: forget_rows
-- Every index row.
with t as (delete from token), p as (delete from period), w as (delete from word), m as (delete from measure),
     l as (delete from place), n as (delete from narrative), o as (delete from opposition),
     c as (delete from worker_centre), i as (delete from identity_key)
delete from content

-- name: forget_contents
-- The words of whole resources.
delete from content

-- name: resources_after
-- The next resources in the order of their internal keys; of a deleted one what it was.
select r.rid, r.type, r.id, r.doc, case when r.deleted then (
    select h.doc from resource_history h where h.rid = r.rid and h.doc is not null order by h.version desc limit 1
) end
from resource r where r.rid > %s order by r.rid limit %s

-- name: state_columns
-- The columns of a resource that searches use.
update resource r
set own_hash = n.own_hash, refs = n.refs::bigint[], present = n.present::smallint[],
    guard = n.guard, worker = n.worker
from unnest(%s::bigint[], %s::bigint[], %s::text[], %s::text[], %s::integer[], %s::bigint[])
  as n(rid, own_hash, refs, present, guard, worker)
where r.rid = n.rid

-- name: state_version
-- The rows are of this version now.
update index_state set version = %s, content = %s
