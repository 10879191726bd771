"""Search on one resource type: criteria become one SQL statement, and its page is rechecked on the documents.

https://hl7.org/fhir/R4/search.html - docs/adr/0003. Every value travels as a parameter; the text of a
statement is made only of the constants below.
"""

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, NamedTuple

import orjson

from fhir_server.outcomes import TooCostly
from fhir_server.r4.index_values import Text, extract
from fhir_server.r4.resource_types import TYPE_NUMBER
from fhir_server.r4.search_query import (
    Chained,
    Comparison,
    Criterion,
    DateIs,
    IdIs,
    ReferenceHas,
    ReferenceIs,
    SearchQuery,
    StringIs,
    TokenIs,
    UpdatedIs,
    UriIs,
    approximate,
)
from fhir_server.store.database import Connection, Database
from fhir_server.store.search_index import (
    folded,
    hashed,
    param_key,
    reference_by_identifier,
    reference_to,
    token_any_system,
    token_with_system,
    uri_is,
)

COMPARISONS = {
    # prefix: (condition on the columns low and high of the resource); R4 3.1.1.4.6
    "eq": "({low} >= %s and {high} <= %s)",
    "ne": "not ({low} >= %s and {high} <= %s)",
    "gt": "({high} > %s)",
    "lt": "({low} < %s)",
    "ge": "({high} > %s or ({low} >= %s and {high} <= %s))",
    "le": "({low} < %s or ({low} >= %s and {high} <= %s))",
    "sa": "({low} >= %s)",
    "eb": "({high} <= %s)",
    "ap": "({low} < %s and {high} > %s)",
}
LAST = 2**62
BOOLEANS = frozenset({"true", "false"})  # need not stand in the document: a date of death is `deceased=true`
MOST_CHAINED = 1000


class Place(NamedTuple):
    """Where a page ended: the sort value and the internal key of its last row."""

    value: int | None
    rid: int


class Found(NamedTuple):
    """One hit."""

    rid: int
    id: str
    version: int
    updated: datetime
    doc: bytes
    sort_value: int | None


@dataclass(frozen=True, slots=True)
class Page:
    """Hits in order, where the next page starts (None: this is the last), and the total where it is known."""

    hits: tuple[Found, ...]
    next: Place | None
    total: int | None


class _Statement:
    """SQL text with its parameters, grown together so that they cannot fall apart."""

    def __init__(self) -> None:
        self.text: list[str] = []
        self.values: list[Any] = []

    def add(self, text: str, *values: Any) -> None:
        self.text.append(text)
        self.values.extend(values)

    def __str__(self) -> str:
        return " ".join(self.text)


