"""Blobs encrypted at rest, over any blob store (`fhir_server.ports.BlobStore`; docs/adr/0011).

The store below sees sealed bytes only, and names them by their own SHA-256; where the content of a name lies, and the
wrapped key that opens it, is a row. What was kept in the clear before is read as it is. No document is whole in memory.
"""

import asyncio
import contextlib
import tempfile
from collections.abc import AsyncGenerator, AsyncIterator, Coroutine, Generator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import structlog

from fhir_server.metrics import Metrics
from fhir_server.outcomes import Damaged, Failure, NotFound, Unavailable
from fhir_server.ports import Blob, BlobStore
from fhir_server.store.blob_keys import BlobKeys, Kept
from fhir_server.store.blobs import IN, OUT, PIECE, Aside, Tally, pieces, writing
from fhir_server.store.sealing import Part, Sealing, new_secret, sealed_size

Result = TypeVar("Result")

log = structlog.get_logger(__name__)


class SealedBlobs:
    """Seals what comes in and opens what goes out. Make it in the event loop that asks it."""

    def __init__(
        self, below: BlobStore, keys: BlobKeys, metrics: Metrics | None = None, *, sealing: bool = True
    ) -> None:
        self.below = below
        self.keys = keys
        self._metrics = metrics or Metrics()
        self.sealing = sealing
        self._loop = asyncio.get_running_loop()
        self._aside = Aside()

    def open(self) -> None:
        """Make the store below ready."""
        self.below.open()

    async def answers(self) -> bool:
        """Can something be kept now? A device of keys that is gone keeps nothing."""
        with contextlib.suppress(Failure):
            await self.keys.masters.ids()
            return await self.below.answers()
        return False

    async def size(self, sha256: bytes) -> int:
        """Raises NotFound when the blob is not here."""
        kept = await self.keys.find(sha256)
        return kept.size if kept else await self.below.size(sha256)

    async def put(self, chunks: AsyncIterator[bytes], *, largest: int) -> Blob:
        """Keep a stream. Raises TooLarge beyond `largest` bytes, StorageFull, Unavailable."""
        if not self.sealing:
            with self._metrics.traces.span("blob write"):
                return await self.below.put(self._arriving(chunks), largest=largest)
        secret = new_secret()
        tally, sealing = Tally(largest), Sealing(secret)

        def take(piece: Sequence[bytes]) -> list[bytes]:
            tally.add(piece)
            return sealing.add(piece)

        async def sealed() -> AsyncIterator[bytes]:
            async for piece in pieces(self._arriving(chunks)):
                for block in await self._aside(take, piece):
                    yield block
            for block in await self._aside(sealing.end):
                yield block

        with self._metrics.traces.span("blob write"):
            below = await self.below.put(sealed(), largest=sealed_size(largest))
            blob = tally.blob()
            await self._name(blob, below.sha256, secret)
        return blob

    async def put_bytes(self, content: bytes) -> Blob:
        """Keep something small that is in memory already. Raises StorageFull, Unavailable."""
        tally = Tally(len(content))
        tally.add([content])
        blob = tally.blob()
        if not self.sealing:
            self._metrics.blob_bytes.add(IN, len(content))
            return await self.below.put_bytes(content)
        if await self._has(blob.sha256) is None:
            secret = new_secret()
            sealing = Sealing(secret)
            with self._metrics.traces.span("blob write"):
                below = await self.below.put_bytes(b"".join([*sealing.add([content]), *sealing.end()]))
                self._metrics.blob_bytes.add(IN, len(content))
                await self._name(blob, below.sha256, secret)
        return blob

    def put_file(self, source: Path, *, largest: int) -> Blob:
        """Keep a copy of a file (blocking: call it in a thread). Read twice: Unavailable if it changes."""
        tally = Tally(largest)
        with writing(), source.open("rb", buffering=0) as file:
            while chunk := file.read(PIECE):
                tally.add([chunk])
        blob = tally.blob()
        if self._from_a_thread(self._has(blob.sha256)) is None:
            again = self._from_a_thread(self.put(self._bytes_of(source), largest=largest))
            if again != blob:
                raise Unavailable("The file changed while it was received")
        return blob

    async def chunks(self, sha256: bytes, start: int = 0, length: int | None = None) -> AsyncIterator[bytes]:
        """The bytes from `start`, at most `length` of them. Raises NotFound, Damaged, Unavailable."""
        with self._metrics.traces.span("blob read"):
            kept = await self.keys.find(sha256)
            if kept is None:
                async with contextlib.aclosing(_generator(self.below.chunks(sha256, start, length))) as plain:
                    try:
                        first = await anext(plain, b"")
                    except NotFound:
                        kept = await self.keys.find(sha256)  # it may have been sealed since we asked
                        if kept is None:
                            raise
                    else:
                        if first:
                            yield self._counted(first)
                        async for chunk in plain:
                            yield self._counted(chunk)
                        return
            async with contextlib.aclosing(self._opened(kept, start, length)) as opened:
                async for chunk in opened:
                    yield self._counted(chunk)

    async def delete(self, sha256: bytes) -> None:
        """Only what lets go of keys forgets blobs: `store/shredding.py`."""
        raise NotImplementedError

    async def names(self) -> AsyncIterator[bytes]:
        """The names below, which are not those of contents."""
        async for name in self.below.names():
            yield name

    @contextlib.contextmanager
    def as_file(self, sha256: bytes) -> Generator[Path]:
        """A copy in the clear in a folder for passing things, for this user alone, gone afterwards."""
        with tempfile.TemporaryDirectory() as folder:
            target = Path(folder) / sha256.hex()
            self._from_a_thread(self._write(sha256, target))
            yield target

    async def _write(self, sha256: bytes, target: Path) -> None:
        with writing(), target.open("xb") as file:
            async for chunk in self.chunks(sha256):
                await self._aside(file.write, chunk)

    async def _opened(self, kept: Kept, start: int, length: int | None) -> AsyncGenerator[bytes]:
        """A part of a sealed blob, block by block: nothing of a block is given out before all of it was verified."""
        end = kept.size if length is None else min(kept.size, start + length)
        if start >= end and kept.size:
            return
        part = Part(await self.keys.secret(kept), kept.size, start, end)
        sealed = _generator(self.below.chunks(kept.address, part.offset, part.length))
        async with contextlib.aclosing(sealed):
            left = b""
            async for chunk in sealed:
                arrived = left + chunk if left else chunk
                at = 0
                while not part.complete and len(arrived) - at >= part.wanted:
                    block, at = memoryview(arrived)[at : at + part.wanted], at + part.wanted
                    with self._telling(kept):
                        content = part.open(block)
                    if content:
                        yield content
                left = arrived[at:]
        with self._telling(kept):
            if not part.complete:
                raise Damaged("The content of this document ends before its end")

    @contextlib.contextmanager
    def _telling(self, kept: Kept) -> Generator[None]:
        """The operator, which file is damaged: its name is a hash of what lies in it."""
        try:
            yield
        except Damaged:
            log.error("the sealed bytes of a document are damaged", name=kept.address.hex())
            raise

    async def _has(self, sha256: bytes) -> Kept | None:
        """The key of a content that is handed in once more, if its sealed bytes are there."""
        kept = await self.keys.hand_in_again(sha256)
        return kept if kept and await self._is_there(kept) else None

    async def _is_there(self, kept: Kept) -> bool:
        try:
            return await self.below.size(kept.address) == sealed_size(kept.size)
        except NotFound:
            return False

    async def _name(self, blob: Blob, address: bytes, secret: bytes) -> None:
        """Give sealed bytes that are on disk their name. Where others have it, theirs stay, unless they were lost.

        What fails here leaves sealed bytes without a key: whether the row was written is not known then.
        """
        if await self.keys.keep(blob, address, secret):
            return
        before = await self.keys.hand_in_again(blob.sha256)
        if before is None:  # shredded at this moment
            if await self.keys.keep(blob, address, secret):
                return
        elif not await self._is_there(before):
            log.warning("sealed bytes that were lost came again")
            if await self.keys.replace(before, address, secret):
                return
        with contextlib.suppress(Failure):  # a store that forgets nothing keeps what nobody can open
            await self.below.delete(address)

    async def _arriving(self, chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        async for chunk in chunks:
            self._metrics.blob_bytes.add(IN, len(chunk))
            yield chunk

    async def _bytes_of(self, source: Path) -> AsyncIterator[bytes]:
        with writing():
            file = await self._aside(partial(source.open, "rb", buffering=0))
        with file:
            while chunk := await self._aside(file.read, PIECE):
                yield chunk

    def _counted(self, chunk: bytes) -> bytes:
        self._metrics.blob_bytes.add(OUT, len(chunk))
        return chunk

    def _from_a_thread(self, work: Coroutine[Any, Any, Result]) -> Result:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()


def _generator(chunks: AsyncIterator[bytes]) -> AsyncGenerator[bytes]:
    """Every blob store gives its chunks by one: it can be closed."""
    assert isinstance(chunks, AsyncGenerator)
    return chunks
