-- name: hold_folder
-- One folder, for this transaction alone: its state, whose it is, and its newest event.
select f.state, f.patient_id, f.position, f.problems, f.list_id, f.evidence,
       coalesce((select max(e.event_id) from identity_event e where e.lot = f.lot and e.barcode = f.barcode), 0)
from scan_folder f where f.lot = %s and f.barcode = %s for update

-- name: add
-- An event; rows are never changed.
insert into identity_event (at, kind, lot, barcode, resource, patient_id, other_patient_id, decided_by, role, grade, score, model,
                            explanation, reason, note, undoes, provenance_id)
values (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)
returning event_id

-- name: read
-- One event, and which one undid it.
select e.event_id, e.at, e.kind, e.lot, e.barcode, e.resource, e.patient_id, e.other_patient_id, e.decided_by, e.role, e.grade, e.score,
       e.model, e.explanation, e.reason, e.note, e.undoes, e.provenance_id,
       (select u.event_id from identity_event u where u.undoes = e.event_id)
from identity_event e where e.event_id = %s

-- name: of_folder
-- What was decided of a folder, in order.
select e.event_id, e.at, e.kind, e.lot, e.barcode, e.resource, e.patient_id, e.other_patient_id, e.decided_by, e.role, e.grade, e.score,
       e.model, e.explanation, e.reason, e.note, e.undoes, e.provenance_id,
       (select u.event_id from identity_event u where u.undoes = e.event_id)
from identity_event e where e.lot = %s and e.barcode = %s order by e.event_id

-- name: of_patient
-- What was decided about a worker, newest first.
select e.event_id, e.at, e.kind, e.lot, e.barcode, e.resource, e.patient_id, e.other_patient_id, e.decided_by, e.role, e.grade, e.score,
       e.model, e.explanation, e.reason, e.note, e.undoes, e.provenance_id,
       (select u.event_id from identity_event u where u.undoes = e.event_id)
from identity_event e where e.patient_id = %(patient)s or e.other_patient_id = %(patient)s order by e.event_id desc limit %(limit)s

-- name: of_person
-- What somebody decided about folders of late, newest first: of the newest events, so that no more is read however long the story is.
select e.event_id, e.at, e.kind, e.lot, e.barcode, e.resource, e.patient_id, e.other_patient_id, e.decided_by, e.role, e.grade, e.score,
       e.model, e.explanation, e.reason, e.note, e.undoes, e.provenance_id,
       (select u.event_id from identity_event u where u.undoes = e.event_id)
from identity_event e
where e.event_id > (select coalesce(max(event_id), 0) from identity_event) - 20000 and e.decided_by = %(person)s and e.barcode is not null
order by e.event_id desc limit %(limit)s

-- name: open_cases
-- Cases that nobody has closed, oldest first.
select e.event_id, e.at, e.kind, e.lot, e.barcode, e.resource, e.patient_id, e.other_patient_id, e.decided_by, e.role, e.grade, e.score,
       e.model, e.explanation, e.reason, e.note, e.undoes, e.provenance_id,
       (select u.event_id from identity_event u where u.undoes = e.event_id)
from identity_event e
where e.kind in ('collision-case-opened', 'duplicate-case-opened')
  and not exists (select from identity_event c where c.undoes = e.event_id)
order by e.event_id

-- name: walk
-- Events of some kinds after one of them, in order.
select e.event_id, e.at, e.kind, e.lot, e.barcode, e.resource, e.patient_id, e.other_patient_id, e.decided_by, e.role, e.grade, e.score,
       e.model, e.explanation, e.reason, e.note, e.undoes, e.provenance_id,
       (select u.event_id from identity_event u where u.undoes = e.event_id)
from identity_event e where e.kind = any(%s::text[]) and e.event_id > %s order by e.event_id limit %s

-- name: hold_pair
-- Two workers are linked, and their links taken back, by one person at a time.
select pg_advisory_xact_lock(hashint8extended(%s, current_setting('dmst.tenant')::bigint))

-- name: waiting
-- A page of the folders that wait, oldest first.
select f.lot, f.barcode, f.state, f.problems, f.evidence, f.updated, l.centre, l.received,
       case when f.state = 'second-opinion' then
         (select e.decided_by from identity_event e where e.lot = f.lot and e.barcode = f.barcode and e.kind = 'second-opinion-asked'
          order by e.event_id desc limit 1) end
from scan_folder f join scan_lot l using (lot)
where f.state = any(%(states)s::text[]) and f.state in ('to-review', 'second-opinion', 'aside')
  and (%(lot)s::text is null or f.lot = %(lot)s::text) and (%(centre)s::text is null or l.centre = %(centre)s::text)
  and (%(code)s::text is null or f.problems @> jsonb_build_array(jsonb_build_object('code', %(code)s::text)))
  and (f.updated, f.lot, f.barcode) > (%(updated)s, %(after_lot)s, %(after_barcode)s)
order by f.updated, f.lot, f.barcode limit %(limit)s

-- name: waiting_counts
-- How many folders wait, by state, centre and codes of their problems.
select w.state, w.centre, w.codes, count(*), min(w.received)
from (select f.state, l.centre, l.received,
             array(select distinct p ->> 'code' from jsonb_array_elements(f.problems) p order by 1) as codes
      from scan_folder f join scan_lot l using (lot) where f.state in ('to-review', 'second-opinion', 'aside')) w
group by w.state, w.centre, w.codes

-- name: set_folder
-- Where a folder waits now.
update scan_folder set state = %s, problems = %s, evidence = %s, patient_id = null, updated = %s where lot = %s and barcode = %s

-- name: set_documents
-- Its documents; those that were destroyed (records without a name) stay what they were.
update scan_document set state = %s, document_reference_id = null
where lot = %s and barcode = %s and state = %s and (state <> 'accepted' or document_reference_id is not null)

-- name: withhold_versions
-- The earlier versions of these resources are read by nobody.
update resource_history h set withheld = true
from resource r
where (r.type, r.id) in (select * from unnest(%s::smallint[], %s::text[])) and h.rid = r.rid and not h.withheld

-- name: withdraw_deliveries
-- Deliveries of documents that are taken out of a record: those that wait are withheld.
update delivery
set withdrawn = %(at)s, state = case when state = 'pending' then 'withheld' else state end,
    reason = case when state = 'pending' then %(reason)s else reason end,
    updated = case when state = 'pending' then %(at)s else updated end
where document_reference_id = any(%(documents)s::text[]) and withdrawn is null
returning delivery_id::text, recipient, document_reference_id, patient_id, state, attempts, reason, detail, remote_id, created, updated

-- name: deliveries_of
-- Deliveries of documents that were not taken out of a record.
select delivery_id::text, recipient, document_reference_id, patient_id, state, attempts, reason, detail, remote_id, created, updated
from delivery where document_reference_id = any(%s::text[]) and withdrawn is null

-- name: referring
-- Resources that refer to others by any of these hashes.
select distinct r.type, r.id from token t join resource r using (rid) where t.h = any(%s::bigint[]) and not r.deleted order by 1, 2 limit %s
