"""Uploads that may be interrupted: their bytes in a folder, how far they came in the database.

What the database says was received is on disk, flushed. After a crash the file may be longer: it is cut, and the client
goes on from there. One process at a time writes an upload; its lock is that of the file, and dies with the process.
"""

import asyncio
import contextlib
import fcntl
import os
import secrets
import time
from collections.abc import AsyncGenerator, AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple

from fhir_server.outcomes import Conflict, NotFound, Throttled, TooLarge
from fhir_server.store import queries
from fhir_server.store.blobs import ABANDONED_SECONDS, PIECE, write_all, writing
from fhir_server.store.database import Connection, Database

SQL = queries.load("uploads")
MOST_UNFINISHED = 20
FLUSHED_EVERY = 16 * 1024 * 1024


class Upload(NamedTuple):
    """One upload. `resource` is the Binary without its data; `version` is that of the Binary, once it was written."""

    upload_id: str
    client_id: str
    length: int
    received: int
    resource: bytes
    binary_id: str
    method: str
    version: int | None
    expires: datetime


class Uploads:
    """Uploads over one database and one folder, which every process that receives them must share."""

    def __init__(self, database: Database, folder: Path, *, hours: int) -> None:
        self._database = database
        self._folder = folder
        self._life = timedelta(hours=hours)

    async def open(self) -> None:
        """Make the folder, for this user alone, and purge it."""
        self._folder.mkdir(parents=True, exist_ok=True)
        self._folder.chmod(0o700)
        await self.purge()

    async def create(self, client_id: str, length: int, resource: bytes, binary_id: str, method: str) -> Upload:
        """A new upload of nothing yet. Raises Throttled where this client has too many that are not finished."""
        await self.purge()
        upload = Upload(
            secrets.token_hex(16),
            client_id,
            length,
            0,
            resource,
            binary_id,
            method,
            None,
            datetime.now(UTC) + self._life,
        )
        async with self._database.connection() as connection:
            row = await (await connection.execute(SQL["unfinished"], (client_id,))).fetchone()
            if row and row[0] >= MOST_UNFINISHED:
                raise Throttled(f"{MOST_UNFINISHED} uploads of this client are not finished: finish or delete some")
            values = (upload.upload_id, client_id, length, resource, binary_id, method, upload.expires)
            await connection.execute(SQL["add"], values)
        return upload

    async def find(self, upload_id: str, client_id: str) -> Upload:
        """Raises NotFound for one that never was, has expired, or is somebody else's."""
        async with self._database.connection() as connection:
            row = await (await connection.execute(SQL["find"], (upload_id, client_id))).fetchone()
        if row is None:
            raise NotFound("There is no such upload, or it has expired")
        upload = Upload(*row)
        if upload.version is None:  # a file that was lost with its disk begins anew
            there = await asyncio.to_thread(_size, self.path(upload))
            upload = upload._replace(received=min(upload.received, there))
        return upload

    def path(self, upload: Upload) -> Path:
        return self._folder / upload.upload_id

    @contextlib.asynccontextmanager
    async def held(self, upload: Upload) -> AsyncGenerator[tuple[int, Upload]]:
        """The file of an upload, for one at a time, and the upload as it is now. Raises Conflict for a second one."""
        with writing():
            descriptor = os.open(self.path(upload), os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise Conflict("This upload is being continued by another request") from None
            yield descriptor, await self.find(upload.upload_id, upload.client_id)
        finally:
            os.close(descriptor)

    async def append(self, descriptor: int, upload: Upload, chunks: AsyncIterator[bytes]) -> Upload:
        """Continue one that is held. What came before the client left, or anything else failed, stays received.

        Raises TooLarge beyond the length that was announced, StorageFull.
        """
        arriving = _Arriving(descriptor, upload)
        await arriving.begin()
        flushed = upload.received
        try:
            async for chunk in chunks:
                await arriving.take(chunk)
                if arriving.at - flushed >= FLUSHED_EVERY:
                    flushed = await self._flush(arriving)
        finally:
            await self._flush(arriving)
        return upload._replace(received=arriving.at)

    async def _flush(self, arriving: "_Arriving") -> int:
        """What was received is on disk, and then the database says so."""
        await arriving.flush()
        async with self._database.connection() as connection:
            values = (arriving.at, datetime.now(UTC) + self._life, arriving.upload.upload_id)
            await connection.execute(SQL["advance"], values)
        return arriving.at

    async def drop(self, upload: Upload) -> None:
        """Its owner gave it up."""
        async with self._database.connection() as connection:
            await connection.execute(SQL["drop"], (upload.upload_id,))
        self.forget(upload)

    def forget(self, upload: Upload) -> None:
        """The bytes are no longer needed here."""
        self.path(upload).unlink(missing_ok=True)

    async def purge(self) -> None:
        """Forget what has expired, and files that belong to no upload."""
        names = [path.name for path in self._folder.iterdir()]
        async with self._database.connection() as connection:
            await connection.execute(SQL["drop_expired"])
            known = {row[0] for row in await (await connection.execute(SQL["known"], (names,))).fetchall()}
        for path in (self._folder / name for name in names if name not in known):
            with contextlib.suppress(OSError):
                if time.time() - path.stat().st_mtime > ABANDONED_SECONDS:
                    path.unlink()


async def finish(connection: Connection, upload: Upload, version: int) -> None:
    """Inside the transaction that writes the Binary."""
    await connection.execute(SQL["finish"], (version, upload.upload_id))


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


class _Arriving:
    """The bytes of an upload on their way to its file, in pieces that are worth a step into a thread."""

    def __init__(self, descriptor: int, upload: Upload) -> None:
        self._descriptor = descriptor
        self._gathered: list[bytes] = []
        self._size = 0
        self.upload = upload
        self.at = upload.received

    async def begin(self) -> None:
        with writing():
            await asyncio.to_thread(_cut, self._descriptor, self.at)

    async def take(self, chunk: bytes) -> None:
        if self.at + self._size + len(chunk) > self.upload.length:
            raise TooLarge("This is more than the length that was announced", expression="Upload-Length")
        self._gathered.append(chunk)
        self._size += len(chunk)
        if self._size >= PIECE:
            await self._write()

    async def flush(self) -> None:
        await self._write()
        with writing():
            await asyncio.to_thread(os.fsync, self._descriptor)

    async def _write(self) -> None:
        with writing():
            await asyncio.to_thread(write_all, self._descriptor, self._gathered)
        self.at += self._size
        self._gathered, self._size = [], 0


def _cut(descriptor: int, at: int) -> None:
    os.ftruncate(descriptor, at)
    os.lseek(descriptor, at, os.SEEK_SET)
