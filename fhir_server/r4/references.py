"""The references that a resource holds, and how a literal one is read.

https://hl7.org/fhir/R4/references.html#literal
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

from fhir_server.r4.resource_types import TYPE_NUMBER

_RELATIVE: Final = re.compile(r"([A-Z][A-Za-z]+)/([A-Za-z0-9.-]{1,64})(?:/_history/([A-Za-z0-9.-]{1,64}))?")

_OF_A_REFERENCE: Final = frozenset({"reference", "type", "identifier", "display", "id", "extension"})
_NOT_REFERENCES: Final = frozenset({"education"})  # Immunization.education.reference is a uri


def split_reference(reference: str) -> tuple[str, str, str | None] | None:
    """`Type/id` or `Type/id/_history/version` as its parts, if the type is one of R4."""
    match = _RELATIVE.fullmatch(reference)
    if match is None or match[1] not in TYPE_NUMBER:
        return None
    return match[1], match[2], match[3]


def is_local(reference: str) -> tuple[str, str] | None:
    """Type and id of a relative reference, its version left out; None for every other form."""
    parts = split_reference(reference)
    return parts and parts[:2]


def literal_references(resource: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """The FHIRPath and text of each `Reference.reference`, in the order of the JSON.

    Contained resources and extensions are searched too, the resources in a Bundle's entries or in Parameters are not:
    they are resources in their own right. The path of a choice is the element's (`MedicationRequest.medication`) as
    JSON names it (`medicationReference`).
    """
    yield from _within(resource, str(resource.get("resourceType", "Resource")))


def literal_targets(resource: Mapping[str, Any]) -> list[str]:
    """The texts alone of the same references, in no order, for a quarter of the time."""
    found: list[str] = []
    pending: list[Mapping[str, Any]] = [resource]
    while pending:
        for name, item in pending.pop().items():
            if type(item) is dict:
                if name == "resource" and "resourceType" in item:
                    continue
                items = (item,)
            elif type(item) is list:
                items = [one for one in item if type(one) is dict]
            else:
                continue
            for one in items:
                text = one.get("reference")
                if type(text) is str and name not in _NOT_REFERENCES and _is_reference(one):
                    found.append(text)
            pending.extend(items)
    return found


def _within(value: Mapping[str, Any], path: str) -> Iterator[tuple[str, str]]:
    for name, item in value.items():
        place = f"{path}.{name}"
        if isinstance(item, dict):
            if name != "resource" or "resourceType" not in item:
                yield from _object(item, name, place)
        elif isinstance(item, list):
            for n, one in enumerate(item):
                if isinstance(one, dict):
                    yield from _object(one, name, f"{place}[{n}]")


def _object(value: Mapping[str, Any], name: str, place: str) -> Iterator[tuple[str, str]]:
    text = value.get("reference")
    if isinstance(text, str) and name not in _NOT_REFERENCES and _is_reference(value):
        yield place + ".reference", text
    yield from _within(value, place)


def _is_reference(value: Mapping[str, Any]) -> bool:
    """Whether an object with a text `reference` is a Reference: an Expression has a language besides."""
    return all(name.removeprefix("_") in _OF_A_REFERENCE for name in value)
