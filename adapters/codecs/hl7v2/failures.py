"""What is wrong with a message, where, and by which code: one ERR segment each.

HL7 v2.6 chapter 2.14.5 (ERR), table 0357; the application codes are those of the ANS, "Transmission d'un document CDA".
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from adapters.codecs.hl7v2.message import Message

CONDITIONS: Final = {
    "0": "Message accepted",
    "100": "Segment sequence error",
    "101": "Required field missing",
    "102": "Data type error",
    "103": "Table value not found",
    "198": "Non-conformant cardinality",
    "199": "Other HL7 error",
    "200": "Unsupported message type",
    "201": "Unsupported event code",
    "202": "Unsupported processing id",
    "203": "Unsupported version id",
    "207": "Application error",
}
"""Table 0357, ERR-3."""

APPLICATION_ERRORS: Final = {
    "900": "Version d'interface non supportée",
    "901": "Auteur non autorisé",
    "902": "Patient inconnu",
    "903": "INS absent",
    "904": "INS différent",
    "905": "INS incomplet",
    "906": "Autre erreur",
}
"""ERR-5, where ERR-3 is 207."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where in a message (ERR-2, data type ERL); counted from 1, 0 is "not told"."""

    segment: str
    sequence: int = 1
    field: int = 0
    repetition: int = 0
    component: int = 0
    subcomponent: int = 0

    def __str__(self) -> str:
        parts = [self.field, self.repetition, self.component, self.subcomponent]
        while parts and not parts[-1]:
            parts.pop()
        return (
            f"{self.segment}[{self.sequence}]"
            + "".join(f"-{part}" for part in parts[:1])
            + ("" if len(parts) < 2 else f"({parts[1]})" + "".join(f".{part}" for part in parts[2:]))
        )


@dataclass(frozen=True, slots=True)
class Code:
    """A coded value (CE, CWE): code, text, system."""

    code: str
    text: str = ""
    system: str = ""


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that is wrong. `condition` is of table 0357, `application` says more where that is 207.

    `detail` is for our log and our tests; it never quotes the message, and is not sent.
    """

    condition: str
    place: Place | None = None
    severity: str = "E"
    application: Code | None = None
    detail: str = ""


class MessageRefused(Exception):
    """A message that is not taken, or cannot be written: its faults, and its header where that much was readable."""

    def __init__(self, *faults: Fault, header: "Message | None" = None) -> None:
        super().__init__("; ".join(f"{fault.condition} {fault.place or ''} {fault.detail}" for fault in faults))
        self.faults = faults
        self.header = header


def fault(condition: str, place: Place | None, detail: str, severity: str = "E") -> Fault:
    """A fault of syntax, by its code of table 0357."""
    return Fault(condition, place, severity, None, detail)


def application_fault(code: str, place: Place | None, detail: str) -> Fault:
    """A fault of meaning: 207, and one of 900 to 906."""
    return Fault("207", place, "E", Code(code, APPLICATION_ERRORS[code]), detail)
