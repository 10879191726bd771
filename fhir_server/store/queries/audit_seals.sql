-- name: newest_row
-- The newest row of the trail that is visible, and the newest that is sealed.
select (select max(id) from access), (select max(last_id) from access_seal)

-- name: writers
-- Who may have taken an id and not have ended: transactions that hold the lock which each insert takes before its id.
select virtualtransaction from pg_locks
where locktype = 'relation' and relation = 'access'::regclass and mode = 'RowExclusiveLock' and granted
  and database = (select oid from pg_database where datname = current_database()) and pid <> pg_backend_pid()

-- name: hold
-- One sealer for each tenant; the lock goes with the transaction.
select pg_try_advisory_xact_lock(hashtext('dmst-fhir audit ' || %s), current_setting('dmst.tenant')::integer)

-- name: newest
-- The newest seal.
select number, first_id, last_id, rows, sealed, previous, digest from access_seal order by number desc limit 1

-- name: rows
-- What is sealed of each row, in order: docs/adr/0006 says in which form.
select tenant, id, (extract(epoch from at) * 1000000)::bigint, interaction, outcome, client_id, role, purpose, type,
       resource_id, version, patient_id, query, recipient, request_id, professional, circumstance
from access where id > %s and id <= %s order by id limit %s

-- name: keep
insert into access_seal (number, first_id, last_id, rows, sealed, previous, digest) values (%s, %s, %s, %s, %s, %s, %s)

-- name: seals
-- Seals by number, after one and up to another.
select number, first_id, last_id, rows, sealed, previous, digest from access_seal
where number > %s and number <= %s order by number limit %s

-- name: seals_of
-- The first and the last seal that were made, or whose rows were written, between two moments.
with written as materialized (
    select min(id) as first, max(id) as last from access where at >= %(low)s and at < %(high)s
)
select min(number), max(number) from access_seal
where (sealed >= %(low)s and sealed < %(high)s)
   or (last_id >= (select first from written) and first_id <= (select last from written))

-- name: unsealed
-- What no seal closes yet: how many rows, and since when.
select count(*), min(at) from access where id > %s

-- name: keep_anchor
insert into access_anchor (seal, digest, stamped, authority, token) values (%s, %s, %s, %s, %s)
on conflict do nothing

-- name: newest_anchor
select seal, digest, stamped, authority, token from access_anchor order by seal desc limit 1

-- name: anchors
-- Time stamps by the number of their seal, after one.
select seal, digest, stamped, authority, token from access_anchor
where seal > %s and seal <= %s order by seal limit %s
