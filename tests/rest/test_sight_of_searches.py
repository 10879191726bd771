"""Every way in which a search is made asks oppositions as of now, however its plan is kept, and how many there are."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from fhir_server import roles
from fhir_server.r4.search_query import parse
from fhir_server.sight import Sight
from fhir_server.store import narrowing, ordering
from fhir_server.store.database import Plans
from fhir_server.store.statement import Statement
from mappings.consent import RIGHTS, WORKER_RIGHT
from tests.support import EVERYTHING, Resource, Server, ids_of, in_order, keep, observation, pages, patient

WAYS = {
    "generic": "Observation?subject=Patient/p0&_count=100",
    "in the index": "Observation?subject=Patient/p0&code=8867-4&_sort=-date",
    "several values": "Observation?subject=Patient/p0&code=8867-4",
    "by one token, sorted": "Observation?identifier=urn:test|p0&_sort=date",
    "walked": "Observation?status=final&identifier=urn:test|p0&_sort=date",
    "narrowed": "Observation?value-quantity=70||cm&identifier=urn:test|p0",
    "in memory": "Observation?subject=Patient/p0&_sort=code",
    "chained": "Observation?subject:Patient.family=ZERO",
    "many types": "?_type=Observation,Condition&_id=p0-0,p0-1,p0-2,p1-0",
}
"""Searches that find the three readings of p0, one of them with one of p1."""
READINGS = 3


def reading(worker: int, number: int, **more: Any) -> Resource:
    value = {"value": 70, "system": "http://unitsofmeasure.org", "code": "cm", "unit": "cm"}
    return observation(
        f"p{worker}",
        id=f"p{worker}-{number}",
        effectiveDateTime=f"2020-0{number + 1}-01",
        valueQuantity=value,
        identifier=[{"system": "urn:test", "value": f"p{worker}"}],
        **more,
    )


def opposition(start: datetime | None = None, end: datetime | None = None, status: str = "active") -> Resource:
    period = {name: one.isoformat() for name, one in (("start", start), ("end", end)) if one}
    return {
        "resourceType": "Consent",
        "id": "k",
        "status": status,
        "scope": {"coding": [{"code": "patient-privacy"}]},
        "category": [{"coding": [{"system": WORKER_RIGHT, "code": "C2"}]}],
        "patient": {"reference": "Patient/p0"},
        "dateTime": datetime.now(UTC).isoformat(),
        "policyRule": {"text": "R4624-45-6"},
        "provision": {"type": "deny", **({"period": period} if period else {})},
    }


@pytest.fixture
async def doctor(server: Server) -> httpx.AsyncClient:
    http = (await server.client(EVERYTHING, role="medecin-travail")).http
    await keep(http, patient("p0", "ZERO"), patient("p1", "UN"))
    await keep(http, *(reading(worker, number) for worker in (0, 1) for number in range(READINGS)))
    return http


@pytest.fixture
async def nurse(server: Server) -> httpx.AsyncClient:
    return (await server.client(EVERYTHING, role="infirmier")).http


async def of_p0(http: httpx.AsyncClient) -> dict[str, tuple[int, int]]:
    """Of each way, how many readings of p0 are on the page, and how many it counts."""
    told = {}
    for way, query in WAYS.items():
        page = [name for name in await in_order(http, query) if name.startswith("p0-")]
        total = (await http.get(f"/fhir{'' if query[0] == '?' else '/'}{query}&_summary=count")).json()["total"]
        told[way] = len(page), total - (way == "many types")
    return told


async def test_an_opposition_holds_from_its_commit_whatever_was_prepared(
    doctor: httpx.AsyncClient, nurse: httpx.AsyncClient
) -> None:
    """The same statements on the same connections, whose plans are kept, before, during and after."""
    all_of_them, nothing = dict.fromkeys(WAYS, (READINGS, READINGS)), dict.fromkeys(WAYS, (0, 0))
    for _ in range(3):
        assert await of_p0(nurse) == all_of_them
    await keep(doctor, opposition())
    assert await of_p0(nurse) == nothing
    assert await of_p0(doctor) == all_of_them
    await keep(doctor, opposition(status="inactive"))
    assert await of_p0(nurse) == all_of_them


async def test_an_opposition_begins_and_ends_by_itself(
    server: Server, doctor: httpx.AsyncClient, nurse: httpx.AsyncClient
) -> None:
    """No one writes anything when its hour comes: the row is moved in time here, instead of the clock."""
    all_of_them, nothing = dict.fromkeys(WAYS, (READINGS, READINGS)), dict.fromkeys(WAYS, (0, 0))
    now = datetime.now(UTC)
    await keep(doctor, opposition(now + timedelta(hours=1), now + timedelta(hours=2)))
    assert await of_p0(nurse) == all_of_them
    earlier = "update opposition set low = low - interval '61 minutes', high = high - interval '61 minutes'"
    await server.rows(earlier)
    assert await of_p0(nurse) == nothing
    await server.rows(earlier)
    assert await of_p0(nurse) == all_of_them


@pytest.mark.parametrize("others", [1, 1000])
async def test_the_oppositions_of_others_change_nothing(
    server: Server, doctor: httpx.AsyncClient, nurse: httpx.AsyncClient, others: int
) -> None:
    """However the planner chooses to ask them: statistics that are fresh, and statements planned anew."""
    await server.rows(
        "insert into opposition (worker, exercised, low, high, rid)"
        " select n, 'C2', '-infinity', 'infinity', n from generate_series(1, %s) n",
        others,
    )
    await server.as_owner("set dmst.tenant = 0; analyze opposition, resource, token, period, measure")
    assert await of_p0(nurse) == dict.fromkeys(WAYS, (READINGS, READINGS))
    await keep(doctor, opposition())
    assert await of_p0(nurse) == dict.fromkeys(WAYS, (0, 0))


@pytest.mark.parametrize("plans", ["custom", "generic"])
async def test_a_sorted_page_is_full_of_what_is_in_sight(
    server: Server, doctor: httpx.AsyncClient, nurse: httpx.AsyncClient, plans: Plans
) -> None:
    """What is hidden between hits is passed over in the index: neither a gap, nor every document read and sorted."""
    await keep(doctor, opposition())
    found = [ids_of(page) async for page in pages(nurse, "Observation?code=8867-4&_sort=date&_count=2")]
    assert found == [["p1-0", "p1-1"], ["p1-2"]]
    asked = parse("Observation", [("code", "8867-4"), ("_sort", "date"), ("_count", "2")])
    expected = {"infirmier": ["p1-0", "p1-1", "p1-2"], "medecin-travail": ["p0-0", "p1-0", "p0-1"]}
    for role, ids in expected.items():
        query = replace(asked, sight=roles.sight_of(role, None, None, delegated=False))
        async with server.database.connection(plans) as connection:
            rows = await narrowing.sorted_in_index(connection, query, ordering.keys_of(query), None, "")
        assert rows is not None, "no document was read but those of the page"
        assert [row[1] for row in rows] == ids, role


async def test_an_estimate_counts_nothing_that_is_hidden(
    server: Server, doctor: httpx.AsyncClient, nurse: httpx.AsyncClient
) -> None:
    """The planner knows how many there are of a frequent value, whoever asks."""
    await keep(doctor, opposition())
    await server.as_owner("set dmst.tenant = 0; analyze resource, token")
    for asked in ("Observation?status=final", "?_type=Observation,Condition"):
        slash = "" if asked[0] == "?" else "/"
        told = (await nurse.get(f"/fhir{slash}{asked}&_total=estimate&_count=1")).json()
        assert told["total"] == READINGS, asked


def test_what_stands_in_the_text_are_constants() -> None:
    """A right that no Consent exercises hides nothing, and comes into no statement."""
    statement = Statement()
    statement.sight = Sight(0, ("C2", "'; drop table resource", "C9"))
    statement.if_in_sight("r")
    assert statement.values == []
    assert [right for right in RIGHTS if f"'{right}'" in str(statement)] == ["C2"]
    assert "drop" not in str(statement)
    nobody = Statement()
    nobody.sight = Sight(0, ("C9",))
    nobody.if_in_sight("r")
    assert str(nobody) == ""
