"""The filters by which a value set takes codes from a code system.

https://hl7.org/fhir/R4/codesystem.html#filters and https://hl7.org/fhir/R4/valueset-filter-operator.html
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final

from terminology.code_system import CodeSystem, Concept, code_of, value_of
from terminology.patterns import matching
from terminology.problems import Incomputable

Json = Mapping[str, Any]
Values = Callable[[Concept], Sequence[str]]
"""What a concept has for a property, as texts."""
Test = Callable[[Concept], bool]

ITSELF: Final = frozenset({"concept", "code"})
"""The two names under which a filter means the code itself."""
ALWAYS_THERE: Final = frozenset({"inactive", "status", "notSelectable", "deprecated"})
"""Properties that every code system may use without declaring them."""


def selected(system: CodeSystem, concepts: Iterable[Concept], filters: Iterable[Json], place: str) -> list[Concept]:
    """Of some concepts of a code system those that meet all filters, in their order.

    Raises Incomputable with the FHIRPath of a filter that this code system has not, TooMuch for a regular expression.
    """
    found = list(concepts)
    for number, one in enumerate(filters):
        keeps = _test(system, found, one, f"{place}.filter[{number}]")
        found = [concept for concept in found if keeps(concept)]
    return found


def _test(system: CodeSystem, concepts: Sequence[Concept], one: Json, place: str) -> Test:
    name, operator, value = one.get("property", ""), one.get("op", ""), one.get("value", "")
    values = _values(system, name)
    if values is None:
        raise Incomputable("The code system has no such property to filter by", f"{place}.property")
    if operator == "regex":
        return _matches(values, value, concepts)
    if operator in _OF_VALUES:
        return _OF_VALUES[operator](values, value)
    if operator in _OF_HIERARCHY and name in ITSELF:
        return _OF_HIERARCHY[operator](system, value)
    raise Incomputable("This server does not know that operator on that property", f"{place}.op")


def _values(system: CodeSystem, name: str) -> Values | None:
    """How to read a property of a concept; None where the code system has none of that name."""
    if name in ITSELF:
        return lambda concept: (concept.code,)
    if name == "display":
        return lambda concept: (concept.display,) if concept.display else ()
    if name == "parent":
        return lambda concept: system.parents.get(concept.code, ())
    if name == "child":
        return lambda concept: system.children.get(concept.code, ())
    if name in system.properties or name in ALWAYS_THERE:
        return lambda concept: [text for one in concept.properties if one["code"] == name for text in _texts(one)]
    return None


def _texts(stated: Json) -> Sequence[str]:
    """How a filter may write the value of a property."""
    value = value_of(stated)
    if isinstance(value, bool):
        return ("true" if value else "false",)
    if isinstance(value, Mapping):
        code = code_of(stated)
        return (code, f"{value.get('system', '')}|{code}") if code else ()
    return () if value is None else (str(value),)


def _matches(values: Values, value: str, concepts: Sequence[Concept]) -> Test:
    matches = matching(value, (text for concept in concepts for text in values(concept)))
    return lambda concept: any(matches(text) for text in values(concept))


def _equals(values: Values, value: str) -> Test:
    return lambda concept: value in values(concept)


def _is_in(values: Values, value: str) -> Test:
    listed = {one.strip() for one in value.split(",")}
    return lambda concept: not listed.isdisjoint(values(concept))


def _is_not_in(values: Values, value: str) -> Test:
    is_in = _is_in(values, value)
    return lambda concept: not is_in(concept)


def _exists(values: Values, value: str) -> Test:
    if value not in ("true", "false"):
        raise Incomputable("The value of the filter `exists` is true or false")
    return lambda concept: bool(values(concept)) is (value == "true")


def _is_a(system: CodeSystem, value: str) -> Test:
    start = _known(system, value)
    found = system.below(start) | {start}
    return lambda concept: concept.code in found


def _descends_from(system: CodeSystem, value: str) -> Test:
    found = system.below(_known(system, value))
    return lambda concept: concept.code in found


def _is_not_a(system: CodeSystem, value: str) -> Test:
    is_a = _is_a(system, value)
    return lambda concept: not is_a(concept)


def _generalizes(system: CodeSystem, value: str) -> Test:
    start = _known(system, value)
    found = system.above(start) | {start}
    return lambda concept: concept.code in found


def _known(system: CodeSystem, code: str) -> str:
    """The code from which a hierarchy is walked; one that the system has not has nothing above or below it."""
    found = system.find(code)
    return found.code if found else code


_OF_VALUES: Final[Mapping[str, Callable[[Values, str], Test]]] = {
    "=": _equals,
    "in": _is_in,
    "not-in": _is_not_in,
    "exists": _exists,
}
_OF_HIERARCHY: Final[Mapping[str, Callable[[CodeSystem, str], Test]]] = {
    "is-a": _is_a,
    "descendent-of": _descends_from,
    "is-not-a": _is_not_a,
    "generalizes": _generalizes,
}
