"""Bulk import: NDJSON as a body, or files of the import folder."""

import asyncio
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from fhir_server.outcomes import Conflict
from fhir_server.records import import_run
from fhir_server.settings import Settings
from fhir_server.store import bulk_load
from mappings.consent import WORKER_RIGHT
from terminology import systems
from tests.rest.operations.bulk import ASYNC, NDJSON, Done, kick_off, lines, ndjson, posted, work, worker
from tests.support import EVERYTHING, FHIR_JSON, Server, codes, document_reference, found, keep, observation, patient

MANY = 400


@pytest.fixture
def settings(make_settings: Callable[..., Settings], tmp_path: Path) -> Settings:
    folder = tmp_path / "import"
    folder.mkdir()
    return make_settings(import_folder=folder, import_processes=1, max_import_mb=1)


@pytest.fixture
async def operator(server: Server) -> httpx.AsyncClient:
    return (await server.client(EVERYTHING, role="operator")).http


async def bring(server: Server, client: httpx.AsyncClient, content: bytes) -> Done:
    """Import a body."""
    url = await kick_off(client, "$import", content=content, headers=NDJSON)
    await work(server)
    return Done(url, await client.get(url))


async def refused(client: httpx.AsyncClient, done: Done) -> list[tuple[str, str]]:
    """(code, text) of everything that was refused."""
    outcomes = [one for file in done.manifest["error"] for one in await lines(client, file["url"])]
    return [(issue["code"], issue["diagnostics"]) for one in outcomes for issue in one["issue"]]


def write(settings: Settings, name: str, *resources: dict[str, Any]) -> None:
    assert settings.import_folder
    (settings.import_folder / name).write_bytes(ndjson(resources))


def files(*inputs: tuple[str | None, str]) -> dict[str, Any]:
    parts = [
        {
            "name": "input",
            "part": [*([{"name": "type", "valueCode": kind}] if kind else []), {"name": "url", "valueUri": url}],
        }
        for kind, url in inputs
    ]
    return {"resourceType": "Parameters", "parameter": parts}


async def test_what_was_imported_is_like_what_was_put(server: Server, operator: httpx.AsyncClient):
    """Ids are kept or given; the bytes, the versions and every index are those of an update."""
    resources = [
        patient("p1", identifier=[{"system": "urn:x", "value": "1"}], birthDate="1970-02-01"),
        observation("p1", id="o1", effectiveDateTime="2026-01-02"),
        observation("p1"),
    ]
    done = await bring(server, operator, ndjson(resources))
    assert done.manifest["output"] == [{"count": 3}]
    assert done.manifest["error"] == []
    imported = (await operator.get("/fhir/Observation/o1")).json()
    await keep(operator, observation("p1", id="o2", effectiveDateTime="2026-01-02"))
    put = (await operator.get("/fhir/Observation/o2")).json()
    assert {**imported, "id": "", "meta": {}} == {**put, "id": "", "meta": {}}
    assert (imported["meta"]["versionId"], list(imported)) == ("1", list(put))
    (unnamed,) = set(await found(operator, "Observation?subject=Patient/p1")) - {"o1", "o2"}
    assert len(unnamed) == 36
    assert await found(operator, "Observation?date=2026-01-02") == ["o1", "o2"]
    assert await found(operator, "Patient?identifier=urn:x|1&birthdate=1970-02&name=test") == ["p1"]
    moments = await server.rows("select updated from resource where id = 'o1'")
    assert moments[0][0].isoformat(timespec="milliseconds").replace("+00:00", "Z") == imported["meta"]["lastUpdated"]


