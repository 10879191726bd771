"""The model of identity matching: versioned data with its checksum, and what is read out of it. Pure.

A model says how often records of one person (m) and of two (u) are at each level of levels.py, how rare names are, what
share of the incoming records has its worker in the register, and the thresholds in bits. It is a JSON document; a link
keeps the version it was decided with, so a new model never rewrites a past one.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from importlib.resources import files
from math import isfinite, log2
from types import MappingProxyType
from typing import Any, Final

from fhir_server.linkage.comparable import CLASS_OF_A, RAREST, Rarity, class_of_letter
from fhir_server.linkage.levels import FRENCH, Comparison

FORMAT: Final = "dmst-identity-model/1"


class ModelRefused(ValueError):
    """A model that cannot be used: not a model, altered, or not of these levels. The text says what to do."""


@dataclass(frozen=True, slots=True)
class Thresholds:
    """In bits of posterior odds, but `margin`: bits between the first and the second candidate."""

    certain: float
    probable: float
    possible: float
    margin: float


@dataclass(frozen=True, slots=True)
class Weights:
    """One level: m and u, and their bits."""

    m: float
    u: float

    @property
    def bits(self) -> float:
        return log2(self.m / self.u)


@dataclass(frozen=True)
class Model:
    """What a pair is weighed with. `share` is the part of incoming records whose worker is in the register,
    `register_size` the size it holds for where nothing else is said, `most_rarity` the most bits that the rarity of a
    name adds or takes.
    """

    version: str
    provenance: Mapping[str, Any]
    share: float
    register_size: int
    thresholds: Thresholds
    fields: Mapping[str, Mapping[str, Weights]]
    families: Rarity
    givens: Rarity
    most_rarity: float
    checksum: str

    def prior(self, register_size: int | None = None) -> float:
        """The log2 odds that one worker of the register is the one sought, before anything is compared.

        It falls by one bit whenever the register doubles, so that the thresholds hold for a register of any size.
        """
        size = max(register_size or self.register_size, 2)
        chance = min(self.share / size, 0.5)
        return log2(chance / (1 - chance))

    def rarity_bits(self, field: str, level: str, letter: str) -> float:
        """What the rarity of the shared name adds to the weight of a level (Splink's term frequency adjustment)."""
        u = self.fields[field][level].u
        return max(-self.most_rarity, min(self.most_rarity, class_of_letter[letter] + log2(u)))


def read_model(text: str | bytes, comparisons: Sequence[Comparison] = FRENCH) -> Model:
    """The model in a JSON document. Raises ModelRefused where it is not one, does not match its checksum, or lacks a
    level that these comparisons have.
    """
    try:
        document = json.loads(text)
    except ValueError as error:
        raise ModelRefused("modèle illisible : ce n'est pas un document JSON") from error
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        raise ModelRefused(f"modèle refusé : format attendu {FORMAT}")
    if document.get("checksum") != checksum(document):
        raise ModelRefused("modèle refusé : la somme SHA-256 ne correspond pas ; reprendre le fichier d'origine")
    try:
        return _model(document, comparisons)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        if isinstance(error, ModelRefused):
            raise
        raise ModelRefused(f"modèle refusé : élément absent ou invalide ({error})") from error


def checksum(document: Mapping[str, Any]) -> str:
    """SHA-256 of the document without its checksum, in canonical JSON."""
    bare = {name: value for name, value in document.items() if name != "checksum"}
    text = json.dumps(bare, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


def written(model: Model) -> str:
    """The model as its JSON document, checksum included."""
    thresholds = model.thresholds
    document: dict[str, Any] = {
        "format": FORMAT,
        "version": model.version,
        "provenance": dict(model.provenance),
        "share": model.share,
        "register_size": model.register_size,
        "thresholds": {name: getattr(thresholds, name) for name in ("certain", "probable", "possible", "margin")},
        "fields": {
            field: {level: {"m": weights.m, "u": weights.u} for level, weights in levels.items()}
            for field, levels in model.fields.items()
        },
        "rarity": {
            "most_bits": model.most_rarity,
            "families": _snapshot(model.families),
            "givens": _snapshot(model.givens),
        },
    }
    document["checksum"] = checksum(document)
    return json.dumps(document, indent=1, ensure_ascii=False) + "\n"


def counted_names(frequencies: Iterable[tuple[str, float]], *, unlisted: int, total: float | None = None) -> Rarity:
    """The rarity of names out of (glued name, frequency), of a published list or counted in a register.

    Frequencies are counts out of `total`, or of their sum. Names of the class `unlisted` and rarer are listed too:
    that they are borne at all is known then.
    """
    counts: dict[str, float] = {}
    for name, count in frequencies:
        if name and count > 0:
            counts[name] = counts.get(name, 0.0) + count
    whole = total or sum(counts.values())
    return Rarity(MappingProxyType({name: round(-log2(count / whole)) for name, count in counts.items()}), unlisted)


def with_names(model: Model, *, families: Rarity, givens: Rarity, version: str) -> Model:
    """The model with other frequencies of names, under a version of its own."""
    return read_model(written(replace(model, families=families, givens=givens, version=version, checksum="")))


@cache
def default_model() -> Model:
    """The model that comes with the package (see its `provenance`)."""
    return read_model((files("fhir_server.linkage") / "data" / "model_fr.json").read_bytes())


def _snapshot(rarity: Rarity) -> dict[str, Any]:
    """Names by class, one line each: shorter, and readable in a diff."""
    by_class: dict[str, list[str]] = {}
    for name, held in rarity.classes.items():
        by_class.setdefault(str(held), []).append(name)
    ordered = {held: " ".join(sorted(by_class[held])) for held in sorted(by_class, key=int)}
    return {"unlisted": rarity.unlisted, "classes": ordered}


def _rarity(snapshot: Mapping[str, Any]) -> Rarity:
    classes = {name: int(held) for held, names in snapshot["classes"].items() for name in str(names).split()}
    return Rarity(MappingProxyType(classes), min(max(int(snapshot["unlisted"]), CLASS_OF_A), RAREST))


def _model(document: Mapping[str, Any], comparisons: Sequence[Comparison]) -> Model:
    fields: dict[str, Mapping[str, Weights]] = {}
    for comparison in comparisons:
        given = document["fields"].get(comparison.field, {})
        missing = [level.name for level in comparison.levels if level.name not in given]
        if missing:
            raise ModelRefused(f"modèle refusé : {comparison.field} n'a pas le niveau {missing[0]!r} ; le réentraîner")
        fields[comparison.field] = MappingProxyType(
            {level.name: _weights(comparison.field, level.name, given[level.name]) for level in comparison.levels}
        )
    share = float(document["share"])
    if not 0 < share <= 1:
        raise ModelRefused("modèle refusé : share doit être entre 0 et 1")
    names = ("certain", "probable", "possible", "margin")
    thresholds = Thresholds(*(float(document["thresholds"][name]) for name in names))
    in_order = thresholds.certain >= thresholds.probable >= thresholds.possible and thresholds.margin >= 0
    if not in_order or not all(isfinite(getattr(thresholds, name)) for name in names):
        raise ModelRefused("modèle refusé : seuils attendus finis, certain >= probable >= possible, margin >= 0")
    return Model(
        version=str(document["version"]),
        provenance=MappingProxyType(dict(document["provenance"])),
        share=share,
        register_size=int(document["register_size"]),
        thresholds=thresholds,
        fields=MappingProxyType(fields),
        families=_rarity(document["rarity"]["families"]),
        givens=_rarity(document["rarity"]["givens"]),
        most_rarity=float(document["rarity"]["most_bits"]),
        checksum=str(document["checksum"]),
    )


def _weights(field: str, level: str, given: Mapping[str, Any]) -> Weights:
    weights = Weights(float(given["m"]), float(given["u"]))
    if not (0 < weights.m <= 1 and 0 < weights.u <= 1):
        raise ModelRefused(f"modèle refusé : m et u de {field}/{level} doivent être entre 0 et 1")
    return weights
