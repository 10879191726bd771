"""A FHIR Consent as facts to decide on: which of the worker's rights it exercises, and how.

https://hl7.org/fhir/R4/consent.html - the right is the code of `Consent.category` in our system (C1 to C5:
R4624-45-6, -7, CSP L1111-17 IV, L4624-1); the root provision says permit or deny, and for how long.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Literal

from terminology.systems import OWN

WORKER_RIGHT: Final = f"{OWN}/CodeSystem/worker-right"

Right = Literal["C1", "C2", "C3", "C4", "C5"]
NOT_OPPOSABLE: Final[Mapping[str, str]] = {
    "constitution": "Nobody opposes that his DMST is made and fed (R4624-45-8)",
    "alimentation": "Nobody opposes that his DMST is made and fed (R4624-45-8)",
    "ins": "Nobody opposes that his DMST bears his INS (L4624-8)",
}
"""Codes of the same system for what workers ask and the law does not give, with the reason that they are told."""
RIGHTS: Final[Mapping[str, Right]] = {"C1": "C1", "C2": "C2", "C3": "C3", "C4": "C4", "C5": "C5"}
"""Those that a Consent may exercise, by their codes."""


@dataclass(frozen=True, slots=True)
class ConsentFact:
    """One right, exercised: `permit` or not, from `start` (included) to `end` (excluded), None for open."""

    right: Right
    permit: bool
    start: datetime | None
    end: datetime | None


def consent_facts(consent: Mapping[str, Any]) -> Iterator[ConsentFact]:
    """The facts of an active Consent; none where it is not active or says neither permit nor deny.

    A permission without a date is not one: consent to the DMP has to be express and dated.
    """
    provision = consent.get("provision", {})
    verdict = provision.get("type")
    if consent.get("status") != "active" or verdict not in ("permit", "deny"):
        return
    if verdict == "permit" and "dateTime" not in consent:
        return
    period = provision.get("period", {})
    start, end = _moment(period.get("start") or consent.get("dateTime")), _moment(period.get("end"), end=True)
    for category in consent.get("category", []):
        for coding in category.get("coding", []):
            if coding.get("system") == WORKER_RIGHT and coding.get("code") in RIGHTS:
                yield ConsentFact(RIGHTS[coding["code"]], verdict == "permit", start, end)


def refusals(consent: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Why a Consent may not be recorded: (FHIRPath, text). Nothing for one that is about no right of a worker."""
    verdict = consent.get("provision", {}).get("type")
    for number, category in enumerate(consent.get("category", [])):
        for place, coding in enumerate(category.get("coding", [])):
            if coding.get("system") != WORKER_RIGHT:
                continue
            where, code = f"Consent.category[{number}].coding[{place}]", str(coding.get("code"))
            if code in NOT_OPPOSABLE and verdict == "deny":
                yield where, NOT_OPPOSABLE[code]
            elif code not in RIGHTS and code not in NOT_OPPOSABLE:
                yield where, f"No right of a worker has this code: {', '.join(RIGHTS)}"
            elif code in RIGHTS and consent.get("status") == "active":
                if verdict not in ("permit", "deny"):
                    yield "Consent.provision.type", "Say whether the worker permits or denies"
                if verdict == "permit" and "dateTime" not in consent:
                    yield "Consent.dateTime", "A permission is express and dated (CSP L1111-17 IV)"
                if not str(consent.get("patient", {}).get("reference", "")).startswith("Patient/"):
                    yield "Consent.patient", "Say whose right it is"


def _moment(text: str | None, *, end: bool = False) -> datetime | None:
    """A FHIR dateTime; a partial one is its first instant, or as an end the first instant after it."""
    if text is None:
        return None
    if "T" in text:
        moment = datetime.fromisoformat(text.replace("Z", "+00:00"))
        return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    year, month, day = ([int(part) for part in text.split("-")] + [0, 0])[:3]
    first = datetime(year, month or 1, day or 1, tzinfo=UTC)
    if not end:
        return first
    if day:
        return first + timedelta(days=1)
    return datetime(year + (month == 12 or not month), month % 12 + 1 if month else 1, 1, tzinfo=UTC)
