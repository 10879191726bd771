"""How long a document is kept: dmst.md section 1.7 with its figures, scenario A13, and what must hold of all facts."""

from dataclasses import replace
from datetime import date, timedelta

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from pydantic import ValidationError

from fhir_server.retention.expiry import Expiry, Facts, expiry
from fhir_server.retention.periods import load
from fhir_server.settings import Settings
from mappings.retention import Exposure, span

PERIODS = load(Settings())
VISIT = ("D40",)


def last_day(text: str) -> date:
    return span(text)[1]


def of(**facts: object) -> Expiry:
    return expiry(Facts(**{"classes": VISIT, **facts}), PERIODS)  # pyright: ignore[reportArgumentType]


def test_a13_asbestos_outlasts_the_last_visit() -> None:
    """A13: last visit 1990, asbestos to 1985, death unknown: not purgeable before 2035; a legal hold blocks."""
    facts = Facts(VISIT, last_visit=last_day("1990"), exposures=(Exposure("AMIANTE50", last_day("1985")),))
    found = expiry(facts, PERIODS)
    assert [(one.code, one.article, one.until.year) for one in found.reasons if one.until] == [
        ("D40", "R4624-45-9", 2030),
        ("AMIANTE50", "R4412-55", 2035),
    ]
    assert found.until == date(2035, 12, 31), "a year is counted to its end"
    assert not found.is_due(date(2034, 12, 31))
    assert not found.is_due(date(2035, 12, 31))
    assert found.is_due(date(2036, 1, 1))
    held = expiry(replace(facts, holds=("Flag/1",)), PERIODS)
    assert held.until is None
    assert not held.is_due(date.max)
    assert [one.code for one in held.reasons] == ["HOLD", "D40", "AMIANTE50"]


def test_a13_with_the_chemical_class_of_the_scenario() -> None:
    """The scenario says CHEM50, which asbestos is."""
    found = of(last_visit=last_day("1990"), exposures=(Exposure("CHEM50", last_day("1985")),))
    assert found.until
    assert found.until.year == 2035
    assert [one.code for one in found.decisive] == ["CHEM50"]


@pytest.mark.parametrize(
    ("facts", "until", "missing"),
    [
        ({"last_visit": date(2000, 3, 4)}, date(2040, 3, 4), ()),
        ({"last_visit": date(2000, 3, 4), "death": date(2010, 1, 2)}, date(2020, 1, 2), ()),
        ({"last_visit": date(1975, 3, 4), "death": date(2010, 1, 2)}, date(2015, 3, 4), ()),
        ({"death": date(2010, 1, 2)}, date(2020, 1, 2), ()),
        ({}, None, ("last-visit",)),
        ({"last_visit": date(2021, 1, 2), "seen": date(2021, 1, 2), "death": date(2010, 1, 2)}, date(2061, 1, 2), ()),
        ({"last_visit": date(2010, 12, 31), "seen": date(2010, 1, 1), "death": date(2010, 1, 2)}, date(2020, 1, 2), ()),
        ({"last_visit": date(2024, 2, 29), "death": date(2024, 2, 29)}, date(2034, 3, 1), ()),
    ],
    ids=["visit", "death", "visit-before-death", "death-only", "nothing", "seen-after-death", "same-year", "29-feb"],
)
def test_forty_years_from_the_visit_within_ten_of_the_death(
    facts: dict[str, date], until: date | None, missing: tuple[str, ...]
) -> None:
    """R4624-45-9. Whoever was seen after his death did not die then."""
    found = of(**facts)
    assert (found.until, found.missing) == (until, missing)


def test_special_periods_prolong_and_never_shorten() -> None:
    """R4412-55, R4426-9, R4451-83: the latest counts, and all are told."""
    visit, birth = date(2020, 1, 1), date(1990, 5, 6)
    assert of(last_visit=visit, exposures=(Exposure("CHEM50", date(1960, 1, 1)),)).until == date(2060, 1, 1)
    assert of(last_visit=visit, exposures=(Exposure("BIO40", date(2025, 1, 1)),)).until == date(2065, 1, 1)
    ionising = of(last_visit=visit, birth=birth, exposures=(Exposure("ION75", date(2030, 1, 1)),))
    assert ionising.until == date(2080, 1, 1)
    assert [one.until for one in ionising.reasons] == [date(2060, 1, 1), date(2065, 5, 6), date(2080, 1, 1)]
    long_ago = of(last_visit=date(1980, 1, 1), birth=birth, exposures=(Exposure("ION75", date(1980, 1, 1)),))
    assert long_ago.until == date(2065, 5, 6), "the seventy-fifth birthday, which he may not have reached"


@pytest.mark.parametrize(
    ("facts", "missing"),
    [
        ({"exposures": (Exposure("CHEM50", None),)}, "exposure-end CHEM50"),
        ({"exposures": (Exposure("ION75", date(1980, 1, 1)),)}, "birth"),
        ({"exposures": (Exposure("INVENTED", date(1980, 1, 1)),)}, "exposure-class"),
        ({"classes": None}, "document-kind"),
        ({"classes": ("CHEM50",)}, "exposure CHEM50"),
        ({"classes": ("D40", "CHEM50")}, "exposure CHEM50"),
        ({"folder": frozenset({"BIO40"})}, "exposure BIO40"),
        ({"classes": ("TMP",)}, "received"),
    ],
)
def test_what_is_not_known_keeps_and_is_named(facts: dict[str, object], missing: str) -> None:
    """An exposure that goes on or has no end, a birth, a class, a kind: without it there is no date."""
    found = of(last_visit=date(1950, 1, 1), **facts)
    assert (found.until, found.missing) == (None, (missing,))


