"""JSON whose numbers keep their text: `1.50` stays `1.50`, and 30 digits stay 30 digits.

https://hl7.org/fhir/R4/json.html#primitive - the precision of a decimal must be preserved.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import Any

import orjson

from fhir_server.outcomes import BadSyntax


@dataclass(frozen=True, slots=True)
class Number:
    """A number of JSON as it was written."""

    text: str


def read(text: bytes, what: str) -> Any:
    """JSON as dict, list, str, bool, None and Number, members in their order.

    Raises BadSyntax, which names the text as `what`: not JSON (RFC 8259) in UTF-8, or a member twice in an object.
    """
    try:
        return json.loads(
            text.decode(),
            parse_int=Number,
            parse_float=Number,
            parse_constant=_refuse_constant,
            object_pairs_hook=_object,
        )
    except UnicodeDecodeError:
        raise BadSyntax(f"{what} is not UTF-8") from None
    except json.JSONDecodeError as error:
        raise BadSyntax(f"{what} is not JSON: line {error.lineno}, column {error.colno}") from None
    except RecursionError:
        raise BadSyntax(f"{what} is nested too deep") from None
    except _NotJson as error:
        raise BadSyntax(f"{what} is not JSON: {error}") from None


def write(value: Any) -> bytes:
    """Compact JSON of what `read` gives; plain int and float are written as well.

    Raises BadSyntax for what UTF-8 JSON cannot say (half of a surrogate pair) and for more than 250 levels.
    """
    try:
        return orjson.dumps(value, default=_fragment, option=orjson.OPT_PASSTHROUGH_DATACLASS)
    except orjson.JSONEncodeError:
        raise BadSyntax("the JSON is nested too deep, or holds half of a surrogate pair") from None


def same(one: Any, other: Any) -> bool:
    """Equality as RFC 6902 section 4.6 has it: numbers by value, objects whatever the order of their members."""
    if isinstance(one, Number) and isinstance(other, Number):
        return one.text == other.text or _equal(one.text, other.text)
    if type(one) is not type(other):
        return False
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(value, other[name]) for name, value in one.items())
    if isinstance(one, list):
        return len(one) == len(other) and all(map(same, one, other))
    return one == other


class _NotJson(Exception):
    """Read by Python's parser, and yet no JSON."""


def _object(members: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    """RFC 6902 A.13 shows why a member twice is refused: readers differ on which one counts."""
    result = dict(members)
    if len(result) < len(members):
        raise _NotJson("a member occurs twice in an object")
    return result


def _refuse_constant(name: str) -> None:
    raise _NotJson(f"{name} is not a number of JSON")


def _fragment(value: Any) -> orjson.Fragment:
    if isinstance(value, Number):
        return orjson.Fragment(value.text)
    raise TypeError


def _equal(one: str, other: str) -> bool:
    try:
        return Decimal(one) == Decimal(other)
    except InvalidOperation:  # an exponent of more than 18 digits
        return False
