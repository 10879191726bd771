"""Criteria as conditions of SQL on a row of `resource`.

https://hl7.org/fhir/R4/search.html - docs/adr/0003. A condition is a question to one index table, by the internal key.
"""

import contextlib
import math
import time
from collections.abc import Generator, Iterable, Sequence
from decimal import Decimal
from typing import Final

from fhir_server.r4.granular import alternatives_of
from fhir_server.r4.resource_types import TYPE_NUMBER
from fhir_server.r4.search_criteria import (
    AllOf,
    AnyOf,
    Chained,
    Comparison,
    Criterion,
    DateIs,
    IdIs,
    ListedIn,
    Missing,
    Near,
    Not,
    NumberComparison,
    NumberIs,
    QuantityComparison,
    QuantityIs,
    ReferenceHas,
    ReferenceIs,
    Referred,
    SearchQuery,
    StretchIs,
    StringIs,
    TextHas,
    Together,
    TokenIn,
    TokenIs,
    TokenOfType,
    TokenText,
    TokenValue,
    UpdatedIs,
    UriIs,
)
from fhir_server.r4.search_parameters import parameters_of
from fhir_server.r4.search_query import approximate
from fhir_server.sight import Bound
from fhir_server.store import search_index as index
from fhir_server.store.search_index import folded, folded_whole, param_key
from fhir_server.store.statement import Statement

DATES: Final = {
    # prefix: (condition on the columns low and high of the resource); R4 3.1.1.4.6
    # (eq, ge and le say also what follows from them: an index is read between two values of one column, not from one of
    # them to its end, and the planner knows how few rows stand there)
    "eq": "({low} >= %s and {low} < %s and {high} > %s and {high} <= %s)",
    "ne": "not ({low} >= %s and {high} <= %s)",
    "gt": "({high} > %s)",
    "lt": "({low} < %s)",
    "ge": "({high} > %s and ({high} > %s or ({low} >= %s and {high} <= %s)))",
    "le": "({low} < %s and ({low} < %s or ({low} >= %s and {high} <= %s)))",
    "sa": "({low} >= %s)",
    "eb": "({high} <= %s)",
    "ap": "({low} < %s and {high} > %s)",
}
NUMBERS: Final = {
    # the same for numbers, whose precision counts for eq, ne and ap only; both ends are in the range
    "eq": "(x.low >= %s and x.low < %s and x.high >= %s and x.high < %s)",
    "ne": "not (x.low >= %s and x.high < %s)",
    "gt": "(x.high > %s)",
    "lt": "(x.low < %s)",
    "ge": "(x.high >= %s)",
    "le": "(x.low <= %s)",
    "sa": "(x.low > %s)",
    "eb": "(x.high < %s)",
    "ap": "(x.high >= %s and x.low <= %s)",
}
OF_FEW: Final = (ReferenceIs, ReferenceHas, IdIs, ListedIn)
"""Criteria that as a rule leave few hits, such as the documents of one worker."""
EARTH: Final = 6_371_008.8
"""Its mean radius, in metres."""
DEGREE: Final = math.pi * EARTH / 180


OfIndex = (
    TokenIs | TokenText | TokenOfType | ReferenceIs | ReferenceHas | DateIs | StringIs | UriIs | NumberIs | QuantityIs
    | Together | Near
)  # fmt: skip
"""Criteria that one index table answers, by the internal key."""


def keys(statement: Statement, resource_type: str, criterion: OfIndex) -> None:
    """The internal keys that meet a criterion of the index, as a query of the column `rid`; some may come twice."""
    condition(statement, resource_type, criterion, _KEYS)


_KEYS: Final = ""
"""In the place of a row: no row is asked, all are wanted."""


@contextlib.contextmanager
def _asked_of(statement: Statement, row: str, table: str) -> Generator[None]:
    """Inside it, a condition on the rows `x` of an index table; outside, whether the row has one of these.

    Row by row, it is a question that the planner cannot turn around.
    """
    if row == _KEYS:
        statement.add(f"select x.rid from {table} x where (")
        yield
        statement.add(")")
        statement.if_counted("x")
    elif statement.row_by_row:
        statement.add(f"coalesce((select true from {table} x where x.rid = {row}.rid and (")
        yield
        statement.add(")")
        statement.if_counted("x")
        statement.add("limit 1), false)")
    else:
        statement.add(f"{row}.rid in (select x.rid from {table} x where (")
        yield
        statement.add(")")
        statement.if_counted("x")
        statement.add(")")


