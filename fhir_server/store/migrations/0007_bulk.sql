-- Bulk data: what was asked ($export, $import), how far it is, and what came of it. docs/bulk.md
-- Cancelling or purging a job is deleting its row; everything else goes with it.

create table bulk_job (
    job_id    text collate "C" primary key,
    kind      text not null,
    state     text not null default 'accepted',
    caller    jsonb not null,
    request   jsonb not null,
    at        timestamptz not null,
    reached   bigint not null default 0,
    until     bigint,
    problem   text,
    expires   timestamptz not null
);
create index bulk_job_expires on bulk_job (expires);

-- The files of an export, as far as they are on disk for good: bytes beyond `size` do not count.
create table bulk_file (
    job_id    text collate "C" not null references bulk_job on delete cascade,
    name      text not null,
    kind      text not null,
    type      smallint not null,
    resources bigint not null,
    size      bigint not null,
    primary key (job_id, name)
);

-- What a `_typeFilter` or a list of patients selected, at the moment of the export.
create table bulk_selected (
    job_id text collate "C" not null references bulk_job on delete cascade,
    rid    bigint not null,
    primary key (job_id, rid)
);

-- The workers whom a job has met: each leaves one row in the access trail.
create table bulk_subject (
    job_id     text collate "C" not null references bulk_job on delete cascade,
    patient_id text collate "C" not null,
    primary key (job_id, patient_id)
);

-- The files of an import. `reached` bytes and `lines` lines are done with.
create table bulk_input (
    job_id   text collate "C" not null references bulk_job on delete cascade,
    position integer not null,
    type     smallint,
    name     text not null,
    size     bigint not null,
    modified bigint not null,
    reached  bigint not null default 0,
    lines    bigint not null default 0,
    kept     bigint not null default 0,
    refused  bigint not null default 0,
    primary key (job_id, position)
);

-- Lines that refer to what is not here yet: they are written after everything else, or refused.
create table bulk_deferred (
    job_id   text collate "C" not null references bulk_job on delete cascade,
    position integer not null,
    line     bigint not null,
    start    bigint not null,
    length   bigint not null,
    type     smallint not null,
    id       text collate "C" not null,
    primary key (job_id, position, line)
);
create index bulk_deferred_identity on bulk_deferred (job_id, type, id);
create table bulk_forward (
    job_id   text collate "C" not null references bulk_job on delete cascade,
    position integer not null,
    line     bigint not null,
    place    text not null,
    type     smallint not null,
    id       text collate "C" not null
);
create index bulk_forward_line on bulk_forward (job_id, position, line);

-- Lines that were refused, and why.
create table bulk_refusal (
    job_id   text collate "C" not null references bulk_job on delete cascade,
    position integer not null,
    line     bigint not null,
    issues   jsonb not null,
    primary key (job_id, position, line)
);
