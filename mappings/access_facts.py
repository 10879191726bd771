"""What decides who may see a resource: whose record it is in, under which headings of the DMST, and what hides it.

Code du travail R4624-45-4 (the seven headings), R4624-45-5 (who may see them), R4624-45-7 and CSP R4127-45 (what is
never handed on). The answer is a number, one bit for each fact, so that PostgreSQL decides with one comparison.
"""

import tomllib
from collections.abc import Iterable, Mapping
from functools import cache
from importlib.resources import files
from typing import Any, Final, NamedTuple

from mappings.document_kind import kind_of_document
from mappings.nomenclature import CATEGORIES
from terminology import systems

OUTSIDE: Final = 1
"""Not about a worker: professionals, places, definitions."""
HEADINGS: Final = {number: 1 << number for number in range(1, 8)}
"""The headings 1° to 7° of R4624-45-4."""
NOT_A_MODEL: Final = 1 << 8
"""Of a worker, and none of the documents that his employer holds too (arrêté of 16 October 2017)."""
UNQUALIFIED: Final = 1 << 9
"""Nobody has said under which heading it stands."""
IDENTITY: Final = 1 << 10
"""The Patient himself: who he is, which no opposition conceals."""
WORKER_UNCLEAR: Final = 1 << 11
"""It names several workers, one whom nobody can follow, or none: whether one of them opposes cannot be asked."""
NON_TRANSMISSIBLE: Final = 1 << 16
"""Personal notes and what third persons told: CSP R4127-45, R4624-45-7."""
QUARANTINE: Final = 1 << 17
"""Kept back until somebody has looked at it."""
MASKED_FOR_PROFESSIONALS: Final = 1 << 18
INVISIBLE_TO_PATIENT: Final = 1 << 19
UNFILED: Final = 1 << 20
"""Taken out of a record, or not in one yet: nobody has said whose it is."""
UNKNOWN: Final = 1 << 30
"""Nothing was made out: seen by nobody."""

WITHHELD: Final = {
    "non-transmissible": NON_TRANSMISSIBLE,
    "quarantaine": QUARANTINE,
    "MASQUE_PS": MASKED_FOR_PROFESSIONALS,
    "INVISIBLE_PATIENT": INVISIBLE_TO_PATIENT,
    "a-rattacher": UNFILED,
}
"""Codes of security labels that hide a resource: of `systems.SECURITY_TAG`, and of the CI-SIS (TRE_A07)."""
_MASKS: Final = frozenset({systems.SECURITY_TAG, systems.TRE_A07})
_NAMES_THE_WORKER: Final = ("subject", "patient", "for", "beneficiary")


class AccessFacts(NamedTuple):
    """The bits of a resource, and the id of the Patient whose record it is in."""

    guard: int
    worker: str | None


@cache
def _types() -> Mapping[str, int]:
    """The heading of the types that have one, 0 for those that tell of no worker."""
    table = tomllib.loads((files("mappings.tables") / "headings.toml").read_text(encoding="utf-8"))
    return {name: number for number, names in enumerate([table["outside"], *table["heading"]]) for name in names}


def access_facts(resource: Mapping[str, Any]) -> AccessFacts:
    """The facts of one resource (its parsed JSON), by its type, its codings and its security labels."""
    name = resource["resourceType"]
    worker, is_unclear = _worker_of(resource)
    heading = _types().get(name)
    if heading == 0 and worker is None:
        return AccessFacts(OUTSIDE | _withheld(resource), None)
    guard = NOT_A_MODEL | _withheld(resource) | _headings(resource, heading, worker)
    if is_unclear:
        guard |= WORKER_UNCLEAR
    for one in _enclosed(resource):
        guard |= access_facts(one).guard & sum(WITHHELD.values())
    if name == "Patient":
        guard |= IDENTITY
    elif name == "DocumentReference":
        kind = kind_of_document(resource)
        if kind.employer == "yes":
            guard &= ~NOT_A_MODEL
        if "NT" in kind.retention:
            guard |= NON_TRANSMISSIBLE
    return AccessFacts(guard, worker)


