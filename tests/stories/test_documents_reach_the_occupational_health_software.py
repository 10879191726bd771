"""Documents go to the occupational-health software over FHIR: ITI-65 to a real server of somebody else, and to ours.

HAPI FHIR's own REST server, its instance validator switched on, judges what we send; where it cannot be had the
test says so and is skipped, and a second instance of this server stands in.
"""

import itertools
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest
from psycopg import sql

from fhir_server.app import Parts
from fhir_server.settings import Settings
from tests.peers.hapi import PeerUnavailable, hapi_server
from tests.stories.support import Provider, asking, count, dispatch_all, running_service

CONSENT_SCOPE = "http://terminology.hl7.org/CodeSystem/consentscope"
_numbers = itertools.count(1)


@dataclass(frozen=True)
class Peer:
    """A FHIR server to send to: the options of the recipient, and a client that may look into it."""

    options: str
    client: httpx.Client
    judge: str | None = None

    def documents(self, query: str) -> list[dict[str, Any]]:
        answer = self.client.get(f"DocumentReference?{query}")
        answer.raise_for_status()
        return [entry["resource"] for entry in answer.json().get("entry", [])]


@pytest.fixture(scope="module")
def hapi() -> Iterator[Peer]:
    """HAPI FHIR from Maven artifacts."""
    try:
        with hapi_server() as running, httpx.Client(base_url=running.base_url + "/", timeout=60) as client:
            yield Peer(f'base_url = "{running.base_url}"', client, running.judge_url)
    except PeerUnavailable as reason:
        pytest.skip(f"no HAPI server here: {reason}")


@pytest.fixture(scope="module")
def ours(embedded_cluster: str, redis_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Peer]:
    """A second instance of this server, with a client for us."""
    folder = tmp_path_factory.mktemp("second")
    name = f"second_{next(_numbers)}"
    with psycopg.connect(embedded_cluster, autocommit=True) as connection:
        connection.execute(sql.SQL("create database {}").format(sql.Identifier(name)))
    settings = {
        "DMST_FHIR_DATA": str(folder),
        "DMST_FHIR_POSTGRES": f"{embedded_cluster.rpartition(' ')[0]} dbname={name}",
        "DMST_FHIR_REDIS": redis_url,
        "DMST_FHIR_PORT": str(_free_port()),
    }
    base = f"http://127.0.0.1:{settings['DMST_FHIR_PORT']}"
    command = [sys.executable, "-m", "fhir_server"]
    added = subprocess.run(
        [*command, "clients", "add", "premier", "--scope", "system/*.cruds"],
        env=os.environ | settings,
        capture_output=True,
        check=True,
    )
    known = httpx.Response(200, content=added.stdout).json()
    secret = folder / "secret"
    secret.write_text(known["client_secret"], encoding="utf-8")
    with ExitStack() as stack:
        log = stack.enter_context((folder / "serve.log").open("wb"))
        server = subprocess.Popen([*command, "serve"], env=os.environ | settings, stdout=log, stderr=log)
        stack.callback(server.wait)
        stack.callback(server.terminate)
        _wait_for(f"{base}/readyz")
        token = httpx.post(
            f"{base}/oauth2/token",
            data={"grant_type": "client_credentials"},
            auth=(known["client_id"], known["client_secret"]),
        ).json()["access_token"]
        client = stack.enter_context(
            httpx.Client(base_url=f"{base}/fhir/", headers={"authorization": f"Bearer {token}"}, timeout=60)
        )
        options = (
            f'base_url = "{base}/fhir", token_url = "{base}/oauth2/token", '
            f'client_id = "{known["client_id"]}", secret_file = "{secret}"'
        )
        yield Peer(options, client)


def _free_port() -> int:
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _wait_for(url: str) -> None:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        try:
            if httpx.get(url).status_code == 200:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.05)
    pytest.fail("the second instance did not start")


@pytest.fixture(params=[pytest.param("hapi", marks=pytest.mark.peer), "ours"])
def peer(request: pytest.FixtureRequest) -> Peer:
    return request.getfixturevalue(request.param)


def to_peer(world: Settings, peer: Peer, more: str = "") -> Settings:
    assert world.recipients
    world.recipients.write_text(
        f'[[recipient]]\nname = "logiciel"\nkind = "logiciel-metier"\nadapter = "sante_travail"\n'
        f"options = {{ {peer.options}{more} }}\n",
        encoding="utf-8",
    )
    return world


async def states(service: Parts) -> dict[str, int]:
    async with service.database.connection() as connection:
        rows = await (await connection.execute(b"select state, count(*) from delivery group by 1")).fetchall()
    return dict(rows)


async def test_the_software_holds_each_document_with_its_bytes(world: Settings, provider: Provider, peer: Peer):
    """Accepted by the other server's own validation; the bytes are those that were scanned."""
    async with running_service(to_peer(world, peer)) as service:
        await service.lots.receive(provider.lot("100000102"))
        await dispatch_all(service)
        assert await states(service) == {"handed_over": 4}
        async with asking(service) as client:
            sent = (await client.get("/fhir/DocumentReference?_count=50")).json()["entry"]
            tasks = (await client.get("/fhir/Task?_count=50")).json()["entry"]
            for entry in sent:
                document = entry["resource"]
                master = document["masterIdentifier"]["value"]
                (held,) = peer.documents(f"identifier=urn:ietf:rfc:3986|{master}")
                original = await client.get(f"/fhir/{document['content'][0]['attachment']['url']}")
                there = peer.client.get(held["content"][0]["attachment"]["url"], headers={"accept": "application/pdf"})
                assert there.content == original.content
        assert {t["resource"]["businessStatus"]["coding"][0]["code"] for t in tasks} == {"handed_over"}
        assert await count(service, "access where interaction = 'disclose'") == 4


