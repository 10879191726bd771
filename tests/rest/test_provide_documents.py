"""Provide Document Bundle [ITI-65], received: https://profiles.ihe.net/ITI/MHD/ITI-65.html, and PDSm 3.1.1"""

import copy
from collections.abc import Awaitable, Callable
from typing import Any

import httpx
import orjson
import pytest

from terminology import systems
from tests import sharing
from tests.sharing import BINARY, DOCUMENT, LIST, bundle, document, posted, provide, replaces, submission_set
from tests.support import Caller, Resource, Server, codes, found, issues, keep, patient, post

Make = Callable[..., Awaitable[Caller]]
Change = Callable[[Resource], Any]
MHD = systems.MHD + "/StructureDefinition/IHE.MHD."
MINIMAL = MHD + "Minimal.ProvideBundle"
D, S = "Bundle.entry[1].resource", "Bundle.entry[0].resource"
OTHER = "urn:uuid:0a1b2c3d-0000-4000-8000-000000000009"


@pytest.fixture
async def client(fhir_client: httpx.AsyncClient) -> httpx.AsyncClient:
    """With two workers in it."""
    await keep(fhir_client, patient("p"), patient("q"))
    return fhir_client


def ids(answer: httpx.Response) -> list[str]:
    """Of what was written, in the order of the entries."""
    assert answer.status_code == 200, answer.text
    return [one["response"]["location"].split("/")[-3] for one in answer.json()["entry"]]


def of(number: int) -> Callable[[Resource], Resource]:
    return lambda whole: whole["entry"][number]["resource"]


def without(*path: str | int) -> Change:
    """The DocumentReference without what stands there."""

    def change(whole: Resource) -> None:
        at: Any = of(1)(whole)
        for step in path[:-1]:
            at = at[step]
        del at[path[-1]]

    return change


def put(number: int, **parts: Any) -> Change:
    return lambda whole: of(number)(whole).update(parts)


def attach(**parts: Any) -> Change:
    return lambda whole: of(1)(whole)["content"][0]["attachment"].update(parts)


def add(resource: Resource, full_url: str = OTHER) -> Change:
    return lambda whole: whole["entry"].append(posted(resource, full_url))


def without_source_id(whole: Resource) -> None:
    of(0)(whole)["extension"].pop()


def both(*changes: Change) -> Change:
    return lambda whole: [change(whole) for change in changes]


SNOMED = sharing.concept("http://snomed.info/sct", "82242000")
HERSELF = {"reference": "Patient/p"}
SELF = {"resourceType": "Patient", "id": "source-patient"}
TWO_RELATIONS = [{"code": code, "target": {"reference": "DocumentReference/x"}} for code in ("replaces", "signs")]
NOT_LISTED = {"entry": [{"item": {"reference": "DocumentReference/there"}}]}


async def test_a_document_is_taken_with_its_lot_and_its_bytes(client: httpx.AsyncClient) -> None:
    """One answer for each entry, in order; the links among them are real, and the Binary is under its document."""
    answer = await post(client, provide(1))
    lot, reference, content = ids(answer)
    assert [one["response"]["status"] for one in answer.json()["entry"]] == ["201 Created"] * 3
    kept = (await client.get(f"/fhir/DocumentReference/{reference}")).json()
    assert kept["content"][0]["attachment"]["url"] == f"Binary/{content}"
    assert (await client.get(f"/fhir/List/{lot}")).json()["entry"][0]["item"][
        "reference"
    ] == f"DocumentReference/{reference}"
    shown = await client.get(f"/fhir/Binary/{content}", headers={"accept": "application/fhir+json"})
    assert shown.json()["securityContext"] == {"reference": f"DocumentReference/{reference}"}


