"""Index rows made again for every resource, where this program makes them otherwise than the one that wrote them."""

from collections.abc import Awaitable, Callable
from typing import Final, NamedTuple

import orjson
import structlog

from fhir_server.r4.resource_types import TYPE_NAME
from fhir_server.r4.search_parameters import REGISTRY
from fhir_server.store import index_rows, queries
from fhir_server.store.database import Connection, Database
from fhir_server.store.search_index import INDEX_VERSION, NO_ROWS, IndexRows, own_hash, rows_of

SQL = queries.load("reindex")
STATISTICS = queries.load("statistics")
BATCH: Final = 500


class _Resource(NamedTuple):
    rid: int
    type: int
    id: str
    doc: bytes | None
    was: bytes | None

    def rows(self) -> IndexRows:
        """Those of what it is; of a deleted resource only in whose record it was."""
        if self.doc:
            return rows_of(orjson.loads(self.doc))
        was = rows_of(orjson.loads(self.was)) if self.was else NO_ROWS
        return IndexRows(guard=was.guard, worker=was.worker)


log = structlog.get_logger(__name__)


async def bring_up_to_date(database: Database) -> int:
    """Index everything again unless the rows are those that this program makes; returns how many resources.

    Where only `_content` was switched on or off, only its words are made or forgotten. Raises Unavailable.

    One transaction: a search sees the old rows or the new ones, and a process that dies leaves the old ones.
    """
    async with database.transaction() as connection:
        await connection.execute("set local statement_timeout = 0")
        await connection.execute(SQL["begin_index"])
        ((version, content),) = await (await connection.execute(SQL["hold_index"])).fetchall()
        if (version, content) == (INDEX_VERSION, REGISTRY.content):
            return 0
        await connection.execute(SQL["state_version"], (INDEX_VERSION, REGISTRY.content))
        if version != INDEX_VERSION:
            await connection.execute(SQL["forget_rows"])
            return await _walk(connection, _everything)
        await connection.execute(SQL["forget_contents"])
        return await _walk(connection, _contents) if REGISTRY.content else 0


Batch = list[tuple[_Resource, IndexRows]]


async def _walk(connection: Connection, keep: Callable[[Connection, Batch], Awaitable[None]]) -> int:
    """Every resource in batches, with its rows; returns how many."""
    done = last = 0
    while True:
        cursor = await connection.execute(SQL["resources_after"], (last, BATCH), binary=True)
        found = [_Resource(*row) for row in await cursor.fetchall()]
        if not found:
            if done:
                await connection.execute(STATISTICS["analyze"])
            return done
        await keep(connection, [(one, one.rows()) for one in found])
        last = found[-1].rid
        done += len(found)
        log.info("indexed again", resources=done)


async def _everything(connection: Connection, batch: Batch) -> None:
    columns = (
        [one.rid for one, _ in batch],
        [own_hash(f"{TYPE_NAME[one.type]}/{one.id}") for one, _ in batch],
        *index_rows.columns_of(row for _, row in batch),
    )
    await connection.execute(SQL["state_columns"], columns)
    await index_rows.insert(connection, [(one.rid, row) for one, row in batch])


async def _contents(connection: Connection, batch: Batch) -> None:
    await index_rows.insert(connection, [(one.rid, IndexRows(contents=row.contents)) for one, row in batch])
