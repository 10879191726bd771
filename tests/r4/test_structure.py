"""What is refused as R4 and what is accepted: one line per rule."""

import copy
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fhir_server.outcomes import Issue
from fhir_server.r4.resource_types import RESOURCE_TYPES
from fhir_server.r4.structure import DEEPEST, check

Json = dict[str, Any]
XHTML = 'xmlns="http://www.w3.org/1999/xhtml"'

PATIENT: Json = {
    "resourceType": "Patient",
    "id": "p1",
    "meta": {"versionId": "1", "lastUpdated": "2026-01-05T08:00:00Z", "profile": ["http://example.org/p"]},
    "text": {"status": "generated", "div": f"<div {XHTML}><p>Dupont</p></div>"},
    "contained": [{"resourceType": "Organization", "id": "o1", "name": "Service de santé"}],
    "identifier": [{"system": "urn:oid:1.2.250.1.213.1.4.8", "value": "1", "period": {"start": "2020", "end": "2021"}}],
    "name": [{"family": "DUPONT", "given": ["Jeanne", "Marie"]}],
    "telecom": [{"system": "phone", "value": "0102030405", "rank": 1}],
    "gender": "female",
    "birthDate": "1980-02-29",
    "deceasedBoolean": False,
    "multipleBirthInteger": 2,
    "photo": [{"contentType": "image/png", "data": "aGVsbG8=", "size": 5, "url": "http://example.org/1"}],
    "contact": [{"name": {"text": "Paul"}}],
    "managingOrganization": {"reference": "#o1"},
    "generalPractitioner": [{"reference": "Practitioner/1"}],
}
OBSERVATION: Json = {
    "resourceType": "Observation",
    "status": "final",
    "code": {"coding": [{"system": "http://loinc.org", "code": "85354-9"}]},
    "effectivePeriod": {"start": "2026-01-05T08:00:00+01:00", "end": "2026-01-05T08:10:00+01:00"},
    "issued": "2026-01-05T08:11:00.123Z",
    "valueQuantity": {"value": 72.5, "unit": "kg", "system": "http://unitsofmeasure.org", "code": "kg"},
    "referenceRange": [{"low": {"value": 50}, "high": {"value": 90}}],
    "component": [{"code": {"text": "systolic"}, "valueTime": "08:00:00"}],
}
DOCUMENT: Json = {
    "resourceType": "DocumentReference",
    "masterIdentifier": {"system": "urn:ietf:rfc:3986", "value": "urn:oid:1.2.3"},
    "status": "current",
    "subject": {"reference": "Patient/p1"},
    "date": "2026-01-05T08:00:00Z",
    "content": [{"attachment": {"contentType": "application/pdf", "url": "http://example.org/Binary/1"}}],
    "relatesTo": [{"code": "replaces", "target": {"reference": "DocumentReference/0"}}],
}
TRANSACTION: Json = {
    "resourceType": "Bundle",
    "type": "transaction",
    "entry": [
        {
            "fullUrl": "urn:uuid:6b1b6c2e-0d3f-4d0a-8c4e-0f3f9a6f0001",
            "resource": DOCUMENT,
            "request": {"method": "POST", "url": "DocumentReference"},
        }
    ],
}
DOCUMENT_BUNDLE: Json = {
    "resourceType": "Bundle",
    "type": "document",
    "identifier": {"system": "urn:ietf:rfc:3986", "value": "urn:uuid:1"},
    "timestamp": "2026-01-05T08:00:00Z",
    "entry": [
        {
            "fullUrl": "http://example.org/Composition/1",
            "resource": {
                "resourceType": "Composition",
                "status": "final",
                "type": {"text": "letter"},
                "date": "2026",
                "author": [{"reference": "Practitioner/1"}],
                "title": "Letter",
            },
        }
    ],
}


def put(path: str, value: Any) -> Callable[[Json], None]:
    """A change that sets the property at `a.0.b`."""

    def change(resource: Json) -> None:
        *way, last = path.split(".")
        place: Any = resource
        for step in way:
            place = place[int(step) if step.isdigit() else step]
        place[int(last) if last.isdigit() else last] = value

    return change


