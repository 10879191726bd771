-- name: insert_tokens
-- Index rows of equality-like search, sorted so that the b-tree is filled in order.
insert into token (h, rid) select * from unnest(%s::bigint[], %s::bigint[]) as n(h, rid) order by 1, 2

-- name: delete_tokens
-- Index rows that the new version no longer has.
delete from token t using unnest(%s::bigint[], %s::bigint[]) as o(h, rid) where t.h = o.h and t.rid = o.rid

-- name: insert_periods
-- Index rows of date search.
insert into period (param, low, high, rid)
select * from unnest(%s::integer[], %s::bigint[], %s::bigint[], %s::bigint[]) as n(param, low, high, rid)

-- name: delete_periods
-- Index rows of date search that the new version no longer has.
delete from period p using unnest(%s::integer[], %s::bigint[], %s::bigint[], %s::bigint[]) as o(param, low, high, rid)
where (p.param, p.low, p.high, p.rid) = (o.param, o.low, o.high, o.rid)

-- name: insert_words
-- Index rows of string search.
insert into word (param, folded, rid)
select * from unnest(%s::integer[], %s::text[], %s::bigint[]) as n(param, folded, rid)

-- name: delete_words
-- Index rows of string search that the new version no longer has.
delete from word w using unnest(%s::integer[], %s::text[], %s::bigint[]) as o(param, folded, rid)
where (w.param, w.folded, w.rid) = (o.param, o.folded, o.rid)

-- name: insert_measures
-- Index rows of numbers and quantities.
insert into measure (h, low, high, rid)
select * from unnest(%s::bigint[], %s::numeric[], %s::numeric[], %s::bigint[]) as n(h, low, high, rid) order by 1, 2

-- name: delete_measures
-- Index rows of numbers and quantities that the new version no longer has.
delete from measure m using unnest(%s::bigint[], %s::numeric[], %s::numeric[], %s::bigint[]) as o(h, low, high, rid)
where (m.h, m.low, m.high, m.rid) = (o.h, o.low, o.high, o.rid)

-- name: insert_places
-- Points on the globe.
insert into place (latitude, longitude, rid)
select * from unnest(%s::double precision[], %s::double precision[], %s::bigint[]) as n(latitude, longitude, rid)

-- name: delete_places
-- Points on the globe that are elsewhere now.
delete from place p using unnest(%s::double precision[], %s::double precision[], %s::bigint[]) as o(latitude, longitude, rid)
where p.rid = o.rid

-- name: insert_narratives
-- Words of narratives, already folded.
insert into narrative (words, rid)
select to_tsvector('simple', n.words), n.rid from unnest(%s::text[], %s::bigint[]) as n(words, rid)

-- name: insert_contents
-- Words of whole resources: JSON arrays of their strings, already folded.
insert into content (words, rid)
select to_tsvector('simple', n.words::jsonb), n.rid from unnest(%s::text[], %s::bigint[]) as n(words, rid)

-- name: delete_contents
-- Words of resources that have changed.
delete from content t using unnest(%s::text[], %s::bigint[]) as o(words, rid) where t.rid = o.rid

-- name: delete_narratives
-- Words of narratives that have changed.
delete from narrative t using unnest(%s::text[], %s::bigint[]) as o(words, rid) where t.rid = o.rid

-- name: insert_oppositions
-- Rights that a Consent exercises against others.
insert into opposition (worker, exercised, low, high, rid)
select * from unnest(%s::bigint[], %s::text[], %s::timestamptz[], %s::timestamptz[], %s::bigint[]) as n(worker, exercised, low, high, rid)

-- name: delete_oppositions
-- Rights that a Consent no longer exercises.
delete from opposition t
using unnest(%s::bigint[], %s::text[], %s::timestamptz[], %s::timestamptz[], %s::bigint[]) as o(worker, exercised, low, high, rid)
where (t.worker, t.exercised, t.low, t.high, t.rid) = (o.worker, o.exercised, o.low, o.high, o.rid)

-- name: insert_centres
-- In whose charge workers are.
insert into worker_centre (worker, centre, rid)
select * from unnest(%s::bigint[], %s::text[], %s::bigint[]) as n(worker, centre, rid)

-- name: delete_centres
-- In whose charge workers are no longer.
delete from worker_centre t using unnest(%s::bigint[], %s::text[], %s::bigint[]) as o(worker, centre, rid)
where (t.worker, t.centre, t.rid) = (o.worker, o.centre, o.rid)

-- name: insert_identities
-- What a worker is found by when somebody asks whose document this is, under the secret of this service (store/identity_keys).
insert into identity_key (k, rid)
select keyed(n.k), n.rid from unnest(%s::bigint[], %s::bigint[]) as n(k, rid), server_key s
where s.purpose = 'identity' order by 1, 2

-- name: delete_identities
-- What a worker is no longer found by.
delete from identity_key t
using unnest(%s::bigint[], %s::bigint[]) as n(k, rid), server_key s
where s.purpose = 'identity' and t.k = keyed(n.k) and t.rid = n.rid
