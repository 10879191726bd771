"""$generate-metadata [ITI-106]: https://profiles.ihe.net/ITI/MHD/ITI-106.html"""

import asyncio
import base64
import hashlib
import re
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx
import orjson
import pytest

from fhir_server.r4.resource_types import TYPE_NUMBER
from fhir_server.r4.xml import to_json, to_xml
from fhir_server.records.sharing.conformance import faults
from fhir_server.records.sharing.profiles import profiles
from mappings.generated_metadata import Contained
from terminology import systems
from tests.structured_documents import (
    CDA_FILES,
    INS,
    OPERATION,
    as_json,
    cda,
    fhir_document,
    in_binary,
    parameters,
    replacing,
)
from tests.support import FHIR_JSON, Caller, Resource, Server, codes, found, in_folder, issues, keep, patient, put

Make = Callable[..., Awaitable[Caller]]
PAGE = Path(__file__).parents[3] / "docs" / "document_sharing.md"
FHIR_XML = {"content-type": "application/fhir+xml"}
OTHER_INS = "188102B17295165"
LOCAL = {"system": "urn:oid:2.25.7", "value": "7"}
BOTH = f'<id root="{systems.INS_TEST_OID}" extension="{INS}"/><id root="2.25.7" extension="7"/>'
SCOPES = ("system/DocumentReference.cs", "system/List.cs", "system/Binary.u", "system/Patient.s")


def with_ins(patient_id: str, *more: Resource, value: str = INS, use: str = "official") -> Resource:
    """A worker who has this INS, and other numbers."""
    return patient(patient_id, identifier=[{"system": systems.INS_TEST, "value": value, "use": use}, *more])


@pytest.fixture
async def client(fhir_client: httpx.AsyncClient) -> httpx.AsyncClient:
    """Two workers: one known by an INS, one by a folder number."""
    await keep(fhir_client, with_ins("p"), in_folder("100000101", id="q"))
    return fhir_client


async def generate(
    client: httpx.AsyncClient, resource: Resource | bytes, headers: dict[str, str] = FHIR_JSON
) -> httpx.Response:
    body = resource if isinstance(resource, bytes) else orjson.dumps(resource)
    return await client.post(OPERATION, content=body, headers=headers)


async def generated(client: httpx.AsyncClient, answer: httpx.Response) -> Resource:
    """The DocumentReference that the answer refers to."""
    assert answer.status_code == 200, answer.text
    (parameter,) = answer.json()["parameter"]
    assert parameter["name"] == "DocumentReference"
    return (await client.get(f"/fhir/{parameter['valueReference']['reference']}")).json()


async def content_of(client: httpx.AsyncClient, fiche: Resource) -> httpx.Response:
    return await client.get(f"/fhir/{fiche['content'][0]['attachment']['url']}")


async def test_a_cda_is_kept_as_it_came_with_the_metadata_that_it_holds(client: httpx.AsyncClient) -> None:
    """Its bytes in a Binary under the protection of the DocumentReference, and a lot de soumission of its own."""
    document = cda()
    fiche = await generated(client, await generate(client, parameters(in_binary(document))))
    content = await content_of(client, fiche)
    assert (content.content, content.headers["content-type"]) == (document, "text/xml")
    assert fiche["subject"] == {"reference": "Patient/p"}
    assert fiche["masterIdentifier"]["value"] == "urn:oid:2.25.1"
    part = fiche["content"][0]
    assert part["attachment"]["size"] == len(document)
    assert part["attachment"]["hash"] == base64.b64encode(hashlib.sha1(document).digest()).decode()
    assert part["format"]["code"] == "urn:ihe:iti:xds-sd:pdf:2008"
    assert list(faults(fiche, profiles()[systems.MHD_COMPREHENSIVE_DOCUMENT], "DocumentReference")) == []
    (lot,) = (await client.get("/fhir/List?patient=p&code=submissionset&status=current")).json()["entry"]
    assert lot["resource"]["entry"] == [{"item": {"reference": f"DocumentReference/{fiche['id']}"}}]
    query = (
        f"DocumentReference?patient.identifier={systems.INS_TEST}|{INS}&status=current&security-label=R&type=11488-4"
    )
    assert await found(client, query) == [fiche["id"]]


