-- name: alike
-- Workers who share one of these parts of an identity, most shared first, and how many of the parts are shared by more than
-- are looked at. A row without a worker says only that.
with hits as materialized (
    select n.k, i.rid
    from server_key s, unnest(%(parts)s::bigint[]) as n(k)
    cross join lateral (select rid from identity_key i where i.k = keyed(n.k) order by i.rid limit %(cap)s) i
    where s.purpose = 'identity'
), shared as (
    select rid, count(*) as parts from hits group by rid order by 2 desc, 1 limit %(most)s
)
select (select count(*) from (select from hits group by k having count(*) >= %(cap)s) as c), found.*
from (select) as always left join (
    select r.rid, r.id, r.version, r.doc from shared join resource r using (rid)
    where not r.deleted and in_sight(r) order by shared.parts desc, r.rid
) as found on true

-- name: register_size
-- How many workers there are.
select count(*) from resource where type = %s and not deleted

-- name: next_workers
-- Workers in the order of their ids after one of them, whole.
select r.rid, r.id, r.version, r.doc from resource r
where r.type = %(type)s and r.id > %(after)s and not r.deleted and in_sight(r) order by r.id limit %(most)s
