"""securityContext is obeyed: who may not read what protects a Binary learns nothing of the Binary.

https://hl7.org/fhir/R4/binary.html#security
"""

from collections.abc import Awaitable, Callable

import httpx
import pytest

from tests.support import Caller, Server, document_reference, found, ids_of, keep, observation, patient, put

Make = Callable[..., Awaitable[Caller]]
TYPE = {"content-type": "application/pdf"}
PATHS = ("Binary/b", "Binary/b/_history/1", "Binary/b/_history", "Binary/b/$meta")


async def protect(client: httpx.AsyncClient, name: str, context: str) -> None:
    answer = await client.put(f"/fhir/Binary/{name}", content=b"%PDF", headers={**TYPE, "x-security-context": context})
    assert answer.status_code in (200, 201), answer.text


@pytest.fixture
async def kept(fhir_client: httpx.AsyncClient) -> httpx.AsyncClient:
    """The scan `b`, protected by its DocumentReference."""
    await keep(fhir_client, patient("p"), document_reference("p", id="d"), observation("p", id="o"))
    await protect(fhir_client, "b", "DocumentReference/d")
    return fhir_client


def told(answer: httpx.Response) -> tuple[int, str]:
    return answer.status_code, answer.text.replace("/never", "/b")


@pytest.mark.parametrize("path", PATHS)
async def test_a_hidden_binary_looks_like_one_that_never_was(
    kept: httpx.AsyncClient, client_with: Make, server: Server, path: str
) -> None:
    """The same status and the same words, whether it is there, deleted or never was; and a refusal in the trail."""
    scanner = await client_with("system/Binary.r")
    there = await scanner.http.get(f"/fhir/{path}")
    never = await scanner.http.get(f"/fhir/{path.replace('/b', '/never')}")
    assert (there.status_code, told(there)) == (404, told(never))
    rows = await server.rows(
        "select outcome, resource_id, patient_id from access where client_id = %s", scanner.client_id
    )
    assert rows == [(4, "b", "p")]
    reader = await client_with("system/Binary.r", "system/DocumentReference.r")
    assert (await reader.http.get(f"/fhir/{path}")).status_code == 200
    assert (await kept.delete("/fhir/Binary/b")).status_code == 204
    assert told(await scanner.http.get(f"/fhir/{path}")) == told(never)


async def test_a_binary_whose_protector_was_deleted_is_nobodys(kept: httpx.AsyncClient, server: Server) -> None:
    """Nobody can say any more who may read it; with the protector it comes back."""
    assert (await kept.delete("/fhir/DocumentReference/d")).status_code == 204
    for path in PATHS:
        assert (await kept.get(f"/fhir/{path}")).status_code == 404
    assert await server.rows("select count(*) from access where outcome = 4 and resource_id = 'b'") == [(4,)]
    await keep(kept, document_reference("p", id="d"))
    assert (await kept.get("/fhir/Binary/b")).content == b"%PDF"


@pytest.mark.parametrize("context", ["Patient/p", "Observation/o", "DocumentReference/d/_history/1"])
async def test_any_type_may_protect(kept: httpx.AsyncClient, client_with: Make, context: str) -> None:
    """R4: Reference(Any). The right to read that type is asked for, and no other helps."""
    await protect(kept, "x", context)
    protector = context.partition("/")[0]
    others = {"Patient", "Observation", "DocumentReference"} - {protector}
    with_it = await client_with("system/Binary.r", f"system/{protector}.r")
    without = await client_with("system/Binary.r", *(f"system/{other}.cruds" for other in others))
    assert (await with_it.http.get("/fhir/Binary/x")).content == b"%PDF"
    assert (await without.http.get("/fhir/Binary/x")).status_code == 404


async def test_a_binary_may_be_protected_by_a_binary(kept: httpx.AsyncClient, client_with: Make) -> None:
    """A page of a scan by the scan; a circle of Binaries allows nobody."""
    await protect(kept, "page", "Binary/b")
    scanner = await client_with("system/Binary.r")
    reader = await client_with("system/Binary.r", "system/DocumentReference.r")
    assert (await scanner.http.get("/fhir/Binary/page")).status_code == 404
    assert (await reader.http.get("/fhir/Binary/page")).status_code == 200
    await protect(kept, "b", "Binary/page")
    assert (await kept.get("/fhir/Binary/page")).status_code == 404


async def test_what_protects_a_binary_now_protects_its_earlier_versions(
    fhir_client: httpx.AsyncClient, client_with: Make
) -> None:
    """Somebody noticed that it must not be open: then neither is what it was."""
    await keep(fhir_client, patient("p"))
    await fhir_client.put("/fhir/Binary/b", content=b"first", headers=TYPE)
    scanner = await client_with("system/Binary.r")
    assert (await scanner.http.get("/fhir/Binary/b")).content == b"first"
    await protect(fhir_client, "b", "Patient/p")
    assert (await scanner.http.get("/fhir/Binary/b/_history/1")).status_code == 404


@pytest.mark.parametrize(
    "context",
    [
        {"reference": "https://elsewhere.example/fhir/Patient/1"},
        {"identifier": {"system": "urn:x", "value": "1"}},
        {"reference": "#inside"},
    ],
)
async def test_a_context_that_nobody_can_ask_is_refused(fhir_client: httpx.AsyncClient, context: object) -> None:
    """422: the bytes could never be read again."""
    sent = {"resourceType": "Binary", "id": "x", "contentType": "a/b", "data": "eA==", "securityContext": context}
    answer = await put(fhir_client, sent)
    assert answer.status_code == 422
    assert answer.json()["issue"][0]["expression"] == ["Binary.securityContext.reference"]


async def test_a_search_shows_no_hidden_binary(kept: httpx.AsyncClient, client_with: Make) -> None:
    """Not as a hit, not in the total, not as what comes along, and it cannot be counted."""
    await kept.put("/fhir/Binary/open", content=b"open", headers=TYPE)
    scanner = await client_with("system/Binary.rs", "system/Provenance.rs")
    page = (await scanner.http.get("/fhir/Binary?_total=accurate")).json()
    assert (ids_of(page), page["total"]) == (["open"], 1)
    assert await found(kept, "Binary?_id=b,open") == ["b", "open"]
    assert (await scanner.http.get("/fhir/Binary?_id=b&_summary=count")).status_code == 400
    assert (await scanner.http.get("/fhir/Binary?_id=b&_count=0")).json().get("total", 0) == 0
    await keep(
        kept,
        {
            "resourceType": "Provenance",
            "id": "v",
            "target": [{"reference": "Binary/b"}, {"reference": "Binary/open"}],
            "recorded": "2024-01-01T00:00:00Z",
            "agent": [{"who": {"display": "scanner"}}],
        },
    )
    along = (await scanner.http.get("/fhir/Provenance?_include=Provenance:target")).json()["entry"]
    assert [one["resource"]["id"] for one in along] == ["v", "open"]
