"""$index-status of a SearchParameter: how far the indexing of what was there before it is (docs/integrator.md)."""

import orjson

from fhir_server.outcomes import Forbidden, NotFound
from fhir_server.rest.http import Answer, Exchange
from fhir_server.rest.operations.operation import Operation, arguments
from fhir_server.rest.service import Service
from terminology.systems import OPERATION_INDEX_STATUS


async def index_status(exchange: Exchange, service: Service) -> Answer:
    """GET SearchParameter/id/$index-status, for operators: it counts resources, so they must be allowed to search them.

    Raises Forbidden, and NotFound for a SearchParameter that this server never searched by.
    """
    resource_type, resource_id, _ = exchange.segments
    await arguments(exchange, service)
    caller = exchange.known_caller()
    await service.archive.read(caller, resource_type, resource_id, exchange.request_id)
    if caller.role != "operator":
        raise Forbidden("Only an operator may see how far a search parameter is indexed")
    added = await service.parameters.of_resource(resource_id)
    if added is None:
        raise NotFound("This SearchParameter is only kept here: it was not written by an operator, or is not active")
    for name in sorted(added.definition.types):
        caller.must_wholly("s", name)  # how many there are is told of all
    told = [
        {"name": "state", "valueCode": added.state},
        {"name": "done", "valueDecimal": added.done},
        {"name": "of", "valueDecimal": added.of},
    ]
    return Answer(200, orjson.dumps({"resourceType": "Parameters", "parameter": told}))


INDEX_STATUS = Operation(
    "$index-status",
    OPERATION_INDEX_STATUS,
    index_status,
    frozenset({"instance"}),
    frozenset({"SearchParameter"}),
)
