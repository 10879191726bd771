"""Blobs that were kept in the clear are sealed, one after the other, while everything else goes on.

A blob is sealed and its key is in the database before its plain bytes go: killed at any point, it is readable in one
form or both, and the next run goes on from there.
"""

import hashlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field

from fhir_server.outcomes import Damaged, NotFound
from fhir_server.store.blobs_sealed import SealedBlobs
from fhir_server.store.sealing import HEADER

MOST = 2**40
NAMES_AT_ONCE = 500


@dataclass
class Sealed:
    """What became of the blobs that were looked at."""

    encrypted: int = 0
    already: int = 0
    damaged: list[str] = field(default_factory=list)
    """SHA-256 of plain blobs whose bytes are not those of their name: left alone."""
    without_key: int = 0
    """Sealed bytes that nobody can open: of a process that died, or of a time after the backup of the database."""


async def seal_all(blobs: SealedBlobs, told: Callable[[Sealed], None] = lambda _: None) -> Sealed:
    """Seal every plain blob of the store. Raises StorageFull, Unavailable; what was done stays done."""
    found = Sealed()
    async for names in _batches(blobs.below.names()):
        for name, sealed_form, sealed_elsewhere in await blobs.keys.known(names):
            if sealed_form:
                found.already += 1
            elif sealed_elsewhere:
                await _forget_plain(blobs, name)
                found.encrypted += 1
            else:
                await _seal(blobs, name, found)
            told(found)
    return found


async def _seal(blobs: SealedBlobs, name: bytes, found: Sealed) -> None:
    try:
        begun = b"".join([chunk async for chunk in blobs.below.chunks(name, 0, len(HEADER))])
        if begun == HEADER and not await blobs.keys.is_named(name):
            found.without_key += 1
            return
        blob = await blobs.put(_checked(blobs, name), largest=MOST)
    except Damaged:
        found.damaged.append(name.hex())
        return
    except NotFound:  # let go at this moment
        return
    assert blob.sha256 == name
    await _forget_plain(blobs, name)
    found.encrypted += 1


async def _checked(blobs: SealedBlobs, name: bytes) -> AsyncIterator[bytes]:
    """The bytes of a plain blob; at their end Damaged where they are not those of its name."""
    digest = hashlib.sha256()
    async for chunk in blobs.below.chunks(name):
        digest.update(chunk)
        yield chunk
    if digest.digest() != name:
        raise Damaged("The content of this document is not what was kept")


async def _forget_plain(blobs: SealedBlobs, name: bytes) -> None:
    """The plain bytes go once their sealed form was read to its end, and its key is on disk."""
    digest = hashlib.sha256()
    async for chunk in blobs.chunks(name):
        digest.update(chunk)
    if digest.digest() != name:
        raise Damaged("The content of this document is not what was kept")
    await blobs.keys.hand_in_again(name)  # waits for the disk, and so for the key that was kept before
    await blobs.below.delete(name)


async def _batches(names: AsyncIterator[bytes]) -> AsyncIterator[list[bytes]]:
    gathered: list[bytes] = []
    async for name in names:
        gathered.append(name)
        if len(gathered) == NAMES_AT_ONCE:
            yield gathered
            gathered = []
    if gathered:
        yield gathered
