"""FHIRPath that a client writes: `fhirpath:` and `@slice(path:)`.

https://hl7.org/fhir/R4/graphql.html#list - an expression selects and compares. What would make long texts or numbers
out of short ones, apply a regular expression or walk the whole resource is refused: nobody can tell what it costs.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from typing import Final

from graphql.language import Node as QueryNode

from fhir_server.outcomes import BadParameter, TooCostly
from fhir_server.r4.fhirpath.evaluation import (
    MOST_STEPS,
    Compiled,
    Context,
    TooMuch,
    Undecided,
    compile_tree,
    one,
    truth,
)
from fhir_server.r4.fhirpath.nodes import Misshapen, Node
from fhir_server.r4.fhirpath.syntax import (
    Binary,
    Call,
    Dot,
    Literal,
    Member,
    Tree,
    TypeIs,
    Unary,
    UnknownExpression,
    Variable,
    parse,
)
from fhir_server.r4.fhirpath.values import Items, Moment, plain
from fhir_server.r4.graphql.faults import refused
from fhir_server.r4.graphql.limits import LONGEST_PATH, LONGEST_SLICE, MOST_PATH_STEPS

FUNCTIONS: Final = frozenset({
    "all", "allFalse", "allTrue", "anyFalse", "anyTrue", "as", "combine", "contains", "count", "distinct", "empty",
    "endsWith", "exclude", "exists", "extension", "first", "getValue", "hasValue", "iif", "indexOf", "intersect", "is",
    "isDistinct", "last", "length", "lower", "not", "ofType", "resolve", "select", "single", "skip", "startsWith",
    "substring", "tail", "take", "trim", "union", "upper", "where",
})  # fmt: skip
OPERATORS: Final = frozenset({
    "implies", "or", "xor", "and", "in", "contains", "=", "~", "!=", "!~", ">", "<", ">=", "<=", "|", "[]",
})  # fmt: skip
VARIABLES: Final = frozenset({"$this", "$index", "%ucum", "%sct", "%loinc"})

OF_TEXT: Final = 20
"""Characters of an expression that count as one element touched."""


class Meter:
    """What the expressions of one query cost together."""

    def __init__(self) -> None:
        self._steps = MOST_STEPS - MOST_PATH_STEPS

    def evaluated(self, path: "ClientPath", place: Node, around: Node, index: int) -> Items:
        """What an expression gives on an element of the resource `around`. Raises Undecided, Misshapen, TooCostly."""
        steps = self._steps + len(path.text) // OF_TEXT  # what it says without touching anything costs time as well
        context = Context(around, around, place, steps, this=[place], index=index, weighs=True)
        try:
            return path.compiled(context, context.paid([place]))
        except TooMuch:
            raise TooCostly("The FHIRPath expressions of the query touch too many elements") from None
        finally:
            self._steps = context.steps


@dataclass(frozen=True, slots=True)
class ClientPath:
    """An expression that was read, and where it stands in the query."""

    text: str
    compiled: Compiled
    node: QueryNode

    def holds(self, meter: Meter, place: Node, around: Node, index: int) -> bool:
        """Is it true of an element? Raises BadParameter where it has no answer, TooCostly."""
        try:
            return bool(truth(meter.evaluated(self, place, around, index)))
        except (Undecided, Misshapen):
            raise self._no_answer() from None

    def name(self, meter: Meter, place: Node, around: Node, index: int) -> str:
        """What it gives for an element, as a text; of nothing the empty one. Raises BadParameter, TooCostly."""
        try:
            item = one(meter.evaluated(self, place, around, index))
        except (Undecided, Misshapen):
            raise self._no_answer() from None
        match None if item is None else plain(item):
            case None:
                name = ""
            case bool() as value:
                name = str(value).lower()
            case str() | Decimal() as value:
                name = str(value)
            case Moment(text):
                name = text
            case _:
                raise self._no_answer()
        if len(name) > LONGEST_SLICE:
            raise refused(f"@slice names an element by more than {LONGEST_SLICE} characters", self.node)
        return name

    def _no_answer(self) -> BadParameter:
        return refused("The FHIRPath does not give one answer for each element", self.node)


def client_path(text: str, node: QueryNode) -> ClientPath:
    """An expression read. Raises BadParameter."""
    if len(text) > LONGEST_PATH:
        raise refused(f"A FHIRPath has at most {LONGEST_PATH} characters here", node)
    try:
        tree = parse(text)
        if (beyond := next(_beyond(tree), None)) is not None:
            raise refused(f"This FHIRPath uses {beyond}, which queries cannot use here", node)
        return ClientPath(text, compile_tree(tree), node)
    except (UnknownExpression, RecursionError):
        raise refused("The FHIRPath cannot be read", node) from None


def _beyond(tree: Tree) -> Iterator[str]:
    """What an expression uses of what clients may not."""
    match tree:
        case Call(name, arguments):
            if name not in FUNCTIONS:
                yield f"{name}()"
            for argument in arguments:
                yield from _beyond(argument)
        case Binary(operator, left, right):
            if operator not in OPERATORS:
                yield operator
            yield from _beyond(left)
            yield from _beyond(right)
        case Dot(source, step):
            yield from _beyond(source)
            yield from _beyond(step)
        case Unary(_, operand) | TypeIs(_, operand, _):
            yield from _beyond(operand)
        case Variable(name):
            if name not in VARIABLES:
                yield name
        case Literal() | Member():
            pass
