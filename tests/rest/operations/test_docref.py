"""$docref: the documents of a person (US Core and International Patient Access)."""

from collections.abc import Awaitable, Callable

import httpx
import orjson
import pytest

from tests.support import FHIR_JSON, Caller, codes, document_reference, ids_of, keep, patient

Make = Callable[..., Awaitable[Caller]]
LOINC = "http://loinc.org"


@pytest.fixture
async def client(fhir_client: httpx.AsyncClient) -> httpx.AsyncClient:
    """Two visits of one worker, an audiogram that was replaced, and somebody else's paper."""
    visit = {"coding": [{"system": LOINC, "code": "11488-4"}]}
    coded = {"system": "urn:test:formats", "code": "urn:test:profile"}
    await keep(
        fhir_client,
        patient("p"),
        patient("q"),
        document_reference(
            "p", id="old", type=visit, context={"period": {"start": "2019-05-02"}}, date="2019-05-02T00:00:00Z"
        ),
        document_reference(
            "p", id="new", type=visit, context={"period": {"start": "2024-05-02"}}, date="2024-05-02T00:00:00Z"
        ),
        document_reference("p", id="gone", status="superseded"),
        document_reference("p", id="bare", content=[{"attachment": {"url": "urn:x"}, "format": coded}]),
        document_reference("q", id="other"),
    )
    return fhir_client


@pytest.mark.parametrize(
    ("question", "answer"),
    [
        ({"patient": "p"}, {"old", "new", "bare"}),
        ({"patient": "p", "start": "2020-01-01"}, {"new"}),
        ({"patient": "p", "start": "2019-01-01", "end": "2020-01-01"}, {"old"}),
        ({"patient": "p", "type": f"{LOINC}|11488-4"}, {"old", "new"}),
        ({"patient": "p", "profile": "urn:test:profile"}, {"bare"}),
        ({"patient": "p", "on-demand": "false"}, {"old", "new", "bare"}),
        ({"patient": "p", "on-demand": "true"}, set()),
        ({"patient": "nobody"}, set()),
    ],
)
async def test_the_current_documents_of_one_person(
    client: httpx.AsyncClient, question: dict[str, str], answer: set[str]
) -> None:
    """By care dates, type and profile; none is made on demand."""
    got = await client.get("/fhir/DocumentReference/$docref", params=question)
    assert got.status_code == 200, got.text
    assert (got.json()["type"], set(ids_of(got.json()))) == ("searchset", answer)


async def test_it_is_asked_by_parameters_too_and_in_pages(client: httpx.AsyncClient) -> None:
    """Several types are alternatives; the links lead on as those of a search."""
    types = [{"system": LOINC, "code": "11488-4"}, {"code": "x"}]
    named = [{"name": "patient", "valueId": "p"}, *({"name": "type", "valueCoding": one} for one in types)]
    body = {"resourceType": "Parameters", "parameter": [*named, {"name": "_count", "valueInteger": 1}]}
    first = await client.post("/fhir/DocumentReference/$docref", content=orjson.dumps(body), headers=FHIR_JSON)
    assert ids_of(first.json()) == ["new"]
    (following,) = [link["url"] for link in first.json()["link"] if link["relation"] == "next"]
    assert ids_of((await client.get(following)).json()) == ["old"]


@pytest.mark.parametrize(
    ("question", "status"),
    [("", 400), ("patient=p&patient=q", 400), ("patient=p&start=soon", 400), ("patient=p&other=1", 400)],
)
async def test_what_it_cannot_read_it_refuses(client: httpx.AsyncClient, question: str, status: int) -> None:
    """The patient is needed, once."""
    assert (await client.get(f"/fhir/DocumentReference/$docref?{question}")).status_code == status


async def test_it_needs_the_right_to_search(client: httpx.AsyncClient, client_with: Make) -> None:
    """Also where nothing would be found."""
    few = await client_with("system/DocumentReference.r")
    for question in ("patient=p", "patient=p&on-demand=true"):
        answer = await few.http.get(f"/fhir/DocumentReference/$docref?{question}")
        assert (answer.status_code, codes(answer)) == (403, ["forbidden"])
