"""Bulk data export: https://hl7.org/fhir/uv/bulkdata/export.html"""

import asyncio
from typing import Any

import httpx
import orjson
import pytest

from fhir_server.outcomes import Conflict
from fhir_server.records import export_files
from tests.rest.operations.bulk import ASYNC, Done, export, exported, kick_off, lines, posted, work, worker
from tests.support import (
    EVERYTHING,
    FHIR_JSON,
    Resource,
    Server,
    codes,
    document_reference,
    keep,
    observation,
    patient,
)


def group(group_id: str, *members: str, inactive: tuple[str, ...] = ()) -> Resource:
    return {
        "resourceType": "Group",
        "id": group_id,
        "type": "person",
        "actual": True,
        "member": [
            {"entity": {"reference": f"Patient/{one}"}, **({"inactive": True} if one in inactive else {})}
            for one in (*members, *inactive)
        ],
    }


@pytest.fixture
async def two_workers(fhir_client: httpx.AsyncClient) -> httpx.AsyncClient:
    """Two workers with a reading each, a document of the first, and an organization that is nobody's."""
    await keep(
        fhir_client,
        patient("p1"),
        patient("p2"),
        observation("p1", id="o1"),
        observation("p2", id="o2", code="8480-6"),
        document_reference("p1", id="d1"),
        {"resourceType": "Organization", "id": "org", "name": "Service"},
        group("g", "p2", inactive=("p1",)),
    )
    return fhir_client


async def test_everything_comes_out_once_by_type(server: Server, two_workers: httpx.AsyncClient):
    """202 with a place to ask, progress while it waits, then a manifest whose files hold the stored bytes."""
    url = await kick_off(two_workers, "$export?_outputFormat=ndjson")
    waiting = await two_workers.get(url)
    assert (waiting.status_code, waiting.headers["x-progress"]) == (202, "accepted")
    assert int(waiting.headers["retry-after"]) >= 1
    await work(server)
    complete = await two_workers.get(url, headers={"accept": "application/json"})
    assert complete.headers["content-type"] == "application/json"
    assert "expires" in complete.headers
    manifest = complete.json()
    assert manifest["requiresAccessToken"] is True
    assert manifest["request"] == "http://test/fhir/$export?_outputFormat=ndjson"
    assert (manifest["error"], manifest["deleted"]) == ([], [])
    assert {file["type"]: file["count"] for file in manifest["output"]} == {
        "DocumentReference": 1, "Group": 1, "Observation": 2, "Organization": 1, "Patient": 2,
    }  # fmt: skip
    observations = next(file["url"] for file in manifest["output"] if file["type"] == "Observation")
    stored = [(await two_workers.get(f"/fhir/Observation/{one}")).content for one in ("o1", "o2")]
    answer = await two_workers.get(observations, headers={"accept": "application/fhir+ndjson"})
    assert answer.content.splitlines() == stored


async def test_an_export_shows_the_store_at_its_moment(server: Server, two_workers: httpx.AsyncClient):
    """What is changed, deleted or added after the kick-off is exported as it was."""
    url = await kick_off(two_workers, "$export")
    await keep(two_workers, patient("p1", "AUTRE"), patient("p3"))
    assert (await two_workers.delete("/fhir/Observation/o2")).status_code == 204
    await work(server)
    manifest = (await two_workers.get(url)).json()
    everything = {
        resource["id"]: resource for file in manifest["output"] for resource in await lines(two_workers, file["url"])
    }
    assert set(everything) == {"p1", "p2", "o1", "o2", "d1", "org", "g"}
    assert everything["p1"]["name"][0]["family"] == "TESTEUR"
    assert everything["p1"]["meta"]["versionId"] == "1"
    assert all(one["meta"]["lastUpdated"] <= manifest["transactionTime"] for one in everything.values())


