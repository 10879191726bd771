"""The bounds of granular scopes, asked of one document, and in the named SQL.

docs/security_smart.md - searches have them in their statement (`conditions.within_bound`). The values of a document are
those that the index would keep of it, so that there is one meaning of a search.
"""

import re
from collections.abc import Iterable
from typing import Any, Final

import orjson

from fhir_server.r4.granular import alternatives_of
from fhir_server.r4.resource_types import TYPE_NAME, TYPE_NUMBER
from fhir_server.r4.search_criteria import (
    AllOf,
    AnyOf,
    Comparison,
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
from fhir_server.sight import Bound, Sight
from fhir_server.store import conditions
from fhir_server.store.search_index import IndexRows, folded, param_key, rows_of
from fhir_server.store.statement import Statement

_MARK: Final = re.compile(rb"/\* bounds of (\w+) \*/")
"""Behind each `in_sight(row)` of the named SQL (`queries.IN_SIGHT`)."""


def meets(sight: Sight, resource_type: str, doc: bytes | None) -> bool:
    """Does the document meet what the scopes ask of its type? A deletion (None) says nothing that could meet it."""
    bound = sight.bounds.get(resource_type)
    return bound is None or (doc is not None and rows_meet(bound, resource_type, rows_of(orjson.loads(doc))))


def rows_meet(bound: Bound, resource_type: str, rows: IndexRows) -> bool:
    """The same of the values of a resource."""
    return all(
        any(all(_holds(resource_type, one, rows) for one in criteria) for criteria in alternatives)
        for alternatives in alternatives_of(resource_type, bound)
    )


def _holds(resource_type: str, criterion: Criterion, rows: IndexRows) -> bool:
    match criterion:
        case AllOf(criteria):
            return all(_holds(resource_type, one, rows) for one in criteria)
        case AnyOf(criteria):
            return any(_holds(resource_type, one, rows) for one in criteria)
        case Missing(parameter, missing):
            return (parameter.number not in rows.present) == missing
        case DateIs(parameter, comparisons):
            param = param_key(TYPE_NUMBER[resource_type], parameter)
            return any(
                _is_then(low, high, one) for key, low, high in rows.periods if key == param for one in comparisons
            )
        case StringIs(parameter, values, "starts" | "contains" as mode):
            param = param_key(TYPE_NUMBER[resource_type], parameter)
            words = [word for key, word in rows.words if key == param]
            sought = [folded(value) for value in values]
            return any(one in word if mode == "contains" else word.startswith(one) for word in words for one in sought)
        case TokenIs() | TokenOfType() | ReferenceIs() | ReferenceHas() | StringIs(_, _, "exact") | UriIs(_, _, False):
            hashes = conditions.hashes_of(param_key(TYPE_NUMBER[resource_type], criterion.parameter), criterion)
            negated = isinstance(criterion, TokenIs) and criterion.negated
            return rows.tokens.isdisjoint(hashes) == negated
        case _:
            return False  # no scope with it is granted


def _is_then(low: int, high: int, asked: Comparison) -> bool:
    """`conditions.DATES` of one span."""
    prefix, start, end = asked
    match prefix:
        case "eq":
            return start <= low < end and start < high <= end
        case "ne":
            return not (low >= start and high <= end)
        case "gt":
            return high > end
        case "lt":
            return low < start
        case "ge":
            return high > end or (low >= start and start < high <= end)
        case "le":
            return low < start or (low < end and low >= start and high <= end)
        case "sa":
            return low >= end
        case "eb":
            return high <= start
        case _:
            return False


def bounded(query: bytes, sight: Sight, types: Iterable[int]) -> tuple[bytes, dict[str, Any]]:
    """Named SQL that is about these types, with the bounds of the sight; and the parameters of the sight."""
    parameters = sight.as_parameters()
    asked = {name for number in types if (name := TYPE_NAME[number]) in sight.bounds} if sight.bounds else None
    if not asked:
        return query, parameters
    values: list[Any] = []

    def conditions_on(mark: re.Match[bytes]) -> bytes:
        statement = Statement(row_by_row=True)
        row = mark[1].decode()
        for resource_type in sorted(asked):
            number = TYPE_NUMBER[resource_type]
            statement.add(f"and ({row}.type <> {number} or (not {row}.deleted and")
            conditions.within_bound(statement, resource_type, sight.bounds[resource_type], row)
            statement.add("))")
        first = len(values)
        values.extend(statement.values)
        names = iter(range(first, len(values)))
        return re.sub("%s", lambda _: f"%(bound{next(names)})s", str(statement)).encode()

    text = _MARK.sub(conditions_on, query)
    return text, {**parameters, **{f"bound{number}": value for number, value in enumerate(values)}}
