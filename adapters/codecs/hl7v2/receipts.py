"""Business receipts, ZAM^Z01 to Z03: what became of a document in the DMP or in MSSanté.

ANS, "Transmission d'un document CDA en HL7 v2" 2.1.
"""

from dataclasses import dataclass
from typing import Final

from adapters.codecs.hl7v2.ack import error_segments, read_errors
from adapters.codecs.hl7v2.failures import Fault, MessageRefused, Place, fault
from adapters.codecs.hl7v2.message import Envelope, Message, envelope, header, repetition, segment

VERSION: Final = "2.6"
SYSTEM: Final = "AckMetierZAM"
YES_NO: Final = "expandedYes-NoIndicator"
SUBJECTS: Final = {
    "Z01": ("ACK_RECEPTION_DMP", "Accusé de réception DMP"),
    "Z02": ("ACK_RECEPTION_MSS", "Accusé de réception MSSanté"),
    "Z03": ("ACK_LECTURE_MSS", "Accusé de lecture"),
}
"""Of each event what the first OBX is about."""
PARTIES: Final = {
    "Z02": ("DESTINATAIRE_MSS", "Destinataire MSSanté"),
    "Z03": ("LECTEUR_MSS", "Lecteur du courriel MSSanté"),
}
"""Whom the second OBX names: the addressee of the mail, or its reader."""


@dataclass(frozen=True, slots=True)
class Receipt:
    """`event` Z01 received by the DMP, Z02 delivered by MSSanté, Z03 read; `positive` false where it was not.

    `original` is MSH-10 of the message that carried the document.
    """

    envelope: Envelope
    event: str
    original: str
    positive: bool
    recorded_at: str = ""
    address: str = ""
    party_id: str = ""
    faults: tuple[Fault, ...] = ()


def receipt_message(receipt: Receipt) -> Message:
    """The message of a receipt."""
    code, text = SUBJECTS[receipt.event]
    told = {
        1: "1",
        2: "CWE",
        3: [repetition(code, text, SYSTEM)],
        4: receipt.original,
        5: [repetition("Y" if receipt.positive else "N", "", YES_NO)],
        11: "F",
    }
    segments = [
        header(("ZAM", receipt.event, "ZAM_Z01"), VERSION, receipt.envelope),
        segment("EVN", {2: receipt.recorded_at}),
        segment("OBX", told),
    ]
    if party := PARTIES.get(receipt.event):
        address = [repetition("", "", "X.400", receipt.address)]
        values = {1: "2", 2: "XTN", 3: [repetition(*party, SYSTEM)], 4: receipt.party_id, 5: address, 11: "F"}
        segments.append(segment("OBX", values))
    return Message((*segments, *error_segments(receipt.faults)))


def read_receipt(message: Message) -> Receipt:
    """What it says. MessageRefused: 200, 201 where it is no receipt, 101 for what is missing, 103 for another value."""
    if message.type != "ZAM":
        raise MessageRefused(fault("200", Place("MSH", 1, 9, 1, 1), "no receipt"), header=message)
    if message.event not in SUBJECTS:
        raise MessageRefused(fault("201", Place("MSH", 1, 9, 1, 2), "Z01, Z02 or Z03"), header=message)
    about = envelope(message)
    observations = {obx.value(3): (obx, number) for obx, number in message.placed() if obx.name == "OBX"}
    obx, number = observations.get(SUBJECTS[message.event][0], (None, 0))
    if obx is None:
        raise MessageRefused(fault("101", Place("OBX", 1, 3, 1, 1), SUBJECTS[message.event][0]), header=message)
    if not obx.value(4):
        raise MessageRefused(fault("101", Place("OBX", number, 4), "the message meant"), header=message)
    if obx.value(5) not in {"Y", "N"}:
        raise MessageRefused(fault("103", Place("OBX", number, 5, 1, 1), "Y or N"), header=message)
    party = observations.get(PARTIES.get(message.event, ("",))[0], (None, 0))[0]
    evn = message.first("EVN")
    return Receipt(
        about,
        message.event,
        obx.value(4),
        obx.value(5) == "Y",
        evn.value(2) if evn else "",
        party.value(5, 4) if party else "",
        party.value(4) if party else "",
        tuple(read_errors(message)),
    )
