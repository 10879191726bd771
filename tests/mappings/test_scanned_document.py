"""One attached folder becomes documents, a classeur and a chain of proof."""

import base64
import hashlib
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest

from mappings.nomenclature import kind_of
from mappings.scan_lot_list import scan_lot_list
from mappings.scanned_document import (
    FolderContext,
    ScannedDocument,
    records_of_folder,
    source_patient_info,
    superseded,
)
from terminology import systems

IsR4 = Callable[[dict[str, Any]], None]

PARIS = timezone(timedelta(hours=2))
BYTES = b"%PDF-1.7 fictif"

AUDIOGRAM = ScannedDocument(
    document_reference_id="d1",
    binary_id="b1",
    document_id="000123456_0001",
    unique_oid="urn:oid:2.25.123456789",
    kind=kind_of("DMST-AUDIO"),
    dated="2019-05",
    scanned_at=datetime(2026, 10, 14, 10, 30, tzinfo=PARIS),
    created=datetime(2026, 10, 14, 10, 31, tzinfo=PARIS),
    media_type="application/pdf",
    size=len(BYTES),
    sha1=hashlib.sha1(BYTES).digest(),
    sha256=hashlib.sha256(BYTES).hexdigest(),
    pages=2,
    title="Audiogramme",
)
UNCODED = replace(
    AUDIOGRAM,
    document_reference_id="d2",
    binary_id="b2",
    document_id="000123456_0002",
    unique_oid="urn:oid:2.25.123456790",
    kind=kind_of(None),
    dated=None,
    scanned_at=datetime(2026, 10, 14, 10, 35, tzinfo=PARIS),
    title="Document à qualifier",
)
PATIENT = {
    "resourceType": "Patient",
    "id": "p1",
    "meta": {"profile": [systems.FR_CORE_PATIENT_INS], "versionId": "3"},
    "identifier": [{"system": systems.INS_NIR, "value": "279032901921835", "use": "official"}],
    "name": [{"use": "official", "family": "LE GOFF", "given": ["ANNE-MARIE"]}],
    "gender": "female",
    "birthDate": "1979-03-14",
    "contact": [{"organization": {"display": "Ateliers Exemple"}}],
}
ROLE = {
    "resourceType": "PractitionerRole",
    "id": "r1",
    "meta": {"versionId": "1"},
    "practitioner": {"reference": "Practitioner/dr1"},
    "organization": {"reference": "Organization/spst"},
    "code": [{"coding": [{"system": systems.TRE_A02, "code": "G15_10/SM25"}]}],
}
CONTEXT = FolderContext(
    lot="LOT_20261015_C07_0123",
    barcode="000123456",
    carton="C07-0042",
    provider_name="Numérisation Exemple",
    provider_siret="99999999900033",
    operator="OP17",
    scanner="SCAN-3",
    convention="CONV 2026/1",
    centre_id="c07",
    custodian_id="spst",
    patient_id="p1",
    patient_contained=source_patient_info(PATIENT),
    doctor_practitioner_role=ROLE,
    list_id="f1",
    provenance_id=lambda step: f"pr-{step.replace('/', '-')}",
    manifest_sha256="ab" * 32,
    seal_summary="Cachet valide.",
    signature_der=b"\x30\x82",
    token_der=b"\x30\x83",
    received_at=datetime(2026, 10, 15, 6, 0, tzinfo=UTC),
    verified_at=datetime(2026, 10, 15, 6, 5, tzinfo=UTC),
    attached_at=datetime(2026, 10, 15, 6, 6, tzinfo=UTC),
    match_reasons=("folder-number", "name", "birth-date"),
    attached_by=None,
)


def records(*documents: ScannedDocument, **changes: Any) -> dict[str, dict[str, Any]]:
    built = records_of_folder(replace(CONTEXT, **changes), documents or (AUDIOGRAM, UNCODED))
    return {f"{resource['resourceType']}/{resource['id']}": resource for resource in built}


