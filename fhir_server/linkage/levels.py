"""The comparison levels of French identities, declared once: of this table are made the Python function that scores a
pair (score.py) and the SQL of Splink (splink_settings.py). Pure.

RNIV 1 v2.0 and guide d'implementation de l'INS v3.0 (EXI ID 10: hyphen, apostrophe and space are one). A pair is at the
first level of a comparison that holds. `m` is how often records of one person are at a level, `u` those of two persons:
what is given here are the starting points and anchors of the training (train.py), the figures in use are in the model.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from fhir_server.linkage.predicates import (
    HELPERS,
    Alike,
    AlikeAcross,
    Begins,
    BeginsWith,
    Crosswise,
    CrosswiseDiffer,
    Differ,
    Edits,
    Missing,
    Not,
    Predicate,
    Same,
    Shared,
    SharedAcross,
    Slip,
    Stated,
    either,
    every,
)

Says = Literal["agree", "near", "weak", "against", "nothing"]
"""What a level says: the trait agrees; agrees but for a slip; does not decide; contradicts; was not compared."""

NOTHING: Final = -1
"""The level of a comparison in which one of both states nothing."""


@dataclass(frozen=True, slots=True)
class Level:
    """One degree of likeness. `rarity` is the column, a list, whose rarest shared name adjusts the weight."""

    name: str
    when: Predicate | None
    says: Says
    m: float
    u: float
    rarity: str | None = None


@dataclass(frozen=True, slots=True)
class Comparison:
    """One trait: `nothing` holds where it cannot be compared; the last level has no condition."""

    field: str
    nothing: Predicate
    levels: tuple[Level, ...]


_SWAPPED: Final = every(
    SharedAcross("family_plain", "given_plain", both_ways=True),
    Not(Shared("given_plain")),
)
_NEARLY_SWAPPED: Final = every(
    Not(Alike("family_plain", 0.88)),
    AlikeAcross("family_plain", "given_plain", 0.85),
    Not(Alike("given_plain", 0.88)),
)
_ANOTHER_NAME: Final = Differ("given_known")
_ONE_IS_NO_NAME: Final = every(Stated("given_known"), Not(Stated("given_known", both=True)))
_ANOTHER_FAMILY: Final = Differ("family_known")

FAMILY: Final = Comparison(
    "family",
    Missing("families", many=True),
    (
        Level("same", Shared("families"), "agree", 0.80, 3e-4, rarity="families"),
        Level("part", Shared("family_parts"), "agree", 0.05, 1e-4, rarity="family_parts"),
        Level("swapped", _SWAPPED, "near", 0.015, 2e-6),
        Level("sounds", every(Shared("family_sounds"), Alike("family_plain", 0.80)), "near", 0.04, 3e-4),
        Level(
            "slip",
            either(Edits("family_plain", 1, shortest=5), Edits("family_plain", 2, shortest=9), Shared("family_looks")),
            "near",
            0.04,
            2e-4,
        ),
        Level("close", every(Alike("family_plain", 0.88), Not(_ANOTHER_FAMILY)), "near", 0.015, 1e-3),
        Level("nearly swapped", _NEARLY_SWAPPED, "weak", 0.004, 1e-5),
        Level("far", Alike("family_plain", 0.78), "against", 0.01, 8e-3),
        Level("other", None, "against", 0.03, 0.99),
    ),
)

GIVEN: Final = Comparison(
    "given",
    either(Missing("given_openings", many=True), _SWAPPED, _NEARLY_SWAPPED),
    (
        Level("same", Shared("given_openings"), "agree", 0.82, 6e-3, rarity="given_openings"),
        Level(
            "sounds",
            every(Shared("given_sounds"), Alike("given_plain", 0.80), Not(every(_ANOTHER_NAME, Missing("sex")))),
            "near",
            0.04,
            1e-3,
        ),
        Level(
            "slip",
            either(
                every(
                    either(Edits("given_plain", 1, shortest=4), Shared("given_looks")),
                    Not(_ANOTHER_NAME),
                ),
                # Two slips, one of both no name, and not at the end: FATOUMATA has a sister FATOUMATOU.
                every(Edits("given_plain", 2, shortest=7), _ONE_IS_NO_NAME, Same("given_end")),
            ),
            "near",
            0.04,
            1e-3,
        ),
        Level("abbreviation", every(Begins("given_simple", shortest=4), _ONE_IS_NO_NAME), "near", 0.005, 5e-5),
        Level(
            "start",
            either(SharedAcross("given_plain", "given_beginnings"), Begins("given_first")),
            "weak",
            0.02,
            3e-3,
        ),
        Level("later", Shared("given_words"), "weak", 0.03, 1.5e-2, rarity="given_words"),
        Level("close", every(Alike("given_plain", 0.88), Not(_ANOTHER_NAME)), "weak", 0.015, 3e-3),
        Level("far", Alike("given_plain", 0.80), "against", 0.006, 1e-2),
        Level("other", None, "against", 0.01, 0.96),
    ),
)

BORN: Final = Comparison(
    "born",
    Missing("year"),
    (
        Level("same convention", Same("born_convention"), "agree", 0.01, 1e-5),
        Level("same", Same("born"), "agree", 0.94, 6e-5),
        Level(
            "swapped",
            every(Same("year"), Crosswise("month_day", "day_month", both_ways=True)),
            "near",
            0.008,
            2e-5,
        ),
        Level("slip", Slip("born", 1), "near", 0.012, 9e-4),
        Level(
            "partial",
            every(Stated("born_partly"), either(BeginsWith("born", "born_partly"), Begins("born_partly"))),
            "weak",
            0.004,
            2e-4,
        ),
        Level("convention", every(Same("year"), Stated("born_convention")), "near", 0.006, 2e-4),
        Level(
            "two parts",
            either(
                every(Same("year"), Same("month")),
                every(Same("year"), Same("day")),
                every(Same("month"), Same("day")),
            ),
            "against",
            0.006,
            8e-3,
        ),
        Level("year", Same("year"), "against", 0.004, 2.5e-2),
        Level("other", None, "against", 0.004, 0.96),
    ),
)

SEX: Final = Comparison(
    "sex",
    Missing("sex"),
    (
        Level("same", Same("sex"), "agree", 0.995, 0.5),
        Level("other", None, "against", 0.005, 0.5),
    ),
)

PLACE: Final = Comparison(
    "place",
    either(Missing("place"), every(Stated("nirs", both=True, many=True), Stated("place_of_nir"))),
    (
        Level("same", Same("place"), "agree", 0.97, 5e-3),
        Level("department", Same("department"), "weak", 0.015, 2.5e-2),
        Level("other", None, "against", 0.015, 0.97),
    ),
)

NIR: Final = Comparison(
    "nir",
    Missing("nirs", many=True),
    (
        Level("same", Shared("nirs"), "agree", 0.96, 1e-7),
        Level("sibling", Shared("nir_heads"), "against", 0.002, 1e-6),
        Level("slip", Edits("nirs", 1), "near", 0.03, 1e-7),
        Level("two slips", Edits("nirs", 2), "weak", 0.003, 1e-6),
        Level("other", None, "against", 0.005, 0.9999),
    ),
)

BORN_BY_NIR: Final = Comparison(
    "born by nir",
    either(
        Stated("year", both=True),
        Stated("nirs", both=True, many=True),
        Not(
            either(Crosswise("nir_year_month", "year_month"), CrosswiseDiffer("nir_year_month", "year_month")),
        ),
    ),
    (
        Level("same", Crosswise("nir_year_month", "year_month"), "weak", 0.97, 1.8e-3),
        Level("other", None, "against", 0.03, 0.998),
    ),
)

FRENCH: Final = (FAMILY, GIVEN, BORN, SEX, PLACE, NIR, BORN_BY_NIR)
"""All comparisons, in the order of the waterfall."""

Compare = Callable[[Any, Any], tuple[int, ...]]


def python_of(comparisons: Sequence[Comparison]) -> str:
    """The text of the function that `compiled` makes, to be read by whoever doubts it."""
    lines = ["def compare(one, other):"]
    for number, comparison in enumerate(comparisons):
        lines += [f"    if {comparison.nothing.python()}:", f"        level{number} = {NOTHING}"]
        for place, level in enumerate(comparison.levels):
            lines.append(f"    elif {level.when.python()}:" if level.when else "    else:")
            lines.append(f"        level{number} = {place}")
    found = ", ".join(f"level{number}" for number in range(len(comparisons)))
    return "\n".join((*lines, f"    return ({found},)", ""))


def compiled(comparisons: Sequence[Comparison]) -> Compare:
    """The function of two records that gives the level of each comparison, `NOTHING` where it says nothing."""
    made: dict[str, Any] = dict(HELPERS)
    # As dataclasses do: the text comes of the declarations above, never of what was received.
    exec(compile(python_of(comparisons), "<levels>", "exec"), made)  # noqa: S102
    return made["compare"]


def level_named(comparison: Comparison, name: str) -> int:
    """The place of a level in its comparison. KeyError where it has none of this name."""
    for place, level in enumerate(comparison.levels):
        if level.name == name:
            return place
    raise KeyError(name)