def drop(path: str) -> Callable[[Json], None]:
    """A change that takes the property at `a.0.b` away."""

    def change(resource: Json) -> None:
        *way, last = path.split(".")
        place: Any = resource
        for step in way:
            place = place[int(step) if step.isdigit() else step]
        del place[last]

    return change


P, O, D, T, B = PATIENT, OBSERVATION, DOCUMENT, TRANSACTION, DOCUMENT_BUNDLE
DIV = "text.div"
URL = {"url": "http://example.org/e"}

INVALID: list[tuple[Json, Callable[[Json], None], str, str]] = [
    # names and shapes
    (P, put("resourceType", "Patientt"), "structure", "Resource.resourceType"),
    (P, put("resourceType", "DomainResource"), "structure", "Resource.resourceType"),
    (P, drop("resourceType"), "structure", "Resource.resourceType"),
    (P, put("nickname", "x"), "structure", "Patient.nickname"),
    (P, put("contact.0.nickname", "x"), "structure", "Patient.contact[0].nickname"),
    (P, put("Jean DUPONT né le 1", "x"), "structure", "Patient"),
    (P, put("name", {"family": "D"}), "structure", "Patient.name"),
    (P, put("gender", ["female"]), "structure", "Patient.gender"),
    (P, put("managingOrganization", [{"reference": "#o1"}]), "structure", "Patient.managingOrganization"),
    (P, put("name.0.given", "Jeanne"), "structure", "Patient.name[0].given"),
    (P, put("name.0", "Jeanne"), "structure", "Patient.name[0]"),
    (P, put("name", []), "structure", "Patient.name"),
    (P, put("name.0.given", []), "structure", "Patient.name[0].given"),
    (P, put("name.0", {}), "structure", "Patient.name[0]"),
    (P, put("maritalStatus", None), "structure", "Patient.maritalStatus"),
    (P, put("birthDate", None), "structure", "Patient.birthDate"),
    (P, put("name.0.given.0", None), "structure", "Patient.name[0].given[0]"),
    (P, put("contact.0.name", {"id": "n"}), "invariant", "Patient.contact[0].name"),
    (P, put("_birthDate", {"id": "b", "value": "1"}), "structure", "Patient.birthDate.value"),
    (P, put("_maritalStatus", {"id": "b"}), "structure", "Patient._maritalStatus"),
    (P, put("_active", {"id": "a"}), "invariant", "Patient.active"),
    (P, put("name.0._given", [None]), "structure", "Patient.name[0].given"),
    (P, put("name.0._given", [None, {}]), "structure", "Patient.name[0].given[1]"),
    # choices and cardinality
    (P, put("deceasedDateTime", "2026"), "structure", "Patient.deceased"),
    (P, put("multipleBirthString", "two"), "structure", "Patient.multipleBirthString"),
    (O, put("valueString", "x"), "structure", "Observation.value"),
    (O, drop("status"), "required", "Observation.status"),
    (O, drop("code"), "required", "Observation.code"),
    (O, drop("component.0.code"), "required", "Observation.component[0].code"),
    (D, drop("content"), "required", "DocumentReference.content"),
    (D, put("content.0", {"format": {"code": "x"}}), "required", "DocumentReference.content[0].attachment"),
    (P, drop("text.div"), "required", "Patient.text.div"),
    (P, put("extension", [{"valueString": "x"}]), "required", "Patient.extension[0].url"),
    # formats
    (P, put("birthDate", "1980-13-01"), "value", "Patient.birthDate"),
    (P, put("birthDate", "1981-02-29"), "value", "Patient.birthDate"),
    (P, put("birthDate", "1980-02-30"), "value", "Patient.birthDate"),
    (P, put("birthDate", "1980-2-1"), "value", "Patient.birthDate"),
    (P, put("birthDate", "1980-02-01T00:00:00Z"), "value", "Patient.birthDate"),
    (P, put("birthDate", "1980-02-01\n"), "value", "Patient.birthDate"),
    (P, put("birthDate", "١٩٨٠"), "value", "Patient.birthDate"),
    (P, put("birthDate", 1980), "structure", "Patient.birthDate"),
    (O, put("effectivePeriod.start", "2026-01-05T08:00:00"), "value", "Observation.effective.start"),
    (O, put("effectivePeriod.start", "2026-01-05T08:00Z"), "value", "Observation.effective.start"),
    (O, put("effectivePeriod.start", "2026-01-05T24:00:00Z"), "value", "Observation.effective.start"),
    (O, put("effectivePeriod.start", "2026-01-05T08:00:00+15:00"), "value", "Observation.effective.start"),
    (O, put("issued", "2026-01-05"), "value", "Observation.issued"),
    (O, put("issued", "2026-02-30T08:00:00Z"), "value", "Observation.issued"),
    (O, put("component.0.valueTime", "8:00:00"), "value", "Observation.component[0].value"),
    (O, put("valueQuantity.value", "72.5"), "structure", "Observation.value.value"),
    (O, put("valueQuantity.value", True), "structure", "Observation.value.value"),
    (P, put("active", "true"), "structure", "Patient.active"),
    (P, put("active", 1), "structure", "Patient.active"),
    (P, put("multipleBirthInteger", 2**31), "value", "Patient.multipleBirth"),
    (P, put("multipleBirthInteger", 2.0), "structure", "Patient.multipleBirth"),
    (P, put("multipleBirthInteger", True), "structure", "Patient.multipleBirth"),
    (P, put("telecom.0.rank", 0), "value", "Patient.telecom[0].rank"),
    (P, put("photo.0.size", -1), "value", "Patient.photo[0].size"),
    (P, put("photo.0.data", "aGVsbG8"), "value", "Patient.photo[0].data"),
    (P, put("photo.0.data", "<script>"), "value", "Patient.photo[0].data"),
    (P, put("photo.0.url", "http://example.org/a b"), "value", "Patient.photo[0].url"),
    (P, put("id", "p_1"), "value", "Patient.id"),
    (P, put("id", "a" * 65), "value", "Patient.id"),
    (P, put("id", ""), "value", "Patient.id"),
    (P, put("language", " fr"), "value", "Patient.language"),
    (P, put("language", "f  r"), "value", "Patient.language"),
    (P, put("name.0.family", ""), "value", "Patient.name[0].family"),
    (P, put("name.0.family", "DU\u0000PONT"), "value", "Patient.name[0].family"),
    (P, put("name.0.given.1", "\u001b[31m"), "value", "Patient.name[0].given[1]"),
    (P, put("name.0.family", "x" * 1_048_577), "too-long", "Patient.name[0].family"),
    (P, put("extension", [URL | {"valueOid": "urn:oid:3.1"}]), "value", "Patient.extension[0].value"),
    (P, put("extension", [URL | {"valueUuid": "urn:uuid:ABC"}]), "value", "Patient.extension[0].value"),
    (P, put("extension", [URL | {"valueUri": ""}]), "value", "Patient.extension[0].value"),
    (P, put("extension", [URL | {"valueInteger64": "1"}]), "structure", "Patient.extension[0].valueInteger64"),
    # required bindings
    (P, put("gender", "F"), "code-invalid", "Patient.gender"),
    (O, put("status", "nope"), "code-invalid", "Observation.status"),
    (D, put("relatesTo.0.code", "succeeds"), "code-invalid", "DocumentReference.relatesTo[0].code"),
    (D, put("content.0.attachment.contentType", "pdf"), "code-invalid",
     "DocumentReference.content[0].attachment.contentType"),
    (O, put("valueQuantity.comparator", "="), "code-invalid", "Observation.value.comparator"),
    (P, put("telecom.0.system", "telegraph"), "code-invalid", "Patient.telecom[0].system"),
    (P, put("text.status", "made"), "code-invalid", "Patient.text.status"),
    (P, put("extension", [URL | {"valueMoney": {"value": 1, "currency": "euro"}}]), "code-invalid",
     "Patient.extension[0].value.currency"),
    # what this release does not have, though other releases and other makers do
    (D, put("meta", {"project": "x"}), "structure", "DocumentReference.meta.project"),
    (D, put("modality", []), "structure", "DocumentReference.modality"),
    # extensions
    (P, put("extension", [URL]), "invariant", "Patient.extension[0]"),
    (P, put("extension", [URL | {"valueString": "x", "extension": [URL | {"valueCode": "a"}]}]), "invariant",
     "Patient.extension[0]"),
    (P, put("_gender", {"extension": [URL]}), "invariant", "Patient.gender.extension[0]"),
    # references and contained resources
    (D, put("subject.reference", "p1"), "value", "DocumentReference.subject.reference"),
    (D, put("subject.reference", "Person1/p1"), "value", "DocumentReference.subject.reference"),
    (D, put("subject.reference", "Patient/p_1"), "value", "DocumentReference.subject.reference"),
    (D, put("subject.reference", "Patient?identifier=1"), "value", "DocumentReference.subject.reference"),
    (D, put("subject.reference", "#p1"), "invariant", "DocumentReference.subject.reference"),
    (P, put("contained.0.contained", [{"resourceType": "Basic"}]), "invariant", "Patient.contained[0].contained"),
    (P, put("managingOrganization", {"display": "x"}), "invariant", "Patient.contained[0]"),
    (P, put("contained.0.meta", {"versionId": "1"}), "invariant", "Patient.contained[0].meta"),
    (P, put("contained.0.meta", {"security": [{"code": "R"}]}), "invariant", "Patient.contained[0].meta"),
    (P, drop("contained.0.id"), "required", "Patient.contained[0].id"),
    (P, put("contained.0.name", 1), "structure", "Patient.contained[0].name"),
    # rules
    (O, put("effectivePeriod.end", "2026-01-05T07:00:00+01:00"), "invariant", "Observation.effective"),
    (P, put("identifier.0.period.start", "2022"), "invariant", "Patient.identifier[0].period"),
    (O, put("dataAbsentReason", {"text": "x"}), "invariant", "Observation"),
    (O, put("component.0.code", O["code"]), "invariant", "Observation"),
    (O, put("referenceRange.0", {"appliesTo": [{"text": "x"}]}), "invariant", "Observation.referenceRange[0]"),
    (O, drop("valueQuantity.system"), "invariant", "Observation.value"),
    (P, put("contact.0", {"gender": "male"}), "invariant", "Patient.contact[0]"),
    (P, drop("telecom.0.system"), "invariant", "Patient.telecom[0]"),
    (P, drop("photo.0.contentType"), "invariant", "Patient.photo[0]"),
    (P, put("extension", [URL | {"valueRange": {"low": {"value": 2}, "high": {"value": 1}}}]), "invariant",
     "Patient.extension[0].value"),
    (P, put("extension", [URL | {"valueRatio": {"numerator": {"value": 2}}}]), "invariant",
     "Patient.extension[0].value"),
    # narrative
    (P, put(DIV, "<p>text</p>"), "value", "Patient.text.div"),
    (P, put(DIV, "<div>text</div>"), "value", "Patient.text.div"),
    (P, put(DIV, f"<div {XHTML}><p>text</div>"), "value", "Patient.text.div"),
    (P, put(DIV, f"<div {XHTML}><script>1</script></div>"), "value", "Patient.text.div"),
    (P, put(DIV, f'<div {XHTML}><p onclick="x()">text</p></div>'), "value", "Patient.text.div"),
    (P, put(DIV, f'<div {XHTML}><a href=" java&#10;script:x()">text</a></div>'), "value", "Patient.text.div"),
    (P, put(DIV, f"<div {XHTML}> <p/> </div>"), "value", "Patient.text.div"),
    # Bundles
    (T, put("total", 1), "invariant", "Bundle.total"),
    (T, put("entry.0.search", {"mode": "match"}), "invariant", "Bundle.entry[0]"),
    (T, drop("entry.0.request"), "invariant", "Bundle.entry[0]"),
    (T, put("entry.0.response", {"status": "200"}), "invariant", "Bundle.entry[0]"),
    (T, put("entry.0.fullUrl", "http://example.org/Patient/1/_history/2"), "invariant", "Bundle.entry[0]"),
    (T, put("entry.0.request.method", "SEND"), "code-invalid", "Bundle.entry[0].request.method"),
    (T, put("entry.0.resource", D | {"status": "x"}), "code-invalid", "Bundle.entry[0].resource.status"),
    (T, put("entry", [T["entry"][0], T["entry"][0]]), "invariant", "Bundle.entry[1].fullUrl"),
    (B, put("entry.0", {"fullUrl": "http://example.org/1"}), "invariant", "Bundle.entry[0]"),
    (B, drop("identifier"), "invariant", "Bundle"),
    (B, drop("timestamp"), "invariant", "Bundle"),
    (B, put("entry.0.resource", D), "invariant", "Bundle"),
    (B, put("type", "message"), "invariant", "Bundle"),
]  # fmt: skip

