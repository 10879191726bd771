-- name: lock
-- One process at a time decides about the master keys of this tenant.
select pg_advisory_xact_lock(hashtext('dmst-fhir master keys ' || current_setting('dmst.tenant')))

-- name: masters
-- The master keys in use, the current one last.
select key_id, check_value, current_since from master_key order by current_since, key_id

-- name: current
-- The master key that new keys are wrapped under.
select key_id from master_key order by current_since desc, key_id desc limit 1

-- name: make_current
-- From now on new keys are wrapped under this one.
insert into master_key (key_id, check_value) values (%s, %s)
on conflict (tenant, key_id) do update set current_since = clock_timestamp()

-- name: retire
-- A master key goes; the foreign key refuses it while something is wrapped under it.
delete from master_key where key_id = %s

-- name: uses
-- How many keys of documents are wrapped under each master key.
select master, count(*) from blob_key group by master

-- name: find
-- The key of a blob and where it lies.
select sha256, size, address, master, wrapped from blob_key where sha256 = %s

-- name: hand_in_again
-- The same, for who was handed this content once more: nobody shreds it in the next hour.
update blob_key set kept = now() where sha256 = %s returning sha256, size, address, master, wrapped

-- name: keep
-- The key of a new blob. It need not be on disk before the row that names the blob is: the log of PostgreSQL is written
-- in order, and whoever waits for that row waits for this one.
with quickly as (select set_config('synchronous_commit', 'off', true))
insert into blob_key (sha256, size, address, master, wrapped) select %s, %s, %s, %s, %s from quickly
on conflict (tenant, sha256) do nothing

-- name: replace
-- The key of a blob whose bytes were lost and came again.
update blob_key set address = %s, master = %s, wrapped = %s, kept = now() where sha256 = %s and address = %s

-- name: under_others
-- Keys that are not wrapped under this master key; those that somebody is changing are left for later.
select sha256, size, address, master, wrapped from blob_key where master <> %s limit %s for update skip locked

-- name: count_under_others
-- How many there are.
select count(*) from blob_key where master <> %s

-- name: rewrap
-- The same secrets, wrapped anew.
update blob_key k set master = %s, wrapped = n.wrapped
from unnest(%s::bytea[], %s::bytea[]) as n(sha256, wrapped) where k.sha256 = n.sha256

-- name: known
-- Which of these names in the blob store are sealed blobs, and which are contents that are sealed under another name.
select n.name, exists (select from blob_key where address = n.name), exists (select from blob_key where sha256 = n.name)
from unnest(%s::bytea[]) as n(name)

-- name: count_plain
-- Blobs in the clear that something names.
select count(*) from (
    select blob_sha256 as sha256 from resource where blob_sha256 is not null
    union select blob_sha256 from resource_history where blob_sha256 is not null
    union select manifest_sha256 from scan_lot
    union select decode(s.hex, 'hex') from scan_lot l cross join lateral (values (l.seal->>'signature'), (l.seal->>'token')) s (hex)
        where s.hex is not null
    union select sha256 from scan_document where state = 'to-review'
) named where not exists (select from blob_key k where k.sha256 = named.sha256)

-- name: is_named
-- Does anything name this blob? A folder that waits for a person has no other record; of the others rows tell the hash only.
select exists (select from resource where blob_sha256 = %(sha256)s)
    or exists (select from resource_history where blob_sha256 = %(sha256)s)
    or exists (select from scan_lot where manifest_sha256 = %(sha256)s)
    or exists (select from scan_lot where encode(%(sha256)s, 'hex') in (seal->>'signature', seal->>'token'))
    or exists (select from scan_document where sha256 = %(sha256)s and state = 'to-review')

-- name: release
-- These are let go, by whom and why.
insert into blob_release (sha256, asked_by, reason) select n.sha256, %s, %s from unnest(%s::bytea[]) as n(sha256)

-- name: waiting
-- What was let go and is not gone yet; what another process is at is left to it.
select number, sha256, outcome, address from blob_release
where (outcome is null or (outcome in ('shredded', 'removed') and removed is null)) and number > %s order by number limit 1 for update skip locked

-- name: shred
-- The key goes, unless somebody handed the content in so lately that he may be about to name it.
delete from blob_key where sha256 = %s and kept < now() - make_interval(secs => %s) returning size, address, master

-- name: settle
-- What became of one that was let go.
update blob_release set outcome = %s, settled = now(), size = %s, address = %s, master = %s where number = %s

-- name: removed
-- Its bytes are gone from the blob store too.
update blob_release set removed = now() where number = %s

-- name: releases
-- Everything that was let go, newest first.
select sha256, size, asked, asked_by, reason, outcome, settled, master, removed from blob_release
order by number desc limit %s

-- name: count_releases
-- How many wait, and how many were shredded.
select count(*) filter (where outcome is null), count(*) filter (where outcome = 'shredded') from blob_release
