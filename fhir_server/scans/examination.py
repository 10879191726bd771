"""One folder of a lot, examined file by file: is it what the manifest says, and may it come in?"""

import os
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from fhir_server.outcomes import BusinessRule
from fhir_server.scans import ocr
from fhir_server.scans.codes import DatamatrixIns, PageCode, parse_datamatrix_ins, read_codes
from fhir_server.scans.cover import CoverReading, read_cover
from fhir_server.scans.inspection import Inspection, inspect, prepare_process
from fhir_server.scans.manifest import ListedDocument, ListedFolder
from fhir_server.scans.rendition import first_page
from fhir_server.scans.unpack import Problem, check_folder

LINEAR = frozenset({"code128", "code39"})


@dataclass(frozen=True, slots=True)
class Terms:
    """What the agreement with the provider asks of a file, and how far its content is read.

    `cover_reader` is the program that reads the words of the cover's index zone; without it none are read.
    """

    minimum_dpi: int
    read_codes_on: Literal["first", "every"]
    require_pdfa: bool
    cover_reader: Path | None = None
    cover_seconds: float = 10.0


@dataclass(frozen=True, slots=True)
class Examination:
    """What was found in a folder: `problems` reject it, `remarks` are for a person to know.

    `barcodes` and `datamatrices` are what the pages say of their owner; `reading` is what the words of the cover state,
    None where they were not read, and then perhaps `unread` tells why it failed.
    """

    barcode: str
    problems: tuple[Problem, ...]
    remarks: tuple[Problem, ...]
    barcodes: tuple[str, ...]
    datamatrices: tuple[DatamatrixIns, ...]
    reading: CoverReading | None = None
    unread: str | None = None


def examine(root: Path, folder: ListedFolder, terms: Terms) -> Examination:
    """Check one folder against the manifest and look into each of its files. Never raises for what is delivered."""
    problems = list(check_folder(root, folder))
    if problems:
        return Examination(folder.barcode, tuple(problems), (), (), ())
    remarks: list[Problem] = []
    barcodes: dict[str, None] = {}
    datamatrices: dict[DatamatrixIns, None] = {}
    legible = False
    for position, document in enumerate(folder.documents):
        path = root / document.file.path
        inspection = inspect(
            path,
            minimum_dpi=terms.minimum_dpi,
            read_codes_on=terms.read_codes_on,
            require_pdfa=terms.require_pdfa,
        )
        for problem, fatal in _compare(document, inspection):
            (problems if fatal else remarks).append(problem)
        codes = inspection.codes
        if position == 0 and not any(code.page == 1 for code in codes) and _is_drawable(inspection):
            codes = (*_codes_of_cover(path), *codes)
        for code in codes:
            if code.symbology in LINEAR:
                barcodes[code.text.strip()] = None
            elif code.symbology == "datamatrix":
                try:
                    if traits := parse_datamatrix_ins(code.text):
                        datamatrices[traits] = None
                except ValueError as error:
                    remarks.append(Problem("E08", document.file.path, f"page {code.page}: {error}"))
        if position == 0:
            legible = _is_drawable(inspection)
    reading, unread = None, None
    if terms.cover_reader and folder.documents and legible and not problems:
        reading, unread = _read_cover(root, folder.documents[0], terms.cover_reader, terms.cover_seconds)
    return Examination(
        folder.barcode, tuple(problems), tuple(remarks), tuple(barcodes), tuple(datamatrices), reading, unread
    )


def _is_drawable(inspection: Inspection) -> bool:
    """Whether the first page may be looked at once more: it is not blank, nor refused, nor too large."""
    return bool(inspection.pages) and not any(
        finding.page in (None, 1) and (finding.fatal or finding.code == "E07") for finding in inspection.findings
    )


def _codes_of_cover(path: Path) -> tuple[PageCode, ...]:
    """A cover on which nothing was found is looked at thoroughly, once for a folder: faded print, light on dark."""
    try:
        return read_codes(first_page(path, ocr.WIDTH, grey=True), 1, thorough=True)
    except (BusinessRule, OSError):
        return ()


def _read_cover(
    root: Path, cover: ListedDocument, program: Path, seconds: float
) -> tuple[CoverReading | None, str | None]:
    """What the words of the cover state, or why they could not be read; it never stops a folder."""
    try:
        lines = ocr.read_zone(first_page(root / cover.file.path, ocr.WIDTH, grey=True), program, seconds=seconds)
    except ocr.UnreadError as error:
        return None, str(error)
    except (BusinessRule, OSError):
        return None, "the page cannot be drawn"
    return read_cover(lines, scanned=cover.scanned_at.date()), None


def begin(owner: int) -> None:
    """At the start of a process of the pool: get ready, and end when process `owner` is gone.

    An owner that is killed (-9) can tell nobody; its inspectors would wait for work for ever.
    """
    prepare_process()

    def watch() -> None:
        while True:
            time.sleep(1)
            try:
                os.kill(owner, 0)
            except ProcessLookupError:
                os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _compare(document: ListedDocument, inspection: Inspection) -> list[tuple[Problem, bool]]:
    path = document.file.path
    found: list[tuple[Problem, bool]] = [
        (Problem(finding.code, path, _placed(finding.detail, finding.page)), finding.fatal)
        for finding in inspection.findings
    ]
    unreadable = any(finding.fatal and finding.code == "E05" for finding in inspection.findings)
    if not unreadable and inspection.media_type != document.media_type:
        found.append(
            (Problem("E05", path, f"the manifest says {document.media_type}, it is {inspection.media_type}"), True)
        )
    if not unreadable and inspection.pages != document.pages:
        found.append(
            (Problem("E04", path, f"the manifest says {document.pages} pages, there are {inspection.pages}"), True)
        )
    return found


def _placed(detail: str, page: int | None) -> str:
    return f"page {page}: {detail}" if page else detail
