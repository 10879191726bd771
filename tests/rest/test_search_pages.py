"""Pages of a search: complete, without overlap, and for the client who asked alone."""

import base64

import httpx
import pytest

from fhir_server.r4.resource_types import TYPE_NUMBER
from fhir_server.r4.search_parameters import parameters_of
from fhir_server.store.search_index import param_key, token_any_system, token_with_system
from tests.support import (
    EVERYTHING,
    FOLDERS,
    Server,
    codes,
    found,
    ids_of,
    in_folder,
    issues,
    keep,
    link,
    observation,
    pages,
    patient,
)

READINGS = 23


@pytest.fixture
async def readings(fhir_client: httpx.AsyncClient) -> list[str]:
    """Ids of readings: some share a date, some have none."""
    dates = ["2020-01-01", "2020-01-01", "2021", None, "2019-05"]
    dated = [{"effectiveDateTime": dates[n % 5]} if dates[n % 5] else {} for n in range(READINGS)]
    await keep(fhir_client, patient("p"), *(observation("p", id=f"o{n:02}", **dated[n]) for n in range(READINGS)))
    return [f"o{n:02}" for n in range(READINGS)]


@pytest.mark.parametrize("sort", ["", "&_sort=date", "&_sort=-date", "&_sort=_lastUpdated", "&_sort=-_lastUpdated"])
@pytest.mark.parametrize("count", [1, 5, 23])
async def test_pages_are_disjoint_and_complete(
    fhir_client: httpx.AsyncClient, readings: list[str], sort: str, count: int
) -> None:
    """Every hit is on exactly one page, in the order of the whole."""
    whole = ids_of((await fhir_client.get(f"/fhir/Observation?_count=1000{sort}")).json())
    assert sorted(whole) == readings
    paged = [ids_of(page) async for page in pages(fhir_client, f"Observation?patient=p&_count={count}{sort}")]
    assert [identity for page in paged for identity in page] == whole
    assert all(len(page) == count for page in paged[:-1])
    assert paged[-1]


async def test_what_is_written_between_two_pages_moves_nothing(
    fhir_client: httpx.AsyncClient, readings: list[str]
) -> None:
    """Pages start after a place, not at a number: a new hit does not push an old one onto the next page again."""
    first = (await fhir_client.get("/fhir/Observation?_count=10")).json()
    await keep(fhir_client, observation("p", id="new"))
    rest = link(first, "next")
    seen = ids_of(first)
    while rest:
        bundle = (await fhir_client.get(rest)).json()
        seen += ids_of(bundle)
        rest = link(bundle, "next")
    assert sorted(seen) == readings


async def next_link(client: httpx.AsyncClient) -> str:
    answer = await client.get(f"/fhir/Observation?patient.identifier={FOLDERS}|secret&_count=1")
    following = link(answer.json(), "next")
    assert following
    return following


@pytest.fixture
async def two(fhir_client: httpx.AsyncClient) -> None:
    """A worker whose folder number nobody should read in a URL, with two readings."""
    await keep(fhir_client, in_folder("secret", id="p"), observation("p", id="o1"), observation("p", id="o2"))


@pytest.mark.usefixtures("two")
async def test_a_page_link_shows_no_search_value(fhir_client: httpx.AsyncClient) -> None:
    """So none ends in the log of a proxy because of us."""
    following = await next_link(fhir_client)
    sealed = following.partition("_cursor=")[2]
    assert "secret" not in following
    assert b"secret" not in base64.urlsafe_b64decode(sealed + "==")


@pytest.mark.usefixtures("two")
async def test_a_page_link_of_another_client_is_refused(fhir_client: httpx.AsyncClient, server: Server) -> None:
    """400: it was not made for this client."""
    following = await next_link(fhir_client)
    other = await server.client(EVERYTHING)
    answer = await other.http.get(following)
    assert (answer.status_code, issues(answer)) == (400, [("invalid", "_cursor")])
    assert (await fhir_client.get(following)).status_code == 200


