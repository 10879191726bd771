"""An expression compiled to functions, and its evaluation on one element of a resource.

http://hl7.org/fhirpath/N1/#expressions and https://hl7.org/fhir/R4/fhirpath.html#variables
"""

from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from decimal import Decimal, DivisionByZero, InvalidOperation
from functools import cache
from typing import Final

from fhir_server.r4.fhirpath.nodes import Node, children, definitions_in
from fhir_server.r4.fhirpath.syntax import (
    Binary,
    Call,
    Dot,
    Literal,
    Member,
    Tree,
    TypeIs,
    Unary,
    Variable,
    parse,
)
from fhir_server.r4.fhirpath.values import Item, Items, is_a, key_of, ordered, plain, same, weight

MOST_STEPS: Final = 1_000_000
"""Elements that the evaluations with one context may touch."""

CONSTANTS: Final[Mapping[str, str]] = {
    "%ucum": "http://unitsofmeasure.org",
    "%sct": "http://snomed.info/sct",
    "%loinc": "http://loinc.org",
}


class Undecided(Exception):
    """The expression has no answer here: it asks for one value where there are several, or for what is not at hand."""


class TooMuch(Exception):
    """The evaluation would cost more than `MOST_STEPS`."""


@dataclass(slots=True)
class Context:
    """What an evaluation is about, and what it has cost so far."""

    resource: Node
    root_resource: Node
    node: Node
    steps: int = 0
    uncertain: bool = False
    """Whether two dates were compared whose precision does not tell."""
    this: Items | None = None
    index: int = 0
    weighs: bool = False
    """Whether what is compared costs by its size: the expression is a stranger's."""

    def weighed(self, items: Items) -> Items:
        """The same, counted with all that is within, where that matters. Raises TooMuch."""
        if self.weighs:
            for item in items:
                self.steps += weight(item)
            self.paid([])
        return items

    def paid(self, items: Items) -> Items:
        """The same, counted. Raises TooMuch."""
        self.steps += 1 + len(items)
        if self.steps > MOST_STEPS:
            raise TooMuch
        return items


Compiled = Callable[[Context, Items], Items]


@cache
def compiled(expression: str) -> Compiled:
    """The function of an expression: it is given a context and the items that it starts from.

    Raises UnknownExpression. The function raises Undecided, TooMuch, and Misshapen for JSON that is not R4.
    """
    return compile_tree(parse(expression))


def evaluate(expression: str, context: Context) -> Items:
    """What an expression gives on the element of the context. Raises as `compiled` and its function do."""
    context.this = [context.node]
    return compiled(expression)(context, [context.node])


def compile_tree(tree: Tree) -> Compiled:
    """The function of a tree. Raises UnknownExpression."""
    from fhir_server.r4.fhirpath.functions import compile_call  # functions have arguments, which are expressions

    match tree:
        case Literal(value):
            items: Items = [] if value is None else [value]
            return lambda _context, _focus: items
        case Variable(name):
            return _variable(name)
        case Member(name):
            return lambda context, focus: context.paid(_members(name, focus))
        case Call(name, arguments):
            return compile_call(name, arguments)
        case Dot(source, step):
            first, then = compile_tree(source), compile_tree(step)
            return lambda context, focus: then(context, first(context, focus))
        case Unary(operator, operand):
            sign = Decimal(-1 if operator == "-" else 1)
            number = compile_tree(operand)
            return lambda context, focus: [sign * value for value in _numbers(number(context, focus))]
        case TypeIs(operator, operand, name):
            inner = compile_tree(operand)
            return _is(inner, name) if operator == "is" else _as(inner, name)
        case Binary(operator, left, right):
            return _binary(operator, compile_tree(left), compile_tree(right))


def _variable(name: str) -> Compiled:
    match name:
        case "$this":
            return lambda context, _focus: context.this or []
        case "$index":
            return lambda context, _focus: [Decimal(context.index)]
        case "%resource":
            return lambda context, _focus: [context.resource]
        case "%rootResource":
            return lambda context, _focus: [context.root_resource]
        case "%context":
            return lambda context, _focus: [context.node]
        case _:
            constant: Items = [CONSTANTS[name]] if name in CONSTANTS else []
            return lambda _context, _focus: constant


