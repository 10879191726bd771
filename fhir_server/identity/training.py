"""A model trained on the register of a service, out of the one that it has; and what persons decided as a brake. Pure.

Expectation maximisation without labels (linkage/train.py). What is not seen often enough stays as it was, and a model
in which a trait speaks the wrong way is not made. It decides nothing before it is put into the settings.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any, Final

from fhir_server.linkage.comparable import Comparable
from fhir_server.linkage.model import Model, ModelRefused, Weights, read_model, written
from fhir_server.linkage.train import Learnt, train

LEAST_WORKERS: Final = 1000
"""Below it chance agreement of names is not measurable."""
LEAST_MATCHES: Final = 500
"""Matching pairs below which a session teaches nothing: its traits keep what the former model says of one person."""
RANDOM_PAIRS: Final = 300_000
ABOVE: Final = 1.0
"""Bits by which `certain` is above what somebody found to be two persons."""


@dataclass(frozen=True, slots=True)
class Trained:
    """The model, how many pairs of one person each session saw, and what the labels said."""

    model: Model
    matches: tuple[int, ...]
    labels: int = 0
    non_matches: int = 0
    raised_by: float = 0.0


def trained(
    base: Model,
    incoming: Sequence[Comparable],
    register: Sequence[Comparable],
    *,
    version: str,
    labels: Iterable[Mapping[str, Any]] = (),
    about: Mapping[str, Any] = MappingProxyType({}),
    random: int = RANDOM_PAIRS,
) -> Trained:
    """A new model: u of random pairs, m of the sessions that have enough pairs; prior share, names and thresholds are
    those of `base`, but that `certain` is raised above every pair that a person found to be two.

    Raises ModelRefused: too few workers, the version of `base`, or a trait that would speak the wrong way.
    """
    if len(register) < LEAST_WORKERS:
        raise ModelRefused(f"registre trop petit pour un entraînement : au moins {LEAST_WORKERS} salariés")
    if not version or version == base.version:
        raise ModelRefused("un modèle nouveau porte une version nouvelle")
    sessions: list[Learnt] = []
    known = {field: {level: weights.m for level, weights in levels.items()} for field, levels in base.fields.items()}
    try:
        fields = train(incoming, register, random=random, known=known, least=LEAST_MATCHES, tell=sessions.append)
    except ValueError as error:
        raise ModelRefused("entraînement refusé : les deux sources n'ont aucune paire à comparer") from error
    weights = {
        field: MappingProxyType(
            {level: Weights(_short(pair["m"]), _short(pair["u"])) for level, pair in levels.items()}
        )
        for field, levels in fields.items()
    }
    matches = tuple(round(one.matches) for one in sessions)
    provenance = {
        "method": "expectation maximisation in two sessions without labels; u of random pairs",
        "from": {"version": base.version, "checksum": base.checksum},
        "register": len(register),
        "incoming": len(incoming),
        "matching_pairs": list(matches),
        "kept_from_former": [name for one in sessions if one.matches < LEAST_MATCHES for name in one.m],
        **about,
        "not_yet": "to be signed off by the identitovigilance of the service",
    }
    model = replace(
        base, version=version, provenance=provenance, register_size=len(register), fields=MappingProxyType(weights)
    )
    _must_speak_the_right_way(model)
    seen, against, certain = _judged(model, labels)
    raised = max(0.0, certain - model.thresholds.certain)
    if seen:
        provenance["labels"] = {"pairs": seen, "non_matches": against, "certain_raised_by": round(raised, 2)}
    model = replace(model, thresholds=replace(model.thresholds, certain=round(model.thresholds.certain + raised, 2)))
    return Trained(read_model(written(model)), matches, seen, against, raised)


def labels_in(text: str) -> list[Mapping[str, Any]]:
    """The labelled pairs of a file of `dmst-fhir identities labels`. Raises ModelRefused, naming the line."""
    found: list[Mapping[str, Any]] = []
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        try:
            label = json.loads(line)
            _judged_pair(label)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ModelRefused(f"étiquettes : la ligne {number} n'est pas une paire étiquetée") from error
        found.append(label)
    return found


def _judged_pair(label: Any) -> None:
    """Raises where this is no labelled pair."""
    if label["verdict"] not in ("match", "non-match"):
        raise ValueError("verdict")
    for step in label["comparison"].get("steps") or []:
        float(step.get("rarity_bits") or 0.0)


def _judged(model: Model, labels: Iterable[Mapping[str, Any]]) -> tuple[int, int, float]:
    """Labelled pairs, those of two persons, and the least `certain` above which none of these is.

    A pair that a guard stops counts for nothing: no threshold makes it certain.
    """
    seen = against = 0
    certain = model.thresholds.certain
    for label in labels:
        seen += 1
        if label["verdict"] == "match":
            continue
        against += 1
        comparison = label["comparison"]
        steps = comparison.get("steps") or []
        if comparison.get("guards") or not steps:
            continue
        certain = max(certain, model.prior() + sum(_bits(model, step) for step in steps) + ABOVE)
    return seen, against, certain


def _bits(model: Model, step: Mapping[str, Any]) -> float:
    held = model.fields.get(str(step.get("field")), {}).get(str(step.get("level")))
    return held.bits + float(step.get("rarity_bits") or 0.0) if held else 0.0


def _must_speak_the_right_way(model: Model) -> None:
    for field, levels in model.fields.items():
        bits = [weights.bits for weights in levels.values()]
        if not (bits[0] > 0 > bits[-1]):
            raise ModelRefused(
                f"entraînement refusé : {field} ne distingue plus personne ; garder le modèle en service"
            )


def _short(share: float) -> float:
    return float(f"{share:.4g}")
