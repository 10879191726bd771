-- History of a type and of the system (https://hl7.org/fhir/R4/http.html#history): earlier versions are walked by type
-- and time, newest first, as `resource_updated` lets the current ones be.
alter table resource_history add column type smallint;
update resource_history h set type = r.type from resource r where r.rid = h.rid;
alter table resource_history alter column type set not null;
create index resource_history_updated on resource_history (type, updated desc, rid desc, version desc);
