"""Units mean what UCUM says, exactly; ucumvert on Pint is the second opinion.

https://ucum.org/ucum
"""

import csv
import importlib.util
from decimal import Decimal
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lxml import etree

from terminology import ucum

ESSENCE = Path(ucum.__file__).parent / "tables" / "ucum-essence.xml"

# What is compared with ucumvert: a code, and another one of the same kind.
PAIRS = [
    ("mm[Hg]", "Pa"), ("cm[H2O]", "Pa"), ("mm[Hg]", "kPa"), ("bar", "Pa"), ("mbar", "Pa"), ("atm", "Pa"),
    ("[psi]", "Pa"), ("mg/dL", "g/L"), ("ug/mL", "kg/m3"), ("ng/mL", "mg/L"), ("g/(24.h)", "mg/s"),
    ("mg/kg/d", "ug/kg/min"), ("L/min", "mL/s"), ("mL/min/{1.73_m2}", "L/h"),
    ("mL/(8.h)/kg", "mL/kg/h"), ("L/(min.m2)", "mL/min/m2"), ("10.L/min", "L/s"), ("{beats}/min", "Hz"),
    ("/min", "/s"), ("/(12.h)", "/d"), ("{#}/wk", "/d"), ("kat", "mol/s"), ("U/L", "ukat/L"), ("mmol/L", "mol/m3"),
    ("umol/mmol{creat}", "%"), ("mol/kg", "mmol/g"), ("meq/L", "mmol/L"), ("10*9/L", "10*3/uL"),
    ("10*6.[IU]", "[IU]"), ("k[IU]/mL", "[IU]/L"), ("[arb'U]/mL", "[arb'U]/L"), ("%", "10*-2"), ("[ppm]", "%"),
    ("[ppb]", "[ppm]"), ("kg", "g"), ("[lb_av]", "kg"), ("[oz_av]", "g"), ("t", "kg"), ("[in_i]", "cm"),
    ("[ft_i]", "m"), ("[mi_i]", "km"), ("um", "mm"), ("kg/m2", "g/cm2"), ("m2", "cm2"), ("[sft_i]", "m2"),
    ("dm3", "L"), ("[gal_us]", "L"), ("cm3", "mL"), ("[foz_us]", "mL"), ("h", "min"), ("d", "h"), ("wk", "d"),
    ("a", "d"), ("mo", "d"), ("km/h", "m/s"), ("m/s2", "cm/s2"), ("[kn_i]", "m/s"), ("N", "kg.m/s2"), ("J", "N.m"),
    ("kcal", "J"), ("kcal/d", "W"), ("W", "kg.m2/s3"), ("eV", "J"), ("mV", "V"), ("uOhm", "Ohm"), ("pF", "F"),
    ("Gy", "J/kg"), ("mSv", "Sv"), ("MBq", "Bq"), ("Ci", "Bq"), ("lx", "lm/m2"), ("dyn.s/cm5", "Pa.s/m3"),
    ("cP", "mPa.s"), ("10.uN.s/(cm5.m2)", "Pa.s/m5"), ("mL/cm[H2O]", "L/kPa"), ("dB[SPL]", "B[SPL]"),
]  # fmt: skip

REFUSED = [
    "", " ", "m m", "mmm", "kPa/", "/", "//m", "m..s", "(m", "m)", "()", "[", "]", "m[", "0", "m/0", "m0", "m-", "m+",
    "m100", "10*100", "2m", "m2s", "m2.", "-3", "+3", "m^2", "m**2", "k%", "k[in_i]", "kmin", "mmHg", "mm[hg]", "KG",
    "µg", "°C", "degC", "Torr", "dB[HL]", "{", "}", "{é}", "{a b}", "{a}{b}", "m{a", "%{x}2", "Cel2", "Cel/min",
    "/Cel", "10.Cel", "[pH]/L", "dB.m", "mL/min(m2)", "m\n", "\uff4d", "(" * 64 + "m" + ")" * 64, "m" + ".m" * 64,
]  # fmt: skip

