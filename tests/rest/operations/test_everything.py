"""Patient/$everything: https://hl7.org/fhir/R4/patient-operation-everything.html"""

from collections.abc import Awaitable, Callable
from typing import Any

import httpx
import orjson
import pytest

from fhir_server.records import everything
from fhir_server.store import compartments
from tests.support import (
    FHIR_JSON,
    Caller,
    Server,
    codes,
    document_reference,
    ids_of,
    keep,
    link,
    observation,
    pages,
    patient,
)

Make = Callable[..., Awaitable[Caller]]


def names(bundle: dict[str, Any], mode: str = "match") -> list[str]:
    """`Type/id` of the entries of one mode, in their order."""
    found = (one["resource"] for one in bundle.get("entry", []) if one["search"]["mode"] == mode)
    return [f"{one['resourceType']}/{one['id']}" for one in found]


@pytest.fixture
async def kept(fhir_client: httpx.AsyncClient) -> httpx.AsyncClient:
    """Two workers; what is kept of the first, and whom it names."""
    await keep(
        fhir_client,
        patient("p"),
        patient("q"),
        {"resourceType": "Organization", "id": "service", "name": "Service de santé"},
        {"resourceType": "Practitioner", "id": "doctor"},
        {"resourceType": "Device", "id": "of-q", "patient": {"reference": "Patient/q"}},
        observation("p", id="weight", effectiveDateTime="2020-03-01", performer=[{"reference": "Practitioner/doctor"}]),
        observation("p", id="audiogram", effectiveDateTime="2024-03-01", device={"reference": "Device/of-q"}),
        observation("q", id="elsewhere", performer=[{"reference": "Practitioner/doctor"}]),
        document_reference("p", id="folder", custodian={"reference": "Organization/service"}),
    )
    return fhir_client


async def asked(client: httpx.AsyncClient, query: str = "", patient_id: str = "p") -> dict[str, Any]:
    answer = await client.get(f"/fhir/Patient/{patient_id}/$everything{query}")
    assert answer.status_code == 200, answer.text
    return answer.json()


async def test_the_record_is_the_patient_his_compartment_and_what_it_refers_to(kept: httpx.AsyncClient) -> None:
    """Once each, and nothing that tells of another worker."""
    bundle = await asked(kept)
    assert (bundle["type"], bundle["total"]) == ("searchset", 4)
    assert names(bundle) == ["Patient/p", "Observation/weight", "Observation/audiogram", "DocumentReference/folder"]
    assert names(bundle, "include") == ["Organization/service", "Practitioner/doctor"]
    assert bundle["entry"][0]["fullUrl"] == "http://test/fhir/Patient/p"


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("?start=2022", ["Patient/p", "Observation/audiogram", "DocumentReference/folder"]),
        ("?end=2020", ["Patient/p", "Observation/weight", "DocumentReference/folder"]),
        ("?start=2020-03-01&end=2020-03-01&_type=Observation", ["Observation/weight"]),
        ("?_type=Patient,DocumentReference", ["Patient/p", "DocumentReference/folder"]),
        ("?_type=Practitioner", []),
        ("?_since=2100-01-01T00:00:00Z", []),
        ("?_since=2000-01-01T00:00:00Z&_type=Patient", ["Patient/p"]),
    ],
)
async def test_it_is_narrowed_by_time_of_care_time_of_record_and_type(
    kept: httpx.AsyncClient, query: str, expected: list[str]
) -> None:
    """What says nothing of a time of care is in every range; a type that is not wanted does not come along either."""
    bundle = await asked(kept, query)
    assert names(bundle) == expected
    assert not {name.partition("/")[0] for name in names(bundle, "include")} & {"Organization"} or "_type" not in query


async def test_pages_follow_one_another_and_keep_what_was_asked(kept: httpx.AsyncClient) -> None:
    """By a link that says nothing and serves one client; what is written meanwhile comes at the end."""
    found = [names(page) async for page in pages(kept, "Patient/p/$everything?_count=1&_type=Patient,Observation")]
    assert found == [["Patient/p"], ["Observation/weight"], ["Observation/audiogram"]]
    first = await asked(kept, "?_count=2")
    following = link(first, "next")
    assert following
    assert "_cursor=" in following
    assert "_count" not in following
    assert "total" not in first
    await keep(kept, observation("p", id="later"))
    second = (await kept.get(following)).json()
    assert names(second) == ["Observation/audiogram", "DocumentReference/folder"]
    assert names((await kept.get(link(second, "next") or "")).json()) == ["Observation/later"]


