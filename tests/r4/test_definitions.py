"""The tables are R4 4.0.1, all of it and nothing else; and the generator that writes them."""

import json
from pathlib import Path
from typing import Any

import orjson
import pytest

from fhir_server.r4 import generate
from fhir_server.r4.definitions import (
    PRIMITIVES,
    TABLES,
    codes_of,
    elements_of,
    is_of_several_systems,
    value_set_of,
)
from fhir_server.r4.resource_types import RESOURCE_TYPES, TYPE_NAME, TYPE_NUMBER
from fhir_server.r4.structure import check

PATHS: dict[str, Any] = orjson.loads((TABLES / "elements.json").read_bytes())
NOT_LISTS = {"currencies", "mimetypes"}


def test_there_are_the_146_resource_types() -> None:
    """Those of R4's own code system, less the two abstract ones, in alphabetical order."""
    assert len(RESOURCE_TYPES) == 146
    assert list(RESOURCE_TYPES) == sorted(codes_of("resource-types").codes - {"Resource", "DomainResource"})


def test_a_type_has_a_number_that_stays() -> None:
    """Its place in the alphabet, from 1."""
    assert (TYPE_NUMBER["Account"], TYPE_NUMBER["VisionPrescription"]) == (1, 146)
    assert all(TYPE_NAME[TYPE_NUMBER[name]] == name for name in RESOURCE_TYPES)


def test_every_type_that_an_element_has_is_defined() -> None:
    """Each line of the table can be read, and what it names exists."""
    for path in PATHS:
        for element in elements_of(path).values():
            for one in element.types:
                assert one.name in PRIMITIVES or one.name in PATHS
                assert one.targets <= set(RESOURCE_TYPES)
            assert element.value_set is None or element.value_set in NOT_LISTS or codes_of(element.value_set).codes


@pytest.mark.parametrize(
    ("path", "foreign"),
    [
        ("Binary", {"url"}),
        ("Meta", {"account", "accounts", "author", "project", "compartment", "onBehalfOf"}),
        ("ResearchStudy", {"name", "label", "associatedParty", "result", "whyStopped"}),
        ("DeviceDefinition", {"classification", "bodySite"}),
        ("ObservationDefinition", {"publisher"}),
        ("EvidenceVariable.characteristic", {"linkId", "definitionByCombination", "timeFromEvent"}),
    ],
)
def test_what_is_not_r4_is_left_out(path: str, foreign: set[str]) -> None:
    """Elements that the maker of the package added, or took from later releases."""
    assert not foreign & elements_of(path).keys()


@pytest.mark.parametrize("name", ["Project", "Bot", "SubscriptionStatus", "CodeableReference", "RatioRange"])
def test_types_that_are_not_r4_are_left_out(name: str) -> None:
    """Nor are there types of others."""
    with pytest.raises(KeyError):
        elements_of(name)


def test_what_the_package_lost_is_back() -> None:
    """Long paths, whose ids are cut, and what was replaced by a later release."""
    assert {"definition[x]", "participantEffective[x]"} <= elements_of("EvidenceVariable.characteristic").keys()
    strength = "MedicinalProductIngredient.specifiedSubstance.strength"
    assert {"presentation", "concentration", "referenceStrength"} <= elements_of(strength).keys()
    assert (
        codes_of(elements_of("DetectedIssue")["status"].value_set or "").system
        == "http://hl7.org/fhir/observation-status"
    )


def test_elements_come_in_the_order_of_xml_with_the_inherited_ones_first() -> None:
    """So that the XML form can be written from them."""
    names = list(elements_of("DocumentReference"))
    assert names[:9] == [
        "id", "meta", "implicitRules", "language", "text", "contained", "extension", "modifierExtension",
        "masterIdentifier",
    ]  # fmt: skip
    assert names[-1] == "context"


def test_a_choice_has_a_property_for_each_type() -> None:
    """`value[x]` of an Observation has eleven."""
    names = elements_of("Observation")["value[x]"].json_names()
    assert len(names) == 11
    assert names["valueQuantity"].name == "Quantity"


def test_the_tables_stay_small() -> None:
    """They are read at the start of every process."""
    assert sum(file.stat().st_size for file in TABLES.glob("*.json")) < 1_500_000


def data_element(path: str, **more: Any) -> dict[str, Any]:
    element = {"path": path, "min": 0, "max": "1", "type": [{"code": "string"}]} | more
    return {"id": "de-" + path, "snapshot": {"element": [element]}}