async def test_what_is_sent_again_is_held_once(world: Settings, provider: Provider, peer: Peer):
    """As after a crash between send and settle: the same envelope twice makes one document."""
    async with running_service(to_peer(world, peer)) as service:
        await service.lots.receive(provider.lot("100000101"))
        await dispatch_all(service)
        async with service.database.connection() as connection:
            await connection.execute(b"update delivery set state = 'sending'")
        await dispatch_all(service)
        assert await states(service) == {"handed_over": 4}
        async with asking(service) as client:
            for entry in (await client.get("/fhir/DocumentReference?_count=50")).json()["entry"]:
                master = entry["resource"]["masterIdentifier"]["value"]
                assert len(peer.documents(f"identifier=urn:ietf:rfc:3986|{master}")) == 1


async def test_a_large_document_goes_ahead_of_its_transaction(world: Settings, provider: Provider, peer: Peer):
    """Beyond `inline_mb` the bytes are put as a raw Binary, as a stream, and the transaction refers to it."""
    async with running_service(to_peer(world, peer, ", inline_mb = 0.01")) as service:
        await service.lots.receive(provider.lot("100000103"))
        await dispatch_all(service)
        assert await states(service) == {"handed_over": 4}


@pytest.mark.peer
async def test_a_busy_server_gets_the_document_later(world: Settings, provider: Provider, hapi: Peer):
    """503 twice, then it takes it: the attempts are counted, and one document is held."""
    assert hapi.judge
    async with running_service(to_peer(world, hapi)) as service:
        answer = await service.lots.receive(provider.lot("100000102"))
        httpx.post(f"{hapi.judge}/fail?times=2&status=503")
        await dispatch_all(service)
        assert await states(service) == {"handed_over": 4}
        assert await count(service, "delivery where attempts > 1") >= 1
        assert answer.state == "accepted"


async def test_a_server_that_is_down_blocks_nobody_else(world: Settings, provider: Provider):
    """One recipient is away for good; the other has everything, and the first is given up with a reason."""
    assert world.recipients
    world.recipients.write_text(
        '[[recipient]]\nname = "absent"\nkind = "logiciel-metier"\nadapter = "sante_travail"\n'
        'options = { base_url = "http://127.0.0.1:1/fhir", timeout = 1 }\n\n'
        '[[recipient]]\nname = "present"\nkind = "logiciel-metier"\nadapter = "loopback"\n',
        encoding="utf-8",
    )
    async with running_service(world.model_copy(update={"retry_attempts": 2})) as service:
        await service.lots.receive(provider.lot("100000101"))
        await dispatch_all(service)
        assert await count(service, "delivery where recipient = 'present' and state = 'handed_over'") == 4
        assert await count(service, "delivery where recipient = 'absent' and reason = 'gave-up'") == 4


async def test_the_dmp_is_denied_by_default_and_asked_again_with_consent(world: Settings, provider: Provider):
    """CSP L1111-17 IV: without express consent withheld, with a code; with it, only the missing adapter stops it."""
    async with running_service(world) as service:
        await service.lots.receive(provider.lot("100000101"))
        await dispatch_all(service)
        assert await count(service, "delivery where recipient = 'dmp' and reason = 'dmp-consent-missing'") == 4
        async with asking(service) as client:
            document = (await client.get("/fhir/DocumentReference?_count=1")).json()["entry"][0]["resource"]
            worker = document["subject"]["reference"]
            trail = (await client.get(f"/fhir/AuditEvent?patient={worker}&_count=200")).json()["entry"]
            denied = [one["resource"] for one in trail if one["resource"]["type"]["code"] == "110113"]
            assert [(one["outcome"], one["outcomeDesc"]) for one in denied] == [("4", "dmp-consent-missing")] * 4
            consent = {
                "resourceType": "Consent",
                "status": "active",
                "scope": {
                    "coding": [
                        {"system": "http://terminology.hl7.org/CodeSystem/consentscope", "code": "patient-privacy"}
                    ]
                },
                "category": [
                    {"coding": [{"system": "https://dmst-fhir.org/ns/CodeSystem/worker-right", "code": "C4"}]}
                ],
                "patient": document["subject"],
                "dateTime": "2026-01-01T00:00:00Z",
                "extension": [
                    {
                        "url": "https://dmst-fhir.org/ns/StructureDefinition/consent-information",
                        "extension": [
                            {"url": "by", "valueReference": {"identifier": {"value": "Dr Test"}}},
                            {"url": "at", "valueDateTime": "2026-01-01"},
                        ],
                    }
                ],
                "policyRule": {"text": "CSP L1111-17 IV"},
                "provision": {"type": "permit"},
            }
            made = await client.post("/fhir/Consent", json=consent, headers={"content-type": "application/fhir+json"})
            assert made.status_code == 201, made.text
        async with service.database.connection() as connection:
            await connection.execute(b"update delivery set state = 'pending' where recipient = 'dmp'")
        await dispatch_all(service)
        assert await count(service, "delivery where recipient = 'dmp' and reason = 'adapter-absent'") >= 1
        assert await count(service, "delivery where recipient = 'dmp' and reason = 'not-a-dmp-document'") >= 1


def test_the_recipients_file_of_the_demonstration_is_readable(tmp_path: Path):
    """What the demonstration writes is what the program reads."""
    from fhir_server.demo import RECIPIENTS
    from fhir_server.outbox.recipients import load

    path = tmp_path / "recipients.toml"
    path.write_text(RECIPIENTS, encoding="utf-8")
    assert [recipient.kind for recipient in load(path)] == ["logiciel-metier", "logiciel-metier", "dmp"]
