"""history of an instance: https://hl7.org/fhir/R4/http.html#history"""

import httpx
import pytest

from tests.support import Server, codes, ids_of, issues, keep, link, patient


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


async def test_a_deletion_is_an_entry_without_resource(fhir_client: httpx.AsyncClient, server: Server) -> None:
    """The deletion is a version like another."""
    await keep(fhir_client, patient("p"))
    await server.rows(
        "insert into resource_history select rid, version, updated, deleted, null, null, doc from resource"
    )
    await server.rows("update resource set version = 2, deleted = true, doc = null where id = 'p'")
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
        ("_at=2020", ("invalid", "_at")),
    ],
)
async def test_malformed_parameters_are_refused(
    fhir_client: httpx.AsyncClient, query: str, fault: tuple[str, str]
) -> None:
    """400, and which one."""
    await keep(fhir_client, patient("p"))
    answer = await fhir_client.get(f"/fhir/Patient/p/_history?{query}")
    assert (answer.status_code, issues(answer)) == (400, [fault])
