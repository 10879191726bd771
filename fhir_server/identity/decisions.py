"""What a person may decide of a folder that waits, when a second one must agree, and what a decision is remembered by.

Pure. The table is review.toml; docs/review.md tells it to people.
"""

import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from typing import Any, Final, Literal, get_args

import msgspec

from fhir_server.outcomes import BadParameter

DecisionKind = Literal[
    "attach",
    "not-this-worker",
    "not-in-register",
    "several-workers",
    "non-transmissible",
    "ask-second-opinion",
    "confirm",
    "disagree",
    "back-to-review",
]
LONGEST_NOTE: Final = 1000
_OF_A_WORKER: Final = frozenset({"attach", "not-this-worker"})
_KEPT_OF_A_CANDIDATE: Final = ("patient", "for", "against", "steps", "odds", "score", "grade", "guards")
"""Coded: names of traits and of levels, numbers. Never what a trait says."""


@dataclass(frozen=True, slots=True)
class Decision:
    """What a person decides of one folder.

    `patient_id` is the worker of `attach`, `not-this-worker`, and of `ask-second-opinion` where he proposes one.
    `documents` are those of `non-transmissible`, each with the numbers of its pages; none means all of it. `reason` is
    a code of review.toml, `note` what he types: kept with the event, told to nobody else, never logged. `seen` is the
    `revision` of the Item that he looked at: a Conflict where somebody has decided since.
    """

    kind: DecisionKind
    patient_id: str | None = None
    documents: Mapping[str, tuple[int, ...]] = field(default_factory=dict[str, tuple[int, ...]])
    reason: str | None = None
    note: str | None = None
    seen: int | None = None


class Row(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One kind of decision; the fields are explained in the table."""

    state: str
    sees: Literal["index", "whole"]
    reasons: tuple[str, ...]


class Table(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """review.toml."""

    decision: dict[str, Row]
    second: dict[str, str]
    guards: dict[str, tuple[str, ...]]
    reason: dict[str, str]


@cache
def table() -> Table:
    return msgspec.convert(
        tomllib.loads((files("fhir_server.identity") / "review.toml").read_text(encoding="utf-8")), Table
    )


def reason_of(kind: str, reason: str | None) -> str:
    """The reason, or that which is usual. Raises BadParameter for one that the table does not know for this kind."""
    known = table().decision[kind].reasons
    if reason is not None and reason not in known:
        raise BadParameter(f"The reason of '{kind}' is one of: {', '.join(known)}", expression="reason")
    return reason or known[0]


def check_note(note: str | None) -> None:
    """Raises BadParameter."""
    if note is not None and len(note) > LONGEST_NOTE:
        raise BadParameter(f"A note has at most {LONGEST_NOTE} characters", expression="note")


def check(decision: Decision) -> None:
    """Is it complete, and nothing beside? Raises BadParameter, naming what is wrong."""
    if decision.kind not in get_args(DecisionKind):
        raise BadParameter(f"A decision is one of: {', '.join(get_args(DecisionKind))}", expression="decision")
    if decision.kind in _OF_A_WORKER and not decision.patient_id:
        raise BadParameter(f"'{decision.kind}' names a worker", expression="worker")
    if decision.patient_id and decision.kind not in (*_OF_A_WORKER, "ask-second-opinion"):
        raise BadParameter(f"'{decision.kind}' names no worker", expression="worker")
    if bool(decision.documents) != (decision.kind == "non-transmissible"):
        raise BadParameter("Documents are named by 'non-transmissible', and only by it", expression="document")
    if any(page < 1 for pages in decision.documents.values() for page in pages):
        raise BadParameter("Pages are numbered from 1", expression="document")
    check_note(decision.note)


@dataclass(frozen=True, slots=True)
class Target:
    """The worker to whom a folder would be attached: his status and attributes, and whether he was dismissed for it."""

    status: str
    attributes: frozenset[str]
    dismissed: bool


def second_opinion(target: Target, reasons: Iterable[str], candidate: Mapping[str, Any] | None) -> tuple[str, ...]:
    """Why a second person must agree to this attachment: codes of [second]; none where one person is enough.

    `reasons` are those for which the folder waits, `candidate` what speaks for and against this worker.
    """
    guards = set(table().guards["codes"])
    said = {*reasons, *(candidate or {}).get("against", ())}
    facts = {target.status, *target.attributes}
    if said & guards or (candidate or {}).get("guards"):
        facts.add("guard")
    if target.dismissed:
        facts.add("dismissed")
    return tuple(code for code in table().second if code in facts)


def grounds_of(evidence: Mapping[str, Any] | None) -> dict[str, Any]:
    """What an event keeps of the evidence: coded reasons, and for each candidate the level vector and the bits."""
    found = evidence or {}
    return {
        "reasons": list(found.get("reasons", ())),
        "candidates": [
            {name: one[name] for name in _KEPT_OF_A_CANDIDATE if name in one} for one in found.get("candidates", ())
        ],
    }


def candidate_of(evidence: Mapping[str, Any] | None, patient_id: str | None) -> dict[str, Any] | None:
    """What the evidence says of one worker, where he was proposed."""
    return next((one for one in (evidence or {}).get("candidates", ()) if one.get("patient") == patient_id), None)
