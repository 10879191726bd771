-- name: changed
-- What was written since a snapshot was taken, of each type up to an internal key, and the version that was current in it
-- (none, or one without a document: it was not there). A version is made earlier when the next one is: so the one that was current in the snapshot is the
-- first that was made earlier by a transaction outside it. Row versions carry 32 bits of that transaction's number, the snapshot 64.
select r.rid, r.type, r.id, v.version, r.doc, v.doc
from unnest(%(types)s::smallint[], %(newest)s::bigint[]) as asked(type, newest)
cross join (select pg_snapshot_xmax(pg_current_snapshot())::text::bigint as next) x
join resource r on r.type = asked.type and r.rid <= asked.newest and r.updated > %(since)s
left join lateral (
    select h.version, case when not h.withheld then h.doc end as doc from resource_history h
    where h.rid = r.rid
      and not pg_visible_in_snapshot((x.next - ((x.next - h.xmin::text::bigint) & 4294967295))::text::xid8, %(snapshot)s::pg_snapshot)
    order by h.version limit 1
) v on true
where not r.deleted
  and not pg_visible_in_snapshot((x.next - ((x.next - r.xmin::text::bigint) & 4294967295))::text::xid8, %(snapshot)s::pg_snapshot)
  and (v.version is not null or r.updated > %(at)s)
limit %(limit)s

-- name: resources
-- In the place of the table: what there is, and resources as they were (internal keys, versions, refs, present); but who may
-- see them is decided as of now. `was` tells
-- the two apart, here and in the tables below. That some rows do not count, and that those of the tenant do, is a condition
-- outside (`statement.COUNTS`): in here it would keep the planner from walking the indexes of the table in their order.
then_resource as materialized (
    select r.rid, r.type, r.id, h.version, h.updated, h.deleted, h.doc, r.own_hash,
           o.refs::bigint[] as refs, o.present::smallint[] as present, r.guard, r.worker
    from unnest(%s::bigint[], %s::integer[], %s::text[], %s::text[]) as o(rid, version, refs, present)
    join resource r on r.rid = o.rid join resource_history h on h.rid = o.rid and h.version = o.version
), resource as not materialized (
    select rid, type, id, version, updated, deleted, doc, own_hash, refs, present, guard, worker, false as was, tenant from resource
    union all select rid, type, id, version, updated, deleted, doc, own_hash, refs, present, guard, worker, true, current_setting('dmst.tenant')::smallint from then_resource
)

-- name: tokens
token as not materialized (
    select h, rid, false as was, tenant from token
    union all select o.h, o.rid, true, current_setting('dmst.tenant')::smallint from unnest(%s::bigint[], %s::bigint[]) as o(h, rid)
)

-- name: periods
period as not materialized (
    select param, low, high, rid, false as was, tenant from period
    union all
    select o.param, o.low, o.high, o.rid, true, current_setting('dmst.tenant')::smallint
    from unnest(%s::integer[], %s::bigint[], %s::bigint[], %s::bigint[]) as o(param, low, high, rid)
)

-- name: words
word as not materialized (
    select param, folded, rid, false as was, tenant from word
    union all
    select o.param, o.folded collate "C", o.rid, true, current_setting('dmst.tenant')::smallint from unnest(%s::integer[], %s::text[], %s::bigint[]) as o(param, folded, rid)
)

-- name: measures
measure as not materialized (
    select h, low, high, rid, false as was, tenant from measure
    union all
    select o.h, o.low, o.high, o.rid, true, current_setting('dmst.tenant')::smallint
    from unnest(%s::bigint[], %s::numeric[], %s::numeric[], %s::bigint[]) as o(h, low, high, rid)
)

-- name: places
place as not materialized (
    select latitude, longitude, rid, false as was, tenant from place
    union all
    select o.latitude, o.longitude, o.rid, true, current_setting('dmst.tenant')::smallint
    from unnest(%s::double precision[], %s::double precision[], %s::bigint[]) as o(latitude, longitude, rid)
)

-- name: narratives
narrative as not materialized (
    select words, rid, false as was, tenant from narrative
    union all select to_tsvector('simple', o.words), o.rid, true, current_setting('dmst.tenant')::smallint from unnest(%s::text[], %s::bigint[]) as o(words, rid)
)

-- name: contents
content as not materialized (
    select words, rid, false as was, tenant from content
    union all
    select to_tsvector('simple', o.words::jsonb), o.rid, true, current_setting('dmst.tenant')::smallint from unnest(%s::text[], %s::bigint[]) as o(words, rid)
)
