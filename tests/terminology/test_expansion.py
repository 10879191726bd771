"""$expand, as far as it is a matter of meaning: https://hl7.org/fhir/R4/valueset-operation-expand.html"""

from typing import Any

import pytest

from fhir_server.r4 import structure
from terminology import expansion
from terminology.expansion import Asked
from terminology.library import Versions
from terminology.problems import Incomputable, NotKept, TooMuch
from tests.terminology.exposures import (
    AT_WORK,
    EXPOSURES,
    EXPOSURES_SYSTEM,
    ICD,
    SUPPLEMENT,
    SUPPLEMENT_SYSTEM,
    Resource,
    codes,
    concept,
    library,
    value_set,
    where,
)

EVERYTHING = value_set(AT_WORK, codes(), id="v", version="7", title="Expositions")


def expanded(resource: Resource = EVERYTHING, *at_hand: Resource, **asked: Any) -> dict[str, Any]:
    """The ValueSet, which is valid R4."""
    found = expansion.expand(resource, library(*at_hand), Asked(**asked), "urn:uuid:x", "2026-11-22T12:00:00.000+00:00")
    assert structure.check(found) == []
    return found


def listed(found: dict[str, Any]) -> list[str]:
    return [one["code"] for one in found["expansion"].get("contains", ())]


def test_an_expansion_says_what_it_is() -> None:
    """Identifier, moment, total, the versions that it was made with; flat, abstract and inactive codes marked."""
    found = expanded()
    told = found["expansion"]
    assert (told["identifier"], told["timestamp"], told["total"]) == ("urn:uuid:x", "2026-11-22T12:00:00.000+00:00", 8)
    assert told["parameter"] == [{"name": "version", "valueUri": f"{EXPOSURES}|2"}]
    assert told["contains"][:2] == [
        {"system": EXPOSURES, "abstract": True, "code": "physical", "display": "Physical agent"},
        {"system": EXPOSURES, "code": "noise", "display": "Noise"},
    ]
    assert told["contains"][-1] == {"system": EXPOSURES, "inactive": True, "code": "benzol", "display": "Benzol"}
    assert "offset" not in told


def test_a_filter_has_few_words() -> None:
    """Each is looked for in each name; the same word counts once."""
    assert listed(expanded(filter="lead " * 1000)) == listed(expanded(filter="lead"))
    with pytest.raises(TooMuch):
        expanded(filter=" ".join(f"w{n}" for n in range(21)))


def test_an_expansion_is_of_its_value_set() -> None:
    """Its metadata; its narrative, its version in the store and (unless asked for) its definition are left out."""
    meta = {"versionId": "3", "lastUpdated": "2026-01-01T00:00:00Z", "security": [{"code": "R"}]}
    resource = EVERYTHING | {"meta": meta, "text": {"status": "empty", "div": "<div/>"}}
    found = expanded(resource)
    for name in ("resourceType", "id", "url", "version", "title", "status"):
        assert found[name] == EVERYTHING[name]
    assert found["meta"] == {"security": [{"code": "R"}]}
    assert not {"text", "compose"} & found.keys()
    assert expanded(resource, include_definition=True)["compose"] == EVERYTHING["compose"]


@pytest.mark.parametrize(
    ("offset", "count", "expected", "offset_told"),
    [
        (None, 2, ["physical", "noise"], 0),
        (2, 2, ["impulse-noise", "vibration"], 2),
        (7, 2, ["benzol"], 7),
        (9, 2, [], 9),
        (None, 0, [], 0),
        (6, None, ["lead", "benzol"], 6),
    ],
)
def test_pages(offset: int | None, count: int | None, expected: list[str], offset_told: int) -> None:
    """The total is that of all of them; count 0 asks for it alone."""
    found = expanded(offset=offset, count=count)
    assert listed(found) == expected
    assert (found["expansion"]["total"], found["expansion"]["offset"]) == (8, offset_told)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("noi", ["noise", "impulse-noise"]),
        ("bruit imp", ["impulse-noise"]),
        ("imp bruit", ["impulse-noise"]),
        ("BENZENE", ["benzol"]),
        ("benzè", ["benzol"]),
        ("main", ["vibration"]),
        ("main-bras", ["vibration"]),
        ("lea", ["lead"]),
        ("ead", []),
        ("agent bruit", []),
    ],
)
def test_what_a_user_types_is_found(text: str, expected: list[str]) -> None:
    """The beginnings of words, of one name in any language or of the code; without case and accents."""
    found = expanded(EVERYTHING, SUPPLEMENT_SYSTEM, filter=text)
    assert listed(found) == expected
    assert found["expansion"]["total"] == len(expected)


def test_inactive_and_abstract_codes_are_left_out_on_request() -> None:
    """`activeOnly`, `excludeNotForUI`."""
    assert "benzol" not in listed(expanded(active_only=True))
    assert listed(expanded(exclude_not_for_ui=True))[0] == "noise"


