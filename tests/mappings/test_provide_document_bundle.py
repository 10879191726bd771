"""ITI-65: what leaves is whole, speaks national codes only, and is the same when sent again."""

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from mappings import organization, practitioner
from mappings.patient_fr_core import to_patient
from mappings.provide_document_bundle import build
from mappings.scanned_document import document_reference
from terminology import systems
from tests.mappings.test_patient_fr_core import ANNE
from tests.mappings.test_scanned_document import AUDIOGRAM, CONTEXT, UNCODED

IsR4 = Callable[[dict[str, Any]], None]

SERVICE = organization.service("spst", "Service Exemple", siret_number="99999999900025")
DOCTOR = practitioner.practitioner("dr1", "Dr DURAND Claire", rpps="10101201234")
PATIENT = to_patient(ANNE, patient_id="p1", organization_id="c07", practitioner_role_id="r1")
FICHE = document_reference(CONTEXT, AUDIOGRAM)


def bundle(**changes: Any) -> dict[str, Any]:
    arguments: dict[str, Any] = {
        "document_reference": FICHE,
        "patient": PATIENT,
        "content_base64": "JVBERi0xLjc=",
        "binary_id": "b1",
        "submission_oid": "urn:oid:2.25.42",
        "source_id": "urn:oid:1.2.250.1.999.1",
        "now": datetime(2026, 10, 15, 6, 0, tzinfo=UTC),
        "custodian": SERVICE,
        "practitioner": DOCTOR,
    } | changes
    return build(**arguments)


def by_type(built: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {entry["resource"]["resourceType"]: entry for entry in built["entry"]}


def literal_references(part: Any) -> set[str]:
    if isinstance(part, dict):
        found = {part["reference"]} if isinstance(part.get("reference"), str) else set()
        return found.union(*(literal_references(value) for value in part.values()))
    return set().union(*(literal_references(item) for item in part)) if isinstance(part, list) else set()


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"practitioner": None},
        {"content_base64": None},
        {"replaces_oid": "urn:oid:2.25.41"},
        {"document_reference": document_reference(replace(CONTEXT, doctor_practitioner_role=None), AUDIOGRAM)},
        {"document_reference": document_reference(CONTEXT, replace(AUDIOGRAM, replaces="d0", transforms="d9"))},
    ],
)
def test_the_bundle_is_r4_and_refers_to_nothing_outside(changes: dict[str, Any], is_r4: IsR4) -> None:
    """Every literal reference is an entry of the Bundle or a contained resource."""
    built = bundle(**changes)
    is_r4(built)
    for entry in built["entry"]:
        if entry["resource"]["resourceType"] != "Binary":
            is_r4(entry["resource"])
    inside = {entry.get("fullUrl") for entry in built["entry"]}
    for entry in built["entry"]:
        contained = {f"#{one['id']}" for one in entry["resource"].get("contained", [])}
        assert literal_references(entry["resource"]) <= inside | contained


def test_entries_are_those_that_mhd_allows_in_its_order() -> None:
    """SubmissionSet, DocumentReference, Binary, Patient; conditional creates and one PUT."""
    built = bundle()
    assert [(e["resource"]["resourceType"], e["request"]["method"]) for e in built["entry"]] == [
        ("List", "POST"),
        ("DocumentReference", "POST"),
        ("Binary", "PUT"),
        ("Patient", "POST"),
    ]
    entries = by_type(built)
    assert entries["List"]["request"]["ifNoneExist"] == "identifier=urn:ietf:rfc:3986%7Curn:oid:2.25.42"
    assert entries["DocumentReference"]["request"]["ifNoneExist"] == (
        "identifier=urn:ietf:rfc:3986%7Curn:oid:2.25.123456789"
    )
    assert entries["Binary"]["request"]["url"] == "Binary/b1"
    assert entries["DocumentReference"]["resource"]["content"][0]["attachment"]["url"] == "Binary/b1"


def test_the_patient_is_known_by_ins_or_by_folder_number() -> None:
    """The INS is there only when qualified; employer, doctor and last visit stay here."""
    entry = by_type(bundle())["Patient"]
    assert entry["request"]["ifNoneExist"] == "identifier=urn:oid:1.2.250.1.213.1.4.8%7C279032901921835"
    assert {"contact", "generalPractitioner", "managingOrganization", "id"}.isdisjoint(entry["resource"])
    unqualified = to_patient(
        replace(ANNE, status="RECUP"), patient_id="p1", organization_id="c", practitioner_role_id=None
    )
    entry = by_type(bundle(patient=unqualified))["Patient"]
    assert entry["request"]["ifNoneExist"].endswith("/numero-dossier%7C000123456")
    with pytest.raises(ValueError, match="without INS"):
        bundle(patient={"resourceType": "Patient", "id": "p"})


def test_no_code_or_extension_of_ours_leaves() -> None:
    """Receivers get national codes; only the folder number keeps our system."""
    text = json.dumps(bundle())
    assert f"{systems.OWN}/CodeSystem" not in text
    assert f"{systems.OWN}/StructureDefinition" not in text
    fiche = by_type(bundle())["DocumentReference"]["resource"]
    assert [one["code"] for one in fiche["type"]["coding"]] == ["75492-9"]
    assert [one["code"] for one in fiche["category"][0]["coding"]] == ["10"]


def test_the_submission_set_is_pdsm() -> None:
    """Both extensions, uniqueId as oid, entryUUID as uuid, contained source with its organisation."""
    submission = by_type(bundle())["List"]["resource"]
    assert [extension["url"] for extension in submission["extension"]] == [
        systems.MHD_DESIGNATION_TYPE,
        systems.MHD_SOURCE_ID,
    ]
    unique, entry = submission["identifier"]
    assert unique["value"].startswith("urn:oid:")
    assert entry["value"].startswith("urn:uuid:")
    assert submission["source"]["reference"] == "#author"
    assert {one["id"] for one in submission["contained"]} == {"author", "custodian", "practitioner"}


def test_a_replacement_supersedes_the_former_one_in_the_same_transaction() -> None:
    """MHD: relatesTo replaces and a PATCH of the former status."""
    built = bundle(replaces_oid="urn:oid:2.25.41")
    entries = by_type(built)
    (relation,) = entries["DocumentReference"]["resource"]["relatesTo"]
    assert (relation["code"], relation["target"]["identifier"]["value"]) == ("replaces", "urn:oid:2.25.41")
    assert entries["Parameters"]["request"] == {
        "method": "PATCH",
        "url": "DocumentReference?identifier=urn:ietf:rfc:3986%7Curn:oid:2.25.41",
    }


def test_the_same_document_makes_the_same_bundle() -> None:
    """A retry is the same bytes; another submission has other urns."""
    assert bundle() == bundle()
    assert bundle()["entry"][0]["fullUrl"] != bundle(submission_oid="urn:oid:2.25.43")["entry"][0]["fullUrl"]


def test_a_document_without_national_type_cannot_be_published() -> None:
    """To be qualified, personal notes, whole folders: they are local only."""
    with pytest.raises(ValueError, match="national type"):
        bundle(document_reference=document_reference(CONTEXT, UNCODED))


def test_what_is_stored_is_not_touched() -> None:
    """The records that we hold stay as they are."""
    before = json.dumps([FICHE, PATIENT, SERVICE, DOCTOR])
    bundle(replaces_oid="urn:oid:2.25.41")
    assert json.dumps([FICHE, PATIENT, SERVICE, DOCTOR]) == before
