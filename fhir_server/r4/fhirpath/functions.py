"""The functions of FHIRPath that an expression may call: http://hl7.org/fhirpath/N1/#functions

Three tables: functions of the items alone, functions of values that are given to them, and those whose argument is an
expression that they apply to each item. `memberOf` and what else needs a terminology is not known here.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from decimal import Decimal, InvalidOperation
from functools import cache, partial
from typing import Final

from fhir_server.r4 import narrative
from fhir_server.r4.fhirpath.evaluation import (
    Compiled,
    Context,
    Undecided,
    compile_tree,
    number_of,
    one,
    shown,
    text_of,
    truth,
    union,
)
from fhir_server.r4.fhirpath.nodes import Node, all_children, children, definitions_in, descendants
from fhir_server.r4.fhirpath.syntax import Tree, UnknownExpression, type_name_of
from fhir_server.r4.fhirpath.values import Item, Items, is_a, key_of, plain, same

TRUTHS: Final[Mapping[str, bool]] = {
    **dict.fromkeys(("true", "t", "yes", "y", "1"), True),
    **dict.fromkeys(("false", "f", "no", "n", "0"), False),
}
"""http://hl7.org/fhirpath/N1/#toboolean-boolean"""
LONGEST_MATCHED: Final = 10_000
"""Characters of a text that a regular expression is tried on."""


def compile_call(name: str, arguments: Sequence[Tree]) -> Compiled:
    """The function of a call. Raises UnknownExpression for a name or a number of arguments that it does not know."""
    if name in ALONE and not arguments:
        alone = ALONE[name]
        if name in READING:
            return lambda context, focus: context.paid(alone(context, context.weighed(focus)))
        return lambda context, focus: context.paid(alone(context, focus))
    if name in OF_TYPES and len(arguments) == 1:
        return partial(_of_type, OF_TYPES[name], type_name_of(arguments[0]))
    inner = [compile_tree(argument) for argument in arguments]
    if name in APPLYING and len(inner) in APPLYING[name][0]:
        apply = APPLYING[name][1]
        return lambda context, focus: context.paid(apply(context, focus, inner))
    if name in WITH_VALUES and len(inner) in WITH_VALUES[name][0]:
        function = WITH_VALUES[name][1]
        return lambda context, focus: context.paid(
            function(context.weighed(focus), [context.weighed(_outside(context, one)) for one in inner])
        )
    raise UnknownExpression(f"{name}() with {len(arguments)} arguments is not known here")


def _outside(context: Context, argument: Compiled) -> Items:
    """The value of an argument: it is about what the whole expression is about, not about the items before the dot."""
    return argument(context, context.this or [])


def _inside(context: Context, item: Item, index: int, expression: Compiled) -> Items:
    """The value of an expression about one item, which is `$this` in it."""
    before = context.this, context.index
    context.this, context.index = [item], index
    try:
        return expression(context, [item])
    finally:
        context.this, context.index = before


def _each(context: Context, items: Items, expression: Compiled) -> list[Items]:
    return [_inside(context, item, index, expression) for index, item in enumerate(items)]


def _where(context: Context, items: Items, arguments: Sequence[Compiled]) -> Items:
    held = (truth(found) for found in _each(context, items, arguments[0]))
    return [item for item, holds in zip(items, held, strict=True) if holds]


def _select(context: Context, items: Items, arguments: Sequence[Compiled]) -> Items:
    return [item for found in _each(context, items, arguments[0]) for item in found]


def _all(context: Context, items: Items, arguments: Sequence[Compiled]) -> Items:
    return [all(truth(found) for found in _each(context, items, arguments[0]))]


def _exists(context: Context, items: Items, arguments: Sequence[Compiled]) -> Items:
    return [bool(_where(context, items, arguments))]


def _repeat(context: Context, items: Items, arguments: Sequence[Compiled]) -> Items:
    found: Items = []
    latest = items
    while latest := context.paid(_select(context, latest, arguments)):
        found.extend(latest)
    return found


def _iif(context: Context, items: Items, arguments: Sequence[Compiled]) -> Items:
    condition, then, *otherwise = arguments
    if truth(condition(context, items)):
        return then(context, items)
    return otherwise[0](context, items) if otherwise else []


def _trace(_context: Context, items: Items, _arguments: Sequence[Compiled]) -> Items:
    return items


def _of_type(keep: bool, type_name: str, context: Context, items: Items) -> Items:
    if keep:
        return [item for item in items if is_a(item, type_name)]
    item = one(items)
    return [] if item is None else context.paid([is_a(item, type_name)])


