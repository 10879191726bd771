"""What the words read on the cover of a folder state of its owner. Pure: words in, values with their confidence out.

No standard: the labels are those found on the covers of DMST (cover_labels.toml). Whatever is not plainly written under
a plain label is not stated at all: a value that is missing costs a look, one that is wrong would accuse the index.
"""

import re
import tomllib
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from functools import cache
from pathlib import Path
from typing import Any, Final, Literal

from rapidfuzz.distance import Levenshtein

from fhir_server.scans.codes import checked_matricule

FieldName = Literal[
    "birth_name", "used_name", "given_names", "birth_date", "sex", "matricule", "folder_number", "employer"
]


@dataclass(frozen=True, slots=True)
class Word:
    """A word as it was read: its confidence from 0 to 1, and how many heights of its line lie before it."""

    text: str
    confidence: float
    gap: float = 0.0


Line = Sequence[Word]


@dataclass(frozen=True, slots=True)
class ReadField:
    """One value: `given_names` parted by commas, `birth_date` ISO 8601, `sex` male or female, others as read."""

    name: FieldName
    value: str
    confidence: float


@dataclass(frozen=True, slots=True)
class CoverReading:
    """What a cover states, each field once."""

    fields: tuple[ReadField, ...]


# A cell of the form ends where that many heights of the line are white.
_GAP: Final = 4.0
# A letter or two that the reader itself does not believe are dust.
_SPECK: Final = 0.1
_LONGEST_NAME: Final = 60
_MOST_LABEL_WORDS: Final = 8
# From this length on one letter of a label may be misread.
_TOLERANT: Final = 8
_YOUNGEST: Final = 14
_OLDEST: Final = 110

_NAME: Final = re.compile(r"[^\W\d_]+(?:(?:[-' ]|\. ?|, ?)+[^\W\d_]+)*")
_NUMERIC: Final = re.compile(r"(\d{1,2})[ ]?[/.\- ][ ]?(\d{1,2})[ ]?[/.\- ][ ]?(\d{4}|\d{2})(?!\d)")
_COMPACT: Final = re.compile(r"(\d{2})(\d{2})(\d{4})(?!\d)")
_WRITTEN: Final = re.compile(r"(1er|ler|Ier|\d{1,2})[ ]?([^\W\d_]+)\.?[ ]?(\d{4}|\d{2})(?!\d)")
_LIGATURES: Final = str.maketrans({"Œ": "OE", "œ": "oe", "Æ": "AE", "æ": "ae"})
_QUOTES: Final = str.maketrans(dict.fromkeys("’‘`´", "'"))


def read_cover(lines: Sequence[Line], *, scanned: date) -> CoverReading:
    """The fields that these lines state. `scanned` tells the century of a year of two digits.

    A field that stands there twice with different values is left out: the page is not of one person, or misread.
    """
    found: dict[str, list[ReadField]] = {}
    for kind, words in _cells(lines):
        for field in _values(kind, words, scanned):
            found.setdefault(field.name, []).append(field)
    said = {name: max(many, key=lambda f: f.confidence) for name, many in found.items() if _one(many)}
    if plain := said.pop("name", None):
        # Beside the birth name, a name without more is the one in use; alone, it is what the index would be given.
        target: FieldName = "used_name" if "birth_name" in said else "birth_name"
        said.setdefault(target, ReadField(target, plain.value, plain.confidence))
    return CoverReading(tuple(said.values()))


def _one(many: Sequence[ReadField]) -> bool:
    return len({_folded(field.value) for field in many}) == 1


# --- the form: labels and what follows them


@dataclass(frozen=True, slots=True)
class _Token:
    text: str
    folded: str
    confidence: float
    gap: float


@dataclass(frozen=True, slots=True)
class _Label:
    kind: str
    start: int
    end: int


