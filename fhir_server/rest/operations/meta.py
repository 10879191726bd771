"""$meta: the profiles, tags and security labels of one resource, or of all that the caller may see.

https://hl7.org/fhir/R4/resource-operation-meta.html
"""

from collections.abc import Iterable
from typing import Any

import orjson

from fhir_server.outcomes import Forbidden
from fhir_server.r4.resource_types import RESOURCE_TYPES
from fhir_server.records import audit
from fhir_server.rest.http import Answer, Exchange
from fhir_server.rest.operations.operation import Operation, arguments
from fhir_server.rest.service import Service
from fhir_server.store.labels import PROFILE, SECURITY, TAG, Label


async def meta(exchange: Exchange, service: Service) -> Answer:
    """GET or POST $meta, Type/$meta and Type/id/$meta."""
    await arguments(exchange, service)
    if len(exchange.segments) == 3:
        resource_type, resource_id, _ = exchange.segments
        stored = await service.archive.read(exchange.known_caller(), resource_type, resource_id, exchange.request_id)
        return meta_answer(orjson.loads(stored.doc or b"{}").get("meta", {}))
    wanted = _types(exchange)
    row = audit.access(
        exchange.known_caller(),
        "operation",
        exchange.request_id,
        resource_type=wanted[0] if len(exchange.segments) == 2 else None,
        query="$meta",
    )
    await service.archive.accesses.append(row)
    return meta_answer(_as_meta(await service.archive.labels.in_use(wanted, exchange.known_caller().sight("r", "s"))))


def meta_answer(found: Any) -> Answer:
    """Parameters with a Meta; one that says nothing is left out."""
    parameter = {"parameter": [{"name": "return", "valueMeta": found}]} if found else {}
    return Answer(200, orjson.dumps({"resourceType": "Parameters", **parameter}))


def _types(exchange: Exchange) -> list[str]:
    """The types that are asked about: one, or all that the caller may read and search. Raises Forbidden."""
    caller = exchange.known_caller()
    if len(exchange.segments) == 2:
        caller.must("r", exchange.segments[0])
        caller.must("s", exchange.segments[0])
        return [exchange.segments[0]]
    wanted = [name for name in RESOURCE_TYPES if caller.may("r", name) and caller.may("s", name)]
    if not wanted:
        raise Forbidden("No scope of this client allows to read and search anything")
    return wanted


def _as_meta(labels: Iterable[Label]) -> dict[str, list[Any]]:
    found: dict[str, list[Any]] = {}
    for label in labels:
        if label.kind == PROFILE:
            found.setdefault("profile", []).append(label.code)
        else:
            coding = {"system": label.system, "code": label.code, "display": label.display}
            name = {TAG: "tag", SECURITY: "security"}[label.kind]
            found.setdefault(name, []).append({key: value for key, value in coding.items() if value})
    return found


META = Operation(
    "$meta",
    "http://hl7.org/fhir/OperationDefinition/Resource-meta",
    meta,
    frozenset({"system", "type", "instance"}),
)
