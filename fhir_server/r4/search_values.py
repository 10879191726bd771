r"""The values of a search string, each in the grammar of its parameter type.

https://hl7.org/fhir/R4/search.html#ptypes - what is malformed raises BadParameter, which names the parameter.
"""

import re
from collections.abc import Iterable
from decimal import Decimal
from typing import Final

from fhir_server.outcomes import BadParameter
from fhir_server.r4.dates import period_of
from fhir_server.r4.resource_types import TYPE_NUMBER
from fhir_server.r4.search_criteria import Comparison, Near, NumberComparison, QuantityComparison, TokenValue
from fhir_server.r4.search_parameters import SearchParameter

PREFIXES: Final = ("eq", "ne", "gt", "lt", "ge", "le", "sa", "eb", "ap")
MOST_VALUES: Final = 500
METRES: Final = {
    "": 1000.0,
    "km": 1000.0,
    "m": 1.0,
    "cm": 0.01,
    "[mi_i]": 1609.344,
    "[mi_us]": 1609.347,
    "mi": 1609.344,
}
NEARBY: Final = 50.0
"""Kilometres, where a search by `near` names no distance: R4 leaves it to the server."""

_DECIMAL: Final = re.compile(r"[+-]?[0-9]{1,40}(?:\.[0-9]{1,40})?(?:[eE]([+-]?[0-9]{1,2}))?")


def split(value: str, name: str, separator: str = ",") -> list[str]:
    r"""The parts of a value: separators part them, `\,` does not; the escapes stay for whoever parts further."""
    parts: list[str] = [""]
    escaped = False
    for character in value:
        if escaped:
            parts[-1] += "\\" + character
            escaped = False
        elif character == "\\":
            escaped = True
        elif character == separator:
            parts.append("")
        else:
            parts[-1] += character
    if escaped:
        parts[-1] += "\\"
    if len(parts) > MOST_VALUES:
        raise BadParameter(f"{name} has more than {MOST_VALUES} alternatives", expression=name)
    return parts


def plain(text: str) -> str:
    r"""Without the escapes of R4 3.1.1.3.2: `\,` `\|` `\$` `\\`."""
    return re.sub(r"\\([,|$\\])", r"\1", text)


def alternatives(value: str, name: str) -> list[str]:
    """The alternatives of a value, still escaped. Raises BadParameter where there is none."""
    wanted = [part for part in split(value, name) if part]
    if not wanted:
        raise BadParameter(f"{name} has no value", expression=name)
    return wanted


def texts(value: str, name: str) -> tuple[str, ...]:
    """The alternatives as texts."""
    return tuple(plain(part) for part in alternatives(value, name))


def token(text: str, name: str) -> TokenValue:
    """`code`, `system|code`, `|code` or `system|`, still escaped."""
    system, *rest = split(text, name, "|")
    if not rest:
        return None, plain(system)
    code = plain("|".join(rest))
    if not code and not system:
        raise BadParameter(f"{name} has neither system nor code", expression=name)
    return plain(system), code or None


def targets(parameter: SearchParameter, typed: str, values: Iterable[str], name: str) -> tuple[str, ...]:
    """What references lead to: `123` means `Type/123` for every type that the parameter may lead to."""
    found: list[str] = []
    for value in values:
        if "/" in value or ":" in value:
            found.append(value)
        else:
            types = [typed] if typed else parameter.targets
            found.extend(f"{target}/{value}" for target in types if target in TYPE_NUMBER)
    if not found:
        raise BadParameter(f"{name} leads to no resource type", expression=name)
    return tuple(found)


def prefixed(text: str) -> tuple[str, str]:
    """The prefix (`eq` where there is none) and what follows it."""
    return (text[:2], text[2:]) if text[:2] in PREFIXES else ("eq", text)


def date(text: str, name: str) -> Comparison:
    """A date with an optional prefix."""
    prefix, moment = prefixed(text)
    try:
        low, high = period_of(moment)
    except ValueError as error:
        raise BadParameter(f"{name} is not a FHIR date with an optional prefix", expression=name) from error
    return prefix, low, high


def number(text: str, name: str) -> NumberComparison:
    """A number with an optional prefix; `5.40` stands for [5.395, 5.405) (R4 3.1.1.4.7)."""
    prefix, digits = prefixed(text)
    match = _DECIMAL.fullmatch(digits)
    if not match:
        raise BadParameter(f"{name} is not a number with an optional prefix", expression=name)
    value = Decimal(digits)
    _, _, exponent = value.as_tuple()
    assert isinstance(exponent, int), "the pattern lets no NaN and no infinity in"
    # R4 3.1.1.4.7 reads 1e2 as [95, 105): a written exponent above the point tells one digit more than it has
    half = Decimal((0, (5,), exponent - 2 if match[1] and exponent > 0 else exponent - 1))
    return NumberComparison(prefix, value - half, value + half, value)


def quantity(text: str, name: str) -> QuantityComparison:
    """`number`, `number|system|code` or `number||code`, still escaped."""
    parts = [plain(part) for part in split(text, name, "|")]
    if len(parts) not in (1, 3) or (len(parts) == 3 and not parts[2]):
        raise BadParameter(f"{name} is a number, number|system|code or number||code", expression=name)
    system, code = parts[1:] or ("", "")
    return QuantityComparison(number(parts[0], name), system or None, code or None)


def near(parameter: SearchParameter, text: str, name: str) -> Near:
    """`latitude|longitude|distance|unit`; without distance, 50 km (https://hl7.org/fhir/R4/location.html#positional)."""
    parts = [plain(part) for part in split(text, name, "|")]
    unit = parts[3] if len(parts) > 3 else ""
    try:
        latitude, longitude = float(parts[0]), float(parts[1])
        distance = float(parts[2]) if len(parts) > 2 and parts[2] else NEARBY * 1000 / METRES.get(unit, 1.0)
    except (ValueError, IndexError) as error:
        raise BadParameter(f"{name} is latitude|longitude|distance|unit", expression=name) from error
    if unit not in METRES:
        raise BadParameter(f"{name} knows the units {', '.join(filter(None, METRES))}", expression=name)
    if not (-90 <= latitude <= 90 and -180 <= longitude <= 180 and 0 <= distance * METRES[unit] < 1e9):
        raise BadParameter(f"{name} lies nowhere on the globe", expression=name)
    return Near(parameter, latitude, longitude, distance * METRES[unit])
