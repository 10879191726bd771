"""May this document leave, may this caller see this resource? Pure; default deny; every denial has its code.

Art. L4624-8-1, R4624-45-5 to -8 C. trav.; CSP L1111-17 IV (DMP: express consent of the worker). The rules are
the tables below, in the order in which they are asked.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Literal, Protocol

from fhir_server.roles import NOTHING_OF_A_WORKER, Role
from mappings import access_facts as facts


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
    """What decides on a document: its nomenclature code, and columns of the nomenclature. `minimal` is what goes to
    another service even where the worker opposes it, if the service has that rule (R4626-33).
    """

    kind: str
    current: bool
    transmissible: bool
    qualified_type: bool
    whole_folder: bool
    dmp_candidate: bool
    quarantined: bool = False
    transferable: bool = False
    minimal: bool = False


@dataclass(frozen=True, slots=True)
class Disclosure:
    """One document, one worker, one recipient, one moment; `minimal_set` says whether the service has that rule."""

    recipient_kind: str
    document: DocumentFact
    ins_qualified: bool
    consents: Sequence[ConsentFact]
    at: datetime
    minimal_set: bool = False


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


TRANSFER_OPPOSED: Final = (
    "transfer-opposed",
    "The worker opposes that another service has his record (R4624-45-6 2°, R4624-45-7)",
)


def _opposes_transfer(consents: Sequence[ConsentFact], at: datetime) -> bool:
    return any(c.right == "C3" and not c.permit and _holds(c, at) for c in consents)


def _not_opposed(disclosure: Disclosure) -> bool:
    """The minimal set of vaccinations goes all the same, where the service says so."""
    minimal = disclosure.minimal_set and disclosure.document.minimal
    return minimal or not _opposes_transfer(disclosure.consents, disclosure.at)


_Rule = tuple[str, str, Callable[[Disclosure], bool]]

ALWAYS: Final[tuple[_Rule, ...]] = (
    ("document-not-current", "The document was replaced or withdrawn", lambda d: d.document.current),
    (
        "non-transmissible",
        "Personal notes and third-party information never leave (R4624-45-7, CSP R4127-45)",
        lambda d: d.document.transmissible,
    ),
    ("quarantine", "It is kept back until somebody has looked at it", lambda d: not d.document.quarantined),
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
    "autre-spst": (
        (*TRANSFER_OPPOSED, _not_opposed),
        (
            "not-transferable",
            "This kind of document is not handed to another service",
            lambda d: d.document.transferable,
        ),
    ),
}
ON_REQUEST: Final = frozenset({"autre-spst"})
"""Kinds of recipients that get documents when somebody asks for it, never by themselves (R4624-45-7)."""


def decide(disclosure: Disclosure) -> Permit | Deny:
    """Permit only where every rule for this kind of recipient says yes."""
    rules = BY_RECIPIENT.get(disclosure.recipient_kind)
    if rules is None:
        return Deny("recipient-kind-unknown", "No rule allows anything to leave for this kind of recipient")
    for reason, text, allows in (*ALWAYS, *rules):
        if not allows(disclosure):
            return Deny(reason, text)
    return Permit()


def decide_transfer(consents: Sequence[ConsentFact], at: datetime, *, minimal_set: bool) -> Permit | Deny:
    """May a record be asked for another service at all? Denied where the worker opposes it, and nothing goes then."""
    if _opposes_transfer(consents, at) and not minimal_set:
        return Deny(*TRANSFER_OPPOSED)
    return Permit()


@dataclass(frozen=True, slots=True)
class Looking:
    """One caller and one resource. `role` is None for one that the table does not know; `guard` has the facts of the
    resource (`mappings.access_facts`), `is_his` says whether it is in the caller's own record, `opposed` the rights
    that its worker exercises against others (C1 to C3). `team` are the centres to which the service keeps the caller,
    None where it keeps him to none; `centre` is that of the worker, None where the register names none; `declared` says
    whether the caller declared a reason for this worker that is in force.
    """

    role: Role | None
    guard: int
    is_his: bool = False
    opposed: Collection[str] = ()
    delegated: bool = False
    purpose: str | None = None
    team: Collection[str] | None = None
    centre: str | None = None
    declared: bool = False

    def is_hidden_by(self, bits: int) -> bool:
        return bool(self.guard & bits & (self.role.hidden() if self.role else NOTHING_OF_A_WORKER))


_About = Callable[[Looking], bool]
_LookRule = tuple[str, str, _About]


def _of_role(allows: Callable[[Role, Looking], bool]) -> _About:
    return lambda looking: looking.role is not None and allows(looking.role, looking)


LOOKING: Final[tuple[_LookRule, ...]] = (
    ("role-unknown", "No rule lets this role see a record", lambda one: one.role is not None),
    (
        "delegation-missing",
        "No delegation of the médecin du travail is in force (R4624-45-5)",
        _of_role(lambda role, one: not role.delegation or one.delegated),
    ),
    (
        "purpose-missing",
        "This role sees records for certain purposes only (L4624-8)",
        _of_role(lambda role, one: not role.purposes or one.purpose in role.purposes),
    ),
    (
        "not-his-record",
        "A worker sees his own record (R4624-45-8)",
        _of_role(lambda role, one: not role.own_record or one.is_his),
    ),
    ("not-made-out", "Nothing is known of this resource yet", lambda one: not one.guard & facts.UNKNOWN),
    (
        "non-transmissible",
        "Personal notes and third-party information (CSP R4127-45, R4624-45-7)",
        lambda one: not one.is_hidden_by(facts.NON_TRANSMISSIBLE),
    ),
    (
        "quarantine",
        "It is kept back until somebody has looked at it",
        lambda one: not one.is_hidden_by(facts.QUARANTINE),
    ),
    ("not-filed", "Nobody has said whose it is", lambda one: not one.is_hidden_by(facts.UNFILED)),
    (
        "masked",
        "Its visibility is masked for this role (TRE_A07)",
        lambda one: not one.is_hidden_by(facts.MASKED_FOR_PROFESSIONALS | facts.INVISIBLE_TO_PATIENT),
    ),
    (
        "not-a-model-document",
        "The employer sees the documents that he holds too, never the DMST",
        lambda one: not one.is_hidden_by(facts.NOT_A_MODEL),
    ),
    (
        "heading-closed",
        "It stands under a heading that this role may not see (R4624-45-5)",
        lambda one: not one.is_hidden_by(sum(facts.HEADINGS.values())),
    ),
    (
        "not-qualified",
        "Nobody has said under which heading it stands",
        lambda one: not one.is_hidden_by(facts.UNQUALIFIED),
    ),
    (
        "worker-unclear",
        "Whether one of the workers in it opposes cannot be asked (R4624-45-6)",
        lambda one: not one.is_hidden_by(facts.WORKER_UNCLEAR),
    ),
    (
        "opposed",
        "The worker opposes that this role sees his record (R4624-45-6)",
        _of_role(lambda role, one: bool(one.guard & facts.IDENTITY) or not set(role.opposed_by) & set(one.opposed)),
    ),
    (
        "out-of-team",
        "The worker is in the charge of another centre, and this service wants a declared reason",
        _of_role(
            lambda role, one: (
                not role.team
                or one.team is None
                or one.centre is None
                or one.centre in one.team
                or one.declared
                or bool(one.guard & facts.IDENTITY)
            )
        ),
    ),
)
OF_THE_RESOURCE: Final = frozenset({"not-made-out", "non-transmissible", "quarantine", "not-filed", "masked"})
"""Rules that hold too for what tells of no worker."""


def decide_looking(looking: Looking) -> Permit | Deny:
    """Permit only where every rule says yes; what tells of no worker is seen by everybody, unless it is withheld."""
    is_outside = bool(looking.guard & facts.OUTSIDE)
    for reason, text, allows in LOOKING:
        if is_outside and reason not in OF_THE_RESOURCE:
            continue
        if not allows(looking):
            return Deny(reason, text)
    return Permit()


OutOfTeam = Literal["told", "reason", "emergency"]
"""How a service takes accesses out of the team: told in the trail, upon a declared reason, in an emergency only."""
BREAK_GLASS: Final = "BTG"
"""v3-ActReason: break the glass."""
REASONS: Final[Mapping[str, str]] = {
    BREAK_GLASS: "Vital emergency",
    "remplacement": "He stands in for a professional of that team",
    "changement-de-suivi": "The worker comes into the charge of his team",
    "avis-demande": "That team, or the worker, asked for his opinion",
}
"""Reasons that somebody may declare to look beyond his team."""


@dataclass(frozen=True, slots=True)
class Declaring:
    """One caller who declares, by a code and in words, why he looks at the record of a worker."""

    role: Role | None
    reason: str
    text: str
    mode: OutOfTeam


DECLARING: Final[tuple[tuple[str, str, Callable[[Declaring], bool]], ...]] = (
    ("reason-unknown", "The reason is none of those that may be declared", lambda one: one.reason in REASONS),
    ("reason-without-words", "A reason is said in words too, in 10 to 500 characters", lambda one: _is_said(one.text)),
    (
        "no-team",
        "This role belongs to no team of this service: no reason gives it more (R4624-45-5)",
        lambda one: one.role is not None and one.role.team,
    ),
    (
        "no-break-glass",
        "No article opens the DMST to this role in an emergency (R4624-45-5; CSP L1111-17 is about the DMP)",
        lambda one: one.reason != BREAK_GLASS or (one.role is not None and one.role.break_glass),
    ),
    (
        "emergency-only",
        "This service opens records of other teams in a vital emergency only",
        lambda one: one.reason == BREAK_GLASS or one.mode != "emergency",
    ),
)


def decide_declaring(declaring: Declaring) -> Permit | Deny:
    """Whether a declared reason counts. What it lifts is the restriction to teams, and nothing else."""
    for reason, text, allows in DECLARING:
        if not allows(declaring):
            return Deny(reason, text)
    return Permit()


def _is_said(text: str) -> bool:
    return 10 <= len(text.strip()) <= 500 and text.isprintable()
