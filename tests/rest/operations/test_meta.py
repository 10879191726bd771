"""$meta: what profiles, tags and labels a resource has."""

import httpx

from tests.support import codes, keep, patient

TAGGED = {"tag": [{"system": "urn:test", "code": "scanned"}]}


async def test_the_meta_of_one_resource(fhir_client: httpx.AsyncClient) -> None:
    """With the version that it is of, by GET and by POST."""
    await keep(fhir_client, patient("p", meta=TAGGED))
    for answer in (await fhir_client.get("/fhir/Patient/p/$meta"), await fhir_client.post("/fhir/Patient/p/$meta")):
        (parameter,) = answer.json()["parameter"]
        assert parameter["name"] == "return"
        assert parameter["valueMeta"]["tag"] == TAGGED["tag"]
        assert parameter["valueMeta"]["versionId"] == "1"


async def test_an_operation_refuses_what_it_does_not_know(fhir_client: httpx.AsyncClient) -> None:
    """A parameter, a resource, an operation, a type."""
    await keep(fhir_client, patient("p"))
    for path, status, code in [
        ("Patient/p/$meta?depth=3", 400, "invalid"),
        ("Patient/nobody/$meta", 404, "not-found"),
        ("Patient/p/$meat", 404, "not-supported"),
        ("AuditEvent/a/$meta", 405, "not-supported"),
    ]:
        answer = await fhir_client.get(f"/fhir/{path}")
        assert (answer.status_code, codes(answer)) == (status, [code]), path


async def test_operations_are_in_the_capability_statement(anonymous: httpx.AsyncClient) -> None:
    """On the types on which they are offered."""
    offered = {
        one["type"]: one.get("operation", [])
        for one in (await anonymous.get("/fhir/metadata")).json()["rest"][0]["resource"]
    }
    assert {"name": "meta", "definition": "http://hl7.org/fhir/OperationDefinition/Resource-meta"} in offered["Patient"]
    assert offered["AuditEvent"] == []
