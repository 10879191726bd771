"""$upload on Binary: a large document in several requests, each going on where the one before it was cut off.

tus 1.0.0 with creation, creation-with-upload, expiration and termination: https://tus.io/protocols/resumable-upload
When its last byte is there, the upload becomes a version of a Binary, through the same door as any other.
"""

import asyncio
import base64
import binascii
import functools
import re
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from email.utils import format_datetime
from typing import Any, Literal, cast

import orjson

from fhir_server.caller import Permission
from fhir_server.outcomes import (
    BadParameter,
    Conflict,
    Failure,
    Forbidden,
    TooLarge,
    Unauthenticated,
    UnsupportedMediaType,
    VersionConflict,
)
from fhir_server.records.write import Incoming, new_id
from fhir_server.rest import binary
from fhir_server.rest.http import Answer, Exchange, Header, failure_answer
from fhir_server.rest.operations.operation import Operation
from fhir_server.rest.service import Service
from fhir_server.store.commit import Written
from fhir_server.store.database import Connection
from fhir_server.store.uploads import Upload, finish
from terminology.systems import OPERATION_UPLOAD

VERSION = b"1.0.0"
EXTENSIONS = b"creation,creation-with-upload,expiration,termination"
OFFSET_STREAM = "application/offset+octet-stream"
RESUMABLE: Header = (b"tus-resumable", VERSION)
PERMISSIONS: dict[str, Permission] = {"create": "c", "update": "u"}
_ID = re.compile(r"[A-Za-z0-9\-.]{1,64}")

Interaction = Callable[[Exchange, Service], Awaitable[Answer]]


def _tus(interaction: Interaction) -> Interaction:
    """Speak tus: refuse other versions of it, and name ours in every answer, failures included."""

    @functools.wraps(interaction)
    async def speaking(exchange: Exchange, service: Service) -> Answer:
        try:
            if exchange.header(b"tus-resumable") != VERSION.decode():
                raise VersionConflict("This is tus: send Tus-Resumable: 1.0.0")
            answer = await interaction(exchange, service)
        except (Forbidden, Unauthenticated):
            raise  # the edge leaves a trace of them
        except Failure as failure:
            answer = failure_answer(failure)
        return replace(answer, headers=[*answer.headers, RESUMABLE, (b"tus-version", VERSION)])

    return speaking


async def options(_exchange: Exchange, service: Service) -> Answer:
    """What of tus this server does."""
    largest = str(service.largest_binary).encode()
    return Answer(
        204,
        b"",
        [RESUMABLE, (b"tus-version", VERSION), (b"tus-extension", EXTENSIONS), (b"tus-max-size", largest)],
    )


@_tus
async def create(exchange: Exchange, service: Service) -> Answer:
    """POST Binary/$upload: announce an upload, and send its first bytes where one likes."""
    told = _metadata(exchange.header(b"upload-metadata") or "")
    method = "update" if "id" in told else "create"
    caller = exchange.known_caller()
    caller.must(PERMISSIONS[method], "Binary")
    length = _number(exchange, b"upload-length")
    if length > service.largest_binary:
        raise TooLarge(f"A Binary has at most {service.largest_binary // (1024 * 1024)} MB")
    made = binary.described(
        told.get("filetype", "").partition(";")[0].strip().lower(), exchange.header(b"x-security-context")
    )
    if "id" in told and not _ID.fullmatch(told["id"]):
        raise BadParameter("This is not the id of a resource", expression="Upload-Metadata")
    upload = await service.uploads.create(
        caller.client_id, length, orjson.dumps(made), told.get("id") or new_id(), method
    )
    if exchange.media_type() == OFFSET_STREAM or not length:
        upload = await _continue(exchange, service, upload, 0)
    location = f"{service.base}/Binary/$upload/{upload.upload_id}".encode()
    return Answer(201, b"", [(b"location", location), *_state(service, upload)])


@_tus
async def status(exchange: Exchange, service: Service) -> Answer:
    """HEAD Binary/$upload/id: how far it came. One that is whole and was never written, because of a crash, is now."""
    upload = await _own(exchange, service)
    if upload.version is None and upload.received == upload.length:
        async with service.uploads.held(upload) as (_, now):
            upload = now if now.version else await _written(exchange, service, now)
    return Answer(
        200,
        b"",
        [(b"upload-length", str(upload.length).encode()), (b"cache-control", b"no-store"), *_state(service, upload)],
    )


