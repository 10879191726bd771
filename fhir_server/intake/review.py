"""Folders that wait for their worker: who may look, what he decides, and how it is taken back.

dmst.md scenarios A3, A4, A9; docs/review.md. Each look and each decision leaves its access. A decision is an event that
stays; who decides holds the folder, so of two persons one wins, and the other is told.
"""

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Final

import orjson

from fhir_server.caller import Caller
from fhir_server.identity.decisions import (
    Decision,
    Target,
    candidate_of,
    check,
    check_note,
    grounds_of,
    reason_of,
    second_opinion,
    table,
)
from fhir_server.intake.document import DocumentIntake, Filing, duplicates
from fhir_server.intake.unfiling import Undone, Unfiling, held_as_filed
from fhir_server.outcomes import BadParameter, BusinessRule, Conflict, Forbidden, NotFound
from fhir_server.r4.resource_types import TYPE_NUMBER
from fhir_server.records import audit
from fhir_server.records.identifiers import service_id_of
from fhir_server.records.read import Archive
from fhir_server.records.write import Door, new_id
from fhir_server.scans import acknowledgement
from fhir_server.scans.acknowledgement import Acknowledgement, FolderResult
from fhir_server.scans.index_file import IndexLine
from fhir_server.scans.seal import Seal
from fhir_server.scans.unpack import Problem
from fhir_server.settings import Settings
from fhir_server.store.access_log import AccessRow, insert_accesses
from fhir_server.store.database import Connection, Database
from fhir_server.store.identity_events import (
    OPEN,
    Event,
    HeldFolder,
    IdentityEvents,
    Kind,
    NewEvent,
    PlaceInQueue,
    WaitingCount,
    WaitingFolder,
    add_event,
    hold_folder,
    in_force,
    move_documents,
    set_folder,
)
from fhir_server.store.scan_lots import DocumentRow, FolderRow, ScanLots
from mappings.filing import Decided
from mappings.patient_fr_core import Employment, PatientIdentity, employment_of, identity_of

MOST_ON_A_PAGE: Final = 200
LOOKED_AGAIN_AT_ONCE: Final = 200
TOLD_TO_PROVIDER: Final = {"code": "E13", "path": None, "detail": "a person saw several workers in this folder"}
_UNDOABLE: Final = frozenset({"attach", "not-this-worker", "not-in-register", "several-workers", "non-transmissible"})
_SETTLED_AS: Final[Mapping[str, frozenset[str]]] = {
    "attach": frozenset({"attach", "second-opinion-asked"}),
    "ask-second-opinion": frozenset({"second-opinion-asked"}),
    "confirm": frozenset({"second-opinion-given"}),
    "disagree": frozenset({"second-opinion-given"}),
    **{
        kind: frozenset({kind})
        for kind in ("not-this-worker", "not-in-register", "back-to-review", "several-workers", "non-transmissible")
    },
}
"""Kind of a decision -> kinds of the event that it appends first."""
_WHOLE: Final = {"none": 0, "index": 1, "whole": 2}


@dataclass(frozen=True, slots=True)
class Filters:
    """Which folders: where they stand (`to-review`, `second-opinion`, `aside`), of a lot, of a centre, with a code."""

    states: tuple[str, ...] = ("to-review", "second-opinion")
    lot: str | None = None
    centre: str | None = None
    code: str | None = None


@dataclass(frozen=True, slots=True)
class Queue:
    """A page of the folders that wait, oldest first; `next` is where the next one starts, None at the end."""

    folders: tuple[WaitingFolder, ...]
    next: PlaceInQueue | None


@dataclass(frozen=True, slots=True)
class Candidate:
    """A worker who could be the owner. `identity` is None where the caller may not see him (an id, nothing else).

    `grounds` is what the evidence says: `for`, `against`, and where the scorer gave them `steps`, `odds`, `score`,
    `grade`, `guards`. `second_opinion` says why a second person would have to agree (codes of review.toml).
    """

    patient_id: str
    identity: PatientIdentity | None
    grounds: Mapping[str, Any]
    second_opinion: tuple[str, ...]
    employment: Employment | None = None
    centre: str | None = None
    """Name of the Organization that follows him."""


