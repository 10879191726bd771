"""FHIRPath Patch: HL7's cases, paths, values, primitives with extensions, and what is refused."""

import copy
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lxml import etree

from fhir_server.outcomes import BadSyntax, Failure
from fhir_server.r4.patch import PatchFailed, json_text
from fhir_server.r4.patch.fhirpath import read
from fhir_server.r4.patch.fhirpath_patch import apply_fhirpath_patch
from fhir_server.r4.xml import to_json

OFFICIAL = Path(__file__).parents[3] / "shared" / "data" / "fhir-r4" / "patch" / "fhir-patch-tests.xml"
ABSENT = [pytest.param(None, marks=pytest.mark.skip(reason="HL7's patch tests are not at hand"), id="absent")]
CASES = (
    [pytest.param(case, id=case.get("name")) for case in etree.parse(OFFICIAL).getroot().iter("case")]
    if OFFICIAL.exists()
    else ABSENT
)

Json = dict[str, Any]


def part(name: str, **value: Any) -> Json:
    return {"name": name, **value}


def parameters(*operations: list[Json]) -> Json:
    return {"resourceType": "Parameters", "parameter": [part("operation", part=parts) for parts in operations]}


def operation(kind: str, path: str, *more: Json) -> list[Json]:
    return [part("type", valueCode=kind), part("path", valueString=path), *more]


def add(path: str, name: str, **value: Any) -> list[Json]:
    return operation("add", path, part("name", valueString=name), part("value", **value))


def insert(path: str, index: Any, **value: Any) -> list[Json]:
    return operation("insert", path, part("index", valueInteger=index), part("value", **value))


def delete(path: str) -> list[Json]:
    return operation("delete", path)


def replace(path: str, **value: Any) -> list[Json]:
    return operation("replace", path, part("value", **value))


def move(path: str, source: int, destination: int) -> list[Json]:
    places = part("source", valueInteger=source), part("destination", valueInteger=destination)
    return operation("move", path, *places)


def patched(resource: Json, *operations: list[Json]) -> Json:
    return json.loads(apply_fhirpath_patch(json.dumps(resource).encode(), parameters(*operations)))


@pytest.mark.parametrize("case", CASES)
def test_an_official_case_ends_as_hl7_says(case: Any) -> None:
    """Each of HL7's cases gives its resource, or is refused."""

    def resource_in(name: str) -> bytes:
        return to_json(etree.tostring(case.find(name)[0], with_tail=False))

    doc, patch = resource_in("input"), json.loads(resource_in("diff"))
    if case.find("error") is not None:
        with pytest.raises(PatchFailed, match="the path selects nothing"):
            apply_fhirpath_patch(doc, patch)
    else:
        assert json.loads(apply_fhirpath_patch(doc, patch)) == json.loads(resource_in("output"))


PATIENT: Json = {
    "resourceType": "Patient",
    "id": "p1",
    "contained": [{"resourceType": "Organization", "id": "o1", "name": "SPST"}],
    "extension": [
        {"url": "http://example.org/a", "valueDecimal": 1.5},
        {"url": "http://example.org/b", "valueCode": "x"},
    ],
    "identifier": [
        {"use": "official", "system": "urn:oid:1", "value": "1"},
        {"use": "official", "system": "urn:oid:2", "value": "2", "period": {"start": "2020-01-01"}},
        {"use": "old", "system": "urn:oid:2", "value": "3"},
    ],
    "active": True,
    "name": [{"family": "DUPONT", "given": ["Jeanne", "Marie"], "_given": [None, {"id": "g"}]}],
    "birthDate": "1980-02-29",
    "_birthDate": {"extension": [{"url": "http://example.org/time", "valueTime": "08:00:00"}]},
    "deceasedBoolean": False,
    "multipleBirthInteger": 2,
    "contact": [{"name": {"family": "MARTIN"}}],
    "managingOrganization": {"reference": "#o1"},
}
OBSERVATION: Json = {
    "resourceType": "Observation",
    "status": "final",
    "code": {"text": "x"},
    "valueQuantity": {"value": 72.5, "unit": "kg"},
}

