"""The blob store on a file system: one file per blob, named by its SHA-256.

A blob is on disk, flushed, under its final name before its name is returned; a crash leaves at most a file in
`incoming/` that nobody names and the next start removes. No document is ever whole in memory.
"""

import asyncio
import contextlib
import errno
import fcntl
import hashlib
import os
import secrets
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from fhir_server.metrics import Metrics
from fhir_server.outcomes import NotFound, StorageFull, TooLarge, Unavailable
from fhir_server.ports import Blob

CHUNK = 512 * 1024
PIECE = 1024 * 1024
ABANDONED_SECONDS = 3600.0
IN, OUT = ("in",), ("out",)

Result = TypeVar("Result")


class Tally:
    """Counts and hashes what goes by. Raises TooLarge beyond `largest` bytes."""

    def __init__(self, largest: int) -> None:
        self._sha256 = hashlib.sha256()
        self._sha1 = hashlib.sha1(usedforsecurity=False)
        self._size = 0
        self._largest = largest

    def add(self, chunks: Sequence[bytes]) -> None:
        self._size += sum(map(len, chunks))
        if self._size > self._largest:
            raise TooLarge(f"The document is larger than {self._largest // (1024 * 1024)} MB")
        for chunk in chunks:
            self._sha256.update(chunk)
            self._sha1.update(chunk)

    def blob(self) -> Blob:
        return Blob(self._sha256.digest(), self._sha1.digest(), self._size)


async def pieces(chunks: AsyncIterator[bytes]) -> AsyncGenerator[list[bytes]]:
    """Small chunks gathered to about `PIECE` bytes: a step into a thread costs as much as hashing 64 kB."""
    gathered: list[bytes] = []
    size = 0
    async for chunk in chunks:
        gathered.append(chunk)
        size += len(chunk)
        if size >= PIECE:
            yield gathered
            gathered, size = [], 0
    if gathered:
        yield gathered


class Aside:
    """Threads for work on blobs. Who calls `put_file` holds one of the event loop: this work must not need another."""

    def __init__(self, threads: int = 8) -> None:
        self._threads = ThreadPoolExecutor(threads, "blobs")

    async def __call__(self, work: Callable[..., Result], *given: object) -> Result:
        return await asyncio.get_running_loop().run_in_executor(self._threads, work, *given)


