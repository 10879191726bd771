"""Provide Document Bundle [ITI-65]: one of our documents as the transaction that publishes it.

PDSm_ComprehensiveProvideDocumentBundle 3.1.1 over IHE MHD 4.2.3. MHD closes the list of entries
(SubmissionSet, DocumentReference, PATCH of a replaced one, Binary, Folder, Patient), so organisations and
professionals travel contained.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final
from urllib.parse import urlencode
from uuid import NAMESPACE_URL, UUID, uuid5

from mappings.elements import Element, concept, identifier, instant, present, reference
from mappings.scanned_document import AUTHOR, unique_id
from terminology import systems
from terminology.ins import domain_of

_NAMESPACE: Final[UUID] = uuid5(NAMESPACE_URL, systems.OWN)
_CUSTODIAN, _PRACTITIONER = "custodian", "practitioner"


def build(
    document_reference: Mapping[str, Any],
    patient: Mapping[str, Any],
    content_base64: str | None,
    binary_id: str,
    *,
    submission_oid: str,
    source_id: str,
    now: datetime,
    custodian: Mapping[str, Any],
    practitioner: Mapping[str, Any] | None = None,
    replaces_oid: str | None = None,
) -> Element:
    """The transaction Bundle that publishes a DocumentReference of ours with its document.

    `custodian` is the Organization that the DocumentReference names, `practitioner` the one its contained
    author names. `content_base64` None publishes the fiche alone. `submission_oid`, `source_id` and
    `replaces_oid` (uniqueId of the document that this one replaces over there) are `urn:oid:...`. Same
    arguments, same bytes: a retry creates nothing twice. Our own codes and extensions stay here. ValueError
    for a document without national type or class.
    """
    urns = {
        name: uuid5(_NAMESPACE, f"{submission_oid} {name}").urn
        for name in ("List", "DocumentReference", "Patient", "Binary")
    }
    fiche = _fiche(document_reference, f"Binary/{binary_id}", urns["Patient"], custodian, practitioner, replaces_oid)
    person = _person(patient)
    submission = _submission_set(fiche, urns, submission_oid, source_id, now)
    master = fiche["masterIdentifier"]
    entries = [
        _created(urns["List"], submission, _criterion(systems.URI, submission_oid)),
        _created(urns["DocumentReference"], fiche, _criterion(master["system"], master["value"])),
        *([_replaced(replaces_oid)] if replaces_oid else []),
        *([_content(urns["Binary"], fiche, binary_id, content_base64)] if content_base64 is not None else []),
        _created(urns["Patient"], person, _known_as(person)),
    ]
    return {
        "resourceType": "Bundle",
        "meta": {"profile": [systems.PDSM_PROVIDE_BUNDLE]},
        "type": "transaction",
        "timestamp": instant(now),
        "entry": entries,
    }


# --- entries


def _criterion(system: str, value: str) -> str:
    return urlencode({"identifier": f"{system}|{value}"}, safe=":/")


def _created(urn: str, resource: Element, only_if_none_is: str) -> Element:
    request = {"method": "POST", "url": resource["resourceType"], "ifNoneExist": only_if_none_is}
    return {"fullUrl": urn, "resource": resource, "request": request}


def _content(urn: str, fiche: Element, binary_id: str, content_base64: str) -> Element:
    media_type = fiche["content"][0]["attachment"]["contentType"]
    binary = {"resourceType": "Binary", "id": binary_id, "contentType": media_type, "data": content_base64}
    return {"fullUrl": urn, "resource": binary, "request": {"method": "PUT", "url": f"Binary/{binary_id}"}}


def _replaced(unique_oid: str) -> Element:
    """MHD UpdateDocumentRefs: the replaced fiche becomes superseded in the same transaction."""
    parts = [
        {"name": "type", "valueCode": "replace"},
        {"name": "path", "valueString": "DocumentReference.status"},
        {"name": "value", "valueCode": "superseded"},
    ]
    patch = {
        "resourceType": "Parameters",
        "meta": {"profile": [systems.MHD_PATCH_PARAMETERS]},
        "parameter": [{"name": "operation", "part": parts}],
    }
    url = f"DocumentReference?{_criterion(systems.URI, unique_oid)}"
    return {"resource": patch, "request": {"method": "PATCH", "url": url}}


# --- resources


def _person(patient: Mapping[str, Any]) -> Element:
    """The Patient with identifiers and traits only: employer, doctor and centre are nobody
    else's business.
    """
    kept = ("meta", "identifier", "active", "name", "gender", "birthDate")
    person = {name: patient[name] for name in kept if name in patient}
    profiles = person.pop("meta", {}).get("profile")
    return _without_own(
        {
            "resourceType": "Patient",
            **({"meta": {"profile": profiles}} if profiles else {}),
            **person,
            **({"extension": patient["extension"]} if "extension" in patient else {}),
        }
    )


def _known_as(person: Element) -> str:
    """The INS where the Patient carries one, which it does only when qualified; its first identifier
    otherwise.
    """
    numbers: list[Element] = person.get("identifier", [])
    ins = [number for number in numbers if domain_of(number.get("system")) and number.get("use") != "old"]
    known = [*ins, *(number for number in numbers if number.get("system") == systems.NUMERO_DOSSIER)]
    if not known:
        raise ValueError("a patient without INS and without numero de dossier cannot be published")
    return _criterion(known[0]["system"], known[0]["value"])


def _fiche(
    stored: Mapping[str, Any],
    url: str,
    patient_urn: str,
    custodian: Mapping[str, Any],
    practitioner: Mapping[str, Any] | None,
    replaces_oid: str | None,
) -> Element:
    """The DocumentReference as it leaves: national codes, no reference to a resource that only we hold."""
    fiche = _without_own({name: part for name, part in stored.items() if name not in ("id", "meta", "relatesTo")})
    if "coding" not in fiche.get("type", {}) or "coding" not in (fiche.get("category") or [{}])[0]:
        raise ValueError("a document without national type and class cannot be published")
    here = {f"Organization/{custodian['id']}": _CUSTODIAN}
    if practitioner is not None:
        here[f"Practitioner/{practitioner['id']}"] = _PRACTITIONER
    contained = [*fiche["contained"], _contained(custodian, _CUSTODIAN)]
    if practitioner is not None and f"Practitioner/{practitioner['id']}" in _references(fiche["contained"]):
        contained.append(_contained(practitioner, _PRACTITIONER))
    target = reference(type_="DocumentReference", identified=unique_id(replaces_oid or ""))
    attachment = {**fiche["content"][0]["attachment"], "url": url}
    leaving = {
        **fiche,
        "meta": {"profile": [systems.PDSM_DOCUMENT_REFERENCE]},
        "contained": contained,
        "subject": reference(patient_urn),
        "content": [{**fiche["content"][0], "attachment": attachment}],
        **({"relatesTo": [{"code": "replaces", "target": target}]} if replaces_oid else {}),
    }
    return _localised(leaving, here)


def _submission_set(
    fiche: Element, urns: Mapping[str, str], submission_oid: str, source_id: str, now: datetime
) -> Element:
    """The lot de soumission: who submits what, when and why (SubmissionSet)."""
    author = next(one for one in fiche["contained"] if one["id"] == AUTHOR)
    others = [one for one in fiche["contained"] if one["id"] in (_CUSTODIAN, _PRACTITIONER)]
    author_org = {"url": systems.MHD_AUTHOR_ORG, "valueReference": reference(f"#{_CUSTODIAN}")}
    entry_uuid = concept(systems.MHD_IDENTIFIER_TYPE, "entryUUID")
    return {
        "resourceType": "List",
        "meta": {"profile": [systems.PDSM_SUBMISSION_SET]},
        "contained": [author, *others],
        "extension": [
            {"url": systems.MHD_DESIGNATION_TYPE, "valueCodeableConcept": concept(systems.TRE_R209, "07")},
            {"url": systems.MHD_SOURCE_ID, "valueIdentifier": identifier(systems.URI, source_id)},
        ],
        "identifier": [
            unique_id(submission_oid),
            identifier(systems.URI, urns["List"], use="official", type_=entry_uuid),
        ],
        "status": "current",
        "mode": "working",
        "title": "Lot de soumission",
        "code": concept(systems.MHD_LIST_TYPES, "submissionset"),
        "subject": reference(urns["Patient"]),
        "date": instant(now),
        "source": {**reference(f"#{AUTHOR}"), "extension": [author_org]},
        "entry": [{"item": reference(urns["DocumentReference"])}],
    }


# --- what stays here


def _contained(resource: Mapping[str, Any], contained_id: str) -> Element:
    """A resource for containment: its own id and meta would be wrong there (dom-2 to dom-5)."""
    kept = {name: part for name, part in resource.items() if name not in ("meta", "text", "contained", "partOf")}
    return {**kept, "id": contained_id}


def _ours(part: Any) -> bool:
    """A Coding of our own system, or an extension of ours."""
    if not isinstance(part, dict):
        return False
    return str(part.get("url") or "").startswith(systems.OWN) or (
        str(part.get("system") or "").startswith(f"{systems.OWN}/CodeSystem/")
    )


def _without_own(part: Any) -> Any:
    """The same JSON without our own codings and extensions; what becomes empty goes too."""
    if isinstance(part, dict):
        kept = {name: _without_own(value) for name, value in part.items()}
        return {name: value for name, value in kept.items() if value not in ([], {})}
    if isinstance(part, list):
        return [_without_own(item) for item in part if not _ours(item)]
    return part


def _references(part: Any) -> set[str]:
    """Every literal reference in this JSON."""
    if isinstance(part, dict):
        own = {part["reference"]} if isinstance(part.get("reference"), str) else set[str]()
        return own.union(*(_references(value) for value in part.values()))
    if isinstance(part, list):
        return set[str]().union(*(_references(item) for item in part))
    return set()


def _localised(part: Any, here: Mapping[str, str]) -> Any:
    """References to what is contained become `#id`; those to anything else that only we hold lose their
    literal part.
    """
    if isinstance(part, list):
        return [kept for kept in (_localised(item, here) for item in part) if kept not in ([], {})]
    if not isinstance(part, dict):
        return part
    to = part.get("reference")
    if isinstance(to, str):
        if to in here:
            return {**part, "reference": f"#{here[to]}"}
        if not to.startswith(("#", "urn:")):
            return present(**{name: value for name, value in part.items() if name != "reference"})
    kept = {name: _localised(value, here) for name, value in part.items()}
    return {name: value for name, value in kept.items() if value not in ([], {})}
