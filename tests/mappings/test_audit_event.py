"""Every access leaves an AuditEvent that a BALP reader understands."""

import base64
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from mappings.audit_event import Access, Interaction, to_audit_event
from terminology import systems

IsR4 = Callable[[dict[str, Any]], None]

READ = Access(
    id="a1",
    at=datetime(2026, 10, 15, 6, 0, tzinfo=UTC),
    interaction="read",
    outcome="0",
    client_id="logiciel-metier",
    client_name="Logiciel métier",
    role="medecin-du-travail",
    purpose="TREAT",
    resource_type="DocumentReference",
    resource_id="d1",
    version="2",
    patient_id="p1",
    query=None,
    request_id="req-1",
    user_id="u42",
    user_name="Dr DURAND Claire",
    client_address="192.0.2.7",
)
SEARCH = replace(READ, interaction="search-type", resource_id=None, version=None, query="patient=p1&status=current")
DISCLOSE = replace(READ, interaction="disclose", recipient="urn:oid:1.2.250.1.213.4.1.1.1.2", purpose="dmp")


@pytest.mark.parametrize(
    ("interaction", "profile", "action"),
    [
        ("read", "PatientRead", "R"),
        ("vread", "PatientRead", "R"),
        ("history-instance", None, "R"),
        ("search-type", "PatientQuery", "E"),
        ("create", "PatientCreate", "C"),
        ("update", "PatientUpdate", "U"),
        ("patch", "PatientUpdate", "U"),
        ("delete", "PatientDelete", "D"),
        ("transaction", None, "E"),
        ("batch", None, "E"),
        ("operation", None, "E"),
        ("capabilities", None, "R"),
        ("disclose", "PrivacyDisclosure.Source", "R"),
        ("export", None, "R"),
        ("consent-decision", None, "E"),
    ],
)
def test_each_interaction_has_its_profile_and_action(
    interaction: Interaction, profile: str | None, action: str, is_r4: IsR4
) -> None:
    """The codes of restful-interaction, and the BALP profile where there is one."""
    query = "patient=p1" if interaction.startswith("search") else None
    recipient = "urn:x" if interaction == "disclose" else None
    event = to_audit_event(replace(READ, interaction=interaction, query=query, recipient=recipient), "dmst.example.org")
    is_r4(event)
    expected = [f"https://profiles.ihe.net/ITI/BALP/StructureDefinition/IHE.BasicAudit.{profile}"] if profile else None
    assert event.get("meta", {}).get("profile") == expected
    assert event["action"] == action


def test_a_read_is_balp_patient_read() -> None:
    """Golden: data flow to the client, the user receives, patient, record with version and request id."""

    def coding(system: str, code: str, display: str) -> dict[str, str]:
        return {"system": system, "code": code, "display": display}

    server = {
        "type": "Device",
        "identifier": {"system": systems.CLIENT, "value": "dmst.example.org"},
        "display": "dmst.example.org",
    }
    purpose = [{"coding": [{"system": systems.ACT_REASON, "code": "TREAT"}]}]
    assert to_audit_event(READ, "dmst.example.org") == {
        "resourceType": "AuditEvent",
        "id": "a1",
        "meta": {"profile": ["https://profiles.ihe.net/ITI/BALP/StructureDefinition/IHE.BasicAudit.PatientRead"]},
        "type": coding("http://terminology.hl7.org/CodeSystem/audit-event-type", "rest", "RESTful Operation"),
        "subtype": [{"system": "http://hl7.org/fhir/restful-interaction", "code": "read"}],
        "action": "R",
        "recorded": "2026-10-15T06:00:00.000Z",
        "outcome": "0",
        "purposeOfEvent": purpose,
        "agent": [
            {
                "type": {"coding": [coding(systems.DICOM, "110152", "Destination Role ID")]},
                "who": {
                    "type": "Device",
                    "identifier": {"system": systems.CLIENT, "value": "logiciel-metier"},
                    "display": "Logiciel métier",
                },
                "requestor": False,
                "network": {"address": "192.0.2.7", "type": "2"},
            },
            {
                "type": {"coding": [coding(systems.DICOM, "110153", "Source Role ID")]},
                "who": server,
                "requestor": False,
                "network": {"address": "dmst.example.org", "type": "1"},
            },
            {
                "type": {"coding": [coding(systems.PARTICIPATION_TYPE, "IRCP", "information recipient")]},
                "who": {
                    "type": "Practitioner",
                    "identifier": {"system": systems.USER, "value": "u42"},
                    "display": "Dr DURAND Claire",
                },
                "requestor": True,
                "role": [{"coding": [{"system": systems.CALLER_ROLE, "code": "medecin-du-travail"}]}],
                "name": "Dr DURAND Claire",
                "purposeOfUse": purpose,
            },
        ],
        "source": {
            "site": "dmst.example.org",
            "observer": server,
            "type": [coding(systems.AUDIT_SOURCE_TYPE, "4", "Application Server")],
        },
        "entity": [
            {
                "what": {"reference": "Patient/p1"},
                "type": coding(systems.AUDIT_ENTITY_TYPE, "1", "Person"),
                "role": coding(systems.AUDIT_OBJECT_ROLE, "1", "Patient"),
            },
            {
                "what": {"reference": "DocumentReference/d1/_history/2"},
                "type": coding(systems.AUDIT_ENTITY_TYPE, "2", "System Object"),
                "role": coding(systems.AUDIT_OBJECT_ROLE, "4", "Domain Resource"),
            },
            {
                "what": {"identifier": {"system": systems.REQUEST, "value": "req-1"}},
                "type": {
                    "system": "https://profiles.ihe.net/ITI/BALP/CodeSystem/BasicAuditEntityType",
                    "code": "XrequestId",
                },
            },
        ],
    }


