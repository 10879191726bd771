"""The date and time primitives of R4: is it one, and which span of time does it mean.

https://hl7.org/fhir/R4/datatypes.html#dateTime - partial dates are spans, and so are seconds and their fractions.
"""

import re
from calendar import monthrange
from datetime import date
from typing import Final

MICROSECOND: Final = 1
SECOND: Final = 1_000_000
MINUTE: Final = 60 * SECOND
HOUR: Final = 60 * MINUTE
DAY: Final = 24 * HOUR
EPOCH: Final = date(1970, 1, 1).toordinal()

_YEAR = r"([0-9]{3}[1-9]|[0-9]{2}[1-9]0|[0-9][1-9]00|[1-9]000)"
_MONTH = r"(0[1-9]|1[0-2])"
_DAY = r"(0[1-9]|[12][0-9]|3[01])"
_CLOCK = r"([01][0-9]|2[0-3]):([0-5][0-9]):([0-5][0-9]|60)(?:\.([0-9]+))?"
_ZONE = r"(Z|[+-](?:0[0-9]|1[0-3]):[0-5][0-9]|[+-]14:00)"

_DATE: Final = re.compile(f"{_YEAR}(?:-{_MONTH}(?:-{_DAY})?)?")
_DATE_TIME: Final = re.compile(f"{_YEAR}(?:-{_MONTH}(?:-{_DAY}(?:T{_CLOCK}{_ZONE})?)?)?")
_INSTANT: Final = re.compile(f"{_YEAR}-{_MONTH}-{_DAY}T{_CLOCK}{_ZONE}")
_TIME: Final = re.compile(_CLOCK)
_SURE_DAY = r"(0[1-9]|1[0-9]|2[0-8])"

# Every month has these days, so that for most dates no calendar is asked: match objects or None.
is_date_before_29th: Final = re.compile(_DATE.pattern.replace(_DAY, _SURE_DAY)).fullmatch
is_date_time_before_29th: Final = re.compile(_DATE_TIME.pattern.replace(_DAY, _SURE_DAY)).fullmatch
is_instant_before_29th: Final = re.compile(_INSTANT.pattern.replace(_DAY, _SURE_DAY)).fullmatch
SURE_DAY: Final = 28  # every month has it


def is_date(text: str) -> bool:
    """Whether it is a `date`: year, month or day, of a calendar that has it."""
    return _exists(_DATE.fullmatch(text))


def is_date_time(text: str) -> bool:
    """Whether it is a `dateTime`: a date, or a second with its zone."""
    return _exists(_DATE_TIME.fullmatch(text))


def is_instant(text: str) -> bool:
    """Whether it is an `instant`: a second or a fraction, with its zone."""
    return _exists(_INSTANT.fullmatch(text))


def is_time(text: str) -> bool:
    """Whether it is a `time` of day, with seconds and without zone."""
    return _TIME.fullmatch(text) is not None


def period_of(text: str) -> tuple[int, int]:
    """The span `[low, high)` that a date, dateTime or instant means, in microseconds UTC since 1970.

    `2020-02` is the whole month, `...:00Z` a whole second, `...:00.5Z` a tenth of one. A date has no zone and is taken
    in UTC. Raises ValueError for what R4 does not allow.
    """
    match = _DATE_TIME.fullmatch(text)
    if match is None or not _exists(match):
        raise ValueError("not a FHIR date, dateTime or instant")
    year, month, day, hour, minute, second, fraction, zone = match.groups()
    if month is None:
        return _midnight(int(year), 1, 1), _midnight(int(year) + 1, 1, 1)
    if day is None:
        low = _midnight(int(year), int(month), 1)
        return low, low + monthrange(int(year), int(month))[1] * DAY
    low = _midnight(int(year), int(month), int(day))
    if hour is None:
        return low, low + DAY
    low += int(hour) * HOUR + int(minute) * MINUTE + int(second) * SECOND
    if zone != "Z":
        offset = int(zone[1:3]) * HOUR + int(zone[4:6]) * MINUTE
        low += offset if zone[0] == "-" else -offset
    if fraction is None:
        return low, low + SECOND
    digits = fraction[:6]  # finer than a microsecond is not kept
    width = SECOND // 10 ** len(digits)
    low += int(digits) * width
    return low, low + width


def is_after(start: str, end: str) -> bool:
    """Whether `start` is surely later than `end`, both valid; unknown, and so no, where precision hides it."""
    if "T" in start and "T" in end:
        return period_of(start)[0] >= period_of(end)[1]
    shared = min(len(start.partition("T")[0]), len(end.partition("T")[0]))
    return start[:shared] > end[:shared]


def _exists(match: re.Match[str] | None) -> bool:
    if match is None:
        return False
    year, month, day = match.group(1, 2, 3)
    return day is None or int(day) <= SURE_DAY or int(day) <= monthrange(int(year), int(month))[1]


def _midnight(year: int, month: int, day: int) -> int:
    if year > date.max.year:  # the end of the last year that the calendar has
        return (date.max.toordinal() + 1 - EPOCH) * DAY
    return (date(year, month, day).toordinal() - EPOCH) * DAY
