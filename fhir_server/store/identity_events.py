"""Whose document it is, as events that are only appended: who decided what, when, on which grounds, and what undid it.

An event is never changed or removed: the table refuses it. What is in force is read off the events and the row of the
folder, which is held by whoever decides (docs/review.md).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final, Literal, NamedTuple

import psycopg
from psycopg.types.json import Jsonb

from fhir_server.outcomes import Conflict
from fhir_server.sight import signed_hash
from fhir_server.store import queries
from fhir_server.store.database import Connection, Database
from fhir_server.store.outbox_rows import DeliveryRow
from fhir_server.store.resources import Key
from fhir_server.store.search_index import references_to

SQL: Final = queries.load("identity_events")
OPEN: Final = ("to-review", "second-opinion", "aside")
"""States of a folder that waits: for a person, for a second one, for its worker to be registered."""
BEGINNING: Final = datetime(1, 1, 1, tzinfo=UTC)

Kind = Literal[
    "attach",
    "undo",
    "not-this-worker",
    "not-in-register",
    "back-to-review",
    "several-workers",
    "non-transmissible",
    "second-opinion-asked",
    "second-opinion-given",
    "link",
    "unlink",
    "collision-case-opened",
    "collision-case-closed",
    "duplicate-case-opened",
    "duplicate-case-closed",
]


@dataclass(frozen=True, slots=True)
class NewEvent:
    """An event to append. It is about a folder (`lot`, `barcode`), a `resource` (`Type/id`) or workers only.

    `decided_by` None is the rule. `explanation` holds coded reasons, levels and bits, never a name or a
    trait; `note` is what a person typed, and goes nowhere else. `undoes` is the event that this one takes back.
    """

    kind: Kind
    lot: str | None = None
    barcode: str | None = None
    resource: str | None = None
    patient_id: str | None = None
    other_patient_id: str | None = None
    decided_by: str | None = None
    role: str | None = None
    grade: str | None = None
    score: float | None = None
    model: str | None = None
    explanation: Mapping[str, Any] = field(default_factory=dict[str, Any])
    reason: str | None = None
    note: str | None = None
    undoes: int | None = None
    provenance_id: str | None = None


class Event(NamedTuple):
    """An event as it was kept; `undone_by` is the one that took it back, or closed it."""

    event_id: int
    at: datetime
    kind: str
    lot: str | None
    barcode: str | None
    resource: str | None
    patient_id: str | None
    other_patient_id: str | None
    decided_by: str | None
    role: str | None
    grade: str | None
    score: float | None
    model: str | None
    explanation: dict[str, Any]
    reason: str | None
    note: str | None
    undoes: int | None
    provenance_id: str | None
    undone_by: int | None


class HeldFolder(NamedTuple):
    """A folder that this transaction holds; `newest` is its newest event, 0 where it has none."""

    state: str
    patient_id: str | None
    position: int
    problems: list[dict[str, Any]]
    list_id: str
    evidence: dict[str, Any] | None
    newest: int


class WaitingFolder(NamedTuple):
    lot: str
    barcode: str
    state: str
    problems: list[dict[str, Any]]
    evidence: dict[str, Any] | None
    updated: datetime
    centre: str
    received: datetime
    asked_by: str | None
    """Who asked for the second person that it waits for."""


class WaitingCount(NamedTuple):
    """How many folders wait alike, and when the lot of the oldest was received."""

    state: str
    centre: str
    codes: list[str]
    folders: int
    oldest: datetime


class PlaceInQueue(NamedTuple):
    """Where a page of the queue ended."""

    updated: datetime = BEGINNING
    lot: str = ""
    barcode: str = ""


def in_force(events: Sequence[Event], kind: str) -> list[Event]:
    """Of these events those of a kind that nobody took back."""
    return [event for event in events if event.kind == kind and event.undone_by is None]


async def hold_folder(connection: Connection, lot: str, barcode: str) -> HeldFolder | None:
    """The folder, for this transaction alone: who decides at the same moment waits, and finds what was decided."""
    row = await (await connection.execute(SQL["hold_folder"], (lot, barcode))).fetchone()
    return HeldFolder(*row) if row else None


async def add_event(connection: Connection, event: NewEvent, at: datetime) -> int:
    """Append inside a transaction of somebody else; returns its number. Raises Conflict: it was undone already."""
    values = (
        at,
        event.kind,
        event.lot,
        event.barcode,
        event.resource,
        event.patient_id,
        event.other_patient_id,
        event.decided_by,
        event.role,
        event.grade,
        event.score,
        event.model,
        Jsonb(dict(event.explanation)),
        event.reason,
        event.note,
        event.undoes,
        event.provenance_id,
    )
    try:
        async with connection.transaction():
            row = await (await connection.execute(SQL["add"], values)).fetchone()
    except psycopg.errors.UniqueViolation as error:
        raise Conflict("Somebody else has undone or closed this already") from error
    assert row
    return row[0]


async def set_folder(
    connection: Connection,
    lot: str,
    barcode: str,
    *,
    state: str,
    problems: Sequence[Mapping[str, Any]],
    evidence: Mapping[str, Any] | None,
    at: datetime,
) -> None:
    """Where a folder that is not attached stands now."""
    kept = Jsonb(dict(evidence)) if evidence is not None else None
    await connection.execute(SQL["set_folder"], (state, Jsonb([dict(p) for p in problems]), kept, at, lot, barcode))


async def move_documents(connection: Connection, lot: str, barcode: str, *, before: str, after: str) -> None:
    """The documents of a folder that are in one state, into another; they are no records then."""
    await connection.execute(SQL["set_documents"], (after, lot, barcode, before))


async def withhold_versions(connection: Connection, keys: Sequence[Key]) -> None:
    """No path reads the earlier versions of these resources any more: they were in a record by mistake."""
    await connection.execute(SQL["withhold_versions"], ([key[0] for key in keys], [key[1] for key in keys]))


async def withdraw_deliveries(
    connection: Connection, documents: Sequence[str], *, reason: str, at: datetime
) -> list[DeliveryRow]:
    """Deliveries of documents that leave a record: what waits is withheld, and all of them stay behind."""
    asked = {"documents": list(documents), "reason": reason, "at": at}
    rows = await (await connection.execute(SQL["withdraw_deliveries"], asked)).fetchall()
    return [DeliveryRow(*row)._replace(withdrawn=at) for row in rows]


async def hold_pair(connection: Connection, one: str, other: str) -> None:
    """Two workers, for this transaction alone."""
    await connection.execute(SQL["hold_pair"], (signed_hash("identity pair " + " ".join(sorted((one, other)))),))


async def events_of_patient(connection: Connection, patient_id: str, limit: int = 200) -> list[Event]:
    """What was decided about a worker, newest first, as the transaction of somebody else sees it."""
    rows = await connection.execute(SQL["of_patient"], {"patient": patient_id, "limit": limit})
    return [Event(*row) for row in await rows.fetchall()]


class IdentityEvents:
    """Events over one database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def read(self, event_id: int) -> Event | None:
        found = await self._events("read", (event_id,))
        return found[0] if found else None

    async def of_folder(self, lot: str, barcode: str) -> list[Event]:
        """What was decided of a folder, in order."""
        return await self._events("of_folder", (lot, barcode))

    async def of_patient(self, patient_id: str, limit: int = 200) -> list[Event]:
        """What was decided about a worker, newest first."""
        return await self._events("of_patient", {"patient": patient_id, "limit": limit})

    async def of_person(self, person: str, limit: int) -> list[Event]:
        """What somebody decided about folders of late, newest first."""
        return await self._events("of_person", {"person": person, "limit": limit})

    async def open_cases(self) -> list[Event]:
        """Collisions and duplicates that nobody has closed, oldest first."""
        return await self._events("open_cases", ())

    async def walk(self, kinds: Sequence[Kind], after: int, limit: int) -> list[Event]:
        """Events of these kinds after one of them, in order."""
        return await self._events("walk", (list(kinds), after, limit))

    async def waiting(
        self,
        *,
        states: Sequence[str] = OPEN,
        lot: str | None = None,
        centre: str | None = None,
        code: str | None = None,
        after: PlaceInQueue,
        limit: int,
    ) -> list[WaitingFolder]:
        """Folders that wait, oldest first, after a place."""
        asked = {
            "states": list(states),
            "lot": lot,
            "centre": centre,
            "code": code,
            "updated": after.updated,
            "after_lot": after.lot,
            "after_barcode": after.barcode,
            "limit": limit,
        }
        async with self._database.connection() as connection:
            rows = await (await connection.execute(SQL["waiting"], asked)).fetchall()
            return [WaitingFolder(*row) for row in rows]

    async def counts(self) -> list[WaitingCount]:
        """How many folders wait, by state, centre and codes of their problems."""
        async with self._database.connection() as connection:
            rows = await (await connection.execute(SQL["waiting_counts"])).fetchall()
            return [WaitingCount(*row) for row in rows]

    async def deliveries_of(self, documents: Sequence[str]) -> list[DeliveryRow]:
        """Deliveries of these documents since they were last filed."""
        async with self._database.connection() as connection:
            rows = await (await connection.execute(SQL["deliveries_of"], (list(documents),))).fetchall()
            return [DeliveryRow(*row) for row in rows]

    async def referring(self, names: Sequence[tuple[str, str]], limit: int) -> list[Key]:
        """Resources that refer to any of these (type, id)."""
        hashes = [one for name, identity in names for one in references_to(name, identity)]
        async with self._database.connection() as connection:
            rows = await (await connection.execute(SQL["referring"], (hashes, limit))).fetchall()
            return [(row[0], row[1]) for row in rows]

    async def _events(self, query: str, values: Any) -> list[Event]:
        async with self._database.connection() as connection:
            return [Event(*row) for row in await (await connection.execute(SQL[query], values)).fetchall()]
