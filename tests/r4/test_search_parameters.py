"""The search parameters of R4 and of the French guides, and their FHIRPath."""

from typing import Any

import orjson
import pytest

from fhir_server.r4.definitions import TABLES
from fhir_server.r4.paths import ExistsAndIsNot, Filter, TypedPath, UnknownExpression, compile_expression
from fhir_server.r4.resource_types import RESOURCE_TYPES
from fhir_server.r4.search_parameters import parameter_at, parameters_of


def rows() -> list[dict[str, Any]]:
    files = ("search_parameters.json", "search_parameters_pdsm.json")
    return [row for file in files for row in orjson.loads((TABLES / file).read_bytes())]


def test_no_number_and_no_url_stands_twice() -> None:
    """The store keeps the number in the place of the url, in two bytes."""
    assert len({row["number"] for row in rows()}) == len({row["url"] for row in rows()}) == len(rows())
    assert all(0 < row["number"] < 2**15 for row in rows())


def test_numbers_once_given_stay() -> None:
    """A few, as they were first given: a change here would make every stored index lie."""
    urls = ("Account-identifier", "DocumentReference-setting", "clinical-patient", "individual-gender")
    numbers = [parameter_at("http://hl7.org/fhir/SearchParameter/" + url).number for url in urls]
    assert numbers == [1, 423, 1342, 1368]


def test_a_type_has_its_own_parameters_and_those_of_all() -> None:
    """Binary is no DomainResource, so it has no narrative to search."""
    assert {"_id", "_lastUpdated", "_tag", "_text", "family", "birthdate"} <= parameters_of("Patient").keys()
    assert "_text" not in parameters_of("Binary")
    assert "_tag" in parameters_of("Binary")


def test_a_code_means_what_the_type_says() -> None:
    """`date` of an Observation and of a Composition is one parameter, `date` of an Appointment another."""
    observation, composition = parameters_of("Observation")["date"], parameters_of("Composition")["date"]
    assert observation is composition
    assert observation.number != parameters_of("Appointment")["date"].number


@pytest.mark.parametrize("name", ["", "Resource", "DomainResource", "Project", "patient"])
def test_an_unknown_type_has_no_parameters(name: str) -> None:
    """Empty rather than an error."""
    assert parameters_of(name) == {}


def test_every_expression_compiles() -> None:
    """For every type that a parameter is about, and it selects something there."""
    compiled = 0
    for resource_type in RESOURCE_TYPES:
        for parameter in parameters_of(resource_type).values():
            if parameter.expression:
                selected = compile_expression(parameter.expression, resource_type)
                assert selected, parameter.url
                compiled += 1
    assert compiled > len(RESOURCE_TYPES) * 6


def test_only_the_parameters_without_expression_lack_one() -> None:
    """R4 leaves these three to the server."""
    assert {row["code"] for row in rows() if "expression" not in row} == {"_text", "_content", "_query"}


def test_the_guides_add_theirs() -> None:
    """PDSm and MHD, by their canonical urls."""
    added = {"isArchived", "period-start", "period-end", "creation"}
    assert added <= parameters_of("DocumentReference").keys()
    assert {"isArchived", "designationType", "sourceId", "authorOrg"} <= parameters_of("List").keys()
    assert parameters_of("List")["isArchived"].url.endswith("/pdsm/SearchParameter/PDSm-isArchived")


def test_components_name_parameters_that_exist() -> None:
    """And the two of DocumentReference.relationship, which R4 confuses, are in their right order."""
    for row in rows():
        for url, _ in row.get("components", ()):
            assert parameter_at(url).expression
    first, second = parameters_of("DocumentReference")["relationship"].components
    assert (parameter_at(first[0]).type, parameter_at(second[0]).type) == ("token", "reference")


def paths(expression: str, type_name: str) -> tuple[TypedPath, ...]:
    """What an expression selects that is not a truth."""
    selected = compile_expression(expression, type_name)
    assert not isinstance(selected, ExistsAndIsNot)
    return selected


def test_a_path_ends_at_a_property_of_one_type() -> None:
    """`as` chooses the property, `where` keeps some of its items, `[0]` one of them."""
    (path,) = paths("(Observation.value as Quantity)", "Observation")
    assert ([step.key for step in path.steps], path.type) == (["valueQuantity"], "Quantity")
    (path,) = paths("Task.for.where(resolve() is Patient)", "Task")
    assert path.steps[0].filter == Filter("resolves-to", "", "Patient")
    (path,) = paths("Bundle.entry[0].resource", "Bundle")
    assert [step.index for step in path.steps] == [0, None]
    assert compile_expression("Patient.name | Person.name", "Practitioner") == ()
    truth = compile_expression("Patient.deceased.exists() and Patient.deceased != false", "Patient")
    assert isinstance(truth, ExistsAndIsNot)


@pytest.mark.parametrize(
    "expression",
    ["Patient.nickname", "Patient.name.select(given)", "Patient.name.", "Patient.name)", "Patient.name + 1",
     "Patient.birthDate.year", "Patient.where(active=true)", "(Patient.name", "$this[0]", "Patient.name!"],
)  # fmt: skip
def test_an_expression_outside_the_known_part_is_refused(expression: str) -> None:
    """Rather than read as something else."""
    with pytest.raises(UnknownExpression):
        compile_expression(expression, "Patient")
