"""patch: https://hl7.org/fhir/R4/http.html#patch - what r4/patch/ does is tested beside it."""

import asyncio
import base64
from collections.abc import Awaitable, Callable
from typing import Any

import httpx
import orjson
import pytest

from tests.support import FHIR_JSON, FOLDERS, Caller, codes, in_folder, keep

JSON_PATCH = {"content-type": "application/json-patch+json"}
XML_PATCH = {"content-type": "application/xml-patch+xml"}
FEMALE = [{"op": "add", "path": "/gender", "value": "female"}]
FEMALE_BY_FHIRPATH: dict[str, Any] = {
    "resourceType": "Parameters",
    "parameter": [
        {
            "name": "operation",
            "part": [
                {"name": "type", "valueCode": "add"},
                {"name": "path", "valueString": "Patient"},
                {"name": "name", "valueString": "gender"},
                {"name": "value", "valueCode": "female"},
            ],
        }
    ],
}
FEMALE_BY_XML = (
    b'<diff xmlns:f="http://hl7.org/fhir"><add sel="f:Patient/f:name" pos="after">'
    b'<gender xmlns="http://hl7.org/fhir" value="female"/></add></diff>'
)


@pytest.fixture
async def filled(fhir_client: httpx.AsyncClient) -> httpx.AsyncClient:
    """A worker, whose decimal has digits to keep."""
    await keep(fhir_client, in_folder("7", id="p"))
    return fhir_client


async def json_patch(
    client: httpx.AsyncClient, operations: Any, url: str = "Patient/p", **headers: str
) -> httpx.Response:
    return await client.patch(f"/fhir/{url}", content=orjson.dumps(operations), headers={**JSON_PATCH, **headers})


@pytest.mark.parametrize(
    ("body", "headers"),
    [
        (orjson.dumps(FEMALE), JSON_PATCH),
        (orjson.dumps(FEMALE_BY_FHIRPATH), FHIR_JSON),
        (FEMALE_BY_XML, XML_PATCH),
    ],
    ids=["json", "fhirpath", "xml"],
)
async def test_each_format_changes_the_resource(
    filled: httpx.AsyncClient, body: bytes, headers: dict[str, str]
) -> None:
    """200, a new version, and the rest as it was."""
    answer = await filled.patch("/fhir/Patient/p", content=body, headers=headers)
    assert answer.status_code == 200, answer.text
    changed = answer.json()
    assert (changed["gender"], changed["meta"]["versionId"]) == ("female", "2")
    assert changed["identifier"] == in_folder("7")["identifier"]


async def test_what_becomes_invalid_is_refused(filled: httpx.AsyncClient) -> None:
    """422 with the place, and the resource as it was."""
    answer = await json_patch(filled, [{"op": "add", "path": "/gender", "value": "nope"}])
    assert answer.status_code == 422
    assert answer.json()["issue"][0]["expression"] == ["Patient.gender"]
    assert (await filled.get("/fhir/Patient/p")).json()["meta"]["versionId"] == "1"


@pytest.mark.parametrize(
    ("operations", "status"),
    [
        ([{"op": "test", "path": "/gender", "value": "male"}], 422),
        ([{"op": "remove", "path": "/nothing"}], 422),
        ([{"op": "nonsense", "path": "/gender"}], 400),
        ({"op": "add"}, 400),
        ([{"op": "replace", "path": "/id", "value": "q"}], 400),
        ([{"op": "replace", "path": "/resourceType", "value": "Group"}], 400),
    ],
)
async def test_a_patch_that_does_not_fit_changes_nothing(
    filled: httpx.AsyncClient, operations: Any, status: int
) -> None:
    """A failed test, a missing place, another identity: refused, and nothing is written."""
    assert (await json_patch(filled, operations)).status_code == status
    assert (await filled.get("/fhir/Patient/p")).json()["meta"]["versionId"] == "1"


async def test_a_patch_of_nothing_and_in_no_format_is_refused(filled: httpx.AsyncClient) -> None:
    """404, 410, 415."""
    assert (await json_patch(filled, FEMALE, "Patient/never")).status_code == 404
    await filled.delete("/fhir/Patient/p")
    assert (await json_patch(filled, FEMALE)).status_code == 410
    answer = await filled.patch("/fhir/Patient/p", content=b"{}", headers={"content-type": "text/plain"})
    assert answer.status_code in (410, 415)


async def test_if_match_guards_a_patch(filled: httpx.AsyncClient) -> None:
    """412 on another version, 200 on the current one."""
    assert (await json_patch(filled, FEMALE, **{"if-match": 'W/"9"'})).status_code == 412
    assert (await json_patch(filled, FEMALE, **{"if-match": 'W/"1"'})).status_code == 200


async def test_patches_at_the_same_moment_are_all_applied(filled: httpx.AsyncClient) -> None:
    """Each on the version that the one before it made: no name is lost."""
    patches = ([{"op": "add", "path": "/name/-", "value": {"family": f"NOM-{n}"}}] for n in range(4))
    answers = await asyncio.gather(*(json_patch(filled, one) for one in patches))
    assert {answer.status_code for answer in answers} == {200}
    names = {name["family"] for name in (await filled.get("/fhir/Patient/p")).json()["name"]}
    assert {f"NOM-{n}" for n in range(4)} <= names


async def test_a_patch_by_criteria(filled: httpx.AsyncClient) -> None:
    """One match is patched, none is 404, several are 412."""
    by_folder = f"Patient?identifier={FOLDERS}|7"
    assert (await json_patch(filled, FEMALE, by_folder)).json()["id"] == "p"
    assert (await json_patch(filled, FEMALE, f"Patient?identifier={FOLDERS}|8")).status_code == 404
    await keep(filled, in_folder("7", id="q"))
    refused = await json_patch(filled, FEMALE, by_folder)
    assert (refused.status_code, codes(refused)) == (412, ["multiple-matches"])


async def test_a_transaction_patches_too(filled: httpx.AsyncClient) -> None:
    """As MHD marks a replaced document superseded; a JSON Patch travels in a Binary."""
    binary = {
        "resourceType": "Binary",
        "contentType": "application/json-patch+json",
        "data": base64.b64encode(orjson.dumps([{"op": "add", "path": "/active", "value": True}])).decode(),
    }
    for resource, url in ((FEMALE_BY_FHIRPATH, f"Patient?identifier={FOLDERS}|7"), (binary, "Patient/p")):
        entry = {"resource": resource, "request": {"method": "PATCH", "url": url}}
        bundle = {"resourceType": "Bundle", "type": "transaction", "entry": [entry]}
        answer = await filled.post("/fhir", json=bundle, headers=FHIR_JSON)
        assert answer.status_code == 200, answer.text
    worker = (await filled.get("/fhir/Patient/p")).json()
    assert (worker["gender"], worker["active"], worker["meta"]["versionId"]) == ("female", True, "3")


async def test_patching_needs_the_right_to_update_and_to_read(
    filled: httpx.AsyncClient, client_with: Callable[..., Awaitable[Caller]]
) -> None:
    """And to read, since a patch follows from what is there; by criteria, to search too."""
    reader, blind = await client_with("system/Patient.rs"), await client_with("system/Patient.us")
    writer = await client_with("system/Patient.ru")
    for few in (reader, blind):
        assert (await json_patch(few.http, FEMALE)).status_code == 403
    assert (await json_patch(writer.http, FEMALE, f"Patient?identifier={FOLDERS}|7")).status_code == 403
    assert (await json_patch(writer.http, FEMALE)).status_code == 200
