"""What the console says of evidence, dates and numbers; and that words of URLs say nothing."""

from datetime import UTC, datetime, timedelta
from typing import get_args

import pytest

from fhir_server.console import french
from fhir_server.console.evidence import Ground, reason, says, weighed
from fhir_server.console.references import References
from fhir_server.console.words import words
from fhir_server.identity.decisions import DecisionKind, table
from fhir_server.identity.matching import REASONS
from fhir_server.linkage.grade import Grade
from fhir_server.linkage.levels import FRENCH
from fhir_server.outcomes import NotFound

SCORED = {
    "patient": "p",
    "grade": "possible",
    "score": 0.8134,
    "odds": 21.26,
    "steps": [
        {"field": "family", "level": "same", "says": "agree", "bits": 9.3, "rarity_bits": 0.0},
        {"field": "given", "level": "other", "says": "against", "bits": -6.5, "rarity_bits": 0.0},
        {"field": "born", "level": "same", "says": "agree", "bits": 13.94, "rarity_bits": 0.0},
        {"field": "place", "level": "nothing", "says": "nothing", "bits": 0.0, "rarity_bits": 0.0},
        {"field": "shoe size", "level": "far", "says": "weak", "bits": 0.4, "rarity_bits": 0.0},
    ],
    "guards": ["G1-same-family", "other-birth-name", "never-heard-of"],
}


def test_a_waterfall_in_words() -> None:
    """Each step is a sentence with its bits; what nobody has named yet is told all the same."""
    told = weighed(SCORED)
    assert told.grounds == (
        Ground("nom identique", "for", "+9,3 bits"),
        Ground("prénom différent", "against", "−6,5 bits"),
        Ground("date de naissance identique", "for", "+13,9 bits"),
        Ground("lieu de naissance non comparé", "neither", ""),
        Ground("shoe size : ne décide pas", "neither", "+0,4 bits"),
    )
    assert told.summary == "possible, score 0,813, cote +21,3 bits"
    assert told.guards[0].startswith("même nom et même date de naissance")
    assert told.guards[1:] == (REASONS["other-birth-name"], "never-heard-of")


def test_a_rare_name_counts_for_more() -> None:
    step = {"field": "family", "level": "same", "says": "agree", "bits": 9.0, "rarity_bits": 3.1}
    assert weighed({"steps": [step], "for": ["name"]}).grounds == (Ground("nom identique (rare)", "for", "+12,1 bits"),)


def test_sources_that_contradict_each_other() -> None:
    """The scorer weighs the likeliest source; what another one, or the cover, says is told beside it."""
    step = {"field": "family", "level": "same", "says": "agree", "bits": 9.0, "rarity_bits": 0.0}
    told = weighed({"steps": [step], "for": ["folder-number", "name"], "against": ["name", "cover-differs"]})
    assert told.grounds[1:] == (
        Ground("le numéro de dossier désigne ce salarié", "for"),
        Ground("selon une autre source du dossier, nom différent", "against"),
        Ground("ce qui se lit sur la couverture contredit ce salarié (lecture automatique)", "against"),
    )
    assert says({"for": ["matricule"], "against": ["matricule"]}) == {"matricule": "mixed"}


def test_the_rule_in_the_same_words() -> None:
    """The form without a score."""
    told = weighed({"patient": "p", "for": ["name", "birth-date"], "against": ["given-name"]})
    assert told.grounds == (
        Ground("nom identique", "for"),
        Ground("date de naissance identique", "for"),
        Ground("prénom différent", "against"),
    )
    assert (told.guards, told.summary) == ((), "")


def test_every_level_of_the_scorer_has_a_sentence() -> None:
    for comparison in FRENCH:
        assert {level.name for level in comparison.levels} | {"nothing"} == words().step[comparison.field].keys()
    assert words().step.keys() == {comparison.field for comparison in FRENCH}
    assert words().grade.keys() == set(get_args(Grade))


def test_every_code_has_its_words() -> None:
    """Traits and reasons of the rule, decisions of the table, each key once."""
    assert all(reason(code) != code for code in REASONS)
    kinds = [action.decision for action in words().action]
    assert set(kinds) == set(DecisionKind.__args__)
    assert set(kinds) <= words().done.keys() & table().decision.keys()
    assert len({action.key for action in words().action} | set("jkfhlmzuq")) == len(kinds) + len("jkfhlmzuq")


def test_french_dates_and_numbers() -> None:
    assert [french.date(one) for one in ("1996-12-05", "1996-12", "1996", None, "?")] == [
        "05/12/1996",
        "12/1996",
        "1996",
        "",
        "?",
    ]
    now = datetime(2026, 1, 10, tzinfo=UTC)
    ages = [french.age(now - timedelta(minutes=one), now) for one in (0, 119, 120, 2879, 2880)]
    assert [age.replace(french.NARROW, " ") for age in ages] == ["0 min", "119 min", "2 h", "47 h", "2 j"]
    assert french.counted(0, "dossier").endswith("dossier")
    assert french.counted(2, "dossier").endswith("dossiers")


def test_words_of_addresses_say_nothing() -> None:
    """The barcode is the number of a worker: it is not in the address, and nobody makes an address of his own."""
    references = References(b"k" * 32)
    word = references.seal("folder", "LOT_1", "100000101")
    assert word == references.seal("folder", "LOT_1", "100000101")
    assert references.open("folder", word) == ["LOT_1", "100000101"]
    assert "100000101" not in word
    forged = word[:-1] + ("A" if word[-1] != "A" else "B")
    for wrong in ("", "x", "é", word[1:], forged, references.seal("event", "LOT_1", "100000101"), "A" * 2000):
        with pytest.raises(NotFound):
            references.open("folder", wrong)
    with pytest.raises(NotFound):
        References(b"j" * 32).open("folder", word)
