"""What is selected of a type: the fields of a selection set, with fragments put in and equal fields merged.

https://spec.graphql.org/October2021/#sec-Field-Collection - and `check`, which asks of a whole query whether R4 has
what it selects, before anything is loaded.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from graphql.language import (
    DirectiveNode,
    FieldNode,
    FragmentSpreadNode,
    InlineFragmentNode,
    NamedTypeNode,
    Node,
    SelectionSetNode,
    print_ast,
)

from fhir_server.outcomes import BadParameter, Issue
from fhir_server.r4.graphql.arguments import (
    NO_FILTERS,
    Argument,
    Filters,
    Reading,
    Resolving,
    filters,
    given_to,
    must_be_none,
    reading,
    resolving,
)
from fhir_server.r4.graphql.client_path import ClientPath, client_path
from fhir_server.r4.graphql.document import Document
from fhir_server.r4.graphql.faults import fault, refused
from fhir_server.r4.graphql.limits import MOST_FAULTS
from fhir_server.r4.graphql.schema import ANY, QUERY, Definition, applies, conditions, field_of
from fhir_server.r4.graphql.search_arguments import Searching, may_refer, searching
from fhir_server.r4.graphql.values import texts_of, value_of
from fhir_server.r4.resource_types import RESOURCE_TYPES, TYPE_NUMBER

Sets = tuple[SelectionSetNode, ...]
EMPTY: Final = frozenset[str]()


@dataclass(frozen=True, slots=True)
class Shape:
    """The directives that lay the output out: https://hl7.org/fhir/R4/graphql.html#flattening"""

    flatten: bool = False
    first: bool = False
    singleton: bool = False
    slice: ClientPath | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Field:
    """A field that is selected of one type."""

    key: str
    """Its name in the answer."""
    definition: Definition
    arguments: Filters | Resolving | Reading | Searching
    shape: Shape
    below: Sets
    """What is selected of it."""
    node: FieldNode
    """The first place where it stands."""


@dataclass(frozen=True, slots=True)
class Selected:
    """What a selection is made of: a type, and where it is a Reference the types that R4 lets it point to."""

    type: str
    targets: frozenset[str] = EMPTY