def test_every_record_of_a_folder_is_r4(is_r4: IsR4) -> None:
    """Documents, bytes, classeur and four steps; with and without doctor, seal, carton."""
    for changes in (
        {},
        {"doctor_practitioner_role": None, "carton": None, "signature_der": None, "token_der": None},
    ):
        built = records(**changes)
        assert [name.split("/")[0] for name in built] == [
            *("DocumentReference", "DocumentReference", "Binary", "Binary", "List"),
            *("Provenance", "Provenance", "Provenance", "Provenance"),
        ]
        for resource in built.values():
            if resource["resourceType"] == "Binary":
                continue  # fhir.resources wants the data, which the store streams
            is_r4(resource)


def test_a_document_reference_is_pdsm_comprehensive() -> None:
    """Golden: every element that PDSm and MHD require, nothing that they forbid."""
    assert records()["DocumentReference/d1"] == {
        "resourceType": "DocumentReference",
        "id": "d1",
        "meta": {
            "profile": [
                "https://interop.esante.gouv.fr/ig/fhir/pdsm/StructureDefinition/pdsm-comprehensive-document-reference"
            ]
        },
        "contained": [
            {**{name: part for name, part in ROLE.items() if name != "meta"}, "id": "author"},
            {
                "resourceType": "Patient",
                "id": "source-patient",
                "identifier": PATIENT["identifier"],
                "name": PATIENT["name"],
                "gender": "female",
                "birthDate": "1979-03-14",
            },
        ],
        "masterIdentifier": {
            "use": "usual",
            "type": {
                "coding": [
                    {
                        "system": "https://profiles.ihe.net/ITI/MHD/CodeSystem/IHE.MHD.MHDIdentifierType",
                        "code": "uniqueId",
                    }
                ]
            },
            "system": "urn:ietf:rfc:3986",
            "value": "urn:oid:2.25.123456789",
        },
        "identifier": [
            {
                "system": "https://dmst-fhir.org/ns/identifier/scan-document",
                "value": "LOT_20261015_C07_0123/000123456_0001",
            }
        ],
        "status": "current",
        "type": {
            "coding": [
                {
                    "system": "http://loinc.org",
                    "code": "75492-9",
                    "display": "CR d'acte diagnostique à visée préventive ou de dépistage",
                },
                {
                    "system": "https://dmst-fhir.org/ns/CodeSystem/dmst-nomenclature",
                    "code": "DMST-AUDIO",
                    "display": "Audiogramme",
                },
            ],
            "text": "Audiogramme",
        },
        "category": [
            {
                "coding": [
                    {
                        "system": "https://mos.esante.gouv.fr/NOS/TRE_A03-ClasseDocument/FHIR/TRE-A03-ClasseDocument",
                        "code": "10",
                        "display": "Compte rendu",
                    },
                    {
                        "system": "https://dmst-fhir.org/ns/CodeSystem/dmst-category",
                        "code": "3",
                        "display": "Informations de santé",
                    },
                ]
            }
        ],
        "subject": {"reference": "Patient/p1"},
        "date": "2026-10-15T06:06:00.000Z",
        "author": [{"reference": "#author"}],
        "custodian": {"reference": "Organization/spst"},
        "securityLabel": [
            {
                "coding": [
                    {
                        "system": "http://terminology.hl7.org/CodeSystem/v3-Confidentiality",
                        "code": "R",
                        "display": "restricted",
                    }
                ]
            }
        ],
        "content": [
            {
                "attachment": {
                    "extension": [
                        {
                            "url": "https://dmst-fhir.org/ns/StructureDefinition/sha256",
                            "valueString": hashlib.sha256(BYTES).hexdigest(),
                        },
                        {"url": "https://dmst-fhir.org/ns/StructureDefinition/pages", "valuePositiveInt": 2},
                    ],
                    "contentType": "application/pdf",
                    "language": "fr-FR",
                    "url": "Binary/b1",
                    "size": 15,
                    "hash": base64.b64encode(hashlib.sha1(BYTES).digest()).decode(),
                    "title": "Audiogramme",
                    "creation": "2026-10-14T08:31:00.000Z",
                },
                "format": {
                    "system": "https://mos.esante.gouv.fr/NOS/TRE_A11-IheFormatCode/FHIR/TRE-A11-IheFormatCode",
                    "code": "urn:ihe:iti:xds-sd:pdf:2008",
                },
            }
        ],
        "context": {
            "period": {"start": "2019-05"},
            "facilityType": {
                "coding": [
                    {
                        "system": "https://mos.esante.gouv.fr/NOS/TRE_R02-SecteurActivite/FHIR/TRE-R02-SecteurActivite",
                        "code": "SA66",
                        "display": "Services de Prévention et de Santé au Travail (SPST)",
                    }
                ]
            },
            "practiceSetting": {
                "coding": [
                    {
                        "system": "https://mos.esante.gouv.fr/NOS/TRE_A01-CadreExercice/FHIR/TRE-A01-CadreExercice",
                        "code": "AMBULATOIRE",
                        "display": "Ambulatoire",
                    }
                ]
            },
            "sourcePatientInfo": {"reference": "#source-patient"},
        },
    }


