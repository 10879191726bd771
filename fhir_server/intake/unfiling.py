"""A filing is taken back: the records of a folder leave the record of a worker, as if they had never been in it.

One transaction. The fiches and the classeur keep their ids and lose whose they were; nobody reads them, or what they
were, until they are filed again. What waits for a recipient is withheld; what has left is listed, to be recalled.
"""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Final

import orjson

from fhir_server.caller import service
from fhir_server.intake.document import made_of
from fhir_server.intake.proofs import proofs_of
from fhir_server.outcomes import Conflict, VersionConflict
from fhir_server.r4.resource_types import TYPE_NAME, TYPE_NUMBER
from fhir_server.records.identifiers import service_id_of, stable_id
from fhir_server.records.read import Archive
from fhir_server.records.tasks import task_of
from fhir_server.records.write import Door, Incoming, incoming_from_dict, new_id
from fhir_server.settings import Settings
from fhir_server.store.access_log import AccessRow
from fhir_server.store.commit import Written
from fhir_server.store.database import Connection, Database
from fhir_server.store.identity_events import (
    Event,
    HeldFolder,
    IdentityEvents,
    NewEvent,
    add_event,
    hold_folder,
    move_documents,
    set_folder,
    withdraw_deliveries,
    withhold_versions,
)
from fhir_server.store.outbox_rows import DeliveryRow
from fhir_server.store.resources import Stored
from fhir_server.store.scan_lots import ScanLots
from mappings.filing import Decided, detachment, proof_taken_out, removal, taken_out

NOT_FILED: Final = "not-filed"
ATTEMPTS: Final = 3
MOST_REFERRING: Final = 1000
LEFT: Final = frozenset({"sending", "handed_over", "received", "read", "integrated"})
_CALLER: Final = service("intake")
_OURS: Final = frozenset({"Task", "Provenance"})
Resource = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Undone:
    """What taking a filing back did. `recall` are the deliveries that have left or are leaving: whoever has the
    document has it under the wrong worker. `referring` names resources (`Type/id`) of others that lead to the
    documents, for somebody to look at.
    """

    event_id: int
    recall: tuple[DeliveryRow, ...] = ()
    referring: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Found:
    """The records of a folder as they are."""

    documents: list[str]
    keys: list[tuple[int, str]]
    proofs: list[tuple[int, str]]
    incoming: list[Incoming]
    provenances: tuple[str, str]
    deliveries: list[DeliveryRow]


