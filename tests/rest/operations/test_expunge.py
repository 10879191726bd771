"""$expunge: what an operator removes for good."""

from collections.abc import Awaitable, Callable
from typing import Any

import httpx
import orjson
import pytest

from tests.support import FHIR_JSON, Caller, Server, codes, found, keep, observation, patient

Make = Callable[..., Awaitable[Caller]]
TABLES = ("resource", "resource_history", "token", "period", "word")


@pytest.fixture
async def operator(client_with: Make) -> httpx.AsyncClient:
    """An operator who may do everything."""
    return (await client_with("system/*.cruds", role="operator")).http


@pytest.fixture
async def kept(operator: httpx.AsyncClient) -> httpx.AsyncClient:
    """A worker in three versions, a reading in two, and another worker who was deleted."""
    for family in ("A", "B", "C"):
        await keep(operator, patient("p", family=family, birthDate="1980"))
    for status in ("preliminary", "final"):
        await keep(operator, observation("p", id="o", status=status))
    await keep(operator, patient("gone"))
    await operator.delete("/fhir/Patient/gone")
    return operator


async def asked(client: httpx.AsyncClient, path: str, **wishes: Any) -> httpx.Response:
    parameters = [
        {"name": name, "valueInteger" if name == "limit" else "valueBoolean": value} for name, value in wishes.items()
    ]
    body = {"resourceType": "Parameters", **({"parameter": parameters} if parameters else {})}
    return await client.post(f"/fhir/{path}/$expunge", content=orjson.dumps(body), headers=FHIR_JSON)


async def gone(client: httpx.AsyncClient, path: str, **wishes: Any) -> int:
    answer = await asked(client, path, **wishes)
    assert answer.status_code == 200, answer.text
    (count,) = answer.json()["parameter"]
    return count["valueInteger"]


async def versions(client: httpx.AsyncClient, path: str) -> list[str]:
    entries = (await client.get(f"/fhir/{path}/_history")).json().get("entry", [])
    return [one["resource"]["meta"]["versionId"] for one in entries]


async def test_earlier_versions_go_and_the_current_one_stays(kept: httpx.AsyncClient) -> None:
    """Oldest first, as many as the limit says; those of other resources stay."""
    assert await gone(kept, "Patient/p", expungePreviousVersions=True, limit=1) == 1
    assert await versions(kept, "Patient/p") == ["3", "2"]
    assert await gone(kept, "Patient/p", expungePreviousVersions=True) == 1
    assert await versions(kept, "Patient/p") == ["3"]
    assert (await kept.get("/fhir/Patient/p/_history/1")).status_code == 404
    assert await versions(kept, "Observation/o") == ["2", "1"]
    assert await found(kept, "Patient?family=C") == ["p"]


async def test_what_was_deleted_goes_with_all_its_versions(kept: httpx.AsyncClient) -> None:
    """Of a type; what is not deleted stays."""
    assert await gone(kept, "Patient/p", expungeDeletedResources=True) == 0
    assert await gone(kept, "Patient", expungeDeletedResources=True) == 2
    assert (await kept.get("/fhir/Patient/gone")).status_code == 404
    assert await versions(kept, "Patient/p") == ["3", "2", "1"]


async def test_everything_of_one_resource_leaves_no_row(kept: httpx.AsyncClient, server: Server) -> None:
    """Current, earlier, index: as if it had never been; its id may be used again."""
    await gone(kept, "Patient", expungeDeletedResources=True)
    assert await gone(kept, "Observation/o", expungeEverything=True) == 3
    assert await gone(kept, "Patient/p", expungeEverything=True) == 4
    for table in TABLES:
        assert await server.rows(f"select count(*) from {table}") == [(0,)], table
    await keep(kept, patient("p"))
    assert await versions(kept, "Patient/p") == ["1"]


async def test_what_others_refer_to_stays(kept: httpx.AsyncClient) -> None:
    """As by a delete."""
    answer = await asked(kept, "Patient/p", expungeEverything=True)
    assert (answer.status_code, codes(answer)) == (409, ["conflict"])
    assert await versions(kept, "Patient/p") == ["3", "2", "1"]


async def test_it_is_for_operators_and_traced(kept: httpx.AsyncClient, client_with: Make, server: Server) -> None:
    """No scope is enough; the trail says what went and whose it was, and stays."""
    other = await client_with("system/*.cruds")
    few = await client_with("system/*.crus", role="operator")
    for client in (other.http, few.http):
        answer = await asked(client, "Patient/gone", expungeDeletedResources=True)
        assert (answer.status_code, codes(answer)) == (403, ["forbidden"])
    await gone(kept, "Patient", expungeDeletedResources=True)
    await gone(kept, "Observation/o", expungePreviousVersions=True)
    rows = await server.rows("select resource_id, patient_id from access where query = '$expunge' order by id")
    assert rows == [("gone", "gone"), ("o", "p")]


@pytest.mark.parametrize(
    ("path", "wishes"),
    [
        ("Patient", {}),
        ("Patient", {"expungeEverything": True}),
        ("Patient/p", {"expungeDeletedResources": False}),
        ("Patient/p", {"expungePreviousVersions": True, "limit": 0}),
        ("Patient/p", {"everything": True}),
    ],
)
async def test_a_wish_that_is_not_clear_is_refused(kept: httpx.AsyncClient, path: str, wishes: dict[str, Any]) -> None:
    """Nothing is removed by mistake."""
    answer = await asked(kept, path, **wishes)
    assert (answer.status_code, codes(answer)) == (400, ["invalid"])


async def test_traces_are_never_removed(operator: httpx.AsyncClient) -> None:
    """Not before the copy that they are about, and not after."""
    await keep(
        operator,
        patient("p"),
        {
            "resourceType": "Provenance",
            "id": "trace",
            "target": [{"reference": "Patient/p"}],
            "recorded": "2026-11-01T10:00:00Z",
            "agent": [{"who": {"display": "test"}}],
        },
    )
    for path, wish in (
        ("Provenance/trace", "expungeEverything"),
        ("Provenance", "expungeDeletedResources"),
        ("Provenance", "expungePreviousVersions"),
    ):
        answer = await asked(operator, path, **{wish: True})
        assert (answer.status_code, codes(answer)) == (405, ["not-supported"])
    assert (await operator.get("/fhir/Provenance/trace")).status_code == 200