@pytest.mark.parametrize(
    ("change", "code", "place", "constraint"),
    [
        (without("masterIdentifier"), "required", f"{D}.masterIdentifier", "masterIdentifier"),
        (without("custodian"), "required", f"{D}.custodian", "pdsm-comprehensive-document-reference"),
        (without("context", "period"), "required", f"{D}.context.period", "period"),
        (without("content", 0, "attachment", "hash"), "required", f"{D}.content[0].attachment.hash", "hash"),
        (put(1, docStatus="final"), "structure", f"{D}.docStatus", "docStatus"),
        (put(1, status="entered-in-error"), "code-invalid", f"{D}.status", "current or superseded"),
        (put(1, type=SNOMED), "code-invalid", f"{D}.type", "constr-bind-type"),
        (put(1, category=[SNOMED]), "code-invalid", f"{D}.category[0]", "constr-bind-category"),
        (
            lambda whole: of(1)(whole)["context"].update(facilityType=SNOMED),
            "code-invalid", f"{D}.context.facilityType", "constr-bind-ProducteurDoc",
        ),
        (put(1, author=[HERSELF], contained=[SELF]), "structure", f"{D}.author[0].reference", "contained"),
        (attach(size=3), "value", f"{D}.content[0].attachment.size", "XDSRepositoryMetadataError"),
        (attach(hash="AAAAAAAAAAAAAAAAAAAAAAAAAAA="), "value", f"{D}.content[0].attachment.hash", "SHA-1"),
        (attach(contentType="text/plain"), "value", f"{D}.content[0].attachment.contentType", "contentType"),
        (attach(url=OTHER), "not-found", f"{D}.content[0].attachment.url", "XDSMissingDocument"),
        (attach(url="Binary/nowhere"), "not-found", f"{D}.content[0].attachment.url", "XDSMissingDocument"),
        (attach(url="http://elsewhere.test/1"), "value", f"{D}.content[0].attachment.url", "constr-bind-attachmenturl"),
        (put(1, subject={"reference": "Patient/q"}), "business-rule", f"{D}.subject", "XDSPatientIdDoesNotMatch"),
        (put(0, status="retired"), "code-invalid", f"{S}.status", "pdsm-submissionset-comprehensive"),
        (without_source_id, "required", f"{S}.extension", "sourceId"),
        (put(0, **NOT_LISTED), "business-rule", "Bundle.entry[1]", "SubmissionSet"),
        (
            put(0, identifier=[sharing.identified(OTHER, "uniqueId")]),
            "value", f"{S}.identifier[0]", "mhd-startswithoid",
        ),
        (lambda whole: whole["entry"].pop(0), "structure", "Bundle.entry", "submissionset"),
        (add(submission_set(7)), "structure", "Bundle.entry", "submissionset"),
        (add(document(1)), "duplicate", "Bundle.entry[3].resource.masterIdentifier", "DuplicateUniqueId"),
        (add({"resourceType": "Organization", "name": "x"}), "not-supported", "Bundle.entry[3]", "no entry of ITI-65"),
        (add({"resourceType": "Bundle", "type": "collection"}), "not-supported", "Bundle.entry[3]", "FHIRDocument"),
        (put(1, relatesTo=TWO_RELATIONS), "structure", f"{D}.relatesTo", "constr-bind-relatesTo"),
        (put(1, **replaces({"reference": "DocumentReference/none"})), "not-found", f"{D}.relatesTo", "not here"),
    ],
)  # fmt: skip
async def test_what_breaks_a_constraint_is_refused_with_its_name_and_place(
    client: httpx.AsyncClient, change: Change, code: str, place: str, constraint: str
) -> None:
    """And nothing is written."""
    whole = copy.deepcopy(provide(1))
    change(whole)
    answer = await post(client, whole)
    assert answer.status_code == 422, answer.text
    told = [
        (issue["code"], issue["expression"][0])
        for issue in answer.json()["issue"]
        if constraint in issue["diagnostics"]
    ]
    assert (code, place) in told, answer.text
    assert await found(client, "DocumentReference") == []


async def test_every_breach_is_told_at_once(client: httpx.AsyncClient) -> None:
    """The source mends its Bundle in one round."""
    whole = copy.deepcopy(provide(1))
    both(without("custodian"), attach(size=3), put(0, status="retired"))(whole)
    assert len(issues(await post(client, whole))) == 3


