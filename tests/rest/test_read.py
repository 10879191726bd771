"""read and vread: https://hl7.org/fhir/R4/http.html#read"""

import asyncio
from collections.abc import Awaitable, Callable
from email.utils import parsedate_to_datetime

import httpx
import pytest

from tests.support import Caller, Server, codes, keep, patient, put

Make = Callable[..., Awaitable[Caller]]


async def test_what_was_put_is_read_byte_for_byte(fhir_client: httpx.AsyncClient) -> None:
    """Decimals, order and escapes included; only id and meta are ours."""
    body = (
        rb'{"valueQuantity":{"value":1.00},"status":"final","id":"o",'
        rb'"code":{"text":"\u00e9"},"resourceType":"Observation"}'
    )
    await fhir_client.put("/fhir/Observation/o", content=body, headers={"content-type": "application/fhir+json"})
    answer = await fhir_client.get("/fhir/Observation/o")
    assert answer.status_code == 200
    assert rb'"valueQuantity":{"value":1.00},"status":"final","code":{"text":"\u00e9"}}' in answer.content


async def test_a_read_carries_its_version_and_time(fhir_client: httpx.AsyncClient) -> None:
    """ETag, Last-Modified and media type, and they say what meta says."""
    await keep(fhir_client, patient("p"), patient("p", "SECOND"))
    answer = await fhir_client.get("/fhir/Patient/p")
    meta = answer.json()["meta"]
    assert answer.headers["etag"] == 'W/"2"'
    assert meta["versionId"] == "2"
    modified = parsedate_to_datetime(answer.headers["last-modified"])
    assert modified.strftime("%Y-%m-%dT%H:%M:%S") == meta["lastUpdated"][:19]
    assert answer.headers["content-type"].startswith("application/fhir+json")


async def test_head_is_read_without_the_body(fhir_client: httpx.AsyncClient) -> None:
    """The same headers, no content."""
    await keep(fhir_client, patient("p"))
    get, head = await fhir_client.get("/fhir/Patient/p"), await fhir_client.head("/fhir/Patient/p")
    assert (head.status_code, head.content) == (200, b"")
    for name in ("etag", "last-modified", "content-type", "content-length"):
        assert head.headers[name] == get.headers[name]


@pytest.mark.parametrize(
    ("if_none_match", "status"), [('W/"1"', 304), ('"1"', 304), ('W/"7", W/"1"', 304), ("*", 304), ('W/"2"', 200)]
)
async def test_what_the_client_has_already_is_not_sent_again(
    fhir_client: httpx.AsyncClient, if_none_match: str, status: int
) -> None:
    """If-None-Match names the current version: 304 with its ETag and no body."""
    await keep(fhir_client, patient("p"))
    answer = await fhir_client.get("/fhir/Patient/p", headers={"if-none-match": if_none_match})
    assert answer.status_code == status
    assert answer.headers["etag"] == 'W/"1"'
    assert (answer.content == b"") == (status == 304)


async def test_each_version_can_be_read(fhir_client: httpx.AsyncClient) -> None:
    """vread gives what was current then."""
    await keep(fhir_client, patient("p", "UN"), patient("p", "DEUX"))
    for version, family in (("1", "UN"), ("2", "DEUX")):
        answer = await fhir_client.get(f"/fhir/Patient/p/_history/{version}")
        assert answer.status_code == 200
        assert answer.json()["name"][0]["family"] == family
        assert answer.headers["etag"] == f'W/"{version}"'


@pytest.mark.parametrize(
    "path", ["Patient/none", "Patient/p/_history/2", "Patient/p/_history/x", "Patient/p/_history/99999999999"]
)
async def test_what_is_not_there_is_not_found(fhir_client: httpx.AsyncClient, path: str) -> None:
    """404 with an OperationOutcome."""
    await keep(fhir_client, patient("p"))
    answer = await fhir_client.get(f"/fhir/{path}")
    assert (answer.status_code, codes(answer)) == (404, ["not-found"])


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "Nothing/1", 404),
        ("GET", "Patient/p/$nothing", 404),
        ("GET", "Patient/" + "x" * 65, 404),
        ("GET", "Patient/p/q/r", 404),
        ("DELETE", "AuditEvent/1", 405),
        ("PATCH", "Binary/p", 405),
        ("PATCH", "AuditEvent/1", 405),
        ("POST", "Patient/p", 405),
        ("PUT", "", 405),
        ("POST", "AuditEvent", 405),
        ("PUT", "AuditEvent/1", 405),
        ("GET", "Parameters/1", 405),
        ("POST", "OperationOutcome", 405),
    ],
)
async def test_what_this_server_does_not_do_is_said(
    fhir_client: httpx.AsyncClient, method: str, path: str, status: int
) -> None:
    """404 where there is nothing, 405 where something else may be done."""
    answer = await fhir_client.request(method, f"/fhir/{path}".rstrip("/"), json={})
    assert (answer.status_code, codes(answer)) == (status, ["not-supported"])


