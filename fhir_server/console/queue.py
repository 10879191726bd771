"""The queue as a page: who waits, since when, why."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from urllib.parse import urlencode

from fhir_server.console import french
from fhir_server.console.evidence import reason
from fhir_server.console.places import STATES, Position, Sought
from fhir_server.console.references import References
from fhir_server.console.words import words
from fhir_server.intake.review import Queue
from fhir_server.scans.acknowledgement import reject_codes
from fhir_server.store.identity_events import PlaceInQueue, WaitingCount, WaitingFolder


@dataclass(frozen=True, slots=True)
class Line:
    """A folder of the queue."""

    href: str
    number: str
    state: str
    reasons: tuple[str, ...]
    candidates: str
    centre: str
    received: str
    age: str
    late: bool


@dataclass(frozen=True, slots=True)
class Choice:
    value: str
    label: str
    chosen: bool


@dataclass(frozen=True, slots=True)
class QueuePage:
    """What the template of the queue shows; `further` is the address of the next page."""

    lines: tuple[Line, ...]
    total: str
    late: str
    states: tuple[Choice, ...]
    centres: tuple[Choice, ...]
    codes: tuple[Choice, ...]
    filtered: bool
    first: bool
    further: str | None


def queue_page(
    queue: Queue,
    counts: Iterable[WaitingCount],
    sought: Sought,
    references: References,
    *,
    now: datetime,
    late_after: timedelta,
    first: bool,
) -> QueuePage:
    """The page of these folders."""
    known = tuple(counts)
    lines = tuple(_line(one, sought, references, now, late_after) for one in queue.folders)
    return QueuePage(
        lines=lines,
        total=french.counted(_total(known, sought), "dossier"),
        late=french.counted(sum(line.late for line in lines), "dossier"),
        states=_states(known, sought),
        centres=_choices("Tous les centres", _by_centre(known, sought), sought.centre, lambda code: f"Centre {code}"),
        codes=_choices("Tous les motifs", _by_code(known, sought), sought.code, code_label),
        filtered=bool(sought.pairs),
        first=first,
        further=_further(queue.next, sought, references),
    )


def code_label(code: str) -> str:
    """A code of a problem with its words."""
    told = reject_codes().get(code)
    return f"{code} {told.label_fr}" if told else code


def href_of(references: References, lot: str, barcode: str, position: Position | None = None) -> str:
    """Where the page of a folder is."""
    query = f"?{urlencode({'file': position.sealed(references)})}" if position else ""
    return f"/console/dossiers/{references.seal('folder', lot, barcode)}{query}"


def _line(one: WaitingFolder, sought: Sought, references: References, now: datetime, late_after: timedelta) -> Line:
    evidence = one.evidence or {}
    reasons = [reason(code) for code in evidence.get("reasons", ())]
    position = Position(sought, PlaceInQueue(one.updated, one.lot, one.barcode))
    return Line(
        href=href_of(references, one.lot, one.barcode, position),
        number=one.barcode,
        state=words().state[one.state],
        reasons=tuple(reasons or [code_label(problem["code"]) for problem in one.problems]),
        candidates=french.counted(len(evidence.get("candidates", ())), "candidat"),
        centre=one.centre,
        received=french.day(one.received),
        age=french.age(one.received, now),
        late=now - one.received >= late_after,
    )


def _matches(one: WaitingCount, sought: Sought, *, but: str = "") -> bool:
    return (
        (but == "state" or one.state in STATES.get(sought.state, STATES[""]))
        and (but == "centre" or not sought.centre or one.centre == sought.centre)
        and (but == "code" or not sought.code or sought.code in one.codes)
    )


def _total(counts: Iterable[WaitingCount], sought: Sought) -> int:
    return sum(one.folders for one in counts if _matches(one, sought))


def _states(counts: tuple[WaitingCount, ...], sought: Sought) -> tuple[Choice, ...]:
    def number(state: str) -> int:
        return sum(one.folders for one in counts if one.state in STATES[state] and _matches(one, sought, but="state"))

    labels = {"": "À décider ou à confirmer", **words().state}
    return tuple(Choice(state, f"{label} ({number(state)})", state == sought.state) for state, label in labels.items())


def _by_centre(counts: tuple[WaitingCount, ...], sought: Sought) -> dict[str, int]:
    found: dict[str, int] = {sought.centre: 0} if sought.centre else {}
    for one in counts:
        if _matches(one, sought, but="centre"):
            found[one.centre] = found.get(one.centre, 0) + one.folders
    return found


def _by_code(counts: tuple[WaitingCount, ...], sought: Sought) -> dict[str, int]:
    found: dict[str, int] = {sought.code: 0} if sought.code else {}
    for one in counts:
        if _matches(one, sought, but="code"):
            for code in one.codes:
                found[code] = found.get(code, 0) + one.folders
    return found


def _choices(every: str, found: Mapping[str, int], chosen: str, label: Callable[[str], str]) -> tuple[Choice, ...]:
    rows = (Choice(value, f"{label(value)} ({number})", value == chosen) for value, number in sorted(found.items()))
    return (Choice("", every, not chosen), *rows)


def _further(place: PlaceInQueue | None, sought: Sought, references: References) -> str | None:
    if place is None:
        return None
    return f"/console?{urlencode({**sought.pairs, 'suite': Position(sought, place).sealed(references)})}"
