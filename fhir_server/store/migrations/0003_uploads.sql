-- Uploads that may be interrupted: what is to become a Binary, of whom, and how much of it is on disk for certain.

create table upload (
    upload_id text primary key,
    client_id text not null references client,
    length    bigint not null,
    received  bigint not null default 0,
    resource  bytea not null,
    binary_id text collate "C" not null,
    method    text not null,
    version   integer,
    expires   timestamptz not null
);
create index upload_of_client on upload (client_id) where version is null;
create index upload_expires on upload (expires);
