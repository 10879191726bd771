"""The blob store on any S3-compatible service: one object per blob, named by its SHA-256.

What fits into `SMALL` is put under its name at once. What is larger is streamed to `incoming/` in parts, since its name
is known at its end only, and copied to its name inside the service. A transfer that fails is aborted; one whose process
was killed leaves parts that a lifecycle rule of the bucket removes (docs/operator.md).
"""

import asyncio
import contextlib
import hashlib
import secrets
import tempfile
from collections.abc import AsyncGenerator, AsyncIterator, Generator, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import urlsplit

import obstore
import structlog
from obstore.exceptions import BaseError
from obstore.store import S3Store

from fhir_server.outcomes import NotFound, StorageFull, Unavailable
from fhir_server.ports import Blob
from fhir_server.store.blobs import CHUNK, PIECE, Aside, Tally, pieces

SMALL = 8 * 1024 * 1024
PART = 8 * 1024 * 1024
PARTS_AT_ONCE = 3
INCOMING = "incoming"
ABANDONED = timedelta(days=1)
NO_ROOM = ("StorageFull", "InsufficientStorage", "QuotaExceeded", " 507 ")

log = structlog.get_logger(__name__)


def connect(
    url: str, *, endpoint: str | None, region: str, access_key: str | None, secret_key: str | None
) -> "S3Blobs":
    """The store at `s3://bucket/prefix`. Without keys those of the machine (its role) are used."""
    parts = urlsplit(url)
    given = {"endpoint": endpoint, "access_key_id": access_key, "secret_access_key": secret_key}
    store = S3Store(
        parts.netloc,
        prefix=parts.path.strip("/") or None,
        config={"region": region, **{name: value for name, value in given.items() if value}},  # pyright: ignore[reportArgumentType] - names of S3Config
        client_options={"allow_http": True, "connect_timeout": timedelta(seconds=5), "timeout": timedelta(hours=1)},
        retry_config={"max_retries": 3, "retry_timeout": timedelta(seconds=20)},
    )
    return S3Blobs(store)