@pytest.mark.usefixtures("two")
async def test_a_page_link_that_was_changed_is_refused(fhir_client: httpx.AsyncClient) -> None:
    """A single character, anywhere; cut short; on another type."""
    following = await next_link(fhir_client)
    head, _, sealed = following.partition("_cursor=")
    for position in (0, 20, len(sealed) // 2, len(sealed) - 2):
        other = "A" if sealed[position] != "A" else "B"
        forged = f"{head}_cursor={sealed[:position]}{other}{sealed[position + 1 :]}"
        answer = await fhir_client.get(forged)
        assert (answer.status_code, codes(answer)) == (400, ["invalid"]), position
    for forged in (f"{head}_cursor={sealed[:10]}", f"{head}_cursor=é", following.replace("Observation", "Patient")):
        answer = await fhir_client.get(forged)
        assert (answer.status_code, codes(answer)) == (400, ["invalid"]), forged


@pytest.mark.usefixtures("two")
async def test_a_client_without_the_scope_may_not_turn_the_page(fhir_client: httpx.AsyncClient, server: Server) -> None:
    """The seal is no permission."""
    following = await next_link(fhir_client)
    reader = await server.client(("system/Patient.rs",))
    assert (await reader.http.get(following)).status_code == 403


@pytest.mark.parametrize(
    "query",
    ["Patient?identifier=999", f"Patient?identifier={FOLDERS}|999", "Patient?identifier=999,998"],
)
async def test_two_values_that_share_a_hash_are_told_apart(
    fhir_client: httpx.AsyncClient, server: Server, query: str
) -> None:
    """A hit that the index gives for another value is dropped: here a wrong row plays the collision."""
    await keep(fhir_client, in_folder("111", id="other"))
    key = param_key(TYPE_NUMBER["Patient"], parameters_of("Patient")["identifier"])
    for collision in (token_any_system(key, "999"), token_with_system(key, FOLDERS, "999")):
        await server.rows("insert into token select %s, rid from resource where id = 'other'", collision)
    assert await found(fhir_client, query) == []
    await keep(fhir_client, in_folder("999", id="right"))
    assert await found(fhir_client, query) == ["right"]


async def test_a_collision_does_not_answer_a_conditional_create(fhir_client: httpx.AsyncClient, server: Server) -> None:
    """The worker of another folder is not the one who was meant."""
    await keep(fhir_client, in_folder("111", id="other"))
    key = param_key(TYPE_NUMBER["Patient"], parameters_of("Patient")["identifier"])
    await server.rows(
        "insert into token select %s, rid from resource where id = 'other'", token_with_system(key, FOLDERS, "999")
    )
    answer = await fhir_client.post(
        "/fhir/Patient", json=in_folder("999"), headers={"if-none-exist": f"identifier={FOLDERS}|999"}
    )
    assert answer.status_code == 201


async def test_a_value_written_with_escapes_is_found(fhir_client: httpx.AsyncClient) -> None:
    """The document may hold its text as `\\u0031` and slashes as `\\/`: the check reads, it does not compare bytes."""
    body = rb'{"resourceType":"Patient","id":"p","identifier":[{"system":"http:\/\/test\/x","value":"\u0031\u00e9"}]}'
    answer = await fhir_client.put("/fhir/Patient/p", content=body, headers={"content-type": "application/fhir+json"})
    assert answer.status_code == 201
    assert await found(fhir_client, "Patient?identifier=http://test/x|1é") == ["p"]


async def test_pages_stay_complete_where_a_hit_is_dropped(fhir_client: httpx.AsyncClient, server: Server) -> None:
    """A dropped hit makes a page shorter, never the search."""
    await keep(
        fhir_client,
        *(in_folder("first", id=f"p{n}") for n in range(6)),
        in_folder("second", id="wrong"),
        in_folder("first", id="p9"),
    )
    key = param_key(TYPE_NUMBER["Patient"], parameters_of("Patient")["identifier"])
    await server.rows(
        "insert into token select %s, rid from resource where id = 'wrong'", token_any_system(key, "first")
    )
    seen = [
        identity async for page in pages(fhir_client, "Patient?identifier=first&_count=2") for identity in ids_of(page)
    ]
    assert sorted(seen) == ["p0", "p1", "p2", "p3", "p4", "p5", "p9"]
