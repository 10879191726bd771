"""$subsumes of a CodeSystem: is one code a kind of another?

https://hl7.org/fhir/R4/codesystem-operation-subsumes.html
"""

from collections.abc import Mapping
from typing import Any, Final

import orjson

from fhir_server.outcomes import BadParameter
from fhir_server.records.terminology import Question, Which
from fhir_server.rest.http import Answer, Exchange
from fhir_server.rest.operations.given import Given, Parameter, given, required
from fhir_server.rest.operations.lookup import concept_of, must_be_of
from fhir_server.rest.operations.operation import Operation
from fhir_server.rest.service import Service

PARAMETERS: Final = {
    "codeA": Parameter("code"),
    "codeB": Parameter("code"),
    "system": Parameter("uri"),
    "version": Parameter("string"),
    "codingA": Parameter("Coding"),
    "codingB": Parameter("Coding"),
}


async def subsumes(exchange: Exchange, service: Service) -> Answer:
    """GET or POST CodeSystem/$subsumes and CodeSystem/id/$subsumes."""
    asked = await given(exchange, service, PARAMETERS)
    codings = {
        name: _coding(asked, name) for name in (asked.one_of("codeA", "codingA"), asked.one_of("codeB", "codingB"))
    }
    question = Question(service.archive, exchange.known_caller(), exchange.request_id, "$subsumes")
    system, _ = await question.code_system(_which(exchange, asked, codings))
    for name, coding in codings.items():
        must_be_of(system, coding, name)
    one, other = (concept_of(system, coding["code"], name) for name, coding in codings.items())
    outcome = await question.answered(system.compare, one.code, other.code)
    found = [{"name": "outcome", "valueCode": outcome}]
    return Answer(200, orjson.dumps({"resourceType": "Parameters", "parameter": found}))


def _coding(asked: Given, name: str) -> Mapping[str, Any]:
    """One of the two as a Coding. Raises BadParameter."""
    value = asked.get(name)
    coding = value if isinstance(value, Mapping) else {"code": value}
    if "code" not in coding:
        raise required("The coding has no code", name)
    return coding


def _which(exchange: Exchange, asked: Given, codings: Mapping[str, Mapping[str, Any]]) -> Which:
    """The code system of the path, or `system`, by the version that is named or that the codings have."""
    if len(exchange.segments) == 3:
        asked.none_of(["system", "version"], "is not for an instance, which its path names")
        return Which(id=exchange.segments[1])
    system = asked.must("system")
    versions = {asked.get("version"), *(one.get("version") for one in codings.values())} - {None}
    if len(versions) > 1:
        raise BadParameter("The two codes are of two versions of the code system", expression="version")
    return Which(url=system, version=next(iter(versions), None), named_by="system")


SUBSUMES = Operation(
    "$subsumes",
    "http://hl7.org/fhir/OperationDefinition/CodeSystem-subsumes",
    subsumes,
    frozenset({"type", "instance"}),
    frozenset({"CodeSystem"}),
)
