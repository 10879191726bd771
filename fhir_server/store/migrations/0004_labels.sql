-- The profiles, tags and security labels that were ever put on a resource, so that $meta of a type need not read them all.
-- The search index says which of them are in use: rows here stay.

create table label (
    kind    smallint not null,  -- 1 profile, 2 tag, 3 security label
    system  text collate "C" not null,  -- '' where it has none
    code    text collate "C" not null,  -- of a profile its url
    display text
);
-- Urls may be longer than an index bears.
create unique index label_identity on label (kind, hashtextextended(system, 0), hashtextextended(code, 0));

insert into label (kind, system, code, display)
select 1, '', p.url, null
from resource r
cross join lateral json_array_elements_text(convert_from(r.doc, 'UTF8')::json #> '{meta,profile}') as p(url)
where r.doc is not null and p.url is not null
union all
select k.kind, coalesce(l.label ->> 'system', ''), l.label ->> 'code', l.label ->> 'display'
from resource r
cross join (values (2, 'tag'), (3, 'security')) as k(kind, name)
cross join lateral json_array_elements(convert_from(r.doc, 'UTF8')::json #> array['meta', k.name]) as l(label)
where r.doc is not null and l.label ->> 'code' is not null
on conflict do nothing;