def test_codes_are_shown_in_french() -> None:
    """`displayLanguage`, with the supplement that was used."""
    found = expanded(EVERYTHING, SUPPLEMENT_SYSTEM, display_language="fr")["expansion"]
    assert [one["display"] for one in found["contains"]] == [
        "Agent physique", "Bruit", "Bruit impulsionnel", "Vibrations main-bras", "Agent chimique", "Amiante", "Plomb",
        "Benzène",
    ]  # fmt: skip
    assert {"name": "used-supplement", "valueUri": f"{SUPPLEMENT}|1"} in found["parameter"]


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ({}, None),
        ({"include_designations": True}, [{"language": "fr", "value": "Plomb"}]),
        ({"include_designations": True, "display_language": "fr"}, [{"language": "en", "value": "Lead"}]),
        ({"designations": ["fr"]}, [{"language": "fr", "value": "Plomb"}]),
        ({"designations": ["urn:ietf:bcp:47|fr"]}, [{"language": "fr", "value": "Plomb"}]),
        ({"designations": ["de"]}, None),
        ({"designations": ["fr"], "include_designations": False}, None),
    ],
)
def test_other_names_come_along_on_request(asked: dict[str, Any], expected: Any) -> None:
    """`includeDesignations`, `designation`: by language or by use; what is shown is not repeated."""
    found = expanded(value_set(AT_WORK, codes("lead")), **asked)
    assert found["expansion"]["contains"][0].get("designation") == expected


def test_designations_are_chosen_by_their_use() -> None:
    """`system|code`, or the code alone."""
    use = {"system": "http://test/use", "code": "abbreviation"}
    entry = {"code": "lead", "designation": [{"value": "Pb", "use": use}, {"value": "Blei", "language": "de"}]}
    resource = value_set(AT_WORK, {"system": EXPOSURES, "concept": [entry]})
    for token in ("http://test/use|abbreviation", "abbreviation"):
        found = expanded(resource, designations=[token])["expansion"]["contains"]
        assert found[0]["designation"] == [{"use": use, "value": "Pb"}]


def test_systems_are_left_out_on_request() -> None:
    """`exclude-system`, with or without a version; a system that is left out need not be at hand."""
    resource = value_set(AT_WORK, codes("noise"), codes("J45", system=ICD), codes(system="http://test/absent"))
    left = [EXPOSURES + "|2", "http://test/absent"]
    assert listed(expanded(resource, exclude_systems=left)) == ["J45"]
    left = [EXPOSURES + "|1", "http://test/absent"]
    assert listed(expanded(resource, exclude_systems=left)) == ["noise", "J45"]


def test_a_code_says_its_version_where_several_are_mixed() -> None:
    """And not elsewhere."""
    older = EXPOSURES_SYSTEM | {"version": "1", "concept": [concept("cold", "Cold")]}
    resource = value_set(AT_WORK, codes("noise"), codes(version="1"))
    assert [(one["code"], one["version"]) for one in expanded(resource, older)["expansion"]["contains"]] == [
        ("noise", "2"),
        ("cold", "1"),
    ]
    preferred = expanded(value_set(AT_WORK, codes()), older, versions=Versions(preferred={EXPOSURES: "1"}))
    assert preferred["expansion"]["contains"] == [{"system": EXPOSURES, "code": "cold", "display": "Cold"}]


def test_a_fragment_is_expanded_as_far_as_it_goes_and_says_so() -> None:
    """https://hl7.org/fhir/R4/extension-valueset-unclosed.html"""
    fragment = {"resourceType": "CodeSystem", "url": ICD, "status": "active", "content": "fragment"}
    found = expanded(value_set(AT_WORK, codes(system=ICD)), fragment | {"concept": [concept("J45", "Asthma")]})
    assert found["expansion"]["extension"] == [
        {"url": "http://hl7.org/fhir/StructureDefinition/valueset-unclosed", "valueBoolean": True}
    ]
    assert listed(found) == ["J45"]


@pytest.mark.parametrize(
    ("content", "problem"), [(None, NotKept), ("not-present", Incomputable), ("example", Incomputable)]
)
def test_a_system_without_codes_is_not_expanded(content: str | None, problem: type[Exception]) -> None:
    """Nothing would be a lie."""
    at_hand = {"resourceType": "CodeSystem", "url": ICD, "status": "active", "content": content}
    with pytest.raises(problem):
        expanded(value_set(AT_WORK, codes("lead"), codes(system=ICD)), *([at_hand] if content else []))


def test_what_is_too_long_is_asked_for_in_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    """A limit for each answer."""
    monkeypatch.setattr(expansion, "LARGEST", 4)
    with pytest.raises(TooMuch, match="8 codes"):
        expanded()
    assert len(listed(expanded(count=4))) == 4
    assert listed(expanded(value_set(AT_WORK, where("concept", "is-a", "noise")))) == ["noise", "impulse-noise"]
    assert expanded(count=0)["expansion"]["total"] == 8