EXACT = [
    ("120", "mm[Hg]", "15998640", "g.m-1.s-2"),
    ("1", "Pa", "1000", "g.m-1.s-2"),
    ("37.0", "Cel", "310.15", "K"),
    ("98.6", "[degF]", "310.15", "K"),
    ("29.6", "[degRe]", "310.15", "K"),
    ("37000", "mCel", "310.15", "K"),
    ("72", "{beats}/min", "1.2", "s-1"),
    ("5.4", "mmol/L", "3251956010400000000000000", "m-3"),
    ("1", "L/min", "0.0000166666666666666666666666666667", "m3.s-1"),
    ("1", "Oe", "79.5774715459476678844418816863", "C.m-1.s-1"),
    ("40", "dB[SPL]", "4", "B[SPL]"),
    ("7.40", "[pH]", "7.40", "[pH]"),
    ("3", "k[IU]/L", "3000000", "[iU].m-3"),
    ("8", "{score}", "8", "1"),
    ("1", "10*3", "1000", "1"),
    ("1", "10^-3", "0.001", "1"),
    ("1", "m/s/s", "1", "m.s-2"),
    ("1", "m/s.s", "1", "m"),
    ("1", "Mg", "1000000", "g"),
    ("1", "g%", "10000", "g.m-3"),
]

COMPOSABLE = [
    "m",
    "kg",
    "mm[Hg]",
    "L",
    "min",
    "%",
    "umol",
    "[IU]",
    "[in_i]",
    "10*3",
    "{cells}",
    "cd",
    "Ohm",
    "[degR]",
    "[pi]",
]


def essence() -> Path:
    """The folder of UCUM's own files that ucumvert carries."""
    found = importlib.util.find_spec("ucumvert")
    if found is None or found.origin is None:
        pytest.skip("ucumvert is not installed")
    return Path(found.origin).parent / "vendor"


def test_every_published_example_is_a_unit() -> None:
    """UCUM's table of example codes for messages parses whole, but for Torr, which UCUM lists and does not define."""
    with (essence() / "ucum_examples.tsv").open(encoding="utf-8") as lines:
        codes = [row[1] for row in csv.reader(lines, delimiter="\t", quoting=csv.QUOTE_NONE)][1:]
    assert len(codes) > 800
    assert [code for code in codes if ucum.canonical(code) is None] == ["Torr"]


def test_every_unit_that_ucum_defines_has_a_canonical_form() -> None:
    """Each atom resolves down to base units, alone and, where it is metric, with a prefix."""
    root = etree.parse(ESSENCE).getroot()
    units = {one.attrib["Code"]: one.get("isMetric") == "yes" for one in root.iter("{*}unit")}
    units |= {one.attrib["Code"]: True for one in root.iter("{*}base-unit")}
    assert len(units) > 300
    for code, metric in units.items():
        assert ucum.canonical(code) is not None, code
        assert (ucum.canonical("k" + code) is not None) is metric, code


def test_the_definitions_are_those_that_were_published() -> None:
    """The licence of UCUM allows no change."""
    assert ESSENCE.read_bytes() == (essence() / "ucum-essence.xml").read_bytes()


@pytest.mark.parametrize(("value", "code", "base", "dimension"), EXACT)
def test_values_are_counted_in_base_units_exactly(value: str, code: str, base: str, dimension: str) -> None:
    """Exact where a decimal can be, else rounded once at the thirtieth digit."""
    assert ucum.to_base(Decimal(value), code) == (Decimal(base), dimension)


@pytest.mark.parametrize("code", REFUSED)
def test_what_ucum_does_not_define_is_refused(code: str) -> None:
    """Bad grammar, unknown units, prefixes where none may be, special units in products, texts that only cost time."""
    assert ucum.canonical(code) is None
    assert ucum.to_base(Decimal(1), code) is None


@pytest.mark.parametrize("value", ["NaN", "sNaN", "Infinity", "1e999999999999999999"])
def test_a_value_that_cannot_be_counted_has_no_base_value(value: str) -> None:
    """Neither what is no number nor what outgrows every number raises."""
    assert ucum.to_base(Decimal(value), "km") is None


