"""The fields of each type, as GraphQL sees R4: made of the tables of elements at first use.

https://hl7.org/fhir/R4/graphql.html#fields - a choice has one field for each of its types (`valueQuantity`), a
primitive one more for its id and extensions (`_birthDate`).
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Final, Literal

from fhir_server.r4.definitions import PRIMITIVES, base_of, elements_of, paths
from fhir_server.r4.resource_types import RESOURCE_TYPES, TYPE_NUMBER

QUERY: Final = "Query"
"""The type of the root of a query of the system."""
ANY: Final = "Resource"
"""The type of what may be any resource."""
NOT_OFFERED: Final = frozenset({"AuditEvent", "OperationOutcome", "Parameters"})
"""What is no record of somebody; the trail is kept elsewhere, and searched by REST."""
OFFERED: Final = tuple(name for name in RESOURCE_TYPES if name not in NOT_OFFERED)
"""The types that are read and listed."""
UNKNOWN: Final = frozenset({("Binary", "data")})
"""The bytes of a Binary are no part of its document: they are fetched by its link."""
Kind = Literal["primitive", "complex", "made", "type-name", "resource-type", "resolve", "read", "search"]
"""`made` is what has children and is no element of R4: the edges of a connection."""


@dataclass(frozen=True, slots=True)
class Definition:
    """What stands behind the name of a field."""

    name: str
    kind: Kind
    type: str
    """A primitive, a key of `elements_of`, `Resource` for any, or one of the types made here."""
    repeats: bool = False
    targets: frozenset[str] = frozenset()
    """Of a Reference, and of the resource that it leads to: the types that R4 names; empty for any."""
    connection: bool = False
    """Of a search: whether it is a connection rather than a list."""


TYPE_NAME: Final = Definition("__typename", "type-name", "string")
RESOURCE_TYPE: Final = Definition("resourceType", "resource-type", "code")
OF_CONNECTION: Final = (
    *(Definition(name, "primitive", "integer") for name in ("count", "offset", "pagesize")),
    *(Definition(name, "primitive", "id") for name in ("first", "previous", "next", "last")),
)
OF_EDGE: Final = (Definition("mode", "primitive", "code"), Definition("score", "primitive", "decimal"))


def field_of(type_name: str, name: str, targets: frozenset[str] = frozenset()) -> Definition | None:
    """The field of a type, None where it has none of this name. `targets` are those of the Reference in hand."""
    if name == TYPE_NAME.name:
        return TYPE_NAME
    if type_name == "Reference" and name == "resource":
        return Definition("resource", "resolve", ANY, targets=targets)
    if name[:1].isupper() and (type_name == QUERY or type_name in TYPE_NUMBER):
        return _entry(name, reads=type_name == QUERY)
    return fields_of(type_name).get(name)


@cache
def fields_of(type_name: str) -> Mapping[str, Definition]:
    """The fields of a type but those that lead to other resources."""
    if type_name == QUERY:
        return {}
    if stem := _stem(type_name, "Connection"):
        return {one.name: one for one in (*OF_CONNECTION, Definition("edges", "made", f"{stem}Edge", repeats=True))}
    if stem := _stem(type_name, "Edge"):
        return {one.name: one for one in (*OF_EDGE, Definition("resource", "made", stem))}
    found = {"resourceType": RESOURCE_TYPE} if is_resource(type_name) else {}
    return found | {one.name: one for one in _elements(type_name) if (type_name, one.name) not in UNKNOWN}


def _elements(type_name: str) -> Iterator[Definition]:
    for element in elements_of(type_name).values():
        for name, one in element.json_names().items():
            if one.name not in PRIMITIVES:
                yield Definition(name, "complex", one.name, element.repeats, one.targets)
                continue
            yield Definition(name, "primitive", one.name, element.repeats)
            if one.name != "xhtml" and name != "id" and (type_name, name) != ("Extension", "url"):
                yield Definition(f"_{name}", "complex", "Element", element.repeats)


@cache
def _entry(name: str, *, reads: bool) -> Definition | None:
    """`Patient`, `PatientList` or `PatientConnection`."""
    if reads and name in OFFERED:
        return Definition(name, "read", name)
    for suffix in ("List", "Connection"):
        if (stem := name.removesuffix(suffix)) != name and stem in OFFERED:
            is_list = suffix == "List"
            return Definition(name, "search", stem if is_list else name, repeats=is_list, connection=not is_list)
    return None


def entries(names: Iterable[str], *, reads: bool) -> Iterator[Definition]:
    """The fields that lead to resources of some types: of the system (with `reads`), or of a resource."""
    for name in names:
        for field in (*((name,) if reads else ()), f"{name}List", f"{name}Connection"):
            if definition := _entry(field, reads=reads):
                yield definition


def _stem(type_name: str, suffix: str) -> str | None:
    """The resource type of a type that is made for it."""
    stem = type_name.removesuffix(suffix)
    return stem if stem != type_name and stem in TYPE_NUMBER else None


def searched(definition: Definition) -> str:
    """The resource type of a list or connection."""
    return definition.type.removesuffix("Connection") if definition.connection else definition.type


def is_resource(type_name: str) -> bool:
    return type_name in TYPE_NUMBER or type_name == ANY


def shown_name(type_name: str) -> str:
    """The name of a type in GraphQL: `PatientContact` for `Patient.contact`."""
    if type_name == "Element":
        return "ElementBase"
    return "".join(part[:1].upper() + part[1:] for part in type_name.split("."))


def applies(condition: str, type_name: str) -> bool:
    """Whether what is of a type is of the type that a fragment names (`... on Patient`, `... on DomainResource`)."""
    own: str | None = type_name
    while own:
        if condition == shown_name(own):
            return True
        own = base_of(own)
    return False


@cache
def conditions() -> frozenset[str]:
    """The names of types that a fragment may be on."""
    made = {f"{name}{suffix}" for name in OFFERED for suffix in ("Connection", "Edge")}
    return frozenset({QUERY, *made, *(shown_name(path) for path in paths())})
