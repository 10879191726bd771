"""Certain, probable, possible or none, for all candidates of an incoming record at once. Pure.

The grades are those of FHIR's `match-grade` (certain, probable, possible, certainly-not). Only certain files anything
without a human, and only where the policy allows it (policy.py): so whatever could be somebody else is not certain.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, Literal

from fhir_server.linkage.comparable import Comparable
from fhir_server.linkage.guards import AGREES, guards_of
from fhir_server.linkage.model import Model
from fhir_server.linkage.score import Scorer, Waterfall, posteriors, scorer

Grade = Literal["certain", "probable", "possible", "none"]

_TELLS_APART: Final = ("family", "given", "born", "place")


@dataclass(frozen=True, slots=True)
class Candidate:
    """Somebody of the register. Several of one `identity` are what is known of one person (former traits)."""

    identity: str
    person: Comparable


@dataclass(frozen=True, slots=True)
class Graded:
    """A candidate with its grade, its posterior (of at most one being right), its odds in bits and why."""

    identity: str
    grade: Grade
    posterior: float
    odds: float
    waterfall: Waterfall
    reasons: tuple[str, ...]


def explained(graded: Graded) -> dict[str, Any]:
    """A grade and its waterfall as JSON: names of traits and of levels, numbers and codes; never what a trait says."""
    return {
        "grade": graded.grade,
        "score": round(graded.posterior, 6),
        "odds": round(graded.odds, 2),
        "guards": list(graded.reasons),
        "steps": [
            {
                "field": step.field,
                "level": step.level,
                "says": step.says,
                "bits": round(step.bits, 2),
                "rarity_bits": round(step.rarity_bits, 2),
            }
            for step in graded.waterfall.steps
        ],
    }


class Judge:
    """Grades candidates under one model, for a register of one size. Made once, and shared."""

    def __init__(self, model: Model, register_size: int | None = None) -> None:
        self.model = model
        self.prior = model.prior(register_size)
        self._score: Scorer = scorer(model)

    def grade(self, stated: Comparable, candidates: Sequence[Candidate]) -> tuple[Graded, ...]:
        """All candidates, most likely first, those graded `none` too; the order in which they come does not matter."""
        weighed: dict[str, tuple[Waterfall, Comparable]] = {}
        for candidate in candidates:
            found = self._score(stated, candidate.person)
            held = weighed.get(candidate.identity)
            if held is None or found.bits > held[0].bits:
                weighed[candidate.identity] = (found, candidate.person)
        ranked = sorted(weighed.items(), key=lambda one: (-one[1][0].bits, one[0]))
        shares = posteriors([found.bits for _, (found, _) in ranked], self.prior)
        rivals = self._rivals([found.bits for _, (found, _) in ranked])
        graded: list[Graded] = []
        for place, (identity, (found, person)) in enumerate(ranked):
            odds = self.prior + found.bits
            grade, reasons = self._of_one(stated, person, found, odds, first=place == 0, rival=rivals[place])
            graded.append(Graded(identity, grade, shares[place], odds, found, reasons))
        return tuple(graded)

    def grade_weighed(self, stated: Comparable, person: Comparable, bits: float) -> Graded:
        """One candidate that another engine weighed (Splink in batch): the same guards and grades on its bits."""
        found = replace(self._score(stated, person), bits=bits)
        grade, reasons = self._of_one(stated, person, found, self.prior + bits, first=True, rival=False)
        return Graded("", grade, posteriors([bits], self.prior)[0], self.prior + bits, found, reasons)

    def _rivals(self, bits: Sequence[float]) -> list[bool]:
        """G6: for each candidate, whether another one that is worth showing comes within the margin of the first."""
        possible = self.model.thresholds.possible
        near = [
            self.prior + one >= possible and bool(bits) and bits[0] - one < self.model.thresholds.margin for one in bits
        ]
        return [near[place] and sum(near) > 1 for place in range(len(bits))]

    def _of_one(
        self, stated: Comparable, person: Comparable, found: Waterfall, odds: float, *, first: bool, rival: bool
    ) -> tuple[Grade, tuple[str, ...]]:
        limits = self.model.thresholds
        if odds < limits.possible or _excluded(found):
            return "none", ()
        reasons = guards_of(stated, person, found) + (("G6-rival",) if rival else ())
        if reasons:
            return "possible", reasons
        if first and odds >= limits.certain and (_certain_by_traits(found) or _certain_by_matricule(found)):
            return "certain", ()
        return ("probable" if odds >= limits.probable else "possible"), ()


def _excluded(found: Waterfall) -> bool:
    """Nobody to show a reviewer: neither a name nor the NIR speaks for it, or two contradictions come together of which
    each alone would be an error of writing.
    """
    if {found.says(field) for field in ("family", "given", "nir")} <= {"nothing", "against"}:
        return True
    against = {field for field in ("given", "born", "sex", "nir") if found.says(field) == "against"}
    return len(against) > 1 and found.says("nir") != "agree"


def _certain_by_traits(found: Waterfall) -> bool:
    """Family and given name agree, perhaps but for a slip or in each other's place, and the full birth date is the
    same. A family name that is only close wants the given name without a slip.
    """
    if found.says("born") != "agree" or found.says("family") not in AGREES:
        return False
    if found.level("family") == "swapped":
        return True
    return found.says("given") == "agree" or (found.says("given") == "near" and found.level("family") != "close")


def _certain_by_matricule(found: Waterfall) -> bool:
    """The NIR is the same, two traits that tell persons apart agree, and nothing speaks against it. A birth date with a
    slip wants both names without one.
    """
    said = [found.says(field) for field in _TELLS_APART]
    if found.says("nir") != "agree" or said.count("agree") < 2 or "against" in {*said, found.says("sex")}:
        return False
    return found.says("born") != "near" or found.says("family") == found.says("given") == "agree"
