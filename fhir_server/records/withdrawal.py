"""What is withheld, or decided anew by a worker, is asked at once of every delivery that still waits.

A delivery asks consent and the rules at its last moment. One that waits for its next attempt is given a job now, in
the transaction that changes the document or the Consent: so it is withheld in seconds, with its reason.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from fhir_server.outbox.jobs import Jobs
from fhir_server.store.database import Connection
from fhir_server.store.outbox_rows import waiting_deliveries
from mappings.access_facts import NON_TRANSMISSIBLE, QUARANTINE, UNFILED, access_facts

WITHHELD: Final = NON_TRANSMISSIBLE | QUARANTINE | UNFILED


class Concerned:
    """DocumentReferences that are withheld and Patients whose Consents change, among resources that are written."""

    def __init__(self, resources: Iterable[tuple[str, Mapping[str, Any]]]) -> None:
        """`resources` are (id, parsed JSON)."""
        self.documents: list[str] = []
        self.patients: list[str] = []
        for resource_id, resource in resources:
            if resource["resourceType"] == "Consent":
                reference = str(resource.get("patient", {}).get("reference", ""))
                self.patients.append(reference.removeprefix("Patient/"))
            elif resource["resourceType"] == "DocumentReference" and access_facts(resource).guard & WITHHELD:
                self.documents.append(resource_id)

    def __bool__(self) -> bool:
        return bool(self.documents or self.patients)

    async def ask_again(self, connection: Connection, jobs: Jobs) -> None:
        """Have every delivery of these that has not left decided upon now."""
        await ask_again(connection, jobs, self.documents, self.patients)


async def ask_again(connection: Connection, jobs: Jobs, documents: Sequence[str], patients: Sequence[str]) -> None:
    """Have every delivery of these documents, and of these workers, that has not left decided upon now."""
    if documents or patients:
        await jobs.defer_dispatch(connection, await waiting_deliveries(connection, documents, patients))
