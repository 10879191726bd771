"""SMART Backend Services: a client that signs gets a token, and nobody else does.

https://hl7.org/fhir/smart-app-launch/STU2.2/client-confidential-asymmetric.html
"""

import secrets
import time
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
from pydantic import SecretStr

from fhir_server.rest.oauth.assertion import NO_KEY
from fhir_server.settings import Settings
from fhir_server.store.clients import Clients
from tests.oauth import (
    TOKEN_URL,
    Publisher,
    Signer,
    assertion_claims,
    form,
    key_set,
    publishing,
    signer,
    unsigned,
    with_public_key_as_secret,
)
from tests.support import Server, serving

SCOPES = ("system/Patient.rs", "system/Observation.crs")


@pytest.fixture
def settings(make_settings: Callable[..., Settings]) -> Settings:
    return make_settings(outbound_loopback=True)


@pytest.fixture
def keys() -> Signer:
    return signer()


@pytest.fixture
async def client_id(server: Server, keys: Signer) -> str:
    """A client whose public key is kept here."""
    return await Clients(server.database).add_with_keys("Backend", SCOPES, "external-system", jwks=key_set(keys))


@pytest.fixture
def publisher() -> Iterator[Publisher]:
    with publishing() as one:
        yield one


async def ask(http: httpx.AsyncClient, assertion: str, **more: str) -> httpx.Response:
    return await http.post("/oauth2/token", data=form(assertion, **more))


def refusal(answer: httpx.Response) -> tuple[int, str, str]:
    told = answer.json()
    return answer.status_code, told["error"], told.get("error_description", "")


@pytest.mark.parametrize("algorithm", ["RS256", "RS384", "RS512", "PS384", "ES256", "ES384", "ES512"])
async def test_a_client_that_signs_gets_a_token(server: Server, anonymous: httpx.AsyncClient, algorithm: str) -> None:
    """With each algorithm that is offered; the token opens what the client may see."""
    keys = signer(algorithm)
    client_id = await Clients(server.database).add_with_keys("b", SCOPES, "external-system", jwks=key_set(keys))
    answer = await ask(anonymous, keys.sign(assertion_claims(client_id)), scope="system/Patient.r")
    assert answer.status_code == 200, answer.text
    told = answer.json()
    assert (told["token_type"], told["expires_in"], told["scope"]) == ("Bearer", 900, "system/Patient.r")
    assert (answer.headers["cache-control"], answer.headers["pragma"]) == ("no-store", "no-cache")
    headers = {"authorization": f"Bearer {told['access_token']}"}
    assert (await anonymous.get("/fhir/Patient/nobody", headers=headers)).status_code == 404
    assert (await anonymous.get("/fhir/Patient", headers=headers)).status_code == 403


async def test_the_client_id_may_stand_beside_the_assertion(
    anonymous: httpx.AsyncClient, client_id: str, keys: Signer
) -> None:
    """Where it does, it is that of the assertion."""
    right = await ask(anonymous, keys.sign(assertion_claims(client_id)), client_id=client_id)
    assert right.status_code == 200
    wrong = await ask(anonymous, keys.sign(assertion_claims(client_id)), client_id="another")
    assert refusal(wrong) == (401, "invalid_client", "iss and sub are both the client_id")


WRONG_CLAIMS: dict[str, tuple[dict[str, Any], str]] = {
    "aud of the FHIR base": ({"aud": "http://test/fhir"}, f"aud is not {TOKEN_URL}"),
    "aud of somebody else too": ({"aud": [TOKEN_URL, "https://elsewhere.example/token"]}, f"aud is not {TOKEN_URL}"),
    "no aud": ({"aud": None}, "aud is missing or malformed"),
    "aud is a number": ({"aud": 7}, "aud is missing or malformed"),
    "another sub": ({"sub": "another"}, "iss and sub are both the client_id"),
    "no sub": ({"sub": None}, "iss and sub are both the client_id"),
    "another iss": ({"iss": "another"}, "iss and sub are both the client_id"),
    "no iss": ({"iss": None}, "iss and sub are both the client_id"),
    "no jti": ({"jti": None}, "jti is a text of 1 to 255 characters"),
    "jti is a number": ({"jti": 5}, "jti is a text of 1 to 255 characters"),
    "a long jti": ({"jti": "x" * 256}, "jti is a text of 1 to 255 characters"),
    "no exp": ({"exp": None}, "exp is missing"),
    "exp is a text": ({"exp": "soon"}, "exp is no number of seconds"),
    "exp is true": ({"exp": True}, "exp is no number of seconds"),
}


