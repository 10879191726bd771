"""What was approved is destroyed, and each decision is taken again at that very moment.

A worker's documents go in one transaction, while nobody can write anything new about him: a visit or a hold that came
before blocks, one that comes later finds them gone. What proves it is written in the same transaction. Then the rows
of all versions are removed ($expunge). A run that is killed in between is finished by the next one.
"""

import base64
import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime
from functools import partial
from typing import Any, Final

import orjson

from fhir_server.outcomes import Conflict, Gone, VersionConflict
from fhir_server.r4.references import literal_targets
from fhir_server.r4.resource_types import TYPE_NAME, TYPE_NUMBER
from fhir_server.r4.subjects import patient_in_bytes
from fhir_server.records import audit
from fhir_server.records.write import Door, Incoming, deletion, incoming_from_dict, new_id
from fhir_server.retention.due import CALLER
from fhir_server.retention.expiry import Expiry
from fhir_server.retention.periods import HELD, Periods
from fhir_server.retention.workers import Worker, expiry_of, of_patients
from fhir_server.store import retention as store
from fhir_server.store.access_log import AccessRow
from fhir_server.store.commit import Written
from fhir_server.store.database import Connection, Database
from fhir_server.store.expunge import Expunge
from fhir_server.store.resources import read_within
from fhir_server.store.retention import HalfDone, Item, RetentionRows, Settled
from mappings import retention as mapping

DOCUMENTS_AT_ONCE: Final = 200
ATTEMPTS: Final = 3
MOST_VERSIONS: Final = 1000
LET_GO: Final = frozenset({"Provenance", "List", "DocumentManifest", "DocumentReference"})
"""What may refer to a document that goes: it keeps a name that leads nowhere. Anything else blocks."""
DOCUMENT, BINARY = "DocumentReference", "Binary"

Clock = Callable[[], datetime]


def _now() -> datetime:
    return datetime.now(UTC)


@dataclass(frozen=True, slots=True)
class Fate:
    """What became of one document: `destroyed`, `blocked` (approve it again), or `busy` (the next run tries again)."""

    document: str
    state: str
    why: tuple[str, ...] = ()


@dataclass(slots=True)
class _Unit:
    """What goes in one transaction: documents of one worker, their bytes, and what lets go of them."""

    worker: Worker
    going: dict[str, tuple[Item, Expiry]] = field(default_factory=dict)
    blocked: dict[str, tuple[str, ...]] = field(default_factory=dict)
    documents: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    binaries: dict[str, str] = field(default_factory=dict)
    """Binary id -> id of the document whose bytes it is."""
    referrers: list[store.Kept] = field(default_factory=list)
    contents: dict[str, list[bytes]] = field(default_factory=dict)
    """Document id -> SHA-256 of its bytes."""

    @property
    def names(self) -> list[str]:
        return [*(f"{DOCUMENT}/{one}" for one in self.going), *(f"{BINARY}/{one}" for one in self.binaries)]

    def block(self, document: str, *why: str) -> None:
        self.going.pop(document, None)
        self.blocked[document] = why


