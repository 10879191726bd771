"""Observation/$lastn: https://hl7.org/fhir/R4/observation-operation-lastn.html"""

from collections.abc import Awaitable, Callable
from typing import Any

import httpx
import orjson
import pytest

from fhir_server.rest.operations import lastn
from tests.support import FHIR_JSON, Caller, Server, codes, ids_of, keep, observation, patient

Make = Callable[..., Awaitable[Caller]]
VITAL = {
    "category": [
        {"coding": [{"system": "http://terminology.hl7.org/CodeSystem/observation-category", "code": "vital-signs"}]}
    ]
}


def reading(identity: str, when: str | None, code: str = "8867-4", **more: Any) -> dict[str, Any]:
    date = {"effectiveDateTime": when} if when else {}
    return observation("p", code, id=identity, **date, **more)


def coded(*pairs: tuple[str, str]) -> dict[str, Any]:
    return {"code": {"coding": [{"system": system, "code": code} for system, code in pairs]}}


@pytest.fixture
async def kept(fhir_client: httpx.AsyncClient) -> httpx.AsyncClient:
    """Pulses, weights and words of one worker, kept in no order; a pulse of another."""
    await keep(
        fhir_client,
        patient("p"),
        patient("q"),
        reading("pulse-2", "2023-05-01", **VITAL),
        reading("weight-1", "2020", "29463-7"),
        reading("pulse-3", "2024-05-01", **VITAL),
        reading("pulse-wrong", "2025", status="entered-in-error"),
        reading("pulse-1", "2021-05-01"),
        reading("pulse-undated", None),
        reading("weight-2", "2022-01-01", "29463-7"),
        observation("q", id="of-another", effectiveDateTime="2026"),
        {**reading("said-1", "2019-01"), "code": {"text": "Fatigue  au travail"}},
        {**reading("said-2", "2019-06"), "code": {"text": "fatigue au Travail"}},
    )
    return fhir_client


async def asked(client: httpx.AsyncClient, query: str) -> list[str]:
    answer = await client.get(f"/fhir/Observation/$lastn?{query}")
    assert answer.status_code == 200, answer.text
    return ids_of(answer.json())


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("patient=Patient/p", ["pulse-3", "weight-2", "said-2"]),
        ("subject=Patient/p&max=2", ["pulse-3", "pulse-2", "weight-2", "weight-1", "said-2", "said-1"]),
        ("patient=p&max=9&code=http://loinc.org|8867-4", ["pulse-3", "pulse-2", "pulse-1", "pulse-undated"]),
        ("patient=p&code=8867-4,29463-7", ["pulse-3", "weight-2"]),
        ("patient=p&category=vital-signs&max=3", ["pulse-3", "pulse-2"]),
        ("patient=p&date=le2022&max=1", ["weight-2", "pulse-1", "said-2"]),
        ("patient=nobody", []),
    ],
)
async def test_the_newest_of_each_kind_come_first(kept: httpx.AsyncClient, query: str, expected: list[str]) -> None:
    """By the time that they are of; without what was entered in error; what has no time last."""
    assert await asked(kept, query) == expected


async def test_codes_that_stand_together_are_one_kind(kept: httpx.AsyncClient) -> None:
    """A reading with two codes joins those that have one of them, in whichever order they come."""
    await keep(
        kept,
        reading("local", "2026-01-01", **coded(("urn:local", "pulse"))) | coded(("urn:local", "pulse")),
        reading("both", "2020-01-01") | coded(("urn:local", "pulse"), ("http://loinc.org", "8867-4")),
    )
    assert await asked(kept, "patient=p&max=2") == ["local", "pulse-3", "weight-2", "weight-1", "said-2", "said-1"]


async def test_all_are_looked_at_and_their_number_is_bounded(
    kept: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Page by page; beyond a bound the client is asked to narrow them."""
    always = (("status:not", "entered-in-error"), ("_sort", "-date"), ("_count", "2"))
    monkeypatch.setattr(lastn, "ALWAYS", always)
    assert await asked(kept, "patient=p&max=9&code=29463-7") == ["weight-2", "weight-1"]
    assert await asked(kept, "patient=p") == ["pulse-3", "weight-2", "said-2"]
    for bound in ("MOST_LOOKED_AT", "MOST_SHOWN"):
        with monkeypatch.context() as patched:
            patched.setattr(lastn, bound, 2)
            answer = await kept.get("/fhir/Observation/$lastn?patient=p")
        assert (answer.status_code, codes(answer)) == (403, ["too-costly"])


async def test_it_may_be_posted_and_is_traced_for_the_worker(kept: httpx.AsyncClient, server: Server) -> None:
    """The answer tells how many, and its link names nobody then."""
    parameters = [{"name": "patient", "valueString": "Patient/p"}, {"name": "max", "valuePositiveInt": 1}]
    body = orjson.dumps({"resourceType": "Parameters", "parameter": parameters})
    answer = await kept.post("/fhir/Observation/$lastn", content=body, headers=FHIR_JSON)
    assert ids_of(answer.json()) == ["pulse-3", "weight-2", "said-2"]
    assert answer.json()["total"] == 3
    assert answer.json()["link"] == [{"relation": "self", "url": "http://test/fhir/Observation/$lastn"}]
    rows = await server.rows("select patient_id, query from access where query like '$lastn%%'")
    assert rows == [("p", "$lastn?patient=Patient/p")]


@pytest.mark.parametrize(
    "query",
    [
        "",
        "code=8867-4",
        "patient=p&patient=q",
        "patient=p,q",
        "patient=p&max=0",
        "patient=p&_count=3",
        "subject=p&patient=p",
    ],
)
async def test_a_question_about_several_workers_or_none_is_refused(kept: httpx.AsyncClient, query: str) -> None:
    """And so is what it does not know."""
    answer = await kept.get(f"/fhir/Observation/$lastn?{query}")
    assert (answer.status_code, codes(answer)) == (400, ["invalid"])


async def test_it_takes_the_right_to_search(kept: httpx.AsyncClient, client_with: Make) -> None:
    """On observations."""
    stranger = await client_with("system/Observation.r", "system/Patient.s")
    answer = await stranger.http.get("/fhir/Observation/$lastn?patient=p")
    assert (answer.status_code, codes(answer)) == (403, ["forbidden"])