@pytest.mark.skipif(not CDA_FILES.is_dir(), reason="the CDA files of the ANS are not on this machine")
@pytest.mark.parametrize(
    ("name", "format_code", "facility"),
    [
        ("DOC_NON_STRUCTURE_CDA-R2-N1.xml", "urn:ihe:iti:xds-sd:pdf:2008", "SA07"),
        ("VSM_1.4_2022.01.xml", "urn:asip:ci-sis:vsm:2012", "SA04"),
        ("dmst_n1_skeleton.xml", "urn:ihe:iti:xds-sd:pdf:2008", "SA66"),
    ],
)
async def test_documents_of_the_ans_are_published(
    client: httpx.AsyncClient, name: str, format_code: str, facility: str
) -> None:
    """Byte for byte, for the worker whose INS they name; they meet what MHD and PDSm ask of a document."""
    document = (CDA_FILES / name).read_bytes()
    fiche = await generated(client, await generate(client, in_binary(document)))
    assert (await content_of(client, fiche)).content == document
    assert fiche["content"][0]["format"]["code"] == format_code
    assert fiche["context"]["facilityType"]["coding"][0]["code"] == facility
    for profile in (systems.MHD_COMPREHENSIVE_DOCUMENT, systems.PDSM_DOCUMENT_REFERENCE):
        assert list(faults(fiche, profiles()[profile], "DocumentReference")) == []


def documented() -> list[Resource]:
    """The JSON of the page's chapter on this operation."""
    chapter = PAGE.read_text("utf-8").partition("## Generate Metadata\n")[2].partition("\n## ")[0]
    return [orjson.loads(block) for block in re.findall(r"^```json\n(.*?)^```", chapter, re.MULTILINE | re.DOTALL)]


def holds(whole: Any, part: Any) -> bool:
    """Whether everything of `part` is in `whole`, and lists are as long."""
    if isinstance(part, dict):
        return isinstance(whole, dict) and all(name in whole and holds(whole[name], part[name]) for name in part)
    if isinstance(part, list):
        return isinstance(whole, list) and len(whole) == len(part) and all(map(holds, whole, part))
    return whole == part


async def test_the_example_of_the_documentation_is_answered_as_it_says(fhir_client: httpx.AsyncClient) -> None:
    """docs/document_sharing.md: request, answer, and what the DocumentReference then holds."""
    request, answer, fiche = documented()
    number = {"system": systems.NUMERO_DOSSIER, "value": "100000101"}
    await put(fhir_client, {"resourceType": "Patient", "id": "p", "identifier": [number]})
    answered = await generate(fhir_client, request)
    assert answered.json()["parameter"][0].keys() == answer["parameter"][0].keys()
    assert holds(await generated(fhir_client, answered), fiche)


@pytest.mark.parametrize(
    ("kind", "link"), [("PractitionerRole", "practitioner"), ("RelatedPerson", "patient"), ("RelatedPerson", "next")]
)
async def test_references_in_a_circle_end(client: httpx.AsyncClient, kind: str, link: str) -> None:
    """Of what R4 lets a reference lead to the text of a document says nothing: urn:uuid may be anything."""
    urls = [f"urn:uuid:00000000-0000-4000-8000-{number:012}" for number in range(1200)]
    circle = link != "next"
    name = link if circle else "patient"
    document = fhir_document(author=[{"reference": urls[0]}])
    for number, url in enumerate(urls[:1] if circle else urls):
        to = url if circle else urls[(number + 1) % len(urls)]
        document["entry"].append({"fullUrl": url, "resource": {"resourceType": kind, name: {"reference": to}}})
    fiche = await generated(client, await generate(client, document))
    assert [one["resourceType"] for one in fiche["contained"]] == [kind, "Patient"]


def test_many_authors_are_contained_in_a_time_that_grows_with_them() -> None:
    kept = Contained()
    began = time.process_time()
    for number in range(40_000):
        kept.put(str(number), "Practitioner" if number % 2 else "Device", {})
    assert time.process_time() - began < 5
    assert [one["id"] for one in kept.resources[-2:]] == ["device-20000", "practitioner-20000"]


@pytest.mark.parametrize("form", ["json", "xml"])
@pytest.mark.parametrize("wrapped", [True, False])
async def test_a_fhir_document_is_kept_in_the_form_in_which_it_came(
    client: httpx.AsyncClient, form: str, wrapped: bool
) -> None:
    """As Parameters or by itself, in JSON and XML; a document that came by itself to the byte."""
    document = fhir_document()
    sent = orjson.dumps(parameters(document) if wrapped else document).replace(b"{", b"{ ", 1)
    body, headers = (sent, FHIR_JSON) if form == "json" else (to_xml(sent), FHIR_XML)
    fiche = await generated(client, await generate(client, body, headers))
    assert fiche["subject"] == {"reference": "Patient/q"}
    kept = await content_of(client, fiche)
    assert (
        kept.headers["content-type"] == fiche["content"][0]["attachment"]["contentType"] == f"application/fhir+{form}"
    )
    assert orjson.loads(kept.content if form == "json" else to_json(kept.content)) == document
    assert wrapped or kept.content == body


