"""One row in the access trail per access or refusal (IHE BALP; art. R4624-45-5 C. trav.).

The row says who, when, what and whose; never a name, a trait or a piece of a document.
"""

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from fhir_server.caller import Caller
from fhir_server.r4.resource_types import TYPE_NUMBER
from fhir_server.store.access_log import AccessRow

SUCCESS, REFUSED, FAILED = 0, 4, 8
_PATIENT_IN_BYTES = re.compile(
    rb'"(?:subject|patient|for)"\s*:\s*\{[^{}]{0,200}?"reference"\s*:\s*"Patient/([A-Za-z0-9\-.]{1,64})"'
)


def access(
    caller: Caller | None,
    interaction: str,
    request_id: str,
    *,
    outcome: int = SUCCESS,
    resource_type: str | None = None,
    resource_id: str | None = None,
    version: int | None = None,
    patient_id: str | None = None,
    query: str | None = None,
    recipient: str | None = None,
    at: datetime | None = None,
) -> AccessRow:
    """The row of one access; `caller` None is somebody who did not say who he is."""
    return AccessRow(
        at or datetime.now(UTC),
        interaction,
        outcome,
        caller.client_id if caller else None,
        caller.role if caller else None,
        caller.purpose if caller else None,
        TYPE_NUMBER.get(resource_type) if resource_type else None,
        resource_id,
        version,
        patient_id,
        query,
        recipient,
        request_id,
    )


def patient_in(resource: Mapping[str, Any]) -> str | None:
    """Whose record this resource belongs to: the id of its Patient, or None."""
    if resource.get("resourceType") == "Patient":
        return resource.get("id")
    for element in ("subject", "patient", "for"):
        reference = resource.get(element)
        if isinstance(reference, dict) and str(reference.get("reference", "")).startswith("Patient/"):
            return str(reference["reference"]).split("/")[1]
    return None


def patient_in_bytes(resource_type: str, resource_id: str, doc: bytes) -> str | None:
    """The same from the stored bytes, without parsing them: this runs at every read."""
    if resource_type == "Patient":
        return resource_id
    match = _PATIENT_IN_BYTES.search(doc)
    return match[1].decode() if match else None
