"""What HTTP itself promises: https://hl7.org/fhir/R4/http.html - methods, conditions, forms, preferences, settings."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import httpx
import orjson
import pytest

from fhir_server.r4.xml import to_json
from fhir_server.settings import Settings
from tests.support import EVERYTHING, FHIR_JSON, FOLDERS, codes, in_folder, issues, keep, patient, post, put, serving

JSON_PATCH = {"content-type": "application/json-patch+json"}
ACTIVE = b'[{"op":"add","path":"/active","value":true}]'
BY_FOLDER = f"/fhir/Patient?identifier={FOLDERS}|1"


@pytest.mark.parametrize(
    ("path", "allowed"),
    [
        ("", "GET, HEAD, OPTIONS, POST"),
        ("_search", "OPTIONS, POST"),
        ("metadata", "GET, HEAD, OPTIONS"),
        ("_history", "GET, HEAD, OPTIONS"),
        ("Patient", "DELETE, GET, HEAD, OPTIONS, PATCH, POST, PUT"),
        ("Patient/_search", "OPTIONS, POST"),
        ("Patient/1", "DELETE, GET, HEAD, OPTIONS, PATCH, PUT"),
        ("Patient/1/_history/2", "GET, HEAD, OPTIONS"),
        ("Binary/1", "DELETE, GET, HEAD, OPTIONS, PUT"),
        ("AuditEvent/1", "GET, HEAD, OPTIONS"),
    ],
)
async def test_a_path_says_what_may_be_done_under_it(anonymous: httpx.AsyncClient, path: str, allowed: str) -> None:
    """OPTIONS, without a token: it depends on nobody and on nothing that is kept."""
    answer = await anonymous.options(f"/fhir/{path}")
    assert (answer.status_code, answer.content, answer.headers["allow"]) == (204, b"", allowed)


async def test_what_may_not_be_done_is_answered_with_what_may(fhir_client: httpx.AsyncClient) -> None:
    """RFC 9110 section 15.5.6: a 405 has Allow; where there is nothing, nothing may be done."""
    answer = await fhir_client.put("/fhir/AuditEvent/1", content=b"{}", headers=FHIR_JSON)
    assert (answer.status_code, answer.headers["allow"]) == (405, "GET, HEAD, OPTIONS")
    assert (await fhir_client.options("/fhir/Nothing/1")).status_code == 404


@pytest.mark.parametrize(
    "path", ["Patient/p", "Patient/p/_history/1", "Patient?name=x", "Patient/_history", "_history", "metadata"]
)
async def test_head_is_get_without_the_body(fhir_client: httpx.AsyncClient, path: str) -> None:
    """The same status and headers."""
    await keep(fhir_client, patient("p"))
    same = {"x-request-id": "one"}
    get = await fhir_client.get(f"/fhir/{path}", headers=same)
    head = await fhir_client.head(f"/fhir/{path}", headers=same)
    assert (head.status_code, head.content, dict(head.headers)) == (200, b"", dict(get.headers))


@pytest.mark.parametrize(
    ("after", "etag", "status"),
    [(-1, None, 200), (0, None, 304), (1, None, 304), (1, 'W/"2"', 200), (-1, 'W/"1"', 304), (None, None, 200)],
)
async def test_what_did_not_change_since_is_not_sent_again(
    fhir_client: httpx.AsyncClient, after: int | None, etag: str | None, status: int
) -> None:
    """If-Modified-Since, to the second; If-None-Match comes before it, and a date that is none is no condition."""
    await keep(fhir_client, patient("p"))
    modified = (await fhir_client.get("/fhir/Patient/p")).headers["last-modified"]
    at = datetime.strptime(modified, "%a, %d %b %Y %H:%M:%S GMT").replace(tzinfo=UTC)
    since = "yesterday" if after is None else format_datetime(at + timedelta(seconds=after), usegmt=True)
    headers = {"if-modified-since": since, **({"if-none-match": etag} if etag else {})}
    answer = await fhir_client.get("/fhir/Patient/p", headers=headers)
    assert (answer.status_code, answer.content == b"") == (status, status == 304)
    assert answer.headers["last-modified"] == modified


async def test_an_update_may_ask_that_there_be_nothing_yet(fhir_client: httpx.AsyncClient) -> None:
    """If-None-Match: * creates, or is 412; what was deleted is not there. By criteria too. Other tags are refused."""
    nothing = {**FHIR_JSON, "if-none-match": "*"}
    body = orjson.dumps(in_folder("1", id="p"))
    for path in ("/fhir/Patient/p", BY_FOLDER):
        assert (await fhir_client.put(path, content=body, headers=nothing)).status_code == 201
        refused = await fhir_client.put(path, content=body, headers=nothing)
        assert (refused.status_code, codes(refused)) == (412, ["conflict"])
        assert (await fhir_client.delete("/fhir/Patient/p")).status_code == 204
    refused = await put(fhir_client, patient("p"), if_none_match='W/"1"')
    assert (refused.status_code, codes(refused)) == (400, ["invalid"])


WITH_FORMAT = ["Patient/p", "Patient", "Patient/p/_history", "_history", "metadata", "AuditEvent", "Patient/never"]


@pytest.mark.parametrize("path", WITH_FORMAT)
@pytest.mark.parametrize("name", ["application/fhir+xml", "application/fhir%2Bxml", "text/xml", "xml"])
async def test_a_format_may_be_asked_for_everywhere(fhir_client: httpx.AsyncClient, path: str, name: str) -> None:
    """Over Accept, with a `+` that is a blank to a form; for failures as well."""
    await keep(fhir_client, patient("p"))
    answer = await fhir_client.get(f"/fhir/{path}?_format={name}", headers={"accept": "application/fhir+json"})
    assert answer.headers["content-type"] == "application/fhir+xml; charset=utf-8"
    assert to_json(answer.content).startswith(b'{"resourceType":')


async def test_writes_answer_in_the_format_that_is_asked_for(fhir_client: httpx.AsyncClient) -> None:
    """In the URL of the write, also beside criteria."""
    body = orjson.dumps(in_folder("1", id="p"))
    nothing_to_do = {"resourceType": "Bundle", "type": "batch"}
    answers = [
        await fhir_client.put("/fhir/Patient/p?_format=xml", content=body, headers=FHIR_JSON),
        await fhir_client.post(
            "/fhir/Patient?_format=xml", content=body, headers={**FHIR_JSON, "if-none-exist": "_id=p"}
        ),
        await fhir_client.put(f"{BY_FOLDER}&_format=xml", content=body, headers=FHIR_JSON),
        await fhir_client.patch("/fhir/Patient/p?_format=xml", content=ACTIVE, headers=JSON_PATCH),
        await fhir_client.post("/fhir?_format=xml", json=nothing_to_do, headers=FHIR_JSON),
    ]
    assert {answer.headers["content-type"].partition(";")[0] for answer in answers} == {"application/fhir+xml"}
    refused = await fhir_client.get("/fhir/Patient/p?_format=text/turtle")
    assert (refused.status_code, codes(refused)) == (406, ["not-supported"])


@pytest.mark.parametrize("path", WITH_FORMAT)
async def test_answers_may_be_pretty(fhir_client: httpx.AsyncClient, path: str) -> None:
    """`_pretty=true`: more lines, the same content; digits as they were."""
    decimal = {"resourceType": "Patient", "id": "p", "extension": [{"url": "urn:x", "valueDecimal": 0}]}
    body = orjson.dumps(decimal).replace(b":0}", b":1.00}")
    await fhir_client.put("/fhir/Patient/p", content=body, headers=FHIR_JSON)
    for form in ("json", "xml"):
        pretty = await fhir_client.get(f"/fhir/{path}?_pretty=true&_format={form}")
        assert pretty.content.count(b"\n") > 3
        assert pretty.headers["content-length"] == str(len(pretty.content))
        if path in ("Patient/p", "metadata"):
            plain = await fhir_client.get(f"/fhir/{path}?_format={form}")
            assert plain.content.count(b"\n") <= 1
            if form == "json":
                assert pretty.json() == plain.json()
            assert (b"1.00" in pretty.content) == (path == "Patient/p")
    posted = await fhir_client.post("/fhir/Patient/_search", data={"_id": "p", "_pretty": "true"})
    assert posted.content.count(b"\n") > 3


@pytest.mark.parametrize("asked", ["minimal", "representation", "OperationOutcome", "everything"])
async def test_every_write_says_which_preference_it_followed(fhir_client: httpx.AsyncClient, asked: str) -> None:
    """Prefer: return, echoed where it is known (RFC 7240 section 3)."""
    headers = {"prefer": f"respond-async, return={asked}"}
    body = orjson.dumps(in_folder("1", id="p"))
    writes = [
        await fhir_client.put("/fhir/Patient/p", content=body, headers=FHIR_JSON | headers),
        await fhir_client.put(BY_FOLDER, content=body, headers=FHIR_JSON | headers),
        await fhir_client.post("/fhir/Patient", content=body, headers=FHIR_JSON | headers),
        await fhir_client.patch("/fhir/Patient/p", content=ACTIVE, headers=JSON_PATCH | headers),
        await fhir_client.post("/fhir/Binary", content=b"x", headers={"content-type": "text/plain"} | headers),
    ]
    echo = None if asked == "everything" else f"return={asked}"
    assert [answer.headers.get("preference-applied") for answer in writes] == [echo] * 5
    for answer in writes:
        kind = answer.json()["resourceType"] if answer.content else None
        expected = {"minimal": {None}, "OperationOutcome": {"OperationOutcome"}}.get(asked, {"Patient", "Binary"})
        assert kind in expected
    gone = await fhir_client.delete("/fhir/Patient/p", headers=headers)
    assert (gone.status_code, bool(gone.content)) == ((200, True) if asked == "OperationOutcome" else (204, False))
    assert gone.headers.get("preference-applied") == (echo if asked in ("minimal", "OperationOutcome") else None)


async def test_a_server_may_leave_no_ids_to_its_clients(make_settings: Callable[..., Settings]) -> None:
    """DMST_FHIR_UPDATE_CREATE=false: 405 for a new id, whichever way it comes; ids of the server are made as ever."""
    async with serving(make_settings(update_create=False)) as server:
        client = (await server.client(EVERYTHING)).http
        refused = [
            await put(client, patient("mine")),
            await client.put(BY_FOLDER, json=in_folder("1", id="mine"), headers=FHIR_JSON),
        ]
        assert [(answer.status_code, codes(answer)) for answer in refused] == [(405, ["not-supported"])] * 2
        made = await client.put(BY_FOLDER, json=in_folder("1"), headers=FHIR_JSON)
        assert made.status_code == 201
        assert (await put(client, in_folder("1", id=made.json()["id"], gender="male"))).status_code == 200
        statement = (await client.get("/fhir/metadata")).json()
        assert {one.get("updateCreate") for one in statement["rest"][0]["resource"]} == {False, None}


async def test_a_server_may_ask_for_the_version_that_is_changed(make_settings: Callable[..., Settings]) -> None:
    """DMST_FHIR_REQUIRE_IF_MATCH=true: 428 without If-Match, in entries too; what is new has no version to name."""
    async with serving(make_settings(require_if_match=True)) as server:
        client = (await server.client(EVERYTHING)).http
        assert (await put(client, in_folder("1", id="p"))).status_code == 201
        entry = {"resource": in_folder("1", id="p"), "request": {"method": "PUT", "url": "Patient/p"}}
        refused = [
            await put(client, in_folder("1", id="p", gender="male")),
            await client.put(BY_FOLDER, json=in_folder("1"), headers=FHIR_JSON),
            await client.patch("/fhir/Patient/p", content=ACTIVE, headers=JSON_PATCH),
            await post(client, {"resourceType": "Bundle", "type": "transaction", "entry": [entry]}),
        ]
        assert [(answer.status_code, codes(answer)) for answer in refused] == [(428, ["required"])] * 4
        assert issues(refused[3])[0][1] == "Bundle.entry[0]"
        patched = await client.patch("/fhir/Patient/p", content=ACTIVE, headers={**JSON_PATCH, "if-match": 'W/"1"'})
        assert patched.status_code == 200
        assert (await put(client, patient("p"), if_match='W/"2"')).status_code == 200
        statement = (await client.get("/fhir/metadata")).json()
        assert {one["versioning"] for one in statement["rest"][0]["resource"]} == {"versioned-update", "no-version"}


async def test_the_statement_has_modes_and_parts(anonymous: httpx.AsyncClient) -> None:
    """full and normative are the whole; what is not built is not pretended; a summary is one."""
    whole = (await anonymous.get("/fhir/metadata")).content
    for mode in ("full", "normative"):
        assert (await anonymous.get(f"/fhir/metadata?mode={mode}")).content == whole
    terms = (await anonymous.get("/fhir/metadata?mode=terminology&_elements=kind")).json()
    assert (terms["resourceType"], terms["kind"]) == ("TerminologyCapabilities", "instance")
    assert (await anonymous.get("/fhir/metadata?mode=other")).status_code == 400
    part = (await anonymous.get("/fhir/metadata?_elements=software")).json()
    assert (part["software"]["name"], "rest" in part) == ("dmst-fhir", False)
