"""Training of a model: m by expectation maximisation in two sessions, u of random pairs. Offline, no labels. Pure.

As Splink trains (robinlinacre.com, "the mathematics of record linkage"): a session blocks on some traits and learns the
others, since within its block the traits it blocks on say nothing. One session on the union of all blocks diverges:
there the blocking itself makes traits agree (tests/linkage/test_train.py keeps that as a regression).

Beside *same person* and *two persons* a session knows *siblings*: family, birth date and place of one person, given
name and sex of two. Without it, twins would be learnt as one person whose given name is often wrong.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any, Final

from fhir_server.linkage.levels import FRENCH, NOTHING, Comparison, compiled

Pattern = tuple[int, ...]
Table = Mapping[str, Mapping[str, float]]

_PSEUDO_U: Final = 2.0
"""Random pairs that are supposed to be at a level as often as it declares: rare levels are never seen by chance."""
_PSEUDO_M: Final = 40.0
"""Matching pairs that are supposed to be distributed as the levels declare."""
_ROUNDS: Final = 200
_SETTLED: Final = 1e-7

OF_TWO_SIBLINGS: Final = frozenset({"given", "sex", "nir"})
"""Traits in which siblings are two persons."""


@dataclass(frozen=True, slots=True)
class Session:
    """Pairs that share a block, and the fields that are learnt of them (those that the block says nothing about)."""

    blocks: Callable[[Any], Iterable[str]]
    fields: tuple[str, ...]
    siblings: bool = True


FRENCH_SESSIONS: Final = (
    Session(lambda one: [one.born] if one.born else [], ("family", "given", "sex", "place")),
    Session(
        lambda one: [f"{a} {b}" for a in one.family_sounds for b in one.given_sounds[:1]],
        ("born", "nir", "born by nir"),
        siblings=False,
    ),
)


def pairs_of(left: Sequence[Any], right: Sequence[Any], session: Session, most: int) -> Iterator[tuple[Any, Any]]:
    """The pairs of a session, each once; at most so many of one block, as blocks of frequent names grow squared."""
    held: dict[str, list[int]] = {}
    for place, one in enumerate(right):
        for block in session.blocks(one):
            held.setdefault(block, []).append(place)
    for one in left:
        seen: set[int] = set()
        for block in session.blocks(one):
            seen.update(held.get(block, ())[:most])
        for place in sorted(seen):
            if right[place] is not one:
                yield one, right[place]


def random_pairs(left: Sequence[Any], right: Sequence[Any], count: int, seed: int) -> Iterator[tuple[Any, Any]]:
    """Pairs drawn at random, of which nearly none is one person."""
    rng = Random(seed)  # noqa: S311 - a sample, not a secret
    for _ in range(count):
        one, other = left[rng.randrange(len(left))], right[rng.randrange(len(right))]
        if one is not other:
            yield one, other


def estimate_u(
    pairs: Iterable[tuple[Any, Any]], comparisons: Sequence[Comparison] = FRENCH
) -> dict[str, dict[str, float]]:
    """u of every level, from random pairs; levels too rare to be met there stay near what they declare."""
    compare = compiled(comparisons)
    seen = Counter(compare(one, other) for one, other in pairs)
    found: dict[str, dict[str, float]] = {}
    for place, comparison in enumerate(comparisons):
        at: Counter[int] = Counter()
        for pattern, count in seen.items():
            at[pattern[place]] += count
        compared = sum(count for level, count in at.items() if level != NOTHING)
        raw = {
            level.name: (at[i] + _PSEUDO_U) / (compared + _PSEUDO_U / level.u)
            for i, level in enumerate(comparison.levels)
        }
        whole = sum(raw.values())
        found[comparison.field] = {name: value / whole for name, value in raw.items()}
    return found


@dataclass(frozen=True, slots=True)
class Learnt:
    """What one session gives: m of its fields, and the shares of same person and of siblings among its pairs."""

    m: Table
    same: float
    siblings: float
    rounds: int
    pairs: int

    @property
    def matches(self) -> float:
        """How many of its pairs are supposed to be one person."""
        return self.same * self.pairs


def estimate_m(
    pairs: Iterable[tuple[Any, Any]],
    fields: Sequence[str],
    u: Table,
    comparisons: Sequence[Comparison] = FRENCH,
    *,
    siblings: bool = True,
    pseudo: float = _PSEUDO_M,
) -> Learnt:
    """m of the fields of one session, by expectation maximisation with u held fast."""
    learnt = [comparison for comparison in comparisons if comparison.field in fields]
    compare = compiled(learnt)
    seen = Counter(compare(one, other) for one, other in pairs)
    if not seen:
        raise ValueError("no pairs to learn from: the blocks of this session have nothing in common")
    u_of = [[u[c.field][level.name] for level in c.levels] for c in learnt]
    anchors = [_normal([level.m for level in c.levels]) for c in learnt]
    m_of = [list(anchor) for anchor in anchors]
    apart = [c.field in OF_TWO_SIBLINGS for c in learnt]
    same, sibling = 0.2, 0.02 if siblings else 0.0
    rounds = 0
    for rounds in range(1, _ROUNDS + 1):  # noqa: B007 - how many it took is told
        weights = [[pseudo * share for share in anchor] for anchor in anchors]
        one_person = two_siblings = whole = 0.0
        for pattern, count in seen.items():
            as_same, as_sibling, as_two = same, sibling, 1.0 - same - sibling
            for place, level in enumerate(pattern):
                if level == NOTHING:
                    continue
                m, chance = m_of[place][level], u_of[place][level]
                as_same *= m
                as_two *= chance
                as_sibling *= chance if apart[place] else m
            total = as_same + as_sibling + as_two
            one_person += count * as_same / total
            two_siblings += count * as_sibling / total
            whole += count
            for place, level in enumerate(pattern):
                if level != NOTHING:
                    weights[place][level] += count * as_same / total
        renewed = [_normal(row) for row in weights]
        moved = max(abs(a - b) for row, new in zip(m_of, renewed, strict=True) for a, b in zip(row, new, strict=True))
        m_of, same = renewed, one_person / whole
        sibling = two_siblings / whole if siblings else 0.0
        if moved < _SETTLED:
            break
    m = {
        c.field: dict(zip((level.name for level in c.levels), row, strict=True))
        for c, row in zip(learnt, m_of, strict=True)
    }
    return Learnt(m, same, sibling, rounds, sum(seen.values()))


def train(
    left: Sequence[Any],
    right: Sequence[Any],
    comparisons: Sequence[Comparison] = FRENCH,
    sessions: Sequence[Session] = FRENCH_SESSIONS,
    *,
    random: int = 1_000_000,
    most_of_a_block: int = 200,
    seed: int = 1,
    known: Table | None = None,
    least: float = 0.0,
    tell: Callable[[Learnt], None] = lambda _learnt: None,
) -> dict[str, dict[str, dict[str, float]]]:
    """The `fields` of a model, learnt of the incoming records `left` and the register `right`, without labels.

    A field that two sessions learn is taken from the first. Fields of no session, or of one with fewer than `least`
    matching pairs, keep the m that is `known` (else what their levels declare). `tell` hears of each session.
    """
    u = estimate_u(random_pairs(left, right, random, seed), comparisons)
    m: dict[str, Mapping[str, float]] = {}
    for session in sessions:
        pairs = pairs_of(left, right, session, most_of_a_block)
        learnt = estimate_m(pairs, session.fields, u, comparisons, siblings=session.siblings)
        tell(learnt)
        for field, levels in learnt.m.items() if learnt.matches >= least else ():
            m.setdefault(field, levels)
    declared = known or {c.field: {level.name: level.m for level in c.levels} for c in comparisons}
    return {
        c.field: {
            level.name: {
                "m": m.get(c.field, declared[c.field])[level.name],
                "u": u[c.field][level.name],
            }
            for level in c.levels
        }
        for c in comparisons
    }


def averaged(tables: Sequence[Mapping[str, Mapping[str, Mapping[str, float]]]]) -> dict[str, Any]:
    """The mean of what several trainings learnt."""
    first = tables[0]
    return {
        field: {
            level: {what: sum(table[field][level][what] for table in tables) / len(tables) for what in ("m", "u")}
            for level in levels
        }
        for field, levels in first.items()
    }


def _normal(row: Sequence[float]) -> list[float]:
    whole = sum(row)
    return [value / whole for value in row]
