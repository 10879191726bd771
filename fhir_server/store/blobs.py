"""Blobs named by their SHA-256, on a file system: written once, never changed, streamed both ways.

A blob is on disk, flushed, under its final name before its name is returned; a crash leaves at most a file in
`incoming/` that nobody names. No document is ever whole in memory.
"""

import asyncio
import contextlib
import errno
import hashlib
import os
import secrets
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from fhir_server.metrics import Metrics
from fhir_server.outcomes import NotFound, StorageFull, TooLarge, Unavailable

CHUNK = 256 * 1024
IN, OUT = ("in",), ("out",)


@dataclass(frozen=True, slots=True)
class Blob:
    """What was kept: SHA-256 and SHA-1 (which FHIR's attachment.hash is) as bytes, size in bytes."""

    sha256: bytes
    sha1: bytes
    size: int


class Blobs:
    """A content-addressed folder."""

    def __init__(self, folder: Path, metrics: Metrics | None = None) -> None:
        self._folder = folder
        self._metrics = metrics or Metrics()
        self._incoming = folder / "incoming"

    def open(self) -> None:
        """Make the folder, for this user alone."""
        self._incoming.mkdir(parents=True, exist_ok=True)
        self._folder.chmod(0o700)

    def path(self, sha256: bytes) -> Path:
        name = sha256.hex()
        return self._folder / name[:2] / name[2:4] / name

    def exists(self, sha256: bytes) -> bool:
        return self.path(sha256).exists()

    def size(self, sha256: bytes) -> int:
        """Raises NotFound when the blob is not here."""
        try:
            return self.path(sha256).stat().st_size
        except FileNotFoundError as error:
            raise NotFound("The content of this document is not in the blob store") from error

    async def put(self, chunks: AsyncIterator[bytes], *, largest: int) -> Blob:
        """Keep a stream. Raises TooLarge beyond `largest` bytes, StorageFull when the disk is."""
        incoming = _Incoming(self._incoming, largest)
        try:
            with self._metrics.traces.span("blob write"):
                async for chunk in chunks:
                    await asyncio.to_thread(incoming.write, chunk)
                    self._metrics.blob_bytes.add(IN, len(chunk))
                return await asyncio.to_thread(self._keep, incoming)
        except OSError as error:
            raise _translated(error) from error
        finally:
            incoming.discard()

    async def put_bytes(self, content: bytes) -> Blob:
        """Keep something small that is in memory already. Raises StorageFull."""

        async def once() -> AsyncIterator[bytes]:
            yield content

        return await self.put(once(), largest=len(content))

    def put_file(self, source: Path, *, largest: int) -> Blob:
        """Keep a copy of a file (blocking: call it in a thread). Raises TooLarge, StorageFull."""
        incoming = _Incoming(self._incoming, largest)
        try:
            with source.open("rb") as file:
                while chunk := file.read(1024 * 1024):
                    incoming.write(chunk)
                    self._metrics.blob_bytes.add(IN, len(chunk))
            return self._keep(incoming)
        except OSError as error:
            raise _translated(error) from error
        finally:
            incoming.discard()

    async def chunks(self, sha256: bytes, start: int = 0, length: int | None = None) -> AsyncIterator[bytes]:
        """The bytes from `start`, at most `length` of them. Raises NotFound."""
        try:
            file = await asyncio.to_thread(self.path(sha256).open, "rb")
        except FileNotFoundError as error:
            raise NotFound("The content of this document is not in the blob store") from error
        left = length
        reading = contextlib.ExitStack()
        reading.enter_context(self._metrics.traces.span("blob read"))
        try:
            if start:
                file.seek(start)
            while left is None or left > 0:
                chunk = await asyncio.to_thread(file.read, CHUNK if left is None else min(CHUNK, left))
                if not chunk:
                    return
                if left is not None:
                    left -= len(chunk)
                self._metrics.blob_bytes.add(OUT, len(chunk))
                yield chunk
        finally:
            reading.close()
            file.close()

    def _keep(self, incoming: "_Incoming") -> Blob:
        blob = incoming.finish()
        target = self.path(blob.sha256)
        if not target.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            incoming.path.replace(target)
            _flush_folder(target.parent)
        return blob


class _Incoming:
    """A file that is being received: hashed while it is written."""

    def __init__(self, folder: Path, largest: int) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.path = folder / secrets.token_hex(16)
        descriptor = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        self._file: BinaryIO | None = os.fdopen(descriptor, "wb")
        self._sha256 = hashlib.sha256()
        self._sha1 = hashlib.sha1(usedforsecurity=False)
        self._size = 0
        self._largest = largest

    def write(self, chunk: bytes) -> None:
        assert self._file is not None
        self._size += len(chunk)
        if self._size > self._largest:
            raise TooLarge(f"The document is larger than {self._largest // (1024 * 1024)} MB")
        self._sha256.update(chunk)
        self._sha1.update(chunk)
        self._file.write(chunk)

    def finish(self) -> Blob:
        assert self._file is not None
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        self._file = None
        return Blob(self._sha256.digest(), self._sha1.digest(), self._size)

    def discard(self) -> None:
        if self._file is not None:
            with contextlib.suppress(OSError):
                self._file.close()
        self.path.unlink(missing_ok=True)


def _flush_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _translated(error: OSError) -> Exception:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return StorageFull("The blob store has no room left")
    return Unavailable("The blob store cannot be written")
