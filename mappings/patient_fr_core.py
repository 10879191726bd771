"""Patient of a worker <-> what the register says of him.

fr-core-patient and fr-core-patient-ins, published 2.1 and 2.2.0: status of CodeSystem fr-core-cs-v2-0445,
where a qualified identity is VALI with an INS identifier. The later drafts (fr-core-cs-identity-status, with
RECUP and QUAL) are read too.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final, Literal, cast

from mappings.elements import Element, coding, concept, identifier, present, reference
from mappings.organization import siret
from terminology import systems
from terminology.ins import Status, domain_of, effective_status, matricule_may_circulate

Sex = Literal["male", "female", "unknown"]


@dataclass(frozen=True, slots=True)
class WorkerRecord:
    """One line of the register of the service.

    Dates are FHIR dates (`birth_date` perhaps partial), `given_names` the birth given names in order,
    `birth_place` a COG code, `oid_ins` a bare OID. `attributes` are among homonyme, douteuse, fictive.
    """

    folder_number: str
    birth_name: str | None
    used_name: str | None
    given_names: tuple[str, ...]
    birth_date: str | None
    sex: Sex | None
    birth_place: str | None
    matricule_ins: str | None
    oid_ins: str | None
    status: Status
    attributes: frozenset[str]
    employer_name: str | None = None
    employer_siret: str | None = None
    centre: str | None = None
    doctor_name: str | None = None
    doctor_rpps: str | None = None
    last_visit: str | None = None


@dataclass(frozen=True, slots=True)
class PatientIdentity:
    """What a stored Patient says of who it is; the fields are those of `WorkerRecord`.

    `matricule_ins` and `oid_ins` stand only for a qualified identity; `former_matricules` are those marked
    old.
    """

    patient_id: str
    active: bool
    folder_numbers: tuple[str, ...]
    birth_name: str | None
    used_name: str | None
    given_names: tuple[str, ...]
    birth_date: str | None
    sex: Sex | None
    birth_place: str | None
    matricule_ins: str | None
    oid_ins: str | None
    former_matricules: tuple[str, ...]
    status: Status
    attributes: frozenset[str]
    last_visit: str | None


@dataclass(frozen=True, slots=True)
class Employment:
    """Where a stored Patient works, and the id of the Organization that follows him."""

    employer_name: str | None
    employer_siret: str | None
    organization_id: str | None


# OID -> (code of fr-core-cs-v2-0203, use): the slices of fr-core-patient-ins
_INS_SLICES: Final[Mapping[str, tuple[str, str]]] = MappingProxyType(
    {
        systems.INS_NIR_OID: ("INS-NIR", "official"),
        systems.INS_NIA_OID: ("INS-NIA", "temp"),
        systems.INS_TEST_OID: ("INS-NIR-TEST", "official"),
        systems.INS_DEMO_OID: ("INS-NIR-DEMO", "official"),
    }
)

_PUBLISHED_STATUS: Final[Mapping[Status, tuple[str, str]]] = MappingProxyType(
    {
        "PROV": ("PROV", "Identité provisoire"),
        "RECUP": ("PROV", "Identité provisoire"),
        "VALI": ("VALI", "Identité validée"),
        "QUAL": ("VALI", "Identité validée"),
    }
)

_INSI: Final = coding(systems.FR_CORE_METHOD_COLLECTION, "INSI")

_ATTRIBUTES: Final[Mapping[str, tuple[str, str]]] = MappingProxyType(
    {
        "homonyme": ("HOMA", "Homonyme avéré (attribut d'identité homonyme)"),
        "douteuse": ("DOUT", "Identité douteuse (attribut d'identité douteuse)"),
        "fictive": ("FICT", "Identité fictive (attribut d'identité fictive)"),
    }
)
_ATTRIBUTE_OF: Final = {code: attribute for attribute, (code, _) in _ATTRIBUTES.items()}


def ins_identifier(matricule_ins: str, oid_ins: str) -> Element:
    """The INS as an Identifier of fr-core-patient-ins; ValueError where the OID (bare or urn) is not an INS
    OID.
    """
    bare = oid_ins.removeprefix("urn:oid:")
    if bare not in _INS_SLICES:
        raise ValueError("a matricule INS goes with one of the four INS OIDs")
    code, use = _INS_SLICES[bare]
    type_ = concept(systems.FR_CORE_V2_0203, code)
    return identifier(f"urn:oid:{bare}", matricule_ins, use=use, type_=type_)


def _reliability(worker: WorkerRecord) -> list[Element]:
    """The identity-reliability extension: one instance for the status, one more per
    attribute (2.1, 2.2.0).
    """
    status = effective_status(worker.status, worker.attributes)
    said = [(_PUBLISHED_STATUS[status], status in ("RECUP", "QUAL"))]
    said += [(_ATTRIBUTES[attribute], False) for attribute in sorted(worker.attributes)]
    return [
        {
            "url": systems.FR_CORE_IDENTITY_RELIABILITY,
            "extension": [
                {"url": "identityStatus", "valueCoding": coding(systems.FR_CORE_V2_0445, code, display)},
                *([{"url": "methodCollection", "valueCoding": _INSI}] if retrieved else []),
            ],
        }
        for (code, display), retrieved in said
    ]


def _birth_place(code: str) -> Element:
    insee = {"url": systems.FR_CORE_INSEE_CODE, "valueCoding": coding(systems.TRE_R13, code)}
    return {"url": systems.BIRTH_PLACE, "valueAddress": {"extension": [insee]}}


def _names(worker: WorkerRecord) -> list[Element]:
    first = list(worker.given_names[:1])
    all_given = {"url": systems.FR_CORE_BIRTH_GIVEN_NAMES, "valueString": " ".join(worker.given_names)}
    official = present(extension=[all_given] if first else None, use="official", family=worker.birth_name, given=first)
    usual = present(use="usual", family=worker.used_name, given=first)
    return [*([official] if worker.birth_name else []), *([usual] if worker.used_name else [])]


def to_patient(
    worker: WorkerRecord, *, patient_id: str, organization_id: str, practitioner_role_id: str | None
) -> Element:
    """The Patient of a worker; `organization_id` is the centre or service in charge, the role that of the
    doctor.

    The INS is written for a qualified identity only (EXI ID 29); a matricule merely retrieved stays with the
    caller. The profile claimed is fr-core-patient-ins where all it asks for is there, fr-core-patient
    otherwise.
    """
    qualified = bool(
        worker.matricule_ins and domain_of(worker.oid_ins) and matricule_may_circulate(worker.status, worker.attributes)
    )
    complete = worker.birth_name and worker.given_names and worker.birth_date and worker.sex and worker.birth_place
    number_type = concept(systems.V2_0203, "PI", "Patient internal identifier")
    return present(
        resourceType="Patient",
        id=patient_id,
        meta={"profile": [systems.FR_CORE_PATIENT_INS if qualified and complete else systems.FR_CORE_PATIENT]},
        extension=[
            *_reliability(worker),
            *([_birth_place(worker.birth_place)] if worker.birth_place else []),
            *([{"url": systems.EXTENSION_LAST_VISIT, "valueDate": worker.last_visit}] if worker.last_visit else []),
        ],
        identifier=[
            identifier(systems.NUMERO_DOSSIER, worker.folder_number, use="usual", type_=number_type),
            *([ins_identifier(worker.matricule_ins or "", worker.oid_ins or "")] if qualified else []),
        ],
        active=True,
        name=_names(worker),
        gender=worker.sex,
        birthDate=worker.birth_date,
        contact=[_employer(worker)] if worker.employer_name or worker.employer_siret else None,
        generalPractitioner=[reference(f"PractitionerRole/{practitioner_role_id}")] if practitioner_role_id else None,
        managingOrganization=reference(f"Organization/{organization_id}"),
    )


def _employer(worker: WorkerRecord) -> Element:
    number = siret(worker.employer_siret) if worker.employer_siret else None
    return {
        "relationship": [concept(systems.V2_0131, "E", "Employer")],
        "organization": reference(type_="Organization", identified=number, display=worker.employer_name),
    }


# --- and back


def _extensions(holder: Mapping[str, Any], url: str) -> list[Element]:
    return [extension for extension in holder.get("extension", []) if extension.get("url") == url]


def _value_codes(extension: Element, url: str) -> list[tuple[str, str]]:
    """(system, code) of the Codings, or CodeableConcepts, under this sub-extension."""
    found: list[tuple[str, str]] = []
    for part in _extensions(extension, url):
        codings = (
            [part["valueCoding"]] if "valueCoding" in part else part.get("valueCodeableConcept", {}).get("coding", [])
        )
        found += [(one.get("system", ""), one.get("code", "")) for one in codings]
    return found


def _status(patient: Mapping[str, Any], *, has_ins: bool) -> tuple[Status, frozenset[str]]:
    """Status and attributes from either coding; no reliability stated is PROV."""
    status: Status = "PROV"
    codes: set[str] = set()
    for reliability in _extensions(patient, systems.FR_CORE_IDENTITY_RELIABILITY):
        retrieved = any(code == "INSI" for _, code in _value_codes(reliability, "methodCollection"))
        codes |= {code for _, code in _value_codes(reliability, "comment")}
        for system, code in _value_codes(reliability, "identityStatus"):
            codes.add(code)
            if system == systems.FR_CORE_IDENTITY_STATUS and code in ("PROV", "RECUP", "VALI", "QUAL"):
                status = code
            elif code == "VALI":
                status = "QUAL" if has_ins else "VALI"
            elif code == "PROV" and retrieved:
                status = "RECUP"
    attributes = frozenset(_ATTRIBUTE_OF[code] for code in codes & _ATTRIBUTE_OF.keys())
    return effective_status(status, attributes), attributes


def _given_names(official: Mapping[str, Any]) -> tuple[str, ...]:
    """The first given name as such, then the rest of the birth list, which spaces part."""
    given = [str(name) for name in official.get("given", [])]
    lists = _extensions(official, systems.FR_CORE_BIRTH_GIVEN_NAMES)
    if not lists:
        return tuple(given)
    listed = str(lists[0].get("valueString", ""))
    if given and listed.startswith(given[0]):
        return (given[0], *listed[len(given[0]) :].split())
    return tuple(listed.split())


def _first_family(names: Iterable[Mapping[str, Any]]) -> str | None:
    return next((str(name["family"]) for name in names if name.get("family")), None)


def _birth_place_of(patient: Mapping[str, Any]) -> str | None:
    for place in _extensions(patient, systems.BIRTH_PLACE):
        for insee in _extensions(place.get("valueAddress", {}), systems.FR_CORE_INSEE_CODE):
            return cast("str | None", insee.get("valueCoding", {}).get("code"))
    return None


def identity_of(patient: Mapping[str, Any]) -> PatientIdentity:
    """Read a Patient back, in the published coding of the identity status or in that of the drafts.

    An INS is taken as present only where status and attributes let it circulate. A name without `use` counts
    as used name.
    """
    names: list[Element] = patient.get("name", [])
    official = [name for name in names if name.get("use") == "official"]
    other = [name for name in names if name.get("use") in ("usual", None)]
    numbers: list[Element] = patient.get("identifier", [])
    ins = [number for number in numbers if domain_of(number.get("system")) and number.get("value")]
    current = [number for number in ins if number.get("use") != "old"]
    status, attributes = _status(patient, has_ins=bool(current))
    shown = current[0] if current and status == "QUAL" else None
    gender = patient.get("gender")
    visits = _extensions(patient, systems.EXTENSION_LAST_VISIT)
    return PatientIdentity(
        patient_id=str(patient.get("id", "")),
        active=patient.get("active", True) is not False,
        folder_numbers=tuple(
            n["value"] for n in numbers if n.get("system") == systems.NUMERO_DOSSIER and n.get("value")
        ),
        birth_name=_first_family(official),
        used_name=_first_family(other),
        given_names=_given_names((official or other or [{}])[0]),
        birth_date=patient.get("birthDate"),
        sex=(gender if gender in ("male", "female") else "unknown") if gender else None,
        birth_place=_birth_place_of(patient),
        matricule_ins=shown["value"] if shown else None,
        oid_ins=shown["system"].removeprefix("urn:oid:") if shown else None,
        former_matricules=tuple(number["value"] for number in ins if number.get("use") == "old"),
        status=status,
        attributes=attributes,
        last_visit=visits[0].get("valueDate") if visits else None,
    )


def has_qualified_identifier(patient: Mapping[str, Any], system: str, value: str) -> bool:
    """Whether this is the Patient of a qualified identity who bears exactly this identifier now.

    An INS is a matricule with its OID (`urn:oid:...`); a former one (`use` old, or a period that is over) is none.
    """
    identity = identity_of(patient)
    if not identity.active or not matricule_may_circulate(identity.status, identity.attributes):
        return False
    return any(
        number.get("system") == system
        and number.get("value") == value
        and number.get("use") != "old"
        and "end" not in number.get("period", {})
        for number in patient.get("identifier", [])
    )


def employment_of(patient: Mapping[str, Any]) -> Employment:
    """The employer, and who is in charge, of a Patient as `to_patient` writes them."""
    contacts: list[Element] = patient.get("contact", [])
    employer: Element = next((one["organization"] for one in contacts if one.get("organization")), {})
    number = employer.get("identifier", {}).get("value")
    organization = str(patient.get("managingOrganization", {}).get("reference", ""))
    return Employment(employer.get("display"), number, organization.removeprefix("Organization/") or None)
