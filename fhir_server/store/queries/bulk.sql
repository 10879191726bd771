-- name: add_job
-- A job that was just asked for.
insert into bulk_job (job_id, kind, caller, request, at, expires) values (%s, %s, %s, %s, %s, %s)

-- name: read_job
-- One job.
select job_id, kind, state, caller, request, at, reached, until, problem, expires from bulk_job where job_id = %s

-- name: settle_job
-- What became of a job.
update bulk_job set state = %s, problem = %s, expires = %s where job_id = %s and state in ('accepted', 'running')

-- name: drop_job
-- A job that is cancelled, and everything of it.
delete from bulk_job where job_id = %s

-- name: drop_expired
-- Jobs whose files have been kept long enough.
delete from bulk_job where expires < %s and state in ('complete', 'failed') returning job_id, kind

-- name: known_jobs
-- Which of these jobs are there.
select job_id from bulk_job where job_id = any(%s)

-- name: hold_job
-- One process at a time works on a job; the lock is that of the session.
select pg_try_advisory_lock(hashint8extended(%s, current_setting('dmst.tenant')::bigint))

-- name: moment
-- What the clock of the database says.
select clock_timestamp()

-- name: still_writing
-- Is a transaction of ours, begun before a moment, not yet at its end?
select exists (
    select from pg_stat_activity
    where datname = current_database() and application_name = 'dmst-fhir' and pid <> pg_backend_pid() and xact_start <= %s
)

-- name: begin_export
-- Where the walk of an export ends: rows that come later are not of its moment.
update bulk_job set state = 'running', until = (select coalesce(max(rid), 0) from resource) where job_id = %s

-- name: select_rids
-- What a search of this job selected.
insert into bulk_selected (job_id, rid) select %s, unnest(%s::bigint[]) on conflict do nothing

-- name: select_referring
-- What is found under any of these reference hashes.
insert into bulk_selected (job_id, rid) select distinct %s, t.rid from token t where t.h = any(%s::bigint[]) on conflict do nothing

-- name: select_identities
-- Resources by their identity.
insert into bulk_selected (job_id, rid)
select %s, r.rid from resource r where r.type = %s and r.id = any(%s::text[]) on conflict do nothing

-- name: select_changed
-- What was written after a moment: its version of that moment may have been another one's.
insert into bulk_selected (job_id, rid)
select %s, r.rid from resource r where r.type = any(%s::smallint[]) and r.updated > %s on conflict do nothing

-- name: step
-- How far the next step of a walk goes: a bounded number of rows, and of bytes of the types that are wanted.
select max(rid) from (
    select rid, sum(size) over (order by rid) - size as before
    from (
        select rid, case when type = any(%(types)s::smallint[]) then coalesce(octet_length(doc), 0) else 0 end as size
        from resource where rid > %(after)s and rid <= %(until)s order by rid limit %(rows)s
    ) near
) sized where before < %(bytes)s

-- name: as_of
-- The resources of one step as they were at a moment; a null document is a deletion.
select r.rid, r.type, r.id, r.doc, r.guard, r.worker, held_of(r)
from resource r
where r.rid > %(after)s and r.rid <= %(reach)s and r.type = any(%(types)s::smallint[])
  and r.updated <= %(at)s and r.updated > %(since)s and r.updated < %(before)s
  and (r.type = any(%(whole)s::smallint[])
       or exists (select from bulk_selected s where s.job_id = %(job_id)s and s.rid = r.rid))
union all
select r.rid, r.type, r.id, v.doc, r.guard, r.worker, held_of(r)
from resource r
cross join lateral (
    select h.updated, case when not h.withheld then h.doc end as doc from resource_history h
    where h.rid = r.rid and h.updated <= %(at)s order by h.version desc limit 1
) v
where r.rid > %(after)s and r.rid <= %(reach)s and r.type = any(%(types)s::smallint[])
  and r.updated > %(at)s and v.updated > %(since)s and v.updated < %(before)s
  and (r.type = any(%(whole)s::smallint[])
       or exists (select from bulk_selected s where s.job_id = %(job_id)s and s.rid = r.rid))
