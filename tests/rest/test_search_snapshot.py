"""Pages of a search show what its first page saw, whatever is written meanwhile."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import Any

import httpx
import pytest

from fhir_server.settings import Settings
from fhir_server.store import earlier, narrowing
from tests.support import (
    EVERYTHING,
    Caller,
    Resource,
    Server,
    codes,
    document_reference,
    entry,
    ids_of,
    keep,
    link,
    observation,
    pages,
    patient,
    post,
    put,
    transaction,
)

WORKERS = 30
FAMILIES = ("DUPONT", "DURAND", "MARTIN")
CODES = ("8302-2", "29463-7")

QUERIES = [
    "Patient?",
    "Patient?active=true",
    "Patient?active:not=true",
    "Patient?family=du",
    "Patient?family=du&birthdate=ge1960",
    "Patient?family:contains=u&_sort=family",
    "Patient?_sort=-birthdate",
    "Patient?_sort=birthdate,-family",
    "Patient?_sort=gender",
    "Patient?gender:missing=true",
    "Patient?_sort=_lastUpdated",
    "Patient?_sort=-_lastUpdated",
    "Patient?_sort=_id",
    "Patient?_text=silice",
    "Patient?_content=silice",
    "Patient?_tag=urn:test|campaign",
    "Patient?_id=p1,p2,p3,p4,p5,p6,p7,p8",
    "Patient?_has:Observation:subject:code=8302-2",
    "Patient?_has:Observation:subject:value-quantity=gt170",
    "Patient?_filter=family sw du and active eq true",
    "Patient?_list=chosen",
    "Location?near=48.85|2.35|300|km",
    "Observation?",
    "Observation?code=8302-2&_sort=date",
    "Observation?code=8302-2&_sort=-date",
    "Observation?subject=Patient/p1,Patient/p2,Patient/p3&_sort=-date",
    "Observation?subject=Patient/p1&_sort=-date",
    "Observation?subject:Patient.family=du",
    "Observation?subject:Patient.family=du&_sort=-date",
    "Observation?subject:Patient.active=true&code=8302-2",
    "Observation?value-quantity=gt1.7|http://unitsofmeasure.org|m",
    "Observation?code-value-quantity=http://loinc.org|8302-2$gt170",
    "Observation?_sort=-value-quantity",
    "?_type=Patient,Observation",
    "?_type=Patient,Observation,Location&_tag=urn:test|campaign",
    "?_type=Patient,Observation&_sort=_lastUpdated",
]


@pytest.fixture
def settings(make_settings: Callable[..., Settings]) -> Settings:
    return make_settings(content_search=True)


def worker(dice: random.Random, number: int) -> Resource:
    more: Resource = {"gender": dice.choice(("female", "male"))} if dice.random() < 0.6 else {}
    if dice.random() < 0.5:
        more["text"] = {"status": "generated", "div": '<div xmlns="http://www.w3.org/1999/xhtml">silice</div>'}
    if dice.random() < 0.5:
        more["meta"] = {"tag": [{"system": "urn:test", "code": "campaign"}]}
    born = f"{dice.randrange(1955, 1995)}-05-01"
    return patient(f"p{number}", dice.choice(FAMILIES), birthDate=born, active=dice.random() < 0.6, **more)


def reading(dice: random.Random, number: int) -> Resource:
    dated = (
        {"effectiveDateTime": f"{dice.randrange(2018, 2023)}-0{dice.randrange(1, 9)}-01"} if dice.random() < 0.8 else {}
    )
    value = {"value": dice.choice((155, 165, 170, 181)), "system": "http://unitsofmeasure.org", "code": "cm"}
    return observation(f"p{number % 5}", id=f"o{number}", code=dice.choice(CODES), valueQuantity=value, **dated)


def workshop(dice: random.Random, number: int) -> Resource:
    near_paris = {"latitude": 47 + dice.random() * 4, "longitude": 2.0}
    return {"resourceType": "Location", "id": f"l{number}", "position": near_paris}


def chosen(dice: random.Random) -> Resource:
    items = [{"item": {"reference": f"Patient/p{number}"}} for number in range(WORKERS) if dice.random() < 0.5]
    return {"resourceType": "List", "id": "chosen", "status": "current", "mode": "working", "entry": items}


async def everything(client: httpx.AsyncClient, dice: random.Random) -> None:
    """Each worker, reading, workshop and the list: made, or made otherwise."""
    for number in range(WORKERS):
        await keep(client, worker(dice, number), reading(dice, number), workshop(dice, number))
    await keep(client, chosen(dice))


async def meanwhile(client: httpx.AsyncClient, dice: random.Random) -> set[str]:
    """Whatever may happen between two pages; the ids of what was deleted."""
    await everything(client, dice)
    deleted = {f"Observation/o{number}" for number in range(0, WORKERS, 9)} | {"Location/l3"}
    for one in deleted | {"Observation/o1"}:
        await client.delete(f"/fhir/{one}")
    await keep(client, reading(dice, 1))  # deleted, and there again
    for number in range(WORKERS, WORKERS + 6):
        await keep(client, worker(dice, number), reading(dice, number), workshop(dice, number))
    await everything(client, dice)
    for one in deleted:
        await client.delete(f"/fhir/{one}")
    return deleted


def shown(bundle: Resource) -> list[Resource]:
    return [one["resource"] for one in bundle.get("entry", []) if one["search"]["mode"] == "match"]


async def rest_of(client: httpx.AsyncClient, bundle: Resource) -> list[Resource]:
    """What the pages after this one show, in their order."""
    following, found = link(bundle, "next"), []
    while following:
        assert len(found) < 500, "pages without an end"
        answer = await client.get(following)
        assert answer.status_code == 200, answer.text
        found += shown(answer.json())
        following = link(answer.json(), "next")
    return found


@pytest.mark.parametrize("narrow", [True, False])
async def test_all_pages_show_what_the_first_one_saw(
    fhir_client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch, narrow: bool
) -> None:
    """By every kind of criterion and order, whichever way the page is made: versions, order and number are of then."""
    if narrow:
        monkeypatch.setattr(narrowing, "STEP", 4)
        monkeypatch.setattr("fhir_server.store.date_walk.STEPS", (3, 10, 1000))
    dice = random.Random(5)
    await everything(fhir_client, dice)
    await everything(fhir_client, dice)
    first: dict[str, Resource] = {}
    expected: dict[str, list[Resource]] = {}
    for query in QUERIES:
        whole = await fhir_client.get(f"/fhir/{query}&_count=1000")
        expected[query] = shown(whole.json())
        assert expected[query], query
        first[query] = (await fhir_client.get(f"/fhir/{query}&_count=3")).json()
    deleted = await meanwhile(fhir_client, dice)
    for query in QUERIES:
        found = shown(first[query]) + await rest_of(fhir_client, first[query])
        left = [
            one
            for place, one in enumerate(expected[query])
            if place < 3 or f"{one['resourceType']}/{one['id']}" not in deleted
        ]
        assert found == left, query
    now = [one for page in [p async for p in pages(fhir_client, "Patient?_count=10")] for one in shown(page)]
    assert len(now) == WORKERS + 6
    assert {one["meta"]["versionId"] for one in now} == {"1", "4"}


async def test_the_total_is_of_the_first_page(fhir_client: httpx.AsyncClient) -> None:
    """What comes, goes or changes its value is counted as it was; what is deleted is counted no more."""
    await keep(fhir_client, *(patient(f"p{n}", active=n % 2 == 0) for n in range(10)))
    first = (await fhir_client.get("/fhir/Patient?active=true&_count=2&_total=accurate")).json()
    assert first["total"] == 5
    await keep(fhir_client, *(patient(f"p{n}", active=n % 2 == 1) for n in range(9)), patient("p11", active=True))
    second = (await fhir_client.get(link(first, "next") or "")).json()
    assert (second["total"], ids_of(second)) == (5, ["p4", "p2"])
    await fhir_client.delete("/fhir/Patient/p0")
    assert (await fhir_client.get(link(first, "next") or "")).json()["total"] == 4


async def test_what_was_filed_under_the_wrong_worker_is_not_shown_under_him(fhir_client: httpx.AsyncClient) -> None:
    """A page link made before the mistake was mended does not bring it back."""
    await keep(fhir_client, patient("a"), patient("b"), *(document_reference("a", id=f"d{n}") for n in range(4)))
    first = (await fhir_client.get("/fhir/DocumentReference?patient=a&_count=1")).json()
    assert ids_of(first) == ["d3"]
    await keep(fhir_client, document_reference("b", id="d1"), document_reference("a", id="d2", description="otherwise"))
    rest = await rest_of(fhir_client, first)
    assert [one["id"] for one in rest] == ["d2", "d0"]
    assert all("description" not in one for one in rest)


async def test_after_too_many_changes_the_client_has_to_begin_again(
    fhir_client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """403 too-costly, which says what to do: no page that would be neither of then nor of now."""
    monkeypatch.setattr(earlier, "MOST_CHANGED", 3)
    await keep(fhir_client, *(patient(f"p{n}") for n in range(5)))
    first = (await fhir_client.get("/fhir/Patient?_count=1&_sort=family")).json()
    await keep(fhir_client, *(patient(f"p{n}", "AUTRE") for n in range(3)), *(patient(f"q{n}") for n in range(9)))
    assert len(await rest_of(fhir_client, first)) == 4
    await keep(fhir_client, patient("p3", "AUTRE"))
    answer = await fhir_client.get(link(first, "next") or "")
    assert (answer.status_code, codes(answer)) == (403, ["too-costly"])
    assert "search again" in answer.text


async def test_pages_are_whole_while_others_write(fhir_client: httpx.AsyncClient, server: Server) -> None:
    """Each resource once, whatever its order was when it was changed: changes fall before, between and into pages."""
    await keep(fhir_client, *(patient(f"p{n:02}", birthDate=f"19{n + 30}-01-01") for n in range(40)))
    done = asyncio.Event()
    written = 0

    async def write(seed: int) -> None:
        nonlocal written
        dice = random.Random(seed)
        other = await server.client(EVERYTHING)
        while not done.is_set():
            one = patient(f"p{dice.randrange(40):02}", birthDate=f"19{dice.randrange(30, 70)}-02-02")
            assert (await put(other.http, one)).status_code == 200
            written += 1

    writers = [asyncio.create_task(write(seed)) for seed in (1, 2)]
    for round_ in range(20):
        for sort in ("_lastUpdated", "-_lastUpdated", "birthdate", "-birthdate,family"):
            found = [one async for page in pages(fhir_client, f"Patient?_count=9&_sort={sort}") for one in ids_of(page)]
            assert sorted(found) == [f"p{n:02}" for n in range(40)], (round_, sort)
    done.set()
    await asyncio.gather(*writers)
    assert written > 50


async def test_a_page_that_a_transaction_made_is_followed(fhir_client: httpx.AsyncClient) -> None:
    """It saw what its transaction wrote before that was there for others: what follows shows it too."""
    await keep(fhir_client, *(patient(f"p{n}") for n in range(4)))
    made: list[Any] = [entry(patient(f"q{n}"), method="PUT", url=f"Patient/q{n}") for n in range(3)]
    asked = {"request": {"method": "GET", "url": "Patient?_count=2&_sort=_id"}}
    answer = (await post(fhir_client, transaction(*made, asked))).json()
    first = answer["entry"][-1]["resource"]
    found = ids_of(first) + [one["id"] for one in await rest_of(fhir_client, first)]
    assert found == ["p0", "p1", "p2", "p3", "q0", "q1", "q2"]


async def test_what_protects_a_binary_now_protects_what_it_was(
    fhir_client: httpx.AsyncClient, client_with: Callable[..., Awaitable[Caller]]
) -> None:
    """Its version of then is not shown to whom its version of now is hidden from, nor the other way round."""
    scanner = await client_with("system/Binary.rs")
    await keep(fhir_client, patient("p"), document_reference("p", id="d"))
    guarded = {"securityContext": {"reference": "DocumentReference/d"}}
    bytes_ = {"resourceType": "Binary", "contentType": "application/pdf", "data": "JVBERg=="}
    await keep(fhir_client, *({**bytes_, "id": f"b{n}", **(guarded if n == 1 else {})} for n in range(5)))
    first = (await scanner.http.get("/fhir/Binary?_count=1")).json()
    mixed = (await scanner.http.get("/fhir/?_type=Binary&_count=1")).json()
    assert ids_of(first) == ids_of(mixed) == ["b4"]
    await keep(fhir_client, *({**bytes_, "id": f"b{n}", **(guarded if n == 2 else {})} for n in range(3)))
    for bundle in (first, mixed):
        assert [one["id"] for one in await rest_of(scanner.http, bundle)] == ["b3", "b0"]
    everything = (await fhir_client.get("/fhir/Binary?_count=1")).json()
    assert [one["id"] for one in await rest_of(fhir_client, everything)] == ["b3", "b2", "b1", "b0"]
