"""A search string understood: `DocumentReference?patient=Patient/1&date=ge2024` as criteria, sort and page.

https://hl7.org/fhir/R4/search.html - pure; no database. What is not understood is refused, never ignored.
"""

import math
from collections.abc import Sequence
from typing import Final, Literal

from fhir_server.outcomes import BadParameter, Issue
from fhir_server.r4 import include, search_filter
from fhir_server.r4.include import Include
from fhir_server.r4.search_criteria import DEFAULT_COUNT, LARGEST_COUNT, Criterion, SearchQuery, Sort
from fhir_server.r4.search_criterion import criterion, must_not_branch_much, not_supported, searchable
from fhir_server.r4.search_parameters import not_searched

MOST_SORTS: Final = 5
_OF_THE_ANSWER: Final = frozenset({"_format", "_pretty"})
_TOTALS: Final[dict[str, Literal["none", "estimate", "accurate"]]] = {
    "none": "none",
    "estimate": "estimate",
    "accurate": "accurate",
}
_SUMMARIES: Final = frozenset({"true", "text", "data", "count", "false"})


def escaped(value: str) -> str:
    """A literal value inside a search parameter (R4 3.1.1.4.0.1)."""
    return value.replace("\\", "\\\\").replace(",", "\\,").replace("|", "\\|").replace("$", "\\$")


def parse(resource_type: str, pairs: Sequence[tuple[str, str]], *, lenient: bool = False) -> SearchQuery:
    """The query of `pairs` (name, value; already percent-decoded).

    Raises TooCostly for chains that lead too far, BadParameter with every fault at once; with `lenient` (Prefer:
    handling=lenient) unknown parameters become warnings in `ignored` instead.
    """
    reader = _Reader(resource_type)
    for name, value in pairs:
        try:
            reader.take(name, value)
        except BadParameter as fault:
            reader.faults.extend(fault.issues)
    unknown = [issue for issue in reader.faults if issue.code == "not-supported"]
    if reader.faults and not (lenient and len(unknown) == len(reader.faults)):
        raise BadParameter(issues=reader.faults)
    must_not_branch_much(reader.criteria)
    return SearchQuery(
        resource_type,
        tuple(reader.criteria),
        sort=reader.sort,
        count=reader.count,
        total=reader.total,
        only_count=reader.only_count,
        cursor=reader.cursor,
        applied=tuple(reader.applied),
        includes=tuple(reader.includes),
        ignored=tuple(Issue("warning", "not-supported", i.diagnostics, i.expression) for i in unknown),
        explained=reader.explained,
    )


class _Reader:
    def __init__(self, resource_type: str) -> None:
        self.resource_type = resource_type
        self.criteria: list[Criterion] = []
        self.sort: tuple[Sort, ...] = ()
        self.count = DEFAULT_COUNT
        self.total: Literal["none", "estimate", "accurate"] = "none"
        self.only_count = False
        self.cursor: str | None = None
        self.explained = False
        self.includes: list[Include] = []
        self.applied: list[tuple[str, str]] = []
        self.faults: list[Issue] = []

    def take(self, name: str, value: str) -> None:
        match name:
            case _ if name in _OF_THE_ANSWER:
                return
            case "_cursor":
                self.cursor = value
                return
            case "_count":
                self.count = _count(value)
            case "_sort":
                self.sort = _sorts(self.resource_type, value)
            case "_total":
                self.total = _total(value)
            case "_summary":
                self.only_count = _summary(value) == "count"
            case "_elements":
                pass  # what of each resource is shown, not which
            case "_explain":
                self.explained = value == "true"
            case "_filter":
                self.criteria.append(search_filter.parse(self.resource_type, value))
            case _ if name.partition(":")[0] in include.NAMES:
                self.includes.append(include.include(name, value))
            case _:
                if value == "":
                    return  # R4 3.1.1.2: a parameter without a value is as if it were not there
                self.criteria.append(criterion(self.resource_type, name, value))
        self.applied.append((name, value))


def _count(value: str) -> int:
    if not value.isdecimal():
        raise BadParameter("_count must be a whole number", expression="_count")
    return min(int(value[:9]), LARGEST_COUNT)


def _total(value: str) -> Literal["none", "estimate", "accurate"]:
    if value not in _TOTALS:
        raise BadParameter("_total is none, estimate or accurate", expression="_total")
    return _TOTALS[value]


def _summary(value: str) -> str:
    if value not in _SUMMARIES:
        raise BadParameter("_summary is true, text, data, count or false", expression="_summary")
    return value


def _sorts(resource_type: str, value: str) -> tuple[Sort, ...]:
    keys = tuple(_sort(resource_type, part) for part in value.split(",") if part)
    if len(keys) > MOST_SORTS:
        raise BadParameter(f"_sort has more than {MOST_SORTS} keys", expression="_sort")
    return keys


def _sort(resource_type: str, text: str) -> Sort:
    descending = text.startswith("-")
    code = text.removeprefix("-")
    if code == "_lastUpdated":
        return Sort(None, descending)
    parameter = searchable(resource_type).get(code)
    if parameter is None:
        raise not_searched(resource_type, code, "_sort")
    if parameter.type in ("composite", "special") or code in ("_text", "_content"):
        raise not_supported("_sort", f"This server does not sort {resource_type} by {code[:100]}")
    return Sort(parameter, descending)


def approximate(low: int, high: int, now: int) -> tuple[int, int]:
    """`ap`: the value widened by a tenth of its distance from now (R4 3.1.1.4.6 proposes 10 %)."""
    middle = (low + high) // 2
    margin = math.ceil(abs(now - middle) / 10)
    return low - margin, high + margin
