"""The formats of R4's primitive types, each a function from a JSON value to what is wrong with it.

https://hl7.org/fhir/R4/datatypes.html#primitive
"""

import re
from collections.abc import Callable, Mapping
from decimal import Decimal
from math import isfinite
from typing import Any, Final, NamedTuple

import pybase64

from fhir_server.r4 import dates, narrative
from fhir_server.r4.definitions import ValueSet, codes_of


class Fault(NamedTuple):
    """Why a value is refused: an R4 issue code and a sentence without the value itself."""

    code: str
    text: str


Check = Callable[[Any], Fault | None]
Quick = Callable[[str], object]

LONGEST_STRING: Final = 1_048_576  # https://hl7.org/fhir/R4/datatypes.html#string
LEAST_INTEGER: Final = -(2**31)
GREATEST_INTEGER: Final = 2**31 - 1

NOT_TEXT: Final = Fault("structure", "must be a JSON string")
NOT_NUMBER: Final = Fault("structure", "must be a JSON number")
NOT_INTEGER: Final = Fault("structure", "must be a JSON number without fraction or exponent")
NOT_BOOLEAN: Final = Fault("structure", "must be true or false")
NULL: Final = Fault("structure", "null stands only in an array beside an extension")
EMPTY: Final = Fault("value", "must not be empty")
TOO_LONG: Final = Fault("too-long", "must not be longer than 1,048,576 characters")
CONTROL: Final = Fault("value", "must not hold control characters")

