"""Definitions of terminology as they are fetched, and kept in memory as long as there is room."""

import asyncio
from datetime import UTC, datetime

import httpx
import orjson
import pytest

from fhir_server.outcomes import TooCostly
from fhir_server.store import definitions
from fhir_server.store.definitions import Definitions, Shelf
from fhir_server.store.resources import Stored
from terminology.code_system import CodeSystem
from tests.support import Server, keep
from tests.terminology.exposures import (
    AT_WORK,
    EXPOSURES,
    EXPOSURES_SYSTEM,
    SUPPLEMENT,
    SUPPLEMENT_SYSTEM,
    Resource,
    codes,
    value_set,
)

NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)


def stored(resource_id: str, *, version: int = 1, updated: datetime = NOON, **more: object) -> Stored:
    """One version of a CodeSystem."""
    doc = orjson.dumps(EXPOSURES_SYSTEM | {"id": resource_id, **more})
    return Stored(1, resource_id, version, updated, False, None, None, doc)


SIZE = len(stored("a").doc or b"")


async def test_a_version_is_read_once() -> None:
    """And another one, or one that was written at another moment under the same number, by itself."""
    shelf = Shelf()
    first = await shelf.take(stored("a"))
    assert await shelf.take(stored("a")) is first
    assert isinstance(first, CodeSystem)
    others = [stored("b"), stored("a", version=2), stored("a", updated=NOON.replace(microsecond=1))]
    for one in others:
        assert await shelf.take(one) is not first


async def test_the_shelf_has_a_limit() -> None:
    """What was used longest ago goes first; what is larger than the shelf does not stay at all."""
    shelf = Shelf(2 * SIZE)
    a, b = [await shelf.take(stored(name)) for name in "ab"]
    assert await shelf.take(stored("a")) is a
    await shelf.take(stored("c"))
    assert await shelf.take(stored("a")) is a
    assert await shelf.take(stored("b")) is not b
    small = Shelf(SIZE - 1)
    assert await small.take(stored("a")) is not await small.take(stored("a"))


async def test_a_large_document_is_read_once_by_those_who_ask_together(monkeypatch: pytest.MonkeyPatch) -> None:
    """One after the other: they take memory."""
    monkeypatch.setattr(definitions, "READ_ASIDE", 10)
    shelf = Shelf()
    found = await asyncio.gather(*(shelf.take(stored("a")) for _ in range(5)))
    assert all(one is found[0] for one in found)


async def test_everything_that_a_value_set_needs_is_fetched(server: Server, fhir_client: httpx.AsyncClient) -> None:
    """Through value sets that it imports, with every version and with supplements; what is deleted is not."""
    inner = value_set("http://test/ValueSet/inner", codes(), id="inner")
    outer = value_set(AT_WORK, {"valueSet": ["http://test/ValueSet/inner|1"]}, id="outer")
    older = EXPOSURES_SYSTEM | {"id": "older", "version": "1"}
    gone = EXPOSURES_SYSTEM | {"id": "gone", "version": "0"}
    of_older = SUPPLEMENT_SYSTEM | {"id": "other", "url": "http://test/other", "supplements": f"{EXPOSURES}|1"}
    await keep(fhir_client, EXPOSURES_SYSTEM, older, gone, SUPPLEMENT_SYSTEM, of_older, inner, outer)
    await fhir_client.delete("/fhir/CodeSystem/gone")
    kept = Definitions(server.database)
    found = await kept.library(value_sets=[outer])
    assert {url: [one.version for one in versions] for url, versions in found.code_systems.items()} == {
        EXPOSURES: ["1", "2"],
        SUPPLEMENT: ["1"],
        "http://test/other": ["1"],
    }
    assert [one["id"] for one in found.value_sets["http://test/ValueSet/inner"]] == ["inner"]
    again = await kept.library(value_sets=[outer])
    assert again.code_systems[EXPOSURES][0] is found.code_systems[EXPOSURES][0], "read once"


async def test_too_many_definitions_are_too_costly(
    server: Server, fhir_client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Value sets that refer to many, versions of one URL, maps that refer to maps."""
    monkeypatch.setattr(definitions, "MOST", 2)
    kept = Definitions(server.database)
    many: list[Resource] = [value_set(AT_WORK, *(codes(system=f"http://test/{number}") for number in range(3)))]
    with pytest.raises(TooCostly):
        await kept.library(value_sets=many)
    many = [value_set(AT_WORK, {"valueSet": [f"http://test/{number}" for number in range(3)]})]
    with pytest.raises(TooCostly):
        await kept.library(value_sets=many)
    await keep(fhir_client, *(EXPOSURES_SYSTEM | {"id": f"v{number}"} for number in range(3)))
    with pytest.raises(TooCostly):
        await kept.library(systems=[EXPOSURES])
    groups = [{"source": "s", "element": [{"code": "x"}], "unmapped": {"mode": "other-map", "url": f"http://test/{n}"}}
              for n in range(3)]  # fmt: skip
    with pytest.raises(TooCostly):
        await kept.other_maps([{"resourceType": "ConceptMap", "group": groups}])


async def test_maps_that_refer_to_each_other_are_fetched_once(server: Server, fhir_client: httpx.AsyncClient) -> None:
    """Also in a circle."""

    def one(name: str, other: str) -> Resource:
        unmapped = {"mode": "other-map", "url": f"http://test/{other}"}
        group = {"source": EXPOSURES, "element": [{"code": "x"}], "unmapped": unmapped}
        return {
            "resourceType": "ConceptMap",
            "id": name,
            "url": f"http://test/{name}",
            "status": "active",
            "group": [group],
        }

    first = one("a", "b")
    await keep(fhir_client, first, one("b", "a"))
    found = await Definitions(server.database).other_maps([first])
    assert {url: [kept["id"] for kept in versions] for url, versions in found.items()} == {
        "http://test/b": ["b"],
        "http://test/a": ["a"],
    }
