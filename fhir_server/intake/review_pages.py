"""Pictures of the pages of a folder that waits: its index zone, or a whole page for those who may see one.

dmst.md scenario A9, R4624-45-5 C. trav. What somebody may not see is not in the bytes that he gets: the zone is cut out
of the page here. Every picture is an access of its own, and so is every refusal.
"""

import asyncio
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from PIL import Image

from fhir_server.caller import Caller
from fhir_server.intake.document import DocumentIntake
from fhir_server.outcomes import Forbidden, NotFound
from fhir_server.r4.resource_types import TYPE_NUMBER
from fhir_server.records import audit
from fhir_server.records.read import Archive
from fhir_server.records.write import new_id
from fhir_server.scans.rendition import picture_of_page
from fhir_server.settings import Settings
from fhir_server.store.database import Database
from fhir_server.store.identity_events import OPEN, Event, IdentityEvents, in_force
from fhir_server.store.scan_lots import DocumentRow, FolderRow, ScanLots
from mappings.access_facts import WITHHELD

COVER: Final = "DMST-COUV"
WIDTH: Final = 1240
"""Pixels: A4 at 150 dpi, which a reader's screen shows and from which handwriting is read."""
DRAWN_AT_ONCE: Final = 2
MEDIA_TYPE: Final = "image/jpeg"


@dataclass(frozen=True, slots=True)
class ShownDocument:
    """A document of a folder, as who may open it is told. `withheld`: he may not, since it is non-transmissible;
    `opposed`: since it could be in the record of a worker who keeps his from this role.
    """

    number: int
    document_id: str
    kind: str | None
    dated: str | None
    pages: int
    withheld: bool
    opposed: bool = False

    @property
    def is_shown(self) -> bool:
        return not self.withheld and not self.opposed


@dataclass(frozen=True, slots=True)
class _Folder:
    row: FolderRow
    documents: tuple[DocumentRow, ...]
    kinds: dict[str, tuple[str | None, str | None]]
    flagged: frozenset[str]
    opposed: bool


