"""May this document leave for this recipient? Pure; default deny; every denial has a code.

Art. L4624-8-1, R4624-45-5 to -8 C. trav.; CSP L1111-17 IV (DMP: express consent of the worker). The rules are
the table below, in the order in which they are asked.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Protocol


class ConsentFact(Protocol):
    """One active Consent of the worker: which right of C1 to C5, permitted or not, and its period."""

    @property
    def right(self) -> str: ...
    @property
    def permit(self) -> bool: ...
    @property
    def start(self) -> datetime | None: ...
    @property
    def end(self) -> datetime | None: ...


def _holds(fact: ConsentFact, at: datetime) -> bool:
    return (fact.start is None or fact.start <= at) and (fact.end is None or at < fact.end)


@dataclass(frozen=True, slots=True)
class DocumentFact:
    """What decides on a document: its nomenclature code, and two columns of the nomenclature."""

    kind: str
    current: bool
    transmissible: bool
    qualified_type: bool
    whole_folder: bool
    dmp_candidate: bool


@dataclass(frozen=True, slots=True)
class Disclosure:
    """One document, one worker, one recipient, one moment."""

    recipient_kind: str
    document: DocumentFact
    ins_qualified: bool
    consents: Sequence[ConsentFact]
    at: datetime


@dataclass(frozen=True, slots=True)
class Permit:
    """It may leave."""


@dataclass(frozen=True, slots=True)
class Deny:
    """It may not. `reason` is a stable code, `text` says why in words."""

    reason: str
    text: str


def _dmp_consent(disclosure: Disclosure) -> bool:
    """Express and in force; a denial beats any permission."""
    about = [c for c in disclosure.consents if c.right == "C4" and _holds(c, disclosure.at)]
    return bool(about) and all(c.permit for c in about)


_Rule = tuple[str, str, Callable[[Disclosure], bool]]

ALWAYS: Final[tuple[_Rule, ...]] = (
    ("document-not-current", "The document was replaced or withdrawn", lambda d: d.document.current),
    (
        "non-transmissible",
        "Personal notes and third-party information never leave (R4624-45-7, CSP R4127-45)",
        lambda d: d.document.transmissible,
    ),
    (
        "type-not-qualified",
        "Nobody has said yet what kind of document this is",
        lambda d: d.document.qualified_type,
    ),
    (
        "whole-folder",
        "A whole unsplit folder stays here until it is split (nomenclature DMST-FONDS)",
        lambda d: not d.document.whole_folder,
    ),
)
BY_RECIPIENT: Final[dict[str, tuple[_Rule, ...]]] = {
    # The service's own software feeds the DMST, which cannot be opposed (R4624-45-8).
    "logiciel-metier": (),
    "dmp": (
        (
            "dmp-consent-missing",
            "The worker has not given express consent to the DMP (CSP L1111-17 IV)",
            _dmp_consent,
        ),
        ("ins-not-qualified", "The DMP is fed with a qualified INS only", lambda d: d.ins_qualified),
        (
            "not-a-dmp-document",
            "This kind of document is not one that the DMP takes",
            lambda d: d.document.dmp_candidate,
        ),
    ),
}


def decide(disclosure: Disclosure) -> Permit | Deny:
    """Permit only where every rule for this kind of recipient says yes."""
    rules = BY_RECIPIENT.get(disclosure.recipient_kind)
    if rules is None:
        return Deny("recipient-kind-unknown", "No rule allows anything to leave for this kind of recipient")
    for reason, text, allows in (*ALWAYS, *rules):
        if not allows(disclosure):
            return Deny(reason, text)
    return Permit()
