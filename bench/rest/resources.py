"""Made-up resources of the kinds and sizes that Synthea makes: the same seed gives the same ones, on any machine.

https://hl7.org/fhir/R4/resourcelist.html - base R4 without profiles, so that any server takes them. A `subject`, an
`encounter` and the like are references as they stand in the resource: `Patient/1` or `urn:uuid:...`.
"""

import random
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any, Final
from uuid import UUID

Resource = dict[str, Any]

IDENTIFIERS: Final = "https://dmst-fhir.org/ns/identifier/bench"
LOINC: Final = "http://loinc.org"
SNOMED: Final = "http://snomed.info/sct"
UCUM: Final = "http://unitsofmeasure.org"
TERMINOLOGY: Final = "http://terminology.hl7.org/CodeSystem/"
FIRST_DAY: Final = datetime(2016, 11, 1, tzinfo=UTC)
DAYS: Final = 3_650

SYLLABLES: Final = ["BA", "DU", "FI", "KO", "LE", "MI", "NO", "PA", "RE", "SI", "TU"]
GIVEN: Final = ["CAMILLE", "DOMINIQUE", "CLAUDE", "ALIX", "SACHA", "MORGAN", "YAEL", "NOA", "EDEN", "LOU"]
CONDITIONS: Final = (
    ("44054006", "Diabetes mellitus type 2"), ("38341003", "Hypertensive disorder"), ("195967001", "Asthma"),
    ("162864005", "Body mass index 30+ - obesity"), ("10509002", "Acute bronchitis"), ("40055000", "Chronic sinusitis"),
    ("15777000", "Prediabetes"), ("55822004", "Hyperlipidemia"), ("239873007", "Osteoarthritis of knee"),
)  # fmt: skip
READINGS: Final = (
    ("8302-2", "Body height", "cm", 170.0, 10.0), ("29463-7", "Body weight", "kg", 75.0, 15.0),
    ("39156-5", "Body mass index", "kg/m2", 26.0, 4.0), ("8867-4", "Heart rate", "/min", 72.0, 11.0),
    ("8480-6", "Systolic blood pressure", "mm[Hg]", 128.0, 16.0), ("2339-0", "Glucose", "mg/dL", 98.0, 18.0),
    ("8462-4", "Diastolic blood pressure", "mm[Hg]", 80.0, 10.0), ("2093-3", "Cholesterol", "mg/dL", 190.0, 35.0),
    ("718-7", "Hemoglobin", "g/dL", 14.2, 1.4), ("6690-2", "Leukocytes", "10*3/uL", 6.8, 1.9),
)  # fmt: skip
DOCUMENT_TYPES: Final = (
    ("11488-4", "Consult note"), ("11502-2", "Laboratory report"), ("18748-4", "Diagnostic imaging study"),
    ("34133-9", "Summary of episode note"), ("57133-1", "Referral note"), ("57016-8", "Privacy policy acknowledgment"),
)  # fmt: skip
MEDICATIONS: Final = (("314076", "lisinopril 10 MG Oral Tablet"), ("860975", "metformin 500 MG Oral Tablet"))


def urn(chance: random.Random) -> str:
    """A `urn:uuid:` of its own for an entry of a Bundle."""
    return UUID(int=chance.getrandbits(128), version=4).urn


def day(chance: random.Random) -> datetime:
    """A moment of the last ten years, in office hours."""
    return FIRST_DAY + timedelta(days=chance.randrange(DAYS), hours=8, minutes=chance.randrange(600))


def instant(moment: datetime) -> str:
    return moment.isoformat(timespec="seconds")


def coded(system: str, code: str, display: str) -> Resource:
    return {"coding": [{"system": system, "code": code, "display": display}], "text": display}


def patient(chance: random.Random) -> Resource:
    """A person who does not exist, with the names and addresses that a Synthea patient has."""
    family = "".join(chance.choice(SYLLABLES) for _ in range(3))
    born = date(1955, 1, 1) + timedelta(days=chance.randrange(18_000))
    return {
        "resourceType": "Patient",
        "identifier": [{"system": IDENTIFIERS, "value": f"P{chance.getrandbits(48):012x}"}],
        "active": True,
        "name": [{"use": "official", "family": family, "given": chance.sample(GIVEN, 2)}],
        "telecom": [{"system": "phone", "value": f"0199{chance.randrange(10**6):06}", "use": "home"}],
        "gender": chance.choice(("female", "male")),
        "birthDate": born.isoformat(),
        "address": [
            {"line": [f"{chance.randrange(1, 99)} rue de l'Exemple"], "city": "EXEMPLEVILLE", "postalCode": "75000"}
        ],
        "maritalStatus": coded(TERMINOLOGY + "v3-MaritalStatus", "M", "Married"),
        "communication": [{"language": coded("urn:ietf:bcp:47", "fr", "French")}],
    }


