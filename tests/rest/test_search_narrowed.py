"""Searches that begin in the index find what the plain statement finds, in its order, page by page."""

import random
from typing import Any

import httpx
import pytest

from fhir_server.r4.search_query import parse
from fhir_server.store import narrowing
from tests.support import ids_of, keep, observation, pages, patient

FAMILIES = ("DUPONT", "DURAND", "MARTIN", "DUMAS")
CODES = ("8302-2", "29463-7")
WORKERS = 60
NARROW = ("narrowed", "walked")
"""What a page is made by, before the plain statement."""

QUERIES = [
    "Patient?family=du&birthdate=1970",
    "Patient?family=du&birthdate=ge1960&birthdate=lt1985",
    "Patient?family=du&birthdate=1970,1971&active=true",
    "Patient?family:contains=u&birthdate=ne1970",
    "Patient?family=du&active:not=true",
    "Patient?family=du&gender:missing=true&birthdate=le1980",
    "Patient?family=nobody&birthdate=1970",
    "Patient?family=du&_id=p1,p2,p3,p4,p5",
    "Patient?family:exact=DUPONT&birthdate=eb1980",
    "Observation?code=8302-2&value-quantity=gt1.7|http://unitsofmeasure.org|m",
    "Observation?value-quantity=170|http://unitsofmeasure.org|cm&date=2020",
    "Observation?subject=Patient/p1&code=8302-2&_sort=date",
    "Observation?subject=Patient/p1&code=8302-2,29463-7&date=ge2020&_sort=-date",
    "Observation?subject=Patient/p1&value-quantity=gt100&_sort=-value-quantity,date",
    "Observation?subject=Patient/p1,Patient/p2&code=8302-2&_sort=-date",
    "Observation?code=8302-2&_sort=date",
    "Observation?code=8302-2&date=ge2020-06&_sort=-date",
    "Observation?status:not=preliminary&code=29463-7&_sort=-date",
]


@pytest.fixture
async def archive(fhir_client: httpx.AsyncClient) -> None:
    """Workers with names and dates that many share, and their readings; some changed, some deleted."""
    dice = random.Random(11)
    workers = [worker(dice, number) for number in range(WORKERS)]
    readings = [reading(dice, number) for number in range(2 * WORKERS)]
    await keep(fhir_client, *workers, *readings)
    for number in range(0, WORKERS, 7):
        await keep(fhir_client, worker(dice, number), reading(dice, number))
    for number in range(3, 2 * WORKERS, 11):
        await fhir_client.delete(f"/fhir/Observation/o{number}")


def worker(dice: random.Random, number: int) -> dict[str, Any]:
    more = {"gender": "female"} if dice.random() < 0.5 else {}
    born = dice.choice([f"{dice.randrange(1955, 1995)}-05-01", "1970", "1971-02"])
    return patient(f"p{number}", dice.choice(FAMILIES), birthDate=born, active=dice.random() < 0.6, **more)


def reading(dice: random.Random, number: int) -> dict[str, Any]:
    dated = {"effectiveDateTime": f"{dice.randrange(2018, 2023)}-0{dice.randrange(1, 9)}-01"} if number % 6 else {}
    value = {"value": dice.choice((155, 165, 170, 181)), "system": "http://unitsofmeasure.org", "code": "cm"}
    status = dice.choice(("final", "preliminary"))
    worker_of = f"p{dice.randrange(3)}"
    return observation(worker_of, id=f"o{number}", status=status, code=dice.choice(CODES), valueQuantity=value, **dated)


@pytest.mark.parametrize("most", [2, 15, 5000])
@pytest.mark.usefixtures("archive")
async def test_a_search_that_begins_in_the_index_finds_the_same(
    fhir_client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch, most: int
) -> None:
    """Whatever is taken for small; with pages of every size."""
    with monkeypatch.context() as plainly:
        for step in NARROW:
            plainly.setattr(f"fhir_server.store.{'narrowing' if step == 'narrowed' else 'date_walk'}.{step}", nothing)
        plainly.setattr(narrowing, "is_sorted_in_index", lambda _: False)
        expected = {query: ids_of((await fhir_client.get(f"/fhir/{query}&_count=1000")).json()) for query in QUERIES}
    assert [query for query in QUERIES if not expected[query]] == ["Patient?family=nobody&birthdate=1970"]
    monkeypatch.setattr(narrowing, "MOST", most)
    monkeypatch.setattr(narrowing, "FEW", most // 2)
    monkeypatch.setattr(narrowing, "STEP", 4)
    monkeypatch.setattr("fhir_server.store.date_walk.STEPS", (3, 10, 1000))
    for query in QUERIES:
        for count in (3, 7, 1000):
            paged = [ids_of(page) async for page in pages(fhir_client, f"{query}&_count={count}")]
            assert [identity for page in paged for identity in page] == expected[query], query


async def nothing(*_: object) -> None:
    """Not this way."""


def test_ways_of_a_search_are_told_by_the_query() -> None:
    """By references to one resource the order is made in the index at once; what stands in rows, never."""
    worker_of = [("subject", "Patient/p1"), ("code", "8302-2")]
    assert narrowing.is_of_few(parse("Observation", [*worker_of, ("_sort", "-date")]))
    assert not narrowing.is_of_few(parse("Observation", [*worker_of, ("_sort", "_lastUpdated")]))
    assert not narrowing.is_of_few(parse("Observation", [*worker_of, ("_sort", "code")]))
    assert not narrowing.is_of_few(parse("Observation", worker_of))
    assert not narrowing.is_of_few(parse("Observation", [*worker_of, ("_id", "o"), ("_sort", "date")]))
    by_code = parse("Observation", [("code", "8302-2"), ("_sort", "date")])
    assert narrowing.is_sorted_in_index(by_code)
    assert not narrowing.is_of_few(by_code)
