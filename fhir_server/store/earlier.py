"""The store as the first page of a search saw it, for the pages that follow.

A page link carries the snapshot of its search, as PostgreSQL writes it. What was written since is looked up; where
there is something, every table of the search is asked in a form in which these resources are as they were: their
version of then, and its index rows, stand beside the rows of all others. So the same statements answer, whatever they
ask, and nothing is kept open or written between two pages. docs/adr/0003

Three things are not as they were, since a disclosure is decided when it is made: what was deleted is not shown, nor a
version that is about another worker than its resource is now, nor a resource that is now out of the bounds of scopes.

https://www.postgresql.org/docs/current/functions-info.html#FUNCTIONS-PG-SNAPSHOT
"""

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final, NamedTuple

import orjson

from fhir_server.outcomes import TooCostly
from fhir_server.r4.resource_types import TYPE_NAME, TYPE_NUMBER
from fhir_server.r4.search_criteria import SearchQuery
from fhir_server.sight import Sight
from fhir_server.store import index_rows, queries
from fhir_server.store.bounds import meets
from fhir_server.store.database import Connection
from fhir_server.store.ordering import Place
from fhir_server.store.search_index import rows_of
from fhir_server.store.statement import Earlier, Reader, Statement
from mappings.access_facts import WORKER_UNCLEAR, access_facts

SQL: Final = queries.load("earlier")
MOST_CHANGED: Final = 2000
"""Resources that may have changed between two pages."""
LONGEST_WRITE: Final = timedelta(minutes=1)
"""From the time that a version bears to the end of its transaction, clocks that differ included."""


_NOTHING: Final = {table: ["{}"] * text.count(b"%s") for table, text in SQL.items()}
"""Columns without rows."""


class _Changed(NamedTuple):
    """A resource that was written since: its version of then (None: it was not there), its documents of both times."""

    rid: int
    type: int
    id: str
    version: int | None
    now: bytes
    then: bytes | None

    @property
    def is_of_the_same_worker(self) -> bool:
        then, now = access_facts(orjson.loads(self.then or b"{}")), access_facts(orjson.loads(self.now))
        if then.guard & ~now.guard & WORKER_UNCLEAR:
            return False
        return then.worker in (None, now.worker)


async def as_seen(connection: Connection, searched: Sequence[SearchQuery], after: Place) -> Reader:
    """Through which later pages of these searches are asked, inside a transaction that sees one snapshot.

    Raises TooCostly when more than `MOST_CHANGED` resources of the types that are asked were written since then.
    """
    if after.seen is None or after.newest is None:
        return connection
    changed = await _changed(connection, searched, after.seen, after.newest)
    if len(changed) > MOST_CHANGED:
        raise TooCostly(
            f"More than {MOST_CHANGED} resources changed since the first page: search again, or use $export"
        )
    if not changed:
        return connection
    return await asyncio.to_thread(_with, connection, changed, searched[0].sight)


async def _changed(connection: Connection, searched: Sequence[SearchQuery], seen: str, newest: int) -> list[_Changed]:
    """Of the types that are searched what was there, of those that criteria lead to also what came later."""
    own = {query.resource_type for query in searched}
    asked = sorted(own.union(*(query.asked_types for query in searched)))
    milliseconds, snapshot = seen.split("@")
    at = datetime.fromtimestamp(int(milliseconds) / 1000, UTC)
    given = {
        "types": [TYPE_NUMBER[name] for name in asked],
        "newest": [newest if name in own else 2**63 - 1 for name in asked],
        "since": at - LONGEST_WRITE,
        "at": at,
        "snapshot": snapshot,
        "limit": MOST_CHANGED + 1,
    }
    cursor = await connection.execute(SQL["changed"], given, binary=True)
    return [_Changed(*row) for row in await cursor.fetchall()]


def _with(connection: Connection, changed: Sequence[_Changed], sight: Sight) -> Earlier:
    shown = [
        (one, rows_of(orjson.loads(one.then)))
        for one in changed
        if one.then and one.is_of_the_same_worker and meets(sight, TYPE_NAME[one.type], one.now)
    ]
    refs, present, *_ = index_rows.columns_of(rows for _, rows in shown)
    shadows = Statement("with")
    _shadow(shadows, "resources", [one.rid for one, _ in shown], [one.version for one, _ in shown], refs, present)
    for table, columns in index_rows.tables([(one.rid, rows) for one, rows in shown]):
        if table in SQL:  # who opposes what is decided as of now
            shadows.add(",")
            _shadow(shadows, table, *(columns or _NOTHING[table]))
    return Earlier(connection, str(shadows), shadows.values, [one.rid for one in changed])


def _shadow(shadows: Statement, table: str, *values: Any) -> None:
    shadows.add(SQL[table].decode(), *values)
