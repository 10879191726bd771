"""What a CDA R2 document says of itself: its header -> metadata of Generate Metadata [ITI-106].

Column "CDA Document" of PCC TF-2 4.1.1, with the header of the French CI-SIS (volet Structuration minimale): class from
type, format code from template, facility and practice setting where that header has them. The header comes as plain
objects: an element is a dict of lists of its children by name, its attributes under `@name` and its text under `$`.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final

from mappings.elements import Element, identifier, present, reference
from mappings.generated_metadata import Contained, Metadata, NotDerivable, format_of_templates
from mappings.scanned_document import SOURCE_PATIENT, format_of
from terminology import systems

Node = Mapping[str, Any]

_OID: Final = re.compile(r"[0-2](?:\.(?:0|[1-9][0-9]*))+")
_UUID: Final = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)
_TIME: Final = re.compile(
    r"([0-9]{4})(?:([0-9]{2})(?:([0-9]{2})(?:([0-9]{2})([0-9]{2})([0-9]{2})?(?:\.[0-9]+)?([+-][0-9]{4})?)?)?)?.*"
)
_GENDERS: Final[Mapping[str, str]] = MappingProxyType({"M": "male", "F": "female", "UN": "other", "U": "unknown"})
_RELATIONS: Final[Mapping[str, str]] = MappingProxyType({"RPLC": "replaces", "APND": "appends", "XFRM": "transforms"})
# A consent whose code limits the use of the document is a confidentiality code too: PCC TF-2 4.1.1.
_PRIVACY_CONSENT: Final = "1.3.6.1.4.1.19376.1.5.3.1.2.5"


def metadata(header: Node) -> Metadata:
    """The metadata of a ClinicalDocument. Raises NotDerivable."""
    kept = Contained()
    role = _patient_role(header)
    patient = _patient(role)
    for number in _every(role, "id"):
        if known := _identifier(number):
            kept.name(_key(known), SOURCE_PATIENT)
    unique_id = next((found for one in _every(header, "id") if (found := _identifier(one))), None)
    if unique_id is None:
        raise NotDerivable("The document has an id whose root is an OID or a UUID", "ClinicalDocument.id")
    document_type, creation = next(_concepts(header, "code"), None), _time(_value(header, "effectiveTime"))
    if document_type is None:
        raise NotDerivable("The document has a code: its type", "ClinicalDocument.code")
    if creation is None:
        raise NotDerivable("The document has an effectiveTime", "ClinicalDocument.effectiveTime")
    return Metadata(
        unique_id=unique_id,
        patient=patient,
        type=document_type,
        creation=creation,
        title=_text(header, "title"),
        language=next((one.get("@code") for one in _every(header, "languageCode")), None),
        authors=[link for one in _every(header, "author") if (link := _author(one, kept))],
        authenticator=next(
            (link for one in _every(header, "legalAuthenticator.assignedEntity") if (link := _person(one, kept))), None
        ),
        custodian=_custodian(header),
        relations=list(_relations(header)),
        labels=list(_labels(header)),
        format=_format(header),
        events=list(_concepts(header, "documentationOf.serviceEvent.code")),
        period=_period(header),
        encounter=_encounter(header),
        facility_type=next(
            _concepts(header, "componentOf.encompassingEncounter.location.healthCareFacility.code"), None
        ),
        practice_setting=next(
            _concepts(
                header,
                "documentationOf.serviceEvent.performer.assignedEntity.representedOrganization.standardIndustryClassCode",
            ),
            None,
        ),
        contained=kept.resources,
    )


# --- the plain objects


def _every(node: Node, path: str) -> list[Node]:
    """The elements at a path, in their order."""
    found: list[Node] = [node]
    for step in path.split("."):
        found = [child for one in found for child in one.get(step, ())]
    return found


def _text(node: Node, path: str) -> str | None:
    return next((one["$"] for one in _every(node, path) if "$" in one), None)


def _value(node: Node, path: str) -> str | None:
    return next((one["@value"] for one in _every(node, path) if "@value" in one), None)


# --- the data types of CDA: https://www.hl7.org/implement/standards/product_brief.cfm?product_id=7


def _identifier(number: Node) -> Element | None:
    """II as Identifier, by ITI TF-2 appendix E.3; None for a nullFlavor and for a root that is neither OID nor UUID."""
    root = str(number.get("@root", ""))
    urn = f"urn:oid:{root}" if _OID.fullmatch(root) else f"urn:uuid:{root.lower()}" if _UUID.fullmatch(root) else None
    if urn is None or "@nullFlavor" in number:
        return None
    value = number.get("@extension")
    return identifier(urn, value) if value else identifier(systems.URI, urn)


def _identifiers(node: Node) -> list[Element]:
    return [known for one in _every(node, "id") if (known := _identifier(one))]


def _key(known: Element) -> str:
    return f"{known['system']}|{known['value']}"


def _coding(code: Node) -> Element | None:
    if not code.get("@code"):
        return None
    oid = code.get("@codeSystem")
    return present(system=systems.system_of(oid) if oid else None, code=code["@code"], display=code.get("@displayName"))


def _concepts(node: Node, path: str) -> Iterator[Element]:
    """CD as CodeableConcept, with its translations; one that only says why there is no code is none."""
    for code in _every(node, path):
        if codings := [known for one in (code, *_every(code, "translation")) if (known := _coding(one))]:
            yield {"coding": codings}


def _time(value: str | None) -> str | None:
    """TS as dateTime: as exact as it is, to the day where it has a time without zone, which R4 cannot say."""
    match = _TIME.fullmatch(value or "")
    if match is None:
        return None
    year, month, day, hour, minute, second, zone = match.groups()
    date = "-".join(part for part in (year, month, day) if part)
    if hour is None or zone is None:
        return date
    return f"{date}T{hour}:{minute}:{second or '00'}{zone[:3]}:{zone[3:]}"


# --- the header


def _patient_role(header: Node) -> Node:
    roles = _every(header, "recordTarget.patientRole")
    if len(roles) != 1:
        raise NotDerivable(
            "The document is about one patient: recordTarget occurs once", "ClinicalDocument.recordTarget"
        )
    return roles[0]


def _patient(role: Node) -> Element:
    person = next(iter(_every(role, "patient")), {})
    gender = next((one.get("@code") for one in _every(person, "administrativeGenderCode")), None)
    birth = _time(_value(person, "birthTime"))
    return present(
        resourceType="Patient",
        id=SOURCE_PATIENT,
        identifier=_identifiers(role),
        name=[name for one in _every(person, "name") for name in _names(one)],
        gender=_GENDERS.get(str(gender)),
        birthDate=birth and birth[:10],
    )


def _names(name: Node) -> Iterator[Element]:
    """EN as HumanName; the French header has the name of birth (BR) and the one in use (CL) in one element."""
    families, given = _every(name, "family"), _every(name, "given")
    of_birth = [one["$"] for one in families if one.get("@qualifier") != "CL" and "$" in one]
    first = [one["$"] for one in given if one.get("@qualifier") == "BR" and "$" in one]
    plain = [one["$"] for one in given if "@qualifier" not in one and "$" in one]
    prefix, suffix = ([one["$"] for one in _every(name, part) if "$" in one] for part in ("prefix", "suffix"))
    is_french = any("@qualifier" in one for one in families)
    main = present(family=" ".join(of_birth), given=first or plain, prefix=prefix, suffix=suffix)
    if main:
        yield {"use": "official", **main} if is_french else main
    elif "$" in name:
        yield {"text": name["$"]}
    used, called = (
        [one["$"] for one in parts if one.get("@qualifier") == "CL" and "$" in one] for parts in (families, given)
    )
    if used:
        yield present(use="usual", family=" ".join(used), given=called)


def _author(author: Node, kept: Contained) -> Element | None:
    role = next(iter(_every(author, "functionCode")), None)
    return next((_person(one, kept, role) for one in _every(author, "assignedAuthor")), None)


def _person(assigned: Node, kept: Contained, function: Node | None = None) -> Element | None:
    """Who is assigned: the patient himself, a professional in his role, a device, or an organization alone."""
    numbers = _identifiers(assigned)
    for number in numbers:
        if known := kept.refer(_key(number)):
            return known
    organization = next((_organization(one, kept) for one in _every(assigned, "representedOrganization")), None)
    for device in _every(assigned, "assignedAuthoringDevice"):
        model, software = _text(device, "manufacturerModelName"), _text(device, "softwareName")
        names = [(software, "user-friendly-name"), (model, "model-name")]
        parts = {"deviceName": [{"name": name, "type": kind} for name, kind in names if name], "owner": organization}
        return kept.put(_first_key(numbers, kept), "Device", {"identifier": numbers, **parts})
    names = [name for one in _every(assigned, "assignedPerson.name") for name in _names(one)]
    if not names and not numbers:
        return organization
    person = kept.put(f"person of {_first_key(numbers, kept)}", "Practitioner", {"identifier": numbers, "name": names})
    role = {
        "practitioner": person,
        "organization": organization,
        "code": list(_concepts({"code": [function]}, "code")) if function else None,
        "specialty": list(_concepts(assigned, "code")),
    }
    return kept.put(_first_key(numbers, kept), "PractitionerRole", role)


def _organization(organization: Node, kept: Contained) -> Element | None:
    numbers, name = _identifiers(organization), _text(organization, "name")
    if not numbers and not name:
        return None
    key = f"organization {_first_key(numbers, kept) if numbers else name}"
    return kept.refer(key) or kept.put(key, "Organization", {"identifier": numbers, "name": name})


def _first_key(numbers: Sequence[Element], kept: Contained) -> str:
    """What somebody is called; who has no number is somebody else each time."""
    return _key(numbers[0]) if numbers else f"unnumbered {len(kept.resources)}"


def _custodian(header: Node) -> Element | None:
    for one in _every(header, "custodian.assignedCustodian.representedCustodianOrganization"):
        numbers, name = _identifiers(one), _text(one, "name")
        if numbers or name:
            return reference(type_="Organization", identified=numbers[0] if numbers else None, display=name)
    return None


def _relations(header: Node) -> Iterator[Element]:
    for one in _every(header, "relatedDocument"):
        code = _RELATIONS.get(str(one.get("@typeCode")))
        numbers = [known for parent in _every(one, "parentDocument") for known in _identifiers(parent)]
        if code and numbers:
            yield {"code": code, "target": {"identifier": numbers[0]}}
        elif code == "replaces":
            raise NotDerivable("The document that is replaced is named by its id", "ClinicalDocument.relatedDocument")


def _labels(header: Node) -> Iterator[Element]:
    consents = [
        one
        for one in _every(header, "authorization.consent")
        if any(template.get("@root") == _PRIVACY_CONSENT for template in _every(one, "templateId"))
    ]
    for code in (*_every(header, "confidentialityCode"), *(code for one in consents for code in _every(one, "code"))):
        if label := _coding(code):
            yield label


def _format(header: Node) -> Element | None:
    """Of a CDA around one file by its media type (ASS_A12), of a structured one by its template (ASS_A11)."""
    for content in _every(header, "component.nonXMLBody.text"):
        return format_of(str(content.get("@mediaType", "")))
    return format_of_templates(str(one.get("@root")) for one in _every(header, "templateId"))


def _period(header: Node) -> Element | None:
    """Of the first act that has a time: in the French header the first is the main one."""
    for one in _every(header, "documentationOf.serviceEvent.effectiveTime"):
        low, high = _time(_value(one, "low") or one.get("@value")), _time(_value(one, "high") or one.get("@value"))
        if low or high:
            return present(start=low, end=high)
    return None


def _encounter(header: Node) -> Element | None:
    numbers = [known for one in _every(header, "componentOf.encompassingEncounter") for known in _identifiers(one)]
    return {"type": "Encounter", "identifier": numbers[0]} if numbers else None