class ReviewPages:
    """What persons see of the pages of folders that wait."""

    def __init__(self, *, documents: DocumentIntake, archive: Archive, database: Database, settings: Settings) -> None:
        self._documents = documents
        self._archive = archive
        self._lots = ScanLots(database)
        self._events = IdentityEvents(database)
        self._zone = settings.index_zone_parts
        self._drawing = asyncio.Semaphore(DRAWN_AT_ONCE)

    async def has_zone(self, caller: Caller, lot: str, barcode: str) -> bool:
        """Whether `zone` has something to show. Raises Forbidden, NotFound."""
        folder = await self._folder(caller, lot, barcode, "index", "cover")
        return _cover(folder) is not None

    async def zone(self, caller: Caller, lot: str, barcode: str) -> bytes:
        """The index zone of the cover page as a JPEG, and nothing else of that page.

        Raises Forbidden; NotFound where the folder does not wait (any more) or has no cover page.
        """
        folder = await self._folder(caller, lot, barcode, "index", "zone")
        cover = _cover(folder)
        if cover is None:
            raise NotFound("This folder has no cover page")
        await self._trace(caller, folder.row, f"review=zone&document={folder.documents.index(cover) + 1}&page=1")
        return await self._drawn(cover, 0, self._zone)

    async def listed(self, caller: Caller, lot: str, barcode: str) -> tuple[ShownDocument, ...]:
        """The documents of the folder, for those who see its pages. Raises Forbidden, NotFound."""
        folder = await self._folder(caller, lot, barcode, "whole", "documents")
        return tuple(
            ShownDocument(
                number,
                row.document_id,
                *folder.kinds[row.document_id],
                row.pages,
                _is_withheld(caller, folder, row),
                folder.opposed,
            )
            for number, row in enumerate(folder.documents, 1)
        )

    async def page(self, caller: Caller, lot: str, barcode: str, document: int, page: int) -> bytes:
        """A whole page as a JPEG, for those who see pages; `document` and `page` count from 1.

        Raises Forbidden (also for what is non-transmissible: only the médecin du travail sees that; and where one of
        the workers whose it could be opposes that this role sees his record, R4624-45-6), NotFound.
        """
        asked = f"page&document={document}&page={page}"
        folder = await self._folder(caller, lot, barcode, "whole", asked)
        if not 1 <= document <= len(folder.documents) or not 1 <= page <= folder.documents[document - 1].pages:
            raise NotFound("There is no such page in this folder")
        row = folder.documents[document - 1]
        if _is_withheld(caller, folder, row):
            await self._trace(caller, folder.row, f"review={asked}", outcome=audit.REFUSED)
            raise Forbidden("This document is non-transmissible (R4127-45)")
        if folder.opposed:
            await self._trace(caller, folder.row, f"review={asked}", outcome=audit.REFUSED)
            raise Forbidden("This role does not see the pages of this folder (R4624-45-6)")
        await self._trace(caller, folder.row, f"review={asked}")
        return await self._drawn(row, page - 1, None)

    async def _folder(self, caller: Caller, lot: str, barcode: str, sees: str, asked: str) -> _Folder:
        """The folder, where the role allows to look so far. Raises Forbidden, which is traced, and NotFound."""
        row = await self._lots.folder(lot, barcode)
        if caller.review not in {"whole", sees}:
            await self._trace(caller, row, f"review={asked}", outcome=audit.REFUSED)
            raise Forbidden("This role does not see the pages of folders that wait (R4624-45-5)")
        if row is None or row.state not in OPEN:
            raise NotFound("This folder does not wait for a decision")
        _, listed = await self._documents.again(lot, barcode)
        kinds = {one.document_id: (one.kind, one.dated) for one in listed.documents}
        rows = await self._lots.documents(lot, barcode)
        events = await self._events.of_folder(lot, barcode)
        marked = in_force(events, "non-transmissible")
        flagged = frozenset(name for event in marked for name in event.explanation.get("documents", {}))
        opposed = sees == "whole" and await self._is_opposed(caller, row, events)
        return _Folder(row, tuple(rows), kinds, flagged, opposed)

    async def _is_opposed(self, caller: Caller, folder: FolderRow, events: Sequence[Event]) -> bool:
        """Whether a worker whose folder it could be keeps his record from this role. As long as nobody else has said
        that it is not his, its pages count as his; who he is is no secret (R4624-45-6), so the index zone is shown.
        """
        rights = caller.sight("r").rights
        if not rights:
            return False
        possible = {str(one["patient"]) for one in (folder.evidence or {}).get("candidates", ())}
        possible |= {event.patient_id for event in in_force(events, "second-opinion-asked") if event.patient_id}
        dismissed = in_force(events, "not-this-worker")
        possible -= {event.patient_id for event in dismissed if event.patient_id and event.decided_by != caller.person}
        rows = await self._archive.resources.read_many([(TYPE_NUMBER["Patient"], one) for one in sorted(possible)])
        return any(right in row.held for row in rows for right in rights)

    async def _drawn(self, row: DocumentRow, index: int, zone: tuple[float, float, float, float] | None) -> bytes:
        async with self._drawing:
            return await asyncio.to_thread(self._draw, row.sha256, index, zone)

    def _draw(self, sha256: bytes, index: int, zone: tuple[float, float, float, float] | None) -> bytes:
        with self._archive.blobs.as_file(sha256) as path:
            picture = picture_of_page(path, index, width=WIDTH)
        return as_jpeg(cut(picture, zone) if zone else picture)

    async def _trace(
        self, caller: Caller, folder: FolderRow | None, query: str, *, outcome: int = audit.SUCCESS
    ) -> None:
        row = audit.access(
            caller,
            "read",
            new_id(),
            outcome=outcome,
            resource_type="List",
            resource_id=folder.list_id if folder else None,
            query=query,
        )
        await self._archive.accesses.append(row)


def cut(picture: Image.Image, zone: tuple[float, float, float, float]) -> Image.Image:
    """What lies in the zone, in a picture of its own that holds nothing else and none of what the file said."""
    left, top, right, bottom = zone
    across, down = picture.size
    box = (round(left * across), round(top * down), round(right * across), round(bottom * down))
    alone = Image.new(picture.mode, (max(1, box[2] - box[0]), max(1, box[3] - box[1])))
    alone.paste(picture.crop(box))
    return alone


def as_jpeg(picture: Image.Image) -> bytes:
    """What is sent: pixels, and nothing that the scan said beside them."""
    told = io.BytesIO()
    picture.convert("L" if picture.mode in ("1", "L") else "RGB").save(told, "JPEG", quality=82)
    return told.getvalue()


def _cover(folder: _Folder) -> DocumentRow | None:
    """The cover sheet, where the manifest lists one and it is not non-transmissible."""
    return next(
        (
            row
            for row in folder.documents
            if folder.kinds[row.document_id][0] == COVER and row.document_id not in folder.flagged
        ),
        None,
    )


def _is_withheld(caller: Caller, folder: _Folder, row: DocumentRow) -> bool:
    hidden = caller.sight().hidden & WITHHELD["non-transmissible"]
    return row.document_id in folder.flagged and bool(hidden)