@pytest.mark.parametrize("case", WRONG_CLAIMS)
async def test_wrong_claims_are_told(anonymous: httpx.AsyncClient, client_id: str, keys: Signer, case: str) -> None:
    """Which one, and what it should be; signed by the right key as they are."""
    changes, expected = WRONG_CLAIMS[case]
    answer = await ask(anonymous, keys.sign(assertion_claims(client_id, **changes)))
    assert refusal(answer) == (401, "invalid_client", expected)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"exp": -1}, "the token has expired"),
        ({"exp": 0}, "the token has expired"),
        ({"exp": 330}, "exp is more than 300 seconds ahead"),
        ({"exp": 200, "nbf": 60}, "nbf is in the future"),
        ({"exp": 200, "iat": 60}, "iat is in the future"),
    ],
)
async def test_an_assertion_has_its_time(
    anonymous: httpx.AsyncClient, client_id: str, keys: Signer, changes: dict[str, int], expected: str
) -> None:
    """Five minutes at most, none after its end."""
    times = {name: int(time.time()) + ahead for name, ahead in changes.items()}
    answer = await ask(anonymous, keys.sign(assertion_claims(client_id, **times)))
    assert refusal(answer) == (401, "invalid_client", expected)


async def test_an_assertion_is_taken_once(anonymous: httpx.AsyncClient, client_id: str, keys: Signer) -> None:
    """Whoever reads it on its way can do nothing with it; the same jti in another one is a replay too."""
    assertion = keys.sign(assertion_claims(client_id, jti="once"))
    assert (await ask(anonymous, assertion)).status_code == 200
    for again in (assertion, keys.sign(assertion_claims(client_id, jti="once", exp=int(time.time()) + 30))):
        assert refusal(await ask(anonymous, again)) == (401, "invalid_client", "this jti was used before")


async def test_an_assertion_that_is_refused_uses_up_no_jti(
    anonymous: httpx.AsyncClient, client_id: str, keys: Signer
) -> None:
    """Otherwise anybody could use up those of others."""
    claims = assertion_claims(client_id)
    assert (await ask(anonymous, signer(kid=keys.kid).sign(claims))).status_code == 401
    assert (await ask(anonymous, keys.sign(claims))).status_code == 200


async def test_two_clients_may_have_the_same_jti(server: Server, anonymous: httpx.AsyncClient, keys: Signer) -> None:
    """It is remembered by client."""
    clients = Clients(server.database)
    for name in ("a", "b"):
        client_id = await clients.add_with_keys(name, SCOPES, "external-system", jwks=key_set(keys))
        assert (await ask(anonymous, keys.sign(assertion_claims(client_id, jti="same")))).status_code == 200


async def test_forged_assertions(anonymous: httpx.AsyncClient, client_id: str, keys: Signer) -> None:
    """Not signed, signed with what everybody knows, by another key, under another name, changed on the way."""
    claims = assertion_claims(client_id)
    good = keys.sign(claims)
    header, _, signature = good.split(".")
    other = keys.sign(assertion_claims(client_id)).split(".")[1]
    refused = {
        unsigned(claims, kid=keys.kid): "the algorithm is not one of",
        unsigned(claims, "None", kid=keys.kid): "the algorithm is not one of",
        with_public_key_as_secret(claims, keys): "the algorithm is not one of",
        unsigned(claims, keys.algorithm, kid=keys.kid): NO_KEY,
        f"{header}.{other}.{signature}": NO_KEY,
        signer(kid=keys.kid).sign(claims): NO_KEY,
        signer("RS384", keys.kid).sign(claims): NO_KEY,
        signer("ES256", keys.kid).sign(claims): NO_KEY,
        keys.sign(claims, kid="unknown"): NO_KEY,
        keys.sign(claims, kid=None): "the header names no key (kid)",
        keys.sign(claims, typ="at+jwt"): "the header has a typ other than JWT",
        keys.sign(claims, jku="https://elsewhere.example/keys"): NO_KEY,
        keys.sign({**claims, "iss": "nobody", "sub": "nobody"}): NO_KEY,
        good.rpartition(".")[0]: "not a signed JWT in compact form",
        "a.b.c": "not a signed JWT in compact form",
        "x" * 20_000: "not a signed JWT in compact form",
    }
    for assertion, expected in refused.items():
        status, code, described = refusal(await ask(anonymous, assertion))
        assert (status, code) == (401, "invalid_client")
        assert described.startswith(expected), (described, expected)
    assert (await ask(anonymous, good)).status_code == 200, "none of them spoiled it"


