"""The whole record of a worker on behalf of a caller: his compartment, and what makes it readable.

https://hl7.org/fhir/R4/patient-operation-everything.html
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

import orjson

from fhir_server.caller import Caller
from fhir_server.r4.compartments import types_in
from fhir_server.r4.references import is_local, literal_references
from fhir_server.r4.resource_types import TYPE_NAME, TYPE_NUMBER
from fhir_server.r4.subjects import patient_in_bytes
from fhir_server.records import audit
from fhir_server.records.read import Archive, present
from fhir_server.store.compartments import Member, Narrowed
from fhir_server.store.includes import Included
from fhir_server.store.resources import Key, Stored

MOST_ALONG = 1000
"""Resources that a page refers to and brings along; a page that refers to more ends earlier."""

APART = frozenset({"AuditEvent", "Binary"})
"""What is searched, or fetched and streamed, by itself."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What is wanted of a record; `types` None is everything that the caller may see."""

    types: frozenset[str] | None
    narrowed: Narrowed
    count: int


@dataclass(frozen=True, slots=True)
class RecordPage:
    """A page of a record; the Patient stands on the first one. `next` is the place where the next page begins."""

    patient: Stored | None
    members: Sequence[Member]
    along: Sequence[Included]
    next: int | None


async def everything(
    archive: Archive, caller: Caller, patient_id: str, asked: Asked, after: int | None, request_id: str, text: str
) -> RecordPage:
    """One page of the record of a Patient, from the start or behind place `after`.

    Members of types that the caller may not both read and search are left out, as if there were none. What is referred
    to comes along unless it tells of another person. `text` is the call as the trail keeps it; it is traced for each
    worker of whom something is shown. Raises Forbidden, NotFound, Gone, Unavailable.
    """
    caller.must("r", "Patient")
    patient = present(await archive.current(caller, "Patient", patient_id, "r"), "Patient", patient_id)
    first = patient if after is None and _wants_patient(asked, patient) else None
    members, following = await _members(archive, caller, patient_id, asked, after or 0, asked.count - bool(first))
    shown, targets = _bounded(members, (TYPE_NUMBER["Patient"], patient_id))
    following = following if len(shown) == len(members) else shown[-1].rid
    along = await _along(archive, caller, patient_id, asked, targets)
    page = RecordPage(first, shown, along, following)
    await _trace(archive, caller, patient_id, page, request_id, text)
    return page


async def _members(
    archive: Archive, caller: Caller, patient_id: str, asked: Asked, after: int, limit: int
) -> tuple[Sequence[Member], int | None]:
    if not limit:  # the Patient fills the page
        return (), after
    wanted = [one for one in types_in("Patient") if _wants(asked, one) and _may_see(caller, one)]
    return await archive.compartments.page(
        "Patient", patient_id, wanted, asked.narrowed, caller.sight("r", "s"), after=after, limit=limit
    )


def _wants(asked: Asked, resource_type: str) -> bool:
    return resource_type not in APART and (asked.types is None or resource_type in asked.types)


def _may_see(caller: Caller, resource_type: str) -> bool:
    return caller.may("r", resource_type) and caller.may("s", resource_type)


def _wants_patient(asked: Asked, patient: Stored) -> bool:
    since = asked.narrowed.since
    return _wants(asked, "Patient") and (since is None or patient.updated >= since)


def _bounded(members: Sequence[Member], owner: Key) -> tuple[Sequence[Member], list[Key]]:
    """As many members, one at least, as do not refer to too much together; and to what else they refer."""
    here = {(TYPE_NUMBER[one.type], one.id) for one in members} | {owner}
    targets: set[Key] = set()
    for number, one in enumerate(members):
        references = (is_local(text) for _, text in literal_references(orjson.loads(one.doc)))
        new = {(TYPE_NUMBER[target[0]], target[1]) for target in references if target} - here
        if number and len(targets | new) > MOST_ALONG:
            return members[:number], sorted(targets)
        targets |= new
    return members, sorted(targets)[:MOST_ALONG]


async def _along(
    archive: Archive, caller: Caller, patient_id: str, asked: Asked, targets: Sequence[Key]
) -> list[Included]:
    """The targets that may be shown: of a type that is wanted and may be seen, and about nobody else."""
    wanted = [key for key in targets if _wants(asked, TYPE_NAME[key[0]]) and _may_see(caller, TYPE_NAME[key[0]])]
    if not wanted:
        return []
    sight = caller.sight("r", "s")
    read = await archive.resources.read_many(wanted)
    found = [Included(TYPE_NAME[s.type], s.id, s.doc) for s in read if s.doc and s.is_in(sight)]
    about = {one: patient_in_bytes(*one) for one in found}
    return sorted(one for one, whose in about.items() if whose in (None, patient_id))


async def _trace(
    archive: Archive, caller: Caller, patient_id: str, page: RecordPage, request_id: str, text: str
) -> None:
    whose = {patient_in_bytes(one.type, one.id, one.doc) for one in page.members} - {None}
    rows = (
        audit.access(
            caller,
            "operation",
            request_id,
            resource_type="Patient",
            resource_id=patient_id,
            patient_id=patient,
            query=text,
        )
        for patient in sorted(map(str, whose | {patient_id}))
    )
    await asyncio.gather(*map(archive.accesses.append, rows))