async def test_what_was_begun_before_the_moment_is_waited_for(server: Server, two_workers: httpx.AsyncClient):
    """A transaction that is not yet at its end may bring something of an earlier moment."""
    async with server.database.transaction() as connection:
        await connection.execute(b"select 1")
        url = await kick_off(two_workers, "$export?_type=Patient")
        working = asyncio.create_task(work(server))
        await asyncio.sleep(0.6)
        assert (await two_workers.get(url)).status_code == 202
        await connection.execute(
            b"insert into resource (rid, type, id, version, updated, guard, doc)"
            b" select nextval('rid_seq'), type, 'late', 1, updated, guard, doc from resource where id = 'p1'"
        )
    await working
    (file,) = (await two_workers.get(url)).json()["output"]
    assert file["count"] == 3


async def test_since_gives_what_changed_and_what_is_gone(server: Server, two_workers: httpx.AsyncClient):
    """`deleted` holds a transaction per deletion; the transactionTime of one export is the `_since` of the next."""
    first = (await export(server, two_workers)).manifest
    await keep(two_workers, patient("p2", "AUTRE"))
    assert (await two_workers.delete("/fhir/Observation/o1")).status_code == 204
    done = await export(server, two_workers, f"$export?_since={first['transactionTime']}")
    assert await exported(two_workers, done) == ["Patient/p2"]
    (deleted,) = done.manifest["deleted"]
    (bundle,) = await lines(two_workers, deleted["url"])
    assert (bundle["type"], bundle["entry"]) == (
        "transaction", [{"request": {"method": "DELETE", "url": "Observation/o1"}}],
    )  # fmt: skip
    until = await export(server, two_workers, f"$export?_until={first['transactionTime']}&_type=Patient,Observation")
    assert await exported(two_workers, until) == ["Observation/o2", "Patient/p1"]


async def test_patients_and_groups_are_compartments(server: Server, two_workers: httpx.AsyncClient):
    """Patient/$export leaves out what is nobody's; a group, and `patient`, what is of others."""
    await keep(two_workers, observation("p1", id="o3", performer=[{"reference": "Patient/p2"}]))
    everybody = await export(server, two_workers, "Patient/$export")
    assert await exported(two_workers, everybody) == [
        "DocumentReference/d1", "Group/g", "Observation/o1", "Observation/o2", "Observation/o3", "Patient/p1",
        "Patient/p2",
    ]  # fmt: skip
    of_group = await export(server, two_workers, "Group/g/$export?_type=Patient,Observation,DocumentReference")
    assert await exported(two_workers, of_group) == ["Observation/o2", "Observation/o3", "Patient/p2"]
    one = posted(patient={"valueReference": {"reference": "Patient/p1"}}, _type={"valueString": "Patient,Observation"})
    of_one = await export(server, two_workers, "Patient/$export", json=one)
    assert await exported(two_workers, of_one) == ["Observation/o1", "Observation/o3", "Patient/p1"]
    refused = await two_workers.post("/fhir/Group/g/$export", json=one, headers=ASYNC)
    assert (refused.status_code, codes(refused)) == (400, ["invalid"])


async def test_a_compartment_is_that_of_the_moment(server: Server, two_workers: httpx.AsyncClient):
    """A reading that was given to somebody else after the kick-off is still the first one's."""
    only_p1 = posted(patient={"valueReference": {"reference": "Patient/p1"}}, _type={"valueString": "Observation"})
    only_p2 = posted(patient={"valueReference": {"reference": "Patient/p2"}}, _type={"valueString": "Observation"})
    first = await kick_off(two_workers, "Patient/$export", json=only_p1)
    second = await kick_off(two_workers, "Patient/$export", json=only_p2)
    await keep(two_workers, observation("p2", id="o1"))
    await work(server)
    found = [
        [await lines(two_workers, f["url"]) for f in (await two_workers.get(u)).json()["output"]]
        for u in (first, second)
    ]
    assert [[one["id"] for one in files[0]] for files in found] == [["o1"], ["o2"]]


