"""Tokens that are bound to a TLS certificate (RFC 8705), and who may say which certificate came."""

import base64
import hashlib
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import pytest
import trustme
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from pydantic import ValidationError

from fhir_server.rest.oauth.certificates import Certificates
from fhir_server.settings import Settings
from fhir_server.store.clients import Clients
from tests.oauth import assertion_claims, form, key_set, publishing, signer
from tests.rest.oauth.test_issuer import AUDIENCE, Outside, of
from tests.support import Server, codes, serving

HEADER = "x-client-cert"
PROXY, STRANGER = ("10.1.2.3", 40000), ("10.9.9.9", 40000)
AUTHORITY = trustme.CA()
SCOPES = ("system/Patient.r",)
GRANT = {"grant_type": "client_credentials"}


def certificate(name: str = "client.example") -> bytes:
    """PEM."""
    return AUTHORITY.issue_cert(name).cert_chain_pems[0].bytes()


def der(pem: bytes) -> bytes:
    return x509.load_pem_x509_certificate(pem).public_bytes(Encoding.DER)


ONE, OTHER = certificate(), certificate("other.example")
FORMS: dict[str, Callable[[bytes], str]] = {
    "nginx": lambda pem: quote(pem.decode()),
    "rfc9440": lambda pem: f":{base64.b64encode(der(pem)).decode()}:",
    "traefik": lambda pem: quote(base64.b64encode(der(pem)).decode()),
    "haproxy": lambda pem: base64.b64encode(der(pem)).decode(),
}


def request(*values: str, client: tuple[str, int] | None = PROXY, **more: Any) -> dict[str, Any]:
    headers = [(HEADER.encode(), value.encode()) for value in values]
    return {"type": "http", "headers": headers, "client": client, **more}


@pytest.fixture
def certificates(make_settings: Callable[..., Settings]) -> Certificates:
    return Certificates.of(make_settings(**TRUST))


TRUST = {"certificate_header": "X-Client-Cert", "trusted_proxies": "10.1.2.0/24, ::1/128"}


@pytest.mark.parametrize("name", FORMS)
def test_a_certificate_in_each_form(certificates: Certificates, name: str) -> None:
    """Of one certificate the same thumbprint, however the proxy writes it."""
    assert certificates.thumbprint(request(FORMS[name](ONE))) == hashlib.sha256(der(ONE)).digest()


@pytest.mark.parametrize(
    "given",
    [
        request(),
        request(""),
        request("nonsense"),
        request("%zz"),
        request(":AAAA:"),
        request(quote("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----")),
        request("x" * 40_000),
        request(FORMS["nginx"](ONE), client=STRANGER),
        request(FORMS["nginx"](ONE), client=("::ffff:10.9.9.9", 1)),
        request(FORMS["nginx"](ONE), client=None),
        request(FORMS["nginx"](ONE), client=("unix", 0)),
        request(FORMS["nginx"](ONE), FORMS["nginx"](OTHER)),
        request(extensions={"tls": {"client_cert_chain": [ONE.decode()], "client_cert_error": "expired"}}),
        request(extensions={"tls": {"client_cert_chain": []}}),
    ],
)
def test_what_is_no_certificate(certificates: Certificates, given: dict[str, Any]) -> None:
    """Malformed, twice, or from somebody who may not say so: as if none had come."""
    assert certificates.thumbprint(given) is None


def test_a_proxy_may_be_reached_over_either_protocol(certificates: Certificates) -> None:
    for address in ("10.1.2.3", "::ffff:10.1.2.3", "::1"):
        assert certificates.thumbprint(request(FORMS["nginx"](ONE), client=(address, 1)))


def test_without_the_settings_no_header_counts(make_settings: Callable[..., Settings]) -> None:
    """Neither without a name nor without a proxy."""
    for changes in ({}, {"certificate_header": HEADER}, {"trusted_proxies": "10.1.2.0/24"}):
        assert Certificates.of(make_settings(**changes)).thumbprint(request(FORMS["nginx"](ONE))) is None


def test_the_server_itself_may_speak_tls(certificates: Certificates) -> None:
    """Then the certificate is that of the connection, whatever a header says."""
    tls = {"tls": {"client_cert_chain": [ONE.decode(), AUTHORITY.cert_pem.bytes().decode()]}}
    for given in (request(extensions=tls), request(FORMS["nginx"](OTHER), extensions=tls)):
        assert certificates.thumbprint(given) == hashlib.sha256(der(ONE)).digest()


