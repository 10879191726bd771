"""What is recorded of persons who log in: whose record a worker sees, centres of professionals, declared reasons.

R4624-45-5 and -8 C. trav. Rows end and stay: they say why somebody saw something. What the provider claims of a person
is compared with what the register holds, to the letter, and never guessed.
"""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

import orjson

from fhir_server.r4.resource_types import TYPE_NUMBER
from fhir_server.r4.search_parameters import parameters_of
from fhir_server.store import queries
from fhir_server.store.access_log import AccessRow, insert_accesses
from fhir_server.store.database import Database
from fhir_server.store.search_index import param_key, token_with_system
from mappings.patient_fr_core import has_qualified_identifier
from terminology import systems

SQL = queries.load("persons")


class Declared(NamedTuple):
    """A reason that somebody declared for one worker, and when it ends (as `time.time`)."""

    patient_id: str
    kind: str
    ends: float


class Recorded(NamedTuple):
    """What is recorded of one person at this moment; `centres` are codes."""

    delegated: bool
    linked: tuple[str, ...]
    centres: tuple[str, ...]
    declared: tuple[Declared, ...]


class Link(NamedTuple):
    """A person and a worker, or a centre by its code; who recorded it, from when to when."""

    person: str
    to: str
    by_whom: str
    low: datetime
    high: datetime | None


class Persons:
    """Over one database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def recorded(self, person: str) -> Recorded:
        async with self._database.connection() as connection:
            row = await (await connection.execute(SQL["standing"], {"person": person})).fetchone()
        assert row
        delegated, linked, centres, declared = row
        return Recorded(delegated, tuple(linked), tuple(centres), tuple(Declared(*one) for one in declared))

    async def workers_with(self, system: str, value: str) -> list[str]:
        """The ids of the Patients whose qualified identity bears exactly this identifier."""
        return [
            patient_id
            for patient_id, doc in await self._with_identifier("Patient", system, [value])
            if has_qualified_identifier(orjson.loads(doc), system, value)
        ]

    async def centres_with(self, codes: Sequence[str]) -> list[str]:
        """The Organizations (`Organization/id`) that are centres with these codes."""
        found = await self._with_identifier("Organization", systems.CENTRE, codes) if codes else []
        return [f"Organization/{one}" for one, _ in found]

    async def _with_identifier(self, name: str, system: str, values: Sequence[str]) -> list[tuple[str, bytes]]:
        param = param_key(TYPE_NUMBER[name], parameters_of(name)["identifier"])
        hashes = [token_with_system(param, system, value) for value in values]
        async with self._database.connection() as connection:
            cursor = await connection.execute(SQL["with_identifier"], (hashes, TYPE_NUMBER[name]), binary=True)
            return [(row[0], row[1]) for row in await cursor.fetchall()]

    async def link(self, person: str, patient_id: str, by_whom: str, trace: AccessRow) -> None:
        """Say whose record a worker sees; in the trail with the same transaction."""
        async with self._database.transaction() as connection:
            await connection.execute(SQL["link"], (person, patient_id, by_whom, datetime.now(UTC)))
            await insert_accesses(connection, [trace])

    async def unlink(self, person: str, patient_id: str | None, trace: AccessRow) -> int:
        """End the links of somebody, or the one to a worker; how many there were."""
        async with self._database.transaction() as connection:
            cursor = await connection.execute(SQL["unlink"], (person, patient_id, patient_id))
            ended = [trace._replace(patient_id=row[0]) for row in await cursor.fetchall()]
            await insert_accesses(connection, ended)
            return len(ended)

    async def links(self) -> list[Link]:
        return await self._links("links")

    async def join(self, person: str, centre: str, by_whom: str, trace: AccessRow) -> None:
        """Say that somebody is of a centre, by its code."""
        async with self._database.transaction() as connection:
            await connection.execute(SQL["join"], (person, centre, by_whom, datetime.now(UTC)))
            await insert_accesses(connection, [trace])

    async def leave(self, person: str, centre: str, trace: AccessRow) -> int:
        async with self._database.transaction() as connection:
            ended = (await connection.execute(SQL["leave"], (person, centre))).rowcount
            await insert_accesses(connection, [trace] if ended else [])
            return ended

    async def centres(self) -> list[Link]:
        return await self._links("centres")

    async def declare(self, person: str, patient_id: str, kind: str, minutes: int, trace: AccessRow) -> datetime:
        """Record that somebody declared a reason; until when it counts. What he said is in the trail alone."""
        now = datetime.now(UTC)
        ends = now + timedelta(minutes=minutes)
        async with self._database.transaction() as connection:
            await connection.execute(SQL["declare"], (person, patient_id, kind, now, ends))
            await insert_accesses(connection, [trace])
        return ends

    async def _links(self, query: str) -> list[Link]:
        async with self._database.connection() as connection:
            rows = await (await connection.execute(SQL[query])).fetchall()
        return [Link(*row) for row in rows]
