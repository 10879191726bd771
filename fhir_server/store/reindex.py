"""Index rows made again for every resource, where this program makes them otherwise than the one that wrote them."""

from typing import Final

import orjson
import structlog

from fhir_server.r4.resource_types import TYPE_NAME
from fhir_server.store import index_rows, queries
from fhir_server.store.database import Connection, Database
from fhir_server.store.search_index import INDEX_VERSION, NO_ROWS, own_hash, rows_of

SQL = queries.load("reindex")
BATCH: Final = 500

log = structlog.get_logger(__name__)


async def bring_up_to_date(database: Database) -> int:
    """Index everything again unless the rows are of this version; returns how many resources. Raises Unavailable.

    One transaction: a search sees the old rows or the new ones, and a process that dies leaves the old ones.
    """
    async with database.transaction() as connection:
        await connection.execute("set local statement_timeout = 0")
        cursor = await connection.execute(SQL["hold_index"])
        if await cursor.fetchone() == (INDEX_VERSION,):
            return 0
        await connection.execute(SQL["forget_rows"])
        done = last = 0
        while batch := await _batch(connection, last):
            last = batch[-1][0]
            done += len(batch)
            log.info("indexed again", resources=done)
        await connection.execute(SQL["state_version"], (INDEX_VERSION,))
    return done


async def _batch(connection: Connection, after: int) -> list[tuple[int, int, str, bytes | None]]:
    found = await (await connection.execute(SQL["resources_after"], (after, BATCH), binary=True)).fetchall()
    rows = [(rid, rows_of(orjson.loads(doc)) if doc else NO_ROWS) for rid, _, _, doc in found]
    await connection.execute(
        SQL["state_columns"],
        (
            [rid for rid, _, _, _ in found],
            [own_hash(f"{TYPE_NAME[number]}/{identity}") for _, number, identity, _ in found],
            *index_rows.columns_of(row for _, row in rows),
        ),
    )
    await index_rows.insert(connection, rows)
    return [(rid, number, identity, doc) for rid, number, identity, doc in found]
