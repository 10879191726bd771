"""Hits found in the index first, and documents read only once it is known which.

The planner believes that words, dates and numbers are spread alike over all search parameters. So it takes thousands of
names for a hundred, reads the row of each, and asks it for its birth date; or it reads every document of a worker who
has a thousand to show the newest twenty. Here sets that turn out to be small are fetched whole and met with each other,
and what is left is asked row by row. docs/adr/0003 has the measurements.
"""

from collections.abc import Iterable, Sequence
from typing import Any, Final, TypeGuard

from fhir_server.r4.search_criteria import (
    Criterion,
    DateIs,
    NumberIs,
    QuantityIs,
    ReferenceHas,
    ReferenceIs,
    SearchQuery,
    StringIs,
    TokenIs,
    TokenOfType,
    TokenText,
    UriIs,
)
from fhir_server.sight import EVERYTHING
from fhir_server.store import conditions, ordering
from fhir_server.store.conditions import OF_FEW, OfIndex
from fhir_server.store.ordering import Key, Place
from fhir_server.store.statement import Reader, Statement

MOST: Final = 5000
"""A set of more is not fetched."""
FEW: Final = 200
"""A set of fewer need not be met with another."""
STEP: Final = 200
"""So many candidates are looked at together first; then as many as the page should need."""
_GUESSED: Final = (StringIs, DateIs, NumberIs, QuantityIs, TokenText)
"""Criteria on a range, of which the planner guesses how many meet it."""
_HASHES: Final = (TokenIs, TokenOfType, ReferenceIs, ReferenceHas)
"""Criteria on a hash, of which many rows are asked as quickly as one."""
_OF_ROWS: Final = ("token", "reference")
"""Parameters by which the row of a resource is sorted (`_id`), or its document."""

Row = tuple[Any, ...]