@dataclass(frozen=True, slots=True)
class Item:
    """A folder that waits, as somebody may see it. `sees` is `index` for who may not look at its pages.

    `revision` goes into `Decision.seen`. `dismissed` are workers who are not proposed any more, `flagged` documents
    with their pages that are non-transmissible, `proposal` the attachment on which a second person is asked.
    """

    lot: str
    barcode: str
    centre: str
    received: datetime
    state: str
    revision: int
    sees: str
    problems: tuple[Problem, ...]
    reasons: tuple[str, ...]
    barcodes: tuple[str, ...]
    """Folder numbers that were read on its pages."""
    read: tuple[Mapping[str, Any], ...]
    """What was read of the words of its cover: `name`, `value` and `confidence` of each field."""
    index: tuple[IndexLine, ...]
    documents: tuple[DocumentRow, ...]
    candidates: tuple[Candidate, ...]
    dismissed: tuple[str, ...]
    flagged: Mapping[str, tuple[int, ...]]
    proposal: Event | None
    events: tuple[Event, ...]


@dataclass(frozen=True, slots=True)
class Settled:
    """What a decision did: its event, where the folder stands now, and why a second person is asked, where one is."""

    event_id: int
    state: str
    second_opinion: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Case:
    """One decision about one folder."""

    caller: Caller
    person: str
    lot: str
    barcode: str
    folder: FolderRow
    events: Sequence[Event]
    decision: Decision
    reason: str
    request_id: str

    def event(self, kind: Kind, **more: Any) -> NewEvent:
        return NewEvent(
            kind,
            lot=self.lot,
            barcode=self.barcode,
            decided_by=self.person,
            role=self.caller.role,
            reason=self.reason,
            note=self.decision.note,
            **more,
        )


