"""$lookup of a CodeSystem: everything that is known of one code.

https://hl7.org/fhir/R4/codesystem-operation-lookup.html - R4 has it on the type; here an instance answers too.
"""

from collections.abc import Mapping
from typing import Any, Final

import orjson

from fhir_server.outcomes import BadParameter, NotFound
from fhir_server.records.terminology import Question, Which
from fhir_server.rest.http import Answer, Exchange
from fhir_server.rest.operations.given import Given, Parameter, given, required
from fhir_server.rest.operations.operation import Operation
from fhir_server.rest.service import Service
from terminology.code_system import CodeSystem, Concept
from terminology.lookup import lookup as look_up

PARAMETERS: Final = {
    "code": Parameter("code"),
    "system": Parameter("uri"),
    "version": Parameter("string"),
    "coding": Parameter("Coding"),
    "date": Parameter("dateTime"),
    "displayLanguage": Parameter("language"),
    "property": Parameter("code", several=True),
}


async def lookup(exchange: Exchange, service: Service) -> Answer:
    """GET or POST CodeSystem/$lookup and CodeSystem/id/$lookup."""
    asked = await given(exchange, service, PARAMETERS)
    coding = _coding(asked)
    on_instance = len(exchange.segments) == 3
    which = Which(id=exchange.segments[1]) if on_instance else _named(coding)
    question = Question(service.archive, exchange.known_caller(), exchange.request_id, "$lookup")
    system, library = await question.code_system(which)
    if on_instance:
        must_be_of(system, coding, "system")
    concept = concept_of(system, coding["code"], "code")
    wanted = frozenset(asked.all("property"))
    found = await question.answered(look_up, system, concept, library, wanted, asked.get("displayLanguage"))
    return Answer(200, orjson.dumps({"resourceType": "Parameters", "parameter": found}))


def _coding(asked: Given) -> Mapping[str, Any]:
    """The code as a Coding, in whichever form it comes. Raises BadParameter."""
    if asked.one_of("code", "coding") == "code":
        return {name: asked.get(name) for name in ("system", "version", "code") if asked.get(name)}
    asked.none_of(["system", "version"], "goes with code")
    if "code" not in asked.get("coding"):
        raise required("The coding has no code", "coding")
    return asked.get("coding")


def _named(coding: Mapping[str, Any]) -> Which:
    """The code system of a code. Raises BadParameter."""
    if "system" not in coding:
        raise required("The system of the code is needed", "system")
    return Which(url=coding["system"], version=coding.get("version"), named_by="system")


def must_be_of(system: CodeSystem, coding: Mapping[str, Any], name: str) -> None:
    """Raises BadParameter where a coding says that it is of another code system, or of another version of it."""
    if coding.get("system", system.url) != system.url or coding.get("version", system.version) != system.version:
        raise BadParameter("The code is of another code system, or of another version of it", expression=name)


def concept_of(system: CodeSystem, code: str, name: str) -> Concept:
    """The concept of a code. Raises NotFound, saying whether the code system might have it all the same."""
    found = system.find(code)
    if found is None:
        kept = "" if system.is_whole else ", of which this server does not keep all codes"
        raise NotFound(f"The code is not in the code system{kept}", expression=name)
    return found


LOOKUP = Operation(
    "$lookup",
    "http://hl7.org/fhir/OperationDefinition/CodeSystem-lookup",
    lookup,
    frozenset({"type", "instance"}),
    frozenset({"CodeSystem"}),
)
