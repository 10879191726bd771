"""history of an instance, of a type and of the system: https://hl7.org/fhir/R4/http.html#history"""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest

from fhir_server.r4 import structure
from fhir_server.r4.resource_types import TYPE_NUMBER
from fhir_server.store.histories import SQL, Moment, Span
from tests.support import (
    Caller,
    Resource,
    Server,
    codes,
    document_reference,
    ids_of,
    issues,
    keep,
    link,
    observation,
    pages,
    patient,
    post,
)

Make = Callable[..., Awaitable[Caller]]


@pytest.fixture
async def seven(fhir_client: httpx.AsyncClient) -> None:
    """A worker of seven versions."""
    for number in range(1, 8):
        await keep(fhir_client, patient("p", f"N{number}"))


def versions(bundle: dict[str, list[dict[str, dict[str, dict[str, str]]]]]) -> list[int]:
    return [int(entry["resource"]["meta"]["versionId"]) for entry in bundle.get("entry", [])]


@pytest.mark.usefixtures("seven")
async def test_history_is_every_version_newest_first(fhir_client: httpx.AsyncClient) -> None:
    """With the request that made each, and the total."""
    bundle = (await fhir_client.get("/fhir/Patient/p/_history")).json()
    assert (bundle["type"], bundle["total"], versions(bundle)) == ("history", 7, [7, 6, 5, 4, 3, 2, 1])
    assert ids_of(bundle) == ["p"] * 7
    newest = bundle["entry"][0]
    assert newest["request"] == {"method": "PUT", "url": "Patient/p"}
    assert newest["response"]["etag"] == 'W/"7"'
    assert newest["fullUrl"] == "http://test/fhir/Patient/p"
    assert link(bundle, "next") is None


@pytest.mark.usefixtures("seven")
@pytest.mark.parametrize("count", [1, 2, 3, 7])
async def test_pages_of_history_are_disjoint_and_complete(fhir_client: httpx.AsyncClient, count: int) -> None:
    """Each version once, the total the same on each page, no empty page at the end."""
    seen: list[int] = []
    url: str | None = f"/fhir/Patient/p/_history?_count={count}"
    while url:
        bundle = (await fhir_client.get(url)).json()
        assert bundle["total"] == 7
        assert 0 < len(versions(bundle)) <= count
        seen += versions(bundle)
        url = link(bundle, "next")
    assert seen == [7, 6, 5, 4, 3, 2, 1]


@pytest.mark.usefixtures("seven")
async def test_history_since_a_moment(fhir_client: httpx.AsyncClient) -> None:
    """That version and those after it; its pages too."""
    fifth = (await fhir_client.get("/fhir/Patient/p/_history/5")).json()["meta"]["lastUpdated"]
    bundle = (await fhir_client.get(f"/fhir/Patient/p/_history?_since={fifth}")).json()
    assert (bundle["total"], versions(bundle)) == (3, [7, 6, 5])
    first = (await fhir_client.get(f"/fhir/Patient/p/_history?_since={fifth}&_count=2")).json()
    following = link(first, "next")
    assert following
    rest = (await fhir_client.get(following)).json()
    assert versions(first) + versions(rest) == [7, 6, 5]
    empty = await fhir_client.get("/fhir/Patient/p/_history?_since=2100-01-01T00:00:00Z")
    assert (empty.status_code, empty.json()["total"], versions(empty.json())) == (200, 0, [])


@pytest.mark.usefixtures("seven")
async def test_count_zero_is_the_total_alone(fhir_client: httpx.AsyncClient) -> None:
    """No entry, the number all the same."""
    bundle = (await fhir_client.get("/fhir/Patient/p/_history?_count=0")).json()
    assert (bundle["total"], versions(bundle)) == (7, [])


async def test_a_deletion_is_an_entry_without_resource(fhir_client: httpx.AsyncClient) -> None:
    """The deletion is a version like another."""
    await keep(fhir_client, patient("p"))
    await fhir_client.delete("/fhir/Patient/p")
    bundle = (await fhir_client.get("/fhir/Patient/p/_history")).json()
    gone, created = bundle["entry"]
    assert "resource" not in gone
    assert gone["request"] == {"method": "DELETE", "url": "Patient/p"}
    assert created["resource"]["meta"]["versionId"] == "1"
    answer = await fhir_client.get("/fhir/Patient/p")
    assert (answer.status_code, codes(answer)) == (410, ["deleted"])
    assert (await fhir_client.get("/fhir/Patient/p/_history/1")).status_code == 200
    assert (await fhir_client.get("/fhir/Patient/p/_history/2")).status_code == 410


