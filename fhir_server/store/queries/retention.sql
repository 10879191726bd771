-- name: patients_after
-- The next workers in the order of their ids.
select id, doc from resource where type = %(type)s and not deleted and id > %(after)s order by id limit %(limit)s

-- name: patients
-- These workers.
select id, doc from resource where type = %s and id = any(%s::text[]) and not deleted

-- name: found_under
-- What is found under any of these hashes.
select r.type, r.id, r.version, r.doc from resource r
where r.rid in (select t.rid from token t where t.h = any(%s::bigint[])) and not r.deleted

-- name: hold_workers
-- Nobody changes these workers, or writes what refers to them, before this transaction ends.
select id from resource where type = %s and id = any(%s::text[]) order by rid for update

-- name: being_delivered
-- Which of these documents are on their way to somebody.
select document_reference_id from delivery
where document_reference_id = any(%s::text[]) and state in ('pending', 'sending')

-- name: add_list
-- A list that somebody approves.
insert into retention_list (list_id, items, received) values (%s, %s, %s) on conflict (tenant, list_id) do nothing

-- name: add_items
-- Its documents.
insert into retention_item (list_id, document_reference_id, version, patient_id, kept_until, state, updated)
select %s, d.document, d.version, d.patient, d.until, 'approved', %s
from unnest(%s::text[], %s::integer[], %s::text[], %s::date[]) as d(document, version, patient, until)
on conflict (tenant, list_id, document_reference_id) do nothing

-- name: add_approval
-- Who approves it; once for each person.
insert into retention_approval (list_id, approver, at) values (%s, %s, %s)
on conflict (tenant, list_id, approver) do nothing

-- name: approvers
-- Who approved a list, in the order in which they did.
select approver from retention_approval where list_id = %s order by at, approver

-- name: next_worker
-- A worker of whom documents may go: the list has enough approvals. Those after the one that was last looked at.
select i.list_id, i.patient_id from retention_item i
where i.state = 'approved' and (i.list_id, i.patient_id) > (%(list)s, %(patient)s)
  and (select count(*) from retention_approval a where a.list_id = i.list_id) >= %(approvers)s
order by i.list_id, i.patient_id limit 1

-- name: items_of_worker
-- Documents of a worker that a list approves.
select document_reference_id, version, kept_until from retention_item
where list_id = %s and patient_id = %s and state = 'approved' order by document_reference_id limit %s

-- name: settle_item
-- What became of a document, unless another process was quicker.
update retention_item
set state = %(state)s, reasons = %(reasons)s, binaries = %(binaries)s, contents = %(contents)s,
    provenance_id = %(provenance)s, updated = %(updated)s
where list_id = %(list)s and document_reference_id = %(document)s and state = 'approved'

-- name: forget_origin
-- A later delivery of the lot does not replace what was destroyed; its fingerprint stays, so it does not come back.
update scan_document set document_reference_id = null where document_reference_id = any(%s::text[])

-- name: half_done
-- Documents that are deleted, and of which bytes or earlier versions may be left.
select list_id, document_reference_id, binaries, contents from retention_item
where state = 'deleted' order by list_id, document_reference_id limit %s

-- name: finish_item
-- Nothing of it is left.
update retention_item set state = 'destroyed', updated = %s
where list_id = %s and document_reference_id = %s and state = 'deleted'

-- name: count_items
-- How many documents of each list are in each state, and how many persons approved it.
select l.list_id, l.received, (select count(*) from retention_approval a where a.list_id = l.list_id),
       i.state, count(*)
from retention_list l join retention_item i using (list_id)
group by l.list_id, l.received, i.state order by l.received, l.list_id, i.state

-- name: contents_of
-- The bytes of these Binaries, of all their versions.
select distinct blob_sha256 from (
    select r.blob_sha256 from resource r where r.type = %(type)s and r.id = any(%(ids)s::text[])
    union all
    select h.blob_sha256 from resource r join resource_history h using (rid)
    where r.type = %(type)s and r.id = any(%(ids)s::text[])
) versions where blob_sha256 is not null order by 1
