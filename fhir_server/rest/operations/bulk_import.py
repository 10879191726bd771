"""$import: NDJSON files of the import folder, or NDJSON as the body of the request.

https://github.com/smart-on-fhir/bulk-import - the manifest of that proposal as Parameters, as other servers take it.
"""

from typing import Any, Final

from fhir_server.outcomes import BadParameter, Issue
from fhir_server.r4.resource_types import TYPE_NUMBER
from fhir_server.records.bulk import Source
from fhir_server.rest.bulk import accepted, must_be_asynchronous
from fhir_server.rest.http import Answer, Exchange
from fhir_server.rest.operations.export import FORMATS
from fhir_server.rest.operations.operation import Operation, arguments
from fhir_server.rest.service import Service

MOST_INPUTS: Final = 1_000


async def bulk_import(exchange: Exchange, service: Service) -> Answer:
    """POST $import: 202 and where to ask for the status."""
    must_be_asynchronous(exchange)
    caller = exchange.known_caller()
    shown = f"{service.base}/$import"
    if exchange.media_type() in FORMATS:
        chunks = exchange.chunks(service.settings.max_import_mb * 1024 * 1024)
        job_id = await service.bulk.ask_import_of(caller, chunks, exchange.request_id, shown)
        return accepted(service, job_id)
    given = await arguments(exchange, service, "inputFormat", "inputSource", "storageDetail", "input")
    faults: list[Issue] = []
    if any(value not in FORMATS for value in given.get("inputFormat", [])):
        faults.append(Issue("error", "not-supported", "Inputs are application/fhir+ndjson", "inputFormat"))
    inputs = given.get("input", [])
    if not 0 < len(inputs) <= MOST_INPUTS:
        faults.append(Issue("error", "required", f"input stands 1 to {MOST_INPUTS} times", "input"))
    sources = [_source(parts, faults) for parts in inputs]
    if faults:
        raise BadParameter(issues=faults)
    return accepted(service, await service.bulk.ask_import(caller, sources, exchange.request_id, shown))


def _source(parts: Any, faults: list[Issue]) -> Source:
    """The parts `type` and `url` of one input."""
    listed = parts if isinstance(parts, list) else []
    values = {part.get("name"): next((v for k, v in part.items() if k.startswith("value")), None) for part in listed}
    kind, url = values.get("type"), values.get("url")
    if kind is not None and kind not in TYPE_NUMBER:
        faults.append(Issue("error", "value", "type is a resource type of R4", "input"))
    if not isinstance(url, str):
        faults.append(
            Issue("error", "required", "An input has a url: the name of a file in the import folder", "input")
        )
    return Source(kind if isinstance(kind, str) else None, str(url).removeprefix("file:"))


IMPORT = Operation(
    "$import",
    "https://dmst-fhir.org/fhir/OperationDefinition/import",
    bulk_import,
    frozenset({"system"}),
    affects_state=True,
)
