"""$ihe-pix of Patient: under which other identifiers is this worker known?

IHE PIXm ITI-83: https://profiles.ihe.net/ITI/PIXm/ITI-83.html - the texts of the refusals are those of the profile.
"""

from collections.abc import Iterable, Sequence
from typing import Any, Final
from urllib.parse import urlencode

import orjson

from fhir_server.identity.cross_reference import CrossReferences, Identifier, Known
from fhir_server.outcomes import BadParameter, Forbidden, Issue, NotFound
from fhir_server.records import audit
from fhir_server.rest.http import Answer, Exchange
from fhir_server.rest.operations.given import Parameter, given
from fhir_server.rest.operations.operation import Operation
from fhir_server.rest.service import Service
from fhir_server.sight import Sight
from terminology.systems import PIXM_PIX

PARAMETERS: Final = {"sourceIdentifier": Parameter("string"), "targetSystem": Parameter("uri", several=True)}
MOST_TARGETS: Final = 20


async def pix(exchange: Exchange, service: Service) -> Answer:
    """GET Patient/$ihe-pix?sourceIdentifier=system|value&targetSystem=system: Parameters with the other identifiers.

    Raises Forbidden (also for a target domain that is not known), Throttled, BadParameter (also for a source domain
    that is not known), NotFound, Conflict, Unavailable.
    """
    caller = exchange.known_caller()
    caller.must("s", "Patient")
    service.limits.identity_search(caller)
    asked = await given(exchange, service, PARAMETERS)
    source = asked.must("sourceIdentifier")
    system, _, value = source.partition("|")
    if not system or not value:
        raise BadParameter("sourceIdentifier is system|value", expression="sourceIdentifier")
    targets = asked.all("targetSystem")
    if len(targets) > MOST_TARGETS:
        raise BadParameter(f"At most {MOST_TARGETS} domains are asked at once", expression="targetSystem")
    sight = caller.sight("s")
    references = CrossReferences(service.archive.searches)
    known = await _of_source(references, service.base, system, value, sight)
    for target in targets:
        if target != service.base and not await references.knows(target, sight):
            raise Forbidden(issues=[Issue("error", "code-invalid", "targetSystem not found", "targetSystem")])
    told = [("sourceIdentifier", f"{system}|***"), *(("targetSystem", one) for one in targets)]
    query = f"$ihe-pix?{urlencode(told, safe='/:|*')}"
    await service.archive.accesses.append(
        *(
            audit.access(
                caller,
                "operation",
                exchange.request_id,
                resource_type="Patient",
                patient_id=one.patient_id,
                query=query,
            )
            for one in known
        )
    )
    return Answer(200, _parameters(known, (system, value), targets, service.base))


async def _of_source(references: CrossReferences, base: str, system: str, value: str, sight: Sight) -> list[Known]:
    """Whom the source designates: a logical id is an identifier too, whose domain is this server."""
    if system == base:
        known = await references.of_patient(value.removeprefix("Patient/"), sight)
    elif await references.knows(system, sight):
        known = await references.of_identifier(system, value, sight)
    else:
        text = "sourceIdentifier Assigning Authority not found"
        raise BadParameter(issues=[Issue("error", "code-invalid", text, "sourceIdentifier")])
    if not known:
        raise NotFound("sourceIdentifier Patient Identifier not found", expression="sourceIdentifier")
    return known


def _parameters(known: Sequence[Known], source: tuple[str, str], targets: Sequence[str], base: str) -> bytes:
    """Those of the domains that are wanted, without the one that was asked by."""
    numbers: list[Identifier] = []
    ids: list[str] = []
    for one in known:
        wanted = [number for number in one.identifiers if _is_wanted(number, source, targets)]
        numbers += [number for number in wanted if number not in numbers]
        named = source in {(base, f"Patient/{one.patient_id}"), (base, one.patient_id)}
        if not named and (not targets or base in targets or wanted):
            ids.append(one.patient_id)
    said: Iterable[dict[str, Any]] = (
        *({"name": "targetIdentifier", "valueIdentifier": one} for one in numbers),
        *({"name": "targetId", "valueReference": {"reference": f"Patient/{one}"}} for one in ids),
    )
    parameters = list(said)
    return orjson.dumps({"resourceType": "Parameters", **({"parameter": parameters} if parameters else {})})


def _is_wanted(number: Identifier, source: tuple[str, str], targets: Sequence[str]) -> bool:
    system = number.get("system")
    if not system or not number.get("value") or (system, number["value"]) == source:
        return False
    return not targets or system in targets


IHE_PIX: Final = Operation("$ihe-pix", PIXM_PIX, pix, frozenset({"type"}), frozenset({"Patient"}))