def test_arbitrary_and_logarithmic_units_compare_with_themselves_only() -> None:
    """An international unit is no allergy unit, no mole and no plain number; a bel of sound is no bel of voltage."""
    alone = [
        "[iU]",
        "[arb'U]",
        "[AU]",
        "[CFU]",
        "B",
        "B[SPL]",
        "B[V]",
        "Np",
        "[pH]",
        "%[slope]",
        "[p'diop]",
        "1",
        "mol.m",
    ]
    units = [ucum.canonical(code) for code in alone]
    assert len({unit.dimension for unit in units if unit}) == len(alone)
    assert ucum.canonical("[IU]") == ucum.canonical("[iU]")


def test_real_codes_have_the_ratio_that_ucumvert_finds() -> None:
    """For each pair the dimensions are equal, and the ratio is Pint's (its constants differ in the sixth digit)."""
    ucumvert = pytest.importorskip("ucumvert")
    registry = ucumvert.PintUcumRegistry()
    for code, other in PAIRS:
        one, two = ucum.canonical(code), ucum.canonical(other)
        assert one is not None, code
        assert two is not None, other
        assert one.dimension == two.dimension, (code, other)
        if code == "dB[SPL]":
            continue  # Pint counts decibels of pressure as pressure; a scale has no ratio to give
        theirs = registry.from_ucum(code).to(registry.from_ucum(other)).magnitude
        assert float(one.factor / two.factor) == pytest.approx(theirs, rel=5e-6), (code, other)


def test_temperatures_are_those_of_ucumvert() -> None:
    """Degrees have another zero, which a mere factor would forget."""
    ucumvert = pytest.importorskip("ucumvert")
    registry = ucumvert.PintUcumRegistry()
    for code, value in (("Cel", "36.6"), ("[degF]", "101.3"), ("[degRe]", "30"), ("K", "310")):
        base = ucum.to_base(Decimal(value), code)
        assert base is not None
        theirs = registry.Quantity(float(value), registry.from_ucum(code).units).to("kelvin").magnitude
        assert float(base[0]) == pytest.approx(theirs, rel=1e-9), code


@given(st.sampled_from(COMPOSABLE), st.sampled_from(COMPOSABLE), st.integers(-9, 9).filter(bool))
def test_products_quotients_and_exponents_obey_their_laws(one: str, two: str, exponent: int) -> None:
    """`a.b` is `b.a`, a power is a product with itself; annotations and parentheses change nothing."""
    first, second = ucum.canonical(one), ucum.canonical(two)
    assert first is not None
    assert second is not None
    product = ucum.canonical(f"{one}.{two}")
    assert product is not None
    assert product.factor == first.factor * second.factor
    assert product == ucum.canonical(f"{two}.{one}") == ucum.canonical(f"({one}).({two}){{any}}")
    assert ucum.canonical(f"{one}.{two}/{two}") == ucum.canonical(f"{one}/({two}/{two})") == first
    assert ucum.canonical(f"{one}/{two}/{one}") == ucum.canonical(f"/{two}")
    if one[-1].isalpha():
        power = ucum.canonical(f"{one}{exponent}")
        assert power is not None
        assert power.factor == first.factor**exponent
        repeated = ".".join([one] * abs(exponent))
        assert power == ucum.canonical(repeated if exponent > 0 else f"/({repeated})")


@given(
    st.decimals(allow_nan=False, allow_infinity=False, min_value=-(10**9), max_value=10**9, places=6),
    st.sampled_from(["Cel", "[degF]", "mm[Hg]", "mg/dL", "[in_i]", "d", "%", "mmol/L", "k[IU]/L"]),
)
def test_a_base_value_is_the_exact_one_to_thirty_digits(value: Decimal, code: str) -> None:
    """The decimal that comes out is the exact fraction, or less than half a unit of its thirtieth digit away."""
    unit, base = ucum.canonical(code), ucum.to_base(value, code)
    assert unit is not None
    assert base is not None
    exact = Fraction(value) * unit.factor + unit.offset
    assert abs(Fraction(base[0]) - exact) <= abs(exact) * Fraction(1, 10**29)


@given(st.text(st.sampled_from("mgLs10*/.()[]{}%'-+2Hk^ué "), max_size=24))
def test_no_text_makes_the_parser_fail(text: str) -> None:
    """Whatever a client writes is a unit or is not; nothing raises."""
    unit = ucum.canonical(text)
    assert unit is None or unit.factor > 0
