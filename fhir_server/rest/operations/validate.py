"""$validate: is it R4, and would a create, update or delete of it succeed?

https://hl7.org/fhir/R4/resource-operation-validate.html - answered with 200 whatever is found.
"""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

import orjson

from fhir_server.caller import Caller, Permission
from fhir_server.outcomes import BadParameter, BadSyntax, Forbidden, Issue
from fhir_server.r4.references import is_local, literal_references
from fhir_server.r4.resource_types import TYPE_NUMBER
from fhir_server.records import audit
from fhir_server.records.validation import MISSHAPEN, parse_json, report, validate
from fhir_server.rest.forms import received
from fhir_server.rest.http import Answer, Exchange, outcome
from fhir_server.rest.operations.operation import Operation
from fhir_server.rest.service import Service

MODES: Final[Mapping[str, Permission]] = {"create": "c", "update": "u", "delete": "d"}
"""What would be done, and the permission that it takes."""
BASE: Final = "http://hl7.org/fhir/StructureDefinition/"
ALL_OK: Final = Issue("information", "informational", "All OK")


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked: `resource` None is the stored one, `resource_id` None is one that has no id yet."""

    resource_type: str
    resource_id: str | None
    resource: Mapping[str, Any] | None
    mode: str | None
    profile: str | None


async def validate_resource(exchange: Exchange, service: Service) -> Answer:
    """GET or POST Type/$validate and Type/id/$validate, with Parameters or the resource itself."""
    question = await _question(exchange, service)
    caller = exchange.known_caller()
    _check(question)
    if not any(caller.may(permission, question.resource_type) for permission in ("c", "u", "r", "d")):
        raise Forbidden(f"No scope of this client allows anything on {question.resource_type}")
    if question.resource is None and question.mode != "delete":
        assert question.resource_id
        stored = await service.archive.read(caller, question.resource_type, question.resource_id, exchange.request_id)
        question = replace(question, resource=orjson.loads(stored.doc or b""))
    else:
        await service.archive.accesses.append(
            audit.access(
                caller,
                "operation",
                exchange.request_id,
                resource_type=question.resource_type,
                resource_id=question.resource_id,
                query="$validate",
            )
        )
    issues = await _about_content(question)
    if not any(issue.code in MISSHAPEN for issue in issues):
        issues = [*issues, *await _about_mode(question, caller, service)]
    return Answer(200, orjson.dumps(outcome(issues or [ALL_OK])))


async def _question(exchange: Exchange, service: Service) -> Question:
    """What the URL and the body ask. Raises BadSyntax, BadParameter, InvalidResource for Parameters that are none."""
    resource_type, *rest = exchange.segments
    resource_id = rest[0] if len(rest) > 1 else None
    given = dict(exchange.pairs())
    resource: Mapping[str, Any] | None = None
    if exchange.method == "POST" and exchange.headers.get(b"content-type"):
        body = parse_json(await received(exchange, service.largest_body))
        if body["resourceType"] == "Parameters":
            resource, texts = _parameters(body)
            given |= texts
        else:
            resource = body
    for name in given:
        if name not in ("mode", "profile", "_format", "_pretty"):
            raise BadParameter(f"{name[:100]} is not a parameter of $validate (it has: resource, mode, profile)")
    return Question(resource_type, resource_id, resource, given.get("mode"), given.get("profile"))


def _parameters(body: dict[str, Any]) -> tuple[Mapping[str, Any] | None, dict[str, str]]:
    """The resource of Parameters, which may be anything, and the other parameters, which must be right."""
    parameters = body.get("parameter")
    if not isinstance(parameters, list) or not all(isinstance(one, dict) for one in parameters):
        raise BadSyntax("Parameters has an array of parameters", expression="Parameters.parameter")
    others = [one for one in parameters if one.get("name") != "resource"]
    given = [one.get("resource") for one in parameters if one.get("name") == "resource"]
    validate({**body, "parameter": others} if others else {"resourceType": "Parameters"})
    if len(given) > 1 or not all(isinstance(one, dict) and isinstance(one.get("resourceType"), str) for one in given):
        raise BadParameter("The parameter `resource` is one resource", expression="Parameters.parameter")
    texts: dict[str, str] = {}
    for one in others:
        texts[one["name"]] = str(next((value for name, value in one.items() if name.startswith("value")), ""))
    return (given[0] if given else None), texts


def _check(question: Question) -> None:
    """Can it be answered? Raises BadParameter."""
    if question.profile not in (None, BASE + question.resource_type):
        raise BadParameter(
            issues=[Issue("error", "not-supported", "This server validates against R4 itself, not profiles", "profile")]
        )
    if question.mode is not None and question.mode not in MODES:
        raise BadParameter("mode is create, update or delete", expression="mode")
    if question.mode in ("update", "delete") and question.resource_id is None:
        raise BadParameter(f"{question.mode} is about one resource: ask Type/id/$validate", expression="mode")
    if question.mode == "create" and question.resource_id is not None:
        raise BadParameter("create is about a resource that is not there yet: ask Type/$validate", expression="mode")
    if question.resource is None and question.resource_id is None:
        raise BadParameter("The resource to validate is missing", expression="resource")


async def _about_content(question: Question) -> list[Issue]:
    resource = question.resource
    if resource is None or question.mode == "delete":
        return []
    if resource["resourceType"] != question.resource_type:
        return [Issue("error", "invalid", f"The URL says {question.resource_type}", "resourceType")]
    return await asyncio.to_thread(report, resource)  # beside the requests of others: it may take a second


async def _about_mode(question: Question, caller: Caller, service: Service) -> list[Issue]:
    """What would stand against doing it now; who may not do it learns nothing else."""
    mode, name = question.mode, question.resource_type
    if mode is None:
        return []
    if not caller.may(MODES[mode], name):
        return [Issue("error", "forbidden", f"No scope of this client allows '{MODES[mode]}' on {name}")]
    if mode == "delete":
        return await _about_deletion(question, caller, service)
    resource = question.resource or {}
    if mode == "update" and resource.get("id") != question.resource_id:
        return [Issue("error", "invalid", "The id in the body is not the id in the URL", f"{name}.id")]
    return await _dangling(resource, caller, service)


async def _about_deletion(question: Question, caller: Caller, service: Service) -> list[Issue]:
    name, resource_id = question.resource_type, question.resource_id or ""
    stored = await service.archive.current(caller, name, resource_id, "d")
    if stored is None or stored.deleted:
        return [Issue("error", "not-found", f"{name}/{resource_id} does not exist, or was deleted")]
    if await service.archive.resources.is_referred_to(TYPE_NUMBER[name], resource_id):
        return [Issue("error", "conflict", f"{name}/{resource_id} is referred to by another resource")]
    return []


async def _dangling(resource: Mapping[str, Any], caller: Caller, service: Service) -> list[Issue]:
    """References to this server that lead nowhere: a write would be refused for them."""
    local = [(place, target) for place, text in literal_references(resource) if (target := is_local(text))]
    keys = sorted({(TYPE_NUMBER[name], target) for _, (name, target) in local})
    read = await service.archive.resources.read_many(keys)
    there = {(one.type, one.id) for one in read if not one.deleted and one.is_in(caller.sight())}
    return [
        Issue("error", "not-found", f"{name}/{target} does not exist on this server", place)
        for place, (name, target) in local
        if (TYPE_NUMBER[name], target) not in there
    ]


VALIDATE = Operation(
    "$validate",
    "http://hl7.org/fhir/OperationDefinition/Resource-validate",
    validate_resource,
    frozenset({"type", "instance"}),
)
