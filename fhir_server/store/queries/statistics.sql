-- name: known
-- How many resources the planner believes that there are, of all tenants.
select reltuples from pg_class where oid = 'resource'::regclass

-- name: analyze
-- What the planner must know after many writes.
select dmst_analyze()
