-- What decides who may see a resource (docs/adr/0010), beside it: `guard` has a bit for each fact (mappings/access_facts), `worker` is the
-- own hash of the Patient in whose record it is. What was not looked at yet is seen by nobody: 2^30. The program looks when it starts.
alter table resource
    add column guard  integer not null default 1073741824,
    add column worker bigint;

-- Rights that workers exercise by their Consents to keep others from their records (C1, C2, C3: R4624-45-6), and when.
create table opposition (
    tenant    smallint not null default current_setting('dmst.tenant')::smallint,
    worker    bigint not null,
    exercised text not null,
    low       timestamptz not null,
    high      timestamptz not null,
    rid       bigint not null,
    primary key (tenant, worker, exercised, low, high, rid)
);

-- The table of roles as the service's doctor laid it down, newest edition last; rows that differ from the law's.
create table role_edition (
    tenant    smallint not null default current_setting('dmst.tenant')::smallint,
    edition   integer not null,
    laid_down timestamptz not null default now(),
    by_whom   text not null,
    reason    text not null,
    rows      jsonb not null,
    primary key (tenant, edition)
);

-- For what a client sees records, and the worker who looks at his own by it.
alter table client add column purpose text, add column worker text;

-- Delegations of R4624-45-5: who lets whom see headings 1 and 2, from when to when.
create table delegation (
    tenant    smallint not null default current_setting('dmst.tenant')::smallint,
    delegate  text not null,
    by_whom   text not null,
    low       timestamptz not null,
    high      timestamptz not null,
    recorded  timestamptz not null default now(),
    primary key (tenant, delegate, low, by_whom)
);

do $$
declare
    name text;
begin
    foreach name in array array['opposition', 'role_edition', 'delegation'] loop
        execute format('alter table %I enable row level security', name);
        execute format('alter table %I force row level security', name);
        execute format('create policy tenant on %I using (tenant = current_setting(''dmst.tenant'')::smallint)', name);
    end loop;
end $$;
