-- name: hold_lot
-- One process at a time takes a lot in; the lock is that of the session.
select pg_try_advisory_lock(hashint8extended(%s, current_setting('dmst.tenant')::bigint))

-- name: let_go_of_lot
-- The lot is free for others at once.
select pg_advisory_unlock(hashint8extended(%s, current_setting('dmst.tenant')::bigint))

-- name: announce_lot
-- A lot that is being received; nothing happens when it is here already.
insert into scan_lot (lot, manifest_sha256, provider, centre, state, seal, list_id, received)
values (%s, %s, %s, %s, 'received', %s, %s, %s)
on conflict (tenant, lot) do nothing

-- name: read_lot
-- One lot.
select lot, manifest_sha256, provider, centre, state, seal, problems, list_id, received, finished
from scan_lot where lot = %s

-- name: list_lots
-- Every lot with the number of its folders in each state, newest first.
select l.lot, l.provider, l.centre, l.state, l.received,
       (select jsonb_object_agg(state, n) from (select f.state, count(*) n from scan_folder f where f.lot = l.lot group by 1) s)
from scan_lot l order by l.received desc limit %s

-- name: finish_lot
-- A lot of which every folder is settled.
update scan_lot set state = %s, problems = %s, finished = %s where lot = %s

-- name: folders_of
-- The folders of a lot that are settled.
select barcode, position, state, problems, patient_id, list_id, evidence
from scan_folder where lot = %s order by position

-- name: read_folder
-- One folder.
select barcode, position, state, problems, patient_id, list_id, evidence
from scan_folder where lot = %s and barcode = %s

-- name: settle_folder
-- What became of a folder.
insert into scan_folder (lot, barcode, position, state, problems, patient_id, list_id, evidence, updated)
values (%s, %s, %s, %s, %s, %s, %s, %s, %s)
on conflict (tenant, lot, barcode) do update
set state = excluded.state, problems = excluded.problems, patient_id = excluded.patient_id,
    evidence = excluded.evidence, updated = excluded.updated

-- name: settle_documents
-- What became of the documents of a folder.
insert into scan_document (lot, barcode, document_id, path, sha256, size, pages, media_type, state, document_reference_id)
select %s, %s, * from unnest(%s::text[], %s::text[], %b::bytea[], %s::bigint[], %s::integer[], %s::text[], %s::text[], %s::text[])
on conflict (tenant, lot, barcode, document_id) do update
set state = excluded.state, document_reference_id = excluded.document_reference_id

-- name: documents_of
-- The documents of a folder.
select document_id, path, sha256, size, pages, media_type, state, document_reference_id
from scan_document where lot = %s and barcode = %s order by document_id

-- name: hold_contents
-- Two lots that bring the same bytes at the same moment wait for each other here.
select pg_advisory_xact_lock(k)
from (select hashint8extended(k, current_setting('dmst.tenant')::bigint) as k from unnest(%s::bigint[]) k order by 1) sorted

-- name: same_content
-- Documents that are in already, with one of these contents.
select lot, barcode, document_id, sha256, state
from scan_document where sha256 = any(%s::bytea[]) and state in ('accepted', 'to-review')

-- name: same_identity
-- Earlier deliveries of the documents of a folder that are in, newest last.
select d.lot, d.document_id, d.sha256, d.document_reference_id
from scan_document d join scan_lot l using (lot)
where d.barcode = %s and d.document_id = any(%s::text[]) and d.lot <> %s and d.state in ('accepted', 'to-review')
order by l.received

-- name: list_review
-- Folders that wait for a person, oldest first.
select lot, barcode, problems, evidence, updated from scan_folder where state = 'to-review' order by updated limit %s

-- name: withdraw_folder
-- A folder that waited for a person and was delivered again: the later delivery takes its place.
update scan_folder set state = 'replaced', updated = %s where lot = %s and barcode = %s and state in ('to-review', 'second-opinion', 'aside')

-- name: withdraw_documents
-- Its documents.
update scan_document set state = 'replaced' where lot = %s and barcode = %s and state = 'to-review'

-- name: document_of_reference
-- Where a DocumentReference came from.
select d.lot, d.barcode, d.document_id, d.path, d.sha256, d.size, l.manifest_sha256, l.seal, l.received
from scan_document d join scan_lot l using (lot)
where d.document_reference_id = %s
