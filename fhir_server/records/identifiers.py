"""Ids that follow from what a record is: the same worker, lot or document gets the same id at every attempt.

So whatever is done twice (a register imported again, an intake resumed after a crash) meets what it wrote
before, instead of writing it beside. UUID version 5 (RFC 9562 section 5.5) in the namespace of this project.
"""

import uuid

from fhir_server.settings import Settings
from terminology.systems import OWN

_NAMESPACE = uuid.uuid5(uuid.NAMESPACE_URL, OWN)


def stable_id(*parts: str) -> str:
    """A UUID made of the parts of a name, such as `("patient", "100000101")`."""
    return str(uuid.uuid5(_NAMESPACE, "\x1f".join(parts)))


def oid_of(identity: str) -> str:
    """A UUID as `urn:oid:2.25.N` (ITU-T X.667): what MHD and XDS want as unique id of a document."""
    return f"urn:oid:2.25.{uuid.UUID(identity).int}"


def service_id_of(settings: Settings) -> str:
    """The prevention service itself: custodian of every document."""
    return stable_id("service", settings.organization_finess or settings.organization_siret or "self")
