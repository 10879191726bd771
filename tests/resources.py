"""The smallest valid resource of each type of R4, made from the definitions: what is required, and nothing else."""

from functools import cache
from typing import Any, Final

from fhir_server.r4.definitions import Element, ElementType, codes_of, elements_of
from tests.support import Resource

PRIMITIVE_VALUES: Final[dict[str, Any]] = {
    "base64Binary": "eA==",
    "boolean": True,
    "canonical": "http://example.org/x",
    "code": "x",
    "date": "2026-01-01",
    "dateTime": "2026-01-01",
    "decimal": 1,
    "id": "x",
    "instant": "2026-01-01T00:00:00Z",
    "integer": 1,
    "markdown": "x",
    "oid": "urn:oid:1.2.3",
    "positiveInt": 1,
    "string": "x",
    "time": "12:00:00",
    "unsignedInt": 1,
    "uri": "http://example.org/x",
    "url": "http://example.org/x",
    "uuid": "urn:uuid:c757873d-ec9a-4326-a141-556f43239520",
    "xhtml": '<div xmlns="http://www.w3.org/1999/xhtml">x</div>',
}
# What the rules of R4 ask beyond the cardinalities, and what makes a code the one that goes with the rest.
BEYOND: Final[dict[str, Resource]] = {
    "Bundle": {"type": "collection"},
    "Binary": {"contentType": "text/plain", "data": "eA=="},
}
LIST_BY_NAME: Final = {"mime": "text/plain", "types": "Patient"}


@cache
def minimal(resource_type: str) -> Resource:
    """A resource without id. The same object each time: copy it before you change it."""
    return {"resourceType": resource_type, **_required(resource_type), **BEYOND.get(resource_type, {})}


def _required(path: str) -> dict[str, Any]:
    made: dict[str, Any] = {}
    for element in elements_of(path).values():
        if element.required:
            name, kind = next(iter(element.json_names().items()))
            value = _value(element, kind)
            made[name] = [value] if element.repeats else value
    return made


def _value(element: Element, kind: ElementType) -> Any:
    if element.value_set:
        return _code(element.value_set)
    if kind.name in PRIMITIVE_VALUES:
        return PRIMITIVE_VALUES[kind.name]
    match kind.name:
        case "Reference":
            return {"display": "x"}
        case "CodeableConcept":
            return {"text": "x"}
        case "Resource":
            return minimal("Basic")
        case _:
            return _required(kind.name) or {"extension": [{"url": "http://example.org/x", "valueBoolean": True}]}


def _code(value_set: str) -> str:
    try:
        return min(codes_of(value_set).codes)
    except KeyError:  # the two that are no lists
        return LIST_BY_NAME.get(value_set, "text/plain")
