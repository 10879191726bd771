"""A register taken over: the batch finds and grades as the online path does."""

from array import array
from dataclasses import replace
from random import Random

from fhir_server.linkage.batch import key_table, linked, merged_keys, within
from fhir_server.linkage.comparable import comparable
from fhir_server.linkage.grade import Candidate, Judge
from fhir_server.linkage.model import default_model
from fhir_server.linkage.traits import TraitsIns

MODEL = default_model()
SECRET = b"secret of a test"
NAMES = ("MARTIN", "LE GOFF", "DURAND", "NGUYEN", "KERMADEC")
REGISTER = [
    TraitsIns(name, None, (given,), f"19{60 + place}-0{1 + place}-1{place}", "female")
    for place, name in enumerate(NAMES)
    for given in ("ANNE", "ZOE")
]


def test_a_batch_grades_as_the_judge_does() -> None:
    people = [comparable(one, families=MODEL.families, givens=MODEL.givens) for one in REGISTER]
    register = [Candidate(str(place), one) for place, one in enumerate(people)]
    judge = Judge(MODEL, len(register))
    incoming = [replace(REGISTER[0], birth_name="Martin"), replace(REGISTER[3], given_names=("ZOÉ",)), TraitsIns()]
    stated = [comparable(one, families=MODEL.families, givens=MODEL.givens) for one in incoming]
    found = list(linked(stated, register, key_table(people, SECRET), judge, SECRET))
    assert [[(one.identity, one.grade) for one in answers[:1]] for answers in found] == [
        [("0", "certain")],
        [("3", "certain")],
        [],
    ]
    online = [tuple(one for one in judge.grade(person, register) if one.grade != "none") for person in stated]
    assert [answers[0].identity for answers in found if answers] == [one[0].identity for one in online if one]


def test_pairs_within_a_register_are_bounded() -> None:
    """A register that holds one worker 30 times makes no more pairs than are of use."""
    people = [comparable(REGISTER[0], families=MODEL.families, givens=MODEL.givens)] * 30
    register = [Candidate(str(place), one) for place, one in enumerate(people)]
    judge = Judge(MODEL, 1000)
    pairs = list(within(range(30), register, key_table(people, SECRET), judge, SECRET, most_pairs=5))
    assert len(pairs) == 5 * 25 + 4 + 3 + 2 + 1
    assert [(one, other) for one, other, _ in pairs[:5]] == [(0, 1), (0, 2), (0, 3), (0, 4), (0, 5)]


def test_a_key_of_too_many_is_not_asked() -> None:
    people = [comparable(REGISTER[0], families=MODEL.families, givens=MODEL.givens)] * 5
    table = key_table(people, SECRET)
    assert len(table.of(table.keys[0], most=5)) == 5
    assert len(table.of(table.keys[0], most=4)) == 0
    assert len(table.of(12345, most=4)) == 0


def test_the_table_finds_what_a_search_of_all_would() -> None:
    """Also the least and the greatest key, and those at the edges of the 16 bits by which it is parted."""
    edges = [-(1 << 63), -1, 0, (1 << 48) - 1, 1 << 48, -(1 << 48), (1 << 63) - 1]
    rng = Random(1)
    drawn = [rng.randrange(-(1 << 63), 1 << 63) for _ in range(500)]
    rows = [(key, place) for place, key in enumerate([*edges, *drawn, *edges, *drawn[:50]])]
    heaps = [(array("q"), array("q")) for _ in range(256)]
    for key, place in rows:
        heaps[(key >> 56) + 128][0].append(key)
        heaps[(key >> 56) + 128][1].append(place)
    table = merged_keys([heaps])
    for key in [*edges, *drawn, 7, -7, (1 << 62) + 1]:
        assert list(table.of(key, most=2)) == [place for held, place in rows if held == key]
    assert list(key_table([], SECRET).of(7, most=2)) == []
