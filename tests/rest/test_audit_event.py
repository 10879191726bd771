"""The access trail, read as AuditEvent: https://profiles.ihe.net/ITI/BALP; art. R4624-45-5 C. trav."""

import base64
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest

from fhir_server.caller import Caller as Asking
from fhir_server.r4 import structure
from fhir_server.records.audit import access
from fhir_server.rest import audit_events
from fhir_server.store.access_log import AccessLog
from terminology import systems
from tests.support import (
    EVERYTHING,
    FHIR_JSON,
    FOLDERS,
    Caller,
    Resource,
    Server,
    codes,
    document_reference,
    entry,
    ids_of,
    issues,
    keep,
    link,
    observation,
    patient,
    post,
    put,
    transaction,
)

Make = Callable[..., Awaitable[Caller]]
NAME, INS = "MARTINEAU-SECRET", "255069912345678"


async def trail(client: httpx.AsyncClient, query: str = "") -> list[Resource]:
    """The events that a search of the trail finds, newest first."""
    answer = await client.get(f"/fhir/AuditEvent?{query}")
    assert answer.status_code == 200, answer.text
    return [one["resource"] for one in answer.json().get("entry", [])]


def interaction(event: Resource) -> str:
    return event["subtype"][0]["code"]


def whats(event: Resource) -> set[str]:
    return {one["what"]["reference"] for one in event["entity"] if "reference" in one.get("what", {})}


async def test_a_read_leaves_one_event(fhir_client: httpx.AsyncClient) -> None:
    """Who, what, whose, when, which request; and it succeeded."""
    await keep(fhir_client, patient("p"), document_reference("p", id="d"))
    await fhir_client.get("/fhir/DocumentReference/d", headers={"x-request-id": "read-1"})
    (event,) = [one for one in await trail(fhir_client, "patient=p") if interaction(one) == "read"]
    assert (event["action"], event["outcome"]) == ("R", "0")
    assert whats(event) == {"Patient/p", "DocumentReference/d/_history/1"}
    assert any(one.get("what", {}).get("identifier", {}).get("value") == "read-1" for one in event["entity"])
    assert [agent["who"]["identifier"]["value"] for agent in event["agent"] if agent["requestor"]]


@pytest.mark.parametrize(
    ("method", "path", "expected"),
    [
        ("GET", "/fhir/Patient/p", "read"),
        ("HEAD", "/fhir/Patient/p", "read"),
        ("GET", "/fhir/Patient/p/_history/1", "vread"),
        ("GET", "/fhir/Patient/p/_history", "history-instance"),
        ("GET", "/fhir/Observation?patient=p", "search-type"),
        ("GET", "/fhir/Observation?subject=Patient/p", "search-type"),
        ("GET", "/fhir/Patient?_id=p", "search-type"),
        ("PUT", "/fhir/Patient/p", "update"),
        ("GET", "/fhir/AuditEvent?patient=Patient/p", "search-type"),
        ("GET", "/fhir/AuditEvent?entity=Patient/p", "search-type"),
    ],
)
async def test_each_access_to_a_worker_is_found_under_him(
    fhir_client: httpx.AsyncClient, method: str, path: str, expected: str
) -> None:
    """One event per access, also for looking into the trail."""
    await keep(fhir_client, patient("p"))
    before = len(await trail(fhir_client, "patient=p&_count=1000"))
    content = b'{"resourceType":"Patient","id":"p"}' if method == "PUT" else None
    answer = await fhir_client.request(method, path, content=content, headers=FHIR_JSON if content else {})
    assert answer.status_code == 200
    events = await trail(fhir_client, "patient=p&_count=1000")
    assert len(events) == before + 2  # the access, and the look into the trail before it
    assert interaction(events[0]) == expected


