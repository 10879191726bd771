"""Metadata of structured documents [ITI-106]: every row of PCC TF-2 4.1.1, of a FHIR document and of a CDA."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from fhir_server.records.sharing.structured_document import read_document
from mappings import clinical_document, fhir_document
from mappings.generated_metadata import Metadata, NotDerivable, document_reference
from terminology import systems
from tests import structured_documents
from tests.structured_documents import cda

IsR4 = Callable[[dict[str, Any]], None]
NOW = datetime(2026, 3, 15, 8, 0, tzinfo=UTC)
ATTACHMENT = {"contentType": "text/xml", "url": "Binary/b", "size": 4, "hash": "AAAA"}


def of_cda(document: bytes) -> Metadata:
    return clinical_document.metadata(read_document(document, "text/xml").header or {})


def of_fhir(**composition: Any) -> Metadata:
    return fhir_document.metadata(structured_documents.fhir_document(**composition))


def made(metadata: Metadata) -> dict[str, Any]:
    return document_reference(metadata, subject="Patient/p", attachment=ATTACHMENT, now=NOW)


HEADER = """
  <author>
    <functionCode code="PCP" displayName="Médecin traitant" codeSystem="2.16.840.1.113883.5.88"/>
    <assignedAuthor>
      <id root="1.2.250.1.71.4.2.1" extension="899900000002"/>
      <code code="G15_10/SM25" codeSystem="1.2.250.1.213.1.1.4.5"/>
      <assignedPerson><name><given>Dominique</given><family>EXEMPLE</family><suffix>DR</suffix></name></assignedPerson>
      <representedOrganization>
        <id root="1.2.250.1.71.4.2.2" extension="312345678900011"/><name>SPSTI EXEMPLE</name>
      </representedOrganization>
    </assignedAuthor>
  </author>
  <author><assignedAuthor>
    <id root="1.2.250.1.71.4.2.1" extension="312345678900011/LOGICIEL"/>
    <assignedAuthoringDevice>
      <manufacturerModelName>Scanner</manufacturerModelName><softwareName>DMST</softwareName>
    </assignedAuthoringDevice>
  </assignedAuthor></author>
  <author><assignedAuthor><id root="1.2.250.1.213.1.4.10" extension="279035121518989"/></assignedAuthor></author>
  <custodian><assignedCustodian><representedCustodianOrganization>
    <id root="1.2.250.1.71.4.2.2" extension="312345678900011"/><name>SPSTI EXEMPLE</name>
  </representedCustodianOrganization></assignedCustodian></custodian>
  <legalAuthenticator><assignedEntity>
    <id root="1.2.250.1.71.4.2.1" extension="899900000002"/>
  </assignedEntity></legalAuthenticator>
  <documentationOf><serviceEvent>
    <code code="18723-7" codeSystem="2.16.840.1.113883.6.1">
      <translation code="252275004" codeSystem="2.16.840.1.113883.6.96"/>
    </code>
    <effectiveTime><low value="202603140950+0100"/><high value="20260314"/></effectiveTime>
    <performer><assignedEntity><representedOrganization>
      <standardIndustryClassCode code="AMBULATOIRE" codeSystem="1.2.250.1.213.1.1.4.9"/>
    </representedOrganization></assignedEntity></performer>
  </serviceEvent></documentationOf>
  <documentationOf><serviceEvent>
    <code nullFlavor="UNK"/><effectiveTime><low value="2020"/></effectiveTime>
  </serviceEvent></documentationOf>
  <relatedDocument typeCode="XFRM"><parentDocument>
    <id root="0C3151BD-1CBF-4D64-B04D-CD9187A4C6E0"/>
  </parentDocument></relatedDocument>
  <authorization>
    <consent>
      <templateId root="1.3.6.1.4.1.19376.1.5.3.1.2.5"/><code code="MASQUE_PS" codeSystem="1.2.250.1.213.1.1.4.13"/>
    </consent>
    <consent><code code="64292-6" codeSystem="2.16.840.1.113883.6.1"/></consent>
  </authorization>
  <componentOf><encompassingEncounter>
    <id root="1.2.3" extension="S100"/>
    <location><healthCareFacility><code code="SA66" codeSystem="1.2.250.1.71.4.2.4"/></healthCareFacility></location>
  </encompassingEncounter></componentOf>
"""
PATIENT = """
  <id root="1.2.250.1.213.1.4.10" extension="279035121518989"/><id root="1.2.3.4"/><id nullFlavor="UNK"/>
  <addr><city>PARIS</city></addr>
  <patient>
    <name>
      <family qualifier="BR">PAT-TROIS</family>
      <given>DOMINIQUE MARIE-LOUISE</given><given qualifier="BR">DOMINIQUE</given>
      <family qualifier="CL">AUTRE</family><given qualifier="CL">DOMI</given>
    </name>
    <administrativeGenderCode code="F"/><birthTime value="19790328"/>
  </patient>
