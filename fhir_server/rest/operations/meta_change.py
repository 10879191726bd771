"""$meta-add and $meta-delete: profiles, tags and security labels put on a resource or taken off, as a new version.

https://hl7.org/fhir/R4/resource-operation-meta-add.html and https://hl7.org/fhir/R4/resource-operation-meta-delete.html
"""

from collections.abc import Callable, Mapping
from typing import Any, Final

import orjson

from fhir_server.outcomes import BadParameter, VersionConflict
from fhir_server.r4.labels import with_labels, without_labels
from fhir_server.r4.resource_types import RESOURCE_TYPES
from fhir_server.records.read import present
from fhir_server.records.write import Incoming, incoming_from_bytes
from fhir_server.rest.http import Answer, Exchange
from fhir_server.rest.operations.meta import meta_answer
from fhir_server.rest.operations.operation import Operation, arguments, only
from fhir_server.rest.service import Service
from fhir_server.rest.update import expected_version

ATTEMPTS: Final = 5
CHANGED: Final = frozenset(RESOURCE_TYPES) - {"Binary"}
"""The bytes of a Binary are no part of its document: it is replaced, not changed."""

Change = Callable[[bytes, Mapping[str, Any]], bytes]


async def add(exchange: Exchange, service: Service) -> Answer:
    """POST Type/id/$meta-add."""
    return await _change(exchange, service, with_labels)


async def delete(exchange: Exchange, service: Service) -> Answer:
    """POST Type/id/$meta-delete."""
    return await _change(exchange, service, without_labels)


async def _change(exchange: Exchange, service: Service, change: Change) -> Answer:
    """The current version is changed and written on condition that it is still the current one, or tried again."""
    caller = exchange.known_caller()
    resource_type, _, _ = exchange.segments
    caller.must("u", resource_type)
    labels = only(await arguments(exchange, service, "meta"), "meta")
    if not isinstance(labels, dict):
        raise BadParameter("The parameter `meta` is missing: a valueMeta", expression="meta")
    asked = expected_version(exchange.header(b"if-match"))
    for attempt in range(1, ATTEMPTS + 1):
        incoming = await _changed(exchange, service, labels, change, asked)
        try:
            await service.door.write(caller, [incoming], interaction="operation", request_id=exchange.request_id)
        except VersionConflict:
            if asked is not None or attempt == ATTEMPTS:
                raise
            continue
        return await _answer(exchange, service)
    raise AssertionError("unreachable")


async def _changed(
    exchange: Exchange, service: Service, labels: Mapping[str, Any], change: Change, asked: int | None
) -> Incoming:
    resource_type, resource_id, _ = exchange.segments
    found = await service.archive.current(exchange.known_caller(), resource_type, resource_id, "u")
    stored = present(found, resource_type, resource_id)
    return incoming_from_bytes(
        change(stored.doc or b"", labels),
        method="update",
        resource_type=resource_type,
        resource_id=resource_id,
        expected_version=stored.version if asked is None else asked,
    )


async def _answer(exchange: Exchange, service: Service) -> Answer:
    """The labels as they are now, to one who may read them."""
    resource_type, resource_id, _ = exchange.segments
    if not exchange.known_caller().may("r", resource_type):
        return Answer(200)
    stored = await service.archive.current(exchange.known_caller(), resource_type, resource_id, "r")
    return meta_answer(orjson.loads(stored.doc).get("meta", {}) if stored and stored.doc else {})


META_ADD = Operation(
    "$meta-add",
    "http://hl7.org/fhir/OperationDefinition/Resource-meta-add",
    add,
    frozenset({"instance"}),
    CHANGED,
    affects_state=True,
)
META_DELETE = Operation(
    "$meta-delete",
    "http://hl7.org/fhir/OperationDefinition/Resource-meta-delete",
    delete,
    frozenset({"instance"}),
    CHANGED,
    affects_state=True,
)