class Unfiling:
    """Takes folders out of records."""

    def __init__(self, *, door: Door, archive: Archive, database: Database, settings: Settings) -> None:
        self._door = door
        self._archive = archive
        self._lots = ScanLots(database)
        self._events = IdentityEvents(database)
        self._settings = settings

    async def take_out(
        self,
        filed: Event,
        event: NewEvent,
        decided: Decided,
        *,
        hold: Callable[[Connection], Awaitable[HeldFolder]],
        accesses: Sequence[AccessRow],
    ) -> Undone:
        """Take back the attachment `filed`, as `event` tells. Raises Conflict where somebody was quicker."""
        for attempt in range(1, ATTEMPTS + 1):
            try:
                return await self._take_out(filed, event, decided, hold, accesses)
            except VersionConflict as changed:
                if attempt == ATTEMPTS:
                    raise Conflict("These documents are being changed; try again") from changed
            except Conflict as refused:
                now = await self._events.read(filed.event_id)
                if now and now.undone_by:
                    raise Conflict("Somebody else has undone this already") from refused
                raise
        raise AssertionError("unreachable")

    async def _take_out(
        self,
        filed: Event,
        event: NewEvent,
        decided: Decided,
        hold: Callable[[Connection], Awaitable[HeldFolder]],
        accesses: Sequence[AccessRow],
    ) -> Undone:
        assert filed.lot
        assert filed.barcode
        assert filed.patient_id
        lot, barcode = filed.lot, filed.barcode
        found = await self._find(filed, decided)
        done: dict[str, Any] = {}

        async def alongside(connection: Connection, _written: Sequence[Written]) -> None:
            held = await hold(connection)
            told = replace(event, provenance_id=found.provenances[0])
            done["event"] = await add_event(connection, told, decided.at)
            await set_folder(
                connection,
                lot,
                barcode,
                state="to-review",
                problems=held.problems or [{"code": "E11", "path": None, "detail": "a filing was taken back"}],
                evidence=held.evidence,
                at=decided.at,
            )
            await move_documents(connection, lot, barcode, before="accepted", after="to-review")
            await withhold_versions(connection, [*found.keys, *found.proofs])
            moved = await withdraw_deliveries(connection, found.documents, reason=NOT_FILED, at=decided.at)
            if sorted((row.delivery_id, row.state) for row in moved) != sorted(
                (row.delivery_id, row.state) for row in found.deliveries
            ):
                raise VersionConflict("A delivery of these documents moved at this moment")

        await self._door.write(
            replace(_CALLER, professional=decided.by),
            found.incoming,
            interaction="transaction",
            request_id=new_id(),
            alongside=alongside,
            accesses=accesses,
        )
        recall = tuple(row for row in found.deliveries if row.state in LEFT)
        return Undone(done["event"], recall, await self._referring(filed, found))

    async def _find(self, filed: Event, decided: Decided) -> _Found:
        assert filed.lot
        assert filed.barcode
        assert filed.patient_id
        before = [one for one in await self._events.of_folder(filed.lot, filed.barcode) if one.kind == "attach"]
        number = [one.event_id for one in before].index(filed.event_id)
        rows = await self._lots.documents(filed.lot, filed.barcode)
        own = [row.document_reference_id for row in rows if row.document_reference_id]
        folder = await self._lots.folder(filed.lot, filed.barcode)
        assert folder
        his = f"Patient/{filed.patient_id}"
        made = await made_of(self._archive, self._events, own)
        documents = own + [one["id"] for one in made if one.get("subject", {}).get("reference") == his]
        keys = [(TYPE_NUMBER["DocumentReference"], one) for one in documents] + [(TYPE_NUMBER["List"], folder.list_id)]
        fiches = [row for row in await self._read(keys) if row.doc]
        parts = {(row.type, row.id): orjson.loads(row.doc) for row in fiches if row.doc}
        incoming = [_over(row, taken_out(parts[row.type, row.id])) for row in fiches]
        incoming += await self._replaced(list(parts.values()))
        steps = _steps(filed.lot, filed.barcode, documents, number)
        proofs = await self._read([(TYPE_NUMBER["Provenance"], one) for one in steps])
        known = {row.id for row in proofs}
        proofs += [one for one in await proofs_of(self._archive, documents, his) if one.id not in known]
        incoming += [_over(row, proof_taken_out(orjson.loads(row.doc))) for row in proofs if row.doc]
        deliveries = [_stopped(row, decided.at) for row in await self._events.deliveries_of(documents)]
        custodian = service_id_of(self._settings)
        incoming += [incoming_from_dict(task_of(row, custodian_id=custodian), method="update") for row in deliveries]
        ids = tuple(
            stable_id("provenance", step, filed.lot, filed.barcode, str(number)) for step in ("removal", "detachment")
        )
        targets = [f"{TYPE_NAME[row.type]}/{row.id}" for row in fiches]
        told = [removal(ids[0], decided, patient_id=filed.patient_id, filed_at=filed.at)]
        told += [detachment(ids[1], decided, targets=targets)] if targets else []
        incoming += [incoming_from_dict(one) for one in told]
        proven = [(row.type, row.id) for row in proofs]
        return _Found(documents, [(row.type, row.id) for row in fiches], proven, incoming, (ids[0], ids[1]), deliveries)

    async def _read(self, keys: Sequence[tuple[int, str]]) -> list[Stored]:
        return await self._archive.resources.read_many(keys) if keys else []

    async def _replaced(self, fiches: Sequence[Resource]) -> list[Incoming]:
        """What these documents took the place of is current again."""
        targets = [
            str(one.get("target", {}).get("reference", "")).removeprefix("DocumentReference/")
            for fiche in fiches
            for one in fiche.get("relatesTo", [])
            if one.get("code") == "replaces"
        ]
        rows = await self._read([(TYPE_NUMBER["DocumentReference"], target) for target in targets])
        found = [(row, orjson.loads(row.doc)) for row in rows if row.doc]
        return [_over(row, {**one, "status": "current"}) for row, one in found if one.get("status") == "superseded"]

    async def _referring(self, filed: Event, found: _Found) -> tuple[str, ...]:
        """Who leads to the documents besides ourselves."""
        names = [(TYPE_NAME[number], identity) for number, identity in found.keys]
        others = await self._events.referring(names, MOST_REFERRING) if names else []
        lot = await self._lots.read(filed.lot or "")
        ours = {
            (TYPE_NUMBER["List"], lot.list_id if lot else ""),
            *found.keys,
            *((TYPE_NUMBER[one.type], one.resource_id) for one in found.incoming),
        }
        skipped = {TYPE_NUMBER[name] for name in (*_OURS, "Binary")}
        binders = [(number, one) for number, one in others if (number, one) not in ours and number not in skipped]
        return tuple(f"{TYPE_NAME[number]}/{one}" for number, one in binders)


async def held_as_filed(connection: Connection, filed: Event, newest: int | None) -> HeldFolder:
    """The folder, held, while it is still filed as this event says. Raises Conflict."""
    held = await hold_folder(connection, filed.lot or "", filed.barcode or "")
    if held is None or held.state != "accepted" or held.patient_id != filed.patient_id:
        raise Conflict("This folder is not filed so any more")
    if newest is not None and held.newest != newest:
        raise Conflict("Somebody has decided about this folder since")
    return held


def _over(row: Stored, resource: Resource) -> Incoming:
    """The next version of what was read, if nobody writes one before."""
    return replace(incoming_from_dict(resource, method="update"), expected_version=row.version)


def _stopped(row: DeliveryRow, at: datetime) -> DeliveryRow:
    if row.state != "pending":
        return row._replace(withdrawn=at)
    return row._replace(withdrawn=at, state="withheld", reason=NOT_FILED, updated=at)


def _steps(lot: str, barcode: str, documents: Sequence[str], number: int) -> list[str]:
    """The ids of the Provenances of a folder; that of its filing is another each time."""
    link = ("link", lot, barcode, *((str(number),) if number else ()))
    named = [(step, lot, barcode) for step in ("originate", "receive", "verify")]
    named += [(f"transform/{one}", lot, barcode) for one in documents]
    return [stable_id("provenance", *parts) for parts in (*named, link)]
