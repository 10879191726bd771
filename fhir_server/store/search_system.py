"""Search over several resource types: a bounded walk of each, by the time of the last change, merged by PostgreSQL.

https://hl7.org/fhir/R4/http.html#search - of each type one page at most is looked at, by the index on type and time of
change; of those rows the first page is read whole. docs/adr/0003
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from fhir_server.r4.resource_types import TYPE_NAME, TYPE_NUMBER
from fhir_server.r4.search_criteria import SearchQuery
from fhir_server.sight import EVERYTHING
from fhir_server.store import conditions, ordering
from fhir_server.store.database import Connection
from fhir_server.store.earlier import as_seen
from fhir_server.store.includes import Included
from fhir_server.store.ordering import Place
from fhir_server.store.resolving import resolved
from fhir_server.store.search import Search, recheck, sight
from fhir_server.store.statement import Reader, Statement

MANY = 10
"""Beyond so many types it is asked first which of them there are: a store holds few of R4's."""


@dataclass(frozen=True, slots=True)
class MixedPage:
    """Hits in order, where the next page starts (None: this is the last), and the total where it is known."""

    hits: tuple[Included, ...]
    next: Place | None
    total: int | None


async def mixed_page(search: Search, queries: Sequence[SearchQuery], after: Place | None) -> MixedPage:
    """One page of the hits of queries of one order, each on another type, sorted by `_lastUpdated`.

    Raises BadParameter, TooCostly, and Unavailable when the statement takes too long.
    """
    shared = queries[0]
    async with search.database.moment(after.seen if after else None) as connection:
        if len(queries) > MANY:
            queries = await _there(connection, queries)
        queries = [await resolved(connection, search.shelf, query) for query in queries]
        if not queries:
            return MixedPage((), None, 0)
        if shared.only_count or shared.count == 0:
            return MixedPage((), None, await _total(connection, queries, None))
        reader = await as_seen(connection, queries, after) if after else connection
        rows = await _select(queries, after).rows(reader, binary=True)
        following = None
        if len(rows) > shared.count:
            rows = rows[: shared.count]
            following = ordering.following((rows[-1][4],), rows[-1][0], after or await sight(connection))
        holds = {TYPE_NUMBER[query.resource_type]: recheck(query.criteria) for query in queries}
        hits = tuple(Included(TYPE_NAME[number], i, doc) for _, number, i, doc, _ in rows if holds[number](doc))
        total: int | None = None
        if shared.total != "none":
            total = await _total(reader, queries, after or following)
        elif after is None and following is None:
            total = len(hits)
    return MixedPage(hits, following, total)


async def _there(connection: Connection, queries: Sequence[SearchQuery]) -> list[SearchQuery]:
    """The queries on types of which there is anything."""
    statement = Statement(
        "select t.type from unnest(%s::smallint[]) t(type) where exists (select from resource r where r.type = t.type)",
        [TYPE_NUMBER[query.resource_type] for query in queries],
    )
    known = {number for (number,) in await statement.rows(connection)}
    return [query for query in queries if TYPE_NUMBER[query.resource_type] in known]


def _select(queries: Sequence[SearchQuery], after: Place | None) -> Statement:
    """(internal key, type, id, document, time of change) of one page and one more."""
    (key,) = keys = ordering.keys_of(queries[0])
    limit = queries[0].count + 1

    def first_of(statement: Statement, query: SearchQuery) -> None:
        statement.add("(select r.rid, r.updated from resource r where")
        conditions.where(statement, query)
        if after:
            ordering.beyond(statement, keys, after)
            ordering.as_it_was(statement, after)
        ordering.order_by(statement, keys)
        statement.add("limit %s)", limit)

    statement = Statement(f"select r.rid, r.type, r.id, r.doc, {key.value} from (select r.rid from (")
    _each(statement, queries, first_of)
    statement.add(") r")
    ordering.order_by(statement, keys)
    statement.add("limit %s) page join resource r on r.rid = page.rid", limit)
    statement.if_counted("r")
    ordering.order_by(statement, keys)
    return statement


def _each(statement: Statement, queries: Sequence[SearchQuery], add: Callable[[Statement, SearchQuery], None]) -> None:
    for number, query in enumerate(queries):
        statement.add("union all" if number else "")
        add(statement, query)


async def _total(reader: Reader, queries: Sequence[SearchQuery], place: Place | None) -> int:
    """How many there are: counted, or what the planner believes (`_total=estimate`), who counts what is hidden too."""
    shared = queries[0]
    is_estimate = shared.total == "estimate" and shared.sight == EVERYTHING and not shared.only_count and shared.count

    def counted(statement: Statement, query: SearchQuery) -> None:
        statement.add("select from resource r where" if is_estimate else "select count(*) as n from resource r where")
        conditions.where(statement, query)
        if place and not is_estimate:
            ordering.as_it_was(statement, place)

    statement = Statement("" if is_estimate else "select sum(n)::bigint from (", planned=bool(is_estimate))
    _each(statement, queries, counted)
    if is_estimate:
        ((plan,),) = await statement.rows(reader)
        return int(plan[0]["Plan"]["Plan Rows"])
    statement.add(") each")
    ((count,),) = await statement.rows(reader)
    return count
