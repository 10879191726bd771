"""Dates, numbers and durations as they are written in French. Pure."""

import re
from datetime import datetime

_DATE = re.compile(r"(\d{4})(?:-(\d{2}))?(?:-(\d{2}))?")
NARROW = "\u202f"
"""The blank that holds a number and its unit together."""


def date(text: str | None) -> str:
    """A FHIR date, perhaps partial, as JJ/MM/AAAA, MM/AAAA or AAAA; what is no date stays as it is."""
    found = _DATE.fullmatch(text or "")
    return "/".join(part for part in reversed(found.groups()) if part) if found else text or ""


def day(moment: datetime) -> str:
    """The day of a moment where the server is."""
    return moment.astimezone().strftime("%d/%m/%Y")


def age(moment: datetime, now: datetime) -> str:
    """How long ago, in the largest unit of which it is two or more: 3 j, 26 h, 5 min."""
    minutes = max(0, int((now - moment).total_seconds() // 60))
    for unit, length in (("j", 1440), ("h", 60)):
        if minutes >= 2 * length:
            return f"{minutes // length}{NARROW}{unit}"
    return f"{minutes}{NARROW}min"


def number(value: float, decimals: int = 1, *, signed: bool = False) -> str:
    """With a comma, and a true minus."""
    text = f"{value:+.{decimals}f}" if signed else f"{value:.{decimals}f}"
    return text.replace(".", ",").replace("-", "−")


def counted(count: int, one: str, many: str | None = None) -> str:
    """1 dossier, 2 dossiers; 0 is singular in French."""
    return f"{count}{NARROW}{one if count < 2 else many or f'{one}s'}"
