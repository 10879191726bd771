"""Tokens of an outside issuer: good ones open what both they and the role allow, others nothing."""

import asyncio
import base64
import json
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import httpx
import pytest
from joserfc import jwt
from joserfc.jws import JWSRegistry
from pydantic import SecretStr

from fhir_server.outcomes import BadParameter, Forbidden, Unauthenticated
from fhir_server.rest.authentication import Authentication
from fhir_server.rest.oauth import roles
from fhir_server.rest.oauth.issuer import issuer_of
from fhir_server.rest.oauth.outbound import Outbound
from fhir_server.settings import Settings
from fhir_server.store.clients import Clients
from tests.oauth import Publisher, Signer, key_set, publishing, signer, unsigned, with_public_key_as_secret
from tests.support import Server, codes, patient, put, serving

AUDIENCE = "https://dmst.example/fhir"
RPPS = "899700218896"
ROLES = f"""
[claims]
structure = ["SubjectOrganizationID"]

[second_factor]
acr = ["eidas1"]
amr = ["mfa", "otp"]

[[role]]
role = "medecin-travail"
scopes = ["system/*.rs", "system/DocumentReference.cruds"]
purpose = "TREAT"
without_scope = true
[role.when]
SubjectNameID = ["{RPPS}"]
"SubjectRefPro.exercices.codeSavoirFaire" = ["SM25"]

[[role]]
role = "external-system"
scopes = ["system/Patient.rs"]
[role.when]
"realm_access.roles" = ["dmst-reader"]
"""
DOCTOR = {
    "sub": "f:550dc1c8:899700218896",
    "azp": "s000-dmst",
    "acr": "eidas1",
    "SubjectNameID": RPPS,
    "SubjectOrganizationID": "R10B0000000000",
    "SubjectRole": ["10^1.2.250.1.213.1.1.5.5"],
    "SubjectRefPro": {"exercices": [{"codeProfession": "10", "codeSavoirFaire": "SM25"}]},
    "given_name": "ROGER",
    "family_name": "DOC0021889",
    "scope": "openid scope_all",
}
MACHINE = {"sub": "service-account", "azp": "dashboard", "realm_access": {"roles": ["offline", "dmst-reader"]}}


class Outside:
    """The issuer: its keys, its tokens."""

    def __init__(self, publisher: Publisher) -> None:
        self.publisher, self.keys = publisher, signer("RS256", "outside")
        self.issuer = f"{publisher.url}/realms/x"
        self.jwks = publisher.publish("/jwks", key_set(self.keys))
        self.describe()

    def describe(self, **changes: Any) -> None:
        described = {"issuer": self.issuer, "jwks_uri": self.jwks, **changes}
        self.publisher.publish("/realms/x/.well-known/openid-configuration", described)

    def claims(self, about: dict[str, Any], **changes: Any) -> dict[str, Any]:
        now = int(time.time())
        claims = {"iss": self.issuer, "aud": AUDIENCE, "exp": now + 60, "iat": now, "typ": "Bearer", **about, **changes}
        return {name: value for name, value in claims.items() if value is not None}

    def token(self, about: dict[str, Any] = DOCTOR, by: Signer | None = None, **changes: Any) -> str:
        return (by or self.keys).sign(self.claims(about, **changes))


@pytest.fixture
def outside() -> Iterator[Outside]:
    with publishing() as publisher:
        yield Outside(publisher)


@pytest.fixture
def settings(make_settings: Callable[..., Settings], outside: Outside, tmp_path: Path) -> Settings:
    return make_settings(**of(outside, tmp_path))


def of(outside: Outside, folder: Path, **changes: Any) -> dict[str, Any]:
    file = folder / "roles.toml"
    file.write_text(ROLES)
    given = {"issuer": outside.issuer, "issuer_audience": AUDIENCE, "issuer_roles": file, "outbound_loopback": True}
    return {**given, **changes}


async def get(server: Server, token: str, path: str = "Patient/p") -> httpx.Response:
    http = await server.http({})
    return await http.get(f"/fhir/{path}", headers={"authorization": f"Bearer {token}"})


