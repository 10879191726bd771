"""Until when must this document be kept? Pure; whoever lacks a fact keeps; every reason has its article.

Code du travail R4624-45-9 (forty years from the last visit in the service, within ten of the death), prolonged by
R4412-55, R4426-9 and R4451-83; a claim suspends. The figures are `periods.toml`.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import date

from fhir_server.retention.periods import APART, DEFAULT, HELD, NO_EXPOSURE, WORKING_COPY, Period, Periods
from mappings.retention import Exposure

LAST_VISIT, DEATH, BIRTH, EXPOSURE_END, RECEIVED = "last-visit", "death", "birth", "exposure-end", "received"


@dataclass(frozen=True, slots=True)
class Facts:
    """What decides on one document. A day is the last one that an incomplete date may mean; None is unknown.

    `classes` are those of the document (nomenclature), None where nobody has said what it is; `folder` those that other
    documents of the worker impose on all of them. `never` are classes to which the worker surely was not exposed.
    `holds` names what suspends. `seen` is the first day that the date of the last visit may mean.
    """

    classes: tuple[str, ...] | None
    last_visit: date | None = None
    seen: date | None = None
    death: date | None = None
    birth: date | None = None
    received: date | None = None
    exposures: tuple[Exposure, ...] = ()
    never: frozenset[str] = field(default_factory=frozenset)
    folder: frozenset[str] = field(default_factory=frozenset)
    holds: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Reason:
    """Why it is kept: the class, the article, and the last day that this reason asks for (None: no end in sight)."""

    code: str
    article: str
    until: date | None


@dataclass(frozen=True, slots=True)
class Expiry:
    """The last day on which it must be kept, None where it may not be destroyed; why, and which facts are missing."""

    until: date | None
    reasons: tuple[Reason, ...]
    missing: tuple[str, ...] = ()

    def is_due(self, at: date) -> bool:
        """May it be destroyed on this day?"""
        return self.until is not None and at > self.until

    @property
    def decisive(self) -> tuple[Reason, ...]:
        """The reasons that set the date."""
        return tuple(reason for reason in self.reasons if reason.until == self.until)


@dataclass(frozen=True, slots=True)
class _Part:
    reason: Reason
    missing: str | None = None


def expiry(facts: Facts, periods: Periods) -> Expiry:
    """The latest of all that applies; no date as long as one of them has none."""
    parts = [*_parts(facts, periods)]
    reasons = tuple(dict.fromkeys(part.reason for part in parts))
    days = [reason.until for reason in reasons]
    known = [day for day in days if day is not None]
    return Expiry(
        max(known) if len(known) == len(days) else None,
        reasons,
        tuple(dict.fromkeys(part.missing for part in parts if part.missing)),
    )


def _parts(facts: Facts, periods: Periods) -> Iterator[_Part]:
    for _ in facts.holds[:1]:
        yield _Part(Reason(HELD, periods.of(DEFAULT, LAST_VISIT).article, None))
    if facts.classes == (WORKING_COPY,):
        yield _since(facts.received, periods.of(WORKING_COPY, RECEIVED))
        return
    yield _base(facts, periods)
    if facts.classes is None:
        yield _Part(Reason(DEFAULT, periods.of(DEFAULT, LAST_VISIT).article, None), "document-kind")
    for exposure in facts.exposures:
        yield from _exposure(exposure, facts, periods)
    yield from _unproved(facts, periods)


def _base(facts: Facts, periods: Periods) -> _Part:
    """The earlier of visit and death. A visit after the death: one of them is wrong, and the death is not believed."""
    visit = _since(facts.last_visit, periods.of(DEFAULT, LAST_VISIT))
    death = _since(facts.death, periods.of(DEFAULT, DEATH))
    code = APART if APART in (facts.classes or ()) else DEFAULT
    if facts.death is None or (facts.seen is not None and facts.seen > facts.death):
        chosen = visit
    elif facts.last_visit is None:
        chosen = death  # whenever the visit was, not later than this
    else:
        chosen = min(visit, death, key=lambda part: part.reason.until or date.max)
    return _Part(Reason(code, chosen.reason.article, chosen.reason.until), chosen.missing)


def _exposure(exposure: Exposure, facts: Facts, periods: Periods) -> Iterator[_Part]:
    figures = periods.exposure(exposure.to)
    if not figures:
        yield _Part(Reason(exposure.to, periods.of(DEFAULT, LAST_VISIT).article, None), "exposure-class")
    for figure in figures:
        yield _since(exposure.end if figure.since == EXPOSURE_END else facts.birth, figure)


def _unproved(facts: Facts, periods: Periods) -> Iterator[_Part]:
    """A document says that there was, or may have been, an exposure of which nothing is recorded."""
    for code in sorted((set(facts.classes or ()) | facts.folder) - NO_EXPOSURE - facts.never):
        if not any(periods.answers(exposure.to, code) for exposure in facts.exposures):
            article = next((figure.article for figure in periods.exposure(code)), "")
            yield _Part(Reason(code, article, None), f"exposure {code}")


def _since(day: date | None, figure: Period) -> _Part:
    if day is None:
        missing = f"{figure.since} {figure.of}" if figure.since == EXPOSURE_END else figure.since
        return _Part(Reason(figure.of, figure.article, None), missing)
    return _Part(Reason(figure.of, figure.article, figure.after(day)))