class Review:
    """What persons do with folders that wait."""

    def __init__(
        self, *, documents: DocumentIntake, door: Door, archive: Archive, database: Database, settings: Settings
    ) -> None:
        self._documents = documents
        self._archive = archive
        self._database = database
        self._lots = ScanLots(database)
        self._events = IdentityEvents(database)
        self._settings = settings
        self._unfiling = Unfiling(door=door, archive=archive, database=database, settings=settings)

    async def waiting(
        self, caller: Caller, filters: Filters | None = None, after: PlaceInQueue | None = None, count: int = 50
    ) -> Queue:
        """A page of the queue: codes and ids, no trait. Raises Forbidden, BadParameter."""
        filters = filters or Filters()
        if not set(filters.states) <= set(OPEN):
            raise BadParameter(f"A folder that waits is one of: {', '.join(OPEN)}", expression="state")
        if not 1 <= count <= MOST_ON_A_PAGE:
            raise BadParameter(f"A page has 1 to {MOST_ON_A_PAGE} folders", expression="count")
        request_id = new_id()
        await self._must(caller, "index", "search-type", request_id, None)
        found = await self._events.waiting(
            states=filters.states,
            lot=filters.lot,
            centre=filters.centre,
            code=filters.code,
            after=after or PlaceInQueue(),
            limit=count + 1,
        )
        await self._archive.accesses.append(_look(caller, "search-type", request_id, None))
        page = found[:count]
        last = page[-1] if len(found) > count else None
        return Queue(tuple(page), PlaceInQueue(last.updated, last.lot, last.barcode) if last else None)

    async def counts(self, caller: Caller) -> tuple[WaitingCount, ...]:
        """How many folders wait, by state, centre and codes. Raises Forbidden."""
        await self._must(caller, "index", "search-type", new_id(), None)
        return tuple(await self._events.counts())

    async def item(self, caller: Caller, lot: str, barcode: str) -> Item:
        """One folder that waits, with the workers who could be its owner; each of them who is shown is traced.

        Raises Forbidden, NotFound where it does not wait (any more).
        """
        request_id = new_id()
        folder = await self._lots.folder(lot, barcode)
        await self._must(caller, "index", "read", request_id, folder)
        if folder is None or folder.state not in OPEN:
            raise NotFound("This folder does not wait for a decision")
        facts, _ = await self._documents.again(lot, barcode)
        events = await self._events.of_folder(lot, barcode)
        dismissed = _dismissed(events)
        proposed = [one for one in (folder.evidence or {}).get("candidates", []) if one["patient"] not in dismissed]
        ids = [one["patient"] for one in proposed]
        proposal = _proposal(folder, events)
        if proposal and proposal.patient_id and proposal.patient_id not in ids:
            ids.append(proposal.patient_id)
        known = await self._workers(caller, ids, request_id)
        centres = await self._centres(known.values())
        await self._archive.accesses.append(_look(caller, "read", request_id, folder.list_id))
        reasons = tuple((folder.evidence or {}).get("reasons", ()))
        candidates: list[Candidate] = []
        for one in ids:
            identity, employment = known.get(one, (None, None))
            grounds = candidate_of(folder.evidence, one) or {}
            second = self._second(identity, reasons, grounds, dismissed)
            centre = centres.get(employment.organization_id or "") if employment else None
            candidates.append(Candidate(one, identity, grounds, second, employment, centre))
        return Item(
            lot=lot,
            barcode=barcode,
            centre=facts.manifest.centre,
            received=facts.received_at,
            state=folder.state,
            revision=events[-1].event_id if events else 0,
            sees=caller.review,
            problems=_problems(folder),
            reasons=reasons,
            barcodes=tuple((folder.evidence or {}).get("barcodes", ())),
            read=tuple((folder.evidence or {}).get("read", ())),
            index=tuple(await self._documents.index_lines(facts, barcode)),
            documents=tuple(await self._lots.documents(lot, barcode)),
            candidates=tuple(candidates),
            dismissed=tuple(sorted(dismissed)),
            flagged=_flagged(events),
            proposal=proposal,
            events=tuple(events),
        )

    async def decide(self, caller: Caller, lot: str, barcode: str, decision: Decision) -> Settled:
        """One decision of a person about a folder.

        Raises Forbidden (the role, or the second person is the first), BadParameter, NotFound, BusinessRule, and
        Conflict where the folder does not stand where this can be decided: somebody else was quicker.
        """
        check(decision)
        row = table().decision[decision.kind]
        request_id = new_id()
        folder = await self._lots.folder(lot, barcode)
        await self._must(caller, row.sees, "operation", request_id, folder)
        person = _person(caller)
        reason = reason_of(decision.kind, decision.reason)
        if folder is None:
            raise NotFound("There is no such folder")
        if folder.state != row.state:
            raise Conflict(
                f"This folder is '{folder.state}': '{decision.kind}' is decided of one that is '{row.state}'"
            )
        events = await self._events.of_folder(lot, barcode)
        case = _Case(caller, person, lot, barcode, folder, events, decision, reason, request_id)
        return await self._steps()[decision.kind](case)

    async def own(self, caller: Caller, count: int = 50) -> tuple[Event, ...]:
        """What the caller himself decided about folders of late, newest first. Raises Forbidden."""
        request_id = new_id()
        await self._must(caller, "index", "search-type", request_id, None)
        await self._archive.accesses.append(_look(caller, "search-type", request_id, None))
        return tuple(await self._events.of_person(_person(caller), count))

    async def settled(self, caller: Caller, lot: str, barcode: str, decision: Decision) -> Event | None:
        """The event of this decision of this person, where it took effect already: a form that was sent twice.

        None where the folder has it not, or somebody decided before. Needs `seen`.
        """
        if caller.review == "none" or not caller.professional or decision.seen is None:
            return None
        since = [one for one in await self._events.of_folder(lot, barcode) if one.event_id > decision.seen]
        first = since[0] if since else None
        if first is None or first.kind not in _SETTLED_AS[decision.kind] or first.decided_by != caller.professional:
            return None
        if decision.patient_id not in (None, first.patient_id):
            return None
        if decision.kind == "confirm":  # what it did is the attachment that came with it
            return next((one for one in since[1:2] if one.kind == "attach"), None)
        return first

    async def undo(
        self, caller: Caller, event_id: int, reason: str | None = None, *, note: str | None = None
    ) -> Undone:
        """Take back a decision about a folder, whoever made it. Of an attachment both sides are as before it.

        Raises Forbidden, NotFound, BadParameter, BusinessRule for what cannot be undone so, and Conflict where it was
        undone already or something was decided on top of it.
        """
        check_note(note)
        request_id = new_id()
        event = await self._events.read(event_id)
        folder = await self._lots.folder(event.lot, event.barcode) if event and event.lot and event.barcode else None
        await self._must(caller, table().decision["undo"].sees, "operation", request_id, folder)
        person, why = _person(caller), reason_of("undo", reason)
        if event is None:
            raise NotFound("There is no such event")
        if event.kind not in _UNDOABLE or folder is None or not event.lot or not event.barcode:
            raise BusinessRule(f"'{event.kind}' is not taken back by 'undo'")
        if event.undone_by:
            raise Conflict("This was undone already")
        undoing = NewEvent(
            "undo",
            lot=event.lot,
            barcode=event.barcode,
            patient_id=event.patient_id,
            decided_by=person,
            role=caller.role,
            grade=event.grade,
            score=event.score,
            model=event.model,
            explanation={"of": event.kind, **grounds_of(event.explanation)},
            reason=why,
            note=note,
            undoes=event_id,
        )
        if event.kind == "non-transmissible" and not caller.recalls:
            await self._trace_refused(caller, "operation", request_id, folder)
            raise Forbidden("Only the médecin du travail makes it transmissible again")
        trace = _decided(caller, request_id, folder, "undo", event.patient_id)
        if event.kind != "attach":
            return await self._undo_in_queue(event, undoing, trace)
        decided = Decided(person, caller.role, datetime.now(UTC), why, service_id_of(self._settings))
        done = await self._unfiling.take_out(
            event, undoing, decided, hold=lambda connection: held_as_filed(connection, event, None), accesses=[trace]
        )
        await self._tell_lot(event.lot, event.barcode)
        return done

    async def look_again(self) -> int:
        """Ask the register of now about folders that wait for their worker to be registered; those for which somebody
        comes into question go back to the queue. Returns how many.
        """
        back, place = 0, PlaceInQueue()
        while page := await self._events.waiting(states=("aside",), after=place, limit=LOOKED_AGAIN_AT_ONCE):
            for one in page:
                back += await self._look_again(one)
            last = page[-1]
            place = PlaceInQueue(last.updated, last.lot, last.barcode)
        return back

    async def acknowledge(self, lot: str) -> Acknowledgement:
        """What the provider of a lot is told now: decisions of persons reject folders after the first answer.

        Raises NotFound.
        """
        row = await self._lots.read(lot)
        if row is None:
            raise NotFound("There is no such lot")
        folders: list[FolderResult] = []
        for folder in await self._lots.folders(lot):
            _, listed = await self._documents.again(lot, folder.barcode)
            pages = sum(document.pages for document in listed.documents)
            told = acknowledgement.TOLD[folder.state]
            folders.append(FolderResult(folder.barcode, told, len(listed.documents), pages, _problems(folder)))
        stamped = row.seal.get("timestamp_at")
        seal = Seal(
            row.seal.get("state", "absent"),
            signer=row.seal.get("signer"),
            signer_serial=row.seal.get("signer_serial"),
            timestamp_at=datetime.fromisoformat(stamped) if stamped else None,
            timestamp_authority=row.seal.get("timestamp_authority"),
        )
        return Acknowledgement(lot, row.received, acknowledgement.overall_state(folders), seal, tuple(folders))

    # the kinds of decisions

    def _steps(self) -> Mapping[str, Callable[[_Case], Awaitable[Settled]]]:
        return {
            "attach": self._attach,
            "ask-second-opinion": self._ask,
            "confirm": self._confirm,
            "disagree": lambda case: self._move(case, "second-opinion-given", "to-review", {"agrees": False}),
            "not-this-worker": self._dismiss,
            "not-in-register": lambda case: self._move(case, "not-in-register", "aside", {}),
            "back-to-review": lambda case: self._move(case, "back-to-review", "to-review", {}),
            "several-workers": self._several,
            "non-transmissible": self._flag,
        }

    async def _attach(self, case: _Case) -> Settled:
        patient_id = case.decision.patient_id or ""
        why = await self._why_second(case, patient_id)
        if why:
            return await self._move(case, "second-opinion-asked", "second-opinion", {"why": list(why)}, patient_id)
        event = case.event("attach", patient_id=patient_id, **_facts(case.folder, patient_id))
        return await self._file(case, event, by=case.person)

    async def _ask(self, case: _Case) -> Settled:
        patient_id = case.decision.patient_id
        why = await self._why_second(case, patient_id) if patient_id else ()
        return await self._move(case, "second-opinion-asked", "second-opinion", {"why": [*why, "asked"]}, patient_id)

    async def _confirm(self, case: _Case) -> Settled:
        asked = _proposal(case.folder, case.events)
        if asked is None or asked.patient_id is None:
            raise BusinessRule("No worker was proposed: disagree, and decide yourself")
        if not asked.decided_by or _same(asked.decided_by, case.person):
            await self._trace_refused(case.caller, "operation", case.request_id, case.folder)
            raise Forbidden("The second person is another one than the first")
        await self._usable(case.caller, asked.patient_id)
        given = case.event(
            "second-opinion-given", patient_id=asked.patient_id, explanation={"agrees": True, "asked": asked.event_id}
        )
        facts = _facts(case.folder, asked.patient_id)
        facts["explanation"] = {**facts["explanation"], "why": asked.explanation.get("why", [])}
        event = replace(
            case.event("attach", patient_id=asked.patient_id, **facts),
            decided_by=asked.decided_by,
            role=asked.role,
            reason=asked.reason,
            note=asked.note,
        )
        return await self._file(case, event, by=asked.decided_by, given=given)

    async def _dismiss(self, case: _Case) -> Settled:
        patient_id = case.decision.patient_id or ""
        if await self._archive.current(case.caller, "Patient", patient_id) is None:
            raise NotFound("There is no such worker")
        event = case.event("not-this-worker", patient_id=patient_id, **_facts(case.folder, patient_id))
        return await self._note(case, event, patient_id)

    async def _several(self, case: _Case) -> Settled:
        async def change(connection: Connection, held: HeldFolder, at: datetime) -> None:
            problems = [TOLD_TO_PROVIDER, *held.problems]
            await _set(connection, case, held, "rejected", problems, at)
            await move_documents(connection, case.lot, case.barcode, before="to-review", after="rejected")

        event = case.event("several-workers", explanation=grounds_of(case.folder.evidence))
        return await self._keep(case, event, change, "rejected", None)

    async def _flag(self, case: _Case) -> Settled:
        rows = {row.document_id: row for row in await self._lots.documents(case.lot, case.barcode)}
        for document, pages in case.decision.documents.items():
            if document not in rows:
                raise BadParameter("There is no such document in this folder", expression="document")
            if any(page > rows[document].pages for page in pages):
                raise BadParameter("This document has fewer pages", expression="document")
        pages_of = {document: list(pages) for document, pages in case.decision.documents.items()}
        return await self._note(case, case.event("non-transmissible", explanation={"documents": pages_of}), None)

    # how a decision is kept

    async def _file(self, case: _Case, event: NewEvent, *, by: str, given: NewEvent | None = None) -> Settled:
        """Attach, in the transaction of every record of the folder."""

        async def hold(connection: Connection) -> None:
            await _hold(connection, case)
            if given:
                await add_event(connection, given, datetime.now(UTC))

        filing = Filing(
            event,
            by=by,
            confirmed_by=given.decided_by if given else None,
            flagged=frozenset(_flagged(case.events)),
            hold=hold,
            accesses=[_decided(case.caller, case.request_id, case.folder, case.decision.kind, event.patient_id)],
        )
        patient_id = event.patient_id or ""
        row = await self._documents.attach(case.lot, case.barcode, patient_id, by=by, filing=filing)
        await self._tell_lot(case.lot, case.barcode)
        newest = (await self._events.of_folder(case.lot, case.barcode))[-1]
        return Settled(newest.event_id, row.state)

    async def _move(
        self, case: _Case, kind: Kind, state: str, explanation: Mapping[str, Any], patient_id: str | None = None
    ) -> Settled:
        """Let the folder stand elsewhere."""

        async def change(connection: Connection, held: HeldFolder, at: datetime) -> None:
            await _set(connection, case, held, state, held.problems, at)

        facts = _facts(case.folder, patient_id)
        facts["explanation"] = {**facts["explanation"], **explanation}
        event = case.event(kind, patient_id=patient_id, **facts)
        settled = await self._keep(case, event, change, state, patient_id)
        return replace(settled, second_opinion=tuple(explanation.get("why", ())))

    async def _note(self, case: _Case, event: NewEvent, patient_id: str | None) -> Settled:
        """Remember something of a folder that goes on waiting."""

        async def change(_connection: Connection, _held: HeldFolder, _at: datetime) -> None:
            pass

        return await self._keep(case, event, change, case.folder.state, patient_id)

    async def _keep(
        self,
        case: _Case,
        event: NewEvent,
        change: Callable[[Connection, HeldFolder, datetime], Awaitable[None]],
        state: str,
        patient_id: str | None,
    ) -> Settled:
        at = datetime.now(UTC)
        async with self._database.transaction() as connection:
            held = await _hold(connection, case)
            event_id = await add_event(connection, event, at)
            await change(connection, held, at)
            trace = _decided(case.caller, case.request_id, case.folder, case.decision.kind, patient_id)
            await insert_accesses(connection, [trace])
        return Settled(event_id, state)

    async def _undo_in_queue(self, event: Event, undoing: NewEvent, trace: AccessRow) -> Undone:
        assert event.lot
        assert event.barcode
        expected = {"not-in-register": ("aside",), "several-workers": ("rejected",)}.get(event.kind, OPEN)
        _, listed = await self._documents.again(event.lot, event.barcode)
        at = datetime.now(UTC)
        async with self._database.transaction() as connection:
            again = event.kind == "several-workers" and await duplicates(connection, event.lot, listed)
            held = await hold_folder(connection, event.lot, event.barcode)
            if held is None or held.state not in expected:
                raise Conflict("The folder does not stand any more where this decision left it")
            event_id = await add_event(connection, undoing, at)
            if event.kind == "several-workers":
                if again:
                    raise Conflict("This folder was delivered again meanwhile")
                await move_documents(connection, event.lot, event.barcode, before="rejected", after="to-review")
            if event.kind in ("not-in-register", "several-workers"):
                problems = [one for one in held.problems if one != TOLD_TO_PROVIDER]
                await set_folder(
                    connection,
                    event.lot,
                    event.barcode,
                    state="to-review",
                    problems=problems,
                    evidence=held.evidence,
                    at=at,
                )
            await insert_accesses(connection, [trace])
        return Undone(event_id)

    async def _look_again(self, one: WaitingFolder) -> bool:
        evidence = await self._documents.resolve_again(one.lot, one.barcode, one.evidence)
        dismissed = _dismissed(await self._events.of_folder(one.lot, one.barcode))
        before = {row["patient"] for row in (one.evidence or {}).get("candidates", [])}
        new = {row["patient"] for row in evidence["candidates"]} - dismissed - before
        if not new:
            return False
        event = NewEvent(
            "back-to-review",
            lot=one.lot,
            barcode=one.barcode,
            explanation=grounds_of(evidence),
            reason="registered-since",
        )
        at = datetime.now(UTC)
        async with self._database.transaction() as connection:
            held = await hold_folder(connection, one.lot, one.barcode)
            if held is None or held.state != "aside":
                return False
            await add_event(connection, event, at)
            await set_folder(
                connection, one.lot, one.barcode, state="to-review", problems=held.problems, evidence=evidence, at=at
            )
        return True

    # what is asked on the way

    async def _must(
        self, caller: Caller, sees: str, interaction: str, request_id: str, folder: FolderRow | None
    ) -> None:
        """Raises Forbidden, and traces it, unless the role of the caller allows it."""
        if _WHOLE[caller.review] >= _WHOLE[sees]:
            return
        await self._trace_refused(caller, interaction, request_id, folder)
        raise Forbidden("This role does not decide on whose documents these are (R4624-45-5)")

    async def _trace_refused(self, caller: Caller, interaction: str, request_id: str, folder: FolderRow | None) -> None:
        row = _look(caller, interaction, request_id, folder.list_id if folder else None)
        await self._archive.accesses.append(row._replace(outcome=audit.REFUSED))

    async def _why_second(self, case: _Case, patient_id: str) -> tuple[str, ...]:
        identity = await self._usable(case.caller, patient_id)
        reasons = tuple((case.folder.evidence or {}).get("reasons", ()))
        grounds = candidate_of(case.folder.evidence, patient_id) or {}
        return self._second(identity, reasons, grounds, _dismissed(case.events))

    def _second(
        self,
        identity: PatientIdentity | None,
        reasons: Sequence[str],
        grounds: Mapping[str, Any],
        dismissed: frozenset[str],
    ) -> tuple[str, ...]:
        if identity is None:
            return ()
        target = Target(identity.status, identity.attributes, identity.patient_id in dismissed)
        return second_opinion(target, reasons, grounds)

    async def _usable(self, caller: Caller, patient_id: str) -> PatientIdentity:
        """Raises NotFound, BusinessRule."""
        stored = await self._archive.current(caller, "Patient", patient_id)
        if stored is None or stored.doc is None:
            raise NotFound("There is no such worker")
        identity = identity_of(orjson.loads(stored.doc))
        if not identity.active:
            raise BusinessRule("This identity is not in use any more (active: false)")
        return identity

    async def _workers(
        self, caller: Caller, patient_ids: Sequence[str], request_id: str
    ) -> dict[str, tuple[PatientIdentity, Employment]]:
        found = await self._archive.read_referred(caller, [("Patient", one) for one in patient_ids], request_id)
        patients = {key[1]: orjson.loads(stored.doc) for key, stored in found.items() if stored.doc}
        return {one: (identity_of(patient), employment_of(patient)) for one, patient in patients.items()}

    async def _centres(self, workers: Iterable[tuple[PatientIdentity, Employment]]) -> dict[str, str]:
        """Names of the organizations that follow these workers."""
        ids = sorted({work.organization_id for _, work in workers if work.organization_id})
        rows = await self._archive.resources.read_many([(TYPE_NUMBER["Organization"], one) for one in ids])
        return {row.id: str(orjson.loads(row.doc).get("name", "")) for row in rows if row.doc}

    async def _tell_lot(self, lot: str, barcode: str) -> None:
        """The List of the lot has the folders that are attached now."""
        facts, _ = await self._documents.again(lot, barcode)
        row = await self._lots.read(lot)
        assert row
        await self._documents.write_lot_list(facts, row.list_id)