def _cells(lines: Sequence[Line]) -> Iterator[tuple[str, list[_Token]]]:
    """Each label's kind with the words after it: to the next label, to a wide white space, or on the line below."""
    above: str | None = None
    for line in lines:
        tokens = list(_tokens(line))
        labels = list(_labels(tokens))
        if above and not labels and (cell := _cell(tokens)):
            yield above, cell
        above = None
        for label, following in zip(labels, [*labels[1:], None], strict=False):
            cell = _cell(tokens[label.end : following.start if following else None])
            if cell:
                yield label.kind, cell
            elif following is None and len(labels) == 1:
                above = label.kind


def _tokens(line: Line) -> Iterator[_Token]:
    for word in line:
        if word.confidence < _SPECK and len(word.text) <= 2:
            continue
        gap = word.gap
        for part in re.findall(r":|[^\s:]+", word.text.translate(_QUOTES)):
            yield _Token(part, _folded(part), word.confidence, gap)
            gap = 0.0


def _labels(tokens: Sequence[_Token]) -> Iterator[_Label]:
    at = 0
    while at < len(tokens):
        label = _label_at(tokens, at)
        if label:
            yield label
        at = label.end if label else at + 1


def _label_at(tokens: Sequence[_Token], start: int) -> _Label | None:
    """The longest label that begins here."""
    if not tokens[start].folded:
        return None
    glued, found = "", None
    for end in range(start, min(len(tokens), start + _MOST_LABEL_WORDS)):
        if any(c.isdigit() or c == ":" for c in tokens[end].text):
            break
        glued += tokens[end].folded
        colon = end + 1 < len(tokens) and tokens[end + 1].text == ":"
        kind = _kind(glued, tolerant=colon)
        if found and kind == "birth_date" and not _begins_a_date(tokens[end + 1 :]):
            break  # née LE GOFF
        at_start = not any(token.folded for token in tokens[:start])
        if kind and (colon or at_start or glued in _form().inside):
            found = _Label(kind, start, end + 2 if colon else end + 1)
    return found


def _begins_a_date(tokens: Sequence[_Token]) -> bool:
    first = next((token for token in tokens if token.folded or token.text[:1].isdigit()), None)
    return first is None or any(c.isdigit() for c in first.text) or first.text in ("ler", "Ier")


def _kind(glued: str, *, tolerant: bool) -> str | None:
    labels = _form().labels
    if glued in labels or not tolerant or len(glued) < _TOLERANT:
        return labels.get(glued)
    near = {kind for label, kind in labels.items() if Levenshtein.distance(glued, label, score_cutoff=1) <= 1}
    return near.pop() if len(near) == 1 else None


def _cell(tokens: Sequence[_Token]) -> list[_Token]:
    """The words of one cell, without what is only signs (dots to write on, frames)."""
    cell: list[_Token] = []
    for token in tokens:
        if cell and token.gap > _GAP:
            break
        if token.folded or token.text == "&" or any(c.isdigit() for c in token.text):
            cell.append(token)
        elif token.text == ":":
            return []  # a label that is not known
    return cell


# --- the values


def _values(kind: str, tokens: Sequence[_Token], scanned: date) -> Iterator[ReadField]:
    text = " ".join(token.text for token in tokens)
    confidence = min(token.confidence for token in tokens)
    values: dict[str, str | None]
    match kind:
        case "other":
            values = {}
        case "full_name":
            values = _full_name(tokens)
        case "name" | "birth_name" | "used_name":
            values = {kind: _name(text)}
        case "given_names":
            values = {kind: _given_names(text)}
        case "birth_date":
            values = {kind: birth_date_of(text, scanned)}
        case "sex":
            values = {kind: _form().sexes.get(_folded(text))}
        case "matricule":
            values = {kind: matricule_of(text)}
        case "folder_number":
            values = {kind: _folder_number(text)}
        case _:
            values = {kind: text.strip(" .,;|_")[:200]}
    for name, value in values.items():
        if value:
            yield ReadField(name, value, round(confidence, 2))  # pyright: ignore[reportArgumentType]


def _name(text: str) -> str | None:
    bare = text.strip(" .,;-_'()|")
    plain = _NAME.fullmatch(bare) and len(_folded(bare)) > 1 and len(bare) <= _LONGEST_NAME
    return bare if plain else None