def _members(name: str, focus: Items) -> Items:
    """Children of one name; the name of a type stands for what is of it, at the start of a path."""
    found: Items = []
    for item in focus:
        if not isinstance(item, Node):
            continue
        element = definitions_in(item).get(name)
        if element is not None:
            found.extend(children(item, element))
        elif name[0].isupper() and is_a(item, name):
            found.append(item)
    return found


def truth(items: Items) -> bool | None:
    """http://hl7.org/fhirpath/N1/#singleton-evaluation-of-collections - raises Undecided for several items."""
    if not items:
        return None
    if len(items) > 1:
        raise Undecided
    value = plain(items[0])
    return value if isinstance(value, bool) else True


def one(items: Items) -> Item | None:
    """The only item, None where there is none. Raises Undecided for several."""
    if len(items) > 1:
        raise Undecided
    return items[0] if items else None


def text_of(items: Items) -> str | None:
    """The only text. Raises Undecided for several items, and for what is no text."""
    item = one(items)
    value = None if item is None else plain(item)
    if value is not None and not isinstance(value, str):
        raise Undecided
    return value


def number_of(items: Items) -> Decimal | None:
    """The only number. Raises Undecided for several items, and for what is no number."""
    numbers = _numbers(items)
    return numbers[0] if numbers else None


def _numbers(items: Items) -> list[Decimal]:
    item = one(items)
    value = None if item is None else plain(item)
    if value is None:
        return []
    if not isinstance(value, Decimal):
        raise Undecided
    return [value]


def _is(inner: Compiled, name: str) -> Compiled:
    def function(context: Context, focus: Items) -> Items:
        item = one(inner(context, focus))
        return [] if item is None else [is_a(item, name)]

    return function


def _as(inner: Compiled, name: str) -> Compiled:
    """R4's own definitions apply `as` to many items, and mean those of the type."""
    return lambda context, focus: [item for item in inner(context, focus) if is_a(item, name)]


def _binary(operator: str, left: Compiled, right: Compiled) -> Compiled:
    if operator in _LAZY:
        return _LAZY[operator](left, right)
    if operator == "[]":
        return lambda context, focus: _at(left(context, focus), right(context, context.this or []))
    function = _OPERATORS[operator]

    def both(context: Context, focus: Items) -> Items:
        return function(context, context.weighed(left(context, focus)), context.weighed(right(context, focus)))

    return both


def _at(items: Items, index: Items) -> Items:
    number = number_of(index)
    if number is None or number < 0 or number != number.to_integral():
        return []
    return items[int(number) : int(number) + 1]


def _and(left: Compiled, right: Compiled) -> Compiled:
    def function(context: Context, focus: Items) -> Items:
        first = truth(left(context, focus))
        if first is False:
            return [False]
        second = truth(right(context, focus))
        if second is False:
            return [False]
        return [True] if first and second else []

    return function


def _or(left: Compiled, right: Compiled) -> Compiled:
    def function(context: Context, focus: Items) -> Items:
        first = truth(left(context, focus))
        if first:
            return [True]
        second = truth(right(context, focus))
        if second:
            return [True]
        return [] if first is None or second is None else [False]

    return function


def _implies(left: Compiled, right: Compiled) -> Compiled:
    def function(context: Context, focus: Items) -> Items:
        first = truth(left(context, focus))
        if first is False:
            return [True]
        second = truth(right(context, focus))
        if second:
            return [True]
        return [] if first is None or second is None else [False]

    return function


_LAZY: Final[Mapping[str, Callable[[Compiled, Compiled], Compiled]]] = {"and": _and, "or": _or, "implies": _implies}
"""What asks its right side only where the left does not tell."""


