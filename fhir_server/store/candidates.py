"""Who could be meant: workers of the register who share a part of an identity, in one round trip.

The parts are hashes (`linkage.keys`); kept and asked for under the secret of the service, so that the table does not
tell who is in the register. No similarity of names is computed by PostgreSQL (docs/identity.md).
"""

import time
from collections.abc import Collection
from typing import Final, NamedTuple

from fhir_server.metrics import Metrics
from fhir_server.r4.resource_types import TYPE_NUMBER
from fhir_server.sight import Sight
from fhir_server.store import queries
from fhir_server.store.bounds import bounded
from fhir_server.store.database import Database

SQL = queries.load("candidates")
SECRET: Final = "identity"
"""The purpose of the key of the service under which parts are kept; it is there before anything is indexed."""
MOST_OF_A_PART: Final = 2000
"""Of a part that more workers share no more are looked at: it tells nobody apart."""
MOST: Final = 1000
SIZE_SECONDS: Final = 600.0
PATIENT: Final = TYPE_NUMBER["Patient"]


class Candidate(NamedTuple):
    """A stored Patient. `doc` is its JSON."""

    rid: int
    id: str
    version: int
    doc: bytes


class Found(NamedTuple):
    """Those who share most parts first. `capped` parts are shared by more than were looked at."""

    candidates: tuple[Candidate, ...]
    capped: int


class Candidates:
    """Looks workers up by parts of their identities."""

    def __init__(self, database: Database, metrics: Metrics | None = None) -> None:
        self._database = database
        self._metrics = metrics or Metrics()
        self._size, self._counted = 0, -SIZE_SECONDS

    async def alike(self, parts: Collection[int], sight: Sight, *, most: int = MOST) -> Found:
        """Who shares a part and is in sight. Raises Unavailable."""
        query, asked = bounded(SQL["alike"], sight, (PATIENT,))
        asked |= {"parts": sorted(set(parts)), "cap": MOST_OF_A_PART, "most": most}
        async with self._database.connection("generic") as connection:
            rows = await (await connection.execute(query, asked, binary=True)).fetchall()
        capped = rows[0][0]
        found = Found(tuple(Candidate(*row[1:]) for row in rows if row[1] is not None), capped)
        self._metrics.identity_candidates.observe(len(found.candidates))
        self._metrics.identity_parts_capped.add((), capped)
        return found

    async def next_workers(self, after: str, sight: Sight, *, most: int = MOST) -> list[Candidate]:
        """A page of the workers in sight, in the order of their ids: those after this one. Raises Unavailable."""
        query, asked = bounded(SQL["next_workers"], sight, (PATIENT,))
        asked |= {"type": PATIENT, "after": after, "most": most}
        async with self._database.connection("generic") as connection:
            rows = await (await connection.execute(query, asked, binary=True)).fetchall()
        return [Candidate(*row) for row in rows]

    async def register_size(self) -> int:
        """How many workers the register has, as of at most ten minutes ago. Raises Unavailable."""
        if time.monotonic() - self._counted > SIZE_SECONDS:
            async with self._database.connection() as connection:
                row = await (await connection.execute(SQL["register_size"], (PATIENT,))).fetchone()
            self._size, self._counted = (row[0] if row else 0), time.monotonic()
        return self._size
