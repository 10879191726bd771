"""The part of FHIRPath that patches use: which elements of a resource an expression selects, and where they stand.

http://hl7.org/fhirpath/N1/ - paths, indexers, `where`, `exists`, `empty`, `not`, `first`, `last`, `single`, `tail`,
`skip`, `take`, `extension`, `ofType`, `as`, `=`, `!=`, `and`, `or`, and literals: strings, numbers, booleans and dates.
A path can only go down from the resource, so that its cost is bounded by the size of both. Dates are compared as text.
Clients write these expressions: `r4/fhirpath/`, which knows more of the language, reads those of R4's own definitions.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from fhir_server.r4.definitions import Element
from fhir_server.r4.fhirpath.nodes import Json, Node, children, definitions_in, root
from fhir_server.r4.patch import Refusal, json_text
from fhir_server.r4.patch.json_text import Number

LONGEST: Final = 2000
"""Characters of an expression."""
DEEPEST: Final = 20
"""Parentheses within parentheses."""


class UnknownPath(ValueError):
    """The expression cannot be read, or uses more of FHIRPath than is known here."""


Item = Node | str | bool | Number
Items = list[Item]
Step = Callable[[Items], Items]


@dataclass(frozen=True, slots=True)
class Member:
    """The step to the children of one name."""

    name: str

    def __call__(self, items: Items) -> Items:
        nodes = [_node(item) for item in items]
        known = [node for node in nodes if self.name in definitions_in(node)]
        if nodes and not known:
            raise Refusal(f"{nodes[0].type} has no element `{self.name}`")
        return [child for node in known for child in children(node, definitions_in(node)[self.name])]


@dataclass(frozen=True, slots=True)
class Path:
    """An expression that was read."""

    steps: tuple[Step, ...]
    shown: str
    """The expression without its literals, for error texts."""

    def only(self, resource: Json) -> Node:
        """The one element that it selects; raises Refusal for none, several, or what is no element."""
        node = self.one_or_none(resource)
        if node is None:
            raise Refusal("the path selects nothing")
        return node

    def one_or_none(self, resource: Json) -> Node | None:
        """The same, with None for none."""
        items = _walk(self.steps, [root(resource)])
        if len(items) > 1:
            raise Refusal(f"the path selects {len(items)} elements, and must select one")
        return _node(items[0]) if items else None

    def list_in(self, resource: Json) -> tuple[Node, Element]:
        """The element whose list is meant, and the definition of the list, which may have no entry yet."""
        *before, last = self.steps
        if not isinstance(last, Member):
            raise Refusal("the path must end with the name of a list")
        node = Path(tuple(before), self.shown).only(resource)
        element = element_of(node, last.name)
        if not element.repeats:
            raise Refusal(f"`{last.name}` does not repeat")
        return node, element


def element_of(node: Node, name: str) -> Element:
    """The definition of a child; raises Refusal where the type has none of this name."""
    element = definitions_in(node).get(name)
    if element is None:
        raise Refusal(f"{node.type} has no element `{name}`")
    return element


def read(expression: str, resource_type: str) -> Path:
    """Read an expression about a resource of this type; raises UnknownPath, which does not quote it."""
    if len(expression) > LONGEST:
        raise UnknownPath(f"it is longer than {LONGEST} characters")
    return _Reader(expression, resource_type).read()


def _walk(steps: Sequence[Step], items: Items) -> Items:
    for step in steps:
        items = step(items)
    return items


def _node(item: Item) -> Node:
    if not isinstance(item, Node):
        raise Refusal("the path goes through what is no element")
    return item


def _truth(items: Items) -> bool | None:
    """https://hl7.org/fhirpath/N1/#singleton-evaluation-of-collections"""
    if not items:
        return None
    if len(items) > 1:
        raise Refusal("a condition has several values")
    value = _plain(items[0])
    return value if isinstance(value, bool) else True


def _plain(item: Item) -> Any:
    return item.value if isinstance(item, Node) else item


def _holding(criteria: Sequence[Step], items: Items) -> Items:
    return [item for item in items if _truth(_walk(criteria, [item]))]