def organization(chance: random.Random) -> Resource:
    return {
        "resourceType": "Organization",
        "identifier": [{"system": IDENTIFIERS, "value": f"O{chance.getrandbits(48):012x}"}],
        "active": True,
        "name": f"Centre d'exemple {chance.randrange(10**4)}",
    }


def practitioner(chance: random.Random) -> Resource:
    return {
        "resourceType": "Practitioner",
        "identifier": [{"system": IDENTIFIERS, "value": f"D{chance.getrandbits(48):012x}"}],
        "active": True,
        "name": [{"family": "".join(chance.choice(SYLLABLES) for _ in range(3)), "given": [chance.choice(GIVEN)]}],
    }


def location(chance: random.Random) -> Resource:
    return {"resourceType": "Location", "status": "active", "name": f"Cabinet {chance.randrange(10**4)}"}


def encounter(chance: random.Random, subject: str) -> Resource:
    start = day(chance)
    return {
        "resourceType": "Encounter",
        "status": "finished",
        "class": {"system": TERMINOLOGY + "v3-ActCode", "code": chance.choice(("AMB", "EMER", "IMP", "VR"))},
        "type": [coded(SNOMED, "185345009", "Encounter for symptom")],
        "subject": {"reference": subject},
        "period": {"start": instant(start), "end": instant(start + timedelta(minutes=30))},
        "reasonCode": [coded(SNOMED, *chance.choice(CONDITIONS))],
    }


def condition(chance: random.Random, subject: str, encounter: str) -> Resource:
    start = day(chance)
    return {
        "resourceType": "Condition",
        "clinicalStatus": coded(TERMINOLOGY + "condition-clinical", "active", "Active"),
        "verificationStatus": coded(TERMINOLOGY + "condition-ver-status", "confirmed", "Confirmed"),
        "category": [coded(TERMINOLOGY + "condition-category", "encounter-diagnosis", "Encounter Diagnosis")],
        "code": coded(SNOMED, *chance.choice(CONDITIONS)),
        "subject": {"reference": subject},
        "encounter": {"reference": encounter},
        "onsetDateTime": instant(start),
        "recordedDate": instant(start),
    }


def observation(chance: random.Random, subject: str, encounter: str) -> Resource:
    code, display, unit, mean, spread = chance.choice(READINGS)
    at = instant(day(chance))
    return {
        "resourceType": "Observation",
        "status": "final",
        "category": [coded(TERMINOLOGY + "observation-category", "vital-signs", "Vital Signs")],
        "code": coded(LOINC, code, display),
        "subject": {"reference": subject},
        "encounter": {"reference": encounter},
        "effectiveDateTime": at,
        "issued": at,
        "valueQuantity": {"value": round(chance.gauss(mean, spread), 1), "unit": unit, "system": UCUM, "code": unit},
    }


def medication_request(chance: random.Random, subject: str, encounter: str) -> Resource:
    return {
        "resourceType": "MedicationRequest",
        "status": "active",
        "intent": "order",
        "medicationCodeableConcept": coded("http://www.nlm.nih.gov/research/umls/rxnorm", *chance.choice(MEDICATIONS)),
        "subject": {"reference": subject},
        "encounter": {"reference": encounter},
        "authoredOn": instant(day(chance)),
        "dosageInstruction": [{"sequence": 1, "text": "Un comprime par jour", "asNeededBoolean": False}],
    }


def claim(chance: random.Random, subject: str, provider: str, insurer: str) -> Resource:
    return {
        "resourceType": "Claim",
        "status": "active",
        "type": coded(TERMINOLOGY + "claim-type", "professional", "Professional"),
        "use": "claim",
        "patient": {"reference": subject},
        "created": instant(day(chance)),
        "provider": {"reference": provider},
        "insurer": {"reference": insurer},
        "priority": coded(TERMINOLOGY + "processpriority", "normal", "Normal"),
        "insurance": [{"sequence": 1, "focal": True, "coverage": {"display": "Régime d'exemple"}}],
        "total": {"value": round(chance.uniform(20, 300), 2), "currency": "EUR"},
    }


