"""What changed between two versions, as a FHIRPath Patch: applied to the first it gives the second."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lxml import etree

from fhir_server.outcomes import BadSyntax
from fhir_server.r4.patch import difference as module
from fhir_server.r4.patch import json_text
from fhir_server.r4.patch.difference import difference
from fhir_server.r4.patch.fhirpath_patch import apply_fhirpath_patch
from fhir_server.r4.structure import check
from fhir_server.r4.xml import to_json

OFFICIAL = Path(__file__).parents[3] / "shared" / "data" / "fhir-r4" / "patch" / "fhir-patch-tests.xml"
ABSENT = [pytest.param(None, marks=pytest.mark.skip(reason="HL7's patch tests are not at hand"), id="absent")]
CASES = (
    [
        pytest.param(case, id=case.get("name"))
        for case in etree.parse(OFFICIAL).getroot().iter("case")
        if case.find("error") is None
    ]
    if OFFICIAL.exists()
    else ABSENT
)

Json = dict[str, Any]


def applied(old: Json, patch: bytes) -> Json:
    return json.loads(apply_fhirpath_patch(json.dumps(old).encode(), json_text.read(patch, "the patch")))


def between(old: Json, new: Json) -> list[tuple[str, str]]:
    """(type, path) of the operations from one to the other, which are R4, and lead there."""
    patch = difference(json.dumps(old).encode(), json.dumps(new).encode())
    assert check(json.loads(patch)) == []
    assert applied(old, patch) == new
    operations = (
        {one["name"]: one for one in parameter["part"]} for parameter in json.loads(patch).get("parameter", ())
    )
    return [(one["type"]["valueCode"], one["path"]["valueString"]) for one in operations]


@pytest.mark.parametrize("case", CASES)
def test_an_official_case_is_found_again(case: Any) -> None:
    """From the input of each of HL7's patch cases to its output, and back."""
    old, new = (
        json.loads(to_json(etree.tostring(case.find(name)[0], with_tail=False))) for name in ("input", "output")
    )
    for before, after in ((old, new), (new, old)):
        assert bool(between(before, after)) == (before != after)


def patient(**elements: Any) -> Json:
    return {"resourceType": "Patient", "id": "p", **elements}


NAME = {"family": "DUPONT", "given": ["Jeanne", "Marie"]}
NOTED = {"extension": [{"url": "urn:x", "valueDecimal": 1.5}]}
CHANGES: list[tuple[Json, Json, list[tuple[str, str]]]] = [
    (patient(active=True), patient(active=True), []),
    (patient(), patient(gender="female"), [("add", "Patient")]),
    (patient(gender="female"), patient(), [("delete", "Patient.gender")]),
    (patient(gender="female"), patient(gender="male"), [("replace", "Patient.gender")]),
    (patient(deceasedBoolean=True), patient(deceasedDateTime="2020"), [("replace", "Patient.deceased")]),
    (patient(birthDate="1980"), patient(birthDate="1980", _birthDate=NOTED), [("replace", "Patient.birthDate")]),
    (patient(birthDate="1980"), patient(_birthDate=NOTED), [("replace", "Patient.birthDate")]),
    (patient(name=[NAME]), patient(name=[NAME | {"given": ["Jeanne"]}]), [("delete", "Patient.name[0].given[1]")]),
    (patient(name=[NAME]), patient(name=[{"text": "x"}]),
     [("add", "Patient.name[0]"), ("delete", "Patient.name[0].family"), ("delete", "Patient.name[0].given[1]"),
      ("delete", "Patient.name[0].given[0]")]),
    (patient(name=[NAME]), patient(name=[{"text": "x"}, NAME]), [("insert", "Patient.name")]),
    (patient(name=[{"text": "x"}, NAME, {"text": "y"}]), patient(name=[NAME]),
     [("delete", "Patient.name[2]"), ("delete", "Patient.name[0]")]),
    (patient(contact=[{"name": NAME}]), patient(contact=[{"name": NAME}, {"telecom": [{"rank": 1}], **NOTED}]),
     [("insert", "Patient.contact")]),
    (patient(contained=[{"resourceType": "Organization", "id": "o"}]),
     patient(contained=[{"resourceType": "Organization", "id": "o", "name": "x"}]), [("add", "Patient.contained[0]")]),
    (patient(contained=[{"resourceType": "Organization", "id": "o"}]),
     patient(contained=[{"resourceType": "Location", "id": "o"}]), [("replace", "Patient.contained[0]")]),
    (patient(), patient(text={"status": "empty", "div": "<div>x</div>"}), [("add", "Patient")]),
    (patient(extension=NOTED["extension"]), patient(extension=[{"url": "urn:x", "valueString": "y"}]),
     [("replace", "Patient.extension[0].value")]),
    (patient(name=[{"given": ["A"], "_given": [{"id": "g"}]}]),
     patient(name=[{"given": ["B", "A"], "_given": [None, {"id": "g"}]}]), [("insert", "Patient.name[0].given")]),
]  # fmt: skip


