"""Tokens: OAuth 2.0 client credentials (RFC 6749 section 4.4), and who may do without."""

import asyncio
import time
from collections.abc import Callable
from urllib.parse import quote

import httpx
import pytest

from fhir_server.app import Parts
from fhir_server.caller import check_scopes
from fhir_server.outcomes import Unauthenticated
from fhir_server.rest.authentication import Authentication
from fhir_server.settings import Settings
from fhir_server.store.clients import Clients
from tests.support import EVERYTHING, Server, codes, patient, put

GRANT = {"grant_type": "client_credentials"}
ATTEMPTS = 4


@pytest.fixture
def settings(make_settings: Callable[..., Settings]) -> Settings:
    return make_settings(token_attempts_per_minute=ATTEMPTS, token_minutes=7)


async def test_a_client_gets_a_token_by_basic_or_by_form(server: Server, anonymous: httpx.AsyncClient) -> None:
    """Either way the token opens the door, and no cache keeps it."""
    client = await server.client(EVERYTHING)
    by_basic = await anonymous.post("/oauth2/token", data=GRANT, auth=(client.client_id, client.secret))
    by_form = await anonymous.post(
        "/oauth2/token", data={**GRANT, "client_id": client.client_id, "client_secret": client.secret}
    )
    for answer in (by_basic, by_form):
        assert answer.status_code == 200
        assert answer.headers["cache-control"] == "no-store"
        given = answer.json()
        assert (given["token_type"], given["expires_in"], given["scope"]) == ("Bearer", 7 * 60, "system/*.cruds")
        headers = {"authorization": f"Bearer {given['access_token']}"}
        assert (await anonymous.get("/fhir/Patient", headers=headers)).status_code == 200


async def test_parts_of_basic_are_form_encoded(server: Server, anonymous: httpx.AsyncClient) -> None:
    """RFC 6749 section 2.3.1."""
    client = await server.client(EVERYTHING)
    secret = "".join(f"%{ord(character):02X}" for character in client.secret)
    answer = await anonymous.post("/oauth2/token", data=GRANT, auth=(quote(client.client_id), secret))
    assert answer.status_code == 200


@pytest.mark.parametrize("authorization", ["Basic", "Basic ####", "Basic bm9jb2xvbg==", "Bearer x", "Digest x"])
async def test_a_header_that_is_no_basic_is_an_invalid_client(anonymous: httpx.AsyncClient, authorization: str) -> None:
    """401, not a crash."""
    answer = await anonymous.post("/oauth2/token", data=GRANT, headers={"authorization": authorization})
    assert (answer.status_code, answer.json()) == (401, {"error": "invalid_client"})


async def test_a_wrong_secret_and_an_unknown_client_are_told_the_same(
    server: Server, anonymous: httpx.AsyncClient
) -> None:
    """Nobody learns which clients there are."""
    client = await server.client(EVERYTHING)
    wrong = await anonymous.post("/oauth2/token", data=GRANT, auth=(client.client_id, "wrong"))
    unknown = await anonymous.post("/oauth2/token", data=GRANT, auth=("nobody-" + client.client_id, "wrong"))
    assert (
        (wrong.status_code, wrong.json()) == (unknown.status_code, unknown.json()) == (401, {"error": "invalid_client"})
    )


async def test_guessing_is_slowed_down(server: Server, anonymous: httpx.AsyncClient) -> None:
    """After some wrong secrets even the right one has to wait; other clients do not."""
    if time.time() % 60 > 55:
        await asyncio.sleep(6)  # attempts are counted by the minute
    client, other = await server.client(EVERYTHING), await server.client(EVERYTHING)
    for _ in range(ATTEMPTS):
        assert (await anonymous.post("/oauth2/token", data=GRANT, auth=(client.client_id, "wrong"))).status_code == 401
    answer = await anonymous.post("/oauth2/token", data=GRANT, auth=(client.client_id, client.secret))
    assert (answer.status_code, "retry-after" in answer.headers) == (429, True)
    assert (await anonymous.post("/oauth2/token", data=GRANT, auth=(other.client_id, other.secret))).status_code == 200


