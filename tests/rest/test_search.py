"""search finds what was asked, and nothing else: https://hl7.org/fhir/R4/search.html"""

from collections.abc import Iterator
from urllib.parse import quote

import httpx
import pytest

from fhir_server.settings import Settings
from tests.conftest import migrated_database
from tests.support import (
    EVERYTHING,
    FOLDERS,
    codes,
    document_reference,
    found,
    in_folder,
    in_order,
    issues,
    keep,
    observation,
    patient,
    run_aside,
    serving,
    settings_of,
)

A, B = "http://test/a", "http://test/b"
DIV = '<div xmlns="http://www.w3.org/1999/xhtml">Dupont</div>'


def named(family: str) -> dict[str, object]:
    return {"name": [{"family": family, "given": ["Camille"]}]}


WORKERS = [
    in_folder("100", id="noel", **named("NOËL-ŒUVRARD"), birthDate="1970-02", gender="female", active=True),
    in_folder("200", id="durand", **named("Durand"), birthDate="1980-05-17", gender="male", active=False),
    in_folder(
        "300",
        id="dupont",
        **named("dupont"),
        birthDate="1990",
        deceasedDateTime="2020-01-01",
        text={"status": "generated", "div": DIV},
    ),
    patient(
        "lopez",
        "Lopez, y Garcia",
        gender="other",
        identifier=[{"value": "100"}, {"system": "urn:test:other", "value": "100"}],
        deceasedBoolean=False,
    ),
]
PAPERS = [
    document_reference("noel", id="d1", date="2020-03-10T10:00:00Z", type={"coding": [{"system": A, "code": "x"}]}),
    document_reference(
        "noel",
        id="d2",
        date="2021-03-10T10:00:00Z",
        type={"coding": [{"system": B, "code": "x"}, {"system": A, "code": "y"}]},
    ),
    document_reference("durand", id="d3", date="2021-06-01T00:00:00+02:00", type={"coding": [{"code": "x"}]}),
    document_reference(
        "durand",
        id="d4",
        status="superseded",
        type={"text": "nothing coded"},
        subject={"reference": "Patient/durand", "identifier": {"system": FOLDERS, "value": "200"}},
    ),
]
READINGS = [
    observation("noel", id="year", effectiveDateTime="2020"),
    observation("noel", id="month", effectiveDateTime="2020-06"),
    observation("noel", id="day", effectiveDateTime="2020-06-15"),
    observation("noel", id="second", effectiveDateTime="2020-06-15T12:00:00Z"),
    observation("noel", id="ten-days", effectivePeriod={"start": "2020-06-10", "end": "2020-06-20"}),
    observation("noel", id="open", effectivePeriod={"start": "2020-07-01"}),
    observation("noel", id="undated"),
]
DEFINITIONS = [
    {"resourceType": "ValueSet", "id": "vs1", "status": "active", "url": "http://test/ValueSet/one"},
    {"resourceType": "ValueSet", "id": "vs2", "status": "active", "url": "http://test/ValueSet/one-more"},
]