@pytest.fixture
async def with_patient(server: Server) -> Server:
    await put((await server.client(("system/*.cruds",))).http, patient("p"))
    return server


async def test_a_token_of_a_doctor_opens_what_his_role_may(with_patient: Server, outside: Outside) -> None:
    """One without SMART scopes, as Pro Santé Connect gives it: the scopes of the role, where the file allows that."""
    token = outside.token()
    assert (await get(with_patient, token)).status_code == 200
    http = await with_patient.http({"authorization": f"Bearer {token}"})
    assert (await http.put("/fhir/Patient/p", json=patient("p"))).status_code == 403
    assert outside.publisher.count("/jwks") == 1


async def test_the_trail_names_the_professional_and_the_log_does_not(
    with_patient: Server, outside: Outside, capsys: pytest.CaptureFixture[str]
) -> None:
    """By the national identifier; a name is nowhere."""
    assert (await get(with_patient, outside.token())).status_code == 200
    rows = await with_patient.rows("select client_id, role, purpose from access where role = 'medecin-travail'")
    assert rows == [(f"issuer:s000-dmst:{RPPS}", "medecin-travail", "TREAT")]
    logged = capsys.readouterr().err
    assert "issuer:s000-dmst" in logged
    assert not any(private in logged for private in (RPPS, "ROGER", "DOC0021889"))


async def test_what_a_caller_carries(parts: Any, settings: Settings, outside: Outside) -> None:
    """Role, purpose, professional, structure, scopes; a name that is nobody's."""
    authentication = Authentication(parts.clients, issuer=issuer_of(settings, Outbound(loopback=True)))
    caller = await authentication.caller(f"Bearer {outside.token()}".encode())
    assert (caller.role, caller.purpose, caller.professional, caller.structure, caller.name) == (
        "medecin-travail", "TREAT", RPPS, "R10B0000000000", "Médecin du travail",
    )  # fmt: skip
    assert caller.scopes == ("system/*.rs", "system/DocumentReference.cruds")


@pytest.mark.parametrize(
    ("scope", "granted"),
    [
        ("system/*.cruds", ("system/*.rs", "system/DocumentReference.cruds")),
        ("openid system/Patient.crs", ("system/Patient.rs",)),
        ("user/Patient.rs", ("system/Patient.rs",)),
        ("user/DocumentReference.ru?category=a|b", ("system/DocumentReference.ru?category=a|b",)),
        ("patient/Patient.rs", ()),
        ("system/Patient.rs?gender=male openid", ("system/Patient.rs?gender=male",)),
        ("system/Patient.rs?_count=1 openid", ()),
        ("user/*.read", ()),
        ("system/DocumentReference.d", ("system/DocumentReference.d",)),
    ],
)
async def test_a_scope_is_what_token_and_role_both_allow(
    parts: Any, settings: Settings, outside: Outside, scope: str, granted: tuple[str, ...]
) -> None:
    """What is not enforced is left out; a token that has some SMART scope is not given those of the role."""
    authentication = Authentication(parts.clients, issuer=issuer_of(settings, Outbound(loopback=True)))
    caller = await authentication.caller(f"Bearer {outside.token(scope=scope)}".encode())
    assert caller.scopes == granted


async def test_a_machine_needs_a_scope_and_no_second_factor(with_patient: Server, outside: Outside) -> None:
    """Its role does not say `without_scope`."""
    assert (await get(with_patient, outside.token(MACHINE))).status_code == 403
    assert (await get(with_patient, outside.token(MACHINE, scope="system/*.r"))).status_code == 200
    assert (await get(with_patient, outside.token(MACHINE, scope="user/*.r"))).status_code == 403, "no person acts"
    assert (await get(with_patient, outside.token(MACHINE, scope="system/*.r", azp=None))).status_code == 403
    assert (await get(with_patient, outside.token(MACHINE, scope="system/*.r", azp="self:x"))).status_code == 403


