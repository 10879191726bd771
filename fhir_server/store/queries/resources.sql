-- name: read_many
-- The current version of each (type, id) asked for; unknown ones are simply absent.
select r.type, r.id, r.version, r.updated, r.deleted, r.blob_sha256, r.blob_size, r.doc, r.guard, r.worker,
       held_of(r)
from unnest(%s::smallint[], %s::text[]) as asked(type, id)
join resource r on r.type = asked.type and r.id = asked.id

-- name: read_version
-- One version of one resource, current or past; what decides who may see it is of now.
select r.type, r.id, r.version, r.updated, r.deleted, r.blob_sha256, r.blob_size, r.doc, r.guard, r.worker,
       held_of(r)
from resource r
where r.type = %(type)s and r.id = %(id)s and r.version = %(version)s
union all
select r.type, r.id, h.version, h.updated, h.deleted, h.blob_sha256, h.blob_size, h.doc, r.guard, r.worker,
       held_of(r)
from resource r join resource_history h using (rid)
where r.type = %(type)s and r.id = %(id)s and h.version = %(version)s and not h.withheld

-- name: lock_criteria
-- Hold the conditions of this group until its transaction ends, always in the same order.
select pg_advisory_xact_lock(k)
from (select hashint8extended(k, current_setting('dmst.tenant')::bigint) as k from unnest(%s::bigint[]) k order by 1) sorted

-- name: load_for_update
-- Lock and return what is there under each (type, id), in an order that cannot deadlock.
select r.type, r.id, r.rid, r.version, r.updated, r.deleted, r.blob_sha256, r.doc, r.guard, r.worker,
       held_of(r)
from resource r
where (r.type, r.id) in (select * from unnest(%s::smallint[], %s::text[]))
order by r.rid
for no key update

-- name: lock_for_deletion
-- Hold what will be deleted against everybody who is about to refer to it.
select r.rid from resource r
where (r.type, r.id) in (select * from unnest(%s::smallint[], %s::text[]))
order by r.rid
for update

-- name: existing
-- Which of these (type, id) exist and are not deleted; they cannot be deleted before this transaction ends.
select r.type, r.id, r.guard, r.worker,
       array(select o.exercised from opposition o where o.worker = r.worker and o.low <= now() and now() < o.high)
from unnest(%s::smallint[], %s::text[]) as asked(type, id)
join resource r on r.type = asked.type and r.id = asked.id
where not r.deleted
for key share of r

-- name: referrer
-- One resource that refers to another by any of these hashes, other than those that go in the same unit.
select r.type, r.id, r.guard, r.worker,
       held_of(r)
from token t join resource r using (rid)
where t.h = any(%s::bigint[]) and not r.deleted and not (r.type, r.id) in (select * from unnest(%s::smallint[], %s::text[]))
limit 1

-- name: referring
-- The resources of one type that are found under any of these reference hashes.
select r.id, r.doc from resource r
where r.rid in (select t.rid from token t where t.h = any(%(hashes)s::bigint[])) and r.type = %(type)s and not r.deleted
  and in_sight(r)
order by r.rid limit %(limit)s

-- name: new_rids
-- Internal keys for new resources.
select nextval('rid_seq') from generate_series(1, %s)

-- name: insert_resources
-- First versions.
insert into resource (rid, type, id, version, updated, deleted, blob_sha256, blob_size, doc, own_hash, refs, present, guard, worker)
select n.rid, n.type, n.id, 1, %s, false, n.blob_sha256, n.blob_size, n.doc, n.own_hash, n.refs::bigint[], n.present::smallint[], n.guard, n.worker
from unnest(%s::bigint[], %s::smallint[], %s::text[], %b::bytea[], %s::bigint[], %b::bytea[], %s::bigint[], %s::text[], %s::text[],
            %s::integer[], %s::bigint[])
  as n(rid, type, id, blob_sha256, blob_size, doc, own_hash, refs, present, guard, worker)

-- name: keep_history
-- The versions that are about to be replaced.
insert into resource_history (rid, type, version, updated, deleted, blob_sha256, blob_size, doc)
select rid, type, version, updated, deleted, blob_sha256, blob_size, doc from resource where rid = any(%s::bigint[])

-- name: update_resources
-- Next versions; a null document is a deletion, which is in whose record the resource was.
update resource r
set version = n.version, updated = %s, deleted = n.doc is null,
    blob_sha256 = n.blob_sha256, blob_size = n.blob_size, doc = n.doc,
    refs = n.refs::bigint[], present = n.present::smallint[],
    guard = case when n.doc is null then r.guard else n.guard end, worker = case when n.doc is null then r.worker else n.worker end
from unnest(%s::bigint[], %s::integer[], %b::bytea[], %s::bigint[], %b::bytea[], %s::text[], %s::text[], %s::integer[], %s::bigint[])
  as n(rid, version, blob_sha256, blob_size, doc, refs, present, guard, worker)
where r.rid = n.rid
