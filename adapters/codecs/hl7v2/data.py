"""Encapsulated data, type ED (HL7 v2.6 chapter 2.A.24): a document or a text as base64 in component 5."""

import pybase64

from adapters.codecs.hl7v2.failures import MessageRefused, Place, fault
from adapters.codecs.hl7v2.message import Repetition, Segment, repetition

VALUE = 5  # OBX-5


def decoded(segment: Segment, number: int) -> bytes:
    """The bytes of OBX-5. MessageRefused by place: 103 another encoding, 102 no base64, 101 nothing, 198 several."""
    if segment.value(VALUE, 4).lower() != "base64":
        raise MessageRefused(fault("103", Place("OBX", number, VALUE, 1, 4), "the only encoding is Base64"))
    place = Place("OBX", number, VALUE, 1, 5)
    text = "".join(segment.value(VALUE, 5).split())
    if not text:
        raise MessageRefused(fault("101", place, "no data"))
    if len(segment.field(VALUE)) > 1:
        raise MessageRefused(fault("198", Place("OBX", number, VALUE, 2), "one document for each OBX"))
    try:
        return pybase64.b64decode(text, validate=True)
    except ValueError:
        raise MessageRefused(fault("102", place, "no base64")) from None


def encoded(content: bytes, kind: str, subtype: str = "") -> Repetition:
    """OBX-5 of these bytes; `kind` is TEXT or text, as the guide has it for the message."""
    return repetition("", kind, subtype, "Base64", pybase64.b64encode(content).decode("ascii"))
