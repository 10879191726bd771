"""batch: https://hl7.org/fhir/R4/http.html#transaction"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import httpx
import pytest

from fhir_server.settings import Settings
from tests.support import EVERYTHING, FHIR_JSON, Caller, Server, codes, keep, patient, serving


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


async def test_an_entry_has_the_conditions_of_a_request(fhir_client: httpx.AsyncClient) -> None:
    """ifMatch, ifNoneMatch, ifModifiedSince and ifNoneExist, as their headers over HTTP."""
    await batch(fhir_client, entry("PUT", "Patient/p", patient("p")))
    answers = await batch(
        fhir_client,
        entry("PUT", "Patient/p", patient("p", "DEUX"), ifMatch='W/"9"'),
        entry("PUT", "Patient/p", patient("p", "DEUX"), ifNoneMatch="*"),
        entry("DELETE", "Patient/p", ifMatch='W/"9"'),
        entry("GET", "Patient/p", ifNoneMatch='W/"1"'),
        entry("GET", "Patient/p", ifModifiedSince="2100-01-01T00:00:00Z"),
        entry("GET", "Patient/p", ifModifiedSince="2001-01-01T00:00:00+01:00"),
        entry("HEAD", "Patient/p"),
        entry("PUT", "Patient/p", patient("p", "DEUX"), ifMatch='W/"1"'),
    )
    assert statuses(answers) == ["412", "412", "412", "304", "304", "200", "200", "200"]
    assert ["resource" in one for one in answers] == [False] * 5 + [True, False, True]
    assert answers[5]["response"]["lastModified"][:19] == answers[5]["resource"]["meta"]["lastUpdated"][:19]


async def test_what_the_client_prefers_holds_for_each_entry(fhir_client: httpx.AsyncClient) -> None:
    """An OperationOutcome stands where R4 has its place."""
    body = {"resourceType": "Bundle", "type": "batch", "entry": [entry("POST", "Patient", patient())]}
    headers = {**FHIR_JSON, "prefer": "return=OperationOutcome"}
    answer = await fhir_client.post("/fhir", json=body, headers=headers)
    (one,) = answer.json()["entry"]
    assert (one.get("resource"), one["response"]["outcome"]["issue"][0]["severity"]) == (None, "information")
    assert answer.headers["preference-applied"] == "return=OperationOutcome"


async def test_the_answers_to_one_batch_have_a_limit_together(
    make_settings: Callable[..., Settings],
) -> None:
    """Reads beyond it are refused one by one; what is written is told, without its resource."""
    async with serving(make_settings(max_body_mb=1)) as server:
        client = (await server.client(EVERYTHING)).http
        await keep(client, patient("p", "x" * 400_000))
        read = entry("GET", "Patient/p")
        answers = await batch(client, read, read, read, entry("POST", "Patient", patient("q", "y" * 300_000)), read)
        assert statuses(answers) == ["200", "200", "413", "201", "413"]
        assert answers[2]["response"]["outcome"]["issue"][0]["code"] == "too-long"
        assert "resource" not in answers[3]


@pytest.mark.parametrize("kind", ["batch", "transaction"])
async def test_five_thousand_entries_are_taken_and_not_one_more(
    fhir_client: httpx.AsyncClient, server: Server, kind: str
) -> None:
    """413 beyond, before anything is done; others are answered meanwhile."""
    entries = [entry("PUT", f"Patient/p{n}", patient(f"p{n}")) for n in range(5001)]
    body = {"resourceType": "Bundle", "type": kind, "entry": entries}
    refused = await fhir_client.post("/fhir", json=body, headers=FHIR_JSON)
    assert (refused.status_code, codes(refused)) == (413, ["too-long"])
    assert await server.rows("select count(*) from resource") == [(0,)]
    some = {**body, "entry": entries[: 5000 if kind == "transaction" else 200]}
    whole, meanwhile = await asyncio.gather(
        fhir_client.post("/fhir", json=some, headers=FHIR_JSON), fhir_client.get("/fhir/Patient/none")
    )
    assert (whole.status_code, meanwhile.status_code) == (200, 404)
    assert set(statuses(whole.json()["entry"])) == {"201"}
    assert await server.rows("select count(*) from resource") == [(len(some["entry"]),)]


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


async def test_a_body_that_is_nested_deeper_than_any_resource_is_bad_syntax(fhir_client: httpx.AsyncClient) -> None:
    """Found by the fuzz: shallower ones are parsed, deeper ones are no JSON for the parser."""
    for depth in (120, 500, 1000, 1020, 5000):
        body = b'{"a":' * depth + b"1" + b"}" * depth
        answer = await fhir_client.post("/fhir/", content=body, headers={"content-type": "application/fhir+json"})
        assert answer.status_code == 400, (depth, answer.text)
        assert answer.json()["issue"][0]["code"] in ("invalid", "structure")
