"""The words in which comparison levels are declared, each in Python and in the SQL of DuckDB. Pure.

A predicate compares one column of two records, the left and the right, and is the same whichever is which. A column is
text or nothing, or a list of texts. Nothing is never like anything.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from operator import attrgetter
from typing import Any, Protocol

from rapidfuzz.distance import DamerauLevenshtein, JaroWinkler

Test = Callable[[Any, Any], bool]

_TOLERANCE = 1e-9
"""Below a threshold by less than this is at the threshold: the two implementations round differently."""


class Predicate(Protocol):
    """Whether two records are alike in one respect."""

    def python(self) -> Test:
        """The test of (left, right)."""
        ...

    def sql(self) -> str:
        """The condition over columns `x_l` and `x_r`, never null."""
        ...


@dataclass(frozen=True, slots=True)
class Missing:
    """One of both does not state this column."""

    column: str
    many: bool = False

    def python(self) -> Test:
        get = attrgetter(self.column)
        return lambda one, other: not get(one) or not get(other)

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

    def python(self) -> Test:
        get = attrgetter(self.column)
        if self.both:
            return lambda one, other: bool(get(one) and get(other))
        return lambda one, other: bool(get(one) or get(other))

    def sql(self) -> str:
        word = "and" if self.both else "or"
        if self.many:
            return f"(len({self.column}_l) > 0 {word} len({self.column}_r) > 0)"
        return f"({self.column}_l is not null {word} {self.column}_r is not null)"


@dataclass(frozen=True, slots=True)
class Same:
    """Equal texts."""

    column: str

    def python(self) -> Test:
        get = attrgetter(self.column)
        return lambda one, other: get(one) is not None and get(one) == get(other)

    def sql(self) -> str:
        return f"coalesce({self.column}_l = {self.column}_r, false)"


@dataclass(frozen=True, slots=True)
class Differ:
    """Both stated, and not equal."""

    column: str

    def python(self) -> Test:
        get = attrgetter(self.column)
        return lambda one, other: get(one) is not None and get(other) is not None and get(one) != get(other)

    def sql(self) -> str:
        return f"coalesce({self.column}_l <> {self.column}_r, false)"


@dataclass(frozen=True, slots=True)
class Crosswise:
    """A text of one column of the one equals that of another column of the other."""

    column: str
    across: str
    both_ways: bool = False

    def python(self) -> Test:
        a, b = attrgetter(self.column), attrgetter(self.across)

        def one_way(one: Any, other: Any) -> bool:
            return a(one) is not None and a(one) == b(other)

        if self.both_ways:
            return lambda one, other: one_way(one, other) and one_way(other, one)
        return lambda one, other: one_way(one, other) or one_way(other, one)

    def sql(self) -> str:
        word = "and" if self.both_ways else "or"
        a, b = self.column, self.across
        return f"(coalesce({a}_l = {b}_r, false) {word} coalesce({b}_l = {a}_r, false))"


@dataclass(frozen=True, slots=True)
class CrosswiseDiffer:
    """One column of the one and another column of the other are stated, and differ."""

    column: str
    across: str

    def python(self) -> Test:
        a, b = attrgetter(self.column), attrgetter(self.across)

        def one_way(one: Any, other: Any) -> bool:
            return a(one) is not None and b(other) is not None and a(one) != b(other)

        return lambda one, other: one_way(one, other) or one_way(other, one)

    def sql(self) -> str:
        a, b = self.column, self.across
        return f"(coalesce({a}_l <> {b}_r, false) or coalesce({b}_l <> {a}_r, false))"


@dataclass(frozen=True, slots=True)
class Shared:
    """Two lists have a text in common."""

    column: str

    def python(self) -> Test:
        get = attrgetter(self.column)

        def test(one: Any, other: Any) -> bool:
            others = get(other)
            return any(x in others for x in get(one))

        return test

    def sql(self) -> str:
        return f"list_has_any({self.column}_l, {self.column}_r)"


@dataclass(frozen=True, slots=True)
class SharedAcross:
    """A text of one list of the one is in another list of the other; with `both_ways`, and the other way round."""

    column: str
    across: str
    both_ways: bool = False

    def python(self) -> Test:
        a, b = attrgetter(self.column), attrgetter(self.across)

        def one_way(one: Any, other: Any) -> bool:
            others = b(other)
            return any(x in others for x in a(one))

        if self.both_ways:
            return lambda one, other: one_way(one, other) and one_way(other, one)
        return lambda one, other: one_way(one, other) or one_way(other, one)

    def sql(self) -> str:
        word = "and" if self.both_ways else "or"
        a, b = self.column, self.across
        return f"(list_has_any({a}_l, {b}_r) {word} list_has_any({b}_l, {a}_r))"


@lru_cache(maxsize=100_000)
def _closest(one: tuple[str, ...], other: tuple[str, ...]) -> float:
    return max((JaroWinkler.normalized_similarity(a, b) for a in one for b in other), default=0.0)


@dataclass(frozen=True, slots=True)
class Alike:
    """The most alike texts of two lists have at least this Jaro-Winkler similarity."""

    column: str
    at_least: float

    def python(self) -> Test:
        get, least = attrgetter(self.column), self.at_least - _TOLERANCE
        return lambda one, other: _closest(get(one), get(other)) >= least

    def sql(self) -> str:
        return f"{_of_all_pairs(self.column, 'jaro_winkler_similarity(x, y)', 'max', '0.0')} >= {self.at_least} - 1e-9"


@lru_cache(maxsize=100_000)
def _fewest_edits(one: tuple[str, ...], other: tuple[str, ...], shortest: int) -> int:
    return min(
        (
            DamerauLevenshtein.distance(a, b, score_cutoff=3)
            for a in one
            for b in other
            if len(a) >= shortest and len(b) >= shortest
        ),
        default=9,
    )


@dataclass(frozen=True, slots=True)
class Edits:
    """Two texts of the lists are at most so many slips apart (Damerau-Levenshtein), both of a certain length."""

    column: str
    at_most: int
    shortest: int = 1

    def python(self) -> Test:
        get, most, shortest = attrgetter(self.column), self.at_most, self.shortest
        return lambda one, other: _fewest_edits(get(one), get(other), shortest) <= most

    def sql(self) -> str:
        apart = (
            f"case when len(x) >= {self.shortest} and len(y) >= {self.shortest} then damerau_levenshtein(x, y) else 9 end"
        )
        return f"{_of_all_pairs(self.column, apart, 'min', '9')} <= {self.at_most}"


@dataclass(frozen=True, slots=True)
class Slip:
    """Two texts are at most so many slips apart (Damerau-Levenshtein)."""

    column: str
    at_most: int

    def python(self) -> Test:
        get, most = attrgetter(self.column), self.at_most

        def test(one: Any, other: Any) -> bool:
            a, b = get(one), get(other)
            return bool(a and b) and DamerauLevenshtein.distance(a, b, score_cutoff=most) <= most

        return test

    def sql(self) -> str:
        return f"coalesce(damerau_levenshtein({self.column}_l, {self.column}_r) <= {self.at_most}, false)"


@dataclass(frozen=True, slots=True)
class Begins:
    """One text begins with the other."""

    column: str

    def python(self) -> Test:
        get = attrgetter(self.column)

        def test(one: Any, other: Any) -> bool:
            a, b = get(one), get(other)
            return bool(a and b) and (a.startswith(b) or b.startswith(a))

        return test

    def sql(self) -> str:
        a, b = f"{self.column}_l", f"{self.column}_r"
        return f"coalesce(starts_with({a}, {b}) or starts_with({b}, {a}), false)"


@dataclass(frozen=True, slots=True)
class BeginsWith:
    """The text of one column of the one begins with that of another column of the other."""

    column: str
    beginning: str

    def python(self) -> Test:
        a, b = attrgetter(self.column), attrgetter(self.beginning)

        def one_way(one: Any, other: Any) -> bool:
            return bool(a(one) and b(other)) and a(one).startswith(b(other))

        return lambda one, other: one_way(one, other) or one_way(other, one)

    def sql(self) -> str:
        a, b = self.column, self.beginning
        return f"coalesce(starts_with({a}_l, {b}_r), false) or coalesce(starts_with({a}_r, {b}_l), false)"


@dataclass(frozen=True, slots=True)
class Every:
    """All of these hold."""

    parts: tuple[Predicate, ...]

    def python(self) -> Test:
        tests = tuple(part.python() for part in self.parts)
        return lambda one, other: all(test(one, other) for test in tests)

    def sql(self) -> str:
        return "(" + " and ".join(f"({part.sql()})" for part in self.parts) + ")"


@dataclass(frozen=True, slots=True)
class Either:
    """One of these holds."""

    parts: tuple[Predicate, ...]

    def python(self) -> Test:
        tests = tuple(part.python() for part in self.parts)
        return lambda one, other: any(test(one, other) for test in tests)

    def sql(self) -> str:
        return "(" + " or ".join(f"({part.sql()})" for part in self.parts) + ")"


@dataclass(frozen=True, slots=True)
class Not:
    """This does not hold."""

    part: Predicate

    def python(self) -> Test:
        test = self.part.python()
        return lambda one, other: not test(one, other)

    def sql(self) -> str:
        return f"(not ({self.part.sql()}))"


def every(*parts: Predicate) -> Every:
    return Every(parts)


def either(*parts: Predicate) -> Either:
    return Either(parts)


def _of_all_pairs(column: str, measure: str, choose: str, otherwise: str) -> str:
    pairs = f"flatten([[{measure} for y in {column}_r] for x in {column}_l])"
    return f"coalesce(list_{choose}({pairs}), {otherwise})"
