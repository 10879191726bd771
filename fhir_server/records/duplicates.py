"""A source of identities says that one of its Patients is replaced by another: that is for a person to look at.

IHE PIXm ITI-104, Resolve Duplicate: a Patient with `link` of the type replaced-by. RNIV 1: this server receives
identities and merges none. Both stay as the source wrote them, and a case is open: a duplicate, or a collision where
both are qualified and their INS differ (docs/identity.md).
"""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

import orjson

from fhir_server.caller import Caller
from fhir_server.r4.references import is_local
from fhir_server.r4.resource_types import TYPE_NUMBER
from fhir_server.store.commit import Written
from fhir_server.store.database import Connection
from fhir_server.store.identity_events import NewEvent, add_event, events_of_patient, hold_pair
from fhir_server.store.resources import read_within
from mappings.patient_fr_core import PatientIdentity, identity_of

PATIENT: Final = TYPE_NUMBER["Patient"]
_CASES: Final = frozenset({"collision-case-opened", "duplicate-case-opened"})


def replaced_by(patient: Mapping[str, Any]) -> list[str]:
    """The ids of the Patients that a Patient says it is replaced by."""
    targets = (
        is_local(str(link.get("other", {}).get("reference", "")))
        for link in patient.get("link", [])
        if link.get("type") == "replaced-by"
    )
    return [target[1] for target in targets if target and target[0] == "Patient" and target[1] != patient.get("id")]


async def open_cases(connection: Connection, caller: Caller, written: Sequence[Written]) -> None:
    """A case for each pair that was written as a duplicate here, once, whatever became of it."""
    for one in written:
        patient: Mapping[str, Any] = orjson.loads(one.doc) if one.type == PATIENT and one.doc else {}
        for other in replaced_by(patient):
            await _open(connection, caller, identity_of(patient), other)


async def _open(connection: Connection, caller: Caller, identity: PatientIdentity, other_id: str) -> None:
    await hold_pair(connection, identity.patient_id, other_id)
    pair = {identity.patient_id, other_id}
    known = await events_of_patient(connection, identity.patient_id)
    if any(one.kind in _CASES and {one.patient_id, one.other_patient_id} == pair for one in known):
        return
    found = await read_within(connection, [(PATIENT, other_id)])
    other = next((identity_of(orjson.loads(one.doc)) for one in found if one.doc is not None), None)
    if other is None:
        return
    collide = identity.matricule_ins and other.matricule_ins and _ins(identity) != _ins(other)
    event = NewEvent(
        "collision-case-opened" if collide else "duplicate-case-opened",
        patient_id=identity.patient_id,
        other_patient_id=other_id,
        decided_by=caller.professional,
        role=caller.role,
        explanation={"source": "replaced-by", "statuses": [identity.status, other.status]},
    )
    await add_event(connection, event, datetime.now(UTC))


def _ins(identity: PatientIdentity) -> tuple[str | None, str | None]:
    return identity.matricule_ins, identity.oid_ins
