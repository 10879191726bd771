"""Where files are put: what a place must do, and the one exception that its answers travel in."""

from collections.abc import AsyncIterator
from typing import Protocol

from fhir_server.ports import Refused, TryLater


class NotTaken(Exception):
    """The place did not take a file; `answer` says whether it may another time."""

    def __init__(self, answer: Refused | TryLater) -> None:
        super().__init__(answer.detail)
        self.answer = answer


class Place(Protocol):
    """A folder, here or far. Everything raises NotTaken, and nothing else but a bug or what `chunks` raises."""

    async def holds(self, name: str) -> bool:
        """Is there a file of this name?"""
        ...

    async def put(self, name: str, chunks: AsyncIterator[bytes], size: int) -> None:
        """A file of exactly `size` bytes: under a temporary name until it is whole, then over what was there."""
        ...

    async def close(self) -> None:
        """Let go of connections."""
        ...


def partial_name(name: str) -> str:
    """The same at every attempt, so that the next one overwrites what a cut left; hidden, and no watcher's `*.pdf`."""
    return f".{name}.part"


def short(size: int, held: int | None) -> NotTaken:
    """What arrived is not what was sent."""
    return NotTaken(TryLater("short-write", f"The folder holds {held} of {size} bytes"))
