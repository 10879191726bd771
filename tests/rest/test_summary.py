"""_summary and _elements over HTTP, as tests/r4 has them: https://hl7.org/fhir/R4/search.html#summary"""

from typing import Any

import httpx
import pytest

from tests.support import FOLDERS, document_reference, ids_of, in_folder, issues, keep, link, pages, patient, post, put

TAGS = ["SUBSETTED"]


@pytest.fixture
async def filled(fhir_client: httpx.AsyncClient) -> httpx.AsyncClient:
    """Three workers and a document of one of them."""
    photo = [{"contentType": "image/png", "data": "eA=="}]
    await keep(fhir_client, *(in_folder(f"{n}", id=f"p{n}", gender="female", photo=photo) for n in range(3)))
    await keep(fhir_client, document_reference("p1", id="d", description="x", custodian={"display": "x"}))
    return fhir_client


def told(resource: dict[str, Any]) -> tuple[list[str], list[str]]:
    """The elements beside id and meta, and the tags."""
    tags = [tag["code"] for tag in resource["meta"].get("tag", [])]
    return sorted(set(resource) - {"resourceType", "id", "meta"}), tags


PARTS = [
    ("_summary=true", ["gender", "identifier", "name"]),
    ("_summary=text", []),
    ("_summary=data", ["gender", "identifier", "name", "photo"]),
    ("_elements=gender,photo", ["gender", "photo"]),
]


@pytest.mark.parametrize(("query", "elements"), PARTS)
@pytest.mark.parametrize("path", ["Patient/p1", "Patient/p1/_history/1"])
async def test_a_read_may_be_of_a_part(filled: httpx.AsyncClient, path: str, query: str, elements: list[str]) -> None:
    """With the ETag of the version that it is a part of, by which it may be changed; as XML too."""
    answer = await filled.get(f"/fhir/{path}?{query}")
    assert (answer.status_code, told(answer.json())) == (200, (elements, TAGS))
    assert answer.headers["etag"] == 'W/"1"'
    assert (await filled.get(f"/fhir/{path}?{query}", headers={"if-none-match": 'W/"1"'})).status_code == 304
    xml = await filled.get(f"/fhir/{path}?{query}&_format=xml")
    assert (xml.status_code, b"SUBSETTED" in xml.content) == (200, True)
    assert (await put(filled, patient("p1"), if_match=answer.headers["etag"])).status_code == 200


@pytest.mark.parametrize(("query", "elements"), PARTS)
@pytest.mark.parametrize("path", ["Patient", "Patient/_history", "Patient/p1/_history", "_history"])
async def test_every_entry_of_an_answer_is_such_a_part(
    filled: httpx.AsyncClient, path: str, query: str, elements: list[str]
) -> None:
    """Of searches and histories, on each page, since the links go on with it."""
    seen = 0
    async for page in pages(filled, f"{path}?_count=1&{query}"):
        for entry in page["entry"]:
            if entry["resource"]["resourceType"] == "Patient":
                assert told(entry["resource"]) == (elements, TAGS)
                seen += 1
        self_link = link(page, "self")
        assert "_cursor" in (self_link or "") or query.partition("=")[0] in (self_link or "")
    assert seen == (1 if "p1" in path else 3)


async def test_a_search_by_post_and_its_includes_may_be_of_parts(filled: httpx.AsyncClient) -> None:
    """Elements are asked of a type, or of all."""
    form = {"_include": "DocumentReference:patient", "_elements": "DocumentReference.description,Patient.gender"}
    bundle = (await filled.post("/fhir/DocumentReference/_search", data=form)).json()
    document, worker = (entry["resource"] for entry in bundle["entry"])
    assert told(document) == (["content", "description", "status"], TAGS)
    assert told(worker) == (["gender"], TAGS)
    only = (
        await filled.get("/fhir/DocumentReference?_include=DocumentReference:patient&_elements=Patient.gender")
    ).json()
    assert told(only["entry"][0]["resource"])[1] == [], "nothing was asked of documents: they are whole"


@pytest.mark.parametrize("path", ["Patient", "Patient/_history", "_history"])
async def test_count_is_the_number_alone(filled: httpx.AsyncClient, path: str) -> None:
    """`_summary=count`."""
    bundle = (await filled.get(f"/fhir/{path}?_summary=count")).json()
    assert (bundle["total"], ids_of(bundle)) == (4 if path == "_history" else 3, [])


async def test_false_is_the_whole(filled: httpx.AsyncClient) -> None:
    """Byte for byte what is kept."""
    whole = (await filled.get("/fhir/Patient/p1")).content
    assert (await filled.get("/fhir/Patient/p1?_summary=false")).content == whole


@pytest.mark.parametrize("path", ["Patient/p1", "Patient", "Patient/_history"])
@pytest.mark.parametrize("query", ["_summary=some", "_elements=nothing", "_elements=name&_summary=true"])
async def test_what_is_not_understood_is_refused(filled: httpx.AsyncClient, path: str, query: str) -> None:
    """400, and which parameter."""
    answer = await filled.get(f"/fhir/{path}?{query}")
    assert answer.status_code == 400
    assert {where for _, where in issues(answer)} <= {"_summary", "_elements"}


async def test_a_part_of_a_binary_is_without_its_bytes(filled: httpx.AsyncClient) -> None:
    """Its summary says what it is."""
    kept = await post(filled, {"resourceType": "Binary", "contentType": "text/plain", "data": "eA=="})
    answer = await filled.get(f"/fhir/Binary/{kept.json()['id']}?_summary=true")
    assert told(answer.json()) == (["contentType"], TAGS)
    assert FOLDERS not in answer.text