@pytest.fixture(scope="module")
def dsn(
    embedded_cluster: str, redis_url: str, prepared: set[str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    """One database for all searches of this module, filled once over HTTP: they only look."""

    async def fill(settings: Settings) -> None:
        async with serving(settings) as server:
            client = (await server.client(EVERYTHING)).http
            await keep(client, *WORKERS, *PAPERS, *READINGS, *DEFINITIONS)

    with migrated_database(embedded_cluster, prepared) as dsn:
        run_aside(fill(settings_of(dsn, redis_url, tmp_path_factory.mktemp("data"))))
        yield dsn


TOKENS = [
    ("DocumentReference?type=x", "d1 d2 d3"),
    (f"DocumentReference?type={A}|x", "d1"),
    (f"DocumentReference?type={B}|x", "d2"),
    ("DocumentReference?type=|x", "d3"),
    (f"DocumentReference?type={A}|x,{A}|y", "d1 d2"),
    (f"DocumentReference?type=x&type={A}|y", "d2"),
    ("DocumentReference?type:not=y", "d1 d3 d4"),
    ("DocumentReference?type:not=y,|x", "d1 d4"),
    ("DocumentReference?type=nothing", ""),
    ("DocumentReference?status=superseded", "d4"),
    (f"Patient?identifier={FOLDERS}|100", "noel"),
    ("Patient?identifier=100", "lopez noel"),
    ("Patient?identifier=|100", "lopez"),
    ("Patient?active=true", "noel"),
    ("Patient?active=false", "durand"),
    ("Patient?gender=female,male", "durand noel"),
    ("Patient?gender:not=female", "dupont durand lopez"),
    ("Patient?deceased=true", "dupont"),
    ("Patient?deceased=false", "durand lopez noel"),
]
REFERENCES = [
    ("DocumentReference?patient=noel", "d1 d2"),
    ("DocumentReference?patient=Patient/noel", "d1 d2"),
    ("DocumentReference?patient=Patient/noel,durand", "d1 d2 d3 d4"),
    ("DocumentReference?subject=Patient/durand", "d3 d4"),
    ("DocumentReference?subject:Patient=durand", "d3 d4"),
    ("DocumentReference?subject:Device=durand", ""),
    ("DocumentReference?patient=Patient/noe", ""),
    (f"DocumentReference?subject:identifier={FOLDERS}|200", "d4"),
    (f"DocumentReference?subject:identifier={FOLDERS}|100", ""),
    (f"DocumentReference?patient.identifier={FOLDERS}|100", "d1 d2"),
    ("DocumentReference?patient.identifier=200,100", "d1 d2 d3 d4"),
    ("DocumentReference?subject:Patient.family=dur", "d3 d4"),
    ("DocumentReference?patient.birthdate=lt1975", "d1 d2"),
    (f"DocumentReference?patient.identifier={FOLDERS}|nobody", ""),
    (f"DocumentReference?patient.identifier={FOLDERS}|100&type=|x", ""),
]
STRINGS = [
    ("Patient?family=dur", "durand"),
    ("Patient?family=DURAND", "durand"),
    ("Patient?family=urand", ""),
    ("Patient?family=noel", "noel"),
    ("Patient?family=Noël-Œ", "noel"),
    ("Patient?family=noel-oeuvrard", "noel"),
    ("Patient?family=du,lop", "dupont durand lopez"),
    ("Patient?family=lopez\\, y", "lopez"),
    ("Patient?family:contains=oeuvr", "noel"),
    ("Patient?family:contains=DU", "dupont durand"),
    ("Patient?family:contains=_", ""),
    ("Patient?family:contains=%25", ""),
    ("Patient?family:exact=Durand", "durand"),
    ("Patient?family:exact=durand", ""),
    ("Patient?family:exact=Dur", ""),
    ("Patient?family:exact=Dupont", ""),
    ("Patient?family:exact=NOËL-ŒUVRARD", "noel"),
    ("Patient?family:exact=NOEL-OEUVRARD", ""),
    ("Patient?name=camille", "dupont durand lopez noel"),
]
DATES = [
    # what the value of the search says, by prefix (R4 3.1.1.4.6)
    ("Observation?date=2020-06-15", "day second"),
    ("Observation?date=eq2020-06-15", "day second"),
    ("Observation?date=2020-06-15T12:00:00Z", "second"),
    ("Observation?date=2020-06-15T14:00:00%2B02:00", "second"),
    ("Observation?date=2020-06", "day month second ten-days"),
    ("Observation?date=2020", "day month second ten-days year"),
    ("Observation?date=ne2020-06", "open year"),
    ("Observation?date=gt2020-06-15", "month open ten-days year"),
    ("Observation?date=lt2020-06-15", "month ten-days year"),
    ("Observation?date=ge2020-06-15", "day month open second ten-days year"),
    ("Observation?date=le2020-06-15", "day month second ten-days year"),
    ("Observation?date=gt2020-06", "open year"),
    ("Observation?date=lt2020-06", "year"),
    ("Observation?date=sa2020-06-15", "open"),
    ("Observation?date=eb2020-06-15", ""),
    ("Observation?date=sa2020-06-09", "day open second ten-days"),
    ("Observation?date=eb2020-06-21", "day second ten-days"),
    ("Observation?date=sa2020-06-01&date=eb2020-06-30", "day second ten-days"),
    ("Observation?date=2019,2020-06-15T12:00:00Z", "second"),
    ("Observation?date=ap1800", ""),
    ("Patient?birthdate=1970-02", "noel"),
    ("Patient?birthdate=1970-02-01", ""),
    ("Patient?birthdate=1970", "noel"),
    ("Patient?birthdate=ge1980-05-17", "dupont durand"),
]
OTHERS = [
    ("ValueSet?url=http://test/ValueSet/one", "vs1"),
    ("ValueSet?url=http://test/ValueSet", ""),
    ("Patient?_id=noel,durand,nobody", "durand noel"),
    ("Patient?_id=noel&gender=male", ""),
    ("Patient?_lastUpdated=lt2020", ""),
    ("Patient?_lastUpdated=ge2020", "dupont durand lopez noel"),
    ("Patient", "dupont durand lopez noel"),
    ("Patient?family=", "dupont durand lopez noel"),
    ("Patient?_format=json&_pretty=true&_id=noel", "noel"),
]


@pytest.mark.parametrize(("query", "expected"), TOKENS + REFERENCES + STRINGS + DATES + OTHERS)
async def test_a_search_finds(fhir_client: httpx.AsyncClient, query: str, expected: str) -> None:
    """Exactly these."""
    assert await found(fhir_client, query) == expected.split()


async def test_approximately_is_near_and_not_far(fhir_client: httpx.AsyncClient) -> None:
    """`ap` widens by a tenth of the distance from now: some months for 2020, never decades."""
    near = await found(fhir_client, "Observation?date=ap2020-05-20")
    assert {"day", "second", "ten-days", "month"} <= set(near)
    assert await found(fhir_client, "Observation?date=ap2000-01-01") == []


async def test_the_moment_of_an_update_is_equal_to_itself_only(fhir_client: httpx.AsyncClient) -> None:
    """_lastUpdated has the milliseconds that meta shows."""
    answer = await fhir_client.get("/fhir/Patient/noel")
    moment = answer.json()["meta"]["lastUpdated"]
    assert "noel" in await found(fhir_client, f"Patient?_lastUpdated={moment}")
    assert "noel" not in await found(fhir_client, f"Patient?_lastUpdated=gt{moment}")
    assert "noel" not in await found(fhir_client, f"Patient?_lastUpdated=lt{moment}")
    assert "noel" in await found(fhir_client, f"Patient?_lastUpdated=ge{moment}&_lastUpdated=le{moment}")


@pytest.mark.parametrize("step", [-1, 1])
async def test_a_moment_next_to_an_update_is_another_one(fhir_client: httpx.AsyncClient, step: int) -> None:
    """A millisecond earlier or later is not equal, and lies on its side."""
    from datetime import datetime, timedelta

    updated = (await fhir_client.get("/fhir/Patient/noel")).json()["meta"]["lastUpdated"]
    moment = datetime.fromisoformat(updated) + timedelta(milliseconds=step)
    other = moment.strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z"
    only = "Patient?_id=noel&_lastUpdated="
    assert await found(fhir_client, only + other) == []
    assert await found(fhir_client, f"{only}ne{other}") == ["noel"]
    for prefix in ("gt", "ge", "sa") if step < 0 else ("lt", "le", "eb"):
        assert await found(fhir_client, only + prefix + other) == ["noel"], prefix
    for prefix in ("lt", "le", "eb") if step < 0 else ("gt", "ge", "sa"):
        assert await found(fhir_client, only + prefix + other) == [], prefix


async def test_a_search_by_post_is_the_same_search(fhir_client: httpx.AsyncClient) -> None:
    """Values that must not end in a log of URLs go into the body; those of the URL count too."""
    answer = await fhir_client.post("/fhir/DocumentReference/_search?status=current", data={"patient": "durand"})
    assert answer.status_code == 200
    assert [one["resource"]["id"] for one in answer.json()["entry"]] == ["d3"]
    assert "durand" not in answer.json()["link"][0]["url"]


async def test_a_search_by_post_is_a_form(fhir_client: httpx.AsyncClient) -> None:
    """JSON is not a form."""
    answer = await fhir_client.post("/fhir/Patient/_search", json={"family": "x"})
    assert (answer.status_code, codes(answer)) == (415, ["not-supported"])


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("Observation?date:exact=true&nope=1", [("not-supported", "date:exact"), ("not-supported", "nope")]),
        ("Observation?date:missing=yes", [("invalid", "date:missing")]),
        ("Patient?family:phonetic=x", [("not-supported", "family:phonetic")]),
        ("DocumentReference?author.colour=x", [("not-supported", "author.colour")]),
        ("DocumentReference?author:Device.family=x", [("not-supported", "author:Device.family")]),
        ("DocumentReference?patient:Device.type=x", [("invalid", "patient:Device.type")]),
        ("DocumentReference?status.code=x", [("invalid", "status.code")]),
        (
            "Observation?has-member.has-member.has-member.has-member.has-member.code=x",
            [("not-supported", "has-member.has-member.has-member.has-member.has-member.code")],
        ),
        ("Patient?_has:Observation:code:code=x", [("invalid", "_has:Observation:code:code")]),
        ("Patient?_has:Observation:device:code=x", [("invalid", "_has:Observation:device:code")]),
        ("Patient?identifier:of-type=a|b", [("invalid", "identifier:of-type")]),
        ("Patient?_list=$current-problems", [("not-supported", "_list")]),
        ("Observation?date=yesterday", [("invalid", "date")]),
        ("Observation?date=ge2020-13", [("invalid", "date")]),
        ("Patient?_count=-1", [("invalid", "_count")]),
        ("Patient?_count=x&birthdate=x", [("invalid", "_count"), ("invalid", "birthdate")]),
        ("Patient?_sort=colour", [("not-supported", "_sort")]),
        ("Patient?_total=exact", [("invalid", "_total")]),
        ("Patient?identifier=|", [("invalid", "identifier")]),
        ("Observation?value-quantity=five", [("invalid", "value-quantity")]),
        ("Observation?value-quantity=5|mg", [("invalid", "value-quantity")]),
        ("Observation?code-value-quantity=x", [("invalid", "code-value-quantity")]),
        ("Location?near=91|0", [("invalid", "near")]),
        ("Location?near=1|1|1|furlong", [("invalid", "near")]),
        ("Patient?_filter=family eq", [("invalid", "_filter")]),
        ('Patient?_filter=family like "x"', [("invalid", "_filter")]),
        ('Patient?_filter=(family eq "x"', [("invalid", "_filter")]),
        ("Patient?_content=y", [("not-supported", "_content")]),
        ("Patient?_query=x", [("not-supported", "_query")]),
        ("Patient?_cursor=AAAA", [("invalid", "_cursor")]),
    ],
)
async def test_what_is_not_understood_is_refused(
    fhir_client: httpx.AsyncClient, query: str, expected: list[tuple[str, str]]
) -> None:
    """400 with every fault: a parameter ignored in silence would widen the answer."""
    answer = await fhir_client.get(f"/fhir/{query}")
    assert (answer.status_code, issues(answer)) == (400, expected)


