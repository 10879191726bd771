"""The small FHIR data types that every mapping writes: Coding, CodeableConcept, Identifier, Reference,
instant.

https://hl7.org/fhir/R4/datatypes.html - FHIR JSON has no empty values, so absent parts are left out.
"""

from datetime import UTC, datetime
from typing import Any

from terminology import systems

Element = dict[str, Any]


def present(**parts: Any) -> Element:
    """The parts that have a value: None, empty text, empty list and empty object are left out; a trailing `_`
    is cut.
    """
    return {name.rstrip("_"): part for name, part in parts.items() if part is not None and part not in ("", [], {})}


def coding(system: str, code: str, display: str | None = None) -> Element:
    """A Coding."""
    return present(system=system, code=code, display=display)


def concept(system: str, code: str, display: str | None = None, *, text: str | None = None) -> Element:
    """A CodeableConcept of one coding."""
    return present(coding=[coding(system, code, display)], text=text)


def identifier(system: str, value: str, *, use: str | None = None, type_: Element | None = None) -> Element:
    """An Identifier."""
    return present(use=use, type=type_, system=system, value=value)


def reference(
    to: str | None = None,
    *,
    type_: str | None = None,
    identified: Element | None = None,
    display: str | None = None,
) -> Element:
    """A Reference: literal (`to` such as `Patient/1` or `#author`), logical (`identified`), or both."""
    return present(reference=to, type=type_, identifier=identified, display=display)


def in_the_record_of(patient: Element) -> list[Element]:
    """The extensions of a Provenance that say in whose record it is (`patient` a Reference): rights are asked by it."""
    return [{"url": systems.PROVENANCE_PATIENT, "valueReference": patient}]


def instant(moment: datetime) -> str:
    """A point in time as FHIR writes it in UTC, to the millisecond; a moment without zone
    raises ValueError.
    """
    if moment.tzinfo is None:
        raise ValueError("a moment without time zone cannot be written as an instant")
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
