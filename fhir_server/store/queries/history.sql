-- name: of_types
-- Versions of the resources of these types below a place, newest first: of each type its newest, and of those the newest.
with page as materialized (
    select one.rid, one.version, one.updated, one.is_current
    from unnest(%(types)s::smallint[]) as asked(type)
    cross join lateral (
        (select r.rid, r.version, r.updated, true as is_current
         from resource r
         where r.type = asked.type and in_sight(r) and r.updated >= %(since)s and r.updated < %(until)s
           and r.updated <= %(updated)s and (r.updated, r.rid, r.version) < (%(updated)s, %(rid)s, %(version)s)
           and (r.updated >= %(low)s or not r.deleted)
         order by r.updated desc, r.rid desc
         limit %(limit)s)
        union all
        (select h.rid, h.version, h.updated, false
         from resource_history h
         where h.type = asked.type and not h.withheld and exists (select from resource n where n.rid = h.rid and in_sight(n)) and h.updated >= %(since)s and h.updated < %(until)s
           and h.updated <= %(updated)s and (h.updated, h.rid, h.version) < (%(updated)s, %(rid)s, %(version)s)
           and (h.updated >= %(low)s or not h.deleted
                and not exists (select from resource n
                                where n.rid = h.rid and n.version = h.version + 1 and n.updated <= %(low)s)
                and not exists (select from resource_history n
                                where n.rid = h.rid and n.version = h.version + 1 and n.updated <= %(low)s))
         order by h.updated desc, h.rid desc, h.version desc
         limit %(limit)s)
    ) one
    order by one.updated desc, one.rid desc, one.version desc
    limit %(limit)s
)
select r.rid, r.type, r.id, v.version, v.updated, v.deleted, v.doc, coalesce(p.deleted, false), case when v.deleted then p.doc end
from page
join resource r using (rid)
left join resource_history h on not page.is_current and h.rid = page.rid and h.version = page.version
cross join lateral (
    select page.version, page.updated,
           case when page.is_current then r.deleted else h.deleted end as deleted,
           case when page.is_current then r.doc else h.doc end as doc
) v
left join resource_history p on p.rid = page.rid and p.version = page.version - 1
order by page.updated desc, page.rid desc, page.version desc

-- name: count_of_types
-- How many versions such a walk meets from its beginning to its end.
select (select count(*) from resource r
        where r.type = any(%(types)s::smallint[]) and in_sight(r) and r.updated >= %(since)s and r.updated < %(until)s
          and (r.updated >= %(low)s or not r.deleted))
     + (select count(*) from resource_history h
        where h.type = any(%(types)s::smallint[]) and not h.withheld and exists (select from resource n where n.rid = h.rid and in_sight(n)) and h.updated >= %(since)s and h.updated < %(until)s
          and (h.updated >= %(low)s or not h.deleted
               and not exists (select from resource n
                               where n.rid = h.rid and n.version = h.version + 1 and n.updated <= %(low)s)
               and not exists (select from resource_history n
                               where n.rid = h.rid and n.version = h.version + 1 and n.updated <= %(low)s)))

-- name: of_instance
-- Versions of one resource below one of them, newest first.
select r.rid, r.type, r.id, v.version, v.updated, v.deleted, v.doc, coalesce(p.deleted, false), case when v.deleted then p.doc end
from resource r
cross join lateral (
    select r.version, r.updated, r.deleted, r.doc
    union all
    select h.version, h.updated, h.deleted, h.doc from resource_history h where h.rid = r.rid and not h.withheld
) v
left join resource_history p on p.rid = r.rid and p.version = v.version - 1
where r.type = %(type)s and r.id = %(id)s and in_sight(r) and v.version < %(version)s
  and v.updated >= %(since)s and v.updated < %(until)s
  and (v.updated >= %(low)s or not v.deleted
       and not (r.version = v.version + 1 and r.updated <= %(low)s)
       and not exists (select from resource_history n
                       where n.rid = r.rid and n.version = v.version + 1 and n.updated <= %(low)s))
order by v.version desc
limit %(limit)s

-- name: count_of_instance
-- How many versions such a walk of one resource meets.
select count(*)
from resource r
cross join lateral (
    select r.version, r.updated, r.deleted
    union all
    select h.version, h.updated, h.deleted from resource_history h where h.rid = r.rid and not h.withheld
) v
where r.type = %(type)s and r.id = %(id)s and in_sight(r)
  and v.updated >= %(since)s and v.updated < %(until)s
  and (v.updated >= %(low)s or not v.deleted
       and not (r.version = v.version + 1 and r.updated <= %(low)s)
       and not exists (select from resource_history n
                       where n.rid = r.rid and n.version = v.version + 1 and n.updated <= %(low)s))
