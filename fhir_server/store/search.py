"""Search on one resource type: criteria become one SQL statement, and its page is rechecked on the documents.

https://hl7.org/fhir/R4/search.html - docs/adr/0003.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, NamedTuple

import orjson

from fhir_server.outcomes import TooCostly
from fhir_server.r4.resource_types import TYPE_NUMBER
from fhir_server.r4.search_criteria import (
    Criterion,
    ReferenceHas,
    ReferenceIs,
    SearchQuery,
    StringIs,
    TokenIs,
    UriIs,
)
from fhir_server.sight import EVERYTHING
from fhir_server.store import conditions, date_walk, narrowing, ordering
from fhir_server.store.database import Connection, Database, Plans
from fhir_server.store.definitions import Shelf
from fhir_server.store.earlier import as_seen
from fhir_server.store.ordering import MOST_SORTED, SEEN, Key, Place
from fhir_server.store.resolving import resolved
from fhir_server.store.search_index import hashed
from fhir_server.store.statement import Reader, Statement

BOOLEANS = frozenset({"true", "false"})  # need not stand in the document: a date of death is `deceased=true`


class Found(NamedTuple):
    """One hit."""

    rid: int
    id: str
    version: int
    updated: datetime
    doc: bytes


@dataclass(frozen=True, slots=True)
class Page:
    """Hits in order, where the next page starts (None: this is the last), and the total where it is known."""

    hits: tuple[Found, ...]
    next: Place | None
    total: int | None


class Search:
    """Searches over one database."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.shelf = Shelf()

    async def page(self, query: SearchQuery, after: Place | None) -> Page:
        """One page of hits. Raises BadParameter, TooCostly, and Unavailable when the statement takes too long.

        Pages that follow a first one show what it saw, as it was then (`earlier`).
        """
        if after is None and _is_one_statement(query):
            async with self.database.connection(_plans(query)) as connection:
                query = await resolved(connection, self.shelf, query)
                page = await self._made(connection, query, None, None)
        elif after is None:
            async with self.database.moment() as connection:
                query = await resolved(connection, self.shelf, query)
                page = await self._made(connection, query, None, await sight(connection))
        else:
            async with self.database.moment(after.seen) as connection:
                query = await resolved(connection, self.shelf, query)
                page = await self._made(await as_seen(connection, [query], after), query, after, None)
        if page.next and not self.database.keeps_moments:
            return replace(page, next=page.next._replace(seen=None))
        return page

    async def _made(self, reader: Reader, query: SearchQuery, after: Place | None, seen: str | None) -> Page:
        if query.only_count or query.count == 0:
            return Page((), None, await _total(reader, query, None))
        pick = _page_in_memory if ordering.is_made_in_memory(query) else _page
        rows, following = await pick(reader, query, after, seen)
        holds = recheck(query.criteria)
        hits = tuple(row for row in rows if holds(row.doc))
        total: int | None = None
        if query.total != "none":
            total = await _total(reader, query, after or following)
        elif after is None and following is None:
            total = len(hits)
        return Page(hits, following, total)

    async def explain(self, query: SearchQuery) -> tuple[str, Any]:
        """The statement of a search and how PostgreSQL carried it out (EXPLAIN ANALYZE, as JSON)."""
        async with self.database.connection() as connection:
            query = await resolved(connection, self.shelf, query)
            select = narrowing.ordered if narrowing.is_of_few(query) else _select
            statement = select(query, ordering.keys_of(query), None)
            explained = Statement("explain (analyze, buffers, format json)")
            explained.add(str(statement), *statement.values)
            ((plan,),) = await explained.rows(connection)
        return str(statement), plan[0]


async def find_ids(connection: Connection, query: SearchQuery, limit: int) -> list[str]:
    """Ids of at most `limit` matches, inside a transaction of the writer (conditional interactions)."""
    await connection.execute(b"set local plan_cache_mode = force_custom_plan")
    query = await resolved(connection, Shelf(), query)
    statement = Statement("select r.id, r.doc from resource r where")
    conditions.where(statement, query)
    statement.add("order by r.rid limit %s", limit)
    holds = recheck(query.criteria)
    return [resource_id for resource_id, doc in await statement.rows(connection) if holds(doc)]


def condition_lock(resource_type: str, pairs: Sequence[tuple[str, str]]) -> int:
    """The advisory lock of a condition: the same criteria in any order are the same lock."""
    return hashed(TYPE_NUMBER[resource_type], "condition", *(part for pair in sorted(pairs) for part in pair))


def _is_one_statement(query: SearchQuery) -> bool:
    """Whether a single statement says what is on the first page, so that it needs no transaction to see one moment."""
    if query.only_count or query.count == 0:
        return True
    return (
        query.total == "none"
        and not ordering.is_made_in_memory(query)
        and not narrowing.is_narrowed(query)
        and (narrowing.is_of_few(query) or not date_walk.is_walked(query))
    )


def _plans(query: SearchQuery) -> Plans:
    return "generic" if _is_by_one_hash(query) or narrowing.is_of_few(query) else "custom"


def _is_by_one_hash(query: SearchQuery) -> bool:
    """True for the newest resources with one value, such as the documents of a worker: any value has the same plan."""
    if len(query.criteria) != 1 or query.sort or query.only_count or query.total != "none":
        return False
    match query.criteria[0]:
        case TokenIs(_, ((_, str()),), False):
            return True
        case ReferenceIs(_, values) | ReferenceHas(_, values) | UriIs(_, values, False):
            return len(values) == 1
        case _:
            return False


