"""What the schema is: `__schema` and `__type`, answered by graphql-core from a schema made of the tables of R4.

https://spec.graphql.org/October2021/#sec-Introspection - made when somebody first asks, and again when search
parameters change. Types, connections and scalars have the names that HL7 gives them.
"""

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any, Final

import orjson
from graphql import (
    GraphQLArgument,
    GraphQLBoolean,
    GraphQLError,
    GraphQLField,
    GraphQLID,
    GraphQLInt,
    GraphQLList,
    GraphQLNonNull,
    GraphQLObjectType,
    GraphQLScalarType,
    GraphQLSchema,
    GraphQLString,
    GraphQLUnionType,
    execute_sync,
    validate,
)
from graphql.language import DocumentNode, FieldNode
from graphql.validation import (
    FieldsOnCorrectTypeRule,
    FragmentsOnCompositeTypesRule,
    KnownArgumentNamesRule,
    KnownTypeNamesRule,
    MaxIntrospectionDepthRule,
    OverlappingFieldsCanBeMergedRule,
    PossibleFragmentSpreadsRule,
    ProvidedRequiredArgumentsRule,
    ScalarLeafsRule,
    ValuesOfCorrectTypeRule,
    VariablesInAllowedPositionRule,
)

from fhir_server.outcomes import BadParameter, NotSupported, TooCostly, Unavailable
from fhir_server.r4.definitions import paths
from fhir_server.r4.graphql.document import DIRECTIVES, Document
from fhir_server.r4.graphql.faults import fault, refused
from fhir_server.r4.graphql.limits import LONGEST_TOLD, MOST_FAULTS, MOST_INTROSPECTED, MOST_ROOTS
from fhir_server.r4.graphql.schema import ANY, OFFERED, QUERY, Definition, entries, fields_of, searched, shown_name
from fhir_server.r4.graphql.search_arguments import argument_names
from fhir_server.r4.resource_types import RESOURCE_TYPES, TYPE_NUMBER
from fhir_server.r4.search_criterion import searchable
from fhir_server.r4.search_parameters import REGISTRY

BUILT_IN: Final[Mapping[str, GraphQLScalarType]] = {
    "boolean": GraphQLBoolean,
    "string": GraphQLString,
    "integer": GraphQLInt,
    "id": GraphQLID,
}
ABSTRACT: Final = frozenset({"Resource", "DomainResource", "BackboneElement"})
"""Types that nothing is of: a resource or element is always of one that derives from them."""
ANY_PARAMETER: Final = "The search parameter that refers to this resource; any other argument of the list goes with it"
RULES: Final = (
    FieldsOnCorrectTypeRule,
    FragmentsOnCompositeTypesRule,
    KnownArgumentNamesRule,
    KnownTypeNamesRule,
    MaxIntrospectionDepthRule,
    OverlappingFieldsCanBeMergedRule,
    PossibleFragmentSpreadsRule,
    ProvidedRequiredArgumentsRule,
    ScalarLeafsRule,
    ValuesOfCorrectTypeRule,
    VariablesInAllowedPositionRule,
)


ONE: Final = threading.Lock()
"""Held while an introspection is made."""


class _Enough(BaseException):
    """Ends an answer that grows too large: what is no Exception is not made an error of one field."""


def introspected(document: Document, text: str, root_type: str | None, most: int = MOST_INTROSPECTED) -> bytes:
    """The `data` of a query that asks what the schema is, and nothing else.

    `text` is the query as it came, `most` how many fields of the schema it may show. Raises NotSupported on an
    instance, BadParameter, TooCostly, and Unavailable while another is made: two would leave nothing to the others.
    """
    if root_type is not None:
        raise NotSupported("What the schema is, [base]/$graphql tells")
    for one in document.operation.selection_set.selections:
        if not isinstance(one, FieldNode) or not one.name.value.startswith("__"):
            raise refused("What the schema is, is asked in a query of its own, without fragments at its root", one)
    if len(document.operation.selection_set.selections) > MOST_ROOTS:
        raise TooCostly(f"What the schema is, is asked by at most {MOST_ROOTS} fields")
    name = document.operation.name.value if document.operation.name else None
    variables = orjson.dumps(document.variables, option=orjson.OPT_SORT_KEYS)
    return _answer(_Key(document, (REGISTRY.version, text, name, variables)), most)


class _Key:
    """A document that is equal to another of the same text."""

    def __init__(self, document: Document, key: tuple[object, ...]) -> None:
        self.document, self._key = document, key

    def __hash__(self) -> int:
        return hash(self._key)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Key) and self._key == other._key


@lru_cache(maxsize=1)
def _answer(key: _Key, most: int) -> bytes:
    """Tools ask all of it in always the same words, so the last answer is kept: it has 19 MB, and takes seconds."""
    if not ONE.acquire(blocking=False):
        raise Unavailable("The schema is being told to somebody else: try again in some seconds")
    try:
        return _made(key.document, most)
    finally:
        ONE.release()