async def test_a_transaction_leaves_an_event_per_resource(fhir_client: httpx.AsyncClient) -> None:
    """Under the one request that brought them."""
    await keep(fhir_client, patient("p"))
    await post(fhir_client, transaction(entry(observation("p")), entry(observation("p"))), x_request_id="lot-1")
    events = [one for one in await trail(fhir_client, "patient=p") if interaction(one) == "transaction"]
    assert len(events) == 2


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/fhir/Patient/p"),
        ("GET", "/fhir/Patient/p/_history"),
        ("GET", "/fhir/Patient?_id=p"),
        ("PUT", "/fhir/Patient/p"),
        ("POST", "/fhir/Patient"),
        ("POST", "/fhir/Patient/_search"),
        ("POST", "/fhir"),
    ],
)
@pytest.mark.parametrize("known", [True, False])
async def test_a_refusal_leaves_an_event_too(
    fhir_client: httpx.AsyncClient,
    client_with: Make,
    anonymous: httpx.AsyncClient,
    method: str,
    path: str,
    known: bool,
) -> None:
    """Outcome 4: somebody asked for what he may not have, whether we know him or not."""
    await keep(fhir_client, patient("p"))
    intruder = (await client_with("system/Organization.cruds", name="intruder")).http if known else anonymous
    body: dict[str, Any] = {}
    if path.endswith("_search"):
        body = {"data": {"_id": "p"}}
    elif method != "GET":
        body = {"json": transaction(entry(patient())) if path == "/fhir" else patient("p")}
    answer = await intruder.request(method, path, **body)
    assert (answer.status_code, codes(answer)) == ((403, ["forbidden"]) if known else (401, ["login"]))
    refused = [one for one in await trail(fhir_client) if one["outcome"] == "4"]
    assert len(refused) == 1
    assert structure.check(refused[0]) == []
    by_worker = [one for one in await trail(fhir_client, "patient=p") if one["outcome"] == "4"]
    assert bool(by_worker) == ("Patient/p" in path)


async def test_the_trail_is_searched_by_worker_by_record_and_by_time(fhir_client: httpx.AsyncClient) -> None:
    """And by all three at once."""
    await keep(fhir_client, patient("p"), patient("q"), observation("p", id="o"), observation("q", id="o2"))
    for path in ("Observation/o", "Observation/o2", "Patient/q"):
        await fhir_client.get(f"/fhir/{path}")
    reads = [one for one in await trail(fhir_client, "entity=Observation/o") if interaction(one) == "read"]
    assert [whats(one) for one in reads] == [{"Patient/p", "Observation/o/_history/1"}]
    assert all("Patient/q" in whats(one) for one in await trail(fhir_client, "patient=q"))
    recorded = (await trail(fhir_client, "patient=p"))[-1]["recorded"]
    day, year = recorded[:10], recorded[:4]
    for query, is_there in [
        (f"date={day}", True),
        (f"date=ge{day}", True),
        (f"date=le{day}", True),
        (f"date={year}", True),
        (f"date=lt{day}", False),
        (f"date=gt{day}", False),
        ("date=ge2000&date=lt2001", False),
        (f"date=ge{day}&date=le{day}", True),
    ]:
        assert bool(await trail(fhir_client, f"patient=p&{query}")) == is_there, query


async def test_pages_of_the_trail_follow_each_other(fhir_client: httpx.AsyncClient) -> None:
    """Newest first, none twice, although reading it makes it grow."""
    await keep(fhir_client, patient("p"))
    for _ in range(7):
        await fhir_client.get("/fhir/Patient/p")
    url: str | None = "/fhir/AuditEvent?patient=p&_count=3"
    seen: list[int] = []
    while url:
        bundle = (await fhir_client.get(url)).json()
        seen += [int(identity) for identity in ids_of(bundle)]
        url = link(bundle, "next")
    assert len(seen) == 8
    assert seen == sorted(set(seen), reverse=True)


async def test_an_event_can_be_read_and_is_valid_r4(fhir_client: httpx.AsyncClient) -> None:
    """Every kind of event that this server makes."""
    await keep(fhir_client, patient("p"), observation("p", id="o"))
    await post(fhir_client, transaction(entry(observation("p"))))
    for path in (
        "Patient/p",
        "Patient/p/_history/1",
        "Patient/p/_history",
        "Observation?patient=p",
        "Patient?family=x",
    ):
        await fhir_client.get(f"/fhir/{path}")
    events = await trail(fhir_client, "_count=1000")
    assert {"read", "vread", "history-instance", "search-type", "update", "transaction"} <= {
        interaction(one) for one in events
    }
    for event in events:
        assert structure.check(event) == []
    first = events[-1]
    assert (await fhir_client.get(f"/fhir/AuditEvent/{first['id']}")).json() == first
    assert (await fhir_client.get("/fhir/AuditEvent/999999999")).status_code == 404


