"""The table of MHD and PDSm against the guides' own files, and against what we send ourselves."""

import base64
import hashlib
import re
from pathlib import Path
from typing import Any

import orjson
import pytest

from fhir_server.r4 import structure
from fhir_server.r4.search_query import searchable
from fhir_server.records.sharing.conformance import faults
from fhir_server.records.sharing.profiles import bundle_profiles, profiles
from fhir_server.records.sharing.provide_bundle import Content, Entry, errors, profile_of
from terminology import systems
from tests import sharing
from tests.mappings.test_provide_document_bundle import bundle as ours

DATA = Path(__file__).parents[3] / "shared" / "data" / "pdsm"
FILES = {
    "PDSm_ComprehensiveDocumentReference": systems.PDSM_DOCUMENT_REFERENCE,
    "PDSm_SubmissionSetComprehensive": systems.PDSM_SUBMISSION_SET,
    "PDSm_FolderComprehensive": systems.PDSM_FOLDER,
    "PDSm_SimplifiedPublish": systems.PDSM_SIMPLIFIED_PUBLISH,
}
# Rules whose text leaves every value free, or that R4 itself or the Bundle's checks hold.
ELSEWHERE = {
    "constr-bind-context-event": "ends with `other`",
    "constr-cdr-rempl": "a replacement is known by its relatesTo",
    "constr-bind-relatesTo": "the Bundle: one relatesTo",
    "constr-bind-relatesToTarget": "the door: a reference leads to a resource of its type",
    "constr-bind-attachmenturl": "the Bundle: the url leads to a Binary",
    "constr-bind-ProducteurDoc-simplified": "recommended, not asked",
}
official = pytest.mark.skipif(not DATA.is_dir(), reason="the files of the guides are not on this machine")


@official
@pytest.mark.parametrize("name", FILES)
def test_every_cardinality_of_pdsm_is_in_the_table(name: str) -> None:
    """`* custodian 1..` of the guide is a line of ours; 0..1 of an element that R4 has once needs none."""
    profile = profiles()[FILES[name]]
    said = {one.path: (one.least, one.most) for one in profile.cardinalities}
    asked = re.findall(r"^\* ([\w.\[\]]+) (\d*)\.\.(\d*)", (DATA / f"{name}.fsh").read_text("utf-8"), re.MULTILINE)
    assert asked
    for path, least, most in asked:
        if least in ("", "0") and most != "0" and path != "context.event":
            continue
        if path.startswith("context.related[") or path == "status":
            continue  # within an optional slice; required by R4
        assert path in said, path
        if least:
            assert said[path][0] == int(least), path
        if most:
            assert said[path][1] == int(most), path


@official
@pytest.mark.parametrize("name", FILES)
def test_every_rule_of_pdsm_is_in_the_table_or_said_to_be_elsewhere(name: str) -> None:
    """The guide has their FHIRPath commented out, so that no validator holds them."""
    obeyed = set(re.findall(r"obeys ([\w-]+)", (DATA / f"{name}.fsh").read_text("utf-8")))
    rules = {rule.key for rule in profiles()[FILES[name]].rules}
    assert obeyed <= rules | ELSEWHERE.keys()


@official
@pytest.mark.parametrize("kind", ["DocumentReference", "List"])
def test_every_search_parameter_of_the_responder_is_searched(kind: str) -> None:
    """ITI-66 and ITI-67, by code and definition; the names of contained authors by codes of our own."""
    statement = orjson.loads((DATA / "CapabilityStatement-IHE.MHD.DocumentResponder.json").read_bytes())
    (asked,) = [one for one in statement["rest"][0]["resource"] if one["type"] == kind]
    ours_too = searchable(kind)
    for parameter in asked["searchParam"]:
        if "." in parameter["name"] or parameter["name"].startswith("_"):
            continue
        assert ours_too[parameter["name"]].url == parameter["definition"]
        assert ours_too[parameter["name"]].type == parameter["type"]
    people = {"DocumentReference": "author", "List": "source"}[kind]
    assert {f"{people}-given", f"{people}-family"} <= ours_too.keys()


@official
def test_the_parameters_of_pdsm_are_searched() -> None:
    """By the code of their definition; its CapabilityStatement writes PDSm_ before some of them."""
    for file in DATA.glob("PDSm-*.fsh"):
        text = file.read_text("utf-8")
        if "InstanceOf: SearchParameter" in text:
            code = re.findall(r"^\* code = #(\S+)", text, re.MULTILINE)[0]
            for base in re.findall(r"^\* base(?:\[.\])? = #(\w+)", text, re.MULTILINE):
                assert code in searchable(base), (base, code)


def entries(whole: dict[str, Any]) -> list[Entry]:
    found: list[Entry] = []
    for number, part in enumerate(whole["entry"]):
        resource, request, content = part["resource"], part["request"], None
        if resource["resourceType"] == "Binary":
            data = base64.b64decode(resource["data"])
            content = Content(resource["contentType"], len(data), hashlib.sha1(data).digest())
        if request["method"] == "PATCH":
            resource = {"resourceType": "DocumentReference", "status": "superseded"}
        found.append(Entry(number, request["method"], resource, request["url"], part.get("fullUrl"), content))
    return found


@pytest.mark.parametrize("changes", [{}, {"replaces_oid": "urn:oid:2.25.41"}])
def test_what_we_send_we_would_accept(changes: dict[str, Any]) -> None:
    """Our own Provide Document Bundle, for the bytes that its document describes."""
    whole = ours(**changes)
    described = next(
        one["resource"] for one in whole["entry"] if one["resource"]["resourceType"] == "DocumentReference"
    )
    attachment = described["content"][0]["attachment"]
    kept = Content(attachment["contentType"], attachment["size"], base64.b64decode(attachment["hash"]))
    parts = [one for one in entries(whole) if one.content is None]
    profile = profile_of(whole)
    assert profile is not None
    assert errors(profile, parts, {attachment["url"]: kept}) == []


def test_the_illustration_of_pdsm_breaks_its_own_profile() -> None:
    """The guide's example of a fiche has facts like these: references that are not contained, an invented hash."""
    fiche = sharing.document(
        1, author=[{"reference": "PractitionerRole/r"}], authenticator={"reference": "Organization/o"}
    )
    fiche["contained"] = [{"resourceType": "Practitioner", "id": "practitioner-example"}]
    fiche["context"]["sourcePatientInfo"] = {"reference": "Patient/p"}
    told = faults(fiche, profiles()[systems.PDSM_DOCUMENT_REFERENCE], "DocumentReference")
    assert [(fault.code, fault.expression) for fault in told] == [
        ("structure", "DocumentReference.author[0].reference"),
        ("structure", "DocumentReference.authenticator.reference"),
        ("structure", "DocumentReference.context.sourcePatientInfo.reference"),
    ]
    lot = sharing.submission_set(1, identifier=[sharing.identified("urn:uuid:1", "uniqueId")])
    (fault,) = faults(lot, profiles()[systems.PDSM_SUBMISSION_SET], "List")
    assert (fault.expression, fault.diagnostics.partition(":")[0]) == ("List.identifier[0]", "mhd-startswithoid")


def test_the_good_document_of_the_tests_is_valid_r4_and_pdsm() -> None:
    """So that what the other tests break is what they say they break."""
    whole = sharing.provide(1)
    assert structure.check(whole) == []
    profile = profile_of(whole)
    assert profile is bundle_profiles()[systems.PDSM_PROVIDE_BUNDLE]
    assert errors(profile, entries(whole), {}) == []
