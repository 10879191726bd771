"""Training without labels finds what made the data; one session on the union of all blocks does not."""

from random import Random

import pytest

from fhir_server.linkage.comparable import Comparable, comparable
from fhir_server.linkage.levels import FRENCH
from fhir_server.linkage.model import default_model
from fhir_server.linkage.train import (
    FRENCH_SESSIONS,
    Session,
    averaged,
    estimate_m,
    estimate_u,
    pairs_of,
    random_pairs,
    train,
)
from fhir_server.linkage.traits import TraitsIns

MODEL = default_model()
FAMILIES = ["".join((a, b)) for a in ("MAR", "DU", "BER", "PE", "LAM", "GAR") for b in ("TIN", "RAND", "NARD", "TIT")]
GIVENS = ["HUGO", "LEA", "PAUL", "ZOE", "MARC", "ANNE", "YVES", "EMMA", "LUC", "ROSE", "GUY", "IRIS"]
FALSE_FAMILY = 0.1


def sets() -> tuple[list[Comparable], list[Comparable]]:
    """A register, and half of it coming in: one family name in ten is another person's."""
    rng = Random(7)

    def born() -> str:
        return f"{rng.randint(1960, 1999)}-{rng.randint(2, 12):02d}-{rng.randint(2, 28):02d}"

    register = [
        TraitsIns(rng.choice(FAMILIES), None, (rng.choice(GIVENS),), born(), rng.choice(["male", "female"]))
        for _ in range(1200)
    ]
    incoming = [
        TraitsIns(
            rng.choice(FAMILIES) if rng.random() < FALSE_FAMILY else one.birth_name,
            None,
            one.given_names,
            born() if rng.random() < 0.05 else one.birth_date,
            one.sex,
        )
        for one in register[:800]
    ]
    made = [
        [comparable(one, families=MODEL.families, givens=MODEL.givens) for one in people]
        for people in (incoming, register)
    ]
    return made[0], made[1]


INCOMING, REGISTER = sets()


@pytest.fixture(scope="module")
def learnt() -> dict[str, dict[str, dict[str, float]]]:
    return train(INCOMING, REGISTER, random=20_000, most_of_a_block=100_000)


def test_two_sessions_find_how_often_a_trait_is_wrong(learnt: dict[str, dict[str, dict[str, float]]]) -> None:
    wrong = sum(level["m"] for name, level in learnt["family"].items() if name in {"other", "far"})
    assert wrong == pytest.approx(FALSE_FAMILY, abs=0.035)
    assert 0.9 < learnt["born"]["same"]["m"] < 1
    assert sum(level["m"] for level in learnt["given"].values()) == pytest.approx(1)


def test_one_session_on_the_union_of_all_blocks_is_not_what_we_ship(
    learnt: dict[str, dict[str, dict[str, float]]],
) -> None:
    u = estimate_u(random_pairs(INCOMING, REGISTER, 20_000, 1))

    def blocks(one: Comparable) -> list[str]:
        return [*FRENCH_SESSIONS[0].blocks(one), *one.family_sounds, *one.given_sounds]

    union = Session(blocks, ("family", "given", "born", "sex"))
    m = estimate_m(pairs_of(INCOMING, REGISTER, union, 100_000), union.fields, u, siblings=False).m
    apart = max(
        abs(m[field][level.name] - learnt[field][level.name]["m"])
        for field in ("family", "born")
        for level in next(c for c in FRENCH if c.field == field).levels
    )
    assert apart > 0.05


def test_nothing_to_learn_from_is_said() -> None:
    with pytest.raises(ValueError, match="no pairs"):
        train(INCOMING[:1], REGISTER[-1:], random=10)


def test_levels_too_rare_to_be_met_keep_what_they_declare() -> None:
    u = estimate_u(random_pairs(INCOMING, REGISTER, 20_000, 1))
    assert u["nir"]["same"] == pytest.approx(1e-7, rel=0.5)


def test_the_mean_of_trainings() -> None:
    tables = [{"sex": {"same": {"m": m, "u": 0.5}}} for m in (0.9, 1.0)]
    assert averaged(tables)["sex"]["same"]["m"] == pytest.approx(0.95)
