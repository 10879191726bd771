"""Message -> bytes, strict: CR, the usual delimiters, everything else escaped, in the character set of MSH-18.

HL7 v2.6 chapter 2.
"""

from typing import Final

from adapters.codecs.hl7v2.escapes import Delimiters
from adapters.codecs.hl7v2.failures import MessageRefused, Place, fault
from adapters.codecs.hl7v2.message import ENCODING_CHARACTERS, SEPARATOR, Field, Message, Segment

WRITTEN_CHARSETS: Final = {"UNICODE UTF-8": "utf-8", "8859/15": "iso8859-15"}
_USUAL: Final = Delimiters()


def write(message: Message) -> bytes:
    """The bytes, every segment ended by CR, without framing.

    Raises MessageRefused: 103 where MSH-18 is neither `UNICODE UTF-8` nor `8859/15`, 102 with the field where a
    character is not in that set, 100 where it does not begin with its one MSH.
    """
    names = [segment.name for segment in message.segments]
    if names[:1] != ["MSH"] or "MSH" in names[1:]:
        raise MessageRefused(fault("100", Place("MSH"), "a message has one MSH, and begins with it"))
    encoding = WRITTEN_CHARSETS.get(message.charset)
    if encoding is None:
        raise MessageRefused(fault("103", Place("MSH", 1, 18), "written are UNICODE UTF-8 and 8859/15"))
    return b"".join(_segment(segment, number, encoding) for segment, number in message.placed())


def _segment(segment: Segment, number: int, encoding: str) -> bytes:
    fields = [_field(field) for field in segment.fields]
    if segment.name == "MSH":
        fields[:2] = [ENCODING_CHARACTERS]
    try:
        return (SEPARATOR.join([segment.name, *fields]) + "\r").encode(encoding)
    except UnicodeEncodeError:
        place = Place(segment.name, number, _first_outside(segment, encoding))
        raise MessageRefused(fault("102", place, "a character is not in the character set of MSH-18")) from None


def _field(field: Field) -> str:
    return _USUAL.repetition.join(
        _USUAL.component.join(_USUAL.subcomponent.join(map(_USUAL.escaped, one)) for one in repetition)
        for repetition in field
    )


def _first_outside(segment: Segment, encoding: str) -> int:
    for number, field in enumerate(segment.fields, start=1):
        try:
            _field(field).encode(encoding)
        except UnicodeEncodeError:
            return number
    return 0