def _equality(left: Sequence[Step], right: Sequence[Step], expected: bool) -> Step:
    def step(items: Items) -> Items:
        one, other = _walk(left, items), _walk(right, items)
        if not one or not other:
            return []
        equal = len(one) == len(other) and all(
            json_text.same(_plain(a), _plain(b)) for a, b in zip(one, other, strict=True)
        )
        return [equal is expected]

    return step


def _junction(operands: Sequence[Sequence[Step]], decisive: bool) -> Step:
    """`and`, for which False is decisive, and `or`, for which True is."""

    def step(items: Items) -> Items:
        truths = {_truth(_walk(operand, items)) for operand in operands}
        if decisive in truths:
            return [decisive]
        return [] if None in truths else [not decisive]

    return step


def _slice(start: int | None, stop: int | None) -> Step:
    return lambda items: items[start:stop]


def _of_type(name: str) -> Step:
    return lambda items: [item for item in items if isinstance(item, Node) and item.type == name]


def _single(items: Items) -> Items:
    if len(items) > 1:
        raise Refusal("`single()` has several elements before it")
    return items


def _opposite(items: Items) -> Items:
    truth = _truth(items)
    return [] if truth is None else [not truth]


_TOKEN: Final = re.compile(
    r"""\s*(?:
        (?P<name>[A-Za-z_][A-Za-z0-9_]*|`[A-Za-z_][A-Za-z0-9_]*`|\$this)
      | (?P<text>'(?:[^'\\]|\\[^u]|\\u[0-9A-Fa-f]{4})*')
      | (?P<date>@[0-9]{4}(?:-[0-9]{2}){0,2}(?![0-9T-]))
      | (?P<number>[0-9]+(?:\.[0-9]+)?)
      | (?P<symbol>!=|[.()\[\]=])
    )""",
    re.VERBOSE,
)
_ESCAPE: Final = re.compile(r"\\(u[0-9A-Fa-f]{4}|.)", re.DOTALL)
_ESCAPES: Final = {"n": "\n", "r": "\r", "t": "\t", "f": "\f"}
_NO_ARGUMENT: Final[dict[str, Step]] = {
    "first": _slice(None, 1),
    "last": _slice(-1, None),
    "tail": _slice(1, None),
    "single": _single,
    "empty": lambda items: [not items],
    "not": _opposite,
}


@dataclass(frozen=True, slots=True)
class _Token:
    kind: str
    text: str


