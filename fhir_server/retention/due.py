"""Which documents need not be kept any longer, and why: worker after worker, never all at once in memory."""

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, replace
from datetime import date
from typing import Any, Final

from fhir_server.caller import service
from fhir_server.records import audit
from fhir_server.records.write import new_id
from fhir_server.retention.expiry import Expiry
from fhir_server.retention.periods import Periods
from fhir_server.retention.workers import Worker, expiry_of, of_patients
from fhir_server.store import retention as store
from fhir_server.store.access_log import AccessLog
from fhir_server.store.database import Database

CALLER: Final = replace(service("retention"), purpose="HLEGAL")
WORKERS_AT_ONCE: Final = 50


@dataclass(frozen=True, slots=True)
class Due:
    """One document that may be destroyed: ids, dates and codes only."""

    patient: str
    document: str
    version: int
    expiry: Expiry

    def as_row(self) -> dict[str, Any]:
        """As it is listed."""
        assert self.expiry.until
        return {
            "patient": self.patient,
            "document": self.document,
            "version": self.version,
            "until": self.expiry.until.isoformat(),
            "reasons": [f"{one.code} {one.article} {one.until}" for one in self.expiry.reasons],
        }


@dataclass(frozen=True, slots=True)
class DueDocuments:
    """Looks through one database."""

    database: Database
    accesses: AccessLog
    periods: Periods

    async def at(self, day: date) -> AsyncIterator[Due]:
        """Documents that may be destroyed on this day, by worker; each worker shown is in the access trail."""
        after, request_id = "", new_id()
        while found := await self._next_workers(after):
            after = max(found)
            for patient, worker in sorted(found.items()):
                due = [one for one in self._of(patient, worker) if one.expiry.is_due(day)]
                if due:
                    await self.accesses.append(_access(patient, request_id))
                for one in due:
                    yield one

    async def _next_workers(self, after: str) -> Mapping[str, Worker]:
        async with self.database.connection() as connection:
            docs = await store.patients_after(connection, after, WORKERS_AT_ONCE)
            return await of_patients(connection, docs)

    def _of(self, patient: str, worker: Worker) -> list[Due]:
        return [
            Due(patient, one.id, one.version, expiry_of(one, worker.facts, self.periods))
            for one in sorted(worker.facts.documents, key=lambda one: one.id)
            if one.patient == patient
        ]


def _access(patient: str, request_id: str) -> Any:
    return audit.access(
        CALLER,
        "search-type",
        request_id,
        resource_type="DocumentReference",
        patient_id=patient,
        query="retention due",
    )
