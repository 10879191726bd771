"""Acknowledgements: MSH, MSA and an ERR for each fault. HL7 v2.6 chapter 2.9 and 2.14.5, ANS 2.1."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final, Literal, cast

from adapters.codecs.hl7v2.failures import CONDITIONS, Code, Fault, MessageRefused, Place, fault
from adapters.codecs.hl7v2.message import (
    Envelope,
    Message,
    Party,
    Repetition,
    Segment,
    envelope,
    header,
    part,
    repetition,
    segment,
)
from adapters.codecs.hl7v2.writing import WRITTEN_CHARSETS

Verdict = Literal["AA", "AE", "AR"]
VERDICTS: Final = {"AA": "AA", "AE": "AE", "AR": "AR", "CA": "AA", "CE": "AE", "CR": "AR"}
"""Table 0008; the commit codes of the enhanced mode mean the same to us."""
REJECTED: Final = {"200", "201", "202", "203"}
DEFAULT_VERSION: Final = "2.6"


@dataclass(frozen=True, slots=True)
class Ack:
    """AA taken, AE wrong, AR not for us. `acknowledged` is MSH-10 of the message meant."""

    envelope: Envelope
    verdict: Verdict
    acknowledged: str
    event: str = ""
    version: str = DEFAULT_VERSION
    faults: tuple[Fault, ...] = ()


def acknowledge(original: Message, *, control_id: str, sent_at: str, faults: Iterable[Fault] = ()) -> Ack:
    """The answer to a message, or to the header of one that was refused: sender and receiver change places.

    AA where no fault is an error, AR where the message is none of those we take (200 to 203), AE otherwise.
    """
    told = tuple(faults)
    wrong = {one.condition for one in told if one.severity == "E"}
    head = original.header
    answer = Envelope(
        control_id,
        Party(head.value(5), head.value(6)),
        Party(head.value(3), head.value(4)),
        sent_at,
        head.value(11) or "P",
        original.charset if original.charset in WRITTEN_CHARSETS else "UNICODE UTF-8",
    )
    verdict: Verdict = "AR" if wrong & REJECTED else "AE" if wrong else "AA"
    return Ack(answer, verdict, original.control_id, original.event, original.version or DEFAULT_VERSION, told)


def ack_message(ack: Ack) -> Message:
    """The message of an acknowledgement."""
    return Message(
        (
            header(("ACK", ack.event, "ACK"), ack.version, ack.envelope),
            segment("MSA", {1: ack.verdict, 2: ack.acknowledged}),
            *error_segments(ack.faults),
        )
    )


def read_ack(message: Message) -> Ack:
    """What it says. MessageRefused: 200 where it is no ACK, 101 without MSA-1 or MSA-2, 103 for an unknown MSA-1."""
    if message.type != "ACK":
        raise MessageRefused(fault("200", Place("MSH", 1, 9, 1, 1), "no acknowledgement"), header=message)
    about = envelope(message)
    msa = message.first("MSA")
    if msa is None:
        raise MessageRefused(fault("100", Place("MSA"), "it must be there"), header=message)
    for number in (1, 2):
        if not msa.value(number):
            raise MessageRefused(fault("101", Place("MSA", 1, number), "it must be there"), header=message)
    verdict = VERDICTS.get(msa.value(1))
    if verdict is None:
        raise MessageRefused(fault("103", Place("MSA", 1, 1), "table 0008"), header=message)
    faults = tuple(read_errors(message))
    return Ack(about, cast(Verdict, verdict), msa.value(2), message.event, message.version or DEFAULT_VERSION, faults)


def error_segments(faults: Iterable[Fault]) -> Iterator[Segment]:
    """An ERR for each fault: ERR-2 place, ERR-3 table 0357, ERR-4 severity, ERR-5 the code of the application."""
    for one in faults:
        known = repetition(one.condition, CONDITIONS.get(one.condition, ""), "messageErrorCondition")
        own = one.application
        yield segment(
            "ERR",
            {
                2: [_location(one.place)] if one.place else "",
                3: [known],
                4: one.severity,
                5: [repetition(own.code, own.text, own.system)] if own else "",
            },
        )


def read_errors(message: Message) -> Iterator[Fault]:
    """The faults that the ERR segments tell; those of before v2.5 (ERR-1) are told as 199 without a place."""
    for err in message.named("ERR"):
        own = Code(err.value(5, 1), err.value(5, 2), err.value(5, 3))
        yield Fault(
            err.value(3, 1) or "199",
            _place(err),
            err.value(4) or "E",
            own if own.code or own.text else None,
        )


def _location(place: Place) -> Repetition:
    numbers = (place.sequence, place.field, place.repetition, place.component, place.subcomponent)
    return repetition(place.segment, *(str(number) if number else "" for number in numbers))


def _place(err: Segment) -> Place | None:
    texts = [part(err.field(2), number) for number in range(1, 7)]
    if not texts[0]:
        return None
    # at most four digits: a longer one is no place, and int() of thousands raises
    numbers = [int(text) if text.isascii() and text.isdigit() and len(text) < 5 else 0 for text in texts[1:]]
    return Place(texts[0], numbers[0] or 1, *numbers[1:])
