"""Two prevention services on one installation: neither sees, counts, refers to or runs into what the other has."""

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest

from fhir_server.app import Parts
from fhir_server.settings import Settings
from fhir_server.store.queues import queue_lengths
from tests.conftest import migrated_database
from tests.stories.support import count, process, running_service, until
from tests.support import EVERYTHING, FHIR_JSON, Server, in_folder, patient, serving, settings_of

UCUM = "http://unitsofmeasure.org"
Answer = tuple[int, Any]
VOLATILE = ("lastUpdated", "link", "timestamp", "date", "issued", "recorded", "lastModified", "fullUrl", "diagnostics")


@pytest.fixture
async def two(make_settings: Callable[..., Settings]) -> AsyncIterator[tuple[Server, Server]]:
    """Both on one database, one Valkey and one data folder."""
    async with AsyncExitStack() as stack:
        first, second = [await stack.enter_async_context(serving(make_settings(tenant=number))) for number in (1, 2)]
        yield first, second


async def test_a_token_of_one_service_is_nothing_to_the_other(two: tuple[Server, Server]) -> None:
    """The same process cluster, the same database, and yet a stranger."""
    caller = await two[0].client(EVERYTHING)
    stranger = await two[1].http({"authorization": caller.http.headers["authorization"]})
    assert (await caller.http.get("/fhir/Patient")).status_code == 200
    assert (await stranger.get("/fhir/Patient")).status_code == 401
    basic = httpx.BasicAuth(caller.client_id, caller.secret)
    asked = {"grant_type": "client_credentials", "scope": "system/*.cruds"}
    assert (await caller.http.post("/oauth2/token", data=asked, auth=basic)).status_code == 200
    assert (await stranger.post("/oauth2/token", data=asked, auth=basic)).status_code == 401


async def test_a_page_link_of_one_service_opens_nothing_at_the_other(two: tuple[Server, Server]) -> None:
    """Page links are sealed with a key of the tenant."""
    mine, other = [(await server.client(EVERYTHING)).http for server in two]
    for http in (mine, other):
        for number in range(3):
            await http.put(f"/fhir/Patient/p{number}", json=patient(f"p{number}"), headers=FHIR_JSON)
    links = (await mine.get("/fhir/Patient?_count=1")).json()["link"]
    (following,) = [link["url"].removeprefix("http://test") for link in links if link["relation"] == "next"]
    assert (await mine.get(following)).status_code == 200
    assert (await other.get(following)).status_code == 400


async def test_the_bytes_of_one_service_are_not_those_of_the_other(two: tuple[Server, Server]) -> None:
    """The same scan is kept twice: that it is there already would be told by the disk of one to the other."""
    kept: list[Path] = []
    for server in two:
        http = (await server.client(EVERYTHING)).http
        answer = await http.post("/fhir/Binary", content=b"%PDF-1.4 scan", headers={"content-type": "application/pdf"})
        assert answer.status_code == 201
        kept += [path for path in server.settings.blob_folder.rglob("*") if path.is_file()]
    assert len(kept) == len({path.name for path in kept}) == len({path.parent for path in kept}) == 2


async def test_jobs_of_one_service_are_not_worked_on_by_the_other(two: tuple[Server, Server]) -> None:
    """An export is a row of its tenant and a job in a queue of its own; metrics count it there only."""
    mine, other = two
    http = (await mine.client(EVERYTHING)).http
    asked = await http.get("/fhir/$export", headers={"prefer": "respond-async", "accept": "application/fhir+json"})
    assert asked.status_code == 202
    assert await mine.rows("select queue_name, task_name from procrastinate_jobs") == [("bulk@1", "bulk@1")]
    assert (await queue_lengths(mine.database))["jobs"] == [(("bulk", "todo"), 1)]
    assert (await queue_lengths(other.database))["jobs"] == []
    status = asked.headers["content-location"].removeprefix("http://test")
    assert (await http.get(status)).status_code == 202
    assert (await (await other.client(EVERYTHING)).http.get(status)).status_code == 404


async def test_an_impatient_worker_of_one_service_buries_none_of_the_other(world: Settings) -> None:
    """The table of workers is shared: who takes others for dead soon speaks for his own service alone."""
    patient_one = world.model_copy(update={"tenant": 2, "stalled_seconds": 60.0})
    impatient = world.model_copy(update={"tenant": 1, "stalled_seconds": 0.1})
    async with running_service(patient_one) as service:
        with process(patient_one, "work"):
            await until(lambda: count(service, "procrastinate_workers"), "the first works")
            await asyncio.sleep(3 * impatient.stalled_seconds)
            ((newest,),) = await rows(service, "select max(id) from procrastinate_workers")
            before = await count(service, f"procrastinate_workers where id <= {newest}")
            with process(impatient, "work"):
                await until(lambda: count(service, f"procrastinate_workers where id > {newest}"), "the second works")
                assert await count(service, f"procrastinate_workers where id <= {newest}") == before


