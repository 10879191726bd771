"""GraphQL without a store: what a query selects of resources at hand, how it is laid out, and what is refused.

The cases follow the manner of HL7's official ones (fhir-test-cases, `graphql/manifest.xml`), one of ours for each.
"""

from collections.abc import Mapping
from typing import Any

import orjson
import pytest

from fhir_server.outcomes import BadParameter, BadSyntax, Failure, NotFound, NotSupported, TooCostly, Unavailable
from fhir_server.r4.graphql import introspection, limits, selection
from fhir_server.r4.graphql.document import read
from fhir_server.r4.graphql.execution import Execution
from fhir_server.r4.graphql.introspection import introspected
from fhir_server.r4.graphql.schema import OFFERED, QUERY, shown_name
from fhir_server.r4.graphql.search_arguments import searching
from fhir_server.r4.graphql.selection import check
from fhir_server.r4.graphql.wants import Hit, Hits, Reads, Search
from fhir_server.r4.resource_types import RESOURCE_TYPES
from fhir_server.rest.routes import codes_of
from tests.support import Resource

NIR = "urn:oid:1.2.250.1.213.1.4.8"
SHIFT = "https://example.org/shift"
WORKER: Resource = {
    "resourceType": "Patient",
    "id": "w",
    "active": True,
    "birthDate": "1984-02-29",
    "_birthDate": {"extension": [{"url": "https://example.org/at", "valueDateTime": "1984-02-29T04:05:00Z"}]},
    "identifier": [{"system": NIR, "value": "284020000000000"}],
    "extension": [{"url": SHIFT, "valueCode": "night"}, {"url": "https://example.org/floor", "valueInteger": 3}],
    "name": [
        {"use": "official", "family": "MARTIN", "given": ["Camille", "Noé"]},
        {"use": "usual", "given": ["Cam"]},
        {"use": "maiden", "family": "PETIT", "given": ["Camille"]},
    ],
    "contact": [{"name": {"family": "MARTIN"}, "telecom": [{"system": "phone", "value": "0100000000", "rank": 1}]}],
}
SMALL: Resource = {"resourceType": "Patient", "id": "s", "active": True}
FIRM: Resource = {"resourceType": "Organization", "id": "f", "name": "Fonderie", "active": False}
AUDIOGRAM: Resource = {
    "resourceType": "Observation",
    "id": "a",
    "status": "final",
    "code": {"coding": [{"system": "http://loinc.org", "code": "89015-5"}, {"system": "urn:own", "code": "audio"}]},
    "subject": {"reference": "Patient/w"},
    "performer": [{"reference": "Organization/f"}, {"reference": "#who"}],
    "valueQuantity": {"value": 25.0, "unit": "dB"},
    "contained": [{"resourceType": "Practitioner", "id": "who", "active": True}],
}
DISPENSED: Resource = {
    "resourceType": "MedicationDispense",
    "id": "d",
    "status": "completed",
    "authorizingPrescription": [{"reference": "MedicationRequest/lost"}],
}
FOLDER: Resource = {
    "resourceType": "List",
    "id": "l",
    "entry": [{"item": {"reference": f"DocumentReference/{number}"}} for number in range(12)],
}
ASTHMA: Resource = {"resourceType": "Condition", "id": "c", "subject": {"reference": "Patient/w"}}
KEPT = {
    f"{one['resourceType']}/{one['id']}": one for one in (WORKER, SMALL, FIRM, AUDIOGRAM, DISPENSED, FOLDER, ASTHMA)
}


def ran(query: str, on: str | None = None, *, name: str | None = None, **variables: Any) -> Any:
    """The data of a query over what is kept above, on one of it or on all; searches find all that is of a type."""
    document = read(query, name, variables)
    root_type, _, resource_id = (on or "").partition("/")
    check(document, root_type or QUERY)
    root = orjson.dumps(KEPT[on]) if on else None
    execution = Execution(document, root)
    while want := execution.next():
        execution.give(loaded(want))
    assert not resource_id or on in KEPT
    return orjson.loads(execution.data())


