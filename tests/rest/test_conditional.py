"""Conditional update and delete: https://hl7.org/fhir/R4/http.html#cond-update, #3.1.0.7.1"""

import asyncio
from collections.abc import Awaitable, Callable

import httpx

from tests.support import FHIR_JSON, FOLDERS, Caller, in_folder

BY_FOLDER = f"/fhir/Patient?identifier={FOLDERS}|7"


async def put(client: httpx.AsyncClient, url: str = BY_FOLDER, number: str = "7", **more: object) -> httpx.Response:
    return await client.put(url, json=in_folder(number, **more), headers=FHIR_JSON)


async def test_an_update_by_criteria_creates_then_updates(fhir_client: httpx.AsyncClient) -> None:
    """201 where nothing meets them, 200 on the one that does, under the same id."""
    first, second = await put(fhir_client), await put(fhir_client, gender="female")
    assert (first.status_code, second.status_code) == (201, 200)
    assert first.json()["id"] == second.json()["id"]
    assert second.json()["meta"]["versionId"] == "2"
    assert second.json()["gender"] == "female"


async def test_an_update_that_creates_keeps_the_id_of_its_body(fhir_client: httpx.AsyncClient) -> None:
    """As an update by that id would; and another id than that of the match is refused."""
    assert (await put(fhir_client, id="chosen")).json()["id"] == "chosen"
    assert (await put(fhir_client, id="another")).status_code == 400


async def test_criteria_that_find_several_change_none(fhir_client: httpx.AsyncClient) -> None:
    """412, for the update and for the deletion."""
    for _ in range(2):
        await fhir_client.post("/fhir/Patient", json=in_folder("7"), headers=FHIR_JSON)
    assert (await put(fhir_client)).status_code == 412
    assert (await fhir_client.delete(BY_FOLDER)).status_code == 412
    assert (await fhir_client.get(BY_FOLDER)).json()["total"] == 2


async def test_a_deletion_by_criteria_takes_the_one_that_meets_them(fhir_client: httpx.AsyncClient) -> None:
    """204 and gone; again 204, since there is nothing left."""
    made = (await put(fhir_client)).json()["id"]
    for _ in range(2):
        assert (await fhir_client.delete(BY_FOLDER)).status_code == 204
    assert (await fhir_client.get(f"/fhir/Patient/{made}")).status_code == 410


async def test_without_criteria_nothing_is_meant(fhir_client: httpx.AsyncClient) -> None:
    """A PUT or DELETE on a whole type is refused."""
    assert (await put(fhir_client, "/fhir/Patient")).status_code == 400
    assert (await fhir_client.delete("/fhir/Patient")).status_code == 400
    assert (await fhir_client.delete("/fhir/Patient?nonsense=1")).status_code == 400


async def test_32_at_once_make_one_resource_and_every_update_counts(fhir_client: httpx.AsyncClient) -> None:
    """Exactly one 201; the others update what it made, one version each, none lost."""
    answers = await asyncio.gather(*(put(fhir_client, language=f"fr-{n:02}") for n in range(32)))
    assert sorted(answer.status_code for answer in answers) == [200] * 31 + [201]
    assert sorted(int(answer.json()["meta"]["versionId"]) for answer in answers) == list(range(1, 33))


async def test_updates_by_criteria_and_by_id_at_once_lose_nothing(fhir_client: httpx.AsyncClient) -> None:
    """They meet on one resource by two ways: each becomes a version of its own."""
    made = (await put(fhir_client)).json()["id"]
    by_id = (put(fhir_client, f"/fhir/Patient/{made}", id=made, language=f"fr-{n:02}") for n in range(8))
    by_criteria = (put(fhir_client, language=f"de-{n:02}") for n in range(8))
    answers = await asyncio.gather(*by_criteria, *by_id)
    assert {answer.status_code for answer in answers} == {200}
    assert sorted(int(answer.json()["meta"]["versionId"]) for answer in answers) == list(range(2, 18))


async def test_criteria_need_the_right_to_search(client_with: Callable[..., Awaitable[Caller]]) -> None:
    """The answer would tell whether anybody meets them."""
    writer = await client_with("system/Patient.cud")
    assert (await put(writer.http)).status_code == 403
    assert (await writer.http.delete(BY_FOLDER)).status_code == 403
