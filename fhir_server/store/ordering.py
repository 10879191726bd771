"""The order of hits: each key of `_sort` as SQL, and the place where a page ended as a condition.

https://hl7.org/fhir/R4/search.html#sort - what has no value comes last, whichever way the order runs. Codes and
references are known to the index only as hashes: those orders are made in memory, of a bounded number of hits.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import cmp_to_key
from typing import Any, Final, NamedTuple

import orjson

from fhir_server.r4.index_values import IndexValue, Number, Period, Quantity, Reference, Text, Token, Uri, extract
from fhir_server.r4.resource_types import TYPE_NUMBER
from fhir_server.r4.search_criteria import SearchQuery, Sort
from fhir_server.store.search_index import folded, number_of, param_key, shown_key
from fhir_server.store.statement import Statement

LAST: Final = 2**62
HIGHEST: Final = "\U0010ffff"
MOST_SORTED: Final = 5000
"""Hits of an order that is made in memory."""

Value = int | float | str | None


class Place(NamedTuple):
    """Where a page ended: the sort values and internal key of its last row.

    `newest` and `seen` are of the first page: the newest row there was, and what PostgreSQL saw (`SEEN`).
    """

    values: Sequence[Value]
    rid: int
    newest: int | None = None
    seen: str | None = None


SEEN: Final = (
    "(select last_value || '@' || (extract(epoch from clock_timestamp()) * 1000)::bigint || '@'"
    " || pg_current_snapshot()::text from rid_seq)"
)
"""What a statement sees, in SQL: the newest row, the milliseconds of the clock, and its snapshot."""


def following(values: Sequence[Value], rid: int, before: Place | str) -> Place:
    """Where the next page starts: below the last row of one that started at a place, or of a first that saw `SEEN`."""
    if isinstance(before, Place):
        return Place(values, rid, before.newest, before.seen)
    newest, _, seen = before.partition("@")
    return Place(values, rid, int(newest), seen)


@dataclass(frozen=True, slots=True)
class Key:
    """A key of the order in SQL. `value` is what a place keeps, `parameter` how it comes back.

    `picked` is what it takes of the rows `v` of an index table, with its values; `order` is then the name of that.
    """

    order: str
    value: str
    parameter: str
    descending: bool
    picked: str = ""
    of_picked: tuple[Any, ...] = ()


def is_made_in_memory(query: SearchQuery) -> bool:
    """Whether a key has no value in the index that could be compared."""
    return any(
        one.parameter and one.parameter.type in ("token", "reference") and one.parameter.code != "_id"
        for one in query.sort
    )


def keys_of(query: SearchQuery) -> list[Key]:
    """The keys of an order that PostgreSQL makes; none is by internal key, the newest first."""
    return [_key(query.resource_type, one, number) for number, one in enumerate(query.sort)]


def _key(resource_type: str, sort: Sort, number: int) -> Key:
    if sort.parameter is None:
        microseconds = "(extract(epoch from r.updated) * 1000000)::bigint"
        return Key("r.updated", microseconds, "to_timestamp(%s::numeric / 1000000)", sort.descending)
    param = param_key(TYPE_NUMBER[resource_type], sort.parameter)
    pick = "max" if sort.descending else "min"
    value = f"s{number}.value"
    match sort.parameter.type:
        case "token":  # _id: of the others none comes here
            return Key("r.id", "r.id", "%s", sort.descending)
        case "date":
            column = "high" if sort.descending else "low"
            nothing = -LAST if sort.descending else LAST
            picked = f"coalesce({pick}(v.{column}), {nothing})"
            picked += " as value from period v where v.rid = r.rid and v.param = %s"
            return Key(value, value, "%s", sort.descending, picked, (param,))
        case "number" | "quantity":
            column = "high" if sort.descending else "low"
            nothing = "'-Infinity'" if sort.descending else "'Infinity'"
            picked = f"coalesce({pick}(v.{column}), {nothing})"
            picked += " as value from measure v where v.rid = r.rid and v.h = %s"
            return Key(value, f"{value}::text", "%s::numeric", sort.descending, picked, (number_of(param),))
        case kind:
            param = shown_key(param) if kind == "uri" else param
            picked = f'coalesce({pick}(v.folded), %s) collate "C"'
            picked += " as value from word v where v.rid = r.rid and v.param = %s"
            return Key(value, value, "%s", sort.descending, picked, ("" if sort.descending else HIGHEST, param))


def join(statement: Statement, keys: Sequence[Key]) -> None:
    """What the keys of an order need beside the row `r`."""
    for number, key in enumerate(keys):
        if key.picked:
            statement.add(f"cross join lateral (select {key.picked}", *key.of_picked)
            statement.if_counted("v")
            statement.add(f") s{number}")


def beyond(statement: Statement, keys: Sequence[Key], place: Place) -> None:
    """The rows after a place: later by the first key, or equal there and later by the next, and so on."""
    if not keys:
        statement.add("and r.rid < %s", place.rid)
        return
    if len(keys) == 1:  # as one comparison, which an index can begin at
        (key,) = keys
        sign = "<" if key.descending else ">"
        statement.add(f"and ({key.order}, r.rid) {sign} ({key.parameter}, %s)", *place.values, place.rid)
        return
    last = Key("r.rid", "r.rid", "%s", keys[0].descending)
    columns = list(zip((*keys, last), (*place.values, place.rid), strict=True))
    statement.add("and (")
    for position, (key, value) in enumerate(columns):
        statement.add("or (" if position else "(")
        for before, equal in columns[:position]:
            statement.add(f"{before.order} = {before.parameter} and", equal)
        statement.add(f"{key.order} {'<' if key.descending else '>'} {key.parameter})", value)
    statement.add(")")


def as_it_was(statement: Statement, place: Place) -> None:
    """Later pages do not show what was created after the first one."""
    if place.newest is not None:
        statement.add("and r.rid <= %s", place.newest)


def order_by(statement: Statement, keys: Sequence[Key]) -> None:
    """The `order by` of these keys; the internal key makes the order total."""
    if not keys:
        statement.add("order by r.rid desc")
        return
    parts = [f"{key.order} {'desc' if key.descending else 'asc'}" for key in keys]
    statement.add(f"order by {', '.join(parts)}, r.rid {'desc' if keys[0].descending else 'asc'}")


def values_of(query: SearchQuery, doc: bytes, updated: int) -> tuple[Value, ...]:
    """The sort values of one hit, of an order that is made in memory; None where it has none."""
    resource: Mapping[str, Any] = orjson.loads(doc)
    found = extract(resource)
    return tuple(_value(one, resource, found, updated) for one in query.sort)


def _value(sort: Sort, resource: Mapping[str, Any], found: Sequence[IndexValue], updated: int) -> Value:
    if sort.parameter is None:
        return updated
    if sort.parameter.code == "_id":
        return str(resource["id"])
    values = [
        value
        for one in found
        if one.param is sort.parameter and (value := _comparable(one, descending=sort.descending)) is not None
    ]
    return (max if sort.descending else min)(values, default=None)  # pyright: ignore[reportArgumentType] - of one type


def _comparable(value: IndexValue, *, descending: bool) -> Value:
    match value:
        case Token():
            return folded(value.code or value.display or "") or None
        case Reference():
            return value.target or None
        case Text() | Uri():
            return folded(value.value)
        case Period() | Number() | Quantity():
            end: Decimal | int = value.high if descending else value.low
            return float(end) if isinstance(end, Decimal) else end
        case _:
            return None


def sorted_in_memory(
    query: SearchQuery, rows: list[tuple[tuple[Value, ...], int]]
) -> list[tuple[tuple[Value, ...], int]]:
    """(values, internal key) in the order of the query."""
    return sorted(rows, key=cmp_to_key(lambda left, right: compare(query.sort, left, right)))


def compare(sort: Sequence[Sort], left: tuple[Sequence[Value], int], right: tuple[Sequence[Value], int]) -> int:
    """Negative where `left` comes first, positive where `right` does."""
    for one, mine, other in zip(sort, left[0], right[0], strict=True):
        if mine == other:
            continue
        if mine is None or other is None:
            return 1 if mine is None else -1
        earlier = mine < other  # pyright: ignore[reportOperatorIssue] - values of one key are of one type
        return -1 if earlier != one.descending else 1
    step = left[1] - right[1]
    return -step if sort[0].descending else step
