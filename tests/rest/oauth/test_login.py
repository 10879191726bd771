"""Persons: they log in at their provider, with PKCE and two factors, and have a session that ends.

Against a real provider (Authlib), and one that is like Pro Santé Connect.
"""

import asyncio
import secrets
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
from pydantic import SecretStr, ValidationError

from fhir_server.caller import Caller
from fhir_server.outcomes import BadParameter, Unavailable
from fhir_server.rest.oauth.login import LOGIN_COOKIE, login_of
from fhir_server.rest.oauth.outbound import Outbound
from fhir_server.rest.oauth.sessions import COOKIE, Sessions
from fhir_server.settings import Settings
from fhir_server.store.transient import Transient
from terminology.systems import NUMERO_DOSSIER, SECURITY_TAG
from tests.oauth import signer
from tests.peers.oidc_provider import (
    CLIENT_ID,
    SECRET,
    AuthlibProvider,
    ProSanteConnect,
    authlib_provider,
    pro_sante_connect,
)
from tests.rest.test_persons import worker
from tests.support import Server, codes, document_reference, found, keep, patient, put, serving

RPPS = "899700218896"
ROLES = f"""
[second_factor]
acr = ["eidas1"]
amr = ["otp"]

[[role]]
role = "medecin-travail"
scopes = ["system/*.rs", "system/Observation.cruds"]
purpose = "TREAT"
[role.when]
SubjectNameID = ["{RPPS}"]

[[worker]]
value = ["employee.number"]
system = "{NUMERO_DOSSIER}"

[[role]]
role = "travailleur"
scopes = ["system/*.rs"]
[role.when]
SubjectNameID = ["a-worker"]

[[role]]
role = "operator"
scopes = ["system/*.cruds"]
[role.when]
SubjectNameID = ["machine"]
"""


def of(issuer: str, folder: Path, **changes: Any) -> dict[str, Any]:
    file = folder / "people.toml"
    file.write_text(ROLES)
    return {
        "base_url": "https://test/fhir",
        "login_issuer": issuer,
        "login_client_id": CLIENT_ID,
        "login_client_secret": SecretStr(SECRET),
        "login_roles": file,
        "outbound_loopback": True,
        **changes,
    }


def of_psc(psc: ProSanteConnect, folder: Path, **changes: Any) -> dict[str, Any]:
    given = {
        "login_discovery": psc.discovery,
        "login_scope": "openid scope_all",
        "login_acr_values": "eidas1",
    }
    return of(psc.issuer, folder, **given, **changes)


@pytest.fixture
def psc() -> Iterator[ProSanteConnect]:
    with pro_sante_connect() as one:
        yield one


@pytest.fixture
def settings(make_settings: Callable[..., Settings], psc: ProSanteConnect, tmp_path: Path) -> Settings:
    return make_settings(**of_psc(psc, tmp_path))


async def browser(server: Server) -> httpx.AsyncClient:
    """It keeps cookies, and sends those that are Secure over https only."""
    http = httpx.AsyncClient(transport=httpx.ASGITransport(server.app), base_url="https://test")
    return await server.stack.enter_async_context(http)


@pytest.fixture
async def visitor(server: Server) -> httpx.AsyncClient:
    return await browser(server)


async def at_provider(url: str) -> httpx.Response:
    """What the provider answers to the browser."""
    async with httpx.AsyncClient() as http:
        return await http.get(url)


async def callback_of(http: httpx.AsyncClient, back: str = "/") -> str:
    """Where the provider sends the browser back to."""
    begun = await http.get("/login", params={"back": back})
    assert begun.status_code == 302, begun.text
    answered = await at_provider(begun.headers["location"])
    assert answered.status_code == 302, answered.text
    return answered.headers["location"]


async def log_in(http: httpx.AsyncClient, back: str = "/") -> httpx.Response:
    return await http.get(await callback_of(http, back))


def cookies_of(answer: httpx.Response) -> dict[str, str]:
    return {one.partition("=")[0]: one for one in answer.headers.get_list("set-cookie")}


