"""UCUM units in canonical form, so that quantities in different units can be compared.

https://ucum.org/ucum (case-sensitive codes, `c/s`); https://hl7.org/fhir/R4/search.html#quantity

The definitions are UCUM's own file, `tables/ucum-essence.xml`, as it was published. Arithmetic is exact: a factor is a
fraction of whole numbers.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import MAX_EMAX, MIN_EMIN, Context, Decimal
from fractions import Fraction
from functools import cache, lru_cache
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final
from xml.etree import ElementTree

LONGEST_CODE: Final = 128
"""A longer text is not taken for a unit: it would only cost time."""

_ESSENCE: Final = Path(__file__).parent / "tables" / "ucum-essence.xml"
_NAMESPACE: Final = "{http://unitsofmeasure.org/ucum-essence}"
_LARGEST_EXPONENT: Final = 99
_DIGITS: Final = 30

# A unit atom holds no digit, sign or operator outside of square brackets; `10*` and `10^` are the two exceptions.
_ATOM: Final = re.compile(r"10[*^]|(?:[A-Za-z%'_]|\[[^\s\[\]{}]+\])+")
_NUMBER: Final = re.compile(r"[0-9]+")
_EXPONENT: Final = re.compile(r"[+-]?[0-9]+")
_ANNOTATION: Final = re.compile(r"\{[!-z|~]*\}")

# Special units on a linear scale: where their zero lies, in their own degrees above the absolute one (UCUM, table 4).
_ZEROS: Final = {"Cel": Fraction("273.15"), "degF": Fraction("459.67"), "degRe": Fraction("218.52")}

# Twice the digits and more between the steps, so that the last rounding is the only one that shows.
_WIDE: Final = Context(prec=3 * _DIGITS, Emax=MAX_EMAX, Emin=MIN_EMIN, traps=[])
_RESULT: Final = Context(prec=_DIGITS, Emax=MAX_EMAX, Emin=MIN_EMIN, traps=[])


@dataclass(frozen=True, slots=True)
class Unit:
    """What a unit is worth: `value * factor + offset` counts base units, exactly.

    `dimension` names the base units with their exponents in a fixed order (`g.m-1.s-2`), `1` for a plain number. Two
    units can be compared when their dimensions are equal. An arbitrary unit (`[iU]`) and a logarithmic one (`B[SPL]`,
    `[pH]`) is a base of its own, so that it compares with nothing but itself.
    """

    factor: Fraction
    offset: Fraction
    dimension: str


@dataclass(frozen=True, slots=True)
class _Term:
    """A unit while it is put together; `zero` is set for a special unit, which takes part in no product (UCUM 22)."""

    factor: Fraction
    exponents: Mapping[str, int]
    zero: Fraction | None = None

    def __mul__(self, other: "_Term") -> "_Term":
        if self.zero is not None or other.zero is not None:
            raise _NotAUnit
        exponents = dict(self.exponents)
        for base, exponent in other.exponents.items():
            exponents[base] = exponents.get(base, 0) + exponent
        return _Term(self.factor * other.factor, {base: exponents[base] for base in exponents if exponents[base]})

    def __pow__(self, exponent: int) -> "_Term":
        if self.zero is not None:
            raise _NotAUnit
        return _Term(self.factor**exponent, {base: own * exponent for base, own in self.exponents.items()})


class _NotAUnit(Exception):
    """The text breaks UCUM's grammar, or names a unit that UCUM does not define."""


_ONE: Final = _Term(Fraction(1), MappingProxyType({}))


def canonical(code: str) -> Unit | None:
    """The unit that a case-sensitive UCUM code means; None when it is not one, or longer than `LONGEST_CODE`."""
    return _canonical(code) if len(code) <= LONGEST_CODE else None


def to_base(value: Decimal, code: str) -> tuple[Decimal, str] | None:
    """The value counted in base units, exact or to 30 digits, with the dimension; None where `canonical` is None or the
    value is not a number.
    """
    unit = canonical(code)
    if unit is None:
        return None
    product = _WIDE.multiply(value, Decimal(unit.factor.numerator))
    scaled = _WIDE.divide(product, Decimal(unit.factor.denominator))
    if unit.offset:
        offset = _WIDE.divide(Decimal(unit.offset.numerator), Decimal(unit.offset.denominator))
        scaled = _WIDE.add(scaled, offset)
    base = _RESULT.plus(scaled)
    return (base, unit.dimension) if base.is_finite() else None


@lru_cache(maxsize=4096)
def _canonical(code: str) -> Unit | None:
    try:
        term = _parse(code)
    except _NotAUnit:
        return None
    dimension = ".".join(
        f"{base}{'' if exponent == 1 else exponent}" for base, exponent in sorted(term.exponents.items())
    )
    return Unit(term.factor, term.zero or Fraction(0), dimension or "1")