def test_an_uncoded_document_has_only_our_codes() -> None:
    """Type and heading are to be fixed by a human; the act is dated by the scan."""
    fiche = records()["DocumentReference/d2"]
    assert [one["system"] for one in fiche["type"]["coding"]] == [systems.DMST_NOMENCLATURE]
    assert [one["code"] for one in fiche["category"][0]["coding"]] == ["a-qualifier"]
    assert fiche["context"]["period"] == {"start": "2026-10-14T08:35:00.000Z"}


def test_without_a_doctor_the_author_is_an_unnamed_physician_of_the_service() -> None:
    """PDSm wants an author; the scanning operator is never one."""
    author = records(doctor_practitioner_role=None)["DocumentReference/d1"]["contained"][0]
    assert "practitioner" not in author
    assert author["organization"] == {"reference": "Organization/spst"}


def test_a_new_delivery_replaces_and_a_rendition_transforms(is_r4: IsR4) -> None:
    """relatesTo says which; a rendition has its own Provenance and is no scan of the paper."""
    corrected = replace(AUDIOGRAM, replaces="d0")
    rendition = replace(AUDIOGRAM, document_reference_id="d3", binary_id="b3", transforms="d1")
    built = records(corrected, rendition)
    assert built["DocumentReference/d1"]["relatesTo"] == [
        {"code": "replaces", "target": {"reference": "DocumentReference/d0"}}
    ]
    assert built["DocumentReference/d3"]["relatesTo"][0]["code"] == "transforms"
    transform = built["Provenance/pr-transform-d3"]
    is_r4(transform)
    assert transform["target"] == [{"reference": "DocumentReference/d3"}]
    assert transform["entity"][0]["what"] == {"reference": "DocumentReference/d1"}
    assert {"reference": "DocumentReference/d3"} not in built["Provenance/pr-originate"]["target"]
    assert superseded(built["DocumentReference/d1"]) == {
        **built["DocumentReference/d1"],
        "status": "superseded",
    }


def test_the_chain_of_proof_names_each_step_once() -> None:
    """originate, receive, verify, link: of the same documents and their classeur."""
    built = records()
    targets = [{"reference": f"{one}"} for one in ("DocumentReference/d1", "DocumentReference/d2", "List/f1")]
    steps = {step: built[f"Provenance/pr-{step}"] for step in ("originate", "receive", "verify", "link")}
    for step, provenance in steps.items():
        assert provenance["activity"]["coding"][0] == {"system": systems.ISO_21089, "code": step}
        assert provenance["target"] == targets
        assert provenance["recorded"] == "2026-10-15T06:06:00.000Z"
    originate = steps["originate"]
    assert originate["occurredPeriod"] == {
        "start": "2026-10-14T08:30:00.000Z",
        "end": "2026-10-14T08:35:00.000Z",
    }
    assert [entity["what"]["identifier"]["value"] for entity in originate["entity"]] == [
        "LOT_20261015_C07_0123/000123456",
        "C07-0042",
    ]
    assert originate["agent"][0]["onBehalfOf"]["identifier"]["value"] == "99999999900033"
    assert originate["policy"] == ["https://dmst-fhir.org/ns/identifier/convention-de-numerisation/CONV%202026%2F1"]


