"""Hits in the order of a date, where there are many: the index of dates is walked from its end, some rows at a time.

To sort a hundred thousand hits for a page of twenty takes a second; to look at the newest dates and ask of each whether
it is a hit takes milliseconds, as long as hits are not rare among them. So few rows are walked first; where they hold
too few hits, the planner is asked how many there are, and only where there are many it goes on. ADR 3 says what a lot
of 290,000 documents of one date does to a walk: it is bounded, and ends in a sort.
"""

from collections.abc import Sequence
from typing import Any, Final

from fhir_server.r4.resource_types import TYPE_NUMBER
from fhir_server.r4.search_criteria import SearchQuery
from fhir_server.store import conditions
from fhir_server.store.conditions import OfIndex
from fhir_server.store.narrowing import meeting
from fhir_server.store.ordering import LAST, Place
from fhir_server.store.search_index import param_key
from fhir_server.store.statement import Reader, Statement

STEPS: Final = (200, 1000, 5000, 15_000)
LOOKS: Final = 2
"""Steps before it is asked whether hits are rare."""
RARE: Final = 1000

Row = tuple[Any, ...]


async def walked(reader: Reader, query: SearchQuery, after: Place | None) -> list[Row] | None:
    """The rows of the next page and one more (rid, id, version, updated, doc, value); None where a sort is better."""
    if not is_walked(query) or (after and abs(int(after.values[0] or LAST)) == LAST):
        return None
    place = (int(after.values[0] or 0), after.rid) if after else None
    hits: list[Row] = []
    for number, size in enumerate(STEPS):
        if number == LOOKS and await _is_rare(reader, query):
            return None
        chunk = await _next(reader, query, place, size)
        hits += await _hits(reader, query, chunk, after)
        if len(hits) > query.count:
            return hits[: query.count + 1]
        if len(chunk) < size:
            return None  # the rest has no date, and comes last
        place = chunk[-1]
    return None


def is_walked(query: SearchQuery) -> bool:
    """By one date, and not within one worker: his documents are few."""
    return (
        len(query.sort) == 1
        and query.sort[0].parameter is not None
        and query.sort[0].parameter.type == "date"
        and not any(isinstance(one, conditions.OF_FEW) for one in query.criteria)
    )


async def _next(reader: Reader, query: SearchQuery, place: tuple[int, int] | None, size: int) -> list[tuple[int, int]]:
    """(value, internal key) of the next dates."""
    column, order, beyond = ("high", "desc", "<") if query.sort[0].descending else ("low", "asc", ">")
    statement = Statement(
        f"select p.{column}, p.rid from period p where p.param = %s and p.{column} {beyond} %s",
        _param(query),
        LAST if query.sort[0].descending else -LAST,
    )
    if place:
        statement.add(f"and (p.{column}, p.rid) {beyond} (%s, %s)", *place)
    statement.if_counted("p")
    statement.add(f"order by p.{column} {order}, p.rid {order} limit %s", size)
    return [(value, rid) for value, rid in await statement.rows(reader)]


async def _hits(reader: Reader, query: SearchQuery, chunk: Sequence[tuple[int, int]], after: Place | None) -> list[Row]:
    """Those of the chunk that meet the criteria, in its order; one with several dates where its place is."""
    values = {rid: value for value, rid in reversed(chunk)}
    of_index = [one for one in query.criteria if isinstance(one, OfIndex)]
    met = await meeting(reader, query.resource_type, of_index, list(values)) if of_index else list(values)
    own = "max(p.high)" if query.sort[0].descending else "min(p.low)"
    statement = Statement(
        "select r.rid, r.id, r.version, r.updated, r.doc,"
        f" (select {own} from period p where p.rid = r.rid and p.param = %s",
        _param(query),
        row_by_row=True,
    )
    statement.if_counted("p")
    statement.add(") from resource r where")
    conditions.where(statement, query)
    statement.add("and r.rid = any(%s)", met)
    if after and after.newest is not None:
        statement.add("and r.rid <= %s", after.newest)
    found = {row[0]: row for row in await statement.rows(reader, binary=True)}
    return [found[rid] for rid, value in reversed(values.items()) if rid in found and found[rid][5] == value]


async def _is_rare(reader: Reader, query: SearchQuery) -> bool:
    """As the planner believes: to count them would cost more than what is decided here."""
    statement = Statement("select from resource r where", planned=True)
    conditions.where(statement, query)
    ((plan,),) = await statement.rows(reader)
    return int(plan[0]["Plan"]["Plan Rows"]) <= RARE


def _param(query: SearchQuery) -> int:
    parameter = query.sort[0].parameter
    assert parameter, "only an order by a date is walked"
    return param_key(TYPE_NUMBER[query.resource_type], parameter)