SELECTED: list[tuple[str, str]] = [
    ("Patient.identifier[0]", "identifier.0"),
    ("identifier[1]", "identifier.1"),
    ("$this.identifier[1]", "identifier.1"),
    ("Resource.active", "active"),
    ("DomainResource.contained[0].name", "contained.0.name"),
    ("Patient.contained.where(id = 'o1').name", "contained.0.name"),
    ("Patient.contained.ofType(Organization).name", "contained.0.name"),
    ("Patient.identifier.first()", "identifier.0"),
    ("Patient.identifier.last()", "identifier.2"),
    ("Patient.identifier.tail().first()", "identifier.1"),
    ("Patient.identifier.skip(1).take(1)", "identifier.1"),
    ("Patient.identifier.where(system='urn:oid:2' and use='old')", "identifier.2"),
    ("Patient.identifier.where(value = '2').where(use = 'official').period.start", "identifier.1.period.start"),
    ("Patient.identifier.where(value='3' or value='4')", "identifier.2"),
    ("Patient.identifier.where(use != 'official')", "identifier.2"),
    ("Patient.identifier.where(period.exists())", "identifier.1"),
    ("Patient.identifier.where(period.empty() and use = 'official')", "identifier.0"),
    ("Patient.identifier.where((use = 'official').not())", "identifier.2"),
    ("Patient.identifier.where(period.start = @2020-01-01)", "identifier.1"),
    ("Patient.identifier.where(period.start.exists($this = '2020-01-01'))", "identifier.1"),
    ("Patient.identifier.where(use = 'old').single().value", "identifier.2.value"),
    ("Patient.`name`.family", "name.0.family"),
    ("Patient.name.where(given = ('Jeanne')).given[0]", None),  # two given names are not one
    ("Patient.name.given.where($this = 'Jeanne')", "name.0.given.0"),
    ("Patient.extension('http://example.org/a').value", "extension.0.valueDecimal"),
    ("Patient.extension.where(url='http://example.org/b').value.ofType(code)", "extension.1.valueCode"),
    ("Patient.extension.where(value = 1.50)", "extension.0"),
    ("Patient.birthDate.extension('http://example.org/time').value", "_birthDate.extension.0.valueTime"),
    ("Patient.where(active = true).deceased", "deceasedBoolean"),
    ("(Patient.multipleBirth as integer)", "multipleBirthInteger"),
    ("Patient.multipleBirth.as(FHIR.integer)", "multipleBirthInteger"),
    ("Patient.multipleBirth.ofType(boolean)", None),
    ("Patient.name.where(family = '\\u0044UPONT').family", "name.0.family"),
]


@pytest.mark.parametrize(("path", "place"), SELECTED)
def test_a_path_selects_the_element_that_it_names(path: str, place: str | None) -> None:
    """One element, known by where it stands in the JSON, or none."""
    patient = json_text.read(json.dumps(PATIENT).encode(), "the patient")
    node = read(path, "Patient").one_or_none(patient)
    if place is None:
        assert node is None
    else:
        assert node is not None
        key = place.split(".")[-2 if node.index is not None else -1]
        assert (node.key, node.value) == (key, found_at(patient, place))


def found_at(value: Any, place: str) -> Any:
    for step in place.split("."):
        value = value[int(step) if step.isdigit() else step]
    return value


CODE = {"valueCode": "female"}
NAME = {"valueHumanName": {"text": "x"}}
TEXT = {"valueString": "Zoé"}
ID = {"valueString": "b"}
BASIC = {"resourceType": "Basic", "id": "b"}
TELECOM = [part("telecom", part=[part("value", valueString=n)]) for n in ("1", "2")]
EXTENSION = [part("url", valueUri="http://example.org/c"), part("value", valueInteger=1)]