def _given_names(text: str) -> str | None:
    names = [_name(part) for part in re.split(r"[,;]", text)] if re.search("[,;]", text.strip(" ,;")) else None
    if names is None:
        names = [_name(part) for part in text.strip(" .,;").split()]
    return ", ".join(name for name in names if name) if names and all(names) else None


def _full_name(tokens: Sequence[_Token]) -> dict[str, str | None]:
    """`MARTIN DUPONT Paul`: the name in capitals, then the given names; nothing where the case does not part them."""
    words = [token.text for token in tokens]
    count = next((n for n, word in enumerate(words) if not word.isupper()), len(words))
    if not 0 < count < len(words) or any(word.isupper() for word in words[count:]):
        return {}
    return {"name": _name(" ".join(words[:count])), "given_names": _given_names(" ".join(words[count:]))}


def birth_date_of(text: str, scanned: date) -> str | None:
    """A birth date as French forms write it (12/03/1975, 12.03.75, 12 mars 1975, 1er août 1962), in ISO 8601.

    None for anything else, and for a day that is not of the calendar or not that of a worker.
    """
    bare = text.strip(" .,;-_")
    if found := _NUMERIC.match(bare) or _COMPACT.match(bare):
        day, month, year = int(found[1]), int(found[2]), found[3]
    elif found := _WRITTEN.match(bare):
        known = _form().months.get(_folded(found[2]))
        if known is None:
            return None
        day, month, year = int(found[1]) if found[1].isdigit() else 1, known, found[3]
    else:
        return None
    latest = scanned.year - _YOUNGEST
    full = int(year) if len(year) == 4 else 2000 + int(year) if 2000 + int(year) <= latest else 1900 + int(year)
    try:
        born = date(full, month, day)
    except ValueError:
        return None
    return born.isoformat() if scanned.year - _OLDEST <= full <= latest else None


def matricule_of(text: str) -> str | None:
    """A NIR with its key, once the letters that stand for digits are put right; None unless the key proves it."""
    read = re.sub(r"[^0-9A-Z]", "", text.upper())
    digits = _form().digits
    plain = "".join(digits.get(c, c) for c in read)
    # In Corsica a letter is due where a digit is elsewhere: 2A, 2B, and 2B may have been read as 28.
    candidates = {plain} | {plain[:6] + letter + plain[7:] for letter in "AB" if letter == read[6:7]}
    if read[5:7] == "28":
        candidates.add(plain[:6] + "B" + plain[7:])
    valid = [one for one in candidates if _is_matricule(one)]
    return valid[0] if len(valid) == 1 else None


def _is_matricule(value: str) -> bool:
    try:
        return bool(checked_matricule(value))
    except ValueError:
        return False


def _folder_number(text: str) -> str | None:
    glued = text.replace(" ", "")
    return glued if re.fullmatch(r"[0-9A-Za-z/-]{3,30}", glued) and any(c.isdigit() for c in glued) else None


# --- the table


@dataclass(frozen=True, slots=True)
class _Form:
    labels: dict[str, str]
    inside: frozenset[str]
    sexes: dict[str, str]
    months: dict[str, int]
    digits: dict[str, str]


def _folded(text: str) -> str:
    """Letters only, without accents, in capitals."""
    flat = unicodedata.normalize("NFKD", text.translate(_LIGATURES))
    return "".join(c for c in flat if c.isascii() and c.isalpha()).upper()


@cache
def _form() -> _Form:
    table: dict[str, Any] = tomllib.loads(Path(__file__).with_name("cover_labels.toml").read_text(encoding="utf-8"))
    return _Form(
        labels={_folded(label): kind for kind, labels in table["labels"].items() for label in labels},
        inside=frozenset(_folded(label) for label in table["inside"]["labels"]),
        sexes={_folded(word): sex for sex, words in table["sexes"].items() for word in words},
        months={_folded(word): int(month) for month, words in table["months"].items() for word in words},
        digits=table["digits"],
    )
