"""What each resource can be found by, written down by hand from the definitions of the search parameters."""

import time
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import orjson
import pytest

from fhir_server.r4 import index_values
from fhir_server.r4.index_values import Composite, Text, extract, period_of
from fhir_server.r4.resource_types import RESOURCE_TYPES

LOINC = "http://loinc.org"
UCUM = "http://unitsofmeasure.org"
DAY = 86_400_000_000
SECOND = 1_000_000
OPEN = 2**62


def found(resource: dict[str, Any], code: str) -> list[tuple[Any, ...]]:
    """The values of one parameter, without the parameter."""
    return [value[1:] for value in extract(resource) if value.param.code == code]


def plain(value: Any) -> Any:
    """A token as system|code, a reference as its target, anything else as it is."""
    match value:
        case index_values.Token():
            return f"{value.system or ''}|{value.code or ''}"
        case index_values.Reference():
            return value.target
        case index_values.Composite():
            return tuple(tuple(plain(one) for one in part) for part in value.parts)
        case index_values.Period():
            return value.low, value.high
        case _:
            return value[1]


def day(text: str, days: int = 1) -> tuple[int, int]:
    low = period_of(text)[0]
    return low, low + days * DAY


IN_EXAMPLES: list[tuple[str, str, list[Any]]] = [
    ("documentreference-example", "status", ["http://hl7.org/fhir/document-reference-status|current"]),
    ("documentreference-example", "type", [f"{LOINC}|34108-1"]),
    ("documentreference-example", "patient", ["Patient/xcda"]),
    ("documentreference-example", "author", ["Practitioner/xcda1", "#a2"]),
    ("documentreference-example", "identifier", [
        "urn:ietf:rfc:3986|urn:oid:1.3.6.1.4.1.21367.2005.3.7",
        "urn:ietf:rfc:3986|urn:oid:1.3.6.1.4.1.21367.2005.3.7.1234",
    ]),
    ("documentreference-example", "location", [
        "http://example.org/xds/mhd/Binary/07a6483f-732b-461e-86b6-edb665c45510",
    ]),
    ("documentreference-example", "relationship", [
        (("http://hl7.org/fhir/document-relationship-type|appends",), ("DocumentReference/example",)),
    ]),
    ("documentreference-example", "period", [
        (period_of("2004-12-23T08:00:00+11:00")[0], period_of("2004-12-23T08:01:00+11:00")[1]),
    ]),
    ("patient-example", "family", ["Chalmers", "Windsor"]),
    ("patient-example", "given", ["Peter", "James", "Jim", "Peter", "James"]),
    ("patient-example", "birthdate", [day("1974-12-25")]),
    ("patient-example", "gender", ["http://hl7.org/fhir/administrative-gender|male"]),
    ("patient-example", "deceased", ["|false"]),
    ("patient-example", "death-date", []),
    ("patient-example", "active", ["|true"]),
    ("patient-example", "organization", ["Organization/1"]),
    ("patient-example", "email", []),
    ("patient-example", "address-city", ["PleasantVille"]),
    ("patient-example", "address", [
        "534 Erewhon St PeasantVille, Rainbow, Vic  3999", "534 Erewhon St", "PleasantVille", "Rainbow", "Vic", "3999",
    ]),
    ("observation-example", "code", [
        f"{LOINC}|29463-7", f"{LOINC}|3141-9", "http://snomed.info/sct|27113001",
        "http://acme.org/devices/clinical-codes|body-weight",
    ]),
    ("observation-example", "value-quantity", [Decimal(185)]),
    ("observation-example", "date", [day("2016-03-28")]),
    ("observation-example", "value-concept", []),
    ("observation-example", "component-code", []),
    ("encounter-example", "class", ["http://terminology.hl7.org/CodeSystem/v3-ActCode|IMP"]),
    ("encounter-example", "status", ["http://hl7.org/fhir/encounter-status|in-progress"]),
    ("list-example", "item", ["Condition/example", "Condition/example2"]),
    ("list-example", "source", ["Patient/example"]),
    ("auditevent-example", "action", ["http://hl7.org/fhir/audit-event-action|E"]),
    ("auditevent-example", "altid", ["|6580"]),
    ("auditevent-example", "address", ["127.0.0.1", "Workstation1.ehr.familyclinic.com"]),
    ("auditevent-example", "site", ["|Development"]),
    ("location-example", "near", [42.25475478]),
    ("location-example", "name", [
        "South Wing, second floor", "BU MC, SW, F2", "Burgers University Medical Center, South Wing, second floor",
    ]),
    ("location-example", "endpoint", ["Endpoint/example"]),
    ("appointment-example", "patient", ["Patient/example"]),
    ("appointment-example", "practitioner", ["Practitioner/example"]),
    ("appointment-example", "reason-reference", ["Condition/example"]),
    ("goal-example", "start-date", [day("2015-04-05")]),
    ("goal-example", "target-date", [day("2016-04-05")]),
    ("goal-example", "category", ["http://terminology.hl7.org/CodeSystem/goal-category|dietary"]),
    ("conceptmap-example", "source-uri", ["http://hl7.org/fhir/ValueSet/address-use"]),
    ("conceptmap-example", "source", []),
    ("conceptmap-example", "url", ["http://hl7.org/fhir/ConceptMap/101"]),
    ("conceptmap-example", "context-type-value", [
        (("http://terminology.hl7.org/CodeSystem/usage-context-type|venue",), ("|",)),
    ]),
    ("riskassessment-example", "method", ["|BRCAPRO"]),
]  # fmt: skip


