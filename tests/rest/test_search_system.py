"""search over several types: https://hl7.org/fhir/R4/http.html#search, https://hl7.org/fhir/R4/search.html#all"""

from collections.abc import Awaitable, Callable
from typing import Any

import httpx
import pytest

from fhir_server.r4.search_parameters import parameters_of
from fhir_server.rest.routes import types_together
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
    found,
    ids_of,
    in_folder,
    in_order,
    issues,
    keep,
    link,
    observation,
    pages,
    patient,
    put,
    transaction,
)

Make = Callable[..., Awaitable[Caller]]
TAG = {"tag": [{"system": "urn:test", "code": "campaign"}]}
TEXT = {"text": {"status": "generated", "div": '<div xmlns="http://www.w3.org/1999/xhtml">silice</div>'}}
FORM = {"content-type": "application/x-www-form-urlencoded"}
KEPT = ["p", "q", "o1", "o2", "d1", "o3", "list"]


@pytest.fixture
async def client(fhir_client: httpx.AsyncClient) -> httpx.AsyncClient:
    """Two workers, their readings and papers, one after the other in the order of `KEPT`."""
    await keep(
        fhir_client,
        in_folder("100000101", id="p", meta=TAG),
        patient("q", text=TEXT["text"]),
        observation("p", id="o1", meta=TAG),
        observation("q", id="o2"),
        document_reference("p", id="d1", **TEXT),
        observation("p", id="o3"),
        {
            "resourceType": "List",
            "id": "list",
            "status": "current",
            "mode": "working",
            "entry": [{"item": {"reference": f"Observation/{one}"}} for one in ("o1", "o2")],
        },
    )
    return fhir_client


@pytest.mark.parametrize(
    ("query", "ids"),
    [
        ("_type=Patient,Observation", ["o3", "o2", "o1", "q", "p"]),
        ("_type=Patient&_type=Observation,Patient", ["o3", "o2", "o1", "q", "p"]),
        ("_type=Patient,Observation&_sort=_lastUpdated", ["p", "q", "o1", "o2", "o3"]),
        ("_type=Patient,Observation&_sort=-_lastUpdated", ["o3", "o2", "o1", "q", "p"]),
        ("", KEPT[::-1]),
        ("_sort=_lastUpdated", KEPT),
        ("_lastUpdated=ge2000", KEPT[::-1]),
        ("_lastUpdated=lt2000", []),
        ("_id=p,o1", ["o1", "p"]),
        ("_tag=campaign", ["o1", "p"]),
        ("_tag:not=campaign&_type=Patient,Observation", ["o3", "o2", "q"]),
        ("_type=Observation,DocumentReference&patient=Patient/p", ["o3", "d1", "o1"]),
        ("_type=Observation,DocumentReference&patient.identifier=100000101", ["o3", "d1", "o1"]),
        ("_type=Observation,DocumentReference&_filter=patient eq Patient/q", ["o2"]),
        ("_text=silice", ["d1", "q"]),
        ("_list=list", ["o2", "o1"]),
        ("_has:DocumentReference:patient:status=current", ["p"]),
        ("_type=Patient,Observation&_id=", ["o3", "o2", "o1", "q", "p"]),
        ("_type=Basic,Group", []),
    ],
)
async def test_what_is_found(client: httpx.AsyncClient, query: str, ids: list[str]) -> None:
    """Newest first where nothing else is asked; each resource under its own type."""
    assert await in_order(client, f"?{query}") == ids
    bundle = (await client.get(f"/fhir?{query}")).json()
    assert bundle["total"] == len(ids)
    for one in bundle.get("entry", ()):
        assert one["fullUrl"] == f"http://test/fhir/{one['resource']['resourceType']}/{one['resource']['id']}"


@pytest.mark.parametrize("query", ["_type=Patient,Observation", "", "_sort=_lastUpdated", "_lastUpdated=ge2000"])
@pytest.mark.parametrize("count", [1, 2, 7])
async def test_pages_are_disjoint_and_complete(client: httpx.AsyncClient, query: str, count: int) -> None:
    """Every hit is on exactly one page, in the order of the whole; what is written meanwhile moves nothing."""
    whole = await in_order(client, f"?{query}")
    paged: list[list[str]] = []
    async for page in pages(client, f"?{query}&_count={count}"):
        paged.append(ids_of(page))
        await put(client, patient(f"new{len(paged)}"))
        assert "_cursor" in (link(page, "next") or "_cursor")
    assert [one for page in paged for one in page] == whole
    assert all(len(page) == count for page in paged[:-1])


