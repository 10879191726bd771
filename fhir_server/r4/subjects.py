"""Whose record a resource belongs to: the Patient that it names as its subject."""

import re
from collections.abc import Mapping
from typing import Any

_PATIENT_IN_BYTES = re.compile(
    rb'"(?:subject|patient|for)"\s*:\s*\{[^{}]{0,200}?"reference"\s*:\s*"Patient/([A-Za-z0-9\-.]{1,64})"'
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