order by rid

-- name: advance
-- A step is on disk: nobody else may have advanced meanwhile.
update bulk_job set reached = %s where job_id = %s and reached = %s and state = 'running'

-- name: keep_file
-- How much of a file is on disk for good.
insert into bulk_file (job_id, name, kind, type, resources, size) values (%s, %s, %s, %s, %s, %s)
on conflict (tenant, job_id, name) do update set resources = excluded.resources, size = excluded.size

-- name: files_of
-- The files of a job.
select name, kind, type, resources, size from bulk_file where job_id = %s order by kind desc, type, name

-- name: hidden_since
-- What an export may hold of a type and is out of sight now, since it was written again after the export's moment: as it was then.
select h.doc from resource r
cross join lateral (
    select h.doc from resource_history h where h.rid = r.rid and h.updated <= %(at)s order by h.version desc limit 1
) h
where r.type = %(type)s and r.rid <= %(until)s and r.updated > %(at)s and in_sight(r) is not true and h.doc is not null
limit %(limit)s

-- name: opposed_since
-- Does a worker oppose, now, what he did not oppose at that moment?
select exists (
    select from opposition o left join resource c on c.rid = o.rid
    where o.exercised = any(%s) and o.low <= now() and now() < o.high and (o.low > %s or c.updated > %s)
)

-- name: new_subjects
-- Those among these workers whom the job had not met before.
insert into bulk_subject (job_id, patient_id) select %s, unnest(%s::text[]) on conflict do nothing returning patient_id

-- name: add_input
-- A file that an import is to read.
insert into bulk_input (job_id, position, type, name, size, modified) values (%s, %s, %s, %s, %s, %s)

-- name: inputs_of
-- The files of an import, and how far it is in each.
select position, type, name, size, modified, reached, lines, kept, refused from bulk_input where job_id = %s order by position

-- name: start_job
-- A job that is being worked on.
update bulk_job set state = 'running' where job_id = %s and state in ('accepted', 'running')

-- name: advance_input
-- Lines of a file are done with: nobody else may have done them meanwhile.
update bulk_input set reached = %s, lines = lines + %s, kept = kept + %s, refused = refused + %s
where job_id = %s and position = %s and reached = %s

-- name: settle_deferred
-- Deferred lines that are done with.
delete from bulk_deferred where job_id = %s and position = %s and line = any(%s::bigint[])

-- name: count_deferred
-- What became of deferred lines.
update bulk_input set kept = kept + %s, refused = refused + %s where job_id = %s and position = %s

-- name: there
-- Which of these (type, id) are there, also as deletions.
select r.type, r.id, r.guard, r.worker, held_of(r)
from unnest(%s::smallint[], %s::text[]) as asked(type, id)
join resource r on r.type = asked.type and r.id = asked.id

-- name: deferred_identities
-- Which of these (type, id) are among the deferred lines of a job.
select distinct d.type, d.id from unnest(%s::smallint[], %s::text[]) as asked(type, id)
join bulk_deferred d on d.job_id = %s and d.type = asked.type and d.id = asked.id

-- name: defer_lines
-- Lines that wait for what they refer to.
insert into bulk_deferred (job_id, position, line, start, length, type, id)
select %s, %s, * from unnest(%s::bigint[], %s::bigint[], %s::bigint[], %s::smallint[], %s::text[])

-- name: defer_references
-- What they wait for.
insert into bulk_forward (job_id, position, line, place, type, id)
select %s, %s, * from unnest(%s::bigint[], %s::text[], %s::smallint[], %s::text[])