async def test_type_filters_are_searches(server: Server, two_workers: httpx.AsyncClient):
    """Filters of one type are alternatives; types without a filter come whole; nothing is ignored in silence."""
    done = await export(
        server,
        two_workers,
        "$export?_type=Observation,Patient&_typeFilter=Observation%3Fcode%3D8867-4,Observation%3F_id%3Dnobody",
    )
    assert await exported(two_workers, done) == ["Observation/o1", "Patient/p1", "Patient/p2"]
    for bad in (
        "Observation%3Fcolour%3Dred",
        "Patient%3F_id%3Dp1",
        "Observation%3Fcode%3D1%26_count%3D1",
        "Observation",
    ):
        answer = await two_workers.get(f"/fhir/$export?_type=Observation&_typeFilter={bad}", headers=ASYNC)
        assert answer.status_code == 400, bad
        assert {issue["expression"][0] for issue in answer.json()["issue"]} == {"_typeFilter"}


@pytest.mark.parametrize(
    ("path", "headers", "code"),
    [
        ("$export", {}, "invalid"),
        ("$export?_outputFormat=csv", ASYNC, "not-supported"),
        ("$export?_since=yesterday", ASYNC, "invalid"),
        ("$export?_type=Martian", ASYNC, "not-supported"),
        ("$export?_type=AuditEvent", ASYNC, "not-supported"),
        ("Patient/$export?_type=Organization", ASYNC, "not-supported"),
        ("$export?_elements=id", ASYNC, "not-supported"),
        ("$export?colour=red", ASYNC, "invalid"),
        ("$export?patient=Patient/p1", ASYNC, "invalid"),
    ],
)
async def test_what_is_not_understood_is_refused(
    fhir_client: httpx.AsyncClient, path: str, headers: dict[str, str], code: str
):
    """400 with the right issue, before any job is there."""
    answer = await fhir_client.get(f"/fhir/{path}", headers=headers)
    assert answer.status_code == 400
    assert code in codes(answer)


async def test_leniently_it_is_left_out_and_said(server: Server, two_workers: httpx.AsyncClient):
    """Prefer: handling=lenient makes warnings of what is unknown."""
    answer = await two_workers.get(
        "/fhir/$export?_elements=id&colour=red&_type=Martian,Group",
        headers={"prefer": "respond-async, handling=lenient"},
    )
    assert answer.status_code == 202
    told = {(issue["severity"], issue["expression"][0]) for issue in answer.json()["issue"] if "expression" in issue}
    assert told == {("warning", "_elements"), ("warning", "_type")}
    await work(server)
    manifest = (await two_workers.get(answer.headers["content-location"])).json()
    assert [file["type"] for file in manifest["output"]] == ["Group"]


async def test_there_is_no_group_export_of_all_groups(fhir_client: httpx.AsyncClient):
    """Patients are exported at the level of the type, groups of the instance."""
    assert (await fhir_client.get("/fhir/Group/$export", headers=ASYNC)).status_code == 405
    assert (await fhir_client.get("/fhir/Patient/p1/$export", headers=ASYNC)).status_code == 405
    assert (await fhir_client.get("/fhir/Group/nobody/$export", headers=ASYNC)).status_code == 404


async def test_rights_decide_what_comes_out(server: Server, two_workers: httpx.AsyncClient):
    """By default what the caller may read and search; a type that is named without right is 403."""
    few = (await server.client(("system/Observation.rs", "system/Patient.r", "system/Organization.s"))).http
    assert await exported(few, await export(server, few)) == ["Observation/o1", "Observation/o2"]
    assert (await few.get("/fhir/$export?_type=Patient", headers=ASYNC)).status_code == 403
    assert (await few.get("/fhir/Group/g/$export", headers=ASYNC)).status_code == 403
    chained = "$export?_type=Observation&_typeFilter=Observation%3Fsubject%3APatient.family%3DTESTEUR"
    assert (await few.get(f"/fhir/{chained}", headers=ASYNC)).status_code == 403
    nothing = (await server.client(("system/Patient.c",))).http
    assert (await nothing.get("/fhir/$export", headers=ASYNC)).status_code == 403