class Selections:
    """The selections of one query. `whole` keeps what `@skip` and `@include` leave out, to check that as well."""

    def __init__(self, document: Document, *, whole: bool = False) -> None:
        self._document = document
        self._whole = whole
        self._made: dict[tuple[tuple[int, ...], Selected], Sequence[Field]] = {}
        self._met: dict[int, Node] = {}
        """Fields that a type has, and fragments that are of it, by the identity of their nodes."""
        self._missed: dict[int, tuple[Node, str]] = {}
        """The others, and of which type they were asked."""
        self._given: dict[int, Sequence[Argument]] = {}
        self._read: dict[tuple[int, Definition, str], Filters | Resolving | Reading | Searching] = {}
        """What the arguments of a field ask, read once although it may be selected of every type."""

    def of(self, sets: Sets, selected: Selected) -> Sequence[Field]:
        """The fields of selection sets that belong together, made once for each type. Raises BadParameter."""
        key = tuple(map(id, sets)), selected
        if key not in self._made:
            grouped: dict[str, list[tuple[FieldNode, Definition]]] = {}
            self._collect(sets, selected, grouped, set())
            self._made[key] = [one for name, nodes in grouped.items() for one in self._fields(name, nodes, selected)]
        return self._made[key]

    def _collect(
        self,
        sets: Iterable[SelectionSetNode],
        selected: Selected,
        grouped: dict[str, list[tuple[FieldNode, Definition]]],
        spread: set[str],
    ) -> None:
        for one in (one for selections in sets for one in selections.selections if self._is_included(one)):
            match one:
                case FieldNode(name=name, alias=alias):
                    definition = self._definition(one, selected)
                    if self._is_met(one, definition is not None, selected) and definition:
                        grouped.setdefault((alias or name).value, []).append((one, definition))
                case InlineFragmentNode(type_condition=on, selection_set=inner):
                    if on is None or self._is_met(one, _applies(on, selected), selected):
                        self._collect([inner], selected, grouped, spread)
                case FragmentSpreadNode(name=name) if name.value not in spread:
                    spread.add(name.value)
                    fragment = self._document.fragments[name.value]
                    if self._is_met(one, _applies(fragment.type_condition, selected), selected):
                        self._collect([fragment.selection_set], selected, grouped, spread)
                case _:
                    pass

    def _definition(self, node: FieldNode, selected: Selected) -> Definition | None:
        """The field of a type, None where it has none, or where nothing that is searched may refer to it."""
        definition = field_of(selected.type, node.name.value, selected.targets)
        if definition and definition.kind == "search" and selected.type != QUERY:
            given = self._given_to(node)
            return definition if may_refer(definition, selected.type, given) else None
        return definition

    def _is_included(self, one: Node) -> bool:
        """https://spec.graphql.org/October2021/#sec--skip - raises BadParameter."""
        for name, wanted in (("skip", False), ("include", True)):
            directive = _directive(one, name)
            if directive is not None and self._truth(directive) is not wanted and not self._whole:
                return False
        return True

    def _truth(self, directive: DirectiveNode) -> bool:
        argument = next(iter(directive.arguments or ()))
        value = value_of(argument.value, self._document.variables)
        if not isinstance(value, bool):
            raise refused("`if` is true or false", argument)
        return value

    def _is_met(self, node: Node, holds: bool, selected: Selected) -> bool:
        if holds:
            self._met[id(node)] = node
        else:
            self._missed.setdefault(id(node), (node, selected.type))
        return holds

    def _fields(self, key: str, nodes: Sequence[tuple[FieldNode, Definition]], selected: Selected) -> Iterator[Field]:
        """The field of one name in the answer; several where each follows a reference to other types."""
        groups: dict[str, list[tuple[FieldNode, Definition]]] = {}
        for node, definition in nodes:
            groups.setdefault(_asked(node), []).append((node, definition))
        fields = [self._field(key, group, selected) for group in groups.values()]
        if len(fields) > 1 and not _are_apart(fields):
            raise refused(f"Two fields would be `{key[:100]}` in the answer: give one another name", fields[1].node)
        yield from fields

    def _field(self, key: str, nodes: Sequence[tuple[FieldNode, Definition]], selected: Selected) -> Field:
        node, definition = nodes[0]
        below = tuple(one.selection_set for one, _ in nodes if one.selection_set)
        if definition.kind in ("primitive", "type-name", "resource-type"):
            if below:
                raise refused(f"{definition.name} has nothing below it to select", node)
        elif not any(one.selections for one in below):
            raise refused(f"Say what to select of {definition.name}", node)
        shape = self._shape(node)
        if shape.flatten and not below:
            raise refused("@flatten is for what has children", node)
        if shape.slice and (definition.connection or definition.kind in ("made", "type-name", "resource-type")):
            raise refused("@slice is for elements and resources", node)
        return Field(key, definition, self._arguments(definition, node, selected), shape, below, node)

    def _shape(self, node: FieldNode) -> Shape:
        path = None
        if (directive := _directive(node, "slice")) is not None:
            argument = next(iter(directive.arguments or ()))
            texts = texts_of(value_of(argument.value, self._document.variables))
            path = client_path(texts[0] if texts else "", argument)
        flatten, first, singleton = (_directive(node, name) is not None for name in ("flatten", "first", "singleton"))
        return Shape(flatten, first, singleton, path)

    def _given_to(self, node: FieldNode) -> Sequence[Argument]:
        if id(node) not in self._given:
            self._given[id(node)] = given_to(node, self._document.variables)
        return self._given[id(node)]

    def _arguments(
        self, definition: Definition, node: FieldNode, selected: Selected
    ) -> Filters | Resolving | Reading | Searching:
        key = id(node), definition, QUERY if selected.type == QUERY else ""
        if key not in self._read:
            self._read[key] = self._arguments_read(definition, node, selected)
        return self._read[key]

    def _arguments_read(
        self, definition: Definition, node: FieldNode, selected: Selected
    ) -> Filters | Resolving | Reading | Searching:
        given = self._given_to(node)
        match definition.kind:
            case "resolve":
                return resolving(given)
            case "read":
                return reading(node, given)
            case "search":
                return searching(definition, node, selected.type, given)
            case "complex" if not definition.name.startswith("_"):
                return filters(definition, given)
            case _:
                must_be_none(given)
                return NO_FILTERS

    def faults(self) -> list[Issue]:
        """What was asked of no type that has it, so far."""
        return [fault(_words(node, on), node) for one, (node, on) in self._missed.items() if one not in self._met][
            :MOST_FAULTS
        ]


