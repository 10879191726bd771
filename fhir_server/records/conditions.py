"""Criteria in writes: of conditional creates, updates and deletions, and of the references of a transaction.

https://hl7.org/fhir/R4/http.html#cond-update, #trules - asked inside the transaction that writes, its locks held.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any, Final, NamedTuple
from urllib.parse import parse_qsl

from fhir_server.caller import Caller
from fhir_server.outcomes import (
    BadParameter,
    BadSyntax,
    Failure,
    InvalidResource,
    Issue,
    MultipleMatches,
    NoMatch,
    TooCostly,
)
from fhir_server.r4 import search_query
from fhir_server.r4.references import literal_references
from fhir_server.r4.resource_types import TYPE_NUMBER
from fhir_server.r4.search_query import SearchQuery
from fhir_server.store.database import Connection
from fhir_server.store.search import find_ids

MOST_SOUGHT: Final = 5000

Pairs = tuple[tuple[str, str], ...]

_CONDITIONAL: Final = re.compile(r"([A-Z][A-Za-z]+)\?(.+)")


class Sought(NamedTuple):
    """A conditional reference: its criteria, and where it stands first."""

    type: str
    pairs: Pairs
    query: SearchQuery
    where: str


def condition_of(value: str) -> Pairs:
    """The pairs of an If-None-Exist header or `ifNoneExist` element. Raises BadSyntax when it is empty."""
    pairs = tuple(parse_qsl(value.partition("?")[2] or value, keep_blank_values=True))
    if not pairs or any("\0" in name or "\0" in text for name, text in pairs):
        raise BadSyntax("If-None-Exist is empty or holds a NUL character")
    return pairs


def query_of(caller: Caller, resource_type: str, pairs: Pairs, where: str | None) -> SearchQuery:
    """The criteria of a conditional interaction, asked of what the caller sees. Raises BadParameter."""
    try:
        query = replace(search_query.parse(resource_type, pairs), sight=caller.sight("s"))
        if not query.criteria:
            raise BadParameter("A condition needs a criterion")
    except BadParameter as fault:
        raise fault.within(where) from None
    return query


async def match(connection: Connection, query: SearchQuery, where: str | None) -> str | None:
    """The id of the resource that meets the criteria, or None. Raises MultipleMatches."""
    ids = await find_ids(connection, query, 2)
    if len(ids) > 1:
        raise MultipleMatches(f"The condition finds more than one {query.resource_type}", expression=where)
    return ids[0] if ids else None


def sought_in(caller: Caller, resources: Iterable[tuple[Mapping[str, Any], str | None]]) -> dict[str, Sought]:
    """The conditional references of the entries of a transaction, each once, with its criteria.

    Raises InvalidResource for one that cannot be read, TooCostly beyond `MOST_SOUGHT` different ones.
    """
    sought: dict[str, Sought] = {}
    faults: list[Issue] = []
    for resource, entry in resources:
        for place, reference in literal_references(resource) if entry else ():
            if "?" not in reference or reference in sought or not (parts := _CONDITIONAL.fullmatch(reference)):
                continue
            try:
                if parts[1] not in TYPE_NUMBER:
                    raise BadParameter(f"{parts[1][:64]} is not a resource type")
                pairs = condition_of(parts[2])
                query = query_of(caller, parts[1], pairs, None)
            except Failure as failure:
                text = f"The conditional reference cannot be read: {failure.diagnostics}"
                faults.extend(InvalidResource(text, expression=place).within(entry).issues)
                continue
            where = InvalidResource(expression=place).within(entry).issues[0].expression or ""
            sought[reference] = Sought(parts[1], pairs, query, where)
    if faults:
        raise InvalidResource(issues=faults)
    if len(sought) > MOST_SOUGHT:
        raise TooCostly(f"A transaction holds at most {MOST_SOUGHT} different conditional references")
    return sought


async def resolve(connection: Connection, sought: Mapping[str, Sought]) -> dict[str, str]:
    """Each conditional reference as the resource that it means. Raises NoMatch, MultipleMatches."""
    resolved: dict[str, str] = {}
    for reference, one in sought.items():
        found = await match(connection, one.query, one.where)
        if found is None:
            raise NoMatch(f"The conditional reference finds no {one.type}", expression=one.where)
        resolved[reference] = f"{one.type}/{found}"
    return resolved