def where(statement: Statement, query: SearchQuery) -> None:
    """The conditions of a query on the row `r`, and that all it leads to is in sight."""
    statement.sight = query.sight
    _of_type(statement, query.resource_type, "r")
    for criterion in query.criteria:
        statement.add("and")
        condition(statement, query.resource_type, criterion, "r")


def _of_type(statement: Statement, resource_type: str, row: str) -> None:
    statement.add(f"{row}.type = %s and not {row}.deleted", TYPE_NUMBER[resource_type])
    statement.if_counted(row)
    statement.if_in_sight(row)
    if bound := statement.sight.bounds.get(resource_type):
        statement.add("and")
        within_bound(statement, resource_type, bound, row)


def within_bound(statement: Statement, resource_type: str, bound: Bound, row: str) -> None:
    """That the row, of this type and not deleted, meets what granular scopes ask. The same as `bounds.meets`."""
    for number, alternatives in enumerate(alternatives_of(resource_type, bound)):
        statement.add("and (false" if number else "(false")
        for criteria in alternatives:
            statement.add("or")
            _joined(statement, resource_type, criteria, row, "and")
        statement.add(")")


def condition(statement: Statement, resource_type: str, criterion: Criterion, row: str) -> None:
    """One criterion on the row of that name."""
    match criterion:
        case AllOf(criteria):
            _joined(statement, resource_type, criteria, row, "and")
        case AnyOf(criteria) if hashes := _hashes_of(resource_type, criteria):
            _has_hash(statement, row, hashes)
        case AnyOf(criteria):
            _joined(statement, resource_type, criteria, row, "or")
        case Not(inner):
            statement.add("not")
            _joined(statement, resource_type, [inner], row, "and")
        case Chained():
            _chained(statement, criterion, row, param_key(TYPE_NUMBER[resource_type], criterion.parameter))
        case Referred():
            _referred(statement, criterion, row)
        case ListedIn(list_id):
            _listed(statement, list_id, row)
        case IdIs(values):
            statement.add(f"{row}.id = any(%s)", list(values))
        case UpdatedIs(comparisons):
            statement.add("(")
            _any_date(statement, comparisons, f"{row}.updated", f"{row}.updated", as_time=True)
            statement.add(")")
        case TextHas(part, words):
            with _asked_of(statement, row, "narrative" if part == "text" else "content"):
                statement.add("x.words @@ websearch_to_tsquery('simple', %s)", folded_whole(words))
        case TokenIn():
            raise AssertionError("value sets are resolved before a statement is made")
        case _:
            _of_parameter(statement, criterion, row, param_key(TYPE_NUMBER[resource_type], criterion.parameter))


def _of_parameter(statement: Statement, criterion: OfIndex | Missing, row: str, param: int) -> None:
    match criterion:
        case TokenIs(_, _, negated) as by_hash:
            statement.add("not" if negated else "")
            _has_hash(statement, row, hashes_of(param, by_hash))
        case TokenOfType() | ReferenceIs() | ReferenceHas() | StringIs(_, _, "exact") | UriIs(_, _, False) as by_hash:
            _has_hash(statement, row, hashes_of(param, by_hash))
        case StringIs(_, values, mode):
            _has_word(statement, row, param, mode, [folded(value) for value in values])
        case TokenText(_, values):
            _has_word(statement, row, index.shown_key(param), "starts", [folded(value) for value in values])
        case UriIs(_, values):
            _has_word(statement, row, index.shown_key(param), "starts", values)
        case DateIs(_, comparisons):
            with _asked_of(statement, row, "period"):
                statement.add("x.param = %s and (", param)
                _any_date(statement, comparisons, "x.low", "x.high")
                statement.add(")")
        case NumberIs(_, comparisons):
            _has_measure(statement, row, [(index.number_of(param), one) for one in comparisons])
        case QuantityIs(_, comparisons):
            _has_measure(statement, row, [_measured(param, one) for one in comparisons])
        case Together():
            _together(statement, row, criterion, index.beside_token(param, criterion.token))
        case Near():
            _near(statement, row, criterion)
        case Missing(parameter, missing):
            statement.add("not" if missing else "")
            statement.add(f"coalesce({row}.present @> array[%s]::smallint[], false)", parameter.number)


ByHash = TokenIs | TokenOfType | ReferenceIs | ReferenceHas | StringIs | UriIs


