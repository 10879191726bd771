"""One document into a drop folder: PDF first, index next, sentinel last, each under a temporary name until it is whole.

Told twice: the names come from the delivery, so a second attempt overwrites what the first left, and adds nothing
once the sentinel is there. The software may have taken the files away meanwhile: so before the sentinel goes out a mark
is made here, and where there is a mark and the document is gone, it was taken.
"""

import asyncio
import os
import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from adapters.codecs.index_file import IndexFormat
from adapters.depot.place import NotTaken, Place
from adapters.depot.template import file_stem, filled
from fhir_server.ports import Answer, Envelope, HandedOver, Refused, TryLater
from mappings.drop_index import of_sending, values_of

EXTENSIONS: Final = {"application/pdf": "pdf", "image/jpeg": "jpg", "image/png": "png", "image/tiff": "tif"}
MARKS_KEPT_DAYS: Final = 30


@dataclass(frozen=True, slots=True)
class Layout:
    """How files are named and what is in the index: `fields` from the name over there to a template of ours."""

    name: str
    sentinel: str
    index: IndexFormat
    fields: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class _Names:
    document: str
    index: str
    sentinel: str


class Depot:
    """Sends to one place. `marks` is a folder of ours."""

    def __init__(self, place: Place, layout: Layout, marks: Path) -> None:
        self._place = place
        self._layout = layout
        self._marks = marks
        self._swept = False

    async def send(self, envelope: Envelope) -> Answer:
        extension = EXTENSIONS.get(envelope.content.media_type)
        if extension is None:
            return Refused("media-type", "A drop folder takes PDF and images")
        try:
            names, index = self._prepared(envelope, extension)
        except ValueError:  # the text of the error may quote the value
            return Refused("not-writable", "A value does not fit into the index, its encoding or the file name")
        try:
            if not await self._is_there(envelope, names):
                await self._place.put(names.document, envelope.content.chunks(), envelope.content.size)
                await self._place.put(names.index, _once(index), len(index))
                await asyncio.to_thread(self._make_mark, envelope)
                await self._place.put(names.sentinel, _once(b""), 0)
        except NotTaken as no:
            return no.answer
        except OSError as error:
            return TryLater("mark", f"The mark of a deposit could not be kept ({type(error).__name__})")
        return HandedOver(names.document)

    async def close(self) -> None:
        await self._place.close()

    def _prepared(self, envelope: Envelope, extension: str) -> tuple[_Names, bytes]:
        """The names, and the bytes of the index. Raises ValueError."""
        content = envelope.content
        values = values_of(envelope.document_reference, envelope.patient, envelope.related) | of_sending(
            envelope.delivery_id,
            envelope.recipient,
            envelope.created_at,
            media_type=content.media_type,
            size=content.size,
            sha256=content.sha256,
        )
        stem = file_stem(self._layout.name, values | {"file_name": ""})
        layout = self._layout
        names = _Names(f"{stem}.{extension}", f"{stem}.{layout.index.name}", f"{stem}.{layout.sentinel}")
        values["file_name"] = names.document
        return names, layout.index.write({there: filled(ours, values) for there, ours in layout.fields.items()})

    async def _is_there(self, envelope: Envelope, names: _Names) -> bool:
        """Did an earlier attempt get to its end?"""
        if await self._place.holds(names.sentinel):
            return True
        marked = await asyncio.to_thread(self._mark(envelope).exists)
        return marked and not await self._place.holds(names.document)

    def _mark(self, envelope: Envelope) -> Path:
        return self._marks / envelope.recipient / envelope.delivery_id

    def _make_mark(self, envelope: Envelope) -> None:
        mark = self._mark(envelope)
        mark.parent.mkdir(parents=True, exist_ok=True)
        if not self._swept:
            self._swept = True
            _forget_old(mark.parent)
        descriptor = os.open(mark, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _forget_old(folder: Path) -> None:
    """Marks of deliveries that were settled long ago: no attempt waits for more than hours."""
    before = time.time() - MARKS_KEPT_DAYS * 86_400
    for mark in folder.iterdir():
        if mark.lstat().st_mtime < before:
            mark.unlink(missing_ok=True)


async def _once(content: bytes) -> AsyncIterator[bytes]:
    yield content