class _Reader:
    """A reader by recursive descent; each method returns the steps that lead to what it read."""

    def __init__(self, expression: str, resource_type: str) -> None:
        self._type = resource_type
        self._tokens = _tokens(expression)
        self._at = 0
        self._depth = 0
        self._in_criteria = 0

    def read(self) -> Path:
        steps = self._expression()
        if self._at < len(self._tokens):
            raise self._unknown()
        return Path(steps or (lambda items: items,), "".join(_shown(token) for token in self._tokens))

    def _expression(self) -> tuple[Step, ...]:
        self._depth += 1
        if self._depth > DEEPEST:
            raise UnknownPath(f"it has more than {DEEPEST} parentheses within parentheses")
        operands = [self._conjunction()]
        while self._took("or"):
            operands.append(self._conjunction())
        self._depth -= 1
        return operands[0] if len(operands) == 1 else (_junction(operands, True),)

    def _conjunction(self) -> tuple[Step, ...]:
        operands = [self._comparison()]
        while self._took("and"):
            operands.append(self._comparison())
        return operands[0] if len(operands) == 1 else (_junction(operands, False),)

    def _comparison(self) -> tuple[Step, ...]:
        steps = self._cast()
        for symbol in ("=", "!="):
            if self._took(symbol):
                return (_equality(steps, self._cast(), symbol == "="),)
        return steps

    def _cast(self) -> tuple[Step, ...]:
        steps = self._chain()
        while self._took("as"):
            steps = (*steps, _of_type(self._type_name()))
        return steps

    def _chain(self) -> tuple[Step, ...]:
        steps = self._start()
        while True:
            if self._took("."):
                steps = (*steps, self._invocation(self._next("name").text))
            elif self._took("["):
                n = self._whole_number()
                steps = (*steps, _slice(n, n + 1))
                self._expect("]")
            else:
                return steps

    def _start(self) -> tuple[Step, ...]:
        if self._took("("):
            steps = self._expression()
            self._expect(")")
            return steps
        token = self._next()
        match token.kind:
            case "text":
                return (_constant(_unescaped(token.text)),)
            case "date":
                return (_constant(token.text[1:]),)
            case "number":
                return (_constant(Number(token.text)),)
            case "name":
                return self._first_name(token.text)
            case _:
                raise self._unknown()

    def _first_name(self, name: str) -> tuple[Step, ...]:
        if name in {"true", "false"}:
            return (_constant(name == "true"),)
        if name == "$this":
            return ()
        if not self._in_criteria and name in {self._type, "Resource", "DomainResource"}:
            return ()
        if name[0].isupper():
            raise UnknownPath(f"it begins with {name}, and the resource is a {self._type}")
        return (self._invocation(name),)

    def _invocation(self, name: str) -> Step:
        if not self._took("("):
            return Member(name.strip("`"))
        step = self._function(name)
        self._expect(")")
        return step

    def _function(self, name: str) -> Step:
        if name in _NO_ARGUMENT:
            return _NO_ARGUMENT[name]
        match name:
            case "where":
                criteria = self._criteria()
                return lambda items: _holding(criteria, items)
            case "exists":
                if self._at < len(self._tokens) and self._tokens[self._at].text == ")":
                    return lambda items: [bool(items)]
                criteria = self._criteria()
                return lambda items: [bool(_holding(criteria, items))]
            case "skip":
                return _slice(self._whole_number(), None)
            case "take":
                return _slice(None, self._whole_number())
            case "extension":
                criteria = (_equality((Member("url"),), (_constant(_unescaped(self._next("text").text)),), True),)
                return lambda items: _holding(criteria, Member("extension")(items))
            case "ofType" | "as":
                return _of_type(self._type_name())
            case _:
                raise UnknownPath(f"the function {name} is not known here")

    def _criteria(self) -> tuple[Step, ...]:
        self._in_criteria += 1
        steps = self._expression()
        self._in_criteria -= 1
        return steps

    def _type_name(self) -> str:
        name = self._next("name").text
        if name == "FHIR" and self._took("."):
            name = self._next("name").text
        return name

    def _whole_number(self) -> int:
        text = self._next("number").text
        if not text.isdigit() or len(text) > 9:
            raise UnknownPath("an index is a whole number")
        return int(text)

    def _took(self, text: str) -> bool:
        if self._at < len(self._tokens) and self._tokens[self._at].text == text:
            self._at += 1
            return True
        return False

    def _next(self, kind: str | None = None) -> _Token:
        if self._at >= len(self._tokens) or (kind and self._tokens[self._at].kind != kind):
            raise self._unknown()
        self._at += 1
        return self._tokens[self._at - 1]

    def _expect(self, text: str) -> None:
        if not self._took(text):
            raise self._unknown()

    def _unknown(self) -> UnknownPath:
        return UnknownPath(f"it cannot be read after `{''.join(map(_shown, self._tokens[: self._at]))}`")


def _constant(value: str | bool | Number) -> Step:
    return lambda items: [value]


def _tokens(expression: str) -> Sequence[_Token]:
    tokens: list[_Token] = []
    at = 0
    while at < len(expression.rstrip()):
        match = _TOKEN.match(expression, at)
        if match is None or match.lastgroup is None:
            raise UnknownPath(f"it cannot be read at character {at}")
        tokens.append(_Token(match.lastgroup, match[match.lastgroup]))
        at = match.end()
    return tokens


def _shown(token: _Token) -> str:
    match token.kind:
        case "text" | "date":
            return "'…'"
        case "number":
            return token.text if len(token.text) < 5 else "…"
        case _:
            return f" {token.text} " if token.text in {"and", "or", "as"} else token.text


def _unescaped(text: str) -> str:
    """https://hl7.org/fhirpath/N1/#string"""

    def character(match: re.Match[str]) -> str:
        escape = match[1]
        return chr(int(escape[1:], 16)) if len(escape) > 1 else _ESCAPES.get(escape, escape)

    return _ESCAPE.sub(character, text[1:-1])