@pytest.mark.parametrize(("name", "code", "values"), IN_EXAMPLES)
def test_an_example_is_found_by_what_it_says(
    example: Callable[[str], dict[str, Any]], name: str, code: str, values: list[Any]
) -> None:
    """The values of the official examples, read by hand."""
    assert [plain(value) for value in extract(example(name)) if value.param.code == code] == values


CONCEPT = {
    "coding": [{"system": "s", "code": "a"}, {"system": "s", "code": "b", "display": "B"}],
    "text": "A or B",
}
QUANTITY = {"value": 5.40, "system": UCUM, "code": "mg", "unit": "mg"}
EXTENSION = "https://profiles.ihe.net/ITI/MHD/StructureDefinition/"
ARCHIVED = "https://interop.esante.gouv.fr/ig/fhir/pdsm/StructureDefinition/pdsm-ext-is-archived"

WRITTEN: list[tuple[dict[str, Any], str, list[tuple[Any, ...]]]] = [
    ({"resourceType": "Observation", "code": CONCEPT}, "code", [
        ("s", "a", "A or B", ()), ("s", "b", "B", ()),
    ]),
    ({"resourceType": "Observation", "code": {"text": "alone"}}, "code", [(None, None, "alone", ())]),
    ({"resourceType": "Observation", "valueQuantity": QUANTITY}, "value-quantity", [
        (Decimal("5.4"), Decimal("5.4"), Decimal("5.4"), UCUM, "mg", "mg"),
    ]),
    ({"resourceType": "Observation", "valueQuantity": QUANTITY | {"comparator": "<"}}, "value-quantity", [
        (Decimal("-Infinity"), Decimal("5.4"), Decimal("5.4"), UCUM, "mg", "mg"),
    ]),
    ({"resourceType": "Observation", "valueQuantity": QUANTITY | {"comparator": ">="}}, "combo-value-quantity", [
        (Decimal("5.4"), Decimal("Infinity"), Decimal("5.4"), UCUM, "mg", "mg"),
    ]),
    ({"resourceType": "Observation", "valueQuantity": {"unit": "mg"}}, "value-quantity", []),
    ({"resourceType": "Observation", "valueSampledData": {
        "origin": {"value": 10, "unit": "mV"}, "period": 1, "dimensions": 1, "factor": 0.5, "data": "2 -4 E 6 U",
    }}, "value-quantity", [(Decimal("8.0"), Decimal("13.0"), Decimal(10), None, None, "mV")]),
    ({"resourceType": "Observation", "valueString": "Vu"}, "value-string", [("Vu",)]),
    ({"resourceType": "Observation", "valueCodeableConcept": CONCEPT}, "value-string", [("A or B",)]),
    ({"resourceType": "Observation", "effectiveTiming": {
        "event": ["2026-01-05", "2026-03"], "repeat": {"boundsPeriod": {"start": "2026-02-01"}},
    }}, "date", [(period_of("2026-01-05")[0], OPEN)]),
    ({"resourceType": "Observation", "effectivePeriod": {"end": "2026"}}, "date", [(-OPEN, period_of("2026")[1])]),
    ({"resourceType": "RiskAssessment", "prediction": [{"probabilityDecimal": 0.000168}]}, "probability", [
        (Decimal("0.000168"), Decimal("0.000168")),
    ]),
    ({"resourceType": "RiskAssessment", "prediction": [{"probabilityRange": {"low": {"value": 1}}}]}, "probability", [
        (Decimal(1), Decimal("Infinity")),
    ]),
    ({"resourceType": "Invoice", "totalNet": {"value": 48, "currency": "EUR"}}, "totalnet", [
        (Decimal(48), Decimal(48), Decimal(48), "urn:iso:std:iso:4217", "EUR", "EUR"),
    ]),
    ({"resourceType": "Condition", "onsetRange": {"low": {"value": 30, "unit": "a"}, "high": {"value": 40}}},
     "onset-age", [(Decimal(30), Decimal(40), Decimal(30), None, None, "a")]),
    ({"resourceType": "Procedure", "performedString": "in spring"}, "date", []),
    ({"resourceType": "Patient", "deceasedDateTime": "2026"}, "deceased", [(None, "true", None, ())]),
    ({"resourceType": "Patient", "deceasedBoolean": False}, "deceased", [(None, "false", None, ())]),
    ({"resourceType": "Patient", "telecom": [{"system": "email", "value": "a@b.fr"}, {"system": "fax"}]}, "email", [
        ("email", "a@b.fr", None, ()),
    ]),
    ({"resourceType": "Patient", "identifier": [
        {"system": "s", "value": "1", "type": {"coding": [{"system": "t", "code": "INS"}], "text": "INS"}},
    ]}, "identifier", [("s", "1", "INS", (("t", "INS"),))]),
    ({"resourceType": "Patient", "name": [{"given": [None, "Ana"], "_given": [{"extension": []}, None]}]}, "given", [
        ("Ana",),
    ]),
    ({"resourceType": "Patient", "meta": {"tag": [{"system": "s", "code": "t"}]}}, "_tag", [("s", "t", None, ())]),
    ({"resourceType": "Patient", "meta": {"profile": ["http://p"]}}, "_profile", [("http://p",)]),
    ({"resourceType": "Binary", "meta": {"source": "http://s"}}, "_source", [("http://s",)]),
    ({"resourceType": "Binary", "meta": {"security": [{"code": "R"}]}}, "_security", [(None, "R", None, ())]),
    ({"resourceType": "Patient", "id": "1", "meta": {"lastUpdated": "2026"}}, "_id", []),
    ({"resourceType": "Patient", "id": "1", "meta": {"lastUpdated": "2026"}}, "_lastUpdated", []),
    ({"resourceType": "Task", "for": {"reference": "Patient/1/_history/2"}}, "patient", [("Patient/1", None)]),
    ({"resourceType": "Task", "for": {"reference": "http://h/fhir/Patient/1"}}, "patient", [
        ("http://h/fhir/Patient/1", None),
    ]),
    ({"resourceType": "Task", "for": {"reference": "http://h/fhir/Group/1"}}, "patient", []),
    ({"resourceType": "Task", "for": {"type": "Patient", "identifier": {"system": "s", "value": "1"}}}, "patient", [
        ("", ("s", "1")),
    ]),
    ({"resourceType": "Task", "for": {"display": "somebody"}}, "subject", []),
    ({"resourceType": "Observation", "contained": [{"resourceType": "Patient", "id": "p"}],
      "subject": {"reference": "#p"}}, "patient", [("#p", None)]),
    ({"resourceType": "Consent", "sourceAttachment": {"url": "http://a"}}, "source-reference", [("http://a", None)]),
    ({"resourceType": "Bundle", "entry": [{"resource": {"resourceType": "Composition", "id": "c"}}]}, "composition", [
        ("Composition/c", None),
    ]),
    ({"resourceType": "Bundle", "entry": [{"resource": {"resourceType": "Composition", "id": "c"}}]}, "message", []),
    ({"resourceType": "Library", "relatedArtifact": [
        {"type": "depends-on", "resource": "http://d"}, {"type": "successor", "resource": "http://s"},
    ]}, "depends-on", [("http://d", None)]),
    ({"resourceType": "DocumentReference", "extension": [{"url": ARCHIVED, "valueBoolean": True}]}, "isArchived", [
        (None, "true", None, ()),
    ]),
    ({"resourceType": "List", "extension": [{"url": ARCHIVED, "valueBoolean": False}]}, "isArchived", [
        (None, "false", None, ()),
    ]),
    ({"resourceType": "List", "extension": [
        {"url": EXTENSION + "ihe-designationType", "valueCodeableConcept": {"coding": [{"code": "d"}]}},
        {"url": EXTENSION + "ihe-sourceId", "valueIdentifier": {"value": "urn:oid:1.2"}},
    ]}, "designationType", [(None, "d", None, ())]),
    ({"resourceType": "List", "extension": [
        {"url": EXTENSION + "ihe-sourceId", "valueIdentifier": {"value": "urn:oid:1.2"}},
    ]}, "sourceId", [(None, "urn:oid:1.2", None, ())]),
    ({"resourceType": "List", "source": {"extension": [
        {"url": EXTENSION + "ihe-authorOrg", "valueReference": {"reference": "#o"}},
    ]}}, "authorOrg", [("#o", None)]),
    ({"resourceType": "DocumentReference", "context": {"period": {"start": "2026-01-05"}}}, "period-start", [
        day("2026-01-05"),
    ]),
    ({"resourceType": "DocumentReference", "context": {"period": {"end": "2026-01-05"}}}, "period-end", [
        day("2026-01-05"),
    ]),
    ({"resourceType": "DocumentReference", "content": [{"attachment": {"creation": "2026-01-05T08:00:00+01:00"}}]},
     "creation", [period_of("2026-01-05T07:00:00Z")]),
]  # fmt: skip


