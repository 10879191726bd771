"""An access to a record, or its refusal -> AuditEvent.

IHE BALP 1.1 (Basic Audit Log Patterns), R4: Read, Query, Create, Update, Delete with or without patient, and
PrivacyDisclosure.Source. A profile is claimed where all it asks for is there: BALP profiles are for successes
only. An export has the event type of DICOM (Export) and the event of ISO 21089; a decision by consent has the shape
of BALP AuthZconsent, whose profile asks for the organisation of the user, which is not known here. Logins and logouts
are those of IHE ITI-20 (User Authentication, DICOM PS3.15 A.5.3.11), and a reason that somebody declared before he
looked further is a security alert (A.5.3.12: Emergency Override Started, Use of Restricted Function).
"""

import base64
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from types import MappingProxyType
from typing import Final, Literal

from mappings.elements import Element, coding, concept, identifier, instant, present, reference
from terminology import systems

Interaction = Literal[
    "read",
    "vread",
    "history-instance",
    "history-type",
    "history-system",
    "search-type",
    "search-system",
    "create",
    "update",
    "patch",
    "delete",
    "transaction",
    "batch",
    "operation",
    "capabilities",
    "disclose",
    "export",
    "consent-decision",
    "login",
    "logout",
    "declare-access",
]


@dataclass(frozen=True, slots=True)
class Access:
    """One access: who, in which role, for which purpose, to what, and with which outcome.

    `outcome` is 0 success, 4 refused or minor failure, 8 serious failure. `purpose` is a v3-ActReason code or
    one of ours. `query` is the search as it may be kept: values that identify a person replaced by the
    caller. `client_address` is an IP address. `recipient` is where a disclosed document went: a URI or a mail
    address. `reason` is the code of a decision about consent, or of a login that failed. `circumstances` are codes of
    what is remarkable (out-of-team, break-glass, reason-given), `declared` the words in which a reason was declared,
    `repeated` of how many failures alike this is the account.
    """

    id: str
    at: datetime
    interaction: Interaction
    outcome: Literal["0", "4", "8"]
    client_id: str
    client_name: str
    role: str | None
    purpose: str | None
    resource_type: str | None
    resource_id: str | None
    version: str | None
    patient_id: str | None
    query: str | None
    request_id: str
    recipient: str | None = None
    user_id: str | None = None
    user_name: str | None = None
    client_address: str | None = None
    reason: str | None = None
    circumstances: tuple[str, ...] = ()
    declared: str | None = None
    repeated: int | None = None


# interaction -> (action of the event, name of the BALP profile)
_INTERACTIONS: Final[Mapping[str, tuple[str, str | None]]] = MappingProxyType(
    {
        "read": ("R", "Read"),
        "vread": ("R", "Read"),
        "history-instance": ("R", None),
        "history-type": ("R", None),
        "history-system": ("R", None),
        "search-type": ("E", "Query"),
        "search-system": ("E", "Query"),
        "create": ("C", "Create"),
        "update": ("U", "Update"),
        "patch": ("U", "Update"),
        "delete": ("D", "Delete"),
        "transaction": ("E", None),
        "batch": ("E", None),
        "operation": ("E", None),
        "capabilities": ("R", None),
        "disclose": ("R", "PrivacyDisclosure.Source"),
        "export": ("R", None),
        "consent-decision": ("E", None),
        "login": ("E", None),
        "logout": ("E", None),
        "declare-access": ("E", None),
    }
)

_APPLICATION: Final = coding(systems.DICOM, "110150", "Application")
LOGIN: Final = coding(systems.DICOM, "110122", "Login")
LOGOUT: Final = coding(systems.DICOM, "110123", "Logout")
OVERRIDE: Final = coding(systems.DICOM, "110127", "Emergency Override Started")
RESTRICTED: Final = coding(systems.DICOM, "110132", "Use of Restricted Function")
_DESTINATION: Final = coding(systems.DICOM, "110152", "Destination Role ID")
_SOURCE: Final = coding(systems.DICOM, "110153", "Source Role ID")
_AUTHORIZER: Final = coding(systems.SECURITY_ROLE, "authserver", "authorization server")
_CUSTODIAN: Final = coding(systems.PROVENANCE_PARTICIPANT, "custodian", "Custodian")
_RECEIVING_USER: Final = coding(systems.PARTICIPATION_TYPE, "IRCP", "information recipient")
_AUTHORING_USER: Final = coding(systems.PARTICIPATION_TYPE, "AUT", "author (originator)")