async def test_a_search_by_post_is_sealed(client: httpx.AsyncClient) -> None:
    """Its criteria stand in no link, and its link is for this client and this search alone."""
    body = f"_type=Observation,DocumentReference&patient.identifier={FOLDERS}|100000101&_count=1"
    bundle = (await client.post("/fhir/_search", content=body, headers=FORM)).json()
    assert ids_of(bundle) == ["o3"]
    assert "100000101" not in str(bundle["link"])
    following = link(bundle, "next") or ""
    assert ids_of((await client.get(following)).json()) == ["d1"]
    elsewhere = await client.get(following.replace("/fhir?", "/fhir/Observation?"))
    assert (elsewhere.status_code, issues(elsewhere)) == (400, [("invalid", "_cursor")])
    assert (await client.post("/fhir/_search", content=b"{}", headers=FHIR_JSON)).status_code == 415


async def test_the_self_link_says_what_was_understood(client: httpx.AsyncClient) -> None:
    """And is the same search again."""
    answer = await client.get("/fhir?_type=Patient,Observation&_tag=campaign&_summary=true&_count=5")
    assert link(answer.json(), "self") == (
        "http://test/fhir?_type=Patient,Observation&_tag=campaign&_count=5&_summary=true"
    )


async def test_counting(client: httpx.AsyncClient) -> None:
    """`_summary=count`, `_count=0` and `_total`; what is created after the first page does not count."""
    for query in ("_summary=count", "_count=0"):
        bundle = (await client.get(f"/fhir?_type=Patient,Observation&{query}")).json()
        assert (bundle["total"], "entry" in bundle) == (5, False)
        assert (await client.get(f"/fhir?{query}")).json()["total"] == len(KEPT)
    assert "total" not in (await client.get("/fhir?_type=Patient,Observation&_count=2")).json()
    first = (await client.get("/fhir?_type=Patient,Observation&_count=2&_total=accurate")).json()
    await put(client, patient("later"))
    second = (await client.get(link(first, "next") or "")).json()
    assert (first["total"], second["total"]) == (5, 5)
    estimate = (await client.get("/fhir?_type=Patient,Observation&_count=2&_total=estimate")).json()
    assert estimate["total"] >= 0


async def test_parts_of_what_is_found(client: httpx.AsyncClient) -> None:
    """`_elements` of any type, or of one of them; `_summary`."""
    bundle = (await client.get("/fhir?_type=Patient,Observation&_elements=Patient.identifier,subject")).json()
    shown = {one["resource"]["id"]: one["resource"] for one in bundle["entry"]}
    assert {"identifier"} == shown["p"].keys() - {"resourceType", "id", "meta"}
    assert {"status", "code", "subject"} == shown["o1"].keys() - {"resourceType", "id", "meta"}
    bundle = (await client.get("/fhir?_text=silice&_summary=data")).json()
    assert not any("text" in one["resource"] for one in bundle["entry"])


async def test_what_comes_along(client: httpx.AsyncClient) -> None:
    """From hits of any type, each resource once."""
    bundle = (await client.get("/fhir?_type=Observation,DocumentReference&_include=Observation:patient")).json()
    modes = [(one["resource"]["id"], one["search"]["mode"]) for one in bundle["entry"]]
    assert modes == [(one, "match") for one in ("o3", "d1", "o2", "o1")] + [(one, "include") for one in ("p", "q")]


