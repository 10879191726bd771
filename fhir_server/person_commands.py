"""What the commands `dmst-fhir persons` do: links of workers, centres of professionals, each in the trail."""

from fhir_server.app import Parts
from fhir_server.caller import Caller
from fhir_server.outcomes import BadParameter
from fhir_server.r4.resource_types import TYPE_NUMBER
from fhir_server.records import audit
from fhir_server.records.write import new_id
from fhir_server.store.access_log import AccessRow


async def link(parts: Parts, who: str, patient: str, by: str) -> str:
    """Raises BadParameter where the register has no such worker."""
    patient_id = patient.removeprefix("Patient/")
    found = await parts.archive.resources.read(TYPE_NUMBER["Patient"], patient_id)
    if found is None or found.deleted:
        raise BadParameter(f"Patient/{patient_id} is not in the register")
    await parts.persons.link(who, patient_id, by, _trace(by, "persons link", patient_id))
    return "recorded"


async def unlink(parts: Parts, who: str, patient: str | None, by: str) -> str:
    patient_id = patient.removeprefix("Patient/") if patient else None
    return f"{await parts.persons.unlink(who, patient_id, _trace(by, 'persons unlink'))} ended"


async def join(parts: Parts, who: str, centre: str, by: str) -> str:
    """Raises BadParameter where the register has no such centre."""
    if not await parts.persons.centres_with([centre]):
        raise BadParameter(f"no Organization is the centre {centre}")
    await parts.persons.join(who, centre, by, _trace(by, f"persons join {centre}"))
    return "recorded"


async def leave(parts: Parts, who: str, centre: str, by: str) -> str:
    return f"{await parts.persons.leave(who, centre, _trace(by, f'persons leave {centre}'))} ended"


async def listing(parts: Parts) -> str:
    """A line for each link and each centre, the newest first."""
    found = [*await parts.persons.links(), *await parts.persons.centres()]
    lines = [
        f"{one.person}  {one.to}  by {one.by_whom}  from {one.low:%Y-%m-%d %H:%M}"
        + (f" to {one.high:%Y-%m-%d %H:%M}" if one.high else "")
        for one in found
    ]
    return "\n".join(lines) or "nobody"


def _trace(by: str, what: str, patient_id: str | None = None) -> AccessRow:
    caller = Caller("self:persons", "persons", "operator", (), professional=by)
    return audit.access(caller, "operation", new_id(), patient_id=patient_id, query=what)
