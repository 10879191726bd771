"""Whose document it is, decided and taken back: what becomes of its records, and the Provenances that tell of it.

R4 Provenance with the activities `link` and `unlink` of ISO 21089; R4 Patient.link. What is taken out of a record
keeps everything but whose it was, under a label that hides it from everybody until it is filed again. Of two workers
neither's record tells of the other.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from mappings.elements import Element, coding, concept, identifier, in_the_record_of, instant, present, reference
from mappings.scanned_document import SOURCE_PATIENT
from terminology import systems

UNFILED: Final = coding(systems.SECURITY_TAG, "a-rattacher", "À rattacher")
SEE_ALSO: Final = "seealso"
_OF_THE_WORKER: Final = ("subject", "status", "date", "author", "custodian", "contained")


@dataclass(frozen=True, slots=True)
class Decided:
    """Who decided, in which role, when, and why (a code); `confirmed_by` is the second person, where there was one."""

    by: str
    role: str
    at: datetime
    reason: str | None
    custodian_id: str
    confirmed_by: str | None = None


def is_unfiled(resource: Mapping[str, Any]) -> bool:
    """Whether it waits for somebody to say whose it is."""
    return any(_is_label(one) for one in resource.get("meta", {}).get("security", []))


def withheld(resource: Mapping[str, Any]) -> Element:
    """The same, hidden from everybody."""
    if is_unfiled(resource):
        return dict(resource)
    meta = resource.get("meta", {})
    return {**resource, "meta": {**meta, "security": [*meta.get("security", []), UNFILED]}}


def proof_taken_out(provenance: Mapping[str, Any]) -> Element:
    """A Provenance of documents that are in nobody's record any more."""
    left = withheld(provenance)
    more = [one for one in left.pop("extension", []) if one.get("url") != systems.PROVENANCE_PATIENT]
    return {**left, **present(extension=more)}


def proof_filed_again(provenance: Mapping[str, Any], patient: Element) -> Element:
    """The same, of documents that are in the record of this `patient` (a Reference) now."""
    kept = shown(proof_taken_out(provenance))
    return {**kept, "extension": [*kept.get("extension", []), *in_the_record_of(patient)]}


def tells_of_a_filing(provenance: Mapping[str, Any]) -> bool:
    """Whether it says that documents were put into a record: true once, and not of the next one."""
    codes = [one.get("code") for one in provenance.get("activity", {}).get("coding", [])]
    return "link" in codes


def shown(resource: Mapping[str, Any]) -> Element:
    """The same without that label."""
    meta = dict(resource.get("meta", {}))
    left = [one for one in meta.pop("security", []) if not _is_label(one)]
    meta = {**meta, "security": left} if left else meta
    return {**{name: part for name, part in resource.items() if name != "meta"}, **({"meta": meta} if meta else {})}


def taken_out(resource: Mapping[str, Any]) -> Element:
    """A DocumentReference or List that is in nobody's record any more: hidden, and without whose it was."""
    left = {name: part for name, part in withheld(resource).items() if name != "subject"}
    contained = [one for one in left.pop("contained", []) if one.get("id") != SOURCE_PATIENT]
    context = {name: part for name, part in left.pop("context", {}).items() if name != "sourcePatientInfo"}
    relations = [one for one in left.pop("relatesTo", []) if one.get("code") != "replaces"]
    return {**left, **present(contained=contained, context=context, relatesTo=relations)}


def filed_again(unfiled: Mapping[str, Any], fresh: Mapping[str, Any]) -> Element:
    """What was taken out, in the record that `fresh`, the same made anew, is in. What people changed on it stays:
    type, labels, status.
    """
    kept = shown(unfiled)
    labels = kept.get("meta", {}).get("security", [])
    more = [one for one in fresh.get("meta", {}).get("security", []) if one not in labels]
    if more:
        kept["meta"] = {**kept.get("meta", {}), "security": [*labels, *more]}
    mine = {name: fresh[name] for name in _OF_THE_WORKER if name in fresh and name != "status"}
    info = fresh.get("context", {}).get("sourcePatientInfo")
    context = {**kept.get("context", {}), **({"sourcePatientInfo": info} if info else {})}
    relations = kept.get("relatesTo", [])
    if fresh["id"] == unfiled["id"]:
        relations = [*relations, *(one for one in fresh.get("relatesTo", []) if one not in relations)]
    return {**kept, **mine, **present(context=context, relatesTo=relations)}