@pytest.mark.parametrize(("content_type", "made"), [("application/fhir+json", as_json), ("text/xml", None)])
async def test_a_fhir_document_may_come_in_a_binary(
    client: httpx.AsyncClient, content_type: str, made: Callable[[Resource], bytes] | None
) -> None:
    """MHD: a Binary is mostly a CDA, and might be a FHIR document."""
    document = as_json(fhir_document()) if made else to_xml(as_json(fhir_document()))
    fiche = await generated(client, await generate(client, in_binary(document, content_type)))
    assert (await content_of(client, fiche)).content == document
    assert fiche["context"]["facilityType"]["coding"][0]["code"] == "SA66"


@pytest.mark.parametrize(
    ("workers", "document", "code"),
    [
        ([], cda(), "not-found"),
        ([patient("a", "PAT-TROIS", birthDate="1979-03-28")], cda(), "not-found"),
        ([with_ins("a"), with_ins("b")], cda(), "multiple-matches"),
        ([with_ins("a"), patient("b", identifier=[LOCAL])], cda(patient_ids=BOTH), "multiple-matches"),
        ([with_ins("a", LOCAL, value=OTHER_INS)], cda(patient_ids=BOTH), "conflict"),
        ([with_ins("a", {**LOCAL, "value": "8"})], cda(patient_ids=BOTH), "conflict"),
        ([with_ins("a", {"system": systems.INS_TEST, "value": OTHER_INS}, use="old")], cda(), "conflict"),
        ([with_ins("a")], cda(patient_ids='<id nullFlavor="UNK"/>'), "required"),
    ],
    ids=["nobody", "the same name", "two with one number", "two by two numbers", "another INS", "another local number",
         "an old INS", "no number"],
)  # fmt: skip
async def test_a_patient_who_is_not_certain_is_refused_and_nothing_written(
    fhir_client: httpx.AsyncClient, server: Server, workers: list[Resource], document: bytes, code: str
) -> None:
    """Never guessed: by identifiers alone, of one worker, who has no other."""
    await keep(fhir_client, *workers)
    answer = await generate(fhir_client, in_binary(document))
    assert (answer.status_code, issues(answer)) == (422, [(code, "DocumentReference.subject")])
    assert INS not in answer.text
    assert await server.rows("select count(*) from resource where id <> all(%s)", [one["id"] for one in workers]) == [
        (0,)
    ]


async def test_a_number_of_the_worker_that_is_old_does_not_contradict(fhir_client: httpx.AsyncClient) -> None:
    """What counts is what he is called today; a system that only the document uses says nothing against him."""
    await put(fhir_client, with_ins("a", {"system": systems.INS_TEST, "value": OTHER_INS, "use": "old"}))
    numbers = f'<id root="{systems.INS_TEST_OID}" extension="{INS}"/><id root="2.25.99" extension="elsewhere"/>'
    fiche = await generated(fhir_client, await generate(fhir_client, in_binary(cda(patient_ids=numbers))))
    assert fiche["subject"] == {"reference": "Patient/a"}


async def test_the_same_document_again_is_the_document_that_is_there(client: httpx.AsyncClient, server: Server) -> None:
    """One after the other and at once; other bytes under its identifier are refused."""
    first, second = await asyncio.gather(*(generate(client, in_binary(cda())) for _ in range(2)))
    third = await generate(client, in_binary(cda()))
    assert first.json() == second.json() == third.json()
    assert (await generated(client, first))["meta"]["versionId"] == "1"
    assert (await content_of(client, await generated(client, first))).status_code == 200
    other = await generate(client, in_binary(cda() + b"\n"))
    assert (other.status_code, issues(other)) == (422, [("duplicate", "DocumentReference.masterIdentifier")])
    assert (await content_of(client, await generated(client, first))).content == cda()


async def test_a_withdrawn_document_does_not_come_back(client: httpx.AsyncClient) -> None:
    """Its source would believe it published."""
    fiche = await generated(client, await generate(client, in_binary(cda())))
    await put(client, {**fiche, "status": "entered-in-error"})
    assert codes(await generate(client, in_binary(cda()))) == ["duplicate"]


async def test_what_a_document_replaces_is_superseded(client: httpx.AsyncClient, client_with: Make) -> None:
    """In the same transaction, and by who may update; what is not here cannot be replaced."""
    first = await generated(client, await generate(client, in_binary(cda(1))))
    may_not_update = (await client_with(*SCOPES)).http
    assert (await generate(may_not_update, in_binary(cda(2, more=replacing(1))))).status_code == 403
    second = await generated(client, await generate(client, in_binary(cda(2, more=replacing(1)))))
    assert second["relatesTo"][0]["code"] == "replaces"
    assert await found(client, "DocumentReference?status=superseded") == [first["id"]]
    absent = await generate(client, in_binary(cda(3, more=replacing(99))))
    assert (absent.status_code, codes(absent)) == (422, ["not-found"])
    again = await generate(client, in_binary(cda(4, more=replacing(1))))
    assert (again.status_code, codes(again)) == (422, ["business-rule"])
    assert len(await found(client, "DocumentReference")) == 2


