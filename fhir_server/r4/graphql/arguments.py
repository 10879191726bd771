"""What the arguments of a field ask of elements, of references and of a read.

https://hl7.org/fhir/R4/graphql.html#list and #references - those of searches are in `search_arguments`.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from graphql.language import ArgumentNode, FieldNode

from fhir_server.r4.graphql.client_path import ClientPath, client_path
from fhir_server.r4.graphql.faults import refused
from fhir_server.r4.graphql.schema import Definition, fields_of
from fhir_server.r4.graphql.values import Value, texts_of, value_of
from fhir_server.r4.resource_types import TYPE_NUMBER


@dataclass(frozen=True, slots=True)
class Argument:
    """One argument: its name, its values as texts, and where it stands."""

    name: str
    texts: Sequence[str]
    node: ArgumentNode

    @property
    def only(self) -> str:
        """Its one value. Raises BadParameter."""
        if len(self.texts) != 1:
            raise refused(f"{self.name} has one value", self.node)
        return self.texts[0]

    @property
    def number(self) -> int:
        """Its one value as a number from 0. Raises BadParameter."""
        if not self.only.isdecimal():
            raise refused(f"{self.name} is a whole number from 0", self.node)
        return int(self.only[:9])

    @property
    def path(self) -> ClientPath:
        """Its one value as a FHIRPath. Raises BadParameter."""
        return client_path(self.only, self.node)


@dataclass(frozen=True, slots=True)
class Filters:
    """Which elements are meant: those that hold to all of it, and of these a part."""

    equal: tuple[tuple[str, frozenset[str]], ...] = ()
    """JSON property, and the texts of which it has one."""
    path: ClientPath | None = None
    offset: int = 0
    count: int | None = None


@dataclass(frozen=True, slots=True)
class Resolving:
    """How a reference is followed; `types` None is to any."""

    optional: bool
    types: frozenset[str] | None


@dataclass(frozen=True, slots=True)
class Reading:
    """Which resource is read."""

    id: str


NO_FILTERS: Final = Filters()
_ID: Final = re.compile(r"[A-Za-z0-9\-.]{1,64}")


def given_to(node: FieldNode, variables: Mapping[str, Value]) -> list[Argument]:
    """The arguments of a field that are not null. Raises BadParameter for a value that is an object."""
    values = ((one, value_of(one.value, variables)) for one in node.arguments or ())
    return [Argument(one.name.value, texts_of(value), one) for one, value in values if value is not None]


def must_be_none(given: Sequence[Argument]) -> None:
    """Primitives SHALL NOT have any arguments. Raises BadParameter."""
    for one in given:
        raise refused("This field has no arguments", one.node)


def filters(definition: Definition, given: Sequence[Argument]) -> Filters:
    """Of a complex element. Raises BadParameter."""
    known = fields_of(definition.type)
    equal: list[tuple[str, frozenset[str]]] = []
    path: ClientPath | None = None
    offset, count = 0, None
    for one in given:
        match one.name:
            case "fhirpath":
                path = one.path
            case "_offset":
                offset = one.number
            case "_count":
                count = one.number
            case name if name in known and known[name].kind in ("primitive", "resource-type"):
                equal.append((name, frozenset(one.texts)))
            case name:
                raise refused(f"{definition.name} has no element {name[:100]} that it could be chosen by", one.node)
    return Filters(tuple(equal), path, offset, count)


def resolving(given: Sequence[Argument]) -> Resolving:
    """Of `resource` on a Reference. Raises BadParameter."""
    optional, types = False, None
    for one in given:
        match one.name:
            case "optional":
                if one.only not in ("true", "false"):
                    raise refused("optional is true or false", one.node)
                optional = one.only == "true"
            case "type":
                types = frozenset(one.texts) or None
                if types and not types <= TYPE_NUMBER.keys():
                    raise refused("type names something that is no resource type of R4", one.node)
            case name:
                raise refused(f"resource has no argument {name[:100]} (it has: optional, type)", one.node)
    return Resolving(optional, types)


def reading(node: FieldNode, given: Sequence[Argument]) -> Reading:
    """Of a read: `id`, which R5 calls `_id`. Raises BadParameter."""
    if len(given) != 1 or given[0].name not in ("id", "_id"):
        raise refused("One resource is read by its id, and by nothing else", given[0].node if given else node)
    if not _ID.fullmatch(given[0].only):
        raise refused("This is no id: letters, digits, hyphens and dots, up to 64", given[0].node)
    return Reading(given[0].only)
