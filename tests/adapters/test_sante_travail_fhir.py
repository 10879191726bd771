"""Documents over FHIR (IHE ITI-65): what the other server answers becomes one of three answers."""

import base64
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import orjson
import pytest

from adapters import ADAPTERS
from adapters.http import make_client
from adapters.sante_travail.access import ClientCredentials
from adapters.sante_travail.fhir import FhirChannel
from fhir_server.ports import HandedOver, Refused, TryLater
from tests.adapters.envelopes import PDF, content_of, envelope
from tests.support import EVERYTHING, Server

BASE = "http://peer/fhir"
SECRET_TEXT = "MARTINEAU Camille, 255069912345678"
Reply = tuple[int, dict[str, str], bytes]
RESPONSE = orjson.dumps(
    {
        "resourceType": "Bundle",
        "type": "transaction-response",
        "entry": [
            {"response": {"status": "201", "location": "List/9/_history/1"}},
            {"response": {"status": "201", "location": "DocumentReference/77/_history/1"}},
        ],
    }
)
DONE: Reply = (200, {}, RESPONSE)


def outcome(*codes: str, severity: str = "error") -> bytes:
    issues = [{"severity": severity, "code": code, "diagnostics": SECRET_TEXT} for code in codes]
    return orjson.dumps({"resourceType": "OperationOutcome", "issue": issues})


@dataclass
class Peer:
    """Another FHIR server, real as far as HTTP goes: keeps what it is asked, answers what it was told to."""

    replies: dict[str, list[Reply]] = field(default_factory=dict)
    asked: list[tuple[str, str, dict[str, str], bytes]] = field(default_factory=list)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        body, more = b"", True
        while more:
            message = await receive()
            body, more = body + message.get("body", b""), message.get("more_body", False)
        headers = {name.decode(): value.decode() for name, value in scope["headers"]}
        self.asked.append((scope["method"], scope["path"], headers, body))
        waiting = self.replies.get(scope["path"], [DONE])
        status, reply_headers, content = waiting.pop(0) if len(waiting) > 1 else waiting[0]
        raw = [(name.encode(), value.encode()) for name, value in reply_headers.items()]
        await send({"type": "http.response.start", "status": status, "headers": raw})
        await send({"type": "http.response.body", "body": content})


@pytest.fixture
def peer() -> Peer:
    return Peer()


@pytest.fixture
async def channel(peer: Peer) -> AsyncIterator[Callable[..., FhirChannel]]:
    """Makes channels to the peer."""
    channels: list[FhirChannel] = []

    def make(*, token: bool = False, **options: Any) -> FhirChannel:
        client = make_client(timeout=5, transport=httpx.ASGITransport(peer))
        access = ClientCredentials(client, "http://peer/token", "me", "hush") if token else None
        channels.append(FhirChannel(client, BASE, access=access, **{"inline": 1_000_000, **options}))
        return channels[-1]

    yield make
    for one in channels:
        await one.close()


Make = Callable[..., FhirChannel]


async def test_a_small_document_travels_inside_the_transaction(channel: Make, peer: Peer) -> None:
    """One POST to the base; the answer names the DocumentReference over there."""
    assert await channel().send(envelope()) == HandedOver("DocumentReference/77/_history/1")
    ((method, path, headers, body),) = peer.asked
    assert (method, path, headers["content-type"]) == ("POST", "/fhir", "application/fhir+json")
    bundle = orjson.loads(body)
    (binary,) = [one["resource"] for one in bundle["entry"] if one["resource"]["resourceType"] == "Binary"]
    assert base64.b64decode(binary["data"]) == PDF


async def test_a_large_document_is_put_before_as_raw_bytes(channel: Make, peer: Peer) -> None:
    """Streamed under its own id; the transaction then refers to it."""
    assert isinstance(await channel(inline=100).send(envelope()), HandedOver)
    put, post = peer.asked
    assert put[:2] == ("PUT", "/fhir/Binary/b1")
    assert (put[2]["content-type"], put[2]["content-length"], put[3]) == ("application/pdf", str(len(PDF)), PDF)
    assert b'"Binary/b1"' in post[3]
    assert base64.b64encode(PDF)[:60] not in post[3]


