"""The rules of R4's own definitions: https://hl7.org/fhir/R4/validation.html"""

import json
from pathlib import Path
from typing import Final

import orjson
import pytest

from fhir_server.r4 import generate
from fhir_server.r4.constraints import SAID_BEFORE, check_constraints, stated
from fhir_server.r4.fhirpath import evaluation
from fhir_server.r4.fhirpath.evaluation import compiled
from fhir_server.r4.structure import check
from tests.r4.broken_rules import ALLERGY, BROKEN, BROKEN_FOR_EVERY_WRITE, QUESTIONNAIRE, Json, resource

REALLY_BROKEN: Final = {
    "codesystem-example.json": "csd-1",  # two of its concepts have the code chol-mass
}
"""Official examples that break a rule of R4."""


def keys_of(resource: Json, *, every: bool = False) -> list[tuple[str, str | None]]:
    """(key, place) of each error that is found by rules."""
    found = check_constraints(resource, besides=frozenset() if every else SAID_BEFORE)
    return [(one.diagnostics.rpartition("(")[2][:-1], one.expression) for one in found if one.severity == "error"]


def test_every_rule_can_be_evaluated() -> None:
    """Each expression is read, and each key is asked of something."""
    rules = [one for rules in stated().values() for one in rules]
    assert len(rules) == 294
    assert all(compiled(one.expression) for one in rules)
    assert {one.key for one in rules} > SAID_BEFORE


def test_an_official_example_breaks_no_rule(example_file: Path) -> None:
    """But those that do."""
    resource = orjson.loads(example_file.read_bytes())
    broken = {key for key, _ in keys_of(resource)}
    assert broken == ({REALLY_BROKEN[example_file.name]} if example_file.name in REALLY_BROKEN else set())


@pytest.mark.parametrize(
    ("key", "place", "broken"), [pytest.param(*row, id=f"{row[0]}-{n}") for n, row in enumerate(BROKEN)]
)
def test_a_broken_rule_is_told_with_its_key_and_place(key: str, place: str, broken: Json) -> None:
    """Of a resource in which the structure finds nothing wrong."""
    assert check(json.loads(json.dumps(broken))) == []
    assert (key, place) in keys_of(broken)


@pytest.mark.parametrize(("key", "broken"), [pytest.param(*row, id=row[0]) for row in BROKEN_FOR_EVERY_WRITE])
def test_plain_code_and_the_definitions_own_words_agree(key: str, broken: Json) -> None:
    """What every write checks by plain code is what the rule says; $validate says it once."""
    assert key in {found for found, _ in keys_of(broken, every=True)}
    assert any(f"({key})" in issue.diagnostics for issue in check(broken))
    assert key not in {found for found, _ in keys_of(broken)}


def test_advice_is_a_warning() -> None:
    """That a resource has a narrative, unless it is contained, and a name that programs can use."""
    contained = resource("Patient", contained=[ALLERGY | {"id": "a"}])
    found = check_constraints(
        contained | {"generalPractitioner": [{"reference": "#a"}]}, besides=SAID_BEFORE | {"ait-1"}
    )
    assert [(one.severity, one.expression) for one in found] == [("warning", "Patient")]
    assert "dom-6" in found[0].diagnostics
    named = check_constraints(QUESTIONNAIRE | {"name": "not a name"})
    assert {one.severity for one in named} == {"warning"}
    assert any("que-0" in one.diagnostics for one in named)


def test_a_rule_that_two_dates_leave_open_holds() -> None:
    """Handed over in January, prepared on the 5th: nobody can tell."""
    dispense = resource("MedicationDispense", whenPrepared="2020-01-05", whenHandedOver="2020-01")
    assert keys_of(dispense) == []


def test_the_rules_of_a_resource_inside_another_speak_of_itself() -> None:
    """`%resource` is the entry of a Bundle, and the contained resource."""
    inner = resource("Bundle", type="batch", entry=[{"request": {"method": "GET", "url": "x"}}])
    bundle = resource(
        "Bundle", type="collection", entry=[{"resource": inner}, {"resource": resource("Organization", active=True)}]
    )
    assert keys_of(bundle, every=True) == [("org-1", "Bundle.entry[1].resource")]


def test_what_is_too_large_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """As a warning: what was found until then stands."""
    monkeypatch.setattr(evaluation, "MOST_STEPS", 50)
    found = check_constraints(resource("Organization", telecom=[{"system": "phone", "value": "1"}] * 50))
    assert [(one.severity, one.code) for one in found] == [
        ("error", "invariant"), ("warning", "invariant"), ("warning", "too-costly"),
    ]  # fmt: skip


def test_the_generator_takes_each_rule_where_it_is_stated() -> None:
    """Not where it is inherited, not those of later releases, and those of SimpleQuantity where an element is one."""
    own = {"key": "a-1", "severity": "error", "expression": "x.exists()", "human": "x"}
    url = "http://hl7.org/fhir/StructureDefinition/SimpleQuantity"
    simple = {
        "resourceType": "StructureDefinition", "name": "SimpleQuantity", "url": url, "version": "4.0.1",
        "derivation": "constraint",
        "snapshot": {"element": [{"path": "Quantity", "constraint": [own | {"key": "q-1"}]}]},
    }  # fmt: skip
    basic = {
        "resourceType": "StructureDefinition", "name": "Basic", "url": "b", "version": "4.0.1",
        "snapshot": {"element": [
            {"path": "Basic", "constraint": [own, own | {"key": "dom-6", "source": "DomainResource"}]},
            {"path": "Basic.low", "type": [{"code": "Quantity", "profile": [url]}]},
            {"path": "Basic.foreign", "constraint": [own]},
        ]},
    }  # fmt: skip
    rows = generate.constraint_table([simple, basic], {"Basic": {"elements": {"low": "0..1 Quantity"}}})
    assert [(row["path"], row["key"]) for row in rows] == [("Basic", "a-1"), ("Basic.low", "q-1")]
