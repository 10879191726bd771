-- Search parameters that are added at run time, the words of whole resources, and a faster search inside words
-- (docs/adr/0003).

-- One row per definition that was ever in use: rows stay, so that a number is never given twice. `seen` is when a process
-- first found it here, or when it was retired: from then on every process can know of that. Indexing goes by internal key:
-- `walked` was done, `upto` is the last that may have been written by somebody who did not know the parameter. Once it is
-- retired, its words and dates are deleted; then it is `forgotten`.
create table custom_parameter (
    number      smallint primary key check (number between 20001 and 32767),
    resource_id text collate "C" not null,
    url         text not null,
    definition  jsonb not null,
    state       text not null default 'announced' check (state in ('announced', 'indexing', 'active', 'retired')),
    announced   timestamptz not null default clock_timestamp(),
    seen        timestamptz,
    walked      bigint not null default 0,
    upto        bigint,
    done        bigint not null default 0,
    of          bigint not null default 0,
    forgotten   boolean not null default false
);
create unique index custom_parameter_resource on custom_parameter (resource_id) where state <> 'retired';
create unique index custom_parameter_url on custom_parameter (url) where state <> 'retired';

-- Words of everything that a resource says: _content, where it is switched on.
create table content (
    rid   bigint primary key,
    words tsvector not null
);
create index content_words on content using gin (words);

alter table index_state add column content boolean not null default false;
-- Nothing to index again where there is nothing.
update index_state set version = 4 where not exists (select from resource);

-- `:contains` and `co` look inside the strings of all resources: trigrams where PostgreSQL has them and this role may
-- create the extension. What is only compared from its beginning (uris, what is shown for codes) has negative numbers.
do $$
begin
    create extension if not exists pg_trgm;
    create index word_trigrams on word using gin (folded gin_trgm_ops) where param > 0;
exception when others then
    raise notice 'no trigram index: %', sqlerrm;
end $$;