async def _hold(connection: Connection, case: _Case) -> HeldFolder:
    """The folder, held, as it was when this was decided. Raises Conflict."""
    held = await hold_folder(connection, case.lot, case.barcode)
    newest = case.events[-1].event_id if case.events else 0
    if held is None or held.state != case.folder.state or held.newest != newest:
        raise Conflict("Somebody else has decided about this folder at the same moment")
    if case.decision.seen is not None and held.newest != case.decision.seen:
        raise Conflict("Somebody has decided about this folder since you looked at it")
    return held


async def _set(
    connection: Connection,
    case: _Case,
    held: HeldFolder,
    state: str,
    problems: Sequence[Mapping[str, Any]],
    at: datetime,
) -> None:
    await set_folder(connection, case.lot, case.barcode, state=state, problems=problems, evidence=held.evidence, at=at)


def _person(caller: Caller) -> str:
    """Who decides. Raises Forbidden: a machine does not."""
    if not caller.professional:
        raise Forbidden("A person decides on whose documents these are: his identifier is missing")
    return caller.professional


def _same(one: str, other: str) -> bool:
    return one.strip().casefold() == other.strip().casefold()


def _facts(folder: FolderRow, patient_id: str | None) -> dict[str, Any]:
    """What an event keeps of the evidence, and of it what is about this worker."""
    mine = candidate_of(folder.evidence, patient_id) or {}
    return {
        "grade": mine.get("grade"),
        "score": mine.get("score"),
        "model": (folder.evidence or {}).get("model"),
        "explanation": grounds_of(folder.evidence),
    }