async def test_a_doctor_logs_in_with_pro_sante_connect(server: Server, visitor: httpx.AsyncClient) -> None:
    """His session opens FHIR as his role, and the trail names him."""
    answer = await log_in(visitor, "/fhir/Patient?_count=1")
    assert (answer.status_code, answer.headers["location"]) == (303, "/fhir/Patient?_count=1")
    assert answer.headers["cache-control"] == "no-store"
    told = cookies_of(answer)
    for attribute in ("Secure", "HttpOnly", "SameSite=Lax", "Path=/", "Max-Age=143"):
        assert attribute in told[COOKIE]
    assert "Domain" not in told[COOKIE]
    assert "Max-Age=0" in told[LOGIN_COOKIE]
    assert (await visitor.get("/fhir/Patient")).status_code == 200
    who = (await visitor.get("/session")).json()
    assert (who["role"], who["professional"], who["structure"]) == ("medecin-travail", RPPS, "R10B0000000000")
    assert 14_300 < who["seconds"] <= 14_400
    rows = await server.rows("select distinct client_id, role, purpose from access")
    assert rows == [(f"person:{CLIENT_ID}:{RPPS}", "medecin-travail", "TREAT")]


async def test_nothing_private_is_in_the_log(visitor: httpx.AsyncClient, capsys: pytest.CaptureFixture[str]) -> None:
    """Neither a name, nor an identifier, nor a code, nor a cookie."""
    url = await callback_of(visitor)
    await visitor.get(url)
    await visitor.get("/fhir/Patient")
    logged = capsys.readouterr().err
    assert '"event":"login"' in logged.replace(" ", "")
    private = (RPPS, "ROGER", "DOC0021889", parse_qs(urlsplit(url).query)["code"][0], visitor.cookies[COOKIE])
    assert not any(one in logged for one in private)


async def test_what_changes_something_repeats_the_token_of_the_session(visitor: httpx.AsyncClient) -> None:
    """Another site can make the browser send the cookie, and does not know the token."""
    await log_in(visitor)
    csrf = (await visitor.get("/session")).json()["csrf"]
    observation = {"resourceType": "Observation", "status": "final", "code": {"text": "x"}}
    for headers in ({}, {"x-csrf-token": "guessed"}, {"x-csrf-token": ""}, {"x-csrf-token": csrf[:-1]}):
        answer = await visitor.post("/fhir/Observation", json=observation, headers=headers)
        assert (answer.status_code, codes(answer)) == (403, ["forbidden"])
    headers = {"x-csrf-token": csrf, "content-type": "application/fhir+json"}
    assert (await visitor.post("/fhir/Observation", json=observation, headers=headers)).status_code == 201
    assert (await visitor.post("/fhir/Patient", json=patient(), headers=headers)).status_code == 403, "not his scope"


async def test_a_token_comes_before_a_session(server: Server, visitor: httpx.AsyncClient) -> None:
    """Who sends a bad token is not let in by his cookie."""
    await log_in(visitor)
    assert (await visitor.get("/fhir/Patient", headers={"authorization": "Bearer x"})).status_code == 401
    for cookies in ("", f"{COOKIE}=x", f"{COOKIE}=", f"{COOKIE}=a; {COOKIE}={visitor.cookies[COOKIE]}"):
        http = await browser(server)
        assert (await http.get("/fhir/Patient", headers={"cookie": cookies})).status_code == 401


async def test_two_persons_do_not_share_pages(server: Server, psc: ProSanteConnect, visitor: httpx.AsyncClient) -> None:
    """The link of one is not good for another, though both came by the same software."""
    system = (await server.client(("system/*.cruds",))).http
    for name in ("a", "b"):
        await put(system, patient(name))
    await log_in(visitor)
    page = (await visitor.get("/fhir/Patient?_count=1")).json()
    (link,) = (one["url"] for one in page["link"] if one["relation"] == "next")
    assert (await visitor.get(link)).status_code == 200
    bearer = await server.client(("system/*.rs",))
    assert (await bearer.http.get(link.replace("https://test", ""))).status_code == 400


async def test_logout_ends_the_session_here_and_there(psc: ProSanteConnect, visitor: httpx.AsyncClient) -> None:
    """With the token of the session; the provider is told whom it is about."""
    await log_in(visitor)
    csrf = (await visitor.get("/session")).json()["csrf"]
    value = visitor.cookies[COOKIE]
    assert (await visitor.post("/logout")).status_code == 403
    assert (await visitor.get("/logout")).status_code == 405
    answer = await visitor.post("/logout", data={"csrf": csrf})
    assert answer.status_code == 303
    url = urlsplit(answer.headers["location"])
    assert answer.headers["location"].startswith(psc.description["end_session_endpoint"])
    asked = parse_qs(url.query)
    assert asked["post_logout_redirect_uri"] == ["https://test/"]
    assert asked["id_token_hint"][0].count(".") == 2
    assert COOKIE not in visitor.cookies
    stolen = {"cookie": f"{COOKIE}={value}"}
    assert (await visitor.get("/fhir/Patient", headers=stolen)).status_code == 401
    assert (await visitor.post("/logout", headers=stolen)).status_code == 401


