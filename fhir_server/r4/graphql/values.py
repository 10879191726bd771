"""The values of arguments: literals and variables, as FHIR compares them.

https://hl7.org/fhir/R4/graphql.html writes `use: official` and `id: example` where GraphQL would write strings, so a
name stands for its text; a number keeps the digits that it was written with, which say how exact it is.
"""

from collections.abc import Mapping
from typing import Union

from graphql.language import (
    BooleanValueNode,
    EnumValueNode,
    FloatValueNode,
    IntValueNode,
    ListValueNode,
    Node,
    NullValueNode,
    StringValueNode,
    ValueNode,
    VariableNode,
)

from fhir_server.r4.graphql.faults import refused

Value = Union[None, bool, str, "list[Value]"]


def value_of(node: ValueNode, variables: Mapping[str, Value]) -> Value:
    """What a literal says; a variable without a value is None. Raises BadParameter for an object."""
    match node:
        case NullValueNode():
            return None
        case BooleanValueNode(value=truth):
            return truth
        case StringValueNode(value=text) | EnumValueNode(value=text) | IntValueNode(value=text):
            return plain_text(text, node)
        case FloatValueNode(value=text):
            return text
        case VariableNode(name=name):
            return variables.get(name.value)
        case ListValueNode(values=values):
            return [value_of(one, variables) for one in values]
        case _:
            raise refused("An argument is a scalar or a list of scalars", node)


def plain_text(text: str, node: Node) -> str:
    """The same text. Raises BadParameter for one that no store keeps: with a NUL, or half a character."""
    if "\0" in text or any("\ud800" <= character <= "\udfff" for character in text):
        raise refused("The text holds what is no character", node)
    return text


def texts_of(value: Value) -> list[str]:
    """The texts of a value and of a list, in order; of nothing, none."""
    match value:
        case None:
            return []
        case bool():
            return ["true" if value else "false"]
        case str():
            return [value]
        case _:
            return [text for one in value for text in texts_of(one)]