async def test_every_index_row_is_that_of_an_update(server: Server, operator: httpx.AsyncClient):
    """Columns and tables of the index hold the same of a resource, whichever way it came in."""
    told = '<div xmlns="http://www.w3.org/1999/xhtml">Une visite à Saint-Étienne</div>'
    kilograms = {"value": 71.50, "unit": "kg", "system": "http://unitsofmeasure.org", "code": "kg"}
    place = {"resourceType": "Location", "position": {"latitude": 45.4, "longitude": 4.39}}
    bare = {"resourceType": "Basic", "code": {"text": "x"}}
    weight = observation(
        "p", effectiveDateTime="2026", valueQuantity=kilograms, text={"status": "generated", "div": told}
    )
    await keep(operator, patient("p"))
    for resource in (weight, place, bare):
        await keep(operator, {**resource, "id": "put"})
        await bring(server, operator, ndjson([{**resource, "id": "imported"}]))
    for table, columns in (
        ("token", "h"), ("period", "param, low, high"), ("word", "param, folded"), ("measure", "h, low, high"),
        ("place", "latitude, longitude"), ("narrative", "words"), ("resource", "type, refs, present, version, deleted"),
    ):  # fmt: skip
        statement = f"select {columns} from {table} where rid in (select rid from resource where id = %s)"
        kept = [sorted(map(str, map(_sorted, await server.rows(statement, one)))) for one in ("put", "imported")]
        assert kept[0] == kept[1], table
        assert kept[0], table
    own = await server.rows("select count(distinct own_hash) from resource where own_hash <> 0")
    assert own == [(7,)]


def _sorted(row: tuple[Any, ...]) -> list[Any]:
    """A row whose arrays are sets."""
    return [sorted(value) if isinstance(value, list) else value for value in row]


async def test_decimals_and_escapes_stay_as_written(server: Server, operator: httpx.AsyncClient):
    """The line is kept, not what a parser made of it; blank lines and CR are no lines."""
    written = b'"status":"final","code":{"text":"\\u00e9"},"valueQuantity":{"value":1.50}}'
    await bring(server, operator, b'\r\n{"resourceType":"Observation","id":"o",' + written + b"\r\n\n")
    assert (await operator.get("/fhir/Observation/o")).content.endswith(written)


async def test_importing_again_changes_nothing_and_a_change_is_a_version(server: Server, operator: httpx.AsyncClient):
    """What is there already becomes a new version, where it differs; also of what was deleted; the index follows."""
    first = [patient("p1"), patient("p2"), patient("p3")]
    await bring(server, operator, ndjson(first))
    assert (await operator.delete("/fhir/Patient/p3")).status_code == 204
    again = await bring(server, operator, ndjson([patient("p1"), patient("p2", "AUTRE"), patient("p3"), patient("p4")]))
    assert again.manifest["output"] == [{"count": 4}]
    versions = {
        one: (await operator.get(f"/fhir/Patient/{one}")).json()["meta"]["versionId"]
        for one in ("p1", "p2", "p3", "p4")
    }
    assert versions == {"p1": "1", "p2": "2", "p3": "3", "p4": "1"}
    assert await found(operator, "Patient?name=autre") == ["p2"]
    assert await found(operator, "Patient?name=testeur") == ["p1", "p3", "p4"]


async def test_an_identity_twice_is_two_versions_in_order(server: Server, operator: httpx.AsyncClient):
    """The later line wins, also within one chunk."""
    await bring(
        server, operator, ndjson([patient("p", "UN"), patient("q"), patient("p", "DEUX"), patient("p", "TROIS")])
    )
    resource = (await operator.get("/fhir/Patient/p")).json()
    assert (resource["meta"]["versionId"], resource["name"][0]["family"]) == ("3", "TROIS")
    assert await found(operator, "Patient?name=un,deux") == []


async def test_a_bad_line_is_refused_alone(server: Server, operator: httpx.AsyncClient):
    """Each with its file, line and place; nothing of a line is half there."""
    content = b"\n".join(
        [
            b'{"resourceType":"Patient","id":"p1"}',
            b"not json",
            b'{"resourceType":"Patient","id":"p2","gender":"blue"}',
            b'{"resourceType":"AuditEvent","id":"a"}',
            b'{"resourceType":"Martian"}',
            b'{"resourceType":"Observation","id":"o","status":"final","code":{"text":"x"},"subject":{"reference":"Patient?x=y"}}',
            b'{"resourceType":"Patient","id":"p3"}',
        ]
    )
    done = await bring(server, operator, content)
    assert done.manifest["output"] == [{"count": 2}]
    assert done.manifest["error"][0]["count"] == 5
    assert [(code, text.partition(":")[0]) for code, text in await refused(operator, done)] == [
        ("structure", "input.ndjson, line 2"),
        ("code-invalid", "input.ndjson, line 3"),
        ("business-rule", "input.ndjson, line 4"),
        ("invalid", "input.ndjson, line 5"),
        ("value", "input.ndjson, line 6"),
    ]
    assert await found(operator, "Patient?") == ["p1", "p3"]