async def test_a_second_login_ends_the_first_session(server: Server, visitor: httpx.AsyncClient) -> None:
    """And the cookie is always a new one: nobody can foist his own on somebody."""
    await log_in(visitor)
    former = visitor.cookies[COOKIE]
    await log_in(visitor)
    assert visitor.cookies[COOKIE] != former
    other = await browser(server)
    assert (await other.get("/session", headers={"cookie": f"{COOKIE}={former}"})).status_code == 401
    assert (await visitor.get("/session")).status_code == 200


REFUSED: dict[str, tuple[dict[str, Any], dict[str, Any], int]] = {
    # what is changed in the ID token, in userinfo, and the status
    "one factor": ({"acr": "eidas0"}, {}, 403),
    "no word of factors": ({"acr": None}, {}, 403),
    "factors in userinfo only are not overridden": ({"acr": "pwd"}, {"acr": "eidas1"}, 403),
    "somebody without a role": ({}, {"SubjectNameID": "810000000001"}, 403),
    "a role of a machine": ({}, {"SubjectNameID": "machine"}, 403),
    "another nonce": ({"nonce": "x"}, {}, 401),
    "no nonce": ({"nonce": None}, {}, 401),
    "for another client": ({"aud": "another", "azp": "another"}, {}, 401),
    "for several, by another": ({"aud": [CLIENT_ID, "another"], "azp": "another"}, {}, 401),
    "for several, by nobody": ({"aud": [CLIENT_ID, "another"], "azp": None}, {}, 401),
    "another issuer": ({"iss": "https://evil.example"}, {}, 401),
    "expired": ({"exp": 1}, {}, 401),
    "no end": ({"exp": None}, {}, 401),
    "an access token": ({"typ": "Bearer"}, {}, 401),
    "another access token": ({"at_hash": "x"}, {}, 401),
    "userinfo of another": ({}, {"sub": "somebody"}, 401),
    "nobody": ({"sub": None}, {}, 401),
    "proved yesterday": ({"auth_time": int(time.time()) - 86_400}, {}, 401),
    "proved in words": ({"auth_time": "now"}, {}, 401),
}


@pytest.mark.parametrize("case", REFUSED)
async def test_identities_that_are_refused(psc: ProSanteConnect, visitor: httpx.AsyncClient, case: str) -> None:
    """A page says why; there is no session."""
    psc.id_token, psc.userinfo, status = REFUSED[case]
    answer = await log_in(visitor)
    assert answer.status_code == status
    assert "Connexion refusée" in answer.text
    assert answer.headers["content-security-policy"] == "default-src 'none'"
    assert COOKIE not in visitor.cookies
    assert (await visitor.get("/fhir/Patient")).status_code == 401


async def test_an_id_token_of_another_key_is_refused(psc: ProSanteConnect, visitor: httpx.AsyncClient) -> None:
    psc.signs_with = signer("RS256", "psc")
    assert (await log_in(visitor)).status_code == 401


async def test_an_answer_belongs_to_the_browser_that_began(server: Server, visitor: httpx.AsyncClient) -> None:
    """Another browser (login CSRF), another state, the same answer again, an error: none logs anybody in."""
    url = await callback_of(visitor)
    stranger = await browser(server)
    assert (await stranger.get(url)).status_code == 401, "no cookie"
    await callback_of(stranger)
    assert (await stranger.get(url)).status_code == 401, "the cookie of another login"
    assert COOKIE not in stranger.cookies
    kept = visitor.cookies[LOGIN_COOKIE]
    assert (await visitor.get(url)).status_code == 303
    again = {"cookie": f"{LOGIN_COOKIE}={kept}"}
    assert "finished before" in (await stranger.get(url, headers=again)).text
    for bad in ("", "x", "A" * 200, kept[:-4] + "AAAA"):
        answer = await stranger.get(url, headers={"cookie": f"{LOGIN_COOKIE}={bad}"})
        assert answer.status_code == 401


