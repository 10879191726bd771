"""A worker as fr-core Patient, and back; the INS only when the identity is qualified."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from mappings import organization, practitioner
from mappings.patient_fr_core import WorkerRecord, identity_of, to_patient
from terminology import systems

IsR4 = Callable[[dict[str, Any]], None]

ANNE = WorkerRecord(
    folder_number="000123456",
    birth_name="LE GOFF",
    used_name="MARTIN",
    given_names=("ANNE-MARIE", "LOUISE"),
    birth_date="1979-03-14",
    sex="female",
    birth_place="29019",
    matricule_ins="279032901921835",
    oid_ins="1.2.250.1.213.1.4.8",
    status="QUAL",
    attributes=frozenset(),
    employer_name="Ateliers Exemple",
    employer_siret="99999999900017",
    centre="C07",
    doctor_name="Dr DURAND Claire",
    doctor_rpps="10101201234",
    last_visit="2025-11-03",
)


def patient_of(worker: WorkerRecord) -> dict[str, Any]:
    return to_patient(worker, patient_id="p1", organization_id="c07", practitioner_role_id="r1")


def test_a_qualified_worker_is_a_patient_of_the_ins_profile(is_r4: IsR4) -> None:
    """Golden: every element of fr-core-patient-ins, written in the published coding."""
    patient = patient_of(ANNE)
    is_r4(patient)
    assert patient == {
        "resourceType": "Patient",
        "id": "p1",
        "meta": {"profile": ["https://hl7.fr/ig/fhir/core/StructureDefinition/fr-core-patient-ins"]},
        "extension": [
            {
                "url": "https://hl7.fr/ig/fhir/core/StructureDefinition/fr-core-identity-reliability",
                "extension": [
                    {
                        "url": "identityStatus",
                        "valueCoding": {
                            "system": "https://hl7.fr/ig/fhir/core/CodeSystem/fr-core-cs-v2-0445",
                            "code": "VALI",
                            "display": "Identité validée",
                        },
                    },
                    {
                        "url": "methodCollection",
                        "valueCoding": {
                            "system": "https://hl7.fr/ig/fhir/core/CodeSystem/fr-core-cs-method-collection",
                            "code": "INSI",
                        },
                    },
                ],
            },
            {
                "url": "http://hl7.org/fhir/StructureDefinition/patient-birthPlace",
                "valueAddress": {
                    "extension": [
                        {
                            "url": "https://hl7.fr/ig/fhir/core/StructureDefinition/fr-core-address-insee-code",
                            "valueCoding": {
                                "system": "https://mos.esante.gouv.fr/NOS/TRE_R13-CommuneOM/FHIR/TRE-R13-CommuneOM",
                                "code": "29019",
                            },
                        }
                    ]
                },
            },
            {"url": "https://dmst-fhir.org/ns/StructureDefinition/last-visit", "valueDate": "2025-11-03"},
        ],
        "identifier": [
            {
                "use": "usual",
                "type": {
                    "coding": [
                        {
                            "system": "http://terminology.hl7.org/CodeSystem/v2-0203",
                            "code": "PI",
                            "display": "Patient internal identifier",
                        }
                    ]
                },
                "system": "https://dmst-fhir.org/ns/identifier/numero-dossier",
                "value": "000123456",
            },
            {
                "use": "official",
                "type": {
                    "coding": [
                        {
                            "system": "https://hl7.fr/ig/fhir/core/CodeSystem/fr-core-cs-v2-0203",
                            "code": "INS-NIR",
                        }
                    ]
                },
                "system": "urn:oid:1.2.250.1.213.1.4.8",
                "value": "279032901921835",
            },
        ],
        "active": True,
        "name": [
            {
                "extension": [
                    {
                        "url": "https://hl7.fr/ig/fhir/core/StructureDefinition/fr-core-patient-birth-list-given-name",
                        "valueString": "ANNE-MARIE LOUISE",
                    }
                ],
                "use": "official",
                "family": "LE GOFF",
                "given": ["ANNE-MARIE"],
            },
            {"use": "usual", "family": "MARTIN", "given": ["ANNE-MARIE"]},
        ],
        "gender": "female",
        "birthDate": "1979-03-14",
        "contact": [
            {
                "relationship": [
                    {
                        "coding": [
                            {
                                "system": "http://terminology.hl7.org/CodeSystem/v2-0131",
                                "code": "E",
                                "display": "Employer",
                            }
                        ]
                    }
                ],
                "organization": {
                    "type": "Organization",
                    "identifier": {
                        "type": {
                            "coding": [
                                {
                                    "system": "https://hl7.fr/ig/fhir/core/CodeSystem/fr-core-cs-v2-0203",
                                    "code": "SIRET",
                                }
                            ]
                        },
                        "system": "https://sirene.fr",
                        "value": "99999999900017",
                    },
                    "display": "Ateliers Exemple",
                },
            }
        ],
        "generalPractitioner": [{"reference": "PractitionerRole/r1"}],
        "managingOrganization": {"reference": "Organization/c07"},
    }


@pytest.mark.parametrize(
    ("changes", "profile"),
    [
        ({"status": "PROV"}, systems.FR_CORE_PATIENT),
        ({"status": "RECUP"}, systems.FR_CORE_PATIENT),
        ({"status": "VALI"}, systems.FR_CORE_PATIENT),
        ({"attributes": frozenset({"douteuse"})}, systems.FR_CORE_PATIENT),
        ({"attributes": frozenset({"fictive"})}, systems.FR_CORE_PATIENT),
        ({"oid_ins": None}, systems.FR_CORE_PATIENT),
    ],
)
def test_an_unqualified_matricule_is_never_written(changes: dict[str, Any], profile: str, is_r4: IsR4) -> None:
    """EXI ID 29: neither as identifier nor anywhere else in the Patient."""
    patient = patient_of(replace(ANNE, **changes))
    is_r4(patient)
    assert "279032901921835" not in str(patient)
    assert patient["meta"]["profile"] == [profile]


@pytest.mark.parametrize(
    ("oid", "code", "use"),
    [
        ("1.2.250.1.213.1.4.9", "INS-NIA", "temp"),
        ("1.2.250.1.213.1.4.10", "INS-NIR-TEST", "official"),
        ("1.2.250.1.213.1.4.11", "INS-NIR-DEMO", "official"),
    ],
)
def test_each_ins_oid_has_its_slice(oid: str, code: str, use: str) -> None:
    """The slice says by type and use what the OID says by number."""
    number = patient_of(replace(ANNE, oid_ins=oid))["identifier"][1]
    assert (number["system"], number["type"]["coding"][0]["code"], number["use"]) == (
        f"urn:oid:{oid}",
        code,
        use,
    )


@pytest.mark.parametrize(
    "worker",
    [
        ANNE,
        replace(ANNE, status="VALI"),
        replace(ANNE, status="RECUP"),
        replace(ANNE, status="PROV", attributes=frozenset({"douteuse", "homonyme"})),
        replace(ANNE, attributes=frozenset({"homonyme"})),
        replace(
            ANNE,
            birth_name=None,
            given_names=("ANNE MARIE", "LOUISE"),
            birth_date="1979-03",
            birth_place=None,
        ),
        replace(ANNE, used_name=None, given_names=("ANNE MARIE", "LOUISE"), sex=None),
        replace(ANNE, employer_name=None, employer_siret=None, last_visit=None, sex="unknown"),
    ],
)
def test_what_is_written_is_read_back(worker: WorkerRecord, is_r4: IsR4) -> None:
    """All traits, the status and the attributes survive; a matricule does where the identity is qualified."""
    patient = patient_of(worker)
    is_r4(patient)
    identity = identity_of(patient)
    assert (identity.patient_id, identity.active, identity.folder_numbers) == ("p1", True, ("000123456",))
    given = worker.given_names if worker.birth_name else worker.given_names[:1]
    for field in (
        "birth_name",
        "used_name",
        "birth_date",
        "sex",
        "birth_place",
        "status",
        "attributes",
        "last_visit",
    ):
        assert getattr(identity, field) == getattr(worker, field), field
    assert identity.given_names == given
    expected = (worker.matricule_ins, worker.oid_ins) if worker.status == "QUAL" else (None, None)
    assert (identity.matricule_ins, identity.oid_ins) == expected


def _reliability(system: str, code: str, **more: str) -> dict[str, Any]:
    parts = [{"url": "identityStatus", "valueCoding": {"system": system, "code": code}}]
    parts += [{"url": url, "valueCoding": {"code": value}} for url, value in more.items()]
    return {"url": systems.FR_CORE_IDENTITY_RELIABILITY, "extension": parts}


@pytest.mark.parametrize(
    ("reliability", "status", "attributes"),
    [
        ([_reliability(systems.FR_CORE_V2_0445, "VALI")], "QUAL", set()),
        ([_reliability(systems.FR_CORE_IDENTITY_STATUS, "QUAL")], "QUAL", set()),
        ([_reliability(systems.FR_CORE_IDENTITY_STATUS, "VALI")], "VALI", set()),
        ([_reliability(systems.FR_CORE_IDENTITY_STATUS, "RECUP")], "RECUP", set()),
        ([_reliability(systems.FR_CORE_IDENTITY_STATUS, "PROV", comment="FICT")], "PROV", {"fictive"}),
        ([_reliability(systems.FR_CORE_IDENTITY_STATUS, "QUAL", comment="DOUT")], "PROV", {"douteuse"}),
        (
            [_reliability(systems.FR_CORE_V2_0445, "VALI"), _reliability(systems.FR_CORE_V2_0445, "HOMA")],
            "QUAL",
            {"homonyme"},
        ),
        ([], "PROV", set()),
    ],
)
def test_both_codings_of_the_status_are_read(
    reliability: list[dict[str, Any]], status: str, attributes: set[str]
) -> None:
    """fr-core 2.1 and 2.2.0 say VALI with an INS, the drafts say QUAL; a doubt forces PROV in either."""
    ins = {"system": systems.INS_NIR, "value": "279032901921835", "use": "official"}
    identity = identity_of({"resourceType": "Patient", "extension": reliability, "identifier": [ins]})
    assert (identity.status, identity.attributes) == (status, attributes)
    assert (identity.matricule_ins is not None) is (status == "QUAL")


def test_an_old_matricule_is_a_former_one() -> None:
    """INSHISTO travels with use old; a validated identity with only that one is not qualified."""
    old = {"system": systems.INS_NIR, "value": "279032901921835", "use": "old"}
    vali = _reliability(systems.FR_CORE_V2_0445, "VALI")
    identity = identity_of({"resourceType": "Patient", "extension": [vali], "identifier": [old]})
    assert identity.former_matricules == ("279032901921835",)
    assert (identity.matricule_ins, identity.status) == (None, "VALI")


def test_an_almost_empty_patient_is_read_without_surprise() -> None:
    """Nothing stated is nothing known, and provisional."""
    identity = identity_of({"resourceType": "Patient", "name": [{"text": "x"}], "gender": "other", "active": False})
    assert (identity.birth_name, identity.used_name, identity.given_names) == (None, None, ())
    assert (identity.sex, identity.active, identity.status) == ("unknown", False, "PROV")


def test_a_matricule_under_a_foreign_oid_is_refused() -> None:
    """The INS never travels under another authority."""
    from mappings.patient_fr_core import ins_identifier

    with pytest.raises(ValueError, match="INS OID"):
        ins_identifier("279032901921835", "1.2.250.1.213.1.4.2")


def test_organizations_and_professionals_are_r4(is_r4: IsR4) -> None:
    """Service, centre, employer, doctor and role, with their national identifiers."""
    service = organization.service("spst", "Service Exemple", siret_number="99999999900025", finess_number="990000001")
    centre = organization.centre("c07", "C07", "Centre de Brest", service_id="spst")
    employer = organization.employer("e1", "Ateliers Exemple")
    doctor = practitioner.practitioner("d1", "Dr DURAND Claire", rpps="10101201234")
    role = practitioner.practitioner_role("r1", practitioner_id="d1", organization_id="c07")
    for resource in (service, centre, employer, doctor, role):
        is_r4(resource)
    assert [n["system"] for n in service["identifier"]] == [systems.SIRENE, systems.FINESS]
    assert centre["partOf"] == {"reference": "Organization/spst"}
    assert "identifier" not in employer
    assert [n["value"] for n in doctor["identifier"]] == ["810101201234", "10101201234"]
    assert role["code"][0]["coding"][0]["code"] == "G15_10/SM25"


@pytest.mark.parametrize(
    ("text", "family", "given"),
    [
        ("Dr DURAND Claire", "DURAND", ["Claire"]),
        ("Docteur Jean-Paul LE GALL", "LE GALL", ["Jean-Paul"]),
        ("DURAND CLAIRE", None, None),
        ("Claire Durand", None, None),
    ],
)
def test_a_name_on_one_line_is_split_only_where_capitals_tell(
    text: str, family: str | None, given: list[str] | None
) -> None:
    """Guessing which word is the family name is worse than keeping the text."""
    name = practitioner.human_name(text)
    assert (name["text"], name.get("family"), name.get("given")) == (text, family, given)
