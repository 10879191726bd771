"""Whose compartment a resource is in: https://hl7.org/fhir/R4/compartmentdefinition-patient.html

Only the references of the compartment are looked at, so this costs a tenth of extracting everything.
"""

from collections.abc import Iterable, Mapping
from functools import cache
from typing import Any

from fhir_server.r4.compartments import parameters
from fhir_server.r4.paths import ExistsAndIsNot, Step, compile_expression
from fhir_server.r4.references import split_reference
from fhir_server.r4.search_parameters import parameters_of


def patients_of(resource: Mapping[str, Any]) -> set[str]:
    """The ids of the patients in whose compartments this resource is."""
    kind = resource["resourceType"]
    found = {resource["id"]} if kind == "Patient" and "id" in resource else set[str]()
    for steps in _paths(kind):
        for value in _at(resource, steps):
            target = split_reference(value.get("reference", "")) if isinstance(value, dict) else None
            if target and target[0] == "Patient":
                found.add(target[1])
    return found


@cache
def _paths(resource_type: str) -> tuple[tuple[Step, ...], ...]:
    """Where the references stand. That some lead to a Patient only is seen at their target."""
    steps: list[tuple[Step, ...]] = []
    for code in parameters("Patient", resource_type):
        selected = compile_expression(parameters_of(resource_type)[code].expression, resource_type)
        if not isinstance(selected, ExistsAndIsNot):
            steps += [path.steps for path in selected if path.type == "Reference"]
    return tuple(steps)


def _at(value: Any, steps: tuple[Step, ...]) -> Iterable[Any]:
    if not steps:
        yield value
        return
    found = value.get(steps[0].key) if isinstance(value, dict) else None
    items = found if isinstance(found, list) else [] if found is None else [found]
    if (index := steps[0].index) is not None:
        items = items[index : index + 1]
    for item in items:
        yield from _at(item, steps[1:])
