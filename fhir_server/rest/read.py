"""read and vread: https://hl7.org/fhir/R4/http.html#read - the stored bytes go out as they are."""

from datetime import datetime
from email.utils import format_datetime
from functools import lru_cache

from fhir_server.outcomes import NotFound
from fhir_server.rest import audit_events, binary
from fhir_server.rest.http import Answer, Exchange, Header
from fhir_server.rest.service import Service
from fhir_server.store.resources import Stored


async def read(exchange: Exchange, service: Service) -> Answer:
    resource_type, resource_id = exchange.segments
    if resource_type == "AuditEvent":
        return await audit_events.read(exchange, service)
    stored = await service.archive.read(exchange.known_caller(), resource_type, resource_id, exchange.request_id)
    return _answer(exchange, service, resource_type, stored)


async def vread(exchange: Exchange, service: Service) -> Answer:
    resource_type, resource_id, _, version = exchange.segments
    if not version.isdecimal() or len(version) > 9:
        raise NotFound(f"{resource_type}/{resource_id} has no version of this name")
    stored = await service.archive.vread(
        exchange.known_caller(), resource_type, resource_id, int(version), exchange.request_id
    )
    return _answer(exchange, service, resource_type, stored)


def _answer(exchange: Exchange, service: Service, resource_type: str, stored: Stored) -> Answer:
    if resource_type == "Binary" and not binary.wants_resource(exchange):
        return binary.content(exchange, service, stored)
    headers = version_headers(stored)
    if not_modified(exchange, stored):
        return Answer(304, b"", headers)
    if resource_type == "Binary":
        return binary.resource(exchange, service, stored, headers)
    return Answer(200, stored.doc or b"", headers)


def version_headers(stored: Stored) -> list[Header]:
    return [
        (b"etag", b'W/"%d"' % stored.version),
        (b"last-modified", _http_date(stored.updated.replace(microsecond=0))),
    ]


@lru_cache(maxsize=1024)
def _http_date(moment: datetime) -> bytes:
    """What is written together has one date (RFC 9110 section 5.6.7)."""
    return format_datetime(moment, usegmt=True).encode()


def not_modified(exchange: Exchange, stored: Stored) -> bool:
    """If-None-Match names the current version (RFC 9110 section 13.1.2)."""
    wanted = exchange.header(b"if-none-match")
    if wanted is None:
        return False
    tags = [tag.strip().removeprefix("W/").strip('"') for tag in wanted.split(",")]
    return "*" in tags or str(stored.version) in tags
