"""docs/errors.md: each failure of the table is one of outcomes.py, and really happens over HTTP."""

import re
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import httpx
import orjson
import pytest

from fhir_server import outcomes
from fhir_server.outcomes import Failure
from fhir_server.settings import Settings
from tests.support import (
    EVERYTHING,
    FHIR_JSON,
    Server,
    codes,
    in_folder,
    keep,
    observation,
    patient,
    put,
    serving,
    transaction,
)

PAGE = Path(__file__).parents[2] / "docs" / "errors.md"
ROW = re.compile(r"^\| (\d{3}) \| `([a-z-]+)` \| (\w+) \| (.+?) \| (.+) \|$", re.MULTILINE)
# Where they are shown instead: the disk of tests/store/test_blobs.py, the images of tests/scans/test_rendition.py,
# the bytes of tests/stories/test_documents_are_encrypted.py, the bug of tests/test_outcomes.py; nothing of FHIR is
# throttled yet.
ELSEWHERE = {"Damaged", "StorageFull", "BusinessRule", "Failure", "Throttled"}

Ask = Callable[[httpx.AsyncClient], Awaitable[httpx.Response]]


def family(of: type[Failure] = Failure) -> Iterator[type[Failure]]:
    yield of
    for kind in of.__subclasses__():
        if kind.__module__ == outcomes.__name__:
            yield from family(kind)


def test_the_page_is_the_family() -> None:
    """Status, code and meaning of each failure as the code has them, none missing, none invented, something to do."""
    told = {name: (int(status), code, when) for status, code, name, when, _ in ROW.findall(PAGE.read_text("utf-8"))}
    assert told == {
        kind.__name__: (kind.status, kind.code, (kind.__doc__ or "").strip().splitlines()[0]) for kind in family()
    }


def ask(method: str, path: str, content: bytes = b"", **headers: str) -> Ask:
    named = {name.replace("_", "-"): value for name, value in headers.items()}

    async def run(client: httpx.AsyncClient) -> httpx.Response:
        return await client.request(method, f"/fhir/{path}", content=content, headers={**FHIR_JSON, **named})

    return run


WORKER = orjson.dumps(patient("p"))
TEST = b'[{"op":"test","path":"/gender","value":"male"}]'
NOBODY = orjson.dumps(transaction({"resource": observation("x"), "request": {"method": "POST", "url": "Observation"}}))
NO_CODES = orjson.dumps({
    "resourceType": "Parameters",
    "parameter": [{"name": "valueSet", "resource": {"resourceType": "ValueSet", "status": "draft"}}],
})  # fmt: skip
READ = {"request": {"method": "GET", "url": "Patient/p"}}
PROVOKED: dict[str, Ask] = {
    "BadSyntax": ask("PUT", "Patient/p", b"{"),
    "BadParameter": ask("GET", "Patient?nonsense=1"),
    "InvalidResource": ask("POST", "Patient", b'{"resourceType":"Patient","gender":"x"}'),
    "PatchFailed": ask("PATCH", "Patient/p", TEST, content_type="application/json-patch+json"),
    "Incomputable": ask("POST", "ValueSet/$expand", NO_CODES),
    "DanglingReference": ask("POST", "Observation", orjson.dumps(observation("nobody"))),
    "Unauthenticated": ask("GET", "Patient/p", authorization="Bearer of-nothing"),
    "NotFound": ask("GET", "Patient/never"),
    "NotSupported": ask("GET", "Nothing/1"),
    "MethodNotAllowed": ask("PUT", "AuditEvent/1", b"{}"),
    "NotAcceptable": ask("GET", "Patient/p", accept="text/turtle"),
    "Conflict": ask("DELETE", "Patient/p"),
    "Gone": ask("GET", "Patient/gone"),
    "VersionConflict": ask("PUT", "Patient/p", WORKER, if_match='W/"7"'),
    "NoMatch": ask("POST", "", NOBODY.replace(b"Patient/x", b"Patient?identifier=none")),
    "MultipleMatches": ask("DELETE", "Patient?identifier=twice"),
    "TooLarge": ask("PUT", "Patient/p", b" " * 1_100_000),
    "UnsupportedMediaType": ask("PUT", "Patient/p", WORKER, content_type="text/plain"),
    "RangeNotSatisfiable": ask("GET", "Binary/b", range="bytes=10-", accept="text/plain"),
    "TooCostly": ask("POST", "", orjson.dumps(transaction(*[READ] * 101))),
}


@pytest.fixture
def settings(make_settings: Callable[..., Settings]) -> Settings:
    """A server whose limits a test can reach."""
    return make_settings(max_body_mb=1, statement_timeout_ms=1500)


@pytest.fixture
async def filled(fhir_client: httpx.AsyncClient) -> httpx.AsyncClient:
    """A worker with a reading, one who is gone, two with one folder number, and a document."""
    await keep(fhir_client, patient("p"), observation("p", id="o"), patient("gone"))
    await keep(fhir_client, in_folder("twice", id="t1"), in_folder("twice", id="t2"))
    await fhir_client.delete("/fhir/Patient/gone")
    await keep(fhir_client, {"resourceType": "Binary", "id": "b", "contentType": "text/plain", "data": "eA=="})
    return fhir_client


def told_as(answer: httpx.Response, name: str) -> bool:
    """The answer has the status of this failure, an OperationOutcome, and a number to quote."""
    kind: type[Failure] = getattr(outcomes, name)
    assert answer.status_code == kind.status, answer.text
    assert "x-request-id" in answer.headers
    return kind.code in codes(answer) or (name, codes(answer)) in OTHER_CODES


# More exact than the code of the failure.
OTHER_CODES = [("BadParameter", ["not-supported"]), ("InvalidResource", ["code-invalid"])]


def test_every_failure_is_provoked_somewhere() -> None:
    """Here, or where it is said."""
    here = {*PROVOKED, "Forbidden", "PreconditionRequired", "Unavailable"}
    assert here | ELSEWHERE == {kind.__name__ for kind in family()}


@pytest.mark.parametrize("name", PROVOKED)
async def test_a_failure_happens_as_the_page_says(filled: httpx.AsyncClient, name: str) -> None:
    """A request of every day is answered with it."""
    assert told_as(await PROVOKED[name](filled), name)


async def test_who_may_not_is_told_so(filled: httpx.AsyncClient, server: Server) -> None:
    """403."""
    few = (await server.client(["system/Observation.r"])).http
    assert told_as(await few.get("/fhir/Patient/p"), "Forbidden")


async def test_who_names_no_version_is_told_so(make_settings: Callable[..., Settings]) -> None:
    """428, where the operator asks for it."""
    async with serving(make_settings(require_if_match=True)) as server:
        client = (await server.client(EVERYTHING)).http
        await keep(client, patient("p"))
        assert told_as(await put(client, patient("p", "DEUX")), "PreconditionRequired")


async def test_who_waits_too_long_is_told_when_to_come_again(filled: httpx.AsyncClient, server: Server) -> None:
    """503 with Retry-After; here somebody else holds the whole table."""
    async with server.database.transaction() as connection:
        await connection.execute(b"lock table resource in access exclusive mode")
        answers = [await filled.get("/fhir/Patient/p"), await put(filled, patient("p", "DEUX"))]
    assert all(told_as(answer, "Unavailable") for answer in answers)
    assert {answer.headers["retry-after"] for answer in answers} == {"5"}
    assert (await filled.get("/fhir/Patient/p")).json()["meta"]["versionId"] == "1"