@pytest.mark.parametrize(
    ("query", "code", "place"),
    [
        ("patient=Patient/p", "not-supported", "patient"),
        ("_type=Patient,Observation&patient=Patient/p", "not-supported", "patient"),
        ("_type=Patient,Observation&family=x", "not-supported", "family"),
        ("_type=Bundle,Patient&_text=silice", "not-supported", "_text"),
        ("_type=Patient,Observation&nonsense=1", "not-supported", "nonsense"),
        ("_type=Patient,Observation&_sort=birthdate", "not-supported", "_sort"),
        ("_type=Patient,Observation&_sort=_id", "not-supported", "_sort"),
        ("_type=Observation,DocumentReference&_sort=date", "not-supported", "_sort"),
        ("_type=Observation,DocumentReference&date=soon", "invalid", "date"),
        ("_lastUpdated=soon", "invalid", "_lastUpdated"),
        ("_has:Observation:nothing:code=x", "invalid", "_has:Observation:nothing:code"),
        ("_explain=true", "not-supported", "_explain"),
        ("_type=Nonsense", "not-supported", "_type"),
        ("_type=Patient,AuditEvent", "not-supported", "_type"),
        ("_type=Parameters", "not-supported", "_type"),
        ("_elements=nonsense&_summary=true", "invalid", "_elements"),
    ],
)
async def test_what_is_not_understood_is_refused(client: httpx.AsyncClient, query: str, code: str, place: str) -> None:
    """Each fault once, however many types there are."""
    answer = await client.get(f"/fhir?{query}")
    assert (answer.status_code, issues(answer)) == (400, [(code, place)]), answer.text


async def test_chains_of_many_types_are_too_costly_together(client: httpx.AsyncClient) -> None:
    """Each leads to a few types, and together they lead to hundreds."""
    types = ",".join(name for name in types_together() if "patient" in parameters_of(name))
    answer = await client.get(f"/fhir?_type={types}&patient.link.general-practitioner.address=x")
    assert (answer.status_code, codes(answer)) == (403, ["too-costly"])


async def test_a_lenient_client_is_told_what_was_left_out(client: httpx.AsyncClient) -> None:
    """What one type alone has is passed over for all of them."""
    headers = {"prefer": "handling=lenient"}
    query = "_type=Patient,Observation&family=x&_tag=campaign&_sort=date"
    bundle = (await client.get(f"/fhir?{query}", headers=headers)).json()
    assert [one["search"]["mode"] for one in bundle["entry"]] == ["match", "match", "outcome"]
    told = bundle["entry"][-1]["resource"]["issue"]
    assert {(one["severity"], one["expression"][0]) for one in told} == {("warning", "family"), ("warning", "_sort")}
    assert (await client.get("/fhir?_tag=campaign&_lastUpdated=soon", headers=headers)).status_code == 400


# --- Rights


async def test_a_type_that_is_named_must_be_allowed(client: httpx.AsyncClient, client_with: Make) -> None:
    """And so must those that criteria lead to: 403, as in a search on the type alone."""
    few = (await client_with("system/Observation.s", "system/DocumentReference.s")).http
    for query in (
        "_type=Observation,Patient",
        "_type=Observation,DocumentReference&subject:Patient.identifier=100000101",
        "_list=list",
        "_has:List:item:status=current",
    ):
        answer = await few.get(f"/fhir?{query}")
        assert (answer.status_code, codes(answer)) == (403, ["forbidden"]), query
    assert await found(few, "?_type=Observation,DocumentReference") == ["d1", "o1", "o2", "o3"]


async def test_what_is_not_named_is_limited_in_silence(client: httpx.AsyncClient, client_with: Make) -> None:
    """Neither shown nor counted: nobody learns how much there is of what he may not search."""
    few = (await client_with("system/Observation.s", "system/Patient.r")).http
    assert await found(few, "") == ["o1", "o2", "o3"]
    assert await found(few, "?_tag=campaign") == ["o1"]
    for query in ("_summary=count", "_count=1&_total=accurate", "_count=0"):
        assert (await few.get(f"/fhir?{query}")).json()["total"] == 3
    assert (await few.get("/fhir?_count=1&_total=estimate")).json()["total"] <= 3
    none = (await client_with("system/Patient.crud")).http
    assert (await none.get("/fhir")).status_code == 403


async def test_what_comes_along_may_be_read(client: httpx.AsyncClient, client_with: Make) -> None:
    """As in a search on one type."""
    few = (await client_with("system/Observation.s")).http
    assert len((await few.get("/fhir?_type=Observation&_include=Observation:patient")).json()["entry"]) == 3


