-- A client proves who it is by a secret or by a key pair (SMART Backend Services), of which the public keys are kept here or
-- published by the client at an address. A token may be bound to the TLS certificate of its client (RFC 8705).
alter table client alter column secret_hash drop not null;
alter table client add column jwks text;
alter table client add column jwks_uri text;
alter table client add column certificate_bound boolean not null default false;
alter table client add constraint one_proof check (num_nonnulls(secret_hash, jwks, jwks_uri) = 1);
alter table access_token add column certificate bytea;
