-- Whose document it is, as decisions that are never changed: each may be undone by a later one (docs/review.md). Rows hold ids, codes and what
-- a person typed as his reason; no name, no trait.
create table identity_event (
    tenant        smallint    not null default current_setting('dmst.tenant')::smallint,
    event_id      bigint      generated always as identity,
    at            timestamptz not null,
    kind          text        not null check (kind in (
        'attach', 'undo', 'not-this-worker', 'not-in-register', 'back-to-review', 'several-workers', 'non-transmissible',
        'second-opinion-asked', 'second-opinion-given', 'link', 'unlink',
        'collision-case-opened', 'collision-case-closed', 'duplicate-case-opened', 'duplicate-case-closed'
    )),
    lot           text        collate "C", -- the folder that it is about
    barcode       text        collate "C",
    resource      text        collate "C", -- or the resource (Type/id)
    patient_id    text        collate "C",
    other_patient_id text     collate "C",
    decided_by    text,                    -- null: the rule
    role          text,
    grade         text,
    score         double precision,
    model         text,
    explanation   jsonb       not null default '{}',
    reason        text,
    note          text,
    undoes        bigint,
    provenance_id text        collate "C",
    primary key (tenant, event_id)
);
create index identity_event_folder on identity_event (tenant, lot, barcode, event_id) where lot is not null;
create index identity_event_patient on identity_event (tenant, patient_id, event_id) where patient_id is not null;
create index identity_event_other on identity_event (tenant, other_patient_id, event_id) where other_patient_id is not null;
create index identity_event_kind on identity_event (tenant, kind, event_id);
create unique index identity_event_undone on identity_event (tenant, undoes) where undoes is not null;

-- What was attached before there were events can be undone too.
alter table scan_folder no force row level security;
insert into identity_event (tenant, at, kind, lot, barcode, patient_id, explanation)
select tenant, updated, 'attach', lot, barcode, patient_id,
       jsonb_build_object('reasons', coalesce(evidence -> 'reasons', '[]'), 'from', 'before-events')
from scan_folder where state = 'accepted' and patient_id is not null order by updated;
alter table scan_folder force row level security;

alter table identity_event enable row level security;
alter table identity_event force row level security;
create policy tenant on identity_event using (tenant = current_setting('dmst.tenant')::smallint);

create function identity_event_stays() returns trigger language plpgsql as $$
begin
    raise exception 'identity_event is only appended to' using errcode = 'restrict_violation';
end $$;
create trigger identity_event_stays before update or delete on identity_event
    for each row execute function identity_event_stays();
create trigger identity_event_stays_whole before truncate on identity_event
    for each statement execute function identity_event_stays();

-- A version that was in the record of somebody else by mistake: no path reads it.
alter table resource_history add column withheld boolean not null default false;

-- A document that was taken out of a record leaves its deliveries behind; filed anew, it has new ones.
alter table delivery add column withdrawn timestamptz;
alter table delivery drop constraint delivery_recipient_document_reference_id_key;
create unique index delivery_of_document on delivery (tenant, recipient, document_reference_id) where withdrawn is null;

-- Folders that wait: for a person, for a second one, or for their worker to be registered.
create index scan_folder_open on scan_folder (tenant, updated, lot, barcode) where state in ('to-review', 'second-opinion', 'aside');
