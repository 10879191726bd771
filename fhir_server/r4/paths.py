"""The FHIRPath of search parameters, compiled to the paths that it selects in one resource type.

http://hl7.org/fhirpath/N1/ and https://hl7.org/fhir/R4/fhirpath.html

R4's search parameters use a small part of the language: paths, `|`, `as`, `ofType`, `where`, `extension`, `resolve`,
`exists`, indexers, and one expression with `and`. Since the tables know every type, an expression becomes a list of
paths whose end has one known type: `Observation.value as Quantity` is the property `valueQuantity`, a Quantity.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final, Literal

from fhir_server.r4.definitions import PRIMITIVES, elements_of

ROOTS: Final = frozenset({"Resource", "DomainResource"})
RESOLVE: Final = "resolve()"
"""The key of the step from a Reference to the contained resource that it names; its filter says of which type."""


@dataclass(frozen=True, slots=True)
class Filter:
    """What an item must be to be kept."""

    kind: Literal["equals", "resolves-to"]
    name: str
    """Of `equals`: the property that is compared; empty for `resolves-to`."""
    value: str
    """The text that it equals, or the resource type that the reference points to."""


@dataclass(frozen=True, slots=True)
class Step:
    """One JSON property on the way."""

    key: str
    filter: Filter | None = None
    index: int | None = None


@dataclass(frozen=True, slots=True)
class TypedPath:
    """Where to go from the start, and the type that is found there."""

    steps: tuple[Step, ...]
    type: str
    value_set: str | None = None
    """Of a code with a required binding: its value set."""
    from_resource: bool = False
    """Whether the way starts at the resource (`%resource`) rather than at the item in hand."""
    resolved: bool = False
    """Whether `resolve()` was said last: a type that follows is that of the contained resource."""


@dataclass(frozen=True, slots=True)
class ExistsAndIsNot:
    """`x.exists() and x != false`, the one expression of R4 that is a truth and not a path."""

    paths: tuple[TypedPath, ...]


class UnknownExpression(ValueError):
    """An expression outside the part of FHIRPath that is known here."""


def compile_expression(expression: str, type_name: str) -> tuple[TypedPath, ...] | ExistsAndIsNot:
    """What an expression selects in a resource or element of this type; parts about other types select nothing.

    Raises UnknownExpression, also for an element that the type does not have.
    """
    match = _TRUTH.fullmatch(expression)
    if match is not None:
        return ExistsAndIsNot(tuple(_Reader(match[1], type_name).read()))
    return tuple(_Reader(expression, type_name).read())


_TRUTH: Final = re.compile(r"([A-Za-z.]+)\.exists\(\) and \1 != false")
_TOKEN: Final = re.compile(r"\s*(?:(%?[A-Za-z_$][A-Za-z0-9_]*)|'([^']*)'|([0-9]+)|([|.()\[\]=]))")


class _Reader:
    """A reader by recursive descent; each method returns the paths selected so far."""

    def __init__(self, expression: str, type_name: str) -> None:
        self._expression = expression
        self._type = type_name
        self._tokens = _tokens(expression)
        self._at = 0

    def read(self) -> list[TypedPath]:
        paths = self._union()
        if self._at < len(self._tokens):
            raise self._unknown()
        return paths

    def _union(self) -> list[TypedPath]:
        paths = self._cast()
        while self._took("|"):
            paths = paths + [path for path in self._cast() if path not in paths]
        return paths

    def _cast(self) -> list[TypedPath]:
        paths = self._chain()
        while self._took("as"):
            paths = self._of_type(paths, self._next())
        return paths

    def _chain(self) -> list[TypedPath]:
        paths = self._start()
        while True:
            if self._took("."):
                paths = self._invocation(paths, self._next())
            elif self._took("["):
                paths = _indexed(paths, self._number())
                self._expect("]")
            else:
                return paths

    def _start(self) -> list[TypedPath]:
        here = [TypedPath((), self._type)]
        if self._took("("):
            paths = self._union()
            self._expect(")")
            return paths
        name = self._next()
        if name == "$this":
            return here
        if name == "%resource":
            return [TypedPath((), self._type.partition(".")[0], from_resource=True)]
        if name == self._type or name in ROOTS:
            return here
        if name[:1].isupper():
            return []  # an alternative for another resource type
        return self._invocation(here, name)

    def _invocation(self, paths: list[TypedPath], name: str) -> list[TypedPath]:
        if not self._took("("):
            return [found for path in paths for found in self._children(path, name)]
        match name:
            case "as" | "ofType":
                paths = self._of_type(paths, self._next())
            case "where":
                condition = self._condition()
                paths = [_filtered(path, condition) for path in paths]
            case "extension":
                condition = Filter("equals", "url", self._next())
                paths = [_filtered(found, condition) for path in paths for found in self._children(path, "extension")]
            case "first":
                paths = _indexed(paths, 0)
            case "resolve":  # alone, the index holds what the reference says
                paths = [replace(path, resolved=True) for path in paths]
            case "exists":
                pass  # what is indexed exists
            case _:
                raise self._unknown()
        self._expect(")")
        return paths

    def _condition(self) -> Filter:
        name = self._next()
        if name == "resolve":
            for token in ("(", ")", "is"):
                self._expect(token)
            return Filter("resolves-to", "", self._next())
        self._expect("=")
        return Filter("equals", name, self._next())

    def _children(self, path: TypedPath, name: str) -> list[TypedPath]:
        if path.type in PRIMITIVES:
            raise self._unknown()
        elements = elements_of(path.type)
        element = elements.get(name) or elements.get(name + "[x]")
        if element is None:
            raise self._unknown()
        return [
            replace(path, steps=(*path.steps, Step(key)), type=one.name, value_set=element.value_set, resolved=False)
            for key, one in element.json_names().items()
        ]

    def _of_type(self, paths: list[TypedPath], name: str) -> list[TypedPath]:
        """R4 writes `DateTime` once for dateTime; and `as` on what is of one type only keeps it or not."""
        return [
            TypedPath((*path.steps, Step(RESOLVE, Filter("resolves-to", "", name))), name) if path.resolved else path
            for path in paths
            if path.resolved or path.type.lower() == name.lower()
        ]

    def _took(self, token: str) -> bool:
        if self._at < len(self._tokens) and self._tokens[self._at] == token:
            self._at += 1
            return True
        return False

    def _next(self) -> str:
        if self._at >= len(self._tokens):
            raise self._unknown()
        self._at += 1
        return self._tokens[self._at - 1]

    def _number(self) -> int:
        digits = self._next()
        if not digits.isdecimal():
            raise self._unknown()
        return int(digits)

    def _expect(self, token: str) -> None:
        if not self._took(token):
            raise self._unknown()

    def _unknown(self) -> UnknownExpression:
        return UnknownExpression(f"cannot compile {self._expression!r} for {self._type}")


def _tokens(expression: str) -> Sequence[str]:
    tokens: list[str] = []
    at = 0
    while at < len(expression.rstrip()):
        match = _TOKEN.match(expression, at)
        if match is None:
            raise UnknownExpression(f"cannot read {expression!r}")
        tokens.append(next(group for group in match.groups() if group is not None))
        at = match.end()
    return tokens


def _filtered(path: TypedPath, condition: Filter) -> TypedPath:
    if not path.steps or path.steps[-1].filter is not None:
        raise UnknownExpression("a condition on the resource itself, or a second one")
    asked = path.type == "Reference" if condition.kind == "resolves-to" else _has(path.type, condition.name)
    if not asked:
        raise UnknownExpression(f"{path.type} has nothing that such a condition could be about")
    return replace(path, steps=(*path.steps[:-1], replace(path.steps[-1], filter=condition)))


def _has(type_name: str, element: str) -> bool:
    return type_name not in PRIMITIVES and element in elements_of(type_name)


def _indexed(paths: list[TypedPath], index: int) -> list[TypedPath]:
    if not all(path.steps and path.steps[-1].filter is None for path in paths):
        raise UnknownExpression("an index on the resource itself, or after a condition")
    return [replace(path, steps=(*path.steps[:-1], replace(path.steps[-1], index=index))) for path in paths]
