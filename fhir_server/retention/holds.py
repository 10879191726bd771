"""Holds: a claim or an authority suspends the destruction of everything of a worker, until somebody lifts it."""

from datetime import UTC, datetime

import orjson

from fhir_server.outcomes import BadParameter, NotFound
from fhir_server.records.write import Door, Incoming, incoming_from_dict, new_id
from fhir_server.retention.due import CALLER
from fhir_server.store import retention as store
from fhir_server.store.database import Database
from mappings import retention as mapping


async def hold(door: Door, patient_id: str, *, reason: str, by: str) -> str:
    """Suspend; the id of the Flag. Raises DanglingReference where there is no such worker."""
    if not reason.strip() or not by.strip():
        raise BadParameter("Say why, and who decides")
    flag_id, at = new_id(), datetime.now(UTC)
    flag = mapping.hold(flag_id, patient_id, reason=reason.strip(), by=by.strip(), at=at)
    proof = mapping.held_provenance(new_id(), flag_id, lifted=False, by=by.strip(), at=at)
    await _write(door, [incoming_from_dict(flag), incoming_from_dict(proof)])
    return flag_id


async def release(database: Database, door: Door, patient_id: str, *, by: str) -> int:
    """Lift every hold of a worker; how many. Raises NotFound where there is none."""
    if not by.strip():
        raise BadParameter("Say who decides")
    async with database.connection() as connection:
        about = [orjson.loads(kept.doc) for kept in await store.of_workers(connection, [patient_id])]
    holds = [one for one in about if one["resourceType"] == "Flag" and mapping.is_hold(one)]
    if not holds:
        raise NotFound("Nothing suspends the destruction of this worker's documents")
    at = datetime.now(UTC)
    changes: list[Incoming] = []
    for flag in holds:
        proof = mapping.held_provenance(new_id(), flag["id"], lifted=True, by=by.strip(), at=at)
        changes += [incoming_from_dict(mapping.released(flag, at), method="update"), incoming_from_dict(proof)]
    await _write(door, changes)
    return len(holds)


async def _write(door: Door, changes: list[Incoming]) -> None:
    await door.write(CALLER, changes, interaction="update", request_id=new_id())
