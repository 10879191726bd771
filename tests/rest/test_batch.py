"""batch: https://hl7.org/fhir/R4/http.html#transaction"""

from collections.abc import Awaitable, Callable
from typing import Any

import httpx

from tests.support import FHIR_JSON, Caller, patient


def entry(method: str, url: str, resource: dict[str, Any] | None = None, **request: str) -> dict[str, Any]:
    made: dict[str, Any] = {"request": {"method": method, "url": url, **request}}
    return {"resource": resource, **made} if resource else made


async def batch(client: httpx.AsyncClient, *entries: dict[str, Any]) -> list[dict[str, Any]]:
    answer = await client.post(
        "/fhir", json={"resourceType": "Bundle", "type": "batch", "entry": list(entries)}, headers=FHIR_JSON
    )
    assert answer.status_code == 200, answer.text
    assert answer.json()["type"] == "batch-response"
    return answer.json().get("entry", [])


def statuses(answers: list[dict[str, Any]]) -> list[str]:
    return [answer["response"]["status"].partition(" ")[0] for answer in answers]


async def test_each_entry_is_answered_by_itself(fhir_client: httpx.AsyncClient) -> None:
    """A good create, a bad one, an unknown id, a search: four answers in their order, and the good one is kept."""
    answers = await batch(
        fhir_client,
        entry("POST", "Patient", patient(family="LOT")),
        entry("POST", "Patient", {"resourceType": "Patient", "gender": "nope"}),
        entry("GET", "Patient/never"),
        entry("GET", "Patient?family=LOT"),
    )
    assert statuses(answers) == ["201", "422", "404", "200"]
    assert answers[1]["response"]["outcome"]["issue"][0]["expression"] == ["Patient.gender"]
    assert answers[3]["resource"]["total"] == 1, "an entry reads what the one before it wrote"
    assert "_history/1" in answers[0]["response"]["location"]


async def test_every_interaction_can_be_an_entry(fhir_client: httpx.AsyncClient) -> None:
    """Update as create, read of a version, delete, conditional create."""
    answers = await batch(
        fhir_client,
        entry("PUT", "Patient/given", patient("given")),
        entry("GET", "Patient/given/_history/1"),
        entry("DELETE", "Patient/given"),
        entry("GET", "Patient/given"),
        entry(
            "POST", "Patient", patient(identifier=[{"system": "urn:b", "value": "1"}]), ifNoneExist="identifier=urn:b|1"
        ),
        entry(
            "POST", "Patient", patient(identifier=[{"system": "urn:b", "value": "1"}]), ifNoneExist="identifier=urn:b|1"
        ),
    )
    assert statuses(answers) == ["201", "200", "204", "410", "201", "200"]


async def test_an_entry_may_do_only_what_the_caller_may(client_with: Callable[..., Awaitable[Caller]]) -> None:
    """403 for the entry, not for the batch."""
    reader = await client_with("system/Patient.rs")
    answers = await batch(reader.http, entry("POST", "Patient", patient()), entry("GET", "Patient"))
    assert statuses(answers) == ["403", "200"]


async def test_a_batch_in_a_batch_and_an_entry_without_request_are_refused(fhir_client: httpx.AsyncClient) -> None:
    """No recursion, and no guess."""
    answers = await batch(
        fhir_client,
        entry("POST", "", {"resourceType": "Bundle", "type": "batch"}),
        {"resource": patient()},
        entry("GET", "Nonsense/1"),
    )
    assert statuses(answers) == ["404", "405", "404"]


async def test_a_transaction_deletes_too(fhir_client: httpx.AsyncClient) -> None:
    """All or nothing: the create and the deletion, or neither."""
    made = (await fhir_client.post("/fhir/Patient", json=patient(), headers=FHIR_JSON)).json()["id"]
    answer = await fhir_client.post(
        "/fhir",
        json={
            "resourceType": "Bundle",
            "type": "transaction",
            "entry": [entry("POST", "Patient", patient(family="NEUF")), entry("DELETE", f"Patient/{made}")],
        },
        headers=FHIR_JSON,
    )
    assert statuses(answer.json()["entry"]) == ["201", "204"]
    assert (await fhir_client.get(f"/fhir/Patient/{made}")).status_code == 410
