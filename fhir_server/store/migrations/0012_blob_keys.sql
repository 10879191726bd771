-- Blobs are encrypted at rest (docs/adr/0011): each has a key of its own, wrapped under a master key that is not in the
-- database, and lies in the blob store under the SHA-256 of its sealed form. A blob without a row here is in the clear.

create table master_key (
    tenant        smallint    not null default current_setting('dmst.tenant')::smallint,
    key_id        text        not null,
    check_value   bytea       not null, -- a known text wrapped under it: a wrong key of the right name is found out
    current_since timestamptz not null default clock_timestamp(), -- the youngest is the one that new keys are wrapped under
    primary key (tenant, key_id)
);

create table blob_key (
    tenant  smallint    not null default current_setting('dmst.tenant')::smallint,
    sha256  bytea       not null, -- of the content
    size    bigint      not null, -- of the content
    address bytea       not null, -- SHA-256 of the sealed form: its name in the blob store
    master  text        not null,
    wrapped bytea       not null,
    kept    timestamptz not null default now(), -- when somebody last handed this content in
    primary key (tenant, sha256),
    foreign key (tenant, master) references master_key (tenant, key_id) -- none is retired while something is wrapped under it
);
create unique index blob_key_address on blob_key (tenant, address);
create index blob_key_master on blob_key (tenant, master);

-- What was let go, by whom and why, and the proof that it is gone. These rows stay.
create table blob_release (
    tenant   smallint    not null default current_setting('dmst.tenant')::smallint,
    number   bigint      generated always as identity,
    sha256   bytea       not null,
    asked    timestamptz not null default now(),
    asked_by text        not null,
    reason   text        not null,
    outcome  text        check (outcome in ('shredded', 'removed', 'still-named', 'absent')), -- null while it waits
    settled  timestamptz,
    size     bigint,
    address  bytea,
    master   text,
    removed  timestamptz, -- when its bytes left the blob store, after its key
    primary key (tenant, number)
);
create index blob_release_waiting on blob_release (tenant, number) 
    where outcome is null or (outcome in ('shredded', 'removed') and removed is null);

do $$
declare
    name text;
begin
    foreach name in array array['master_key', 'blob_key', 'blob_release'] loop
        execute format('alter table %I enable row level security', name);
        execute format('alter table %I force row level security', name);
        execute format('create policy tenant on %I using (tenant = current_setting(''dmst.tenant'')::smallint)', name);
    end loop;
end $$;

-- Who still names a blob.
create index resource_blob on resource (tenant, blob_sha256) where blob_sha256 is not null;
create index resource_history_blob on resource_history (tenant, blob_sha256) where blob_sha256 is not null;
create index scan_lot_manifest on scan_lot (tenant, manifest_sha256);
