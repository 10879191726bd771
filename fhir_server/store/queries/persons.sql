-- name: standing
-- Of a person: whether a delegation is in force, which workers are linked to him, his centres, and for whom he declared a reason.
select exists (select from delegation d where d.delegate = %(person)s and d.low <= now() and now() < d.high),
       array(select l.patient_id from person_link l where l.person = %(person)s and l.low <= now() and l.high is null),
       array(select c.centre from person_centre c where c.person = %(person)s and c.low <= now() and c.high is null),
       coalesce((select jsonb_agg(jsonb_build_array(a.patient_id, a.kind, extract(epoch from a.high)))
                 from declared_access a where a.person = %(person)s and a.low <= now() and now() < a.high), '[]')

-- name: with_identifier
-- The ids and documents of what is found under an identifier.
select r.id, r.doc from token t join resource r using (rid)
where t.h = any(%s::bigint[]) and r.type = %s and not r.deleted limit 100

-- name: link
insert into person_link (person, patient_id, by_whom, low) values (%s, %s, %s, %s)

-- name: unlink
update person_link set high = now() where person = %s and (%s::text is null or patient_id = %s) and high is null
returning patient_id

-- name: links
-- Every link, the newest first.
select person, patient_id, by_whom, low, high from person_link order by low desc, person

-- name: join
insert into person_centre (person, centre, by_whom, low) values (%s, %s, %s, %s)

-- name: leave
update person_centre set high = now() where person = %s and centre = %s and high is null

-- name: centres
-- Every membership, the newest first.
select person, centre, by_whom, low, high from person_centre order by low desc, person

-- name: declare
insert into declared_access (person, patient_id, kind, low, high) values (%s, %s, %s, %s, %s)
