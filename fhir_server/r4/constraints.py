"""The rules that R4's own definitions state in FHIRPath (`ele-1`, `con-4`), checked on a resource.

https://hl7.org/fhir/R4/validation.html and https://hl7.org/fhir/R4/elementdefinition-definitions.html#ElementDefinition.constraint
Read from `tables/constraints.json`, which `generate.py` writes. What `structure` and `invariants` say of every write by
plain code is not said again.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Final, Literal

import orjson

from fhir_server.outcomes import Issue
from fhir_server.r4.definitions import TABLES, base_of
from fhir_server.r4.fhirpath.evaluation import Context, TooMuch, Undecided, evaluate, truth
from fhir_server.r4.fhirpath.nodes import Misshapen, Node, all_children, root

SAID_BEFORE: Final = frozenset({
    "att-1", "bdl-1", "bdl-2", "bdl-3", "bdl-4", "bdl-5", "bdl-7", "bdl-8", "bdl-9", "bdl-10", "bdl-11", "bdl-12",
    "cpt-2", "dom-2", "dom-3", "dom-4", "dom-5", "ele-1", "ext-1", "obs-3", "obs-6", "obs-7", "pat-1", "per-1", "qty-3",
    "rat-1", "ref-1", "rng-2", "txt-1", "txt-2",
})  # fmt: skip
"""The rules that `structure.check` knows."""


NOT_OF_CONTAINED: Final = frozenset({"dom-6"})
"""What is asked of a resource by itself: the narrative of the resource around it speaks for it."""


@dataclass(frozen=True, slots=True)
class Constraint:
    """A rule, as its definition states it."""

    key: str
    severity: Literal["error", "warning"]
    expression: str
    human: str


def check_constraints(resource: Mapping[str, Any], *, besides: frozenset[str] = SAID_BEFORE) -> list[Issue]:
    """Every rule that does not hold, with its severity and place; `besides` are the keys that are not asked.

    For what `structure.check` finds nothing wrong with but broken rules. A rule that has no answer, such as one about a
    date that is not precise enough, is taken to hold. Where a resource would cost too much, a warning says so.
    """
    top = root(dict(resource))
    context = Context(top, top, top)
    issues: list[Issue] = []
    try:
        for node, around, outermost in _elements(top, top, top):
            context.paid([])
            context.node, context.resource, context.root_resource = node, around, outermost
            unasked = besides | NOT_OF_CONTAINED if node.key == "contained" else besides
            for constraint in _constraints_on(node):
                if constraint.key not in unasked and not _holds(constraint, context):
                    text = f"{constraint.human} ({constraint.key})"
                    issues.append(Issue(constraint.severity, "invariant", text, node.place))
    except TooMuch:
        issues.append(Issue("warning", "too-costly", "The resource is too large: not every rule of R4 was checked"))
    return issues


def _elements(node: Node, around: Node, outermost: Node) -> Iterator[tuple[Node, Node, Node]]:
    """Each element with the resource that it is in, and that which contains this one."""
    yield node, around, outermost
    for child in all_children(node):
        if not child.is_resource:
            yield from _elements(child, around, outermost)
        elif child.key == "contained":
            yield from _elements(child, child, outermost)
        else:
            yield from _elements(child, child, child)


def _holds(constraint: Constraint, context: Context) -> bool:
    context.uncertain = False
    try:
        return bool(truth(evaluate(constraint.expression, context))) or context.uncertain
    except (Undecided, Misshapen):
        return True


def _constraints_on(node: Node) -> Sequence[Constraint]:
    if node.parent is None or node.element is None:
        return _constraints(node.type, "")
    return _constraints(node.type, f"{node.parent.type}.{node.element.name}")


@cache
def _constraints(type_name: str, element: str) -> Sequence[Constraint]:
    """Those of a type, of the types that it specialises, and of the element that has it."""
    paths = {element: None}
    own: str | None = type_name
    while own:
        paths[own] = None
        own = base_of(own)
    return tuple(one for path in paths for one in stated().get(path, ()))


@cache
def stated() -> Mapping[str, Sequence[Constraint]]:
    """Type or element -> the rules that are stated there."""
    rows: list[dict[str, Any]] = orjson.loads((TABLES / "constraints.json").read_bytes())
    found: dict[str, list[Constraint]] = {}
    for row in rows:
        one = Constraint(row["key"], row["severity"], row["expression"], row["human"])
        found.setdefault(row["path"], []).append(one)
    return found
