"""Bytes -> Message, tolerant: CR, LF or CRLF, spaces, any delimiters, UTF-8 or 8859/15 by MSH-18.

HL7 v2.6 chapter 2. Framing (MLLP) is taken off before. The cutting is python-hl7's; what it would stumble over is
refused before it sees it, so that nothing but MessageRefused leaves this module.
"""

import re
from dataclasses import dataclass
from typing import Any, Final

import hl7

from adapters.codecs.hl7v2.escapes import Delimiters
from adapters.codecs.hl7v2.failures import MessageRefused, Place, fault
from adapters.codecs.hl7v2.message import ENCODING_CHARACTERS, SEPARATOR, Component, Field, Message, Segment, trimmed

CHARSETS: Final = {
    "": "utf-8",
    "ASCII": "utf-8",
    "UNICODE": "utf-8",
    "UNICODE UTF-8": "utf-8",
    "8859/1": "iso8859-1",
    "8859/15": "iso8859-15",
}
"""MSH-18 (table 0211) -> Python's name. Who says nothing or ASCII may send UTF-8: it is ASCII for ASCII."""

HEADER_PARTS: Final = 2_000
_BLANKS: Final = b" \t\r\n"
_NAME: Final = re.compile(r"[A-Z][A-Z0-9]{2}")
_HEADERS: Final = {"MSH", "BHS", "FHS"}
_END: Final = "\rZZZ"  # the library strips the ends of what it is given: it shall strip these


@dataclass(frozen=True, slots=True)
class Limits:
    """How much is read: bytes of the message, and parts that it may fall into (each costs objects and time)."""

    size: int = 64 * 1024 * 1024
    parts: int = 20_000


DEFAULT_LIMITS: Final = Limits()


def parse(content: bytes, limits: Limits = DEFAULT_LIMITS) -> Message:
    """The message of these bytes, every value unescaped.

    Raises MessageRefused, with the header where that was readable: 100 for what is no segment, 102 for bytes that are
    not in the character set announced, 103 for a character set that we do not read, 199 for more than `limits`.
    """
    if len(content) > limits.size:
        raise MessageRefused(fault("199", None, f"larger than {limits.size} bytes"))
    content = content.removeprefix(b"\xef\xbb\xbf").lstrip(_BLANKS)
    encoding = _encoding(content)
    try:
        text = content.decode(encoding)
    except UnicodeDecodeError:
        raise MessageRefused(
            fault("102", Place("MSH", 1, 18), "the bytes are not in the character set announced"),
            header=_header_alone(content),
        ) from None
    delimiters = _delimiters(text)
    lines = _lines(text, delimiters)
    header = _header(lines[0], delimiters, encoding)
    if sum(text.count(mark) for mark in (*_marks(delimiters), "\r", "\n")) > limits.parts:
        raise MessageRefused(fault("199", None, f"more than {limits.parts} parts"), header=header)
    _check_lines(lines, delimiters, header)
    return _cut(lines, delimiters, encoding)


def _encoding(content: bytes) -> str:
    """Python's name of the character set: read from the bytes, for the header itself may hold others than ASCII."""
    if content[:3] != b"MSH" or len(content) < 8 or chr(content[3]).isalnum() or not 0x20 < content[3] < 0x7F:
        raise MessageRefused(fault("100", Place("MSH"), "a message begins with MSH and its separator"))
    fields = _first_line(content).split(content[3:4], 21)
    name = re.split(rb"[~^]", fields[17])[0] if len(fields) > 17 else b""
    try:
        return CHARSETS[" ".join(name.decode("ascii").upper().split())]
    except (UnicodeDecodeError, KeyError):
        raise MessageRefused(
            fault("103", Place("MSH", 1, 18), "read are UNICODE UTF-8, 8859/15, 8859/1 and ASCII"),
            header=_header_alone(content),
        ) from None


def _first_line(content: bytes) -> bytes:
    return re.split(rb"[\r\n]", content, maxsplit=1)[0]


def _header_alone(content: bytes) -> Message | None:
    """The header of what cannot be decoded, for the acknowledgement: names in it may come out wrong, ids do not."""
    text = _first_line(content).decode("iso8859-15")
    try:
        delimiters = _delimiters(text)
        return _header(text, delimiters, "iso8859-15")
    except MessageRefused:
        return None


