-- What the complete search needs beside tokens, periods and words (docs/adr/0003).
-- Existing rows are indexed again by the program when it starts: `index_version`.

-- own_hash: hash of Type/id. A reference is found under the hash of its parameter XOR the own_hash of its target, so one
-- statement can follow it either way. refs: the reference hashes of a resource. present: the numbers of the parameters
-- for which it has a value (:missing).
alter table resource
    add column own_hash bigint not null default 0,
    add column refs     bigint[],
    add column present  smallint[];
create index resource_own_hash on resource (own_hash);

-- Numbers and quantities: h is the hash of the parameter, alone or with a unit (as written, or its UCUM dimension, then in
-- base units), or of a composite with its token. low and high are both in the range.
create table measure (
    h    bigint not null,
    low  numeric not null,
    high numeric not null,
    rid  bigint not null,
    primary key (h, low, high, rid)
);
create index measure_of_resource on measure (rid, h) include (low, high);

-- Points on the globe: Location?near.
create table place (
    rid       bigint primary key,
    latitude  double precision not null,
    longitude double precision not null
);
create index place_latitude on place (latitude, longitude);

-- Words of the narrative: _text.
create table narrative (
    rid   bigint primary key,
    words tsvector not null
);
create index narrative_words on narrative using gin (words);

-- To sort by a text: the words of one resource.
create index word_of_resource on word (rid, param) include (folded);

-- How the index rows were made; a program that makes them otherwise makes them all again.
create table index_state (
    one     boolean primary key default true check (one),
    version integer not null
);
insert into index_state (version) select case when exists (select from resource) then 1 else 2 end;

alter table measure set (autovacuum_analyze_scale_factor = 0.02, autovacuum_vacuum_insert_scale_factor = 0.02);
