-- Retention (docs/retention.md): which documents a person has approved for destruction, and what became of each. The rows
-- stay after the documents: they are the proof, and hold ids, dates, codes and fingerprints only.

create table retention_list (
    tenant   smallint not null default current_setting('dmst.tenant')::smallint,
    list_id  text collate "C" not null,
    items    integer not null,
    received timestamptz not null,
    primary key (tenant, list_id)
);

create table retention_approval (
    tenant   smallint not null default current_setting('dmst.tenant')::smallint,
    list_id  text collate "C" not null,
    approver text not null,
    at       timestamptz not null,
    primary key (tenant, list_id, approver),
    foreign key (tenant, list_id) references retention_list
);

create table retention_item (
    tenant                smallint not null default current_setting('dmst.tenant')::smallint,
    list_id               text collate "C" not null,
    document_reference_id text collate "C" not null,
    version               integer not null,
    patient_id            text collate "C" not null,
    kept_until            date not null,
    state                 text not null check (state in ('approved', 'blocked', 'deleted', 'destroyed')),
    reasons               jsonb,
    binaries              text[] not null default '{}',
    contents              bytea[] not null default '{}',
    provenance_id         text,
    updated               timestamptz not null,
    primary key (tenant, list_id, document_reference_id),
    foreign key (tenant, list_id) references retention_list
);
create index retention_item_open on retention_item (tenant, state, list_id, patient_id)
    where state in ('approved', 'deleted');
create index retention_item_document on retention_item (tenant, document_reference_id);

do $$
declare
    name text;
begin
    foreach name in array array['retention_list', 'retention_approval', 'retention_item'] loop
        execute format('alter table %I enable row level security', name);
        execute format('alter table %I force row level security', name);
        execute format('create policy tenant on %I using (tenant = current_setting(''dmst.tenant'')::smallint)', name);
    end loop;
end $$;