def test_proxies_are_networks(make_settings: Callable[..., Settings]) -> None:
    with pytest.raises(ValidationError):
        make_settings(trusted_proxies="proxy.example")


async def over(server: Server, pem: bytes | None, peer: tuple[str, int] = PROXY) -> httpx.AsyncClient:
    """A client behind a proxy that hands on its certificate."""
    http = httpx.AsyncClient(
        transport=httpx.ASGITransport(server.app, client=peer),
        base_url="http://test",
        headers={HEADER: FORMS["nginx"](pem)} if pem else {},
    )
    return await server.stack.enter_async_context(http)


@pytest.fixture
def settings(make_settings: Callable[..., Settings]) -> Settings:
    return make_settings(**TRUST)


async def test_a_token_is_good_with_its_certificate_only(server: Server) -> None:
    """Not without, not with another, not with the right one in the words of a stranger. Stolen, it is worth nothing."""
    keys = signer()
    client_id = await Clients(server.database).add_with_keys(
        "b", SCOPES, "external-system", jwks=key_set(keys), certificate_bound=True
    )

    async def ask(http: httpx.AsyncClient) -> httpx.Response:
        return await http.post("/oauth2/token", data=form(keys.sign(assertion_claims(client_id))))

    for nobody in (await over(server, None), await over(server, ONE, STRANGER)):
        answer = await ask(nobody)
        assert (answer.status_code, answer.json()["error"]) == (401, "invalid_client")
    right = await over(server, ONE)
    token = (await ask(right)).json()["access_token"]
    headers = {"authorization": f"Bearer {token}"}
    for _ in range(2):
        assert (await right.get("/fhir/Patient/nobody", headers=headers)).status_code == 404
        for thief in (await over(server, None), await over(server, OTHER), await over(server, ONE, STRANGER)):
            answer = await thief.get("/fhir/Patient/nobody", headers=headers)
            assert (answer.status_code, codes(answer)) == (401, ["login"])
            assert (await thief.get("/metrics", headers=headers)).status_code == 401


async def test_a_client_with_a_secret_may_be_bound_too(server: Server) -> None:
    client_id, secret = await Clients(server.database).add("s", SCOPES, "external-system", certificate_bound=True)
    http = await over(server, ONE)
    token = (await http.post("/oauth2/token", data=GRANT, auth=(client_id, secret))).json()["access_token"]
    headers = {"authorization": f"Bearer {token}"}
    assert (await http.get("/fhir/Patient/nobody", headers=headers)).status_code == 404
    assert (await (await over(server, OTHER)).get("/fhir/Patient/nobody", headers=headers)).status_code == 401


async def test_other_clients_are_not_bound(server: Server) -> None:
    """Their tokens are good over any connection, as before."""
    client = await server.client(SCOPES)
    auth = (client.client_id, client.secret)
    token = (await (await over(server, ONE)).post("/oauth2/token", data=GRANT, auth=auth)).json()["access_token"]
    headers = {"authorization": f"Bearer {token}"}
    assert (await (await over(server, OTHER)).get("/fhir/Patient/nobody", headers=headers)).status_code == 404


async def test_it_is_announced(server: Server, anonymous: httpx.AsyncClient) -> None:
    told = (await anonymous.get("/fhir/.well-known/smart-configuration")).json()
    assert told["tls_client_certificate_bound_access_tokens"] is True


@pytest.fixture
def outside() -> Iterator[Outside]:
    with publishing() as publisher:
        yield Outside(publisher)


async def test_a_token_of_an_issuer_is_bound_by_cnf(make_settings: Any, outside: Outside, tmp_path: Path) -> None:
    """`cnf` `x5t#S256`, as Pro Santé Connect binds its tokens."""
    thumbprint = base64.urlsafe_b64encode(hashlib.sha256(der(ONE)).digest()).rstrip(b"=").decode()
    token = outside.token(cnf={"x5t#S256": thumbprint}, exp=int(time.time()) + 60, aud=[AUDIENCE, "others"])
    headers = {"authorization": f"Bearer {token}"}
    async with serving(make_settings(**of(outside, tmp_path), **TRUST)) as server:
        assert (await (await over(server, ONE)).get("/fhir/Patient/nobody", headers=headers)).status_code == 404
        for thief in (await over(server, None), await over(server, OTHER), await over(server, ONE, STRANGER)):
            assert (await thief.get("/fhir/Patient/nobody", headers=headers)).status_code == 401