CHANGED: list[tuple[Json, list[Json], str, Any]] = [
    (PATIENT, add("Patient", "gender", **CODE), "gender", "female"),
    (PATIENT, add("Patient", "gender", _valueCode={"id": "g"}), "_gender", {"id": "g"}),
    (PATIENT, add("Patient", "name", **NAME), "name.1.text", "x"),
    (PATIENT, add("Patient", "photo", valueAttachment={"size": 5}), "photo", [{"size": 5}]),
    (PATIENT, add("Patient", "contained", resource=BASIC), "contained.1", BASIC),
    (PATIENT, add("Patient", "contact", part=TELECOM), "contact.1.telecom", [{"value": "1"}, {"value": "2"}]),
    (PATIENT, add("Patient.name[0]", "given", **TEXT), "name.0.given.2", "Zoé"),
    (PATIENT, add("Patient.name[0].given[0]", "id", **ID), "name.0._given", [{"id": "b"}, {"id": "g"}]),
    (PATIENT, add("Patient.birthDate", "id", **ID), "_birthDate.id", "b"),
    (PATIENT, add("Patient.active", "id", **ID), "_active", {"id": "b"}),
    (PATIENT, add("Patient.active", "extension", part=EXTENSION), "_active.extension.0.valueInteger", 1),
    (PATIENT, insert("Patient.name", 0, **NAME), "name.0", {"text": "x"}),
    (PATIENT, insert("Patient.address", 0, valueAddress={"city": "x"}), "address", [{"city": "x"}]),
    (PATIENT, insert("Patient.name[0].given", 1, **TEXT), "name.0.given", ["Jeanne", "Zoé", "Marie"]),
    (PATIENT, insert("Patient.name[0].given", 1, **TEXT), "name.0._given", [None, None, {"id": "g"}]),
    (PATIENT, insert("Patient.active.extension", 0, part=EXTENSION), "_active.extension.0.valueInteger", 1),
    (PATIENT, replace("Patient.birthDate", valueDate="1981"), "birthDate", "1981"),
    (PATIENT, replace("Patient.birthDate", valueDate="1981", _valueDate={"id": "b"}), "_birthDate", {"id": "b"}),
    (PATIENT, replace("Patient.name[0].given[1]", **TEXT), "name.0", {"family": "DUPONT", "given": ["Jeanne", "Zoé"]}),
    (PATIENT, replace("Patient.contained[0]", resource=BASIC), "contained", [BASIC]),
    (PATIENT, replace("Patient.managingOrganization.reference", **TEXT), "managingOrganization.reference", "Zoé"),
    (OBSERVATION, replace("Observation.status", valueString="amended"), "status", "amended"),
    (OBSERVATION, replace("Observation.value.value", valueInteger=73), "valueQuantity.value", 73),
    (OBSERVATION, replace("Observation.value", **TEXT), "valueString", "Zoé"),
    (PATIENT, move("Patient.name[0].given", 1, 0), "name.0.given", ["Marie", "Jeanne"]),
    (PATIENT, move("Patient.name[0].given", 1, 0), "name.0._given", [{"id": "g"}, None]),
]


@pytest.mark.parametrize(("resource", "one", "place", "expected"), CHANGED)
def test_a_change_arrives_where_the_path_says(resource: Json, one: list[Json], place: str, expected: Any) -> None:
    """In the JSON form: arrays where R4 repeats, `valueX` for a choice, `_x` for ids and extensions of primitives."""
    assert found_at(patched(resource, one), place) == expected


def test_another_type_of_a_choice_takes_the_place_of_the_first() -> None:
    """One choice has one value, and its place among the members is kept."""
    one = replace("Patient.deceased", valueDateTime="2026-01-05")
    result = patched(PATIENT | {"_deceasedBoolean": {"id": "d"}}, one)
    assert list(result) == [("deceasedDateTime" if name == "deceasedBoolean" else name) for name in PATIENT]
    assert result["deceasedDateTime"] == "2026-01-05"


def test_a_document_reference_is_superseded_as_mhd_asks() -> None:
    """IHE MHD, UpdateDocumentRefs: the one operation that a replaced document needs."""
    old = {"resourceType": "DocumentReference", "status": "current", "content": [{"attachment": {"title": "x"}}]}
    result = patched(old, replace("DocumentReference.status", valueCode="superseded"))
    assert result == old | {"status": "superseded"}


def test_an_element_that_loses_its_last_child_goes_with_it() -> None:
    """ele-1: no element without value or children, up to the resource, which stays."""
    deep = {"resourceType": "Patient", "contact": [{"name": {"family": "x"}}]}
    assert patched(deep, delete("Patient.contact.name.family")) == {"resourceType": "Patient"}
    held = {"resourceType": "Patient", "active": True, "_active": {"id": "a"}, "_birthDate": {"id": "b"}}
    assert patched(held, delete("Patient.active.id")) == {
        "resourceType": "Patient",
        "active": True,
        "_birthDate": {"id": "b"},
    }
    assert "_birthDate" not in patched(held, delete("Patient.birthDate.id"))
    names = {"resourceType": "Patient", "name": [{"given": [None, "B"], "_given": [{"id": "a"}, None]}]}
    assert patched(names, delete("Patient.name.given[0].id"))["name"] == [{"given": ["B"]}]