async def test_what_never_was_has_no_history(fhir_client: httpx.AsyncClient) -> None:
    """404, not an empty Bundle."""
    assert (await fhir_client.get("/fhir/Patient/none/_history")).status_code == 404


@pytest.mark.parametrize(
    ("query", "fault"),
    [
        ("_since=yesterday", ("invalid", "_since")),
        ("_count=x", ("invalid", "_count")),
        ("_at=2020-13", ("invalid", "_at")),
        ("_total=all", ("invalid", "_total")),
        ("_since=2020&_since=2021", ("invalid", "_since")),
        ("_list=x", ("not-supported", "_list")),
        ("_before=3", ("not-supported", "_before")),
        ("_cursor=AAAA", ("invalid", "_cursor")),
    ],
)
@pytest.mark.parametrize("path", ["Patient/p/_history", "Patient/_history", "_history"])
async def test_malformed_parameters_are_refused(
    fhir_client: httpx.AsyncClient, path: str, query: str, fault: tuple[str, str]
) -> None:
    """400, and which one."""
    await keep(fhir_client, patient("p"))
    answer = await fhir_client.get(f"/fhir/{path}?{query}")
    assert (answer.status_code, issues(answer)) == (400, [fault])


def told(bundle: Resource) -> list[str]:
    """`METHOD url -> status` of every entry."""
    entries = bundle.get("entry", [])
    return [f"{one['request']['method']} {one['request']['url']} -> {one['response']['status']}" for one in entries]


@pytest.fixture
async def busy(fhir_client: httpx.AsyncClient) -> httpx.AsyncClient:
    """Two workers and a reading: created, changed, deleted, brought back; each at a millisecond of its own."""
    for resource in (patient("p"), observation("p", id="o"), patient("q"), patient("p", "DEUX")):
        await keep(fhir_client, resource)
        await asyncio.sleep(0.002)
    await fhir_client.delete("/fhir/Patient/q")
    await asyncio.sleep(0.002)
    await keep(fhir_client, patient("q", "ENCORE"))
    return fhir_client


OF_PATIENTS = [
    "PUT Patient/q -> 201",
    "DELETE Patient/q -> 204",
    "PUT Patient/p -> 200",
    "PUT Patient/q -> 201",
    "PUT Patient/p -> 201",
]


async def test_the_history_of_a_type_is_what_happened_to_its_resources(busy: httpx.AsyncClient) -> None:
    """Newest first, each with the request that made it; deletions too; and the total, since all fits."""
    bundle = (await busy.get("/fhir/Patient/_history")).json()
    assert structure.check(bundle) == []
    assert (bundle["type"], bundle["total"], told(bundle)) == ("history", 5, OF_PATIENTS)
    assert "resource" not in bundle["entry"][1]
    assert bundle["entry"][1]["fullUrl"] == "http://test/fhir/Patient/q"
    posted = (await post(busy, patient())).json()["id"]
    newest = (await busy.get("/fhir/Patient/_history?_count=1")).json()
    assert (told(newest), newest["entry"][0]["resource"]["id"]) == (["POST Patient -> 201"], posted)


async def test_the_history_of_the_system_is_that_of_every_type(busy: httpx.AsyncClient) -> None:
    """In one order."""
    bundle = (await busy.get("/fhir/_history")).json()
    assert structure.check(bundle) == []
    assert told(bundle) == [*OF_PATIENTS[:4], "PUT Observation/o -> 201", OF_PATIENTS[4]]
    assert bundle["total"] == 6


@pytest.mark.parametrize("count", [1, 2, 5])
@pytest.mark.parametrize("path", ["Patient/_history", "_history"])
async def test_pages_shift_by_nothing_that_is_written_meanwhile(busy: httpx.AsyncClient, path: str, count: int) -> None:
    """Each version once, in its order, though every page is followed by a write; the place is sealed."""
    whole = [(one["fullUrl"], one["response"]["etag"]) for one in (await busy.get(f"/fhir/{path}")).json()["entry"]]
    seen: list[tuple[str, str]] = []
    url: str | None = f"/fhir/{path}?_count={count}"
    while url:
        bundle = (await busy.get(url)).json()
        assert "total" not in bundle or url == f"/fhir/{path}?_count={count}"
        seen += [(one["fullUrl"], one["response"]["etag"]) for one in bundle["entry"]]
        await keep(busy, patient("p", f"N{len(seen)}"), patient(f"new-{len(seen)}"))
        url = link(bundle, "next")
        assert url is None or set(parse_qs(urlsplit(url).query)) == {"_cursor"}
    assert seen == whole


