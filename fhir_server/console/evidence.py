"""Why a worker could be the owner of a folder, in sentences. Pure.

Evidence has two forms: `for` and `against` with names of traits (the rule of identity/matching.py), and `steps` with
levels and bits (the scorer). Both become the same sentences, out of one table.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from fhir_server.console.french import number
from fhir_server.console.words import words
from fhir_server.identity.matching import REASONS

Speaks = Literal["for", "against", "neither"]
Said = Literal["for", "against", "neither", "near", "mixed"]
_SPEAKS: Final[Mapping[str, Speaks]] = {"agree": "for", "near": "for", "against": "against"}
_TRAIT_OF: Final = {
    "family": "name",
    "given": "given-name",
    "born": "birth-date",
    "sex": "sex",
    "place": "birth-place",
    "nir": "matricule",
}
"""Field of the scorer -> name of the same trait in the rule."""


@dataclass(frozen=True, slots=True)
class Ground:
    """One sentence, what it speaks for, and its bits where they are known (`+9,3 bits`)."""

    sentence: str
    speaks: Speaks
    bits: str = ""


@dataclass(frozen=True, slots=True)
class Weighed:
    """All of it for one worker. `summary` is grade, score and sum, empty where there is no score."""

    grounds: tuple[Ground, ...]
    guards: tuple[str, ...]
    summary: str
    grade: str = ""


def weighed(evidence: Mapping[str, Any]) -> Weighed:
    """The evidence of one candidate, in either form; what it holds beside is passed over."""
    steps: Sequence[Mapping[str, Any]] = evidence.get("steps") or ()
    told: dict[str | None, Speaks] = {
        _TRAIT_OF.get(str(step.get("field"))): _SPEAKS.get(str(step.get("says")), "neither") for step in steps
    }
    grounds = (*map(_step, steps), *_traits(evidence, "for", told), *_traits(evidence, "against", told))
    guards = tuple(reason(str(code)) for code in evidence.get("guards") or ())
    grade = evidence.get("grade")
    return Weighed(
        grounds, guards, _summary(evidence), words().grade.get(grade, grade) if isinstance(grade, str) else ""
    )


def reason(code: str) -> str:
    """Why a folder waits, or what forbids certainty, by its code; the code itself where nobody has named it."""
    return REASONS.get(code, code)


def says(evidence: Mapping[str, Any]) -> dict[str, Said]:
    """Trait of the rule -> what the evidence says of it; `near` where it agrees but for a slip, `mixed` where the index
    and a page say otherwise.
    """
    said: dict[str, Said] = {}
    for step in evidence.get("steps") or ():
        if trait := _TRAIT_OF.get(str(step.get("field"))):
            said[trait] = "near" if step.get("says") in ("near", "weak") else _SPEAKS.get(str(step["says"]), "neither")
    for trait in evidence.get("for") or ():
        said.setdefault(str(trait), "for")
    for trait in evidence.get("against") or ():
        said[str(trait)] = "mixed" if said.get(str(trait)) == "for" else "against"
    return said


def _traits(
    evidence: Mapping[str, Any], side: Literal["for", "against"], told: Mapping[str | None, Speaks]
) -> list[Ground]:
    """What the rule says; of a trait of which a step has spoken only what contradicts it, which is another source's."""
    grounds: list[Ground] = []
    for code in map(str, evidence.get(side) or ()):
        sentence = words().trait[code][0 if side == "for" else 1] if code in words().trait else reason(code)
        if code not in told:
            grounds.append(Ground(sentence, side))
        elif told[code] not in (side, "neither"):
            grounds.append(Ground(f"selon une autre source du dossier, {sentence}", side))
    return grounds


def _step(step: Mapping[str, Any]) -> Ground:
    field, level, said = str(step.get("field")), str(step.get("level")), str(step.get("says"))
    sentence = words().step.get(field, {}).get(level) or f"{field} : {words().says.get(said, said)}"
    rarity = float(step.get("rarity_bits") or 0)
    bits = float(step.get("bits") or 0) + rarity
    if rarity >= 1:
        sentence += " (rare)"
    elif rarity <= -1:
        sentence += " (fréquent)"
    told = "" if said == "nothing" else f"{number(bits, signed=True)} bits"
    return Ground(sentence, _SPEAKS.get(said, "neither"), told)


def _summary(evidence: Mapping[str, Any]) -> str:
    grade, score, bits = evidence.get("grade"), evidence.get("score"), evidence.get("odds")
    parts = [words().grade.get(grade, grade)] if isinstance(grade, str) else []
    if isinstance(score, int | float):
        parts.append(f"score {number(score, 3)}")
    if isinstance(bits, int | float):
        parts.append(f"cote {number(bits, signed=True)} bits")
    return ", ".join(parts)
