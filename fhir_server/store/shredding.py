"""Shredding: a blob that nothing names any more loses its key, and nobody reads it again, here or in a backup of blobs.

Who lets go says so inside the transaction that drops the last row (`release`); then the key goes, then the bytes. Each
release keeps who asked, when, why, and what became of it. A process that dies in between is followed by the next one.
GDPR article 17; dmst.md section 1.7: a deletion leaves proof.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

from fhir_server.outcomes import NotFound
from fhir_server.ports import BlobStore
from fhir_server.store import queries
from fhir_server.store.database import Connection, Database

SQL = queries.load("blob_keys")
LATELY = 3600.0
"""Whoever handed a content in names it within this time; until then its key stays."""


class Release(NamedTuple):
    """A content that was let go. `outcome` is None while it waits, `removed` when its bytes left the blob store."""

    sha256: bytes
    size: int | None
    asked: datetime
    asked_by: str
    reason: str
    outcome: str | None
    settled: datetime | None
    master: str | None
    removed: datetime | None


async def release(connection: Connection, contents: Sequence[bytes], *, by: str, reason: str) -> None:
    """Let contents go, inside the transaction that drops rows which name them. What others name still stays."""
    if contents:
        await connection.execute(SQL["release"], (by, reason, list(dict.fromkeys(contents))))


class Shredder:
    """Settles what was let go, over one database and the blob store that holds the bytes."""

    def __init__(self, database: Database, below: BlobStore) -> None:
        self._database = database
        self._below = below

    async def settle(self) -> int:
        """Shred what was let go and nobody names; how many. Safe at any time and from several processes."""
        shredded, number = 0, 0
        while (found := await self._settle_next(number)) is not None:
            number, done = found
            shredded += done
        return shredded

    async def waiting(self) -> tuple[int, int]:
        """How many wait to be shredded, and how many were."""
        async with self._database.connection() as connection:
            row = await (await connection.execute(SQL["count_releases"])).fetchone()
        return row or (0, 0)  # pyright: ignore[reportReturnType] - two numbers

    async def releases(self, limit: int = 1000) -> list[Release]:
        """What was let go, newest first: the proof of each deletion."""
        async with self._database.connection() as connection:
            rows = await (await connection.execute(SQL["releases"], (limit,))).fetchall()
        return [Release._make(row) for row in rows]

    async def _settle_next(self, after: int) -> tuple[int, bool] | None:
        """The next one behind this number: its own number, and whether its key went; None where there is none."""
        async with self._database.transaction() as connection:
            row = await (await connection.execute(SQL["waiting"], (after,))).fetchone()
            if row is None:
                return None
            number, sha256, outcome, address = row
            shredded = False
            if outcome is None:
                outcome, address = await self._decide(connection, number, sha256)
                shredded = outcome == "shredded"
        if outcome in ("shredded", "removed"):  # the key is gone for good: now the bytes
            for name in (address, sha256):
                if name is not None:
                    await self._below.delete(name)
            async with self._database.connection() as connection:
                await connection.execute(SQL["removed"], (number,))
        return number, shredded

    async def _decide(self, connection: Connection, number: int, sha256: bytes) -> tuple[str | None, bytes | None]:
        """What becomes of one, and where its sealed bytes lie; None where it has to wait."""
        gone: tuple[int | None, bytes | None, str | None] = (None, None, None)
        row = await (await connection.execute(SQL["is_named"], {"sha256": sha256})).fetchone()
        if row and row[0]:
            outcome = "still-named"
        elif row := await (await connection.execute(SQL["shred"], (sha256, LATELY))).fetchone():
            outcome, gone = "shredded", (row[0], row[1], row[2])
        elif await (await connection.execute(SQL["find"], (sha256,))).fetchone():
            return None, None  # handed in again lately
        else:
            outcome = "removed" if await self._is_plain(sha256) else "absent"
        await connection.execute(SQL["settle"], (outcome, *gone, number))
        return outcome, gone[1]

    async def _is_plain(self, sha256: bytes) -> bool:
        try:
            await self._below.size(sha256)
        except NotFound:
            return False
        return True
