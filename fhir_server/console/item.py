"""One folder as a page: its picture, its candidates side by side, what may be decided, what was decided."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from fhir_server.caller import ROLES, Caller
from fhir_server.console import french
from fhir_server.console.actions import Offer, is_same, may_undo, name_of, offers, undo_reasons
from fhir_server.console.comparison import Row, differences, rows_of
from fhir_server.console.evidence import Weighed, reason, weighed
from fhir_server.console.queue import code_label, href_of
from fhir_server.console.references import References
from fhir_server.console.words import words
from fhir_server.identity.decisions import table
from fhir_server.intake.review import Candidate, Item
from fhir_server.intake.review_pages import ShownDocument
from fhir_server.store.identity_events import Event
from mappings.nomenclature import kind_of

SIDE_BY_SIDE: Final = 3
"""Candidates in one table; more are in further tables below."""


@dataclass(frozen=True, slots=True)
class Column:
    """The head of a candidate and why he could be the one."""

    patient_id: str
    number: int
    name: str
    counts: str
    weighed: Weighed
    second: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Table:
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]


@dataclass(frozen=True, slots=True)
class ShownPage:
    """What the viewer shows: the index zone (`document` 0), or a whole page and its neighbours."""

    picture: str | None
    label: str
    document: int = 0
    page: int = 0
    before: str | None = None
    after: str | None = None


@dataclass(frozen=True, slots=True)
class ListedPages:
    """A document that may be opened; `href` is None where it is withheld."""

    href: str | None
    document_id: str
    number: int
    label: str
    pages: int
    shown: bool


@dataclass(frozen=True, slots=True)
class Told:
    """An event of the folder. `undo` is the sealed word with which it is taken back, where that is offered."""

    day: str
    what: str
    who: str
    why: str
    note: str
    undo: str | None
    reasons: tuple[tuple[str, str], ...]
    """For taking it back."""


@dataclass(frozen=True, slots=True)
class OwnLine:
    """A decision of the person who asks. `undo` is the sealed word with which it is taken back, where it may be."""

    number: str
    folder: str
    told: Told
    undo: str | None


@dataclass(frozen=True, slots=True)
class ItemPage:
    """What the template of a folder shows."""

    number: str
    state: str
    received: str
    age: str
    late: bool
    centre: str
    revision: int
    problems: tuple[str, ...]
    reasons: tuple[str, ...]
    tables: tuple[Table, ...]
    offers: tuple[Offer, ...]
    flagged: tuple[str, ...]
    dismissed: str
    proposal: Told | None
    proposed: str
    own: bool
    events: tuple[Told, ...]
    whole: bool
    read: bool


def item_page(
    item: Item,
    caller: Caller,
    references: References,
    *,
    now: datetime,
    late_after: timedelta,
) -> ItemPage:
    """The page of this folder for this person."""
    groups = [item.candidates[at : at + SIDE_BY_SIDE] for at in range(0, len(item.candidates), SIDE_BY_SIDE)]
    return ItemPage(
        number=item.barcode,
        state=words().state[item.state],
        received=french.day(item.received),
        age=french.age(item.received, now),
        late=now - item.received >= late_after,
        centre=item.centre,
        revision=item.revision,
        problems=tuple(dict.fromkeys(code_label(problem.code) for problem in item.problems)),
        reasons=tuple(map(reason, item.reasons)),
        tables=tuple(_table(item, group, number * SIDE_BY_SIDE + 1) for number, group in enumerate(groups or [()])),
        offers=offers(item, caller),
        flagged=_flagged(item) if caller.review == "whole" else (),
        dismissed=french.counted(len(item.dismissed), "salarié écarté", "salariés écartés") if item.dismissed else "",
        proposal=_told(item.proposal, caller, references) if item.proposal else None,
        proposed=_proposed(item),
        own=bool(item.proposal and is_same(item.proposal.decided_by, caller)),
        events=tuple(_told(event, caller, references) for event in reversed(item.events) if _may_know(event, caller)),
        whole=caller.review == "whole",
        read=bool(item.read),
    )


def _may_know(event: Event, caller: Caller) -> bool:
    """That something is non-transmissible, or was taken for it, is told to those who see pages."""
    return event.explanation.get("of", event.kind) != "non-transmissible" or caller.review == "whole"


def _table(item: Item, candidates: Sequence[Candidate], first: int) -> Table:
    rows = rows_of(item, candidates)
    columns: list[Column] = []
    for place, one in enumerate(candidates):
        counts = differences(rows, place)
        told = [french.counted(counts["same"], "identique"), french.counted(counts["differs"], "différent")]
        if counts["near"]:
            told.insert(1, french.counted(counts["near"], "proche"))
        second = tuple(table().second[code] for code in one.second_opinion)
        columns.append(
            Column(one.patient_id, first + place, name_of(one), ", ".join(told), weighed(one.grounds), second)
        )
    return Table(tuple(columns), rows)


def _flagged(item: Item) -> tuple[str, ...]:
    numbers = {row.document_id: number for number, row in enumerate(item.documents, 1)}
    return tuple(
        f"Document {numbers[name]} : {'pages ' + ', '.join(map(str, pages)) if pages else 'entier'}"
        for name, pages in sorted(item.flagged.items(), key=lambda pair: numbers.get(pair[0], 0))
        if name in numbers
    )


def _proposed(item: Item) -> str:
    wanted = item.proposal.patient_id if item.proposal else None
    return next((name_of(one) for one in item.candidates if one.patient_id == wanted), "") if wanted else ""


def _told(event: Event, caller: Caller, references: References) -> Told:
    """A note may tell of health, and is shown to those who see the pages, and to who wrote it."""
    mine = is_same(event.decided_by, caller)
    role = ROLES.get(event.role or "", event.role or "")
    undo = event.undone_by is None and event.kind in ("not-this-worker", "non-transmissible")
    return Told(
        day=french.day(event.at),
        what=words().event.get(event.kind, event.kind) + (" (annulé)" if event.undone_by else ""),
        who=f"{event.decided_by} ({role})" if event.decided_by else "règle automatique",
        why=table().reason.get(event.reason or "", event.reason or ""),
        note=(event.note or "") if caller.review == "whole" or mine else "",
        undo=references.seal("event", event.event_id, event.kind) if undo and may_undo(event.kind, caller) else None,
        reasons=undo_reasons(event.kind),
    )


def own_lines(events: Sequence[Event], caller: Caller, references: References) -> tuple[OwnLine, ...]:
    """What somebody decided himself; an attachment too is taken back from here."""
    return tuple(
        OwnLine(
            number=event.barcode,
            folder=href_of(references, event.lot, event.barcode),
            told=_told(event, caller, references),
            undo=references.seal("event", event.event_id, event.kind)
            if event.undone_by is None and may_undo(event.kind, caller)
            else None,
        )
        for event in events
        if event.lot and event.barcode
    )


def listed_pages(documents: Sequence[ShownDocument], base: str, document: int) -> tuple[ListedPages, ...]:
    """The documents of a folder for who may open them; `base` is where the page of the folder is."""
    return tuple(
        ListedPages(
            f"{base}&doc={one.number}&page=1" if one.is_shown else None,
            one.document_id,
            one.number,
            _label(one),
            one.pages,
            one.number == document,
        )
        for one in documents
    )


def _label(one: ShownDocument) -> str:
    dated = f" du {french.date(one.dated)}" if one.dated else ""
    withheld = ", non transmissible" if one.withheld else ", réservé au médecin du travail" if one.opposed else ""
    return f"{one.number}. {kind_of(one.kind).label}{dated}, {french.counted(one.pages, 'page')}{withheld}"


def shown_page(documents: Sequence[ShownDocument], folder: str, base: str, document: int, page: int) -> ShownPage:
    """A whole page in the viewer; `folder` is the address of the folder, to which pictures are relative."""
    one = next((row for row in documents if row.number == document), None)
    if one is None or not one.is_shown or not 1 <= page <= one.pages:
        return ShownPage(None, "Cette page ne peut pas être montrée.", document, page)
    places = [(row.number, at) for row in documents if row.is_shown for at in range(1, row.pages + 1)]
    at = places.index((document, page))
    address = [f"{base}&doc={number}&page={of}" for number, of in places]
    return ShownPage(
        f"{folder}/pages/{document}/{page}",
        f"Document {document}, page {page} sur {one.pages}",
        document,
        page,
        address[at - 1] if at else None,
        address[at + 1] if at + 1 < len(address) else None,
    )