VALID: list[tuple[Json, Callable[[Json], None]]] = [
    (P, put("birthDate", "1980")),
    (P, put("birthDate", "2000-02-29")),
    (P, put("_birthDate", {"extension": [URL | {"valueDateTime": "1980-02-29T23:59:60Z"}]})),
    (P, put("_birthDate", {"id": "only-an-id-beside-a-value"})),
    (P, put("_active", {"extension": [URL | {"valueCode": "unknown"}]})),
    (P, put("name.0", {"given": [None, "Marie"], "_given": [{"extension": [URL | {"valueCode": "x"}]}, None]})),
    (P, put("name.0.family", "D'ŒIL-DE-BŒUF\t\r\n ")),
    (P, put("photo.0.data", "aGVs\nbG8=\n")),
    (P, put("managingOrganization", {"extension": [URL | {"valueReference": {"reference": "#o1"}}]})),
    (P, put("contained.0.partOf", {"reference": "#"})),
    (P, put("extension", [URL | {"extension": [{"url": "part", "valueBoolean": False}]}])),
    (P, put("generalPractitioner.0.reference", "https://example.org/fhir/Practitioner/1/_history/2")),
    (P, put("generalPractitioner.0.reference", "urn:uuid:6b1b6c2e-0d3f-4d0a-8c4e-0f3f9a6f0001")),
    (P, put("generalPractitioner.0", {"identifier": {"system": "urn:oid:1.2.250.1.71.4.2.1", "value": "8"}})),
    (P, put(DIV, f" <div {XHTML}>caf&eacute;&nbsp;<img src='a.png' alt='x'/></div> ")),
    (O, put("valueQuantity.value", -0.0)),
    (O, put("valueQuantity.value", 10**20)),
    (O, put("effectivePeriod", {"start": "2026-01-05", "end": "2026-01-05T00:30:00+02:00"})),
    (O, put("effectivePeriod", {"start": "2026-01", "end": "2026-01-01"})),
    (O, put("note", [{"text": "*a*"}])),
    (D, put("content.0.attachment.contentType", "text/plain; charset=UTF-8")),
    (D, put("content.0.attachment.contentType", "application/fhir+xml")),
    (T, put("entry.0.resource", D | {"subject": {"reference": "Patient?identifier=urn:oid:1|2"}})),
    (T, put("entry", [T["entry"][0] | {"request": {"method": "DELETE", "url": "Patient/1"}, "resource": D}])),
    (B, put("type", "collection")),
]  # fmt: skip


