"""What must be known before a search becomes a statement: the codes of value sets, and how much a chain leads to."""

from dataclasses import replace
from typing import Final

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
from fhir_server.store import conditions, value_sets
from fhir_server.store.database import Connection
from fhir_server.store.statement import Statement

FEW: Final = 1000
"""Up to so many resources at the far end of a chain, the statement begins there."""
_NEEDED: Final = (Chained, Referred, TokenIn, AllOf, AnyOf, Not)


async def resolved(connection: Connection, query: SearchQuery) -> SearchQuery:
    """The same search, ready to become a statement. Raises BadParameter, TooCostly."""
    if not any(isinstance(one, _NEEDED) for one in query.criteria):
        return query
    return replace(query, criteria=tuple([await _resolved(connection, one) for one in query.criteria]))


async def _resolved(connection: Connection, criterion: Criterion) -> Criterion:
    match criterion:
        case TokenIn():
            return TokenIs(criterion.parameter, tuple(await _codes(connection, criterion)), criterion.negated)
        case Chained(parameter, branches):
            inner = tuple([(name, await _resolved(connection, one)) for name, one in branches])
            many = [name for name, one in inner if await _leads_to_many(connection, name, one)]
            return Chained(parameter, inner, many=bool(many))
        case Referred(source, parameter, inner):
            met = await _resolved(connection, inner)
            return Referred(source, parameter, met, many=await _leads_to_many(connection, source, met))
        case AllOf(criteria):
            return AllOf(tuple([await _resolved(connection, one) for one in criteria]))
        case AnyOf(criteria):
            return AnyOf(tuple([await _resolved(connection, one) for one in criteria]))
        case Not(inner):
            return Not(await _resolved(connection, inner))
        case _:
            return criterion


async def _codes(connection: Connection, criterion: TokenIn) -> set[TokenValue]:
    found: set[TokenValue] = set()
    for value in criterion.values:
        if criterion.relation == "in":
            found |= await value_sets.codes_in(connection, value[1] or "")
        else:
            found |= await value_sets.codes_beside(connection, value, below=criterion.relation == "below")
    return found


async def _leads_to_many(connection: Connection, resource_type: str, criterion: Criterion) -> bool:
    statement = Statement("select count(*) from (select 1 from resource r where")
    conditions.where(statement, SearchQuery(resource_type, (criterion,)))
    statement.add("limit %s) few", FEW + 1)
    ((count,),) = await statement.rows(connection)
    return count > FEW
