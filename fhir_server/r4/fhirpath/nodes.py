"""The tree that FHIRPath walks: the elements of a resource with their types and places, over its parsed JSON.

https://hl7.org/fhir/R4/fhirpath.html - the tables of R4 say which type stands behind which JSON property.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from fhir_server.r4.definitions import PRIMITIVES, Element, elements_of
from fhir_server.r4.resource_types import TYPE_NUMBER

Json = dict[str, Any]


class Misshapen(Exception):
    """The JSON on the way is not what R4 puts there."""


@dataclass(frozen=True, slots=True, eq=False)
class Node:
    """An element that is there, and its place: `holder[key]`, or `holder[key][index]` where it repeats."""

    type: str
    """A key of `elements_of`, or one of `PRIMITIVES`."""
    element: Element | None
    """Its definition; None for the resource itself."""
    parent: "Node | None"
    holder: Json
    key: str
    index: int | None = None

    @property
    def value(self) -> Any:
        """Its JSON; None for a primitive that has extensions only."""
        return self._at(self.key)

    @property
    def companion(self) -> Any:
        """Of a primitive: the object with its id and extensions, or None."""
        return self._at("_" + self.key) if self.is_primitive else None

    @property
    def is_primitive(self) -> bool:
        return self.type in PRIMITIVES

    @property
    def is_resource(self) -> bool:
        return self.type in TYPE_NUMBER

    @property
    def body(self) -> Json:
        """The object that holds its children; an empty one, which is no part of the resource, where it has none."""
        body = self.companion if self.is_primitive else self.value
        if not isinstance(body, dict | None):
            raise Misshapen(f"a {self.type} on the way is not a JSON object")
        return {} if body is None else body

    @property
    def place(self) -> str:
        """FHIRPath from the outermost resource: `Bundle.entry[0].resource.name`."""
        if self.parent is None or self.element is None:
            return self.type
        name = self.element.name.removesuffix("[x]")
        return f"{self.parent.place}.{name}" + ("" if self.index is None else f"[{self.index}]")

    def _at(self, key: str) -> Any:
        value = self.holder.get(key)
        if self.index is None:
            return value
        return value[self.index] if isinstance(value, list) and self.index < len(value) else None


def root(resource: Json) -> Node:
    """The resource as a node."""
    return Node(resource["resourceType"], None, None, {"": resource}, "")


def resource_type_of(value: Any) -> str | None:
    """The resource type that this JSON says it is, if R4 has it."""
    name = value.get("resourceType") if isinstance(value, dict) else None
    return name if isinstance(name, str) and name in TYPE_NUMBER else None


def definitions_in(node: Node) -> Mapping[str, Element]:
    """The elements that a node may have, by their name in FHIRPath: `value` for `value[x]`."""
    return definitions_of("Element" if node.is_primitive else node.type)


@cache
def definitions_of(type_name: str) -> Mapping[str, Element]:
    """The elements of a type by their name in FHIRPath."""
    return {name.removesuffix("[x]"): element for name, element in elements_of(type_name).items()}


def children(node: Node, element: Element) -> list[Node]:
    """The children of one name. Raises Misshapen."""
    body = node.body
    found: list[Node] = []
    if not body:
        return found
    for key, one in _names(element).items():
        values, companions = body.get(key), body.get("_" + key) if one in PRIMITIVES else None
        if values is None and companions is None:
            continue
        if not element.repeats:
            found.append(Node(_actual(one, values), element, node, body, key))
            continue
        if not isinstance(values, list | None) or not isinstance(companions, list | None):
            raise Misshapen(f"`{key}` is not a JSON array")
        for n in range(max(len(values or ()), len(companions or ()))):
            value, companion = (
                entries[n] if entries and n < len(entries) else None for entries in (values, companions)
            )
            if value is not None or companion is not None:
                found.append(Node(_actual(one, value), element, node, body, key, n))
    return found


def all_children(node: Node) -> Iterator[Node]:
    """The children, in the order of the definition. Raises Misshapen."""
    if node.body:
        for element in definitions_in(node).values():
            yield from children(node, element)


def descendants(node: Node) -> Iterator[Node]:
    """The children, their children and so on; those of a resource inside too. Raises Misshapen."""
    for child in all_children(node):
        yield child
        yield from descendants(child)


@cache
def _names(element: Element) -> Mapping[str, str]:
    return {key: one.name for key, one in element.json_names().items()}


def _actual(type_name: str, value: Any) -> str:
    """What stands where any resource may stand."""
    return (resource_type_of(value) or type_name) if type_name == "Resource" else type_name
