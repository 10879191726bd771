"""The store as it was at one moment, walked step by step: what a bulk export is made of.

Every version keeps the moment of its writing and earlier versions stay, so a past moment can be read at any later time:
no transaction has to stay open, and a walk that was broken off goes on where it was. A moment can be read once every
transaction that began before it has ended.
"""

import asyncio
import time
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from fhir_server.outcomes import Unavailable
from fhir_server.r4.compartments import parameters
from fhir_server.r4.resource_types import TYPE_NUMBER
from fhir_server.r4.search_criteria import SearchQuery
from fhir_server.r4.search_parameters import parameters_of
from fhir_server.store import queries
from fhir_server.store.database import Connection, Database, Lent
from fhir_server.store.ordering import Place
from fhir_server.store.search import Search
from fhir_server.store.search_index import param_key, reference_to

SQL = queries.load("bulk")
CLOCK_SKEW = timedelta(milliseconds=250)
"""Machines that write to one database may differ so much: NTP keeps them closer."""
PATIENCE = 300.0
PAUSE = 0.05
BEGINNING, END = datetime(1, 1, 1, tzinfo=UTC), datetime(9999, 12, 31, tzinfo=UTC)
ROWS_PER_STEP = 10_000
BYTES_PER_STEP = 8 * 1024 * 1024
PATIENTS_AT_ONCE = 100


class Version(NamedTuple):
    """A resource as it was at the moment; `doc` is None where it was deleted then."""

    rid: int
    type: int
    id: str
    doc: bytes | None
    guard: int
    worker: int | None
    held: Sequence[str]


@dataclass(frozen=True, slots=True)
class Walk:
    """What is walked: resources of `types`, changed between `since` and `before`, as they were `at` a moment.

    Of the types in `whole` everything, of the others what the job selected.
    """

    job_id: str
    types: tuple[int, ...]
    whole: tuple[int, ...]
    at: datetime
    since: datetime | None
    before: datetime | None


class Moments:
    """Moments of one database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def settled(self, at: datetime) -> None:
        """Returns when everything that was written up to `at` can be seen. Raises Unavailable when that lasts long."""
        await asyncio.sleep(max(0.0, (at + CLOCK_SKEW - datetime.now(UTC)).total_seconds()))
        deadline = time.monotonic() + PATIENCE
        async with self._database.connection() as connection:
            row = await (await connection.execute(SQL["moment"])).fetchone()
            while await self._still_writing(connection, row):
                if time.monotonic() > deadline:
                    raise Unavailable("A transaction that began before this export does not end")
                await asyncio.sleep(PAUSE)

    async def _still_writing(self, connection: Connection, moment: tuple[datetime, ...] | None) -> bool:
        return await (await connection.execute(SQL["still_writing"], moment)).fetchone() == (True,)

    async def begin(
        self,
        job_id: str,
        at: datetime,
        filters: Sequence[SearchQuery],
        patients: Sequence[str] | None,
        types: Sequence[str],
    ) -> None:
        """Select what a job is limited to, and say where its walk ends: in one transaction, of one snapshot.

        `filters` select resources of their types; `patients` everything of `types` that may be in their compartments.
        """
        async with self._database.transaction() as connection:
            await connection.execute(b"set transaction isolation level repeatable read")
            searches = Search(Lent(connection))
            for query in filters:
                place: Place | None = None
                while True:
                    page = await searches.page(query, place)
                    await connection.execute(SQL["select_rids"], (job_id, [hit.rid for hit in page.hits]))
                    if (place := page.next) is None:
                        break
            if patients is not None:
                await _select_compartments(connection, job_id, at, patients, types)
            await connection.execute(SQL["begin_export"], (job_id,))

    async def steps(self, walk: Walk, after: int, until: int) -> AsyncGenerator[tuple[int, list[Version]]]:
        """From `after` to `until`, in bounded steps: how far each went, and what it found."""
        given = {
            "job_id": walk.job_id,
            "types": list(walk.types),
            "whole": list(walk.whole),
            "at": walk.at,
            "since": walk.since or BEGINNING,
            "before": walk.before or END,
            "until": until,
            "rows": ROWS_PER_STEP,
            "bytes": BYTES_PER_STEP,
        }
        while True:
            async with self._database.connection() as connection:
                row = await (await connection.execute(SQL["step"], {**given, "after": after})).fetchone()
                if row is None or row[0] is None:
                    return
                cursor = await connection.execute(SQL["as_of"], {**given, "after": after, "reach": row[0]}, binary=True)
                found = [Version(*one) for one in await cursor.fetchall()]
            after = row[0]
            yield after, found


async def _select_compartments(
    connection: Connection, job_id: str, at: datetime, patients: Sequence[str], types: Sequence[str]
) -> None:
    """What the index finds in the compartments now, and what changed since: whoever walks looks at each version."""
    keys = [
        param_key(TYPE_NUMBER[name], parameters_of(name)[code])
        for name in types
        for code in parameters("Patient", name)
    ]
    for start in range(0, len(patients), PATIENTS_AT_ONCE):
        some = patients[start : start + PATIENTS_AT_ONCE]
        hashes = [reference_to(key, f"Patient/{patient}") for key in keys for patient in some]
        await connection.execute(SQL["select_referring"], (job_id, hashes))
        if "Patient" in types:
            await connection.execute(SQL["select_identities"], (job_id, TYPE_NUMBER["Patient"], list(some)))
    await connection.execute(SQL["select_changed"], (job_id, [TYPE_NUMBER[name] for name in types], at))
