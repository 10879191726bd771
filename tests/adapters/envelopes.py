"""An envelope to send: a scanned audiogram of a worker who does not exist."""

import base64
import hashlib
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

from fhir_server.ports import Content, Envelope
from tests.mappings.test_provide_document_bundle import DOCTOR, FICHE, PATIENT, SERVICE

DELIVERY = "0a1b2c3d-0000-4000-8000-0000000000d1"
PDF = b"%PDF-1.7\n" + bytes(range(256)) * 8 + b"\n%%EOF"


def content_of(data: bytes) -> Content:
    async def chunks() -> AsyncIterator[bytes]:
        for start in range(0, len(data), 700):
            yield data[start : start + 700]

    return Content("application/pdf", len(data), hashlib.sha256(data).hexdigest(), chunks)


def envelope(data: bytes = PDF, **changes: Any) -> Envelope:
    said = {"url": "Binary/b1", "size": len(data), "hash": base64.b64encode(hashlib.sha1(data).digest()).decode()}
    first = FICHE["content"][0]
    fiche: dict[str, Any] = {
        **FICHE,
        "id": "d1",
        "content": [{**first, "attachment": {**first["attachment"], **said}}],
    }
    arguments: dict[str, Any] = {
        "delivery_id": DELIVERY,
        "recipient": "logiciel",
        "document_reference": fiche,
        "patient": PATIENT,
        "content": content_of(data),
        "created_at": datetime(2026, 10, 15, 6, 0, tzinfo=UTC),
        "related": {fiche["custodian"]["reference"]: SERVICE, "Practitioner/dr1": DOCTOR},
    }
    return Envelope(**{**arguments, **changes})