def loaded(want: Reads | Search) -> Mapping[tuple[str, str], bytes] | Hits:
    if isinstance(want, Reads):
        return {key: orjson.dumps(KEPT["/".join(key)]) for key in want.keys if "/".join(key) in KEPT}
    found = [Hit(orjson.dumps(one)) for one in KEPT.values() if one["resourceType"] == want.type]
    about = {"count": 7, "offset": 0, "pagesize": want.count, "next": "sealed"} if want.connection else {}
    return Hits(found, about=about)


NAMES = [
    {"given": ["Camille", "Noé"], "family": "MARTIN"},
    {"given": ["Cam"]},
    {"given": ["Camille"], "family": "PETIT"},
]
IDENTIFIER = [{"system": NIR, "value": "284020000000000"}]
CODINGS = {"coding": [{"system": "http://loinc.org", "code": "89015-5"}, {"system": "urn:own", "code": "audio"}]}
# What it is about -> the query, on what, and the data. In the order of the official manifest.
CASES: dict[str, tuple[str, str | None, Any]] = {
    "simple": (
        "{ identifier { system value } active name { text given family } }",
        "Patient/w",
        {"identifier": IDENTIFIER, "active": True, "name": NAMES},
    ),
    "chosen by FHIRPath": (
        '{ name(fhirpath: "family.exists()") { family } }',
        "Patient/w",
        {"name": [{"family": "MARTIN"}, {"family": "PETIT"}]},
    ),
    "a choice of types": (
        "{ subject { reference } valueQuantity { value unit } valueString }",
        "Observation/a",
        {"subject": {"reference": "Patient/w"}, "valueQuantity": {"value": 25.0, "unit": "dB"}},
    ),
    "a reference": (
        "{ id subject { reference, resource { active } } code { coding { system code } } }",
        "Observation/a",
        {"id": "a", "subject": {"reference": "Patient/w", "resource": {"active": True}}, "code": CODINGS},
    ),
    "a reference to the type": (
        "{ subject { reference resource(type: Patient) { active } } }",
        "Observation/a",
        {"subject": {"reference": "Patient/w", "resource": {"active": True}}},
    ),
    "a reference to another type": (
        "{ subject { reference resource(type: Group) { active } } }",
        "Observation/a",
        {"subject": {"reference": "Patient/w"}},
    ),
    "an optional reference": (
        "{ authorizingPrescription { reference resource(optional: true) { id } } }",
        "MedicationDispense/d",
        {"authorizingPrescription": [{"reference": "MedicationRequest/lost"}]},
    ),
    "fragments by type": (
        "{ performer { resource { ... on Practitioner { id } ... on Organization { name } } } }",
        "Observation/a",
        {"performer": [{"resource": {"name": "Fonderie"}}, {"resource": {"id": "who"}}]},
    ),
    "extensions": (
        "{ id extension { url valueCode } }",
        "Patient/w",
        {"id": "w", "extension": [{"url": SHIFT, "valueCode": "night"}, {"url": "https://example.org/floor"}]},
    ),
    "an extension by its url": (
        f'{{ id extension(url: "{SHIFT}") {{ url valueCode }} }}',
        "Patient/w",
        {"id": "w", "extension": [{"url": SHIFT, "valueCode": "night"}]},
    ),
    "an extension that there is not": ('{ id extension(url: "urn:x") { url } }', "Patient/w", {"id": "w"}),
    "the extension of a primitive": (
        "{ subject { resource { birthDate } } subject { resource { _birthDate { extension { valueDateTime } } } } }",
        "Observation/a",
        {
            "subject": {
                "resource": {
                    "birthDate": "1984-02-29",
                    "_birthDate": {"extension": [{"valueDateTime": "1984-02-29T04:05:00Z"}]},
                }
            }
        },
    ),
    "a read": ("{ Patient(id: w) { id active } }", None, {"Patient": {"id": "w", "active": True}}),
    "a list": (
        "{ PatientList(active: true) { id, active } }",
        None,
        {"PatientList": [{"id": "w", "active": True}, {"id": "s", "active": True}]},
    ),
    "a connection": (
        "{ PatientConnection(_count: 2) { count offset pagesize edges { mode, score, resource { id } } first next } }",
        None,
        {
            "PatientConnection": {
                "count": 7,
                "offset": 0,
                "pagesize": 2,
                "edges": [
                    {"mode": "match", "resource": {"id": "w"}},
                    {"mode": "match", "resource": {"id": "s"}},
                ],
                "next": "sealed",
            }
        },
    ),
    "reverse references": (
        "{ id ConditionList(_reference: patient) { id } }",
        "Patient/w",
        {"id": "w", "ConditionList": [{"id": "c"}]},
    ),
    "skip": ("{ identifier @skip(if: true) { value } active }", "Patient/w", {"active": True}),
    "include": (
        "{ identifier @include(if: true) { system value } active @include(if: false) }",
        "Patient/w",
        {"identifier": IDENTIFIER},
    ),
    "flatten": (
        "{ identifier @flatten { system value } active name @flatten { text given family } }",
        "Patient/w",
        {
            "system": [NIR],
            "value": ["284020000000000"],
            "active": True,
            "given": ["Camille", "Noé", "Cam", "Camille"],
            "family": ["MARTIN", "PETIT"],
        },
    ),
    "flatten, and the first of each": (
        "{ name @flatten { given @first family } }",
        "Patient/w",
        {"given": ["Camille", "Cam", "Camille"], "family": ["MARTIN", "PETIT"]},
    ),
    "singletons": (
        "{ identifier @flatten { system @singleton value @singleton } name @flatten { given } }",
        "Patient/w",
        {"system": NIR, "value": "284020000000000", "given": ["Camille", "Noé", "Cam", "Camille"]},
    ),
    "a singleton of the first": (
        "{ name @flatten @first { text given family @singleton } }",
        "Patient/w",
        {"given": ["Camille", "Noé"], "family": "MARTIN"},
    ),
    "slices by an element": (
        '{ name @flatten @slice(path: "use") { given family @singleton } }',
        "Patient/w",
        {
            "given.official": ["Camille", "Noé"],
            "family.official": "MARTIN",
            "given.usual": ["Cam"],
            "given.maiden": ["Camille"],
            "family.maiden": "PETIT",
        },
    ),
    "slices by their number": (
        '{ name @flatten @slice(path: "$index") { given family @singleton } }',
        "Patient/w",
        {
            "given.0": ["Camille", "Noé"],
            "family.0": "MARTIN",
            "given.1": ["Cam"],
            "given.2": ["Camille"],
            "family.2": "PETIT",
        },
    ),
    "a part of a list": (
        "{ entry(_count: 2, _offset: 5) { deleted item { reference } } }",
        "List/l",
        {"entry": [{"item": {"reference": f"DocumentReference/{number}"}} for number in (5, 6)]},
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_a_query_selects_what_the_standard_says(case: str) -> None:
    query, on, expected = CASES[case]
    assert ran(query, on) == expected


def test_a_variable_decides_what_is_shown() -> None:
    """The operation that is named, with a value, with its default, and with none although it needs one."""
    query = """query other { active } query mine($more: Boolean!, $use: code = official) {
        identifier @include(if: $more) { value } name(use: $use) { family } }"""
    named = {"name": [{"family": "MARTIN"}]}
    assert ran(query, "Patient/w", name="mine", more=False) == named
    assert ran(query, "Patient/w", name="mine", more=True, use="maiden") == {
        "identifier": [{"value": "284020000000000"}],
        "name": [{"family": "PETIT"}],
    }
    unset = "query ($use: code, $count: Int) { name(use: $use, _count: $count, _offset: null) { use } }"
    assert len(ran(unset, "Patient/w")["name"]) == 3
    assert ran(unset, "Patient/w", use="maiden", count=5)["name"] == [{"use": "maiden"}]
    for variables in ({}, {"more": "true"}, {"more": None}, {"more": True, "use": {"a": 1}}):
        with pytest.raises(BadParameter):
            ran(query, "Patient/w", name="mine", **variables)
    for name in (None, "theirs"):
        with pytest.raises(BadParameter):
            ran(query, "Patient/w", name=name, more=True)


# Query -> what the answer is, beyond the official cases.
MORE: dict[str, tuple[str, str | None, Any]] = {
    "aliases, and one field twice": (
        "{ w: Patient(id: w) { who: __typename } s: Patient(_id: s) { resourceType ...a } }"
        " fragment a on Patient { id }",
        None,
        {"w": {"who": "Patient"}, "s": {"resourceType": "Patient", "id": "s"}},
    ),
    "fields of equal names become one": (
        "{ contact { name { family } } contact { telecom { rank } __typename } }",
        "Patient/w",
        {"contact": [{"name": {"family": "MARTIN"}, "telecom": [{"rank": 1}], "__typename": "PatientContact"}]},
    ),
    "one reference by types": (
        "{ performer { resource(type: Organization) { name } resource(type: [Practitioner]) { active } } }",
        "Observation/a",
        {"performer": [{"resource": {"name": "Fonderie"}}, {"resource": {"active": True}}]},
    ),
    "fragments on what all have in common": (
        "{ performer { resource { ... on DomainResource { id } ... on Resource { __typename } } } }",
        "Observation/a",
        {
            "performer": [
                {"resource": {"id": "f", "__typename": "Organization"}},
                {"resource": {"id": "who", "__typename": "Practitioner"}},
            ]
        },
    ),
    "filters of several kinds": (
        '{ name(given: "Camille", fhirpath: "$index = 1 or family = \'PETIT\'") { family }'
        " contact { telecom(rank: 1) { rank } } }",
        "Patient/w",
        {"name": [{"family": "PETIT"}], "contact": [{"telecom": [{"rank": 1}]}]},
    ),
    "alternatives of a filter": (
        "{ name(use: [usual, maiden], _offset: 1) { use } }",
        "Patient/w",
        {"name": [{"use": "maiden"}]},
    ),
    "slices that stay where they are": (
        '{ name @slice(path: "use") { family @singleton } }',
        "Patient/w",
        {"name.official": [{"family": "MARTIN"}], "name.usual": [{}], "name.maiden": [{"family": "PETIT"}]},
    ),
    "a list laid flat, by R4's own example": (
        '{ name @slice(path: "$index") @flatten { given @first @singleton family } }',
        "Patient/w",
        {
            "given.0": "Camille",
            "family.0": ["MARTIN"],
            "given.1": "Cam",
            "given.2": "Camille",
            "family.2": ["PETIT"],
        },
    ),
    "nested flattening and cumulative names": (
        '{ contact @flatten @slice(path: "$index") { telecom @flatten @slice(path: "system") { value } } }',
        "Patient/w",
        {"value.0.phone": ["0100000000"]},
    ),
    "a reference there and back": (
        "{ ConditionList { id subject { resource {"
        " ... on Patient { id ConditionList(_reference: subject) { id } } } } } }",
        None,
        {"ConditionList": [{"id": "c", "subject": {"resource": {"id": "w", "ConditionList": [{"id": "c"}]}}}]},
    ),
    "hits chosen by FHIRPath": (
        '{ PatientList(fhirpath: "name.count() > 1", _count: 1) { id }'
        " PatientConnection { edges @flatten { resource @flatten { id } } } }",
        None,
        {"PatientList": [{"id": "w"}], "PatientConnection": {"id": ["w", "s"]}},
    ),
    "no arguments, as R4 writes it": ("{ PatientConnection() { count } }", None, {"PatientConnection": {"count": 7}}),
    "a list without anything": ("{ GroupList { id } active: __typename }", None, {"GroupList": [], "active": "Query"}),
}


@pytest.mark.parametrize("case", MORE)
def test_a_query_may_ask_more(case: str) -> None:
    query, on, expected = MORE[case]
    assert ran(query, on) == expected


def test_numbers_keep_their_digits_and_lists_their_holes() -> None:
    """25.0 stays 25.0; a name that has only an extension leaves its place empty, but not where it was made flat."""
    assert b"25.0" in answer_to("{ valueQuantity { value } }", AUDIOGRAM)
    holed = {
        "resourceType": "Patient",
        "name": [{"given": ["A", None], "_given": [None, {"extension": [{"url": "urn:x", "valueCode": "u"}]}]}],
    }
    query = "{ name { given _given { extension { valueCode } } } }"
    assert orjson.loads(answer_to(query, holed)) == {
        "name": [{"given": ["A", None], "_given": [None, {"extension": [{"valueCode": "u"}]}]}]
    }
    assert orjson.loads(answer_to("{ name @flatten { given } }", holed)) == {"given": ["A"]}


def answer_to(query: str, resource: Resource) -> bytes:
    document = read(query, None, {})
    check(document, resource["resourceType"])
    return Execution(document, orjson.dumps(resource)).data()


# What is wrong -> the query, on what, and what is raised.
WRONG: dict[str, tuple[str, str | None, type[Failure]]] = {
    "a field that there is not": ("{ identifier { system something } }", "Patient/w", BadParameter),
    "a choice by its name": ("{ value { unit } }", "Observation/a", BadParameter),
    "a field of no possible type": ("{ subject { resource { nameless } } }", "Observation/a", BadParameter),
    "a type that there is not": (
        "{ subject { resource { ... on Practioner { id } } } }",
        "Observation/a",
        BadParameter,
    ),
    "a fragment that never applies": ("{ name { ... on Patient { id } } }", "Patient/w", BadParameter),
    "the bytes of a Binary": ("{ BinaryList { data } }", None, BadParameter),
    "the trail": ("{ AuditEventList { id } }", None, BadParameter),
    "nothing of what has children": ("{ name }", "Patient/w", BadParameter),
    "something of what has none": ("{ active { value } }", "Patient/w", BadParameter),
    "an argument of a primitive": ('{ active(fhirpath: "true") }', "Patient/w", BadParameter),
    "a filter that there is not": ("{ name(used: official) { family } }", "Patient/w", BadParameter),
    "an object as argument": ("{ name(use: {code: official}) { family } }", "Patient/w", BadParameter),
    "a directive that there is not": ("{ name @sorted { family } }", "Patient/w", BadParameter),
    "a slice by nothing": ("{ name @slice { family } }", "Patient/w", BadParameter),
    "a primitive made flat": ("{ active @flatten }", "Patient/w", BadParameter),
    "two fields of one name": ("{ name(use: official) { family } name { family } }", "Patient/w", BadParameter),
    "a reference twice": (
        "{ subject { resource { id } resource(type: Patient) { active } } }",
        "Observation/a",
        BadParameter,
    ),
    "a mandatory reference to nothing": (
        "{ authorizingPrescription { reference resource { id } } }",
        "MedicationDispense/d",
        NotFound,
    ),
    "several values of a singleton": ("{ name @flatten { family @singleton } }", "Patient/w", BadParameter),
    "two types under one name": (
        "{ identifier @flatten { it: value } contact @flatten { it: name { family } } }",
        "Patient/w",
        BadParameter,
    ),
    "a search parameter that there is not": ("{ PatientList(nickname: a) { id } }", None, BadParameter),
    "an include": ('{ PatientList(_include: "Patient:link") { id } }', None, BadParameter),
    "a value that is no date": ("{ PatientList(birthdate: soon) { id } }", None, BadParameter),
    "an order that there is not": ("{ PatientList(_sort: nickname) { id } }", None, BadParameter),
    "a list of a resource without reference": ("{ ConditionList { id } }", "Patient/w", BadParameter),
    "a reference of something else": ("{ ConditionList(_reference: encounter) { id } }", "Patient/w", BadParameter),
    "a reference that is a code": ("{ ConditionList(_reference: code) { id } }", "Patient/w", BadParameter),
    "an id beside a reference": ("{ ConditionList(_reference: patient, _id: c) { id } }", "Patient/w", BadParameter),
    "a cursor of a resource": (
        '{ ConditionConnection(_reference: patient, _cursor: "x") { count } }',
        "Patient/w",
        BadParameter,
    ),
    "a cursor and more": ('{ PatientConnection(_cursor: "x", name: a) { count } }', None, BadParameter),
    "a read by a name": ("{ Patient(name: a) { id } }", None, BadParameter),
    "a read of anything": ("{ Patient { id } }", None, BadParameter),
    "a read by no id": ('{ Patient(id: "a/b") { id } }', None, BadParameter),
    "half a character": ('{ PatientList(name: "a\\u0000") { id } }', None, BadParameter),
    "a read of a resource": ("{ Patient(id: s) { id } }", "Patient/w", BadParameter),
    "a fragment that nobody uses": ("{ active } fragment a on Patient { id }", "Patient/w", BadParameter),
    "a fragment of itself": ("{ ...a } fragment a on Patient { ...a }", "Patient/w", BadParameter),
    "a variable that nobody declared": ("{ active @skip(if: $x) }", "Patient/w", BadParameter),
    "no GraphQL": ("{ name { family }", "Patient/w", BadSyntax),
    "nothing": ("", "Patient/w", BadSyntax),
    "a mutation": ("mutation { PatientDelete(id: w) { id } }", None, NotSupported),
    "a subscription": ("subscription { PatientList { id } }", None, NotSupported),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_the_standard_has_not_is_refused(case: str) -> None:
    query, on, raised = WRONG[case]
    with pytest.raises(raised):
        ran(query, on)


def test_every_fault_is_told_with_its_place() -> None:
    """Line and column of each field, and none of the words of a query that cannot be read."""
    with pytest.raises(BadParameter) as wrong:
        ran("{ aa\n  bb { cc }\n name { dd } }", "Patient/w")
    assert sorted(one.location or () for one in wrong.value.issues) == [(1, 3), (2, 3), (3, 9)]
    with pytest.raises(BadSyntax) as unread:
        ran("{ PatientList(name: DUPONT Jean) { id } }")
    (issue,) = unread.value.issues
    assert issue.location == (1, 32)
    assert "Jean" not in issue.diagnostics


UNSAFE = ["name.matches('(a+)+$')", "name.family.replace('M', 'MM')", "repeat(name)", "%resource = %resource",
          "family & family", "1 + 1 = 2", "descendants().exists()", "'1e9'.toDecimal() > 1", "given.subsetOf(given)",
          "use =", "nowhere()", "x." * 300]  # fmt: skip


@pytest.mark.parametrize("path", UNSAFE)
def test_an_expression_whose_cost_nobody_knows_is_refused(path: str) -> None:
    """And one that cannot be read; what may be asked is bounded by what it touches."""
    with pytest.raises(BadParameter):
        ran("query a($path: String) { name(fhirpath: $path) { family } }", "Patient/w", path=path)


def test_an_expression_that_touches_too_much_is_stopped() -> None:
    many = {"resourceType": "Patient", "name": [{"given": ["A"] * 100}] * 100}
    path = "given.select($this | $this).combine(given).where(true).count() > " + "1"
    costly = "given.where(" * 3 + "true" + ").exists()" * 3
    assert answer_to(f'{{ name(fhirpath: "{path}", _count: 1) {{ family }} }}', many) == b'{"name":[{}]}'
    with pytest.raises(TooCostly):
        answer_to(f'{{ name(fhirpath: "{costly}") {{ family }} }}', {**many, "name": [{"given": ["A"] * 1000}] * 100})
    with pytest.raises(BadParameter):  # several values are no truth
        answer_to('{ name(fhirpath: "given") { family } }', many)


@pytest.mark.parametrize(
    ("query", "on"),
    [
        ("{ " + " ".join(f"a{n}: active" for n in range(limits.MOST_FIELDS + 1)) + " }", "Patient/w"),
        ("{ ...f0 } " + " ".join(f"fragment f{n} on Patient {{ ...f{n + 1} ...f{n + 1} }}" for n in range(30))
         + " fragment f30 on Patient { id }", "Patient/w"),
        ("{ extension " * limits.DEEPEST + "{ url }" + " }" * limits.DEEPEST, "Patient/w"),
        ("{ a" * 2000 + " }" * 2000, "Patient/w"),
        ("{ " + " ".join(f"a{n}: Patient(id: p{n}) {{ id }}" for n in range(limits.MOST_READS + 1)) + " }", None),
        ("{ " + " ".join(f"a{n}: GroupList {{ id }}" for n in range(limits.MOST_SEARCHES + 1)) + " }", None),
    ],
)  # fmt: skip
def test_a_query_that_would_cost_too_much_is_refused(query: str, on: str | None) -> None:
    with pytest.raises(TooCostly):
        ran(query, on)


BOMBS: dict[str, tuple[str, Resource]] = {
    "fields that are not there": (
        "{ component { " + " ".join(f"a{n}: valueString" for n in range(490)) + " } }",
        {"component": [{"id": "c"}] * 3000},
    ),
    "elements that are not chosen": (
        "{ " + " ".join(f"a{n}: component(id: other) {{ id }}" for n in range(240)) + " }",
        {"component": [{"id": "c"}] * 5000},
    ),
    "one text under many names": (
        "{ text { " + " ".join(f"a{n}: div" for n in range(400)) + " } }",
        {"text": {"status": "generated", "div": "x" * 100_000}},
    ),
    "a long name over many values": (
        f"{{ component {{ {'a' * 50_000}: id }} }}",
        {"component": [{"id": "c"}] * 1000},
    ),
    "a comparison of large elements": (
        '{ contained(fhirpath: "' + " or ".join(["$this != $this"] * 20) + '") { ... on Observation { id } } }',
        {"contained": [{"resourceType": "Observation", "component": [{"id": "c"}] * 20_000}]},
    ),
    "a long text read again and again": (
        '{ text(fhirpath: "' + " or ".join(["div.upper() = 'A'"] * 20) + '") { status } }',
        {"text": {"status": "generated", "div": "x" * 2_000_000}},
    ),
    "an expression that touches nothing": (
        '{ component(fhirpath: "' + " and ".join(["1=1"] * 60) + '") { id } }',
        {"component": [{"id": "c"}] * 30_000},
    ),
}


@pytest.mark.parametrize("case", BOMBS)
def test_little_that_is_asked_of_much_is_refused(case: str) -> None:
    """Whatever a query makes of what is kept: memory, an answer or time, shown or not."""
    query, more = BOMBS[case]
    with pytest.raises(TooCostly):
        answer_to(query, {"resourceType": "Observation", "id": "o", **more})


def test_a_slice_is_named_by_something_short() -> None:
    long = {"resourceType": "Patient", "name": [{"text": "x" * 201}]}
    with pytest.raises(BadParameter):
        answer_to('{ name @slice(path: "text") { text } }', long)


def test_variables_are_bounded_like_the_query_and_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A search below any resource is the same search, of whatever type the resource is."""
    query = """query a($code: [String]) {
        BundleList { entry { resource { ObservationList(_reference: focus, code: $code) { id } } } } }"""
    for many in (["x" * limits.MOST_GIVEN], ["x"] * limits.MOST_GIVEN):
        with pytest.raises(TooCostly):
            read(query, None, {"code": many})
    calls: list[str] = []

    def counted(definition: Any, *given: Any) -> Any:
        calls.append(definition.name)
        return searching(definition, *given)

    monkeypatch.setattr(selection, "searching", counted)
    check(read(query, None, {"code": ["x"]}), QUERY)
    assert calls == ["BundleList", "ObservationList"]


def test_an_introspection_is_bounded_by_all_operations() -> None:
    """What graphql-core checks of the schema grows with the square of the fields of fragments, used here or not."""
    other = "query b { __schema { ...many } } fragment many on __Schema { " + "queryType { name } " * 600 + "}"
    with pytest.raises(TooCostly):
        read("query a { __schema { queryType { name } } } " + other, "a", {})


def test_a_level_is_loaded_at_once() -> None:
    """All references of all resources are one want, and so are the lists of resources that refer to them."""
    document = read(
        "{ ObservationList { subject { resource { ... on Patient { ConditionList(_reference: patient) { id } } } } } }",
        None,
        {},
    )
    check(document, QUERY)
    execution = Execution(document)
    observed = [{**AUDIOGRAM, "id": str(n), "subject": {"reference": f"Patient/{n % 30}"}} for n in range(60)]
    assert isinstance(execution.next(), Search)
    execution.give(Hits([Hit(orjson.dumps(one)) for one in observed]))
    patients = execution.next()
    assert isinstance(patients, Reads)
    assert len(patients.keys) == 30
    execution.give({key: orjson.dumps({**SMALL, "id": key[1]}) for key in patients.keys})
    conditions = execution.next()
    assert isinstance(conditions, Search)
    assert len(dict(conditions.pairs)["patient"].split(",")) == 30
    execution.give(
        Hits([Hit(orjson.dumps({**ASTHMA, "id": f"c{n}", "subject": {"reference": f"Patient/{n}"}})) for n in (3, 4)])
    )
    assert execution.next() is None
    found = [one["subject"]["resource"]["ConditionList"] for one in orjson.loads(execution.data())["ObservationList"]]
    assert [found[3], found[34], found[5]] == [[{"id": "c3"}], [{"id": "c4"}], []]


def test_the_types_that_are_read_are_those_that_are_kept() -> None:
    """What clients write by REST, they read by GraphQL."""
    assert set(OFFERED) == {name for name in RESOURCE_TYPES if "create" in codes_of(name)}


def schema_of(query: str, **variables: Any) -> Any:
    return orjson.loads(introspected(read(query, None, variables), query, None))


def test_the_schema_tells_what_may_be_asked() -> None:
    """Elements, choices, companions, the entries of the system and the ways to what refers to a resource."""
    query = """query a($name: String!) { __type(name: $name) { kind fields { name args { name }
        type { name kind ofType { name } } } } }"""
    fields = {one["name"]: one for one in schema_of(query, name="Observation")["__type"]["fields"]}
    assert fields["valueQuantity"]["type"]["name"] == "Quantity"
    assert fields["_issued"]["type"]["name"] == "ElementBase"
    assert fields["component"]["type"]["ofType"]["name"] == shown_name("Observation.component")
    assert "_reference" in {one["name"] for one in fields["ProvenanceList"]["args"]}
    assert "PatientList" not in fields, "no Patient refers to an Observation"
    entries = {one["name"]: one for one in schema_of(query, name="Query")["__type"]["fields"]}
    assert {"code_value_quantity", "_sort", "_filter", "fhirpath", "_cursor"} <= {
        one["name"] for one in entries["ObservationConnection"]["args"]
    }
    assert len(entries) == 3 * len(OFFERED)
    directives = schema_of("{ __schema { directives { name args { name } } queryType { name } } }")["__schema"]
    assert {one["name"] for one in directives["directives"]} == {
        "skip",
        "include",
        "flatten",
        "first",
        "singleton",
        "slice",
    }


@pytest.mark.parametrize(
    ("query", "root", "raised"),
    [
        ("{ __schema { queryType { name } } }", "Patient", NotSupported),
        ("{ __schema { queryType { name } } PatientList { id } }", None, BadParameter),
        ("{ __schema { nothing } }", None, BadParameter),
        ("{ __schema { types { fields { type { fields { type { fields { name } } } } } } } }", None, BadParameter),
        ("{ " + " ".join(f"a{n}: __typename" for n in range(21)) + " }", None, TooCostly),
        ("{ __schema { types { fields { name } } } }", None, TooCostly),
    ],
)  # fmt: skip
def test_of_the_schema_not_everything_is_told_at_once(query: str, root: str | None, raised: type[Failure]) -> None:
    with pytest.raises(raised):
        introspected(read(query, None, {}), query, root, most=1000)


def test_the_schema_is_told_to_one_at_a_time() -> None:
    """What would take the processor from everybody else waits, but for the answer that is kept."""
    query = "{ __schema { queryType { name } } }"
    with introspection.ONE, pytest.raises(Unavailable):
        schema_of(query)
    assert schema_of(query) == {"__schema": {"queryType": {"name": "Query"}}}
    with introspection.ONE:
        assert schema_of(query) == {"__schema": {"queryType": {"name": "Query"}}}