def binary(binary_id: str, **more: Any) -> Resource:
    return {"resourceType": "Binary", "id": binary_id, "contentType": "text/plain", "data": "eA==", **more}


async def test_binaries_are_searched_where_they_are_named(client: httpx.AsyncClient, client_with: Make) -> None:
    """What protects each is asked; they are not counted, and a total that would count them is not given."""
    free = binary("free")
    secret = binary("secret", securityContext={"reference": "DocumentReference/d1"})
    await keep(client, free, secret)
    assert await found(client, "") == sorted(KEPT)
    assert await found(client, "?_type=Binary,List") == ["free", "list", "secret"]
    few = (await client_with("system/Binary.rs", "system/List.s")).http
    assert await found(few, "?_type=Binary,List") == ["free", "list"]
    paged = [
        (ids_of(page), "total" in page) async for page in pages(few, "?_type=Binary,List&_count=2&_total=accurate")
    ]
    assert paged == [(["free"], False), (["list"], False)]
    for query in ("_summary=count", "_summary=count&_tag=x"):
        assert (await few.get(f"/fhir?_type=Binary,List&{query}")).status_code == 400
    assert (await few.get("/fhir?_type=Binary,List")).json()["total"] == 2


async def test_every_worker_who_is_shown_is_traced(
    client: httpx.AsyncClient, client_with: Make, server: Server
) -> None:
    """The worker who is asked for too, where nothing was found; no identifier is kept."""
    caller = await client_with(*EVERYTHING)
    rows = "select patient_id, query from access where client_id = %s and interaction = 'search-system' order by id"
    await caller.http.get("/fhir?_type=Observation,DocumentReference&_count=3")
    assert [one for one, _ in await server.rows(rows, caller.client_id)] == ["p", "q"]
    await caller.http.get("/fhir?_type=Observation,DocumentReference&patient=Patient/nobody")
    await caller.http.get("/fhir?_type=Observation,DocumentReference&patient.identifier=100000101&_lastUpdated=lt2000")
    *_, nobody, masked = await server.rows(rows, caller.client_id)
    assert nobody[0] == "nobody"
    assert masked == (
        None,
        "_type=Observation,DocumentReference&patient.identifier=***&_lastUpdated=lt2000",
    )


async def test_it_is_shown_as_an_audit_event(client: httpx.AsyncClient) -> None:
    """Of the interaction search-system, of no type."""
    await client.get("/fhir?_type=Observation,Patient&_tag=campaign")
    event = (await client.get("/fhir/AuditEvent?_count=10")).json()["entry"]
    kinds = [one["resource"]["subtype"][0]["code"] for one in event]
    assert "search-system" in kinds


# --- In Bundles


async def test_it_is_an_entry_of_batches_and_transactions(client: httpx.AsyncClient) -> None:
    """A transaction sees what it wrote itself."""
    ask: Resource = {"request": {"method": "GET", "url": "?_type=Patient,List&_tag=campaign"}}
    batch = {"resourceType": "Bundle", "type": "batch", "entry": [ask]}
    answer = await client.post("/fhir", json=batch, headers=FHIR_JSON)
    assert ids_of(answer.json()["entry"][0]["resource"]) == ["p"]
    whole = transaction(entry(patient("new", meta=TAG), method="PUT", url="Patient/new"), ask)
    answer = await client.post("/fhir", json=whole, headers=FHIR_JSON)
    assert answer.status_code == 200, answer.text
    assert ids_of(answer.json()["entry"][1]["resource"]) == ["new", "p"]


async def test_deleted_resources_are_not_found(client: httpx.AsyncClient) -> None:
    """Nor counted."""
    assert (await client.delete("/fhir/Observation/o3")).status_code == 204
    assert "o3" not in await found(client, "")
    assert (await client.get("/fhir?_type=Observation,Patient&_summary=count")).json()["total"] == 4


async def test_of_all_types_only_those_that_there_are_are_walked(client: httpx.AsyncClient) -> None:
    """With one of every type that can be named."""
    assert await in_order(client, f"?_type={','.join(types_together())}") == KEPT[::-1]