async def test_references_may_point_forward_and_must_lead_somewhere(server: Server, operator: httpx.AsyncClient):
    """Lines in any order, in circles, over several lines; what leads nowhere is refused with all that leads to it."""
    done = await bring(
        server,
        operator,
        ndjson(
            [
                observation("late", id="o1"),
                document_reference(
                    "late", id="d1", relatesTo=[{"code": "appends", "target": {"reference": "DocumentReference/d2"}}]
                ),
                document_reference(
                    "late", id="d2", relatesTo=[{"code": "appends", "target": {"reference": "DocumentReference/d1"}}]
                ),
                observation("nobody", id="lost"),
                observation("late", id="lost-too", hasMember=[{"reference": "Observation/lost"}]),
                patient("late"),
            ]
        ),
    )
    assert done.manifest["output"] == [{"count": 4}]
    assert [code for code, _ in await refused(operator, done)] == ["not-found", "not-found"]
    assert await found(operator, "Observation?") == ["o1"]
    assert await found(operator, "DocumentReference?") == ["d1", "d2"]


async def test_forward_references_over_chunks(
    server: Server, operator: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
):
    """What waits is written after everything else, and refused where nothing came."""
    monkeypatch.setattr(import_run, "LINES_PER_CHUNK", 2)
    resources = [
        observation("p1", id="o1"),
        observation("p2", id="o2", hasMember=[{"reference": "Observation/o3"}]),
        observation("p2", id="o3", hasMember=[{"reference": "Observation/o2"}]),
        observation("nobody", id="lost"),
        observation("p1", id="lost-too", hasMember=[{"reference": "Observation/lost"}]),
        patient("p1"),
        patient("p2"),
    ]
    done = await bring(server, operator, ndjson(resources))
    assert done.manifest["output"] == [{"count": 5}]
    told = await refused(operator, done)
    assert [code for code, _ in told] == ["not-found", "not-found"]
    assert told[0][1] == "input.ndjson, line 4: Patient/nobody is neither on this server nor in this import"
    assert await found(operator, "Observation?") == ["o1", "o2", "o3"]


async def test_files_of_the_import_folder(server: Server, settings: Settings, operator: httpx.AsyncClient):
    """Inputs are named; what others refer to is read first, in whatever order it is listed."""
    write(settings, "Observation.ndjson", observation("p1", id="o1"), patient("p9"))
    write(settings, "Patient.ndjson", patient("p1"))
    inputs = files(("Observation", "Observation.ndjson"), ("Patient", "file:Patient.ndjson"))
    url = await kick_off(operator, "$import", json=inputs)
    await work(server)
    done = Done(url, await operator.get(url))
    assert done.manifest["output"] == [
        {"type": "Observation", "inputUrl": "Observation.ndjson", "count": 1},
        {"type": "Patient", "inputUrl": "Patient.ndjson", "count": 1},
    ]
    assert await refused(operator, done) == [("invalid", "Observation.ndjson, line 2: This input is of Observation")]
    assert await server.rows("select 1 from bulk_deferred") == []


@pytest.mark.parametrize(
    "name",
    ["../secret", "/etc/passwd", "none.ndjson", "link.ndjson", ".hidden", "https://example.org/a.ndjson", "folder"],
)
async def test_no_name_leads_out_of_the_folder(settings: Settings, operator: httpx.AsyncClient, name: str):
    """Paths, links, folders and URLs are refused, all with the same status."""
    assert settings.import_folder
    (settings.import_folder / "folder").mkdir()
    (settings.import_folder / "link.ndjson").symlink_to("/etc/passwd")
    answer = await operator.post("/fhir/$import", json=files((None, name)), headers=ASYNC)
    assert (answer.status_code, codes(answer)) == (400, ["invalid"])


