"""Names of codes in several languages: https://hl7.org/fhir/R4/codesystem.html#designations"""

import pytest

from terminology.code_system import parse
from terminology.composition import composed
from terminology.wording import OTHER_LANGUAGE, Wording, distance
from tests.terminology.exposures import (
    AT_WORK,
    EXPOSURES,
    EXPOSURES_SYSTEM,
    SUPPLEMENT_SYSTEM,
    Resource,
    codes,
    library,
    value_set,
)


@pytest.mark.parametrize(
    ("wanted", "language", "far"),
    [
        ("fr", "fr", 0),
        ("FR-fr", "fr-FR", 0),
        ("fr", "fr-FR", 1),
        ("fr-CA", "fr", 2),
        ("fr-CA", "fr-FR", 3),
        ("fr", "en", OTHER_LANGUAGE),
        ("fr", None, OTHER_LANGUAGE),
        ("fr", "frr", OTHER_LANGUAGE),
    ],
)
def test_languages_are_near_or_far(wanted: str, language: str | None, far: int) -> None:
    """The same, a more special one, a more general one, a cousin."""
    assert distance(wanted, language) == far


def shown(resource: Resource, code: str, language: str | None, *at_hand: Resource) -> str | None:
    all_at_hand = library(*at_hand)
    member = composed(resource, all_at_hand).members[EXPOSURES, code]
    wording = Wording(all_at_hand, language)
    name = wording.display(wording.names(member))
    return name.text if name else None


@pytest.mark.parametrize(
    ("code", "language", "expected"),
    [
        ("noise", None, "Noise"),
        ("noise", "en", "Noise"),
        ("noise", "fr", "Bruit"),
        ("noise", "fr-CA", "Bruit"),
        ("noise", "de", "Noise"),
        ("benzol", "fr", "Benzène"),
        ("benzol", None, "Benzol"),
        ("chemical", "fr-FR", "Agent chimique"),
    ],
)
def test_a_code_is_shown_in_the_language_that_is_wanted(code: str, language: str | None, expected: str) -> None:
    """From the code system or its supplement; as it is shown as a rule where nobody knows it in that language."""
    assert shown(value_set(AT_WORK, codes()), code, language, SUPPLEMENT_SYSTEM) == expected


@pytest.mark.parametrize(
    "changes",
    [{"status": "retired"}, {"supplements": "http://test/other"}, {"supplements": f"{EXPOSURES}|1"}],
)
def test_a_supplement_of_something_else_adds_nothing(changes: Resource) -> None:
    """One that is no longer in force, of another code system, or of another version."""
    assert shown(value_set(AT_WORK, codes()), "benzol", "fr", SUPPLEMENT_SYSTEM | changes) == "Benzol"


def test_a_supplement_of_the_version_in_use_adds_its_names() -> None:
    """`url|version`."""
    fitting = SUPPLEMENT_SYSTEM | {"supplements": f"{EXPOSURES}|2"}
    assert shown(value_set(AT_WORK, codes()), "benzol", "fr", fitting) == "Benzène"


LISTED = {
    "system": EXPOSURES,
    "concept": [
        {"code": "noise", "display": "Loud work", "designation": [{"language": "fr", "value": "Travail bruyant"}]},
        {"code": "lead"},
    ],
}


@pytest.mark.parametrize(
    ("code", "language", "expected"),
    [
        ("noise", None, "Loud work"),
        ("noise", "fr", "Travail bruyant"),
        ("noise", "en", "Noise"),
        ("lead", None, "Lead"),
        ("lead", "fr", "Plomb"),
    ],
)
def test_a_value_set_may_call_a_code_otherwise(code: str, language: str | None, expected: str) -> None:
    """Its own names come first; what it calls it has the language of the value set, if that says one."""
    assert shown(value_set(AT_WORK, LISTED), code, language) == expected
    if (code, language) == ("noise", "en"):
        assert shown(value_set(AT_WORK, LISTED, language="en"), code, language) == "Loud work"


def test_a_designation_for_another_use_is_not_shown_before_one_to_be_shown() -> None:
    """An abbreviation in French stands behind a name in French."""
    use = {"system": "http://test/use", "code": "abbreviation"}
    names = [{"language": "fr", "value": "br.", "use": use}, {"language": "fr", "value": "Bruit"}]
    changed = EXPOSURES_SYSTEM | {"concept": [{"code": "noise", "display": "Noise", "designation": names}]}
    at_hand = library()
    at_hand = type(at_hand)({EXPOSURES: [parse(changed)]})
    member = composed(value_set(AT_WORK, codes()), at_hand).members[EXPOSURES, "noise"]
    wording = Wording(at_hand, "fr")
    found = wording.display(wording.names(member))
    assert found is not None
    assert found.text == "Bruit"