@pytest.mark.parametrize("as_parameter", [False, True])
async def test_a_form_that_nobody_makes_is_not_acceptable(fhir_client: httpx.AsyncClient, as_parameter: bool) -> None:
    """406: better than JSON that a client takes for something else; by header and by _format."""
    await keep(fhir_client, patient("p"))
    query = "?_format=ttl" if as_parameter else ""
    headers = {} if as_parameter else {"accept": "text/turtle"}
    for path in ("Patient/p", "Patient/p/_history/1", "Patient/p/_history", "Patient", "metadata"):
        answer = await fhir_client.get(f"/fhir/{path}{query}", headers=headers)
        assert (answer.status_code, codes(answer)) == (406, ["not-supported"])


@pytest.mark.parametrize(
    "accept",
    [
        "application/fhir+json",
        "application/json",
        "*/*",
        "application/fhir+xml;q=0.8, application/fhir+json;q=0.9",
        "text/html, */*;q=0.1",
    ],
)
async def test_json_is_given_to_all_who_can_read_it(fhir_client: httpx.AsyncClient, accept: str) -> None:
    """Also where it is not the first wish; and _format beats Accept."""
    await keep(fhir_client, patient("p"))
    assert (await fhir_client.get("/fhir/Patient/p", headers={"accept": accept})).status_code == 200
    answer = await fhir_client.get("/fhir/Patient/p?_format=json", headers={"accept": "text/html"})
    assert answer.status_code == 200


async def test_many_reads_at_once_each_get_their_own(fhir_client: httpx.AsyncClient) -> None:
    """Reads of the same moment travel together, and are not mixed up."""
    await keep(fhir_client, *(patient(f"p{n}", f"N{n}") for n in range(10)))
    answers = await asyncio.gather(*(fhir_client.get(f"/fhir/Patient/p{n % 12}") for n in range(60)))
    for number, answer in enumerate(answers):
        if number % 12 < 10:
            assert answer.json()["name"][0]["family"] == f"N{number % 12}"
        else:
            assert answer.status_code == 404


async def test_reading_needs_the_scope(client_with: Make, fhir_client: httpx.AsyncClient) -> None:
    """Of this type and of this permission."""
    await keep(fhir_client, patient("p"))
    for scope, status in [
        ("system/Patient.r", 200),
        ("system/*.r", 200),
        ("system/Patient.s", 403),
        ("system/Patient.cud", 403),
        ("system/Observation.cruds", 403),
    ]:
        answer = await (await client_with(scope)).http.get("/fhir/Patient/p")
        assert answer.status_code == status, scope


async def test_the_request_is_named_in_a_failure(fhir_client: httpx.AsyncClient) -> None:
    """The client's own X-Request-Id comes back; a strange one is replaced."""
    answer = await fhir_client.get("/fhir/Patient/none", headers={"x-request-id": "abc-1"})
    assert answer.headers["x-request-id"] == "abc-1"
    answer = await fhir_client.get("/fhir/Patient/none", headers={"x-request-id": "<script>"})
    assert answer.headers["x-request-id"] not in ("", "<script>")


async def test_without_its_tables_the_server_fails_politely(server: Server, fhir_client: httpx.AsyncClient) -> None:
    """500 with a number to quote, and not a word of what went wrong."""
    await put(fhir_client, patient("p"))
    await server.as_owner("alter table resource rename to gone_away")
    answer = await fhir_client.get("/fhir/Patient/p")
    assert (answer.status_code, codes(answer)) == (500, ["exception"])
    assert answer.headers["x-request-id"] in answer.json()["issue"][0]["diagnostics"]
    assert "resource" not in answer.json()["issue"][0]["diagnostics"]