async def test_a_page_link_serves_one_client_and_one_worker(kept: httpx.AsyncClient, client_with: Make) -> None:
    """Neither another client nor another record is reached by it."""
    following = link(await asked(kept, "?_count=1"), "next") or ""
    other = await client_with("system/*.rs")
    for client, url in [(other.http, following), (kept, following.replace("Patient/p/", "Patient/q/"))]:
        answer = await client.get(url)
        assert (answer.status_code, codes(answer)) == (400, ["invalid"])


async def test_a_page_ends_where_it_grows_too_large(kept: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the room of its documents, and by how much they refer to: nothing is lost by it."""
    whole = sorted(names(await asked(kept)))
    for module, bound in [(compartments, "LARGEST_PAGE"), (everything, "MOST_ALONG")]:
        with monkeypatch.context() as patched:
            patched.setattr(module, bound, 1)
            found = [names(page) async for page in pages(kept, "Patient/p/$everything")]
        assert len(found) > 1
        assert sorted(name for page in found for name in page) == whole


async def test_only_what_the_caller_may_read_and_search_is_shown(kept: httpx.AsyncClient, client_with: Make) -> None:
    """Neither entries, nor a total, nor a link tell of the rest."""
    reader = await client_with("system/Patient.r", "system/Observation.rs", "system/DocumentReference.r")
    bundle = await asked(reader.http)
    assert (names(bundle), names(bundle, "include"), bundle["total"]) == (
        ["Patient/p", "Observation/weight", "Observation/audiogram"], [], 3,
    )  # fmt: skip
    stranger = await client_with("system/Observation.rs")
    for patient_id in ("p", "nobody"):
        answer = await stranger.http.get(f"/fhir/Patient/{patient_id}/$everything")
        assert (answer.status_code, codes(answer)) == (403, ["forbidden"])


async def test_it_may_be_posted_with_parameters(kept: httpx.AsyncClient) -> None:
    """As Parameters, and the answer is the same."""
    parameters = [{"name": "_type", "valueCode": "Observation"}, {"name": "_count", "valueInteger": 1}]
    answer = await kept.post(
        "/fhir/Patient/p/$everything",
        content=orjson.dumps({"resourceType": "Parameters", "parameter": parameters}),
        headers=FHIR_JSON,
    )
    assert ids_of(answer.json())[:1] == ["weight"]


@pytest.mark.parametrize(
    "query",
    ["?_type=Nothing", "?start=yesterday", "?_count=0", "?_count=x", "?_offset=3", "?end=2020&end=2021", "?_cursor=x"],
)
async def test_what_is_not_understood_is_refused(kept: httpx.AsyncClient, query: str) -> None:
    """Rather than answered with more than was meant."""
    answer = await kept.get(f"/fhir/Patient/p/$everything{query}")
    assert (answer.status_code, codes(answer)) == (400, ["invalid"])


async def test_a_patient_who_is_not_there_has_no_record(kept: httpx.AsyncClient) -> None:
    """404, and 410 once deleted."""
    assert (await kept.get("/fhir/Patient/nobody/$everything")).status_code == 404
    await keep(kept, patient("gone"))
    await kept.delete("/fhir/Patient/gone")
    assert (await kept.get("/fhir/Patient/gone/$everything")).status_code == 410


async def test_it_leaves_a_trace_for_each_worker_of_whom_something_is_shown(
    kept: httpx.AsyncClient, server: Server
) -> None:
    """Two workers may stand in one document."""
    await keep(kept, observation("q", id="together", performer=[{"reference": "Patient/p"}]))
    await asked(kept, "?_type=Observation")
    rows = await server.rows("select patient_id, query from access where interaction = 'operation' order by patient_id")
    assert rows == [("p", "$everything?_type=Observation"), ("q", "$everything?_type=Observation")]