async def test_versions_of_one_millisecond_are_each_shown_once(fhir_client: httpx.AsyncClient, server: Server) -> None:
    """As after a large transaction: the place is more than a time."""
    for round_ in range(3):
        await keep(fhir_client, *(patient(f"p{n}", f"N{round_}") for n in range(4)))
    for table in ("resource", "resource_history"):
        await server.rows(f"update {table} set updated = '2026-01-01T00:00:00Z'")
    seen = [
        (one["fullUrl"], one["response"]["etag"])
        async for page in pages(fhir_client, "Patient/_history?_count=5")
        for one in page["entry"]
    ]
    assert len(seen) == len(set(seen)) == 12


async def test_since_and_at_choose_by_time(busy: httpx.AsyncClient, server: Server) -> None:
    """`_since`: made at or after it. `_at`: current at some time of it, so also what was older and still held."""
    moments = {"p": ("2020-01-01", "2022-01-01"), "q": ("2020-06-01", "2021-06-01", "2023-01-01")}
    for identity, times in moments.items():
        for version, time in enumerate(times, start=1):
            for table in ("resource", "resource_history"):
                await server.rows(
                    f"update {table} t set updated = %s from resource r"
                    " where r.rid = t.rid and r.id = %s and t.version = %s",
                    time,
                    identity,
                    version,
                )

    async def shown(query: str, path: str = "Patient") -> list[str]:
        bundle = (await busy.get(f"/fhir/{path}/_history?{query}&_total=accurate")).json()
        assert bundle["total"] == len(bundle.get("entry", []))
        return [f"{one['fullUrl'][-1]}{one['response']['etag'][3]}" for one in bundle.get("entry", [])]

    assert await shown("_since=2021-06-01") == ["q3", "p2", "q2"]
    assert await shown("_at=2019") == []
    assert await shown("_at=2020-03") == ["p1"]
    assert await shown("_at=2020") == ["q1", "p1"]
    assert await shown("_at=2021") == ["q2", "q1", "p1"]
    assert await shown("_at=2021-12") == ["p1"], "what was deleted before was not there any more"
    assert await shown("_at=2022-01-01T00:00:00Z") == ["p2"], "what is replaced at that moment is past"
    assert await shown("_at=2025-01-01T01:00:00+01:00") == ["q3", "p2"]
    assert await shown("_since=2022&_at=2025") == ["q3", "p2"]
    assert await shown("_at=2021", "Patient/q") == ["q2", "q1"]
    assert await shown("_at=2022", "Patient/q") == []
    assert await shown("_at=2025", "Patient/p") == ["p2"]


async def test_the_total_is_exact_or_absent(busy: httpx.AsyncClient) -> None:
    """Where it costs something it is counted on request only."""

    async def total(query: str) -> object:
        return (await busy.get(f"/fhir/_history?{query}")).json().get("total", "absent")

    assert [await total(query) for query in ("_count=6", "_count=5", "_count=5&_total=accurate", "_count=0")] == [
        6,
        "absent",
        6,
        6,
    ]


@pytest.mark.parametrize("scopes", [["system/Patient.r"], ["system/Patient.s"], ["system/Observation.rs"], []])
async def test_the_history_of_a_type_needs_its_rights(
    busy: httpx.AsyncClient, client_with: Make, scopes: list[str]
) -> None:
    """To read and, since nobody names the resources, to search (SMART v2)."""
    client = (await client_with(*scopes)).http
    assert (await client.get("/fhir/Patient/_history")).status_code == 403
    assert (await client.get("/fhir/AuditEvent/_history")).status_code == 405


async def test_the_history_of_the_system_shows_what_the_caller_may_read(
    busy: httpx.AsyncClient, client_with: Make
) -> None:
    """And counts nothing else."""
    client = (await client_with("system/Observation.rs", "system/Patient.s", "system/Task.r")).http
    bundle = (await client.get("/fhir/_history?_total=accurate")).json()
    assert (bundle["total"], told(bundle)) == (1, ["PUT Observation/o -> 201"])
    nothing = (await client_with("system/Patient.s")).http
    assert (await nothing.get("/fhir/_history")).status_code == 403


