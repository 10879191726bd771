"""A delivery shown as a FHIR Task: written at each state that the outside should see."""

from typing import Any, cast

from fhir_server.store.outbox_rows import DeliveryRow
from mappings import task_delivery
from mappings.filing import withheld


def task_of(row: DeliveryRow, *, custodian_id: str) -> dict[str, Any]:
    """The Task of a delivery; its id is the delivery's. Of a document that was filed by mistake it is hidden."""
    task = task_delivery.to_task(
        task_delivery.DeliveryRow(
            id=row.delivery_id,
            party=row.recipient,
            document_reference_id=row.document_reference_id,
            patient_id=row.patient_id,
            state=cast(task_delivery.State, row.state),
            reason=row.reason,
            created_at=row.created,
            changed_at=row.updated,
            message_ids=(row.remote_id,) if row.remote_id else (),
        ),
        custodian_id=custodian_id,
    )
    return withheld(task) if row.withdrawn else task
