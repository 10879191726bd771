-- Resources with their history, the search index, callers, accesses, deliveries and scan lots.
-- Forward only. docs/adr/0002 (documents as bytes), 0003 (index shape), 0006 (accesses), 0004 (deliveries).

create sequence rid_seq as bigint cache 1;

-- The current version of every resource. `doc` is what a read returns, byte for byte; null once deleted.
-- A Binary keeps its bytes in the blob store and only their name, size and type here.
create table resource (
    rid         bigint primary key,
    type        smallint not null,
    id          text collate "C" not null,
    version     integer not null,
    updated     timestamptz not null,
    deleted     boolean not null default false,
    blob_sha256 bytea,
    blob_size   bigint,
    doc         bytea
) with (fillfactor = 90);
create unique index resource_identity on resource (type, id);
create index resource_updated on resource (type, updated desc, rid desc);

-- Every earlier version: append only.
create table resource_history (
    rid         bigint not null,
    version     integer not null,
    updated     timestamptz not null,
    deleted     boolean not null,
    blob_sha256 bytea,
    blob_size   bigint,
    doc         bytea,
    primary key (rid, version)
);

-- lz4 where this PostgreSQL has it; otherwise uncompressed and, up to a page, in the row itself: pglz and a visit to
-- the TOAST table cost more time than the room is worth.
do $$
begin
    alter table resource alter column doc set compression lz4;
    alter table resource_history alter column doc set compression lz4;
exception when feature_not_supported then
    alter table resource alter column doc set storage external;
    alter table resource_history alter column doc set storage external;
    alter table resource set (toast_tuple_target = 8160);
    alter table resource_history set (toast_tuple_target = 8160);
end $$;

-- Equality-like search: one row per hash of type|parameter|value (token, reference, uri, exact string).
create table token (
    h   bigint not null,
    rid bigint not null,
    primary key (h, rid)
);

-- Dates as half-open periods of microseconds; `param` is the number of the search parameter.
create table period (
    param integer not null,
    low   bigint not null,
    high  bigint not null,
    rid   bigint not null,
    primary key (param, low, high, rid)
);
create index period_high on period (param, high, rid);
create index period_of_resource on period (rid, param) include (low, high);

-- Strings folded (accents, case) for starts-with and contains.
create table word (
    param integer not null,
    folded text collate "C" not null,
    rid   bigint not null,
    primary key (param, folded, rid)
);

-- A lot of one date changes what the planner must know at once: look again after 2 %, not after 20 %.
alter table resource set (autovacuum_analyze_scale_factor = 0.02, autovacuum_vacuum_insert_scale_factor = 0.02);
alter table token set (autovacuum_analyze_scale_factor = 0.02, autovacuum_vacuum_insert_scale_factor = 0.02);
alter table period set (autovacuum_analyze_scale_factor = 0.02, autovacuum_vacuum_insert_scale_factor = 0.02);
alter table word set (autovacuum_analyze_scale_factor = 0.02, autovacuum_vacuum_insert_scale_factor = 0.02);

-- Machines that may ask, and the tokens that they hold. Secrets and tokens are kept as hashes.
create table client (
    client_id   text primary key,
    name        text not null,
    secret_hash text not null,
    scopes      text[] not null,
    role        text not null,
    created     timestamptz not null default now(),
    disabled    timestamptz
);
create table access_token (
    token_hash bytea primary key,
    client_id  text not null references client,
    scopes     text[] not null,
    expires    timestamptz not null
);
create index access_token_expires on access_token (expires);

-- Keys that this service made for itself (sealing of page links).
create table server_key (
    purpose text primary key,
    key     bytea not null
);

-- One row per access or refusal, shown as AuditEvent. Append only.
create table access (
    id          bigint primary key generated always as identity,
    at          timestamptz not null,
    interaction text not null,
    outcome     smallint not null,
    client_id   text,
    role        text,
    purpose     text,
    type        smallint,
    resource_id text collate "C",
    version     integer,
    patient_id  text collate "C",
    query       text,
    recipient   text,
    request_id  text not null
);
create index access_patient on access (patient_id, at desc) where patient_id is not null;
create index access_entity on access (type, resource_id, at desc) where resource_id is not null;
create index access_at on access using brin (at);

-- One row per document and recipient; its states and moves are the table in outbox/deliveries.py.
create table delivery (
    delivery_id           uuid primary key,
    recipient             text not null,
    document_reference_id text collate "C" not null,
    patient_id            text collate "C" not null,
    state                 text not null,
    attempts              integer not null default 0,
    reason                text,
    detail                text,
    remote_id             text,
    created               timestamptz not null,
    updated               timestamptz not null,
    unique (recipient, document_reference_id)
);
create index delivery_state on delivery (recipient, state);
create index delivery_document on delivery (document_reference_id);

-- What arrived: a lot, its folders, their documents. A folder becomes records in one transaction or not at all.
create table scan_lot (
    lot             text primary key,
    manifest_sha256 bytea not null,
    provider        text not null,
    centre          text not null,
    state           text not null,
    seal            jsonb not null,
    problems        jsonb not null default '[]',
    list_id         text not null,
    received        timestamptz not null,
    finished        timestamptz
);
create table scan_folder (
    lot       text not null references scan_lot,
    barcode   text not null,
    position  integer not null,
    state     text not null,
    problems  jsonb not null default '[]',
    patient_id text,
    list_id   text not null,
    evidence  jsonb,
    updated   timestamptz not null,
    primary key (lot, barcode)
);
create index scan_folder_review on scan_folder (updated) where state = 'to-review';
create table scan_document (
    lot                   text not null,
    barcode               text not null,
    document_id           text not null,
    path                  text not null,
    sha256                bytea not null,
    size                  bigint not null,
    pages                 integer not null,
    media_type            text not null,
    state                 text not null,
    document_reference_id text,
    primary key (lot, barcode, document_id),
    foreign key (lot, barcode) references scan_folder
);
create index scan_document_sha256 on scan_document (sha256);
create index scan_document_identity on scan_document (barcode, document_id);
create index scan_document_reference on scan_document (document_reference_id) where document_reference_id is not null;