"""


def test_a_whole_cda_header_written_out(is_r4: IsR4) -> None:
    """Everything that the header says, where MHD has it; nothing of addresses, telephones or the body."""
    fiche = made(of_cda(cda(7, PATIENT, HEADER)))
    is_r4({**fiche, "id": "d"})
    professional = {"system": systems.PS_ID_NAT, "value": "899900000001"}
    doctor = {"system": systems.PS_ID_NAT, "value": "899900000002"}
    service = {"system": systems.STRUCT_ID_NAT, "value": "312345678900011"}
    software = {"system": systems.PS_ID_NAT, "value": "312345678900011/LOGICIEL"}
    names = [{"name": "DMST", "type": "user-friendly-name"}, {"name": "Scanner", "type": "model-name"}]
    functions = [
        {"coding": [{"system": "urn:oid:2.16.840.1.113883.5.88", "code": "PCP", "display": "Médecin traitant"}]}
    ]
    assert fiche == {
        "resourceType": "DocumentReference",
        "meta": {"profile": [systems.MHD_COMPREHENSIVE_DOCUMENT]},
        "contained": [
            {"resourceType": "Practitioner", "id": "practitioner-1", "identifier": [professional]},
            {
                "resourceType": "PractitionerRole",
                "id": "practitionerrole-1",
                "practitioner": {"reference": "#practitioner-1"},
            },
            {
                "resourceType": "Organization",
                "id": "organization-1",
                "identifier": [service],
                "name": "SPSTI EXEMPLE",
            },
            {
                "resourceType": "Practitioner",
                "id": "practitioner-2",
                "identifier": [doctor],
                "name": [{"family": "EXEMPLE", "given": ["Dominique"], "suffix": ["DR"]}],
            },
            {
                "resourceType": "PractitionerRole",
                "id": "practitionerrole-2",
                "practitioner": {"reference": "#practitioner-2"},
                "organization": {"reference": "#organization-1"},
                "code": functions,
                "specialty": [{"coding": [{"system": systems.TRE_A02, "code": "G15_10/SM25"}]}],
            },
            {"resourceType": "Device", "id": "device-1", "identifier": [software], "deviceName": names},
            {
                "resourceType": "Patient",
                "id": "source-patient",
                "identifier": [
                    {"system": systems.INS_TEST, "value": "279035121518989"},
                    {"system": systems.URI, "value": "urn:oid:1.2.3.4"},
                ],
                "name": [
                    {"use": "official", "family": "PAT-TROIS", "given": ["DOMINIQUE"]},
                    {"use": "usual", "family": "AUTRE", "given": ["DOMI"]},
                ],
                "gender": "female",
                "birthDate": "1979-03-28",
            },
        ],
        "masterIdentifier": {
            "use": "usual",
            "type": {"coding": [{"system": systems.MHD_IDENTIFIER_TYPE, "code": "uniqueId"}]},
            "system": systems.URI,
            "value": "urn:oid:2.25.7",
        },
        "status": "current",
        "type": {"coding": [{"system": systems.LOINC, "code": "11488-4"}]},
        "category": [{"coding": [{"system": systems.TRE_A03, "code": "10", "display": "Compte rendu"}]}],
        "subject": {"reference": "Patient/p"},
        "date": "2026-03-15T08:00:00.000Z",
        "author": [
            {"reference": "#practitionerrole-1"},
            {"reference": "#practitionerrole-2"},
            {"reference": "#device-1"},
            {"reference": "#source-patient"},
        ],
        "authenticator": {"reference": "#practitionerrole-2"},
        "custodian": {"type": "Organization", "identifier": service, "display": "SPSTI EXEMPLE"},
        "relatesTo": [
            {
                "code": "transforms",
                "target": {
                    "identifier": {"system": systems.URI, "value": "urn:uuid:0c3151bd-1cbf-4d64-b04d-cd9187a4c6e0"}
                },
            }
        ],
        "securityLabel": [
            {"coding": [{"system": systems.CONFIDENTIALITY, "code": "R"}]},
            {"coding": [{"system": systems.TRE_A07, "code": "MASQUE_PS"}]},
        ],
        "content": [
            {
                "attachment": {
                    **ATTACHMENT,
                    "language": "fr-FR",
                    "title": "Compte rendu de visite",
                    "creation": "2026-03-14T10:15:00+01:00",
                },
                "format": {"system": systems.TRE_A11, "code": "urn:ihe:iti:xds-sd:pdf:2008"},
            }
        ],
        "context": {
            "encounter": [{"type": "Encounter", "identifier": {"system": "urn:oid:1.2.3", "value": "S100"}}],
            "event": [
                {
                    "coding": [
                        {"system": systems.LOINC, "code": "18723-7"},
                        {"system": systems.SNOMED_CT, "code": "252275004"},
                    ]
                }
            ],
            "period": {"start": "2026-03-14T09:50:00+01:00", "end": "2026-03-14"},
            "facilityType": {"coding": [{"system": systems.TRE_R02, "code": "SA66"}]},
            "practiceSetting": {"coding": [{"system": systems.TRE_A01, "code": "AMBULATOIRE"}]},
            "sourcePatientInfo": {"reference": "#source-patient"},
        },
    }


def test_a_whole_composition_written_out(is_r4: IsR4) -> None:
    """What the Composition and those whom it refers to inside of the document say; telephones stay there."""
    document = structured_documents.fhir_document(
        identifier={"system": "urn:oid:2.16.1", "value": "v1"},
        category=[{"coding": [{"system": systems.TRE_A03, "code": "11"}]}, {"text": "second"}],
        language="fr-FR",
        confidentiality="R",
        meta={"security": [{"system": systems.ACT_REASON, "code": "HTEST"}]},
        encounter={"identifier": {"system": "urn:oid:1.2.3", "value": "S100"}},
        attester=[
            {"mode": "personal", "party": {"reference": "Patient/p"}},
            {"mode": "professional", "party": {"reference": "Organization/o"}},
            {"mode": "legal", "party": {"reference": "PractitionerRole/r"}},
        ],
        custodian={"reference": "Organization/o"},
        relatesTo=[
            {"code": "replaces", "targetIdentifier": {"system": "urn:oid:2.16.1", "value": "v0"}},
            {"code": "appends", "targetReference": {"reference": "Composition/elsewhere"}},
        ],
        event=[{"code": [{"text": "visite"}]}, {"period": {"start": "2026-03-14"}}],
    )
    document["meta"] = {"profile": ["http://hl7.org/fhir/uv/ips/StructureDefinition/Bundle-uv-ips|1.1.0"]}
    fiche = made(fhir_document.metadata(document))
    is_r4({**fiche, "id": "d"})
    service = {"system": systems.STRUCT_ID_NAT, "value": "1999999999"}
    facility = {"coding": [{"system": systems.TRE_R02, "code": "SA66"}]}
    unknown = {"coding": [{"system": systems.NULL_FLAVOR, "code": "UNK", "display": "unknown"}]}
    assert fiche["contained"] == [
        {"resourceType": "Practitioner", "id": "practitioner-1", "name": [{"family": "Exemple"}]},
        {
            "resourceType": "Organization",
            "id": "organization-1",
            "identifier": [service],
            "type": [facility],
            "name": "Service Exemple",
        },
        {
            "resourceType": "PractitionerRole",
            "id": "practitionerrole-1",
            "practitioner": {"reference": "#practitioner-1"},
            "organization": {"reference": "#organization-1"},
        },
        {
            "resourceType": "Patient",
            "id": "source-patient",
            "identifier": [{"system": structured_documents.FOLDERS, "value": "100000101"}],
        },
    ]
    assert fiche["masterIdentifier"]["value"] == "v1"
    assert fiche["identifier"] == [{"system": systems.URI, "value": "urn:oid:2.25.1001"}]
    assert fiche["category"] == [{"coding": [{"system": systems.TRE_A03, "code": "11"}]}]
    assert (fiche["author"], fiche["authenticator"]) == (
        [{"reference": "#practitionerrole-1"}],
        {"reference": "#practitionerrole-1"},
    )
    assert fiche["custodian"] == {"type": "Organization", "identifier": service, "display": "Service Exemple"}
    assert fiche["relatesTo"] == [
        {"code": "replaces", "target": {"identifier": {"system": "urn:oid:2.16.1", "value": "v0"}}}
    ]
    assert [one["coding"][0]["code"] for one in fiche["securityLabel"]] == ["R", "HTEST"]
    (content,) = fiche["content"]
    assert content["attachment"] == {
        **ATTACHMENT,
        "language": "fr-FR",
        "title": "Synthèse",
        "creation": "2026-03-14T10:15:00+01:00",
    }
    ips = "http://hl7.org/fhir/uv/ips/StructureDefinition/Bundle-uv-ips"
    assert content["format"] == {"system": systems.URI, "code": ips}
    assert fiche["context"] == {
        "encounter": [{"type": "Encounter", "identifier": {"system": "urn:oid:1.2.3", "value": "S100"}}],
        "event": [{"text": "visite"}],
        "period": {"start": "2026-03-14"},
        "facilityType": facility,
        "practiceSetting": unknown,
        "sourcePatientInfo": {"reference": "#source-patient"},
    }


def test_what_a_document_does_not_say_is_not_made_up(is_r4: IsR4) -> None:
    """Unknown is said to be unknown; the class of a type without one is the type, as IHE shows it."""
    document = structured_documents.fhir_document(type={"text": "Autre"}, author=[{"display": "Dr Exemple"}])
    fiche = made(fhir_document.metadata(document))
    is_r4({**fiche, "id": "d"})
    assert fiche["masterIdentifier"]["value"] == "https://example.org/fhir/Composition/c"
    assert fiche["category"] == [{"text": "Autre"}]
    assert fiche["author"] == [{"display": "Dr Exemple"}]
    assert fiche["content"][0]["attachment"]["language"] == "und"
    assert fiche["content"][0]["format"]["code"] == "urn:ihe:iti:xds:2017:mimeTypeSufficient"
    assert [one["coding"][0]["code"] for one in fiche["securityLabel"]] == ["N"]
    assert {fiche["context"][name]["coding"][0]["code"] for name in ("facilityType", "practiceSetting")} == {"UNK"}


@pytest.mark.parametrize(
    "reference",
    [
        {"reference": "Patient/p/_history/3"},
        {"reference": "https://example.org/fhir/Patient/p"},
        {"reference": "#inside"},
        {"identifier": {"system": structured_documents.FOLDERS, "value": "100000101"}},
    ],
)
def test_the_subject_is_followed_inside_the_document(reference: dict[str, Any]) -> None:
    """As R4 resolves references of a Bundle, to what is contained, and by an identifier alone."""
    number = {"system": structured_documents.FOLDERS, "value": "100000101"}
    inside = {"contained": [{"resourceType": "Patient", "id": "inside", "identifier": [number]}]}
    metadata = of_fhir(subject=reference, **(inside if "#inside" in str(reference) else {}))
    assert metadata.patient_identifiers == [(structured_documents.FOLDERS, "100000101")]


def test_a_relative_reference_means_nothing_beside_a_urn() -> None:
    """https://hl7.org/fhir/R4/bundle.html#references: it is relative to the fullUrl of its resource."""
    document = structured_documents.fhir_document()
    document["entry"][0]["fullUrl"] = "urn:uuid:180f219f-97a8-486d-99d9-ed631fe4fc57"
    with pytest.raises(NotDerivable):
        fhir_document.metadata(document)


