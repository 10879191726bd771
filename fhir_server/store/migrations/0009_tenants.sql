-- A tenant is a column of every row and stands first in every key, and PostgreSQL shows each session the rows of one
-- tenant only (docs/adr/0009). What is here belongs to tenant 0. A session that names no tenant is refused.

create temporary table dmst_rebuilt (position int generated always as identity, made text) on commit drop;

do $$
declare
    of_tenant constant text[] := array[
        'access', 'access_token', 'bulk_deferred', 'bulk_file', 'bulk_forward', 'bulk_input', 'bulk_job', 'bulk_refusal',
        'bulk_selected', 'bulk_subject', 'client', 'content', 'custom_parameter', 'delivery', 'index_state', 'label', 'measure',
        'narrative', 'period', 'place', 'resource', 'resource_history', 'scan_document', 'scan_folder', 'scan_lot',
        'server_key', 'token', 'upload', 'word'
    ];
    name text;
    one record;
begin
    foreach name in array of_tenant loop
        execute format('alter table %I add column tenant smallint not null default 0', name);
        execute format('alter table %I alter column tenant set default current_setting(''dmst.tenant'')::smallint', name);
    end loop;

    -- Foreign keys last, since they need the others: f, then p and u in the order of making.
    for one in
        select c.conrelid::regclass as of_table, c.conname, c.contype, pg_get_constraintdef(c.oid) as said
        from pg_constraint c
        where c.conrelid = any(of_tenant::regclass[]) and c.contype in ('p', 'u', 'f')
        order by c.contype = 'f' desc
    loop
        execute format('alter table %s drop constraint %I', one.of_table, one.conname);
        insert into dmst_rebuilt (made) values (format(
            'alter table %s add constraint %I %s', one.of_table, one.conname, replace(one.said, '(', '(tenant, ')
        ));
    end loop;
    for one in select made from dmst_rebuilt order by made like '%FOREIGN KEY%', position loop
        execute one.made;
    end loop;

    for one in
        select i.indexrelid::regclass as index, pg_get_indexdef(i.indexrelid) as said
        from pg_index i join pg_class c on c.oid = i.indexrelid join pg_am m on m.oid = c.relam
        where i.indrelid = any(of_tenant::regclass[]) and m.amname = 'btree'
          and not exists (select from pg_constraint where conindid = i.indexrelid)
    loop
        execute format('drop index %s', one.index);
        execute replace(one.said, ' USING btree (', ' USING btree (tenant, ');
    end loop;

    foreach name in array of_tenant loop
        execute format('alter table %I enable row level security', name);
        execute format('alter table %I force row level security', name);
        execute format('create policy tenant on %I using (tenant = current_setting(''dmst.tenant'')::smallint)', name);
    end loop;
end $$;

-- The planner is told what was written by a role that owns no table.
create function dmst_analyze() returns void language plpgsql security definer set search_path from current as $$
begin
    analyze resource, resource_history, token, period, word, measure, place, narrative;
end $$;
revoke execute on function dmst_analyze() from public;