def _dismissed(events: Sequence[Event]) -> frozenset[str]:
    return frozenset(event.patient_id for event in in_force(events, "not-this-worker") if event.patient_id)


def _flagged(events: Sequence[Event]) -> dict[str, tuple[int, ...]]:
    """Documents with the pages that are non-transmissible; none is all of them, and stays all of them."""
    flagged: dict[str, tuple[int, ...]] = {}
    for event in in_force(events, "non-transmissible"):
        for document, pages in event.explanation.get("documents", {}).items():
            before = flagged.get(document)
            whole = not pages or before == ()
            flagged[document] = () if whole else tuple(sorted({*(before or ()), *pages}))
    return flagged


def _proposal(folder: FolderRow, events: Sequence[Event]) -> Event | None:
    """That on which a second person is asked."""
    if folder.state != "second-opinion":
        return None
    return next((event for event in reversed(events) if event.kind == "second-opinion-asked"), None)


def _problems(folder: FolderRow) -> tuple[Problem, ...]:
    return tuple(Problem(p["code"], p["path"], p["detail"]) for p in folder.problems)


def _look(caller: Caller, interaction: str, request_id: str, list_id: str | None) -> AccessRow:
    return audit.access(caller, interaction, request_id, resource_type="List", resource_id=list_id, query="review")


def _decided(caller: Caller, request_id: str, folder: FolderRow, kind: str, patient_id: str | None) -> AccessRow:
    return audit.access(
        caller,
        "operation",
        request_id,
        resource_type="List",
        resource_id=folder.list_id,
        patient_id=patient_id,
        query=f"review={kind}",
    )