def test_each_operation_meets_what_the_one_before_left() -> None:
    """Operations are applied in order (https://hl7.org/fhir/R4/fhirpatch.html)."""
    result = patched(
        {"resourceType": "Patient"},
        add("Patient", "name", **NAME),
        add("Patient.name[0]", "family", valueString="y"),
        add("Patient", "name", **NAME),
        move("Patient.name", 1, 0),
        delete("Patient.name[1].text"),
    )
    assert result == {"resourceType": "Patient", "name": [{"text": "x"}, {"family": "y"}]}


def test_what_no_operation_touches_keeps_its_text_and_order() -> None:
    """1.50 is another precision than 1.5; and the Parameters are not changed."""
    doc = (
        b'{"valueQuantity":{"value":1.50,"unit":"g"},"resourceType":"Observation","code":{"text":"x"},"status":"final"}'
    )
    assert apply_fhirpath_patch(doc, parameters()) == doc
    patch = parameters(
        add("Observation", "note", valueAnnotation={"text": "n"}),
        add("Observation.note[0]", "time", valueDateTime="2026"),
    )
    before = copy.deepcopy(patch)
    assert apply_fhirpath_patch(doc, patch) == doc[:-1] + b',"note":[{"text":"n","time":"2026"}]}'
    assert patch == before


def test_numbers_of_parameters_that_kept_their_text_keep_it() -> None:
    """Who parses the Parameters with `json_text.read` loses no precision."""
    one = replace("Observation.value.value", valueDecimal=0)
    text = json.dumps(parameters(one)).replace('"valueDecimal": 0', '"valueDecimal": 72.50')
    result = apply_fhirpath_patch(json.dumps(OBSERVATION).encode(), json_text.read(text.encode(), "the Parameters"))
    assert b'"value":72.50,' in result


REFUSED: list[tuple[list[Json], str]] = [
    (add("Patient.address", "city", **CODE), "the path selects nothing"),
    (replace("Patient.gender", **CODE), "the path selects nothing"),
    (delete("Patient.identifier"), "the path selects 3 elements, and must select one"),
    (replace("Patient.identifier.value", **CODE), "the path selects 3 elements"),
    (add("Patient.identifier", "use", **CODE), "the path selects 3 elements"),
    (delete("Patient.identifier.single()"), "`single()` has several elements before it"),
    (delete("Patient.nickname"), "Patient has no element `nickname`"),
    (delete("Patient.identifier.where(nickname = 'x')"), "Identifier has no element `nickname`"),
    (delete("Patient.birthDate.value"), "date has no element `value`"),
    (delete("Patient"), "the resource itself is not deleted by a patch"),
    (replace("Patient", **NAME), "the resource itself is replaced by an update"),
    (delete("Patient.active = true"), "the path goes through what is no element"),
    (delete("'x'"), "the path goes through what is no element"),
    (add("Patient", "nickname", **CODE), "Patient has no element `nickname`"),
    (add("Patient", "deceasedBoolean", **CODE), "Patient has no element `deceasedBoolean`"),
    (add("Patient", "birthDate", valueDate="1980"), "`birthDate` is there already"),
    (add("Patient", "deceased", valueDateTime="1980"), "`deceased[x]` is there already"),
    (add("Patient", "gender", valueHumanName={}), "`gender` takes no HumanName, but code"),
    (add("Patient", "gender", valueBoolean=True), "`gender` takes no boolean, but code"),
    (add("Patient", "name", valueAddress={}), "`name` takes no Address, but HumanName"),
    (add("Patient", "contact", **NAME), "`contact` takes no HumanName, but Patient.contact"),
    (replace("Patient.deceased", valueDate="1980"), "takes no date, but boolean or dateTime"),
    (replace("Patient.active", valueCode="true"), "`active` takes no code, but boolean"),
    (add("Patient", "gender"), "a value is one of value[x], part and resource"),
    (add("Patient", "gender", **{**CODE, "part": []}), "a value is one of"),
    (add("Patient", "gender", valueCode=None), "the value is empty"),
    (add("Patient", "gender", valueNickname="x"), "the value is of no type that R4 has"),
    (add("Patient", "gender", part=[]), "`gender` is not made of parts"),
    (add("Patient.extension[0]", "value", part=[]), "`value[x]` is not made of parts"),
    (add("Patient", "contact", part=[part("nick", **CODE)]), "no element of Patient.contact"),
    (add("Patient", "contact", part=[part("gender", **CODE)] * 2), "`gender` is there already"),
    (add("Patient", "gender", resource={}), "`gender` takes no resource"),
    (add("Patient", "contained", resource={"resourceType": ["x"]}), "not a resource of R4"),
    (insert("Patient.identifier", 4, valueIdentifier={}), "the index is 4, and the list has 3"),
    (insert("Patient.identifier[0]", 0, **NAME), "the path must end with the name of a list"),
    (insert("Patient", 0, **NAME), "the path must end with the name of a list"),
    (insert("Patient.gender", 0, **CODE), "`gender` does not repeat"),
    (insert("Patient.nickname", 0, **CODE), "Patient has no element `nickname`"),
    (insert("Patient.identifier.extension", 0, **CODE), "the path selects 3 elements"),
    (insert("Patient.link.extension", 0, **CODE), "the path selects nothing"),
    (move("Patient.identifier", 3, 0), "from 3 to 0 in a list of 3 entries"),
    (move("Patient.identifier", 0, 3), "from 0 to 3 in a list of 3 entries"),
    (move("Patient.link", 0, 0), "from 0 to 0 in a list of 0 entries"),
]


