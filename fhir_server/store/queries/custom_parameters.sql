-- name: in_use
-- What every process must know: the parameters that are searched, or will be.
select number, url, definition, state from custom_parameter where state <> 'retired' order by number

-- name: listed
-- Every parameter that was ever added, the newest first.
select number, resource_id, url, definition, state, done, of from custom_parameter order by number desc limit %s

-- name: of_resource
-- What became of a SearchParameter, the newest definition first.
select number, resource_id, url, definition, state, done, of from custom_parameter
where resource_id = %s order by number desc limit 1

-- name: hold
-- One change of the parameters at a time: numbers follow each other, and no two are searched by one code.
lock table custom_parameter in share row exclusive mode

-- name: next_number
-- Rows are never deleted, so no number comes twice.
select coalesce(max(number), %s - 1) + 1 from custom_parameter

-- name: announce
-- From now on this is indexed when it is written, by whoever knows of it.
insert into custom_parameter (number, resource_id, url, definition) values (%s, %s, %s, %s::jsonb)

-- name: retire
-- No longer recognised.
update custom_parameter set state = 'retired', seen = clock_timestamp() where resource_id = %s and state <> 'retired'

-- name: mark_seen
-- The announcement can be read by everybody: from here the grace is counted.
update custom_parameter set seen = clock_timestamp() where state = 'announced' and seen is null

-- name: begin
-- The parameters of which every process has heard, and that no write under way can be without.
update custom_parameter c
set state = 'indexing', upto = (select last_value from rid_seq),
    of = (select count(*) from resource r where r.type = any(%(types)s::smallint[]) and r.rid <= (select last_value from rid_seq))
where c.number = %(number)s and c.state = 'announced'

-- name: ripe
-- Announced, or retired, long enough ago; and every write that began before then has ended.
select number, url, definition from custom_parameter
where state = %(state)s and not forgotten and seen < clock_timestamp() - make_interval(secs => %(grace)s)
  and not exists (
    select from pg_stat_activity a
    where a.datname = current_database() and a.application_name = 'dmst-fhir' and a.pid <> pg_backend_pid()
      and a.xact_start < seen + make_interval(secs => %(grace)s)
  )
order by number limit 1
for update skip locked

-- name: hold_next
-- A parameter that is being indexed, held by one process until its batch is committed.
select number, url, definition, announced, walked, upto from custom_parameter
where state = 'indexing' order by number limit 1
for update skip locked

-- name: batch
-- The next resources that it is about, held against writers.
select rid, doc, refs, present from resource
where type = any(%s::smallint[]) and rid > %s and rid <= %s
order by rid limit %s
for no key update

-- name: earlier
-- Versions that a process which knew the parameter may have indexed, and one that did not may have replaced.
select rid, doc from resource_history
where rid = any(%s::bigint[]) and updated >= %s - interval '10 minutes' and doc is not null

-- name: set_columns
-- The columns of a resource that searches use.
update resource r set refs = n.refs::bigint[], present = n.present::smallint[]
from unnest(%s::bigint[], %s::text[], %s::text[]) as n(rid, refs, present)
where r.rid = n.rid

-- name: forget_words
-- Some of the words of a retired parameter: they may name somebody who was deleted since.
delete from word where ctid = any(array(select ctid from word where param = any(%s::integer[]) limit %s))

-- name: forget_periods
-- Some of its dates.
delete from period where ctid = any(array(select ctid from period where param = any(%s::integer[]) limit %s))

-- name: forget
-- Nothing of a retired parameter can be read any more.
update custom_parameter set forgotten = true where number = %s

-- name: advance
-- How far the indexing is; it goes on from here whatever happens.
update custom_parameter set walked = %s, done = done + %s where number = %s

-- name: finish
-- From now on it is searched by.
update custom_parameter set state = 'active', done = of where number = %s