async def test_no_row_of_the_trail_holds_a_name_or_an_ins(fhir_client: httpx.AsyncClient, server: Server) -> None:
    """Searched for, written, refused or not found: values that identify somebody stay out of the trail."""
    worker = patient("p", NAME, identifier=[{"system": FOLDERS, "value": INS}], birthDate="1955-06-07")
    await put(fhir_client, worker)
    for query in (
        f"Patient?family={NAME}",
        f"Patient?identifier={FOLDERS}|{INS}",
        f"Patient?family:exact={NAME}&birthdate=1955-06-07",
        f"Observation?patient.identifier={INS}",
        f"Observation?subject:identifier={FOLDERS}|{INS}",
        f"Patient?nope={NAME}",
    ):
        await fhir_client.get(f"/fhir/{query}")
        await fhir_client.post(f"/fhir/{query.split('?')[0]}/_search", data=dict([query.split("?")[1].split("=", 1)]))
    await post(fhir_client, worker, if_none_exist=f"identifier={FOLDERS}|{INS}")
    rows = await server.rows("select access::text from access")
    assert rows
    for (text,) in rows:
        for value in (NAME, NAME.lower(), INS, "1955-06-07"):
            assert value not in text, text


async def test_the_query_of_a_search_is_kept_in_its_event(fhir_client: httpx.AsyncClient) -> None:
    """What was asked for, as far as it may be kept."""
    await keep(fhir_client, patient("p"))
    await fhir_client.get("/fhir/DocumentReference?patient=p&status=current")
    event = next(
        one
        for one in await trail(fhir_client, "patient=p")
        if interaction(one) == "search-type" and "query" in str(one)
    )
    (query,) = [base64.b64decode(one["query"]).decode() for one in event["entity"] if "query" in one]
    assert "patient=" in query
    assert "status=current" in query


@pytest.mark.parametrize(
    ("query", "fault"),
    [
        ("agent=x", ("invalid", "agent")),
        ("agent-name=x", ("not-supported", "agent-name")),
        ("agent:identifier=urn:other|x", ("invalid", "agent:identifier")),
        ("agent:identifier=", ("invalid", "agent:identifier")),
        ("patient=p&patient=q", ("invalid", "patient")),
        ("_total=x", ("invalid", "_total")),
        ("date=x", ("invalid", "date")),
        ("entity=x", ("invalid", "entity")),
        ("_count=x", ("invalid", "_count")),
    ],
)
async def test_what_the_trail_is_not_searched_by_is_refused(
    fhir_client: httpx.AsyncClient, query: str, fault: tuple[str, str]
) -> None:
    """400, and which parameter."""
    answer = await fhir_client.get(f"/fhir/AuditEvent?{query}")
    assert (answer.status_code, issues(answer)) == (400, [fault])


async def test_the_trail_needs_its_own_scope(client_with: Make) -> None:
    """Who may read workers may not therefore read who read them."""
    client = (await client_with("system/Patient.rs")).http
    assert (await client.get("/fhir/AuditEvent")).status_code == 403
    assert (await client.get("/fhir/AuditEvent/1")).status_code == 403


@pytest.mark.parametrize(
    ("asked", "kept"),
    [
        ("gender=female&birthdate:missing=true&_sort=family", "gender=female&birthdate:missing=***&_sort=family"),
        ("name=Lefevre&identifier=urn:x|1", "name=***&identifier=***"),
        ("_filter=name%20eq%20%22Lefevre%22", "_filter=***"),
        ("_has:Observation:patient:code=8867-4", "_has:Observation:patient:code=***"),
        ("organization.name=Forges", "organization.name=***"),
        ("_text=Lefevre", "_text=***"),
    ],
)
async def test_the_trail_keeps_no_value_that_may_say_who_somebody_is(server: Server, asked: str, kept: str) -> None:
    """What was asked is known, and of whom it was asked where that names nobody."""
    client = await server.client(EVERYTHING)
    assert (await client.http.get(f"/fhir/Patient?{asked}")).status_code == 200
    rows = await server.rows("select query from access where client_id = %s", client.client_id)
    assert rows == [(kept,)]


