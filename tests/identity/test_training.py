"""A model of the register: what it learns, what it keeps, what it refuses; and files that cannot be used."""

import json
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fhir_server.identity.model_file import model_of
from fhir_server.identity.registers import Listed, Way, prepared
from fhir_server.identity.training import LEAST_MATCHES, labels_in, trained
from fhir_server.linkage.model import ModelRefused, checksum, default_model, written
from fhir_server.linkage.traits import TraitsIns
from fhir_server.outcomes import BadParameter

BASE = default_model()


def people(count: int, seed: int = 1) -> list[Listed]:
    rng = random.Random(seed)
    names, givens = sorted(BASE.families.classes)[::9], sorted(BASE.givens.classes)[::5]
    return [
        Listed(
            str(place),
            TraitsIns(
                rng.choice(names),
                None,
                (rng.choice(givens),),
                f"{rng.randrange(1960, 2006)}-{rng.randrange(1, 13):02}-{rng.randrange(1, 29):02}",
                rng.choice(("male", "female")),
                f"{rng.randrange(10, 96)}{rng.randrange(100, 500)}",
            ),
        )
        for place in range(count)
    ]


REGISTER = people(1500)


def test_a_model_of_the_register() -> None:
    """What was seen often enough is learnt, the rest kept; the new model says where it comes from and can be read."""
    way = Way(BASE)
    register = prepared(REGISTER, way)
    incoming = prepared([one._replace(traits=replace(one.traits, sex=None)) for one in REGISTER[:1200]], way)
    made = trained(BASE, incoming, register, version="ours-1", random=30_000)
    assert made.model.version == "ours-1"
    assert made.model.register_size == 1500
    assert made.model.provenance["from"]["checksum"] == BASE.checksum
    assert made.matches[0] >= LEAST_MATCHES
    assert made.model.fields["family"]["same"].m > 0.95
    assert made.model.thresholds == BASE.thresholds
    alone = trained(BASE, register, register, version="ours-2", random=30_000)
    assert "family" in alone.model.provenance["kept_from_former"]
    assert alone.model.fields["family"]["same"].m == BASE.fields["family"]["same"].m


def test_too_small_a_register_and_an_old_version_are_refused() -> None:
    register = prepared(REGISTER[:50], Way(BASE))
    with pytest.raises(ModelRefused, match="trop petit"):
        trained(BASE, register, register, version="x")
    with pytest.raises(ModelRefused, match="version nouvelle"):
        trained(BASE, prepared(REGISTER, Way(BASE)), [register[0]] * 1000, version=BASE.version)


def test_what_persons_found_to_be_two_raises_the_threshold() -> None:
    """Never lowered; a pair that a guard stops counts for nothing."""
    register = prepared(REGISTER, Way(BASE))
    fields = ("family", "given", "born", "place")
    steps = [{"field": field, "level": "same", "rarity_bits": 0.0} for field in fields]
    lines = [
        {"verdict": "non-match", "comparison": {"steps": steps, "guards": []}},
        {"verdict": "non-match", "comparison": {"steps": steps * 2, "guards": ["G5-other-sex"]}},
        {"verdict": "match", "comparison": {"steps": steps * 3}},
    ]
    labels = labels_in("\n".join(map(json.dumps, lines)))
    made = trained(BASE, register, register, version="ours-3", labels=labels, random=30_000)
    assert (made.labels, made.non_matches) == (3, 2)
    assert made.raised_by > 5
    odds = made.model.prior() + sum(made.model.fields[field]["same"].bits for field in fields)
    assert made.model.thresholds.certain == pytest.approx(odds + 1, abs=0.01)
    with pytest.raises(ModelRefused, match="ligne 1"):
        labels_in('{"verdict": "perhaps"}')


def other(change: dict[str, Any], *, sign: bool = True) -> str:
    document = json.loads(written(BASE)) | change
    if sign:
        document["checksum"] = checksum(document)
    return json.dumps(document)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("not json", "JSON"),
        ("{}", "format"),
        (other({"share": 0.5}, sign=False), "SHA-256"),
        (other({"version": "x", "fields": {}}), "n'a pas le niveau"),
        (other({"version": "x", "thresholds": dict.fromkeys(("certain", "probable", "possible"), 1)}), "margin"),
        (
            other({"version": "x", "thresholds": {"certain": 1, "probable": 2, "possible": 0, "margin": 4}}),
            "seuils",
        ),
        (
            other({"version": "x", "thresholds": {"certain": "nan", "probable": 2, "possible": 0, "margin": 4}}),
            "seuils",
        ),
        (other({"share": 0.5}), "celle d'un autre modèle"),
    ],
)
def test_a_model_that_cannot_be_used(text: str, why: str, tmp_path: Path) -> None:
    file = tmp_path / "model.json"
    file.write_text(text)
    with pytest.raises(BadParameter, match=why):
        model_of(file)


def test_the_model_that_ships_and_a_copy_of_it(tmp_path: Path) -> None:
    assert model_of(None) is BASE
    (tmp_path / "copy.json").write_text(written(BASE))
    assert model_of(tmp_path / "copy.json") == BASE
    with pytest.raises(BadParameter, match="cannot be read"):
        model_of(tmp_path / "absent.json")
