"""Properties of the score: symmetric, bounded, monotonous; strange input costs little and links nobody."""

import time
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fhir_server.linkage.comparable import Comparable, comparable
from fhir_server.linkage.grade import Candidate, Graded, Judge
from fhir_server.linkage.keys import MOST_KEYS, keys_of
from fhir_server.linkage.levels import FRENCH, compiled, python_of
from fhir_server.linkage.model import default_model
from fhir_server.linkage.names import words
from fhir_server.linkage.phonetics import looks, skeleton, sound
from fhir_server.linkage.score import posteriors, scorer
from fhir_server.linkage.traits import TraitsIns

MODEL = default_model()
SCORE = scorer(MODEL)
JUDGE = Judge(MODEL, 100_000)
SECRET = b"secret of a test"

NAMES = st.sampled_from(
    ["MARTIN", "LE GOFF", "LEGOFF", "DE LA TOUR", "DURAND-MARTIN", "Durand", "N'GUESSAN", "", "MART1N", "X"]
) | st.text(max_size=12)
GIVENS = st.sampled_from(["JEAN", "JEAN-PIERRE", "PIERRE", "MARIE LOUISE", "ZOÉ", "J", ""]) | st.text(max_size=12)
DATES = st.sampled_from(["1980-05-07", "1980-07-05", "1980-05", "1980", "1980-01-01", "1980-00-00", "", "07/05/1980"])
NIRS = st.sampled_from(["180032B02040123", "180032B020401", "109076322083489", "1090763220834", "000", "x" * 15, ""])
TRAITS = st.builds(
    TraitsIns,
    birth_name=st.none() | NAMES,
    used_name=st.none() | NAMES,
    given_names=st.lists(GIVENS, max_size=3).map(tuple),
    birth_date=st.none() | DATES,
    sex=st.sampled_from(["male", "female", "unknown", None]),
    birth_place=st.sampled_from(["29019", "2A004", "99999", "75115", "", None]),
    matricule_ins=st.none() | NIRS,
)


def made(traits: TraitsIns, *former: str) -> Comparable:
    return comparable(traits, former, families=MODEL.families, givens=MODEL.givens)


def graded(stated: Comparable, *register: Comparable) -> tuple[Graded, ...]:
    return JUDGE.grade(stated, [Candidate(str(place), one) for place, one in enumerate(register)])


ANNE = TraitsIns(
    birth_name="LE GOFF",
    used_name="MARTIN",
    given_names=("ANNE", "LOUISE"),
    birth_date="1979-03-14",
    sex="female",
    birth_place="29019",
    matricule_ins="279032901921835",
)


@given(TRAITS, TRAITS)
@settings(max_examples=300, deadline=None)
def test_a_pair_weighs_the_same_whichever_came_in(one: TraitsIns, other: TraitsIns) -> None:
    a, b = made(one), made(other)
    assert SCORE(a, b).bits == pytest.approx(SCORE(b, a).bits)


@given(st.lists(st.floats(-200, 200), max_size=20), st.floats(-40, 0))
def test_posteriors_of_all_candidates_sum_to_less_than_one(weights: list[float], prior: float) -> None:
    found = posteriors(weights, prior)
    assert all(0 <= one <= 1 for one in found)
    assert sum(found) <= 1 + 1e-9


@given(TRAITS)
@settings(deadline=None)
def test_two_candidates_are_never_both_sure(traits: TraitsIns) -> None:
    one = made(traits)
    found = graded(one, one, one)
    assert all(candidate.posterior <= 0.5 for candidate in found)
    assert all(candidate.grade != "certain" for candidate in found)


@given(TRAITS, st.permutations(range(4)))
@settings(deadline=None)
def test_the_order_of_candidates_decides_nothing(traits: TraitsIns, order: list[int]) -> None:
    people = [made(ANNE), made(traits), made(replace(ANNE, given_names=("LOUISE",))), made(replace(ANNE, sex="male"))]
    candidates = [Candidate(str(place), one) for place, one in enumerate(people)]
    assert JUDGE.grade(made(ANNE), [candidates[place] for place in order]) == JUDGE.grade(made(ANNE), candidates)


@given(st.text(max_size=40))
def test_normal_forms_are_normal(text: str) -> None:
    for word in words(text):
        assert words(word) == (word,)
        assert looks(looks(looks(word))) == looks(looks(looks(looks(word))))
        assert sound(word)
        assert skeleton(word)
    joined = " ".join(words(text))
    assert words(joined) == words(text)


@pytest.mark.parametrize("trait", ["birth_name", "given_names", "birth_date", "sex", "birth_place", "matricule_ins"])
def test_what_agrees_speaks_for_and_what_differs_against(trait: str) -> None:
    others: dict[str, object] = {
        "birth_name": "KOWALSKI",
        "given_names": ("HUGO",),
        "birth_date": "1991-11-30",
        "sex": "male",
        "birth_place": "13055",
        "matricule_ins": "109076322083489",
    }
    unstated: dict[str, object] = {"given_names": ()}
    bare = replace(ANNE, used_name=None)
    anne = made(bare)
    without = SCORE(made(replace(bare, **{trait: unstated.get(trait)})), anne).bits  # type: ignore[arg-type]
    against = SCORE(made(replace(bare, **{trait: others[trait]})), anne).bits  # type: ignore[arg-type]
    assert SCORE(anne, anne).bits > without > against


