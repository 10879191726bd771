-- name: known
-- How many resources the planner believes that there are, of all tenants.
select reltuples from pg_class where oid = 'resource'::regclass

-- name: analyze
-- What the planner must know after many writes.
select dmst_analyze()

-- name: analyze_owned
-- Every table of this schema, by its owner: of a column that a migration added the planner knows nothing.
do $$
declare
    name regclass;
begin
    for name in select oid from pg_class
                where relnamespace = current_schema()::regnamespace and relkind = 'r' and pg_has_role(relowner, 'member') loop
        execute format('analyze %s', name);
    end loop;
end $$