@pytest.mark.parametrize(("one", "said"), REFUSED)
def test_an_operation_that_does_not_fit_is_refused(one: list[Json], said: str) -> None:
    """422, with the operation, its path and what is wrong."""
    with pytest.raises(PatchFailed) as refused:
        patched(PATIENT, delete("Patient.gender"), one)
    assert refused.value.diagnostics.startswith(f"operation 1 ({one[0]['valueCode']} ")
    assert said in refused.value.diagnostics
    assert (refused.value.status, refused.value.code) == (422, "processing")


DELETE = delete("Patient.gender")
MALFORMED: list[tuple[Any, str]] = [
    ({"resourceType": "Patient"}, "a FHIRPath Patch is a Parameters resource"),
    ([], "a FHIRPath Patch is a Parameters resource"),
    ({"resourceType": "Parameters", "parameter": {}}, "Parameters.parameter must be an array"),
    ({"resourceType": "Parameters", "parameter": [1]}, "operation 0: a parameter of a FHIRPath Patch is named"),
    (
        {"resourceType": "Parameters", "parameter": [part("op", part=DELETE)]},
        "operation 0: a parameter of a FHIRPath Patch",
    ),
    ({"resourceType": "Parameters", "parameter": [part("operation")]}, "operation 0: `part` must be an array of parts"),
    (parameters([{"valueCode": "x"}]), "operation 0: `part` must be an array of parts with a name"),
    (
        parameters(DELETE, [*DELETE, part("nickname")]),
        "operation 1: each part is one of destination, index, name, path,",
    ),
    (parameters([*DELETE, DELETE[0]]), "operation 0: each part is one of"),
    (parameters(DELETE[1:]), "operation 0: the part `type` must have a valueCode"),
    (
        parameters(operation("upsert", "Patient")),
        "operation 0: `type` must be one of add, insert, delete, replace, move",
    ),
    (parameters(DELETE[:1]), "operation 0 (delete): the part `path` must have a valueString"),
    (
        parameters(operation("add", "Patient", part("value", **CODE))),
        "operation 0 (add): the part `name` must have a valueString",
    ),
    (parameters(add("Patient", "a b", **CODE)), "`name` must be the name of an element"),
    (
        parameters(operation("add", "Patient", part("name", valueString="gender"))),
        "operation 0 (add): the part `value` is missing",
    ),
    (parameters(operation("replace", "Patient.gender")), "operation 0 (replace): the part `value` is missing"),
    (
        parameters(operation("insert", "Patient.name", part("value", **NAME))),
        "the part `index` must have a valueInteger from 0",
    ),
    (parameters(insert("Patient.name", -1, **NAME)), "the part `index` must have a valueInteger"),
    (parameters(insert("Patient.name", True, **NAME)), "the part `index` must have a valueInteger"),
    (parameters(insert("Patient.name", 1.0, **NAME)), "the part `index` must have a valueInteger"),
    (parameters(move("Patient.name", 0, 1)[:-1]), "the part `destination` must have a valueInteger"),
    (parameters(operation("move", "Patient.name", *move("", 0, 1)[-1:])), "the part `source` must have a valueInteger"),
]


