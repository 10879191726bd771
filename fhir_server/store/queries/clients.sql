-- name: add
-- A new client.
insert into client (client_id, name, secret_hash, scopes, role, jwks, jwks_uri, certificate_bound, purpose, worker)
values (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s)

-- name: find
-- A client that is not disabled.
select client_id, name, secret_hash, scopes, role, jwks, jwks_uri, certificate_bound
from client where client_id = %s and disabled is null

-- name: replace_keys
-- Other public keys of a client that has some.
update client set jwks = %s, jwks_uri = %s where client_id = %s and secret_hash is null and disabled is null

-- name: list
-- Every client.
select client_id, name, scopes, role, created, disabled,
    case when jwks is not null then 'keys' when jwks_uri is not null then 'keys at ' || jwks_uri else 'secret' end
from client order by created

-- name: disable
-- Shut a client out; its tokens go with the next query.
update client set disabled = now() where client_id = %s and disabled is null

-- name: drop_tokens
-- The tokens of a client that was shut out.
delete from access_token where client_id = %s

-- name: add_token
-- A token that was just given out.
insert into access_token (token_hash, client_id, scopes, expires, certificate) values (%s, %s, %s, %s, %s)

-- name: drop_expired
-- Tokens that nobody can use any more.
delete from access_token where expires < now()

-- name: find_token
-- Who holds this token, while it and its client are good.
select c.client_id, c.name, c.role, t.scopes, t.expires, t.certificate, c.purpose, c.worker,
       exists (select from delegation d where d.delegate = c.client_id and d.low <= now() and now() < d.high)
from access_token t join client c using (client_id)
where t.token_hash = %s and t.expires > now() and c.disabled is null

-- name: make_key
-- A key of this service, made once.
insert into server_key (purpose, key) values (%s, %s) on conflict do nothing

-- name: read_key
-- The key of a purpose.
select key from server_key where purpose = %s
