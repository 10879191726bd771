-- name: changed
-- What was written since a snapshot was taken, of each type up to an internal key, and the version that was current in it
-- (none, or one without a document: it was not there). A version is made earlier when the next one is: so the one that was current in the snapshot is the
-- first that was made earlier by a transaction outside it. Row versions carry 32 bits of that transaction's number, the snapshot 64.
select r.rid, r.type, r.id, v.version, r.doc, v.doc
from unnest(%(types)s::smallint[], %(newest)s::bigint[]) as asked(type, newest)
cross join (select pg_snapshot_xmax(pg_current_snapshot())::text::bigint as next) x
join resource r on r.type = asked.type and r.rid <= asked.newest and r.updated > %(since)s
left join lateral (
    select h.version, h.doc from resource_history h
    where h.rid = r.rid
      and not pg_visible_in_snapshot((x.next - ((x.next - h.xmin::text::bigint) & 4294967295))::text::xid8, %(snapshot)s::pg_snapshot)
    order by h.version limit 1
) v on true
where not r.deleted
  and not pg_visible_in_snapshot((x.next - ((x.next - r.xmin::text::bigint) & 4294967295))::text::xid8, %(snapshot)s::pg_snapshot)
  and (v.version is not null or r.updated > %(at)s)
limit %(limit)s

-- name: resources
-- In the place of the table: some resources hidden, some as they were (internal keys, versions, refs, present).
resource as not materialized (
    select rid, type, id, version, updated, deleted, doc, own_hash, refs, present from resource where rid <> all(%s::bigint[])
    union all
    select r.rid, r.type, r.id, h.version, h.updated, h.deleted, h.doc, r.own_hash, o.refs::bigint[], o.present::smallint[]
    from unnest(%s::bigint[], %s::integer[], %s::text[], %s::text[]) as o(rid, version, refs, present)
    join resource r on r.rid = o.rid join resource_history h on h.rid = o.rid and h.version = o.version
)

-- name: tokens
token as not materialized (
    select h, rid from token where rid <> all(%s::bigint[])
    union all select * from unnest(%s::bigint[], %s::bigint[]) as o(h, rid)
)

-- name: periods
period as not materialized (
    select param, low, high, rid from period where rid <> all(%s::bigint[])
    union all select * from unnest(%s::integer[], %s::bigint[], %s::bigint[], %s::bigint[]) as o(param, low, high, rid)
)

-- name: words
word as not materialized (
    select param, folded, rid from word where rid <> all(%s::bigint[])
    union all
    select o.param, o.folded collate "C", o.rid from unnest(%s::integer[], %s::text[], %s::bigint[]) as o(param, folded, rid)
)

-- name: measures
measure as not materialized (
    select h, low, high, rid from measure where rid <> all(%s::bigint[])
    union all select * from unnest(%s::bigint[], %s::numeric[], %s::numeric[], %s::bigint[]) as o(h, low, high, rid)
)

-- name: places
place as not materialized (
    select latitude, longitude, rid from place where rid <> all(%s::bigint[])
    union all
    select * from unnest(%s::double precision[], %s::double precision[], %s::bigint[]) as o(latitude, longitude, rid)
)

-- name: narratives
narrative as not materialized (
    select words, rid from narrative where rid <> all(%s::bigint[])
    union all select to_tsvector('simple', o.words), o.rid from unnest(%s::text[], %s::bigint[]) as o(words, rid)
)

-- name: contents
content as not materialized (
    select words, rid from content where rid <> all(%s::bigint[])
    union all select to_tsvector('simple', o.words::jsonb), o.rid from unnest(%s::text[], %s::bigint[]) as o(words, rid)
)
