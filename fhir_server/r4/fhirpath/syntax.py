"""FHIRPath as text and as a tree: http://hl7.org/fhirpath/N1/#formal-specifications

Everything of the grammar but quantities with calendar units, which no definition of R4 writes.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Final

from fhir_server.r4.fhirpath.values import Moment

LONGEST: Final = 5000
"""Characters of an expression."""
DEEPEST: Final = 40
"""Expressions within expressions."""


class UnknownExpression(ValueError):
    """The expression cannot be read, or calls what is not known here."""


@dataclass(frozen=True, slots=True)
class Literal:
    """A constant; None is `{}`, the empty collection."""

    value: str | bool | Decimal | Moment | None


@dataclass(frozen=True, slots=True)
class Variable:
    """`$this`, `$index`, or `%resource` with its sign."""

    name: str


@dataclass(frozen=True, slots=True)
class Member:
    """The children of one name of what stands before it."""

    name: str


@dataclass(frozen=True, slots=True)
class Call:
    """A function of what stands before it."""

    name: str
    arguments: "tuple[Tree, ...]"


@dataclass(frozen=True, slots=True)
class Dot:
    """A step from what `source` gives."""

    source: "Tree"
    step: "Tree"


@dataclass(frozen=True, slots=True)
class Unary:
    """A sign before a number."""

    operator: str
    operand: "Tree"


@dataclass(frozen=True, slots=True)
class Binary:
    """Two operands; `[]` is an indexer."""

    operator: str
    left: "Tree"
    right: "Tree"


@dataclass(frozen=True, slots=True)
class TypeIs:
    """`is` and `as`."""

    operator: str
    operand: "Tree"
    type: str


Tree = Literal | Variable | Member | Call | Dot | Unary | Binary | TypeIs

LEVELS: Final[Sequence[frozenset[str]]] = (
    frozenset({"implies"}),
    frozenset({"or", "xor"}),
    frozenset({"and"}),
    frozenset({"in", "contains"}),
    frozenset({"=", "~", "!=", "!~"}),
    frozenset({">", "<", ">=", "<="}),
    frozenset({"|"}),
    frozenset({"is", "as"}),
    frozenset({"+", "-", "&"}),
    frozenset({"*", "/", "div", "mod"}),
)
"""Operators from the loosest to the tightest: http://hl7.org/fhirpath/N1/#operator-precedence"""

_TOKEN: Final = re.compile(
    r"""\s*(?:
        (?P<name>[A-Za-z_][A-Za-z0-9_]*)
      | (?P<quoted>`(?:[^`\\]|\\.)+`)
      | (?P<variable>\$(?:this|index)\b|%[A-Za-z_][A-Za-z0-9_]*|%'[^']+'|%`[^`]+`)
      | (?P<text>'(?:[^'\\]|\\[^u]|\\u[0-9A-Fa-f]{4})*')
      | (?P<moment>@(?:T[0-9:.]+|[0-9]{4}(?:-[0-9]{2}(?:-[0-9]{2})?)?(?:T(?:[0-9:.]+(?:Z|[+-][0-9]{2}:[0-9]{2})?)?)?))
      | (?P<number>[0-9]+(?:\.[0-9]+)?)
      | (?P<symbol>!=|!~|<=|>=|[.,()\[\]{}=~<>|+\-&*/])
    )""",
    re.VERBOSE,
)
_ESCAPE: Final = re.compile(r"\\(u[0-9A-Fa-f]{4}|.)", re.DOTALL)
_ESCAPES: Final[Mapping[str, str]] = {"n": "\n", "r": "\r", "t": "\t", "f": "\f"}
_CONSTANTS: Final[Mapping[str, bool]] = {"true": True, "false": False}


def parse(expression: str) -> Tree:
    """The tree of an expression. Raises UnknownExpression."""
    if len(expression) > LONGEST:
        raise UnknownExpression(f"longer than {LONGEST} characters")
    return _Reader(expression).read()


@dataclass(frozen=True, slots=True)
class _Token:
    kind: str
    text: str


