"""A person as the levels see him: every form that is compared, made once. Pure.

The fields are the columns of levels.py, in Python and in SQL: text or None, or a list of texts. Texts of a list that
has rarities begin with one letter, `a` for the most frequent names of the register (see `Rarity`).
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final

from fhir_server.linkage import names
from fhir_server.linkage.phonetics import looks, sound
from fhir_server.linkage.traits import TraitsIns
from terminology.ins import domain_of, has_valid_key

CLASS_OF_A: Final = 1
"""The rarity class that the letter `a` stands for: one person in two."""
RAREST: Final = 24


@dataclass(frozen=True, slots=True)
class Rarity:
    """How rare a name is: the class k says that about one person in 2^k bears it. Names not listed have `unlisted`."""

    classes: Mapping[str, int]
    unlisted: int

    def letter(self, name: str) -> str:
        """The class as one letter, so that the greatest text of a list is that of its rarest name."""
        held = self.classes.get(name, self.unlisted)
        return chr(ord("a") + min(max(held, CLASS_OF_A), RAREST) - CLASS_OF_A)

    def listed(self, name: str, *, most: int) -> bool:
        """Whether the name is one that people are known to bear, at least one in 2^most."""
        return self.classes.get(name, RAREST + 1) <= most


class_of_letter = MappingProxyType({chr(ord("a") + k - CLASS_OF_A): k for k in range(CLASS_OF_A, RAREST + 1)})

_KNOWN_GIVEN: Final = 17
_NIR: Final = re.compile(r"[1-478]\d{4}(?:\d{2}|2[AB])\d{6}")
_DATE: Final = re.compile(r"(\d{4})(?:-(\d{2}))?(?:-(\d{2}))?")


@dataclass(frozen=True, slots=True)
class Comparable:
    """One person. `families` are whole names, `family_parts` those and their parts; `given_first` is the first given
    name, `given_openings` and `given_beginnings` see names.py. `given_known` is the first given name where people are
    known to bear it (so that it is no slip of the pen), `given_simple` where it is one word; so is `family_known`.
    `born` is AAAAMMJJ, `born_partly` AAAA or AAAAMM.
    """

    families: tuple[str, ...] = ()
    family_parts: tuple[str, ...] = ()
    family_plain: tuple[str, ...] = ()
    family_known: str | None = None
    family_sounds: tuple[str, ...] = ()
    family_looks: tuple[str, ...] = ()
    given_openings: tuple[str, ...] = ()
    given_plain: tuple[str, ...] = ()
    given_beginnings: tuple[str, ...] = ()
    given_words: tuple[str, ...] = ()
    given_first: str | None = None
    given_known: str | None = None
    given_simple: str | None = None
    given_end: str | None = None
    given_sounds: tuple[str, ...] = ()
    given_looks: tuple[str, ...] = ()
    born: str | None = None
    born_partly: str | None = None
    born_convention: str | None = None
    year: str | None = None
    month: str | None = None
    day: str | None = None
    month_day: str | None = None
    day_month: str | None = None
    year_month: str | None = None
    sex: str | None = None
    place: str | None = None
    place_of_nir: str | None = None
    department: str | None = None
    nirs: tuple[str, ...] = ()
    nir_heads: tuple[str, ...] = ()
    nir_year_month: str | None = None
    nir_sex: str | None = field(default=None)
    nir_damaged: bool = False
    fictitious: bool = False
    birth_name: str | None = None
    used_name: str | None = None


def comparable(
    stated: TraitsIns, former_matricules: Sequence[str] = (), *, families: Rarity, givens: Rarity
) -> Comparable:
    """The traits of a person, and all his former matricules, in the forms that are compared.

    What cannot be read (a date or a NIR that is none, a name of no letter) is as if not stated. Never raises.
    """
    birth, used = stated.birth_name, stated.used_name
    whole = names.whole_families(birth, used)
    given = tuple(name for name in stated.given_names if name)
    opened = names.openings(given)
    beginnings = names.beginnings(given)
    row = names.row(given)
    first = opened[0] if opened else None
    known = bool(row) and all(givens.listed(w, most=_KNOWN_GIVEN) for w in names.words(given[0]))
    date = _date(stated.birth_date)
    held = tuple(dict.fromkeys(n for n in map(_nir13, (stated.matricule_ins, *former_matricules)) if n))[: names.MOST]
    current = held[0] if held else None
    place = _place(stated.birth_place)
    implied = _place(current[5:10]) if current else None
    heard = whole[:4]
    return Comparable(
        families=tuple(families.letter(name) + name for name in whole),
        family_parts=tuple(families.letter(name) + name for name in names.family_parts(birth, used)),
        family_plain=whole,
        family_known=whole[0] if whole and families.listed(whole[0], most=RAREST) else None,
        family_sounds=tuple(dict.fromkeys(sound(name) for name in heard)),
        family_looks=tuple(dict.fromkeys(looks(name) for name in heard)),
        given_openings=tuple(givens.letter(name) + name for name in opened),
        given_plain=opened,
        given_beginnings=beginnings,
        given_words=tuple(dict.fromkeys(givens.letter(w) + w for w in (*row, *opened[:1]) if len(w) > 1))[: names.MOST],
        given_first=first,
        given_known=first if known else None,
        given_end=first[-2:] if first else None,
        given_simple=first if given and len(names.words(given[0])) == 1 else None,
        given_sounds=tuple(dict.fromkeys(sound(name) for name in opened[:4])),
        given_looks=tuple(dict.fromkeys(looks(name) for name in opened[:4])),
        **date,
        sex={"male": "M", "female": "F"}.get(stated.sex or ""),
        place=place or implied,
        place_of_nir=None if place else implied,
        department=(place or implied or "")[:2] or None,
        nirs=held,
        nir_heads=tuple(dict.fromkeys(number[:10] for number in held)),
        nir_year_month=current[1:5] if current and "01" <= current[3:5] <= "12" else None,
        nir_sex={"1": "M", "3": "M", "7": "M", "2": "F", "4": "F", "8": "F"}.get(current[0]) if current else None,
        nir_damaged=_damaged(stated.matricule_ins),
        fictitious=domain_of(stated.oid_ins) in ("test", "demo"),
        birth_name=names.glued(birth or "") or None,
        used_name=names.glued(used or "") or None,
    )


def _date(text: str | None) -> dict[str, str | None]:
    """A FHIR date, or one of the INSi wire whose month or day is 00."""
    found = _DATE.fullmatch(text or "")
    if not found or found[1] == "0000":
        return {}
    year, month, day = found[1], found[2], found[3]
    if not month or month == "00":
        return {"born_partly": year, "year": year}
    if not day or day == "00":
        return {"born_partly": year + month, "year": year, "month": month, "year_month": year[2:] + month}
    return {
        "born": year + month + day,
        "born_convention": year if month + day in ("0101", "1231") else None,
        "year": year,
        "month": month,
        "day": day,
        "month_day": month + day,
        "day_month": day + month,
        "year_month": year[2:] + month,
    }


def _compact(matricule: str | None) -> str:
    return re.sub(r"[\s.-]", "", matricule[:40]).upper() if matricule else ""


def _nir13(matricule: str | None) -> str | None:
    number = _compact(matricule)[:13]
    return number if _NIR.fullmatch(number) else None


def _damaged(matricule: str | None) -> bool:
    """Whether a matricule came with a key that does not fit: some digit of it was misread (a warning, no more)."""
    number = _compact(matricule)
    return len(number) == 15 and not has_valid_key(number)


def _place(code: str | None) -> str | None:
    """A COG code; Corsica as before 1976, since its NIR keep 20. Unknown places are not stated."""
    text = (code or "").strip().upper()
    if not re.fullmatch(r"[0-9][0-9AB][0-9]{3}", text) or text in ("99999", "99990", "00000"):
        return None
    return "20" + text[2:] if text[:2] in ("2A", "2B") else text