@pytest.mark.parametrize(
    "query", ["Patient?family=%00", "Patient?_id=a%00b", "AuditEvent?patient=%00", "Patient?%00=x"]
)
async def test_a_nul_character_is_refused(fhir_client: httpx.AsyncClient, query: str) -> None:
    """No FHIR string holds one, and PostgreSQL takes none."""
    answer = await fhir_client.get(f"/fhir/{query}")
    assert (answer.status_code, codes(answer)) == (400, ["structure"])


async def test_a_lenient_client_is_told_what_was_left_out(fhir_client: httpx.AsyncClient) -> None:
    """Prefer: handling=lenient (R4 3.1.1.1.3): the rest is done, and an outcome entry says what was not."""
    answer = await fhir_client.get("/fhir/Patient?_id=noel&nope=1", headers={"prefer": "handling=lenient"})
    assert answer.status_code == 200
    match, outcome = answer.json()["entry"]
    assert (match["resource"]["id"], outcome["search"]["mode"]) == ("noel", "outcome")
    (issue,) = outcome["resource"]["issue"]
    assert (issue["severity"], issue["code"], issue["expression"]) == ("warning", "not-supported", ["nope"])
    assert "nope" not in answer.json()["link"][0]["url"]


async def test_lenient_forgives_the_unknown_and_not_the_malformed(fhir_client: httpx.AsyncClient) -> None:
    """A date that is none stays an error."""
    answer = await fhir_client.get("/fhir/Patient?birthdate=x&nope=1", headers={"prefer": "handling=lenient"})
    assert answer.status_code == 400