def _header(line: str, delimiters: Delimiters, encoding: str) -> Message:
    if sum(line.count(mark) for mark in _marks(delimiters)) > HEADER_PARTS:
        raise MessageRefused(fault("199", Place("MSH"), f"a header of more than {HEADER_PARTS} parts"))
    return _cut([line], delimiters, encoding)


def _delimiters(text: str) -> Delimiters:
    """What MSH-1 and MSH-2 declare; they need not be the usual ones, but must differ."""
    field = text[3]
    end = text.find(field, 4, 11)
    marks = text[4:end] if end > 0 else ""
    used = field + marks
    ill = len(set(used)) != len(used) or any(
        mark.isalnum() or mark.isspace() or not mark.isprintable() for mark in used
    )
    if not 1 <= len(marks) <= 5 or ill:
        raise MessageRefused(fault("102", Place("MSH", 1, 2), "one to five different signs"))
    # a sender that declares fewer than four uses HL7's own for the rest
    component, repeat, escape, subcomponent = (marks[:4] + ENCODING_CHARACTERS[len(marks[:4]) :])[:4]
    if len({field, component, repeat, escape, subcomponent}) != 5:
        raise MessageRefused(fault("102", Place("MSH", 1, 2), "a sign that is declared is another's default"))
    return Delimiters(field, component, repeat, escape, subcomponent)


def _lines(text: str, delimiters: Delimiters) -> list[str]:
    """One segment each. Where CR ends segments, LF ends one only before another segment: base64 is wrapped with it."""
    text = text.replace("\r\n", "\r")
    if "\r" not in text:
        text = text.replace("\n", "\r")
    elif "\n" in text:
        text = re.sub(rf"\n(?={_NAME.pattern}{re.escape(delimiters.field)})", "\r", text)
    return [line for piece in text.split("\r") if (line := piece.lstrip(" \t\n").rstrip("\n")).strip()]


def _check_lines(lines: list[str], delimiters: Delimiters, header: Message) -> None:
    for number, line in enumerate(lines):
        name = line.split(delimiters.field, 1)[0].rstrip() if len(line) > 3 else line.rstrip()
        if not _NAME.fullmatch(name) or (number and name in _HEADERS):
            raise MessageRefused(fault("100", Place("MSH"), f"line {number + 1} is no segment"), header=header)


def _marks(delimiters: Delimiters) -> tuple[str, ...]:
    return (delimiters.field, delimiters.component, delimiters.repetition, delimiters.subcomponent)


def _cut(lines: list[str], delimiters: Delimiters, encoding: str) -> Message:
    """By the library, then made plain. The library reads MSH-2 by itself: it is handed all four signs."""
    declared = delimiters.component + delimiters.repetition + delimiters.escape + delimiters.subcomponent
    rest = lines[0].split(delimiters.field, 2)[2:]
    first = delimiters.field.join(["MSH", declared, *rest]) + delimiters.field * (not rest)
    tree: Any = hl7.parse("\r".join([first, *lines[1:]]) + _END)
    segments = tuple(_segment(node, delimiters, encoding) for node in tree[:-1])
    usual: tuple[Field, ...] = ((((SEPARATOR,),),), (((ENCODING_CHARACTERS,),),))
    return Message((Segment("MSH", trimmed(usual + segments[0].fields[2:])), *segments[1:]))


def _segment(node: Any, delimiters: Delimiters, encoding: str) -> Segment:
    """A segment of the library as plain values; every level of it is a list of texts or of the next level."""

    def field(part: Any) -> Field:
        return () if len(part) == 1 and not part[0] else trimmed(tuple(repetition(one) for one in part))

    def repetition(part: Any) -> tuple[Component, ...]:
        return trimmed(tuple(component(one) for one in ([part] if isinstance(part, str) else part)))

    def component(part: Any) -> Component:
        return trimmed(tuple(delimiters.unescape(one, encoding) for one in ([part] if isinstance(part, str) else part)))

    if len(node) == 1 and isinstance(node[0], str):
        return Segment(node[0].strip())
    return Segment(str(node[0]).strip(), trimmed(tuple(field(one) for one in node[1:])))