async def test_a_bundle_without_a_profile_of_iti_65_is_a_transaction_like_another(client: httpx.AsyncClient) -> None:
    """MHD is asked of those who say that they speak it."""
    whole = copy.deepcopy(provide(1))
    both(without("custodian"), attach(size=3))(whole)
    del whole["meta"]
    assert (await post(client, whole)).status_code == 200


async def test_minimal_metadata_with_a_patient_and_a_recipient(fhir_client: httpx.AsyncClient) -> None:
    """As in MHD's own example of a push: accepted, and its source is told what this server does not do."""
    recipient = {"url": systems.MHD_INTENDED_RECIPIENT, "valueReference": {"reference": "#to"}}
    source_id = {"url": systems.MHD_SOURCE_ID, "valueIdentifier": {"value": sharing.SOURCE}}
    lot = submission_set(1, OTHER, extension=[source_id, recipient])
    lot["contained"] = [{"resourceType": "Practitioner", "id": "to", "telecom": [{"system": "email", "value": "x@y"}]}]
    del lot["meta"], lot["source"]
    fiche: Resource = {
        "resourceType": "DocumentReference",
        "masterIdentifier": {"system": systems.URI, "value": "urn:oid:2.25.1"},
        "status": "current",
        "subject": {"reference": OTHER},
        "content": [{"attachment": {"contentType": "application/pdf", "url": BINARY}}],
    }
    parts = [posted(lot, LIST), posted(fiche, DOCUMENT), posted(sharing.binary(), BINARY), posted(patient(), OTHER)]
    answer = await post(fhir_client, bundle(*parts, profile=MINIMAL))
    assert answer.status_code == 200, answer.text
    told = [one["response"].get("outcome", {}).get("issue", [{}])[0] for one in answer.json()["entry"]]
    assert told[0]["diagnostics"].startswith("UnavailableRecipient")
    assert told[1]["expression"] == [f"{D}.masterIdentifier.type"]
    assert told[2:] == [{}, {}]


async def test_uncontained_references_are_for_the_option_of_that_name(client: httpx.AsyncClient) -> None:
    """The same documents: accepted as UnContained Comprehensive, refused as Comprehensive."""
    await keep(client, {"resourceType": "Practitioner", "id": "d"})
    fiche = document(1, author=[{"reference": "Practitioner/d"}], contained=[SELF])
    lot = submission_set(1, source={"reference": "Practitioner/d"})
    del fiche["meta"], lot["meta"], lot["contained"]
    parts = [posted(lot, LIST), posted(fiche, DOCUMENT), posted(sharing.binary(), BINARY)]
    refused = await post(client, bundle(*parts, profile=MHD + "Comprehensive.ProvideBundle"))
    assert sorted(issues(refused)) == [
        ("structure", f"{S}.source.reference"),
        ("structure", f"{D}.author[0].reference"),
    ]
    taken = await post(client, bundle(*parts, profile=MHD + "UnContained.Comprehensive.ProvideBundle"))
    assert taken.status_code == 200, taken.text


async def test_an_identifier_is_given_once(client: httpx.AsyncClient) -> None:
    """The same Bundle again is refused; with the conditions of the source it finds what is there."""
    assert (await post(client, provide(1))).status_code == 200
    again = await post(client, provide(1))
    assert (again.status_code, sorted(issues(again))) == (422, [("duplicate", S), ("duplicate", D)])
    assert len(await found(client, "Binary")) == 1
    whole = provide(1)
    for entry, number in zip(whole["entry"], ("91", "1"), strict=False):
        entry["request"]["ifNoneExist"] = f"identifier={systems.URI}|urn:oid:2.25.{number}"
    answer = await post(client, whole)
    assert [one["response"]["status"][:3] for one in answer.json()["entry"]] == ["200", "200", "201"]