async def test_a_job_is_seen_by_who_asked_for_it_only(
    server: Server, two_workers: httpx.AsyncClient, anonymous: httpx.AsyncClient
):
    """To another client its status and files are not there; a token is needed, with the right on the type."""
    done = await export(server, two_workers, "$export?_type=Patient")
    (file,) = done.manifest["output"]
    other = (await server.client(EVERYTHING, name="Autre logiciel")).http
    for url in (done.url, file["url"]):
        assert (await other.get(url)).status_code == 404
        assert (await anonymous.get(url)).status_code == 401
    assert (await other.delete(done.url)).status_code == 404
    assert (await two_workers.get(file["url"])).status_code == 200
    assert (await two_workers.get(f"{done.url}/..%2Fsecret")).status_code == 404


async def test_cancelling_removes_everything(server: Server, two_workers: httpx.AsyncClient):
    """DELETE before or after the end: 202, then 404, and no file is left."""
    done = await export(server, two_workers)
    waiting = await kick_off(two_workers, "$export")
    job = done.url.rpartition("/")[2]
    assert any((server.settings.exports_folder / job).iterdir())
    for url in (done.url, waiting):
        assert (await two_workers.delete(url)).status_code == 202
        assert (await two_workers.get(url)).status_code == 404
    await work(server)
    assert list(server.settings.exports_folder.iterdir()) == []
    assert await server.rows("select 1 from bulk_file") == []


async def test_files_expire(server: Server, two_workers: httpx.AsyncClient):
    """After their hours the worker forgets them; folders that no job knows go too."""
    done = await export(server, two_workers)
    await server.rows("update bulk_job set expires = now() - interval '1 second'")
    async with worker(server) as parts:
        await parts.bulk.purge()
    assert (await two_workers.get(done.url)).status_code == 404


async def test_a_download_that_was_broken_off_goes_on(server: Server, two_workers: httpx.AsyncClient):
    """Range gives the rest; one that lies outside is 416."""
    done = await export(server, two_workers, "$export?_type=Patient")
    url = done.manifest["output"][0]["url"]
    whole = (await two_workers.get(url)).content
    rest = await two_workers.get(url, headers={"range": "bytes=10-"})
    assert (rest.status_code, rest.content) == (206, whole[10:])
    assert rest.headers["content-range"] == f"bytes 10-{len(whole) - 1}/{len(whole)}"
    assert (await two_workers.get(url, headers={"range": f"bytes={len(whole)}-"})).status_code == 416


async def test_documents_that_were_sent_on_many_lines_are_one(server: Server, fhir_client: httpx.AsyncClient):
    """Line ends between tokens go, everything else stays as written: decimals, escapes, order."""
    body = '{\r\n  "resourceType": "Observation",\n  "id": "o", "status": "final", "code": {"text": "a\\nb"},\n'
    body += ' "valueQuantity": {"value": 1.50}\n}'
    answer = await fhir_client.put("/fhir/Observation/o", content=body.encode(), headers=FHIR_JSON)
    assert answer.status_code == 201, answer.text
    done = await export(server, fhir_client)
    (line,) = (await fhir_client.get(done.manifest["output"][0]["url"])).content.splitlines()
    assert b'"a\\nb"' in line
    assert b"1.50" in line
    assert orjson.loads(line) == (await fhir_client.get("/fhir/Observation/o")).json()


async def test_attachments_lead_to_their_bytes(server: Server, fhir_client: httpx.AsyncClient):
    """A link to a Binary becomes absolute; the Binary itself comes without its bytes, to who may read what it is of."""
    await keep(fhir_client, patient("p"))
    sent = await fhir_client.post("/fhir/Binary", content=b"%PDF-1.4", headers={"content-type": "application/pdf"})
    binary = sent.json()["id"]
    attachment = {"contentType": "application/pdf", "url": f"Binary/{binary}"}
    await keep(fhir_client, document_reference("p", id="d", content=[{"attachment": attachment}]))
    protected = {"resourceType": "Binary", "id": "b2", "contentType": "text/plain", "data": "YQ==",
                 "securityContext": {"reference": "DocumentReference/d"}}  # fmt: skip
    await keep(fhir_client, protected, protected | {"id": "b3"})
    gone = "convert_to(replace(convert_from(doc, 'UTF8'), 'DocumentReference/d', 'DocumentReference/gone'), 'UTF8')"
    await server.rows(f"update resource set doc = {gone} where id = 'b3'")
    done = await export(server, fhir_client, "$export?_type=DocumentReference,Binary")
    found = {r["id"]: r for f in done.manifest["output"] for r in await lines(fhir_client, f["url"])}
    url = found["d"]["content"][0]["attachment"]["url"]
    assert url == f"http://test/fhir/Binary/{binary}"
    assert (await fhir_client.get(url)).content == b"%PDF-1.4"
    assert "data" not in found[binary]
    assert set(found) == {"d", binary, "b2"}
    few = (await server.client(("system/Binary.rs",))).http
    assert await exported(few, await export(server, few)) == [f"Binary/{binary}"]


