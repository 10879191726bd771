"""A delivery is shown as a Task that anyone can follow."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, get_args

import pytest

from mappings.task_delivery import STATES, DeliveryRow, State, to_task
from terminology import systems

ROW = DeliveryRow(
    id="t1",
    party="dmp",
    document_reference_id="d1",
    patient_id="p1",
    state="withheld",
    reason="no-consent",
    created_at=datetime(2026, 10, 15, 6, 0, tzinfo=UTC),
    changed_at=datetime(2026, 10, 15, 6, 1, tzinfo=UTC),
    message_ids=("m1",),
)


def test_a_withheld_delivery_is_a_rejected_task_with_its_reason() -> None:
    """Golden."""
    assert to_task(ROW, custodian_id="spst") == {
        "resourceType": "Task",
        "id": "t1",
        "identifier": [
            {"system": systems.DELIVERY, "value": "t1"},
            {"system": systems.MESSAGE, "value": "m1"},
        ],
        "status": "rejected",
        "statusReason": {"coding": [{"system": systems.DELIVERY_REASON, "code": "no-consent"}]},
        "businessStatus": {
            "coding": [{"system": systems.DELIVERY_STATE, "code": "withheld", "display": "Retenu : envoi non permis"}]
        },
        "intent": "order",
        "code": {"coding": [{"system": systems.DELIVERY_TASK, "code": "dmp"}]},
        "focus": {"reference": "DocumentReference/d1"},
        "for": {"reference": "Patient/p1"},
        "authoredOn": "2026-10-15T06:00:00.000Z",
        "lastModified": "2026-10-15T06:01:00.000Z",
        "requester": {"reference": "Organization/spst"},
    }


@pytest.mark.parametrize("state", get_args(State))
def test_every_state_has_a_task_status(state: State, is_r4: Callable[[dict[str, Any]], None]) -> None:
    """All nine states, in the required binding of R4; only an accuse completes."""
    task = to_task(replace(ROW, state=state, reason=None), custodian_id="spst")
    is_r4(task)
    assert "statusReason" not in task
    assert (task["status"] == "completed") == (state in {"received", "read", "integrated"})
    assert set(STATES) == set(get_args(State))
