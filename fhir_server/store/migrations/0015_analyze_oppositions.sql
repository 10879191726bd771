-- Of oppositions that were never looked at the planner believes that there are thousands, and gathers them all for one row.
create or replace function dmst_analyze() returns void language plpgsql security definer set search_path from current as $$
begin
    analyze resource, resource_history, token, period, word, measure, place, narrative, opposition;
end $$;
