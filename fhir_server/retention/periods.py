"""The figures of retention: `periods.toml` with its sources, and the settings where the law leaves a choice."""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from functools import cache
from importlib.resources import files
from typing import Any, Final

from fhir_server.settings import Settings

DEFAULT, HELD, WORKING_COPY, APART = "D40", "HOLD", "TMP", "NT"
NO_EXPOSURE: Final = frozenset({DEFAULT, HELD, WORKING_COPY, APART})
"""The classes that say nothing of an exposure."""


@dataclass(frozen=True, slots=True)
class Period:
    """One figure: so many years or days since a fact, and the article that says so."""

    of: str
    since: str
    number: int
    unit: str
    article: str
    covers: str | None

    def after(self, day: date) -> date:
        """The last day of the period that began on `day`. What the calendar lacks is the day after it: 29 February."""
        if self.unit == "days":
            return day + timedelta(days=self.number)
        year = day.year + self.number
        if year > date.max.year:
            return date.max
        try:
            return day.replace(year=year)
        except ValueError:
            return date(year, 3, 1)


@dataclass(frozen=True, slots=True)
class Periods:
    """All figures, by class and fact."""

    rows: tuple[Period, ...]

    def of(self, code: str, since: str) -> Period:
        """Raises KeyError where there is none."""
        try:
            return next(row for row in self.rows if (row.of, row.since) == (code, since))
        except StopIteration:
            raise KeyError(code, since) from None

    def exposure(self, code: str) -> tuple[Period, ...]:
        """The figures of an exposure of this class; none where the class is unknown."""
        return tuple(row for row in self.rows if row.of == code and row.of not in NO_EXPOSURE)

    def answers(self, code: str, wanted: str) -> bool:
        """Is an exposure of class `code` one of class `wanted`?"""
        return code == wanted or any(row.covers == wanted for row in self.exposure(code))

    @property
    def exposures(self) -> tuple[str, ...]:
        """The classes of exposures."""
        return tuple(dict.fromkeys(row.of for row in self.rows if row.of not in NO_EXPOSURE))


def load(settings: Settings) -> Periods:
    """The figures under these settings."""
    return Periods(tuple(_period(row, settings) for row in _table()))


def _period(row: Mapping[str, Any], settings: Settings) -> Period:
    number = getattr(settings, row["setting"]) if "setting" in row else row["years"]
    return Period(row["class"], row["since"], number, row.get("unit", "years"), row["article"], row.get("covers"))


@cache
def _table() -> tuple[Mapping[str, Any], ...]:
    text = files("fhir_server.retention").joinpath("periods.toml").read_text("utf-8")
    return tuple(tomllib.loads(text)["period"])