def explanation_of_benefit(chance: random.Random, subject: str, provider: str, insurer: str, claim: str) -> Resource:
    total = {"value": round(chance.uniform(20, 300), 2), "currency": "EUR"}
    return {
        "resourceType": "ExplanationOfBenefit",
        "status": "active",
        "type": coded(TERMINOLOGY + "claim-type", "professional", "Professional"),
        "use": "claim",
        "patient": {"reference": subject},
        "created": instant(day(chance)),
        "insurer": {"reference": insurer},
        "provider": {"reference": provider},
        "claim": {"reference": claim},
        "outcome": "complete",
        "insurance": [{"focal": True, "coverage": {"display": "Régime d'exemple"}}],
        "total": [{"category": coded(TERMINOLOGY + "adjudication", "submitted", "Submitted Amount"), "amount": total}],
    }


def document_reference(chance: random.Random, subject: str, binary: str, size: int) -> Resource:
    """The metadata of one scan, as MHD wants them (https://profiles.ihe.net/ITI/MHD/)."""
    made = instant(day(chance))
    oid = f"urn:oid:2.25.{chance.getrandbits(127)}"
    return {
        "resourceType": "DocumentReference",
        "masterIdentifier": {"system": "urn:ietf:rfc:3986", "value": oid},
        "identifier": [{"system": "urn:ietf:rfc:3986", "value": oid}],
        "status": "current",
        "type": coded(LOINC, *chance.choice(DOCUMENT_TYPES)),
        "category": [coded(LOINC, "47045-0", "Study report")],
        "subject": {"reference": subject},
        "date": made,
        "securityLabel": [coded(TERMINOLOGY + "v3-Confidentiality", "N", "normal")],
        "content": [
            {
                "attachment": {
                    "contentType": "application/pdf",
                    "language": "fr-FR",
                    "url": binary,
                    "size": size,
                    "title": "Document numérisé",
                    "creation": made,
                },
                "format": {"system": "http://ihe.net/fhir/ihe.formatcode.fhir/CodeSystem/formatcode"} | FORMAT,
            }
        ],
        "context": {"period": {"start": made}},
    }


FORMAT: Final = {"code": "urn:ihe:iti:xds-sd:pdf:2008", "display": "ITI XDS-SD PDF"}


def submission_set(chance: random.Random, subject: str, document: str) -> Resource:
    """The List of an ITI-65: https://profiles.ihe.net/ITI/MHD/StructureDefinition-IHE.MHD.Minimal.SubmissionSet.html"""
    oid = f"urn:oid:2.25.{chance.getrandbits(127)}"
    return {
        "resourceType": "List",
        "extension": [
            {
                "url": "https://profiles.ihe.net/ITI/MHD/StructureDefinition/ihe-sourceId",
                "valueIdentifier": {"system": "urn:ietf:rfc:3986", "value": "urn:oid:2.25.1"},
            }
        ],
        "identifier": [{"use": "official", "system": "urn:ietf:rfc:3986", "value": oid}],
        "status": "current",
        "mode": "working",
        "code": coded("https://profiles.ihe.net/ITI/MHD/CodeSystem/MHDlistTypes", "submissionset", "SubmissionSet"),
        "subject": {"reference": subject},
        "date": instant(day(chance)),
        "entry": [{"item": {"reference": document}}],
    }


def scan(number: int, size: int) -> bytes:
    """Bytes that begin and end as a PDF does and cannot be compressed, as scanned pages cannot."""
    return b"%PDF-1.7\n" + random.Random(number).randbytes(size - 15) + b"%%EOF\n"


def transaction(entries: Sequence[tuple[str | None, Resource]]) -> Resource:
    """A Bundle that creates each resource under its full URL."""
    return {
        "resourceType": "Bundle",
        "type": "transaction",
        "entry": [
            {
                **({"fullUrl": full_url} if full_url else {}),
                "resource": resource,
                "request": {"method": "POST", "url": resource["resourceType"]},
            }
            for full_url, resource in entries
        ],
    }


def life(chance: random.Random, visits: int, readings: int, documents: Sequence[tuple[str, int]] = ()) -> Resource:
    """One patient with his visits as a transaction: a diagnosis, a prescription and `readings` Observations a visit.

    `documents` are the Binaries (reference, size) that get a DocumentReference.
    """
    subject = urn(chance)
    entries: list[tuple[str | None, Resource]] = [(subject, patient(chance))]
    for _ in range(visits):
        visit = urn(chance)
        entries.append((visit, encounter(chance, subject)))
        entries.append((urn(chance), condition(chance, subject, visit)))
        entries.append((urn(chance), medication_request(chance, subject, visit)))
        entries.extend((urn(chance), observation(chance, subject, visit)) for _ in range(readings))
    entries.extend((urn(chance), document_reference(chance, subject, *binary)) for binary in documents)
    return transaction(entries)