async def _page(
    reader: Reader, query: SearchQuery, after: Place | None, seen: str | None
) -> tuple[list[Found], Place | None]:
    """Of a first page that nobody looked at before, the one statement tells what it sees."""
    keys = ordering.keys_of(query)
    seeing = "" if after or seen else f", {SEEN}"
    rows = await narrowing.narrowed(reader, query, after)
    if rows is None and not narrowing.is_of_few(query):
        rows = await date_walk.walked(reader, query, after)
    if rows is None and narrowing.is_sorted_in_index(query):
        rows = await narrowing.sorted_in_index(reader, query, keys, after, seeing)
    if rows is None:
        rows = await _select(query, keys, after, seeing).rows(reader, binary=True)
    if len(rows) <= query.count:
        return [Found(*row[:5]) for row in rows], None
    rows = rows[: query.count]
    rid, values, last = rows[-1][0], rows[-1][5 : 5 + len(keys)], rows[-1][-1]
    return [Found(*row[:5]) for row in rows], ordering.following(values, rid, after or seen or last)


def _select(query: SearchQuery, keys: Sequence[Key], after: Place | None, seeing: str = "") -> Statement:
    columns = "".join(f", {key.value}" for key in keys) + seeing
    statement = Statement(f"select r.rid, r.id, r.version, r.updated, r.doc{columns} from resource r")
    ordering.join(statement, keys)
    statement.add("where")
    statement.of_few = any(isinstance(one, conditions.OF_FEW) for one in query.criteria)
    conditions.where(statement, query)
    if after:
        ordering.beyond(statement, keys, after)
        ordering.as_it_was(statement, after)
    ordering.order_by(statement, keys)
    statement.add("limit %s", query.count + 1)
    return statement


async def _page_in_memory(
    reader: Reader, query: SearchQuery, after: Place | None, seen: str | None
) -> tuple[list[Found], Place | None]:
    """Of an order that the index does not know: all hits, sorted here. Raises TooCostly beyond `MOST_SORTED`."""
    statement = Statement("select r.rid, r.id, r.version, r.updated, r.doc from resource r where")
    conditions.where(statement, query)
    if after:
        ordering.as_it_was(statement, after)
    statement.add("limit %s", MOST_SORTED + 1)
    found = {row[0]: Found(*row) for row in await statement.rows(reader, binary=True)}
    if len(found) > MOST_SORTED:
        raise TooCostly(f"More than {MOST_SORTED} hits cannot be sorted by a code or a reference; narrow the search")
    rows = [
        (ordering.values_of(query, one.doc, int(one.updated.timestamp() * 1000)), one.rid) for one in found.values()
    ]
    if after:
        place = after.values, after.rid
        rows = [row for row in rows if ordering.compare(query.sort, row, place) > 0]
    rows = ordering.sorted_in_memory(query, rows)
    page = rows[: query.count]
    hits = [found[rid] for _, rid in page]
    if len(rows) <= query.count:
        return hits, None
    assert after or seen, "such a page is made inside a transaction, whose sight is known"
    return hits, ordering.following(*page[-1], after or seen or "")


async def sight(connection: Connection) -> str:
    """What the transaction of a first page sees, for those that follow."""
    ((seen,),) = await Statement(f"select {SEEN}").rows(connection)
    return seen


async def _total(reader: Reader, query: SearchQuery, place: Place | None) -> int:
    """How many there are: counted, or what the planner believes (`_total=estimate`), who counts what is hidden too."""
    if query.total == "estimate" and query.sight == EVERYTHING and not query.only_count and query.count:
        statement = Statement("select from resource r where", planned=True)
        conditions.where(statement, query)
        ((plan,),) = await statement.rows(reader)
        return int(plan[0]["Plan"]["Plan Rows"])
    statement = Statement("select count(*) from resource r where")
    conditions.where(statement, query)
    if place:
        ordering.as_it_was(statement, place)
    ((count,),) = await statement.rows(reader)
    return count


def recheck(criteria: Sequence[Criterion]) -> Callable[[bytes], bool]:
    """Two values may share a hash: does a document hold the text of what was asked?"""
    literals = _literals(criteria)
    return lambda doc: _holds(doc, literals)


def _literals(criteria: Iterable[Criterion]) -> list[tuple[bytes, ...]]:
    """For each criterion on hashes, the texts of which the document must hold at least one."""
    literals: list[tuple[bytes, ...]] = []
    for criterion in criteria:
        match criterion:
            case TokenIs(_, values, False) if BOOLEANS.isdisjoint(code for _, code in values):
                if all(code is not None for _, code in values):  # the system of a code may be implied
                    literals.append(tuple(_as_in_json(code or "") for _, code in values))
            case ReferenceIs(_, targets):
                literals.append(tuple(_as_in_json(target) for target in targets))
            case ReferenceHas(_, identifiers):
                literals.append(tuple(_as_in_json(value) for _, value in identifiers))
            case UriIs(_, values, False) | StringIs(_, values, "exact"):
                literals.append(tuple(_as_in_json(value) for value in values))
            case _:
                pass
    return literals


def _as_in_json(text: str) -> bytes:
    return orjson.dumps(text)[1:-1]


def _holds(doc: bytes, literals: Iterable[tuple[bytes, ...]]) -> bool:
    for alternatives in literals:
        if not any(literal in doc for literal in alternatives):
            plain = orjson.dumps(orjson.loads(doc))  # the client may have written the text with escapes
            if not any(literal in plain for literal in alternatives):
                return False
    return True
