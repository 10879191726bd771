"""The register of workers as the business software exports it: CSV -> `WorkerRecord`s and what is wrong with
the rest.

Columns: numero_dossier, nom_naissance, nom_utilise, prenoms, date_naissance, sexe, lieu_naissance,
matricule_ins, oid_ins, statut_identite, attributs, employeur, siret, centre, medecin, rpps, derniere_visite.
Separator `;`, `,` or tab; UTF-8, UTF-16 with its mark, or cp1252; dates JJ/MM/AAAA or ISO. Rules of identity:
RNIV, through `terminology.ins`.
"""

import csv
import io
import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from types import MappingProxyType
from typing import Final

from mappings.patient_fr_core import Sex, WorkerRecord
from terminology.ins import Status, domain_of, forbidden_attributes, has_valid_key

REQUIRED: Final = ("numero_dossier", "prenoms", "date_naissance")
COLUMNS: Final = (
    *(
        "numero_dossier",
        "nom_naissance",
        "nom_utilise",
        "prenoms",
        "date_naissance",
        "sexe",
        "lieu_naissance",
    ),
    *(
        "matricule_ins",
        "oid_ins",
        "statut_identite",
        "attributs",
        "employeur",
        "siret",
        "centre",
        "medecin",
        "rpps",
    ),
    "derniere_visite",
)
LONGEST_NAME: Final = 100
"""Of a name, or of all given names: that of the INS (Format Datamatrix v2.2, S3 and S4)."""


@dataclass(frozen=True, slots=True)
class RowProblem:
    """What is wrong in one line, in French for who sent it, never with the value itself.

    `line` counts from 1, the heading included. A `warning` kept its row, perhaps without that value;
    otherwise the row was left out.
    """

    line: int
    column: str
    reason: str
    warning: bool = False


class _Refused(Exception):
    """This value forbids its row."""

    def __init__(self, column: str, reason: str) -> None:
        super().__init__(reason)
        self.column, self.reason = column, reason


_SEXES: Final[Mapping[str, Sex]] = MappingProxyType(
    {
        **dict.fromkeys(("M", "H", "1", "MASCULIN", "HOMME", "MALE"), "male"),
        **dict.fromkeys(("F", "2", "FEMININ", "FEMME", "FEMALE"), "female"),
        **dict.fromkeys(("I", "U", "INCONNU", "INDETERMINE", "UNKNOWN"), "unknown"),
    }
)
_STATUSES: Final[Mapping[str, Status]] = MappingProxyType(
    {
        **dict.fromkeys(("", "PROV", "PROVISOIRE"), "PROV"),
        **dict.fromkeys(("RECUP", "RECUPEREE"), "RECUP"),
        **dict.fromkeys(("VALI", "VALIDEE"), "VALI"),
        **dict.fromkeys(("QUAL", "QUALIFIEE"), "QUAL"),
    }
)


def _flat(text: str) -> str:
    """Upper case without accents, for headings and coded values."""
    decomposed = unicodedata.normalize("NFKD", text.strip())
    return "".join(c for c in decomposed if not unicodedata.combining(c)).upper()