class Blobs:
    """A content-addressed folder (`fhir_server.ports.BlobStore`)."""

    def __init__(self, folder: Path, metrics: Metrics | None = None) -> None:
        self._folder = folder
        self._metrics = metrics or Metrics()
        self._incoming = folder / "incoming"
        self._aside = Aside()

    def open(self) -> None:
        """Make the folder, for this user alone, and remove what was being received when a process died."""
        self._incoming.mkdir(parents=True, exist_ok=True)
        self._folder.chmod(0o700)
        for path in self._incoming.iterdir():
            with contextlib.suppress(OSError):
                if time.time() - path.stat().st_mtime > ABANDONED_SECONDS and not _held(path):
                    path.unlink()

    def path(self, sha256: bytes) -> Path:
        name = sha256.hex()
        return self._folder / name[:2] / name[2:4] / name

    async def size(self, sha256: bytes) -> int:
        """Raises NotFound when the blob is not here."""
        with _reading():
            return (await self._aside(self.path(sha256).stat)).st_size

    async def answers(self) -> bool:
        """May a file be made?"""
        return os.access(self._folder, os.W_OK)

    async def put(self, chunks: AsyncIterator[bytes], *, largest: int) -> Blob:
        """Keep a stream. Raises TooLarge beyond `largest` bytes, StorageFull when the disk is."""
        with writing():
            incoming = await self._aside(_Incoming, self._incoming, largest)
        under_way: asyncio.Future[None] | None = None
        try:
            with self._metrics.traces.span("blob write"):
                async for piece in pieces(chunks):
                    if under_way:
                        await under_way
                    under_way = asyncio.ensure_future(
                        self._aside(incoming.write, piece)
                    )  # while the next piece arrives
                    self._metrics.blob_bytes.add(IN, sum(map(len, piece)))
                if under_way:
                    await under_way
            with writing():
                return await self._aside(self._keep, incoming)
        except OSError as error:
            raise _translated(error) from error
        finally:
            if under_way:
                await asyncio.wait([under_way])
            incoming.discard()

    async def put_bytes(self, content: bytes) -> Blob:
        """Keep something small that is in memory already. Raises StorageFull."""

        async def once() -> AsyncIterator[bytes]:
            yield content

        return await self.put(once(), largest=len(content))

    def put_file(self, source: Path, *, largest: int) -> Blob:
        """Keep a copy of a file (blocking: call it in a thread). Raises TooLarge, StorageFull."""
        with writing():
            incoming = _Incoming(self._incoming, largest)
            try:
                with source.open("rb", buffering=0) as file:
                    while chunk := file.read(PIECE):
                        incoming.write([chunk])
                        self._metrics.blob_bytes.add(IN, len(chunk))
                return self._keep(incoming)
            finally:
                incoming.discard()

    async def chunks(self, sha256: bytes, start: int = 0, length: int | None = None) -> AsyncIterator[bytes]:
        """The bytes from `start`, at most `length` of them. Raises NotFound."""
        with _reading():
            descriptor = await self._aside(os.open, self.path(sha256), os.O_RDONLY | os.O_CLOEXEC)
        reading = contextlib.ExitStack()
        reading.enter_context(self._metrics.traces.span("blob read"))
        try:
            end = os.fstat(descriptor).st_size
            if length is not None:
                end = min(end, start + length)
            while start < end:
                wanted = min(CHUNK, end - start)
                with _reading():
                    if _in_memory(descriptor, start + wanted - 1):
                        chunk = os.pread(descriptor, wanted, start)
                    else:
                        chunk = await self._aside(os.pread, descriptor, wanted, start)
                if not chunk:
                    raise Unavailable("The content of this document ends before its end")
                start += len(chunk)
                self._metrics.blob_bytes.add(OUT, len(chunk))
                yield chunk
        finally:
            reading.close()
            os.close(descriptor)

    async def delete(self, sha256: bytes) -> None:
        """Forget a blob that nothing names any more."""
        with writing():
            await self._aside(self._forget, sha256)

    async def names(self) -> AsyncIterator[bytes]:
        """Every blob, folder by folder."""
        for folder in await self._aside(sorted, self._folder.glob("[0-9a-f][0-9a-f]/[0-9a-f][0-9a-f]")):
            for name in await self._aside(os.listdir, folder):
                yield bytes.fromhex(name)

    @contextlib.contextmanager
    def as_file(self, sha256: bytes) -> Generator[Path]:
        """The blob itself: to be read, not to be changed."""
        yield self.path(sha256)

    def _forget(self, sha256: bytes) -> None:
        self.path(sha256).unlink(missing_ok=True)

    def _keep(self, incoming: "_Incoming") -> Blob:
        blob = incoming.finish()
        target = self.path(blob.sha256)
        if not target.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            incoming.path.replace(target)
            _flush_folder(target.parent)
        return blob


class _Incoming:
    """A file that is being received: hashed while it is written, locked so that nobody takes it for abandoned."""

    def __init__(self, folder: Path, largest: int) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.path = folder / secrets.token_hex(16)
        self._descriptor: int | None = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        self._tally = Tally(largest)

    def write(self, chunks: Sequence[bytes]) -> None:
        assert self._descriptor is not None
        self._tally.add(chunks)
        write_all(self._descriptor, chunks)

    def finish(self) -> Blob:
        assert self._descriptor is not None
        os.fsync(self._descriptor)
        return self._tally.blob()

    def discard(self) -> None:
        if self._descriptor is not None:
            with contextlib.suppress(OSError):
                os.close(self._descriptor)
            self._descriptor = None
        self.path.unlink(missing_ok=True)


def write_all(descriptor: int, chunks: Sequence[bytes]) -> None:
    for chunk in chunks:
        left = memoryview(chunk)
        while left:
            left = left[os.write(descriptor, left) :]


def _held(path: Path) -> bool:
    """Does a process that is alive write this file?"""
    with path.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def _in_memory(descriptor: int, last: int) -> bool:
    """Is this byte in the page cache? Then a read does not wait for the disk, and a thread would cost more than it."""
    try:
        return os.preadv(descriptor, [bytearray(1)], last, os.RWF_NOWAIT) == 1
    except OSError:  # not there, or a file system that cannot tell
        return False


def _flush_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def _reading() -> Generator[None]:
    try:
        yield
    except FileNotFoundError as error:
        raise NotFound("The content of this document is not in the blob store") from error
    except OSError as error:
        raise Unavailable("The blob store cannot be read") from error


@contextlib.contextmanager
def writing() -> Generator[None]:
    """What the operating system refuses, in our words: StorageFull or Unavailable."""
    try:
        yield
    except OSError as error:
        raise _translated(error) from error


def _translated(error: OSError) -> Exception:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return StorageFull("The blob store has no room left")
    return Unavailable("The blob store cannot be written")