def hashes_of(param: int, criterion: ByHash) -> list[int]:
    """Of a criterion on equality the hashes of which a resource must have one (negated: none)."""
    match criterion:
        case TokenIs(_, values):
            return token_hashes(param, values)
        case TokenOfType(_, values):
            return [index.token_of_type(param, *value) for value in values]
        case ReferenceIs(_, targets):
            return [index.reference_to(param, target) for target in targets]
        case ReferenceHas(_, identifiers):
            return [index.reference_by_identifier(param, s, v) for s, v in identifiers]
        case StringIs(_, values):
            return [index.text_exactly(param, value) for value in values]
        case UriIs(_, values):
            return [index.uri_is(param, value) for value in values]


def _hashes_of(resource_type: str, criteria: Iterable[Criterion]) -> list[int]:
    """The hashes of several references, such as those into a compartment; none where anything else is among them."""
    hashes: list[int] = []
    for one in criteria:
        if not isinstance(one, ReferenceIs):
            return []
        param = param_key(TYPE_NUMBER[resource_type], one.parameter)
        hashes += [index.reference_to(param, target) for target in one.targets]
    return hashes


def _joined(statement: Statement, resource_type: str, criteria: Iterable[Criterion], row: str, word: str) -> None:
    for number, criterion in enumerate(criteria):
        statement.add(word if number else "(")
        condition(statement, resource_type, criterion, row)
    statement.add(")")


def _has_hash(statement: Statement, row: str, hashes: Sequence[int]) -> None:
    with _asked_of(statement, row, "token"):
        if len(hashes) == 1:
            statement.add("x.h = %s", hashes[0])
        else:
            statement.add("x.h = any(%s)", list(hashes))


def token_hashes(param: int, values: Iterable[TokenValue]) -> list[int]:
    """The hash of each token as a search may ask for it."""
    return [_token_hash(param, *value) for value in values]


def _token_hash(param: int, system: str | None, code: str | None) -> int:
    if code is None:
        return index.token_of_system(param, system or "")
    return index.token_any_system(param, code) if system is None else index.token_with_system(param, system, code)


def _has_word(statement: Statement, row: str, param: int, mode: str, words: Iterable[str]) -> None:
    with _asked_of(statement, row, "word"):
        for number, word in enumerate(words):
            statement.add("or" if number else "")
            match mode:
                case "equals":
                    statement.add("(x.param = %s and x.folded = %s)", param, word)
                case "contains":
                    statement.add("(x.param = %s and x.folded like %s)", param, f"%{_as_pattern(word)}%")
                case "ends":
                    statement.add("(x.param = %s and x.folded like %s)", param, f"%{_as_pattern(word)}")
                case _:
                    end = word + "\U0010ffff"
                    statement.add("(x.param = %s and x.folded >= %s and x.folded < %s)", param, word, end)


def _as_pattern(word: str) -> str:
    return word.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")


def _any_date(
    statement: Statement, comparisons: Iterable[Comparison], low: str, high: str, *, as_time: bool = False
) -> None:
    for number, (prefix, start, end) in enumerate(comparisons):
        values = _bounds(prefix, start, end)
        text = DATES[prefix].format(low=low, high=high)
        if as_time:  # `updated` lasts one millisecond: it ends after X exactly if it does not start before X
            text = text.replace(f"{high} > %s", f"{low} >= %s").replace(f"{high} <= %s", f"{low} < %s")
            text = text.replace("%s", "to_timestamp(%s::numeric / 1000000)")
        statement.add("or " + text if number else text, *values)