def equal(context: Context, left: Items, right: Items) -> bool | None:
    """`=` of two collections: http://hl7.org/fhirpath/N1/#equals"""
    if not left or not right:
        return None
    if len(left) != len(right):
        return False
    answers = {same(a, b) for a, b in zip(left, right, strict=True)}
    context.uncertain |= None in answers
    return False if False in answers else None if None in answers else True


def _equal(context: Context, left: Items, right: Items) -> Items:
    answer = equal(context, left, right)
    return [] if answer is None else [answer]


def _unequal(context: Context, left: Items, right: Items) -> Items:
    answer = equal(context, left, right)
    return [] if answer is None else [not answer]


def _equivalent(left: Items, right: Items) -> bool:
    """`~`: the order does not matter, nor does the case of a text (http://hl7.org/fhirpath/N1/#equivalent)."""

    def folded(item: Item) -> object:
        value = key_of(item)
        return " ".join(value.casefold().split()) if isinstance(value, str) else value

    return sorted(map(repr, map(folded, left))) == sorted(map(repr, map(folded, right)))


def _compare(sign: str) -> Callable[[Context, Items, Items], Items]:
    def function(context: Context, left: Items, right: Items) -> Items:
        first, second = one(left), one(right)
        if first is None or second is None:
            return []
        answer = ordered(sign, first, second)
        context.uncertain |= answer is None
        return [] if answer is None else [answer]

    return function


def _contains(collection: Items, wanted: Items) -> Items:
    item = one(wanted)
    return [] if item is None else [any(same(item, other) for other in collection)]


def union(left: Items, right: Items) -> Items:
    """`|`: both, each value once."""
    found: dict[Hashable, Item] = {}
    for item in (*left, *right):
        found.setdefault(key_of(item), item)
    return list(found.values())


def _xor(_context: Context, left: Items, right: Items) -> Items:
    first, second = truth(left), truth(right)
    return [] if first is None or second is None else [first is not second]


def _joined(_context: Context, left: Items, right: Items) -> Items:
    """`&`, for which nothing is the empty text; so FHIR's own rules join what need not be a text."""
    return ["".join(shown(item) for items in (left, right) if (item := one(items)) is not None)]


def shown(item: Item) -> str:
    """The text of a primitive; nothing of anything else."""
    match plain(item):
        case bool() as value:
            return str(value).lower()
        case str() as value:
            return value
        case Decimal() as value:
            return format(value, "f")
        case None | dict():
            return ""
        case moment:
            return moment.text


def _calculated(operator: str) -> Callable[[Context, Items, Items], Items]:
    def function(_context: Context, left: Items, right: Items) -> Items:
        first, second = one(left), one(right)
        if first is None or second is None:
            return []
        a, b = plain(first), plain(second)
        if operator == "+" and isinstance(a, str) and isinstance(b, str):
            return [a + b]
        if not isinstance(a, Decimal) or not isinstance(b, Decimal):
            raise Undecided
        try:
            return [_ARITHMETIC[operator](a, b)]
        except (DivisionByZero, InvalidOperation):
            return []

    return function


_ARITHMETIC: Final[Mapping[str, Callable[[Decimal, Decimal], Decimal]]] = {
    "+": lambda a, b: a + b,
    "-": lambda a, b: a - b,
    "*": lambda a, b: a * b,
    "/": lambda a, b: a / b,
    "div": lambda a, b: a // b,
    "mod": lambda a, b: a % b,
}

_OPERATORS: Final[Mapping[str, Callable[[Context, Items, Items], Items]]] = {
    "=": _equal,
    "!=": _unequal,
    "~": lambda _context, left, right: [_equivalent(left, right)],
    "!~": lambda _context, left, right: [not _equivalent(left, right)],
    "in": lambda _context, left, right: _contains(right, left),
    "contains": lambda _context, left, right: _contains(left, right),
    "|": lambda _context, left, right: union(left, right),
    "xor": _xor,
    "&": _joined,
    **{sign: _compare(sign) for sign in ("<", "<=", ">", ">=")},
    **{sign: _calculated(sign) for sign in _ARITHMETIC},
}
