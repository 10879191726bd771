-- name: insert
-- Accesses and refusals of this moment. Out of the team is whose worker has a centre, and none of those of who looks.
insert into access (at, interaction, outcome, client_id, role, purpose, type, resource_id, version,
                    patient_id, query, recipient, request_id, professional, circumstance)
select at, interaction, outcome, client_id, role, purpose, type, resource_id, version,
       patient_id, query, recipient, request_id, professional,
       case when team is not null and exists (
           select from worker_centre w where w.worker = n.worker and w.centre <> all(string_to_array(n.team, ' '))
       ) then concat_ws(' ', circumstance, 'out-of-team') else circumstance end
from unnest(%s::timestamptz[], %s::text[], %s::smallint[], %s::text[], %s::text[], %s::text[], %s::smallint[],
            %s::text[], %s::integer[], %s::text[], %s::text[], %s::text[], %s::text[], %s::text[], %s::text[],
            %s::bigint[], %s::text[])
  as n(at, interaction, outcome, client_id, role, purpose, type, resource_id, version,
       patient_id, query, recipient, request_id, professional, circumstance, worker, team)

-- name: read
-- One access.
select id, at, interaction, outcome, client_id, role, purpose, type, resource_id, version,
       patient_id, query, recipient, request_id, professional, circumstance
from access where id = %s

-- name: search
-- Accesses by worker, professional, client, resource and time, newest first, below one of them; null means any.
select id, at, interaction, outcome, client_id, role, purpose, type, resource_id, version,
       patient_id, query, recipient, request_id, professional, circumstance
from access
where (%(patient_id)s::text is null or patient_id = %(patient_id)s)
  and (%(professional)s::text is null or professional = %(professional)s)
  and (%(client_id)s::text is null or client_id = %(client_id)s)
  and (%(type)s::smallint is null or (type = %(type)s and resource_id = %(resource_id)s))
  and (%(interactions)s::text[] is null or interaction = any(%(interactions)s))
  and (%(circumstances)s::text[] is null or circumstance = any(%(circumstances)s))
  and at >= %(low)s and at < %(high)s
  and (%(before)s::bigint is null or (at, id) < (%(before_at)s::timestamptz, %(before)s))
order by at desc, id desc
limit %(limit)s

-- name: walk
-- The same from the oldest on, above one of them: for an export.
select id, at, interaction, outcome, client_id, role, purpose, type, resource_id, version,
       patient_id, query, recipient, request_id, professional, circumstance
from access
where (%(patient_id)s::text is null or patient_id = %(patient_id)s)
  and (%(professional)s::text is null or professional = %(professional)s)
  and (%(client_id)s::text is null or client_id = %(client_id)s)
  and (%(type)s::smallint is null or (type = %(type)s and resource_id = %(resource_id)s))
  and (%(interactions)s::text[] is null or interaction = any(%(interactions)s))
  and (%(circumstances)s::text[] is null or circumstance = any(%(circumstances)s))
  and at >= %(low)s and at < %(high)s
  and (%(after)s::bigint is null or (at, id) > (%(after_at)s::timestamptz, %(after)s))
order by at, id
limit %(limit)s

-- name: count
-- How many accesses such a search finds, up to a limit; null counts all.
select count(*) from (
    select from access
    where (%(patient_id)s::text is null or patient_id = %(patient_id)s)
      and (%(professional)s::text is null or professional = %(professional)s)
      and (%(client_id)s::text is null or client_id = %(client_id)s)
      and (%(type)s::smallint is null or (type = %(type)s and resource_id = %(resource_id)s))
  and (%(interactions)s::text[] is null or interaction = any(%(interactions)s))
  and (%(circumstances)s::text[] is null or circumstance = any(%(circumstances)s))
      and at >= %(low)s and at < %(high)s
    limit %(limit)s
) counted
