"""Lots, their folders and documents as they came in, and what became of each."""

import contextlib
from collections.abc import AsyncGenerator, Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

import psycopg
from psycopg.types.json import Jsonb
from xxhash import xxh3_64_intdigest

from fhir_server.outcomes import Conflict
from fhir_server.store import queries
from fhir_server.store.database import Connection, Database

SQL = queries.load("scan_lots")


class LotRow(NamedTuple):
    lot: str
    manifest_sha256: bytes
    provider: str
    centre: str
    state: str
    seal: dict[str, Any]
    problems: list[dict[str, Any]]
    list_id: str
    received: datetime
    finished: datetime | None


class ListedLot(NamedTuple):
    """A lot with {state of folder: number}."""

    lot: str
    provider: str
    centre: str
    state: str
    received: datetime
    folders: dict[str, int] | None


class FolderRow(NamedTuple):
    barcode: str
    position: int
    state: str
    problems: list[dict[str, Any]]
    patient_id: str | None
    list_id: str
    evidence: dict[str, Any] | None


class DocumentRow(NamedTuple):
    document_id: str
    path: str
    sha256: bytes
    size: int
    pages: int
    media_type: str
    state: str
    document_reference_id: str | None


class Twin(NamedTuple):
    """A document that is in already."""

    lot: str
    barcode: str
    document_id: str
    sha256: bytes
    state: str


class Earlier(NamedTuple):
    """An earlier delivery of a document."""

    lot: str
    document_id: str
    sha256: bytes
    document_reference_id: str | None


class Waiting(NamedTuple):
    """A folder that waits for a person."""

    lot: str
    barcode: str
    problems: list[dict[str, Any]]
    evidence: dict[str, Any] | None
    updated: datetime


class Origin(NamedTuple):
    """Where a DocumentReference came from."""

    lot: str
    barcode: str
    document_id: str
    path: str
    sha256: bytes
    size: int
    manifest_sha256: bytes
    seal: dict[str, Any]
    received: datetime


async def settle_folder(
    connection: Connection, lot: str, folder: FolderRow, documents: Sequence[DocumentRow], at: datetime
) -> None:
    """Write what became of a folder and its documents, inside a transaction of somebody else."""
    await connection.execute(
        SQL["settle_folder"],
        (
            lot,
            folder.barcode,
            folder.position,
            folder.state,
            Jsonb(folder.problems),
            folder.patient_id,
            folder.list_id,
            Jsonb(folder.evidence) if folder.evidence is not None else None,
            at,
        ),
    )
    if documents:
        columns = [list(column) for column in zip(*documents, strict=True)]
        await connection.execute(SQL["settle_documents"], (lot, folder.barcode, *columns))


async def same_content(connection: Connection, contents: Sequence[bytes]) -> list[Twin]:
    """Documents that are in already with one of these SHA-256; the transaction holds these contents for itself."""
    locks = sorted({_lock(b"scan content", sha256) for sha256 in contents})
    await connection.execute(SQL["hold_contents"], (locks,))
    rows = await (await connection.execute(SQL["same_content"], (list(contents),))).fetchall()
    return [Twin(*row) for row in rows]


async def same_identity(connection: Connection, lot: str, barcode: str, documents: Sequence[str]) -> list[Earlier]:
    """Earlier deliveries, in other lots, of these documents of this folder; the newest last."""
    rows = await (await connection.execute(SQL["same_identity"], (barcode, list(documents), lot))).fetchall()
    return [Earlier(*row) for row in rows]


async def withdraw_from_review(connection: Connection, lot: str, barcode: str, at: datetime) -> None:
    """Take an earlier delivery of a folder out of the review queue, where it is still there."""
    await connection.execute(SQL["withdraw_folder"], (at, lot, barcode))
    await connection.execute(SQL["withdraw_documents"], (lot, barcode))


def _lock(what: bytes, name: bytes) -> int:
    unsigned = xxh3_64_intdigest(what + name)
    return unsigned - (1 << 64) if unsigned >= 1 << 63 else unsigned


class ScanLots:
    """Lots over one database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    @contextlib.asynccontextmanager
    async def held(self, name: str) -> AsyncGenerator[None]:
        """A delivery for this caller alone, until he lets go of it or his process dies. Raises Conflict."""
        async with self._database.connection() as connection:
            lock = _lock(b"scan lot", name.encode())
            cursor = await connection.execute(SQL["hold_lot"], (lock,))
            if await cursor.fetchone() != (True,):
                raise Conflict("This lot is being received by somebody else; ask again when he has finished")
            try:
                yield
            finally:
                try:  # said aloud: at the end of a session it is let go of a moment later
                    await connection.execute(SQL["let_go_of_lot"], (lock,))
                except psycopg.Error:
                    await connection.close()

    async def announce(
        self,
        lot: str,
        *,
        manifest_sha256: bytes,
        provider: str,
        centre: str,
        seal: Mapping[str, Any],
        list_id: str,
        received: datetime,
    ) -> LotRow:
        """The row of a lot, written now or found there."""
        async with self._database.connection() as connection:
            await connection.execute(
                SQL["announce_lot"], (lot, manifest_sha256, provider, centre, Jsonb(dict(seal)), list_id, received)
            )
        row = await self.read(lot)
        assert row
        return row

    async def read(self, lot: str) -> LotRow | None:
        async with self._database.connection() as connection:
            row = await (await connection.execute(SQL["read_lot"], (lot,))).fetchone()
            return LotRow(*row) if row else None

    async def newest(self, limit: int = 50) -> list[ListedLot]:
        async with self._database.connection() as connection:
            rows = await (await connection.execute(SQL["list_lots"], (limit,))).fetchall()
            return [ListedLot(*row) for row in rows]

    async def finish(self, lot: str, *, state: str, problems: Sequence[Mapping[str, Any]], at: datetime) -> None:
        async with self._database.connection() as connection:
            await connection.execute(SQL["finish_lot"], (state, Jsonb([dict(p) for p in problems]), at, lot))

    async def folders(self, lot: str) -> list[FolderRow]:
        async with self._database.connection() as connection:
            return [FolderRow(*row) for row in await (await connection.execute(SQL["folders_of"], (lot,))).fetchall()]

    async def folder(self, lot: str, barcode: str) -> FolderRow | None:
        async with self._database.connection() as connection:
            row = await (await connection.execute(SQL["read_folder"], (lot, barcode))).fetchone()
            return FolderRow(*row) if row else None

    async def documents(self, lot: str, barcode: str) -> list[DocumentRow]:
        async with self._database.connection() as connection:
            rows = await (await connection.execute(SQL["documents_of"], (lot, barcode))).fetchall()
            return [DocumentRow(*row) for row in rows]

    async def settle(self, lot: str, folder: FolderRow, documents: Sequence[DocumentRow], at: datetime) -> None:
        async with self._database.transaction() as connection:
            await settle_folder(connection, lot, folder, documents, at)

    async def waiting(self, limit: int = 100) -> list[Waiting]:
        async with self._database.connection() as connection:
            return [Waiting(*row) for row in await (await connection.execute(SQL["list_review"], (limit,))).fetchall()]

    async def origin(self, document_reference_id: str) -> Origin | None:
        async with self._database.connection() as connection:
            row = await (await connection.execute(SQL["document_of_reference"], (document_reference_id,))).fetchone()
            return Origin(*row) if row else None