async def test_a_file_that_changed_is_not_read(server: Server, settings: Settings, operator: httpx.AsyncClient):
    """The job fails and says so: half of another file is worse."""
    write(settings, "Patient.ndjson", patient("p1"))
    url = await kick_off(operator, "$import", json=files(("Patient", "Patient.ndjson")))
    write(settings, "Patient.ndjson", patient("p1"), patient("p2"))
    await work(server)
    answer = await operator.get(url)
    assert (answer.status_code, codes(answer)) == (500, ["exception"])
    assert "changed" in answer.text
    assert await found(operator, "Patient?") == []


async def test_only_operators_import_what_they_may_write(server: Server, settings: Settings):
    """The role, and c and u on each type: at the kick-off for types that are named, else for each line."""
    write(settings, "Patient.ndjson", patient("p1"))
    machine = (await server.client(EVERYTHING)).http
    assert (await machine.post("/fhir/$import", content=b"", headers=NDJSON)).status_code == 403
    few = (await server.client(("system/Patient.cu", "system/Observation.c"), role="operator")).http
    assert (
        await few.post("/fhir/$import", json=files(("Observation", "Patient.ndjson")), headers=ASYNC)
    ).status_code == 403
    done = await bring(server, few, ndjson([patient("p1"), {"resourceType": "Basic", "code": {"text": "x"}}]))
    assert [code for code, _ in await refused(few, done)] == ["forbidden"]
    assert done.manifest["output"] == [{"count": 1}]


async def test_a_request_that_is_wrong_leaves_nothing(server: Server, settings: Settings, operator: httpx.AsyncClient):
    """Too large, not asynchronous, without input: refused, and no file is kept."""
    for content, headers, status in (
        (b"x" * 1024 * 1025, NDJSON, 413),
        (b"{}", {"content-type": "application/fhir+ndjson"}, 400),
        (b'{"resourceType":"Parameters"}', {**ASYNC, **FHIR_JSON}, 400),
        (b"{}", {**ASYNC, "content-type": "text/csv"}, 415),
    ):
        assert (await operator.post("/fhir/$import", content=content, headers=headers)).status_code == status
    assert not settings.exports_folder.exists() or not list(settings.exports_folder.iterdir())
    assert await server.rows("select 1 from bulk_job") == []
    wrong = posted(inputFormat={"valueCode": "text/csv"})
    assert (await operator.post("/fhir/$import", json=wrong, headers=ASYNC)).status_code == 400


async def test_binaries_go_to_the_blob_store(server: Server, operator: httpx.AsyncClient):
    """Their data is not in the database, and can be read back."""
    binary = {"resourceType": "Binary", "id": "b", "contentType": "text/plain", "data": "Ym9uam91cg=="}
    await bring(server, operator, ndjson([binary]))
    assert (await operator.get("/fhir/Binary/b", headers={"accept": "text/plain"})).content == b"bonjour"
    assert await server.rows("select blob_size from resource where id = 'b' and position('Ym9' in doc::text) = 0") == [
        (7,)
    ]


async def test_each_worker_of_an_import_leaves_a_trace(server: Server, operator: httpx.AsyncClient):
    """One row per worker, whatever number of lines concern him, and one for the request."""
    await bring(server, operator, ndjson([patient("p1"), observation("p1", id="o"), observation("p1"), patient("p2")]))
    rows = await server.rows("select patient_id from access where query = '$import' order by patient_id nulls first")
    assert rows == [(None,), ("p1",), ("p2",)]


