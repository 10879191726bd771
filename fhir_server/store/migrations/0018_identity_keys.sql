-- What candidates are found by when somebody asks whose document this is (docs/identity.md): hashes of parts of an identity,
-- made with a secret of the service, so that this table tells nobody who is in the register. Rows go as those of `token` do.
create table identity_key (
    tenant smallint not null default current_setting('dmst.tenant')::smallint,
    k      bigint not null,
    rid    bigint not null,
    primary key (tenant, k, rid)
);
alter table identity_key enable row level security;
alter table identity_key force row level security;
create policy tenant on identity_key using (tenant = current_setting('dmst.tenant')::smallint);

create or replace function dmst_analyze() returns void language plpgsql security definer set search_path from current as $$
begin
    analyze resource, resource_history, token, period, word, measure, place, narrative, opposition, worker_centre, identity_key;
end $$;
