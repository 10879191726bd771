"""$diff: what changed between two versions, over HTTP; r4/test_difference.py proves the patch itself."""

from collections.abc import Awaitable, Callable

import httpx
import pytest

from tests.support import FHIR_JSON, Caller, codes, keep, patient

Make = Callable[..., Awaitable[Caller]]


@pytest.fixture
async def kept(fhir_client: httpx.AsyncClient) -> httpx.AsyncClient:
    """Three versions of a worker."""
    for more in ({}, {"gender": "female"}, {"gender": "male", "active": True}):
        await keep(fhir_client, patient("p", **more))
    return fhir_client


async def test_the_difference_patches_one_version_into_the_other(kept: httpx.AsyncClient) -> None:
    """From the version before to the current one, or between any two; the server takes it as a patch."""
    for query, paths in [
        ("", ["Patient", "Patient.gender"]),
        ("?fromVersion=2", ["Patient", "Patient.gender"]),
        ("?fromVersion=1&toVersion=2", ["Patient"]),
        ("?fromVersion=Patient/p/_history/3", []),
    ]:
        answer = await kept.get(f"/fhir/Patient/p/$diff{query}")
        assert answer.status_code == 200, answer.text
        found = [
            part["valueString"]
            for one in answer.json().get("parameter", [])
            for part in one["part"]
            if part["name"] == "path"
        ]
        assert sorted(found) == paths
    back = await kept.get("/fhir/Patient/p/$diff?fromVersion=3&toVersion=1")
    patched = await kept.patch("/fhir/Patient/p", content=back.content, headers=FHIR_JSON)
    assert patched.json().keys() == {"resourceType", "id", "meta", "name"}


async def test_it_is_a_read_of_both_versions(kept: httpx.AsyncClient, client_with: Make) -> None:
    """With the right to read; a version that is not there or was deleted has no difference."""
    stranger = await client_with("system/Patient.us")
    for client, query, status, code in [
        (stranger.http, "", 403, "forbidden"),
        (kept, "?fromVersion=9", 404, "not-found"),
        (kept, "?fromVersion=x", 400, "invalid"),
        (kept, "?version=1", 400, "invalid"),
    ]:
        answer = await client.get(f"/fhir/Patient/p/$diff{query}")
        assert (answer.status_code, codes(answer)) == (status, [code])
    await kept.delete("/fhir/Patient/p")
    assert (await kept.get("/fhir/Patient/p/$diff")).status_code == 410
    assert (await kept.get("/fhir/Patient/p/$diff?fromVersion=1&toVersion=3")).status_code == 200
