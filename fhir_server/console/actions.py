"""What somebody may decide of the folder before him, and what he decided: a form of the page as a Decision. Pure.

What the table of decisions (identity/review.toml) does not let his role decide is not offered; `Review` refuses it too.
"""

import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, cast, get_args

from fhir_server.caller import Caller
from fhir_server.console.comparison import status_of
from fhir_server.console.words import Action, words
from fhir_server.identity.decisions import Decision, DecisionKind, table
from fhir_server.intake.review import Candidate, Item
from fhir_server.outcomes import BadParameter

UNDOABLE: Final = frozenset({"attach", "not-this-worker", "not-in-register", "several-workers", "non-transmissible"})


def undo_reasons(kind: str) -> tuple[tuple[str, str], ...]:
    """The reasons for taking a decision of this kind back, the likeliest first."""
    likeliest = "wrong-worker" if kind == "attach" else "decided-too-soon"
    return tuple(sorted(reasons_of("undo"), key=lambda reason: reason[0] != likeliest))


@dataclass(frozen=True, slots=True)
class Worker:
    """A candidate in a form. `second` says why a second person would have to agree, empty where one is enough."""

    patient_id: str
    number: int
    label: str
    second: str


@dataclass(frozen=True, slots=True)
class Offer:
    """A decision that is offered, the reasons that may be given, the workers whom it may name."""

    action: Action
    reasons: tuple[tuple[str, str], ...]
    workers: tuple[Worker, ...]


def reasons_of(kind: str) -> tuple[tuple[str, str], ...]:
    """(code, words) of the reasons for a decision."""
    return tuple((code, table().reason[code]) for code in table().decision[kind].reasons)


def offers(item: Item, caller: Caller) -> tuple[Offer, ...]:
    """What this person may decide of this folder as it stands."""
    workers = tuple(_worker(number, one) for number, one in enumerate(item.candidates, 1) if one.identity)
    return tuple(
        Offer(action, reasons_of(action.decision), workers if "worker" in action.about else ())
        for action in words().action
        if _may(action, item, caller) and (workers or action.about != "worker")
    )


def _may(action: Action, item: Item, caller: Caller) -> bool:
    row = table().decision[action.decision]
    if row.state != item.state or (row.sees == "whole" and caller.review != "whole"):
        return False
    if action.decision == "confirm":
        asked = item.proposal
        return bool(asked and asked.patient_id and asked.decided_by and not is_same(asked.decided_by, caller))
    return True


def is_same(person: str | None, caller: Caller) -> bool:
    """Whether this identifier is that of the caller."""
    if not person or not caller.professional:
        return False
    return person.strip().casefold() == caller.professional.strip().casefold()


def may_undo(kind: str, caller: Caller) -> bool:
    """Whether to offer that a decision is taken back; what is non-transmissible only the médecin du travail does."""
    return kind in UNDOABLE and (kind != "non-transmissible" or caller.recalls)


def name_of(candidate: Candidate) -> str:
    """How a worker is called in a form."""
    if candidate.identity is None:
        return "Identité non visible"
    given = " ".join(candidate.identity.given_names)
    return f"{candidate.identity.birth_name or candidate.identity.used_name or ''} {given}".strip() or "Sans nom"


def _worker(number: int, candidate: Candidate) -> Worker:
    second = " ; ".join(table().second[code] for code in candidate.second_opinion)
    status = status_of(candidate.identity)
    return Worker(candidate.patient_id, number, f"{name_of(candidate)}, {status}", second)


def decision_of(form: Mapping[str, Sequence[str]]) -> Decision:
    """The decision of a form that was sent. Raises BadParameter for one that is not of our pages."""
    kind, seen = one_of(form, "decision"), one_of(form, "seen")
    if kind not in get_args(DecisionKind) or not re.fullmatch(r"\d{1,18}", seen):
        raise BadParameter("This form is not one of these pages", expression="decision")
    return Decision(
        cast(DecisionKind, kind),
        patient_id=one_of(form, "patient") or None,
        documents={name: _pages(one_of(form, f"pages-{name}")) for name in form.get("document", ())},
        reason=one_of(form, "reason") or None,
        note=one_of(form, "note").strip() or None,
        seen=int(seen),
    )


def one_of(form: Mapping[str, Sequence[str]], name: str) -> str:
    """The one value of a field; empty where it has none. Raises BadParameter for several, and for no text."""
    values = form.get(name, ())
    if len(values) > 1:
        raise BadParameter("A field is there twice", expression=name)
    value = values[0] if values else ""
    if any(unicodedata.category(character) == "Cc" and character not in "\r\n\t" for character in value):
        raise BadParameter("A field holds a control character", expression=name)
    return value


def _pages(text: str) -> tuple[int, ...]:
    if not text.strip():
        return ()
    if not re.fullmatch(r"\s*\d{1,5}(\s*[,; ]\s*\d{1,5})*\s*", text):
        raise BadParameter("Pages are numbers with commas between", expression="document")
    return tuple(int(page) for page in re.findall(r"\d+", text))