def _parse(code: str) -> _Term:
    """A whole code; a leading `/` divides one by the first component."""
    if code.startswith("/"):
        return _rest_of_term(code, 0, _ONE)
    term, at = _component(code, 0)
    return _rest_of_term(code, at, term)


def _rest_of_term(code: str, at: int, term: _Term) -> _Term:
    term, at = _products(code, at, term)
    if at != len(code):
        raise _NotAUnit
    return term


def _products(code: str, at: int, term: _Term) -> tuple[_Term, int]:
    """`.` and `/` bind alike, from left to right (UCUM 7)."""
    while at < len(code) and code[at] in "./":
        other, end = _component(code, at + 1)
        term, at = term * (other if code[at] == "." else other**-1), end
    return term, at


def _component(code: str, at: int) -> tuple[_Term, int]:
    """A number, a unit with its exponent or a term in parentheses, with or without annotation; or an annotation."""
    if code.startswith("{", at):
        return _ONE, _past_annotation(code, at)
    if code.startswith("(", at):
        term, at = _component(code, at + 1) if not code.startswith("/", at + 1) else (_ONE, at + 1)
        term, at = _products(code, at, term)
        if not code.startswith(")", at):
            raise _NotAUnit
        at += 1
    else:
        term, at = _simple_unit(code, at)
    return term, _past_annotation(code, at) if code.startswith("{", at) else at


def _past_annotation(code: str, at: int) -> int:
    found = _ANNOTATION.match(code, at)
    if found is None:
        raise _NotAUnit
    return found.end()


def _simple_unit(code: str, at: int) -> tuple[_Term, int]:
    if atom := _ATOM.match(code, at):
        exponent = _EXPONENT.match(code, atom.end())
        if exponent is None:
            return _atom(atom.group()), atom.end()
        if not 0 < abs(int(exponent.group())) <= _LARGEST_EXPONENT:
            raise _NotAUnit
        return _atom(atom.group()) ** int(exponent.group()), exponent.end()
    number = _NUMBER.match(code, at)
    if number is None or not int(number.group()):
        raise _NotAUnit
    return _Term(Fraction(int(number.group())), {}), number.end()


@lru_cache(maxsize=1024)
def _atom(symbol: str) -> _Term:
    """A unit by its symbol, alone or with a prefix; prefixes stand before metric units only."""
    units, prefixes = _table()["units"], _table()["prefixes"]
    if symbol in units:
        return _defined(symbol, Fraction(1))
    for length in (1, 2):
        prefix, unit = symbol[:length], symbol[length:]
        if prefix in prefixes and unit in units and units[unit].get("metric"):
            return _defined(unit, Fraction(prefixes[prefix]))
    raise _NotAUnit


def _defined(symbol: str, prefix: Fraction) -> _Term:
    """`prefix` of the unit in base units."""
    facts = _table()["units"][symbol]
    function = facts.get("function")
    own_base = facts["unit"] is None or (facts.get("arbitrary") and facts["unit"] == "1")
    if own_base or (function and function not in _ZEROS):
        return _Term(prefix, {symbol: 1}, Fraction(0) if function else None)
    corresponding = _Term(Fraction(facts["value"]), {}) * _parse(facts["unit"])
    zero = _ZEROS[function] * corresponding.factor if function else None
    return _Term(prefix * corresponding.factor, corresponding.exponents, zero)


@cache
def _table() -> Mapping[str, Any]:
    """Prefixes with their factors; units and what they are made of, base units as metric ones made of nothing."""
    root = ElementTree.parse(_ESSENCE).getroot()  # noqa: S314 - our own file
    units = {one.attrib["Code"]: _definition(one) for one in root.iter(_NAMESPACE + "unit")}
    units |= {one.attrib["Code"]: {"unit": None, "metric": True} for one in root.iter(_NAMESPACE + "base-unit")}
    prefixes = {one.attrib["Code"]: _value_of(one).attrib["value"] for one in root.iter(_NAMESPACE + "prefix")}
    return {"prefixes": prefixes, "units": units}


def _definition(unit: ElementTree.Element) -> dict[str, Any]:
    """How many of which unit it is. `function` names the scale of a special unit, whose value and unit are those that
    the scale starts from.
    """
    value = _value_of(unit)
    function = value.find(_NAMESPACE + "function")
    facts: dict[str, Any] = {"value": value.get("value"), "unit": value.get("Unit")}
    if function is not None:
        facts = {
            "value": function.attrib["value"],
            "unit": function.attrib["Unit"],
            "function": function.attrib["name"],
        }
    return facts | {"metric": unit.get("isMetric") == "yes", "arbitrary": unit.get("isArbitrary") == "yes"}


def _value_of(one: ElementTree.Element) -> ElementTree.Element:
    value = one.find(_NAMESPACE + "value")
    assert value is not None, "every prefix and unit of UCUM has a value"
    return value
