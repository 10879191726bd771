"""read and vread: https://hl7.org/fhir/R4/http.html#read - the stored bytes go out as they are.

`_summary` and `_elements` take a part of them (https://hl7.org/fhir/R4/search.html#summary).
"""

from datetime import UTC, datetime
from email.utils import format_datetime, parsedate_to_datetime
from functools import lru_cache

from fhir_server.outcomes import BadParameter, NotFound
from fhir_server.r4.summary import Subset, subset, wish
from fhir_server.rest import audit_events, binary
from fhir_server.rest.http import Answer, Exchange, Header
from fhir_server.rest.service import Service
from fhir_server.store.resources import Stored


async def read(exchange: Exchange, service: Service) -> Answer:
    resource_type, resource_id = exchange.segments
    if resource_type == "AuditEvent":
        return await audit_events.read(exchange, service)
    wanted = wanted_part(exchange, resource_type)
    stored = await service.archive.read(exchange.known_caller(), resource_type, resource_id, exchange.request_id)
    return _answer(exchange, service, resource_type, stored, wanted)


async def vread(exchange: Exchange, service: Service) -> Answer:
    resource_type, resource_id, _, version = exchange.segments
    if not version.isdecimal() or len(version) > 9:
        raise NotFound(f"{resource_type}/{resource_id} has no version of this name")
    wanted = wanted_part(exchange, resource_type)
    stored = await service.archive.vread(
        exchange.known_caller(), resource_type, resource_id, int(version), exchange.request_id
    )
    return _answer(exchange, service, resource_type, stored, wanted)


def _answer(exchange: Exchange, service: Service, resource_type: str, stored: Stored, wanted: Subset | None) -> Answer:
    if resource_type == "Binary" and wanted is None and not binary.wants_resource(exchange):
        return binary.content(exchange, service, stored)
    headers = version_headers(stored)
    if not_modified(exchange, stored):
        return Answer(304, b"", headers)
    if resource_type == "Binary" and wanted is None:
        return binary.resource(exchange, service, stored, headers)
    doc = stored.doc or b""
    return Answer(200, subset(doc, resource_type, wanted) if wanted else doc, headers)


def wanted_part(exchange: Exchange, resource_type: str) -> Subset | None:
    """What `_summary` or `_elements` leave of one resource, None for all of it. Raises BadParameter."""
    if not exchange.query:
        return None
    wished = wish(exchange.pairs(), resource_type)
    for name, value in wished.others:
        if name == "_summary" and value:
            raise BadParameter("Of one resource _summary is true, text, data or false", expression="_summary")
    return wished.subset


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
    """If-None-Match names the current version, or without it nothing changed after If-Modified-Since.

    RFC 9110 sections 13.1.2 and 13.1.3: a date that is none is no condition.
    """
    wanted = exchange.header(b"if-none-match")
    if wanted is not None:
        tags = [tag.strip().removeprefix("W/").strip('"') for tag in wanted.split(",")]
        return "*" in tags or str(stored.version) in tags
    since = exchange.header(b"if-modified-since")
    if since is None:
        return False
    try:
        return stored.updated.replace(microsecond=0) <= parsedate_to_datetime(since).astimezone(UTC)
    except (ValueError, OverflowError):
        return False
