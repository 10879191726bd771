"""$redact: pages of a document that are not transmissible are taken out of what everybody but the doctor sees.

R4 has no operation for it. R4624-45-7 C. trav., CSP R4127-45; what is made is a DocumentReference that `transforms` the
original: https://hl7.org/fhir/R4/documentreference.html
"""

from typing import Any, Final

import orjson

from fhir_server.outcomes import BadParameter
from fhir_server.rest.http import Answer, Exchange
from fhir_server.rest.operations.operation import Operation, arguments, only_text
from fhir_server.rest.service import Service
from terminology.systems import OPERATION_REDACT

MOST_PAGES: Final = 2000


async def redact(exchange: Exchange, service: Service) -> Answer:
    """POST DocumentReference/id/$redact with `page` (once for each, from 1) and `reason`.

    Answers Parameters: the new `document`, its `provenance`, and each document that is `withheld` now.
    Raises Forbidden, NotFound, Gone, BadParameter, BusinessRule, Conflict, VersionConflict.
    """
    _, document_id, _ = exchange.segments
    caller = exchange.known_caller()
    caller.must("u", "DocumentReference")
    given = await arguments(exchange, service, "page", "reason")
    reason = only_text(given, "reason")
    if not reason:
        raise BadParameter("Say the reason", expression="reason")
    pages = {_page(value) for value in given.get("page", [])}
    if not 0 < len(pages) <= MOST_PAGES:
        raise BadParameter(f"Say which pages: 1 to {MOST_PAGES} of them", expression="page")
    done = await service.redactor.redact(caller, document_id, pages, reason, request_id=exchange.request_id)
    named = [
        ("document", f"DocumentReference/{done.document_id}"),
        ("provenance", f"Provenance/{done.provenance_id}"),
        *(("withheld", f"DocumentReference/{one}") for one in done.withheld),
    ]
    parameters = [{"name": name, "valueReference": {"reference": reference}} for name, reference in named]
    return Answer(200, orjson.dumps({"resourceType": "Parameters", "parameter": parameters}))


def _page(value: Any) -> int:
    text = str(value)
    if type(value) not in (str, int) or not text.isdecimal() or not 0 < len(text) < 7:
        raise BadParameter("A page is a number from 1", expression="page")
    return int(text)


REDACT: Final = Operation(
    "$redact",
    OPERATION_REDACT,
    redact,
    frozenset({"instance"}),
    frozenset({"DocumentReference"}),
    affects_state=True,
)
