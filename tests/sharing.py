"""A document that a foreign source provides: the Bundle of ITI-65 as PDSm has it, of people who do not exist."""

import base64
import hashlib
from typing import Any

from terminology import systems
from tests.support import Resource

LIST, DOCUMENT, BINARY = (f"urn:uuid:0a1b2c3d-0000-4000-8000-00000000000{n}" for n in (1, 2, 3))
PDF = b"%PDF-1.7\n%a document that is no document\n"
SOURCE = "urn:oid:1.2.250.1.999.7"


def concept(system: str, code: str) -> Resource:
    return {"coding": [{"system": system, "code": code}]}


def identified(value: str, kind: str) -> Resource:
    return {"system": systems.URI, "value": value, "type": concept(systems.MHD_IDENTIFIER_TYPE, kind)}


def attachment(content: bytes = PDF, url: str = BINARY) -> Resource:
    """What is said of these bytes."""
    return {
        "contentType": "application/pdf",
        "language": "fr-FR",
        "url": url,
        "size": len(content),
        "hash": base64.b64encode(hashlib.sha1(content).digest()).decode(),
        "title": "Fiche de visite",
        "creation": "2026-03-02T09:30:00+01:00",
    }


def author() -> list[Resource]:
    """A doctor, contained as MHD wants him: his role, and himself."""
    return [
        {"resourceType": "PractitionerRole", "id": "author", "practitioner": {"reference": "#doctor"}},
        {"resourceType": "Practitioner", "id": "doctor", "name": [{"family": "Exemple", "given": ["Dominique"]}]},
    ]


def document(number: int, patient: str = "Patient/p", content: bytes = PDF, **more: Any) -> Resource:
    """A DocumentReference of PDSm, with a masterIdentifier of its own."""
    return {
        "resourceType": "DocumentReference",
        "meta": {"profile": [systems.PDSM_DOCUMENT_REFERENCE]},
        "contained": [*author(), {"resourceType": "Patient", "id": "source-patient"}],
        "masterIdentifier": identified(f"urn:oid:2.25.{number}", "uniqueId"),
        "status": "current",
        "type": concept(systems.LOINC, "11488-4"),
        "category": [concept(systems.TRE_A03, "10")],
        "subject": {"reference": patient},
        "date": "2026-03-02T10:00:00Z",
        "author": [{"reference": "#author"}],
        "custodian": {"identifier": {"system": systems.STRUCT_ID_NAT, "value": "1999999999"}},
        "securityLabel": [concept(systems.CONFIDENTIALITY, "N")],
        "content": [
            {
                "attachment": attachment(content),
                "format": {"system": systems.TRE_A11, "code": "urn:ihe:iti:xds-sd:pdf:2008"},
            }
        ],
        "context": {
            "period": {"start": "2026-03-02"},
            "facilityType": concept(systems.TRE_R02, "SA13"),
            "practiceSetting": concept(systems.TRE_A01, "AMBULATOIRE"),
            "sourcePatientInfo": {"reference": "#source-patient"},
        },
        **more,
    }


def submission_set(number: int, patient: str = "Patient/p", **more: Any) -> Resource:
    """The lot de soumission of one document."""
    return {
        "resourceType": "List",
        "meta": {"profile": [systems.PDSM_SUBMISSION_SET]},
        "contained": author(),
        "extension": [
            {"url": systems.MHD_DESIGNATION_TYPE, "valueCodeableConcept": concept(systems.TRE_R209, "07")},
            {"url": systems.MHD_SOURCE_ID, "valueIdentifier": {"system": systems.URI, "value": SOURCE}},
        ],
        "identifier": [identified(f"urn:oid:2.25.9{number}", "uniqueId")],
        "status": "current",
        "mode": "working",
        "code": concept(systems.MHD_LIST_TYPES, "submissionset"),
        "subject": {"reference": patient},
        "date": "2026-03-02T10:00:00Z",
        "source": {"reference": "#author"},
        "entry": [{"item": {"reference": DOCUMENT}}],
        **more,
    }


def binary(content: bytes = PDF) -> Resource:
    data = base64.b64encode(content).decode()
    return {"resourceType": "Binary", "contentType": "application/pdf", "data": data}


def posted(resource: Resource, full_url: str) -> Resource:
    return {
        "fullUrl": full_url,
        "resource": resource,
        "request": {"method": "POST", "url": resource["resourceType"]},
    }


def bundle(*entries: Resource, profile: str = systems.PDSM_PROVIDE_BUNDLE) -> Resource:
    return {
        "resourceType": "Bundle",
        "meta": {"profile": [profile]},
        "type": "transaction",
        "entry": list(entries),
    }


def provide(number: int, patient: str = "Patient/p", content: bytes = PDF, **more: Any) -> Resource:
    """The transaction that provides one document; `more` goes into its DocumentReference."""
    return bundle(
        posted(submission_set(number, patient), LIST),
        posted(document(number, patient, content, **more), DOCUMENT),
        posted(binary(content), BINARY),
    )


def replaces(reference: Resource) -> Resource:
    """For `provide(..., **replaces(...))`."""
    return {"relatesTo": [{"code": "replaces", "target": reference}]}
