"""Granular scopes: the search of a scope (`category=...|laboratory`) as criteria that are asked of one resource.

https://hl7.org/fhir/smart-app-launch/STU2.2/scopes-and-launch-context.html#finer-grained-resource-constraints-using-search-parameters
- whatever a caller does, these criteria are asked. So only those are taken that follow from the resource itself: no
chain, no `_has`, no list, no value set, nothing that changes with the clock.
"""

from collections.abc import Iterable
from functools import lru_cache
from urllib.parse import parse_qsl

from fhir_server.outcomes import BadParameter
from fhir_server.r4.search_criteria import (
    AllOf,
    AnyOf,
    Criterion,
    DateIs,
    Missing,
    ReferenceHas,
    ReferenceIs,
    StringIs,
    TokenIs,
    TokenOfType,
    UriIs,
)
from fhir_server.r4.search_criterion import criterion
from fhir_server.r4.search_parameters import REGISTRY
from fhir_server.sight import Bound

Alternatives = tuple[tuple[Criterion, ...], ...]
"""Searches, of which one has to be met: all its criteria."""


def criteria_of(resource_type: str, search: str) -> tuple[Criterion, ...]:
    """The criteria of a search; all have to be met. Raises BadParameter where one cannot be enforced."""
    return _criteria(resource_type, search, REGISTRY.version)


@lru_cache(maxsize=4096)
def _criteria(resource_type: str, search: str, _version: int) -> tuple[Criterion, ...]:
    found = tuple(criterion(resource_type, name, value) for name, value in parse_qsl(search, keep_blank_values=True))
    for one in found:
        if not _is_of_the_resource(one):
            raise BadParameter(
                "a scope is limited by token, reference, date, string and uri parameters, without chains"
            )
    return found


def alternatives_of(resource_type: str, bound: Bound) -> tuple[Alternatives, ...]:
    """The same as criteria: one of each has to be met. A search that can no longer be asked, since its parameter is
    gone, is met by nothing.
    """
    return _alternatives(resource_type, bound, REGISTRY.version)


@lru_cache(maxsize=4096)
def _alternatives(resource_type: str, bound: Bound, _version: int) -> tuple[Alternatives, ...]:
    return tuple(tuple(_askable(resource_type, searches)) for searches in bound)


def _askable(resource_type: str, searches: Iterable[str]) -> Iterable[tuple[Criterion, ...]]:
    for search in searches:
        try:
            yield criteria_of(resource_type, search)
        except BadParameter:
            continue


def _is_of_the_resource(one: Criterion) -> bool:
    match one:
        case AllOf(criteria) | AnyOf(criteria):
            return all(map(_is_of_the_resource, criteria))
        case DateIs(_, comparisons):
            return all(prefix != "ap" for prefix, _, _ in comparisons)
        case StringIs(_, _, mode):
            return mode in ("starts", "exact", "contains")
        case UriIs(_, _, below):
            return not below
        case TokenIs() | TokenOfType() | ReferenceIs() | ReferenceHas() | Missing():
            return True
        case _:
            return False
