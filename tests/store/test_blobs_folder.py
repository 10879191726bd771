"""The blob store in a folder: what a crash and a full disk leave."""

import os
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import pytest

from fhir_server.outcomes import StorageFull
from fhir_server.store.blobs import CHUNK, Blobs
from tests.store.test_blobs import MB, content, stream


async def test_the_same_bytes_are_one_file(folder_blobs: Blobs) -> None:
    """Named by its hash, and left alone when it comes again."""
    first = await folder_blobs.put_bytes(b"the same")
    before = folder_blobs.path(first.sha256).stat().st_ino
    await folder_blobs.put_bytes(b"the same")
    assert folder_blobs.path(first.sha256).name == first.sha256.hex()
    assert folder_blobs.path(first.sha256).stat().st_ino == before


HOLD = """
import fcntl, os, pathlib, sys, time
from fhir_server.store.blobs import _Incoming
incoming = _Incoming(pathlib.Path(sys.argv[1]) / "incoming", 100)
incoming.write([b"half"])
os.utime(incoming.path, (1, 1))
print(incoming.path.name, flush=True)
time.sleep(60)
"""


async def test_a_start_removes_what_a_killed_process_left_and_nothing_else(folder_blobs: Blobs, tmp_path: Path) -> None:
    """A file that somebody still writes stays, however long he takes; one that nobody holds goes."""
    folder = tmp_path / "blobs"
    command = [sys.executable, "-c", HOLD, str(folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2]) as process:
        assert process.stdout
        name = process.stdout.readline().strip()
        Blobs(folder).open()
        assert [one.name for one in (folder / "incoming").iterdir()] == [name]
        process.kill()
    Blobs(folder).open()
    assert list((folder / "incoming").iterdir()) == []


async def test_a_file_left_by_a_crash_disturbs_nobody(folder_blobs: Blobs, tmp_path: Path) -> None:
    """The same document handed in again after a power cut is kept as if nothing had been."""
    (tmp_path / "blobs" / "incoming" / "half").write_bytes(b"first h")
    blob = await folder_blobs.put_bytes(b"first half")
    assert await content(folder_blobs, blob.sha256) == b"first half"


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
    assert list((tmp_path / "blobs" / "incoming").iterdir()) == []


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
        await blobs.put(stream([os.urandom(CHUNK)] * 8), largest=8 * MB)
    assert list((tiny_disk / "blobs" / "incoming").iterdir()) == []
    assert (await blobs.put_bytes(b"fits")).size == 4
