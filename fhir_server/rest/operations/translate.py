"""$translate of a ConceptMap: the counterparts of a code in another code system.

https://hl7.org/fhir/R4/conceptmap-operation-translate.html
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import orjson

from fhir_server.outcomes import BadParameter
from fhir_server.records.terminology import Question, Which
from fhir_server.rest.http import Answer, Exchange
from fhir_server.rest.operations.given import Given, Parameter, given, required
from fhir_server.rest.operations.operation import Operation
from fhir_server.rest.service import Service
from terminology.translation import Asked
from terminology.translation import translate as translated

PARAMETERS: Final = {
    "url": Parameter("uri"),
    "conceptMap": Parameter("ConceptMap"),
    "conceptMapVersion": Parameter("string"),
    "code": Parameter("code"),
    "system": Parameter("uri"),
    "version": Parameter("string"),
    "source": Parameter("uri"),
    "coding": Parameter("Coding"),
    "codeableConcept": Parameter("CodeableConcept"),
    "target": Parameter("uri"),
    "targetsystem": Parameter("uri"),
    "dependency": Parameter("part", several=True),
    "reverse": Parameter("boolean"),
}


async def translate(exchange: Exchange, service: Service) -> Answer:
    """GET or POST ConceptMap/$translate and ConceptMap/id/$translate."""
    asked = await given(exchange, service, PARAMETERS)
    questions = _questions(asked)
    systems = {one.system for one in questions}
    question = Question(service.archive, exchange.known_caller(), exchange.request_id, "$translate")
    maps = await question.concept_maps(_which(exchange, asked), systems, reverse=asked.get("reverse") is True)
    others = await service.archive.definitions.other_maps(maps)
    found = await question.answered(translated, maps, questions, others)
    return Answer(200, orjson.dumps({"resourceType": "Parameters", "parameter": found.parameters()}))


def _which(exchange: Exchange, asked: Given) -> Which:
    """The map of the path, by `url` or `conceptMap`, or none: all that fit. Raises BadParameter."""
    by_name = ("url", "conceptMap", "conceptMapVersion")
    if len(exchange.segments) == 3:
        asked.none_of(by_name, "is not for an instance, which its path names")
        return Which(id=exchange.segments[1])
    if asked.get("url") is None:
        asked.none_of(["conceptMapVersion"], "goes with url")
        return Which(inline=asked.get("conceptMap"))
    asked.none_of(["conceptMap"], "is not given with url")
    return Which(url=asked.get("url"), version=asked.get("conceptMapVersion"))


def _questions(asked: Given) -> Sequence[Asked]:
    """One for each coding that has a system and a code. Raises BadParameter."""
    kind = asked.one_of("code", "coding", "codeableConcept")
    if kind == "code":
        codings = [{"system": asked.must("system"), "code": asked.get("code"), "version": asked.get("version")}]
    else:
        asked.none_of(["system", "version"], "goes with code")
        codings = [asked.get(kind)] if kind == "coding" else asked.get(kind).get("coding", ())
    dependencies = [_dependency(parts) for parts in asked.all("dependency")]
    found = [
        Asked(
            one["system"],
            one["code"],
            one.get("version"),
            asked.get("source"),
            asked.get("target"),
            asked.get("targetsystem"),
            dependencies,
            asked.get("reverse") is True,
        )
        for one in codings
        if one.get("system") and one.get("code")
    ]
    if not found:
        raise required("The code and its system are needed", kind)
    return found


def _dependency(parts: Sequence[Mapping[str, Any]]) -> tuple[str, Mapping[str, Any]]:
    """Element and concept. Raises BadParameter."""
    told = {one.get("name"): one for one in parts}
    element = told.get("element", {}).get("valueUri")
    concept = told.get("concept", {}).get("valueCodeableConcept")
    if not element or not isinstance(concept, Mapping):
        raise BadParameter("A dependency has an element (valueUri) and a concept", expression="dependency")
    return element, concept


TRANSLATE = Operation(
    "$translate",
    "http://hl7.org/fhir/OperationDefinition/ConceptMap-translate",
    translate,
    frozenset({"type", "instance"}),
    frozenset({"ConceptMap"}),
)
