"""The arguments of a list or connection as the search that REST would be asked.

https://hl7.org/fhir/R4/graphql.html#searching and #reverse -
search parameters with `_` for `-`, and lists of alternatives.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from graphql.language import FieldNode

from fhir_server.outcomes import BadParameter
from fhir_server.r4 import search_query, search_values
from fhir_server.r4.graphql.arguments import Argument
from fhir_server.r4.graphql.client_path import ClientPath
from fhir_server.r4.graphql.faults import place_of, refused
from fhir_server.r4.graphql.schema import QUERY, Definition, searched
from fhir_server.r4.search_criterion import searchable
from fhir_server.r4.search_parameters import REGISTRY, SearchParameter


@dataclass(frozen=True, slots=True)
class Searching:
    """What is searched."""

    pairs: tuple[tuple[str, str], ...]
    """Name and value, in the words of REST; without `_count`."""
    count: int | None
    reference: SearchParameter | None
    """By what it refers to the resource in hand; None at the root."""
    path: ClientPath | None
    cursor: str | None


@REGISTRY.cached
def argument_names(resource_type: str) -> Mapping[str, str]:
    """Argument -> search parameter: `clinical_status` for `clinical-status`, since GraphQL has no `-` in names."""
    names = {code.replace("-", "_"): code for code in searchable(resource_type)}
    return {name: code for name, code in names.items() if name.isidentifier() and name.isascii()} | {"_list": "_list"}


def searching(definition: Definition, node: FieldNode, on: str, given: Sequence[Argument]) -> Searching:
    """The search of a field of the type `on`. Raises BadParameter."""
    resource_type = searched(definition)
    names = argument_names(resource_type)
    pairs: list[tuple[str, str]] = []
    count: int | None = None
    reference: SearchParameter | None = None
    path: ClientPath | None = None
    cursor: str | None = None
    for one in given:
        match one.name:
            case _ if not one.texts:
                continue
            case "fhirpath":
                path = one.path
            case "_count":
                count = one.number
            case "_sort":
                pairs.append(("_sort", ",".join(_key(names, text) for text in one.texts)))
            case "_filter":
                pairs.append(("_filter", " or ".join(f"({text})" for text in one.texts)))
            case "_reference" if on != QUERY:
                reference = _reference(one, resource_type)
            case "_cursor" | "cursor" if on == QUERY and definition.connection:  # R4 writes it both ways
                cursor = one.only
            case name if name in names and not (name == "_id" and on != QUERY):
                pairs.append((names[name], _alternatives(name, one.texts)))
            case name:
                raise refused(f"{definition.name} has no argument {name[:100]} here", one.node)
    if on != QUERY and reference is None:
        raise refused(f"Of a resource, {definition.name} needs the argument _reference", node)
    if cursor and len(given) > 1:
        raise refused("A cursor stands for the whole search, and takes no other argument", node)
    _must_be_searchable(resource_type, pairs, node)
    return Searching(tuple(pairs), count, reference, path, cursor)


def may_refer(definition: Definition, on: str, given: Sequence[Argument]) -> bool:
    """Whether what is searched may refer to a resource of the type `on`, as far as `_reference` says by what."""
    named = next((one.texts for one in given if one.name == "_reference"), ())
    parameter = _parameter(searched(definition), named[0]) if named else None
    return parameter is None or not parameter.targets or on in parameter.targets


def _reference(one: Argument, resource_type: str) -> SearchParameter:
    parameter = _parameter(resource_type, one.only)
    if parameter is None or parameter.type != "reference":
        raise refused(f"{resource_type} has no search parameter of this name that is a reference", one.node)
    return parameter


def _parameter(resource_type: str, name: str) -> SearchParameter | None:
    return searchable(resource_type).get(argument_names(resource_type).get(name, ""))


def _key(names: Mapping[str, str], text: str) -> str:
    """A key of the order, whether it is written as argument or as search parameter."""
    sign = "-" if text.startswith("-") else ""
    name = text.removeprefix("-")
    return sign + names.get(name, name)


def _alternatives(name: str, texts: Iterable[str]) -> str:
    """A comma in a value is a comma: alternatives are lists here."""
    return ",".join("\\,".join(search_values.split(text, name)) for text in texts)


def _must_be_searchable(resource_type: str, pairs: Sequence[tuple[str, str]], node: FieldNode) -> None:
    """Raises BadParameter with the place in the query, TooCostly."""
    try:
        search_query.parse(resource_type, pairs)
    except BadParameter as failure:
        at = place_of(node)
        raise BadParameter(issues=[replace(issue, location=at) for issue in failure.issues]) from None
