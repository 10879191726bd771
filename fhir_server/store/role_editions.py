"""The table of roles as this service laid it down, and delegations: kept for good, they say why somebody saw something.

R4624-45-5 C. trav.; CNIL, guide SPST (2023): the médecin du travail runs who may see what.
"""

import asyncio
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, NamedTuple

import psycopg
import structlog
from psycopg.types.json import Jsonb

from fhir_server import roles
from fhir_server.outcomes import Failure
from fhir_server.store import queries
from fhir_server.store.database import Database

SQL = queries.load("roles")
PAUSE = 30.0
log = structlog.get_logger(__name__)


class Edition(NamedTuple):
    """Rows that differ from the law's, as they were given."""

    number: int
    laid_down: datetime
    by_whom: str
    reason: str
    rows: Mapping[str, Any]


class Delegation(NamedTuple):
    """Who may see headings 1 and 2, by whom, from when to when."""

    delegate: str
    by_whom: str
    low: datetime
    high: datetime


class RoleEditions:
    """Editions and delegations over one database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def lay_down(self, rows: Mapping[str, Any], by_whom: str, reason: str) -> int:
        """The next edition, in force in every process within a minute. Raises ValueError where it exceeds the law."""
        roles.restricted(roles.read_table(rows))
        async with self._database.connection() as connection:
            cursor = await connection.execute(SQL["lay_down"], (by_whom, reason, Jsonb(dict(rows))))
            row = await cursor.fetchone()
            assert row
        await self.refresh()
        return row[0]

    async def editions(self) -> list[Edition]:
        async with self._database.connection() as connection:
            return [Edition(*row) for row in await (await connection.execute(SQL["editions"])).fetchall()]

    async def refresh(self) -> None:
        """Put the newest edition in force in this process."""
        async with self._database.connection() as connection:
            row = await (await connection.execute(SQL["newest"])).fetchone()
        number, rows = row or (0, {})
        if number != roles.IN_FORCE.edition:
            roles.IN_FORCE.put(number, roles.restricted(roles.read_table(rows)))

    async def keep_fresh(self) -> None:
        """Look for a newer edition, for ever."""
        while True:
            await asyncio.sleep(PAUSE)
            try:
                await self.refresh()
            except (Failure, psycopg.Error) as error:
                log.warning("the table of roles cannot be read", error=type(error).__name__)

    async def delegate(self, delegate: str, by_whom: str, low: datetime, high: datetime) -> None:
        """Record a delegation."""
        async with self._database.connection() as connection:
            await connection.execute(SQL["delegate"], (delegate, by_whom, low, high))

    async def end(self, delegate: str) -> int:
        """End the delegations of somebody; how many there were."""
        async with self._database.connection() as connection:
            return (await connection.execute(SQL["end_delegations"], (delegate,))).rowcount

    async def delegations(self) -> list[Delegation]:
        async with self._database.connection() as connection:
            return [Delegation(*row) for row in await (await connection.execute(SQL["delegations"])).fetchall()]


def in_days(days: int) -> tuple[datetime, datetime]:
    """From now on for so many days."""
    now = datetime.now(UTC)
    return now, datetime.fromtimestamp(now.timestamp() + days * 86_400, UTC)