async def test_who_guesses_does_not_lock_out_who_knows(server: Server, anonymous: httpx.AsyncClient) -> None:
    """The id of a client is no secret: a stranger who has it must not keep the client from its tokens."""
    client = await server.client(EVERYTHING)

    async def ask(secret: str) -> int:
        return (await anonymous.post("/oauth2/token", data=GRANT, auth=(client.client_id, secret))).status_code

    assert await ask(client.secret) == 200
    assert 429 in [await ask("wrong") for _ in range(2 * ATTEMPTS + 1)]
    assert await ask(client.secret) == 200
    await Clients(server.database).disable(client.client_id)
    assert await ask(client.secret) in (401, 429)


async def test_right_secrets_are_not_counted(server: Server, anonymous: httpx.AsyncClient) -> None:
    """A busy client is not a guesser."""
    client = await server.client(EVERYTHING)
    for _ in range(ATTEMPTS + 2):
        assert (
            await anonymous.post("/oauth2/token", data=GRANT, auth=(client.client_id, client.secret))
        ).status_code == 200


async def test_a_client_may_ask_for_less_and_not_for_more(server: Server, anonymous: httpx.AsyncClient) -> None:
    """The token carries what was asked for, of what the client has."""
    client = await server.client(("system/Patient.rs", "system/Observation.r"))
    auth = (client.client_id, client.secret)
    less = await anonymous.post("/oauth2/token", data={**GRANT, "scope": "system/Observation.r"}, auth=auth)
    assert less.json()["scope"] == "system/Observation.r"
    headers = {"authorization": f"Bearer {less.json()['access_token']}"}
    assert (await anonymous.get("/fhir/Patient", headers=headers)).status_code == 403
    for scope in ("system/*.cruds", "system/Patient.rs system/Consent.r", "nonsense"):
        answer = await anonymous.post("/oauth2/token", data={**GRANT, "scope": scope}, auth=auth)
        assert (answer.status_code, answer.json()) == (400, {"error": "invalid_scope"})


@pytest.mark.parametrize("grant", ["", "password", "authorization_code"])
async def test_there_is_one_grant(server: Server, anonymous: httpx.AsyncClient, grant: str) -> None:
    """Others are unsupported."""
    client = await server.client(EVERYTHING)
    answer = await anonymous.post("/oauth2/token", data={"grant_type": grant}, auth=(client.client_id, client.secret))
    assert (answer.status_code, answer.json()) == (400, {"error": "unsupported_grant_type"})


async def test_a_secret_in_the_url_is_not_read(server: Server, anonymous: httpx.AsyncClient) -> None:
    """It would end in logs."""
    client = await server.client(EVERYTHING)
    url = f"/oauth2/token?grant_type=client_credentials&client_id={client.client_id}&client_secret={client.secret}"
    assert (await anonymous.post(url)).status_code == 400
    assert (await anonymous.get(url)).status_code == 405


async def test_neither_secrets_nor_tokens_are_kept_in_clear(server: Server, anonymous: httpx.AsyncClient) -> None:
    """Who steals the database cannot log in with it."""
    client = await server.client(EVERYTHING)
    answer = await anonymous.post("/oauth2/token", data=GRANT, auth=(client.client_id, client.secret))
    rows = await server.rows("select client::text from client union all select access_token::text from access_token")
    assert not any(secret in text for (text,) in rows for secret in (client.secret, answer.json()["access_token"]))


async def test_a_client_that_is_shut_out_loses_its_access(parts: Parts) -> None:
    """At the latest when what was remembered of it is forgotten; a new token it gets never."""
    client_id, _ = await parts.clients.add("x", EVERYTHING, "external-system")
    token, _ = await parts.clients.give_token(client_id, EVERYTHING, 15)
    header = f"Bearer {token}".encode()
    authentication = Authentication(parts.clients, remembered=0.3)
    assert (await authentication.caller(header)).client_id == client_id
    assert await parts.clients.disable(client_id)
    assert (await authentication.caller(header)).client_id == client_id
    await asyncio.sleep(0.35)
    with pytest.raises(Unauthenticated):
        await authentication.caller(header)
    assert await parts.clients.find(client_id) is None
    assert not await parts.clients.disable(client_id)


