"""The lot de soumission (SubmissionSet) that a recipient makes of a document published alone: ITI-105.

https://profiles.ihe.net/ITI/MHD/ITI-105.html - the same document makes the same lot, so that a repetition adds none.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final
from uuid import NAMESPACE_URL, UUID, uuid5

from mappings.elements import Element, concept, identifier, instant, present, reference
from mappings.scanned_document import unique_id
from terminology import systems

_NAMESPACE: Final[UUID] = uuid5(NAMESPACE_URL, systems.OWN)


def identity(document_reference: Mapping[str, Any], part: str) -> UUID:
    """A UUID for one part (`Binary`, `List`...) of the publication of a document: always the same one."""
    master = document_reference["masterIdentifier"]
    return uuid5(_NAMESPACE, f"{part} {master.get('system', '')}|{master.get('value', '')}")


def submission_oid(document_reference: Mapping[str, Any]) -> str:
    """The uniqueId of the lot de soumission: `urn:oid:2.25.N`."""
    return f"urn:oid:2.25.{identity(document_reference, 'lot-de-soumission').int}"


def submission_set(
    document_reference: Mapping[str, Any], document_url: str, *, client_id: str, now: datetime
) -> Element:
    """The List of the one document at `document_url`, submitted by a client of this server (its sourceId)."""
    source = identifier(systems.CLIENT, client_id)
    return present(
        resourceType="List",
        meta={"profile": [systems.MHD_MINIMAL_SUBMISSION_SET]},
        extension=[{"url": systems.MHD_SOURCE_ID, "valueIdentifier": source}],
        identifier=[unique_id(submission_oid(document_reference))],
        status="current",
        mode="working",
        code=concept(systems.MHD_LIST_TYPES, "submissionset"),
        subject=document_reference["subject"],
        date=instant(now),
        entry=[{"item": reference(document_url)}],
    )