async def test_told_twice_the_same_is_sent_twice(channel: Make, peer: Peer) -> None:
    """Byte for byte, so that the conditions over there find what is there."""
    for _ in range(2):
        await channel().send(envelope())
    assert peer.asked[0][3] == peer.asked[1][3]
    bundle = orjson.loads(peer.asked[0][3])
    assert all(one["request"].get("ifNoneExist") for one in bundle["entry"] if one["request"]["method"] == "POST")


@pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503, 504])
async def test_what_may_pass_is_tried_later(channel: Make, peer: Peer, status: int) -> None:
    """After as long as the server asks for, where it says so in seconds."""
    peer.replies["/fhir"] = [
        (status, {"retry-after": "17"}, outcome("transient")),
        (status, {"retry-after": "Wed, 21 Oct 2026 07:28:00 GMT"}, b""),
        (status, {}, b"<html>"),
    ]
    answers = [await channel().send(envelope()) for _ in range(3)]
    assert [(type(one), one.reason) for one in answers if isinstance(one, TryLater)] == [
        (TryLater, f"http-{status}")
    ] * 3
    assert [one.after for one in answers if isinstance(one, TryLater)] == [17.0, None, None]


@pytest.mark.parametrize("status", [301, 307, 400, 401, 403, 404, 409, 412, 422, 501])
async def test_what_will_not_pass_is_refused(channel: Make, peer: Peer, status: int) -> None:
    """With the status and the issue codes, and not a word that the other server wrote: it may quote the document."""
    peer.replies["/fhir"] = [(status, {}, outcome("invalid", "business-rule"))]
    answer = await channel().send(envelope())
    assert isinstance(answer, Refused)
    assert answer.reason == f"http-{status}"
    assert "business-rule, invalid" in answer.detail
    assert "MARTINEAU" not in answer.detail
    assert "2550699" not in answer.detail


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>MARTINEAU</html>",
        b"[]",
        b'{"issue": [{}]}',
        b'{"issue": 3}',
        outcome("invalid", severity="warning"),
    ],
)
async def test_a_refusal_in_any_shape_is_a_refusal(channel: Make, peer: Peer, body: bytes) -> None:
    """No code to quote is no reason to fail."""
    peer.replies["/fhir"] = [(422, {}, body)]
    answer = await channel().send(envelope())
    assert isinstance(answer, Refused)
    assert "MARTINEAU" not in answer.detail


@pytest.mark.parametrize("body", [b"", b"not json", b"[]", b"{}", b'{"entry":[{}]}'])
async def test_success_without_location_is_success(channel: Make, peer: Peer, body: bytes) -> None:
    """Some servers do not say where."""
    peer.replies["/fhir"] = [(200, {}, body)]
    assert await channel().send(envelope()) == HandedOver(None)


@pytest.mark.parametrize(("status", "expected"), [(413, Refused), (503, TryLater)])
async def test_a_large_document_that_is_not_taken_is_not_announced(
    channel: Make, peer: Peer, status: int, expected: type
) -> None:
    """No transaction after a PUT that failed."""
    peer.replies["/fhir/Binary/b1"] = [(status, {}, b"")]
    assert isinstance(await channel(inline=1).send(envelope()), expected)
    assert len(peer.asked) == 1


async def test_a_server_that_is_not_there_is_tried_later() -> None:
    """A lost network is ordinary life."""
    channel = FhirChannel(make_client(timeout=0.5), "http://127.0.0.1:9/fhir", inline=1_000_000)
    answer = await channel.send(envelope())
    assert isinstance(answer, TryLater)
    assert answer.reason == "network"
    await channel.close()


