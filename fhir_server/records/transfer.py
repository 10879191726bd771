"""The record of a worker is asked for another prevention service: refused at the door, or one delivery per document.

R4624-45-7 C. trav.: when a worker depends on several services, or leaves one; the service that asks informs him and
checks that he does not oppose it. This one decides too, here and again before each document leaves.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Final

import orjson

from fhir_server.caller import Caller
from fhir_server.consent.decide import ON_REQUEST, Deny, Disclosure, decide, decide_transfer
from fhir_server.outbox.jobs import Jobs
from fhir_server.outbox.recipients import Recipient
from fhir_server.outcomes import BadParameter, BusinessRule, Forbidden, Issue
from fhir_server.r4 import search_query
from fhir_server.r4.resource_types import TYPE_NUMBER
from fhir_server.records import audit
from fhir_server.records.disclosure import consents_of, document_fact
from fhir_server.records.identifiers import service_id_of, stable_id
from fhir_server.records.read import Archive, present
from fhir_server.records.tasks import task_of
from fhir_server.records.write import Door, incoming_from_dict
from fhir_server.roles import OF_A_WORKER
from fhir_server.settings import Settings
from fhir_server.store.commit import Written
from fhir_server.store.database import Connection
from fhir_server.store.outbox_rows import DeliveryRow, ask_again, insert_deliveries

MOST_DOCUMENTS: Final = 5000


@dataclass(frozen=True, slots=True)
class Transfer:
    """What was asked for: a delivery per document that may go, and the reason of each that may not."""

    deliveries: tuple[str, ...]
    withheld: tuple[tuple[str, str], ...]
    """(DocumentReference id, reason)"""


@dataclass(frozen=True, slots=True)
class Transfers:
    """Over one store."""

    door: Door
    archive: Archive
    jobs: Jobs
    recipients: Sequence[Recipient]
    settings: Settings

    async def request(self, caller: Caller, patient_id: str, recipient: str, *, request_id: str) -> Transfer:
        """Ask that a worker's record goes to another service (its name in the file of recipients).

        Raises Forbidden, NotFound, Gone; BadParameter for a recipient that is no other service; BusinessRule with the
        reason `transfer-opposed` where the worker opposes it, and where there is nothing that may go.
        """
        caller.must("r", "Patient")
        caller.must("r", "DocumentReference")
        caller.must("c", "Task")
        found = await self.archive.resources.read(TYPE_NUMBER["Patient"], patient_id)
        await self.archive.must_see(caller, "operation", request_id, "Patient", found)
        present(found, "Patient", patient_id)
        sight = caller.sight("r")
        if sight.hidden & OF_A_WORKER or caller.closed & OF_A_WORKER or "DocumentReference" in sight.bounds:
            raise Forbidden("Who hands a record over sees and writes the whole of it (R4624-45-5)")
        if recipient not in {one.name for one in self.recipients if one.kind in ON_REQUEST}:
            raise BadParameter("This is the name of no other service in the file of recipients", expression="recipient")
        documents = await self._documents(caller, patient_id, request_id)
        if not documents:
            raise BusinessRule("This worker has no document to hand over", expression="Patient")
        return await self._request(caller, patient_id, recipient, documents, request_id)

    async def _request(
        self,
        caller: Caller,
        patient_id: str,
        recipient: str,
        documents: Sequence[Mapping[str, Any]],
        request_id: str,
    ) -> Transfer:
        now = datetime.now(UTC)
        consents = await consents_of(self.archive, patient_id)
        minimal = self.settings.transfer_minimal_set
        whole = decide_transfer(consents, now, minimal_set=minimal)
        if isinstance(whole, Deny):
            await self._refuse(caller, patient_id, recipient, whole, request_id)
        decided = {
            one["id"]: decide(Disclosure("autre-spst", document_fact(one), False, consents, now, minimal))
            for one in documents
        }
        going = [identity for identity, decision in decided.items() if not isinstance(decision, Deny)]
        withheld = tuple((one, found.reason) for one, found in decided.items() if isinstance(found, Deny))
        rows = [_delivery(recipient, one, patient_id, now) for one in going]
        if rows:
            await self._deliver(caller, rows, request_id)
        return Transfer(tuple(row.delivery_id for row in rows), withheld)

    async def _documents(self, caller: Caller, patient_id: str, request_id: str) -> list[Mapping[str, Any]]:
        """The current documents of the worker that the caller sees. Raises BusinessRule where there are too many."""
        asked = [("patient", f"Patient/{patient_id}"), ("status", "current"), ("_count", "1000")]
        query = replace(search_query.parse("DocumentReference", asked), sight=caller.sight("r"))
        text, found, after = f"patient=Patient/{patient_id}&status=current", [], None
        while True:
            page = await self.archive.searches.page(query, after)
            found += [orjson.loads(hit.doc) for hit in page.hits]
            if len(found) > MOST_DOCUMENTS:
                raise BusinessRule(f"This record has more than {MOST_DOCUMENTS} documents")
            if page.next is None:
                break
            after = page.next
        await self.archive.accesses.append(
            audit.access(
                caller, "operation", request_id, resource_type="DocumentReference", patient_id=patient_id, query=text
            )
        )
        return found

    async def _refuse(self, caller: Caller, patient_id: str, recipient: str, why: Deny, request_id: str) -> None:
        """Traced, and raised."""
        await self.archive.accesses.append(
            audit.consent_decision(
                caller,
                request_id,
                why.reason,
                permitted=False,
                resource_type="Patient",
                resource_id=patient_id,
                patient_id=patient_id,
                recipient=recipient,
            )
        )
        raise BusinessRule(why.text, issues=[Issue("error", "business-rule", why.text, "Patient", reason=why.reason)])

    async def _deliver(self, caller: Caller, rows: Sequence[DeliveryRow], request_id: str) -> None:
        """Rows, Tasks and jobs in one transaction; what has left, or is on its way, is left alone."""
        known = [(row.delivery_id, row.recipient, row.document_reference_id, row.patient_id) for row in rows]
        tasks = await self.archive.resources.read_many([(TYPE_NUMBER["Task"], row.delivery_id) for row in rows])
        there = {one.id for one in tasks}
        incoming = [
            incoming_from_dict(task_of(row, custodian_id=service_id_of(self.settings)))
            for row in rows
            if row.delivery_id not in there
        ]
        at = rows[0].created

        async def alongside(connection: Connection, _written: Sequence[Written]) -> None:
            documents = [row.document_reference_id for row in rows]
            again = await ask_again(connection, rows[0].recipient, documents, at)
            await self.jobs.defer_dispatch(connection, [*again, *await insert_deliveries(connection, known, at)])

        await self.door.write(caller, incoming, interaction="operation", request_id=request_id, alongside=alongside)


def _delivery(recipient: str, document_id: str, patient_id: str, at: datetime) -> DeliveryRow:
    identity = stable_id("delivery", recipient, document_id)
    return DeliveryRow(identity, recipient, document_id, patient_id, "pending", 0, None, None, None, at, at)
