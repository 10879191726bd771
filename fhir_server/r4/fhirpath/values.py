"""What FHIRPath compares: items, their plain values, equality and order.

http://hl7.org/fhirpath/N1/#equality and http://hl7.org/fhirpath/N1/#comparison
"""

import operator
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import Any, Final

from fhir_server.r4 import dates
from fhir_server.r4.definitions import base_of
from fhir_server.r4.fhirpath.nodes import Json, Node

NUMBERS: Final = frozenset({"decimal", "integer", "positiveInt", "unsignedInt"})
MOMENTS: Final = frozenset({"date", "dateTime", "instant", "time"})
QUANTITIES: Final = frozenset({"Quantity", "Age", "Count", "Distance", "Duration"})
ORDERS: Final[Mapping[str, Callable[[Any, Any], bool]]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}

SYSTEM_TYPES: Final[Mapping[str, frozenset[str]]] = {
    "Boolean": frozenset({"boolean"}),
    "String": frozenset({"string", "uri"}),
    "Integer": frozenset({"integer"}),
    "Decimal": frozenset({"decimal"}),
    "Date": frozenset({"date"}),
    "DateTime": frozenset({"dateTime", "instant"}),
    "Time": frozenset({"time"}),
}
"""Types of FHIRPath and the types of R4 that are like them: https://hl7.org/fhir/R4/fhirpath.html#types"""

_DERIVED: Final[Mapping[str, str]] = {
    "canonical": "uri", "code": "string", "id": "string", "markdown": "string", "oid": "uri", "positiveInt": "integer",
    "unsignedInt": "integer", "url": "uri", "uuid": "uri",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Moment:
    """A date, a time or both, as written."""

    text: str


Item = Node | str | bool | Decimal | Moment
Items = list[Item]


def plain(item: Item) -> str | bool | Decimal | Moment | Json | None:
    """The value of an item: of an element that is no primitive its JSON, None where there is none."""
    if not isinstance(item, Node):
        return item
    value = item.value
    if item.type in NUMBERS and not isinstance(value, bool | None):
        return _decimal(getattr(value, "text", value))
    if item.type in MOMENTS and isinstance(value, str):
        return Moment(value)
    return value


def is_a(item: Item, type_name: str) -> bool:
    """Is it of this type, or of one that derives from it?"""
    system = type_name.removeprefix("System.")
    if isinstance(item, Node):
        own: str | None = item.type
        while own:
            if own == type_name or own in SYSTEM_TYPES.get(system, ()):
                return True
            own = _DERIVED.get(own) or base_of(own)
        return False
    match item:
        case bool():
            return system in {"Boolean", "boolean"}
        case str():
            return system in {"String", "string"}
        case Decimal():
            return system in {"Decimal", "decimal"} or (system in {"Integer", "integer"} and item == item.to_integral())
        case Moment():
            return system in {"Date", "DateTime", "Time", "date", "dateTime", "time"}


def same(one: Item, other: Item) -> bool | None:
    """`=` of two items; None where the precision of two dates does not tell."""
    left, right = plain(one), plain(other)
    if isinstance(left, Moment) and isinstance(right, Moment):
        order = compared(left, right)
        return None if order is None else order == 0
    return key_of(one) == key_of(other)


def key_of(item: Item) -> Hashable:
    """Equal for what is equal, so that sets can tell; dates by their text."""
    return _key(plain(item))


def _key(value: Any) -> Hashable:
    match value:
        case dict():
            return frozenset((name, _key(one)) for name, one in value.items() if name != "id")
        case list():
            return tuple(map(_key, value))
        case bool():
            return ("boolean", value)
        case int() | float():
            return _decimal(value)
        case Moment(text):
            return text
        case _:
            text = getattr(value, "text", None)  # a number that kept its text
            return value if text is None else _decimal(text)


def weight(item: Item) -> int:
    """What it costs to compare an item: the JSON values that it is made of, and one more for each 100 characters."""
    found, left = 0, [item.value if isinstance(item, Node) else item]
    while left:
        found += 1
        match left.pop():
            case dict() as value:
                left.extend(value.values())
            case list() as value:
                left.extend(value)
            case str() as value:
                found += len(value) // 100
            case _:
                pass
    return found


def ordered(sign: str, one: Item, other: Item) -> bool | None:
    """`<`, `<=`, `>`, `>=` of two items; None where they cannot be compared."""
    left, right = plain(one), plain(other)
    if isinstance(left, Moment) and isinstance(right, Moment):
        order = compared(left, right)
        return None if order is None else ORDERS[sign](order, 0)
    if isinstance(left, dict) and isinstance(right, dict):
        return _ordered_quantities(sign, left, right)
    if isinstance(left, Decimal) and isinstance(right, Decimal):
        return ORDERS[sign](left, right)
    if isinstance(left, str) and isinstance(right, str):
        return ORDERS[sign](left, right)
    return None


def _ordered_quantities(sign: str, left: Json, right: Json) -> bool | None:
    """In one unit only: what another unit is worth is the terminology's affair."""
    if any(left.get(name) != right.get(name) for name in ("system", "code", "unit")):
        return None
    first, second = (_decimal(getattr(one.get("value"), "text", one.get("value"))) for one in (left, right))
    return None if first is None or second is None else ORDERS[sign](first, second)


def compared(one: Moment, other: Moment) -> int | None:
    """-1, 0 or 1 where one surely comes before, at or after the other."""
    try:
        if "T" in one.text[1:] and "T" in other.text[1:]:
            low, high = dates.period_of(one.text)
            other_low, other_high = dates.period_of(other.text)
            if (low, high) == (other_low, other_high):
                return 0
            return -1 if high <= other_low else 1 if low >= other_high else None
    except ValueError:
        return None
    left, right = one.text.partition("T")[0], other.text.partition("T")[0]
    shared = min(len(left), len(right))
    if left[:shared] != right[:shared]:
        return -1 if left[:shared] < right[:shared] else 1
    return 0 if one.text == other.text else None


def _decimal(value: Any) -> Decimal | None:
    try:
        return Decimal(str(value))
    except InvalidOperation:
        return None
