-- name: insert
-- Accesses and refusals of this moment.
insert into access (at, interaction, outcome, client_id, role, purpose, type, resource_id, version,
                    patient_id, query, recipient, request_id)
select * from unnest(%s::timestamptz[], %s::text[], %s::smallint[], %s::text[], %s::text[], %s::text[], %s::smallint[],
                     %s::text[], %s::integer[], %s::text[], %s::text[], %s::text[], %s::text[])

-- name: read
-- One access.
select id, at, interaction, outcome, client_id, role, purpose, type, resource_id, version,
       patient_id, query, recipient, request_id
from access where id = %s

-- name: search
-- Accesses by worker, by resource and by time, newest first; null means any.
select id, at, interaction, outcome, client_id, role, purpose, type, resource_id, version,
       patient_id, query, recipient, request_id
from access
where (%(patient_id)s::text is null or patient_id = %(patient_id)s)
  and (%(type)s::smallint is null or (type = %(type)s and resource_id = %(resource_id)s))
  and at >= %(low)s and at < %(high)s
  and id < %(before)s
order by at desc, id desc
limit %(limit)s

-- name: count
-- How many accesses such a search finds.
select count(*)
from access
where (%(patient_id)s::text is null or patient_id = %(patient_id)s)
  and (%(type)s::smallint is null or (type = %(type)s and resource_id = %(resource_id)s))
  and at >= %(low)s and at < %(high)s