def changed(resource: Json, change: Callable[[Json], None]) -> Json:
    result = copy.deepcopy(resource)
    change(result)
    return result


@pytest.mark.parametrize(
    "resource", [P, O, D, T, B], ids=["patient", "observation", "document", "transaction", "bundle"]
)
def test_the_starting_points_are_valid(resource: Json) -> None:
    """Each wrong resource below differs from one of these in one thing."""
    assert check(resource) == []


@pytest.mark.parametrize(("resource", "change", "code", "place"), INVALID)
def test_one_wrong_thing_is_refused_at_its_place(
    resource: Json, change: Callable[[Json], None], code: str, place: str
) -> None:
    """The issue has the R4 code of the rule and the FHIRPath of the element, and quotes nothing of the resource."""
    issues = check(changed(resource, change))
    assert (code, place) in {(issue.code, issue.expression) for issue in issues}
    assert all(issue.severity == "error" and "DUPONT" not in str(issue) for issue in issues)


@pytest.mark.parametrize(("resource", "change"), VALID)
def test_odd_but_valid_resources_are_accepted(resource: Json, change: Callable[[Json], None]) -> None:
    """Strict is not narrow: what R4 allows passes, however rare."""
    assert check(changed(resource, change)) == []


REALLY_INVALID = {"bundle-questionnaire.json": {"required"}}  # items without linkId, which is 1..1


