"""One folder of a lot, examined file by file: is it what the manifest says, and may it come in?"""

import os
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from fhir_server.scans.codes import DatamatrixIns, parse_datamatrix_ins
from fhir_server.scans.inspection import Inspection, inspect, prepare_process
from fhir_server.scans.manifest import ListedDocument, ListedFolder
from fhir_server.scans.unpack import Problem, check_folder

LINEAR = frozenset({"code128", "code39"})


@dataclass(frozen=True, slots=True)
class Terms:
    """What the agreement with the provider asks of a file."""

    minimum_dpi: int
    read_codes_on: Literal["first", "every"]
    require_pdfa: bool


@dataclass(frozen=True, slots=True)
class Examination:
    """What was found in a folder: `problems` reject it, `remarks` are for a person to know.

    `barcodes` and `datamatrices` are what the pages say of their owner.
    """

    barcode: str
    problems: tuple[Problem, ...]
    remarks: tuple[Problem, ...]
    barcodes: tuple[str, ...]
    datamatrices: tuple[DatamatrixIns, ...]


def examine(root: Path, folder: ListedFolder, terms: Terms) -> Examination:
    """Check one folder against the manifest and look into each of its files. Never raises for what is delivered."""
    problems = list(check_folder(root, folder))
    if problems:
        return Examination(folder.barcode, tuple(problems), (), (), ())
    remarks: list[Problem] = []
    barcodes: dict[str, None] = {}
    datamatrices: dict[DatamatrixIns, None] = {}
    for document in folder.documents:
        inspection = inspect(
            root / document.file.path,
            minimum_dpi=terms.minimum_dpi,
            read_codes_on=terms.read_codes_on,
            require_pdfa=terms.require_pdfa,
        )
        for problem, fatal in _compare(document, inspection):
            (problems if fatal else remarks).append(problem)
        for code in inspection.codes:
            if code.symbology in LINEAR:
                barcodes[code.text.strip()] = None
            elif code.symbology == "datamatrix":
                try:
                    if traits := parse_datamatrix_ins(code.text):
                        datamatrices[traits] = None
                except ValueError as error:
                    remarks.append(Problem("E08", document.file.path, f"page {code.page}: {error}"))
    return Examination(folder.barcode, tuple(problems), tuple(remarks), tuple(barcodes), tuple(datamatrices))


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