-- name: refuse_lines
-- Lines that were refused.
insert into bulk_refusal (job_id, position, line, issues)
select %s, %s, n.line, n.issues from unnest(%s::bigint[], %s::jsonb[]) as n(line, issues)
on conflict (tenant, job_id, position, line) do nothing

-- name: count_refusals
-- How many refusals are kept.
select count(*) from bulk_refusal where job_id = %s

-- name: strand
-- Deferred lines of which a reference leads neither to the store nor to another deferred line.
delete from bulk_deferred d
where d.job_id = %(job_id)s and exists (
    select from bulk_forward f
    where f.job_id = d.job_id and f.position = d.position and f.line = d.line
      and not exists (select from resource r where r.type = f.type and r.id = f.id and not r.deleted)
      and not exists (select from bulk_deferred o where o.job_id = d.job_id and o.type = f.type and o.id = f.id)
)
returning d.position, d.line

-- name: forward_references
-- Where lines refer to what is not in the store.
select f.line, f.place, f.type, f.id from bulk_forward f
where f.job_id = %s and f.position = %s and f.line = any(%s::bigint[])
  and not exists (select from resource r where r.type = f.type and r.id = f.id and not r.deleted)
order by f.line, f.place

-- name: deferred_lines
-- The next deferred lines of a file.
select line, start, length from bulk_deferred where job_id = %s and position = %s order by line limit %s

-- name: refusals
-- Refused lines of one file, in their order.
select line, issues from bulk_refusal where job_id = %s and position = %s and line > %s order by line limit 1000

-- name: refused_inputs
-- The files that have refused lines.
select position, count(*) from bulk_refusal where job_id = %s group by position order by position

-- name: incoming
-- COPY is refused where policies hold, so rows come by way of tables of the session, which nobody has to flush or to log.
do $$
begin
    if to_regclass('pg_temp.incoming_resource') is null then
        create temporary table incoming_resource (
            rid bigint, type smallint, id text collate "C", version integer, deleted boolean, own_hash bigint,
            refs bigint[], present smallint[], guard integer, worker bigint, updated timestamptz, doc bytea
        ) on commit delete rows;
        alter table incoming_resource alter column doc set storage external;  -- it is compressed where it is kept
        create temporary table incoming_token (h bigint, rid bigint) on commit delete rows;
        create temporary table incoming_period (param integer, low bigint, high bigint, rid bigint) on commit delete rows;
        create temporary table incoming_word (param integer, folded text collate "C", rid bigint) on commit delete rows;
        create temporary table incoming_measure (h bigint, low numeric, high numeric, rid bigint) on commit delete rows;
    end if;
end $$

-- name: copy_resource
-- First versions, as PostgreSQL's binary COPY.
copy incoming_resource (rid, type, id, version, deleted, own_hash, refs, present, guard, worker, updated, doc) from stdin (format binary)

-- name: copy_token
-- Index rows of equality-like search, sorted.
copy incoming_token (h, rid) from stdin (format binary)

-- name: copy_period
-- Index rows of date search, sorted.
copy incoming_period (param, low, high, rid) from stdin (format binary)

-- name: copy_word
-- Index rows of string search, sorted.
copy incoming_word (param, folded, rid) from stdin (format binary)

-- name: copy_measure
-- Index rows of numbers and quantities, sorted, as text: PostgreSQL reads a number quicker than it is packed.
copy incoming_measure (h, low, high, rid) from stdin

-- name: take_resource
-- What came in, kept.
insert into resource (rid, type, id, version, deleted, own_hash, refs, present, guard, worker, updated, doc) select * from incoming_resource

-- name: take_token
-- What came in, kept.
insert into token (h, rid) select * from incoming_token

-- name: take_period
-- What came in, kept.
insert into period (param, low, high, rid) select * from incoming_period

-- name: take_word
-- What came in, kept.
insert into word (param, folded, rid) select * from incoming_word

-- name: take_measure
-- What came in, kept.
insert into measure (h, low, high, rid) select * from incoming_measure
