"""Binary: the bytes of a document, streamed both ways.

https://hl7.org/fhir/R4/binary.html#rest - with an Accept of FHIR the resource goes out, its content as
base64; with any other the bytes themselves, with Range (RFC 9110 section 14) and a strong ETag, which is
their SHA-256 (IHE ITI-68 Retrieve Document). No content is ever whole in memory.
"""

import re
import secrets
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from typing import Any, Literal

import orjson
import pybase64

from fhir_server.outcomes import BadParameter, BadSyntax, BusinessRule, RangeNotSatisfiable
from fhir_server.ports import Blob
from fhir_server.r4.binary_json import LARGEST_REST, DataStream
from fhir_server.r4.references import is_local
from fhir_server.r4.xml import to_xml
from fhir_server.records.render import without_member
from fhir_server.records.validation import parse_json, validate
from fhir_server.records.write import Incoming, new_id
from fhir_server.rest.forms import FHIR_XML, FORMS, received, wanted
from fhir_server.rest.http import FHIR_JSON, Answer, Exchange, Header, failure_answer
from fhir_server.rest.ranges import Multipart, Part, parts_of
from fhir_server.rest.service import Service
from fhir_server.store.resources import Stored

_MEDIA_TYPE = re.compile(r"[a-z0-9.+\-]{1,64}/[a-z0-9.+\-]{1,64}", re.IGNORECASE)
_HEADER = re.compile(r"[!#-+\-.0-9A-Z^-z|~]{1,127}/[!#-+\-.0-9A-Z^-z|~]{1,127}(?:[ \t]*;[ -~]{0,512})?")
_BASE64_MULTIPLE = 3
# Plain JSON and XML may be the document itself: only the FHIR types, or _format=json, ask for the resource.
ASKS_FOR_FHIR = frozenset({"application/fhir+json", "application/fhir+xml", "json", "xml"})
RESOURCE_TYPES = frozenset({*(name for name, form in FORMS.items() if form == "json"), "application/fhir+xml"})


def wants_resource(exchange: Exchange) -> bool:
    """Does the client ask for the FHIR resource, and not for the bytes?"""
    text = exchange.asked_format or dict(exchange.pairs()).get("_format") or exchange.header(b"accept") or ""
    return any(part.partition(";")[0].strip().lower().replace(" ", "+") in ASKS_FOR_FHIR for part in text.split(","))