def test_rare_names_weigh_more_than_frequent_ones() -> None:
    def bits(name: str) -> float:
        one = made(replace(ANNE, birth_name=name, used_name=None))
        return SCORE(one, one).bits

    assert bits("MARTIN") < bits("LE GOFF") <= bits("KERMADECOU")


def test_the_waterfall_adds_up() -> None:
    found = SCORE(made(replace(ANNE, used_name=None)), made(ANNE))
    assert sum(step.bits + step.rarity_bits for step in found.steps) == pytest.approx(found.bits)
    assert [step.field for step in found.steps] == [comparison.field for comparison in FRENCH]


def test_a_bigger_register_asks_for_more() -> None:
    stated, worker = made(replace(ANNE, matricule_ins=None, birth_place=None)), made(ANNE)
    odds = [Judge(MODEL, size).grade(stated, [Candidate("1", worker)])[0].odds for size in (10_000, 100_000, 1_000_000)]
    assert odds == sorted(odds, reverse=True)


def test_a_rival_forbids_certainty_whoever_comes_first() -> None:
    one = made(replace(ANNE, matricule_ins=None))
    found = graded(one, one, one)
    assert [candidate.reasons for candidate in found] == [("G6-rival",), ("G6-rival",)]
    assert {candidate.grade for candidate in found} == {"possible"}


def test_former_traits_of_one_worker_are_no_rival() -> None:
    found = JUDGE.grade(made(ANNE), [Candidate("anne", made(ANNE)), Candidate("anne", made(ANNE))])
    assert [candidate.grade for candidate in found] == ["certain"]


def test_registered_twins_are_told_apart() -> None:
    twin = made(replace(ANNE, given_names=("CLAIRE",), matricule_ins="279032901921936"))
    found = graded(made(replace(ANNE, matricule_ins=None)), twin, made(ANNE))
    assert [(one.identity, one.grade) for one in found] == [("1", "certain"), ("0", "possible")]


def test_a_test_matricule_is_never_certain() -> None:
    stated = made(replace(ANNE, oid_ins="1.2.250.1.213.1.4.10"))
    found = graded(stated, made(ANNE))[0]
    assert found.grade == "possible"
    assert "test-matricule" in found.reasons


def test_nobody_is_a_candidate_of_nothing() -> None:
    assert graded(made(ANNE)) == ()
    assert graded(made(TraitsIns()), made(ANNE))[0].grade == "none"
    assert keys_of(made(TraitsIns()), SECRET) == []


@pytest.mark.parametrize(
    "name",
    ["A" * 500, "JEAN-" * 100, "É" * 500, "ﷺ" * 500, "Ω" * 500, "D'" * 250, "0158" * 125, "\u200b\u202e" * 250],
)
def test_long_and_strange_names_cost_little(name: str) -> None:
    started = time.process_time()
    one = made(
        TraitsIns(birth_name=name, used_name=name[::-1], given_names=(name,) * 50, birth_date=name), *[name] * 50
    )
    assert len(keys_of(one, SECRET)) <= MOST_KEYS
    for _ in range(20):
        SCORE(one, one)
    assert time.process_time() - started < 0.5


@given(TRAITS)
@settings(deadline=None)
def test_keys_are_few_signed_integers_that_depend_on_the_secret(traits: TraitsIns) -> None:
    one = made(traits)
    keys = keys_of(one, SECRET)
    assert len(keys) == len(set(keys)) <= MOST_KEYS
    assert all(-(2**63) <= key < 2**63 for key in keys)
    assert set(keys_of(one, SECRET, stored=False)) <= set(keys)
    assert not keys or set(keys_of(one, b"another secret..")) != set(keys)


@pytest.mark.parametrize(
    "change",
    [
        {"birth_name": "LEGOFF"},
        {"birth_name": "MARTIN", "used_name": None},
        {"birth_date": "1979-04-13"},
        {"birth_date": None},
        {"given_names": ("ANE",)},
        {"birth_name": "ANNE", "used_name": None, "given_names": ("LE GOFF",)},
        {"birth_name": "LE GOF", "given_names": ("ANNA",)},
    ],
)
def test_keys_find_the_worker_however_he_is_written(change: dict[str, object]) -> None:
    stated = replace(ANNE, matricule_ins=None, **change)  # type: ignore[arg-type]
    assert set(keys_of(made(stated), SECRET, stored=False)) & set(keys_of(made(ANNE), SECRET))


def test_former_matricules_are_keys_too() -> None:
    worker = made(ANNE, "209076322083439")
    stated = made(TraitsIns(matricule_ins="2090763220834"))
    assert set(keys_of(stated, SECRET, stored=False)) & set(keys_of(worker, SECRET))


def test_the_function_of_the_levels_can_be_read() -> None:
    text = python_of(FRENCH)
    assert text.startswith("def compare(one, other):")
    assert compiled(FRENCH)(made(ANNE), made(ANNE)) == (0, 0, 1, 0, 0, 0, -1)
