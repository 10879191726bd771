"""The model is data with a checksum: what does not fit is refused with what to do, and nothing is decided with it."""

import json
from typing import Any

import pytest

from fhir_server.linkage.levels import FRENCH
from fhir_server.linkage.model import (
    Model,
    ModelRefused,
    checksum,
    counted_names,
    default_model,
    read_model,
    with_names,
    written,
)


def document() -> dict[str, Any]:
    return json.loads(written(default_model()))


def signed(changed: dict[str, Any]) -> str:
    return json.dumps(changed | {"checksum": checksum(changed)})


def test_the_model_that_ships_is_whole_and_says_where_it_comes_from() -> None:
    model = default_model()
    assert isinstance(model, Model)
    assert "synthetic" in model.provenance["trained_on"]
    assert {c.field for c in FRENCH} == set(model.fields)
    for comparison in FRENCH:
        weights = [model.fields[comparison.field][level.name] for level in comparison.levels]
        assert sum(w.m for w in weights) == pytest.approx(1, abs=0.01), comparison.field
        assert sum(w.u for w in weights) == pytest.approx(1, abs=0.01), comparison.field
        assert weights[0].bits > 0 > weights[-1].bits, comparison.field


def test_a_model_is_read_as_it_was_written() -> None:
    assert read_model(written(default_model())) == default_model()


def test_an_altered_model_is_refused() -> None:
    changed = document()
    changed["thresholds"]["certain"] = -10.0
    with pytest.raises(ModelRefused, match="SHA-256"):
        read_model(json.dumps(changed))


def test_a_model_that_lacks_a_level_is_refused_and_the_level_named() -> None:
    changed = document()
    del changed["fields"]["born"]["swapped"]
    with pytest.raises(ModelRefused, match=r"born.*swapped"):
        read_model(signed(changed))


@pytest.mark.parametrize(
    ("where", "value"),
    [("share", 0), ("share", "many"), ("thresholds", {}), ("rarity", None), ("register_size", None), ("fields", [])],
)
def test_a_model_that_makes_no_sense_is_refused(where: str, value: object) -> None:
    with pytest.raises(ModelRefused):
        read_model(signed(document() | {where: value}))


def test_m_and_u_are_probabilities() -> None:
    changed = document()
    changed["fields"]["sex"]["same"]["u"] = 0
    with pytest.raises(ModelRefused, match="sex/same"):
        read_model(signed(changed))


@pytest.mark.parametrize("text", ["", "[]", "{}", "null", b"\xff\xfe", '{"format": "another/1"}'])
def test_what_is_no_model_is_refused(text: str | bytes) -> None:
    with pytest.raises(ModelRefused):
        read_model(text)


def test_the_prior_falls_by_one_bit_when_the_register_doubles() -> None:
    model = default_model()
    assert model.prior(100_000) - model.prior(200_000) == pytest.approx(1, abs=1e-4)
    assert model.prior(1_000_000) < model.prior(100_000) < model.prior(1_000)
    assert model.prior(0) <= 0


def test_frequencies_may_be_counted_in_the_register() -> None:
    families = counted_names([("MARTIN", 900), ("KERMADEC", 1), ("MARTIN", 99)], unlisted=20)
    givens = counted_names([("JEAN", 3), ("ZOE", 1)], unlisted=20)
    model = with_names(default_model(), families=families, givens=givens, version="fr-1-register")
    assert model.checksum != default_model().checksum
    assert model.families.letter("MARTIN") < model.families.letter("KERMADEC") < model.families.letter("UNHEARD")
    assert model.version == "fr-1-register"
