"""$transfer: the record of a worker is handed to another prevention service, unless he opposes it.

R4 has no operation for it. R4624-45-7 C. trav.; each delivery is shown as a Task: https://hl7.org/fhir/R4/task.html
"""

from typing import Any, Final

import orjson

from fhir_server.outcomes import BadParameter
from fhir_server.rest.http import Answer, Exchange
from fhir_server.rest.operations.operation import Operation, arguments, only_text
from fhir_server.rest.service import Service
from terminology.systems import OPERATION_TRANSFER


async def transfer(exchange: Exchange, service: Service) -> Answer:
    """POST Patient/id/$transfer with `recipient`, the name of the other service in the file of recipients.

    Answers Parameters: a `task` for each document that goes, and a `withheld` for each that does not, with its reason.
    Raises Forbidden, NotFound, Gone, BadParameter, BusinessRule (`transfer-opposed`).
    """
    _, patient_id, _ = exchange.segments
    caller = exchange.known_caller()
    caller.must("r", "Patient")
    recipient = only_text(await arguments(exchange, service, "recipient"), "recipient")
    if not recipient:
        raise BadParameter("Say to whom: `recipient`", expression="recipient")
    done = await service.transfers.request(caller, patient_id, recipient, request_id=exchange.request_id)
    found: list[dict[str, Any]] = [
        {"name": "task", "valueReference": {"reference": f"Task/{one}"}} for one in done.deliveries
    ]
    found += [
        {
            "name": "withheld",
            "part": [
                {"name": "document", "valueReference": {"reference": f"DocumentReference/{document}"}},
                {"name": "reason", "valueCode": reason},
            ],
        }
        for document, reason in done.withheld
    ]
    return Answer(200, orjson.dumps({"resourceType": "Parameters", **({"parameter": found} if found else {})}))


TRANSFER: Final = Operation(
    "$transfer",
    OPERATION_TRANSFER,
    transfer,
    frozenset({"instance"}),
    frozenset({"Patient"}),
    affects_state=True,
)