async def test_one_proof_at_a_time(server: Server, anonymous: httpx.AsyncClient, client_id: str, keys: Signer) -> None:
    """Two are an invalid request (RFC 6749 section 2.3); another type of assertion too."""
    with_secret = await server.client(SCOPES)
    assertion = keys.sign(assertion_claims(client_id))
    for more, auth in (
        ({"client_secret": "x"}, None),
        ({}, (with_secret.client_id, with_secret.secret)),
        ({"client_assertion_type": "urn:ietf:params:oauth:client-assertion-type:saml2-bearer"}, None),
    ):
        answer = await anonymous.post("/oauth2/token", data={**form(assertion), **more}, auth=auth)
        assert (answer.status_code, answer.json()["error"]) == (400, "invalid_request")


@pytest.mark.parametrize("guess", ["", "nobody", "None"])
async def test_a_client_that_signs_has_no_secret(anonymous: httpx.AsyncClient, client_id: str, guess: str) -> None:
    """So none fits."""
    answer = await anonymous.post("/oauth2/token", data={"grant_type": "client_credentials"}, auth=(client_id, guess))
    assert (answer.status_code, answer.json()) == (401, {"error": "invalid_client"})


async def test_a_client_with_a_secret_does_not_sign(server: Server, anonymous: httpx.AsyncClient, keys: Signer) -> None:
    """There is no key of it."""
    client = await server.client(SCOPES)
    assert refusal(await ask(anonymous, keys.sign(assertion_claims(client.client_id))))[2] == NO_KEY


async def test_a_client_that_is_shut_out_gets_no_token(
    server: Server, anonymous: httpx.AsyncClient, client_id: str, keys: Signer
) -> None:
    """As if it had never been."""
    await Clients(server.database).disable(client_id)
    assert refusal(await ask(anonymous, keys.sign(assertion_claims(client_id))))[2] == NO_KEY


@pytest.mark.parametrize(
    "scope",
    [
        "system/*.rs",
        "system/Patient.rs system/Consent.r",
        "system/Patient.cr",
        "system/Consent.r?status=active",
        "system/Patient.rs?general-practitioner:Practitioner.name=x",
        "system/Patient.rs?_count=1",
        "user/Patient.r",
        "patient/Patient.r",
        "system/Patient.read",
        "openid",
    ],
)
async def test_what_is_not_the_clients_is_not_granted(
    anonymous: httpx.AsyncClient, client_id: str, keys: Signer, scope: str
) -> None:
    """Nor what would have to be enforced and is not: a constraint, the rights of a person."""
    answer = await ask(anonymous, keys.sign(assertion_claims(client_id)), scope=scope)
    assert refusal(answer)[:2] == (400, "invalid_scope")


async def test_less_may_be_asked_in_any_words(anonymous: httpx.AsyncClient, client_id: str, keys: Signer) -> None:
    """A part of the letters of one scope, a part of several."""
    answer = await ask(anonymous, keys.sign(assertion_claims(client_id)), scope="system/Observation.c system/Patient.s")
    assert answer.json()["scope"] == "system/Observation.c system/Patient.s"
    answer = await ask(anonymous, keys.sign(assertion_claims(client_id)), scope="system/Patient.r?gender=male")
    assert answer.json()["scope"] == "system/Patient.r?gender=male"


async def test_keys_that_are_published_are_fetched_and_kept(
    server: Server, anonymous: httpx.AsyncClient, publisher: Publisher
) -> None:
    """Once for many requests; what is not there is not asked for again and again."""
    old, new = signer(kid="old"), signer("RS384", "new")
    uri = publisher.publish("/jwks", key_set(old))
    client_id = await Clients(server.database).add_with_keys("b", SCOPES, "external-system", jwks_uri=uri)
    for _ in range(3):
        assert (await ask(anonymous, old.sign(assertion_claims(client_id)))).status_code == 200
    assert publisher.count("/jwks") == 1
    for kid in ("never", "ever", "seen"):
        assert refusal(await ask(anonymous, new.sign(assertion_claims(client_id), kid=kid)))[2] == NO_KEY
    assert publisher.count("/jwks") == 1, "no more often than every 30 seconds, whatever is asked"


async def test_the_address_of_the_keys_may_be_named_and_is_not_obeyed(
    server: Server, anonymous: httpx.AsyncClient, publisher: Publisher
) -> None:
    """`jku` is the registered address or a refusal; nothing else is ever fetched."""
    keys, thief = signer(), signer()
    uri = publisher.publish("/jwks", key_set(keys))
    elsewhere = publisher.publish("/thief", key_set(thief))
    client_id = await Clients(server.database).add_with_keys("b", SCOPES, "external-system", jwks_uri=uri)
    assert (await ask(anonymous, keys.sign(assertion_claims(client_id), jku=uri))).status_code == 200
    assert refusal(await ask(anonymous, thief.sign(assertion_claims(client_id), jku=elsewhere)))[2] == NO_KEY
    assert publisher.count("/thief") == 0


