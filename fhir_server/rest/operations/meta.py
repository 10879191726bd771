"""$meta of one resource: https://hl7.org/fhir/R4/resource-operation-meta.html"""

import orjson

from fhir_server.rest.http import Answer, Exchange
from fhir_server.rest.operations.operation import Operation, arguments
from fhir_server.rest.service import Service


async def meta(exchange: Exchange, service: Service) -> Answer:
    """GET Type/id/$meta: its profiles, tags and security labels."""
    resource_type, resource_id, _ = exchange.segments
    await arguments(exchange, service)
    stored = await service.archive.read(exchange.known_caller(), resource_type, resource_id, exchange.request_id)
    found = orjson.loads(stored.doc or b"{}").get("meta", {})
    return Answer(
        200, orjson.dumps({"resourceType": "Parameters", "parameter": [{"name": "return", "valueMeta": found}]})
    )


META = Operation("$meta", "http://hl7.org/fhir/OperationDefinition/Resource-meta", meta, frozenset({"instance"}))
