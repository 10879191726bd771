"""Two known identities are said to be of one worker, or no longer: by a person, and never more than a link.

RNIV 1: this service receives identities; it neither merges them nor edits a strict trait. R4 Patient.link of the type
`seealso` on both sides; two qualified identities with different INS are a collision (or a usurpation), and refused.
"""

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Final

import orjson

from fhir_server.caller import Caller, service
from fhir_server.identity.decisions import check_note, reason_of, table
from fhir_server.identity.policy import Case, case_for, decide_link
from fhir_server.identity.registers import Pair
from fhir_server.outcomes import BadParameter, BusinessRule, Conflict, Forbidden, NotFound, VersionConflict
from fhir_server.records import audit
from fhir_server.records.identifiers import service_id_of
from fhir_server.records.read import Archive
from fhir_server.records.write import Door, Incoming, incoming_from_dict, new_id
from fhir_server.settings import Settings
from fhir_server.store.access_log import AccessRow, insert_accesses
from fhir_server.store.candidates import Candidates
from fhir_server.store.commit import Written
from fhir_server.store.database import Connection, Database
from fhir_server.store.identity_events import Event, IdentityEvents, Kind, NewEvent, add_event, hold_pair
from fhir_server.store.resources import Stored
from mappings.filing import Decided, between_patients, is_linked_to, linked_to, unlinked_from
from mappings.patient_fr_core import PatientIdentity, identity_of

_CALLER: Final = service("identities")
_OPENED: Final = {"collision-case-opened": "collision-case-closed", "duplicate-case-opened": "duplicate-case-closed"}


@dataclass(frozen=True, slots=True)
class Linked:
    """The event of a link, and the duplicate case that it opened, where both have the same INS."""

    event_id: int
    case_id: int | None = None


@dataclass(frozen=True, slots=True)
class _Side:
    """One Patient as it is."""

    stored: Stored
    resource: dict[str, Any]
    identity: PatientIdentity