# action -> types of client, server and user: BALP follows the data on a read, the request otherwise
_AGENTS: Final[Mapping[str, tuple[Element, Element, Element]]] = MappingProxyType(
    {
        "R": (_DESTINATION, _SOURCE, _RECEIVING_USER),
        "E": (_SOURCE, _DESTINATION, _RECEIVING_USER),
        "C": (_SOURCE, _DESTINATION, _AUTHORING_USER),
        "U": (_SOURCE, _DESTINATION, _AUTHORING_USER),
        "D": (_APPLICATION, _CUSTODIAN, _AUTHORING_USER),
    }
)

_ACT_REASONS: Final = frozenset(
    {
        "TREAT",
        "ETREAT",
        "BTG",
        "HPAYMT",
        "HOPERAT",
        "HSYSADMIN",
        "HRESCH",
        "PATRQT",
        "PATADMIN",
        "PUBHLTH",
        "HLEGAL",
    }
)

_NETWORK_NAME, _NETWORK_ADDRESS, _NETWORK_MAIL, _NETWORK_URI = "1", "2", "4", "5"


def _profile(access: Access) -> str | None:
    """The BALP profile that this event meets, None where it meets none."""
    name = _INTERACTIONS[access.interaction][1]
    if name is None or access.outcome != "0":
        return None
    if access.interaction == "disclose":
        return systems.BALP_PROFILE + name if access.patient_id and access.recipient else None
    if access.client_address is None or (access.query if name == "Query" else access.resource_type) is None:
        return None
    return systems.BALP_PROFILE + ("Patient" if access.patient_id else "") + name


def _purpose(access: Access) -> list[Element]:
    if not access.purpose:
        return []
    system = systems.ACT_REASON if access.purpose in _ACT_REASONS else systems.ACCESS_PURPOSE
    return [{**concept(system, access.purpose), **({"text": access.declared} if access.declared else {})}]


def _server(server_name: str) -> Element:
    return reference(type_="Device", identified=identifier(systems.CLIENT, server_name), display=server_name)


def _agent(
    type_: Element, who: Element, network: Element | None, *, requestor: bool = False, **more: object
) -> Element:
    return present(type={"coding": [type_]}, who=who, requestor=requestor, network=network, **more)


def _client(access: Access, type_: Element) -> Element:
    """The program that asked; it is the requestor where no person stands behind it."""
    who = reference(type_="Device", identified=identifier(systems.CLIENT, access.client_id), display=access.client_name)
    address = access.client_address
    network = {"address": address, "type": _NETWORK_ADDRESS} if address else None
    alone = access.user_id is None
    role = [concept(systems.CALLER_ROLE, access.role)] if access.role and alone else None
    return _agent(type_, who, network, requestor=alone, role=role, purposeOfUse=_purpose(access) if alone else None)


def _user(access: Access, type_: Element) -> list[Element]:
    if access.user_id is None:
        return []
    kind = "Patient" if access.role == "travailleur" else "Practitioner"
    who = reference(type_=kind, identified=identifier(systems.USER, access.user_id), display=access.user_name)
    role = [concept(systems.CALLER_ROLE, access.role)] if access.role else None
    return [_agent(type_, who, None, requestor=True, role=role, name=access.user_name, purposeOfUse=_purpose(access))]


def _agents(access: Access, server_name: str) -> list[Element]:
    here = {"address": server_name, "type": _NETWORK_NAME}
    if access.interaction == "disclose":
        recipient = access.recipient or "unknown"
        there = {"address": recipient, "type": _NETWORK_MAIL if "@" in recipient else _NETWORK_URI}
        return [
            _agent(_SOURCE, _server(server_name), here),
            _agent(_DESTINATION, reference(display=recipient), there),
            *([_client(access, _APPLICATION)] if access.user_id is None else _user(access, _AUTHORING_USER)),
        ]
    if access.interaction == "consent-decision":
        to = [_agent(_DESTINATION, reference(display=access.recipient), None)] if access.recipient else []
        authorizer = _agent(_AUTHORIZER, _server(server_name), None)
        return [_client(access, _APPLICATION), authorizer, *_user(access, _RECEIVING_USER), *to]
    client, server, user = _AGENTS[_INTERACTIONS[access.interaction][0]]
    return [_client(access, client), _agent(server, _server(server_name), here), *_user(access, user)]


def _what(access: Access) -> Element:
    """The record touched, with its version where known; only its type where it has no id yet."""
    if access.resource_id is None:
        return reference(type_=access.resource_type, display=access.resource_type)
    version = f"/_history/{access.version}" if access.version else ""
    return reference(f"{access.resource_type}/{access.resource_id}{version}")