def structure(name: str, *elements: dict[str, Any], version: str = "4.0.1") -> dict[str, Any]:
    return {
        "resourceType": "StructureDefinition",
        "name": name,
        "version": version,
        "kind": "resource",
        "baseDefinition": "http://hl7.org/fhir/StructureDefinition/DomainResource",
        "snapshot": {"element": [{"path": name}, *elements]},
    }


def test_the_generator_keeps_what_the_data_elements_name() -> None:
    """Their word counts also where the two differ; a backbone without a genuine id goes with all that is in it."""
    own = {"path": "Basic.code", "min": 1, "max": "1", "type": [{"code": "code"}], "isSummary": True}
    foreign = {"path": "Basic.project", "min": 0, "max": "1", "type": [{"code": "string"}]}
    backbone = {"path": "Basic.label", "min": 0, "max": "*", "type": [{"code": "BackboneElement"}]}
    within = {"path": "Basic.label.value", "min": 0, "max": "1", "type": [{"code": "string"}]}
    table = generate.element_table(
        [structure("Basic", own, foreign, backbone, within), structure("Later", own, version="4.3.0")],
        [data_element("Basic.code", isSummary=True), data_element("Basic.lost")],
    )
    lines = {"code": "0..1 string Σ", "lost": "0..1 string"}
    assert table == {"Basic": {"base": "DomainResource", "elements": lines}}


def test_the_generator_keeps_the_numbers_that_it_finds() -> None:
    """A parameter that comes later gets the next number, wherever its url sorts."""
    base = {"version": "4.0.1", "base": ["Basic"], "code": "x", "type": "token", "expression": "Basic.code"}
    rows = generate.search_parameter_table([base | {"url": "b"}, base | {"url": "a"}], {"Basic": {}}, {"b": 7})
    assert [(row["url"], row["number"]) for row in rows] == [("a", 8), ("b", 7)]


def test_a_value_set_of_a_required_binding_is_a_resource() -> None:
    """Valid R4, with its systems and what is shown for its codes; known by its own URL only."""
    for name, row in orjson.loads((TABLES / "codes.json").read_bytes()).items():
        found = value_set_of(row.get("url", f"http://hl7.org/fhir/ValueSet/{name}"))
        assert found is not None
        assert check(found) == []
        assert {one["code"] for part in found["compose"]["include"] for one in part["concept"]} == codes_of(name).codes
    gender = value_set_of("http://hl7.org/fhir/ValueSet/administrative-gender") or {}
    assert gender["compose"]["include"][0]["concept"][0] == {"code": "male", "display": "Male"}
    assert value_set_of("http://test/ValueSet/administrative-gender") is None
    assert is_of_several_systems("http://hl7.org/fhir/ValueSet/task-intent")
    assert not is_of_several_systems("http://hl7.org/fhir/ValueSet/administrative-gender")


def test_the_generator_leaves_out_parameters_of_other_releases() -> None:
    """And those of types that are not R4."""
    base = {"url": "a", "version": "4.0.1", "base": ["Basic"], "code": "x", "type": "token"}
    foreign = [base | {"version": "5.0.0"}, base | {"base": ["Project"]}]
    assert generate.search_parameter_table(foreign, {"Basic": {}}, {}) == []


def test_the_generator_expands_value_sets() -> None:
    """With the concepts below concepts, by system, and with what is shown for them where that is another text."""
    concepts = [{"code": "a", "display": "A", "concept": [{"code": "b", "display": "b"}]}]
    codes = {"resourceType": "CodeSystem", "url": "s", "concept": concepts}
    whole = {
        "resourceType": "ValueSet",
        "url": "http://hl7.org/fhir/ValueSet/x",
        "compose": {"include": [{"system": "s"}]},
    }
    filtered = whole | {"compose": {"include": [{"system": "s", "filter": [{}]}]}}
    assert generate.code_table(["x"], [codes, whole]) == {"x": {"systems": {"s": {"a": "A", "b": None}}}}
    elsewhere = whole | {"url": "http://terminology.hl7.org/ValueSet/x"}
    assert generate.code_table(["x"], [codes, elsewhere])["x"]["url"] == elsewhere["url"]
    with pytest.raises(ValueError, match="filter"):
        generate.code_table(["x"], [codes, filtered])


def test_a_table_is_written_with_one_line_per_entry(tmp_path: Path) -> None:
    """So that a diff shows what changed."""
    file = tmp_path / "table.json"
    table = {"Basic": {"base": "DomainResource", "elements": {"code": "1..1 code", "subject": "0..1 Reference"}}}
    generate.write(file, table)
    assert json.loads(file.read_text("utf-8")) == table
    assert len(file.read_text("utf-8").splitlines()) == 5
