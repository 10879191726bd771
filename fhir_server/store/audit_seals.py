"""The seals of the trail and their time stamps: made in the background, so that no access waits for another.

A row may become visible after one with a higher id: only ids below which nobody can come any more are sealed. Whoever
inserts takes the lock of the table before the id and lets go of it after the commit, so once those have ended who held
it at a later moment than the newest visible row was seen, nothing new comes below that row (docs/adr/0006).
"""

import asyncio
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

import structlog

from fhir_server.store import queries
from fhir_server.store.audit_chain import GENESIS, Row, Seal, Sealing
from fhir_server.store.database import Connection, Database

SQL = queries.load("audit_seals")
LARGEST: Final = 10_000
"""Rows that one seal closes at most: an alteration is found to within so many."""
CHUNK: Final = 1_000
LOOK: Final = 0.05
"""Seconds between two looks whether the transactions have ended that were under way."""
LONG: Final = 60.0

log = structlog.get_logger(__name__)


class Anchor(NamedTuple):
    """A time-stamp token on the digest of a seal; `stamped` and `authority` are what the token says."""

    seal: int
    digest: bytes
    stamped: datetime
    authority: str
    token: bytes


class AuditSeals:
    """Seals the trail of one tenant, and finds its seals and anchors again."""

    def __init__(self, database: Database) -> None:
        self.database = database

    async def seal_forever(self, pause: float) -> None:
        """Seal what was written, every `pause` seconds; half of the time is left to everybody else."""
        while True:
            try:
                await self.seal_once(gently=True)
            except Exception:
                log.exception("the audit trail could not be sealed, trying again")
            await asyncio.sleep(pause)

    async def seal_once(self, *, gently: bool = False) -> int:
        """Seal every row that is there now; returns how many rows this process sealed. Waits for those who write.

        `gently` rests after each seal for as long as it took: after an upgrade there may be a trail of years.
        """
        upto = await self._closed()
        sealed, began = 0, time.monotonic()
        while upto is not None and (rows := await self._seal(upto)):
            sealed += rows
            await asyncio.sleep(time.monotonic() - began if gently else 0)
            began = time.monotonic()
        return sealed

    async def _closed(self) -> int | None:
        """The id up to which no new row can come; None where all are sealed."""
        async with self.database.connection() as connection:
            row = await (await connection.execute(SQL["newest_row"])).fetchone()
            newest, sealed = row or (None, None)
            if newest is None or newest == sealed:
                return None
            under_way = await _writers(connection)
        began, told = time.monotonic(), False
        while under_way:  # without a connection in between: they may need it
            await asyncio.sleep(LOOK)
            async with self.database.connection() as connection:
                under_way &= await _writers(connection)
            if not told and time.monotonic() - began > LONG:
                told = True
                log.warning("seals of the audit trail wait for a long transaction", transactions=len(under_way))
        return newest

    async def _seal(self, upto: int) -> int:
        """Close the next rows up to an id; 0 where there are none, or where another process is at it."""
        async with self.database.transaction() as connection:
            if not await hold(connection, "seal"):
                return 0
            last = await _newest(connection)
            sealing = Sealing(self.database.tenant, last.digest if last else GENESIS)
            after = last.last_id if last else _LOWEST
            while sealing.rows < LARGEST:
                rows = await _rows(connection, after, upto)
                if not rows:
                    break
                sealing.add(rows)
                after = sealing.last_id
                await asyncio.sleep(0)
            if sealing.rows:
                await connection.execute(SQL["keep"], sealing.end(last.number + 1 if last else 1, datetime.now(UTC)))
            return sealing.rows

    async def newest(self) -> Seal | None:
        async with self.database.connection() as connection:
            return await _newest(connection)

    async def seals(self, after: int, upto: int, limit: int) -> list[Seal]:
        """By number, the first beyond `after`."""
        async with self.database.connection() as connection:
            cursor = await connection.execute(SQL["seals"], (after, upto, limit))
            return [Seal(*row) for row in await cursor.fetchall()]

    async def numbers(self, low: datetime, high: datetime) -> tuple[int, int] | None:
        """The first and last seal of what was written, or sealed, from `low` to before `high`; None where none."""
        async with self.database.transaction() as connection:
            await connection.execute("set local statement_timeout = 0")
            row = await (await connection.execute(SQL["seals_of"], {"low": low, "high": high})).fetchone()
            return (row[0], row[1]) if row and row[0] is not None else None

    async def rows(self, after: int | None, upto: int) -> AsyncIterator[list[Row]]:
        """What is sealed of the rows beyond `after` (None: all) up to an id, in order, some at a time."""
        reached = _LOWEST if after is None else after
        while True:
            async with self.database.connection() as connection:
                rows = await _rows(connection, reached, upto)
            if not rows:
                return
            yield rows
            reached = rows[-1][1]

    async def unsealed(self, after: int | None) -> tuple[int, datetime | None]:
        """How many rows lie beyond an id (None: all), and the moment of the oldest."""
        async with self.database.transaction() as connection:
            await connection.execute("set local statement_timeout = 0")
            cursor = await connection.execute(SQL["unsealed"], (_LOWEST if after is None else after,))
            row = await cursor.fetchone()
            return (row[0], row[1]) if row else (0, None)

    async def newest_anchor(self) -> Anchor | None:
        async with self.database.connection() as connection:
            row = await (await connection.execute(SQL["newest_anchor"])).fetchone()
            return Anchor(*row) if row else None

    async def anchors(self, after: int, upto: int, limit: int) -> list[Anchor]:
        """By the number of their seal, the first beyond `after`."""
        async with self.database.connection() as connection:
            cursor = await connection.execute(SQL["anchors"], (after, upto, limit))
            return [Anchor(*row) for row in await cursor.fetchall()]


_LOWEST: Final = -(2**63)


async def hold(connection: Connection, what: str) -> bool:
    """Whether this transaction is the only one of its tenant that does it."""
    row = await (await connection.execute(SQL["hold"], (what,))).fetchone()
    return row == (True,)


async def keep_anchor(connection: Connection, anchor: Anchor) -> None:
    await connection.execute(SQL["keep_anchor"], anchor)


async def _writers(connection: Connection) -> set[str]:
    return {row[0] for row in await (await connection.execute(SQL["writers"])).fetchall()}


async def _newest(connection: Connection) -> Seal | None:
    row = await (await connection.execute(SQL["newest"])).fetchone()
    return Seal(*row) if row else None


async def _rows(connection: Connection, after: int, upto: int) -> list[Row]:
    """The circumstance stands at the end where there is one: rows without are sealed as they were before it came."""
    cursor: Any = await connection.execute(SQL["rows"], (after, upto, CHUNK), binary=True)
    return [row if row[-1] is not None else row[:-1] for row in await cursor.fetchall()]
