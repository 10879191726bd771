"""The access trail: one narrow row per access or refusal, append only, shown to the outside as AuditEvent.

Art. R4624-45-5 C. trav.: every action on the DMST is traced. docs/adr/0006 says why these are rows, not
resources: the trail outlives the documents and grows by 39 million rows a year.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

from fhir_server.metrics import Metrics
from fhir_server.store import queries
from fhir_server.store.batching import Batcher
from fhir_server.store.database import Connection, Database, Lent

SQL = queries.load("access_log")
LARGEST_GROUP = 512
LANES = 2  # while one group waits for the disk the next is on its way, and PostgreSQL flushes both at once


class AccessRow(NamedTuple):
    """One access. `outcome` is the FHIR AuditEvent outcome (0 success, 4 refused, 8 failed); `type` the type number."""

    at: datetime
    interaction: str
    outcome: int
    client_id: str | None
    role: str | None
    purpose: str | None
    type: int | None
    resource_id: str | None
    version: int | None
    patient_id: str | None
    query: str | None
    recipient: str | None
    request_id: str


class Access(NamedTuple):
    """An access as it was kept, with its number."""

    id: int
    row: AccessRow


class AccessLog:
    """Appends accesses in groups, and finds them again."""

    def __init__(self, database: Database, *, sync: bool, metrics: Metrics | None = None) -> None:
        self._database = database
        self._sync = sync
        self._metrics = metrics or Metrics()
        self._appends: Batcher[Sequence[AccessRow], None] = Batcher(
            self._append_group, largest=LARGEST_GROUP, lanes=LANES
        )
        self._metrics.audit_waiting = lambda: self._appends.waiting

    async def append(self, *rows: AccessRow) -> None:
        """Returns when the rows are kept: on disk, or with `audit_sync` off in the hands of PostgreSQL."""
        if rows:
            await self._appends.submit(rows)

    async def drain(self) -> None:
        await self._appends.drain()

    async def _append_group(self, groups: list[Sequence[AccessRow]]) -> list[None]:
        rows = [row for group in groups for row in group]
        self._metrics.audit_rows.observe(len(rows))
        if self._sync:
            async with self._database.connection() as connection:  # one statement is a transaction by itself
                await insert_accesses(connection, rows)
        else:
            async with self._database.transaction() as connection:
                await connection.execute("set local synchronous_commit = off")
                await insert_accesses(connection, rows)
        return [None] * len(groups)

    async def read(self, access_id: int) -> Access | None:
        async with self._database.connection() as connection:
            cursor = await connection.execute(SQL["read"], (access_id,))
            row = await cursor.fetchone()
            return Access(row[0], AccessRow(*row[1:])) if row else None

    async def search(
        self,
        *,
        patient_id: str | None,
        entity: tuple[int, str] | None,
        low: datetime,
        high: datetime,
        before: int,
        limit: int,
    ) -> list[Access]:
        """Newest first, below number `before`, at most `limit`."""
        async with self._database.connection() as connection:
            parameters = _parameters(patient_id, entity, low, high) | {"before": before, "limit": limit}
            cursor = await connection.execute(SQL["search"], parameters)
            return [Access(row[0], AccessRow(*row[1:])) for row in await cursor.fetchall()]

    async def count(
        self, *, patient_id: str | None, entity: tuple[int, str] | None, low: datetime, high: datetime
    ) -> int:
        async with self._database.connection() as connection:
            cursor = await connection.execute(SQL["count"], _parameters(patient_id, entity, low, high))
            row = await cursor.fetchone()
            return row[0] if row else 0


class AccessesWithin(AccessLog):
    """The trail of what is read inside a transaction: its rows are kept when the transaction is."""

    def __init__(self, connection: Connection) -> None:
        super().__init__(Lent(connection), sync=True)
        self._connection = connection
        self._rows: list[AccessRow] = []

    async def append(self, *rows: AccessRow) -> None:
        self._rows += rows

    async def flush(self) -> None:
        rows, self._rows = self._rows, []
        await insert_accesses(self._connection, rows)


def _parameters(
    patient_id: str | None, entity: tuple[int, str] | None, low: datetime, high: datetime
) -> dict[str, object]:
    type_number, resource_id = entity or (None, None)
    return {"patient_id": patient_id, "type": type_number, "resource_id": resource_id, "low": low, "high": high}


async def insert_accesses(connection: Connection, rows: Sequence[AccessRow]) -> None:
    """Append rows, inside a transaction of somebody else where there is one."""
    if rows:
        await connection.execute(SQL["insert"], [list(column) for column in zip(*rows, strict=True)])
