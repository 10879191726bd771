"""Whose record a resource is in, however it names the worker."""

from typing import Any

import pytest

from mappings.access_facts import NON_TRANSMISSIBLE, OUTSIDE, WORKER_UNCLEAR, access_facts
from terminology import systems

ABOUT_1: dict[str, Any] = {"subject": {"reference": "Patient/1"}}


@pytest.mark.parametrize(
    ("resource", "worker"),
    [
        ({"resourceType": "Appointment", "participant": [{"actor": {"reference": "Patient/1"}}]}, "1"),
        ({"resourceType": "AppointmentResponse", "actor": {"reference": "Patient/1"}}, "1"),
        ({"resourceType": "Person", "link": [{"target": {"reference": "Patient/1"}}]}, "1"),
        ({"resourceType": "Group", "member": [{"entity": {"reference": "Patient/1"}}]}, "1"),
        ({"resourceType": "Provenance", "target": [{"reference": "Patient/1"}]}, "1"),
        ({"resourceType": "List", "entry": [{"item": {"reference": "Patient/1"}}]}, "1"),
        ({"resourceType": "Observation", "subject": {"reference": "Patient/1/_history/2"}}, "1"),
        ({"resourceType": "Task", "for": {"reference": "Patient/1"}}, "1"),
        ({"resourceType": "Slot", "extension": [{"valueReference": {"reference": "Patient/1"}}]}, "1"),
        ({"resourceType": "Bundle", "entry": [{"resource": {"resourceType": "Observation", **ABOUT_1}}]}, "1"),
        ({"resourceType": "Bundle", "entry": [{"resource": {"resourceType": "Patient", "id": "1"}}]}, "1"),
        (
            {
                "resourceType": "DocumentReference",
                **ABOUT_1,
                "contained": [{"resourceType": "Patient", "id": "p"}],
                "context": {"sourcePatientInfo": {"reference": "#p"}},
            },
            "1",
        ),
    ],
)
def test_the_one_worker_is_found(resource: dict[str, Any], worker: str) -> None:
    """Wherever the reference stands: his oppositions hold there too."""
    facts = access_facts(resource)
    assert (facts.worker, facts.guard & (WORKER_UNCLEAR | OUTSIDE)) == (worker, 0)


@pytest.mark.parametrize(
    "resource",
    [
        {"resourceType": "Observation", "subject": {"reference": "http://test/fhir/Patient/1"}},
        {"resourceType": "Observation", "subject": {"type": "Patient", "identifier": {"value": "1"}}},
        {"resourceType": "Observation", "subject": {"identifier": {"value": "1"}}},
        {
            "resourceType": "Observation",
            "contained": [{"resourceType": "Patient", "id": "p"}],
            "subject": {"reference": "#p"},
        },
        {"resourceType": "Observation", **ABOUT_1, "performer": [{"reference": "Patient/2"}]},
        {"resourceType": "Observation", **ABOUT_1, "performer": [{"reference": "http://test/fhir/Patient/2"}]},
        {"resourceType": "Group", "member": [{"entity": {"reference": f"Patient/{n}"}} for n in (1, 2)]},
        {"resourceType": "Provenance", "target": [{"reference": "DocumentReference/1"}]},
        {
            "resourceType": "Bundle",
            "entry": [
                {"resource": {"resourceType": "Observation", "subject": {"reference": f"Patient/{n}"}}} for n in (1, 2)
            ],
        },
    ],
)
def test_who_cannot_be_told_is_not_nobody(resource: dict[str, Any]) -> None:
    """An opposition cannot be asked: those whom it could concern do not see it."""
    assert access_facts(resource).guard & WORKER_UNCLEAR


def test_what_is_withheld_is_withheld_in_a_bundle() -> None:
    """A document bundle that is kept is as secret as what is in it."""
    label = [{"system": systems.SECURITY_TAG, "code": "non-transmissible"}]
    note = {"resourceType": "Observation", **ABOUT_1, "meta": {"security": label}}
    bundle = {"resourceType": "Bundle", "type": "document", "entry": [{"resource": note}]}
    assert access_facts(bundle).guard & NON_TRANSMISSIBLE
