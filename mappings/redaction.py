"""A document without some of its pages: the fiche that others see instead, and the Provenance of what was done.

https://hl7.org/fhir/R4/documentreference.html (`relatesTo` transforms), https://hl7.org/fhir/R4/provenance.html;
R4624-45-7 C. trav., CSP R4127-45 (what is not handed on), R4624-45-5 (every action is traced).
"""

import base64
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from types import MappingProxyType
from typing import Any, Final

from mappings.access_facts import NON_TRANSMISSIBLE, QUARANTINE, WITHHELD
from mappings.elements import Element, coding, concept, identifier, in_the_record_of, instant, present, reference
from mappings.scanned_document import format_of, unique_id
from terminology import systems

REASONS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "note-personnelle": "Note personnelle du médecin (CSP R4127-45)",
        "tiers": "Information sur un tiers ou recueillie auprès de lui (R4624-45-7)",
        "autre-salarie": "Page d'un autre salarié",
        "non-transmissible": "Page non transmissible pour un autre motif",
    }
)
"""Why pages are taken out: codes of `systems.REDACTION_REASON`. A free text could say what the page said."""
REDACTED: Final = coding(systems.OBSERVATION_VALUE, "REDACTED", "redacted")
_WITHHOLDS: Final = frozenset(code for code, bit in WITHHELD.items() if bit & (NON_TRANSMISSIBLE | QUARANTINE))
_COPIED: Final = ("contained", "status", "docStatus", "type", "category", "subject", "author", "custodian")
_COPIED_CONTEXT: Final = (
    "encounter",
    "event",
    "period",
    "facilityType",
    "practiceSetting",
    "sourcePatientInfo",
)


@dataclass(frozen=True, slots=True)
class Redaction:
    """What was done. `by` is a person's identifier, `client` the program that asked; `sha256` are hexadecimal."""

    document_id: str
    unique_oid: str
    binary_id: str
    provenance_id: str
    source_id: str
    source_sha256: str
    pages: tuple[int, ...]
    pages_left: int
    reason: str
    size: int
    sha1: bytes
    sha256: str
    by: str | None
    client: str
    at: datetime


def is_redacted(document_reference: Mapping[str, Any]) -> bool:
    """Is it what others see instead of a document with pages that are withheld?"""
    labels = document_reference.get("meta", {}).get("security", [])
    return any((one.get("system"), one.get("code")) == (REDACTED["system"], REDACTED["code"]) for one in labels)


def withheld(document_reference: Mapping[str, Any]) -> Element:
    """The same fiche, non-transmissible: only the médecin du travail sees it from now on."""
    meta = document_reference.get("meta", {})
    label = coding(systems.SECURITY_TAG, "non-transmissible")
    return {**document_reference, "meta": {**meta, "security": [*meta.get("security", []), label]}}


def redacted(of: Redaction, source: Mapping[str, Any]) -> Element:
    """The fiche of the new document: of the old one what says what it is, and nothing that somebody wrote freely."""
    meta = source.get("meta", {})
    kept = {name: source[name] for name in _COPIED if name in source}
    context = {name: part for name, part in source.get("context", {}).items() if name in _COPIED_CONTEXT}
    old = source["content"][0]["attachment"]
    attachment = present(
        extension=[
            {"url": systems.EXTENSION_SHA256, "valueString": of.sha256},
            {"url": systems.EXTENSION_PAGES, "valuePositiveInt": of.pages_left},
        ],
        contentType="application/pdf",
        language=old.get("language"),
        url=f"Binary/{of.binary_id}",
        size=of.size,
        hash=base64.b64encode(of.sha1).decode("ascii"),
        creation=instant(of.at),
    )
    labels = [one for one in (_transmissible(label) for label in source.get("securityLabel", [])) if one]
    return present(
        resourceType="DocumentReference",
        id=of.document_id,
        meta=present(
            profile=meta.get("profile"),
            tag=[one for one in meta.get("tag", []) if one.get("system") == systems.DMST_CATEGORY],
            security=[*(one for one in meta.get("security", []) if not _withholds(one)), REDACTED],
        ),
        masterIdentifier=unique_id(of.unique_oid),
        **kept,
        date=instant(of.at),
        relatesTo=[{"code": "transforms", "target": reference(f"DocumentReference/{of.source_id}")}],
        securityLabel=labels,
        content=[{"attachment": attachment, "format": format_of("application/pdf")}],
        context=context,
    )


def binary(of: Redaction) -> Element:
    """The Binary without its data: the bytes go to the store beside it."""
    return {
        "resourceType": "Binary",
        "id": of.binary_id,
        "contentType": "application/pdf",
        "securityContext": reference(f"DocumentReference/{of.document_id}"),
    }


def provenance(of: Redaction, document: Mapping[str, Any]) -> Element:
    """Who took pages out of what, why and when. It stands under the headings of `document`, the new one."""
    headings = [
        one
        for concept_ in document.get("category", [])
        for one in concept_.get("coding", [])
        if one.get("system") == systems.DMST_CATEGORY
    ]
    person = reference(type_="Practitioner", identified=identifier(systems.USER, of.by)) if of.by else None
    program = reference(type_="Device", identified=identifier(systems.CLIENT, of.client))
    source = reference(f"DocumentReference/{of.source_id}", identified=identifier(systems.SHA256, of.source_sha256))
    custodian = document.get("custodian")
    pages = [{"url": systems.EXTENSION_REMOVED_PAGE, "valuePositiveInt": page} for page in of.pages]
    return present(
        resourceType="Provenance",
        id=of.provenance_id,
        meta=present(tag=[*headings, *document.get("meta", {}).get("tag", [])]),
        extension=in_the_record_of(document["subject"]),
        target=[reference(f"DocumentReference/{of.document_id}")],
        occurredDateTime=instant(of.at),
        recorded=instant(of.at),
        reason=[concept(systems.REDACTION_REASON, of.reason, REASONS[of.reason])],
        activity={
            "coding": [
                coding(systems.ISO_21089, "transform"),
                coding(systems.ACT_CODE, "REDACT", "redact"),
            ]
        },
        agent=[
            {
                "type": concept(systems.PROVENANCE_PARTICIPANT, "author"),
                "who": person or program,
                **({"onBehalfOf": custodian} if custodian else {}),
            },
            *([{"type": concept(systems.PROVENANCE_PARTICIPANT, "assembler"), "who": program}] if person else []),
        ],
        entity=[{"extension": pages, "role": "source", "what": source}],
    )


def _withholds(label: Mapping[str, Any]) -> bool:
    return label.get("system") == systems.SECURITY_TAG and label.get("code") in _WITHHOLDS


def _transmissible(label: Mapping[str, Any]) -> Element | None:
    """A security label without what withholds; None where nothing else was said."""
    codings = [one for one in label.get("coding", []) if not _withholds(one)]
    return {**label, "coding": codings} if codings or not label.get("coding") else None
