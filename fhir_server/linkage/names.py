"""Names in the forms in which they are compared: whole names, parts of double names, openings of given names. Pure.

Comparison only: what was received is stored as received. Hyphen, apostrophe and space are one (EXI ID 10). Everything
here is bounded: a name of 500 characters costs as much as one of 80.
"""

from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Final

from fhir_server.linkage import traits

LONGEST: Final = 80
"""Characters of a name that are looked at; RNIV's birth names stay below."""
MOST: Final = 8
"""Aliases of one person that are looked at."""

_BEYOND_NFKD: Final = str.maketrans(
    {"Ø": "O", "ø": "o", "Ł": "L", "ł": "l", "Đ": "D", "đ": "d", "Ð": "D", "ð": "d", "Þ": "TH", "þ": "th", "ı": "i"}
)
_SHORT: Final = {"ST": "SAINT", "STE": "SAINTE"}
_READ_AS_DIGITS: Final = str.maketrans("0158", "OISB")


@lru_cache(maxsize=200_000)
def words(name: str) -> tuple[str, ...]:
    """The words of a name, A to Z; digits that character recognition makes of letters (0, 1, 5, 8) are letters."""
    cut = name[:LONGEST].translate(_BEYOND_NFKD)
    if any(c.isalpha() for c in cut):
        cut = cut.translate(_READ_AS_DIGITS)
    found = traits.words(cut)
    return tuple(_SHORT.get(word, word) for word in found) if len(found) > 1 else found


def _distinct(names: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(name for name in names if name))[:MOST]


@lru_cache(maxsize=200_000)
def glued(name: str) -> str:
    """The words of a name in one: LE GOFF is LEGOFF, DE LA TOUR is DELATOUR."""
    return "".join(words(name))


def whole_families(*stated: str | None) -> tuple[str, ...]:
    """Birth name and used name, each glued."""
    return _distinct(glued(name) for name in stated if name)


def family_parts(*stated: str | None) -> tuple[str, ...]:
    """The whole names, either half of a double name, and each without its particles (TOUR for DE LA TOUR)."""
    return _distinct(part for name in dict.fromkeys(stated) if name for part in _parts(name))


@lru_cache(maxsize=200_000)
def _parts(name: str) -> tuple[str, ...]:
    row = words(name)
    if len(row) < 2:
        return row
    text = " ".join(row)
    hyphenated = name[:LONGEST].split("-")
    halves = (traits.without_particles(" ".join(words(half))) for half in hyphenated if len(hyphenated) > 1)
    pieces = (*traits.halves(text), traits.without_particles(text), *halves)
    return ("".join(row), *(piece for piece in pieces if len(piece) > 2))


def row(given_names: Sequence[str]) -> tuple[str, ...]:
    """All words of a list of given names in a row."""
    return tuple(word for name in given_names[:MOST] for word in words(name))[: 2 * MOST]


def openings(given_names: Sequence[str]) -> tuple[str, ...]:
    """The beginnings of a list of given names that end where one of its names ends, each glued.

    JEAN, PIERRE opens with JEAN and with JEANPIERRE; JEAN-PIERRE with JEANPIERRE alone: so JEAN is the first given
    name of the former and not that of the latter, whose twin may be a JEAN.
    """
    opened: list[str] = []
    held = ""
    for name in given_names[:MOST]:
        held += glued(name)
        opened.append(held)
    return _distinct(opened)


def beginnings(given_names: Sequence[str]) -> tuple[str, ...]:
    """The beginnings of a list of given names word by word, each glued."""
    opened: list[str] = []
    held = ""
    for word in row(given_names):
        held += word
        opened.append(held)
    return _distinct(opened)
