"""$expand of a ValueSet: its codes, to choose from or to check by.

https://hl7.org/fhir/R4/valueset-operation-expand.html
"""

import uuid
from datetime import UTC, datetime
from typing import Any, Final

import orjson

from fhir_server.outcomes import BadParameter
from fhir_server.records.terminology import Question, Which
from fhir_server.rest.http import Answer, Exchange
from fhir_server.rest.operations.given import Given, Parameter, given
from fhir_server.rest.operations.operation import Operation
from fhir_server.rest.service import Service
from terminology import expansion
from terminology.library import Versions, split

PARAMETERS: Final = {
    "url": Parameter("uri"),
    "valueSet": Parameter("ValueSet"),
    "valueSetVersion": Parameter("string"),
    "context": Parameter("uri", refused=True),
    "contextDirection": Parameter("code", refused=True),
    "filter": Parameter("string"),
    "date": Parameter("dateTime"),
    "offset": Parameter("integer"),
    "count": Parameter("integer"),
    "includeDesignations": Parameter("boolean"),
    "designation": Parameter("string", several=True),
    "includeDefinition": Parameter("boolean"),
    "activeOnly": Parameter("boolean"),
    "excludeNested": Parameter("boolean"),
    "excludeNotForUI": Parameter("boolean"),
    "excludePostCoordinated": Parameter("boolean"),
    "displayLanguage": Parameter("language"),
    "exclude-system": Parameter("canonical", several=True),
    "system-version": Parameter("canonical", several=True),
    "check-system-version": Parameter("canonical", several=True),
    "force-system-version": Parameter("canonical", several=True),
}
ABOUT_THE_SET: Final = ("url", "valueSet", "valueSetVersion")
"""The parameters that say which value set; the expansion repeats the others."""
VERSION_PARAMETERS: Final = ("system-version", "check-system-version", "force-system-version")
VALUES: Final = {
    "string": "valueString", "dateTime": "valueDateTime", "integer": "valueInteger", "boolean": "valueBoolean",
    "language": "valueCode", "canonical": "valueUri",
}  # fmt: skip


async def expand(exchange: Exchange, service: Service) -> Answer:
    """GET or POST ValueSet/$expand and ValueSet/id/$expand."""
    asked = await given(exchange, service, PARAMETERS)
    wanted = _asked(asked)
    question = Question(service.archive, exchange.known_caller(), exchange.request_id, "$expand")
    value_set, library = await question.value_set(which_value_set(exchange, asked))
    identifier, timestamp = f"urn:uuid:{uuid.uuid4()}", datetime.now(UTC).isoformat(timespec="milliseconds")
    found = await question.answered(expansion.expand, value_set, library, wanted, identifier, timestamp)
    return Answer(200, orjson.dumps(found))


def which_value_set(exchange: Exchange, asked: Given) -> Which:
    """The value set of a call: the one of the path, or by `url` or `valueSet`. Raises BadParameter."""
    if len(exchange.segments) == 3:
        asked.none_of(ABOUT_THE_SET, "is not for an instance, which its path names")
        return Which(id=exchange.segments[1])
    if asked.one_of("url", "valueSet") == "url":
        return Which(url=asked.get("url"), version=asked.get("valueSetVersion"))
    asked.none_of(["valueSetVersion"], "goes with url")
    return Which(inline=asked.get("valueSet"))


def _asked(asked: Given) -> expansion.Asked:
    return expansion.Asked(
        filter=asked.get("filter"),
        offset=asked.get("offset"),
        count=asked.get("count"),
        include_designations=asked.get("includeDesignations"),
        designations=asked.all("designation"),
        include_definition=asked.get("includeDefinition") is True,
        active_only=asked.get("activeOnly") is True,
        exclude_not_for_ui=asked.get("excludeNotForUI") is True,
        display_language=asked.get("displayLanguage"),
        exclude_systems=asked.all("exclude-system"),
        versions=Versions(*(_versions(asked, name) for name in VERSION_PARAMETERS)),
        echoed=[_echo(name, value) for name, value in asked.items() if name not in ABOUT_THE_SET],
    )


def _versions(asked: Given, name: str) -> dict[str, str]:
    """System -> version. Raises BadParameter."""
    found: dict[str, str] = {}
    for canonical in asked.all(name):
        system, version = split(canonical)
        if version is None:
            raise BadParameter(f"{name} is system|version", expression=name)
        if found.setdefault(system, version) != version:
            raise BadParameter(f"{name} names two versions of one system", expression=name)
    return found


def _echo(name: str, value: Any) -> dict[str, Any]:
    return {"name": name, VALUES[PARAMETERS[name].type]: value}


EXPAND = Operation(
    "$expand",
    "http://hl7.org/fhir/OperationDefinition/ValueSet-expand",
    expand,
    frozenset({"type", "instance"}),
    frozenset({"ValueSet"}),
)
