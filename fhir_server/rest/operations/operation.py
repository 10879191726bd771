"""What an operation is to this server, and how its parameters are read: https://hl7.org/fhir/R4/operations.html"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Literal

from fhir_server.outcomes import BadParameter, BadSyntax
from fhir_server.records.validation import parse_json, validate
from fhir_server.rest.forms import received
from fhir_server.rest.http import Answer, Exchange
from fhir_server.rest.service import Service

Level = Literal["system", "type", "instance"]
Arguments = dict[str, list[Any]]
"""The values of each parameter, in their order: texts of a query string, or JSON values (a resource, a `part` list)."""


@dataclass(frozen=True, slots=True)
class Operation:
    """`name` begins with `$`; `types` are the resource types that it is about, None for all of them.

    GET is offered where the operation changes nothing (`affects_state`) and what it is asked by may stand in a URL.
    """

    name: str
    definition: str
    perform: Callable[[Exchange, Service], Awaitable[Answer]]
    levels: frozenset[Level]
    types: frozenset[str] | None = None
    affects_state: bool = False
    by_post_only: bool = False

    @property
    def methods(self) -> tuple[str, ...]:
        return ("POST",) if self.affects_state or self.by_post_only else ("GET", "POST")

    def is_about(self, resource_type: str) -> bool:
        return self.types is None or resource_type in self.types


async def arguments(
    exchange: Exchange, service: Service, *names: str, lenient: bool = False, bare: tuple[str, str] | None = None
) -> Arguments:
    """The arguments of a call: those of the URL, and those of the Parameters that were posted.

    `bare` is the parameter, and its resource type, that may be posted by itself (R4 operations.html#request). Raises
    BadSyntax, InvalidResource, and BadParameter for a name that is not among `names`, unless `lenient`: then it is left
    out.
    """
    given: Arguments = {}
    for name, value in exchange.pairs():
        if name not in ("_format", "_pretty"):
            given.setdefault(name, []).append(value)
    if exchange.method == "POST" and exchange.headers.get(b"content-type"):
        body = await received(exchange, service.largest_body)
        for parameter in _posted(body, bare):
            given.setdefault(parameter["name"], []).append(_value(parameter))
    if lenient:
        return {name: values for name, values in given.items() if name in names}
    for name in given:
        if name not in names:
            offered = ", ".join(names) or "none"
            raise BadParameter(f"{name[:100]} is not a parameter of this operation (it has: {offered})")
    return given


def only(given: Arguments, name: str) -> Any:
    """The one value of a parameter, None where it is not given. Raises BadParameter where it comes twice."""
    values = given.get(name, [])
    if len(values) > 1:
        raise BadParameter(f"{name} comes more than once", expression=name)
    return values[0] if values else None


def only_text(given: Arguments, name: str) -> str | None:
    """The same where the value is a text. Raises BadParameter."""
    value = only(given, name)
    if value is not None and not isinstance(value, str):
        raise BadParameter(f"{name} must be a text", expression=name)
    return value


def only_count(given: Arguments, name: str, *, default: int, largest: int) -> int:
    """The same where it is a whole number from 1; cut at `largest`. Raises BadParameter."""
    value = str(default if (value := only(given, name)) is None else value)
    if not value.isdecimal() or not int(value[:10]):
        raise BadParameter(f"{name} must be a whole number from 1", expression=name)
    return min(int(value[:10]), largest)


def _posted(body: bytes, bare: tuple[str, str] | None) -> list[dict[str, Any]]:
    if not body:
        return []
    resource = parse_json(body)
    if bare and resource["resourceType"] == bare[1]:
        validate(resource)
        return [{"name": bare[0], "resource": resource}]
    if resource["resourceType"] != "Parameters":
        raise BadSyntax("An operation is called with Parameters", expression="Parameters")
    validate(resource)
    return resource.get("parameter", [])


def _value(parameter: dict[str, Any]) -> Any:
    """The value[x], resource or parts of one parameter; None where it has none."""
    return next((value for key, value in parameter.items() if key.startswith(("value", "resource", "part"))), None)