async def narrowed(reader: Reader, query: SearchQuery, after: Place | None) -> list[Row] | None:
    """The rows of the next page and one more, by internal key; None where no set is small enough to begin with."""
    if not is_narrowed(query):
        return None
    begun = await _candidates(reader, query)
    if begun is None:
        return None
    candidates, unmet = begun
    ordered = sorted((rid for rid in candidates if after is None or rid < after.rid), reverse=True)
    hits: list[Row] = []
    at, size = 0, STEP
    while at < len(ordered) and len(hits) <= query.count:
        met = await meeting(reader, query.resource_type, unmet, ordered[at : at + size])
        at += size
        while met and len(hits) <= query.count:
            page, met = met[: query.count + 1], met[query.count + 1 :]
            found = await documents(reader, query, page)
            hits += [found[rid] for rid in page if rid in found]
        size = min(MOST, max(STEP, 2 * (query.count + 1 - len(hits)) * at // (len(hits) + 1)))
    return hits[: query.count + 1]


def is_narrowed(query: SearchQuery) -> bool:
    """Whether it may be worth to begin with small sets: the order is the default one, and the planner guesses badly."""
    return (
        not query.sort
        and len(query.criteria) > 1
        and any(isinstance(one, _GUESSED) for one in query.criteria)
        and not any(isinstance(one, OF_FEW) for one in query.criteria)
    )


async def _candidates(reader: Reader, query: SearchQuery) -> tuple[set[int], list[OfIndex]] | None:
    """The smallest sets met with each other, and the criteria of the index that are not among them."""
    candidates: set[int] | None = None
    unmet: list[OfIndex] = []
    for one in sorted(query.criteria, key=lambda one: not isinstance(one, StringIs)):
        if not isinstance(one, OfIndex):
            continue
        met = None
        if _may_be_few(one) and (candidates is None or len(candidates) > FEW):
            met = await _set(reader, query.resource_type, one)
        if met is None:
            unmet.append(one)
        else:
            candidates = met if candidates is None else candidates & met
    return None if candidates is None else (candidates, unmet)


def _may_be_few(criterion: OfIndex) -> bool:
    """Not what is open at one end, and not everything but something."""
    match criterion:
        case DateIs(_, comparisons):
            return all(prefix == "eq" for prefix, _, _ in comparisons)
        case NumberIs(_, comparisons):
            return all(one.prefix == "eq" for one in comparisons)
        case QuantityIs(_, comparisons):
            return all(one.number.prefix == "eq" for one in comparisons)
        case TokenIs():
            return not criterion.negated
        case _:
            return isinstance(criterion, StringIs | TokenText | UriIs)


async def _set(reader: Reader, resource_type: str, criterion: OfIndex) -> set[int] | None:
    """The internal keys that meet one criterion, unless they are too many."""
    statement = Statement("select case when count(*) <= %s then array_agg(s.rid) end from (", MOST)
    conditions.keys(statement, resource_type, criterion)
    statement.add("limit %s) s", MOST + 1)
    ((found,),) = await statement.rows(reader, binary=True)
    return None if found is None else set(found)


async def meeting(
    reader: Reader, resource_type: str, criteria: Iterable[OfIndex], rids: Sequence[int]
) -> Sequence[int]:
    """Those of the internal keys that meet these criteria of the index, in their order."""
    ranges: list[OfIndex] = []
    for one in criteria:
        if not _is_by_hash(one):
            ranges.append(one)
        elif rids:
            statement = Statement()
            conditions.keys(statement, resource_type, one)
            statement.add("and x.rid = any(%s)", list(rids))
            rids = await _kept(reader, statement, rids)
    if not ranges or not rids:
        return rids
    statement = Statement("select c.rid from unnest(%s::bigint[]) as c(rid) where true", list(rids), row_by_row=True)
    for one in ranges:
        statement.add("and")
        conditions.condition(statement, resource_type, one, "c")
    return await _kept(reader, statement, rids)


def _is_by_hash(criterion: Criterion) -> TypeGuard[OfIndex]:
    return isinstance(criterion, _HASHES) and not (isinstance(criterion, TokenIs) and criterion.negated)


async def _kept(reader: Reader, statement: Statement, rids: Sequence[int]) -> Sequence[int]:
    met = {rid for (rid,) in await statement.rows(reader, binary=True)}
    return [rid for rid in rids if rid in met]


async def documents(reader: Reader, query: SearchQuery, rids: Sequence[int]) -> dict[int, Row]:
    """(rid, id, version, updated, doc) of those that meet the whole query at this moment, by internal key."""
    statement = Statement("select r.rid, r.id, r.version, r.updated, r.doc from resource r where", row_by_row=True)
    statement.of_few = len(rids) <= STEP
    conditions.where(statement, query)
    statement.add("and r.rid = any(%s)", list(rids))
    return {row[0]: row for row in await statement.rows(reader, binary=True)}


def is_of_few(query: SearchQuery) -> bool:
    """Whether all hits refer to one resource, such as the documents of a worker, and their order needs no document."""
    return is_sorted_in_index(query) and any(_is_of_one(one) for one in query.criteria)


def is_sorted_in_index(query: SearchQuery) -> bool:
    """Whether the index knows all criteria and the order, and one hash leads to the hits."""
    return (
        bool(query.sort)
        and all(one.parameter is not None and one.parameter.type not in _OF_ROWS for one in query.sort)
        and all(isinstance(one, OfIndex) for one in query.criteria)
        and (any(map(_is_of_one, query.criteria)) or sum(map(_is_by_hash, query.criteria)) == 1)
    )


def _is_of_one(criterion: Criterion) -> bool:
    return isinstance(criterion, ReferenceIs) and len(criterion.targets) == 1


async def sorted_in_index(
    reader: Reader, query: SearchQuery, keys: Sequence[Key], after: Place | None, seeing: str
) -> list[Row] | None:
    """The rows of the next page and one more (rid, id, version, updated, doc, the values of the order, `seeing`).

    None where others changed them at this very moment. As a rule all of a page is in sight, and nothing is asked but
    its documents; where some is not, it is looked at before the page is cut.
    """
    for look in (False, True) if query.sight != EVERYTHING else (False,):
        page = ordered(query, keys, after, seeing, look=look)
        values = {rid: found for rid, *found in await page.rows(reader, binary=True)}
        if not values:
            return []
        found = await documents(reader, query, list(values))
        if found.keys() == values.keys():
            return [(*found[rid], *values[rid]) for rid in values]
    return None


def _all_hashes(statement: Statement, resource_type: str, criteria: Sequence[OfIndex]) -> None:
    """The internal keys that meet all of these, of which the last leads to the fewest."""
    first, *others = criteria
    conditions.keys(statement, resource_type, first)
    if others:
        statement.add("and x.rid = any(array(")
        _all_hashes(statement, resource_type, others)
        statement.add("))")


def ordered(
    query: SearchQuery, keys: Sequence[Key], after: Place | None, seeing: str = "", *, look: bool = False
) -> Statement:
    """The statement of a search that `is_sorted_in_index`: internal keys, the values of the order, and `seeing`.

    With `look` of those in sight only.
    """
    by_hash = sorted(filter(_is_by_hash, query.criteria), key=_is_of_one)
    columns = "".join(f", {key.value}" for key in keys)
    statement = Statement(row_by_row=True)
    statement.sight = query.sight
    statement.add(f"{'select s.* from (' if look else ''} select r.rid{columns}{seeing} from (")
    _all_hashes(statement, query.resource_type, by_hash)
    statement.add(") r")
    ordering.join(statement, keys)
    statement.add("where true")
    for one in query.criteria:
        if one not in by_hash:
            statement.add("and")
            conditions.condition(statement, query.resource_type, one, "r")
    if after:
        ordering.beyond(statement, keys, after)
        ordering.as_it_was(statement, after)
    ordering.order_by(statement, keys)
    if look:
        _until_enough_are_in_sight(statement)
    statement.add("limit %s", query.count + 1)
    return statement


def _until_enough_are_in_sight(statement: Statement) -> None:
    """Of sorted keys `s`, those whose resource is in sight: asked in their order, and no more than the page needs."""
    statement.of_few = True
    statement.add("offset 0) s where coalesce((select true from resource n where n.rid = s.rid")
    statement.if_counted("n")
    statement.if_in_sight("n")
    statement.add("limit 1), false)")
