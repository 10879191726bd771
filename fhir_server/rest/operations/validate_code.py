"""$validate-code of a CodeSystem and of a ValueSet: is a code one of its codes, and is it called so?

https://hl7.org/fhir/R4/codesystem-operation-validate-code.html,
https://hl7.org/fhir/R4/valueset-operation-validate-code.html
"""

from typing import Any, Final

import orjson

from fhir_server.records.terminology import Question, Which
from fhir_server.rest.http import Answer, Exchange
from fhir_server.rest.operations.expand import which_value_set
from fhir_server.rest.operations.given import Given, Parameter, given
from fhir_server.rest.operations.operation import Operation
from fhir_server.rest.service import Service
from terminology.validation import Coded, Judge, Verdict, any_of, coded, in_code_system, in_value_set

IN_BOTH: Final = {
    "url": Parameter("uri"),
    "code": Parameter("code"),
    "display": Parameter("string"),
    "coding": Parameter("Coding"),
    "codeableConcept": Parameter("CodeableConcept"),
    "date": Parameter("dateTime"),
    "abstract": Parameter("boolean"),
    "displayLanguage": Parameter("language"),
}
OF_CODE_SYSTEM: Final = IN_BOTH | {"codeSystem": Parameter("CodeSystem"), "version": Parameter("string")}
OF_VALUE_SET: Final = IN_BOTH | {
    "context": Parameter("uri", refused=True),
    "valueSet": Parameter("ValueSet"),
    "valueSetVersion": Parameter("string"),
    "system": Parameter("uri"),
    "systemVersion": Parameter("string"),
}


async def validate_code(exchange: Exchange, service: Service) -> Answer:
    """GET or POST Type/$validate-code and Type/id/$validate-code, of CodeSystem and of ValueSet."""
    if exchange.segments[0] == "CodeSystem":
        verdict = await _in_code_system(exchange, service)
    else:
        verdict = await _in_value_set(exchange, service)
    found: list[dict[str, Any]] = [{"name": "result", "valueBoolean": verdict.result}]
    if verdict.message:
        found.append({"name": "message", "valueString": verdict.message})
    if verdict.display:
        found.append({"name": "display", "valueString": verdict.display})
    return Answer(200, orjson.dumps({"resourceType": "Parameters", "parameter": found}))


async def _in_code_system(exchange: Exchange, service: Service) -> Verdict:
    asked = await given(exchange, service, OF_CODE_SYSTEM)
    kind = _what(asked)
    which = _which_code_system(exchange, asked)
    question = Question(service.archive, exchange.known_caller(), exchange.request_id, "$validate-code")
    system, library = await question.code_system(which)
    judge = in_code_system(
        system,
        library,
        fixed=which.url is None,
        abstract=asked.get("abstract") is not False,
        language=asked.get("displayLanguage"),
    )
    code = Coded(system.url, asked.get("code"), asked.get("version"), asked.get("display"))
    return await question.answered(_judged, asked, kind, code, judge)


def _which_code_system(exchange: Exchange, asked: Given) -> Which:
    """The one of the path, or by `url` (with `version`), or `codeSystem`. Raises BadParameter."""
    if len(exchange.segments) == 3:
        asked.none_of(["url", "codeSystem"], "is not for an instance, which its path names")
        return Which(id=exchange.segments[1])
    if asked.one_of("url", "codeSystem") == "url":
        return Which(url=asked.get("url"), version=asked.get("version"))
    return Which(inline=asked.get("codeSystem"))


async def _in_value_set(exchange: Exchange, service: Service) -> Verdict:
    asked = await given(exchange, service, OF_VALUE_SET)
    kind = _what(asked)
    which = which_value_set(exchange, asked)
    if kind == "code":
        asked.must("system")
    else:
        asked.none_of(["system", "systemVersion"], "goes with code")
    question = Question(service.archive, exchange.known_caller(), exchange.request_id, "$validate-code")
    value_set, library = await question.value_set(which)
    judge = in_value_set(
        value_set, library, abstract=asked.get("abstract") is not False, language=asked.get("displayLanguage")
    )
    code = Coded(asked.get("system"), asked.get("code"), asked.get("systemVersion"), asked.get("display"))
    return await question.answered(_judged, asked, kind, code, judge)


def _what(asked: Given) -> str:
    """In which form the code comes. Raises BadParameter."""
    kind = asked.one_of("code", "coding", "codeableConcept")
    if kind != "code":
        asked.none_of(["display"], "goes with code")
    return kind


def _judged(asked: Given, kind: str, code: Coded, judge: Judge) -> Verdict:
    match kind:
        case "code":
            return judge(code)
        case "coding":
            return judge(coded(asked.get("coding")))
        case _:
            return any_of(asked.get("codeableConcept").get("coding", ()), judge)


IN_CODE_SYSTEM = Operation(
    "$validate-code",
    "http://hl7.org/fhir/OperationDefinition/CodeSystem-validate-code",
    validate_code,
    frozenset({"type", "instance"}),
    frozenset({"CodeSystem"}),
)
IN_VALUE_SET = Operation(
    "$validate-code",
    "http://hl7.org/fhir/OperationDefinition/ValueSet-validate-code",
    validate_code,
    frozenset({"type", "instance"}),
    frozenset({"ValueSet"}),
)
