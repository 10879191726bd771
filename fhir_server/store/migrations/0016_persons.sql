-- Persons: whose record a worker sees by his login, of which centres a professional is, and for what he declared that he looks further
-- (docs/access.md). Rows end and stay: they say why somebody saw something.

create table person_link (
    tenant     smallint not null default current_setting('dmst.tenant')::smallint,
    person     text not null,
    patient_id text collate "C" not null,
    by_whom    text not null,
    low        timestamptz not null,
    high       timestamptz,
    primary key (tenant, person, patient_id, low)
);

create table person_centre (
    tenant  smallint not null default current_setting('dmst.tenant')::smallint,
    person  text not null,
    centre  text not null,
    by_whom text not null,
    low     timestamptz not null,
    high    timestamptz,
    primary key (tenant, person, centre, low)
);

create table declared_access (
    tenant     smallint not null default current_setting('dmst.tenant')::smallint,
    person     text not null,
    patient_id text collate "C" not null,
    kind       text not null check (kind in ('break-glass', 'reason-given')),
    low        timestamptz not null,
    high       timestamptz not null,
    primary key (tenant, person, patient_id, kind, low)
);

-- In whose charge a worker is (Patient.managingOrganization): made where index rows are made. `worker` is the own hash of his Patient.
create table worker_centre (
    tenant smallint not null default current_setting('dmst.tenant')::smallint,
    worker bigint not null,
    centre text collate "C" not null,
    rid    bigint not null,
    primary key (tenant, worker, centre, rid)
);

do $$
declare
    name text;
begin
    foreach name in array array['person_link', 'person_centre', 'declared_access', 'worker_centre'] loop
        execute format('alter table %I enable row level security', name);
        execute format('alter table %I force row level security', name);
        execute format('create policy tenant on %I using (tenant = current_setting(''dmst.tenant'')::smallint)', name);
    end loop;
end $$;

-- What is remarkable about an access (out-of-team, break-glass, reason-given), codes with a blank between: found by it, and sealed with the
-- row where it is there. Logins are found by their interaction.
alter table access add column circumstance text collate "C";
create index access_circumstance on access (tenant, circumstance, at desc, id desc) where circumstance is not null;
create index access_login on access (tenant, interaction, at desc, id desc) where interaction in ('login', 'logout');

create or replace function dmst_analyze() returns void language plpgsql security definer set search_path from current as $$
begin
    analyze resource, resource_history, token, period, word, measure, place, narrative, opposition, worker_centre;
end $$;
