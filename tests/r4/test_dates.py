"""Which span of time a date means."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fhir_server.r4.dates import is_after, is_date, is_date_time, period_of


def at(*parts: int) -> int:
    """The microseconds of a moment in UTC."""
    return round(datetime(*parts, tzinfo=UTC).timestamp()) * 1_000_000  # type: ignore[misc, arg-type]


@pytest.mark.parametrize(
    ("text", "low", "high"),
    [
        ("2026", at(2026, 1, 1), at(2027, 1, 1)),
        ("2024-02", at(2024, 2, 1), at(2024, 3, 1)),
        ("2026-12", at(2026, 12, 1), at(2027, 1, 1)),
        ("2026-12-31", at(2026, 12, 31), at(2027, 1, 1)),
        ("2026-01-05T08:00:00Z", at(2026, 1, 5, 8), at(2026, 1, 5, 8, 0, 1)),
        ("2026-01-05T08:00:00+01:00", at(2026, 1, 5, 7), at(2026, 1, 5, 7, 0, 1)),
        ("2026-01-05T08:00:00-03:30", at(2026, 1, 5, 11, 30), at(2026, 1, 5, 11, 30, 1)),
        ("2016-12-31T23:59:60Z", at(2017, 1, 1), at(2017, 1, 1, 0, 0, 1)),
        ("2026-01-05T08:00:00.5Z", at(2026, 1, 5, 8) + 500_000, at(2026, 1, 5, 8) + 600_000),
        ("2026-01-05T08:00:00.123456789Z", at(2026, 1, 5, 8) + 123_456, at(2026, 1, 5, 8) + 123_457),
        ("1969-12-31", -86_400_000_000, 0),
    ],
)
def test_a_date_means_a_span(text: str, low: int, high: int) -> None:
    """As wide as what it leaves unsaid, in UTC."""
    assert period_of(text) == (low, high)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "26",
        "2026-13",
        "2026-02-30",
        "2026-1-1",
        "2026-01-05T08:00:00",
        "2026-01-05T08:00Z",
        "0000",
        "now",
    ],
)
def test_what_is_no_date_is_refused(text: str) -> None:
    """ValueError, whatever is wrong with it."""
    with pytest.raises(ValueError, match="not a FHIR date"):
        period_of(text)


@given(st.dates())
def test_every_day_of_the_calendar_is_a_date(day: object) -> None:
    """And a date is a dateTime, and its span is a day."""
    text = str(day)
    low, high = period_of(text)
    assert is_date(text)
    assert is_date_time(text)
    assert high - low == 86_400_000_000


@given(st.datetimes(timezones=st.just(UTC)))
def test_every_moment_lies_in_its_span(moment: datetime) -> None:
    """To the microsecond."""
    whole = moment.replace(microsecond=0)
    low, high = period_of(moment.isoformat(timespec="microseconds"))
    assert (low - moment.microsecond, high - low) == (round(whole.timestamp()) * 1_000_000, 1)


@given(st.text())
def test_any_text_is_a_date_or_is_not(text: str) -> None:
    """Nothing but ValueError comes out."""
    assert isinstance(is_date_time(text), bool)


@pytest.mark.parametrize(
    ("start", "end", "after"),
    [
        ("2026", "2025", True),
        ("2026", "2026-01-01", False),
        ("2026-01-02", "2026-01-02T00:30:00+02:00", False),
        ("2026-01-03", "2026-01-02T00:30:00+02:00", True),
        ("2026-01-02T00:30:00+02:00", "2026-01-01T23:00:00Z", False),
        ("2026-01-02T00:30:00Z", "2026-01-02T00:30:00+02:00", True),
    ],
)
def test_later_is_said_only_where_it_is_sure(start: str, end: str, after: bool) -> None:
    """What precision or a missing zone hides is not held against a period."""
    assert is_after(start, end) is after