@pytest.mark.parametrize(("resource", "code", "values"), WRITTEN)
def test_a_resource_is_found_by_what_it_says(
    resource: dict[str, Any], code: str, values: list[tuple[Any, ...]]
) -> None:
    """One line per kind of value."""
    assert found(resource, code) == values


def test_components_are_joined_where_they_stand_together() -> None:
    """A blood pressure is two pairs of code and value, not the four that mixing them would give."""
    systolic = {"code": {"coding": [{"system": LOINC, "code": "8480-6"}]}, "valueQuantity": {"value": 120}}
    diastolic = {"code": {"coding": [{"system": LOINC, "code": "8462-4"}]}, "valueQuantity": {"value": 80}}
    silent = {"code": {"coding": [{"system": LOINC, "code": "8478-0"}]}}
    pressure = {"resourceType": "Observation", "component": [systolic, diastolic, silent]}
    pairs = [
        (code.code, quantity.value)
        for value in extract(pressure)
        if isinstance(value, Composite) and value.param.code == "component-code-value-quantity"
        for (code,), (quantity,) in [value.parts]
        if isinstance(code, index_values.Token) and isinstance(quantity, index_values.Quantity)
    ]
    assert pairs == [("8480-6", 120), ("8462-4", 80)]


def test_a_component_may_be_asked_of_the_resource() -> None:
    """`%resource.referenceSeq.chromosome` is read from the top while the variant is in hand."""
    sequence = {
        "resourceType": "MolecularSequence",
        "referenceSeq": {"chromosome": {"coding": [{"code": "1"}]}},
        "variant": [{"start": 3, "end": 4}],
    }
    (value,) = [one for one in extract(sequence) if one.param.code == "chromosome-variant-coordinate"]
    assert isinstance(value, Composite)
    assert [plain(part[0]) for part in value.parts] == ["|1", 3, 4]


