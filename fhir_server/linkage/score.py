"""How alike two persons are: the waterfall of bits of one pair. Pure.

Fellegi and Sunter (1969): each trait adds log2(m/u) of its level, and of a rare name more than of a frequent one.
Sayers et al., IJE 2015 (doi 10.1093/ije/dyv322) tell how the sum is a posterior probability.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import Any

from fhir_server.linkage.comparable import Comparable, class_of_letter
from fhir_server.linkage.levels import FRENCH, Comparison, Says, compiled
from fhir_server.linkage.model import Model


@dataclass(frozen=True, slots=True)
class Step:
    """One trait of the waterfall: its level, what that says, its bits and what the rarity of the name adds."""

    field: str
    level: str
    says: Says
    bits: float
    rarity_bits: float


@dataclass(frozen=True, slots=True)
class Waterfall:
    """One pair: the steps in the order of the comparisons, and their sum (without the prior)."""

    steps: tuple[Step, ...]
    bits: float

    def says(self, field: str) -> Says:
        """What a trait says; `nothing` where it was not compared."""
        for step in self.steps:
            if step.field == field:
                return step.says
        return "nothing"

    def level(self, field: str) -> str | None:
        """The level of a trait; None where it was not compared."""
        return next((step.level for step in self.steps if step.field == field and step.says != "nothing"), None)


Scorer = Callable[[Any, Any], Waterfall]


def scorer(model: Model, comparisons: Sequence[Comparison] = FRENCH) -> Scorer:
    """The function that weighs a pair under a model. Make it once: everything that can be is worked out here."""
    compare = compiled(comparisons)
    tables = tuple(_table(model, comparison) for comparison in comparisons)

    def score(one: Any, other: Any) -> Waterfall:
        steps: list[Step] = []
        bits = 0.0
        for level, table in zip(compare(one, other), tables, strict=True):
            step, column, adjusted = table[level]
            if column is not None:
                others = column(other)
                step = adjusted[max([name for name in column(one) if name in others])[0]]
            steps.append(step)
            bits += step.bits + step.rarity_bits
        return Waterfall(tuple(steps), bits)

    return score


_Row = tuple[Step, Any, dict[str, Step]]


def _table(model: Model, comparison: Comparison) -> list[_Row]:
    """Level of the comparison -> its step, and where rarity counts the column and the step of each rarity.

    `NOTHING` is the last one, which is where -1 finds it.
    """
    field = comparison.field
    table: list[_Row] = []
    for level in comparison.levels:
        bits = model.fields[field][level.name].bits
        adjusted: dict[str, Step] = {}
        if level.rarity is not None:
            adjusted = {
                letter: Step(field, level.name, level.says, bits, model.rarity_bits(field, level.name, letter))
                for letter in class_of_letter
            }
        column = attrgetter(level.rarity) if level.rarity else None
        table.append((Step(field, level.name, level.says, bits, 0.0), column, adjusted))
    table.append((Step(field, "nothing", "nothing", 0.0, 0.0), None, {}))
    return table


def posteriors(weights: Sequence[float], prior: float) -> tuple[float, ...]:
    """For each candidate, of these bits, the probability that it is the one sought, when at most one of them is.

    Their sum is below 1: two candidates are never both sure.
    """
    odds = [prior + bits for bits in weights]
    highest = max((0.0, *odds))
    shares = [2.0 ** (one - highest) for one in odds]
    whole = 2.0**-highest + sum(shares)
    return tuple(share / whole for share in shares)


def same_person(one: Comparable, other: Comparable, model: Model) -> Waterfall:
    """One pair weighed once; for many, keep a `scorer`."""
    return scorer(model)(one, other)