@_tus
async def append(exchange: Exchange, service: Service) -> Answer:
    """PATCH Binary/$upload/id: go on at an offset."""
    upload = await _own(exchange, service)
    if exchange.media_type() != OFFSET_STREAM:
        raise UnsupportedMediaType(f"What is appended is {OFFSET_STREAM}")
    upload = await _continue(exchange, service, upload, _number(exchange, b"upload-offset"))
    return Answer(204, b"", _state(service, upload))


@_tus
async def terminate(exchange: Exchange, service: Service) -> Answer:
    """DELETE Binary/$upload/id: give it up. A Binary that was written stays."""
    upload = await _own(exchange, service)
    async with service.uploads.held(upload):
        await service.uploads.drop(upload)
    return Answer(204)


async def _own(exchange: Exchange, service: Service) -> Upload:
    """The upload of the URL. Raises NotFound for one of somebody else, Forbidden where he may not write any more."""
    caller = exchange.known_caller()
    upload = await service.uploads.find(exchange.segments[2], caller.client_id)
    caller.must(PERMISSIONS[upload.method], "Binary")
    return upload


async def _continue(exchange: Exchange, service: Service, upload: Upload, offset: int) -> Upload:
    async with service.uploads.held(upload) as (descriptor, now):
        if now.version is not None:
            raise Conflict("This upload is finished")
        if offset != now.received:
            raise Conflict(f"This upload has {now.received} bytes: go on there", expression="Upload-Offset")
        after = now
        if exchange.media_type() == OFFSET_STREAM:
            after = await service.uploads.append(descriptor, now, exchange.chunks(service.largest_binary))
        return await _written(exchange, service, after) if after.received == after.length else after


async def _written(exchange: Exchange, service: Service, upload: Upload) -> Upload:
    """The Binary of an upload that is whole and held: written once, with the mark that it is."""
    path = service.uploads.path(upload)
    blob = await asyncio.to_thread(service.blobs.put_file, path, largest=upload.length)
    made: dict[str, Any] = orjson.loads(upload.resource)
    method = cast(Literal["create", "update"], upload.method)
    versions: list[int] = []

    async def alongside(connection: Connection, written: Sequence[Written]) -> None:
        await finish(connection, upload, written[0].version)
        versions[:] = [written[0].version]

    await service.door.write(
        exchange.known_caller(),
        [Incoming(made, upload.resource, method, upload.binary_id, blob=blob)],
        interaction=upload.method,
        request_id=exchange.request_id,
        alongside=alongside,
    )
    service.uploads.forget(upload)
    return upload._replace(version=versions[0])


def _state(service: Service, upload: Upload) -> list[Header]:
    """How far it came, until when it may go on, and where the Binary is once it is finished."""
    headers: list[Header] = [
        (b"upload-offset", str(upload.received).encode()),
        (b"upload-expires", format_datetime(upload.expires, usegmt=True).encode()),
    ]
    if upload.version is not None:
        written = f"{service.base}/Binary/{upload.binary_id}/_history/{upload.version}"
        headers.append((b"content-location", written.encode()))
    return headers


def _number(exchange: Exchange, name: bytes) -> int:
    text = exchange.header(name) or ""
    if not text.isdecimal() or len(text) > 18:
        title = name.decode().title()
        raise BadParameter(f"{title} must be a number of bytes", expression=title)
    return int(text)


def _metadata(header: str) -> dict[str, str]:
    """Upload-Metadata: names, and values in base64. Of these `filetype` and `id` are read; others are not kept."""
    told: dict[str, str] = {}
    for pair in filter(None, (pair.strip() for pair in header.split(","))):
        name, _, value = pair.partition(" ")
        try:
            told[name] = base64.b64decode(value, validate=True).decode()
        except (binascii.Error, UnicodeDecodeError):
            raise BadParameter("The values of Upload-Metadata are base64", expression="Upload-Metadata") from None
    return told


UPLOAD = Operation(
    "$upload", OPERATION_UPLOAD, create, frozenset({"type"}), types=frozenset({"Binary"}), affects_state=True
)
