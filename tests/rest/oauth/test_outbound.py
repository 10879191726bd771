"""What this server asks of addresses that others named: only what anybody could ask (SSRF)."""

import asyncio
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import trustme

from fhir_server.outcomes import Unavailable
from fhir_server.rest.oauth.key_source import FRESH, PAUSE, STALE, KeySource
from fhir_server.rest.oauth.outbound import LARGEST, Outbound
from tests.oauth import Publisher, key_set, publishing, signer


@pytest.fixture
def publisher() -> Iterator[Publisher]:
    with publishing() as one:
        yield one


@pytest.mark.parametrize(
    "url",
    [
        "http://keys.example/jwks",
        "ftp://keys.example/jwks",
        "file:///etc/passwd",
        "https://user:secret@keys.example/jwks",
        "https://keys.example/jwks#x",
        "https:///jwks",
        "/jwks",
        "",
        "https://[::1",
    ],
)
async def test_addresses_that_are_not_asked(url: str) -> None:
    """Known when a client is made, and again when it is used."""
    for outbound in (Outbound(), Outbound(loopback=True)):
        with pytest.raises(ValueError, match="address"):
            outbound.check(url)
        with pytest.raises(Unavailable):
            await outbound.get(url)


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        "10.0.0.1",
        "172.16.5.5",
        "192.168.1.1",
        "169.254.169.254",
        "100.64.0.1",
        "0.0.0.0",
        "224.0.0.1",
        "255.255.255.255",
        "::1",
        "::",
        "fe80::1",
        "fd00::1",
        "::ffff:10.0.0.1",
        "64:ff9b::a00:1",
        "2002:a00:1::1",
    ],
)
async def test_addresses_of_the_network_here_are_not_asked(monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    """Whatever name leads there; also where only one of the addresses of a name does."""

    async def resolve(*_: Any, **__: Any) -> list[Any]:
        return [(0, 0, 0, "", ("93.184.216.34", 443)), (0, 0, 0, "", (address, 443))]

    async def never(*_: Any) -> Any:
        pytest.fail("it was asked")

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", resolve)
    outbound = Outbound()
    monkeypatch.setattr(outbound, "_ask_at", never)
    with pytest.raises(Unavailable):
        await outbound.get("https://innocent.example/jwks")


@pytest.mark.parametrize(("address", "allowed"), [("10.0.0.1", True), ("127.0.0.1", False), ("169.254.169.254", False)])
async def test_a_host_that_the_operator_named_may_be_in_the_network_here(
    monkeypatch: pytest.MonkeyPatch, address: str, allowed: bool
) -> None:
    """Not on this machine, and not where clouds keep their secrets."""

    async def resolve(*_: Any, **__: Any) -> list[Any]:
        return [(0, 0, 0, "", (address, 443))]

    asked: list[Any] = []

    async def ask_at(to: Any, *_: Any) -> tuple[int, bytes]:
        asked.append(str(to))
        return 200, b"{}"

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", resolve)
    outbound = Outbound().trusting("https://keycloak.spst.example/realms/x", None)
    monkeypatch.setattr(outbound, "_ask_at", ask_at)
    if allowed:
        assert await outbound.get("https://keycloak.spst.example/keys") == b"{}"
    else:
        with pytest.raises(Unavailable):
            await outbound.get("https://keycloak.spst.example/keys")
    with pytest.raises(Unavailable):
        await outbound.get("https://another.spst.example/keys")
    assert asked == ([address] if allowed else [])


async def test_a_redirect_is_no_answer(publisher: Publisher) -> None:
    """Wherever it leads."""
    there = publisher.publish("/there", "{}")
    url = publisher.publish("/here", "{}", 302, location=there)
    with pytest.raises(Unavailable):
        await Outbound(loopback=True).get(url)
    assert publisher.asked == ["/here"]


async def test_an_answer_is_small_and_an_object(publisher: Publisher) -> None:
    """What is larger, is no JSON object, or is an error, is no answer."""
    outbound = Outbound(loopback=True)
    assert await outbound.get_json(publisher.publish("/good", {"a": 1})) == {"a": 1}
    for url in (
        publisher.publish("/large", "x" * (LARGEST + 1)),
        publisher.publish("/list", "[]"),
        publisher.publish("/text", "nothing"),
        publisher.publish("/error", "{}", 500),
    ):
        with pytest.raises(Unavailable):
            await outbound.get_json(url)


async def test_the_certificate_of_the_name_is_asked_for(tmp_path: Path) -> None:
    """The connection goes to an address; the certificate must be that of the name, by a trusted authority."""
    authority, stranger = trustme.CA(), trustme.CA()
    file = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(str(file))
    for issuer, name, good in (
        (authority, "localhost", True),
        (authority, "another.example", False),
        (stranger, "localhost", False),
    ):
        tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        issuer.issue_cert(name).configure_cert(tls)
        with publishing(tls) as publisher:
            publisher.publish("/keys", "{}")
            url = publisher.url.replace("127.0.0.1", "localhost") + "/keys"
            outbound = Outbound(loopback=True, ca=file)
            if good:
                assert await outbound.get(url) == b"{}"
            else:
                with pytest.raises(Unavailable):
                    await outbound.get(url)


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


async def test_keys_are_fetched_again_when_it_is_time(publisher: Publisher) -> None:
    """A new key after a pause; one that was taken back is forgotten; a silent address is borne for a while."""
    old, new, clock = signer(kid="old"), signer(kid="new"), Clock()
    source = KeySource(Outbound(loopback=True), publisher.publish("/jwks", key_set(old)), clock=clock)
    assert await source.fitting("old", "ES384")
    publisher.publish("/jwks", key_set(new))
    assert await source.fitting("new", "ES384") is None, "it was looked for a moment ago"
    clock.now += PAUSE
    assert await source.fitting("new", "ES384")
    assert await source.fitting("old", "ES384") is None
    assert publisher.count("/jwks") == 2
    publisher.publish("/jwks", "gone", 500)
    clock.now += FRESH + 1
    assert await source.fitting("new", "ES384"), "the last that were good"
    clock.now += STALE
    with pytest.raises(Unavailable):
        await source.fitting("new", "ES384")


async def test_many_at_once_fetch_once(publisher: Publisher) -> None:
    """A token that nobody can verify does not become a flood of requests to somebody else."""
    source = KeySource(Outbound(loopback=True), publisher.publish("/jwks", key_set(signer())))
    found = await asyncio.gather(*(source.fitting(f"unknown-{number}", "ES384") for number in range(50)))
    assert set(found) == {None}
    assert publisher.count("/jwks") == 1
