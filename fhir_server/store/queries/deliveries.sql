-- name: insert
-- New deliveries; one that exists already (the same document to the same recipient) is left as it is.
insert into delivery (delivery_id, recipient, document_reference_id, patient_id, state, created, updated)
select *, 'pending', %s, %s from unnest(%s::uuid[], %s::text[], %s::text[], %s::text[])
on conflict (tenant, recipient, document_reference_id) where withdrawn is null do nothing
returning delivery_id::text, recipient

-- name: ask_again
-- Deliveries to a recipient that were withheld, of these documents: they wait again.
update delivery set state = 'pending', attempts = 0, reason = null, detail = null, updated = %s
where recipient = %s and document_reference_id = any(%s::text[]) and state = 'withheld'
returning delivery_id::text, recipient

-- name: read
-- One delivery.
select delivery_id::text, recipient, document_reference_id, patient_id, state, attempts, reason, detail, remote_id,
       created, updated, withdrawn
from delivery where delivery_id = %s

-- name: lock
-- One delivery, held until the transaction ends.
select delivery_id::text, recipient, document_reference_id, patient_id, state, attempts, reason, detail, remote_id,
       created, updated, withdrawn
from delivery where delivery_id = %s for update

-- name: move
-- Where a delivery is now, and why.
update delivery
set state = %(state)s, attempts = %(attempts)s, reason = %(reason)s, detail = %(detail)s,
    remote_id = coalesce(%(remote_id)s, remote_id), updated = %(updated)s
where delivery_id = %(delivery_id)s

-- name: count
-- How many deliveries of each recipient are in each state.
select recipient, state, count(*) from delivery group by 1, 2 order by 1, 2

-- name: waiting
-- Deliveries that have not left, of these documents and of these workers.
select delivery_id::text, recipient from delivery
where state = 'pending' and withdrawn is null and (document_reference_id = any(%s::text[]) or patient_id = any(%s::text[]))

-- name: left
-- What has left, of a document or of a worker: to whom, when, and under which name there.
select delivery_id::text, recipient, document_reference_id, patient_id, state, updated, remote_id from delivery
where state in ('handed_over', 'received', 'read', 'integrated')
  and (document_reference_id = %(document)s or patient_id = %(patient)s)
order by updated
