-- name: insert
-- Accesses and refusals of this moment.
insert into access (at, interaction, outcome, client_id, role, purpose, type, resource_id, version,
                    patient_id, query, recipient, request_id, professional)
select * from unnest(%s::timestamptz[], %s::text[], %s::smallint[], %s::text[], %s::text[], %s::text[], %s::smallint[],
                     %s::text[], %s::integer[], %s::text[], %s::text[], %s::text[], %s::text[], %s::text[])

-- name: read
-- One access.
select id, at, interaction, outcome, client_id, role, purpose, type, resource_id, version,
       patient_id, query, recipient, request_id, professional
from access where id = %s

-- name: search
-- Accesses by worker, professional, client, resource and time, newest first, below one of them; null means any.
select id, at, interaction, outcome, client_id, role, purpose, type, resource_id, version,
       patient_id, query, recipient, request_id, professional
from access
where (%(patient_id)s::text is null or patient_id = %(patient_id)s)
  and (%(professional)s::text is null or professional = %(professional)s)
  and (%(client_id)s::text is null or client_id = %(client_id)s)
  and (%(type)s::smallint is null or (type = %(type)s and resource_id = %(resource_id)s))
  and at >= %(low)s and at < %(high)s
  and (%(before)s::bigint is null or (at, id) < (%(before_at)s::timestamptz, %(before)s))
order by at desc, id desc
limit %(limit)s

-- name: walk
-- The same from the oldest on, above one of them: for an export.
select id, at, interaction, outcome, client_id, role, purpose, type, resource_id, version,
       patient_id, query, recipient, request_id, professional
from access
where (%(patient_id)s::text is null or patient_id = %(patient_id)s)
  and (%(professional)s::text is null or professional = %(professional)s)
  and (%(client_id)s::text is null or client_id = %(client_id)s)
  and (%(type)s::smallint is null or (type = %(type)s and resource_id = %(resource_id)s))
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
      and at >= %(low)s and at < %(high)s
    limit %(limit)s
) counted
