"""create and update: https://hl7.org/fhir/R4/http.html#create"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

import httpx
import orjson
import pytest

from fhir_server.settings import Settings
from tests.support import (
    FHIR_JSON,
    FOLDERS,
    Caller,
    Server,
    codes,
    found,
    in_folder,
    issues,
    keep,
    observation,
    patient,
    post,
    put,
)

Make = Callable[..., Awaitable[Caller]]


@pytest.fixture
def settings(make_settings: Callable[..., Settings]) -> Settings:
    """A server whose limit a test can reach."""
    return make_settings(max_body_mb=1)


async def test_a_create_answers_where_and_which_version(fhir_client: httpx.AsyncClient) -> None:
    """201, Location of the version, ETag, and the resource as it is kept; an id of the client is not taken."""
    answer = await post(fhir_client, patient("mine"))
    assert answer.status_code == 201
    identity = answer.json()["id"]
    assert identity != "mine"
    assert answer.headers["location"] == f"http://test/fhir/Patient/{identity}/_history/1"
    assert answer.headers["etag"] == 'W/"1"'
    assert (await fhir_client.get(f"/fhir/Patient/{identity}")).content == answer.content


async def test_an_update_creates_or_makes_the_next_version(fhir_client: httpx.AsyncClient) -> None:
    """201 the first time, 200 after."""
    names = ("UN", "DEUX")
    assert [(await put(fhir_client, patient("p", name))).status_code for name in names] == [201, 200]
    answer = await put(fhir_client, patient("p", "TROIS"))
    assert (answer.headers["etag"], answer.json()["meta"]["versionId"]) == ('W/"3"', "3")


async def test_an_update_that_changes_nothing_makes_no_version(fhir_client: httpx.AsyncClient) -> None:
    """The same bytes again: 200 with the version that is there, and a history of one."""
    first, again = [await put(fhir_client, patient("p")) for _ in range(2)]
    assert (first.status_code, again.status_code) == (201, 200)
    assert again.content == first.content
    assert len((await fhir_client.get("/fhir/Patient/p/_history")).json()["entry"]) == 1


@pytest.mark.parametrize("method", ["create", "update"])
async def test_the_client_says_what_it_wants_back(fhir_client: httpx.AsyncClient, method: str) -> None:
    """Prefer: return=minimal, representation, OperationOutcome (R4 http#ops)."""
    send = post if method == "create" else put

    async def answer(preference: str) -> httpx.Response:
        return await send(fhir_client, patient("p"), prefer=f"return={preference}")

    minimal = await answer("minimal")
    assert (minimal.content, minimal.headers["preference-applied"]) == (b"", "return=minimal")
    assert "location" in minimal.headers
    assert (await answer("representation")).json()["resourceType"] == "Patient"
    outcome = await answer("OperationOutcome")
    assert codes(outcome) == ["informational"]
    assert outcome.json()["issue"][0]["severity"] == "information"


@pytest.mark.parametrize(
    ("if_match", "status"), [('W/"2"', 200), ('"2"', 200), ('W/"1"', 412), ('W/"3"', 412), ("2", 400), ("*", 400)]
)
async def test_if_match_guards_an_update(fhir_client: httpx.AsyncClient, if_match: str, status: int) -> None:
    """Only over the version that the client has seen."""
    await keep(fhir_client, patient("p"), patient("p", "DEUX"))
    answer = await put(fhir_client, patient("p", "AUTRE"), if_match=if_match)
    assert answer.status_code == status
    kept = (await fhir_client.get("/fhir/Patient/p")).json()
    assert kept["meta"]["versionId"] == ("3" if status == 200 else "2")
    if status == 412:
        assert codes(answer) == ["conflict"]


async def test_thirty_two_callers_create_one_worker(fhir_client: httpx.AsyncClient) -> None:
    """If-None-Exist at the same moment: one 201, thirty-one 200, one resource."""
    answers = await asyncio.gather(
        *(post(fhir_client, in_folder("77"), if_none_exist=f"identifier={FOLDERS}|77") for _ in range(32))
    )
    assert sorted(answer.status_code for answer in answers) == [200] * 31 + [201]
    assert len({answer.json()["id"] for answer in answers}) == 1
    assert len(await found(fhir_client, f"Patient?identifier={FOLDERS}|77")) == 1


async def test_a_condition_that_is_met_already_writes_nothing(fhir_client: httpx.AsyncClient) -> None:
    """200 with what was there, at its version."""
    await keep(fhir_client, in_folder("1", id="p"), in_folder("1", id="p", gender="male"))
    answer = await post(fhir_client, in_folder("1"), if_none_exist=f"Patient?identifier={FOLDERS}|1")
    assert (answer.status_code, answer.json()["id"], answer.headers["etag"]) == (200, "p", 'W/"2"')


@pytest.mark.parametrize(
    ("condition", "status", "code"),
    [
        (f"identifier={FOLDERS}|twice", 412, "multiple-matches"),
        ("", 400, "structure"),
        ("identifier=%00", 400, "structure"),
        ("_count=1", 400, "invalid"),
        ("nope=1", 400, "not-supported"),
    ],
)
async def test_a_condition_that_decides_nothing_is_refused(
    fhir_client: httpx.AsyncClient, condition: str, status: int, code: str
) -> None:
    """And nothing is written."""
    await keep(fhir_client, in_folder("twice", id="a"), in_folder("twice", id="b"))
    answer = await post(fhir_client, in_folder("new"), if_none_exist=condition)
    assert (answer.status_code, codes(answer)) == (status, [code])
    assert await found(fhir_client, "Patient?identifier=new") == []


async def test_a_reference_to_nothing_is_named(fhir_client: httpx.AsyncClient) -> None:
    """422 with the FHIRPath."""
    answer = await post(fhir_client, observation("nobody"))
    assert (answer.status_code, issues(answer)) == (422, [("not-found", "Observation.subject.reference")])


async def test_an_invalid_resource_is_told_every_fault(fhir_client: httpx.AsyncClient) -> None:
    """422, each with its path, and not a value of the resource in it."""
    body = {"resourceType": "Patient", "gender": "SECRET-1", "birthDate": "SECRET-2", "unknown": "SECRET-3"}
    answer = await post(fhir_client, body)
    assert answer.status_code == 422
    assert issues(answer) == [
        ("code-invalid", "Patient.gender"),
        ("value", "Patient.birthDate"),
        ("structure", "Patient.unknown"),
    ]
    assert "SECRET" not in answer.text


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b'{"resourceType":\n "Patient",\n oops}', "line 3"),
        (b"", "line 1"),
        (b"[1]", "resourceType"),
        (b'{"resourceType": "Patient", "x": "\xff"}', "not JSON"),
    ],
)
async def test_what_is_not_json_is_told_where(fhir_client: httpx.AsyncClient, body: bytes, expected: str) -> None:
    """400 with the line, never the content."""
    answer = await fhir_client.post("/fhir/Patient", content=body, headers=FHIR_JSON)
    assert (answer.status_code, codes(answer)) == (400, ["structure"])
    assert expected in answer.json()["issue"][0]["diagnostics"]