@pytest.mark.parametrize("by", ["reference", "identifier", "patch"])
async def test_what_is_replaced_becomes_superseded_with_it(client: httpx.AsyncClient, by: str) -> None:
    """Whether the source says so with a PATCH entry or not; the answer has the entries of the request only."""
    _, old, _ = ids(await post(client, provide(1)))
    target = {"reference": f"DocumentReference/{old}"}
    if by == "identifier":
        target = {"identifier": {"system": systems.URI, "value": "urn:oid:2.25.1"}}
    whole = provide(2, **replaces(target))
    if by == "patch":
        parts = [
            {"name": "type", "valueCode": "replace"},
            {"name": "path", "valueString": "DocumentReference.status"},
            {"name": "value", "valueCode": "superseded"},
        ]
        patching = {"resourceType": "Parameters", "parameter": [{"name": "operation", "part": parts}]}
        whole["entry"].append({"resource": patching, "request": {"method": "PATCH", "url": f"DocumentReference/{old}"}})
    answer = await post(client, whole)
    assert len(ids(answer)) == len(whole["entry"])
    assert await found(client, "DocumentReference?patient=p&status=superseded") == [old]
    assert await found(client, "DocumentReference?patient=p&status=current") == [ids(answer)[1]]


async def test_only_the_current_document_of_the_same_person_is_replaced(client: httpx.AsyncClient) -> None:
    """A source cannot hide the document of somebody else, nor one that has its successor already."""
    _, old, _ = ids(await post(client, provide(1)))
    target = replaces({"reference": f"DocumentReference/{old}"})
    other = await post(client, provide(2, "Patient/q", **target))
    assert (other.status_code, issues(other)) == (422, [("business-rule", f"{D}.relatesTo")])
    assert "XDSPatientIdDoesNotMatch" in other.text
    assert (await client.get(f"/fhir/DocumentReference/{old}")).json()["status"] == "current"
    assert (await post(client, provide(3, **target))).status_code == 200
    late = await post(client, provide(4, **target))
    assert (late.status_code, codes(late)) == (422, ["business-rule"])
    assert "XDSRegistryDeprecatedDocumentError" in late.text


async def test_a_large_document_may_be_put_before(client: httpx.AsyncClient, client_with: Make) -> None:
    """As raw bytes; what is said of them is compared with what is here, for one who may read it."""
    await client.put("/fhir/Binary/b", content=b"%PDF other", headers={"content-type": "application/pdf"})
    whole = bundle(*provide(1)["entry"][:2])
    attach(url="Binary/b")(whole)
    few = await client_with("system/List.cs", "system/DocumentReference.cs")
    refused = await post(client, whole)
    assert issues(refused) == [("value", f"{D}.content[0].attachment.{name}") for name in ("size", "hash")]
    assert (await post(few.http, whole)).status_code == 200


async def test_who_replaces_may_update(client: httpx.AsyncClient, client_with: Make) -> None:
    """The rights of a source: create and search on what it provides, update on what it replaces."""
    source = await client_with("system/List.cs", "system/DocumentReference.cs", "system/Binary.c")
    _, old, _ = ids(await post(source.http, provide(1)))
    whole = provide(2, **replaces({"reference": f"DocumentReference/{old}"}))
    assert (await post(source.http, whole)).status_code == 403
    may = await client_with("system/List.cs", "system/DocumentReference.cus", "system/Binary.c")
    assert (await post(may.http, whole)).status_code == 200


async def test_the_reading_of_the_bytes_is_traced_with_the_worker(client: httpx.AsyncClient, server: Server) -> None:
    """The source said nothing of protection; the Binary is under its document all the same."""
    _, _, content = ids(await post(client, provide(1)))
    await client.get(f"/fhir/Binary/{content}")
    assert await server.rows(
        "select patient_id from access where interaction = 'read' and resource_id = %s", content
    ) == [("p",)]


# --- Simplified Publish [ITI-105]


def simplified(number: int = 1, **more: Any) -> Resource:
    fiche = document(number, **more)
    fiche["meta"]["profile"] = [systems.PDSM_SIMPLIFIED_PUBLISH]
    part = fiche["content"][0]["attachment"]
    del part["url"]
    part["data"] = sharing.binary()["data"]
    return fiche


