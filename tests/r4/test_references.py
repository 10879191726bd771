"""Which references a resource holds."""

from typing import Any

import pytest

from fhir_server.r4.references import is_local, literal_references, literal_targets


def test_every_literal_reference_is_named_with_its_place() -> None:
    """In elements, in arrays, in extensions, in contained resources; not what only looks like one."""
    resource: dict[str, Any] = {
        "resourceType": "DocumentReference",
        "contained": [{"resourceType": "PractitionerRole", "id": "r", "practitioner": {"reference": "Practitioner/2"}}],
        "extension": [{"url": "http://e", "valueReference": {"reference": "Device/1"}}],
        "_status": {"extension": [{"url": "http://e", "valueReference": {"reference": "Device/2"}}]},
        "subject": {"reference": "Patient/1", "display": "x"},
        "author": [{"reference": "#r"}, {"identifier": {"value": "1"}}],
        "context": {"related": [{"type": "Task", "reference": "urn:uuid:1", "identifier": {"value": "1"}}]},
    }
    assert list(literal_references(resource)) == [
        ("DocumentReference.contained[0].practitioner.reference", "Practitioner/2"),
        ("DocumentReference.extension[0].valueReference.reference", "Device/1"),
        ("DocumentReference._status.extension[0].valueReference.reference", "Device/2"),
        ("DocumentReference.subject.reference", "Patient/1"),
        ("DocumentReference.author[0].reference", "#r"),
        ("DocumentReference.context.related[0].reference", "urn:uuid:1"),
    ]
    assert sorted(literal_targets(resource)) == sorted(text for _, text in literal_references(resource))


@pytest.mark.parametrize(
    "resource",
    [
        {"resourceType": "DetectedIssue", "status": "final", "reference": "http://a"},
        {"resourceType": "Immunization", "education": [{"reference": "http://a"}]},
        {
            "resourceType": "Basic",
            "extension": [{"valueExpression": {"language": "text/cql", "reference": "http://a"}}],
        },
        {
            "resourceType": "Bundle",
            "entry": [{"resource": {"resourceType": "Basic", "subject": {"reference": "A/1"}}}],
        },
        {
            "resourceType": "Parameters",
            "parameter": [{"name": "x", "resource": {"resourceType": "Basic", "subject": {"reference": "A/1"}}}],
        },
    ],
)
def test_what_is_no_reference_of_the_resource_is_left_out(resource: dict[str, Any]) -> None:
    """A uri that happens to be called reference, and the resources that a Bundle carries."""
    assert list(literal_references(resource)) == []
    assert literal_targets(resource) == []


@pytest.mark.parametrize(
    ("reference", "parts"),
    [
        ("Patient/1", ("Patient", "1")),
        ("Patient/1/_history/2", ("Patient", "1")),
        ("Patient/a.b-C", ("Patient", "a.b-C")),
        ("Patients/1", None),
        ("DomainResource/1", None),
        ("Patient/1/", None),
        ("Patient/1#x", None),
        ("/Patient/1", None),
        ("Patient/" + "a" * 65, None),
        ("Patient?identifier=1", None),
        ("http://example.org/Patient/1", None),
        ("urn:uuid:6b1b6c2e-0d3f-4d0a-8c4e-0f3f9a6f0001", None),
        ("#Patient/1", None),
        ("", None),
    ],
)
def test_a_local_reference_is_a_type_and_an_id(reference: str, parts: tuple[str, str] | None) -> None:
    """Every other form is somebody else's."""
    assert is_local(reference) == parts