class IdentityLinks:
    """Links between workers of the register."""

    def __init__(self, *, door: Door, archive: Archive, database: Database, settings: Settings) -> None:
        self._door = door
        self._archive = archive
        self._database = database
        self._events = IdentityEvents(database)
        self._settings = settings

    async def link(
        self,
        caller: Caller,
        patient_id: str,
        other_patient_id: str,
        reason: str | None = None,
        *,
        note: str | None = None,
    ) -> Linked:
        """Say on both that the other is about the same person.

        Raises Forbidden, NotFound, BadParameter, Conflict where they are linked already or changed at this moment, and
        BusinessRule (a collision case is then open) where both are qualified and their INS differ.
        """
        check_note(note)
        request_id = new_id()
        person = await self._must(caller, request_id, "link")
        why = reason_of("link", reason)
        if patient_id == other_patient_id:
            raise BadParameter("A worker is not linked with himself", expression="worker")
        sides = await self._both(caller, patient_id, other_patient_id)
        event = _event("link", sides, person, caller.role, why, note)
        trace = _traces(caller, request_id, sides, "link")
        if _collide(*sides):
            case = await self._open(replace(event, kind="collision-case-opened", reason=None), trace)
            text = f"Two qualified identities with different INS are not linked: collision case {case} is open (RNIV)"
            raise BusinessRule(text, expression="Patient.identifier")
        if is_linked_to(sides[0].resource, other_patient_id) or is_linked_to(sides[1].resource, patient_id):
            raise Conflict("These two are linked already")
        changed = [linked_to(sides[0].resource, other_patient_id), linked_to(sides[1].resource, patient_id)]
        event_id = await self._write(sides, changed, event, trace)
        case_id = None
        if _same_ins(*sides):
            case_id = await self._open(replace(event, kind="duplicate-case-opened", reason=None), ())
        return Linked(event_id, case_id)

    async def unlink(self, caller: Caller, event_id: int, reason: str | None = None, *, note: str | None = None) -> int:
        """Take the link back: both are as before it. Returns the new event. Raises as `link` does."""
        check_note(note)
        request_id = new_id()
        person = await self._must(caller, request_id, "unlink")
        why = reason_of("unlink", reason)
        link = await self._events.read(event_id)
        if link is None or link.kind != "link" or not link.patient_id or not link.other_patient_id:
            raise NotFound("There is no such link")
        if link.undone_by:
            raise Conflict("This link was taken back already")
        sides = await self._both(caller, link.patient_id, link.other_patient_id)
        event = replace(_event("unlink", sides, person, caller.role, why, note), undoes=event_id)
        changed = [
            unlinked_from(sides[0].resource, link.other_patient_id),
            unlinked_from(sides[1].resource, link.patient_id),
        ]
        return await self._write(sides, changed, event, _traces(caller, request_id, sides, "unlink"))

    async def cases(self, caller: Caller) -> list[Event]:
        """Collisions and duplicates that wait for somebody. Raises Forbidden."""
        request_id = new_id()
        await self._must_see(caller, request_id, "cases")
        await self._archive.accesses.append(_trace(caller, "search-type", request_id, None, "cases"))
        return await self._events.open_cases()

    async def close(self, caller: Caller, case_id: int, reason: str | None = None, *, note: str | None = None) -> int:
        """A case is settled. Raises Forbidden, NotFound, BadParameter, Conflict."""
        check_note(note)
        request_id = new_id()
        person = await self._must(caller, request_id, "close-case")
        why = reason_of("close-case", reason)
        case = await self._events.read(case_id)
        if case is None or case.kind not in _OPENED:
            raise NotFound("There is no such case")
        if case.undone_by:
            raise Conflict("This case is closed already")
        kind: Kind = "collision-case-closed" if case.kind == "collision-case-opened" else "duplicate-case-closed"
        event = NewEvent(
            kind,
            patient_id=case.patient_id,
            other_patient_id=case.other_patient_id,
            decided_by=person,
            role=caller.role,
            reason=why,
            note=note,
            undoes=case_id,
        )
        async with self._database.transaction() as connection:
            closed = await add_event(connection, event, datetime.now(UTC))
            await insert_accesses(connection, [_trace(caller, "operation", request_id, case.patient_id, "close-case")])
        return closed

    async def history(self, caller: Caller, patient_id: str) -> list[Event]:
        """What was decided about a worker, newest first: for who keeps identities, it names other workers.

        Raises Forbidden, NotFound.
        """
        request_id = new_id()
        await self._must_see(caller, request_id, "history")
        if await self._archive.current(caller, "Patient", patient_id) is None:
            raise NotFound("There is no such worker")
        await self._archive.accesses.append(_trace(caller, "history-instance", request_id, patient_id, "history"))
        return await self._events.of_patient(patient_id)

    async def everybody(self, caller: Caller, what: str) -> AsyncIterator[PatientIdentity]:
        """Every active identity in sight, in the order of their ids, to compare whole registers. Raises Forbidden."""
        request_id = new_id()
        await self._must_see(caller, request_id, what)
        await self._archive.accesses.append(_trace(caller, "search-type", request_id, None, what))
        after, workers = "", Candidates(self._database)
        while page := await workers.next_workers(after, caller.sight("r")):
            for one in page:
                identity = identity_of(orjson.loads(one.doc))
                if identity.active:
                    yield identity
            after = page[-1].id

    async def suspect(self, caller: Caller, pair: Pair, explanation: Mapping[str, Any], model: str) -> Case | None:
        """Open the case that two workers who look like one are worth (`policy.case_for`): for persons; no link is made.

        None where there is none to open: the policy wants none, they are linked, or had this case before, be it closed.
        `explanation` is levels and bits. Raises Forbidden, NotFound.
        """
        request_id = new_id()
        person = await self._must(caller, request_id, "suspect")
        sides = await self._both(caller, pair.number.removeprefix("Patient/"), pair.other.removeprefix("Patient/"))
        one, other = (side.identity for side in sides)
        decision = decide_link(one.status, one.matricule_ins, other.status, other.matricule_ins)
        case = case_for(decision, pair.grade, pair.reasons)
        if case is None or is_linked_to(sides[0].resource, other.patient_id):
            return None
        kind: Kind = "duplicate-case-opened" if case == "duplicate" else "collision-case-opened"
        event = _event(kind, sides, person, caller.role, None, None)
        grounds = {**event.explanation, "reasons": list(pair.reasons), "steps": explanation.get("steps", [])}
        event = replace(event, grade=pair.grade, score=pair.score, model=model, explanation=grounds)
        async with self._database.transaction() as connection:
            await hold_pair(connection, one.patient_id, other.patient_id)
            await insert_accesses(connection, _traces(caller, request_id, sides, "suspect"))
            for known in await self._events.of_patient(one.patient_id):
                if known.kind == kind and other.patient_id in (known.patient_id, known.other_patient_id):
                    return None
            await add_event(connection, event, datetime.now(UTC))
        return case

    async def _write(
        self, sides: Sequence[_Side], changed: Sequence[dict[str, Any]], event: NewEvent, traces: Sequence[AccessRow]
    ) -> int:
        at = datetime.now(UTC)
        assert event.decided_by
        assert event.patient_id
        assert event.other_patient_id
        one, other = event.patient_id, event.other_patient_id
        decided = Decided(event.decided_by, event.role or "", at, event.reason, service_id_of(self._settings))
        provenance = between_patients(
            new_id(), decided, patient_id=one, other_patient_id=other, linked=event.kind == "link"
        )
        incoming = [_over(side.stored, resource) for side, resource in zip(sides, changed, strict=True)]
        incoming.append(incoming_from_dict(provenance))
        done: list[int] = []

        async def alongside(connection: Connection, _written: Sequence[Written]) -> None:
            await hold_pair(connection, one, other)
            done.append(await add_event(connection, replace(event, provenance_id=provenance["id"]), at))

        try:
            await self._door.write(
                replace(_CALLER, professional=event.decided_by),
                incoming,
                interaction="transaction",
                request_id=new_id(),
                alongside=alongside,
                accesses=traces,
            )
        except VersionConflict as changed_meanwhile:
            raise Conflict("One of these two was changed at this moment; look again") from changed_meanwhile
        return done[-1]

    async def _open(self, event: NewEvent, traces: Sequence[AccessRow]) -> int:
        """A case about these two: the one that is open, or a new one."""
        assert event.patient_id
        assert event.other_patient_id
        pair = {event.patient_id, event.other_patient_id}
        async with self._database.transaction() as connection:
            await hold_pair(connection, event.patient_id, event.other_patient_id)
            await insert_accesses(connection, list(traces))
            for one in await self._events.open_cases():
                if one.kind == event.kind and {one.patient_id, one.other_patient_id} == pair:
                    return one.event_id
            return await add_event(connection, event, datetime.now(UTC))

    async def _both(self, caller: Caller, patient_id: str, other_patient_id: str) -> tuple[_Side, _Side]:
        one, other = [await self._side(caller, identity) for identity in (patient_id, other_patient_id)]
        return one, other

    async def _side(self, caller: Caller, patient_id: str) -> _Side:
        stored = await self._archive.current(caller, "Patient", patient_id)
        if stored is None or stored.doc is None:
            raise NotFound(f"Patient/{patient_id} does not exist")
        resource = orjson.loads(stored.doc)
        return _Side(stored, resource, identity_of(resource))

    async def _must_see(self, caller: Caller, request_id: str, what: str) -> None:
        if caller.review == table().decision["link"].sees:
            return
        row = _trace(caller, "operation", request_id, None, what)
        await self._archive.accesses.append(row._replace(outcome=audit.REFUSED))
        raise Forbidden("This role does not decide on identities")

    async def _must(self, caller: Caller, request_id: str, what: str) -> str:
        """Who decides. Raises Forbidden."""
        await self._must_see(caller, request_id, what)
        if not caller.professional:
            raise Forbidden("A person links identities: his identifier is missing")
        return caller.professional