async def test_a_protected_binary_is_not_shown_to_those_who_may_not_read_what_protects_it(
    busy: httpx.AsyncClient, client_with: Make
) -> None:
    """https://hl7.org/fhir/R4/binary.html#security - neither in the history of its type nor in its own."""
    await keep(busy, document_reference("p", id="d"))
    context = {"securityContext": {"reference": "DocumentReference/d"}}
    await keep(busy, {"resourceType": "Binary", "id": "b", "contentType": "text/plain", "data": "eA==", **context})
    client = (await client_with("system/Binary.rs")).http
    for path in ("Binary/_history", "_history"):
        bundle = (await client.get(f"/fhir/{path}?_total=accurate&_count=1")).json()
        assert (bundle.get("entry"), bundle.get("total", 0)) == (None, 0)
    assert (await client.get("/fhir/Binary/b/_history")).status_code == 404
    enough = (await client_with("system/Binary.rs", "system/DocumentReference.r")).http
    assert len((await enough.get("/fhir/Binary/b/_history")).json()["entry"]) == 1


async def test_every_worker_whose_past_was_shown_is_traced(
    busy: httpx.AsyncClient, client_with: Make, server: Server
) -> None:
    """Also where a deletion is all that was shown, and where it was shown as the bytes of a document."""
    await keep(busy, observation("q", id="gone"), document_reference("q", id="d"))
    context = {"securityContext": {"reference": "DocumentReference/d"}}
    await keep(busy, {"resourceType": "Binary", "id": "b", "contentType": "text/plain", "data": "eA==", **context})
    await busy.delete("/fhir/Observation/gone")
    reader = await client_with("system/*.rs")
    for query in ("Observation/_history?_count=1", "Binary/_history", "Patient/_history", "_history?_since=2100"):
        assert (await reader.http.get(f"/fhir/{query}")).status_code == 200
    rows = await server.rows(
        "select interaction, type, patient_id, query from access where client_id = %s order by id", reader.client_id
    )
    of_type, of_system = "history-type", "history-system"
    assert rows == [
        (of_type, TYPE_NUMBER["Observation"], "q", "_count=1"),
        (of_type, TYPE_NUMBER["Binary"], "q", None),
        (of_type, TYPE_NUMBER["Patient"], "p", None),
        (of_type, TYPE_NUMBER["Patient"], "q", None),
        (of_system, None, None, "_since=2100"),
    ]


async def test_a_page_link_is_for_one_client_and_one_history(busy: httpx.AsyncClient, client_with: Make) -> None:
    """Not for another client, not for another path."""
    following = link((await busy.get("/fhir/Patient/_history?_count=1")).json(), "next")
    assert following
    assert (await busy.get(following)).status_code == 200
    other = (await client_with("system/*.rs")).http
    assert (await other.get(following)).status_code == 400
    for path in ("/fhir/Observation/_history", "/fhir/_history", "/fhir/Patient/p/_history"):
        assert (await busy.get(f"{path}?{urlsplit(following).query}")).status_code == 400


async def test_a_page_of_the_past_reads_its_own_entries_only(busy: httpx.AsyncClient, server: Server) -> None:
    """However many there are: index entries below the place, no sort of the whole, no walk from the beginning."""
    await server.rows(
        "insert into resource (rid, type, id, version, updated, doc) select 1000000 + n, %s, 'x' || n, 2,"
        " '2020-01-01Z'::timestamptz + n * interval '1 minute', '{}' from generate_series(1, 20000) n",
        TYPE_NUMBER["Patient"],
    )
    await server.rows(
        "insert into resource_history (rid, type, version, updated, deleted, doc)"
        " select rid, type, 1, updated - interval '1 year', false, doc from resource where id like 'x%%'"
    )
    await server.rows("analyze resource, resource_history")
    span = Span()
    asked = span.as_parameters() | {"types": [TYPE_NUMBER["Patient"]], "limit": 21}
    asked |= Moment(datetime(2020, 1, 5, tzinfo=UTC), 2**60, 1)._asdict()
    async with server.database.connection() as connection:
        cursor = await connection.execute(b"explain (analyze, format json) " + SQL["of_types"], asked)
        (plan,) = (await cursor.fetchall())[0][0]

    def touched(node: Resource) -> int:
        rows = int((node["Actual Rows"] + node.get("Rows Removed by Filter", 0)) * node["Actual Loops"])
        return max(rows, *(touched(child) for child in node.get("Plans", ())), 0)

    assert touched(plan["Plan"]) < 100
