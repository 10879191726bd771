"""A part of a resource: https://hl7.org/fhir/R4/search.html#summary"""

from pathlib import Path

import orjson
import pytest

from fhir_server.outcomes import BadParameter
from fhir_server.r4 import structure
from fhir_server.r4.definitions import elements_of
from fhir_server.r4.summary import Mode, Subset, subset, wish

TAG = {"system": "http://terminology.hl7.org/CodeSystem/v3-ObservationValue", "code": "SUBSETTED"}
META = b'"meta":{"versionId":"3","lastUpdated":"2026-01-01T00:00:00.000Z"}'
PATIENT = (
    b'{"resourceType":"Patient","id":"p",' + META + b',"text":{"status":"empty","div":"<div xmlns=\\"x\\">-</div>"},'
    b'"extension":[{"url":"x","valueString":"y"}],"modifierExtension":[{"url":"z","valueDecimal":1.00}],'
    b'"birthDate":"1980-02-03","_birthDate":{"id":"b"},"name":[{"family":"\\u0054ESTEUR"}],"photo":[{"title":"x"}],'
    b'"multipleBirthInteger":2,"communication":[{"language":{"text":"fr"}}],'
    b'"link":[{"other":{"reference":"Patient/q"},"type":"refer"}]}'
)
DOCUMENT = (
    b'{"resourceType":"DocumentReference","id":"d",' + META + b',"status":"current","authenticator":{"display":"x"},'
    b'"content":[{"attachment":{"data":"eA==","size":1,"title":"x"}},{"attachment":{"data":"eQ=="}}]}'
)


def names(doc: bytes) -> list[str]:
    return sorted(set(orjson.loads(doc)) - {"resourceType", "id", "meta"})


def part(doc: bytes, resource_type: str, query: str, asked: str | None = None) -> bytes:
    pairs = [(name, value) for name, _, value in (one.partition("=") for one in query.split("&"))]
    wanted = wish(pairs, asked).subset
    assert wanted
    return subset(doc, resource_type, wanted)


@pytest.mark.parametrize(
    ("query", "kept"),
    [
        ("_summary=true", ["_birthDate", "birthDate", "link", "modifierExtension", "name"]),
        ("_summary=text", ["modifierExtension", "text"]),
        ("_elements=name,Patient.birthDate", ["_birthDate", "birthDate", "modifierExtension", "name"]),
        ("_elements=multipleBirth", ["modifierExtension", "multipleBirthInteger"]),
        ("_elements=multipleBirthInteger", ["modifierExtension", "multipleBirthInteger"]),
        ("_elements=id", ["modifierExtension"]),
    ],
)
def test_a_part_keeps_what_is_asked_for_and_what_must_stay(query: str, kept: list[str]) -> None:
    """Never an extension that changes the meaning of the rest is lost; the rest goes."""
    assert names(part(PATIENT, "Patient", query)) == kept


def test_data_is_everything_but_the_narrative() -> None:
    """`_summary=data`."""
    whole, data = orjson.loads(PATIENT), orjson.loads(part(PATIENT, "Patient", "_summary=data"))
    assert set(whole) - set(data) == {"text"}


@pytest.mark.parametrize("query", ["_summary=true", "_summary=text", "_summary=data", "_elements=name"])
def test_a_part_says_that_it_is_one_and_of_which_version(query: str) -> None:
    """SUBSETTED beside the tags that are there, once; version and time as they were."""
    for tags in (b"", b',"tag":[{"system":"urn:x","code":"x"}]', b',"tag":[' + orjson.dumps(TAG) + b"]"):
        doc = PATIENT.replace(META, META[:-1] + tags + b"}")
        meta = orjson.loads(part(doc, "Patient", query))["meta"]
        assert (meta["versionId"], meta["lastUpdated"]) == ("3", "2026-01-01T00:00:00.000Z")
        assert [tag["code"] for tag in meta["tag"]] == (["x", "SUBSETTED"] if b"urn:x" in tags else ["SUBSETTED"])
        assert meta["tag"][-1] == TAG


def test_what_is_kept_keeps_its_bytes() -> None:
    """Decimals and escapes."""
    kept = part(PATIENT, "Patient", "_summary=true")
    assert b'"valueDecimal":1.00' in kept
    assert b'"name":[{"family":"\\u0054ESTEUR"}]' in kept


def test_a_summary_goes_into_the_elements() -> None:
    """The data of an attachment is not in it, unless nothing else is left of what must be there."""
    content = orjson.loads(part(DOCUMENT, "DocumentReference", "_summary=true"))["content"]
    assert content == [{"attachment": {"size": 1, "title": "x"}}, {"attachment": {"data": "eQ=="}}]


def test_elements_of_another_type_leave_this_one_whole() -> None:
    """In a search with includes each type has its own list; a name without type is asked of all."""
    assert part(PATIENT, "Patient", "_elements=Observation.code") == PATIENT
    assert names(part(PATIENT, "Patient", "_elements=Observation.code,name")) == ["modifierExtension", "name"]


@pytest.mark.parametrize(
    "query",
    [
        "_elements=nonsense",
        "_elements=Patient.nonsense",
        "_elements=Nonsense.name",
        "_elements=name,,id",
        "_elements=name.family",
        "_elements=.name",
        "_elements=name&_summary=true",
    ],
)
def test_what_is_no_element_is_refused(query: str) -> None:
    """Never ignored; and not both parameters."""
    with pytest.raises(BadParameter):
        part(PATIENT, "Patient", query, asked="Patient")


def test_the_wish_leaves_the_other_parameters_alone() -> None:
    """`_summary=count` is about the Bundle, `false` asks for the whole, an empty value for nothing."""
    pairs = [("family", "x"), ("_summary", "false"), ("_elements", ""), ("_summary", "count")]
    assert wish(pairs, "Patient") == (None, (("_summary", "false"),), [pairs[0], pairs[2], pairs[3]])


@pytest.mark.parametrize("mode", ["true", "text", "data"])
def test_a_part_of_an_official_example_is_valid_and_no_more_than_asked(example_file: Path, mode: Mode) -> None:
    """Of each example of HL7 that is valid the parts are; a summary holds only what is marked or mandatory."""
    resource = orjson.loads(example_file.read_bytes())
    faults = structure.check(resource)
    if any(fault.code == "required" for fault in faults):
        pytest.skip("the example lacks what is mandatory")
    name = resource["resourceType"]
    cut = orjson.loads(subset(example_file.read_bytes(), name, Subset(mode)))
    assert [issue for issue in structure.check(cut) if issue not in faults] == []
    if mode == "true":
        cut.pop("contained", None)  # what the rest points to
        marked = {key for e in elements_of(name).values() if e.in_summary or e.required for key in e.json_names()}
        assert {key.lstrip("_") for key in cut} - marked <= {"resourceType", "modifierExtension"}
