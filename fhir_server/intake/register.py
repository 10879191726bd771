"""The register of workers comes in: each line becomes a Patient, with the organizations and doctors it names.

Importing the same file again writes nothing; a changed line is a new version of its Patient.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import orjson

from fhir_server.caller import service as service_caller
from fhir_server.r4.resource_types import TYPE_NUMBER
from fhir_server.records.identifiers import service_id_of, stable_id
from fhir_server.records.read import Archive
from fhir_server.records.write import Door, incoming_from_dict, new_id
from fhir_server.settings import Settings
from mappings import organization, practitioner
from mappings.patient_fr_core import WorkerRecord, to_patient
from mappings.register_csv import RowProblem, read

WORKERS_AT_ONCE = 200
CALLER = service_caller("register")

Resource = dict[str, Any]


@dataclass(frozen=True, slots=True)
class RegisterReport:
    """What an import did; `problems` name line and column, never the value."""

    workers: int
    created: int
    changed: int
    unchanged: int
    problems: tuple[RowProblem, ...]


def patient_id_of(folder_number: str) -> str:
    return stable_id("patient", folder_number)


def centre_id_of(code: str) -> str:
    return stable_id("centre", code)


class RegisterIntake:
    """Imports registers through the one door."""

    def __init__(self, *, door: Door, archive: Archive, settings: Settings) -> None:
        self._door = door
        self._archive = archive
        self._settings = settings

    async def import_csv(self, raw: bytes, progress: Callable[[int, int], None] | None = None) -> RegisterReport:
        """Import the bytes of a register file (mappings/register_csv.py says which columns).

        Bad lines are reported and left out, the others go on. Raises BadSyntax when it is no register at all.
        """
        workers, problems = read(raw)
        counts = {"created": 0, "changed": 0, "unchanged": 0}
        await self._write([self._service()], counts={})
        done = 0
        for group in _groups(workers, WORKERS_AT_ONCE):
            surroundings, patients = self._resources(group)
            await self._write(surroundings, counts={})
            await self._write(patients, counts=counts)
            done += len(group)
            if progress:
                progress(done, len(workers))
        return RegisterReport(len(workers), counts["created"], counts["changed"], counts["unchanged"], tuple(problems))

    def _service(self) -> Resource:
        settings = self._settings
        return organization.service(
            service_id_of(settings),
            settings.organization_name,
            siret_number=settings.organization_siret,
            finess_number=settings.organization_finess,
        )

    def _resources(self, workers: Sequence[WorkerRecord]) -> tuple[list[Resource], list[Resource]]:
        """(organizations, practitioners and roles; patients) of a group, each once."""
        service = service_id_of(self._settings)
        surroundings: dict[str, Resource] = {}
        patients: list[Resource] = []
        for worker in workers:
            in_charge, role = service, None
            if worker.centre:
                in_charge = centre_id_of(worker.centre)
                surroundings[in_charge] = organization.centre(
                    in_charge, worker.centre, f"Centre {worker.centre}", service_id=service
                )
            if worker.doctor_name:
                doctor = stable_id("doctor", worker.doctor_rpps or worker.doctor_name)
                role = stable_id("doctor-role", worker.doctor_rpps or worker.doctor_name)
                surroundings[doctor] = practitioner.practitioner(doctor, worker.doctor_name, rpps=worker.doctor_rpps)
                surroundings[role] = practitioner.practitioner_role(
                    role, practitioner_id=doctor, organization_id=service
                )
            patients.append(
                to_patient(
                    worker,
                    patient_id=patient_id_of(worker.folder_number),
                    organization_id=in_charge,
                    practitioner_role_id=role,
                )
            )
        return list(surroundings.values()), patients

    async def _write(self, resources: Sequence[Resource], *, counts: dict[str, int]) -> None:
        """Write those that are new or different."""
        stored = await self._archive.resources.read_many(
            [(TYPE_NUMBER[resource["resourceType"]], resource["id"]) for resource in resources]
        )
        kept = {(row.type, row.id): _content(orjson.loads(row.doc)) for row in stored if row.doc}
        changes: list[Resource] = []
        for resource in resources:
            before = kept.get((TYPE_NUMBER[resource["resourceType"]], resource["id"]))
            if before and "link" in before:  # what persons said of two identities, of which the register knows nothing
                resource = {**resource, "link": before["link"]}  # noqa: PLW2901
            happened = "created" if before is None else "unchanged" if before == _content(resource) else "changed"
            counts[happened] = counts.get(happened, 0) + 1
            if happened != "unchanged":
                changes.append(resource)
        if changes:
            await self._door.write(
                CALLER,
                [incoming_from_dict(resource, method="update") for resource in changes],
                interaction="update",
                request_id=new_id(),
            )


def _content(resource: Mapping[str, Any]) -> Resource:
    """A resource without what the server itself puts into it."""
    meta = {key: value for key, value in resource.get("meta", {}).items() if key not in ("versionId", "lastUpdated")}
    return {**resource, "meta": meta}


def _groups(workers: Sequence[WorkerRecord], size: int) -> Iterator[list[WorkerRecord]]:
    iterator = iter(workers)
    while group := list(islice(iterator, size)):
        yield group