def test_an_example_is_valid(example_file: Path) -> None:
    """Every published example passes, but for those that break R4 themselves."""
    issues = check(orjson.loads(example_file.read_bytes()))
    assert {issue.code for issue in issues} == REALLY_INVALID.get(example_file.name, set())


def test_every_error_is_found_at_once() -> None:
    """A client corrects all in one go."""
    wrong = {"resourceType": "Observation", "status": "nope", "issued": "today", "foo": 1, "subject": {}}
    places = {issue.expression for issue in check(wrong)}
    assert places == {f"Observation.{name}" for name in ("status", "issued", "foo", "subject", "code")}


def test_a_resource_nested_too_deep_is_refused() -> None:
    """Depth costs stack, so it has a limit, and one level less is accepted."""

    def nested(levels: int) -> Json:
        extension: Json = URL | {"valueString": "x"}
        for _ in range(levels):
            extension = URL | {"extension": [extension]}
        return {"resourceType": "Basic", "code": {"text": "x"}, "extension": [extension]}

    assert check(nested(DEEPEST - 2)) == []
    assert [issue.code for issue in check(nested(DEEPEST - 1))] == ["too-costly"]
    assert [issue.code for issue in check(nested(DEEPEST * 4))] == ["too-costly"]


@pytest.mark.parametrize("value", [None, [], "Patient", 1, {}, {"resourceType": 1}])
def test_what_is_no_resource_is_refused(value: object) -> None:
    """Whatever a parser gives is answered with an issue."""
    assert [issue.code for issue in check(value)] == ["structure"]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=12,
)


