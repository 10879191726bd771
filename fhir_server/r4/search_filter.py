"""`_filter`: criteria joined by and, or, not and parentheses.

https://hl7.org/fhir/R4/search_filter.html - `and` binds closer than `or`. Paths are search parameters and chains of
them; brackets (`related[type eq comp].target`) are not supported.
"""

import re
from collections.abc import Mapping
from typing import Final, Literal

from fhir_server.outcomes import BadParameter
from fhir_server.r4 import search_criterion
from fhir_server.r4.search_criteria import (
    AllOf,
    AnyOf,
    Chained,
    Criterion,
    DateIs,
    Missing,
    Not,
    NumberIs,
    QuantityIs,
    StringIs,
)

DEEPEST: Final = 20
LONGEST: Final = 4000
_LEXER: Final = re.compile(r'\s*(?:(?P<mark>[()])|"(?P<text>(?:[^"\\]|\\.)*)"|(?P<word>[^\s()"]+))')
_PREFIXED: Final = frozenset({"eq", "ne", "gt", "lt", "ge", "le", "sa", "eb", "ap"})
_MODIFIERS: Final[Mapping[str, str]] = {"in": "in", "ni": "not-in", "sb": "below", "ss": "above"}
_MODES: Final[Mapping[str, Literal["equals", "contains", "starts", "ends"]]] = {
    "eq": "equals",
    "co": "contains",
    "sw": "starts",
    "ew": "ends",
}
_OPERATORS: Final = _PREFIXED | _MODIFIERS.keys() | {"co", "sw", "ew", "po", "pr", "re"}

Lexeme = tuple[str, str]
"""Kind (mark, text, word) and what it says."""


def parse(resource_type: str, text: str) -> Criterion:
    """The one criterion that a `_filter` is. Raises BadParameter."""
    if len(text) > LONGEST:
        raise _fault(f"it is longer than {LONGEST} characters")
    reader = _Reader(resource_type, _lexemes(text))
    whole = reader.either(0)
    if reader.left:
        raise _fault("there is something after its end, or a parenthesis is missing")
    return whole


def _lexemes(text: str) -> list[Lexeme]:
    found: list[Lexeme] = []
    position, end = 0, len(text.rstrip())
    while position < end:
        match = _LEXER.match(text, position)
        if match is None or match.lastgroup is None:
            raise _fault("a quotation mark is missing")
        found.append((match.lastgroup, match[match.lastgroup]))
        position = match.end()
    return found


class _Reader:
    def __init__(self, resource_type: str, lexemes: list[Lexeme]) -> None:
        self.resource_type = resource_type
        self.left = lexemes[::-1]

    def either(self, depth: int) -> Criterion:
        """`both or both ...`"""
        found = [self.both(depth)]
        while self._takes("word", "or"):
            found.append(self.both(depth))
        return found[0] if len(found) == 1 else AnyOf(tuple(found))

    def both(self, depth: int) -> Criterion:
        """`one and one ...`"""
        found = [self.one(depth)]
        while self._takes("word", "and"):
            found.append(self.one(depth))
        return found[0] if len(found) == 1 else AllOf(tuple(found))

    def one(self, depth: int) -> Criterion:
        """`not (...)`, `(...)` or `path operator value`."""
        if depth > DEEPEST:
            raise _fault(f"it is nested more than {DEEPEST} deep")
        if self.left[-2:] == [("mark", "("), ("word", "not")]:
            self.left.pop()
            return Not(self.one(depth + 1))
        if self._takes("mark", "("):
            inside = self.either(depth + 1)
            if not self._takes("mark", ")"):
                raise _fault("a parenthesis is missing")
            return inside
        return self._comparison()

    def _comparison(self) -> Criterion:
        path, operator = self._next("word"), self._next("word")
        if operator not in _OPERATORS:
            raise _fault(f"{operator[:20]} is not an operator of it")
        kind, value = self.left.pop() if self.left else ("", "")
        if kind not in ("word", "text"):
            raise _fault("a value is missing")
        if kind == "text":
            value = re.sub(r"([,$\\])", r"\\\1", re.sub(r"\\(.)", r"\1", value))
        return comparison(self.resource_type, path, operator, value)

    def _next(self, kind: str) -> str:
        if not self.left or self.left[-1][0] != kind:
            raise _fault("it is: parameter, operator, value")
        return self.left.pop()[1]

    def _takes(self, kind: str, text: str) -> bool:
        if self.left and self.left[-1] == (kind, text):
            self.left.pop()
            return True
        return False


def comparison(resource_type: str, path: str, operator: str, value: str) -> Criterion:
    """`path operator value` as a criterion. Raises BadParameter."""
    if "[" in path:
        raise search_criterion.not_supported("_filter", "This server has no brackets in paths of _filter")
    if operator == "pr":
        if value not in ("true", "false"):
            raise _fault("pr is true or false")
        return search_criterion.criterion(resource_type, f"{path}:missing", "false" if value == "true" else "true")
    if operator in _MODIFIERS:
        return search_criterion.criterion(resource_type, f"{path}:{_MODIFIERS[operator]}", value)
    return _meant(search_criterion.criterion(resource_type, path, value), operator, resource_type, path, value)


def _meant(found: Criterion, operator: str, resource_type: str, path: str, value: str) -> Criterion:
    """What `path=value` means, with the operator in the place of equality."""
    match found:
        case Chained(parameter, branches):
            below = path.partition(".")[2]
            inner = tuple((name, comparison(name, below, operator, value)) for name, _ in branches)
            return Chained(parameter, inner)
        case DateIs() | NumberIs() | QuantityIs() if operator in _PREFIXED:
            return search_criterion.criterion(resource_type, path, operator + value)
        case DateIs(parameter, _) if operator == "po":  # overlaps: there, and neither wholly after nor wholly before
            apart = [search_criterion.criterion(resource_type, path, prefix + value) for prefix in ("sa", "eb")]
            return AllOf((Missing(parameter, missing=False), Not(AnyOf(tuple(apart)))))
        case StringIs(parameter, values, _):
            if mode := _MODES.get(operator):
                return StringIs(parameter, values, mode)
            if operator == "ne":
                return Not(StringIs(parameter, values, "equals"))
        case _ if operator in ("eq", "re"):
            return found
        case _ if operator == "ne":
            return Not(found)
        case _:
            pass
    raise search_criterion.not_supported("_filter", f"{operator} is not supported on {path[:100]}")


def _fault(diagnostics: str) -> BadParameter:
    return BadParameter(f"The _filter cannot be read: {diagnostics}", expression="_filter")
