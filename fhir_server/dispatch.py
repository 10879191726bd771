"""What must leave, leaves: claim -> consent -> adapter.send -> settle.

Consent is asked at the last moment, before every attempt. A worker that dies between send and settle leaves
the delivery `sending`; the job is given to another, which sends again: adapters bear being told twice.
"""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
import structlog

from fhir_server.caller import service
from fhir_server.consent.decide import Deny, Disclosure, decide
from fhir_server.metrics import Metrics
from fhir_server.outbox.deliveries import after, pause_before
from fhir_server.outbox.jobs import Jobs
from fhir_server.outbox.recipients import Recipient
from fhir_server.outcomes import Conflict, Failure, NotFound
from fhir_server.ports import Adapter, Answer, Content, Envelope, HandedOver, Refused, TryLater
from fhir_server.r4.references import is_local, literal_references
from fhir_server.r4.resource_types import TYPE_NUMBER
from fhir_server.records import audit
from fhir_server.records.disclosure import consents_of, document_fact
from fhir_server.records.identifiers import service_id_of, stable_id
from fhir_server.records.read import Archive
from fhir_server.records.tasks import task_of
from fhir_server.records.write import Door, incoming_from_dict
from fhir_server.settings import Settings
from fhir_server.store.commit import Written
from fhir_server.store.database import Connection, Database
from fhir_server.store.outbox_rows import DeliveryRow, lock_delivery, move_delivery, read_delivery
from fhir_server.traces import Span
from mappings.patient_fr_core import identity_of
from mappings.provenance_delivery import to_provenance

log = structlog.get_logger(__name__)

CALLER = service("dispatch")
NOT_FILED = "not-filed"
"""The document is not, or no longer, in the record of this worker."""
TRIES_TO_GIVE_UP = 3
Resource = dict[str, Any]