async def test_each_worker_of_an_export_leaves_a_trace(server: Server, two_workers: httpx.AsyncClient):
    """One row for the request, one per worker, one per download; criteria that name somebody are not kept."""
    filters = "_typeFilter=Patient%3Fname%3DTESTEUR"
    done = await export(server, two_workers, f"$export?_type=Patient,Observation&{filters}")
    job = done.url.rpartition("/")[2]
    await lines(two_workers, done.manifest["output"][0]["url"])
    rows = await server.rows(
        "select patient_id, query from access where interaction = 'operation' order by patient_id nulls first, id"
    )
    assert [row[0] for row in rows] == [None, None, "p1", "p2"]
    assert rows[0][1] == "$export Patient,Observation Patient?name=***"
    assert rows[1][1] == f"$export {job}/Observation.1.ndjson"
    seen = await two_workers.get("/fhir/AuditEvent?patient=p1")
    assert "operation" in seen.text


async def test_files_are_cut_at_a_size(server: Server, two_workers: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch):
    """A type that is large comes in several files, each resource once."""
    monkeypatch.setattr(export_files, "MOST_RESOURCES", 1)
    monkeypatch.setattr("fhir_server.store.moments.ROWS_PER_STEP", 1)
    done = await export(server, two_workers, "$export?_type=Patient")
    assert [file["count"] for file in done.manifest["output"]] == [1, 1]
    assert await exported(two_workers, done) == ["Patient/p1", "Patient/p2"]


async def test_an_export_that_was_stopped_goes_on_without_doubles(
    server: Server, fhir_client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
):
    """What was written and not noted is cut off; after any number of stops the end is the same."""
    monkeypatch.setattr("fhir_server.store.moments.ROWS_PER_STEP", 2)
    monkeypatch.setattr("fhir_server.records.export_run.SECONDS_BETWEEN_NOTES", 0)
    await keep(fhir_client, *(patient(f"p{number}") for number in range(60)))
    url = await kick_off(fhir_client, "$export")
    job = url.rpartition("/")[2]
    folder = server.settings.exports_folder / job
    stops = 0
    async with worker(server) as parts:
        while (await fhir_client.get(url)).status_code == 202:
            task = asyncio.create_task(parts.bulk.run(job))
            over, _ = await asyncio.wait({task}, timeout=0.02 + 0.05 * stops)
            if not over:
                task.cancel()
                await asyncio.wait({task})
                stops += 1
                for path in folder.glob("*.ndjson"):
                    with path.open("ab") as file:
                        file.write(b'{"resourceType":"Patient","id":"half')
            elif isinstance(task.exception(), Conflict):  # PostgreSQL has not yet seen that the last one is gone
                await asyncio.sleep(0.1)
    assert stops
    assert await exported(fhir_client, Done(url, await fhir_client.get(url))) == sorted(
        f"Patient/p{n}" for n in range(60)
    )
    traced = await server.rows("select count(*), count(distinct patient_id) from access where request_id = %s", job)
    assert traced == [(60, 60)]


async def test_an_export_is_no_entry_of_a_batch(fhir_client: httpx.AsyncClient):
    """Its answer has no place in a Bundle."""
    entry: dict[str, Any] = {"request": {"method": "GET", "url": "$export"}}
    bundle = {"resourceType": "Bundle", "type": "batch", "entry": [entry]}
    answer = await fhir_client.post("/fhir", json=bundle, headers={**FHIR_JSON, "prefer": "respond-async"})
    assert answer.json()["entry"][0]["response"]["status"].startswith("404")
