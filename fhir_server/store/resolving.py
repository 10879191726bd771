"""What must be known before a search becomes a statement: the codes of value sets, and how much a chain leads to.

https://hl7.org/fhir/R4/search.html#token (`:in`, `:not-in`, `:below`, `:above`) - which codes, `terminology/` says.
"""

import asyncio
from dataclasses import replace
from typing import Final

from fhir_server.outcomes import BadParameter, Forbidden, TooCostly
from fhir_server.r4.definitions import is_of_several_systems
from fhir_server.r4.search_criteria import (
    AllOf,
    AnyOf,
    Chained,
    Criterion,
    Not,
    Referred,
    SearchQuery,
    TokenIn,
    TokenIs,
    TokenValue,
)
from fhir_server.store import conditions, definitions
from fhir_server.store.database import Connection
from fhir_server.store.definitions import Shelf
from fhir_server.store.statement import Statement
from terminology.composition import composed
from terminology.library import chosen, split
from terminology.problems import Problem, TooMuch

FEW: Final = 1000
"""Up to so many resources at the far end of a chain, the statement begins there."""
MOST_CODES: Final = 10_000
"""Codes that one criterion may stand for."""
_NEEDED: Final = (Chained, Referred, TokenIn, AllOf, AnyOf, Not)


async def resolved(connection: Connection, shelf: Shelf, query: SearchQuery) -> SearchQuery:
    """The same search, ready to become a statement.

    Raises BadParameter, TooCostly, and Forbidden where codes are asked of definitions that scopes show in part.
    """
    if not any(isinstance(one, _NEEDED) for one in query.criteria):
        return query
    if query.sight.bounds and any(map(_asks_definitions, query.criteria)):
        for name in ("CodeSystem", "ValueSet"):
            if name in query.sight.bounds:
                raise Forbidden(f"The scopes of this client allow some of {name} only: no search by their codes")
    return replace(query, criteria=tuple([await _resolved(connection, shelf, one) for one in query.criteria]))


def _asks_definitions(criterion: Criterion) -> bool:
    """Definitions are read whole, whoever asks."""
    match criterion:
        case TokenIn():
            return True
        case Chained(_, branches):
            return any(_asks_definitions(inner) for _, inner in branches)
        case Referred(_, _, inner) | Not(inner):
            return _asks_definitions(inner)
        case AllOf(criteria) | AnyOf(criteria):
            return any(map(_asks_definitions, criteria))
        case _:
            return False


async def _resolved(connection: Connection, shelf: Shelf, criterion: Criterion) -> Criterion:
    match criterion:
        case TokenIn():
            return TokenIs(criterion.parameter, tuple(await _codes(connection, shelf, criterion)), criterion.negated)
        case Chained(parameter, branches):
            inner = tuple([(name, await _resolved(connection, shelf, one)) for name, one in branches])
            many = [name for name, one in inner if await _leads_to_many(connection, name, one)]
            return Chained(parameter, inner, many=bool(many))
        case Referred(source, parameter, inner):
            met = await _resolved(connection, shelf, inner)
            return Referred(source, parameter, met, many=await _leads_to_many(connection, source, met))
        case AllOf(criteria):
            return AllOf(tuple([await _resolved(connection, shelf, one) for one in criteria]))
        case AnyOf(criteria):
            return AnyOf(tuple([await _resolved(connection, shelf, one) for one in criteria]))
        case Not(inner):
            return Not(await _resolved(connection, shelf, inner))
        case _:
            return criterion


async def _codes(connection: Connection, shelf: Shelf, criterion: TokenIn) -> set[TokenValue]:
    """The tokens that are meant. Raises BadParameter for codes that are not known here, TooCostly for too many."""
    found: set[TokenValue] = set()
    try:
        for value in criterion.values:
            if criterion.relation == "in":
                found |= await _in_value_set(connection, shelf, value[1] or "")
            else:
                found |= await _beside(connection, shelf, value, below=criterion.relation == "below")
    except TooMuch as problem:
        raise TooCostly(str(problem)) from problem
    except Problem as problem:
        raise BadParameter(str(problem), expression=problem.place) from problem
    if len(found) > MOST_CODES:
        raise TooCostly(f"The search asks for more than {MOST_CODES} codes")
    return found


async def _in_value_set(connection: Connection, shelf: Shelf, name: str) -> set[TokenValue]:
    """The tokens of a value set, by canonical URL or `ValueSet/id`; (system, None) stands for a whole code system."""
    value_set = chosen(await definitions.value_set_named(connection, shelf, name), split(name)[1])
    if value_set is None:
        raise BadParameter("This server does not keep that value set", expression="ValueSet")
    library = await definitions.library(connection, shelf, value_sets=[value_set])
    selection = await asyncio.to_thread(composed, value_set, library)
    tokens: set[TokenValue] = set(selection.tokens())
    if is_of_several_systems(str(value_set.get("url"))):
        tokens |= {(None, code) for _, code in selection.members}
    return tokens


async def _beside(connection: Connection, shelf: Shelf, value: TokenValue, *, below: bool) -> set[TokenValue]:
    """A code with all that stand below it (or above it) in its code system. Raises BadParameter."""
    system, code = value
    if not system or code is None:
        raise BadParameter("Say it as system|code: a code has its place in a code system")
    library = await definitions.library(connection, shelf, systems=[system])
    known = library.code_system(*split(system))
    if known is None:
        raise BadParameter("This server does not keep the code system, so it does not know what stands above or below")
    found = known.find(code)
    start = found.code if found else code
    return {(known.url, one) for one in {start, *(known.below(start) if below else known.above(start))}}


async def _leads_to_many(connection: Connection, resource_type: str, criterion: Criterion) -> bool:
    statement = Statement("select count(*) from (select 1 from resource r where")
    conditions.where(statement, SearchQuery(resource_type, (criterion,)))
    statement.add("limit %s) few", FEW + 1)
    ((count,),) = await statement.rows(connection)
    return count > FEW
