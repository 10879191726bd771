"""The shortest adapter: keeps what it is sent in a folder. For tests, the demonstration, and as an example.

A file per document, named by its delivery: told twice, it holds it once. Options make it behave like a party
that has bad days: `refuse` (a reason), `fail_first` (how many attempts it puts off), `slow` (seconds that it
takes to answer once it holds the document).
"""

import asyncio
import json
import os
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fhir_server.ports import Answer, Envelope, HandedOver, Refused, TryLater


class Loopback:
    """Writes `<delivery>.json` (the DocumentReference) and `<delivery>.bin` (the bytes) into `folder`."""

    def __init__(self, folder: Path, *, refuse: str | None = None, fail_first: int = 0, slow: float = 0) -> None:
        self._folder = folder
        self._refuse = refuse
        self._fail_first = fail_first
        self._slow = slow
        self._attempts: Counter[str] = Counter()

    async def send(self, envelope: Envelope) -> Answer:
        self._attempts[envelope.delivery_id] += 1
        if self._refuse:
            return Refused(self._refuse, "The loopback recipient was told to refuse")
        if self._attempts[envelope.delivery_id] <= self._fail_first:
            return TryLater("busy", "The loopback recipient was told to wait")
        folder = self._folder / envelope.recipient
        await asyncio.to_thread(folder.mkdir, parents=True, exist_ok=True)
        partial = folder / f"{envelope.delivery_id}.partial"
        with partial.open("wb") as file:
            async for chunk in envelope.content.chunks():
                await asyncio.to_thread(file.write, chunk)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(folder / f"{envelope.delivery_id}.bin")
        described = json.dumps(envelope.document_reference, ensure_ascii=False, indent=1)
        (folder / f"{envelope.delivery_id}.json").write_text(described, encoding="utf-8")
        await asyncio.sleep(self._slow)
        return HandedOver(envelope.delivery_id)

    async def close(self) -> None:
        """Nothing is held open."""


def make(options: Mapping[str, Any], data: Path) -> Loopback:
    """Options: `folder` (under the data folder when not given), `refuse`, `fail_first`, `slow`."""
    return Loopback(
        Path(options.get("folder", data / "loopback")),
        refuse=options.get("refuse"),
        fail_first=int(options.get("fail_first", 0)),
        slow=float(options.get("slow", 0)),
    )
