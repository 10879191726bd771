"""What a client with few rights may learn: by no interaction more than its scopes say (SMART v2 system scopes)."""

import base64
from collections.abc import Awaitable, Callable

import httpx
import orjson
import pytest

from tests.support import (
    FHIR_JSON,
    FOLDERS,
    Caller,
    Server,
    codes,
    entry,
    in_folder,
    keep,
    observation,
    post,
    put,
    transaction,
)

Make = Callable[..., Awaitable[Caller]]
NAME = "SECRETNAME"
BY_FOLDER = f"identifier={FOLDERS}|7"


@pytest.fixture
async def kept(fhir_client: httpx.AsyncClient) -> httpx.AsyncClient:
    """A worker and a reading about him."""
    await keep(fhir_client, in_folder("7", id="p", family=NAME, birthDate="1980-02-03"))
    await keep(fhir_client, observation("p", id="o"))
    return fhir_client


async def test_a_chain_asks_for_the_right_to_search_where_it_leads(kept: httpx.AsyncClient, client_with: Make) -> None:
    """Otherwise a client of readings could find out who was born when."""
    few, enough = await client_with("system/Observation.cruds"), await client_with("system/*.s")
    question = "subject:Patient.birthdate=1980-02-03"
    for client, status in [(few.http, 403), (enough.http, 200)]:
        assert (await client.get(f"/fhir/Observation?{question}")).status_code == status
    about = f"/fhir/Observation?{question}"
    refused = [
        await few.http.put(about, content=orjson.dumps(observation("p")), headers=FHIR_JSON),
        await few.http.delete(about),
        await few.http.patch(about, json=[], headers={"content-type": "application/json-patch+json"}),
        await post(few.http, observation("p"), if_none_exist=question),
    ]
    assert [(answer.status_code, codes(answer)) for answer in refused] == [(403, ["forbidden"])] * 4
    assert (await kept.get("/fhir/Observation/o")).json()["meta"]["versionId"] == "1"


async def test_a_chain_without_type_leads_where_one_may_search(kept: httpx.AsyncClient, client_with: Make) -> None:
    """`subject.identifier` may lead to several types: those that may not be searched are as if they were not there."""
    question = f"Observation?subject.identifier={FOLDERS}|7"
    found = {}
    for scopes in ("system/Observation.s system/Patient.s", "system/Observation.s system/Device.s"):
        client = (await client_with(*scopes.split())).http
        answer = await client.get(f"/fhir/{question}&_summary=count")
        found[scopes.split(".")[1]] = answer.json()["total"]
    assert found == {"s system/Patient": 1, "s system/Device": 0}
    none = (await client_with("system/Observation.s")).http
    assert (await none.get(f"/fhir/{question}")).status_code == 403


async def test_a_conditional_create_is_a_search_too(kept: httpx.AsyncClient, client_with: Make) -> None:
    """200 or 201 says whether the worker is known; what is found is shown to those who may read it."""
    worker = in_folder("7")
    creator = await client_with("system/Patient.c")
    answer = await post(creator.http, worker, if_none_exist=BY_FOLDER)
    assert (answer.status_code, codes(answer)) == (403, ["forbidden"])
    finder, reader = await client_with("system/Patient.cs"), await client_with("system/Patient.crs")
    found = await post(finder.http, worker, if_none_exist=BY_FOLDER)
    assert (found.status_code, found.content) == (200, b"")
    assert found.headers["location"].endswith("/Patient/p/_history/1")
    shown = await post(reader.http, worker, if_none_exist=BY_FOLDER)
    assert (shown.status_code, shown.json()["id"]) == (200, "p")


async def test_what_a_conditional_create_finds_is_traced(
    kept: httpx.AsyncClient, client_with: Make, server: Server
) -> None:
    """Nothing was written, and yet somebody was shown a worker."""
    reader = await client_with("system/Patient.crs")
    assert (await post(reader.http, in_folder("7"), if_none_exist=BY_FOLDER)).status_code == 200
    rows = await server.rows(
        "select interaction, resource_id, patient_id from access where client_id = %s", reader.client_id
    )
    assert rows == [("create", "p", "p")]


