"""The resources that were there before a search parameter, indexed by it: in batches, beside everybody's work.

docs/adr/0003 - each batch is one transaction that holds its resources against writers and says how far it came: killed
anywhere, the next process goes on from there. A parameter is held by its row, so each batch is made by one process.
"""

import asyncio
import time
from collections.abc import Iterable
from typing import Any, Final, NamedTuple

import orjson
import structlog

from fhir_server.r4.parameter_definition import Definition
from fhir_server.r4.resource_types import TYPE_NUMBER
from fhir_server.store import index_rows
from fhir_server.store.custom_parameters import SQL, CustomParameters, definition_from
from fhir_server.store.database import Connection, Database
from fhir_server.store.index_rows import RowsOf
from fhir_server.store.search_index import NO_ROWS, IndexRows, param_key, rows_of, shown_key

BATCH: Final = 50
FORGOTTEN: Final = 2000
"""Rows of a retired parameter that are deleted at once."""
GRACE: Final = 4
"""Pauses between two looks that every process is given to hear of a parameter: more than `custom_parameters.OLD`."""

log = structlog.get_logger(__name__)


class _Resource(NamedTuple):
    rid: int
    doc: bytes | None
    refs: list[int] | None
    present: list[int] | None


async def index_forever(database: Database, parameters: CustomParameters) -> None:
    """Look for parameters that are not indexed yet, and index them; half of the time is left to everybody else."""
    while True:
        pause, began = parameters.pause, time.monotonic()
        try:
            if await step(database, parameters):
                pause = time.monotonic() - began
        except Exception:
            log.exception("search parameters could not be indexed, trying again")
        await asyncio.sleep(pause)


async def step(database: Database, parameters: CustomParameters) -> bool:
    """One batch of one parameter; returns whether there was something to do. Raises Unavailable."""
    async with database.transaction() as connection:
        await connection.execute("set local statement_timeout = 0")
        grace = GRACE * parameters.pause
        return (
            await _forget(connection, grace) or await _begin(connection, grace) or await _batch(connection, parameters)
        )


async def _forget(connection: Connection, grace: float) -> bool:
    """Some of what a retired parameter has left in clear. Its hashes and numbers stay; nobody can ask for them."""
    row = await (await connection.execute(SQL["ripe"], {"state": "retired", "grace": grace})).fetchone()
    if row is None:
        return False
    number, url, definition = row
    parameter = definition_from(url, definition).addition(number, ready=False).parameter
    keys = [param_key(type_number, parameter) for type_number in _types(definition_from(url, definition))]
    keys += [shown_key(key) for key in keys]
    deleted = 0
    for table in ("words", "periods"):
        deleted += (await connection.execute(SQL[f"forget_{table}"], (keys, FORGOTTEN))).rowcount
    if not deleted:
        await connection.execute(SQL["forget"], (number,))
    return True


async def _begin(connection: Connection, grace: float) -> bool:
    await connection.execute(SQL["mark_seen"])
    row = await (await connection.execute(SQL["ripe"], {"state": "announced", "grace": grace})).fetchone()
    if row is None:
        return False
    number, url, definition = row
    types = _types(definition_from(url, definition))
    await connection.execute(SQL["begin"], {"number": number, "types": types})
    log.info("a search parameter is being indexed", number=number)
    return True


async def _batch(connection: Connection, parameters: CustomParameters) -> bool:
    row = await (await connection.execute(SQL["hold_next"])).fetchone()
    if row is None:
        return False
    number, url, definition, announced, walked, upto = row
    await parameters.refresh_within(connection)
    types = _types(definition_from(url, definition))
    cursor = await connection.execute(SQL["batch"], (types, walked, upto, BATCH), binary=True)
    found = [_Resource(*one) for one in await cursor.fetchall()]
    if not found:
        await connection.execute(SQL["finish"], (number,))
        log.info("a search parameter is in use", number=number)
        return True
    rids = [one.rid for one in found]
    earlier = await (await connection.execute(SQL["earlier"], (rids, announced), binary=True)).fetchall()
    await _index(connection, number, found, earlier)
    await connection.execute(SQL["advance"], (found[-1].rid, len(found), number))
    return True


async def _index(
    connection: Connection, number: int, found: Iterable[_Resource], earlier: Iterable[tuple[int, bytes]]
) -> None:
    """The rows of one parameter as they must be, whatever rows of it are there."""
    obsolete = [(rid, _of_parameter(doc, number)) for rid, doc in earlier]
    wanted: list[RowsOf] = []
    changed: list[RowsOf] = []
    for one in found:
        await asyncio.sleep(0)  # requests come first
        rows = rows_of(orjson.loads(one.doc)) if one.doc else NO_ROWS
        wanted.append((one.rid, _of_parameter(one.doc, number)))
        if rows.references != frozenset(one.refs or ()) or rows.present != frozenset(one.present or ()):
            changed.append((one.rid, rows))
    await index_rows.delete(connection, obsolete + wanted)
    await index_rows.insert_missing(connection, wanted)
    if changed:
        refs, present, *_ = index_rows.columns_of(rows for _, rows in changed)
        await connection.execute(SQL["set_columns"], ([rid for rid, _ in changed], refs, present))


def _of_parameter(doc: bytes | None, number: int) -> IndexRows:
    return rows_of(orjson.loads(doc), added=number) if doc else NO_ROWS


def _types(definition: Definition) -> list[Any]:
    return sorted(TYPE_NUMBER[name] for name in definition.types)