def test_verification_holds_every_fingerprint_and_both_signatures() -> None:
    """SHA-256 of the manifest and of each document; the CMS seal and the RFC 3161 token as received."""
    verify = records()["Provenance/pr-verify"]
    assert [entity["what"]["identifier"]["value"] for entity in verify["entity"]] == [
        "ab" * 32,
        hashlib.sha256(BYTES).hexdigest(),
        hashlib.sha256(BYTES).hexdigest(),
    ]
    assert [base64.b64decode(signature["data"]) for signature in verify["signature"]] == [
        b"\x30\x82",
        b"\x30\x83",
    ]
    assert "signature" not in records(signature_der=None, token_der=None)["Provenance/pr-verify"]


def test_the_attachment_says_who_decided_and_why() -> None:
    """A rule gives its reasons; a person signs with her account."""
    by_rule = records()["Provenance/pr-link"]
    assert by_rule["agent"][0]["who"]["type"] == "Device"
    assert [reason["coding"][0]["code"] for reason in by_rule["reason"]] == [
        "folder-number",
        "name",
        "birth-date",
    ]
    by_hand = records(attached_by="u42")["Provenance/pr-link"]
    assert by_hand["agent"][0]["who"]["identifier"] == {"system": systems.USER, "value": "u42"}


def test_the_classeur_lists_the_documents_in_the_order_of_the_paper() -> None:
    """PDSm folder, one designation type, same subject."""
    folder = records()["List/f1"]
    assert [entry["item"]["reference"] for entry in folder["entry"]] == [
        "DocumentReference/d1",
        "DocumentReference/d2",
    ]
    assert folder["code"]["coding"][0]["code"] == "folder"
    assert len(folder["extension"]) == 1


def test_the_binary_is_guarded_by_its_document_reference() -> None:
    """securityContext, and no data: the bytes stream beside it."""
    assert records()["Binary/b1"] == {
        "resourceType": "Binary",
        "id": "b1",
        "contentType": "application/pdf",
        "securityContext": {"reference": "DocumentReference/d1"},
    }


def test_an_unknown_media_type_gets_the_general_format_code() -> None:
    """IHE mimeTypeSufficient."""
    fiche = records(replace(AUDIOGRAM, media_type="image/png"))["DocumentReference/d1"]
    assert fiche["content"][0]["format"]["code"] == "urn:ihe:iti:xds:2017:mimeTypeSufficient"


def test_a_folder_without_documents_makes_nothing() -> None:
    """And a moment without time zone is refused: a reliable copy has a date one can stand by."""
    with pytest.raises(ValueError, match="without documents"):
        records_of_folder(CONTEXT, [])
    with pytest.raises(ValueError, match="time zone"):
        records(replace(AUDIOGRAM, created=datetime(2026, 10, 14)))


def test_a_scan_lot_is_nobodys_list(is_r4: IsR4) -> None:
    """Entries are the folder Lists; there is no subject."""
    lot = scan_lot_list("l1", "LOT_1", received_at=CONTEXT.received_at, folder_list_ids=["f1", "f2"], note="2 dossiers")
    is_r4(lot)
    is_r4(scan_lot_list("l1", "LOT_1", received_at=CONTEXT.received_at, folder_list_ids=[]))
    assert "subject" not in lot
    assert lot["identifier"] == [{"system": systems.SCAN_LOT, "value": "LOT_1"}]
