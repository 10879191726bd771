"""The index of a scan lot: index.csv, one line per document, as the provider keyed or read it.

docs/scan_lot.md lists the columns. The traits are those of the RNIV (référentiel national d'identitovigilance); they
are what the scan says, unverified: identity is decided elsewhere.
"""

import codecs
import csv
import io
import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import date
from typing import Literal

Sex = Literal["male", "female"]

COLUMNS = (
    "dossier",
    "document",
    "nom_naissance",
    "nom_utilise",
    "prenoms",
    "date_naissance",
    "sexe",
    "matricule_ins",
    "oid_ins",
    "numero_travailleur",
    "siret_employeur",
    "centre",
    "type",
    "date",
    "pages",
)
"""The columns of index.csv in the order in which we write them; a reader accepts any order."""

REQUIRED = ("dossier", "document", "nom_naissance", "prenoms", "date_naissance")

EARLIEST_YEAR, LATEST_YEAR = 1850, 2100
"""Years outside are misread digits, and what tells JJMMAAAA from AAAAMMJJ."""


@dataclass(frozen=True, slots=True)
class IndexLine:
    """One document according to the index; None where the column is empty, absent or reported as a problem.

    Dates are FHIR dates (year, year-month or full). `matricule_ins` has 15 characters without spaces, its key not
    verified. `oid_ins` is the bare OID of the INS (NIR or NIA). `kind` is a code of the DMST nomenclature.
    """

    folder: str
    document_id: str
    birth_name: str | None
    used_name: str | None
    given_names: tuple[str, ...]
    birth_date: str | None
    sex: Sex | None
    matricule_ins: str | None
    oid_ins: str | None
    worker_number: str | None
    employer_siret: str | None
    centre: str | None
    kind: str | None
    dated: str | None
    pages: int | None


@dataclass(frozen=True, slots=True)
class LineProblem:
    """Something wrong at a line (from 1, the header) and a column of the index; never repeats the value."""

    line: int
    column: str | None
    detail: str


def read(raw: bytes) -> tuple[list[IndexLine], list[LineProblem]]:
    """Read the bytes of index.csv: the lines that can be used, and every problem met.

    UTF-8 with or without a mark, UTF-16 with one, else Windows-1252; separated by `;`, `,` or a tab. A line whose
    number of cells is wrong is left out whole, for its traits could be another person's; a cell that cannot be read
    is None and the line is kept. Never raises.
    """
    text = _decoded(raw)
    if text is None:
        return [], [LineProblem(1, None, "the file is neither UTF-8 nor Windows-1252")]
    lines: list[IndexLine] = []
    problems: list[LineProblem] = []
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=_delimiter(text), strict=True)
    rows = ((reader.line_num, row) for row in reader)
    try:
        header = _header(next(rows, (1, []))[1], problems)
        if header is not None:
            _read_rows(rows, header, lines, problems)
    except csv.Error:
        problems.append(
            LineProblem(reader.line_num, None, "the quoting is broken: this line and the next ones are not read")
        )
    return lines, problems


def _read_rows(
    rows: Iterable[tuple[int, list[str]]],
    header: list[str],
    lines: list[IndexLine],
    problems: list[LineProblem],
) -> None:
    seen: set[tuple[str, str]] = set()
    for number, row in rows:
        if not any(cell.strip() for cell in row):
            continue
        if len(row) != len(header):
            problems.append(LineProblem(number, None, "the line has not as many cells as the header"))
            continue
        line = _line(_Cells(number, dict(zip(header, row, strict=True)), problems))
        if line is None:
            continue
        if (line.folder, line.document_id) in seen:
            problems.append(LineProblem(number, "document", "the document has a line already"))
            continue
        seen.add((line.folder, line.document_id))
        lines.append(line)


# CP850 and MacRoman read as Windows-1252: é is `‚` or `Ž`, ç is `‡`, ô is `“`. None of these is in a French index;
# the letters and quotes among them (`Želko`, `“`) only where no word has them.
OTHER_CHARSET = re.compile("[‚ƒ„†‡ˆ‰‹›•˜™¡¢£¤¥¦©¬®¯±²³¶¸¹¼½¾¿]|[…“”][a-zà-ÿ]|[a-zà-ÿ][…“”ŠŽŒ][a-zà-ÿ]|[a-zà-ÿ][ŠŽ]")


def _decoded(raw: bytes) -> str | None:
    if raw.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return _decoded_as(raw, "utf-16")
    text = _decoded_as(raw, "utf-8-sig")
    if text is None:
        text = _decoded_as(raw, "cp1252")
        # One such letter shows that every other accent of the file is a wrong one, even where it does not show.
        if text is not None and OTHER_CHARSET.search(text):
            return None
    return text


def _decoded_as(raw: bytes, charset: str) -> str | None:
    try:
        return raw.decode(charset)
    except UnicodeDecodeError:
        return None


def _delimiter(text: str) -> str:
    header = text.partition("\n")[0]
    return max(";,\t", key=header.count)


def _header(row: list[str], problems: list[LineProblem]) -> list[str] | None:
    names = [_plain(cell) for cell in row]
    # A header may be missing and this row a person's: unknown columns are named by position only.
    for position, name in enumerate(names, 1):
        if name not in COLUMNS:
            problems.append(LineProblem(1, None, f"column {position} is unknown and not read"))
        elif name in names[: position - 1]:
            problems.append(LineProblem(1, name, "the column is there twice"))
            return None
    missing = [name for name in REQUIRED if name not in names]
    problems.extend(LineProblem(1, name, "the column is missing") for name in missing)
    return None if {"dossier", "document"} & set(missing) else names


