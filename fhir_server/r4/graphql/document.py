"""A query as text, read: the operation that is meant, its fragments and its variables.

https://spec.graphql.org/October2021/#sec-Document - what needs no knowledge of FHIR is checked here, by the rules of
graphql-core. Mutations are not built.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import cache
from typing import Any, Final

from graphql import (
    DirectiveLocation,
    GraphQLArgument,
    GraphQLDirective,
    GraphQLError,
    GraphQLField,
    GraphQLNonNull,
    GraphQLObjectType,
    GraphQLSchema,
    GraphQLString,
    specified_directives,
    validate,
)
from graphql.language import (
    ArgumentNode,
    DocumentNode,
    FieldNode,
    FragmentDefinitionNode,
    FragmentSpreadNode,
    InlineFragmentNode,
    ListTypeNode,
    NamedTypeNode,
    NonNullTypeNode,
    OperationDefinitionNode,
    OperationType,
    SelectionSetNode,
    TokenKind,
    TypeNode,
    VariableDefinitionNode,
)
from graphql.language.parser import Parser
from graphql.validation import (
    ExecutableDefinitionsRule,
    KnownArgumentNamesRule,
    KnownDirectivesRule,
    KnownFragmentNamesRule,
    LoneAnonymousOperationRule,
    NoFragmentCyclesRule,
    NoUndefinedVariablesRule,
    NoUnusedFragmentsRule,
    NoUnusedVariablesRule,
    ProvidedRequiredArgumentsRule,
    UniqueArgumentNamesRule,
    UniqueDirectivesPerLocationRule,
    UniqueFragmentNamesRule,
    UniqueOperationNamesRule,
    UniqueVariableNamesRule,
)

from fhir_server.outcomes import BadParameter, BadSyntax, Issue, NotSupported, TooCostly
from fhir_server.r4.graphql.faults import fault, refused
from fhir_server.r4.graphql.limits import (
    DEEPEST,
    LONGEST,
    LONGEST_TOLD,
    MOST_FAULTS,
    MOST_FIELDS,
    MOST_GIVEN,
    MOST_TOKENS,
)
from fhir_server.r4.graphql.values import Value, plain_text, texts_of, value_of

RULES: Final = (
    ExecutableDefinitionsRule,
    UniqueOperationNamesRule,
    LoneAnonymousOperationRule,
    KnownFragmentNamesRule,
    UniqueFragmentNamesRule,
    NoUnusedFragmentsRule,
    NoFragmentCyclesRule,
    UniqueVariableNamesRule,
    NoUndefinedVariablesRule,
    NoUnusedVariablesRule,
    KnownDirectivesRule,
    UniqueDirectivesPerLocationRule,
    UniqueArgumentNamesRule,
)
"""The rules of GraphQL that hold whatever the types are."""
OF_DIRECTIVES: Final = (KnownArgumentNamesRule, ProvidedRequiredArgumentsRule)
"""Those that are asked of directives alone: what a field may be asked is a matter of FHIR."""

DIRECTIVES: Final = (
    *specified_directives[:2],  # @include and @skip
    GraphQLDirective("flatten", [DirectiveLocation.FIELD], description="The children take the place of the field."),
    GraphQLDirective("first", [DirectiveLocation.FIELD], description="Only the first element."),
    GraphQLDirective("singleton", [DirectiveLocation.FIELD], description="One value, although a parent is flattened."),
    GraphQLDirective(
        "slice",
        [DirectiveLocation.FIELD],
        args={"path": GraphQLArgument(GraphQLNonNull(GraphQLString))},
        description="Each element under a name of its own, which the FHIRPath gives.",
    ),
)
"""https://hl7.org/fhir/R4/graphql.html#flattening"""

BUILT_IN: Final[Mapping[str, tuple[type, ...]]] = {
    "Boolean": (bool,),
    "Int": (int,),
    "Float": (int, Decimal),
    "String": (str,),
    "ID": (str, int),
}
"""What JSON may give a variable of a type of GraphQL itself; of any other type, any scalar."""
SCALARS: Final = (str, bool, int, Decimal)


@dataclass(frozen=True, slots=True)
class Document:
    """One operation of a query, with what it needs."""

    whole: DocumentNode
    operation: OperationDefinitionNode
    fragments: Mapping[str, FragmentDefinitionNode]
    variables: Mapping[str, Value]
    """Of those that have a value."""

    @property
    def introspects(self) -> bool:
        """Does it ask what the schema is?"""
        return any(
            isinstance(one, FieldNode) and one.name.value in ("__schema", "__type")
            for one in self.operation.selection_set.selections
        )


def read(text: str, operation_name: str | None, variables: Mapping[str, Any]) -> Document:
    """The operation of this name, or the only one.

    `variables` are JSON values, decimals as Decimal. Raises BadSyntax, BadParameter with every fault, NotSupported for
    what is no query, TooCostly.
    """
    whole = _parsed(text)
    operation = _operation(whole, operation_name)
    if operation.operation != OperationType.QUERY:
        raise NotSupported(
            issues=[Issue("error", "not-supported", f"This server answers queries, and no {operation.operation.value}")]
        )
    if errors := validate(_no_types(), whole, (*RULES, *OF_DIRECTIVES), max_errors=MOST_FAULTS):
        raise BadParameter(issues=[_issue(one) for one in errors])
    fragments = {one.name.value: one for one in whole.definitions if isinstance(one, FragmentDefinitionNode)}
    for one in whole.definitions:  # also what is not meant now: introspection checks the fragments of all of them
        if isinstance(one, OperationDefinitionNode):
            _must_be_bounded(one.selection_set, fragments)
    return Document(whole, operation, fragments, _variables(operation.variable_definitions or (), variables))


