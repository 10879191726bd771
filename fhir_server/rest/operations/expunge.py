"""$expunge: deleted resources and earlier versions removed for good, by an operator.

R4 has no operation for it; this one is asked as that of HAPI. https://hl7.org/fhir/R4/http.html#delete leaves earlier
versions readable: this is how they go, where the law asks for it.
"""

from contextlib import suppress
from functools import partial
from typing import Final

import orjson

from fhir_server.caller import Caller
from fhir_server.outcomes import BadParameter, Failure, Forbidden, Gone, NotFound
from fhir_server.r4.resource_types import RESOURCE_TYPES, TYPE_NUMBER
from fhir_server.r4.subjects import patient_in_bytes
from fhir_server.records import audit
from fhir_server.records.write import deletion
from fhir_server.rest.http import Answer, Exchange
from fhir_server.rest.operations.operation import Arguments, Operation, arguments, only, only_count
from fhir_server.rest.service import Service
from fhir_server.store.access_log import AccessRow
from terminology.systems import OWN

MOST: Final = 1000
"""Resources, or versions, that one call removes."""
WISHES: Final = ("expungeDeletedResources", "expungePreviousVersions", "expungeEverything")
TRACES: Final = frozenset({"Provenance", "AuditEvent"})
"""R4624-45-5 C. trav., decret 2016-1673: a trace is not gone before the copy that it is about."""


async def expunge(exchange: Exchange, service: Service) -> Answer:
    """POST Type/$expunge and Type/id/$expunge: how many versions went."""
    caller = exchange.known_caller()
    resource_type, *rest = exchange.segments
    resource_id = rest[0] if len(rest) > 1 else None
    if caller.role != "operator":
        raise Forbidden("Only an operator removes for good")
    caller.must_wholly("d", resource_type)
    given = await arguments(exchange, service, "limit", *WISHES)
    limit = only_count(given, "limit", default=MOST, largest=MOST)
    wishes = [name for name in WISHES if _is_wished(given, name)]
    if not wishes:
        raise BadParameter(f"Say what is to go: {', '.join(WISHES)}")
    if "expungeEverything" in wishes:
        if resource_id is None:
            raise BadParameter("expungeEverything is about one resource: ask Type/id/$expunge")
        await _delete(exchange, service, resource_type, resource_id)
    trace = partial(_trace, caller, exchange.request_id, resource_type)
    number, gone, by = TYPE_NUMBER[resource_type], 0, caller.client_id
    if "expungePreviousVersions" in wishes:
        gone += await service.expunge.earlier_versions(number, resource_id, limit=limit, trace=trace, by=by)
    if {"expungeDeletedResources", "expungeEverything"} & set(wishes):
        gone += await service.expunge.deleted_resources(number, resource_id, limit=limit, trace=trace, by=by)
    if gone and service.shredder is not None:
        with suppress(Failure):  # the rows are gone: what cannot be shredded now, the worker shreds within the hour
            await service.shredder.settle()
    count = {"name": "count", "valueInteger": gone}
    return Answer(200, orjson.dumps({"resourceType": "Parameters", "parameter": [count]}))


def _is_wished(given: Arguments, name: str) -> bool:
    value = only(given, name)
    if value not in (None, True, False, "true", "false"):
        raise BadParameter(f"{name} is true or false", expression=name)
    return value in (True, "true")


async def _delete(exchange: Exchange, service: Service, resource_type: str, resource_id: str) -> None:
    """Through the door, as any deletion: what others refer to stays, and the search index lets go. Raises Conflict."""
    with suppress(NotFound, Gone):
        await service.door.write(
            exchange.known_caller(),
            [deletion(resource_type, resource_id)],
            interaction="delete",
            request_id=exchange.request_id,
        )


def _trace(caller: Caller, request_id: str, resource_type: str, resource_id: str, doc: bytes) -> AccessRow:
    return audit.access(
        caller,
        "operation",
        request_id,
        resource_type=resource_type,
        resource_id=resource_id,
        patient_id=patient_in_bytes(resource_type, resource_id, doc),
        query="$expunge",
    )


EXPUNGE: Final = Operation(
    "$expunge",
    f"{OWN}/OperationDefinition/Resource-expunge",
    expunge,
    frozenset({"type", "instance"}),
    frozenset(RESOURCE_TYPES) - TRACES,
    affects_state=True,
)