def test_an_exposure_sheet_is_answered_by_an_exposure_or_by_its_absence() -> None:
    """The sheet of asbestos asks for CHEM50, which AMIANTE50 covers; a statement that there was none answers too."""
    visit = date(1950, 1, 1)
    asbestos = (Exposure("AMIANTE50", date(1960, 1, 1)),)
    assert of(classes=("CHEM50",), last_visit=visit, exposures=asbestos).until == date(2010, 1, 1)
    assert of(classes=("D40", "CHEM50"), last_visit=visit, never=frozenset({"CHEM50"})).until == date(1990, 1, 1)


def test_a_working_copy_does_not_stay_with_the_folder() -> None:
    """The copy of an identity card goes after its days, unless held; personal notes stay as long as the rest."""
    copy = {"classes": ("TMP",), "received": date(2026, 1, 1), "last_visit": date(2026, 1, 1)}
    assert of(**copy).until == date(2026, 4, 1)
    assert of(**copy, holds=("Flag/1",)).until is None
    notes = of(classes=("NT",), last_visit=date(2000, 1, 1))
    assert (notes.until, notes.reasons[0].code) == (date(2040, 1, 1), "NT")


def test_the_service_may_keep_longer_and_never_shorter_than_the_law() -> None:
    """The uncertain figures are settings; below what the articles say they are refused."""
    longer = load(Settings(retention_chem_years=60, retention_bio_years=10, retention_asbestos_years=70))
    facts = Facts(VISIT, last_visit=date(1950, 1, 1))
    for code, year in (("CHEM50", 2040), ("BIO40", 1990), ("AMIANTE50", 2050)):
        found = expiry(replace(facts, exposures=(Exposure(code, date(1980, 1, 1)),)), longer)
        assert found.until == date(max(year, 1990), 1, 1), code
    for name in ("retention_chem_years", "retention_asbestos_years"):
        with pytest.raises(ValidationError):
            Settings(**{name: 49})  # pyright: ignore[reportArgumentType]


# --- What holds of all facts

days = st.dates(date(1900, 1, 1), date(2100, 1, 1))
maybe = st.none() | days
exposures = st.builds(Exposure, st.sampled_from([*PERIODS.exposures, "INVENTED"]), maybe)
codes = st.sampled_from(PERIODS.exposures)


@st.composite
def some_facts(draw: st.DrawFn) -> Facts:
    visit = draw(maybe)
    return Facts(
        classes=draw(st.sampled_from([("D40",), ("CHEM50",), ("D40", "CHEM50"), ("NT",), ("TMP",), None])),
        last_visit=visit,
        seen=visit,
        death=draw(maybe),
        birth=draw(maybe),
        received=draw(maybe),
        exposures=tuple(draw(st.lists(exposures, max_size=3))),
        never=draw(st.frozensets(codes)),
        folder=draw(st.frozensets(codes, max_size=1)),
        holds=tuple(draw(st.lists(st.just("Flag/1"), max_size=1))),
    )


def later(found: Expiry) -> date:
    """No date is later than every date."""
    return found.until or date.max


@given(some_facts(), exposures)
def test_another_exposure_is_never_earlier(facts: Facts, more: Exposure) -> None:
    """Except where it was missing: then it says what nobody knew."""
    before, after = expiry(facts, PERIODS), expiry(replace(facts, exposures=(*facts.exposures, more)), PERIODS)
    assume(not any(one.startswith("exposure ") for one in before.missing))
    assert later(after) >= later(before)


@given(some_facts(), st.text(max_size=5))
def test_a_hold_is_always_the_end_of_it(facts: Facts, name: str) -> None:
    assert expiry(replace(facts, holds=(*facts.holds, name)), PERIODS).until is None


@given(some_facts(), st.integers(0, 40_000))
def test_a_later_visit_is_never_earlier(facts: Facts, number: int) -> None:
    assume(facts.last_visit is not None)
    assert facts.last_visit
    visit = facts.last_visit + timedelta(days=number)
    later_on = replace(facts, last_visit=visit, seen=visit)
    assert later(expiry(later_on, PERIODS)) >= later(expiry(facts, PERIODS))


@given(some_facts(), st.sampled_from(["death", "birth", "received", "classes", "last_visit"]))
def test_what_is_forgotten_never_shortens(facts: Facts, name: str) -> None:
    """Whoever does not know keeps at least as long as whoever does."""
    assume(facts.death is None or facts.seen is None or facts.seen <= facts.death)
    forgotten = replace(facts, **{name: None}, **({"seen": None} if name == "last_visit" else {}))
    assert later(expiry(forgotten, PERIODS)) >= later(expiry(facts, PERIODS))


@given(some_facts(), st.data())
def test_an_end_that_is_forgotten_never_shortens(facts: Facts, data: st.DataObject) -> None:
    assume(facts.exposures)
    number = data.draw(st.integers(0, len(facts.exposures) - 1))
    ends = [one if at != number else replace(one, end=None) for at, one in enumerate(facts.exposures)]
    assert later(expiry(replace(facts, exposures=tuple(ends)), PERIODS)) >= later(expiry(facts, PERIODS))


@given(st.dates(date(1900, 1, 1), date(2100, 12, 31)))
def test_a_date_that_says_less_is_never_earlier(day: date) -> None:
    """Year, then month, then day: each end lies at or after the next."""
    ends = [last_day(day.isoformat()[:length]) for length in (4, 7, 10)]
    assert ends[0] >= ends[1] >= ends[2] == day
    starts = [span(day.isoformat()[:length])[0] for length in (4, 7, 10)]
    assert starts[0] <= starts[1] <= starts[2] == day