def _entities(access: Access) -> list[Element]:
    thing = coding(systems.AUDIT_ENTITY_TYPE, "2", "System Object")
    found: list[Element] = []
    if access.patient_id:
        found.append(
            {
                "what": reference(f"Patient/{access.patient_id}"),
                "type": coding(systems.AUDIT_ENTITY_TYPE, "1", "Person"),
                "role": coding(systems.AUDIT_OBJECT_ROLE, "1", "Patient"),
            }
        )
    if access.repeated is not None:
        said = {"type": "repeated", "valueString": str(access.repeated)}
        found.append(
            {"type": thing, "role": coding(systems.AUDIT_OBJECT_ROLE, "13", "Security Resource"), "detail": [said]}
        )
    elif access.query is not None:
        query = base64.b64encode(access.query.encode()).decode("ascii")
        found.append(
            {
                "type": thing,
                "role": coding(systems.AUDIT_OBJECT_ROLE, "24", "Query"),
                "query": query or "IA==",
            }
        )
    elif access.resource_type:
        disclosed = access.interaction == "disclose"
        role = ("3", "Report") if disclosed else ("4", "Domain Resource")
        found.append({"what": _what(access), "type": thing, "role": coding(systems.AUDIT_OBJECT_ROLE, *role)})
    request = reference(identified=identifier(systems.REQUEST, access.request_id))
    found.append({"what": request, "type": coding(systems.BALP_ENTITY_TYPE, "XrequestId")})
    return found


def _is_export(access: Access) -> bool:
    """A bulk export is kept as the operation that it is; reading its files too."""
    query = access.query or ""
    return access.interaction == "export" or (
        access.interaction == "operation" and query.partition("?")[0].partition(" ")[0].endswith("$export")
    )


_IHE_TRANSACTIONS: Final[Mapping[str, tuple[str, str]]] = MappingProxyType(
    {
        "$match": ("ITI-119", "Patient Demographics Match"),
        "$ihe-pix": ("ITI-83", "Mobile Patient Identifier Cross-reference Query"),
    }
)


def _ihe_transaction(access: Access) -> tuple[str, str] | None:
    """That of PDQm or PIXm which an operation is: their audit profiles want it as a subtype beside that of BALP."""
    if access.interaction != "operation":
        return None
    return _IHE_TRANSACTIONS.get((access.query or "").partition("?")[0])


def _kind(access: Access) -> tuple[Element, list[Element]]:
    """The type of the event and its subtypes."""
    if access.interaction == "disclose":
        return coding(systems.DICOM, "110106", "Export"), [coding(systems.ISO_21089, "disclose")]
    if access.interaction == "consent-decision":
        return coding(systems.DICOM, "110113", "Security Alert"), [coding(systems.BALP_AUTHZ, "AuthZ-Consent")]
    if access.interaction in ("login", "logout"):
        return coding(systems.DICOM, "110114", "User Authentication"), [
            LOGIN if access.interaction == "login" else LOGOUT
        ]
    if access.interaction == "declare-access":
        started = "break-glass" in access.circumstances
        return coding(systems.DICOM, "110113", "Security Alert"), [OVERRIDE if started else RESTRICTED]
    if transaction := _ihe_transaction(access):
        return coding(systems.AUDIT_EVENT_TYPE, "rest", "RESTful Operation"), [
            coding(systems.RESTFUL_INTERACTION, access.interaction),
            coding(systems.IHE_EVENT_TYPE, *transaction),
        ]
    interaction = [] if access.interaction == "export" else [coding(systems.RESTFUL_INTERACTION, access.interaction)]
    if _is_export(access):
        return coding(systems.DICOM, "110106", "Export"), [*interaction, coding(systems.ISO_21089, "extract")]
    return coding(systems.AUDIT_EVENT_TYPE, "rest", "RESTful Operation"), interaction


def to_audit_event(access: Access, server_name: str) -> Element:
    """The AuditEvent of one access to the server that is known under `server_name` (its host name)."""
    profile = _profile(access)
    type_, subtype = _kind(access)
    return present(
        resourceType="AuditEvent",
        id=access.id,
        meta={"profile": [profile]} if profile else None,
        type=type_,
        subtype=[*subtype, *(coding(systems.ACCESS_CIRCUMSTANCE, one) for one in access.circumstances)],
        action=_INTERACTIONS[access.interaction][0],
        recorded=instant(access.at),
        outcome=access.outcome,
        outcomeDesc=access.reason,
        purposeOfEvent=_purpose(access),
        agent=_agents(access, server_name),
        source={
            "site": server_name,
            "observer": _server(server_name),
            "type": [coding(systems.AUDIT_SOURCE_TYPE, "4", "Application Server")],
        },
        entity=_entities(access),
    )
