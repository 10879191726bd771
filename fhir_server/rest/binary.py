"""Binary: the bytes of a document, streamed both ways.

https://hl7.org/fhir/R4/binary.html#rest - with an Accept of FHIR the resource goes out, its content as
base64; with any other the bytes themselves, with Range (RFC 9110 section 14) and a strong ETag, which is
their SHA-256 (IHE ITI-68 Retrieve Document).
"""

import re
from collections.abc import AsyncIterator
from typing import Any

import orjson
import pybase64

from fhir_server.outcomes import BadParameter, BadSyntax, RangeNotSatisfiable
from fhir_server.records.render import without_member
from fhir_server.records.validation import parse_json, validate
from fhir_server.records.write import Incoming, new_id
from fhir_server.rest.forms import FORMS, received
from fhir_server.rest.http import Answer, Exchange, Header
from fhir_server.rest.service import Service
from fhir_server.store.resources import Stored

_RANGE = re.compile(r"bytes=(\d{0,18})-(\d{0,18})")
_MEDIA_TYPE = re.compile(r"[a-z0-9.+\-]{1,64}/[a-z0-9.+\-]{1,64}", re.IGNORECASE)
_BASE64_MULTIPLE = 3
# Plain JSON and XML may be the document itself: only the FHIR types, or _format=json, ask for the resource.
ASKS_FOR_FHIR = frozenset({"application/fhir+json", "application/fhir+xml", "json", "xml"})
RESOURCE_TYPES = frozenset({*(name for name, form in FORMS.items() if form == "json"), "application/fhir+xml"})


def answer(exchange: Exchange, service: Service, stored: Stored) -> Answer:
    """A Binary that was read, in the form that the client wants."""
    doc = stored.doc or b""
    if _wants_fhir(exchange):
        return Answer(200, _as_resource(service, stored, doc), [(b"etag", b'W/"%d"' % stored.version)])
    content_type = str(orjson.loads(doc).get("contentType", "application/octet-stream"))
    if stored.blob_sha256 is None or stored.blob_size is None:
        return Answer(200, b"", media_type=content_type.encode())
    etag = b'"%s"' % stored.blob_sha256.hex().encode()
    headers: list[Header] = [
        (b"etag", etag),
        (b"accept-ranges", b"bytes"),
        (b"x-content-type-options", b"nosniff"),
        (b"cache-control", b"private, no-cache"),
    ]
    known = exchange.header(b"if-none-match") or ""
    if etag.decode() in known or known.strip() == "*":
        return Answer(304, b"", headers, content_type.encode())
    asked = _range(exchange, etag.decode(), stored.blob_size)
    if asked is None:
        headers.append((b"content-length", str(stored.blob_size).encode()))
        return Answer(200, service.archive.content(stored), headers, content_type.encode())
    start, length = asked
    headers += [
        (b"content-range", f"bytes {start}-{start + length - 1}/{stored.blob_size}".encode()),
        (b"content-length", str(length).encode()),
    ]
    return Answer(206, service.archive.content(stored, start, length), headers, content_type.encode())


def _wants_fhir(exchange: Exchange) -> bool:
    wanted = dict(exchange.pairs()).get("_format") or exchange.header(b"accept") or ""
    return any(part.partition(";")[0].strip().lower().replace(" ", "+") in ASKS_FOR_FHIR for part in wanted.split(","))


async def _as_resource(service: Service, stored: Stored, doc: bytes) -> AsyncIterator[bytes]:
    """The stored JSON with `data` put in, made while it is sent."""
    if stored.blob_sha256 is None:
        yield doc
        return
    yield doc[:-1] + b',"data":"'
    left = b""
    async for chunk in service.archive.content(stored):
        left += chunk
        whole = len(left) // _BASE64_MULTIPLE * _BASE64_MULTIPLE
        yield pybase64.b64encode(left[:whole])
        left = left[whole:]
    yield pybase64.b64encode(left) + b'"}'


def _range(exchange: Exchange, etag: str, size: int) -> tuple[int, int] | None:
    """(start, length) of a single range; None when the whole is wanted. Raises RangeNotSatisfiable."""
    text = exchange.header(b"range")
    if text is None or (exchange.header(b"if-range") or etag) != etag:
        return None
    match = _RANGE.fullmatch(text.strip())
    if not match or match.groups() == ("", ""):
        return None  # several ranges, or another unit: RFC 9110 lets us answer with the whole
    first, last = match.groups()
    if not first:
        start, end = max(0, size - int(last)), size - 1
    else:
        start, end = int(first), min(int(last), size - 1) if last else size - 1
    if start > end or start >= size:
        raise RangeNotSatisfiable(f"The content has {size} bytes")
    return start, end - start + 1


async def incoming(exchange: Exchange, service: Service, resource_id: str | None) -> Incoming:
    """A Binary as it is sent: raw bytes with their media type, or the resource with base64 data."""
    method = "update" if resource_id else "create"
    media_type = exchange.media_type()
    if media_type in RESOURCE_TYPES:
        body = await received(exchange, service.largest_body)
        incoming = await from_json(body, service, method, resource_id)
        if resource_id and incoming.resource.get("id") != resource_id:
            raise BadParameter("The id in the body is not the id in the URL", expression="Binary.id")
        return incoming
    if not _MEDIA_TYPE.fullmatch(media_type):
        raise BadSyntax("A raw Binary needs a Content-Type")
    blob = await service.blobs.put(exchange.chunks(service.largest_binary), largest=service.largest_binary)
    resource: dict[str, Any] = {"resourceType": "Binary", "contentType": media_type}
    if context := exchange.header(b"x-security-context"):
        resource["securityContext"] = {"reference": context}
    validate(resource)
    return Incoming(resource, orjson.dumps(resource), method, resource_id or new_id(), blob=blob)


async def from_json(body: bytes, service: Service, method: Any, resource_id: str | None) -> Incoming:
    """A Binary resource: its data goes to the blob store, the rest to the database."""
    resource = parse_json(body)
    validate(resource)
    data = resource.pop("data", None)
    identity = resource_id or new_id()
    if data is None:
        return Incoming(resource, body, method, identity)
    blob = await service.blobs.put_bytes(pybase64.b64decode(data, validate=True))
    return Incoming(resource, without_member(body, "data"), method, identity, blob=blob)
