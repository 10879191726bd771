"""$meta: what profiles, tags and labels a resource has."""

from collections.abc import Awaitable, Callable
from typing import Any

import httpx

from fhir_server.store.database import migrations
from tests.support import Caller, Server, codes, keep, observation, patient

Make = Callable[..., Awaitable[Caller]]

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


def labels(answer: httpx.Response) -> dict[str, list[Any]]:
    """The one Meta of an answer; {} where it has none."""
    assert answer.status_code == 200, answer.text
    parameters = answer.json().get("parameter", [])
    return parameters[0]["valueMeta"] if parameters else {}


async def test_the_meta_of_a_type_is_what_its_resources_have_now(fhir_client: httpx.AsyncClient) -> None:
    """Of a type, and of all: what was taken off, or went with its resource, is not there."""
    other = {"system": "urn:test", "code": "received", "display": "Received"}
    old = {"profile": ["urn:old"], "security": [{"code": "R"}], **TAGGED}
    await keep(fhir_client, patient("p", meta=old), patient("p", meta={"tag": [other]}))
    await keep(fhir_client, patient("q", meta=TAGGED), patient("gone", meta={"profile": ["urn:gone"]}))
    await keep(fhir_client, observation("p", id="o", meta={"security": [{"code": "V"}], "profile": ["urn:profile"]}))
    await fhir_client.delete("/fhir/Patient/gone")
    assert labels(await fhir_client.get("/fhir/Patient/$meta")) == {"tag": [other, *TAGGED["tag"]]}
    assert labels(await fhir_client.get("/fhir/Condition/$meta")) == {}
    assert labels(await fhir_client.get("/fhir/$meta")) == {
        "profile": ["urn:profile"], "tag": [other, *TAGGED["tag"]], "security": [{"code": "V"}],
    }  # fmt: skip


async def test_the_meta_of_all_is_that_of_what_the_caller_may_see(
    fhir_client: httpx.AsyncClient, client_with: Make
) -> None:
    """Types that he may not read and search add nothing."""
    await keep(fhir_client, patient("p", meta=TAGGED), observation("p", id="o", meta={"profile": ["urn:profile"]}))
    few = await client_with("system/Observation.rs", "system/Patient.r")
    assert labels(await few.http.get("/fhir/$meta")) == {"profile": ["urn:profile"]}
    creator = await client_with("system/*.c")
    for client, path in [(few.http, "Patient/$meta"), (creator.http, "$meta")]:
        answer = await client.get(f"/fhir/{path}")
        assert (answer.status_code, codes(answer)) == (403, ["forbidden"])


async def test_labels_of_before_the_table_are_found_too(fhir_client: httpx.AsyncClient, server: Server) -> None:
    """The migration reads them out of the documents that are there."""
    everything = {"profile": ["urn:profile"], "security": [{"code": "R", "display": "Restricted"}], **TAGGED}
    await keep(fhir_client, patient("p", meta=everything), patient("bare"))
    (migration,) = (text for _, name, text in migrations() if name == "labels")
    await server.rows("delete from label")
    await server.rows(migration[migration.index("insert into label") :])
    assert labels(await fhir_client.get("/fhir/Patient/$meta")) == everything
