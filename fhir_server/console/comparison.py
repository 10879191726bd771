"""What the index says of the worker beside what the register says of each candidate, row by row. Pure."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from fhir_server.console import french
from fhir_server.console.evidence import Said, says
from fhir_server.console.words import words
from fhir_server.identity.reading import USABLE
from fhir_server.intake.register import centre_id_of
from fhir_server.intake.review import Candidate, Item
from fhir_server.linkage.traits import glued
from fhir_server.scans.index_file import IndexLine
from mappings.patient_fr_core import PatientIdentity

Verdict = Literal["same", "near", "differs", "unknown"]


@dataclass(frozen=True, slots=True)
class Cell:
    """A value of one candidate, how it is to that of the index, and words that explain it."""

    value: str
    verdict: Verdict
    remark: str = ""
    beside: str = ""
    """What is said beside the value, smaller."""

    @property
    def mark(self) -> str:
        return words().verdict[self.verdict][0]

    @property
    def words(self) -> str:
        return self.remark or words().verdict[self.verdict][1]


@dataclass(frozen=True, slots=True)
class Row:
    """A trait: what the index says, and a cell for each candidate."""

    label: str
    index: str
    cells: tuple[Cell, ...]
    read: str = ""
    """What the automatic reading of the cover says of it."""


def rows_of(item: Item, candidates: Sequence[Candidate]) -> tuple[Row, ...]:
    """The traits by which workers are told apart, in the order in which a reader checks them."""
    return tuple(Row(label, *make(item, candidates), read=_read(item, field)) for label, field, make in _ROWS)


def _read(item: Item, field: str) -> str:
    """A field of the cover; the matricule is not written out."""
    found = next((one for one in item.read if one["name"] == field), None)
    if found is None:
        return ""
    shown = {"birth_date": french.date, "sex": _sex, "matricule": lambda _: "matricule"}.get(field, str)(found["value"])
    return shown if found["confidence"] >= USABLE else f"{shown} (incertain)"


_Made = tuple[str, tuple[Cell, ...]]
_Make = Callable[[Item, Sequence[Candidate]], _Made]


def _stated(item: Item, value: Callable[[IndexLine], str | None]) -> tuple[str, ...]:
    """The distinct values of the index; its lines are of one folder, and may still differ."""
    return tuple(dict.fromkeys(said for line in item.index if (said := value(line))))


def _compared(stated: Iterable[str], known: str | None, same: Callable[[str], str] = glued) -> Verdict:
    values = [same(one) for one in stated]
    if not values or not known:
        return "unknown"
    return "same" if same(known) in values else "differs"


def _softened(verdict: Verdict, candidate: Candidate, trait: str) -> Verdict:
    """What differs letter by letter and agrees, or nearly, by the rules of names."""
    softer = verdict == "differs" and says(candidate.grounds).get(trait) in ("for", "near")
    return "near" if softer else verdict


def _names(item: Item, candidates: Sequence[Candidate], *, birth: bool) -> _Made:
    def name(one: IndexLine | PatientIdentity, born: bool) -> str | None:
        return one.birth_name if born else one.used_name

    stated = _stated(item, lambda line: name(line, birth))
    cells: list[Cell] = []
    for one in candidates:
        known = name(one.identity, birth) if one.identity else None
        other = name(one.identity, not birth) if one.identity else None
        verdict, remark = _compared(stated, known), ""
        if verdict != "same" and _compared(stated, other) == "same":
            verdict, remark = "near", f"identique au nom {'utilisé' if birth else 'de naissance'}"
        elif birth:
            verdict = _softened(verdict, one, "name")
        cells.append(Cell(known or "", verdict, remark))
    return " / ".join(stated), tuple(cells)


def _row(
    stated: Callable[[IndexLine], str | None],
    known: Callable[[PatientIdentity], str | None],
    trait: str,
    shown: Callable[[str], str] = str,
    same: Callable[[str], str] = glued,
) -> _Make:
    def make(item: Item, candidates: Sequence[Candidate]) -> _Made:
        said = _stated(item, stated)
        cells: list[Cell] = []
        for one in candidates:
            value = known(one.identity) if one.identity else None
            verdict = _softened(_compared(said, value, same), one, trait)
            cells.append(Cell(shown(value) if value else "", verdict))
        return " / ".join(map(shown, said)), tuple(cells)

    return make


def _status(item: Item, candidates: Sequence[Candidate]) -> _Made:
    """The number itself is not shown: whether it is the same one is what decides."""
    cells: list[Cell] = []
    for one in candidates:
        verdict, remark = _MATRICULE[says(one.grounds).get("matricule", "neither")]
        cells.append(Cell(status_of(one.identity), verdict, remark))
    stated = "matricule INS saisi" if _stated(item, lambda line: line.matricule_ins) else "pas de matricule saisi"
    return stated, tuple(cells)


_MATRICULE: Final[Mapping[Said, tuple[Verdict, str]]] = {
    "for": ("same", "matricule identique"),
    "near": ("near", "matricule proche"),
    "mixed": ("near", "matricules lus contradictoires"),
    "against": ("differs", "matricule différent"),
    "neither": ("unknown", "matricule non comparé"),
}


def status_of(identity: PatientIdentity | None) -> str:
    """Status and attributes of an identity (RNIV)."""
    if identity is None:
        return ""
    attributes = [words().attribute.get(one, one) for one in sorted(identity.attributes)]
    return ", ".join([words().status.get(identity.status, identity.status), *attributes])


def _employer(item: Item, candidates: Sequence[Candidate]) -> _Made:
    stated = _stated(item, lambda line: line.employer_siret)
    cells: list[Cell] = []
    for one in candidates:
        work = one.employment
        number = work.employer_siret if work else None
        name, shown = (work.employer_name or "") if work else "", _siret(number or "")
        cells.append(Cell(name or shown, _compared(stated, number, str), beside=shown if name else ""))
    return " / ".join(map(_siret, stated)), tuple(cells)


def _siret(number: str) -> str:
    """In groups, as it is written: 3, 3, 3 and 5 digits."""
    return f"{number[:3]} {number[3:6]} {number[6:9]} {number[9:]}" if len(number) == 14 else number


def _centre(item: Item, candidates: Sequence[Candidate]) -> _Made:
    cells: list[Cell] = []
    for one in candidates:
        organization = one.employment.organization_id if one.employment else None
        verdict: Verdict = "unknown"
        if organization:
            verdict = "same" if organization == centre_id_of(item.centre) else "differs"
        cells.append(Cell(one.centre or "", verdict))
    return f"Centre {item.centre}", tuple(cells)


def _folder_number(item: Item, candidates: Sequence[Candidate]) -> _Made:
    keyed = _stated(item, lambda line: line.worker_number)
    stated = tuple(dict.fromkeys((item.barcode, *item.barcodes, *keyed)))
    cells: list[Cell] = []
    for one in candidates:
        numbers = one.identity.folder_numbers if one.identity else ()
        found: set[Verdict] = {_compared(stated, number, str) for number in numbers}
        cells.append(Cell(", ".join(numbers), "same" if "same" in found else "differs" if found else "unknown"))
    return " / ".join(stated), tuple(cells)


def _sex(value: str) -> str:
    return words().sex.get(value, value)


def _nothing(_line: IndexLine) -> None:
    """The index has no column for it."""


def _given(one: Any) -> str | None:
    return " ".join(one.given_names) or None


_ROWS: Final[tuple[tuple[str, str, _Make], ...]] = (
    ("Nom de naissance", "birth_name", lambda item, all_: _names(item, all_, birth=True)),
    ("Nom utilisé", "used_name", lambda item, all_: _names(item, all_, birth=False)),
    ("Prénoms", "given_names", _row(_given, _given, "given-name")),
    (
        "Date de naissance",
        "birth_date",
        _row(lambda line: line.birth_date, lambda one: one.birth_date, "birth-date", french.date, str),
    ),
    ("Sexe", "sex", _row(lambda line: line.sex, lambda one: one.sex, "sex", _sex, str)),
    (
        "Lieu de naissance (INSEE)",
        "",
        _row(_nothing, lambda one: one.birth_place, "birth-place", str, str),
    ),
    ("Statut de l'identité", "matricule", _status),
    ("Employeur (SIRET)", "employer", _employer),
    ("Centre", "", _centre),
    ("Numéro de dossier", "folder_number", _folder_number),
)


def differences(rows: Sequence[Row], column: int) -> Mapping[str, int]:
    """How many rows agree and differ in one column, for its heading."""
    verdicts = [row.cells[column].verdict for row in rows]
    return {verdict: verdicts.count(verdict) for verdict in ("same", "near", "differs")}