class S3Blobs:
    """A content-addressed part of a bucket (`fhir_server.ports.BlobStore`)."""

    def __init__(self, store: S3Store) -> None:
        self._store = store
        self._aside = Aside()

    def key(self, sha256: bytes) -> str:
        name = sha256.hex()
        return f"{name[:2]}/{name[2:4]}/{name}"

    def open(self) -> None:
        """Remove what was being received a day ago and never got its name. A store out of reach stops nobody here."""
        try:
            with _translating():
                before = datetime.now(UTC) - ABANDONED
                for batch in obstore.list(self._store, INCOMING):
                    if old := [one["path"] for one in batch if one["last_modified"] < before]:
                        obstore.delete(self._store, old)
        except Unavailable:
            log.warning("the blob store is out of reach")

    async def answers(self) -> bool:
        """Does the bucket let itself be listed?"""
        try:
            await asyncio.to_thread(lambda: next(iter(obstore.list(self._store, INCOMING, chunk_size=1)), None))
        except BaseError:
            return False
        return True

    async def size(self, sha256: bytes) -> int:
        """Raises NotFound when the blob is not here."""
        with _translating():
            return (await obstore.head_async(self._store, self.key(sha256)))["size"]

    async def put(self, chunks: AsyncIterator[bytes], *, largest: int) -> Blob:
        """Keep a stream. Raises TooLarge beyond `largest` bytes, StorageFull, Unavailable."""
        tally = Tally(largest)
        arriving = pieces(chunks)
        begun: list[bytes] = []
        size = 0
        async for piece in arriving:
            await self._aside(tally.add, piece)
            begun += piece
            size += sum(map(len, piece))
            if size > SMALL:
                return await self._put_large(tally, begun, arriving)
        return await self._put_small(tally.blob(), b"".join(begun))

    async def put_bytes(self, content: bytes) -> Blob:
        """Keep something small that is in memory already."""
        tally = Tally(len(content))
        tally.add([content])
        return await self._put_small(tally.blob(), content)

    async def _put_small(self, blob: Blob, content: bytes) -> Blob:
        with _translating():
            if not await self._has(blob.sha256):
                await obstore.put_async(self._store, self.key(blob.sha256), content, use_multipart=False)
        return blob

    async def _put_large(self, tally: Tally, begun: list[bytes], arriving: AsyncGenerator[list[bytes]]) -> Blob:
        async def content() -> AsyncIterator[bytes]:
            for chunk in begun:
                yield chunk
            begun.clear()
            async for piece in arriving:
                await self._aside(tally.add, piece)
                yield b"".join(piece)

        name = f"{INCOMING}/{secrets.token_hex(16)}"
        with _translating():
            await obstore.put_async(self._store, name, content(), chunk_size=PART, max_concurrency=PARTS_AT_ONCE)
            try:
                blob = tally.blob()
                if not await self._has(blob.sha256):
                    await obstore.copy_async(self._store, name, self.key(blob.sha256))
                return blob
            finally:
                await obstore.delete_async(self._store, name)

    async def _has(self, sha256: bytes) -> bool:
        try:
            await obstore.head_async(self._store, self.key(sha256))
        except FileNotFoundError:
            return False
        return True

    def put_file(self, source: Path, *, largest: int) -> Blob:
        """Keep a copy of a file (blocking: call it in a thread). Read twice: Unavailable if it changes."""
        tally = Tally(largest)
        with source.open("rb", buffering=0) as file:
            while chunk := file.read(PIECE):
                tally.add([chunk])
        blob = tally.blob()
        with _translating():
            try:
                obstore.head(self._store, self.key(blob.sha256))
            except FileNotFoundError:
                content = _same(source, blob.sha256)
                obstore.put(self._store, self.key(blob.sha256), content, chunk_size=PART, max_concurrency=PARTS_AT_ONCE)
        return blob

    async def chunks(self, sha256: bytes, start: int = 0, length: int | None = None) -> AsyncIterator[bytes]:
        """The bytes from `start`, at most `length` of them. Raises NotFound."""
        with _translating():
            asked = None
            if start or length is not None:
                size = await self.size(sha256)
                end = size if length is None else min(size, start + length)
                if start >= end:
                    return
                asked = (start, end)
            found = await obstore.get_async(self._store, self.key(sha256), options={"range": asked} if asked else None)
            async for chunk in found.stream(min_chunk_size=CHUNK):
                yield bytes(chunk)

    async def delete(self, sha256: bytes) -> None:
        """Forget a blob that nothing names any more. Where the bucket keeps versions, they stay."""
        with _translating(), contextlib.suppress(FileNotFoundError):
            await obstore.delete_async(self._store, self.key(sha256))

    async def names(self) -> AsyncIterator[bytes]:
        """Every blob."""
        with _translating():
            async for batch in obstore.list(self._store):
                for one in batch:
                    name = one["path"].rpartition("/")[2]
                    if one["path"] == f"{name[:2]}/{name[2:4]}/{name}":
                        yield bytes.fromhex(name)

    @contextlib.contextmanager
    def as_file(self, sha256: bytes) -> Generator[Path]:
        """A copy in a folder for passing things, gone afterwards."""
        with tempfile.TemporaryDirectory() as folder:
            target = Path(folder) / sha256.hex()
            with _translating(), target.open("wb") as file:
                for chunk in obstore.get(self._store, self.key(sha256)).stream(min_chunk_size=CHUNK):
                    file.write(chunk)
            yield target


def _same(source: Path, sha256: bytes) -> Iterator[bytes]:
    """The bytes of a file, if they still have this hash at their end: else the transfer is given up."""
    digest = hashlib.sha256()
    with source.open("rb", buffering=0) as file:
        while chunk := file.read(PIECE):
            digest.update(chunk)
            yield chunk
    if digest.digest() != sha256:
        raise Unavailable("The file changed while it was received")


@contextlib.contextmanager
def _translating() -> Generator[None]:
    """Foreign exceptions as ours. What they say may name keys and addresses: it goes no further."""
    try:
        yield
    except FileNotFoundError as error:
        raise NotFound("The content of this document is not in the blob store") from error
    except BaseError as error:
        if any(sign in str(error) for sign in NO_ROOM):
            raise StorageFull("The blob store has no room left") from None
        raise Unavailable("The blob store is out of reach") from None