class Dispatcher:
    """Sends deliveries, one at a time each; many run side by side."""

    def __init__(
        self,
        *,
        door: Door,
        archive: Archive,
        database: Database,
        jobs: Jobs,
        recipients: Mapping[str, Recipient],
        adapters: Mapping[str, Adapter],
        settings: Settings,
        metrics: Metrics | None = None,
    ) -> None:
        self._metrics = metrics or Metrics()
        self._door = door
        self._archive = archive
        self._database = database
        self._jobs = jobs
        self._recipients = recipients
        self._adapters = adapters
        self._settings = settings

    async def dispatch(self, delivery_id: str) -> None:
        """One attempt to deliver. Raises on a bug, or when the database is out of reach: the job is run again."""
        with self._metrics.traces.whole("delivery", dict[str, str]) as span:
            await self._dispatch(delivery_id, span)

    async def _dispatch(self, delivery_id: str, span: Span) -> None:
        delivery = await self._claim(delivery_id)
        if delivery is None:
            return
        span.tell("delivery", {"dmst_fhir.recipient": delivery.recipient, "dmst_fhir.attempt": delivery.attempts})
        if delivery.attempts > self._settings.retry_attempts:
            await self._settle(delivery, "gave_up", reason="gave-up", detail="No attempt came to an answer")
            return
        if delivery.withdrawn:
            await self._settle(
                delivery, "withheld", reason=NOT_FILED, detail="Its document was taken out of the record"
            )
            return
        envelope = await self._envelope(delivery)
        if envelope.document_reference.get("subject", {}).get("reference") != f"Patient/{delivery.patient_id}":
            await self._settle(delivery, "withheld", reason=NOT_FILED, detail="Its document is not in this record")
            return
        denied = await self._consent(delivery, envelope)
        if denied:
            await self._settle(delivery, "withheld", reason=denied.reason, detail=denied.text)
            return
        answer = await self._send(delivery, envelope)
        await self._settle_answer(delivery, envelope, answer)

    async def again_in(self, delivery_id: str) -> float | None:
        """Seconds until an attempt that ended in an error is made again; None when it is not made again.

        After the last one the delivery is given up, and that may fail too: so there are a few more.
        """
        delivery = await read_delivery(self._database, delivery_id)
        if delivery is None or delivery.attempts >= self._settings.retry_attempts + TRIES_TO_GIVE_UP:
            return None
        return self._pause_after(delivery.attempts, asked=None)

    def _pause_after(self, attempts: int, *, asked: float | None) -> float:
        first, longest = self._settings.retry_first_seconds, self._settings.retry_longest_seconds
        return pause_before(max(attempts, 1), first=first, longest=longest, asked=asked)

    async def _claim(self, delivery_id: str) -> DeliveryRow | None:
        """The delivery, now `sending`; None when there is nothing left to do (somebody finished or cancelled it)."""
        async with self._database.transaction() as connection:
            row = await lock_delivery(connection, delivery_id)
            if row is None:
                return None
            try:
                state = after(row.state, "claimed")
            except Conflict:
                return None
            claimed = row._replace(state=state, attempts=row.attempts + 1, updated=datetime.now(UTC))
            await _keep(connection, claimed)
        return claimed

    async def _envelope(self, delivery: DeliveryRow) -> Envelope:
        document_reference = await self._read("DocumentReference", delivery.document_reference_id)
        binary_id = document_reference["content"][0]["attachment"]["url"].removeprefix("Binary/")
        stored = await self._archive.resources.read(TYPE_NUMBER["Binary"], binary_id)
        if stored is None or stored.blob_sha256 is None or stored.blob_size is None:
            raise NotFound("The Binary of this document is gone")
        related = {
            name: resource for name, resource in [await self._follow(r) for r in _links(document_reference)] if resource
        }
        return Envelope(
            delivery_id=delivery.delivery_id,
            recipient=delivery.recipient,
            document_reference=document_reference,
            patient=await self._read("Patient", delivery.patient_id),
            content=Content(
                media_type=orjson.loads(stored.doc or b"{}")["contentType"],
                size=stored.blob_size,
                sha256=stored.blob_sha256.hex(),
                chunks=lambda: self._archive.content(stored),
            ),
            created_at=delivery.created,
            related=related,
        )

    async def _follow(self, reference: str) -> tuple[str, Resource | None]:
        target = is_local(reference)
        stored = await self._archive.resources.read(TYPE_NUMBER[target[0]], target[1]) if target else None
        return reference, orjson.loads(stored.doc) if stored and stored.doc else None

    async def _read(self, resource_type: str, resource_id: str) -> Resource:
        stored = await self._archive.resources.read(TYPE_NUMBER[resource_type], resource_id)
        if stored is None or stored.doc is None:
            raise NotFound(f"{resource_type}/{resource_id} of a delivery is gone")
        return orjson.loads(stored.doc)

    async def _consent(self, delivery: DeliveryRow, envelope: Envelope) -> Deny | None:
        recipient = self._recipients.get(delivery.recipient)
        decision = decide(
            Disclosure(
                recipient_kind=recipient.kind if recipient else "",
                document=document_fact(envelope.document_reference),
                ins_qualified=identity_of(envelope.patient).matricule_ins is not None,
                consents=await consents_of(self._archive, delivery.patient_id),
                at=datetime.now(UTC),
                minimal_set=self._settings.transfer_minimal_set,
            )
        )
        return decision if isinstance(decision, Deny) else None

    async def _send(self, delivery: DeliveryRow, envelope: Envelope) -> Answer:
        adapter = self._adapters.get(delivery.recipient)
        if adapter is None:
            return Refused("adapter-absent", "This program has no adapter for this recipient")
        try:
            return await adapter.send(envelope)
        except Failure as failure:  # our own store, read by the adapter through the envelope
            return TryLater("source-unavailable", failure.diagnostics)

    async def _settle_answer(self, delivery: DeliveryRow, envelope: Envelope, answer: Answer) -> None:
        settings = self._settings
        match answer:
            case HandedOver(remote_id):
                await self._settle(delivery, "handed_over", remote_id=remote_id, envelope=envelope)
            case Refused(reason, detail):
                await self._settle(delivery, "refused", reason=reason, detail=detail)
            case TryLater(reason, detail, asked):
                if delivery.attempts >= settings.retry_attempts:
                    await self._settle(delivery, "gave_up", reason="gave-up", detail=detail)
                    return
                pause = self._pause_after(delivery.attempts, asked=asked)
                await self._settle(delivery, "try_later", reason=reason, detail=detail, again_in=pause)

    async def _settle(
        self,
        delivery: DeliveryRow,
        event: str,
        *,
        reason: str | None = None,
        detail: str | None = None,
        remote_id: str | None = None,
        envelope: Envelope | None = None,
        again_in: float | None = None,
    ) -> None:
        """The new state, its Task, and where something left its Provenance and disclosure: one transaction."""
        now = datetime.now(UTC)
        known = await read_delivery(self._database, delivery.delivery_id)
        moved = delivery._replace(
            withdrawn=known.withdrawn if known else None,
            state=after(delivery.state, event),
            reason=reason,
            detail=detail,
            remote_id=remote_id,
            updated=now,
        )
        resources = [task_of(moved, custodian_id=service_id_of(self._settings))]
        if envelope:
            resources.append(
                to_provenance(
                    stable_id("provenance", "transmit", delivery.delivery_id),
                    document_reference_id=delivery.document_reference_id,
                    patient_id=delivery.patient_id,
                    recipient=delivery.recipient,
                    sha256=envelope.content.sha256,
                    at=now,
                )
            )

        async def alongside(connection: Connection, _written: Sequence[Written]) -> None:
            held = await lock_delivery(connection, moved.delivery_id)
            if held and held.withdrawn != moved.withdrawn:
                raise Conflict("Its document was taken out of the record at this moment; the attempt is made again")
            await _keep(connection, moved)
            if again_in is not None:
                await self._jobs.defer_dispatch(
                    connection, [(delivery.delivery_id, delivery.recipient)], at=now + timedelta(seconds=again_in)
                )

        await self._door.write(
            CALLER,
            [incoming_from_dict(resource, method="update") for resource in resources],
            interaction="update",
            request_id=delivery.delivery_id,
            alongside=alongside,
            accesses=_traces(moved, event, now),
        )
        self._metrics.delivery_attempts.add((delivery.recipient, event))
        log.info(
            "delivery", delivery=delivery.delivery_id, recipient=delivery.recipient, state=moved.state, reason=reason
        )


