"""A search string understood: `DocumentReference?patient=Patient/1&date=ge2024` as criteria, sort and page.

https://hl7.org/fhir/R4/search.html - pure; no database. What is not understood is refused, never ignored.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from fhir_server.outcomes import BadParameter, Issue
from fhir_server.r4 import include
from fhir_server.r4.include import Include
from fhir_server.r4.index_values import period_of
from fhir_server.r4.resource_types import TYPE_NUMBER
from fhir_server.r4.search_parameters import SearchParameter, parameters_of

SUPPORTED_TYPES = frozenset({"token", "reference", "date", "string", "uri"})
PREFIXES = ("eq", "ne", "gt", "lt", "ge", "le", "sa", "eb", "ap")
DEFAULT_COUNT = 20
LARGEST_COUNT = 1000
MOST_VALUES = 500
DEEPEST_CHAIN = 1

Comparison = tuple[str, int, int]


@dataclass(frozen=True, slots=True)
class TokenIs:
    """Any of (system, code); system None means any system, '' means none."""

    parameter: SearchParameter
    values: tuple[tuple[str | None, str], ...]
    negated: bool = False


@dataclass(frozen=True, slots=True)
class ReferenceIs:
    """Any of these targets: `Type/id` or an absolute URL."""

    parameter: SearchParameter
    targets: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ReferenceHas:
    """`:identifier`: the reference itself carries any of these identifiers."""

    parameter: SearchParameter
    values: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class DateIs:
    """Any of (prefix, low, high) in microseconds, half open."""

    parameter: SearchParameter
    comparisons: tuple[Comparison, ...]


@dataclass(frozen=True, slots=True)
class StringIs:
    parameter: SearchParameter
    values: tuple[str, ...]
    mode: Literal["starts", "exact", "contains"]


@dataclass(frozen=True, slots=True)
class UriIs:
    parameter: SearchParameter
    values: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class IdIs:
    values: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class UpdatedIs:
    comparisons: tuple[Comparison, ...]


@dataclass(frozen=True, slots=True)
class Chained:
    """The reference leads to a resource of `target_type` that meets `criterion`."""

    parameter: SearchParameter
    target_type: str
    criterion: "Criterion"


Criterion = TokenIs | ReferenceIs | ReferenceHas | DateIs | StringIs | UriIs | IdIs | UpdatedIs | Chained


@dataclass(frozen=True, slots=True)
class Sort:
    """`parameter` None sorts by `_lastUpdated`."""

    parameter: SearchParameter | None
    descending: bool


@dataclass(frozen=True, slots=True)
class SearchQuery:
    """A search on one resource type. `applied` is what was understood, for the self link."""

    resource_type: str
    criteria: tuple[Criterion, ...]
    sort: Sort | None = None
    count: int = DEFAULT_COUNT
    total: Literal["none", "accurate"] = "none"
    only_count: bool = False
    cursor: str | None = None
    applied: tuple[tuple[str, str], ...] = ()
    ignored: tuple[Issue, ...] = field(default=())
    includes: tuple[Include, ...] = ()

    @property
    def asked_types(self) -> frozenset[str]:
        """The types whose content the answer tells something of: the own one, and those that chains lead to."""
        asked = {self.resource_type}
        for criterion in self.criteria:
            step = criterion
            while isinstance(step, Chained):
                asked.add(step.target_type)
                step = step.criterion
        return frozenset(asked)


def parse(resource_type: str, pairs: Sequence[tuple[str, str]], *, lenient: bool = False) -> SearchQuery:
    """The query of `pairs` (name, value; already percent-decoded).

    Raises BadParameter with every fault at once; with `lenient` (Prefer: handling=lenient) unknown
    parameters become warnings in `ignored` instead.
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
    )


class _Reader:
    def __init__(self, resource_type: str) -> None:
        self.resource_type = resource_type
        self.criteria: list[Criterion] = []
        self.sort: Sort | None = None
        self.count = DEFAULT_COUNT
        self.total: Literal["none", "accurate"] = "none"
        self.only_count = False
        self.cursor: str | None = None
        self.includes: list[Include] = []
        self.applied: list[tuple[str, str]] = []
        self.faults: list[Issue] = []

    def take(self, name: str, value: str) -> None:
        match name:
            case "_format" | "_pretty":
                return
            case "_count":
                self.count = _count(value)
            case "_sort":
                self.sort = _sort(self.resource_type, value)
            case "_total":
                self.total = _total(value)
            case "_summary" if value == "count":
                self.only_count = True
            case "_cursor":
                self.cursor = value
                return
            case _ if name.partition(":")[0] in include.NAMES:
                self.includes.append(include.include(name, value))
            case _:
                if value == "":
                    return  # R4 3.1.1.2: a parameter without a value is as if it were not there
                self.criteria.append(criterion(self.resource_type, name, value))
        self.applied.append((name, value))


def criterion(resource_type: str, name: str, value: str, *, depth: int = 0) -> Criterion:
    """One `name=value` as a criterion. Raises BadParameter."""
    head, _, rest = name.partition(".")
    code, _, modifier = head.partition(":")
    if code == "_id" and not modifier and not rest:
        return IdIs(tuple(_split(value, name)))
    if code == "_lastUpdated" and not modifier and not rest:
        return UpdatedIs(_comparisons(name, value))
    parameter = parameters_of(resource_type).get(code)
    if parameter is None or not _is_searchable(parameter):
        raise _not_supported(name, f"This server does not search {resource_type} by {code}")
    if rest:
        return _chain(parameter, modifier, rest, value, name, depth)
    return _plain(parameter, modifier, value, name)


