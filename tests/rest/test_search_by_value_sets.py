"""`:in`, `:not-in`, `:below` and `:above` by the value sets and code systems that are kept.

https://hl7.org/fhir/R4/search.html#token
"""

from collections.abc import Awaitable, Callable

import httpx
import pytest

from tests.support import Caller, codes, found, keep, observation, patient, post, put
from tests.terminology.exposures import (
    AT_WORK,
    EXPOSURES,
    EXPOSURES_SYSTEM,
    ICD,
    Resource,
    value_set,
    where,
)
from tests.terminology.exposures import codes as listed

Make = Callable[..., Awaitable[Caller]]
NOISES = value_set(AT_WORK, where("concept", "is-a", "noise"), id="noises")


def exposed(code: str, system: str = EXPOSURES) -> Resource:
    """An observation of an exposure, whose id is its code."""
    concept = {"coding": [{"system": system, "code": code}]}
    return observation("p", id=code.lower(), valueCodeableConcept=concept)


@pytest.fixture
async def kept(fhir_client: httpx.AsyncClient) -> httpx.AsyncClient:
    """A worker and his exposures; the code system, and a value set by a filter of it."""
    await keep(fhir_client, patient("p"), EXPOSURES_SYSTEM, NOISES)
    await keep(fhir_client, *map(exposed, ("noise", "impulse-noise", "vibration", "lead")), exposed("J45", ICD))
    return fhir_client


@pytest.mark.parametrize(
    ("resource", "expected"),
    [
        (NOISES, "impulse-noise noise"),
        (value_set(AT_WORK, where("tableau", "regex", "RG[0-9]{2}")), "impulse-noise noise vibration"),
        (value_set(AT_WORK, listed(), exclude=[where("concept", "is-a", "noise")]), "lead vibration"),
        (value_set(AT_WORK, listed(system=ICD), where("tableau", "=", "RG1")), "j45 lead"),
        (value_set(AT_WORK, {"valueSet": ["http://test/ValueSet/imported"]}), "lead"),
        (value_set(AT_WORK, where("concept", "is-a", "unknown")), ""),
    ],
)
async def test_a_value_set_may_take_its_codes_in_any_way(
    kept: httpx.AsyncClient, resource: Resource, expected: str
) -> None:
    """By filters, imports and excludes; a code system that is not kept as a whole."""
    await keep(kept, value_set("http://test/ValueSet/imported", listed("lead"), id="imported"))
    await keep(kept, resource | {"id": "noises"})
    assert await found(kept, f"Observation?value-concept:in={AT_WORK}") == expected.split()
    others = {"noise", "impulse-noise", "vibration", "lead", "j45"} - set(expected.split())
    assert set(await found(kept, f"Observation?value-concept:not-in={AT_WORK}")) == others


async def test_hierarchy_may_be_told_by_properties(kept: httpx.AsyncClient) -> None:
    """And the code itself counts, above and below."""
    assert await found(kept, f"Observation?value-concept:below={EXPOSURES}|physical") == [
        "impulse-noise", "noise", "vibration",
    ]  # fmt: skip
    assert await found(kept, f"Observation?value-concept:above={EXPOSURES}|impulse-noise") == ["impulse-noise", "noise"]


async def test_a_definition_that_has_changed_is_asked_anew(kept: httpx.AsyncClient) -> None:
    """What was read before is that of another version."""
    assert await found(kept, f"Observation?value-concept:in={AT_WORK}") == ["impulse-noise", "noise"]
    await keep(kept, value_set(AT_WORK, where("concept", "is-a", "vibration"), id="noises"))
    assert await found(kept, f"Observation?value-concept:in={AT_WORK}") == ["vibration"]
    await keep(kept, EXPOSURES_SYSTEM | {"concept": [{"code": "vibration", "concept": [{"code": "lead"}]}]})
    assert await found(kept, f"Observation?value-concept:in={AT_WORK}") == ["lead", "vibration"]
    await kept.delete("/fhir/ValueSet/noises")
    assert codes(await kept.get(f"/fhir/Observation?value-concept:in={AT_WORK}")) == ["invalid"]


@pytest.mark.parametrize(
    "resource",
    [
        value_set(AT_WORK, where("colour", "=", "red")),
        value_set(AT_WORK, {"system": ICD, "filter": [{"property": "concept", "op": "is-a", "value": "J"}]}),
        value_set(AT_WORK, listed(system=ICD), exclude=[listed("J45", system=ICD)]),
        value_set(AT_WORK, {"valueSet": ["http://test/nothing"]}),
    ],
)
async def test_what_cannot_be_put_together_is_refused(kept: httpx.AsyncClient, resource: Resource) -> None:
    """An answer without it would be an answer to another question."""
    await keep(kept, resource | {"id": "noises"})
    answer = await kept.get(f"/fhir/Observation?value-concept:in={AT_WORK}")
    assert (answer.status_code, codes(answer)) == (400, ["invalid"])


async def test_too_many_codes_are_too_costly(kept: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch) -> None:
    """403."""
    monkeypatch.setattr("fhir_server.store.resolving.MOST_CODES", 1)
    answer = await kept.get(f"/fhir/Observation?value-concept:in={AT_WORK}")
    assert (answer.status_code, codes(answer)) == (403, ["too-costly"])


async def test_codes_whose_element_names_no_system_are_found(fhir_client: httpx.AsyncClient) -> None:
    """A value set of R4 with codes of two systems."""
    task = {"resourceType": "Task", "id": "t", "status": "ready", "intent": "order"}
    await keep(fhir_client, task)
    assert await found(fhir_client, "Task?intent:in=http://hl7.org/fhir/ValueSet/task-intent") == ["t"]


@pytest.mark.parametrize(
    ("query", "needed"),
    [
        (f"value-concept:in={AT_WORK}", ("system/ValueSet.s", "system/CodeSystem.s")),
        (f"value-concept:below={EXPOSURES}|noise", ("system/CodeSystem.s",)),
        (f"patient._has:Observation:patient:value-concept:not-in={AT_WORK}",
         ("system/Patient.s", "system/ValueSet.s", "system/CodeSystem.s")),
    ],
)  # fmt: skip
async def test_whoever_asks_by_definitions_may_search_them(
    kept: httpx.AsyncClient, client_with: Make, query: str, needed: tuple[str, ...]
) -> None:
    """Or he would learn what is in them by what is found; also in the condition of a write."""
    for missing in needed:
        few = await client_with("system/Observation.crs", *(one for one in needed if one != missing))
        assert codes(await few.http.get(f"/fhir/Observation?{query}")) == ["forbidden"]
        condition = {"if_none_exist": query}
        assert codes(await post(few.http, exposed("noise"), **condition)) == ["forbidden"]
    enough = await client_with("system/Observation.crs", *needed)
    assert (await enough.http.get(f"/fhir/Observation?{query}")).status_code == 200


async def test_a_condition_may_ask_by_a_value_set(kept: httpx.AsyncClient) -> None:
    """Within the transaction of the write."""
    condition = f"value-concept:in={AT_WORK}&value-concept={EXPOSURES}|noise"
    assert (await post(kept, exposed("noise"), if_none_exist=condition)).status_code == 200
    assert (await put(kept, NOISES | {"status": "retired"})).status_code == 200
    assert (await post(kept, exposed("noise"), if_none_exist=condition)).status_code == 200
