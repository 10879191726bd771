"""The drop folder of the scanning provider: lots that are complete are handed to the intake, and answered.

docs/scan_lot.md, delivery: a lot is complete when its sentinel `<lot>.ok` is there. The answer is
`acknowledgements/<lot>.ack.json`; then the lot moves to `done/`, its sentinel goes. A crash in between leaves
the sentinel, and the lot is handed over again, which adds nothing.
"""

import asyncio
import os
import shutil
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import structlog

from fhir_server.outcomes import Failure
from fhir_server.ports import AcknowledgedLot

log = structlog.get_logger(__name__)

SENTINELS = (".ok", ".done")
NOT_LOTS = frozenset({"acknowledgements", "done"})

Receive = Callable[[Path], Awaitable[AcknowledgedLot]]


class DropFolder:
    """Watches one folder. `receive` is the intake: it answers with the acknowledgement, or raises to be asked again."""

    def __init__(self, folder: Path, receive: Receive) -> None:
        self._folder = folder
        self._receive = receive

    def prepare(self) -> None:
        """Make the folder and its two subfolders."""
        for name in ("", *NOT_LOTS):
            (self._folder / name).mkdir(parents=True, exist_ok=True)

    async def look(self) -> int:
        """Take in every lot that is complete; returns how many. A lot that cannot be taken in now holds up no other."""
        taken = 0
        for lot, sentinel in list(self._complete()):
            try:
                answer = await self._receive(lot)
                await asyncio.to_thread(self._answer, lot, sentinel, answer)
            except Failure as failure:
                log.warning("a lot waits in the drop folder", lot=lot.name, reason=failure.diagnostics)
            except Exception:  # a bug, or a folder that somebody else moves: the sentinel stays, it is asked again
                log.exception("a lot waits in the drop folder", lot=lot.name)
            else:
                taken += 1
        return taken

    def forget(self, days: int) -> int:
        """Delete the lots that were moved to `done/` more than `days` ago (blocking); returns how many."""
        before = time.time() - days * 86_400
        old = [lot for lot in (self._folder / "done").iterdir() if lot.lstat().st_ctime < before]  # of the move
        for lot in old:
            if lot.is_dir() and not lot.is_symlink():
                shutil.rmtree(lot)
            else:
                lot.unlink()
            log.info("a lot that was received is deleted from the drop folder", lot=lot.name)
        return len(old)

    def _complete(self) -> Iterator[tuple[Path, Path]]:
        for sentinel in sorted(self._folder.iterdir()):
            if sentinel.suffix not in SENTINELS or not sentinel.is_file() or sentinel.is_symlink():
                continue
            for lot in (sentinel.with_suffix(""), sentinel.with_suffix(".zip")):
                if lot.exists() and not lot.is_symlink():
                    yield lot, sentinel
                    break

    def _answer(self, lot: Path, sentinel: Path, answer: AcknowledgedLot) -> None:
        folder = self._folder / "acknowledgements"
        partial = folder / f".{answer.file_name}.partial"
        with partial.open("wb") as file:
            file.write(answer.content)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(folder / answer.file_name)
        done = self._folder / "done" / lot.name
        number = 1
        while done.exists():  # the same lot delivered again: keep both, the provider may ask
            number += 1
            done = self._folder / "done" / f"{lot.name}.{number}"
        lot.rename(done)
        sentinel.unlink()
