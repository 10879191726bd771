"""Identity traits of a worker, and what RNIV says of them: comparison forms, matricule key, status and
attributes.

Referentiel INS v2.1, RNIV 1 v2.0, guide d'implementation de l'INS v3.0 (EXI numbers). Normal forms are for
comparison only: what was received is stored as received.
"""

import re
import unicodedata
from dataclasses import dataclass
from typing import Final, Literal

from stdnum.fr import nir

from terminology.ins import (
    Attribute,
    Domain,
    Status,
    after_change_of_strict_trait,
    domain_of,
    effective_status,
    forbidden_attributes,
    has_valid_key,
    matricule_may_circulate,
    status_of,
)

__all__ = [
    "Attribute",
    "Domain",
    "Sex",
    "Status",
    "TraitsIns",
    "after_change_of_strict_trait",
    "birth_date_as_fhir",
    "domain_of",
    "effective_status",
    "forbidden_attributes",
    "given_name_list",
    "glued",
    "halves",
    "has_valid_key",
    "implied_by_matricule",
    "matricule_may_circulate",
    "same_matricule",
    "status_of",
    "without_particles",
    "words",
]

Sex = Literal["male", "female", "unknown"]


@dataclass(frozen=True, slots=True)
class TraitsIns:
    """The traits by which a worker is compared, as received; None or empty where not stated.

    `given_names` holds the birth given names in order, one per item, the first one first. `birth_date` is a
    FHIR date, perhaps partial. `birth_place` is an INSEE COG code. `matricule_ins` is 15 characters,
    `oid_ins` a bare OID.
    """

    birth_name: str | None = None
    used_name: str | None = None
    given_names: tuple[str, ...] = ()
    birth_date: str | None = None
    sex: Sex | None = None
    birth_place: str | None = None
    matricule_ins: str | None = None
    oid_ins: str | None = None


# --- names

_LIGATURES: Final = str.maketrans({"Œ": "OE", "œ": "OE", "Æ": "AE", "æ": "AE", "ß": "SS"})
# fmt: off
_PARTICLES: Final = frozenset({
    "A", "AL", "BEN", "BENT", "D", "DA", "DE", "DEL", "DELLA", "DEN", "DER", "DES", "DI", "DOS", "DU", "EL",
    "L", "LA", "LE", "LES", "SAINT", "SAINTE", "ST", "STE", "VAN", "VON",
})
# fmt: on


def words(name: str) -> tuple[str, ...]:
    """The words of a name in comparison form: A to Z only, no accents or ligatures, cut at anything else (EXI
    ID 10).
    """
    flat = unicodedata.normalize("NFKD", name.translate(_LIGATURES))
    return tuple(re.findall(r"[A-Z]+", "".join(c for c in flat if not unicodedata.combining(c)).upper()))


def glued(name: str) -> str:
    """The words of a name in one: LE GOFF and LEGOFF, D'ARTAGNAN and DARTAGNAN are the same."""
    return "".join(words(name))


def halves(name: str) -> tuple[str, ...]:
    """The names a double name is made of, each glued with its particles; empty where the name is a single
    one.
    """
    parts: list[str] = []
    held = ""
    for word in words(name):
        held += word
        if word not in _PARTICLES:
            parts.append(held)
            held = ""
    if held and parts:
        parts[-1] += held
    return tuple(parts) if len(parts) > 1 else ()


def without_particles(name: str) -> str:
    """The glued name without its particles: TOUR for DE LA TOUR."""
    return "".join(word for word in words(name) if word not in _PARTICLES)


def given_name_list(text: str) -> tuple[str, ...]:
    """The given names of a list in one string (INS datamatrix S3, INSi ListePrenom), where
    spaces part them.
    """
    return tuple(text.split())


# --- matricule


def same_matricule(one: str, other: str) -> bool:
    """Whether two matricules designate the same number; the key is left out, as some
    sources do not carry it.
    """
    return nir.compact(one)[:13] == nir.compact(other)[:13]


def implied_by_matricule(matricule_ins: str) -> tuple[Sex | None, str | None]:
    """Sex and `YY-MM` of birth that a NIR implies; None for what it does not say (months above 12, first
    digit 3 or more).
    """
    number = nir.compact(matricule_ins)
    sexes: dict[str, Sex] = {"1": "male", "2": "female"}
    year, month = number[1:3], number[3:5]
    known = year.isdigit() and month.isdigit() and 1 <= int(month) <= 12
    return sexes.get(number[:1]), f"{year}-{month}" if known else None


def birth_date_as_fhir(raw: str) -> str | None:
    """A birth date of the INSi wire (`AAAA-MM-JJ`, month or day perhaps 00) as a FHIR date; None where
    unreadable.
    """
    found = re.fullmatch(r"(\d{4})-(\d{2})-(\d{2})", raw)
    if not found or found[1] == "0000":
        return None
    return raw[:4] if found[2] == "00" else raw[:7] if found[3] == "00" else raw
