"""A Patient that somebody is looked for by, and a Patient that was found: Patient/$match.

https://hl7.org/fhir/R4/patient-operation-match.html and IHE PDQm ITI-119.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from mappings.elements import Element, coding
from mappings.patient_fr_core import PatientIdentity, identity_of
from terminology import systems
from terminology.ins import domain_of, matricule_may_circulate

SUBSETTED: Final = coding(systems.OBSERVATION_VALUE, "SUBSETTED")
_BORN: Final = ("official", "maiden")
_NEITHER: Final = ("old", "temp", "anonymous", "nickname")


@dataclass(frozen=True, slots=True)
class StatedMatricule:
    """An INS as a query states it, whatever the status of the identity: `oid_ins` is bare."""

    value: str
    oid_ins: str
    former: bool
    place: str
    """Where it stands (FHIRPath)."""


def stated_identity(patient: Mapping[str, Any]) -> PatientIdentity:
    """What a query says of a person, read more kindly than what is stored: a maiden name is a birth name, and the given
    names of any name count where the first one has none. The INS are apart (`stated_matricules`).
    """
    names: list[Element] = [name for name in patient.get("name", []) if name.get("use") not in _NEITHER]
    given = next((name["given"] for name in names if any(name.get("given") or ())), [])
    read: list[Element] = []
    for name in names:
        use = "official" if name.get("use") in _BORN else "usual"
        held = [one for one in name.get("given") or given if one]
        read.append({**name, "use": use, **({"given": held} if held else {})})
    return identity_of({**patient, "name": read, "identifier": []})


def stated_matricules(patient: Mapping[str, Any]) -> list[StatedMatricule]:
    """The INS of a query, the current ones first."""
    found = [
        StatedMatricule(
            number["value"],
            number["system"].removeprefix("urn:oid:"),
            number.get("use") == "old",
            f"Patient.identifier[{place}].value",
        )
        for place, number in enumerate(patient.get("identifier", []))
        if domain_of(number.get("system")) and number.get("value")
    ]
    return sorted(found, key=lambda one: one.former)


def local_identifiers(patient: Mapping[str, Any]) -> list[tuple[str, str]]:
    """(system, value) of the identifiers that are no INS."""
    return [
        (number["system"], number["value"])
        for number in patient.get("identifier", [])
        if number.get("system") and number.get("value") and not domain_of(number["system"])
    ]


def shown_identifiers(patient: Mapping[str, Any]) -> list[Element]:
    """The identifiers that may leave: an INS, a former one too, of a qualified identity only (EXI ID 29, EXI SI 08)."""
    identity = identity_of(patient)
    numbers: list[Element] = patient.get("identifier", [])
    if matricule_may_circulate(identity.status, identity.attributes):
        return numbers
    return [number for number in numbers if not domain_of(number.get("system"))]


def as_shown(patient: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The Patient without an INS that may not leave, tagged as less than the whole; None where all of it may."""
    numbers = patient.get("identifier", [])
    shown = shown_identifiers(patient)
    if len(shown) == len(numbers):
        return None
    meta = patient.get("meta", {})
    less = {**patient, "meta": {**meta, "tag": [*meta.get("tag", []), SUBSETTED]}, "identifier": shown}
    if not shown:
        del less["identifier"]
    return less


def search_of(
    score: float, grade: str, reasons: Iterable[tuple[str, str]], explained: Mapping[str, Any] | None = None
) -> Element:
    """`Bundle.entry.search` of a match: `reasons` are (code, words), `explained` the steps for a reviewer."""
    said = [
        {"url": systems.MATCH_GRADE, "valueCode": grade},
        *(
            {"url": systems.EXTENSION_MATCH_REASON, "valueCoding": coding(systems.MATCH_REASON, *reason)}
            for reason in reasons
        ),
        *([_steps(explained)] if explained else []),
    ]
    return {"extension": said, "mode": "match", "score": score}


def _steps(explained: Mapping[str, Any]) -> Element:
    steps: Sequence[Mapping[str, Any]] = explained["steps"]
    return {
        "url": systems.EXTENSION_MATCH_STEPS,
        "extension": [
            {"url": "odds", "valueDecimal": explained["odds"]},
            *({"url": "step", "extension": [_part(name, value) for name, value in one.items()]} for one in steps),
        ],
    }


def _part(name: str, value: str | float) -> Element:
    return {"url": name, ("valueString" if isinstance(value, str) else "valueDecimal"): value}
