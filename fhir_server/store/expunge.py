"""Removal for good: the rows of deleted resources and of earlier versions. Nothing brings them back.

What the search index holds of a resource went when it was deleted. The bytes of a Binary are let go with the last row
that names them (`store/shredding.py`).
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from psycopg import AsyncCursor

from fhir_server.store import queries
from fhir_server.store.access_log import AccessRow, insert_accesses
from fhir_server.store.database import Connection, Database
from fhir_server.store.shredding import release

SQL = queries.load("expunge")

Trace = Callable[[str, bytes], AccessRow]
"""The row of the access trail for one resource that is touched: its id, and what was left of its document."""


@dataclass(frozen=True, slots=True)
class Expunge:
    """Removes rows of one database, each time in one transaction with what the trail says of it."""

    database: Database

    async def deleted_resources(
        self, type_number: int, resource_id: str | None, *, limit: int, trace: Trace, by: str
    ) -> int:
        """Remove deleted resources with all their versions; how many versions went. Raises Unavailable."""
        asked = {"type": type_number, "id": resource_id, "limit": limit}
        async with self.database.transaction() as connection:
            found = await (await connection.execute(SQL["deleted"], asked)).fetchall()
            rids = [rid for rid, _ in found]
            await _trace(connection, dict(found), trace)
            await _release(connection, await connection.execute(SQL["contents"], (rids,)), by)
            versions = (await connection.execute(SQL["drop_history"], (rids,))).rowcount
            return versions + (await connection.execute(SQL["drop_resources"], (rids,))).rowcount

    async def earlier_versions(
        self, type_number: int, resource_id: str | None, *, limit: int, trace: Trace, by: str
    ) -> int:
        """Remove versions before the current one, oldest first; how many went. Raises Unavailable."""
        asked = {"type": type_number, "id": resource_id, "limit": limit}
        async with self.database.transaction() as connection:
            found = await (await connection.execute(SQL["earlier_versions"], asked)).fetchall()
            await _trace(connection, {rid: identity for rid, identity, _ in found}, trace)
            await _release(connection, await connection.execute(SQL["contents_of_versions"], _columns(found)), by)
            return (await connection.execute(SQL["drop_versions"], _columns(found))).rowcount


def _columns(found: Iterable[tuple[int, str, int]]) -> tuple[Sequence[int], Sequence[int]]:
    rows = list(found)
    return [rid for rid, _, _ in rows], [version for _, _, version in rows]


async def _release(connection: Connection, contents: AsyncCursor[Any], by: str) -> None:
    """Their bytes, before the rows go: shredded afterwards, where nothing else names them."""
    await release(connection, [sha256 for (sha256,) in await contents.fetchall()], by=by, reason="$expunge")


async def _trace(connection: Connection, ids: dict[int, str], trace: Trace) -> None:
    """Before they go: whose they are is in the documents."""
    documents = dict(await (await connection.execute(SQL["last_documents"], (list(ids),))).fetchall())
    await insert_accesses(connection, [trace(identity, documents.get(rid) or b"") for rid, identity in ids.items()])
