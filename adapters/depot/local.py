"""A folder of this machine, or one that is mounted here."""

import asyncio
import errno
import os
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Final, TypeVar

from adapters.depot.place import NotTaken, partial_name, short
from fhir_server.ports import Refused, TryLater

T = TypeVar("T")

# the folder may be repaired and the document is not at fault: only a name that it cannot hold is final
_ANSWERS: Final = {
    errno.ENOSPC: ("no-space", "The drop folder has no room"),
    errno.EDQUOT: ("no-space", "The drop folder has no room"),
    errno.EFBIG: ("no-space", "The drop folder takes no file of this size"),
    errno.EACCES: ("no-permission", "The drop folder may not be written to"),
    errno.EPERM: ("no-permission", "The drop folder may not be written to"),
    errno.EROFS: ("no-permission", "The drop folder may not be written to"),
    errno.ENOENT: ("folder-absent", "The drop folder is not there"),
    errno.ENOTDIR: ("folder-absent", "The drop folder is not there"),
    errno.ESTALE: ("folder-absent", "The drop folder is not there"),
}


def answer_to(error: OSError) -> Refused | TryLater:
    """What an error of the system means. Its text holds paths and is not kept."""
    if error.errno == errno.ENAMETOOLONG:
        return Refused("name-too-long", "The drop folder cannot hold so long a file name")
    if isinstance(error, TimeoutError):
        return TryLater("timeout", "The drop folder did not answer in time")
    reason, detail = _ANSWERS.get(
        error.errno or 0, ("io", f"The drop folder failed ({errno.errorcode.get(error.errno or 0, 'unknown')})")
    )
    return TryLater(reason, detail)


class LocalFolder:
    """Writes into `folder`, which must be there: one that is missing is a disk that is not mounted, and is not made."""

    def __init__(self, folder: Path, *, timeout: float) -> None:
        self._folder = folder
        self._timeout = timeout

    async def holds(self, name: str) -> bool:
        def look() -> bool:
            self._folder.stat()
            return os.path.lexists(self._folder / name)

        return await self._step(look)

    async def put(self, name: str, chunks: AsyncIterator[bytes], size: int) -> None:
        partial = self._folder / partial_name(name)
        # a link that somebody else left in the folder is not followed
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
        descriptor = await self._step(lambda: os.open(partial, flags, 0o666))
        try:
            with os.fdopen(descriptor, "wb", buffering=0) as file:
                async for chunk in chunks:
                    await self._step(lambda whole=chunk: _write(descriptor, whole))
                await self._step(lambda: os.fsync(descriptor))
                held = os.fstat(file.fileno()).st_size
            if held != size:
                raise short(size, held)
            await self._step(lambda: self._publish(partial, name))
        except BaseException:
            _forget(partial)
            raise

    async def close(self) -> None:
        """Nothing is held open."""

    def _publish(self, partial: Path, name: str) -> None:
        """The rename, and the folder that tells of it, are on the disk before anything else is done."""
        partial.replace(self._folder / name)
        folder = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    async def _step(self, work: Callable[[], T]) -> T:
        try:
            async with asyncio.timeout(self._timeout):
                return await asyncio.to_thread(work)
        except OSError as error:  # TimeoutError is one
            raise NotTaken(answer_to(error)) from None


def _write(descriptor: int, chunk: bytes) -> None:
    left = memoryview(chunk)
    while left:
        left = left[os.write(descriptor, left) :]


def _forget(partial: Path) -> None:
    """Gives its room back; where that fails the next attempt overwrites it."""
    try:
        partial.unlink(missing_ok=True)
    except OSError:
        return