async def test_keys_that_cannot_be_fetched_are_a_503(
    server: Server, anonymous: httpx.AsyncClient, publisher: Publisher
) -> None:
    """It is not the fault of the client, which may try again."""
    client_id = await Clients(server.database).add_with_keys(
        "b", SCOPES, "external-system", jwks_uri=f"{publisher.url}/nothing"
    )
    answer = await ask(anonymous, signer().sign(assertion_claims(client_id)))
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")


async def test_keys_are_replaced(server: Server, anonymous: httpx.AsyncClient, client_id: str, keys: Signer) -> None:
    """Old and new for a time, then the new alone; from the next request on."""
    new, clients = signer("RS384", "k2"), Clients(server.database)
    assert await clients.replace_keys(client_id, jwks=key_set(keys, new))
    for one in (keys, new):
        assert (await ask(anonymous, one.sign(assertion_claims(client_id)))).status_code == 200
    assert await clients.replace_keys(client_id, jwks=key_set(new))
    assert refusal(await ask(anonymous, keys.sign(assertion_claims(client_id))))[2] == NO_KEY
    assert (await ask(anonymous, new.sign(assertion_claims(client_id)))).status_code == 200
    with_secret = await server.client(SCOPES)
    assert not await clients.replace_keys(with_secret.client_id, jwks=key_set(new)), "one proof stays one proof"


async def test_without_redis_no_assertion_is_taken(make_settings: Callable[..., Settings]) -> None:
    """Nobody could tell a replay. Secrets are still taken."""
    keys = signer()
    async with serving(make_settings(redis=SecretStr("unix:///nonexistent/redis.sock"))) as server:
        http = await server.http({})
        client_id = await Clients(server.database).add_with_keys("b", SCOPES, "external-system", jwks=key_set(keys))
        assert (await ask(http, keys.sign(assertion_claims(client_id)))).status_code == 503
        client = await server.client(SCOPES)
        given = {"grant_type": "client_credentials", "client_id": client.client_id, "client_secret": client.secret}
        assert (await http.post("/oauth2/token", data=given)).status_code == 200


async def test_the_smart_configuration_says_what_is_there(
    server: Server, anonymous: httpx.AsyncClient, client_id: str, keys: Signer
) -> None:
    """Each line is asked: the endpoint, the methods, the grant, the scopes. No endpoint that is not built."""
    answer = await anonymous.get("/fhir/.well-known/smart-configuration")
    assert (answer.status_code, answer.headers["content-type"]) == (200, "application/json")
    told = answer.json()
    assert told.keys() == {
        "token_endpoint",
        "token_endpoint_auth_methods_supported",
        "token_endpoint_auth_signing_alg_values_supported",
        "grant_types_supported",
        "scopes_supported",
        "capabilities",
    }
    assert (told["token_endpoint"], told["grant_types_supported"]) == (TOKEN_URL, ["client_credentials"])
    assert {"RS384", "ES384"} <= set(told["token_endpoint_auth_signing_alg_values_supported"])
    grant = {"grant_type": "client_credentials"}
    by_secret = await server.client(told["scopes_supported"])
    proofs: dict[str, dict[str, Any]] = {
        "private_key_jwt": {"data": form(keys.sign(assertion_claims(client_id)))},
        "client_secret_basic": {"data": grant, "auth": (by_secret.client_id, by_secret.secret)},
        "client_secret_post": {"data": {**grant, "client_id": by_secret.client_id, "client_secret": by_secret.secret}},
    }
    assert proofs.keys() == set(told["token_endpoint_auth_methods_supported"])
    for request in proofs.values():
        assert (await anonymous.post(told["token_endpoint"], **request)).status_code == 200
    assert set(told["capabilities"]) == {
        "client-confidential-asymmetric",
        "client-confidential-symmetric",
        "permission-v2",
    }


async def test_the_capability_statement_leads_to_the_token(anonymous: httpx.AsyncClient) -> None:
    """The security service is SMART-on-FHIR, and its extension names the token endpoint."""
    security = (await anonymous.get("/fhir/metadata")).json()["rest"][0]["security"]
    assert [one["coding"][0]["code"] for one in security["service"]] == ["SMART-on-FHIR", "OAuth"]
    (extension,) = security["extension"]
    assert extension["url"] == "http://fhir-registry.smarthealthit.org/StructureDefinition/oauth-uris"
    assert extension["extension"] == [{"url": "token", "valueUri": TOKEN_URL}]


async def test_a_random_body_is_a_refusal(anonymous: httpx.AsyncClient, client_id: str) -> None:
    """Never a 500."""
    for _ in range(20):
        answer = await ask(anonymous, f"{secrets.token_urlsafe(9)}.{secrets.token_urlsafe(30)}.{secrets.token_hex(3)}")
        assert refusal(answer)[:2] == (401, "invalid_client")
