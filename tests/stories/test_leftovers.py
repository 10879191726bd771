"""What a full disk, a killed process and the years leave behind: nothing is lost, and nothing stays for ever."""

import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from adapters.scanner.drop_folder import DropFolder
from fhir_server.app import Parts
from fhir_server.intake import scan_lot
from fhir_server.outcomes import StorageFull
from fhir_server.ports import AcknowledgedLot
from fhir_server.settings import Settings
from tests.stories.support import CERTAIN, Provider, count, running_service


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 200 kB, where we may mount one."""
    folder = tmp_path / "small"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=200k", "tmpfs", str(folder)]
    if subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("this user may not mount a tmpfs")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


async def test_a_lot_that_met_a_full_disk_comes_in_when_there_is_room(
    world: Settings, provider: Provider, small_disk: Path
) -> None:
    """StorageFull and no folder in part; given again with room, every folder is as if nothing had been."""
    lot = provider.lot(*CERTAIN)
    async with running_service(world.model_copy(update={"blobs": str(small_disk / "blobs")})) as service:
        with pytest.raises(StorageFull):
            await service.lots.receive(lot)
        settled = await count(service, "scan_folder where state = 'accepted'")
        assert settled < len(CERTAIN)
        assert list((small_disk / "blobs" / "incoming").iterdir()) == []
        subprocess.run(["mount", "-o", "remount,size=64m", str(small_disk)], check=True)
        answer = await service.lots.receive(lot)
        assert [folder.state for folder in answer.folders] == ["accepted"] * len(CERTAIN)
        assert await count(service, "resource_history") == 0, "nothing was written twice"


async def test_what_a_killed_intake_had_unpacked_is_removed(service: Parts) -> None:
    """Not what another process reads at this moment."""
    unpacked = service.settings.data / "unpacked"
    for name in ("LOT_DEAD", "LOT_READ"):
        (unpacked / name).mkdir(parents=True)
        (unpacked / name / "manifest.json").write_bytes(b"{}")
    async with scan_lot.ScanLots(service.database).held("LOT_READ"):
        assert await service.lots.forget_abandoned() == 1
        assert [left.name for left in unpacked.iterdir()] == ["LOT_READ"]
    assert await service.lots.forget_abandoned() == 1
    assert list(unpacked.iterdir()) == []


async def test_received_lots_are_kept_as_long_as_the_operator_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Counted from the day on which they were received, not from that of their files; both forms of a lot."""

    async def receive(lot: Path) -> AcknowledgedLot:
        return AcknowledgedLot(f"{lot.name}.ack.json", b"{}")

    folder = DropFolder(tmp_path, receive)
    folder.prepare()
    (tmp_path / "LOT_1").mkdir()
    (tmp_path / "LOT_1" / "manifest.json").write_bytes(b"{}")
    (tmp_path / "LOT_2.zip").write_bytes(b"PK")
    for name in ("LOT_1", "LOT_2"):
        (tmp_path / f"{name}.ok").touch()
    os.utime(tmp_path / "LOT_2.zip", (1, 1))
    assert await folder.look() == 2
    assert folder.forget(30) == 0
    later = time.time() + 31 * 86_400
    monkeypatch.setattr(time, "time", lambda: later)
    assert (folder.forget(32), folder.forget(30)) == (0, 2)
    assert list((tmp_path / "done").iterdir()) == []
    assert len(list((tmp_path / "acknowledgements").iterdir())) == 2