async def rows(service: Parts, statement: str) -> list[tuple[Any, ...]]:
    async with service.database.connection() as connection:
        return await (await connection.execute(statement.encode())).fetchall()


@pytest.mark.parametrize("seed", range(3))
async def test_each_service_is_answered_as_if_it_were_alone(
    two: tuple[Server, Server], embedded_cluster: str, redis_url: str, prepared: set[str], tmp_path: Path, seed: int
) -> None:
    """Random work of both, mixed, under the same ids and identifiers; compared with one who has all to himself."""
    dice = random.Random(seed)
    with migrated_database(embedded_cluster, prepared) as dsn:
        async with serving(settings_of(dsn, redis_url, tmp_path / "alone")) as alone:
            mine, other, single = [(await one.client(EVERYTHING)).http for one in (*two, alone)]
            for _ in range(120):
                if dice.random() < 0.5:
                    await ask(other, step(dice))
                    continue
                asked = step(dice)
                assert await ask(mine, asked) == await ask(single, asked), asked


Step = tuple[str, str, Any, dict[str, str]]


def step(dice: random.Random) -> Step:
    """One request: method, path, body, headers. Few ids and identifiers, so that they meet."""
    number = str(dice.randrange(4))
    worker = in_folder(
        number, id=f"p{number}", active=dice.random() < 0.5, birthDate=f"19{dice.randrange(40, 99)}-01-01"
    )
    reading = {
        "resourceType": "Observation",
        "id": f"o{number}",
        "status": "final",
        "code": {"coding": [{"system": "http://loinc.org", "code": "8302-2"}]},
        "subject": {"reference": f"Patient/p{dice.randrange(4)}"},
        "valueQuantity": {
            "value": dice.randrange(150, 200),
            "unit": "cm",
            "system": UCUM,
            "code": "cm",
        },
    }
    bundle = {
        "resourceType": "Bundle",
        "type": "transaction",
        "entry": [
            {"resource": worker, "request": {"method": "PUT", "url": f"Patient/p{number}"}},
            {"resource": reading, "request": {"method": "PUT", "url": f"Observation/o{number}"}},
        ],
    }
    return dice.choice(
        [
            ("PUT", f"Patient/p{number}", worker, {}),
            ("PUT", f"Observation/o{number}", reading, {}),
            ("PUT", f"Patient?identifier=urn:test:folder|{number}", worker, {}),
            ("POST", "", bundle, {}),
            ("DELETE", f"Patient/p{number}", None, {}),
            ("DELETE", f"Observation/o{number}", None, {}),
            ("GET", f"Patient/p{number}", None, {}),
            ("GET", f"Patient/p{number}/_history", None, {}),
            ("GET", "_history?_count=50", None, {}),
            ("GET", "Patient?_sort=_id&_total=accurate", None, {}),
            ("GET", f"Patient?identifier=urn:test:folder|{number}&_revinclude=Observation:subject", None, {}),
            ("GET", "Patient?active=true&birthdate=gt1960&_sort=birthdate", None, {}),
            ("GET", "Patient?name:contains=esteu&_summary=count", None, {}),
            ("GET", f"Observation?subject:Patient.identifier=urn:test:folder|{number}&_sort=_id", None, {}),
            ("GET", f"Observation?value-quantity=gt1.7|{UCUM}|m&_sort=_id&_include=*", None, {}),
            ("GET", "Patient?_has:Observation:subject:code=8302-2&_sort=_id", None, {}),
            ("GET", f"Patient/p{number}/$everything", None, {}),
            ("GET", f"Patient/p{number}/Observation?_sort=_id", None, {}),
            ("GET", "Patient/$meta", None, {}),
        ]
    )  # fmt: skip


async def ask(http: httpx.AsyncClient, asked: Step) -> Answer:
    """The status and what the body says, without moments."""
    method, path, body, headers = asked
    answer = await http.request(method, f"/fhir/{path}", json=body, headers={**FHIR_JSON, **headers})
    assert answer.status_code < 500, answer.text
    return answer.status_code, plain(answer.json()) if answer.content else None


def plain(value: Any) -> Any:
    """Without what differs between two servers that say the same."""
    if isinstance(value, dict):
        return {
            name: plain(inner) for name, inner in value.items() if name not in VOLATILE and not is_random(name, inner)
        }
    if isinstance(value, list):
        return [plain(inner) for inner in value]
    return value


def is_random(name: str, value: Any) -> bool:
    """The id of a Bundle, the location of an AuditEvent."""
    return name == "id" and isinstance(value, str) and len(value) > 10
