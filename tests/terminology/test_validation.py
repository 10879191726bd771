"""$validate-code, as far as it is a matter of meaning.

https://hl7.org/fhir/R4/codesystem-operation-validate-code.html,
https://hl7.org/fhir/R4/valueset-operation-validate-code.html
"""

from typing import Any

import pytest

from terminology.problems import NotKept, TooMuch
from terminology.validation import Coded, Verdict, any_of, coded, in_code_system, in_value_set
from tests.terminology.exposures import (
    AT_WORK,
    EXPOSURES,
    EXPOSURES_SYSTEM,
    ICD,
    SUPPLEMENT_SYSTEM,
    Resource,
    codes,
    concept,
    library,
    value_set,
    where,
)

OLDER = EXPOSURES_SYSTEM | {"version": "1", "concept": [concept("cold", "Cold")]}


def in_system(asked: Coded, changes: Resource | None = None, **more: Any) -> Verdict:
    at_hand = library(SUPPLEMENT_SYSTEM, OLDER, EXPOSURES_SYSTEM | (changes or {}) | {"version": "3"})
    systems = at_hand.code_systems[EXPOSURES]
    system = systems[-1] if changes else systems[0]
    return in_code_system(system, at_hand, **{"fixed": False, **more})(asked)


def in_set(resource: Resource, asked: Coded, *at_hand: Resource, **more: Any) -> Verdict:
    return in_value_set(resource, library(SUPPLEMENT_SYSTEM, *at_hand), **more)(asked)


def code(code: str, **more: str) -> Coded:
    return Coded(EXPOSURES, code, **more)


@pytest.mark.parametrize(
    ("asked", "result", "display"),
    [
        (code("noise"), True, "Noise"),
        (code("noise", display="noise"), True, "Noise"),
        (code("noise", display="  BRUIT "), True, "Noise"),
        (code("benzol", display="Benzène"), True, "Benzol"),
        (code("noise", display="Silence"), False, "Noise"),
        (code("NOISE"), False, None),
        (code("unknown"), False, None),
        (Coded(ICD, "noise"), False, None),
        (Coded(None, "noise"), False, None),
        (code("cold"), False, None),
        (code("cold", version="1"), True, "Cold"),
        (code("noise", version="1"), False, None),
        (code("noise", version="2"), True, "Noise"),
        (code("noise", version="9"), False, None),
    ],
)
def test_a_code_is_judged_by_its_code_system(asked: Coded, result: bool, display: str | None) -> None:
    """By its code, system, version and display; any name will do, in whatever case."""
    verdict = in_system(asked)
    assert (verdict.result, verdict.display) == (result, display)
    assert (verdict.message is None) is result or asked.code == "benzol"


def test_an_instance_judges_by_its_own_version() -> None:
    """Another one is not asked."""
    assert in_system(code("cold", version="1"), fixed=True).result is False
    assert in_system(code("noise", version="2"), fixed=True).result is True


@pytest.mark.parametrize(
    ("display", "language", "result", "shown"),
    [
        ("Bruit", "fr", True, "Bruit"),
        ("Noise", "fr", False, "Bruit"),
        ("Noise", "de", True, "Noise"),
        (None, "fr", True, "Bruit"),
    ],
)
def test_a_display_is_judged_in_its_language(display: str | None, language: str, result: bool, shown: str) -> None:
    """Where there is a name in that language; else by all names."""
    verdict = in_system(Coded(EXPOSURES, "noise", None, display), language=language)
    assert (verdict.result, verdict.display) == (result, shown)


def test_abstract_codes_are_right_unless_the_client_says_otherwise() -> None:
    """`abstract`: only false refuses them."""
    assert in_system(code("physical")).result is True
    verdict = in_system(code("physical"), abstract=False)
    assert (verdict.result, verdict.display) == (False, "Physical agent")
    assert "abstract" in (verdict.message or "")


def test_an_inactive_code_is_right_and_noted() -> None:
    """`message` with a result that is true is a hint."""
    verdict = in_system(code("benzol"))
    assert (verdict.result, verdict.message) == (True, "The code is inactive")


@pytest.mark.parametrize(
    ("content", "asked", "result", "word"),
    [
        ("fragment", "noise", True, None),
        ("fragment", "other", False, "fragment"),
        ("not-present", "noise", False, "does not keep the codes"),
        ("example", "noise", False, "does not keep the codes"),
    ],
)
def test_what_cannot_be_judged_is_not_called_right(content: str, asked: str, result: bool, word: str | None) -> None:
    """And the message says that it cannot be told."""
    verdict = in_system(code(asked), {"content": content})
    assert verdict.result is result
    assert (verdict.message is None) if word is None else word in (verdict.message or "")


