"""The blob store: bytes named by their SHA-256, whole or not at all."""

import asyncio
import hashlib
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Iterable
from pathlib import Path

import pytest

from fhir_server.outcomes import NotFound, StorageFull, TooLarge, Unavailable
from fhir_server.store.blobs import CHUNK, Blobs

MB = 1024 * 1024


@pytest.fixture
def blobs(tmp_path: Path) -> Blobs:
    blobs = Blobs(tmp_path / "blobs")
    blobs.open()
    return blobs


async def stream(chunks: Iterable[bytes]) -> AsyncIterator[bytes]:
    for chunk in chunks:
        yield chunk


async def content(blobs: Blobs, sha256: bytes, start: int = 0, length: int | None = None) -> bytes:
    return b"".join([chunk async for chunk in blobs.chunks(sha256, start, length)])


def leftovers(folder: Path) -> list[Path]:
    return list((folder / "blobs" / "incoming").iterdir())


async def test_a_blob_is_named_by_its_hash_and_given_back_whole(blobs: Blobs, tmp_path: Path) -> None:
    """SHA-256 for us, SHA-1 for FHIR's attachment.hash, and the size."""
    pieces = [os.urandom(100_000) for _ in range(5)]
    whole = b"".join(pieces)
    blob = await blobs.put(stream(pieces), largest=MB)
    assert (blob.sha256, blob.sha1, blob.size) == (
        hashlib.sha256(whole).digest(),
        hashlib.sha1(whole, usedforsecurity=False).digest(),
        len(whole),
    )
    assert await content(blobs, blob.sha256) == whole
    assert blobs.path(blob.sha256).name == blob.sha256.hex()
    assert leftovers(tmp_path) == []


async def test_the_same_bytes_are_kept_once(blobs: Blobs, tmp_path: Path) -> None:
    """Putting again what is there, even at the same moment, changes nothing."""
    first = await blobs.put_bytes(b"the same")
    before = blobs.path(first.sha256).stat().st_ino
    again = await asyncio.gather(*(blobs.put_bytes(b"the same") for _ in range(8)))
    assert set(again) == {first}
    assert blobs.path(first.sha256).stat().st_ino == before
    assert leftovers(tmp_path) == []


async def test_an_empty_blob_is_a_blob(blobs: Blobs) -> None:
    """Nothing, kept, is nothing."""
    blob = await blobs.put_bytes(b"")
    assert blob.size == 0
    assert await content(blobs, blob.sha256) == b""


async def test_a_file_is_kept_like_a_stream(blobs: Blobs, tmp_path: Path) -> None:
    """The scanner hands in files; they get the same name."""
    source = tmp_path / "page.pdf"
    source.write_bytes(os.urandom(3 * MB))
    blob = await asyncio.to_thread(blobs.put_file, source, largest=4 * MB)
    assert await content(blobs, blob.sha256) == source.read_bytes()
    assert source.exists()


async def test_what_is_too_large_is_refused_and_not_kept(blobs: Blobs, tmp_path: Path) -> None:
    """One byte more than allowed is too large; exactly as many is not."""
    assert (await blobs.put(stream([b"x" * MB]), largest=MB)).size == MB
    with pytest.raises(TooLarge):
        await blobs.put(stream([b"y" * MB, b"y"]), largest=MB)
    big = tmp_path / "big"
    big.write_bytes(b"z" * (MB + 1))
    with pytest.raises(TooLarge):
        blobs.put_file(big, largest=MB)
    assert leftovers(tmp_path) == []


async def test_an_upload_cut_short_leaves_nothing(blobs: Blobs, tmp_path: Path) -> None:
    """A client that leaves in the middle leaves no half document."""

    async def cut() -> AsyncIterator[bytes]:
        yield b"first half"
        raise ConnectionResetError

    with pytest.raises((ConnectionResetError, Unavailable)):
        await blobs.put(cut(), largest=MB)
    assert leftovers(tmp_path) == []


async def test_a_file_left_by_a_crash_disturbs_nobody(blobs: Blobs, tmp_path: Path) -> None:
    """The same document handed in again after a power cut is kept as if nothing had been."""
    (tmp_path / "blobs" / "incoming" / "half").write_bytes(b"first h")
    blob = await blobs.put_bytes(b"first half")
    assert await content(blobs, blob.sha256) == b"first half"


FULL = """
import asyncio, pathlib, resource, signal, sys
from fhir_server.outcomes import StorageFull
from fhir_server.store.blobs import Blobs
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
blobs = Blobs(pathlib.Path(sys.argv[1]))
blobs.open()
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
async def big():
    yield b"x" * 200_000
try:
    asyncio.run(blobs.put(big(), largest=1_000_000))
except Exception as error:
    print(type(error).__name__)
"""


def test_a_limit_of_the_operating_system_is_not_a_bug(tmp_path: Path) -> None:
    """A write that the operating system refuses ends as one of our failures, and leaves nothing."""
    command = [sys.executable, "-c", FULL, str(tmp_path / "blobs")]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=Path(__file__).parents[2])
    assert done.stdout.strip() == "Unavailable"
    assert leftovers(tmp_path) == []


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Iterable[Path]:
    """A file system of one megabyte, where we may mount one."""
    folder = tmp_path / "tiny"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("this user may not mount a tmpfs")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


async def test_a_full_disk_is_storage_full(tiny_disk: Path) -> None:
    """507, no half document, and what fits is kept afterwards."""
    blobs = Blobs(tiny_disk / "blobs")
    blobs.open()
    with pytest.raises(StorageFull):
        await blobs.put(stream([os.urandom(CHUNK)] * 8), largest=4 * MB)
    assert leftovers(tiny_disk) == []
    assert (await blobs.put_bytes(b"fits")).size == 4


async def test_a_range_is_read_without_the_rest(blobs: Blobs) -> None:
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
    ]:
        end = len(whole) if length is None else start + length
        assert await content(blobs, blob.sha256, start, length) == whole[start:end]
    assert await content(blobs, blob.sha256, 10, 0) == b""


async def test_no_chunk_is_larger_than_agreed(blobs: Blobs) -> None:
    """No document is ever whole in memory."""
    blob = await blobs.put(stream([os.urandom(MB)] * 3), largest=4 * MB)
    sizes = [len(chunk) async for chunk in blobs.chunks(blob.sha256)]
    assert max(sizes) <= CHUNK
    assert sum(sizes) == 3 * MB


async def test_an_absent_blob_is_not_found(blobs: Blobs) -> None:
    """Also when only its size is asked for."""
    assert not blobs.exists(bytes(32))
    with pytest.raises(NotFound):
        blobs.size(bytes(32))
    with pytest.raises(NotFound):
        await content(blobs, bytes(32))


async def test_a_reader_who_leaves_closes_the_file(blobs: Blobs) -> None:
    """A download given up in the middle holds nothing open."""
    blob = await blobs.put_bytes(os.urandom(3 * CHUNK))
    before = len(os.listdir("/proc/self/fd"))
    chunks = blobs.chunks(blob.sha256)
    assert await anext(chunks)
    await chunks.aclose()  # pyright: ignore[reportAttributeAccessIssue] - an asynchronous generator
    assert len(os.listdir("/proc/self/fd")) == before
