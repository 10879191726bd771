-- name: prepare
-- What belongs to the cluster and no dump of a database carries: the role that policies hold, its rights here, and which
-- functions of PostgreSQL say nothing of the rows that they are asked about, so that they may search behind a policy
-- (they compare, and raise nothing). The trail is only appended to. Each only where it is missing and this session may.
do $$
declare
    app constant name := 'dmst_app';
    here constant name := current_schema();
    superuser constant boolean := (select rolsuper from pg_roles where rolname = current_user);
    shut regprocedure;
begin
    if not exists (select from pg_roles where rolname = app) then
        begin
            execute format('create role %I nologin', app);
        exception when insufficient_privilege or duplicate_object or unique_violation then null;
        end;
    end if;
    if exists (select from pg_roles where rolname = app) then
        if superuser and not pg_has_role(app, 'pg_read_all_stats', 'member') then
            execute format('grant pg_read_all_stats to %I', app);
        end if;
        if exists (select from pg_class c where c.relnamespace = here::regnamespace and c.relkind = 'r'
                   and pg_has_role(c.relowner, 'member') and not has_table_privilege(app, c.oid, 'insert')) then
            execute format('grant usage on schema %I to %I', here, app);
            execute format('grant select, insert, update, delete on all tables in schema %I to %I', here, app);
            execute format('revoke update, delete on access, access_seal, access_anchor, identity_event from %I', app);
            execute format('grant usage, select on all sequences in schema %I to %I', here, app);
            execute format('grant execute on all functions in schema %I to %I', here, app);
        end if;
    end if;
    if superuser then
        foreach shut in array array[
            'textlike(text, text)', 'ts_match_vq(tsvector, tsquery)', 'numeric_eq(numeric, numeric)', 'numeric_lt(numeric, numeric)',
            'numeric_le(numeric, numeric)', 'numeric_gt(numeric, numeric)', 'numeric_ge(numeric, numeric)'
        ]::regprocedure[] loop
            if not (select proleakproof from pg_proc where oid = shut) then
                execute format('alter function %s leakproof', shut);
            end if;
        end loop;
    end if;
end $$

-- name: become_the_role
-- A superuser, whom no policy holds, becomes the role that they do hold. Others are held as they are.
select set_config('role', 'dmst_app', false) from pg_roles
where rolname = 'dmst_app' and pg_has_role(session_user, oid, 'member')

-- name: is_held
-- Whether policies hold this session.
select not (rolsuper or rolbypassrls) from pg_roles where rolname = current_user
