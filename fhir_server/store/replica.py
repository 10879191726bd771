"""A streaming replica for searches: used while it holds what this process wrote and is not too old, else the primary.

Its place is looked at a few times a second: where the primary's log ends now, and which of the ends seen before the
replica has replayed. So it is known to hold everything that was committed before that moment, whatever wrote it.
https://www.postgresql.org/docs/current/warm-standby.html#STREAMING-REPLICATION
"""

import asyncio
import contextlib
import math
import time
from collections import deque
from collections.abc import AsyncGenerator

import psycopg
import structlog

from fhir_server.metrics import Metrics
from fhir_server.outcomes import Failure, Unavailable
from fhir_server.store.database import Connection, Database, Plans

log = structlog.get_logger(__name__)

LOOKS_PER_AGE = 8
LONGEST_PAUSE = 0.25


class Replica(Database):
    """Lends connections to the replica while it may be used, and otherwise those of `primary`."""

    def __init__(
        self,
        dsn: str,
        primary: Database,
        *,
        oldest_seconds: float,
        connections: int,
        statement_timeout_ms: int,
        metrics: Metrics,
    ) -> None:
        super().__init__(
            dsn,
            connections=connections,
            statement_timeout_ms=statement_timeout_ms,
            metrics=metrics,
            name="replica",
            tenant=primary.tenant,
        )
        self._primary = primary
        self._oldest = oldest_seconds
        self._holds = -math.inf  # everything that was committed before this moment is in the replica
        self._ends: deque[tuple[float, int]] = deque()  # at which moment the primary's log ended where
        metrics.replica_age = lambda: [((), time.monotonic() - self._holds)]

    @contextlib.asynccontextmanager
    async def connection(self, plans: Plans = "custom") -> AsyncGenerator[Connection]:
        async with contextlib.AsyncExitStack() as stack:
            lent = await self._lent(stack, plans) if self._may_be_used() else None
            yield lent or await stack.enter_async_context(self._primary.connection(plans))

    @contextlib.asynccontextmanager
    async def moment(self, seen: str | None = None) -> AsyncGenerator[Connection]:
        async with contextlib.AsyncExitStack() as stack:
            connection = await stack.enter_async_context(super().moment())
            if seen and not await _holds(connection, seen):
                await stack.aclose()
                connection = await stack.enter_async_context(self._primary.moment())
            yield connection

    async def _lent(self, stack: contextlib.AsyncExitStack, plans: Plans) -> Connection | None:
        try:
            return await stack.enter_async_context(super().connection(plans))
        except Unavailable:
            self._holds = -math.inf
            return None

    def _may_be_used(self) -> bool:
        return self._primary.last_write <= self._holds and time.monotonic() - self._holds <= self._oldest

    async def follow(self) -> None:
        """Look where the replica is, for ever."""
        while True:
            try:
                await self._look()
            except (Failure, psycopg.Error) as error:
                log.warning("the replica cannot be followed", error=type(error).__name__)
            await asyncio.sleep(min(self._oldest / LOOKS_PER_AGE, LONGEST_PAUSE))

    async def _look(self) -> None:
        now = time.monotonic()
        async with self._primary.connection() as connection:
            # where the log is, not where it is written: a commit that did not wait for the disk is not written yet
            statement = b"select (pg_current_wal_insert_lsn() - '0/0')::bigint"
            self._ends.append((now, await _place(connection, statement)))
        async with super().connection() as connection:
            replayed = await _place(connection, b"select coalesce(pg_last_wal_replay_lsn() - '0/0', 0)::bigint")
        while self._ends and (self._ends[0][1] <= replayed or now - self._ends[0][0] > self._oldest):
            moment, place = self._ends.popleft()
            if place <= replayed:
                self._holds = moment


async def _holds(connection: Connection, seen: str) -> bool:
    """Whether the last transaction that another server saw the end of has ended here too."""
    statement = b"select pg_snapshot_xmax(pg_current_snapshot()) >= pg_snapshot_xmax(%s::pg_snapshot)"
    return await (await connection.execute(statement, (seen.split("@")[1],))).fetchone() == (True,)


async def _place(connection: Connection, statement: bytes) -> int:
    row = await (await connection.execute(statement)).fetchone()
    assert row
    return row[0]
