"""Search parameters that were added at run time: one table for all processes, read again and again by each.

docs/adr/0003 - a parameter is announced, so that whoever writes indexes it; then what was there before is indexed
(`parameter_index`); then it is searched by. Retired, it is forgotten.
"""

import asyncio
import time
from typing import Any, Final, Literal, NamedTuple

import orjson
import structlog

from fhir_server.outcomes import BusinessRule, Issue
from fhir_server.r4.parameter_definition import Definition
from fhir_server.r4.search_parameters import FIRST_ADDED, LAST_ADDED, REGISTRY
from fhir_server.store import queries
from fhir_server.store.database import Connection, Database

SQL = queries.load("custom_parameters")
MOST_LISTED: Final = 1000
OLD: Final = 2
"""Pauses after which a process that could not look asks before it writes; the grace before indexing is longer."""

log = structlog.get_logger(__name__)

State = Literal["announced", "indexing", "active", "retired"]


class Added(NamedTuple):
    """One parameter, and how many of the resources that it is about are indexed."""

    number: int
    resource_id: str
    url: str
    definition: Definition
    state: State
    done: int
    of: int


class CustomParameters:
    """The added parameters of one database. `pause` is the time in seconds between two looks at it."""

    def __init__(self, database: Database, *, pause: float, content: bool = False) -> None:
        self._database = database
        self.pause = pause
        self._content = content
        self._looked = float("-inf")

    async def refresh(self) -> None:
        """Use what the database says now. Raises Unavailable."""
        async with self._database.connection() as connection:
            await self.refresh_within(connection)

    async def refresh_if_old(self, connection: Connection) -> None:
        """The same inside a transaction that writes, where this process has not looked for too long."""
        if time.monotonic() - self._looked > OLD * self.pause:
            await self.refresh_within(connection)

    async def refresh_within(self, connection: Connection) -> None:
        """The same inside a transaction of somebody else."""
        asked = time.monotonic()
        cursor = await connection.execute(SQL["in_use"])
        REGISTRY.use(
            [
                definition_from(url, definition).addition(number, ready=state == "active")
                for number, url, definition, state in await cursor.fetchall()
            ],
            content=self._content,
        )
        self._looked = asked

    async def keep_fresh(self) -> None:
        """Look again and again, until cancelled."""
        while True:
            await asyncio.sleep(self.pause)
            try:
                await self.refresh()
            except Exception:
                log.exception("search parameters could not be read, trying again")

    async def listed(self) -> list[Added]:
        """Every parameter that was ever added, the newest first."""
        return await self._rows("listed", MOST_LISTED)

    async def of_resource(self, resource_id: str) -> Added | None:
        """What became of the SearchParameter with this id; None where it was never more than a resource."""
        return next(iter(await self._rows("of_resource", resource_id)), None)

    async def _rows(self, query: str, *values: object) -> list[Added]:
        async with self._database.connection() as connection:
            cursor = await connection.execute(SQL[query], values)
            return [_added(*row) for row in await cursor.fetchall()]


def _added(number: int, resource_id: str, url: str, definition: Any, state: State, done: int, of: int) -> Added:
    return Added(number, resource_id, url, definition_from(url, definition), state, done, of)


def definition_from(url: str, row: dict[str, Any]) -> Definition:
    """A definition as its row keeps it."""
    return Definition(url, row["code"], row["type"], row["expression"], tuple(row["base"]), tuple(row["target"]))


async def is_in_use(connection: Connection, resource_id: str) -> bool:
    """Whether the SearchParameter with this id is more than a resource."""
    row = await (await connection.execute(SQL["of_resource"], (resource_id,))).fetchone()
    return row is not None and row[4] != "retired"


async def retire(connection: Connection, resource_id: str) -> None:
    """Forget the parameter of this SearchParameter, if there is one."""
    await connection.execute(SQL["hold"])
    await connection.execute(SQL["retire"], (resource_id,))


async def announce(connection: Connection, resource_id: str, wanted: Definition) -> None:
    """Let every process index by the definition of this SearchParameter, in the place of an earlier one.

    Raises BusinessRule where another parameter has its url or its code, and where no number is left.
    """
    await connection.execute(SQL["hold"])
    cursor = await connection.execute(SQL["of_resource"], (resource_id,))
    if (row := await cursor.fetchone()) and row[4] != "retired" and definition_from(row[2], row[3]) == wanted:
        return
    await connection.execute(SQL["retire"], (resource_id,))
    for _, url, definition, _ in await (await connection.execute(SQL["in_use"])).fetchall():
        other = definition_from(url, definition)
        if other.clashes_with(wanted):
            where, what = ("url", "url") if other.url == wanted.url else ("code", "code on one of its types")
            told = f"Another search parameter of this server has this {what}"
            raise BusinessRule(issues=[Issue("error", "duplicate", told, f"SearchParameter.{where}")])
    ((number,),) = await (await connection.execute(SQL["next_number"], (FIRST_ADDED,))).fetchall()
    if number > LAST_ADDED:
        raise BusinessRule(f"Search parameters were changed {LAST_ADDED - FIRST_ADDED} times: no number is left")
    await connection.execute(SQL["announce"], (number, resource_id, wanted.url, _row(wanted)))


def _row(wanted: Definition) -> str:
    row = {
        "code": wanted.code,
        "type": wanted.type,
        "expression": wanted.expression,
        "base": wanted.bases,
        "target": wanted.targets,
    }
    return orjson.dumps(row).decode()