def resource(exchange: Exchange, service: Service, stored: Stored, headers: Sequence[Header]) -> Answer:
    """A Binary that was read, as FHIR in JSON or XML. Raises NotAcceptable."""
    doc = stored.doc or b""
    form = wanted(exchange)
    media_type = FHIR_XML if form == "xml" else FHIR_JSON
    if stored.blob_sha256 is None or not stored.blob_size:
        return Answer(200, to_xml(doc) if form == "xml" else doc, headers, media_type)
    before, after = _around_xml(doc) if form == "xml" else (doc[:-1] + b',"data":"', b'"}')
    quanta = -(-stored.blob_size // _BASE64_MULTIPLE)
    length = len(before) + 4 * quanta + len(after)
    body = _as_base64(before, service.archive.content(stored), after)
    return Answer(200, body, [*headers, (b"content-length", str(length).encode())], media_type)


def _around_xml(doc: bytes) -> tuple[bytes, bytes]:
    """The XML form of a Binary before and after its data."""
    mark = secrets.token_hex(16).encode()  # is base64 too, and nowhere else in the document
    before, _, after = to_xml(doc[:-1] + b',"data":"' + mark + b'"}').partition(mark)
    return before, after


async def _as_base64(before: bytes, chunks: AsyncIterator[bytes], after: bytes) -> AsyncIterator[bytes]:
    left = b""
    first = True
    async for chunk in chunks:
        if first:
            yield before  # only now is it known that the content can be read
            first = False
        content = left + chunk if left else chunk
        whole = len(content) - len(content) % _BASE64_MULTIPLE
        yield pybase64.b64encode(memoryview(content)[:whole])
        left = content[whole:]
    yield (pybase64.b64encode(left) if left else b"") + after


def content(exchange: Exchange, service: Service, stored: Stored) -> Answer:
    """The bytes of a Binary that was read: all of them, or the parts that the client asks for."""
    media_type = _sendable(str(orjson.loads(stored.doc or b"{}").get("contentType")))
    if stored.blob_sha256 is None or stored.blob_size is None:
        return Answer(200, b"", media_type=media_type.encode())
    etag = f'"{stored.blob_sha256.hex()}"'
    headers: list[Header] = [
        (b"etag", etag.encode()),
        (b"accept-ranges", b"bytes"),
        (b"repr-digest", b"sha-256=:%s:" % pybase64.b64encode(stored.blob_sha256)),  # RFC 9530
        (b"x-content-type-options", b"nosniff"),
        (b"cache-control", b"private, no-cache"),
    ]
    if _has_it(exchange.header(b"if-none-match"), etag):
        return Answer(304, b"", headers, media_type.encode())
    try:
        parts = _parts(exchange, etag, stored.blob_size)
    except RangeNotSatisfiable as failure:
        answer = failure_answer(failure)
        return replace(answer, headers=[*answer.headers, (b"content-range", b"bytes */%d" % stored.blob_size)])
    if parts is None:
        headers.append((b"content-length", str(stored.blob_size).encode()))
        return Answer(200, service.archive.content(stored), headers, media_type.encode())
    return _partial(service, stored, parts, headers, media_type)


def _sendable(content_type: str) -> str:
    """A contentType as a header: FHIR lets it hold what a header may not, such as the end of a line."""
    return content_type if _HEADER.fullmatch(content_type) else "application/octet-stream"


def _partial(service: Service, stored: Stored, parts: Sequence[Part], headers: list[Header], media_type: str) -> Answer:
    size = stored.blob_size or 0
    if len(parts) == 1:
        (part,) = parts
        headers += [
            (b"content-range", part.content_range(size).encode()),
            (b"content-length", str(part.length).encode()),
        ]
        return Answer(206, service.archive.content(stored, *part), headers, media_type.encode())
    multipart = Multipart(parts, size, media_type, secrets.token_hex(16))
    headers.append((b"content-length", str(multipart.length).encode()))

    def read(start: int, length: int) -> AsyncIterator[bytes]:
        return service.archive.content(stored, start, length)

    return Answer(206, multipart.chunks(read), headers, multipart.media_type)


def _has_it(if_none_match: str | None, etag: str) -> bool:
    """RFC 9110 section 13.1.2: weak comparison, and `*` for anything."""
    tags = [tag.strip().removeprefix("W/") for tag in (if_none_match or "").split(",")]
    return etag in tags or tags == ["*"]


def _parts(exchange: Exchange, etag: str, size: int) -> list[Part] | None:
    """The parts wanted; None for the whole, also where If-Range names another content (RFC 9110 section 13.1.5)."""
    text = exchange.header(b"range")
    if text is None or exchange.method != "GET" or (exchange.header(b"if-range") or etag).strip() != etag:
        return None
    return parts_of(text, size)


async def incoming(exchange: Exchange, service: Service, resource_id: str | None) -> Incoming:
    """A Binary as it is sent: raw bytes with their media type, or the resource with base64 data."""
    if exchange.header(b"if-none-exist") is not None:
        raise BadParameter("A Binary has no criteria: it cannot be created conditionally")
    method = "update" if resource_id else "create"
    media_type = exchange.media_type()
    if media_type in RESOURCE_TYPES:
        if FORMS[media_type] == "xml":
            body = await received(exchange, service.largest_body)
            return await from_json(body, service, method, resource_id)
        return await _from_stream(exchange, service, method, resource_id)
    made = described(media_type, exchange.header(b"x-security-context"))
    blob = await service.blobs.put(exchange.chunks(service.largest_binary), largest=service.largest_binary)
    return Incoming(made, orjson.dumps(made), method, resource_id or new_id(), blob=blob)


def described(media_type: str, context: str | None) -> dict[str, Any]:
    """The resource of raw bytes. Raises BadSyntax without a media type, BusinessRule, InvalidResource."""
    if not _MEDIA_TYPE.fullmatch(media_type):
        raise BadSyntax("A raw Binary needs a Content-Type")
    made: dict[str, Any] = {"resourceType": "Binary", "contentType": media_type}
    if context:
        made["securityContext"] = {"reference": context}
    validate(made)
    _check_context(made)
    return made


def _check_context(binary: dict[str, Any]) -> None:
    """What protects a Binary must be here, where its rules can be asked: else nobody could ever read the bytes."""
    if "securityContext" not in binary:
        return
    reference = str(binary["securityContext"].get("reference", ""))
    if not is_local(reference) and not reference.startswith("urn:uuid:"):
        raise BusinessRule(
            "What protects a Binary is named as Type/id, on this server", expression="Binary.securityContext.reference"
        )


async def from_json(
    body: bytes, service: Service, method: Literal["create", "update"], resource_id: str | None
) -> Incoming:
    """A Binary resource that is in memory: its data goes to the blob store, the rest to the database."""
    binary = parse_json(body)
    _check(binary, resource_id)
    data = binary.get("data")
    blob = await service.blobs.put_bytes(_decoded(data)) if data is not None else None
    return _without_data(binary, body, method, resource_id, blob)


def _decoded(data: str) -> bytes:
    return pybase64.b64decode("".join(data.split()), validate=True)


async def _from_stream(
    exchange: Exchange, service: Service, method: Literal["create", "update"], resource_id: str | None
) -> Incoming:
    """The same while it arrives: the data is kept as it is decoded, and thrown away if the rest is no valid Binary."""
    stream = DataStream()
    checked: list[dict[str, Any]] = []
    # white space in base64 is allowed, and every line end of it is two or four characters
    most = service.largest_binary * 3 // 2 + LARGEST_REST

    async def data() -> AsyncIterator[bytes]:
        async for chunk in exchange.chunks(most):
            if part := stream.feed(chunk):
                yield part
        if part := stream.end():
            yield part
        binary = parse_json(stream.rest)
        _check(binary, resource_id)
        checked.append(binary)

    arriving = data()
    first = await anext(arriving, b"")
    blob = None
    if first or stream.found:
        blob = await service.blobs.put(_chained(first, arriving), largest=service.largest_binary)
    return _without_data(checked[0], stream.rest, method, resource_id, blob)


async def _chained(first: bytes, rest: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    yield first
    async for chunk in rest:
        yield chunk


def _check(binary: dict[str, Any], resource_id: str | None) -> None:
    if binary["resourceType"] != "Binary":
        raise BadParameter(f"The URL says Binary, the body {binary['resourceType'][:64]}", expression="resourceType")
    if resource_id and binary.get("id") != resource_id:
        raise BadParameter("The id in the body is not the id in the URL", expression="Binary.id")
    validate(binary)
    _check_context(binary)


def _without_data(
    binary: dict[str, Any],
    body: bytes,
    method: Literal["create", "update"],
    resource_id: str | None,
    blob: Blob | None,
) -> Incoming:
    rest = {name: value for name, value in binary.items() if name != "data"}
    kept = without_member(body, "data") if blob else body
    return Incoming(rest, kept, method, resource_id or new_id(), blob=blob)
