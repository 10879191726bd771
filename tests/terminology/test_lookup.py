"""$lookup, as far as it is a matter of meaning: https://hl7.org/fhir/R4/codesystem-operation-lookup.html"""

from typing import Any

import pytest

from fhir_server.r4 import structure
from terminology.lookup import lookup
from tests.terminology.exposures import EXPOSURES, EXPOSURES_SYSTEM, SUPPLEMENT_SYSTEM, Resource, library


def looked_up(code: str, *properties: str, language: str | None = None, **changes: Any) -> list[Resource]:
    """The result parameters, which are valid R4."""
    at_hand = library(SUPPLEMENT_SYSTEM, EXPOSURES_SYSTEM | {"version": "2", **changes})
    system = at_hand.code_systems[EXPOSURES][-1]
    concept = system.find(code)
    assert concept
    found = lookup(system, concept, at_hand, properties, language)
    assert structure.check({"resourceType": "Parameters", "parameter": found}) == []
    return found


def told(found: list[Resource]) -> dict[str, Any]:
    """The parameters that come once."""
    return {one["name"]: one["valueString"] for one in found if "valueString" in one}


def parts(found: list[Resource], name: str) -> list[dict[str, Any]]:
    """Each of the others, as name of the part -> value."""
    return [
        {part["name"]: next(value for key, value in part.items() if key != "name") for part in one["part"]}
        for one in found
        if one["name"] == name
    ]


def test_everything_is_told_of_a_code() -> None:
    """Name and version of the system, display, designations, properties; parent and child with what they are called."""
    found = looked_up("noise")
    assert told(found) == {"name": "Expositions", "version": "2", "display": "Noise"}
    assert parts(found, "designation") == [{"language": "fr", "value": "Bruit"}]
    assert parts(found, "property") == [
        {"code": "url", "value": EXPOSURES},
        {"code": "inactive", "value": False},
        {"code": "parent", "value": "physical", "description": "Physical agent"},
        {"code": "child", "value": "impulse-noise", "description": "Impulse noise"},
        {"code": "tableau", "value": "RG42"},
    ]


@pytest.mark.parametrize(
    ("properties", "codes", "designations"),
    [
        (["tableau"], ["tableau"], 0),
        (["designation"], [], 1),
        (["lang.fr"], [], 1),
        (["lang.de"], [], 0),
        (["child", "parent"], ["parent", "child"], 0),
        (["nothing"], [], 0),
        (["*"], ["url", "inactive", "parent", "child", "tableau"], 1),
    ],
)
def test_only_what_is_wanted_is_told(properties: list[str], codes: list[str], designations: int) -> None:
    """Name, version and display always."""
    found = looked_up("noise", *properties)
    assert [one["code"] for one in parts(found, "property")] == codes
    assert len(parts(found, "designation")) == designations
    assert told(found).keys() == {"name", "version", "display"}


def test_a_code_is_told_in_french() -> None:
    """Its display and those beside it; what it is called else is a designation."""
    found = looked_up("noise", language="fr")
    assert told(found)["display"] == "Bruit"
    assert parts(found, "designation") == [{"language": "en", "value": "Noise"}]
    assert {one.get("description") for one in parts(found, "property")} == {
        None,
        "Agent physique",
        "Bruit impulsionnel",
    }


def test_a_supplement_adds_what_it_knows() -> None:
    """Names and properties."""
    assert {"language": "fr-FR", "value": "Benzène"} in parts(looked_up("benzol"), "designation")
    assert {"code": "cas", "value": "7439-92-1"} in parts(looked_up("lead"), "property")
    assert {"code": "inactive", "value": True} in parts(looked_up("benzol"), "property")


def test_values_keep_their_types_and_the_definition_is_a_property() -> None:
    """R4 has no result parameter for it."""
    properties = [
        {"code": "level", "valueInteger": 85},
        {"code": "same", "valueCoding": {"system": EXPOSURES, "code": "lead"}},
        {"code": "other", "valueCoding": {"system": "http://test/other", "code": "lead"}},
    ]
    listed = {"code": "lead", "definition": "Pb", "property": properties}
    found = looked_up("lead", concept=[listed])
    assert told(found)["display"] == "lead", "where it has no name, its code"
    assert parts(found, "property")[1:] == [
        {"code": "definition", "value": "Pb"},
        {"code": "inactive", "value": False},
        {"code": "level", "value": 85},
        {"code": "same", "value": {"system": EXPOSURES, "code": "lead"}},
        {"code": "other", "value": {"system": "http://test/other", "code": "lead"}},
        {"code": "cas", "value": "7439-92-1"},
    ]
