-- The trail is sealed in groups, the newest seal is time-stamped, and the trail is searched by professional (docs/adr/0006).

alter table access add column professional text collate "C";

-- Each seal closes the rows whose ids follow those of the seal before it, up to last_id.
create table access_seal (
    tenant   smallint not null default current_setting('dmst.tenant')::smallint,
    number   bigint not null,
    first_id bigint not null,
    last_id  bigint not null,
    rows     integer not null,
    sealed   timestamptz not null,
    previous bytea not null,
    digest   bytea not null,
    primary key (tenant, number),
    unique (tenant, last_id)
);

-- RFC 3161 tokens on the digests of seals. No foreign key: what is not there any more must be seen, not prevented.
create table access_anchor (
    tenant    smallint not null default current_setting('dmst.tenant')::smallint,
    seal      bigint not null,
    digest    bytea not null,
    stamped   timestamptz not null,
    authority text not null,
    token     bytea not null,
    primary key (tenant, seal)
);

do $$
declare
    name text;
begin
    foreach name in array array['access_seal', 'access_anchor'] loop
        execute format('alter table %I enable row level security', name);
        execute format('alter table %I force row level security', name);
        execute format('create policy tenant on %I using (tenant = current_setting(''dmst.tenant'')::smallint)', name);
    end loop;
end $$;

-- Newest first, and pages that follow each other: by the moment, then by the id.
drop index access_patient, access_entity, access_at;
create index access_patient on access (tenant, patient_id, at desc, id desc) where patient_id is not null;
create index access_entity on access (tenant, type, resource_id, at desc, id desc) where resource_id is not null;
create index access_professional on access (tenant, professional, at desc, id desc) where professional is not null;
create index access_client on access (tenant, client_id, at desc, id desc) where client_id is not null;
create index access_at on access (tenant, at desc, id desc);
