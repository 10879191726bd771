"""The search parameters of each resource type: R4's own, those that PDSm and MHD add, and those added at run time.

https://hl7.org/fhir/R4/searchparameter-registry.html - the first two are tables of this program and never change. The
last come from the database: the store puts them into `REGISTRY`, of which a process has one, as it has one database.
"""

from collections.abc import Callable, Hashable, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cache, wraps
from types import MappingProxyType
from typing import Any, Final, NamedTuple, ParamSpec, TypeVar

import orjson

from fhir_server.outcomes import BadParameter, Issue
from fhir_server.r4.definitions import TABLES
from fhir_server.r4.resource_types import TYPE_NUMBER

NOT_DOMAIN: Final = frozenset({"Binary", "Bundle", "Parameters"})
FIRST_ADDED: Final = 20001
LAST_ADDED: Final = 32767
"""The store keeps the number of a parameter in two bytes."""
NOTHING: Final[Mapping[str, "SearchParameter"]] = MappingProxyType({})

Given = ParamSpec("Given")
Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class SearchParameter:
    """A search parameter, as its definition has it."""

    code: str
    type: str
    """number, date, string, token, reference, composite, quantity, uri or special."""
    url: str
    expression: str
    """FHIRPath for every type that shares the parameter; empty for `_text`, `_content` and `_query`."""
    targets: tuple[str, ...]
    """Of a reference: the resource types that it may point to."""
    components: tuple[tuple[str, str], ...]
    """Of a composite: the url of each component's parameter, and its expression on what `expression` selects."""
    number: int
    """Stands for the url in the store: never given to another, from 1 for R4, 10001 for guides, 20001 at run time."""

    @property
    def is_added(self) -> bool:
        """Whether it was added at run time."""
        return self.number >= FIRST_ADDED


@dataclass(frozen=True, slots=True)
class Addition:
    """A search parameter that was added at run time, for resource types or for one of those that all types share.

    One that is not `ready` is still being indexed: what is written is found by it later, and nobody searches by it.
    """

    parameter: SearchParameter
    bases: tuple[str, ...]
    ready: bool


class Known(NamedTuple):
    """What a registry holds, for a process that has none of its own."""

    version: int
    additions: tuple[Addition, ...]
    content: bool


class Registry:
    """What is searched at this moment beside the tables, and what was computed from it.

    `version` grows with every change: what was made of an earlier one (index rows of a request under way) is old.
    """

    def __init__(self) -> None:
        self.version = 0
        self.additions: tuple[Addition, ...] = ()
        self.content = False
        """Whether `_content` is searched, and so the words of every resource are indexed."""
        self._kept: dict[Hashable, Any] = {}

    def use(self, additions: Iterable[Addition], *, content: bool = False) -> None:
        """From now on these are in use. Where they were already, nothing happens.

        A parameter that did not change stays the same object: a search under way may compare it.
        """
        known = {one.parameter: one.parameter for one in self.additions}
        wanted = tuple(replace(one, parameter=known.get(one.parameter, one.parameter)) for one in additions)
        if (wanted, content) != (self.additions, self.content):
            self.additions, self.content = wanted, content
            self.version += 1
            self._kept = {}

    @property
    def known(self) -> Known:
        """What is in use now."""
        return Known(self.version, self.additions, self.content)

    def cached(self, function: Callable[Given, Result]) -> Callable[Given, Result]:
        """Like functools.cache, of what follows from the search parameters: it is forgotten when they change.

        Arguments go by position.
        """

        @wraps(function)
        def remembered(*given: Given.args, **named: Given.kwargs) -> Result:
            kept, key = self._kept, (function, given)
            if key not in kept:
                kept[key] = function(*given, **named)
            return kept[key]

        return remembered


REGISTRY: Final = Registry()


def parameters_of(resource_type: str) -> Mapping[str, SearchParameter]:
    """Code -> parameter, for a type and what holds for all types (`_id`, `_tag`...); empty for an unknown type."""
    return _searched(resource_type) if resource_type in TYPE_NUMBER else NOTHING


@REGISTRY.cached
def _searched(resource_type: str) -> Mapping[str, SearchParameter]:
    return _parameters(resource_type, [one for one in REGISTRY.additions if one.ready])


@REGISTRY.cached
def indexed_of(resource_type: str) -> Mapping[str, SearchParameter]:
    """The same of a type of R4, with those that are still being indexed: a write makes the rows of all of these."""
    return _parameters(resource_type, REGISTRY.additions)


def is_being_indexed(resource_type: str, code: str) -> bool:
    """Whether the type will be searched by this code, and is not yet."""
    return (
        code not in parameters_of(resource_type) and resource_type in TYPE_NUMBER and code in indexed_of(resource_type)
    )


def not_searched(resource_type: str, code: str, name: str) -> BadParameter:
    """By this code the type is not searched, or not yet: a fault that a lenient client may have ignored."""
    told = f"This server does not search {resource_type} by {code[:100]}"
    if is_being_indexed(resource_type, code):
        told = f"{code} of {resource_type} is being indexed: see $index-status of its SearchParameter, and try again"
    return BadParameter(issues=[Issue("error", "not-supported", told, name)])


def parameter_at(url: str) -> SearchParameter:
    """The parameter of R4 or of a guide with this canonical url; KeyError when there is none."""
    return _by_url()[url]


def built_in(resource_type: str) -> Mapping[str, SearchParameter]:
    """The parameters that a type has without what was added at run time."""
    return _parameters(resource_type, ())


def types_under(base: str) -> frozenset[str]:
    """The resource types that a base stands for: itself, or all of them that share what Resource or DomainResource has.

    Empty for what is no type.
    """
    if base == "Resource":
        return frozenset(TYPE_NUMBER)
    if base == "DomainResource":
        return frozenset(TYPE_NUMBER) - NOT_DOMAIN
    return frozenset({base} & TYPE_NUMBER.keys())


def _parameters(resource_type: str, additions: Iterable[Addition]) -> Mapping[str, SearchParameter]:
    bases = {resource_type, "Resource"} | (set() if resource_type in NOT_DOMAIN else {"DomainResource"})
    found = {one.code: one for base in sorted(bases & _by_base().keys()) for one in _by_base()[base]}
    found |= {one.parameter.code: one.parameter for one in additions if bases.intersection(one.bases)}
    return MappingProxyType(dict(sorted(found.items())))


@cache
def _rows() -> list[dict[str, Any]]:
    files = ("search_parameters.json", "search_parameters_pdsm.json")
    return [row for file in files for row in orjson.loads((TABLES / file).read_bytes())]


@cache
def _by_url() -> dict[str, SearchParameter]:
    return {row["url"]: _parameter(row) for row in _rows()}


@cache
def _by_base() -> dict[str, list[SearchParameter]]:
    by_base: dict[str, list[SearchParameter]] = {}
    for row in _rows():
        for base in row["base"]:
            by_base.setdefault(base, []).append(_by_url()[row["url"]])
    return by_base


def _parameter(row: dict[str, Any]) -> SearchParameter:
    return SearchParameter(
        code=row["code"],
        type=row["type"],
        url=row["url"],
        expression=row.get("expression", ""),
        targets=tuple(row.get("targets", ())),
        components=tuple((url, expression) for url, expression in row.get("components", ())),
        number=row["number"],
    )