ALL = value_set(AT_WORK, codes())
NOISES = value_set(AT_WORK, where("concept", "is-a", "noise"))


@pytest.mark.parametrize(
    ("resource", "asked", "result", "display"),
    [
        (ALL, code("noise"), True, "Noise"),
        (NOISES, code("impulse-noise", display="Bruit impulsionnel"), True, "Impulse noise"),
        (NOISES, code("lead"), False, "Lead"),
        (NOISES, code("unknown"), False, None),
        (NOISES, Coded(ICD, "J45"), False, None),
        (NOISES, Coded(None, "noise"), False, None),
        (NOISES, Coded(EXPOSURES, None), False, None),
        (ALL, code("noise", version="2"), True, "Noise"),
        (ALL, code("noise", version="1"), False, None),
        (ALL, code("cold", version="1"), True, "Cold"),
        (value_set(AT_WORK, codes(version="2")), code("noise", version="1"), False, None),
        (value_set(AT_WORK, codes(), inactive=False), code("benzol"), False, "Benzol"),
        (value_set(AT_WORK, codes(), exclude=[codes("lead")]), code("lead"), False, "Lead"),
    ],
)
def test_a_code_is_judged_by_a_value_set(resource: Resource, asked: Coded, result: bool, display: str | None) -> None:
    """What is not in it may still have a name in its code system."""
    verdict = in_set(resource, asked, OLDER)
    assert (verdict.result, verdict.display) == (result, display)


@pytest.mark.parametrize(
    ("include", "result", "word"),
    [
        (codes(system=ICD), False, "does not keep the code system"),
        (codes("J45", system=ICD), True, "listed by the value set"),
        (codes("J46", system=ICD), False, "not in the value set"),
    ],
)
def test_of_a_system_that_is_not_kept_only_listed_codes_are_known(include: Resource, result: bool, word: str) -> None:
    """The message says by whose word."""
    verdict = in_set(value_set(AT_WORK, include), Coded(ICD, "J45"))
    assert verdict.result is result
    assert word in (verdict.message or "")


def test_what_has_no_name_here_cannot_be_called_by_one() -> None:
    """A display that nobody can judge is not called right."""
    resource = value_set(AT_WORK, codes("J45", system=ICD))
    assert in_set(resource, Coded(ICD, "J45", None, "Asthme")).result is False
    named = value_set(AT_WORK, {"system": ICD, "concept": [{"code": "J45", "display": "Asthme"}]})
    assert in_set(named, Coded(ICD, "J45", None, "asthme")).result is True


def test_a_code_may_be_written_in_any_case_where_its_system_allows_that() -> None:
    """`caseSensitive` false."""
    blood = {
        "resourceType": "CodeSystem",
        "url": ICD,
        "status": "active",
        "content": "complete",
        "caseSensitive": False,
    }
    at_hand = blood | {"concept": [concept("A+", "A positive")]}
    for resource in (value_set(AT_WORK, codes(system=ICD)), value_set(AT_WORK, codes("a+", system=ICD))):
        assert in_set(resource, Coded(ICD, "a+"), at_hand).result is True


def test_a_value_set_that_cannot_be_put_together_does_not_judge() -> None:
    """It is an error, not a verdict."""
    with pytest.raises(NotKept):
        in_set(value_set(AT_WORK, {"valueSet": ["http://test/nothing"]}), code("noise"))


@pytest.mark.parametrize(
    ("codings", "result", "message"),
    [
        ([], False, "The concept has no coding"),
        ([{"system": EXPOSURES, "code": "noise"}], True, None),
        ([{"system": ICD, "code": "x"}, {"system": EXPOSURES, "code": "noise"}], True, None),
        ([{"system": EXPOSURES, "code": "lead"}], False, "The code is not in the value set"),
        ([{"code": "x"}, {"system": EXPOSURES, "code": "lead"}], False,
         "coding[0]: The coding lacks its system or its code; coding[1]: The code is not in the value set"),
    ],
)  # fmt: skip
def test_one_right_coding_makes_a_concept_right(codings: list[Resource], result: bool, message: str | None) -> None:
    """As R4 says; where none is, each is told about."""
    verdict = any_of(codings, in_value_set(NOISES, library()))
    assert (verdict.result, verdict.message) == (result, message)


def test_a_concept_of_too_many_codings_is_not_judged() -> None:
    """Each is a question of its own."""
    with pytest.raises(TooMuch):
        any_of([{"system": ICD, "code": "x"}] * 101, in_value_set(NOISES, library()))


def test_a_coding_is_what_it_says() -> None:
    """All its parts count."""
    asked = coded({"system": EXPOSURES, "code": "noise", "version": "2", "display": "Bruit"})
    assert asked == Coded(EXPOSURES, "noise", "2", "Bruit")
