"""delete: https://hl7.org/fhir/R4/http.html#delete"""

import asyncio
from collections.abc import Awaitable, Callable

import httpx
import pytest

from tests.support import FHIR_JSON, Caller, codes, found, in_folder, keep, observation, patient, post, put, transaction

Make = Callable[..., Awaitable[Caller]]


async def test_what_is_deleted_is_gone_and_its_versions_stay(fhir_client: httpx.AsyncClient) -> None:
    """204, then 410 with an OperationOutcome; vread and history go on."""
    await keep(fhir_client, in_folder("1", id="p"))
    answer = await fhir_client.delete("/fhir/Patient/p")
    assert (answer.status_code, answer.content, answer.headers["etag"]) == (204, b"", 'W/"2"')
    gone = await fhir_client.get("/fhir/Patient/p")
    assert (gone.status_code, codes(gone)) == (410, ["deleted"])
    assert await found(fhir_client, "Patient?identifier=1") == []
    assert (await fhir_client.get("/fhir/Patient/p/_history/1")).status_code == 200
    assert (await fhir_client.get("/fhir/Patient/p/_history/2")).status_code == 410
    history = (await fhir_client.get("/fhir/Patient/p/_history")).json()
    assert history["entry"][0]["request"]["method"] == "DELETE"


@pytest.mark.parametrize("path", ["Patient/never", "Patient/p"])
async def test_deleting_again_changes_nothing(fhir_client: httpx.AsyncClient, path: str) -> None:
    """204: the client has what it wanted."""
    await keep(fhir_client, patient("p"))
    for _ in range(2):
        assert (await fhir_client.delete(f"/fhir/{path}")).status_code == 204
    history = await fhir_client.get("/fhir/Patient/p/_history")
    assert history.json()["total"] == (2 if path == "Patient/p" else 1)


async def test_what_was_deleted_can_come_back(fhir_client: httpx.AsyncClient) -> None:
    """An update is its next version, and counts as created."""
    await keep(fhir_client, in_folder("1", id="p"))
    await fhir_client.delete("/fhir/Patient/p")
    answer = await put(fhir_client, in_folder("2", id="p"))
    assert (answer.status_code, answer.headers["etag"]) == (201, 'W/"3"')
    assert await found(fhir_client, "Patient?identifier=2") == ["p"]
    assert await found(fhir_client, "Patient?identifier=1") == []


async def test_nothing_points_to_what_is_gone(fhir_client: httpx.AsyncClient) -> None:
    """A new reference to it dangles."""
    await keep(fhir_client, patient("p"))
    await fhir_client.delete("/fhir/Patient/p")
    assert (await post(fhir_client, observation("p"))).status_code == 422


async def test_what_others_refer_to_is_not_deleted(fhir_client: httpx.AsyncClient) -> None:
    """409 naming one of them; when they are gone, it may go; in one transaction both may."""
    await keep(fhir_client, patient("p"), observation("p", id="o"))
    answer = await fhir_client.delete("/fhir/Patient/p")
    assert (answer.status_code, codes(answer)) == (409, ["conflict"])
    assert "Observation/o" in answer.json()["issue"][0]["diagnostics"]
    assert (await fhir_client.get("/fhir/Patient/p")).status_code == 200
    both = [{"request": {"method": "DELETE", "url": url}} for url in ("Patient/p", "Observation/o")]
    assert (await post(fhir_client, transaction(*both))).status_code == 200
    assert await found(fhir_client, "Patient") == []


async def test_if_match_guards_a_deletion(fhir_client: httpx.AsyncClient) -> None:
    """412 over a version that the client has not seen."""
    await keep(fhir_client, patient("p"), patient("p", "DEUX"))
    answer = await fhir_client.delete("/fhir/Patient/p", headers={"if-match": 'W/"1"'})
    assert (answer.status_code, codes(answer)) == (412, ["conflict"])
    assert (await fhir_client.delete("/fhir/Patient/p", headers={"if-match": 'W/"2"'})).status_code == 204


async def test_deleting_needs_the_scope(client_with: Make, fhir_client: httpx.AsyncClient) -> None:
    """`d`, of this type."""
    await keep(fhir_client, patient("p"))
    for scope, status in [("system/Patient.crus", 403), ("system/Observation.d", 403), ("system/Patient.d", 204)]:
        assert (await (await client_with(scope)).http.delete("/fhir/Patient/p")).status_code == status


async def test_a_deletion_is_traced_under_its_worker(fhir_client: httpx.AsyncClient) -> None:
    """Whose record it was is still known, also of what only pointed to him."""
    await keep(fhir_client, patient("p"), observation("p", id="o"))
    for path in ("Observation/o", "Patient/p"):
        await fhir_client.delete(f"/fhir/{path}")
    events = (await fhir_client.get("/fhir/AuditEvent?patient=p")).json()["entry"]
    assert [one["resource"]["subtype"][0]["code"] for one in events].count("delete") == 2


async def test_a_deletion_and_a_new_reference_at_once_leave_no_dangling_reference(
    fhir_client: httpx.AsyncClient,
) -> None:
    """One of the two comes first: either the worker stays, or the reading is refused."""
    for number in range(12):
        worker = f"w{number}"
        await fhir_client.put(f"/fhir/Patient/{worker}", json=patient(worker), headers=FHIR_JSON)
        gone, reading = await asyncio.gather(
            fhir_client.delete(f"/fhir/Patient/{worker}"),
            fhir_client.post("/fhir/Observation", json=observation(worker), headers=FHIR_JSON),
        )
        assert (gone.status_code, reading.status_code) in {(204, 422), (409, 201)}


async def test_a_transaction_may_delete_what_it_no_longer_refers_to(fhir_client: httpx.AsyncClient) -> None:
    """The reading moves to another worker, and the first one goes, at once."""
    for name in ("old", "new"):
        await fhir_client.put(f"/fhir/Patient/{name}", json=patient(name), headers=FHIR_JSON)
    reading = {**observation("old"), "id": "r"}
    await fhir_client.put("/fhir/Observation/r", json=reading, headers=FHIR_JSON)
    moved = {**observation("new"), "id": "r"}
    entries = [
        {"resource": moved, "request": {"method": "PUT", "url": "Observation/r"}},
        {"request": {"method": "DELETE", "url": "Patient/old"}},
    ]
    bundle = {"resourceType": "Bundle", "type": "transaction", "entry": entries}
    answer = await fhir_client.post("/fhir", json=bundle, headers=FHIR_JSON)
    assert answer.status_code == 200, answer.text
