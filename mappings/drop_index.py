"""A document on its way -> the plain values that the index file of a drop folder is made of.

Vendors of occupational-health software publish no format: so each field has a name of its own, and the template of the
recipient says which of them it wants, and under what name. The INS stands for a qualified identity only (EXI ID 29),
and no code of ours leaves.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

from mappings.elements import instant
from mappings.patient_fr_core import employment_of, identity_of
from terminology import systems

Resource = Mapping[str, Any]

IDENTIFYING: Final = frozenset(
    {"ins", "ins_oid", "birth_name", "used_name", "first_name", "given_names", "birth_date", "birth_place"}
    | {"sex", "employer_name", "employer_siret", "title"}
)
"""Fields that say who the worker is, or free text that may."""

FIELDS: Final = IDENTIFYING | frozenset(
    {"delivery_id", "recipient", "sent_at", "file_name", "media_type", "size", "sha256", "document_id", "unique_id"}
    | {"replaces", "type_code", "type_label", "class_code", "class_label", "confidentiality", "document_date"}
    | {"scanned_at", "folder_number", "identity_status", "doctor_name", "doctor_rpps", "service_name", "service_number"}
)
"""Every field that a template may name."""


def values_of(document_reference: Resource, patient: Resource, related: Mapping[str, Resource]) -> dict[str, str]:
    """What the DocumentReference, its Patient and the resources that it refers to say; what is not known is empty text.

    The fields of the sending are those of `of_sending`; `file_name` is for the caller to say.
    """
    fiche = document_reference
    attachment = fiche["content"][0]["attachment"]
    who = identity_of(patient)
    work = employment_of(patient)
    kind = _coding(fiche.get("type", {}))
    class_ = _coding(next(iter(fiche.get("category", [])), {}))
    doctor = next((one for name, one in related.items() if name.startswith("Practitioner/")), {})
    service = related.get(fiche.get("custodian", {}).get("reference", ""), {})
    return {
        "document_id": _text(fiche.get("id")),
        "unique_id": _text(fiche.get("masterIdentifier", {}).get("value")),
        "replaces": _replaced(fiche, related),
        "title": _text(attachment.get("title")),
        "type_code": _text(kind.get("code")),
        "type_label": _text(kind.get("display")),
        "class_code": _text(class_.get("code")),
        "class_label": _text(class_.get("display")),
        "confidentiality": _text(_coding(next(iter(fiche.get("securityLabel", [])), {})).get("code")),
        "document_date": _text(fiche.get("context", {}).get("period", {}).get("start"))[:10],
        "scanned_at": _text(attachment.get("creation")),
        "folder_number": next(iter(who.folder_numbers), ""),
        "ins": _text(who.matricule_ins),
        "ins_oid": _text(who.oid_ins),
        "identity_status": who.status,
        "birth_name": _text(who.birth_name),
        "used_name": _text(who.used_name),
        "first_name": next(iter(who.given_names), ""),
        "given_names": " ".join(who.given_names),
        "birth_date": _text(who.birth_date),
        "birth_place": _text(who.birth_place),
        "sex": _text(who.sex),
        "employer_name": _text(work.employer_name),
        "employer_siret": _text(work.employer_siret),
        "doctor_name": _text(next(iter(doctor.get("name", [])), {}).get("text")),
        "doctor_rpps": _numbered(doctor, systems.RPPS),
        "service_name": _text(service.get("name")),
        "service_number": _text(next(iter(service.get("identifier", [])), {}).get("value")),
    }


def of_sending(
    delivery_id: str, recipient: str, created_at: datetime, *, media_type: str, size: int, sha256: str
) -> dict[str, str]:
    """What is known of the sending; the same at every attempt."""
    return {
        "delivery_id": delivery_id,
        "recipient": recipient,
        "sent_at": instant(created_at),
        "media_type": media_type,
        "size": str(size),
        "sha256": sha256,
    }


def _text(value: Any) -> str:
    return "" if value is None else str(value)


def _coding(concept: Resource) -> Resource:
    """The national coding: the first that is not ours."""
    codings: list[Resource] = concept.get("coding", [])
    return next((one for one in codings if not str(one.get("system", "")).startswith(systems.OWN)), {})


def _numbered(resource: Resource, system: str) -> str:
    return next((str(n.get("value", "")) for n in resource.get("identifier", []) if n.get("system") == system), "")


def _replaced(fiche: Resource, related: Mapping[str, Resource]) -> str:
    """The uniqueId of the document that this one replaces, where the core sent it along."""
    for relation in fiche.get("relatesTo", []):
        if relation["code"] == "replaces":
            before = related.get(relation["target"]["reference"], {})
            return _text(before.get("masterIdentifier", {}).get("value"))
    return ""