def test_a_search_keeps_the_query_in_base64_and_nothing_of_the_results() -> None:
    """BALP: entity.query is required and entity.what forbidden."""
    entities = to_audit_event(SEARCH, "dmst.example.org")["entity"]
    (query,) = [entity for entity in entities if "query" in entity]
    assert base64.b64decode(query["query"]) == b"patient=p1&status=current"
    assert "what" not in query


@pytest.mark.parametrize("outcome", ["4", "8"])
def test_a_refusal_is_recorded_and_claims_no_profile(outcome: Any, is_r4: IsR4) -> None:
    """BALP profiles are for successes; a refused create has no id yet."""
    event = to_audit_event(replace(READ, interaction="create", outcome=outcome, resource_id=None, version=None), "x")
    is_r4(event)
    assert "meta" not in event
    assert event["outcome"] == outcome


def test_a_program_without_a_person_is_its_own_requestor(is_r4: IsR4) -> None:
    """Then role and purpose are the program's."""
    event = to_audit_event(replace(READ, user_id=None, user_name=None, client_address=None), "x")
    is_r4(event)
    client, server = event["agent"]
    assert (client["requestor"], server["requestor"]) == (True, False)
    assert client["role"][0]["coding"][0]["code"] == "medecin-du-travail"
    assert "meta" not in event


def test_a_disclosure_has_source_recipient_and_purpose(is_r4: IsR4) -> None:
    """val-audit-source: the source agent is the observer; a purpose of ours keeps our system."""
    event = to_audit_event(DISCLOSE, "dmst.example.org")
    is_r4(event)
    source, recipient = event["agent"][:2]
    assert source["who"] == event["source"]["observer"]
    assert recipient["network"] == {"address": "urn:oid:1.2.250.1.213.4.1.1.1.2", "type": "5"}
    assert event["type"]["code"] == "110106"
    assert event["subtype"][0] == {"system": systems.ISO_21089, "code": "disclose"}
    assert event["purposeOfEvent"][0]["coding"][0]["system"] == systems.ACCESS_PURPOSE
    mail = to_audit_event(replace(DISCLOSE, recipient="spst@exemple.mssante.fr"), "x")["agent"][1]
    assert mail["network"]["type"] == "4"


@pytest.mark.parametrize("query", ["$export?_type=Patient", "Group/g/$export", "$export 4711/Patient.ndjson"])
def test_a_bulk_export_is_an_export_for_who_reads_the_trail(query: str, is_r4: IsR4) -> None:
    """DICOM 110106 Export and ISO 21089 extract, beside the operation that it is; an import is none."""
    event = to_audit_event(replace(READ, interaction="operation", query=query), "x")
    is_r4(event)
    assert event["type"]["code"] == "110106"
    assert [one["code"] for one in event["subtype"]] == ["operation", "extract"]
    other = to_audit_event(replace(READ, interaction="operation", query="$import"), "x")
    assert other["type"]["code"] == "rest"


def test_a_file_of_the_trail_is_an_export(is_r4: IsR4) -> None:
    """Whoever reads the trail sees who took it away."""
    event = to_audit_event(replace(READ, interaction="export", resource_type="AuditEvent", resource_id=None), "x")
    is_r4(event)
    assert (event["type"]["code"], event["subtype"][0]["code"], event["action"]) == ("110106", "extract", "R")


@pytest.mark.parametrize("outcome", ["0", "4"])
def test_a_decision_by_consent_has_the_shape_of_balp(outcome: Any, is_r4: IsR4) -> None:
    """AuthZconsent: security alert, who asked, who decided, whose record; why not, in outcomeDesc."""
    decided = replace(
        READ, interaction="consent-decision", outcome=outcome, reason="dmp-consent-missing", recipient="dmp"
    )
    event = to_audit_event(decided, "dmst.example.org")
    is_r4(event)
    assert (event["type"]["code"], event["subtype"][0]["code"], event["action"]) == ("110113", "AuthZ-Consent", "E")
    assert event["outcomeDesc"] == "dmp-consent-missing"
    assert [agent["type"]["coding"][0]["code"] for agent in event["agent"]] == [
        "110150",
        "authserver",
        "IRCP",
        "110152",
    ]
    assert event["agent"][1]["who"] == event["source"]["observer"], "val-audit-source"
    assert event["entity"][0]["what"]["reference"] == "Patient/p1"