def _distinct(items: Items) -> Items:
    return union(items, [])


def _has_value(_context: Context, items: Items) -> Items:
    return [len(items) == 1 and not isinstance(value := plain(items[0]), dict) and value is not None]


def _children(_context: Context, items: Items) -> Items:
    return [child for item in items if isinstance(item, Node) for child in all_children(item)]


def _descendants(context: Context, items: Items) -> Items:
    found: Items = []
    for item in items:
        if isinstance(item, Node):
            for below in descendants(item):
                found.append(below)
                context.paid([])
    return found


def _resolve(context: Context, items: Items) -> Items:
    """What a reference leads to inside the same resource; nothing else is at hand."""
    root = context.root_resource
    contained = children(root, element) if (element := definitions_in(root).get("contained")) else []
    by_id = {f"#{one.body.get('id')}": one for one in contained}
    found: Items = []
    for item in items:
        value = plain(item)
        text = value.get("reference") if isinstance(value, dict) else value
        if isinstance(text, str) and text in by_id:
            found.append(by_id[text])
    return found


def _html_checks(_context: Context, items: Items) -> Items:
    text = text_of(items)
    return [] if text is None else [narrative.what_is_wrong(text) is None]


def _not(_context: Context, items: Items) -> Items:
    holds = truth(items)
    return [] if holds is None else [not holds]


def _to_number(integral: bool, _context: Context, items: Items) -> Items:
    item = one(items)
    value = None if item is None else plain(item)
    if isinstance(value, bool):
        return [Decimal(value)]
    with suppress(InvalidOperation):
        number = Decimal(value) if isinstance(value, str | Decimal) else None
        if number is not None and number.is_finite() and not (integral and number != number.to_integral()):
            return [number]
    return []


def _to_string(_context: Context, items: Items) -> Items:
    item = one(items)
    return [] if item is None else [shown(item)]


def _to_boolean(_context: Context, items: Items) -> Items:
    item = one(items)
    answer = TRUTHS.get("" if item is None else shown(item).lower())
    return [] if answer is None else [answer]


def _length(_context: Context, items: Items) -> Items:
    text = text_of(items)
    return [] if text is None else [Decimal(len(text))]


def _text(change: Callable[[str], str]) -> Callable[[Context, Items], Items]:
    def function(_context: Context, items: Items) -> Items:
        text = text_of(items)
        return [] if text is None else [change(text)]

    return function


def _truths(answer: bool, every: bool) -> Callable[[Context, Items], Items]:
    """`allTrue` and its three likes."""
    quantifier = all if every else any
    return lambda _context, items: [quantifier(truth([item]) is answer for item in items)]


def _single(_context: Context, items: Items) -> Items:
    if len(items) > 1:
        raise Undecided
    return items


ALONE: Final[Mapping[str, Callable[[Context, Items], Items]]] = {
    "empty": lambda _context, items: [not items],
    "exists": lambda _context, items: [bool(items)],
    "not": _not,
    "count": lambda _context, items: [Decimal(len(items))],
    "first": lambda _context, items: items[:1],
    "last": lambda _context, items: items[-1:],
    "tail": lambda _context, items: items[1:],
    "single": _single,
    "distinct": lambda _context, items: _distinct(items),
    "isDistinct": lambda _context, items: [len(set(map(key_of, items))) == len(items)],
    "hasValue": _has_value,
    "getValue": lambda context, items: items if _has_value(context, items) == [True] else [],
    "children": _children,
    "descendants": _descendants,
    "resolve": _resolve,
    "htmlChecks": _html_checks,
    "allTrue": _truths(True, True),
    "anyTrue": _truths(True, False),
    "allFalse": _truths(False, True),
    "anyFalse": _truths(False, False),
    "toInteger": partial(_to_number, True),
    "toDecimal": partial(_to_number, False),
    "toString": _to_string,
    "toBoolean": _to_boolean,
    "length": _length,
    "upper": _text(str.upper),
    "lower": _text(str.lower),
    "trim": _text(str.strip),
}
"""Functions of the items before the dot."""
READING: Final = frozenset({"distinct", "isDistinct", "lower", "trim", "upper"})
"""Those of them whose time grows with what is within an item."""

OF_TYPES: Final[Mapping[str, bool]] = {"ofType": True, "as": True, "is": False}
"""Functions that are given a type: whether they keep what is of it, or say whether it is."""