NO_ROLE: dict[str, dict[str, Any]] = {
    "another doctor of the country": {"SubjectNameID": "810000000001"},
    "another speciality": {"SubjectRefPro": {"exercices": [{"codeSavoirFaire": "SM26"}]}},
    "one factor": {"acr": "eidas0"},
    "nothing said of factors": {"acr": None},
    "two identifiers": {"SubjectNameID": [RPPS, "810000000001"]},
}


@pytest.mark.parametrize("case", NO_ROLE)
async def test_a_good_token_without_a_role_is_forbidden(with_patient: Server, outside: Outside, case: str) -> None:
    """The issuer proves who somebody is, not that he may open a record here. The refusal is in the trail."""
    answer = await get(with_patient, outside.token(**NO_ROLE[case]))
    assert (answer.status_code, codes(answer)) == (403, ["forbidden"])
    assert await with_patient.rows("select outcome from access where interaction = 'read' and outcome = 4") == [(4,)]


async def test_what_nobody_must_understand_is_passed_over(with_patient: Server, outside: Outside) -> None:
    """A member of the header that is not known, a list of many roles: providers have such."""
    claims = outside.claims(DOCTOR, realm_access={"roles": [f"role-{number}" for number in range(800)]})
    header = {"alg": "RS256", "kid": "outside", "typ": "at+jwt", "nonce": "x"}
    registry = JWSRegistry(algorithms=["RS256"], strict_check_header=False)
    token = jwt.encode(header, claims, outside.keys.key, registry=registry)
    assert len(token) > 10_000
    assert (await get(with_patient, token)).status_code == 200


async def test_amr_is_a_second_factor_too(with_patient: Server, outside: Outside) -> None:
    assert (await get(with_patient, outside.token(acr=None, amr=["pwd", "otp"]))).status_code == 200


async def test_tokens_that_are_refused(with_patient: Server, outside: Outside) -> None:
    """Each is 401; a good one is still good afterwards."""
    now, claims = int(time.time()), outside.claims(DOCTOR)
    good = outside.token()
    header, _, signature = good.split(".")
    changed = outside.token({**DOCTOR, "SubjectNameID": "1"}).split(".")[1]
    refused = {
        "wrong aud": outside.token(aud="https://another.example"),
        "no aud": outside.token(aud=None),
        "expired": outside.token(exp=now - 1),
        "no exp": outside.token(exp=None),
        "not yet": outside.token(nbf=now + 60),
        "another issuer": outside.token(iss="https://evil.example"),
        "nearly the issuer": outside.token(iss=outside.issuer + "/"),
        "another key under the same name": outside.token(by=signer("RS256", "outside")),
        "an unknown kid": outside.token(by=signer("RS256", "unknown")),
        "another algorithm": outside.token(by=signer("PS256", "outside")),
        "not signed": unsigned(claims, kid="outside"),
        "signed with what is public": with_public_key_as_secret(claims, outside.keys),
        "changed": f"{header}.{changed}.{signature}",
        "an ID token of Keycloak": outside.token(typ="ID"),
        "an ID token of another": outside.token(typ=None, at_hash="x"),
        "a logout token": outside.keys.sign(claims, typ="logout+jwt"),
        "bound to a DPoP key": outside.token(cnf={"jkt": "x"}),
        "bound to nonsense": outside.token(cnf={"x5t#S256": "AA"}),
        "bound to two things": outside.token(cnf={"x5t#S256": "A" * 43, "jkt": "x"}),
        "an unknown extension": unsigned(claims, "RS256", kid="outside", crit=["exp"], exp=1),
        "no token": "a.b.c",
        "too long": outside.token(scope="x" * 20_000),
    }
    for case, token in refused.items():
        answer = await get(with_patient, token)
        assert (answer.status_code, codes(answer)) == (401, ["login"]), case
        assert answer.headers["www-authenticate"].startswith("Bearer"), case
    assert (await get(with_patient, good)).status_code == 200
    assert outside.publisher.count("/jwks") == 1, "none of them made us ask again and again"


