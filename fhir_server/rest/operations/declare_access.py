"""$declare-access of a Patient: somebody says, by a code and in words, why he looks at a record beyond his team.

R4624-45-5 C. trav. (docs/access.md). It lifts the restriction of the service to teams, for an hour and for one worker,
and nothing that the law keeps. `BTG` is the vital emergency (break-glass), for the roles that the table names. What he
says stands in the trail alone; it comes in the body, for addresses are written into logs.
"""

from typing import Final

import orjson

from fhir_server import roles
from fhir_server.consent.decide import BREAK_GLASS, Declaring, Deny, decide_declaring
from fhir_server.outcomes import BadParameter, Forbidden
from fhir_server.records import audit
from fhir_server.rest.http import Answer, Exchange
from fhir_server.rest.operations.operation import Operation, arguments, only_text
from fhir_server.rest.service import Service
from fhir_server.store import access_log
from terminology.systems import OPERATION_DECLARE_ACCESS

BY_URL: Final = frozenset({"reason", "text"})


async def declare_access(exchange: Exchange, service: Service) -> Answer:
    """POST Patient/id/$declare-access: the kind of access, and until when it counts.

    Raises BadParameter, Forbidden where this role may not (its text begins with a code), NotFound.
    """
    _, patient_id, _ = exchange.segments
    caller = exchange.known_caller()
    if any(name in BY_URL for name, _ in exchange.pairs()):
        raise BadParameter("A reason is said in the body, never in the address", expression="text")
    given = await arguments(exchange, service, "reason", "text")
    reason, text = only_text(given, "reason") or "", only_text(given, "text") or ""
    kind = access_log.BREAK_GLASS if reason == BREAK_GLASS else access_log.REASON_GIVEN
    role = roles.IN_FORCE.table.get(caller.role)
    decision = decide_declaring(Declaring(role, reason, text, service.settings.out_of_team))
    if isinstance(decision, Deny):
        refused = audit.access(
            caller,
            audit.DECLARE_ACCESS,
            exchange.request_id,
            outcome=audit.REFUSED,
            resource_type="Patient",
            resource_id=patient_id,
            patient_id=patient_id,
            query=f"reason={decision.reason}",
            circumstance=kind,
        )
        await service.archive.accesses.append(refused)
        raise Forbidden(f"{decision.reason}: {decision.text}")
    await service.archive.read(caller, "Patient", patient_id, exchange.request_id)
    trace = audit.access(
        caller,
        audit.DECLARE_ACCESS,
        exchange.request_id,
        resource_type="Patient",
        resource_id=patient_id,
        patient_id=patient_id,
        query=text.strip(),
        circumstance=kind,
    )._replace(purpose=reason)
    minutes = service.settings.declared_access_minutes
    ends = await service.persons.declare(caller.person, patient_id, kind, minutes, trace)
    service.forget(caller.person)
    told = [
        {"name": "kind", "valueCode": kind},
        {"name": "until", "valueInstant": ends.isoformat(timespec="milliseconds")},
    ]
    return Answer(200, orjson.dumps({"resourceType": "Parameters", "parameter": told}))


DECLARE_ACCESS: Final = Operation(
    "$declare-access",
    OPERATION_DECLARE_ACCESS,
    declare_access,
    frozenset({"instance"}),
    frozenset({"Patient"}),
    affects_state=True,
)
