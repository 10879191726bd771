"""CapabilityStatement: it says what this server does, and every line of it is true."""

from typing import Any

import httpx
import orjson
import pytest

from fhir_server.r4 import structure
from fhir_server.r4.resource_types import RESOURCE_TYPES
from fhir_server.r4.search_parameters import parameter_at
from tests.support import FHIR_JSON, FOLDERS, Resource, document_reference, in_folder, keep, observation, patient, put

CONSENT = {
    "resourceType": "Consent",
    "status": "active",
    "scope": {"text": "x"},
    "category": [{"text": "x"}],
    "patient": {"reference": "Patient/p"},
    "policyRule": {"text": "x"},
}
SAMPLES: dict[str, Resource] = {
    "Patient": in_folder("1"),
    "Observation": observation("p"),
    "DocumentReference": document_reference("p"),
    "Organization": {"resourceType": "Organization", "name": "Service"},
    "Practitioner": {"resourceType": "Practitioner"},
    "Consent": CONSENT,
    "Task": {"resourceType": "Task", "status": "requested", "intent": "order"},
    "List": {"resourceType": "List", "status": "current", "mode": "working"},
    "Provenance": {
        "resourceType": "Provenance",
        "target": [{"reference": "Patient/p"}],
        "recorded": "2026-01-01T00:00:00Z",
        "agent": [{"who": {"display": "x"}}],
    },
    "Bundle": {"resourceType": "Bundle", "type": "collection"},
}
A_VALUE = {
    "token": "x",
    "reference": "Patient/p",
    "date": "2020",
    "string": "x",
    "uri": "http://x",
    "number": "1",
    "quantity": "1",
    "special": "1|1",
}


def a_value(definition: str, kind: str) -> str:
    if kind == "composite":
        return "$".join(A_VALUE[parameter_at(url).type] for url, _ in parameter_at(definition).components)
    return A_VALUE[kind]


@pytest.fixture
async def statement(anonymous: httpx.AsyncClient) -> dict[str, Any]:
    answer = await anonymous.get("/fhir/metadata")
    assert answer.status_code == 200
    return answer.json()


def described(statement: dict[str, Any], name: str) -> dict[str, Any]:
    (one,) = [one for one in statement["rest"][0]["resource"] if one["type"] == name]
    return one


async def test_the_statement_is_valid_r4(statement: dict[str, Any]) -> None:
    """As our own check reads R4."""
    assert structure.check(statement) == []
    assert (statement["fhirVersion"], statement["kind"]) == ("4.0.1", "instance")
    assert statement["implementation"]["url"] == "http://test/fhir"


async def test_every_type_that_is_kept_is_listed_once(statement: dict[str, Any]) -> None:
    """All of R4 but the containers of an exchange."""
    names = [one["type"] for one in statement["rest"][0]["resource"]]
    assert sorted(names) == sorted(set(RESOURCE_TYPES) - {"Parameters", "OperationOutcome"})


async def test_no_search_parameter_is_listed_twice(statement: dict[str, Any]) -> None:
    """A client that makes a form of it would show it twice."""
    for one in statement["rest"][0]["resource"]:
        names = [parameter["name"] for parameter in one["searchParam"]]
        assert len(names) == len(set(names)), one["type"]