@pytest.mark.parametrize(
    "respond",
    [
        {"state": "x"},
        {"state": ""},
        {"error": "access_denied"},
        {"code": "guessed"},
        {"code": ""},
        {"iss": "https://evil.example"},
    ],
)
async def test_answers_of_the_provider_that_are_none(
    psc: ProSanteConnect, visitor: httpx.AsyncClient, respond: dict[str, str]
) -> None:
    psc.respond = respond
    answer = await log_in(visitor)
    assert (answer.status_code, COOKIE in visitor.cookies) == (401, False)


async def test_a_provider_that_names_itself_must(psc: ProSanteConnect, visitor: httpx.AsyncClient) -> None:
    """RFC 9207: where it says that it does."""
    psc.describe(authorization_response_iss_parameter_supported=True)
    assert (await log_in(visitor)).status_code == 401
    psc.respond = {"iss": psc.issuer}
    assert (await log_in(visitor)).status_code == 303


@pytest.mark.parametrize(
    "back",
    [
        "https://evil.example/",
        "//evil.example",
        "/\\evil.example",
        "\\\\evil",
        "javascript:x",
        "",
        "/\x00",
        "/" + "x" * 2000,
    ],
)
async def test_a_login_leads_nowhere_else(visitor: httpx.AsyncClient, back: str) -> None:
    assert (await log_in(visitor, back)).headers["location"] == "/"


async def test_a_session_ends_when_nobody_uses_it(parts: Any) -> None:
    """Idle, and in all; Redis forgets it."""
    caller = Caller("person:x:1", "x", "medecin-travail", ("system/*.r",), None, "1")
    idle = Sessions(parts.transient, 1, 60.0)
    value, _ = await idle.begin(caller, since=time.time(), id_token="x")
    for _ in range(3):
        await asyncio.sleep(0.6)
        assert (await idle.find(value)) is not None, "it is used"
    await asyncio.sleep(1.2)
    assert await idle.find(value) is None
    short = Sessions(parts.transient, 60, 1.0)
    value, begun = await short.begin(caller, since=time.time(), id_token="x")
    assert (await short.find(value)) == begun
    await asyncio.sleep(1.1)
    assert await short.find(value) is None, "used or not"


async def test_the_four_hours_count_from_the_proof(psc: ProSanteConnect, visitor: httpx.AsyncClient) -> None:
    """The session of the provider began before ours."""
    psc.id_token = {"auth_time": int(time.time()) - 3 * 3600}
    await log_in(visitor)
    assert 3500 < (await visitor.get("/session")).json()["seconds"] <= 3600
    psc.id_token = {"auth_time": int(time.time()) + 3600}
    await log_in(visitor)
    assert (await visitor.get("/session")).json()["seconds"] <= 14_400, "not from the future"


