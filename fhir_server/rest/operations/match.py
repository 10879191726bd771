"""$match of Patient: who of the register is this, and how sure is it?

https://hl7.org/fhir/R4/patient-operation-match.html and IHE PDQm ITI-119
(https://profiles.ihe.net/ITI/PDQm/ITI-119.html). `onlySingleMatch` is that of the later edition. A deprecated
Patient is left out, and so is who is out of the caller's sight. Score, grade and coded reasons go to everybody who may
search workers; how much each trait speaks for it (`_explain`), to those who review identities.
"""

import math
from collections.abc import Iterable, Sequence
from typing import Any, Final
from urllib.parse import urlencode

import orjson

from fhir_server.caller import Caller
from fhir_server.identity.matcher import Found, Likely, Stated
from fhir_server.identity.stated import problems_of, stated_of, too_long
from fhir_server.linkage.grade import explained
from fhir_server.linkage.guards import WORDS
from fhir_server.outcomes import BusinessRule, Forbidden, Issue
from fhir_server.records import audit
from fhir_server.rest.http import Answer, Exchange, outcome
from fhir_server.rest.operations.given import Given, Parameter, given
from fhir_server.rest.operations.operation import Operation
from fhir_server.rest.service import Service
from mappings.patient_match import as_shown, search_of
from terminology.systems import PDQM_MATCH

MOST: Final = 20
RIVAL: Final = "G6-rival"
PARAMETERS: Final = {
    "resource": Parameter("Patient"),
    "onlyCertainMatches": Parameter("boolean"),
    "onlySingleMatch": Parameter("boolean"),
    "count": Parameter("integer"),
    "_explain": Parameter("boolean"),
}
PARTIAL: Final = Issue(
    "warning",
    "incomplete",
    "Too many workers share a part of what is stated: not all of them were looked at. State more of the person",
)
SEVERAL: Final = Issue("information", "multiple-matches", "Several could be meant, and none stands out")


async def match(exchange: Exchange, service: Service) -> Answer:
    """POST Patient/$match with Parameters or a Patient: a searchset, the most likely first.

    Raises Forbidden, Throttled, BadSyntax, BadParameter, InvalidResource, BusinessRule where too little is stated of
    the person, Unavailable.
    """
    caller = exchange.known_caller()
    caller.must("s", "Patient")
    service.limits.identity_search(caller)
    asked = await given(exchange, service, PARAMETERS, bare=("resource", "Patient"))
    explain = bool(asked.get("_explain"))
    if explain and caller.review == "none":
        raise Forbidden("Only who reviews identities may see how much each trait speaks for a match")
    patient = asked.must("resource")
    if faults := too_long(patient):
        raise BusinessRule(issues=faults)
    stated = stated_of(patient)
    issues = problems_of(stated, service.matcher.compared(stated), production=service.settings.production)
    if errors := [one for one in issues if one.severity == "error"]:
        raise BusinessRule(issues=errors)
    found = await service.matcher.match(stated, caller.sight("s"))
    shown = _shown(found, asked)
    if found.partial:
        issues = [*issues, PARTIAL]
    if asked.get("onlySingleMatch") and found.likely and not shown and not asked.get("onlyCertainMatches"):
        issues = [*issues, SEVERAL]
    await _trace(service, caller, exchange.request_id, asked, stated, shown)
    return Answer(200, _bundle(service.base, shown, issues, explain=explain))


def _shown(found: Found, asked: Given) -> Sequence[Likely]:
    """Of those who are likely the ones that are wanted."""
    most = min(asked.get("count") or MOST, MOST)
    if asked.get("onlyCertainMatches"):
        return [one for one in found.likely if one.graded.grade == "certain"][:most]
    if asked.get("onlySingleMatch"):
        return [] if any(RIVAL in one.graded.reasons for one in found.likely[:1]) else found.likely[:1]
    return found.likely[:most]


async def _trace(
    service: Service, caller: Caller, request_id: str, asked: Given, stated: Stated, shown: Sequence[Likely]
) -> None:
    """One row for each worker who is shown, or one: which traits were stated, never what they say."""
    told = [(name, str(value).lower()) for name, value in asked.items() if name != "resource"]
    query = f"$match?{urlencode([*told, ('stated', ','.join(_names_of(stated)))], safe=',')}"
    rows = [
        audit.access(caller, "operation", request_id, resource_type="Patient", patient_id=one, query=query)
        for one in ([one.person.identity.patient_id for one in shown] or [None])
    ]
    await service.archive.accesses.append(*rows)


def _names_of(stated: Stated) -> Iterable[str]:
    traits = stated.traits
    held: dict[str, Any] = {
        "family": traits.birth_name or traits.used_name,
        "given": traits.given_names,
        "birthDate": traits.birth_date,
        "gender": traits.sex,
        "birthPlace": traits.birth_place,
        "matricule": traits.matricule_ins or stated.former_matricules,
        "identifier": stated.numbers,
    }
    return (name for name, value in held.items() if value)


def _bundle(base: str, shown: Sequence[Likely], issues: Sequence[Issue], *, explain: bool) -> bytes:
    """The searchset, of the stored bytes."""
    head = orjson.dumps({"resourceType": "Bundle", "type": "searchset", "total": len(shown)})
    entries = [_entry(base, one, explain=explain) for one in shown]
    if issues:
        entries.append(orjson.dumps({"resource": outcome(issues), "search": {"mode": "outcome"}}))
    return head[:-1] + (b',"entry":[' + b",".join(entries) + b"]}" if entries else b"}")


def _entry(base: str, one: Likely, *, explain: bool) -> bytes:
    graded, identity = one.graded, one.person.identity
    less = as_shown(orjson.loads(one.person.doc))
    reasons = ((code, WORDS[code]) for code in graded.reasons)
    search = search_of(_score(graded.posterior), graded.grade, reasons, explained(graded) if explain else None)
    return b'{"fullUrl":"%s/Patient/%s","resource":%s,"search":%s}' % (
        base.encode(),
        identity.patient_id.encode(),
        one.person.doc if less is None else orjson.dumps(less),
        orjson.dumps(search),
    )


def _score(posterior: float) -> float:
    """Six digits, cut off: what is not sure is not rounded to 1."""
    return math.floor(posterior * 1e6) / 1e6


MATCH: Final = Operation(
    "$match",
    PDQM_MATCH,
    match,
    frozenset({"type"}),
    frozenset({"Patient"}),
    by_post_only=True,
)