@pytest.mark.parametrize(("old", "new", "expected"), CHANGES)
def test_the_operations_are_those_of_the_change(old: Json, new: Json, expected: list[tuple[str, str]]) -> None:
    """As few as the lists and elements that differ; and the way back is found too."""
    assert between(old, new) == expected
    between(new, old)


def test_what_every_version_has_of_its_own_is_no_change() -> None:
    """Its number and its time: a patch cannot set them."""
    old = patient(meta={"versionId": "1", "lastUpdated": "2020-01-01T00:00:00Z"})
    new = patient(meta={"versionId": "2", "lastUpdated": "2021-01-01T00:00:00Z", "tag": [{"code": "x"}]})
    patch = json.loads(difference(json.dumps(old).encode(), json.dumps(new).encode()))
    (operation,) = patch["parameter"]
    assert {"name": "path", "valueString": "Patient.meta.tag"} in operation["part"]


def test_a_number_that_is_written_otherwise_has_changed() -> None:
    """1.50 is more precise than 1.5, and the patch says so."""
    old, new = (b'{"resourceType":"Observation","valueQuantity":{"value":%s}}' % text for text in (b"1.5", b"1.50"))
    patch = difference(old, new)
    assert b'"valueDecimal":1.50' in patch
    assert apply_fhirpath_patch(old, json_text.read(patch, "the patch")) == new


def test_long_lists_are_compared_by_place(monkeypatch: pytest.MonkeyPatch) -> None:
    """Which costs less, and leads there too."""
    monkeypatch.setattr(module, "MOST_COMPARED", 3)
    old, new = ([{"text": text} for text in texts] for texts in ("abcd", "axcyz"))
    assert between(patient(name=old), patient(name=new))[-1] == ("replace", "Patient.name[1].text")


def test_versions_of_two_types_are_not_compared() -> None:
    """Nor what is no JSON of R4."""
    for new in (b'{"resourceType":"Observation"}', b'{"resourceType":"Patient","name":{}}', b"x"):
        with pytest.raises(BadSyntax):
            difference(b'{"resourceType":"Patient"}', new)


def optional(**elements: st.SearchStrategy[Any]) -> st.SearchStrategy[Json]:
    return st.fixed_dictionaries({}, optional=elements)


WORDS = st.sampled_from(["a", "b", "c"])
LEAF = optional(
    id=WORDS,
    extension=st.lists(st.builds(lambda x: {"url": "urn:" + x, "valueCode": x}, WORDS), min_size=1, max_size=2),
)
NAMES = optional(family=WORDS, text=WORDS, given=st.lists(WORDS, min_size=1, max_size=3)).filter(bool)
CONTACTS = optional(
    gender=st.just("male"),
    name=NAMES,
    telecom=st.lists(st.builds(dict, system=st.just("phone"), value=WORDS), min_size=1, max_size=2),
).filter(bool)
PATIENTS = optional(
    active=st.booleans(),
    gender=st.sampled_from(["male", "female"]),
    birthDate=st.sampled_from(["1980", "1981"]),
    _birthDate=LEAF.filter(lambda one: "extension" in one),
    deceasedBoolean=st.booleans(),
    multipleBirthInteger=st.integers(1, 3),
    name=st.lists(NAMES, min_size=1, max_size=4),
    contact=st.lists(CONTACTS, min_size=1, max_size=3),
    contained=st.lists(
        st.builds(lambda x: {"resourceType": "Organization", "id": x, "name": x}, WORDS), min_size=1, max_size=2
    ),
).map(lambda elements: patient(**elements))


@given(PATIENTS, PATIENTS)
def test_from_any_version_to_any_other(old: Json, new: Json) -> None:
    """The patch is read, applied, and gives the second; nothing is to be done from a version to itself."""
    between(old, new)
    assert between(old, old) == []
