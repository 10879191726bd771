"""A search over several resource types: a query for each, alike but for what its parameters mean there.

https://hl7.org/fhir/R4/http.html#search, https://hl7.org/fhir/R4/search.html#all - its parameters are those that all of
the types have; where none is named, those that all resources have. Pure; no database.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final, NamedTuple

from fhir_server.outcomes import BadParameter, Issue
from fhir_server.r4 import search_query
from fhir_server.r4.search_criteria import SearchQuery, Sort
from fhir_server.r4.search_criterion import must_not_branch_much, searchable
from fhir_server.r4.search_parameters import SearchParameter

NEWEST_FIRST: Final = (Sort(None, descending=True),)
_SORTS: Final = frozenset({"", "_lastUpdated", "-_lastUpdated"})
# Every resource may be asked these, and of some the answer is known: nothing refers to it, it has no narrative.
_NEVER_MET: Final = ("_has:", "_text", "_content")

Pairs = Sequence[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class SystemQuery:
    """`named` says that the client named the types. What is not about one type is the same in all of `queries`."""

    queries: tuple[SearchQuery, ...]
    named: bool

    @property
    def shared(self) -> SearchQuery:
        """Any of them: for sort, page, total, what comes along, and the links."""
        return self.queries[0]


def parse(pairs: Pairs, offered: Sequence[str], *, lenient: bool = False) -> SystemQuery:
    """The queries of `pairs`, on the types of `_type`, or on all that are `offered`.

    Raises TooCostly, BadParameter with every fault at once; with `lenient`, parameters that not all types have become
    warnings.
    """
    named = _named(pairs, offered)
    others = [(name, value) for name, value in pairs if name != "_type"]
    found = _understood(others, named or offered, is_named=bool(named))
    ignored: tuple[Issue, ...] = ()
    if found.faults and lenient and all(one.code == "not-supported" for one in found.faults):
        ignored = tuple(replace(one, severity="warning") for one in found.faults)
        unknown = {one.expression for one in found.faults}
        others = [(name, value) for name, value in others if name not in unknown]
        found = _understood(others, named or offered, is_named=bool(named))
    if found.faults:
        raise BadParameter(issues=found.faults)
    must_not_branch_much(criterion for query in found.queries for criterion in query.criteria)
    applied = (*((("_type", ",".join(named)),) if named else ()), *found.queries[0].applied)
    return SystemQuery(
        tuple(replace(one, sort=one.sort or NEWEST_FIRST, applied=applied, ignored=ignored) for one in found.queries),
        bool(named),
    )


def common_parameters(resource_types: Iterable[str]) -> Mapping[str, SearchParameter]:
    """Code -> parameter of those that are the same for all of these types, for the CapabilityStatement."""
    first, *others = (searchable(name) for name in resource_types)
    return {code: one for code, one in first.items() if all(other.get(code) is one for other in others)}


def _named(pairs: Pairs, offered: Sequence[str]) -> list[str]:
    """The types of `_type`, each once. Raises BadParameter."""
    asked = [name for given, value in pairs if given == "_type" for name in value.split(",") if name]
    unknown = [name for name in asked if name not in offered]
    if unknown:
        text = f"{unknown[0][:64]} is not searched together with others"
        raise BadParameter(issues=[Issue("error", "not-supported", text, "_type")])
    return list(dict.fromkeys(asked))


class _Understood(NamedTuple):
    queries: list[SearchQuery]
    faults: list[Issue]


def _understood(pairs: Pairs, types: Sequence[str], *, is_named: bool) -> _Understood:
    """The query of each type, or what some of them cannot be asked: each parameter once."""
    of_one = {name: text for name, value in pairs if (text := _of_one_type_only(name, value))}
    queries: list[SearchQuery] = []
    refused: list[Issue] = []
    for resource_type in types:
        try:
            queries.append(search_query.parse(resource_type, [pair for pair in pairs if pair[0] not in of_one]))
        except BadParameter as fault:
            refused += fault.issues
    if queries and not is_named and all(str(one.expression).startswith(_NEVER_MET) for one in refused):
        refused = []
    faults = [Issue("error", "not-supported", text, name) for name, text in of_one.items()]
    each_once = {(one.code, one.expression): one for one in reversed(refused)}
    return _Understood(queries, faults + [_told(one, others_have_it=bool(queries)) for one in each_once.values()])


def _of_one_type_only(name: str, value: str) -> str | None:
    """Why a search on one type has this, and this one has not."""
    if name == "_sort" and value not in _SORTS:
        return "Several types are sorted by _lastUpdated only"
    return "A search over several types is not explained" if name == "_explain" else None


def _told(fault: Issue, *, others_have_it: bool) -> Issue:
    if fault.code != "not-supported" or not others_have_it:
        return fault
    text = f"Several types are searched by what all of them have. {fault.diagnostics}"
    return replace(fault, diagnostics=text)
