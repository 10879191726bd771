"""A delivery (one row with a transition table) as the Task that is shown to the outside.

https://hl7.org/fhir/R4/task.html - focus is the DocumentReference; Task.status is coarse, businessStatus
holds our state, because an accuse de reception, de lecture and d'integration are three things.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from types import MappingProxyType
from typing import Final, Literal

from mappings.elements import Element, concept, identifier, instant, present, reference
from terminology import systems

State = Literal["pending", "sending", "withheld", "refused", "handed_over", "received", "read", "integrated"]

STATES: Final[Mapping[State, tuple[str, str]]] = MappingProxyType(
    {
        "pending": ("requested", "En attente d'envoi"),
        "sending": ("in-progress", "Envoi en cours"),
        "withheld": ("rejected", "Retenu : envoi non permis"),
        "refused": ("failed", "Refusé par le destinataire"),
        "handed_over": ("in-progress", "Remis, accusé attendu"),
        "received": ("completed", "Accusé de réception reçu"),
        "read": ("completed", "Accusé de lecture reçu"),
        "integrated": ("completed", "Accusé d'intégration reçu"),
    }
)
"""State of a delivery -> Task.status (R4 required binding), label of businessStatus."""


@dataclass(frozen=True, slots=True)
class DeliveryRow:
    """One delivery: which document goes to which party (name of its adapter), where it stands and why.

    `reason` is a code, None where nothing hinders; `message_ids` are the identifiers of what was sent, oldest
    first.
    """

    id: str
    party: str
    document_reference_id: str
    patient_id: str
    state: State
    reason: str | None
    created_at: datetime
    changed_at: datetime
    message_ids: tuple[str, ...] = ()


def to_task(row: DeliveryRow, *, custodian_id: str) -> Element:
    """The Task of a delivery; `custodian_id` is the Organization that asks for it."""
    status, label = STATES[row.state]
    return present(
        resourceType="Task",
        id=row.id,
        identifier=[
            identifier(systems.DELIVERY, row.id),
            *(identifier(systems.MESSAGE, message) for message in row.message_ids),
        ],
        status=status,
        statusReason=concept(systems.DELIVERY_REASON, row.reason) if row.reason else None,
        businessStatus=concept(systems.DELIVERY_STATE, row.state, label),
        intent="order",
        code=concept(systems.DELIVERY_TASK, row.party),
        focus=reference(f"DocumentReference/{row.document_reference_id}"),
        for_=reference(f"Patient/{row.patient_id}"),
        authoredOn=instant(row.created_at),
        lastModified=instant(max(row.created_at, row.changed_at)),
        requester=reference(f"Organization/{custodian_id}"),
    )
