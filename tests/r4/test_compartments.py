"""The five compartments of R4: https://hl7.org/fhir/R4/compartmentdefinition.html"""

import pytest

from fhir_server.r4.compartments import COMPARTMENTS, parameters, types_in
from fhir_server.r4.resource_types import RESOURCE_TYPES
from fhir_server.r4.search_parameters import parameters_of


def test_a_compartment_is_asked_by_reference_parameters_of_its_types() -> None:
    """Each of them may lead to the resource that the compartment is of."""
    for compartment in COMPARTMENTS:
        for resource_type in types_in(compartment):
            for code in parameters(compartment, resource_type):
                parameter = parameters_of(resource_type)[code]
                assert parameter.type == "reference"
                assert not parameter.targets or compartment in parameter.targets, (compartment, resource_type, code)


@pytest.mark.parametrize(
    ("compartment", "types"),
    [("Device", 32), ("Encounter", 24), ("Patient", 66), ("Practitioner", 58), ("RelatedPerson", 31)],
)
def test_a_compartment_has_the_types_of_its_page(compartment: str, types: int) -> None:
    """The resource that it is of stands on the page too, by no parameter but where one leads to another of its type."""
    assert len(types_in(compartment)) == types
    assert set(types_in(compartment)) <= set(RESOURCE_TYPES)


def test_what_the_maker_of_the_package_added_is_left_out() -> None:
    """He put Task into the compartment of a Patient, and asks an Encounter by its subject."""
    assert parameters("Patient", "Encounter") == ("patient",)
    assert parameters("Patient", "Task") == ()
    assert parameters("Patient", "DocumentReference") == ("author", "subject")
    assert parameters("Patient", "Patient") == ("link",)


def test_what_r4_puts_nowhere_is_in_no_compartment() -> None:
    """A type outside, and a compartment that R4 does not define."""
    assert parameters("Patient", "Organization") == ()
    assert parameters("Organization", "Observation") == ()