def _made(document: Document, most: int) -> bytes:
    asked = DocumentNode(definitions=(document.operation, *document.fragments.values()))
    if errors := validate(schema(), asked, RULES, max_errors=MOST_FAULTS):
        raise _refused(errors)
    try:
        answer = execute_sync(schema(), asked, variable_values=dict(document.variables), middleware=[_counting(most)])
    except _Enough:
        raise TooCostly("This is too much of the schema for one query: ask for some types by their names") from None
    if answer.errors:
        raise _refused(answer.errors)
    return orjson.dumps(answer.data)


def _refused(errors: Sequence[GraphQLError]) -> BadParameter:
    return BadParameter(
        issues=[fault(one.message[:LONGEST_TOLD], one.nodes[0] if one.nodes else None) for one in errors]
    )


def _counting(most: int) -> Callable[..., Any]:
    count = 0

    def counted(following: Callable[..., Any], root: Any, info: Any, **arguments: Any) -> Any:
        nonlocal count
        count += 1
        if count > most:
            raise _Enough
        return following(root, info, **arguments)

    return counted


@REGISTRY.cached
def schema() -> GraphQLSchema:
    """The schema as it is at this moment."""
    return GraphQLSchema(_Types().query(), directives=DIRECTIVES)


class _Types:
    """The types of one schema, each made once; their fields when they are first looked at."""

    def __init__(self) -> None:
        self._scalars = dict(BUILT_IN)
        names = [path for path in paths() if path not in ABSTRACT]
        made = [f"{name}{suffix}" for name in OFFERED for suffix in ("Connection", "Edge")]
        self._objects = {name: self._object(name) for name in (*names, *made)}
        self._any = GraphQLUnionType(ANY, [self._objects[name] for name in RESOURCE_TYPES])
        self._filters: dict[str, dict[str, GraphQLArgument]] = {}
        kinds = {
            "fhirpath": GraphQLString,
            "_filter": GraphQLList(GraphQLString),
            "_sort": GraphQLList(GraphQLString),
            "_count": GraphQLInt,
        }
        self._of_searches = {name: GraphQLArgument(kind) for name, kind in kinds.items()}
        reference = {"_reference": GraphQLArgument(GraphQLNonNull(GraphQLString), description=ANY_PARAMETER)}
        self._reverse = reference | self._of_searches

    def query(self) -> GraphQLObjectType:
        """The root of a query of the system."""
        return GraphQLObjectType(QUERY, lambda: {one.name: self._field(one) for one in entries(OFFERED, reads=True)})

    def _object(self, type_name: str) -> GraphQLObjectType:
        return GraphQLObjectType(shown_name(type_name), lambda: dict(self._fields(type_name)))

    def _fields(self, type_name: str) -> Iterator[tuple[str, GraphQLField]]:
        for one in fields_of(type_name).values():
            yield one.name, self._field(one)
        if type_name == "Reference":
            types = GraphQLArgument(GraphQLList(self._scalar("code")))
            yield "resource", GraphQLField(self._any, args={"optional": GraphQLArgument(GraphQLBoolean), "type": types})
        if type_name in TYPE_NUMBER:
            for one in entries(_referring(type_name), reads=False):
                yield one.name, self._field(one, reverse=True)

    def _field(self, one: Definition, *, reverse: bool = False) -> GraphQLField:
        kind: Any = self._type(one.type)
        kind = GraphQLList(kind) if one.repeats else kind
        match one.kind:
            case "read":
                return GraphQLField(kind, args={"id": GraphQLArgument(GraphQLNonNull(GraphQLID))})
            case "search":
                return GraphQLField(kind, args=self._reverse if reverse else self._searched(one))
            case "complex" if one.repeats and not one.name.startswith("_"):
                return GraphQLField(kind, args=self._filtered(one.type))
            case _:
                return GraphQLField(kind)

    def _type(self, name: str) -> Any:
        return self._any if name == ANY else self._objects.get(name) or self._scalar(name)

    def _scalar(self, name: str) -> GraphQLScalarType:
        return self._scalars.setdefault(name, GraphQLScalarType(name))

    def _filtered(self, type_name: str) -> dict[str, GraphQLArgument]:
        if type_name not in self._filters:
            chosen = [one for one in fields_of(type_name).values() if one.kind in ("primitive", "resource-type")]
            part = {"fhirpath": GraphQLString, "_offset": GraphQLInt, "_count": GraphQLInt}
            kinds = {**{one.name: self._scalar(one.type) for one in chosen}, **part}
            self._filters[type_name] = {name: GraphQLArgument(kind) for name, kind in kinds.items()}
        return self._filters[type_name]

    def _searched(self, one: Definition) -> dict[str, GraphQLArgument]:
        parameters = searchable(searched(one))
        kinds = {
            name: GraphQLList(self._scalar(parameters[code].type if code in parameters else "id"))
            for name, code in argument_names(searched(one)).items()
        }
        found = {name: GraphQLArgument(kind) for name, kind in kinds.items()} | self._of_searches
        return found | ({"_cursor": GraphQLArgument(GraphQLString)} if one.connection else {})


def _referring(type_name: str) -> Iterator[str]:
    """The types with a search parameter that may refer to one."""
    for name in OFFERED:
        parameters = (one for one in searchable(name).values() if one.type == "reference")
        if any(not one.targets or type_name in one.targets for one in parameters):
            yield name
