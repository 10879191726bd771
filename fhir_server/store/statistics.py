"""What the planner knows of tables that grow from nothing.

A plan that was made while a table held ten rows may read all of it, and is kept until the table is analysed. Autovacuum
looks once a minute, which is thousands of writes: so who writes has it analysed each time that it grew fourfold.
"""

import asyncio

import psycopg
import structlog

from fhir_server.outcomes import Failure
from fhir_server.store import queries
from fhir_server.store.database import Database

SQL = queries.load("statistics")
FIRST = 100
"""Resources written before it is looked for the first time."""
STEP = 4

log = structlog.get_logger(__name__)


class Statistics:
    """Of one database; each process counts what it writes itself."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._written = 0
        self._next = FIRST
        self._looking: asyncio.Task[None] | None = None

    def wrote(self, resources: int) -> None:
        """So many resources were written: look, beside everything else, when it is time."""
        self._written += resources
        if self._written >= self._next and (self._looking is None or self._looking.done()):
            self._next = STEP * self._written
            self._looking = asyncio.create_task(self._look())

    async def drain(self) -> None:
        """Return when nobody looks."""
        if self._looking:
            await self._looking

    async def analyze(self) -> None:
        """At once. Raises Unavailable."""
        async with self._database.transaction() as connection:
            await connection.execute("set local statement_timeout = 0")
            await connection.execute(SQL["analyze"])

    async def _look(self) -> None:
        try:
            async with self._database.connection() as connection:
                ((known,),) = await (await connection.execute(SQL["known"])).fetchall()
            if self._written > known:
                await self.analyze()
        except (Failure, psycopg.Error) as error:  # it is done again later, and by autovacuum
            log.warning("the tables could not be analysed", error=type(error).__name__)
