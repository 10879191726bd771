"""create, with If-None-Exist: https://hl7.org/fhir/R4/http.html#create"""

from email.utils import format_datetime
from typing import Any

import orjson

from fhir_server.caller import Caller
from fhir_server.outcomes import BadParameter, Issue
from fhir_server.r4.resource_types import TYPE_NUMBER
from fhir_server.records.conditions import condition_of
from fhir_server.records.sharing.profiles import is_simplified
from fhir_server.records.write import Incoming, Outcome, incoming_from_bytes
from fhir_server.rest import binary
from fhir_server.rest.forms import received
from fhir_server.rest.http import Answer, Exchange, Header, outcome, preferred_return
from fhir_server.rest.service import Service
from fhir_server.store.bounds import meets


async def create(exchange: Exchange, service: Service) -> Answer:
    (resource_type,) = exchange.segments
    exchange.known_caller().must("c", resource_type)
    condition = exchange.header(b"if-none-exist")
    if resource_type == "Binary":
        if condition is not None:
            raise BadParameter("A Binary is created without a condition: put it under an id of your own")
        incoming = await binary.incoming(exchange, service, None)
    else:
        incoming = incoming_from_bytes(
            await received(exchange, service.largest_body),
            method="create",
            resource_type=resource_type,
            condition=condition_of(condition) if condition is not None else None,
        )
    if resource_type == "DocumentReference" and is_simplified(incoming.resource):
        return await simplified_publish(exchange, service, incoming)
    (result,) = await service.door.write(
        exchange.known_caller(), [incoming], interaction="create", request_id=exchange.request_id
    )
    return await written_answer(exchange, service, result)


async def simplified_publish(exchange: Exchange, service: Service, incoming: Incoming) -> Answer:
    """ITI-105: the document leaves its DocumentReference and becomes a Binary, with a lot de soumission of its own."""
    from fhir_server.rest.document_sharing import published  # it patches what is replaced, and a patch is answered here

    shared = await published(exchange, service, incoming)
    result, *_ = await service.door.write(
        exchange.known_caller(),
        shared.incoming,
        interaction="create",
        request_id=exchange.request_id,
        alongside=shared.alongside,
    )
    return await written_answer(exchange, service, result)


async def written_answer(exchange: Exchange, service: Service, result: Outcome) -> Answer:
    """201 or 200 with Location and ETag, and the body that the client prefers; to one who may not read, none."""
    written = result.written
    if written is None:  # the condition of a conditional create found it
        stored = await service.archive.resources.read(TYPE_NUMBER[result.type], result.id)
        assert stored
        status, version, updated, doc = 200, stored.version, stored.updated, stored.doc
    else:
        status, version, updated, doc = (201 if written.created else 200), written.version, written.updated, written.doc
    headers: list[Header] = [
        (b"location", f"{service.base}/{result.type}/{result.id}/_history/{version}".encode()),
        (b"etag", b'W/"%d"' % version),
        (b"last-modified", format_datetime(updated, usegmt=True).encode()),
    ]
    asked, echo = preferred_return(exchange)
    if asked == "minimal":
        return Answer(status, b"", headers + echo)
    if asked == "OperationOutcome":
        return Answer(status, orjson.dumps(done(f"{result.type}/{result.id} is at version {version}")), headers + echo)
    if doc is None or not may_be_shown(exchange.known_caller(), result.type, doc):
        return Answer(status, b"", headers)
    return Answer(status, doc, headers + echo)


def may_be_shown(caller: Caller, resource_type: str, doc: bytes) -> bool:
    """Whether one who wrote it may also read it."""
    return caller.may("r", resource_type) and meets(caller.sight("r"), resource_type, doc)


def done(text: str) -> dict[str, Any]:
    """The OperationOutcome of a success."""
    return outcome([Issue("information", "informational", text)])