class Search:
    """Searches over one database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def page(self, query: SearchQuery, after: Place | None) -> Page:
        """One page of hits. Raises Unavailable when the statement takes longer than allowed."""
        async with self._database.connection("generic" if _is_by_one_hash(query) else "custom") as connection:
            query = await _unchained(connection, query)
            if query.only_count or query.count == 0:
                return Page((), None, await self._count(connection, query))
            statement = _select(query, after)
            cursor = await connection.execute(str(statement).encode(), statement.values, binary=True)
            rows = [Found(*row) for row in await cursor.fetchall()]
            more = len(rows) > query.count
            rows = rows[: query.count]
            place = Place(rows[-1].sort_value, rows[-1].rid) if more else None
            holds = _recheck(query.criteria)
            hits = [row for row in rows if holds(row.doc)]
            total: int | None = None
            if query.total == "accurate":
                total = await self._count(connection, query)
            elif after is None and not more:
                total = len(hits)
        return Page(tuple(hits), place, total)

    async def _count(self, connection: Connection, query: SearchQuery) -> int:
        statement = _Statement()
        statement.add("select count(*) from resource r where")
        _where(statement, query)
        row = await (await connection.execute(str(statement).encode(), statement.values)).fetchone()
        return row[0] if row else 0


async def find_ids(connection: Connection, query: SearchQuery, limit: int) -> list[str]:
    """Ids of at most `limit` matches, inside a transaction of the writer (conditional interactions)."""
    await connection.execute(b"set local plan_cache_mode = force_custom_plan")
    return await _ids(connection, query, limit)


async def _ids(connection: Connection, query: SearchQuery, limit: int) -> list[str]:
    query = await _unchained(connection, query)
    statement = _Statement()
    statement.add("select r.id, r.doc from resource r where")
    _where(statement, query)
    statement.add("order by r.rid limit %s", limit)
    rows = await (await connection.execute(str(statement).encode(), statement.values)).fetchall()
    holds = _recheck(query.criteria)
    return [resource_id for resource_id, doc in rows if holds(doc)]


def _is_by_one_hash(query: SearchQuery) -> bool:
    """True for the newest resources with one value, such as the documents of a worker: any value has the same plan."""
    if len(query.criteria) != 1 or query.sort is not None or query.only_count or query.total == "accurate":
        return False
    match query.criteria[0]:
        case TokenIs(_, values, False) | ReferenceIs(_, values) | ReferenceHas(_, values) | UriIs(_, values):
            return len(values) == 1
        case _:
            return False


def condition_lock(resource_type: str, pairs: Sequence[tuple[str, str]]) -> int:
    """The advisory lock of a condition: the same criteria in any order are the same lock."""
    return hashed(TYPE_NUMBER[resource_type], "condition", *(part for pair in sorted(pairs) for part in pair))


def _select(query: SearchQuery, after: Place | None) -> _Statement:
    statement = _Statement()
    sort = query.sort
    if sort is None:
        statement.add("select r.rid, r.id, r.version, r.updated, r.doc, null::bigint from resource r where")
        _where(statement, query)
        if after:
            statement.add("and r.rid < %s", after.rid)
        statement.add("order by r.rid desc limit %s", query.count + 1)
        return statement
    direction, beyond = ("desc", "<") if sort.descending else ("asc", ">")
    if sort.parameter is None:
        value = "(extract(epoch from r.updated) * 1000000)::bigint"
        statement.add(f"select r.rid, r.id, r.version, r.updated, r.doc, {value} from resource r where")
        _where(statement, query)
        if after:
            statement.add(
                f"and (r.updated, r.rid) {beyond} (to_timestamp(%s::numeric / 1000000), %s)", after.value, after.rid
            )
        statement.add(f"order by r.updated {direction}, r.rid {direction} limit %s", query.count + 1)
        return statement
    pick = "max" if sort.descending else "min"
    nothing = -LAST if sort.descending else LAST
    column = "high" if sort.descending else "low"
    statement.add(
        "select r.rid, r.id, r.version, r.updated, r.doc, s.value from resource r cross join lateral ("
        f"select coalesce({pick}(p.{column}), {nothing}) as value from period p where p.rid = r.rid and p.param = %s"
        ") s where",
        param_key(TYPE_NUMBER[query.resource_type], sort.parameter),
    )
    _where(statement, query)
    if after:
        statement.add(f"and (s.value, r.rid) {beyond} (%s, %s)", after.value, after.rid)
    statement.add(f"order by s.value {direction}, r.rid {direction} limit %s", query.count + 1)
    return statement


def _where(statement: _Statement, query: SearchQuery) -> None:
    statement.add("r.type = %s and not r.deleted", TYPE_NUMBER[query.resource_type])
    for criterion in query.criteria:
        statement.add("and")
        _condition(statement, TYPE_NUMBER[query.resource_type], criterion, "r")


def _condition(statement: _Statement, type_number: int, criterion: Criterion, row: str) -> None:
    match criterion:
        case TokenIs(parameter, values, negated):
            if negated:
                statement.add("not")
            _has_hash(statement, row, _token_hashes(param_key(type_number, parameter), values))
        case ReferenceIs(parameter, targets):
            key = param_key(type_number, parameter)
            _has_hash(statement, row, [reference_to(key, target) for target in targets])
        case ReferenceHas(parameter, identifiers):
            key = param_key(type_number, parameter)
            _has_hash(statement, row, [reference_by_identifier(key, s, v) for s, v in identifiers])
        case UriIs(parameter, values):
            _has_hash(statement, row, [uri_is(param_key(type_number, parameter), value) for value in values])
        case DateIs(parameter, comparisons):
            statement.add(
                f"{row}.rid in (select p.rid from period p where p.param = %s and (",
                param_key(type_number, parameter),
            )
            _any_comparison(statement, comparisons, "p.low", "p.high")
            statement.add("))")
        case StringIs(parameter, values, mode):
            statement.add(f"{row}.rid in (select w.rid from word w where")
            _any_word(statement, param_key(type_number, parameter), values, mode)
            statement.add(")")
        case IdIs(values):
            statement.add(f"{row}.id = any(%s)", list(values))
        case UpdatedIs(comparisons):
            statement.add("(")
            _any_comparison(statement, comparisons, f"{row}.updated", f"{row}.updated", as_time=True)
            statement.add(")")
        case Chained():
            raise AssertionError("chains are resolved before a statement is made")


def _has_hash(statement: _Statement, row: str, hashes: Sequence[int]) -> None:
    if len(hashes) == 1:
        statement.add(f"{row}.rid in (select t.rid from token t where t.h = %s)", hashes[0])
    else:
        statement.add(f"{row}.rid in (select t.rid from token t where t.h = any(%s))", list(hashes))


def _token_hashes(param: int, values: Iterable[tuple[str | None, str]]) -> list[int]:
    return [
        token_any_system(param, code) if system is None else token_with_system(param, system, code)
        for system, code in values
    ]


def _any_comparison(
    statement: _Statement, comparisons: Iterable[Comparison], low: str, high: str, *, as_time: bool = False
) -> None:
    for number, (prefix, start, end) in enumerate(comparisons):
        values = _bounds(prefix, start, end)
        text = COMPARISONS[prefix].format(low=low, high=high)
        if as_time:  # `updated` lasts one millisecond: it ends after X exactly if it does not start before X
            text = text.replace(f"{high} > %s", f"{low} >= %s").replace(f"{high} <= %s", f"{low} < %s")
            text = text.replace("%s", "to_timestamp(%s::numeric / 1000000)")
        statement.add("or " + text if number else text, *values)


def _bounds(prefix: str, low: int, high: int) -> tuple[int, ...]:
    match prefix:
        case "gt":
            return (high,)
        case "lt":
            return (low,)
        case "ge":
            return high, low, high
        case "le":
            return low, low, high
        case "sa":
            return (high,)
        case "eb":
            return (low,)
        case "ap":
            low, high = approximate(low, high, time.time_ns() // 1000)
            return high, low
        case _:
            return low, high


def _any_word(statement: _Statement, param: int, values: Iterable[str], mode: str) -> None:
    for number, value in enumerate(values):
        word = folded(value)
        statement.add("or" if number else "")
        match mode:
            case "exact":
                statement.add("(w.param = %s and w.folded = %s)", param, word)
            case "contains":
                pattern = word.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
                statement.add("(w.param = %s and w.folded like %s)", param, f"%{pattern}%")
            case _:
                statement.add("(w.param = %s and w.folded >= %s and w.folded < %s)", param, word, word + "\U0010ffff")


async def _unchained(connection: Connection, query: SearchQuery) -> SearchQuery:
    """Chains resolved first: a reference row holds a hash of its target, so the targets have to be known."""
    if not any(isinstance(criterion, Chained) for criterion in query.criteria):
        return query
    criteria: list[Criterion] = []
    for criterion in query.criteria:
        if isinstance(criterion, Chained):
            inner = SearchQuery(criterion.target_type, (criterion.criterion,))
            ids = await _ids(connection, inner, MOST_CHAINED + 1)
            if len(ids) > MOST_CHAINED:
                raise TooCostly(f"The chain on {criterion.parameter.code} leads to more than {MOST_CHAINED} resources")
            targets = tuple(f"{criterion.target_type}/{resource_id}" for resource_id in ids)
            criteria.append(ReferenceIs(criterion.parameter, targets))
        else:
            criteria.append(criterion)
    return replace(query, criteria=tuple(criteria))


def _recheck(criteria: Sequence[Criterion]) -> Callable[[bytes], bool]:
    """Two values may share a hash, and words are kept folded: does a document hold what was asked?"""
    literals = _literals(criteria)
    exact = [c for c in criteria if isinstance(c, StringIs) and c.mode == "exact"]
    return lambda doc: _holds(doc, literals) and (not exact or _holds_exactly(doc, exact))


def _holds_exactly(doc: bytes, criteria: Iterable[StringIs]) -> bool:
    """`:exact` compares strings as they stand."""
    texts = {(value.param.number, value.value) for value in extract(orjson.loads(doc)) if isinstance(value, Text)}
    return all(any((c.parameter.number, value) in texts for value in c.values) for c in criteria)


def _literals(criteria: Iterable[Criterion]) -> list[tuple[bytes, ...]]:
    """For each criterion on hashes, the texts of which the document must hold at least one."""
    literals: list[tuple[bytes, ...]] = []
    for criterion in criteria:
        match criterion:
            case TokenIs(_, values, False) if BOOLEANS.isdisjoint(code for _, code in values):
                literals.append(tuple(_as_in_json(code) for _, code in values))
            case ReferenceIs(_, targets):
                literals.append(tuple(_as_in_json(target) for target in targets))
            case ReferenceHas(_, identifiers):
                literals.append(tuple(_as_in_json(value) for _, value in identifiers))
            case UriIs(_, values):
                literals.append(tuple(_as_in_json(value) for value in values))
            case _:
                pass
    return literals


def _as_in_json(text: str) -> bytes:
    return orjson.dumps(text)[1:-1]


def _holds(doc: bytes, literals: Iterable[tuple[bytes, ...]]) -> bool:
    for alternatives in literals:
        if not any(literal in doc for literal in alternatives):
            plain = orjson.dumps(orjson.loads(doc))  # the client may have written the text with escapes
            if not any(literal in plain for literal in alternatives):
                return False
    return True
