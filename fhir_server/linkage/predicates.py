"""The words in which comparison levels are declared, each as Python and as the SQL of DuckDB. Pure.

A predicate compares one column of two records, the left and the right, and is the same whichever is which. A column is
text or nothing, or a list of texts. Nothing is never like anything. The Python is an expression over `one` and `other`
and the functions of `HELPERS`: levels.py makes one function of all, several times as fast as calling predicates.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from types import MappingProxyType
from typing import Any, Final, Protocol

from rapidfuzz.distance import DamerauLevenshtein, JaroWinkler

TOLERANCE: Final = 1e-9
"""Below a threshold by less than this is at the threshold: the two implementations round differently."""


class Predicate(Protocol):
    """Whether two records are alike in one respect."""

    def python(self) -> str:
        """The expression over `one` and `other`."""
        ...

    def sql(self) -> str:
        """The condition over columns `x_l` and `x_r`, never null."""
        ...


def _shares(one: tuple[str, ...], other: tuple[str, ...]) -> bool:
    for text in one:  # noqa: SIM110 - a generator costs more than these few texts
        if text in other:
            return True
    return False


@lru_cache(maxsize=100_000)
def _closest(one: tuple[str, ...], other: tuple[str, ...]) -> float:
    best = 0.0
    for a in one:
        for b in other:
            best = max(best, JaroWinkler.normalized_similarity(a, b))
    return best


@lru_cache(maxsize=100_000)
def _fewest_edits(one: tuple[str, ...], other: tuple[str, ...], shortest: int) -> int:
    fewest = 9
    for a in one:
        for b in other:
            if len(a) >= shortest and len(b) >= shortest and abs(len(a) - len(b)) < 3:
                fewest = min(fewest, DamerauLevenshtein.distance(a, b, score_cutoff=2))
    return fewest


def _slips(one: str | None, other: str | None, most: int) -> bool:
    return one is not None and other is not None and DamerauLevenshtein.distance(one, other, score_cutoff=most) <= most


def _starts(one: str | None, other: str | None) -> bool:
    return one is not None and other is not None and one.startswith(other)


def _abbreviates(one: str | None, other: str | None, shortest: int) -> bool:
    if one is None or other is None:
        return False
    short, long = sorted((one, other), key=len)
    return len(short) >= shortest and 2 * len(short) >= len(long) and long.startswith(short)


HELPERS: Final[Mapping[str, Any]] = MappingProxyType(
    {
        "shares": _shares,
        "closest": _closest,
        "fewest_edits": _fewest_edits,
        "slips": _slips,
        "starts": _starts,
        "abbreviates": _abbreviates,
    }
)
"""What the expressions call."""

MACROS: Final = (
    """create or replace macro closest(a, b) as coalesce(
        list_max(flatten([[jaro_winkler_similarity(x, y) for y in b] for x in a])), 0.0)""",
    """create or replace macro fewest_edits(a, b, shortest) as coalesce(
        list_min(flatten([[case when len(x) >= shortest and len(y) >= shortest and abs(len(x) - len(y)) < 3
            then damerau_levenshtein(x, y) else 9 end for y in b] for x in a])), 9)""",
)
"""What the conditions call, to be made in DuckDB first."""


@dataclass(frozen=True, slots=True)
class Missing:
    """One of both does not state this column."""

    column: str
    many: bool = False

    def python(self) -> str:
        return f"(not one.{self.column} or not other.{self.column})"

    def sql(self) -> str:
        if self.many:
            return f"(len({self.column}_l) = 0 or len({self.column}_r) = 0)"
        return f"({self.column}_l is null or {self.column}_r is null)"


@dataclass(frozen=True, slots=True)
class Stated:
    """At least one (or, `both`, each) of the two states this column."""

    column: str
    both: bool = False
    many: bool = False

    def python(self) -> str:
        word = "and" if self.both else "or"
        return f"(one.{self.column} {word} other.{self.column})"

    def sql(self) -> str:
        word = "and" if self.both else "or"
        if self.many:
            return f"(len({self.column}_l) > 0 {word} len({self.column}_r) > 0)"
        return f"({self.column}_l is not null {word} {self.column}_r is not null)"


@dataclass(frozen=True, slots=True)
class Same:
    """Equal texts."""

    column: str

    def python(self) -> str:
        return f"(one.{self.column} is not None and one.{self.column} == other.{self.column})"

    def sql(self) -> str:
        return f"coalesce({self.column}_l = {self.column}_r, false)"


@dataclass(frozen=True, slots=True)
class Differ:
    """Both stated, and not equal."""

    column: str

    def python(self) -> str:
        a, b = f"one.{self.column}", f"other.{self.column}"
        return f"({a} is not None and {b} is not None and {a} != {b})"

    def sql(self) -> str:
        return f"coalesce({self.column}_l <> {self.column}_r, false)"


@dataclass(frozen=True, slots=True)
class Crosswise:
    """A text of one column of the one equals that of another column of the other."""

    column: str
    across: str
    both_ways: bool = False

    def python(self) -> str:
        a, b = self.column, self.across
        word = "and" if self.both_ways else "or"
        return f"((one.{a} is not None and one.{a} == other.{b}) {word} (one.{b} is not None and one.{b} == other.{a}))"

    def sql(self) -> str:
        word = "and" if self.both_ways else "or"
        a, b = self.column, self.across
        return f"(coalesce({a}_l = {b}_r, false) {word} coalesce({b}_l = {a}_r, false))"


@dataclass(frozen=True, slots=True)
class CrosswiseDiffer:
    """One column of the one and another column of the other are stated, and differ."""

    column: str
    across: str

    def python(self) -> str:
        a, b = self.column, self.across
        return (
            f"((one.{a} is not None and other.{b} is not None and one.{a} != other.{b}) "
            f"or (one.{b} is not None and other.{a} is not None and one.{b} != other.{a}))"
        )

    def sql(self) -> str:
        a, b = self.column, self.across
        return f"(coalesce({a}_l <> {b}_r, false) or coalesce({b}_l <> {a}_r, false))"


@dataclass(frozen=True, slots=True)
class Shared:
    """Two lists have a text in common."""

    column: str

    def python(self) -> str:
        return f"shares(one.{self.column}, other.{self.column})"

    def sql(self) -> str:
        return f"list_has_any({self.column}_l, {self.column}_r)"


@dataclass(frozen=True, slots=True)
class SharedAcross:
    """A text of one list of the one is in another list of the other; with `both_ways`, and the other way round."""

    column: str
    across: str
    both_ways: bool = False

    def python(self) -> str:
        a, b = self.column, self.across
        word = "and" if self.both_ways else "or"
        return f"(shares(one.{a}, other.{b}) {word} shares(one.{b}, other.{a}))"

    def sql(self) -> str:
        word = "and" if self.both_ways else "or"
        a, b = self.column, self.across
        return f"(list_has_any({a}_l, {b}_r) {word} list_has_any({b}_l, {a}_r))"


@dataclass(frozen=True, slots=True)
class Alike:
    """The most alike texts of two lists have at least this Jaro-Winkler similarity."""

    column: str
    at_least: float

    def python(self) -> str:
        return f"(closest(one.{self.column}, other.{self.column}) >= {self.at_least - TOLERANCE!r})"

    def sql(self) -> str:
        return f"closest({self.column}_l, {self.column}_r) >= {self.at_least - TOLERANCE!r}"


@dataclass(frozen=True, slots=True)
class AlikeAcross:
    """Both ways, texts of one list are alike those of another list of the other (Jaro-Winkler)."""

    column: str
    across: str
    at_least: float

    def python(self) -> str:
        a, b, least = self.column, self.across, repr(self.at_least - TOLERANCE)
        return f"(closest(one.{a}, other.{b}) >= {least} and closest(one.{b}, other.{a}) >= {least})"

    def sql(self) -> str:
        a, b, least = self.column, self.across, repr(self.at_least - TOLERANCE)
        return f"(closest({a}_l, {b}_r) >= {least} and closest({b}_l, {a}_r) >= {least})"


@dataclass(frozen=True, slots=True)
class Edits:
    """Two texts of the lists are at most so many slips apart (Damerau-Levenshtein), both of a certain length."""

    column: str
    at_most: int
    shortest: int = 1

    def python(self) -> str:
        return f"(fewest_edits(one.{self.column}, other.{self.column}, {self.shortest}) <= {self.at_most})"

    def sql(self) -> str:
        return f"fewest_edits({self.column}_l, {self.column}_r, {self.shortest}) <= {self.at_most}"


@dataclass(frozen=True, slots=True)
class Slip:
    """Two texts are at most so many slips apart (Damerau-Levenshtein)."""

    column: str
    at_most: int

    def python(self) -> str:
        return f"slips(one.{self.column}, other.{self.column}, {self.at_most})"

    def sql(self) -> str:
        return f"coalesce(damerau_levenshtein({self.column}_l, {self.column}_r) <= {self.at_most}, false)"


@dataclass(frozen=True, slots=True)
class Begins:
    """One text begins with the other; with `shortest`, one of that length and half as long at least."""

    column: str
    shortest: int = 0

    def python(self) -> str:
        a, b = f"one.{self.column}", f"other.{self.column}"
        if self.shortest:
            return f"abbreviates({a}, {b}, {self.shortest})"
        return f"(starts({a}, {b}) or starts({b}, {a}))"

    def sql(self) -> str:
        a, b = f"{self.column}_l", f"{self.column}_r"
        begins = f"coalesce(starts_with({a}, {b}) or starts_with({b}, {a}), false)"
        if not self.shortest:
            return begins
        least, most = f"least(len({a}), len({b}))", f"greatest(len({a}), len({b}))"
        return f"({begins} and {least} >= {self.shortest} and 2 * {least} >= {most})"


@dataclass(frozen=True, slots=True)
class BeginsWith:
    """The text of one column of the one begins with that of another column of the other."""

    column: str
    beginning: str

    def python(self) -> str:
        a, b = self.column, self.beginning
        return f"(starts(one.{a}, other.{b}) or starts(other.{a}, one.{b}))"

    def sql(self) -> str:
        a, b = self.column, self.beginning
        return f"(coalesce(starts_with({a}_l, {b}_r), false) or coalesce(starts_with({a}_r, {b}_l), false))"


@dataclass(frozen=True, slots=True)
class Every:
    """All of these hold."""

    parts: tuple[Predicate, ...]

    def python(self) -> str:
        return "(" + " and ".join(part.python() for part in self.parts) + ")"

    def sql(self) -> str:
        return "(" + " and ".join(f"({part.sql()})" for part in self.parts) + ")"


@dataclass(frozen=True, slots=True)
class Either:
    """One of these holds."""

    parts: tuple[Predicate, ...]

    def python(self) -> str:
        return "(" + " or ".join(part.python() for part in self.parts) + ")"

    def sql(self) -> str:
        return "(" + " or ".join(f"({part.sql()})" for part in self.parts) + ")"


@dataclass(frozen=True, slots=True)
class Not:
    """This does not hold."""

    part: Predicate

    def python(self) -> str:
        return f"(not {self.part.python()})"

    def sql(self) -> str:
        return f"(not ({self.part.sql()}))"


def every(*parts: Predicate) -> Every:
    return Every(parts)


def either(*parts: Predicate) -> Either:
    return Either(parts)
