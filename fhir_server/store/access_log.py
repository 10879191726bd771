"""The access trail: one narrow row per access or refusal, append only, shown to the outside as AuditEvent.

Art. R4624-45-5 C. trav.: every action on the DMST is traced. docs/adr/0006 says why these are rows, not
resources: the trail outlives the documents and grows by 39 million rows a year.
"""

import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

from fhir_server.caller import UNTOLD, Standing
from fhir_server.metrics import Metrics
from fhir_server.sight import own_hash
from fhir_server.store import queries
from fhir_server.store.batching import Batcher
from fhir_server.store.database import Connection, Database, Lent

SQL = queries.load("access_log")
LARGEST_GROUP = 512
WALKED = 5_000
"""Rows that an export reads at once."""
OUT_OF_TEAM, BREAK_GLASS, REASON_GIVEN = "out-of-team", "break-glass", "reason-given"
CIRCUMSTANCES: Final = (OUT_OF_TEAM, BREAK_GLASS, REASON_GIVEN)
_KEPT: Final = (*CIRCUMSTANCES, f"{BREAK_GLASS} {OUT_OF_TEAM}", f"{REASON_GIVEN} {OUT_OF_TEAM}")
_EMERGENCY: Final = "BTG"
BEGINNING, END = datetime(1, 1, 1, tzinfo=UTC), datetime(9999, 12, 31, tzinfo=UTC)
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
    professional: str | None = None
    circumstance: str | None = None
    """Codes of what is remarkable about it, with a blank between (`CIRCUMSTANCES`)."""
    standing: Standing = UNTOLD
    """Of whoever looks: not kept; what is remarkable follows from it, for the worker of the row."""


class Access(NamedTuple):
    """An access as it was kept, with its number."""

    id: int
    row: AccessRow


class Wanted(NamedTuple):
    """Which accesses: of a worker, by a professional, by a client, to a resource (its type number and id), when.

    None means any; `low` is the first moment, `high` the first that is not meant any more.
    """

    patient_id: str | None = None
    professional: str | None = None
    client_id: str | None = None
    type: int | None = None
    resource_id: str | None = None
    low: datetime = BEGINNING
    high: datetime = END
    interactions: Sequence[str] | None = None
    circumstance: str | None = None

    def as_parameters(self) -> dict[str, Any]:
        """Those of the named SQL: a circumstance is found in every combination that is kept."""
        circumstances = [one for one in _KEPT if self.circumstance in one.split(" ")] if self.circumstance else None
        interactions = None if self.interactions is None else list(self.interactions)
        return self._asdict() | {"interactions": interactions, "circumstances": circumstances}


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

    async def search(self, wanted: Wanted, *, before: tuple[datetime, int] | None, limit: int) -> list[Access]:
        """Newest first, at most `limit`; below the access of this moment and number."""
        before_at, number = before or (None, None)
        parameters = wanted.as_parameters() | {"before_at": before_at, "before": number, "limit": limit}
        async with self._database.connection() as connection:
            cursor = await connection.execute(SQL["search"], parameters)
            return [Access(row[0], AccessRow(*row[1:])) for row in await cursor.fetchall()]

    async def count(self, wanted: Wanted, *, most: int | None) -> int:
        """How many there are; counting ends at `most`."""
        async with self._database.connection() as connection:
            cursor = await connection.execute(SQL["count"], wanted.as_parameters() | {"limit": most})
            row = await cursor.fetchone()
            return row[0] if row else 0

    @contextlib.asynccontextmanager
    async def export(self, wanted: Wanted) -> AsyncGenerator[tuple[int, AsyncIterator[list[Access]]]]:
        """How many there are at this moment, and all of them from the oldest on, some at a time."""
        async with self._database.moment() as connection:
            await connection.execute("set local statement_timeout = 0")
            row = await (await connection.execute(SQL["count"], wanted.as_parameters() | {"limit": None})).fetchone()
            assert row
            yield row[0], _walk(connection, wanted)


async def _walk(connection: Connection, wanted: Wanted) -> AsyncIterator[list[Access]]:
    after_at, after = None, None
    while True:
        parameters = wanted.as_parameters() | {"after_at": after_at, "after": after, "limit": WALKED}
        cursor = await connection.execute(SQL["walk"], parameters)
        found = [Access(row[0], AccessRow(*row[1:])) for row in await cursor.fetchall()]
        if not found:
            return
        yield found
        after_at, after = found[-1].row.at, found[-1].id


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


async def insert_accesses(connection: Connection, rows: Sequence[AccessRow]) -> None:
    """Append rows, inside a transaction of somebody else where there is one."""
    if rows:
        await connection.execute(SQL["insert"], [list(column) for column in zip(*map(_kept, rows), strict=True)])


def _kept(row: AccessRow) -> tuple[Any, ...]:
    """The columns of a row as it is written; the last two let PostgreSQL see whether it is out of the team."""
    stands = row.standing
    if row.patient_id is None or stands is UNTOLD:
        return (*row[:-1], None, None)
    kind = dict(stands.declared).get(row.patient_id)
    if kind is not None:
        purpose = _EMERGENCY if kind == BREAK_GLASS else row.purpose
        row = row._replace(circumstance=kind, purpose=purpose)
    team = " ".join(stands.centres) or None
    return (*row[:-1], own_hash(f"Patient/{row.patient_id}") if team else None, team)
