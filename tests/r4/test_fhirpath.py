"""FHIRPath: what an expression gives on an element, and what bounds it. http://hl7.org/fhirpath/N1/"""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fhir_server.r4.fhirpath import evaluation
from fhir_server.r4.fhirpath.evaluation import Context, TooMuch, Undecided, evaluate
from fhir_server.r4.fhirpath.nodes import Misshapen, Node, descendants, root
from fhir_server.r4.fhirpath.syntax import UnknownExpression, parse
from fhir_server.r4.fhirpath.values import Moment, plain

PATIENT: dict[str, Any] = {
    "resourceType": "Patient",
    "id": "p",
    "contained": [{"resourceType": "Organization", "id": "o", "name": "SPST"}],
    "extension": [{"url": "http://example.org/a", "valueDecimal": 1.50}],
    "active": True,
    "name": [
        {"use": "official", "family": "DUPONT", "given": ["Jeanne", "Marie"], "_given": [None, {"id": "g"}]},
        {"use": "maiden", "family": "MARTIN", "given": ["Jeanne"]},
    ],
    "birthDate": "1980-02-29",
    "_birthDate": {"extension": [{"url": "http://example.org/time", "valueTime": "08:00:00"}]},
    "_gender": {"extension": [{"url": "http://example.org/none", "valueCode": "masked"}]},
    "deceasedDateTime": "2020",
    "multipleBirthInteger": 2,
    "generalPractitioner": [{"reference": "#o"}, {"reference": "Practitioner/1"}],
}


def context_of(resource: dict[str, Any]) -> Context:
    top = root(resource)
    return Context(top, top, top)


def values(expression: str, resource: dict[str, Any] = PATIENT) -> list[Any]:
    """What an expression gives, as Python has it; of an element that is no primitive its place."""
    found: list[Any] = []
    for item in evaluate(expression, context_of(resource)):
        value = plain(item)
        found.append(item.place if isinstance(item, Node) and isinstance(value, dict) else value)
    return [value.text if isinstance(value, Moment) else value for value in found]


GIVEN: list[tuple[str, list[Any]]] = [
    # paths: http://hl7.org/fhirpath/N1/#path-selection
    ("name.family", ["DUPONT", "MARTIN"]),
    ("Patient.name.given", ["Jeanne", "Marie", "Jeanne"]),
    ("DomainResource.active", [True]),
    ("Observation.status", []),
    ("name[1].`given`[0]", ["Jeanne"]),
    ("deceased", ["2020"]),
    ("nickname", []),
    ("birthDate.extension('http://example.org/time').value", ["08:00:00"]),
    ("contained.name", ["SPST"]),
    ("{}", []),
    # existence: http://hl7.org/fhirpath/N1/#existence
    ("name.exists(use = 'old')", [False]),
    ("name.where(use = 'official').exists() and photo.empty()", [True]),
    ("name.all(family.exists())", [True]),
    ("name.given.count()", [3]),
    ("name.given.distinct()", ["Jeanne", "Marie"]),
    ("name.family.isDistinct() and name.given.isDistinct().not()", [True]),
    ("(true | false).allTrue()", [False]),
    ("(true | false).anyTrue() and (false | false).allFalse() and (true | false).anyFalse()", [True]),
    ("name.given.subsetOf('Jeanne' | 'Marie' | 'Zoé')", [True]),
    ("name.given.supersetOf('Zoé')", [False]),
    ("gender.exists() and gender.hasValue().not() and birthDate.hasValue()", [True]),
    # filtering and subsetting
    ("name.select(given.first() & ' ' & family)", ["Jeanne DUPONT", "Jeanne MARTIN"]),
    ("name.where($index = 1).family", ["MARTIN"]),
    ("name.given.tail().first()", ["Marie"]),
    ("name.given.skip(1).take(1)", ["Marie"]),
    ("name.last().use", ["maiden"]),
    ("name.given.intersect('Marie' | 'x')", ["Marie"]),
    ("name.given.exclude('Jeanne')", ["Marie"]),
    ("name.given | name.family", ["Jeanne", "Marie", "DUPONT", "MARTIN"]),
    ("name.family.combine(name.family).count()", [4]),
    ("name.given.ofType(string).count()", [3]),
    ("children().ofType(HumanName).count()", [2]),
    ("name.descendants().as(code)", ["official", "maiden"]),
    ("repeat(children()).count() = descendants().count()", [True]),
    ("generalPractitioner.resolve().name", ["SPST"]),
    # types: http://hl7.org/fhirpath/N1/#types
    ("deceased is dateTime", [True]),
    ("deceased.is(Boolean)", [False]),
    ("active is Boolean and active is System.Boolean and active is FHIR.boolean", [True]),
    ("(multipleBirth as integer) + 1", [3]),
    ("contained.first().is(Organization) and contained.first() is DomainResource", [True]),
    ("name.first().use is string", [True]),
    # operators
    ("1 + 2 * 3 - 4 / 2", [5]),
    ("7 div 2 + 7 mod 2", [4]),
    ("1 / 0", []),
    ("-multipleBirth", [-2]),
    ("extension.value = 1.5", [True]),
    ("'abc' ~ 'ABC' and 'abc' != 'ABC' and ('a' | 'b') ~ ('b' | 'a')", [True]),
    ("active xor true", [False]),
    ("false implies {}", [True]),
    ("{} implies true", [True]),
    ("{} and false", [False]),
    ("{} or false", []),
    ("'x' in ('x' | 'y') and ('x' | 'y') contains 'y'", [True]),
    ("{} = {}", []),
    ("name.given = ('Jeanne' | 'Marie')", [False]),
    ("iif(active, 'yes', 'no')", ["yes"]),
    ("photo.iif(empty(), 'none', 'some')", ["none"]),
    # dates: http://hl7.org/fhirpath/N1/#comparison
    ("birthDate < @1980-03-01", [True]),
    ("birthDate = @1980", []),
    ("birthDate = @1980-02-29", [True]),
    ("deceased > @2019-05-03", [True]),
    ("deceased >= @2020-05-03", []),
    ("@2020-01-01T12:00:00+01:00 = @2020-01-01T11:00:00Z", [True]),
    ("@T08:00:00 < @T09:00:00", [True]),
    # texts
    ("'abcdef'.substring(2, 3) & 'x'.upper() & ' y '.trim() & 'Z'.lower()", ["cdeXyz"]),
    ("'abc'.substring(5)", []),
    ("'abc'.startsWith('ab') and 'abc'.endsWith('bc') and 'abc'.contains('b') and 'abc'.length() = 3", [True]),
    ("'abc'.indexOf('c') = 2 and 'abc'.replace('b', 'x') = 'axc'", [True]),
    ("'A1b'.matches('[A-Z][0-9]')", [False]),
    ("'a.b.c'.replaceMatches('\\\\..*', '')", ["a"]),
    ("'12'.toInteger() + '0.5'.toDecimal()", [12.5]),
    ("'1.5'.toInteger() | 'x'.toDecimal()", []),
    ("1.50.toString() & true.toString()", ["1.50true"]),
    ("'\\u0041\\'\\n'", ["A'\n"]),
    # variables
    ("%resource.id & %context.id & %rootResource.id & %ucum", ["ppphttp://unitsofmeasure.org"]),
    ("name.where(%resource.active).count()", [2]),
    ("name.given.where($this = 'Marie').trace('found', id)", ["Marie"]),
]  # fmt: skip