async def test_both_kinds_of_tokens_are_good(with_patient: Server, outside: Outside) -> None:
    """Those of this server stay what they were; without an issuer in the settings, the others are unknown."""
    own = await with_patient.client(("system/Patient.r",))
    assert (await own.http.get("/fhir/Patient/p")).status_code == 200
    without = Authentication(Clients(with_patient.database))
    with pytest.raises(Unauthenticated):
        await without.caller(f"Bearer {outside.token()}".encode())


async def test_an_issuer_that_is_away_is_a_503(make_settings: Any, outside: Outside, tmp_path: Path) -> None:
    """And this server starts without it."""
    outside.publisher.replies.clear()
    async with serving(make_settings(**of(outside, tmp_path))) as server:
        assert (await get(server, outside.token())).status_code == 503
        assert (await get(server, "unknown")).status_code == 401


async def test_an_issuer_under_another_name_is_not_believed(
    make_settings: Any, outside: Outside, tmp_path: Path
) -> None:
    """Discovery section 4.3; nor one that sends us to an address without TLS."""
    for changes in ({"issuer": "https://evil.example"}, {"jwks_uri": "http://keys.example/jwks"}):
        outside.describe(**changes)
        async with serving(make_settings(**of(outside, tmp_path))) as server:
            assert (await get(server, outside.token())).status_code == 503


class Introspecting:
    """An endpoint of RFC 7662 with client authentication."""

    def __init__(self, outside: Outside) -> None:
        self.outside = outside
        self.answers: dict[str, dict[str, Any]] = {}
        self.url = f"{outside.publisher.url}/introspect"
        outside.publisher.replies["/introspect"] = self.reply

    def reply(self, method: str, _path: str, body: bytes, headers: Any) -> tuple[int, dict[str, str], bytes]:
        expected = "Basic " + base64.b64encode(b"dmst:s3cret").decode()
        if method != "POST" or headers.get("authorization") != expected:
            return 401, {}, b"{}"
        (token,) = parse_qs(body.decode())["token"]
        return (
            200,
            {"content-type": "application/json"},
            json.dumps(self.answers.get(token, {"active": False})).encode(),
        )


@pytest.fixture
def introspecting(outside: Outside) -> Introspecting:
    return Introspecting(outside)


def with_introspection(introspecting: Introspecting, folder: Path, secret: str = "s3cret") -> dict[str, Any]:
    return of(
        introspecting.outside,
        folder,
        issuer_introspection=introspecting.url,
        issuer_client_id="dmst",
        issuer_client_secret=SecretStr(secret),
    )


async def test_introspection(make_settings: Any, introspecting: Introspecting, tmp_path: Path) -> None:
    """Opaque tokens and others; what the issuer takes back is gone, and its claims are checked as those of a JWT."""
    outside = introspecting.outside
    active = {**outside.claims(DOCTOR), "active": True, "token_type": "Bearer", "typ": None}
    del active["typ"]
    introspecting.answers = {
        "opaque": active,
        "a.b.c": {key: value for key, value in active.items() if key not in ("iss", "exp")},
        "for-others": {**active, "aud": "https://another.example"},
        "for-nobody": {key: value for key, value in active.items() if key != "aud"},
        "of-others": {**active, "iss": "https://evil.example"},
        "ended": {**active, "exp": int(time.time()) - 1},
        "refresh": {**active, "token_type": "Refresh"},
        "untrue": {**active, "active": "true"},
    }
    async with serving(make_settings(**with_introspection(introspecting, tmp_path))) as server:
        for token, status in (("opaque", 404), ("a.b.c", 404), ("unknown", 401), (outside.token(), 401)):
            assert (await get(server, token)).status_code == status, token
        for token in ("for-others", "for-nobody", "of-others", "ended", "refresh", "untrue"):
            assert (await get(server, token)).status_code == 401, token
        asked = outside.publisher.count("/introspect")
        assert (await get(server, "opaque")).status_code == 404
        assert outside.publisher.count("/introspect") == asked, "remembered for some seconds"
        own = await server.client(("system/Patient.r",))
        assert (await own.http.get("/fhir/Patient/nobody")).status_code == 404
    wrong = make_settings(**with_introspection(introspecting, tmp_path, "wrong"))
    async with serving(wrong) as server:
        assert (await get(server, "opaque")).status_code == 401


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"issuer_audience": None}, "AUDIENCE"),
        ({"issuer_roles": None}, "ROLES"),
        ({"issuer_introspection": "http://127.0.0.1/x"}, "CLIENT_ID"),
        ({"issuer_jwks": "http://keys.example"}, "https"),
        ({"outbound_loopback": False}, "https"),
        ({"issuer_roles": Path("nowhere.toml")}, "cannot be read"),
    ],
)
def test_incomplete_settings_stop_the_start(
    make_settings: Any, outside: Outside, tmp_path: Path, changes: dict[str, Any], words: str
) -> None:
    given = make_settings(**of(outside, tmp_path, **changes))
    with pytest.raises(BadParameter, match=words):
        issuer_of(given, Outbound(loopback=given.outbound_loopback))