async def test_a_client_that_is_shut_out_gets_no_token(server: Server, anonymous: httpx.AsyncClient) -> None:
    """Over HTTP: as if it had never been."""
    client = await server.client(EVERYTHING)
    await Clients(server.database).disable(client.client_id)
    answer = await anonymous.post("/oauth2/token", data=GRANT, auth=(client.client_id, client.secret))
    assert (answer.status_code, answer.json()) == (401, {"error": "invalid_client"})


async def test_a_token_ends(parts: Parts) -> None:
    """An expired token is no token, remembered or not."""
    client_id, _ = await parts.clients.add("x", EVERYTHING, "external-system")
    token, seconds = await parts.clients.give_token(client_id, EVERYTHING, 1)
    assert seconds == 60
    authentication = Authentication(parts.clients)
    async with parts.database.connection() as connection:
        await connection.execute("update access_token set expires = now() + interval '300 milliseconds'")
    header = f"Bearer {token}".encode()
    await authentication.caller(header)
    await asyncio.sleep(0.35)
    with pytest.raises(Unauthenticated):
        await authentication.caller(header)


@pytest.mark.parametrize(
    "header", [{}, {"authorization": "Bearer unknown"}, {"authorization": "Basic eDp5"}, {"authorization": "Bearer "}]
)
@pytest.mark.parametrize("path", ["Patient/p", "Patient", "Patient/p/_history", "AuditEvent", "Binary/b"])
async def test_without_a_good_token_nothing_is_told(
    anonymous: httpx.AsyncClient, path: str, header: dict[str, str]
) -> None:
    """401 with the challenge, whether the resource exists or not."""
    answer = await anonymous.get(f"/fhir/{path}", headers=header)
    assert (answer.status_code, codes(answer)) == (401, ["login"])
    assert answer.headers["www-authenticate"].startswith("Bearer")


async def test_anybody_may_see_what_this_server_is_and_how_it_fares(anonymous: httpx.AsyncClient) -> None:
    """/metadata and health need no token; nothing in them is about anybody."""
    assert (await anonymous.get("/fhir/metadata")).status_code == 200
    assert (await anonymous.get("/livez")).json() == {"status": "ok"}
    ready = await anonymous.get("/readyz")
    assert (ready.status_code, ready.json()) == (
        200,
        {"status": "ok", "postgres": "ok", "blobs": "ok", "redis": "ok"},
    )
    for path in ("/redoc", "/"):
        assert (await anonymous.get(path)).status_code == 404


async def test_without_redis_attempts_are_counted_all_the_same(make_settings: Callable[..., Settings]) -> None:
    """Redis holds only what may be lost: its loss is reported and borne."""
    from pydantic import SecretStr

    from tests.support import serving

    gone = make_settings(redis=SecretStr("unix:///nonexistent/redis.sock"), token_attempts_per_minute=2)
    async with serving(gone) as server:
        client = await server.client(EVERYTHING)
        http = await server.http({})
        for expected in (401, 401, 429):
            answer = await http.post("/oauth2/token", data=GRANT, auth=(client.client_id, "wrong"))
            assert answer.status_code == expected
        ready = await http.get("/readyz")
        assert (ready.status_code, ready.json()["redis"]) == (200, "out of reach")
        assert (await put(client.http, patient("p"))).status_code == 201


@pytest.mark.parametrize("scope", ["system/*.cruds", "system/Patient.r", "system/Patient.rs", "system/Binary.c"])
def test_scopes_that_this_server_understands(scope: str) -> None:
    """SMART v2 system scopes."""
    assert check_scopes([scope, scope]) == (scope,)


@pytest.mark.parametrize(
    "scope",
    ["", "patient/*.r", "system/Patient.read", "system/Nobody.r", "system/Patient.", "system/Patient.sr", "user/*.*"],
)
def test_scopes_that_it_does_not(scope: str) -> None:
    """Refused when a client is made, not ignored afterwards."""
    with pytest.raises(ValueError, match="not a scope"):
        check_scopes([scope])
