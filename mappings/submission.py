"""Identities of a lot de soumission: what makes it unique, and which system submits it.

IHE MHD SubmissionSet.identifier (uniqueId) and ihe-sourceId: both `urn:oid:`.
"""

from collections.abc import Mapping
from typing import Any
from uuid import NAMESPACE_URL, UUID, uuid5

from terminology import systems


def submission_oid(delivery_id: str) -> str:
    """The uniqueId of the lot de soumission of a delivery (a UUID): the same at every attempt."""
    return f"urn:oid:2.25.{uuid5(UUID(delivery_id), 'lot-de-soumission').int}"


def source_oid(document_reference: Mapping[str, Any]) -> str:
    """The sourceId: this system at the organization that keeps the document."""
    custodian = document_reference["custodian"]["reference"]
    return f"urn:oid:2.25.{uuid5(uuid5(NAMESPACE_URL, systems.OWN), custodian).int}"