def _is_label(security: Mapping[str, Any]) -> bool:
    return (security.get("system"), security.get("code")) == (UNFILED["system"], UNFILED["code"])


def removal(provenance_id: str, decided: Decided, *, patient_id: str, filed_at: datetime) -> Element:
    """In the record out of which a folder was taken: that this happened, when and why. It names neither the documents
    nor the worker whose they are.
    """
    text = "Dossier numérisé classé par erreur dans ce DMST, retiré."
    return _provenance(
        provenance_id,
        "unlink",
        [f"Patient/{patient_id}"],
        decided,
        {"occurredPeriod": {"start": instant(filed_at), "end": instant(decided.at)}},
        text=text,
    )


def detachment(provenance_id: str, decided: Decided, *, targets: Sequence[str]) -> Element:
    """In the chain of the documents: that a filing was taken back, without whose record it was."""
    return _provenance(provenance_id, "unlink", targets, decided, {"occurredDateTime": instant(decided.at)})


def between_patients(
    provenance_id: str, decided: Decided, *, patient_id: str, other_patient_id: str, linked: bool
) -> Element:
    """Two identities were said to be of one worker, or no longer."""
    targets = [f"Patient/{patient_id}", f"Patient/{other_patient_id}"]
    happened = {"occurredDateTime": instant(decided.at)}
    return _provenance(provenance_id, "link" if linked else "unlink", targets, decided, happened)


def _provenance(
    provenance_id: str,
    activity: str,
    targets: Sequence[str],
    decided: Decided,
    happened: Element,
    *,
    text: str | None = None,
) -> Element:
    return present(
        resourceType="Provenance",
        id=provenance_id,
        target=[reference(target) for target in targets],
        **happened,
        recorded=instant(decided.at),
        reason=[concept(systems.REVIEW_REASON, decided.reason, text=text)] if decided.reason else None,
        activity=concept(systems.ISO_21089, activity),
        agent=[
            {
                "type": concept(systems.PROVENANCE_PARTICIPANT, "verifier"),
                "role": [concept(systems.CALLER_ROLE, decided.role)],
                "who": reference(type_="Practitioner", identified=identifier(systems.USER, person)),
                "onBehalfOf": reference(f"Organization/{decided.custodian_id}"),
            }
            for person in (decided.by, decided.confirmed_by)
            if person
        ],
    )


def linked_to(patient: Mapping[str, Any], other_patient_id: str) -> Element:
    """The Patient, saying that the other one is about the same person (`seealso`: both stay in use, none is merged)."""
    link = {"other": reference(f"Patient/{other_patient_id}"), "type": SEE_ALSO}
    return {**patient, "link": [*patient.get("link", []), link]}


def is_linked_to(patient: Mapping[str, Any], other_patient_id: str) -> bool:
    """Whether it says so of the other one."""
    return any(_leads_to(link, other_patient_id) for link in patient.get("link", []))


def unlinked_from(patient: Mapping[str, Any], other_patient_id: str) -> Element:
    """The Patient as it was before: without that link, and nothing else changed."""
    left = [link for link in patient.get("link", []) if not _leads_to(link, other_patient_id)]
    return {**{name: part for name, part in patient.items() if name != "link"}, **({"link": left} if left else {})}


def _leads_to(link: Mapping[str, Any], patient_id: str) -> bool:
    named = link.get("other", {}).get("reference")
    return link.get("type") == SEE_ALSO and named == f"Patient/{patient_id}"