@pytest.mark.parametrize("name", SAMPLES)
async def test_each_interaction_that_is_claimed_works(
    fhir_client: httpx.AsyncClient, statement: dict[str, Any], name: str
) -> None:
    """Each line of the type is asked of the server, and answered."""
    await keep(fhir_client, patient("p"))
    claimed = {one["code"] for one in described(statement, name)["interaction"]}
    body = orjson.dumps({**SAMPLES[name], "id": "x1"})
    requests = {
        "create": ("POST", f"/fhir/{name}", 201),
        "update": ("PUT", f"/fhir/{name}/x1", 201),
        "read": ("GET", f"/fhir/{name}/x1", 200),
        "vread": ("GET", f"/fhir/{name}/x1/_history/1", 200),
        "history-instance": ("GET", f"/fhir/{name}/x1/_history", 200),
        "history-type": ("GET", f"/fhir/{name}/_history", 200),
        "search-type": ("GET", f"/fhir/{name}?_id=x1", 200),
        "patch": ("PATCH", f"/fhir/{name}/x1", 200),
        "delete": ("DELETE", f"/fhir/{name}/x1", 204),
    }
    assert claimed == set(requests)
    for code, (method, path, status) in requests.items():
        sent: dict[str, Any] = {"content": body, "headers": FHIR_JSON} if method in ("POST", "PUT") else {}
        if code == "patch":
            sent = {"content": b"[]", "headers": {"content-type": "application/json-patch+json"}}
        answer = await fhir_client.request(method, path, **sent)
        assert answer.status_code == status, (code, answer.text)


@pytest.mark.parametrize("name", [*SAMPLES, "AuditEvent", "Binary", "ValueSet", "Encounter"])
async def test_each_search_parameter_that_is_claimed_works(
    fhir_client: httpx.AsyncClient, statement: dict[str, Any], name: str
) -> None:
    """None of them is refused, and each finds nothing where there is nothing."""
    parameters = described(statement, name)["searchParam"]
    assert parameters
    for parameter in parameters:
        value = a_value(parameter["definition"], parameter["type"])
        answer = await fhir_client.get(f"/fhir/{name}", params={parameter["name"]: value})
        assert answer.status_code == 200, (parameter, answer.text)
        assert parameter["definition"].startswith("http")


async def test_what_is_claimed_of_conditions_and_versions_is_true(
    fhir_client: httpx.AsyncClient, statement: dict[str, Any]
) -> None:
    """Conditional create, update and delete, update as create, versions."""
    said = described(statement, "Patient")
    assert (said["conditionalCreate"], said["updateCreate"], said["readHistory"]) == (True, True, True)
    headers = {**FHIR_JSON, "if-none-exist": f"identifier={FOLDERS}|9"}
    for status in (201, 200):
        answer = await fhir_client.post("/fhir/Patient", content=orjson.dumps(in_folder("9")), headers=headers)
        assert answer.status_code == status
    assert (await put(fhir_client, patient("new"))).status_code == 201
    assert (said["conditionalUpdate"], said["conditionalDelete"]) == (True, "single")
    by_folder = f"/fhir/Patient?identifier={FOLDERS}|9"
    updated = await fhir_client.put(by_folder, content=orjson.dumps(in_folder("9")), headers=FHIR_JSON)
    assert updated.status_code == 200
    assert (await fhir_client.delete(by_folder)).status_code == 204


async def test_the_trail_is_for_reading(statement: dict[str, Any]) -> None:
    """Nobody writes AuditEvents but this server."""
    said = described(statement, "AuditEvent")
    assert {one["code"] for one in said["interaction"]} == {"read", "search-type"}
    assert said["versioning"] == "no-version"


async def test_what_the_system_does_is_claimed(fhir_client: httpx.AsyncClient, statement: dict[str, Any]) -> None:
    """Batches, transactions and the history of everything."""
    claimed = [one["code"] for one in statement["rest"][0]["interaction"]]
    assert claimed == ["batch", "transaction", "history-system"]
    assert (await fhir_client.get("/fhir/_history")).status_code == 200
    for kind in claimed[:2]:
        body = orjson.dumps({"resourceType": "Bundle", "type": kind})
        answer = await fhir_client.post("/fhir", content=body, headers=FHIR_JSON)
        assert (answer.status_code, answer.json()["type"]) == (200, f"{kind}-response")


async def test_formats_that_are_claimed_are_answered(fhir_client: httpx.AsyncClient, statement: dict[str, Any]) -> None:
    """JSON and XML, by their short names too."""
    for one in statement["format"]:
        assert (await fhir_client.get("/fhir/metadata", params={"_format": one})).status_code == 200