Apply = Callable[[Context, Items, Sequence[Compiled]], Items]
APPLYING: Final[Mapping[str, tuple[range, Apply]]] = {
    "where": (range(1, 2), _where),
    "select": (range(1, 2), _select),
    "all": (range(1, 2), _all),
    "exists": (range(1, 2), _exists),
    "repeat": (range(1, 2), _repeat),
    "iif": (range(2, 4), _iif),
    "trace": (range(1, 3), _trace),
}
"""Functions that are given expressions: how many, and what they do."""


def _on_text(function: Callable[[str, str], Item]) -> Callable[[Items, Sequence[Items]], Items]:
    def called(items: Items, arguments: Sequence[Items]) -> Items:
        text, argument = text_of(items), text_of(arguments[0])
        return [] if text is None or argument is None else [function(text, argument)]

    return called


@cache
def _pattern(text: str) -> re.Pattern[str]:
    try:
        return re.compile(text, re.DOTALL)
    except re.error as error:
        raise Undecided from error


def _matches(text: str, pattern: str) -> bool:
    """The whole of it, as HL7's own validator reads R4's rules."""
    return len(text) <= LONGEST_MATCHED and _pattern(pattern).fullmatch(text) is not None


def _replace_matches(items: Items, arguments: Sequence[Items]) -> Items:
    text, pattern, by = text_of(items), text_of(arguments[0]), text_of(arguments[1])
    if text is None or pattern is None or by is None:
        return []
    return [text if len(text) > LONGEST_MATCHED else _pattern(pattern).sub(lambda _match: by, text)]


def _replace(items: Items, arguments: Sequence[Items]) -> Items:
    text, old, new = text_of(items), text_of(arguments[0]), text_of(arguments[1])
    return [] if text is None or old is None or new is None else [text.replace(old, new)]


def _substring(items: Items, arguments: Sequence[Items]) -> Items:
    text, start = text_of(items), number_of(arguments[0])
    length = number_of(arguments[1]) if len(arguments) > 1 else None
    if text is None or start is None or not 0 <= start < len(text):
        return []
    return [text[int(start) : None if length is None else int(start + length)]]


def _extension(items: Items, arguments: Sequence[Items]) -> Items:
    url = text_of(arguments[0])
    nodes = [item for item in items if isinstance(item, Node) and "extension" in definitions_in(item)]
    found = (one for node in nodes for one in children(node, definitions_in(node)["extension"]))
    return [one for one in found if one.body.get("url") == url]


def _skip(items: Items, arguments: Sequence[Items]) -> Items:
    number = number_of(arguments[0])
    return [] if number is None else items[max(0, int(number)) :]


def _take(items: Items, arguments: Sequence[Items]) -> Items:
    number = number_of(arguments[0])
    return [] if number is None else items[: max(0, int(number))]


def _among(wanted: bool) -> Callable[[Items, Sequence[Items]], Items]:
    """`intersect` and `exclude`."""

    def called(items: Items, arguments: Sequence[Items]) -> Items:
        others = set(map(key_of, arguments[0]))
        found = [item for item in items if (key_of(item) in others) is wanted]
        return _distinct(found) if wanted else found

    return called


def _subset(items: Items, others: Items) -> Items:
    return [all(any(same(item, other) for other in others) for item in items)]


WITH_VALUES: Final[Mapping[str, tuple[range, Callable[[Items, Sequence[Items]], Items]]]] = {
    "startsWith": (range(1, 2), _on_text(str.startswith)),
    "endsWith": (range(1, 2), _on_text(str.endswith)),
    "contains": (range(1, 2), _on_text(lambda text, part: part in text)),
    "matches": (range(1, 2), _on_text(_matches)),
    "indexOf": (range(1, 2), _on_text(lambda text, part: Decimal(text.find(part)))),
    "replaceMatches": (range(2, 3), _replace_matches),
    "replace": (range(2, 3), _replace),
    "substring": (range(1, 3), _substring),
    "extension": (range(1, 2), _extension),
    "skip": (range(1, 2), _skip),
    "take": (range(1, 2), _take),
    "intersect": (range(1, 2), _among(True)),
    "exclude": (range(1, 2), _among(False)),
    "union": (range(1, 2), lambda items, arguments: union(items, arguments[0])),
    "combine": (range(1, 2), lambda items, arguments: [*items, *arguments[0]]),
    "subsetOf": (range(1, 2), lambda items, arguments: _subset(items, arguments[0])),
    "supersetOf": (range(1, 2), lambda items, arguments: _subset(arguments[0], items)),
}
"""Functions that are given values: how many, and what they do."""