@pytest.mark.parametrize(
    ("path", "resource", "where"),
    [
        ("Observation/p", patient("p"), "resourceType"),
        ("Patient/p", patient("other"), "Patient.id"),
        ("Patient/p", patient(), "Patient.id"),
    ],
)
async def test_url_and_body_must_agree(
    fhir_client: httpx.AsyncClient, path: str, resource: dict[str, object], where: str
) -> None:
    """400: one of the two is a mistake."""
    answer = await fhir_client.put(f"/fhir/{path}", content=orjson.dumps(resource), headers=FHIR_JSON)
    assert (answer.status_code, issues(answer)) == (400, [("invalid", where)])


@pytest.mark.parametrize("media_type", ["text/plain", "text/html; charset=utf-8", "application/*", ""])
async def test_a_body_that_is_neither_json_nor_xml_is_an_unsupported_media_type(
    fhir_client: httpx.AsyncClient, media_type: str
) -> None:
    """415, for every interaction that has a body."""
    headers = {"content-type": media_type}
    body = b'<Patient xmlns="http://hl7.org/fhir"/>'
    for method, path in (("POST", "/fhir/Patient"), ("PUT", "/fhir/Patient/p"), ("POST", "/fhir")):
        answer = await fhir_client.request(method, path, content=body, headers=headers)
        assert (answer.status_code, codes(answer)) == (415, ["not-supported"])


@pytest.mark.parametrize("announced", [True, False])
async def test_a_body_over_the_limit_is_too_large(fhir_client: httpx.AsyncClient, announced: bool) -> None:
    """413, whether the client says how long it is or just goes on."""
    body = orjson.dumps(patient("p", "x" * 1_100_000))

    async def chunks() -> AsyncIterator[bytes]:
        for start in range(0, len(body), 65536):
            yield body[start : start + 65536]

    answer = await fhir_client.put("/fhir/Patient/p", content=body if announced else chunks(), headers=FHIR_JSON)
    assert (answer.status_code, codes(answer)) == (413, ["too-long"])


async def test_the_body_of_a_form_has_a_limit_too(fhir_client: httpx.AsyncClient) -> None:
    """A search by POST is no way around it."""
    answer = await fhir_client.post("/fhir/Patient/_search", data={"family": "x" * 1_100_000})
    assert (answer.status_code, codes(answer)) == (413, ["too-long"])


@pytest.mark.parametrize(
    ("scope", "create", "update"),
    [("system/Patient.c", 201, 403), ("system/Patient.u", 403, 201), ("system/Patient.rs", 403, 403)],
)
async def test_writing_needs_the_scope(client_with: Make, scope: str, create: int, update: int) -> None:
    """Create and update apart."""
    client = (await client_with(scope)).http
    assert (await post(client, patient())).status_code == create
    assert (await put(client, patient("p"))).status_code == update


async def test_an_update_is_found_by_its_new_value_only(fhir_client: httpx.AsyncClient) -> None:
    """The index never lags behind."""
    await keep(fhir_client, in_folder("1", id="p", birthDate="1980-01-01"))
    await keep(fhir_client, in_folder("2", id="p", birthDate="1990-01-01"))
    for query, expected in [
        ("Patient?identifier=1", []),
        ("Patient?birthdate=1980", []),
        ("Patient?identifier=2&birthdate=1990", ["p"]),
    ]:
        assert await found(fhir_client, query) == expected


async def test_fifty_writers_at_once_all_succeed(fhir_client: httpx.AsyncClient, server: Server) -> None:
    """Commits are shared, answers are not."""
    answers = await asyncio.gather(*(post(fhir_client, in_folder(str(n))) for n in range(50)))
    assert {answer.status_code for answer in answers} == {201}
    for number, answer in enumerate(answers):
        assert answer.json()["identifier"][0]["value"] == str(number)
    assert await server.rows("select count(*) from resource") == [(50,)]