class _Reader:
    """A reader by recursive descent."""

    def __init__(self, expression: str) -> None:
        self._tokens = _tokens(expression)
        self._at = 0
        self._depth = 0

    def read(self) -> Tree:
        tree = self._expression()
        if self._at < len(self._tokens):
            raise self._unknown()
        return tree

    def _expression(self) -> Tree:
        self._depth += 1
        if self._depth > DEEPEST:
            raise UnknownExpression(f"more than {DEEPEST} expressions within expressions")
        tree = self._level(0)
        self._depth -= 1
        return tree

    def _level(self, number: int) -> Tree:
        if number == len(LEVELS):
            return self._signed()
        tree = self._level(number + 1)
        while (operator := self._took_one_of(LEVELS[number])) is not None:
            if operator in {"is", "as"}:
                tree = TypeIs(operator, tree, self._type_name())
            else:
                tree = Binary(operator, tree, self._level(number + 1))
        return tree

    def _signed(self) -> Tree:
        operator = self._took_one_of({"+", "-"})
        return self._chain() if operator is None else Unary(operator, self._signed())

    def _chain(self) -> Tree:
        tree = self._term()
        while True:
            if self._took("."):
                tree = Dot(tree, self._step())
            elif self._took("["):
                tree = Binary("[]", tree, self._expression())
                self._expect("]")
            else:
                return tree

    def _term(self) -> Tree:
        if self._took("("):
            tree = self._expression()
            self._expect(")")
            return tree
        if self._took("{"):
            self._expect("}")
            return Literal(None)
        token = self._peek()
        match token.kind:
            case "text":
                literal = unescaped(token.text)
            case "number":
                literal = Decimal(token.text)
            case "moment":
                literal = Moment(token.text.removeprefix("@").strip("T"))
            case "name" if token.text in _CONSTANTS:
                literal = _CONSTANTS[token.text]
            case "variable":
                self._at += 1
                return Variable(token.text.replace("'", "").replace("`", ""))
            case _:
                return self._step()
        self._at += 1
        return Literal(literal)

    def _step(self) -> Tree:
        """A member or a call: also by a name that is an operator elsewhere, as `contains` and `as`."""
        token = self._peek()
        if token.kind not in {"name", "quoted"}:
            raise self._unknown()
        self._at += 1
        if token.kind == "quoted":
            return Member(unescaped(token.text))
        if not self._took("("):
            return Member(token.text)
        arguments: list[Tree] = []
        if not self._took(")"):
            arguments.append(self._expression())
            while self._took(","):
                arguments.append(self._expression())
            self._expect(")")
        return Call(token.text, tuple(arguments))

    def _type_name(self) -> str:
        tree = self._step()
        while self._took("."):
            tree = Dot(tree, self._step())
        return type_name_of(tree)

    def _peek(self) -> _Token:
        if self._at >= len(self._tokens):
            raise self._unknown()
        return self._tokens[self._at]

    def _took(self, text: str) -> bool:
        return self._took_one_of((text,)) is not None

    def _took_one_of(self, texts: Sequence[str] | set[str] | frozenset[str]) -> str | None:
        if self._at < len(self._tokens) and self._tokens[self._at].text in texts:
            self._at += 1
            return self._tokens[self._at - 1].text
        return None

    def _expect(self, text: str) -> None:
        if not self._took(text):
            raise self._unknown()

    def _unknown(self) -> UnknownExpression:
        return UnknownExpression(f"cannot be read after {self._at} of its {len(self._tokens)} words")


def type_name_of(tree: Tree) -> str:
    """A type specifier: `Quantity`, `FHIR.Quantity`, `System.Boolean`. Raises UnknownExpression."""
    match tree:
        case Member(name):
            return name
        case Dot(Member("FHIR"), Member(name)):
            return name
        case Dot(Member("System"), Member(name)):
            return f"System.{name}"
        case _:
            raise UnknownExpression("a type is written by its name")


def unescaped(text: str) -> str:
    """What stands between quotes: http://hl7.org/fhirpath/N1/#string"""

    def character(match: re.Match[str]) -> str:
        escape = match[1]
        return chr(int(escape[1:], 16)) if len(escape) > 1 else _ESCAPES.get(escape, escape)

    return _ESCAPE.sub(character, text[1:-1])


def _tokens(expression: str) -> Sequence[_Token]:
    tokens: list[_Token] = []
    at, end = 0, len(expression.rstrip())
    while at < end:
        match = _TOKEN.match(expression, at)
        if match is None or match.lastgroup is None:
            raise UnknownExpression(f"cannot be read at character {at}")
        tokens.append(_Token(match.lastgroup, match[match.lastgroup]))
        at = match.end()
    return tokens