def _traces(row: DeliveryRow, event: str, at: datetime) -> list[audit.AccessRow]:
    """What the trail says of it: that it left, or that consent or another rule withheld it."""
    if event == "handed_over":
        return [_disclosure(row, at)]
    if event != "withheld":
        return []
    return [
        audit.consent_decision(
            CALLER,
            row.delivery_id,
            row.reason or "",
            permitted=False,
            resource_type="DocumentReference",
            resource_id=row.document_reference_id,
            patient_id=row.patient_id,
            recipient=row.recipient,
            at=at,
        )
    ]


def _disclosure(row: DeliveryRow, at: datetime) -> audit.AccessRow:
    return audit.access(
        CALLER,
        "disclose",
        row.delivery_id,
        resource_type="DocumentReference",
        resource_id=row.document_reference_id,
        patient_id=row.patient_id,
        recipient=row.recipient,
        at=at,
    )


def _links(document_reference: Resource) -> list[str]:
    """What the DocumentReference points to and a recipient may need: organizations, professionals, what it replaces."""
    wanted = ("Organization/", "Practitioner/", "PractitionerRole/", "DocumentReference/")
    return sorted({link for _, link in literal_references(document_reference) if link.startswith(wanted)})


async def _keep(connection: Connection, row: DeliveryRow) -> None:
    await move_delivery(
        connection,
        row.delivery_id,
        state=row.state,
        attempts=row.attempts,
        reason=row.reason,
        detail=row.detail,
        remote_id=row.remote_id,
        updated=row.updated,
    )
