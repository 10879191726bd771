"""A message as plain values: segments, fields, repetitions, components, subcomponents, all unescaped.

HL7 v2.6 chapter 2.5. What is empty at an end is not there: `A||` and `A` are the same segment.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final, TypeVar

from adapters.codecs.hl7v2.failures import MessageRefused, Place, fault

Component = tuple[str, ...]
Repetition = tuple[Component, ...]
Field = tuple[Repetition, ...]

T = TypeVar("T")

NULL: Final = '""'  # "delete what you have": chapter 2.5.3.4
SEPARATOR: Final = "|"
ENCODING_CHARACTERS: Final = "^~\\&"


@dataclass(frozen=True, slots=True)
class Segment:
    """One segment; `fields[0]` is field 1. Of MSH, field 1 and 2 are always those that we write."""

    name: str
    fields: tuple[Field, ...] = ()

    def field(self, number: int) -> Field:
        """All repetitions, none where the field is empty."""
        return self.fields[number - 1] if 0 < number <= len(self.fields) else ()

    def value(self, number: int, component: int = 1, subcomponent: int = 1, repetition: int = 1) -> str:
        """One value without the spaces around it; empty where it is not there or is the null value."""
        found = part(self.field(number)[repetition - 1 : repetition], component, subcomponent)
        return "" if found == NULL else found

    def is_null(self, number: int) -> bool:
        """Does the field say "delete what you have"?"""
        return self.field(number) == (((NULL,),),)


@dataclass(frozen=True, slots=True)
class Message:
    """The segments of one message, MSH first."""

    segments: tuple[Segment, ...]

    @property
    def header(self) -> Segment:
        return self.segments[0]

    def named(self, name: str) -> Iterator[Segment]:
        """The segments of that name, in order."""
        return (segment for segment in self.segments if segment.name == name)

    def first(self, name: str) -> Segment | None:
        return next(self.named(name), None)

    def placed(self) -> Iterator[tuple[Segment, int]]:
        """Every segment with its number among those of its name (ERR-2.2)."""
        seen: dict[str, int] = {}
        for segment in self.segments:
            seen[segment.name] = seen.get(segment.name, 0) + 1
            yield segment, seen[segment.name]

    @property
    def type(self) -> str:
        return self.header.value(9, 1)

    @property
    def event(self) -> str:
        return self.header.value(9, 2)

    @property
    def structure(self) -> str:
        return self.header.value(9, 3)

    @property
    def control_id(self) -> str:
        return self.header.value(10)

    @property
    def processing_id(self) -> str:
        return self.header.value(11)

    @property
    def version(self) -> str:
        return self.header.value(12)

    @property
    def charset(self) -> str:
        return self.header.value(18)

    @property
    def profile(self) -> tuple[str, str]:
        """MSH-21: the version of the guide and its name, `("2.1", "CISIS_CDA_HL7_V2")`."""
        return self.header.value(21, 1), self.header.value(21, 2)


@dataclass(frozen=True, slots=True)
class Party:
    """An application and its facility: MSH-3 and 4, or MSH-5 and 6."""

    application: str
    facility: str = ""


@dataclass(frozen=True, slots=True)
class Envelope:
    """What stands in MSH whatever the message is about. `processing_id` is P, T or D."""

    control_id: str
    sender: Party
    receiver: Party
    sent_at: str
    processing_id: str = "P"
    charset: str = "UNICODE UTF-8"
    profile: tuple[str, str] = ("", "")


def part(repetitions: tuple[Repetition, ...], component: int, subcomponent: int = 1) -> str:
    """A value out of the first of these repetitions, without the spaces around it."""
    try:
        return repetitions[0][component - 1][subcomponent - 1].strip()
    except IndexError:
        return ""


def envelope(message: Message) -> Envelope:
    """What MSH says. Without MSH-9 or MSH-10 a message is MessageRefused (101): nobody could acknowledge it."""
    header = message.header
    for number in (9, 10):
        if not header.value(number):
            raise MessageRefused(fault("101", Place("MSH", 1, number), "it must be there"), header=message)
    return Envelope(
        message.control_id,
        Party(header.value(3), header.value(4)),
        Party(header.value(5), header.value(6)),
        header.value(7),
        message.processing_id,
        message.charset,
        message.profile,
    )


def timestamp(moment: datetime) -> str:
    """HL7's DTM to the second, with its offset where it has one."""
    return moment.strftime("%Y%m%d%H%M%S%z")


def repetition(*components: str | Component) -> Repetition:
    """Components, each a text or its subcomponents; what is empty at the end is left out."""
    return trimmed(tuple(trimmed((one,) if isinstance(one, str) else one) for one in components))


def segment(name: str, values: Mapping[int, str | list[Repetition]]) -> Segment:
    """A segment by the numbers of its fields: each a text, or a list of what `repetition` makes."""
    fields: list[Field] = [()] * max(values, default=0)
    for number, value in values.items():
        fields[number - 1] = trimmed((repetition(value),) if isinstance(value, str) else tuple(value))
    return Segment(name, trimmed(tuple(fields)))


def trimmed(values: tuple[T, ...]) -> tuple[T, ...]:
    """Without what is empty at the end."""
    end = len(values)
    while end and not values[end - 1]:
        end -= 1
    return values[:end]


def header(kind: tuple[str, str, str], version: str, about: Envelope) -> Segment:
    """MSH for a message of that type, event and structure."""
    return segment(
        "MSH",
        {
            1: SEPARATOR,
            2: ENCODING_CHARACTERS,
            3: about.sender.application,
            4: about.sender.facility,
            5: about.receiver.application,
            6: about.receiver.facility,
            7: about.sent_at,
            9: [repetition(*kind)],
            10: about.control_id,
            11: about.processing_id,
            12: version,
            17: "FRA",
            18: about.charset,
            21: [repetition(*about.profile)],
        },
    )
