-- name: keep
-- Labels that may be new, in an order that cannot deadlock.
insert into label (kind, system, code, display)
select * from unnest(%s::smallint[], %s::text[], %s::text[], %s::text[]) as n(kind, system, code, display)
order by kind, system collate "C", code collate "C"
on conflict do nothing

-- name: all
-- Every label that was ever used, at most so many.
select kind, system, code, display from label order by kind, system, code limit %s

-- name: in_use
-- Under which of these hashes something is found.
select asked.h from unnest(%(hashes)s::bigint[]) as asked(h)
where exists (select from token t join resource r using (rid) where t.h = asked.h and in_sight(r))