async def test_the_trail_is_searched_by_professional_and_by_client(
    server: Server, fhir_client: httpx.AsyncClient
) -> None:
    """By the identifier of an agent: a person's, or that of the program that he sat before."""
    log = AccessLog(server.database, sync=False)
    at = datetime(2026, 3, 4, 23, 59, 59, 999999, UTC)
    for number, who in enumerate(("10001", "10001", "10002", None)):
        caller = Asking("software", "Software", "external-system", (), professional=who)
        await log.append(access(caller, "read", f"r{number}", resource_type="Patient", resource_id="p", at=at))
    for value, count in (
        ("10001", 2), (f"{systems.USER}|10001", 2), ("10002", 1), ("nobody", 0),
        (f"{systems.CLIENT}|software", 4), (f"{systems.CLIENT}|10001", 0),
    ):  # fmt: skip
        events = await trail(fhir_client, f"agent:identifier={value}")
        assert len(events) == count, value
    (event, _) = await trail(fhir_client, "agent:identifier=10001&date=2026-03-04")
    asked = [agent for agent in event["agent"] if agent["requestor"]]
    assert [agent["who"]["identifier"] for agent in asked] == [{"system": systems.USER, "value": "10001"}]
    assert asked[0]["who"]["type"] == "Practitioner"
    assert structure.check(event) == []
    assert await trail(fhir_client, "agent:identifier=10001&date=2026-03-05") == []
    known = [{"system": "urn:other", "value": "x"}, {"system": systems.RPPS, "value": "10002"}]
    await keep(fhir_client, {"resourceType": "Practitioner", "id": "dr", "identifier": known})
    assert len(await trail(fhir_client, "agent=Practitioner/dr")) == 1
    for nobody in ("Practitioner/unknown", "Patient/p", "Device/software"):
        assert await trail(fhir_client, f"agent={nobody}") == []
    only = (await server.client(("system/AuditEvent.rs",))).http
    assert len(await trail(only, "agent:identifier=10002")) == 1
    assert (await only.get("/fhir/AuditEvent?agent=Practitioner/dr")).status_code == 403


async def test_pages_of_the_trail_are_by_moment_although_rows_came_in_another_order(
    server: Server, fhir_client: httpx.AsyncClient
) -> None:
    """The moment of an access is before that of its row: nobody is left out, and nobody is shown twice."""
    log = AccessLog(server.database, sync=False)
    for second in (5, 1, 4, 4, 2, 3, 1):
        at = datetime(2026, 3, 4, 12, 0, second, 123457, UTC)
        await log.append(access(None, "read", "r", resource_type="Patient", resource_id="p", patient_id="p", at=at))
    url: str | None = "/fhir/AuditEvent?entity=Patient/p&date=2026-03-04&_count=2"
    seen: list[str] = []
    while url:
        bundle = (await fhir_client.get(url)).json()
        seen += [one["resource"]["recorded"][17:19] for one in bundle["entry"]]
        url = link(bundle, "next")
    assert seen == ["05", "04", "04", "03", "02", "01", "01"]


async def test_a_long_trail_is_counted_only_when_somebody_asks(
    server: Server, fhir_client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first page does not wait for the count of what nobody will look through."""
    monkeypatch.setattr(audit_events, "MOST_COUNTED", 3)
    log = AccessLog(server.database, sync=False)
    row = access(None, "read", "r", resource_type="Patient", resource_id="p", patient_id="p")
    await log.append(*[row] * 3)
    query = "/fhir/AuditEvent?agent:identifier=nobody"
    assert (await fhir_client.get(query)).json()["total"] == 0
    query = "/fhir/AuditEvent?entity=Patient/p&date=ge2020"
    assert (await fhir_client.get(query)).json()["total"] == 3
    assert "total" not in (await fhir_client.get(query)).json(), "that look was an access too"
    assert (await fhir_client.get(f"{query}&_total=accurate")).json()["total"] == 5
    assert "total" not in (await fhir_client.get(f"{query}&_total=none")).json()