PERSON = '[[role]]\nrole = "medecin-travail"\nscopes = ["system/*.r"]\nwhen = {a = ["b"]}\n'


@pytest.mark.parametrize(
    "text",
    [
        "",
        "not toml",
        PERSON,
        PERSON.replace("medecin-travail", "nobody") + '[second_factor]\nacr = ["x"]',
        PERSON.replace('{a = ["b"]}', "{}") + '[second_factor]\nacr = ["x"]',
        PERSON.replace('{a = ["b"]}', "{a = []}") + '[second_factor]\nacr = ["x"]',
        PERSON.replace("system/*.r", "user/*.r") + '[second_factor]\nacr = ["x"]',
        PERSON.replace("system/*.r", "system/Patient.r?_content=x") + '[second_factor]\nacr = ["x"]',
        PERSON.replace("when", "whem") + '[second_factor]\nacr = ["x"]',
        PERSON + "[second_factor]\nacr = []",
    ],
)
def test_wrong_files_of_roles(tmp_path: Path, text: str) -> None:
    """A role for everybody, without a second factor, with a scope that nobody is held to: none is loaded."""
    file = tmp_path / "roles.toml"
    file.write_text(text)
    with pytest.raises(BadParameter):
        roles.load(file)


def test_claims_are_found_where_they_are(tmp_path: Path) -> None:
    """In objects, in lists, and under a name that has dots itself."""
    claims = {"a": {"b": [{"c": "1"}, {"c": ["2", 3]}, "x"]}, "https://x.example/roles": ["r"], "t": True, "n": None}
    assert roles.values_at(claims, "a.b.c") == ["1", "2", "3"]
    assert roles.values_at(claims, "https://x.example/roles") == ["r"]
    assert roles.values_at(claims, "a.b") == ["x"]
    assert [roles.values_at(claims, name) for name in ("t", "n", "z", "a.z.c", "")] == [[], [], [], [], []]


def test_the_first_rule_counts(tmp_path: Path) -> None:
    file = tmp_path / "roles.toml"
    file.write_text(ROLES)
    table = roles.load(file)
    caller = table.caller({**DOCTOR, **MACHINE}, source="issuer", asked=["system/*.r"])
    assert caller.role == "medecin-travail"
    with pytest.raises(Forbidden):
        table.caller({}, source="issuer", asked=[])


async def test_a_token_is_validated_in_less_than_a_millisecond(settings: Settings, outside: Outside) -> None:
    """Half of them, on whatever machine this runs on; `python -m bench.tokens` measures."""
    issuer = issuer_of(settings, Outbound(loopback=True))
    assert issuer
    tokens = [outside.token(jti=str(number)) for number in range(200)]
    await issuer.bearer(tokens[0])
    spent = []
    for token in tokens:
        began = time.perf_counter()
        await issuer.bearer(token)
        spent.append(time.perf_counter() - began)
    assert statistics.median(spent) < 0.001


async def test_many_tokens_at_once_fetch_the_keys_once(settings: Settings, outside: Outside) -> None:
    issuer = issuer_of(settings, Outbound(loopback=True))
    assert issuer
    await asyncio.gather(*(issuer.bearer(outside.token(jti=str(number))) for number in range(20)))
    assert outside.publisher.count("/jwks") == 1
