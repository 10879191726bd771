"""What a comparison of registers found: a file for who takes the register over, and a summary in French.

The file has the numbers of the entries, grades, scores and codes; neither it nor the summary has a name or a date.
It is readable by its owner alone, and is there whole or not at all.
"""

import csv
import io
import json
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

from fhir_server.identity.registers import MEANING, Pair
from fhir_server.linkage.model import Model

FORMAT: Final = "dmst-identity-pairs/1"
COLUMNS: Final = ("numero", "autre_numero", "note", "score", "bits", "raisons", "niveaux", "suite")
GRADES: Final = MappingProxyType(
    {"certain": "certaine", "probable": "probable", "possible": "possible", "none": "aucune"}
)
NEXT: Final = MappingProxyType(
    {
        "doublon": "même INS : doublon, à traiter dans le logiciel qui tient les identités",
        "refused": "deux identités qualifiées d'INS différents : aucun lien, collision possible",
        "review": "à examiner par une personne",
    }
)


def write(file: Path, pairs: Iterable[tuple[Pair, str]], about: Mapping[str, Any]) -> None:
    """The report, as JSON where the name of the file ends so, else as CSV: a pair and what is to be done with it.

    Raises OSError.
    """
    draft = file.with_name(f".{file.name}.{os.getpid()}")
    handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with open(handle, "w", encoding="utf-8", newline="") as output:
            output.writelines(_json(pairs, about) if file.suffix == ".json" else _csv(pairs))
        draft.replace(file)
    finally:
        draft.unlink(missing_ok=True)


def about(model: Model, **more: Any) -> dict[str, Any]:
    """By which model it was found."""
    return {"format": FORMAT, "model": {"version": model.version, "checksum": model.checksum}, **more}


def by_line(pairs: Iterable[Pair]) -> Counter[str]:
    """How many entries have this best grade."""
    best: dict[str, str] = {}
    for pair in pairs:
        held = best.setdefault(pair.number, pair.grade)
        if list(GRADES).index(pair.grade) < list(GRADES).index(held):
            best[pair.number] = pair.grade
    return Counter(best.values())


def summary(grades: Mapping[str, int], pairs: Iterable[Pair], model: Model) -> Iterator[str]:
    """Lines for a person."""
    for grade, words in GRADES.items():
        if grade in grades or grade != "none":
            yield f"  {grades.get(grade, 0):>9} {words}"
    reasons = Counter(reason for pair in pairs for reason in pair.reasons)
    if reasons:
        yield "Ce qui interdit la certitude (paires) :"
    for code, count in reasons.most_common():
        yield f"  {count:>9} {code} : {MEANING.get(code, code)}"
    yield f"Modèle {model.version}, SHA-256 {model.checksum[:16]}"


def _rows(pairs: Iterable[tuple[Pair, str]]) -> Iterator[Sequence[Any]]:
    for pair, then in pairs:
        yield (*pair[:5], " ".join(pair.reasons), " ".join(level.replace(" ", "-") for level in pair.levels), then)


def _csv(pairs: Iterable[tuple[Pair, str]]) -> Iterator[str]:
    line = io.StringIO()
    writer = csv.writer(line, delimiter=";", lineterminator="\r\n")
    writer.writerow(COLUMNS)
    for row in _rows(pairs):
        yield line.getvalue()
        line.seek(0)
        line.truncate()
        writer.writerow([_no_formula(cell) if place < 2 else cell for place, cell in enumerate(row)])
    yield line.getvalue()


def _no_formula(number: str) -> str:
    """A spreadsheet takes what begins so for a formula."""
    return f"'{number}" if number.startswith(("=", "+", "-", "@", "\t")) else number


def _json(pairs: Iterable[tuple[Pair, str]], about: Mapping[str, Any]) -> Iterator[str]:
    head = json.dumps(dict(about), ensure_ascii=False)
    yield f'{head[:-1]}, "pairs": ['
    for count, (pair, then) in enumerate(pairs):
        yield (",\n" if count else "\n") + json.dumps({**pair._asdict(), "next": then}, ensure_ascii=False)
    yield "\n]}\n"