class _Reader(Parser):
    """R4 writes `PatientConnection()` for no arguments, which the grammar of GraphQL does not have."""

    def parse_arguments(self, is_const: bool) -> tuple[ArgumentNode, ...] | None:
        item = self.parse_const_argument if is_const else self.parse_argument
        return self.any(TokenKind.PAREN_L, item, TokenKind.PAREN_R) if self.peek(TokenKind.PAREN_L) else None


def _parsed(text: str) -> DocumentNode:
    try:
        return _Reader(text, max_lexical_tokens=MOST_TOKENS, max_source_length=LONGEST).parse_document()
    except RecursionError:
        raise TooCostly("The query has too many selections or lists within one another") from None
    except GraphQLError as error:  # its words would quote the query
        place = (error.locations or [None])[0]
        where = (place.line, place.column) if place else None
        long = "" if where else f", or is longer than {LONGEST} characters"
        text = f"What stands here is not GraphQL{long}, or comes after {MOST_TOKENS} words"
        raise BadSyntax(issues=[Issue("error", "structure", text, location=where)]) from None


def _operation(whole: DocumentNode, name: str | None) -> OperationDefinitionNode:
    operations = [one for one in whole.definitions if isinstance(one, OperationDefinitionNode)]
    named = [one for one in operations if not name or (one.name and one.name.value == name)]
    if not named:
        raise BadParameter("The query has no such operation", expression="operationName")
    if len(named) > 1:
        raise BadParameter("The query has several operations: say which by its name", expression="operationName")
    return named[0]


@cache
def _no_types() -> GraphQLSchema:
    """A schema that knows the directives and nothing else: enough for the rules above."""
    return GraphQLSchema(GraphQLObjectType("Query", {"_": GraphQLField(GraphQLString)}), directives=DIRECTIVES)


def _issue(error: GraphQLError) -> Issue:
    node = error.nodes[0] if error.nodes else None
    return fault(error.message[:LONGEST_TOLD], node)


def _must_be_bounded(whole: SelectionSetNode, fragments: Mapping[str, FragmentDefinitionNode]) -> None:
    """Raises TooCostly for too many fields, or too many within one another; fragments make no circles by now."""
    measured: dict[str, tuple[int, int]] = {}

    def measure(selections: SelectionSetNode) -> tuple[int, int]:
        fields = depth = 0
        for one in selections.selections:
            match one:
                case FieldNode(selection_set=inner):
                    below = measure(inner) if inner else (0, 0)
                    below = below[0] + 1, below[1] + 1
                case InlineFragmentNode(selection_set=inner):
                    below = measure(inner)
                case FragmentSpreadNode(name=name):
                    if name.value not in measured:
                        measured[name.value] = measure(fragments[name.value].selection_set)
                    below = measured[name.value]
                case _:
                    continue
            fields, depth = fields + below[0], max(depth, below[1])
        return fields, depth

    try:
        fields, depth = measure(whole)
    except RecursionError:
        fields, depth = 0, DEEPEST + 1
    if fields > MOST_FIELDS:
        raise TooCostly(
            f"The query has more than {MOST_FIELDS} fields, those of its fragments counted wherever they are"
        )
    if depth > DEEPEST:
        raise TooCostly(f"The query has more than {DEEPEST} selections within one another")


def _variables(definitions: Sequence[VariableDefinitionNode], given: Mapping[str, Any]) -> dict[str, Value]:
    """https://spec.graphql.org/October2021/#sec-Coercing-Variable-Values - what is not declared is left out."""
    found: dict[str, Value] = {}
    for one in definitions:
        name = one.variable.name.value
        if name in given:
            value = _coerced(one.type, given[name], one)
        elif one.default_value is not None:
            value = value_of(one.default_value, {})
            if _is_boolean(one.type) and not isinstance(value, bool):
                raise _unfit(one)
        elif isinstance(one.type, NonNullTypeNode):
            raise refused(f"The variable ${name} needs a value", one)
        else:
            continue
        found[name] = value
    if sum(len(text) + 1 for value in found.values() for text in texts_of(value)) > MOST_GIVEN:
        raise TooCostly(f"The variables have more than {MOST_GIVEN} characters and values")
    return found


def _coerced(kind: TypeNode, value: Any, of: VariableDefinitionNode) -> Value:
    """A JSON value as the type of a variable has it. Raises BadParameter."""
    match kind:
        case NonNullTypeNode(type=inner):
            if value is None:
                raise _unfit(of)
            return _coerced(inner, value, of)
        case ListTypeNode(type=inner):
            if value is None:
                return None
            return [_coerced(inner, one, of) for one in (value if isinstance(value, list) else [value])]
        case NamedTypeNode(name=name):
            if value is None:
                return None
            if type(value) not in BUILT_IN.get(name.value, SCALARS):
                raise _unfit(of)
            return value if isinstance(value, bool) else plain_text(str(value), of)
        case _:
            raise _unfit(of)


def _is_boolean(kind: TypeNode) -> bool:
    inner = kind.type if isinstance(kind, NonNullTypeNode) else kind
    return isinstance(inner, NamedTypeNode) and inner.name.value == "Boolean"


def _unfit(of: VariableDefinitionNode) -> BadParameter:
    return refused(f"The value of ${of.variable.name.value} is not of the type that is declared", of)