@pytest.mark.parametrize(("patch", "said"), MALFORMED)
def test_what_is_no_fhirpath_patch_is_refused_as_such(patch: Any, said: str) -> None:
    """400, before anything is applied."""
    with pytest.raises(BadSyntax) as refused:
        apply_fhirpath_patch(json.dumps(PATIENT).encode(), patch)
    assert said in refused.value.diagnostics


UNKNOWN: list[tuple[str, str]] = [
    ("Observation.status", "it begins with Observation, and the resource is a Patient"),
    ("Patient.", "it cannot be read after `Patient.`"),
    ("Patient.name[", "it cannot be read after `Patient.name[`"),
    ("Patient.name[x]", "it cannot be read after `Patient.name[`"),
    ("Patient.name[1.5]", "an index is a whole number"),
    ("Patient.name[0", "it cannot be read after `Patient.name[0`"),
    ("Patient.name[-1]", "it cannot be read at character 13"),
    ("Patient.name where", "it cannot be read after `Patient.name`"),
    ("Patient.name.where(family = )", "it cannot be read after `Patient.name.where(family=)`"),
    ("Patient.name.where(family = 'DUPONT'", "it cannot be read after `Patient.name.where(family='…'`"),
    ("Patient.name.where(family = 'DUPONT", "it cannot be read at character 27"),
    ("Patient.name.where(family ~ 'DUPONT')", "it cannot be read at character 25"),
    ("Patient.name.where(period.start = @2020-01-01T10:00:00Z)", "it cannot be read at character 33"),
    ("Patient.name.resolve()", "the function resolve is not known here"),
    ("Patient.descendants()", "the function descendants is not known here"),
    ("%resource.name", "it cannot be read at character 0"),
    ("Patient.name.where(Patient.active = true)", "it begins with Patient"),
    ("name.where(" * 25 + "a" + ")" * 25, "it has more than 20 parentheses within parentheses"),
    ("a." * 2000, "it is longer than 2000 characters"),
    ("]", "it cannot be read after `]`"),
]


@pytest.mark.parametrize(("path", "said"), UNKNOWN)
def test_a_path_that_is_not_understood_is_refused(path: str, said: str) -> None:
    """400, and the error does not quote the literals in it."""
    with pytest.raises(BadSyntax) as refused:
        patched(PATIENT, delete(path))
    assert f"operation 0 (delete): the path is not understood: {said}" in refused.value.diagnostics
    assert "DUPONT" not in refused.value.diagnostics


def test_a_long_condition_is_no_trouble() -> None:
    """Hundreds of terms are evaluated without recursion."""
    terms = " or ".join(["value='9'"] * 150 + ["value='3'"])
    assert len(patched(PATIENT, delete(f"Patient.identifier.where({terms})"))["identifier"]) == 2


@pytest.mark.parametrize(
    "doc", [b"", b"[]", b'{"resourceType":"Nope"}', b'{"resourceType":["Patient"]}', b'{"a":1,"a":1}']
)
def test_a_document_that_is_no_resource_is_refused(doc: bytes) -> None:
    """Without the type, nothing is known of its elements."""
    with pytest.raises(BadSyntax):
        apply_fhirpath_patch(doc, parameters())


@pytest.mark.parametrize(
    ("resource", "path"),
    [
        ({"name": {"family": "x"}}, "Patient.name.family"),
        ({"contact": ["x"]}, "Patient.contact.name"),
        ({"maritalStatus": [1]}, "Patient.maritalStatus.text"),
        ({"_birthDate": "x"}, "Patient.birthDate.extension"),
        ({"name": [{"given": ["x"], "_given": "x"}]}, "Patient.name.given[0]"),
    ],
)
def test_a_document_that_is_not_as_r4_defines_it_is_refused(resource: Json, path: str) -> None:
    """Stored resources are valid, and this function cannot know that it was given one."""
    with pytest.raises(PatchFailed, match="is not a JSON"):
        patched({"resourceType": "Patient"} | resource, delete(path))


