"""$meta-add and $meta-delete: https://hl7.org/fhir/R4/resource-operation-meta-add.html"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import httpx
import orjson
import pytest

from tests.support import FHIR_JSON, Caller, codes, found, keep, patient

Make = Callable[..., Awaitable[Caller]]


def tag(code: str, **more: str) -> dict[str, str]:
    return {"system": "urn:test", "code": code, **more}


async def change(client: httpx.AsyncClient, operation: str, meta: Any, path: str = "Patient/p", **headers: str) -> Any:
    body = {"resourceType": "Parameters", "parameter": [{"name": "meta", "valueMeta": meta}]}
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return await client.post(f"/fhir/{path}/${operation}", content=orjson.dumps(body), headers=FHIR_JSON | named)


async def meta_of(client: httpx.AsyncClient) -> dict[str, Any]:
    return (await client.get("/fhir/Patient/p")).json()["meta"]


async def test_labels_are_sets_known_by_system_and_code(fhir_client: httpx.AsyncClient) -> None:
    """Display and version do not tell two apart; profiles are known by their url."""
    await keep(fhir_client, patient("p", meta={"tag": [tag("a", display="A")], "profile": ["http://example.org/x"]}))
    more = {"tag": [tag("a", display="other"), tag("b"), tag("b")], "profile": ["http://example.org/x", "urn:y"]}
    answer = await change(fhir_client, "meta-add", more)
    assert answer.status_code == 200
    (parameter,) = answer.json()["parameter"]
    assert parameter["valueMeta"] == await meta_of(fhir_client)
    assert parameter["valueMeta"]["tag"] == [tag("a", display="A"), tag("b")]
    assert parameter["valueMeta"]["profile"] == ["http://example.org/x", "urn:y"]
    assert parameter["valueMeta"]["versionId"] == "2"
    assert await found(fhir_client, "Patient?_tag=urn:test|b") == ["p"]


async def test_labels_are_taken_off(fhir_client: httpx.AsyncClient) -> None:
    """What is not there is no error, and changes nothing."""
    extension = [{"url": "urn:why", "valueCode": "x"}]
    profiles = {"profile": ["urn:x", "urn:y"], "_profile": [None, {"extension": extension}]}
    await keep(fhir_client, patient("p", meta={"security": [tag("a"), tag("b")], **profiles}))
    await change(fhir_client, "meta-delete", {"security": [tag("a", display="A")], "profile": ["urn:x"]})
    meta = await meta_of(fhir_client)
    assert (meta["security"], meta["profile"], meta["_profile"]) == ([tag("b")], ["urn:y"], [{"extension": extension}])
    await change(fhir_client, "meta-delete", {"security": [tag("b"), tag("never")]})
    assert "security" not in await meta_of(fhir_client)
    await change(fhir_client, "meta-delete", {"security": [tag("b")]})
    assert (await meta_of(fhir_client))["versionId"] == "3"


async def test_everything_else_keeps_its_text(fhir_client: httpx.AsyncClient) -> None:
    """A decimal keeps its digits."""
    doc = b'{"resourceType":"Patient","id":"p","extension":[{"url":"urn:x","valueDecimal":1.50}]}'
    await fhir_client.put("/fhir/Patient/p", content=doc, headers=FHIR_JSON)
    await change(fhir_client, "meta-add", {"tag": [tag("a")]})
    assert b'"valueDecimal":1.50' in (await fhir_client.get("/fhir/Patient/p")).content


async def test_if_match_holds_and_nothing_is_lost_between_two(fhir_client: httpx.AsyncClient) -> None:
    """Without If-Match, changes of the same moment all arrive."""
    await keep(fhir_client, patient("p"))
    stale = await change(fhir_client, "meta-add", {"tag": [tag("a")]}, if_match='W/"7"')
    assert (stale.status_code, codes(stale)) == (412, ["conflict"])
    assert (await change(fhir_client, "meta-add", {"tag": [tag("a")]}, if_match='W/"1"')).status_code == 200
    await asyncio.gather(*(change(fhir_client, "meta-add", {"tag": [tag(one)]}) for one in "bcd"))
    assert {one["code"] for one in (await meta_of(fhir_client))["tag"]} == set("abcd")


async def test_it_takes_the_right_to_update(fhir_client: httpx.AsyncClient, client_with: Make) -> None:
    """And shows the labels to those who may read."""
    await keep(fhir_client, patient("p"))
    reader, writer = await client_with("system/Patient.r"), await client_with("system/Patient.u")
    for path in ("Patient/p", "Patient/nobody"):
        answer = await change(reader.http, "meta-add", {"tag": [tag("a")]}, path)
        assert (answer.status_code, codes(answer)) == (403, ["forbidden"])
    answer = await change(writer.http, "meta-add", {"tag": [tag("a")]})
    assert (answer.status_code, answer.content) == (200, b"")
    assert (await meta_of(fhir_client))["tag"] == [tag("a")]


@pytest.mark.parametrize(
    ("path", "meta", "status", "code"),
    [
        ("Patient/nobody", {"tag": [tag("a")]}, 404, "not-found"),
        ("Patient/p", {"tag": "a"}, 422, "structure"),
        ("Binary/b", {"tag": [tag("a")]}, 405, "not-supported"),
    ],
)
async def test_what_cannot_be_labelled_is_refused(
    fhir_client: httpx.AsyncClient, path: str, meta: Any, status: int, code: str
) -> None:
    """What is not there, what is no Meta, and a Binary."""
    await keep(fhir_client, patient("p"))
    answer = await change(fhir_client, "meta-add", meta, path)
    assert (answer.status_code, codes(answer)) == (status, [code])
    nothing = await fhir_client.post("/fhir/Patient/p/$meta-add")
    assert (nothing.status_code, codes(nothing)) == (400, ["invalid"])