@dataclass(frozen=True, slots=True)
class Destroyer:
    """Destroys what lists approve, over one store. `approvals` is how many persons must have approved."""

    database: Database
    door: Door
    expunge: Expunge
    rows: RetentionRows
    periods: Periods
    base: str
    approvals: int
    now: Clock = _now

    async def run(self, tell: Callable[[Fate], None]) -> None:
        """Everything that is approved; `tell` hears what became of each document. Raises Unavailable."""
        await self._finish_all(tell)
        after = ("", "")
        while found := await self.rows.next_worker(after, self.approvals):
            after = found
            while items := await self.rows.items(*found, DOCUMENTS_AT_ONCE):
                if not await self._settle(*found, items, tell):
                    break
            await self._finish_all(tell)

    async def _settle(self, list_id: str, patient: str, items: Sequence[Item], tell: Callable[[Fate], None]) -> bool:
        """Whether these documents are no longer waiting. Somebody who writes at this moment makes us look again."""
        for _ in range(ATTEMPTS):
            async with self.database.connection() as connection:
                unit = await self._decide(connection, patient, items)
            try:
                await self._carry_out(list_id, patient, unit)
            except (Conflict, VersionConflict, Gone):
                continue
            for document, why in unit.blocked.items():
                tell(Fate(document, "blocked", why))
            return True
        for item in items:
            tell(Fate(item.document_reference_id, "busy"))
        return False

    # --- Deciding

    async def _decide(self, connection: Connection, patient: str, items: Sequence[Item]) -> _Unit:
        """What may go now, and why the rest may not."""
        unit = _Unit(await self._worker(connection, patient))
        there = {one.id: one for one in unit.worker.facts.documents if one.patient == patient}
        under_way = await store.being_delivered(connection, [item.document_reference_id for item in items])
        for item in items:
            identity = item.document_reference_id
            if identity not in there:
                unit.blocked[identity] = ("gone",)
            elif there[identity].version != item.version:
                unit.blocked[identity] = ("changed",)
            elif identity in under_way:
                unit.blocked[identity] = ("delivery-under-way",)
            else:
                found = expiry_of(there[identity], unit.worker.facts, self.periods)
                if found.is_due(self._today()):
                    unit.going[identity] = (item, found)
                else:
                    unit.blocked[identity] = _why_not(found)
        await self._surroundings(connection, unit)
        return unit

    async def _worker(self, connection: Connection, patient: str) -> Worker:
        docs = await store.patients(connection, [patient])
        return (await of_patients(connection, docs)).get(patient) or Worker(frozenset(), mapping.WorkerFacts())

    async def _surroundings(self, connection: Connection, unit: _Unit) -> None:
        """The bytes that go with the documents, and who refers to either. Whoever cannot let go blocks."""
        keys = [(TYPE_NUMBER[DOCUMENT], one) for one in unit.going]
        unit.documents = {one.id: orjson.loads(one.doc or b"{}") for one in await read_within(connection, keys)}
        while True:
            unit.binaries = await self._binaries(connection, unit)
            found = await store.referring(connection, unit.names)
            own = set(unit.names)
            unit.referrers = list({_name(one): one for one in found if _name(one) not in own}.values())
            stuck = [one for one in unit.referrers if TYPE_NAME[one.type] not in LET_GO]
            if not stuck:
                break
            for one in stuck:
                for document in _meant(orjson.loads(one.doc), unit):
                    unit.block(document, f"referred-to-by {TYPE_NAME[one.type]}")
        for document in unit.going:
            mine = [binary for binary, of in unit.binaries.items() if of == document]
            kept = await store.contents_of(connection, mine)
            unit.contents[document] = list(dict.fromkeys([*kept, *_inline(unit.documents[document])]))

    async def _binaries(self, connection: Connection, unit: _Unit) -> dict[str, str]:
        """Binaries of these documents, protected by none but them, and of no other document."""
        of = {b: one for one in unit.going for b in mapping.binaries_of(unit.documents[one], self.base)}
        shared = {
            binary
            for other in await store.holding(connection, of, self.base)
            if other.id not in unit.going
            for binary in mapping.binaries_of(orjson.loads(other.doc), self.base)
        }
        mine: dict[str, str] = {}
        for stored in await read_within(connection, [(TYPE_NUMBER[BINARY], one) for one in of if one not in shared]):
            if stored.doc is not None:
                context = orjson.loads(stored.doc).get("securityContext", {}).get("reference")
                if context is None or context.removeprefix(f"{DOCUMENT}/") in unit.going:
                    mine[stored.id] = of[stored.id]
        return mine

    def _today(self) -> date:
        return self.now().date()

    # --- Carrying out

    async def _carry_out(self, list_id: str, patient: str, unit: _Unit) -> None:
        """All of it in one transaction, or nothing. Raises Conflict where something changed meanwhile."""
        at = self.now()
        settled = [
            Settled(one, "blocked", {"blocked": list(why), "at": at.isoformat()}) for one, why in unit.blocked.items()
        ]
        if not unit.going:
            async with self.database.transaction() as connection:
                await store.settle(connection, list_id, settled, at)
            return
        approvers = tuple(await self.rows.approvers(list_id))
        proofs = {one: self._proof(unit, one, patient, approvers, at) for one in unit.going}
        for document, (_, found) in unit.going.items():
            mine = [binary for binary, of in unit.binaries.items() if of == document]
            provenance = proofs[document]["id"]
            settled.append(
                Settled(document, "deleted", _told(found, approvers), mine, unit.contents[document], provenance)
            )

        async def alongside(connection: Connection, _written: Sequence[Written]) -> None:
            await self._check_again(connection, patient, unit)
            if await store.settle(connection, list_id, settled, at) != len(settled):
                raise Conflict("Another process settles this list")
            await store.forget_origin(connection, unit.going)

        changes = [*self._changes(unit), *(incoming_from_dict(proof) for proof in proofs.values())]
        await self.door.write(CALLER, changes, interaction="delete", request_id=new_id(), alongside=alongside)

    def _changes(self, unit: _Unit) -> Iterator[Incoming]:
        for document, (item, _) in unit.going.items():
            yield deletion(DOCUMENT, document, expected_version=item.version)
        for binary in unit.binaries:
            yield deletion(BINARY, binary)
        for one in unit.referrers:
            changed = incoming_from_dict(mapping.without(orjson.loads(one.doc), unit.names), method="update")
            yield replace(changed, expected_version=one.version)

    async def _check_again(self, connection: Connection, patient: str, unit: _Unit) -> None:
        """Nobody writes about the worker any more, and what was written until now is seen. Raises Conflict."""
        await store.hold_workers(connection, unit.worker.patients)
        now = await self._worker(connection, patient)
        if now.patients != unit.worker.patients or await store.being_delivered(connection, unit.going):
            raise Conflict("Something was written about this worker at this moment")
        before = unit.worker.facts
        left = tuple(one for one in before.documents if one.id in unit.going)
        facts = replace(  # what goes in this transaction still counts
            now.facts,
            documents=(*now.facts.documents, *left),
            visits=now.facts.visits | before.visits,
            seen=max((day for day in (now.facts.seen, before.seen) if day), default=None),
        )
        if not all(expiry_of(one, facts, self.periods).is_due(self._today()) for one in left):
            raise Conflict("Something was written about this worker at this moment")

    def _proof(
        self, unit: _Unit, document: str, patient: str, approvers: tuple[str, ...], at: datetime
    ) -> dict[str, Any]:
        found = unit.going[document][1]
        return mapping.destroyed(
            mapping.Destruction(
                provenance_id=new_id(),
                document_id=document,
                patient_id=patient,
                reasons=tuple((one.code, one.article, one.until) for one in found.reasons if one.until),
                approvers=approvers,
                sha256=tuple(sha256.hex() for sha256 in unit.contents[document]),
                at=at,
            )
        )

    # --- Finishing

    async def _finish_all(self, tell: Callable[[Fate], None]) -> None:
        """The rows of every version of what is deleted, this time or before a crash."""
        while found := await self.rows.half_done():
            done = [await self._finish(one) for one in found]
            for one, gone in zip(found, done, strict=True):
                tell(Fate(one.document_reference_id, "destroyed" if gone else "busy"))
            if not all(done):
                return  # the next run tries again

    async def _finish(self, one: HalfDone) -> bool:
        """Whether nothing is left of it."""
        by = f"{CALLER.client_id} {one.list_id}"
        names = [(DOCUMENT, one.document_reference_id), *((BINARY, binary) for binary in one.binaries)]
        for resource_type, resource_id in names:
            number, trace = TYPE_NUMBER[resource_type], partial(_trace, new_id(), resource_type)
            await self.expunge.deleted_resources(number, resource_id, limit=1, trace=trace, by=by)
        keys = [(TYPE_NUMBER[resource_type], resource_id) for resource_type, resource_id in names]
        async with self.database.connection() as connection:
            left = await read_within(connection, keys)
        for stored in left:
            if stored.deleted:  # somebody holds the row at this moment
                return False
            trace = partial(_trace, new_id(), TYPE_NAME[stored.type])  # somebody has taken the id for something new
            await self.expunge.earlier_versions(stored.type, stored.id, limit=MOST_VERSIONS, trace=trace, by=by)
        await self.rows.finish(one.list_id, one.document_reference_id, self.now())
        return True