@pytest.mark.parametrize("url", ["Patient/p", f"Patient?{BY_FOLDER}"])
async def test_a_patch_is_not_tried_before_it_is_allowed(kept: httpx.AsyncClient, client_with: Make, url: str) -> None:
    """How it fails would tell what is there: a wrong guess and a right one look alike."""
    client = await client_with("system/Patient.crs", "system/Binary.cruds")
    for guess in ("1970-01-01", "1980-02-03"):
        operations = orjson.dumps([{"op": "test", "path": "/birthDate", "value": guess}])
        kind = "application/json-patch+json"
        data = base64.b64encode(operations).decode()
        wrapped = {"resourceType": "Binary", "contentType": kind, "data": data}
        for answer in (
            await client.http.patch(f"/fhir/{url}", content=operations, headers={"content-type": kind}),
            await post(client.http, transaction(entry(wrapped, method="PATCH", url=url))),
        ):
            assert (answer.status_code, codes(answer)) == (403, ["forbidden"])


async def test_who_may_not_read_is_shown_nothing_after_a_write(kept: httpx.AsyncClient, client_with: Make) -> None:
    """Status, place and version of what he wrote, and no resource; in a transaction neither."""
    writer = await client_with("system/Patient.u")
    changed = await put(
        writer.http, in_folder("7", id="p", family=NAME, gender="female"), prefer="return=representation"
    )
    assert (changed.status_code, changed.content) == (200, b"")
    assert (changed.headers["etag"], changed.headers.get("preference-applied")) == ('W/"2"', None)
    again = entry(in_folder("7", id="p", family=NAME), method="PUT", url="Patient/p")
    answer = await post(writer.http, transaction(again))
    assert answer.status_code == 200, answer.text
    assert "resource" not in answer.json()["entry"][0]
    assert NAME not in answer.text


async def test_who_may_not_read_may_not_patch(kept: httpx.AsyncClient, client_with: Make, server: Server) -> None:
    """Whether a patch fits, or changes anything, tells what is there: every guess is the same 403, and traced."""
    writer = await client_with("system/Patient.us", "system/Binary.c")
    kind = "application/json-patch+json"
    guesses = [[{"op": "test", "path": "/birthDate", "value": day}] for day in ("1970-01-01", "1980-02-03")]
    told: set[str] = set()
    for operations in [*guesses, [{"op": "remove", "path": "/gender"}], [{"op": "remove", "path": "/birthDate"}]]:
        for url in ("Patient/p", f"Patient?{BY_FOLDER}"):
            content = orjson.dumps(operations)
            wrapped = {"resourceType": "Binary", "contentType": kind, "data": base64.b64encode(content).decode()}
            alone = await writer.http.patch(f"/fhir/{url}", content=content, headers={"content-type": kind})
            inside = await post(writer.http, transaction(entry(wrapped, method="PATCH", url=url)))
            assert (alone.status_code, inside.status_code) == (403, 403)
            told |= {alone.json()["issue"][0]["diagnostics"], inside.json()["issue"][0]["diagnostics"]}
    assert len(told) == 1
    rows = await server.rows("select outcome, count(*) from access where client_id = %s group by 1", writer.client_id)
    assert rows == [(4, 16)]


async def test_a_patch_that_fails_is_traced(kept: httpx.AsyncClient, client_with: Make, server: Server) -> None:
    """It told something of a worker: as a failure, under his name."""
    client = await client_with("system/Patient.ru")
    operations = orjson.dumps([{"op": "test", "path": "/birthDate", "value": "1970-01-01"}])
    headers = {"content-type": "application/json-patch+json"}
    assert (await client.http.patch("/fhir/Patient/p", content=operations, headers=headers)).status_code == 422
    rows = await server.rows(
        "select interaction, outcome, resource_id, patient_id from access where client_id = %s", client.client_id
    )
    assert rows == [("patch", 4, "p", "p")]


async def test_a_conditional_patch_is_traced_as_the_search_that_it_is(
    kept: httpx.AsyncClient, client_with: Make, server: Server
) -> None:
    """Also where it finds nothing."""
    writer = await client_with("system/Patient.rus")
    answer = await writer.http.patch(
        f"/fhir/Patient?identifier={FOLDERS}|none",
        content=b"[]",
        headers={"content-type": "application/json-patch+json"},
    )
    assert answer.status_code == 404
    rows = await server.rows("select interaction, query from access where client_id = %s", writer.client_id)
    assert rows == [("search-type", "identifier=***")]


async def test_a_deletion_names_no_resource_that_may_not_be_read(kept: httpx.AsyncClient, client_with: Make) -> None:
    """409 says that something refers to the worker; what it is, only to those who may read it."""
    for scopes, named in ((["system/Patient.d"], False), (["system/Patient.d", "system/Observation.r"], True)):
        answer = await (await client_with(*scopes)).http.delete("/fhir/Patient/p")
        assert (answer.status_code, codes(answer)) == (409, ["conflict"])
        assert ("Observation" in answer.text) == named