def _headings(resource: Mapping[str, Any], of_type: int | None, worker: str | None) -> int:
    """Those that are said by codings; else that of the type; else health information, where it is about a worker."""
    codings = [*_codings(resource.get("category")), *_listed(resource.get("meta", {}).get("tag"))]
    said = [str(coding.get("code")) for coding in codings if coding.get("system") == systems.DMST_CATEGORY]
    known = {HEADINGS[int(code)] for code in said if code in CATEGORIES}
    if said:
        return sum(known) | (0 if all(code in CATEGORIES for code in said) else UNQUALIFIED)
    if of_type:
        return HEADINGS[of_type]
    return HEADINGS[3] if worker and resource["resourceType"] != "DocumentReference" else UNQUALIFIED


def _withheld(resource: Mapping[str, Any]) -> int:
    bits = 0
    labels = [*_listed(resource.get("meta", {}).get("security")), *_codings(resource.get("securityLabel"))]
    for label in labels:
        if label.get("system") in _MASKS:
            bits |= WITHHELD.get(str(label.get("code")), 0)
    return bits


def _codings(concepts: Any) -> Iterable[Mapping[str, Any]]:
    """The codings with a system of CodeableConcepts, one or several."""
    for concept in concepts if isinstance(concepts, list) else [concepts]:
        for coding in _listed(concept.get("coding")) if isinstance(concept, dict) else ():
            if "system" in coding:
                yield coding


def _listed(value: Any) -> list[Mapping[str, Any]]:
    return [one for one in value if isinstance(one, dict)] if isinstance(value, list) else []


def _worker_of(resource: Mapping[str, Any]) -> tuple[str | None, bool]:
    """The id of the Patient in whose record it is, and whether that leaves somebody else, or somebody unknown, open."""
    if resource["resourceType"] == "Patient":
        return resource.get("id"), False
    named, elsewhere = _workers_in(resource)
    first = next((one for one in _subjects(resource) if one), None)
    worker = first or (min(named) if len(named) == 1 else None)
    is_clear = worker is not None and named == {worker} and elsewhere <= named
    return worker, not is_clear and resource["resourceType"] != "Binary"  # a Binary is seen with what protects it


def _subjects(resource: Mapping[str, Any]) -> Iterable[str | None]:
    for element in _NAMES_THE_WORKER:
        value = resource.get(element)
        for reference in value if isinstance(value, list) else [value]:
            if isinstance(reference, dict):
                yield _patient(str(reference.get("reference", "")))


def _workers_in(resource: Mapping[str, Any]) -> tuple[set[str], set[str]]:
    """The Patients that are named wherever it may be, in the entries of a Bundle too; and those named by an absolute
    URL or an identifier, who may be anybody.
    """
    named: set[str] = set()
    elsewhere: set[str] = set()
    pending: list[Any] = [resource]
    while pending:
        value = pending.pop()
        if isinstance(value, list):
            pending += value
        elif isinstance(value, dict):
            target = value.get("reference")
            if isinstance(target, str) and "Patient/" in target:
                here = _patient(target)
                (named if here else elsewhere).add(here or _patient(target[target.rindex("Patient/") :]) or target)
            elif value.get("type") == "Patient" and target is None:
                elsewhere.add("?")
            pending += [inner for inner in value.values() if isinstance(inner, dict | list)]
    named |= {str(one.get("id")) for one in _enclosed(resource) if one["resourceType"] == "Patient"}
    return named, elsewhere


def _enclosed(resource: Mapping[str, Any]) -> Iterable[Mapping[str, Any]]:
    """The resources in the entries of a Bundle: each could be read by itself."""
    for entry in _listed(resource.get("entry")) if resource["resourceType"] == "Bundle" else ():
        inner = entry.get("resource")
        if isinstance(inner, dict) and "resourceType" in inner:
            yield inner


def _patient(target: str) -> str | None:
    """The id in a relative reference to a Patient, whichever version it names."""
    return target.split("/")[1] if target.startswith("Patient/") else None
