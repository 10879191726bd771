-- name: deleted
-- Deleted resources of a type, or the one with this id; what somebody is writing at this moment is left for later.
select r.rid, r.id from resource r
where r.type = %(type)s and r.deleted and (%(id)s::text is null or r.id = %(id)s)
order by r.rid limit %(limit)s
for update skip locked

-- name: earlier_versions
-- Versions before the current one, of a type or of the one with this id.
select h.rid, r.id, h.version from resource_history h join resource r using (rid)
where r.type = %(type)s and (%(id)s::text is null or r.id = %(id)s)
order by h.rid, h.version limit %(limit)s

-- name: last_documents
-- The newest document that is left of each of these, to know whose they are.
select distinct on (v.rid) v.rid, v.doc
from (select rid, version, doc from resource union all select rid, version, doc from resource_history) v
where v.rid = any(%s::bigint[]) and v.doc is not null
order by v.rid, v.version desc

-- name: drop_history
-- Every earlier version of these.
delete from resource_history where rid = any(%s::bigint[])

-- name: drop_versions
-- These earlier versions.
delete from resource_history h using unnest(%s::bigint[], %s::integer[]) as n(rid, version)
where h.rid = n.rid and h.version = n.version

-- name: drop_resources
-- These, of which nothing is in the search index: they were deleted.
delete from resource where rid = any(%s::bigint[]) and deleted

-- name: contents
-- The bytes that any version of these names.
select v.blob_sha256 from (select rid, blob_sha256 from resource union all select rid, blob_sha256 from resource_history) v
where v.rid = any(%s::bigint[]) and v.blob_sha256 is not null

-- name: contents_of_versions
-- The bytes that these earlier versions name.
select h.blob_sha256 from resource_history h join unnest(%s::bigint[], %s::integer[]) as n(rid, version)
  on h.rid = n.rid and h.version = n.version
where h.blob_sha256 is not null
