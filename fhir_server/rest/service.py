"""What the interactions are given: the parts of this server that they may use."""

from collections.abc import Callable
from dataclasses import dataclass

from fhir_server.identity.matcher import Matcher
from fhir_server.ports import BlobStore
from fhir_server.records.bulk import Bulk
from fhir_server.records.failures import Failures
from fhir_server.records.read import Archive
from fhir_server.records.redaction import Redactor
from fhir_server.records.transfer import Transfers
from fhir_server.records.write import Door
from fhir_server.rest.limits import Limits
from fhir_server.rest.page_links import PageLinks
from fhir_server.settings import Settings
from fhir_server.store.custom_parameters import CustomParameters
from fhir_server.store.expunge import Expunge
from fhir_server.store.persons import Persons
from fhir_server.store.shredding import Shredder
from fhir_server.store.uploads import Uploads


def _nobody(_person: str) -> None:
    """Nobody remembers anything of anybody."""


@dataclass(frozen=True, slots=True)
class Service:
    archive: Archive
    door: Door
    blobs: BlobStore
    bulk: Bulk
    page_links: PageLinks
    settings: Settings
    uploads: Uploads
    expunge: Expunge
    parameters: CustomParameters
    shredder: Shredder | None
    redactor: Redactor
    transfers: Transfers
    persons: Persons
    limits: Limits
    matcher: Matcher
    failures: Failures
    forget: Callable[[str], None] = _nobody
    """Told of whom something was recorded that counts at once."""

    @property
    def base(self) -> str:
        return self.settings.public_base

    @property
    def largest_body(self) -> int:
        return self.settings.max_body_mb * 1024 * 1024

    @property
    def largest_binary(self) -> int:
        return self.settings.max_binary_mb * 1024 * 1024
