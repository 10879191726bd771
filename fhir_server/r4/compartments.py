"""Compartments: which search parameters say that a resource belongs to a patient, an encounter, a person or a device.

https://hl7.org/fhir/R4/compartmentdefinition.html - read from `tables/compartments.json`, which `generate.py` writes.
"""

from collections.abc import Mapping
from functools import cache
from typing import Final

import orjson

from fhir_server.r4.definitions import TABLES

COMPARTMENTS: Final = ("Device", "Encounter", "Patient", "Practitioner", "RelatedPerson")


def parameters(compartment: str, resource_type: str) -> tuple[str, ...]:
    """The reference parameters of `resource_type` of which one at least must lead to the resource of the compartment.

    Empty where resources of this type are in no compartment of this kind, and for a compartment that R4 does not
    define. The resource that a compartment is of belongs to it besides, by its id.
    """
    return _table().get((compartment, resource_type), ())


@cache
def types_in(compartment: str) -> tuple[str, ...]:
    """The resource types of a compartment, in the order of the alphabet."""
    return tuple(sorted(resource_type for of, resource_type in _table() if of == compartment))


@cache
def _table() -> Mapping[tuple[str, str], tuple[str, ...]]:
    rows: dict[str, list[str]] = orjson.loads((TABLES / "compartments.json").read_bytes())
    keys = ((key.partition("/"), codes) for key, codes in rows.items())
    return {(of, resource_type): tuple(codes) for (of, _, resource_type), codes in keys}