@pytest.mark.parametrize("missing", SCOPES)
async def test_the_rights_of_every_part_are_needed(
    client: httpx.AsyncClient, client_with: Make, server: Server, missing: str
) -> None:
    """Also that of finding the worker: the answer tells whether there is one. The refusal is traced."""
    caller = await client_with(*(one for one in SCOPES if one != missing))
    assert (await generate(caller.http, in_binary(cda()))).status_code == 403
    rows = await server.rows("select outcome from access where client_id = %s", caller.client_id)
    assert rows == [(4,)]


async def test_the_worker_is_in_the_trail_and_the_number_is_not(
    client: httpx.AsyncClient, client_with: Make, server: Server
) -> None:
    """Who publishes needs to read nothing; what he did is traced on the worker."""
    caller = await client_with(*SCOPES)
    assert (await generate(caller.http, in_binary(cda()))).status_code == 200
    rows = await server.rows(
        "select interaction, type, patient_id, query from access where client_id = %s", caller.client_id
    )
    assert {(kind, who) for interaction, kind, who, _ in rows if interaction == "create"} == {
        (TYPE_NUMBER["DocumentReference"], "p"),
        (TYPE_NUMBER["List"], "p"),
        (TYPE_NUMBER["Binary"], None),
    }
    assert INS not in str(rows)


@pytest.mark.parametrize(
    ("sent", "status", "code"),
    [
        ({"resourceType": "Parameters"}, 400, "invalid"),
        ({"resourceType": "Parameters", "parameter": [{"name": "other", "resource": patient()}]}, 400, "invalid"),
        ({"resourceType": "Parameters", "parameter": [{"name": "document", "valueString": "x"}]}, 400, "invalid"),
        (patient("x"), 400, "invalid"),
        ({"resourceType": "Binary", "contentType": "text/xml"}, 400, "invalid"),
        (in_binary(b"%PDF-1.7", "application/pdf"), 422, "not-supported"),
        (in_binary(b"%PDF-1.7"), 422, "structure"),
        (in_binary(b"<a/>"), 422, "not-supported"),
        (in_binary(b"{", "application/fhir+json"), 422, "structure"),
        (in_binary(b'{"resourceType":"Patient"}', "application/fhir+json"), 422, "structure"),
        (in_binary(b'<!DOCTYPE a [<!ENTITY e SYSTEM "file:///etc/passwd">]><a>&e;</a>'), 422, "structure"),
        (in_binary(cda().decode().replace("Compte", "Comptes rendus à part").encode("latin-1")), 422, "structure"),
        (in_binary(cda().replace(b'<id root="2.25.1"/>', b'<id nullFlavor="UNK"/>')), 422, "required"),
        (in_binary(cda().replace(b'<code code="11488-4"', b'<code nullFlavor="UNK"')), 422, "required"),
        (in_binary(cda().replace(b"20260314101500+0100", b"soon")), 422, "required"),
        (in_binary(cda().replace(b"20260314101500+0100", b"20261399")), 422, "value"),
        (in_binary(cda(more="<recordTarget><patientRole/></recordTarget>")), 422, "required"),
        ({**fhir_document(), "type": "collection"}, 422, "value"),
        ({**fhir_document(), "entry": fhir_document()["entry"][1:]}, 422, "invariant"),
        (fhir_document(status="entered-in-error"), 422, "business-rule"),
        (fhir_document(subject={"reference": "Patient/q"}), 422, "required"),
        (fhir_document(subject={"reference": "Practitioner/d"}), 422, "value"),
        (fhir_document(status="nonsense"), 422, "code-invalid"),
    ],
)  # fmt: skip
async def test_what_is_no_structured_document_is_refused(
    client: httpx.AsyncClient, sent: Resource, status: int, code: str
) -> None:
    """With its place, and nothing is written."""
    answer = await generate(client, sent)
    assert (answer.status_code, codes(answer)) == (status, [code]), answer.text
    assert all(one[1] for one in issues(answer))
    assert await found(client, "DocumentReference") == []


async def test_a_value_that_is_too_large_for_xml_is_refused_as_such(client: httpx.AsyncClient) -> None:
    """libxml2 takes ten million bytes of one text."""
    body = f'<nonXMLBody><text mediaType="application/pdf">{"A" * 10_100_000}</text></nonXMLBody>'
    answer = await generate(client, in_binary(cda(body=body)))
    assert (answer.status_code, codes(answer)) == (422, ["too-costly"])