def _plain(title: str) -> str:
    letters = unicodedata.normalize("NFKD", title.strip().casefold())
    return re.sub(r"[\s_-]+", "_", "".join(letter for letter in letters if not unicodedata.combining(letter)))


@dataclass(frozen=True, slots=True)
class _Cells:
    line: int
    values: dict[str, str]
    problems: list[LineProblem]

    def text(self, column: str) -> str | None:
        """The trimmed text of a cell in NFC, None where empty or unreadable."""
        value = unicodedata.normalize("NFC", " ".join(self.values.get(column, "").split()))
        reason = _garbled(value)
        if reason:
            self.report(column, reason)
            return None
        return value or None

    def read(self, column: str, reader: Callable[[str], str | None], detail: str) -> str | None:
        """The cell as the reader gives it; reports `detail` where the reader gives None for a text."""
        text = self.text(column)
        value = reader(text) if text else None
        if text and value is None:
            self.report(column, detail)
        return value

    def report(self, column: str, detail: str) -> None:
        self.problems.append(LineProblem(self.line, column, detail))


def _line(cells: _Cells) -> IndexLine | None:
    folder, document_id = cells.text("dossier"), cells.text("document")
    if folder is None or document_id is None:
        cells.report("dossier" if folder is None else "document", "the line does not say which document it is")
        return None
    pages = cells.read("pages", _whole_number, "the value is not a number of pages")
    return IndexLine(
        folder=folder,
        document_id=document_id,
        birth_name=cells.text("nom_naissance"),
        used_name=cells.text("nom_utilise"),
        given_names=tuple(_given_names(cells.text("prenoms") or "")),
        birth_date=cells.read("date_naissance", partial_date, "the value is not a date"),
        sex=_sex(cells),
        matricule_ins=cells.read("matricule_ins", _matricule, "the value is not 15 characters of an INS"),
        oid_ins=cells.read("oid_ins", _oid, "the value is not an OID"),
        worker_number=cells.text("numero_travailleur"),
        employer_siret=cells.read("siret_employeur", _siret, "the value is not 14 digits"),
        centre=cells.text("centre"),
        kind=cells.text("type"),
        dated=cells.read("date", partial_date, "the value is not a date"),
        pages=int(pages) if pages else None,
    )


def _garbled(text: str) -> str | None:
    """Why a text is not what was typed, where that shows."""
    if "\ufffd" in text or any(unicodedata.category(character) == "Cc" for character in text):
        return "the value holds a character that cannot be read"
    if not text.isascii():
        try:
            _ = text.encode("cp1252").decode("utf-8")
        except UnicodeError:
            return None
        return "the value was encoded twice (UTF-8 taken for Windows-1252)"
    return None


def _given_names(text: str) -> Iterator[str]:
    # The INS separates given names by spaces and joins a compound one by a hyphen; commas allow `Marie Anne, Louise`.
    for name in text.split(",") if "," in text else text.split():
        if name.strip():
            yield name.strip()


PARTIAL_DATES = tuple(
    re.compile(pattern)
    for pattern in (
        r"(?P<y>\d{4})-(?P<m>\d{2})-(?P<d>\d{2})",
        r"(?P<d>\d{1,2})[/.-](?P<m>\d{1,2})[/.-](?P<y>\d{4})",
        r"(?P<d>\d{2})(?P<m>\d{2})(?P<y>\d{4})",
        r"(?P<y>\d{4})(?P<m>\d{2})(?P<d>\d{2})",
        r"(?P<y>\d{4})-(?P<m>\d{2})",
        r"(?P<m>\d{1,2})[/.-](?P<y>\d{4})",
        r"(?P<y>\d{4})",
    )
)


def partial_date(text: str) -> str | None:
    """A FHIR date from JJ/MM/AAAA, AAAA-MM-JJ, JJMMAAAA, MM/AAAA or AAAA; None where it is no date.

    A day or a month of zeros is unknown (00/00/1950 is 1950), as civil registers write it.
    """
    for pattern in PARTIAL_DATES:
        found = pattern.fullmatch(text)
        if found is None:
            continue
        parts = found.groupdict()
        year, month, day = (int(parts.get(part) or 0) for part in "ymd")
        if not EARLIEST_YEAR <= year <= LATEST_YEAR or (day and not month):
            continue
        try:
            full = date(year, month or 1, day or 1).isoformat()
        except ValueError:
            continue
        return full[: 10 if day else 7 if month else 4]
    return None


SEXES: dict[str, Sex | None] = {
    "m": "male",
    "h": "male",
    "1": "male",
    "masculin": "male",
    "homme": "male",
    "f": "female",
    "2": "female",
    "féminin": "female",
    "feminin": "female",
    "femme": "female",
    "i": None,
    "indéterminé": None,
    "indetermine": None,
}


def _sex(cells: _Cells) -> Sex | None:
    text = cells.text("sexe")
    if text is not None and text.casefold() not in SEXES:
        cells.report("sexe", "the value is not M, F or I")
    return SEXES.get(text.casefold()) if text else None


def _matricule(text: str) -> str | None:
    bare = re.sub(r"[\s.\u00a0\u202f-]", "", text).upper()
    return bare if re.fullmatch(r"\d{5}(\d\d|2[AB])\d{8}", bare, re.ASCII) else None


def _oid(text: str) -> str | None:
    bare = text.removeprefix("urn:oid:")
    return bare if re.fullmatch(r"[0-2](\.(0|[1-9]\d*))+", bare, re.ASCII) else None


def _siret(text: str) -> str | None:
    bare = re.sub(r"[\s\u00a0\u202f]", "", text)
    return bare if re.fullmatch(r"\d{14}", bare, re.ASCII) else None


def _whole_number(text: str) -> str | None:
    return text if re.fullmatch(r"[1-9]\d{0,5}", text, re.ASCII) else None