def test_every_example_can_be_indexed(example_file: Path) -> None:
    """No valid resource makes the extraction fail."""
    assert isinstance(extract(orjson.loads(example_file.read_bytes())), list)


def test_every_resource_type_can_be_indexed() -> None:
    """The expressions of each type compile, and an empty resource has hardly a value."""
    for resource_type in RESOURCE_TYPES:
        values = extract({"resourceType": resource_type})
        assert [value.param.code for value in values] == (["deceased"] if resource_type == "Patient" else [])


def test_many_contained_resources_are_found_in_a_time_that_grows_with_them() -> None:
    """Each by its id, of which a document may have thousands."""
    people = [{"resourceType": "Practitioner", "id": f"a{n}", "name": [{"family": f"f{n}"}]} for n in range(10_000)]
    authors = [{"reference": f"#{one['id']}"} for one in people]
    began = time.process_time()
    values = found({"resourceType": "DocumentReference", "contained": people, "author": authors}, "author-family")
    assert time.process_time() - began < 5
    assert len(values) == 10_000


def test_the_names_of_a_contained_author_are_found_through_his_role() -> None:
    """author-given and author-family (ITI-67), and none of a person who is contained and is not the author."""
    document = {
        "resourceType": "DocumentReference",
        "contained": [
            {"resourceType": "PractitionerRole", "id": "role", "practitioner": {"reference": "#doctor"}},
            {"resourceType": "Practitioner", "id": "doctor", "name": [{"family": "Exemple", "given": ["Ana", "Lou"]}]},
            {"resourceType": "Patient", "id": "worker", "name": [{"family": "Autre", "given": ["Camille"]}]},
        ],
        "author": [{"reference": "#role"}, {"reference": "Practitioner/elsewhere"}],
        "context": {"sourcePatientInfo": {"reference": "#worker"}},
    }
    names = {(one.param.code, one.value) for one in extract(document) if isinstance(one, Text)}
    assert names == {("author-given", "Ana"), ("author-given", "Lou"), ("author-family", "Exemple")}
