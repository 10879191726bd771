"""_include and _revinclude: https://hl7.org/fhir/R4/search.html#revinclude"""

from collections.abc import Awaitable, Callable
from typing import Any

import httpx
import pytest

from tests.support import FHIR_JSON, Caller, observation, patient

SERVICE = {"resourceType": "Organization", "id": "service", "name": "Service"}
CENTRE = {
    "resourceType": "Organization",
    "id": "centre",
    "name": "Centre",
    "partOf": {"reference": "Organization/service"},
}


@pytest.fixture
async def filled(fhir_client: httpx.AsyncClient) -> httpx.AsyncClient:
    """A centre of a service, a worker of the centre, two readings of the worker."""
    worker = patient("worker", managingOrganization={"reference": "Organization/centre"})
    for resource in (
        SERVICE,
        CENTRE,
        worker,
        {**observation("worker"), "id": "one"},
        {**observation("worker"), "id": "two"},
    ):
        answer = await fhir_client.put(
            f"/fhir/{resource['resourceType']}/{resource['id']}", json=resource, headers=FHIR_JSON
        )
        assert answer.status_code == 201, answer.text
    return fhir_client


def by_mode(answer: httpx.Response) -> dict[str, set[str]]:
    modes: dict[str, set[str]] = {}
    entries: list[dict[str, Any]] = answer.json().get("entry", [])
    for entry in entries:
        resource = entry["resource"]
        modes.setdefault(entry["search"]["mode"], set()).add(f"{resource['resourceType']}/{resource['id']}")
    return modes


@pytest.mark.parametrize(
    ("query", "included"),
    [
        ("Observation?_include=Observation:patient", {"Patient/worker"}),
        ("Observation?_include=Observation:subject:Patient", {"Patient/worker"}),
        ("Observation?_include=Observation:subject:Group", set[str]()),
        ("Observation?_include=Observation:*", {"Patient/worker"}),
        ("Patient?_revinclude=Observation:patient", {"Observation/one", "Observation/two"}),
        ("Patient?_revinclude=Observation:*", {"Observation/one", "Observation/two"}),
        ("Patient?_include=Patient:organization", {"Organization/centre"}),
        (
            "Patient?_include=Patient:organization&_include:iterate=Organization:partof",
            {"Organization/centre", "Organization/service"},
        ),
        (
            "Organization?_id=service&_revinclude:iterate=Organization:partof&_revinclude:iterate=Patient:organization",
            {"Organization/centre", "Patient/worker"},
        ),
        ("Patient?_include=Patient:organization&_include=Organization:partof", {"Organization/centre"}),
    ],
)
async def test_what_comes_along(filled: httpx.AsyncClient, query: str, included: set[str]) -> None:
    """Each once, marked as included, and only as far as asked."""
    answer = await filled.get(f"/fhir/{query}")
    assert answer.status_code == 200, answer.text
    assert by_mode(answer).get("include", set()) == included


async def test_what_is_included_does_not_count_as_a_match(filled: httpx.AsyncClient) -> None:
    """The total is that of the matches."""
    answer = await filled.get("/fhir/Observation?_include=Observation:patient&_total=accurate")
    assert answer.json()["total"] == 2
    assert len(answer.json()["entry"]) == 3


async def test_what_the_caller_may_not_read_does_not_come_along(
    filled: httpx.AsyncClient, client_with: Callable[..., Awaitable[Caller]]
) -> None:
    """The matches come, the worker does not."""
    other = await client_with("system/Observation.rs")
    modes = by_mode(await other.http.get("/fhir/Observation?_include=Observation:patient"))
    assert modes == {"match": {"Observation/one", "Observation/two"}}


@pytest.mark.parametrize(
    "value", ["Patient:nope", "Nope:patient", "Patient", "Patient:family", "Patient:organization:Nope"]
)
async def test_an_include_that_means_nothing_is_refused(filled: httpx.AsyncClient, value: str) -> None:
    """400 with the parameter, never ignored."""
    answer = await filled.get(f"/fhir/Patient?_include={value}")
    assert answer.status_code == 400
    assert answer.json()["issue"][0]["expression"] == ["_include"]


async def test_reading_along_is_traced(filled: httpx.AsyncClient) -> None:
    """The worker who came along finds it in the trail of his record."""
    await filled.get("/fhir/Observation?_include=Observation:patient")
    trail = (await filled.get("/fhir/AuditEvent?entity=Patient/worker&_count=50")).json()["entry"]
    assert any(e["resource"]["subtype"][0]["code"] == "search-type" for e in trail)