def _decoded(raw: bytes) -> str:
    """UTF-16 by its mark, UTF-8 where it is that, otherwise what Excel writes in France."""
    if raw[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return raw.decode("utf-16", errors="replace")
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError:
        return raw.decode("cp1252", errors="replace")


def fhir_date(text: str, *, partial: bool) -> str | None:
    """JJ/MM/AAAA or AAAA-MM-JJ as a FHIR date; with `partial` also MM/AAAA, AAAA-MM, AAAA and parts that are
    00.

    None where it is no date.
    """
    text = re.sub(r"^(00[/.-])+|(-00)+$", "", text)
    french = re.fullmatch(r"(?:(?:(\d{2})[/.-])?(\d{2})[/.-])?(\d{4})", text)
    parts = [p for p in reversed(french.groups()) if p] if french else text.split("-")
    if not re.fullmatch(r"\d{4}(-\d{2}(-\d{2})?)?", "-".join(parts)) or (len(parts) < 3 and not partial):
        return None
    try:
        day = date.fromisoformat("-".join([*parts, "01", "01"][:3]))
    except ValueError:
        return None
    return "-".join(parts) if day.year >= 1850 else None


def read(raw: bytes) -> tuple[list[WorkerRecord], list[RowProblem]]:
    """All rows that can be used, in order, and every problem met; a bad row never hides the good ones."""
    text = _decoded(raw)
    heading = next((line for line in text.splitlines() if line.strip()), "")
    delimiter = max(";,\t", key=heading.count)
    rows = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
    workers: list[WorkerRecord] = []
    problems: list[RowProblem] = []
    columns: list[str] | None = None
    seen: set[str] = set()
    try:
        for row in rows:
            if not any(cell.strip() for cell in row):
                continue
            if columns is None:
                columns = [_flat(cell).lower() for cell in row]
                problems += _heading_problems(columns)
                if any(not problem.warning for problem in problems):
                    return [], problems
                continue
            _read_row(rows.line_num, row, columns, seen, workers, problems)
    except csv.Error:
        problems.append(RowProblem(rows.line_num, "", "la ligne n'est pas du CSV ; rien n'a été lu après elle"))
    if columns is None:
        problems.append(RowProblem(1, "", "le registre est vide"))
    return workers, problems


def _heading_problems(columns: list[str]) -> list[RowProblem]:
    found = [RowProblem(1, name, "cette colonne manque") for name in REQUIRED if name not in columns]
    if not {"nom_naissance", "nom_utilise"} & set(columns):
        found.append(RowProblem(1, "nom_naissance", "cette colonne manque"))
    found += [RowProblem(1, name, "cette colonne figure deux fois") for name in COLUMNS if columns.count(name) > 1]
    unknown = [place for place, name in enumerate(columns, 1) if name not in COLUMNS]
    return found + [RowProblem(1, f"#{place}", "cette colonne n'est pas lue", warning=True) for place in unknown]


def _read_row(
    line: int,
    row: list[str],
    columns: list[str],
    seen: set[str],
    workers: list[WorkerRecord],
    problems: list[RowProblem],
) -> None:
    """Append the worker of one row, or the reason why there is none."""
    warnings: list[RowProblem] = []
    try:
        if len(row) > len(columns):
            raise _Refused("", "la ligne a plus de cellules que l'en-tête")
        cells = {name: cell.strip() for name, cell in zip(columns, row, strict=False)}
        worker = _worker(_Row(line, cells, warnings))
        if worker.folder_number in seen:
            raise _Refused("numero_dossier", "ce numéro figure déjà plus haut")
    except _Refused as refused:
        problems.append(RowProblem(line, refused.column, refused.reason))
        return
    seen.add(worker.folder_number)
    workers.append(worker)
    problems += warnings


@dataclass(frozen=True, slots=True)
class _Row:
    line: int
    cells: Mapping[str, str]
    warnings: list[RowProblem]

    def text(self, column: str) -> str | None:
        return self.cells.get(column) or None

    def required(self, column: str) -> str:
        value = self.text(column)
        if value is None:
            raise _Refused(column, "valeur absente")
        return value

    def warn(self, column: str, reason: str) -> None:
        self.warnings.append(RowProblem(self.line, column, reason, warning=True))

    def digits(self, column: str, length: int) -> str | None:
        """A number of so many digits, spaces taken out; anything else is left out with a warning."""
        value = re.sub(r"[\s.]", "", self.text(column) or "")
        if value and not (value.isascii() and value.isdigit() and len(value) == length):
            self.warn(column, f"ce n'est pas un numéro de {length} chiffres ; valeur écartée")
            return None
        return value or None


def _worker(row: _Row) -> WorkerRecord:
    for column in ("nom_naissance", "nom_utilise", "prenoms"):
        if len(row.text(column) or "") > LONGEST_NAME:
            raise _Refused(column, f"plus de {LONGEST_NAME} caractères")
    birth_name, used_name = row.text("nom_naissance"), row.text("nom_utilise")
    if not birth_name and not used_name:
        raise _Refused("nom_naissance", "valeur absente")
    born = fhir_date(row.required("date_naissance"), partial=True)
    if born is None:
        raise _Refused("date_naissance", "ce n'est pas une date JJ/MM/AAAA ou AAAA-MM-JJ")
    attributes = _attributes(row)
    matricule, oid = _matricule(row)
    status = _STATUSES.get(_flat(row.text("statut_identite") or ""))
    if status is None:
        raise _Refused("statut_identite", "valeur attendue : PROV, RECUP, VALI ou QUAL")
    if status == "QUAL" and not (matricule and oid):
        raise _Refused("matricule_ins", "une identité qualifiée exige son matricule et l'OID de celui-ci")
    return WorkerRecord(
        folder_number=row.required("numero_dossier"),
        birth_name=birth_name,
        used_name=used_name,
        given_names=_given_names(row.required("prenoms")),
        birth_date=born,
        sex=_sex(row),
        birth_place=_birth_place(row),
        matricule_ins=matricule,
        oid_ins=oid,
        status=status,
        attributes=attributes,
        employer_name=row.text("employeur"),
        employer_siret=row.digits("siret", 14),
        centre=row.text("centre"),
        doctor_name=row.text("medecin"),
        doctor_rpps=row.digits("rpps", 11),
        last_visit=_last_visit(row),
    )


def _given_names(text: str) -> tuple[str, ...]:
    """Given names parted by commas, slashes or bars where there are any, by spaces otherwise."""
    parts = re.split(r"[,/|]", text) if re.search(r"[,/|]", text) else text.split()
    return tuple(part.strip() for part in parts if part.strip())


def _sex(row: _Row) -> Sex | None:
    value = row.text("sexe")
    sex = _SEXES.get(_flat(value)) if value else None
    if value and sex is None:
        raise _Refused("sexe", "valeur attendue : M, F ou I")
    return sex


def _birth_place(row: _Row) -> str | None:
    value = _flat(row.text("lieu_naissance") or "")
    if value and not re.fullmatch(r"\d[\dAB]\d{3}", value):
        row.warn("lieu_naissance", "ce n'est pas un code INSEE de cinq caractères ; valeur écartée")
        return None
    return value or None


def _last_visit(row: _Row) -> str | None:
    value = row.text("derniere_visite")
    found = fhir_date(value, partial=False) if value else None
    if value and found is None:
        row.warn("derniere_visite", "ce n'est pas une date JJ/MM/AAAA ou AAAA-MM-JJ ; valeur écartée")
    return found


def _attributes(row: _Row) -> frozenset[str]:
    words = re.split(r"[^a-z]+", _flat(row.text("attributs") or "").lower())
    held = frozenset(word for word in words if word)
    if reason := forbidden_attributes(held):
        raise _Refused("attributs", reason)
    return held


def _matricule(row: _Row) -> tuple[str | None, str | None]:
    """Matricule and bare OID; one that cannot be a matricule is left out, one with a wrong key only earns a
    warning.
    """
    value = re.sub(r"[\s.]", "", _flat(row.text("matricule_ins") or ""))
    oid = (row.text("oid_ins") or "").removeprefix("urn:oid:") or None
    if oid and domain_of(oid) is None:
        raise _Refused("oid_ins", "ce n'est pas un OID d'INS")
    if not value:
        return None, None
    if not re.fullmatch(r"\d{5}[\dAB]{2}\d{8}", value):
        row.warn("matricule_ins", "ce n'est pas un matricule de 15 caractères ; valeur écartée")
        return None, None
    if not has_valid_key(value):
        row.warn("matricule_ins", "la clé ne correspond pas au numéro")
    if oid is None:
        row.warn("oid_ins", "un matricule sans son OID ne circule pas")
    return value, oid