def _trace(request_id: str, resource_type: str, resource_id: str, doc: bytes) -> AccessRow:
    return audit.access(
        CALLER,
        "operation",
        request_id,
        resource_type=resource_type,
        resource_id=resource_id,
        patient_id=patient_in_bytes(resource_type, resource_id, doc),
        query="$expunge",
    )


def _why_not(found: Expiry) -> tuple[str, ...]:
    held = [one.code for one in found.reasons if one.code == HELD]
    missing = [f"missing {one}" for one in found.missing]
    return (*held, *missing) or (f"not-before {found.until}",)


def _told(found: Expiry, approvers: Iterable[str]) -> dict[str, Any]:
    """What the row keeps of the decision."""
    return {
        "until": str(found.until),
        "reasons": [[one.code, one.article, str(one.until)] for one in found.reasons],
        "approvers": list(approvers),
    }


def _name(kept: store.Kept) -> str:
    return f"{TYPE_NAME[kept.type]}/{kept.id}"


def _meant(referrer: Mapping[str, Any], unit: _Unit) -> set[str]:
    """The documents that a resource holds back, by naming them or their bytes."""
    targets = {"/".join(text.split("/")[:2]) for text in literal_targets(referrer)}
    own = {one for one in unit.going if f"{DOCUMENT}/{one}" in targets}
    held = own | {of for binary, of in unit.binaries.items() if f"{BINARY}/{binary}" in targets}
    return held or set(unit.going)  # found by something else than a reference: nothing goes


def _inline(document: Mapping[str, Any]) -> list[bytes]:
    """The SHA-256 of what a document carries in itself."""
    data = [one.get("attachment", {}).get("data") for one in document.get("content", [])]
    return [hashlib.sha256(base64.b64decode(one)).digest() for one in data if one]