@given(JSON)
def test_any_json_is_answered_with_issues(value: object) -> None:
    """Nothing that a parser can give makes the check raise."""
    assert all(isinstance(issue, Issue) for issue in check(value))


@settings(max_examples=300)
@given(st.sampled_from([P, O, D, T, B]), st.data())
def test_a_resource_with_anything_anywhere_is_answered_with_issues(resource: Json, data: st.DataObject) -> None:
    """Nor does arbitrary JSON in the place of any element of a valid resource."""
    wrong = copy.deepcopy(resource)
    place: Any = wrong
    while True:
        key = data.draw(st.sampled_from(sorted(place) if isinstance(place, dict) else range(len(place))))
        if not place[key] or not isinstance(place[key], dict | list) or data.draw(st.booleans()):
            break
        place = place[key]
    place[key] = data.draw(JSON)
    assert all(isinstance(issue, Issue) for issue in check(wrong))


@given(st.sampled_from(RESOURCE_TYPES), st.dictionaries(st.text(max_size=8), JSON, max_size=3))
def test_every_resource_type_compiles(resource_type: str, body: Json) -> None:
    """The tables are whole: each type can be checked."""
    assert isinstance(check(body | {"resourceType": resource_type}), list)


def test_issues_can_be_written_as_json() -> None:
    """Places are plain text whatever the property names were."""
    issues = check({"resourceType": "Patient", "\ud800": 1})
    assert json.dumps([issue.expression for issue in issues], ensure_ascii=False).encode()
    assert issues


@pytest.mark.parametrize(
    "leaves",
    [
        [{"url": "x", "valueString": 1}] * 300_000,
        [{f"x{n}": n for n in range(300_000)}],
        [{"url": "x", "valueHumanName": {"given": [1] * 300_000}}],
        [{"url": "x", "valueHumanName": {"_given": [{"x": 1}] * 300_000}}],
    ],
)
def test_what_is_wrong_everywhere_is_not_told_everywhere(leaves: list[Any]) -> None:
    """Each fault is carried through every level above it: a body of some megabytes would hold up the server."""
    value: Any = leaves
    for _ in range(40):
        value = [{"url": "x", "extension": value}]
    began = time.process_time()
    faults = check({"resourceType": "Basic", "code": {"text": "x"}, "extension": value})
    assert 0 < len(faults) <= 1001
    assert time.process_time() - began < 1