def _plain(parameter: SearchParameter, modifier: str, value: str, name: str) -> Criterion:
    match parameter.type, modifier:
        case "token", "" | "not":
            return TokenIs(parameter, tuple(_token(v, name) for v in _split(value, name)), modifier == "not")
        case "reference", "identifier":
            values = (_token(v, name) for v in _split(value, name))
            return ReferenceHas(parameter, tuple((system or "", code) for system, code in values))
        case "reference", _ if not modifier or modifier in TYPE_NUMBER:
            return ReferenceIs(parameter, _targets(parameter, modifier, _split(value, name), name))
        case "date", "":
            return DateIs(parameter, _comparisons(name, value))
        case "string", "" | "exact" | "contains":
            mode: Literal["starts", "exact", "contains"] = (
                "exact" if modifier == "exact" else "contains" if modifier == "contains" else "starts"
            )
            return StringIs(parameter, tuple(_split(value, name)), mode)
        case "uri", "":
            return UriIs(parameter, tuple(_split(value, name)))
        case _:
            raise _not_supported(name, f"The modifier :{modifier} is not supported on a {parameter.type} parameter")


def _chain(parameter: SearchParameter, target_type: str, rest: str, value: str, name: str, depth: int) -> Chained:
    if parameter.type != "reference":
        raise BadParameter(f"{parameter.code} is not a reference: nothing can be chained to it", expression=name)
    if depth >= DEEPEST_CHAIN:
        raise _not_supported(name, f"Chains of more than {DEEPEST_CHAIN} step are not supported")
    candidates = [target_type] if target_type else [t for t in parameter.targets if t in TYPE_NUMBER]
    if len(candidates) != 1:
        raise BadParameter(
            f"{parameter.code} may lead to several types: name one, as in {parameter.code}:Patient.{rest}",
            expression=name,
        )
    return Chained(parameter, candidates[0], criterion(candidates[0], rest, value, depth=depth + 1))


def _split(value: str, name: str) -> list[str]:
    r"""The alternatives of a value: commas part them, `\,` does not, and the escapes are undone."""
    parts: list[str] = [""]
    escaped = False
    for character in value:
        if escaped:
            parts[-1] += character if character in ",|$\\" else "\\" + character
            escaped = False
        elif character == "\\":
            escaped = True
        elif character == ",":
            parts.append("")
        else:
            parts[-1] += character
    wanted = [part for part in parts if part]
    if not wanted:
        raise BadParameter(f"{name} has no value", expression=name)
    if len(wanted) > MOST_VALUES:
        raise BadParameter(f"{name} has more than {MOST_VALUES} alternatives", expression=name)
    return wanted


def _token(value: str, name: str) -> tuple[str | None, str]:
    system, bar, code = value.partition("|")
    if not bar:
        return None, value
    if not code:
        raise _not_supported(name, f"{name} needs a code after the system")
    return system, code


def _targets(parameter: SearchParameter, typed: str, values: Iterable[str], name: str) -> tuple[str, ...]:
    """`123` means `Type/123` for every type that the parameter may lead to."""
    targets: list[str] = []
    for value in values:
        if "/" in value or ":" in value:
            targets.append(value)
        else:
            types = [typed] if typed else parameter.targets
            targets.extend(f"{target}/{value}" for target in types if target in TYPE_NUMBER)
    if not targets:
        raise BadParameter(f"{name} leads to no resource type", expression=name)
    return tuple(targets)


def _comparisons(name: str, value: str) -> tuple[Comparison, ...]:
    return tuple(_comparison(part, name) for part in _split(value, name))


def _comparison(text: str, name: str) -> Comparison:
    prefix, moment = (text[:2], text[2:]) if text[:2] in PREFIXES else ("eq", text)
    try:
        low, high = period_of(moment)
    except ValueError as error:
        raise BadParameter(f"{name} is not a FHIR date with an optional prefix", expression=name) from error
    return prefix, low, high


def _count(value: str) -> int:
    if not value.isdecimal():
        raise BadParameter("_count must be a whole number", expression="_count")
    return min(int(value[:9]), LARGEST_COUNT)


def _total(value: str) -> Literal["none", "accurate"]:
    if value not in ("none", "accurate", "estimate"):
        raise BadParameter("_total is none, estimate or accurate", expression="_total")
    return "none" if value == "none" else "accurate"


def _sort(resource_type: str, value: str) -> Sort:
    descending = value.startswith("-")
    code = value.removeprefix("-")
    if code == "_lastUpdated":
        return Sort(None, descending)
    parameter = parameters_of(resource_type).get(code)
    if parameter is None or parameter.type != "date":
        raise _not_supported("_sort", "This server sorts by _lastUpdated or by one date parameter")
    return Sort(parameter, descending)


def _not_supported(name: str, diagnostics: str) -> BadParameter:
    return BadParameter(issues=[Issue("error", "not-supported", diagnostics, name)])


def searchable(resource_type: str) -> Mapping[str, SearchParameter]:
    """The parameters by which this server searches a type, for the CapabilityStatement."""
    return {c: p for c, p in parameters_of(resource_type).items() if _is_searchable(p)}


def _is_searchable(parameter: SearchParameter) -> bool:
    return parameter.type in SUPPORTED_TYPES and bool(parameter.expression)  # `_text` and `_content` have none


def approximate(low: int, high: int, now: int) -> tuple[int, int]:
    """`ap`: the value widened by a tenth of its distance from now (R4 3.1.1.4.6 proposes 10 %)."""
    middle = (low + high) // 2
    margin = math.ceil(abs(now - middle) / 10)
    return low - margin, high + margin