@pytest.mark.parametrize(("expression", "expected"), GIVEN)
def test_an_expression_gives_what_the_standard_says(expression: str, expected: list[Any]) -> None:
    """On a Patient with two names, a contained Organization, and primitives with extensions."""
    assert values(expression) == expected


def test_quantities_of_one_unit_are_ordered() -> None:
    """And those of two are not: what a unit is worth is the terminology's affair."""
    low, high = ({"value": value, "unit": unit} for value, unit in [(9.0, "kg"), (10, "kg")])
    observation = {"resourceType": "Observation", "referenceRange": [{"low": low, "high": high}]}
    assert values("referenceRange.low <= referenceRange.high", observation) == [True]
    observation["referenceRange"] = [{"low": low, "high": high | {"unit": "g"}}]
    assert values("referenceRange.low <= referenceRange.high", observation) == []


@pytest.mark.parametrize(
    "expression",
    ["", "name.", "name)", "(name", "name.where()", "name.first(1)", "memberOf('x')", "name is", "name is 1", "a b",
     "name[", "'x", "4 'mg'", "name.where(", "ofType(1)", "(" * 50 + "1" + ")" * 50, "a" * 6000],
)  # fmt: skip
def test_what_is_no_expression_known_here_is_refused(expression: str) -> None:
    """Before it is evaluated."""
    with pytest.raises(UnknownExpression):
        values(expression)


@pytest.mark.parametrize(
    "expression", ["name.single()", "name.given and true", "name.use > 'a'", "name + 1", "1.startsWith('x')", "-'x'"]
)
def test_an_expression_that_has_no_answer_says_so(expression: str) -> None:
    """One value is asked for where there are several, or one of another kind."""
    with pytest.raises(Undecided):
        values(expression)


def test_an_evaluation_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """However the expression multiplies what there is."""
    monkeypatch.setattr(evaluation, "MOST_STEPS", 1000)
    with pytest.raises(TooMuch):
        values("descendants().select(%resource.descendants().select(%resource.descendants()))")
    with pytest.raises(TooMuch):
        values("repeat($this)")


def test_json_that_is_not_r4_is_told_apart() -> None:
    """From a resource in which something is missing."""
    for wrong in ({"name": {"family": "x"}}, {"name": ["x"]}):
        with pytest.raises(Misshapen):
            values("name.family", {"resourceType": "Patient", **wrong})


def test_a_descendant_knows_its_place() -> None:
    """From the outermost resource, with the index where the element repeats."""
    places = [node.place for node in descendants(root(PATIENT))]
    assert "Patient.contained[0].name" in places
    assert "Patient.name[0].given[1].id" in places
    assert "Patient.deceased" in places
    assert len(places) == len(set(places))


@given(st.text(alphabet="ab.()[]'=|&<> 1@%$`{},+-", max_size=30))
def test_any_text_is_read_or_refused(text: str) -> None:
    """And nothing else happens."""
    try:
        parse(text)
    except UnknownExpression as refused:
        assert str(refused)