async def test_only_the_number_is_wanted(fhir_client: httpx.AsyncClient) -> None:
    """_summary=count and _count=0 give the total and no entry."""
    for query in ("Patient?gender=female,male&_summary=count", "Patient?gender=female,male&_count=0"):
        bundle = (await fhir_client.get(f"/fhir/{query}")).json()
        assert (bundle["total"], bundle.get("entry", [])) == (2, []), query


async def test_the_total_is_told_when_asked_for_or_known(fhir_client: httpx.AsyncClient) -> None:
    """Of a first page that is the last it is known; of others only _total=accurate counts."""
    assert (await fhir_client.get("/fhir/Patient")).json()["total"] == 4
    assert "total" not in (await fhir_client.get("/fhir/Patient?_count=2")).json()
    assert (await fhir_client.get("/fhir/Patient?_count=2&_total=accurate")).json()["total"] == 4


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("Patient?_sort=birthdate", "noel durand dupont lopez"),
        ("Patient?_sort=-birthdate", "dupont durand noel lopez"),
        ("DocumentReference?_sort=date", "d1 d2 d3 d4"),
        ("DocumentReference?_sort=-date", "d3 d2 d1 d4"),
        ("DocumentReference?_sort=_lastUpdated", "d1 d2 d3 d4"),
        ("DocumentReference?_sort=-_lastUpdated", "d4 d3 d2 d1"),
    ],
)
async def test_hits_are_sorted_and_those_without_value_come_last(
    fhir_client: httpx.AsyncClient, query: str, expected: str
) -> None:
    """Both ways."""
    assert await in_order(fhir_client, query) == expected.split()


async def test_the_answer_is_a_searchset_of_the_stored_resources(fhir_client: httpx.AsyncClient) -> None:
    """fullUrl, mode, and a self link that says what was understood."""
    bundle = (await fhir_client.get(f"/fhir/Patient?identifier={quote(FOLDERS)}|100")).json()
    assert (bundle["resourceType"], bundle["type"]) == ("Bundle", "searchset")
    (hit,) = bundle["entry"]
    assert hit["fullUrl"] == "http://test/fhir/Patient/noel"
    assert hit["search"] == {"mode": "match"}
    assert hit["resource"] == (await fhir_client.get("/fhir/Patient/noel")).json()
    (self_link,) = bundle["link"]
    assert self_link["relation"] == "self"
    assert (await fhir_client.get(self_link["url"])).json()["entry"] == [hit]


async def test_search_of_a_type_that_is_none(fhir_client: httpx.AsyncClient) -> None:
    """404, as for every path that this server does not have."""
    answer = await fhir_client.get("/fhir/Patients?family=x")
    assert (answer.status_code, codes(answer)) == (404, ["not-supported"])