_CONTROL: Final = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f]")
_CODE: Final = re.compile(r"[^\s\x00-\x1f]+(?:[ \t\r\n][^\s\x00-\x1f]+)*")
_ID: Final = re.compile(r"[A-Za-z0-9.-]{1,64}")
_URI: Final = re.compile(r"[^\s\x00-\x1f]+")
_OID: Final = re.compile(r"urn:oid:[0-2](?:\.(?:0|[1-9][0-9]*))+")
_UUID: Final = re.compile(r"urn:uuid:[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
_CURRENCY: Final = re.compile(r"[A-Z]{3}")  # ISO 4217
_TOKEN: Final = r"[A-Za-z0-9!#$&^_.+-]+"
_MIME: Final = re.compile(rf'{_TOKEN}/{_TOKEN}(?:\s*;\s*{_TOKEN}=(?:{_TOKEN}|"[^"]*"))*\s*;?')  # RFC 6838, 2045
_FORMAT: Final = re.compile(
    rf"{_TOKEN}|{_MIME.pattern}"
)  # `json` for short, https://hl7.org/fhir/R4/http.html#mime-type


def check_of(type_name: str, value_set: str | None = None, path: str = "") -> tuple[Check, Quick]:
    """The check of a primitive type; of a `code` with a required binding, that of its value set.

    With it comes a test in C which, where it says yes to a text of 1 to `LONGEST_STRING` characters, spares the check.
    `path` is the type that has the element: statements of capability may list formats by their short names.
    """
    if value_set is None:
        return _CHECKS[type_name]
    if value_set == "currencies":
        return _matching(_CURRENCY, "must be a currency code of ISO 4217", "code-invalid")
    if value_set == "mimetypes":
        lists_formats = path.partition(".")[0] in {"CapabilityStatement", "TestScript"}
        return _matching(_FORMAT if lists_formats else _MIME, "must be a media type (BCP 13)", "code-invalid")
    return _member(value_set, codes_of(value_set))


def check_string(value: Any) -> Fault | None:
    """`string` and `markdown`: not empty, no control characters but tab and line ends, one megabyte at most."""
    if type(value) is not str:
        return _not_text(value)
    if value.isprintable():
        if not value:
            return EMPTY
    elif _CONTROL.search(value):
        return CONTROL
    return TOO_LONG if len(value) > LONGEST_STRING else None


def check_boolean(value: Any) -> Fault | None:
    """`boolean`."""
    return None if value is True or value is False else NULL if value is None else NOT_BOOLEAN


def check_decimal(value: Any) -> Fault | None:
    """`decimal`: any finite JSON number."""
    kind = type(value)
    if kind is float or kind is int or kind is Decimal:
        return None if isfinite(value) else NOT_NUMBER
    return NULL if value is None else NOT_NUMBER


def check_base64(value: Any) -> Fault | None:
    """`base64Binary`: RFC 4648, white space allowed."""
    if type(value) is not str:
        return _not_text(value)
    if not value:
        return EMPTY
    try:
        pybase64.b64decode(value, validate=True)
    except ValueError:
        pass
    else:
        return None
    try:
        pybase64.b64decode("".join(value.split()), validate=True)
    except ValueError:
        return Fault("value", "must be base64 (RFC 4648)")
    return None


def check_xhtml(value: Any) -> Fault | None:
    """`xhtml`: one `div` of basic XHTML, see `narrative.py`."""
    if type(value) is not str:
        return _not_text(value)
    wrong = narrative.what_is_wrong(value)
    return Fault("value", wrong) if wrong else None


def _not_text(value: Any) -> Fault:
    return NULL if value is None else NOT_TEXT


def _matching(pattern: re.Pattern[str], text: str, code: str = "value") -> tuple[Check, Quick]:
    fullmatch = pattern.fullmatch
    fault = Fault(code, text)

    def check(value: Any) -> Fault | None:
        if type(value) is not str:
            return _not_text(value)
        return None if fullmatch(value) else fault if value else EMPTY

    return check, fullmatch


def _dated(holds: Callable[[str], bool], quick: Quick, text: str) -> tuple[Check, Quick]:
    fault = Fault("value", text)

    def check(value: Any) -> Fault | None:
        if type(value) is not str:
            return _not_text(value)
        return None if holds(value) else fault if value else EMPTY

    return check, quick


def _within(least: int, greatest: int) -> tuple[Check, Quick]:
    fault = Fault("value", f"must lie between {least} and {greatest}")

    def check(value: Any) -> Fault | None:
        if type(value) is not int:
            return NULL if value is None else NOT_INTEGER
        return None if least <= value <= greatest else fault

    return check, _never


def _member(name: str, value_set: ValueSet) -> tuple[Check, Quick]:
    codes = value_set.codes
    fault = Fault("code-invalid", f"must be a code of the value set {name}")

    def check(value: Any) -> Fault | None:
        if type(value) is not str:
            return _not_text(value)
        return None if value in codes else fault

    return check, codes.__contains__


def _never(_text: str) -> bool:
    return False


_URI_CHECK: Final = _matching(_URI, "must be a URI, without white space")
_DATE: Final = "must be a date of the calendar: YYYY, YYYY-MM or YYYY-MM-DD"

_CHECKS: Final[Mapping[str, tuple[Check, Quick]]] = {
    "base64Binary": (check_base64, _never),
    "boolean": (check_boolean, _never),
    "canonical": _URI_CHECK,
    "code": _matching(_CODE, "must be a code: no white space around it, none doubled"),
    "date": _dated(dates.is_date, dates.is_date_before_29th, _DATE),
    "dateTime": _dated(
        dates.is_date_time, dates.is_date_time_before_29th, _DATE + ", or with Thh:mm:ss and a time zone"
    ),
    "decimal": (check_decimal, _never),
    "id": _matching(_ID, "must be 1 to 64 of the characters A-Z a-z 0-9 - ."),
    "instant": _dated(dates.is_instant, dates.is_instant_before_29th, "must be YYYY-MM-DDThh:mm:ss with a time zone"),
    "integer": _within(LEAST_INTEGER, GREATEST_INTEGER),
    "markdown": (check_string, str.isprintable),
    "oid": _matching(_OID, "must be urn:oid: and an object identifier"),
    "positiveInt": _within(1, GREATEST_INTEGER),
    "string": (check_string, str.isprintable),
    "time": _dated(dates.is_time, dates.is_time, "must be hh:mm:ss"),
    "unsignedInt": _within(0, GREATEST_INTEGER),
    "uri": _URI_CHECK,
    "url": _URI_CHECK,
    "uuid": _matching(_UUID, "must be urn:uuid: and a UUID in lower case"),
    "xhtml": (check_xhtml, _never),
}