async def test_an_import_that_was_stopped_goes_on_without_doubles(
    server: Server, operator: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
):
    """Each chunk and the note that it is done are one transaction: after any number of stops the end is the same."""
    monkeypatch.setattr(import_run, "LINES_PER_CHUNK", 50)
    monkeypatch.setattr(bulk_load, "MOST_REFUSALS", 3)
    resources: list[dict[str, Any]] = [observation(f"p{n}", id=f"o{n}") for n in range(MANY // 2)]
    resources += [patient(f"p{n}") for n in range(MANY // 2)]
    content = ndjson(resources) + b"bad\n" * 5 + ndjson([observation("p1")])
    url = await kick_off(operator, "$import", content=content, headers=NDJSON)
    job = url.rpartition("/")[2]
    stops = 0
    async with worker(server) as parts:
        while (await operator.get(url)).status_code == 202:
            task = asyncio.create_task(parts.bulk.run(job))
            done, _ = await asyncio.wait({task}, timeout=0.1 * (stops + 1))
            if not done:
                task.cancel()
                await asyncio.wait({task})
                stops += 1
            elif isinstance(task.exception(), Conflict):  # PostgreSQL has not yet seen that the last one is gone
                await asyncio.sleep(0.1)
    assert stops
    manifest = (await operator.get(url)).json()
    assert manifest["output"] == [{"count": MANY + 1}]
    assert manifest["error"][0]["count"] == 5
    assert len(await lines(operator, manifest["error"][0]["url"])) == 3
    assert await server.rows("select count(*), max(version) from resource") == [(MANY + 1, 1)]
    assert await server.rows("select count(*) from access where query = '$import' and patient_id is not null") == [
        (MANY // 2,)
    ]


async def test_no_file_is_read_past_the_longest_line(server: Server, settings: Settings, operator: httpx.AsyncClient):
    """A line that is longer than a body may be is refused alone, whatever its length."""
    assert settings.import_folder
    name = settings.import_folder / "large.ndjson"
    with name.open("wb") as file:
        file.write(ndjson([patient("p1")]))
        file.seek((settings.max_body_mb + 10) * 1024 * 1024, os.SEEK_CUR)
        file.write(b"\n" + ndjson([patient("p2")]))
    url = await kick_off(operator, "$import", json=files((None, name.name)))
    await work(server)
    done = Done(url, await operator.get(url))
    assert done.manifest["output"][0]["count"] == 2
    assert [code for code, _ in await refused(operator, done)] == ["too-long"]


async def test_an_import_obeys_what_holds_for_every_write(server: Server, operator: httpx.AsyncClient):
    """What is hidden from an operator is not overwritten, a Consent that is no right of a worker is refused."""
    doctor = (await server.client(EVERYTHING, role="medecin-travail")).http
    withheld = {"security": [{"system": systems.SECURITY_TAG, "code": "non-transmissible"}]}
    await keep(doctor, patient("p"), observation("p", id="note", meta=withheld))
    consent = {
        "resourceType": "Consent",
        "id": "c",
        "status": "active",
        "scope": {"coding": [{"code": "patient-privacy"}]},
        "category": [{"coding": [{"system": WORKER_RIGHT, "code": "ins"}]}],
        "patient": {"reference": "Patient/p"},
        "dateTime": "2026-01-01",
        "policyRule": {"text": "x"},
        "provision": {"type": "deny"},
    }
    done = await bring(
        server, operator, ndjson([observation("p", id="note"), consent, observation("p", id="new"), patient("p", "B")])
    )
    assert [code for code, _ in await refused(operator, done)] == ["forbidden", "business-rule"]
    assert (await operator.get("/fhir/Observation/note")).status_code == 404
    assert (await doctor.get("/fhir/Observation/note")).json()["meta"]["versionId"] == "1"
    assert (await operator.get("/fhir/Observation/new")).status_code == 200


async def test_what_an_import_withholds_is_decided_upon_anew(server: Server, operator: httpx.AsyncClient):
    """A flag that comes by an import stops what waits, as one that comes by an update does."""
    await keep(operator, patient("p"), document_reference("p", id="d"))
    await server.rows(
        "insert into delivery (delivery_id, recipient, document_reference_id, patient_id, state, created, updated)"
        " values (gen_random_uuid(), 'dmp', 'd', 'p', 'pending', now(), now()) returning 1"
    )
    withheld = {"security": [{"system": systems.SECURITY_TAG, "code": "non-transmissible"}]}
    await bring(server, operator, ndjson([document_reference("p", id="d", meta=withheld)]))
    waiting = (
        "select count(*) from procrastinate_jobs j join delivery d on j.args ->> 'delivery_id' = d.delivery_id::text"
    )
    assert await server.rows(waiting) == [(1,)]
