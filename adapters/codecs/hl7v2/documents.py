"""A CDA document on its way by HL7 v2, as plain values: MDM^T02, T10, T04 (v2.6) and ORU^R01 (v2.5).

ANS, "Transmission d'un document CDA en HL7 v2" 2.1. What a message says beyond this stays in its segments.
"""

from dataclasses import dataclass
from enum import Enum
from typing import Final

from adapters.codecs.hl7v2.failures import Code, Fault
from adapters.codecs.hl7v2.message import Envelope

GUIDE: Final = "CISIS_CDA_HL7_V2"
LPS_GUIDE: Final = "CISIS_CDA_HL7_LPS"
WRITTEN_PROFILE: Final = ("2.1", GUIDE)
READ_PROFILES: Final = {("2.0", GUIDE), ("2.1", GUIDE), ("1.0", LPS_GUIDE), ("1.1", LPS_GUIDE)}
"""MSH-21. The LPS guide (from a platform to the software of a doctor) is read, not written."""
VERSIONS: Final = {"MDM": "2.6", "ORU": "2.5"}
STRUCTURES: Final = {"MDM": "MDM_T02", "ORU": "ORU_R01"}


class Action(Enum):
    """What shall be done with the document: ORC-1, OBX-11 and the event of MDM say the same."""

    FIRST = ("NW", "F", "T02")
    REPLACEMENT = ("RO", "C", "T10")
    DELETION = ("CA", "D", "T04")

    @property
    def order(self) -> str:
        return self.value[0]

    @property
    def result(self) -> str:
        return self.value[1]

    @property
    def event(self) -> str:
        return self.value[2]


FLAGS: Final = {
    "MASQUE_PS": "Masqué aux professionnels de Santé",
    "INVISIBLE_PATIENT": "Document Non Visible par le patient",
    "INVISIBLE_REP_LEGAUX": "Non visible par les représentants Légaux du patient",
    "CONNEXION_SECRETE": "Connexion Secrete",
    "MODIF_CONF_CODE": "Modification Confidentiality Code",
    "DESTDMP": "Destinataire DMP",
    "DESTMSSANTEPS": "Destinataire (Professionnel de Santé, organisation ou BAL applicative)",
    "DESTMSSANTEPAT": "Destinataire Patient",
    "ACK_RECEPTION": "Accusé de réception",
    "ACK_LECTURE_MSS": "Accusé de lecture",
}
"""The metadata that are yes or no, in the order in which they are written."""
REQUIRED_FLAGS: Final = {
    GUIDE: tuple(FLAGS),
    LPS_GUIDE: ("MASQUE_PS", "INVISIBLE_PATIENT", "INVISIBLE_REP_LEGAUX", "MODIF_CONF_CODE"),
}
FLAG_ALIASES: Final = {"ACK_LECTURE": "ACK_LECTURE_MSS"}  # LPS 1.0
MAILS: Final = {"CORPSMAIL_PS": "Corps du mail pour un PS", "CORPSMAIL_PATIENT": "Corps du mail pour un patient"}
"""The metadata that are texts, written last."""


@dataclass(frozen=True, slots=True)
class Authority:
    """Who gave an identifier (HD): its name, its OID where it has one."""

    name: str = ""
    oid: str = ""


@dataclass(frozen=True, slots=True)
class Identifier:
    """CX: value, who gave it, of which type (INS, PI, AN, VN), since when."""

    value: str
    authority: Authority = Authority()
    type: str = ""
    since: str = ""


@dataclass(frozen=True, slots=True)
class Name:
    """XPN: `type` L is the name of birth, D the one in use."""

    family: str
    given: str = ""
    second: str = ""
    type: str = ""


@dataclass(frozen=True, slots=True)
class Patient:
    """PID. `statuses` is PID-32: VALI is a qualified identity."""

    identifiers: tuple[Identifier, ...]
    names: tuple[Name, ...] = ()
    birth_date: str = ""
    gender: str = ""
    account: Identifier | None = None
    statuses: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Visit:
    """PV1: class (PV1-2) and number (PV1-19)."""

    patient_class: str = ""
    number: Identifier | None = None


@dataclass(frozen=True, slots=True)
class EntityId:
    """EI: an id with its namespace or the OID of its root; an OID may stand alone in `value`."""

    value: str
    namespace: str = ""
    root: str = ""


@dataclass(frozen=True, slots=True)
class Person:
    """XCN of PRT-5; `type` is RPPS, IDNPS or INS."""

    id: str
    family: str = ""
    given: str = ""
    authority: Authority = Authority()
    type: str = ""


@dataclass(frozen=True, slots=True)
class Organisation:
    """XON of PRT-8; `type` is FINEJ, FINEG, IDNST, UF or SVR."""

    name: str = ""
    id: str = ""
    authority: Authority = Authority()
    type: str = ""


@dataclass(frozen=True, slots=True)
class Participation:
    """PRT: `role` SB sent by, RCT copied to, REPLY answers to; `address` is the mailbox."""

    role: str
    person: Person | None = None
    organisation: Organisation | None = None
    device: str = ""
    address: str = ""


@dataclass(frozen=True, slots=True)
class CarriedDocument:
    """OBX with a document, and the PRT that follow it."""

    type: Code
    content: bytes
    participations: tuple[Participation, ...] = ()


@dataclass(frozen=True, slots=True)
class CourrielMss:
    """The mail that came with the document, LPS guide only: OBX-3.1, OBX-3.2, OBX-5."""

    message_id: str
    subject: str
    body: bytes


@dataclass(frozen=True, slots=True)
class DocumentEntry:
    """TXA of an MDM: activity time (TXA-4), ids of the document and of its parent, completion (TXA-17), who signed."""

    id: EntityId
    parent: EntityId | None = None
    at: str = ""
    completion: str = "AU"
    authenticator: str = ""


@dataclass(frozen=True, slots=True)
class DocumentMessage:
    """`entry` is there in an MDM, not in an ORU, which may carry two documents (CDA level 1 and level 3).

    `flags` holds what is said of FLAGS, `mails` of MAILS. `warnings` are for the answer: the message is good with them.
    """

    envelope: Envelope
    action: Action
    patient: Patient
    documents: tuple[CarriedDocument, ...]
    flags: dict[str, bool]
    entry: DocumentEntry | None = None
    recorded_at: str = ""
    visit: Visit = Visit()
    placer_order: EntityId | None = None
    filler_order: EntityId | None = None
    mails: dict[str, str] | None = None
    end_of_destinations: bool = False
    courriel: CourrielMss | None = None
    warnings: tuple[Fault, ...] = ()