def _bounds(prefix: str, low: int, high: int) -> tuple[int, ...]:
    match prefix:
        case "eq":
            return low, high, low, high
        case "gt" | "sa":
            return (high,)
        case "lt" | "eb":
            return (low,)
        case "ge":
            return low, high, low, high
        case "le":
            return high, low, low, high
        case "ap":
            low, high = approximate(low, high, time.time_ns() // 1000)
            return high, low
        case _:
            return low, high


def _has_measure(statement: Statement, row: str, comparisons: Iterable[tuple[int, NumberComparison]]) -> None:
    with _asked_of(statement, row, "measure"):
        for number, (key, one) in enumerate(comparisons):
            statement.add("or" if number else "")
            statement.add(f"(x.h = %s and {NUMBERS[one.prefix]})", key, *_ends(one))


def _ends(one: NumberComparison) -> tuple[Decimal, ...]:
    match one.prefix:
        case "eq":
            return one.low, one.high, one.low, one.high
        case "ne":
            return one.low, one.high
        case "ap":  # R4 proposes 10 %, and never less than the digits stand for
            margin = abs(one.value) / 10
            return min(one.low, one.value - margin), max(one.high, one.value + margin)
        case _:
            return (one.value,)


def _measured(param: int, one: QuantityComparison) -> tuple[int, NumberComparison]:
    """Where a quantity is looked for, and with which numbers: in base units where its unit is one of UCUM."""
    if one.code is None:
        return index.number_of(param), one.number
    if one.system is None:
        return index.in_unit(param, one.code), one.number
    asked = one.number
    converted = index.in_base_units(one.system, one.code, asked.low, asked.high, asked.value)
    if converted is None:
        return index.in_system(param, one.system, one.code), asked
    dimension, *numbers = converted
    return index.in_dimension(param, dimension), NumberComparison(asked.prefix, *numbers)


def _together(statement: Statement, row: str, criterion: Together, key: int) -> None:
    match criterion.value:
        case TokenIs(_, values):
            _has_hash(statement, row, token_hashes(key, values))
        case ReferenceIs(_, targets):
            _has_hash(statement, row, [index.reference_to(key, target) for target in targets])
        case QuantityIs(_, comparisons):
            _has_measure(statement, row, [_measured(key, one) for one in comparisons])
        case StretchIs(start, end):
            first = NUMBERS[start.prefix].replace("x.high", "x.low")
            last = NUMBERS[end.prefix].replace("x.low", "x.high")
            with _asked_of(statement, row, "measure"):
                statement.add(f"x.h = %s and {first} and {last}", key, *_ends(start), *_ends(end))


def _near(statement: Statement, row: str, one: Near) -> None:
    """Within a band of latitude, which has an index, and there by the great circle."""
    band = one.metres / DEGREE + 1e-9
    with _asked_of(statement, row, "place"):
        statement.add(
            "x.latitude between %s and %s"
            " and 2 * %s * asin(sqrt(least(1, power(sin(radians(x.latitude - %s) / 2), 2) + cos(radians(%s))"
            " * cos(radians(x.latitude)) * power(sin(radians(x.longitude - %s) / 2), 2)))) <= %s",
            one.latitude - band,
            one.latitude + band,
            EARTH,
            one.latitude,
            one.latitude,
            one.longitude,
            one.metres,
        )


def _chained(statement: Statement, criterion: Chained, row: str, param: int) -> None:
    """Few targets: those first, then what refers to them. Many: row by row, whether what it refers to is one."""
    key = index.reference_key(param)
    statement.add("(" if criterion.many else f"{row}.rid in (select t.rid from token t where t.h = any(array(")
    for number, (target_type, inner) in enumerate(criterion.branches):
        target = statement.alias()
        if criterion.many:
            statement.add("or" if number else "")
            statement.add(
                f"exists (select from unnest({row}.refs) u(h) join resource {target}"
                f" on {target}.own_hash = u.h # %s where",
                key,
            )
        else:
            statement.add("union all" if number else "")
            statement.add(f"select {target}.own_hash # %s from resource {target} where", key)
        _of_type(statement, target_type, target)
        statement.add("and")
        condition(statement, target_type, inner, target)
        statement.add(")" if criterion.many else "")
    if not criterion.many:
        statement.add("))")
        statement.if_counted("t")
    statement.add(")")


def _referred(statement: Statement, criterion: Referred, row: str) -> None:
    """Few sources: what they refer to. Many: row by row, whether one refers to it."""
    key = index.reference_key(param_key(TYPE_NUMBER[criterion.source], criterion.parameter))
    source = statement.alias()
    if criterion.many:
        statement.add(
            f"exists (select from token t join resource {source} on {source}.rid = t.rid"
            f" where t.h = {row}.own_hash # %s",
            key,
        )
        statement.if_counted("t")
        statement.add("and")
    else:
        statement.add(
            f"{row}.own_hash = any(array(select u.h # %s from resource {source}, unnest({source}.refs) u(h) where", key
        )
    _of_type(statement, criterion.source, source)
    statement.add("and")
    condition(statement, criterion.source, criterion.criterion, source)
    statement.add(")" if criterion.many else "))")


def _listed(statement: Statement, list_id: str, row: str) -> None:
    item = index.reference_key(param_key(TYPE_NUMBER["List"], parameters_of("List")["item"]))
    one = statement.alias()
    statement.add(
        f"{row}.own_hash = any(array(select u.h # %s from resource {one}, unnest({one}.refs) u(h) where", item
    )
    _of_type(statement, "List", one)
    statement.add(f"and {one}.id = %s))", list_id)