def test_a_reference_that_leads_out_of_the_document_leads_nowhere() -> None:
    """`Practitioner/7` of somebody else is not our Practitioner/7."""
    metadata = of_fhir(author=[{"reference": "Practitioner/7", "type": "Practitioner", "display": "Dr Exemple"}])
    assert metadata.authors == [{"type": "Practitioner", "display": "Dr Exemple"}]
    assert of_fhir(author=[{"reference": "Practitioner/7"}]).authors == []


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ('<nonXMLBody><text mediaType="image/tiff"/></nonXMLBody>', "urn:ihe:iti-fr:xds-sd:tiff:2010"),
        ("<structuredBody/>", "urn:ihe:iti:xds:2017:mimeTypeSufficient"),
    ],
)
def test_the_format_follows_from_the_body_or_the_template(body: str, code: str) -> None:
    """ASS_A12 for a CDA around a file, ASS_A11 for a structured one."""
    assert made(of_cda(cda(body=body)))["content"][0]["format"]["code"] == code
    template = '<templateId root="1.2.250.1.213.1.1.1.13" extension="201310"/>'
    structured = made(of_cda(cda(body="<structuredBody/>", more=template)))
    assert structured["content"][0]["format"] == {"system": systems.TRE_A06, "code": "urn:asip:ci-sis:vsm:2012"}


@pytest.mark.parametrize(
    ("stated", "written"),
    [
        ("2026", "2026"),
        ("202603", "2026-03"),
        ("20260314", "2026-03-14"),
        ("2026031410", "2026-03-14"),
        ("20260314101500", "2026-03-14"),
        ("202603141015+0100", "2026-03-14T10:15:00+01:00"),
        ("20260314101500.1234-0430", "2026-03-14T10:15:00-04:30"),
    ],
)
def test_a_time_is_as_exact_as_it_was_written(stated: str, written: str) -> None:
    """R4 has no time without zone: it becomes the day."""
    document = cda().replace(b"20260314101500+0100", stated.encode())
    assert of_cda(document).creation == written


def test_a_document_that_is_replaced_has_a_name() -> None:
    """Else nothing could be superseded, and two versions would be current."""
    with pytest.raises(NotDerivable, match="replaced"):
        of_cda(cda(more='<relatedDocument typeCode="RPLC"><parentDocument/></relatedDocument>'))
    with pytest.raises(NotDerivable, match="replaced"):
        of_fhir(relatesTo=[{"code": "replaces", "targetReference": {"reference": "Composition/x"}}])