def test_no_error_quotes_the_document_or_the_patch() -> None:
    """An INS stands in conditions, a name in values."""
    where = "Patient.identifier.where(system='urn:oid:1.2.250.1.213.1.4.8' and value='185027512345678')"
    for one in (
        replace(where, valueHumanName={"family": "MARTIN"}),
        add("Patient", "birthDate", valueDate="1980-02-29"),
        add("Patient", "gender", valueHumanName={"family": "MARTIN"}),
        replace("Patient.extension.where(value = 185027512345678)", **CODE),
        replace("Patient.name.where(period.start = @1980-02-29)", **CODE),
    ):
        with pytest.raises(PatchFailed) as refused:
            patched(PATIENT, one)
        assert not any(word in refused.value.diagnostics for word in ("1850", "MARTIN", "DUPONT", "1980"))
    assert "Patient.name.where(period.start='…')" in refused.value.diagnostics


def test_parts_cannot_be_nested_without_end() -> None:
    """As many as the deepest resource that is accepted."""
    value: Json = {"part": [part("url", valueUri="http://example.org/x"), part("value", valueString="x")]}
    for _ in range(100):
        value = {"part": [part("url", valueUri="http://example.org/x"), part("extension", **value)]}
    with pytest.raises(PatchFailed, match="more than 50 parts within parts"):
        patched(PATIENT, add("Patient", "extension", **value))


GIVEN = st.lists(st.tuples(st.sampled_from(["A", "B", "C"]), st.booleans()), min_size=1, max_size=5)


@given(
    GIVEN,
    st.lists(
        st.tuples(st.sampled_from(["insert", "delete", "move"]), st.integers(0, 5), st.integers(0, 5)), max_size=6
    ),
)
def test_a_list_of_primitives_and_its_extensions_move_together(
    entries: list[tuple[str, bool]], changes: list[tuple[str, int, int]]
) -> None:
    """Random inserts, deletions and moves agree with those on a plain list of pairs."""

    def resource(pairs: list[tuple[str, bool]]) -> Json:
        name: Json = {"family": "x"}
        if pairs:
            name["given"] = [text for text, _ in pairs]
        if any(marked for _, marked in pairs):
            name["_given"] = [{"id": text} if marked else None for text, marked in pairs]
        return {"resourceType": "Patient", "name": [name]}

    state, operations, path = list(entries), [], "Patient.name[0].given"
    for kind, one, other in changes:
        match kind:
            case "insert" if one <= len(state):
                state.insert(one, ("D", True))
                operations.append(insert(path, one, valueString="D", _valueString={"id": "D"}))
            case "delete" if one < len(state):
                del state[one]
                operations.append(delete(f"{path}[{one}]"))
            case "move" if max(one, other) < len(state):
                state.insert(other, state.pop(one))
                operations.append(move(path, one, other))
    assert patched(resource(entries), *operations) == resource(state)


NAMES = ["Patient", "name", "given", "birthDate", "deceased", "$this", "true", "0", "'x'"]
SIGNS = [".", "[", "]", ")", "=", "and", "as", "where(", "exists(", "ofType(", "first()", "not()"]


@given(
    st.lists(st.sampled_from(NAMES + SIGNS), max_size=12).map(" ".join),
    st.sampled_from(["add", "insert", "delete", "replace", "move"]),
)
def test_any_path_is_followed_or_refused(path: str, kind: str) -> None:
    """No text makes it raise anything but a Failure."""
    parts = (*add("", "family", **TEXT)[2:], *insert("", 0)[2:3], *move("", 0, 0)[2:])
    try:
        result = patched(PATIENT, operation(kind, path, *parts))
    except (BadSyntax, PatchFailed) as refusal:
        assert refusal.diagnostics
    else:
        assert isinstance(result, dict)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=4),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["name", "part", "valueCode", "x"]), inner)
    ),
    max_leaves=10,
)


@given(JSON, JSON)
def test_any_json_is_a_patch_or_refused(value: Any, anything: Any) -> None:
    """Nor does anything in the place of the value, of a part or of the whole."""
    patches: list[Any] = [anything, {"resourceType": "Parameters", "parameter": anything}]
    patches.append(parameters(add("Patient", "contact", part=value), add("Patient", "name", valueHumanName=value)))
    patches.append(parameters([part("type", valueCode=value), part("path", valueString=anything)]))
    for patch in patches:
        try:
            result = apply_fhirpath_patch(json.dumps(PATIENT).encode(), patch)
        except Failure as refusal:
            assert refusal.diagnostics
        else:
            assert isinstance(json.loads(result), dict)