async def test_a_document_without_national_type_is_refused_before_it_leaves(channel: Make, peer: Peer) -> None:
    """PDSm cannot carry it; nothing is sent."""
    whole = envelope()
    fiche = {**whole.document_reference, "type": {"text": "?"}}
    answer = await channel().send(envelope(document_reference=fiche))
    assert isinstance(answer, Refused)
    assert answer.reason == "not-publishable"
    assert peer.asked == []


async def test_a_token_is_fetched_once_and_carried(channel: Make, peer: Peer) -> None:
    """Client credentials by Basic; kept until shortly before its end."""
    peer.replies["/token"] = [(200, {}, b'{"access_token": "t1", "expires_in": 900}')]
    channel_with_token = channel(token=True)
    for _ in range(2):
        assert isinstance(await channel_with_token.send(envelope()), HandedOver)
    assert [path for _, path, _, _ in peer.asked] == ["/token", "/fhir", "/fhir"]
    token_request = peer.asked[0]
    assert token_request[2]["authorization"] == "Basic " + base64.b64encode(b"me:hush").decode()
    assert token_request[3] == b"grant_type=client_credentials"
    assert peer.asked[1][2]["authorization"] == "Bearer t1"


async def test_a_token_that_is_refused_is_fetched_anew(channel: Make, peer: Peer) -> None:
    """401 is tried later with another one, never a final refusal."""
    peer.replies["/token"] = [(200, {}, b'{"access_token": "t1"}'), (200, {}, b'{"access_token": "t2"}')]
    peer.replies["/fhir"] = [(401, {}, b""), DONE]
    channel_with_token = channel(token=True)
    first = await channel_with_token.send(envelope())
    assert isinstance(first, TryLater)
    assert first.reason == "token"
    assert isinstance(await channel_with_token.send(envelope()), HandedOver)
    assert peer.asked[-1][2]["authorization"] == "Bearer t2"


@pytest.mark.parametrize(
    ("status", "body", "expected"),
    [
        (500, b"", TryLater),
        (429, b"", TryLater),
        (400, b'{"error":"invalid_client"}', Refused),
        (401, b"", Refused),
        (200, b"<html>not json", TryLater),
        (200, b'{"no_token": 1}', TryLater),
    ],
)
async def test_no_token_is_an_answer_too(channel: Make, peer: Peer, status: int, body: bytes, expected: type) -> None:
    """An adapter answers, it does not raise; nothing was sent."""
    peer.replies["/token"] = [(status, {}, body)]
    answer = await channel(token=True).send(envelope())
    assert isinstance(answer, expected)
    assert answer.reason == "token"
    assert [path for _, path, _, _ in peer.asked] == ["/token"]


async def test_our_own_server_takes_what_we_send(server: Server) -> None:
    """Told twice, large or small, it holds one document and its bytes."""
    receiving = await server.client(EVERYTHING)
    transport = httpx.ASGITransport(server.app)
    client = httpx.AsyncClient(transport=transport, headers=dict(receiving.http.headers))
    channel = FhirChannel(client, "http://test/fhir", inline=100, supersede=False)
    answers = [await channel.send(envelope()) for _ in range(2)]
    small = FhirChannel(client, "http://test/fhir", inline=1_000_000, supersede=False)
    answers.append(await small.send(envelope()))
    assert [type(one) for one in answers] == [HandedOver] * 3, answers
    found = (await receiving.http.get("/fhir/DocumentReference")).json()["entry"]
    assert len(found) == 1
    url = found[0]["resource"]["content"][0]["attachment"]["url"]
    assert (await receiving.http.get(f"/fhir/{url}")).content == PDF
    await channel.close()


def test_the_options_of_the_file_of_recipients_make_a_channel(tmp_path: Path) -> None:
    """With a secret from a file of its own."""
    (tmp_path / "secret").write_text("hush\n", encoding="utf-8")
    options = {
        "base_url": BASE,
        "token_url": "http://peer/token",
        "client_id": "me",
        "secret_file": str(tmp_path / "secret"),
    }
    assert isinstance(ADAPTERS["sante_travail"](options, tmp_path), FhirChannel)
    assert content_of(b"x").size == 1
