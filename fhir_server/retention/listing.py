"""The list of due documents as a file, as people print it, sort it, strike lines out of it and give it back."""

import csv
import hashlib
import io
import re
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import date
from pathlib import Path
from typing import Any, Final

import orjson

from fhir_server.outcomes import BadParameter, BadSyntax
from fhir_server.retention.due import Due
from fhir_server.store.retention import Line

COLUMNS: Final = ("patient", "document", "version", "until", "reasons")
WIDTHS: Final = (38, 38, 8, 11, 0)
FORMATS: Final = ("table", "csv", "json")
_ID: Final = re.compile(r"[A-Za-z0-9.-]{1,64}")


async def lines(due: AsyncIterator[Due], form: str) -> AsyncIterator[str]:
    """The list, line by line, in one of `FORMATS`. Raises BadParameter for another."""
    if form not in FORMATS:
        raise BadParameter(f"A list is one of: {', '.join(FORMATS)}")
    number = 0
    if form != "json":
        yield _FORMS[form](dict(zip(COLUMNS, COLUMNS, strict=True)) | {"reasons": ["reasons"]})
    async for one in due:
        number += 1
        row = one.as_row()
        yield _FORMS[form](row) if form != "json" else f"{'[' if number == 1 else ','}{orjson.dumps(row).decode()}"
    if form == "json":
        yield "]" if number else "[]"


def _as_csv(row: dict[str, Any]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="").writerow([*(row[name] for name in COLUMNS[:-1]), "; ".join(row["reasons"])])
    return text.getvalue()


def _as_table(row: dict[str, Any]) -> str:
    cells = [*(str(row[name]) for name in COLUMNS[:-1]), "; ".join(row["reasons"])]
    return " ".join(cell.ljust(width) for cell, width in zip(cells, WIDTHS, strict=True)).rstrip()


_FORMS: Final[dict[str, Callable[[dict[str, Any]], str]]] = {"csv": _as_csv, "table": _as_table}


def read(file: Path) -> Iterator[Line]:
    """The documents of a list that was written as CSV or JSON, line by line. Raises BadSyntax naming the line."""
    with file.open(encoding="utf-8-sig", newline="") as text:
        is_json = text.read(1) == "["
        text.seek(0)
        for number, row in _json_rows(text) if is_json else _csv_rows(text):
            yield _line(number, row)


def _csv_rows(text: Iterator[str]) -> Iterator[tuple[int, Any]]:
    rows = csv.DictReader(text)
    if not set(COLUMNS[:-1]) <= set(rows.fieldnames or ()):
        raise BadSyntax("This is no list of documents: make one with `retention due --format csv` or json")
    yield from enumerate(rows, 2)


def _json_rows(text: Iterator[str]) -> Iterator[tuple[int, Any]]:
    """One row per line, as it was written: however long the list, a line is all that is in memory."""
    for number, line in enumerate(text, 1):
        if row := line.strip().strip("[],").strip():
            try:
                yield number, orjson.loads(row)
            except orjson.JSONDecodeError:
                raise BadSyntax(f"Line {number} of the list is no document: one object to a line") from None


def _line(number: int, row: Any) -> Line:
    try:
        made = Line(str(row["document"]), int(row["version"]), str(row["patient"]), date.fromisoformat(row["until"]))
    except (KeyError, TypeError, ValueError):
        raise BadSyntax(f"Line {number} of the list is no document") from None
    if not _ID.fullmatch(made.document) or not _ID.fullmatch(made.patient) or not 0 < made.version < 1 << 31:
        raise BadSyntax(f"Line {number} of the list is no document")
    return made


def identity(file: Path) -> tuple[str, int]:
    """What a list is known by, whichever format and whoever gives it back, and how many documents are on it."""
    digest, number = hashlib.sha256(), 0
    for line in read(file):
        digest.update(f"{line.document}|{line.version}|{line.patient}|{line.until}\n".encode())
        number += 1
    return digest.hexdigest(), number
