"""The XML form over HTTP: https://hl7.org/fhir/R4/http.html#mime-type - what r4/xml.py does is tested beside it."""

import httpx
import pytest

from fhir_server.r4.xml import to_json
from tests.support import patient

XML = "application/fhir+xml"
WORKER = (
    b'<Patient xmlns="http://hl7.org/fhir"><id value="p"/><name><family value="TESTEUR"/></name>'
    b'<multipleBirthInteger value="2"/></Patient>'
)


@pytest.fixture
async def filled(fhir_client: httpx.AsyncClient) -> httpx.AsyncClient:
    """A worker who came as XML."""
    answer = await fhir_client.put("/fhir/Patient/p", content=WORKER, headers={"content-type": XML, "accept": XML})
    assert answer.status_code == 201, answer.text
    assert answer.headers["content-type"].startswith(XML)
    return fhir_client


async def test_what_came_as_xml_is_read_in_either_form(filled: httpx.AsyncClient) -> None:
    """The same resource, an integer still an integer."""
    as_json = (await filled.get("/fhir/Patient/p")).json()
    as_xml = await filled.get("/fhir/Patient/p", headers={"accept": XML})
    assert as_json["multipleBirthInteger"] == 2
    assert to_json(as_xml.content) == (await filled.get("/fhir/Patient/p")).content


@pytest.mark.parametrize(
    "path",
    ["Patient/p", "Patient/p/_history/1", "Patient/p/_history", "Patient?family=TESTEUR", "metadata", "AuditEvent"],
)
@pytest.mark.parametrize("how", ["header", "parameter", "encoded"])
async def test_every_answer_can_be_xml(filled: httpx.AsyncClient, path: str, how: str) -> None:
    """By Accept or by _format, and it is FHIR."""
    format_ = {"parameter": "xml", "encoded": "application/fhir%2Bxml"}.get(how)
    url = f"/fhir/{path}{'&' if '?' in path else '?'}_format={format_}" if format_ else f"/fhir/{path}"
    answer = await filled.get(url, headers={} if format_ else {"accept": XML})
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith(XML)
    assert to_json(answer.content).startswith(b'{"resourceType":')


async def test_a_form_that_is_posted_names_its_format(filled: httpx.AsyncClient) -> None:
    """POST _search with _format=xml among its parameters."""
    answer = await filled.post("/fhir/Patient/_search", data={"family": "TESTEUR", "_format": "xml"})
    assert answer.headers["content-type"].startswith(XML)


async def test_failures_are_told_in_the_form_that_was_wanted(filled: httpx.AsyncClient) -> None:
    """An OperationOutcome as XML, with its place."""
    answer = await filled.get("/fhir/Patient?nonsense=1", headers={"accept": XML})
    assert answer.status_code == 400
    assert b'<expression value="nonsense"/>' in answer.content


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<Patient",
        b"<Patient/>",
        b'<Nonsense xmlns="http://hl7.org/fhir"/>',
        b'<!DOCTYPE x [<!ENTITY e SYSTEM "file:///etc/hostname">]><Patient xmlns="http://hl7.org/fhir"/>',
        b'<Patient xmlns="http://hl7.org/fhir"><nonsense value="1"/></Patient>',
    ],
)
async def test_xml_that_is_not_fhir_is_refused(fhir_client: httpx.AsyncClient, body: bytes) -> None:
    """400 or 422 with an OperationOutcome; nothing is kept."""
    answer = await fhir_client.post("/fhir/Patient", content=body, headers={"content-type": XML})
    assert answer.status_code in (400, 422)
    assert answer.json()["resourceType"] == "OperationOutcome"
    assert (await fhir_client.get("/fhir/Patient?_total=accurate")).json()["total"] == 0


async def test_a_transaction_comes_and_goes_as_xml(fhir_client: httpx.AsyncClient) -> None:
    """The whole Bundle, resources inside."""
    bundle = (
        b'<Bundle xmlns="http://hl7.org/fhir"><type value="transaction"/><entry><resource>'
        b'<Patient><name><family value="LOT"/></name></Patient></resource>'
        b'<request><method value="POST"/><url value="Patient"/></request></entry></Bundle>'
    )
    answer = await fhir_client.post("/fhir", content=bundle, headers={"content-type": XML, "accept": XML})
    assert answer.status_code == 200
    assert b'<status value="201 Created"/>' in answer.content
    assert b'<family value="LOT"/>' in answer.content


async def test_a_binary_can_be_asked_for_as_a_resource_in_xml(fhir_client: httpx.AsyncClient) -> None:
    """With its content as base64; asked for in any other way it is the bytes."""
    made = await fhir_client.post("/fhir/Binary", content=b"<note/>", headers={"content-type": "application/xml"})
    name = made.json()["id"]
    assert (await fhir_client.get(f"/fhir/Binary/{name}", headers={"accept": "application/xml"})).content == b"<note/>"
    as_resource = await fhir_client.get(f"/fhir/Binary/{name}", headers={"accept": XML})
    assert b'<data value="PG5vdGUvPg=="/>' in as_resource.content


async def test_the_json_form_stays_the_usual_one(fhir_client: httpx.AsyncClient) -> None:
    """For whoever says nothing, or anything."""
    await fhir_client.put("/fhir/Patient/p", json=patient("p"), headers={"content-type": "application/fhir+json"})
    for accept in (None, "*/*", "application/*"):
        headers = {"accept": accept} if accept else {}
        answer = await fhir_client.get("/fhir/Patient/p", headers=headers)
        assert answer.headers["content-type"].startswith("application/fhir+json")