def check(document: Document, root_type: str) -> None:
    """Does R4 have what a query selects, and is it asked as R4 says? Raises BadParameter, TooCostly."""
    for name in _conditions(document):
        if name.name.value not in conditions():
            raise refused(f"There is no type {name.name.value[:100]}", name)
    also = frozenset(name.name.value for name in _conditions(document)) & TYPE_NUMBER.keys()
    selections = Selections(document, whole=True)
    seen: set[tuple[tuple[int, ...], Selected]] = set()
    pending: list[tuple[Sets, Selected]] = [((document.operation.selection_set,), Selected(root_type))]
    while pending:
        sets, selected = pending.pop()
        if (key := (tuple(map(id, sets)), selected)) in seen:
            continue
        seen.add(key)
        for field in selections.of(sets, selected):
            if field.below:
                pending += [(field.below, one) for one in _below(field, also)]
    if issues := selections.faults():
        raise BadParameter(issues=issues)


def below(definition: Definition, type_name: str) -> Selected:
    """What is selected of a field whose value is of a type."""
    return Selected(type_name, definition.targets if type_name == "Reference" else EMPTY)


def _below(field: Field, also: frozenset[str]) -> Iterator[Selected]:
    """Everything that may stand behind a field; R4's own examples point beyond the targets of a Reference."""
    definition, arguments = field.definition, field.arguments
    if definition.type != ANY:
        yield below(definition, definition.type)
        return
    wanted = arguments.types if isinstance(arguments, Resolving) else None
    for name in wanted or (definition.targets | also if definition.targets else frozenset(RESOURCE_TYPES)):
        yield Selected(name)


def _applies(on: NamedTypeNode, selected: Selected) -> bool:
    return applies(on.name.value, selected.type)


def _directive(node: Node, name: str) -> DirectiveNode | None:
    directives: Sequence[DirectiveNode] = getattr(node, "directives", None) or ()
    return next((one for one in directives if one.name.value == name), None)


def _asked(node: FieldNode) -> str:
    """What must be the same of two fields that are one: all but what is selected, and whether it is."""
    arguments = sorted(map(print_ast, node.arguments or ()))
    directives = sorted(print_ast(one) for one in node.directives or () if one.name.value not in ("skip", "include"))
    return " ".join([node.name.value, *arguments, *directives])


def _are_apart(fields: Sequence[Field]) -> bool:
    """Whether of one reference at most one of these has something to show."""
    types: set[str] = set()
    for field in fields:
        wanted = field.arguments.types if isinstance(field.arguments, Resolving) else None
        if not wanted or types & wanted:
            return False
        types |= wanted
    return True


def _words(node: Node, on: str) -> str:
    match node:
        case FieldNode(name=name):
            what = "A query of the system" if on == QUERY else on
            reference = " that refers to it so" if name.value[:1].isupper() and on != QUERY else ""
            return f"{what} has no field {name.value[:100]}{reference}"
        case _:
            return f"What is selected here, of {on}, can never be of the type of this fragment"


def _conditions(document: Document) -> Iterator[NamedTypeNode]:
    """The types that the fragments of a query are on."""
    pending: list[SelectionSetNode] = [document.operation.selection_set]
    for fragment in document.fragments.values():
        yield fragment.type_condition
        pending.append(fragment.selection_set)
    while pending:
        for one in pending.pop().selections:
            if isinstance(one, InlineFragmentNode) and one.type_condition:
                yield one.type_condition
            if isinstance(one, FieldNode | InlineFragmentNode) and one.selection_set:
                pending.append(one.selection_set)
