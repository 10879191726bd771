"""A SearchParameter resource as a parameter that this server can index, or what stands in the way.

https://hl7.org/fhir/R4/searchparameter.html - pure. What can be indexed is what `paths` compiles and `index_values`
has a shape for.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from fhir_server.outcomes import BusinessRule, Issue
from fhir_server.r4.index_values import can_index
from fhir_server.r4.paths import ExistsAndIsNot, TypedPath, UnknownExpression, compile_expression
from fhir_server.r4.search_parameters import Addition, SearchParameter, built_in, parameter_at, types_under

TYPES: Final = frozenset({"number", "date", "string", "token", "reference", "quantity", "uri"})
NOT_INDEXED: Final = frozenset({"AuditEvent", "OperationOutcome", "Parameters"})
"""The trail has searches of its own; the other two are not kept."""
LONGEST_EXPRESSION: Final = 1000
DEEPEST: Final = 50
_CODE: Final = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,63}")
_TRUTH: Final = re.compile(r"([A-Za-z.]+)\.exists\(\) and \1 != false")
_LITERAL: Final = re.compile(r"'[^']*'")
_MISREAD: Final = re.compile(r"\)\s*\[|\)\s*\.\s*first\b|\bexists\b")
"""Of one collection out of several, and truths: `paths` reads of them only what R4's own parameters need."""


@dataclass(frozen=True, slots=True)
class Definition:
    """What an active SearchParameter asks for."""

    url: str
    code: str
    type: str
    expression: str
    bases: tuple[str, ...]
    targets: tuple[str, ...]

    @property
    def types(self) -> frozenset[str]:
        """The resource types that are searched by it."""
        return frozenset().union(*(types_under(base) for base in self.bases)) - NOT_INDEXED

    def addition(self, number: int, *, ready: bool) -> Addition:
        parameter = SearchParameter(self.code, self.type, self.url, self.expression, self.targets, (), number)
        return Addition(parameter, self.bases, ready)

    def clashes_with(self, other: "Definition") -> bool:
        """Whether some type could not tell them apart."""
        return self.url == other.url or (self.code == other.code and not self.types.isdisjoint(other.types))


def definition_of(resource: Mapping[str, Any]) -> Definition | None:
    """What a valid SearchParameter asks this server to search by.

    None where it asks for nothing: it is not active, or it describes what this server has from the start. Raises
    BusinessRule with everything that cannot be indexed, each with its place.
    """
    if resource["status"] != "active":
        return None
    wanted = Definition(
        resource["url"],
        resource["code"],
        resource["type"],
        resource.get("expression", ""),
        tuple(resource["base"]),
        tuple(resource.get("target", ())),
    )
    if _is_built_in(wanted):
        return None
    if faults := [Issue("error", *fault) for fault in _faults(wanted)]:
        raise BusinessRule(issues=faults)
    return wanted


def _is_built_in(wanted: Definition) -> bool:
    try:
        known = parameter_at(wanted.url)
    except KeyError:
        return False
    return (known.code, known.type) == (wanted.code, wanted.type)


def _faults(wanted: Definition) -> Iterable[tuple[str, str, str]]:
    """Issue code, what is wrong, and where."""
    if wanted.type not in TYPES:
        yield "not-supported", f"This server adds no parameters of type {wanted.type}", "SearchParameter.type"
        return
    if not _CODE.fullmatch(wanted.code):
        yield "value", "The code is letters, digits, - and _, and begins with a letter", "SearchParameter.code"
    for number, base in enumerate(wanted.bases):
        if not types_under(base) - NOT_INDEXED:
            yield "not-supported", "This server indexes no resources of this base", f"SearchParameter.base[{number}]"
    for resource_type in sorted(wanted.types):
        if wanted.code in built_in(resource_type):
            yield "duplicate", f"{resource_type} is searched by this code already", "SearchParameter.code"
            break
    if wanted.type == "reference" and not wanted.targets:
        yield "required", "Say which resource types the reference leads to", "SearchParameter.target"
    if reason := _of_expression(wanted):
        yield "not-supported", reason, "SearchParameter.expression"


def _of_expression(wanted: Definition) -> str | None:
    """Why an expression cannot be indexed, in a sentence that quotes none of it."""
    text = wanted.expression
    if not text:
        return "A parameter without an expression cannot be indexed"
    if len(text) > LONGEST_EXPRESSION or text.count("(") > DEEPEST:
        return f"The expression is longer than {LONGEST_EXPRESSION} characters, or nested more than {DEEPEST} deep"
    if _MISREAD.search(_LITERAL.sub("''", text)) and not _TRUTH.fullmatch(text):
        return "exists() and an index behind parentheses are outside the FHIRPath that this server indexes"
    for resource_type in sorted(wanted.types):
        try:
            selected = compile_expression(text, resource_type)
        except UnknownExpression:
            return f"The expression is outside the FHIRPath that this server indexes, or wrong for {resource_type}"
        if not _is_indexed(wanted.type, selected):
            return f"The expression selects nothing of {resource_type} that a {wanted.type} could be made of"
    return None


def _is_indexed(kind: str, selected: tuple[TypedPath, ...] | ExistsAndIsNot) -> bool:
    if isinstance(selected, ExistsAndIsNot):
        return kind == "token" and bool(selected.paths) and all(len(path.steps) == 1 for path in selected.paths)
    counted = [step for path in selected for step in path.steps[1:] if step.index is not None]
    return not counted and any(can_index(kind, path.type) for path in selected)