async def test_a_document_published_alone_gets_its_binary_and_its_lot(client: httpx.AsyncClient) -> None:
    """201 with the DocumentReference as it was created: url, size and hash in the place of data."""
    answer = await post(client, simplified())
    assert answer.status_code == 201, answer.text
    kept = answer.json()
    assert kept["content"][0]["attachment"] == sharing.attachment(url=kept["content"][0]["attachment"]["url"])
    assert kept["meta"]["profile"] == [systems.PDSM_DOCUMENT_REFERENCE]
    assert (await client.get(f"/fhir/{kept['content'][0]['attachment']['url']}")).content == sharing.PDF
    (lot,) = (await client.get("/fhir/List?patient=p&code=submissionset")).json()["entry"]
    assert lot["resource"]["entry"] == [{"item": {"reference": f"DocumentReference/{kept['id']}"}}]
    again = await post(client, simplified())
    assert (again.status_code, codes(again)) == (422, ["duplicate"])
    successor = await post(client, simplified(2, **replaces({"reference": f"DocumentReference/{kept['id']}"})))
    assert successor.status_code == 201
    assert await found(client, "DocumentReference?status=superseded") == [kept["id"]]


@pytest.mark.parametrize(
    ("change", "code", "place"),
    [
        (lambda d: d["content"][0]["attachment"].update(size=1), "value", "content[0].attachment.size"),
        (lambda d: d["content"][0]["attachment"].update(url="Binary/x"), "structure", "content[0].attachment.url"),
        (lambda d: d["content"][0]["attachment"].pop("data"), "required", "content[0].attachment.data"),
        (lambda d: d.pop("subject"), "required", "subject"),
        (lambda d: d.update(status="superseded"), "code-invalid", "status"),
        (
            lambda d: d.update(identifier=[sharing.identified(OTHER, "entryUUID")]),
            "structure", "identifier[0]",
        ),
    ],
)  # fmt: skip
async def test_a_simplified_document_is_checked_too(
    client: httpx.AsyncClient, change: Change, code: str, place: str
) -> None:
    """Against its profile and against its bytes."""
    fiche = simplified()
    change(fiche)
    answer = await post(client, fiche)
    assert (answer.status_code, issues(answer)) == (422, [(code, f"DocumentReference.{place}")])
    assert await found(client, "DocumentReference") == []


# --- Update of metadata (PDSm, flux 03)


async def test_a_patch_changes_status_labels_and_archiving_only(client: httpx.AsyncClient) -> None:
    """By the business identifier; anything else is refused with 405, and the list of what may be changed."""
    assert (await post(client, provide(1))).status_code == 200
    url = f"/fhir/DocumentReference?identifier={systems.URI}|urn:oid:2.25.1"
    archived = {"url": systems.PDSM_IS_ARCHIVED, "valueBoolean": True}
    hidden = [sharing.concept(systems.TRE_A07, "MASQUE_PS")]
    allowed = [
        {"op": "replace", "path": "/status", "value": "entered-in-error"},
        {"op": "replace", "path": "/securityLabel", "value": hidden},
        {"op": "add", "path": "/extension", "value": [archived]},
    ]
    headers = {"content-type": "application/json-patch+json"}
    done = await client.patch(url, content=orjson.dumps(allowed), headers=headers)
    assert (done.status_code, done.json()["extension"]) == (200, [archived])
    assert len(await found(client, "DocumentReference?isArchived=true&security-label=MASQUE_PS")) == 1
    others = [
        {"op": "replace", "path": "/description", "value": "x"},
        {"op": "replace", "path": "/subject/reference", "value": "Patient/q"},
        {"op": "add", "path": "/extension/-", "value": {"url": "urn:test:other", "valueString": "x"}},
    ]
    refused = await client.patch(url, content=orjson.dumps([{**others[0], "op": "add"}, *others[1:]]), headers=headers)
    places = [f"DocumentReference.{name}" for name in ("description", "extension", "subject")]
    assert (refused.status_code, issues(refused)) == (405, [("not-supported", place) for place in places])
    assert "status, securityLabel, extension[isArchived]" in refused.text
