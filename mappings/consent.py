"""A FHIR Consent as facts to decide on: which of the worker's rights it exercises, and how.

https://hl7.org/fhir/R4/consent.html - the right is the code of `Consent.category` in our system (C1 to C5:
R4624-45-6, -7, CSP L1111-17 IV, L4624-1); the root provision says permit or deny, and for how long.
"""

import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from importlib.resources import files
from typing import Any, Final, Literal

from terminology.systems import EXTENSION_CONSENT_INFORMATION, OWN

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


@dataclass(frozen=True, slots=True)
class WorkerRight:
    """A row of `tables/worker_rights.toml`: what a Consent in force must say, by its verdict, and the article."""

    label: str
    source: str
    permit: tuple[str, ...]
    deny: tuple[str, ...]


@cache
def worker_rights() -> Mapping[str, WorkerRight]:
    """The table, by code."""
    table = tomllib.loads((files("mappings.tables") / "worker_rights.toml").read_text(encoding="utf-8"))
    return {
        code: WorkerRight(row["label"], row["source"], tuple(row["permit"]), tuple(row["deny"]))
        for code, row in table.items()
    }


def proof_of(consent: Mapping[str, Any]) -> tuple[str, str] | None:
    """Where a Consent names its proof, and what it names: a resource, or the address of an attachment."""
    if reference := consent.get("sourceReference", {}).get("reference"):
        return "Consent.sourceReference", str(reference)
    if url := consent.get("sourceAttachment", {}).get("url"):
        return "Consent.sourceAttachment.url", str(url)
    return None


def exercises_a_right(consent: Mapping[str, Any]) -> bool:
    """Is it about a right of the worker, whatever its status?"""
    codings = (coding for category in consent.get("category", []) for coding in category.get("coding", []))
    return any(coding.get("system") == WORKER_RIGHT for coding in codings)


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
                right = worker_rights()[code]
                needed = {"permit": right.permit, "deny": right.deny}.get(str(verdict), ())
                if "date" in needed and "dateTime" not in consent:
                    yield "Consent.dateTime", "A permission is express and dated (CSP L1111-17 IV)"
                if "information" in needed:
                    yield from _uninformed(consent, right.source)
                if not str(consent.get("patient", {}).get("reference", "")).startswith("Patient/"):
                    yield "Consent.patient", "Say whose right it is"


def _uninformed(consent: Mapping[str, Any], article: str) -> Iterator[tuple[str, str]]:
    """What is missing of who informed the worker, and when; it was before he decided."""
    place = f"Consent.extension('{EXTENSION_CONSENT_INFORMATION}')"
    told = [one for one in consent.get("extension", []) if one.get("url") == EXTENSION_CONSENT_INFORMATION]
    said = {part.get("url"): part for one in told for part in one.get("extension", [])}
    by = said.get("by", {}).get("valueReference", {})
    if "reference" not in by and "identifier" not in by:
        yield f"{place}.extension('by')", f"Say who informed the worker ({article})"
    if "valueDateTime" not in said.get("at", {}):
        yield f"{place}.extension('at')", f"Say when the worker was informed ({article})"
    elif _is_after(said["at"]["valueDateTime"], consent.get("dateTime")):
        yield f"{place}.extension('at')", f"The worker is informed before he decides ({article})"


def _is_after(text: str, other: str | None) -> bool:
    """Does the first begin when the second is over?"""
    first, end = _moment(text), _moment(other, end=True)
    if first is None or end is None or other is None:
        return False
    return first > end if "T" in other else first >= end


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
