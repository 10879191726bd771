"""Whose compartment a resource is in."""

import pytest

from fhir_server.r4.membership import patients_of
from fhir_server.r4.resource_types import RESOURCE_TYPES
from tests.support import Resource, observation, patient

NOBODY = {"resourceType": "Organization", "id": "o", "name": "Patient/x"}


@pytest.mark.parametrize(
    ("resource", "owners"),
    [
        (patient("p1", link=[{"type": "seealso", "other": {"reference": "Patient/p2"}}]), {"p1", "p2"}),
        (observation("p1", performer=[{"reference": "Practitioner/x"}, {"reference": "Patient/p2"}]), {"p1", "p2"}),
        (observation("p1/_history/3"), {"p1"}),
        (observation("p1", focus=[{"reference": "Patient/p2"}]), {"p1"}),
        ({"resourceType": "Group", "member": [{"entity": {"reference": "Patient/p1"}}]}, {"p1"}),
        ({"resourceType": "Observation", "subject": {"identifier": {"value": "1"}}}, set()),
        ({"resourceType": "Observation", "subject": {"reference": "Group/p1"}}, set()),
        (NOBODY, set()),
    ],
)
def test_the_references_of_the_compartment_lead_to_its_patients(resource: Resource, owners: set[str]) -> None:
    """Those parameters that R4 lists, and no other reference."""
    assert patients_of(resource) == owners


def test_every_type_can_be_asked() -> None:
    """The expressions of all parameters of the compartment are understood."""
    assert all(patients_of({"resourceType": name}) == set() for name in RESOURCE_TYPES)