@pytest.mark.parametrize(
    "changes", [{"session_idle_minutes": 31}, {"session_idle_minutes": 0}, {"session_hours": 4.5}, {"session_hours": 0}]
)
def test_the_limits_are_not_loosened(make_settings: Any, changes: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        make_settings(**changes)


@pytest.mark.parametrize("name", ["login_client_id", "login_client_secret", "login_roles"])
def test_incomplete_settings_stop_the_start(
    make_settings: Any, psc: ProSanteConnect, tmp_path: Path, name: str
) -> None:
    given = make_settings(**of_psc(psc, tmp_path, **{name: None}))
    with pytest.raises(BadParameter, match="DMST_FHIR_LOGIN"):
        login_of(given, Outbound(loopback=True), Sessions(None, 1, 1), b"x" * 32)  # pyright: ignore[reportArgumentType]


async def test_without_redis_nobody_is_logged_in(make_settings: Any, psc: ProSanteConnect, tmp_path: Path) -> None:
    """503, and machines go on."""
    gone = make_settings(**of_psc(psc, tmp_path, redis=SecretStr("unix:///nonexistent/redis.sock")))
    async with serving(gone) as server:
        visitor = await browser(server)
        assert (await log_in(visitor)).status_code == 503
        assert (await visitor.get("/fhir/Patient", headers={"cookie": f"{COOKIE}=x"})).status_code == 503
        assert (await (await server.client(("system/*.r",))).http.get("/fhir/Patient/nobody")).status_code == 404


async def test_a_provider_that_is_away(psc: ProSanteConnect, visitor: httpx.AsyncClient) -> None:
    psc.publisher.replies.clear()
    assert (await visitor.get("/login")).status_code == 503


async def test_without_the_settings_there_is_no_login(make_settings: Any) -> None:
    async with serving(make_settings()) as server:
        http = await browser(server)
        for path in ("/login", "/login/callback", "/session"):
            assert (await http.get(path)).status_code == 404
        assert (await http.get("/fhir/Patient", headers={"cookie": f"{COOKIE}=x"})).status_code == 401


@pytest.fixture
def provider() -> Iterator[AuthlibProvider]:
    with authlib_provider() as one:
        one.claims = {"sub": "u1", "SubjectNameID": RPPS, "amr": ["pwd", "otp"]}
        yield one


@pytest.fixture
async def at_authlib(make_settings: Any, provider: AuthlibProvider, tmp_path: Path) -> AsyncIterator[Server]:
    async with serving(make_settings(**of(provider.url, tmp_path))) as server:
        yield server


async def test_a_real_provider(at_authlib: Server, provider: AuthlibProvider) -> None:
    """PKCE with S256, nonce, Basic, at_hash, userinfo: what Authlib makes is accepted, and what it demands is sent."""
    http = await browser(at_authlib)
    assert (await log_in(http, "/fhir/Patient")).status_code == 303
    assert (await http.get("/session")).json()["role"] == "medecin-travail"
    csrf = (await http.get("/session")).json()["csrf"]
    left = await http.post("/logout", headers={"x-csrf-token": csrf})
    await at_provider(left.headers["location"])
    assert provider.left[0]["client_id"] == CLIENT_ID


async def test_a_real_provider_insists_on_pkce(at_authlib: Server, provider: AuthlibProvider) -> None:
    """So the login above proves that it is done: a code with another challenge, or without one, is worth nothing."""
    http = await browser(at_authlib)
    begun = (await http.get("/login")).headers["location"]
    challenge = parse_qs(urlsplit(begun).query)["code_challenge"][0]
    other = challenge[::-1]
    answered = await at_provider(begun.replace(challenge, other))
    assert (await http.get(answered.headers["location"])).status_code == 401
    assert COOKIE not in http.cookies
    assert provider.tokens == {}


async def test_one_factor_at_a_real_provider(at_authlib: Server, provider: AuthlibProvider) -> None:
    provider.claims["amr"] = ["pwd"]
    http = await browser(at_authlib)
    assert (await log_in(http)).status_code == 403


async def test_a_worker_sees_his_own_record(server: Server, psc: ProSanteConnect, visitor: httpx.AsyncClient) -> None:
    """By what his provider claims of him, and without personal notes; another sees nothing of any worker."""
    system = (await server.client(("system/*.cruds",))).http
    note = document_reference(
        "w1", id="note", meta={"security": [{"system": SECURITY_TAG, "code": "non-transmissible"}]}
    )
    organization = {"resourceType": "Organization", "id": "c7", "name": "Centre"}
    await keep(system, organization, worker("1"), worker("2"), document_reference("w1", id="d"), note)
    psc.userinfo = {"SubjectNameID": "a-worker", "employee": {"number": "1"}}
    await log_in(visitor)
    assert await found(visitor, "Patient") == ["w1"]
    assert await found(visitor, "DocumentReference") == ["d"]
    other = await browser(server)
    psc.userinfo = {"SubjectNameID": "a-worker", "employee": {"number": "3"}}
    await log_in(other)
    assert await found(other, "Patient") == []
    assert (await other.get("/fhir/Patient/w1")).status_code == 404


async def logins(server: Server, *fields: str) -> list[tuple[Any, ...]]:
    return await server.rows(f"select {', '.join(fields)} from access where interaction like 'log%%' order by id")


async def test_logins_and_logouts_are_in_the_trail(
    server: Server, psc: ProSanteConnect, visitor: httpx.AsyncClient
) -> None:
    """User Authentication of ITI-20, found by its subtype; a failed one names nobody and says why."""
    psc.id_token = {"acr": "eidas0"}
    await log_in(visitor)
    psc.id_token = {"nonce": "x"}
    await log_in(visitor)
    psc.id_token = {}
    await log_in(visitor)
    csrf = (await visitor.get("/session")).json()["csrf"]
    await visitor.post("/logout", data={"csrf": csrf})
    assert await logins(server, "interaction", "outcome", "professional", "query") == [
        ("login", 4, None, "reason=no-role"),
        ("login", 4, None, "reason=not-proved"),
        ("login", 0, RPPS, None),
        ("logout", 0, RPPS, "reason=person"),
    ]
    dpo = (await server.client(("system/AuditEvent.rs",), role="dpo")).http
    found = (await dpo.get("/fhir/AuditEvent?subtype=http://dicom.nema.org/resources/ontology/DCM|110122")).json()
    newest, failed, first = (one["resource"] for one in found["entry"])
    assert (newest["type"]["code"], newest["subtype"][0]["code"], newest["outcome"]) == ("110114", "110122", "0")
    assert [one["who"]["identifier"]["value"] for one in newest["agent"] if one["requestor"]] == [RPPS]
    assert (failed["outcome"], failed["outcomeDesc"], first["outcomeDesc"]) == ("4", "not-proved", "no-role")
    (left,) = (await dpo.get(f"/fhir/AuditEvent?subtype=110123&agent:identifier={RPPS}")).json()["entry"]
    assert left["resource"]["subtype"][0]["display"] == "Logout"


def logout_token(psc: ProSanteConnect, **changes: Any) -> str:
    now = int(time.time())
    claims = {
        "iss": psc.issuer,
        "aud": CLIENT_ID,
        "iat": now,
        "exp": now + 120,
        "jti": secrets.token_hex(8),
        "events": {"http://schemas.openid.net/event/backchannel-logout": {}},
        "sid": "s1",
        **changes,
    }
    told = {name: one for name, one in claims.items() if one is not None}
    return psc.signs_with.sign(told, typ="logout+jwt")


async def test_the_provider_ends_a_session(server: Server, psc: ProSanteConnect, visitor: httpx.AsyncClient) -> None:
    """One by its name, or all of a person; once, and in the trail."""
    back = await browser(server)

    async def end(token: str) -> int:
        answer = await back.post("/login/backchannel", data={"logout_token": token})
        assert answer.headers["cache-control"] == "no-store"
        return answer.status_code

    other = await browser(server)
    one, two, who = (secrets.token_hex(8) for _ in range(3))  # other tests have sessions in the same Redis
    psc.userinfo = {"sub": who}
    psc.id_token = {"sid": one, "sub": who}
    await log_in(visitor)
    psc.id_token = {"sid": two, "sub": who}
    await log_in(other)
    token = logout_token(psc, sid=one)
    assert await end(token) == 200
    assert (await visitor.get("/session")).status_code == 401
    assert (await other.get("/session")).status_code == 200
    assert await end(token) == 400, "used before"
    assert await end(logout_token(psc, sid="unknown")) == 200
    assert await end(logout_token(psc, sid=None, sub=who)) == 200
    assert (await other.get("/session")).status_code == 401
    assert [row for row in await logins(server, "interaction", "query") if row[0] == "logout"] == [
        ("logout", "reason=back-channel")
    ] * 2


async def test_a_logout_that_was_interrupted_can_come_again(
    server: Server, psc: ProSanteConnect, visitor: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Redis goes away between the token and the end of its sessions: what the provider sends again still ends them."""
    sid = secrets.token_hex(8)
    psc.id_token = {"sid": sid}
    await log_in(visitor)
    back, token = await browser(server), logout_token(psc, sid=sid)
    with monkeypatch.context() as broken:

        async def away(_transient: Transient, _what: str) -> bytes | None:
            raise Unavailable("Redis is out of reach")

        broken.setattr(Transient, "take", away)
        assert (await back.post("/login/backchannel", data={"logout_token": token})).status_code == 503
    assert (await visitor.get("/session")).status_code == 200
    assert (await back.post("/login/backchannel", data={"logout_token": token})).status_code == 200
    assert (await visitor.get("/session")).status_code == 401
    assert (await back.post("/login/backchannel", data={"logout_token": token})).status_code == 400, "used before"


@pytest.mark.parametrize(
    "changes",
    [
        {"iss": "https://evil.example"},
        {"aud": "another"},
        {"exp": 1},
        {"exp": None},
        {"exp": int(time.time()) + 3600},
        {"iat": None},
        {"jti": None},
        {"nonce": "x"},
        {"events": None},
        {"events": {"x": {}}},
        {"sid": None},
    ],
)
async def test_logout_tokens_that_are_none(
    psc: ProSanteConnect, visitor: httpx.AsyncClient, changes: dict[str, Any]
) -> None:
    """Nobody else ends a session; an ID token ends none either."""
    psc.id_token = {"sid": "s1"}
    await log_in(visitor)
    tokens = [logout_token(psc, **changes), "", "x.y.z"]
    psc.signs_with = signer("RS256", "psc")
    for token in (*tokens, logout_token(psc)):
        assert (await visitor.post("/login/backchannel", data={"logout_token": token})).status_code == 400
    assert (await visitor.get("/session")).status_code == 200
