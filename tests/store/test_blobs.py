"""What a blob store promises, a folder or S3: bytes named by their SHA-256, whole or not at all."""

import asyncio
import hashlib
import os
from collections.abc import AsyncIterator, Callable, Iterable
from pathlib import Path

import pytest

from fhir_server.outcomes import NotFound, TooLarge, Unavailable
from fhir_server.ports import BlobStore
from fhir_server.store.blobs import CHUNK

MB = 1024 * 1024
SIZES = [0, 1, 3 * MB, 21 * MB + 7]
"""Nothing, something small, several chunks, several parts of S3."""
Leftovers = Callable[[], list[str]]


async def stream(chunks: Iterable[bytes]) -> AsyncIterator[bytes]:
    for chunk in chunks:
        yield chunk


def in_pieces(content: bytes, size: int = 65_536) -> AsyncIterator[bytes]:
    return stream(content[at : at + size] for at in range(0, len(content), size))


async def content(blobs: BlobStore, sha256: bytes, start: int = 0, length: int | None = None) -> bytes:
    return b"".join([chunk async for chunk in blobs.chunks(sha256, start, length)])


@pytest.mark.parametrize("size", SIZES)
async def test_a_blob_is_named_by_its_hash_and_given_back_whole(
    blobs: BlobStore, leftovers: Leftovers, size: int
) -> None:
    """SHA-256 for us, SHA-1 for FHIR's attachment.hash, and the size."""
    whole = os.urandom(size)
    blob = await blobs.put(in_pieces(whole), largest=32 * MB)
    assert (blob.sha256, blob.sha1, blob.size) == (
        hashlib.sha256(whole).digest(),
        hashlib.sha1(whole, usedforsecurity=False).digest(),
        size,
    )
    assert await content(blobs, blob.sha256) == whole
    assert await blobs.size(blob.sha256) == size
    assert leftovers() == []


async def test_the_same_bytes_at_the_same_moment_are_one_blob(blobs: BlobStore, leftovers: Leftovers) -> None:
    """Putting again what is there changes nothing."""
    whole = os.urandom(12 * MB)
    kept = await asyncio.gather(*(blobs.put(in_pieces(whole), largest=16 * MB) for _ in range(3)))
    assert set(kept) == {await blobs.put_bytes(whole)}
    assert await content(blobs, kept[0].sha256) == whole
    assert leftovers() == []


@pytest.mark.parametrize("size", SIZES)
async def test_a_file_is_kept_like_a_stream(blobs: BlobStore, tmp_path: Path, size: int) -> None:
    """The scanner hands in files; they get the same name, and can be had as files again."""
    source = tmp_path / "page.pdf"
    source.write_bytes(os.urandom(size))

    def there_and_back() -> bytes:
        blob = blobs.put_file(source, largest=32 * MB)
        with blobs.as_file(blob.sha256) as file:
            assert hashlib.sha256(file.read_bytes()).digest() == blob.sha256
        return blob.sha256

    assert await content(blobs, await asyncio.to_thread(there_and_back)) == source.read_bytes()


@pytest.mark.parametrize("largest", [MB, 12 * MB])
async def test_what_is_too_large_is_refused_and_not_kept(
    blobs: BlobStore, leftovers: Leftovers, tmp_path: Path, largest: int
) -> None:
    """One byte more than allowed is too large; exactly as many is not."""
    assert (await blobs.put(in_pieces(b"x" * largest), largest=largest)).size == largest
    with pytest.raises(TooLarge):
        await blobs.put(in_pieces(b"y" * (largest + 1)), largest=largest)
    big = tmp_path / "big"
    big.write_bytes(b"z" * (largest + 1))
    with pytest.raises(TooLarge):
        await asyncio.to_thread(blobs.put_file, big, largest=largest)
    assert leftovers() == []


@pytest.mark.parametrize("size", [100, 20 * MB])
async def test_an_upload_cut_short_leaves_nothing(blobs: BlobStore, leftovers: Leftovers, size: int) -> None:
    """A client that leaves in the middle leaves no half document, and no half transfer."""

    async def cut() -> AsyncIterator[bytes]:
        for _ in range(0, size, 65_536):
            yield bytes(65_536)
        raise ConnectionResetError

    with pytest.raises((ConnectionResetError, Unavailable)):
        await blobs.put(cut(), largest=32 * MB)
    assert leftovers() == []


async def test_a_range_is_read_without_the_rest(blobs: BlobStore) -> None:
    """Any start and length, across chunks, to the end and beyond it."""
    whole = os.urandom(2 * CHUNK + 1000)
    blob = await blobs.put_bytes(whole)
    for start, length in [
        (0, 1),
        (5, 10),
        (CHUNK - 1, 2),
        (CHUNK, CHUNK),
        (len(whole) - 1, 1),
        (100, None),
        (0, 10 * MB),
        (len(whole), None),
    ]:
        end = len(whole) if length is None else start + length
        assert await content(blobs, blob.sha256, start, length) == whole[start:end]
    assert await content(blobs, blob.sha256, 10, 0) == b""


async def test_no_chunk_is_larger_than_agreed(blobs: BlobStore) -> None:
    """No document is ever whole in memory. S3 gives a little more than is asked for."""
    blob = await blobs.put_bytes(os.urandom(5 * MB))
    sizes = [len(chunk) async for chunk in blobs.chunks(blob.sha256)]
    assert max(sizes) <= 2 * CHUNK
    assert sum(sizes) == 5 * MB


async def test_an_absent_blob_is_not_found(blobs: BlobStore) -> None:
    """Also when only its size, a part of it or a file of it is asked for."""
    with pytest.raises(NotFound):
        await blobs.size(bytes(32))
    for start in (0, 5):
        with pytest.raises(NotFound):
            await content(blobs, bytes(32), start)
    assert await blobs.answers()


async def test_a_reader_who_leaves_holds_nothing_open(blobs: BlobStore) -> None:
    """A download given up in the middle gives its file or its connection back."""
    blob = await blobs.put_bytes(os.urandom(20 * CHUNK))
    assert len(await content(blobs, blob.sha256)) == 20 * CHUNK
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(10):
        chunks = blobs.chunks(blob.sha256)
        assert await anext(chunks)
        await chunks.aclose()  # pyright: ignore[reportAttributeAccessIssue] - an asynchronous generator
    await asyncio.sleep(0.2)
    assert len(os.listdir("/proc/self/fd")) <= before + 2


async def test_many_files_at_once_do_not_wait_for_each_other(blobs: BlobStore, tmp_path: Path) -> None:
    """More of them than the event loop has threads: none waits in a thread for work that needs one of those."""
    many = 2 * (os.cpu_count() or 1) + 12
    for number in range(many):
        (tmp_path / str(number)).write_bytes(bytes([number]) * 1_000_000)

    def there_and_back(number: int) -> bytes:
        blob = blobs.put_file(tmp_path / str(number), largest=MB)
        with blobs.as_file(blob.sha256) as file:
            return file.read_bytes()[:1]

    async with asyncio.timeout(60):
        back = await asyncio.gather(*(asyncio.to_thread(there_and_back, number) for number in range(many)))
    assert back == [bytes([number]) for number in range(many)]
