"""Structured documents of people who do not exist: a CDA R2 with the French header, and a FHIR document."""

import base64
from pathlib import Path
from typing import Any

import orjson

from terminology import systems
from tests.support import FOLDERS, Resource

CDA_FILES = Path(__file__).parents[2] / "shared" / "data" / "cda"
INS = "279035121518989"
OPERATION = "/fhir/DocumentReference/$generate-metadata"


def cda(
    number: int = 1,
    patient_ids: str = f'<id root="{systems.INS_TEST_OID}" extension="{INS}"/>',
    more: str = "",
    body: str = '<nonXMLBody><text mediaType="application/pdf" representation="B64">JVBERi0xLjcK</text></nonXMLBody>',
) -> bytes:
    """A CDA; `more` stands among the children of ClinicalDocument."""
    return f"""<?xml version="1.0" encoding="UTF-8"?>
<ClinicalDocument xmlns="urn:hl7-org:v3">
  <typeId root="2.16.840.1.113883.1.3" extension="POCD_HD000040"/>
  <templateId root="1.3.6.1.4.1.19376.1.2.20"/>
  <id root="2.25.{number}"/>
  <code code="11488-4" codeSystem="2.16.840.1.113883.6.1"/>
  <title>Compte rendu de visite</title>
  <effectiveTime value="20260314101500+0100"/>
  <confidentialityCode code="R" codeSystem="2.16.840.1.113883.5.25"/>
  <languageCode code="fr-FR"/>
  <recordTarget><patientRole>{patient_ids}</patientRole></recordTarget>
  <author><assignedAuthor><id root="1.2.250.1.71.4.2.1" extension="899900000001"/></assignedAuthor></author>
  {more}
  <component>{body}</component>
</ClinicalDocument>""".encode()


def replacing(number: int) -> str:
    """For `more`."""
    parent = f'<parentDocument><id root="2.25.{number}"/></parentDocument>'
    return f'<relatedDocument typeCode="RPLC">{parent}</relatedDocument>'


def in_binary(document: bytes, content_type: str = "text/xml") -> Resource:
    return {"resourceType": "Binary", "contentType": content_type, "data": base64.b64encode(document).decode()}


def parameters(resource: Resource) -> Resource:
    return {"resourceType": "Parameters", "parameter": [{"name": "document", "resource": resource}]}


def fhir_document(number: str = "100000101", **composition: Any) -> Resource:
    """A document of the worker with this folder number; `composition` are elements of its Composition."""
    base = "https://example.org/fhir"
    resources: list[Resource] = [
        {
            "resourceType": "Composition",
            "id": "c",
            "status": "final",
            "type": {"coding": [{"system": systems.LOINC, "code": "60591-5"}]},
            "subject": {"reference": "Patient/p"},
            "date": "2026-03-14T10:15:00+01:00",
            "author": [{"reference": "PractitionerRole/r"}],
            "title": "Synthèse",
            **composition,
        },
        {"resourceType": "Patient", "id": "p", "identifier": [{"system": FOLDERS, "value": number}]},
        {
            "resourceType": "PractitionerRole",
            "id": "r",
            "practitioner": {"reference": "Practitioner/d"},
            "organization": {"reference": "Organization/o"},
        },
        {
            "resourceType": "Practitioner",
            "id": "d",
            "name": [{"family": "Exemple"}],
            "telecom": [{"system": "phone", "value": "0100000000"}],
        },
        {
            "resourceType": "Organization",
            "id": "o",
            "identifier": [{"system": systems.STRUCT_ID_NAT, "value": "1999999999"}],
            "type": [{"coding": [{"system": systems.TRE_R02, "code": "SA66"}]}],
            "name": "Service Exemple",
        },
    ]
    return {
        "resourceType": "Bundle",
        "type": "document",
        "identifier": {"system": systems.URI, "value": "urn:oid:2.25.1001"},
        "timestamp": "2026-03-14T10:15:00+01:00",
        "entry": [{"fullUrl": f"{base}/{one['resourceType']}/{one['id']}", "resource": one} for one in resources],
    }


def as_json(resource: Resource) -> bytes:
    return orjson.dumps(resource)