def _collide(one: _Side, other: _Side) -> bool:
    """Both qualified, and not the same INS. What was once another's matricule counts as another."""
    a, b = one.identity, other.identity
    return bool(a.matricule_ins and b.matricule_ins) and not _same_ins(one, other)


def _same_ins(one: _Side, other: _Side) -> bool:
    a, b = one.identity, other.identity
    return a.matricule_ins is not None and (a.matricule_ins, a.oid_ins) == (b.matricule_ins, b.oid_ins)


def _event(
    kind: Kind, sides: Sequence[_Side], person: str, role: str, reason: str | None, note: str | None
) -> NewEvent:
    one, other = sides
    return NewEvent(
        kind,
        patient_id=one.stored.id,
        other_patient_id=other.stored.id,
        decided_by=person,
        role=role,
        explanation={"statuses": [one.identity.status, other.identity.status]},
        reason=reason,
        note=note,
    )


def _over(stored: Stored, resource: dict[str, Any]) -> Incoming:
    return replace(incoming_from_dict(resource, method="update"), expected_version=stored.version)


def _traces(caller: Caller, request_id: str, sides: Sequence[_Side], what: str) -> list[AccessRow]:
    return [_trace(caller, "operation", request_id, side.stored.id, what) for side in sides]


def _trace(caller: Caller, interaction: str, request_id: str, patient_id: str | None, what: str) -> AccessRow:
    return audit.access(
        caller,
        interaction,
        request_id,
        resource_type="Patient",
        resource_id=patient_id,
        patient_id=patient_id,
        query=f"identities={what}",
    )
