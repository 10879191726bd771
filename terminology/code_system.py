"""A code system as its CodeSystem resource tells it: its concepts, their properties, and who stands below whom.

https://hl7.org/fhir/R4/codesystem.html - the hierarchy is told by nesting, and by the properties `parent` and `child`.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal, NamedTuple

from terminology.problems import Incomputable
from terminology.systems import CONCEPT_PROPERTIES

Json = Mapping[str, Any]
Outcome = Literal["equivalent", "subsumes", "subsumed-by", "not-subsumed"]

STANDARD: Final = f"{CONCEPT_PROPERTIES}#"
"""What the URI of a property begins with that R4 defines for all code systems (section 4.8.13)."""
OTHER_NAMES: Final = {"abstract": "notSelectable", "subsumedBy": "parent"}
"""What code systems call a standard property where they do not say its URI."""
OUT_OF_USE: Final = frozenset({"retired", "inactive", "withdrawn"})
"""Of the property `status`; what is deprecated may still be used."""
LISTING: Final = frozenset({"complete", "fragment"})
"""The contents from which codes are taken; an `example` is none, and `not-present` has none."""
NO_SUBSUMPTION: Final = frozenset({"grouped-by", "part-of"})
"""Meanings of a hierarchy in which a child is not a kind of its parent."""


class Concept(NamedTuple):
    """One concept. `properties` and `designations` are as the resource has them."""

    code: str
    display: str | None
    definition: str | None
    designations: Sequence[Json]
    properties: Sequence[Json]
    inactive: bool
    abstract: bool


@dataclass(frozen=True, slots=True)
class CodeSystem:
    """A CodeSystem, or a supplement of one (`supplements` then names it)."""

    url: str
    version: str | None
    name: str
    status: str
    date: str
    content: str
    language: str | None
    case_sensitive: bool
    meaning: str | None
    supplements: str | None
    properties: frozenset[str]
    """The codes of those that it declares or uses."""
    concepts: Mapping[str, Concept]
    """By code, in the order of the resource; of two with one code the first."""
    parents: Mapping[str, Sequence[str]]
    children: Mapping[str, Sequence[str]]
    _folded: Mapping[str, str] = field(repr=False)

    @property
    def is_supplement(self) -> bool:
        return self.content == "supplement"

    @property
    def is_whole(self) -> bool:
        """Whether a code that is not here is no code of the system."""
        return self.content == "complete"

    @property
    def lists_codes(self) -> bool:
        return self.content in LISTING

    @property
    def canonical(self) -> str:
        """`url|version`."""
        return f"{self.url}|{self.version}" if self.version else self.url

    def find(self, code: str) -> Concept | None:
        """The concept of a code, which may be written in any case where the system says so."""
        found = self.concepts.get(code) if self.lists_codes or self.is_supplement else None
        if found is None and not self.case_sensitive:
            found = self.concepts.get(self._folded.get(code.casefold(), ""))
        return found

    def below(self, code: str) -> set[str]:
        """All that stand below a code, without itself."""
        return _reached(code, self.children)

    def above(self, code: str) -> set[str]:
        """All that stand above a code, without itself."""
        return _reached(code, self.parents)

    def compare(self, one: str, other: str) -> Outcome:
        """Of two codes that it has: is one a kind of the other? Raises Incomputable where the hierarchy says no such.

        https://hl7.org/fhir/R4/codesystem-operation-subsumes.html
        """
        if one == other:
            return "equivalent"
        if self.meaning in NO_SUBSUMPTION:
            raise Incomputable(
                "In the hierarchy of this code system no concept is a kind of another", "hierarchyMeaning"
            )
        if one in self.above(other):
            return "subsumes"
        if other in self.above(one):
            return "subsumed-by"
        if not self.is_whole:
            raise Incomputable("Only a fragment of the code system is kept: what lies between the two is not known")
        return "not-subsumed"


def parse(resource: Json) -> CodeSystem:
    """A CodeSystem of valid R4."""
    declared = [one["code"] for one in resource.get("property", ()) if "code" in one]
    roles = _roles(resource.get("property", ()))
    concepts: dict[str, Concept] = {}
    edges: dict[tuple[str, str], None] = {}
    for one, parent in _flat(resource.get("concept", ())):
        code = one["code"]
        properties = [stated for stated in one.get("property", ()) if "code" in stated]
        concepts.setdefault(code, _concept(one, properties, roles))
        if parent is not None:
            edges[parent, code] = None
        for stated in properties:
            match roles.get(stated["code"]):
                case "parent" if other := code_of(stated):
                    edges[other, code] = None
                case "child" if other := code_of(stated):
                    edges[code, other] = None
                case _:
                    pass
    case_sensitive = resource.get("caseSensitive", True)
    return CodeSystem(
        resource.get("url", ""),
        resource.get("version"),
        resource.get("name") or resource.get("title") or resource.get("url", ""),
        resource.get("status", "unknown"),
        resource.get("date", ""),
        resource.get("content", "not-present"),
        resource.get("language"),
        case_sensitive,
        resource.get("hierarchyMeaning"),
        resource.get("supplements"),
        frozenset({*declared, *(stated["code"] for one in concepts.values() for stated in one.properties)}),
        concepts,
        _grouped((child, parent) for parent, child in edges),
        _grouped(edges),
        {} if case_sensitive else {code.casefold(): code for code in reversed(concepts)},
    )


def value_of(stated: Json) -> Any:
    """The value[x] of a property, None where it has none."""
    return next((value for name, value in stated.items() if name.startswith("value")), None)


def code_of(stated: Json) -> str | None:
    """The code that is the value of a property."""
    value = value_of(stated)
    return value.get("code") if isinstance(value, Mapping) else value if isinstance(value, str) else None


def _roles(definitions: Iterable[Json]) -> dict[str, str]:
    """The code of a property -> the standard property that it is: by its URI, else by its name."""
    roles = {name: name for name in ("inactive", "status", "notSelectable", "parent", "child")} | OTHER_NAMES
    for one in definitions:
        uri = one.get("uri", "")
        if uri.startswith(STANDARD) and "code" in one:
            roles[one["code"]] = uri.removeprefix(STANDARD)
    return roles


def _concept(one: Json, properties: Sequence[Json], roles: Mapping[str, str]) -> Concept:
    values = {roles.get(stated["code"], ""): stated for stated in properties}
    inactive = value_of(values["inactive"]) if "inactive" in values else None
    status = code_of(values["status"]) if "status" in values else None
    return Concept(
        one["code"],
        one.get("display"),
        one.get("definition"),
        [designation for designation in one.get("designation", ()) if "value" in designation],
        properties,
        status in OUT_OF_USE if inactive is None else inactive is True,
        "notSelectable" in values and value_of(values["notSelectable"]) is True,
    )


def _flat(concepts: Sequence[Json]) -> Iterator[tuple[Json, str | None]]:
    """Every concept with the one that it is nested in, in their order; no recursion, since trees may be deep."""
    left: list[tuple[Json, str | None]] = [(one, None) for one in reversed(concepts)]
    while left:
        one, parent = left.pop()
        if "code" in one:
            yield one, parent
        left.extend((inner, one.get("code", parent)) for inner in reversed(one.get("concept", ())))


def _grouped(pairs: Iterable[tuple[str, str]]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for first, second in pairs:
        found.setdefault(first, []).append(second)
    return found


def _reached(start: str, steps: Mapping[str, Sequence[str]]) -> set[str]:
    """Whatever can be reached; a circle ends where it began, and `start` is not in it."""
    found: set[str] = set()
    left = [start]
    while left:
        new = [one for one in steps.get(left.pop(), ()) if one not in found and one != start]
        found.update(new)
        left.extend(new)
    return found
