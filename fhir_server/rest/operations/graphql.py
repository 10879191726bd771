"""$graphql of the system and of an instance: a query in GraphQL, by GET or POST.

https://hl7.org/fhir/R4/graphql.html and https://hl7.org/fhir/R4/resource-operation-graphql.html - answers and failures
are JSON of GraphQL, not FHIR. The library behind it is heavy: it is imported by the first query.
"""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final

import msgspec
import orjson

from fhir_server.outcomes import BadParameter, BadSyntax, Issue, UnsupportedMediaType
from fhir_server.rest.forms import FORMS, wants_pretty
from fhir_server.rest.http import Answer, Exchange, Header, outcome
from fhir_server.rest.operations.operation import Operation, arguments, only_text
from fhir_server.rest.page_links import PageLinks
from fhir_server.rest.service import Service
from fhir_server.store.ordering import Place

JSON: Final = b"application/json; charset=utf-8"
GRAPHQL_TYPE: Final = "application/graphql"
PLAIN_JSON: Final = frozenset({"application/json", "text/json", "json"})
NAMES: Final = ("query", "variables", "operationName")
LARGEST: Final = 1024 * 1024
_DECODER: Final = msgspec.json.Decoder(float_hook=Decimal)
"""A number keeps its digits: those of a search say how exact it is."""


@dataclass(frozen=True, slots=True)
class Asked:
    """A request of GraphQL over HTTP."""

    query: str
    operation_name: str | None
    variables: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class _Cursors:
    """Page links of GraphQL, which are no links of REST."""

    page_links: PageLinks
    client_id: str

    def seal(self, resource_type: str, pairs: list[tuple[str, str]], place: Place | None) -> str:
        return self.page_links.seal(self.client_id, f"{resource_type}/$graphql", pairs, place)

    def open(self, resource_type: str, text: str) -> tuple[list[tuple[str, str]], Place | None]:
        return self.page_links.open(self.client_id, f"{resource_type}/$graphql", text)


async def graphql(exchange: Exchange, service: Service) -> Answer:
    """GET or POST $graphql and Type/id/$graphql. Whatever it asks counts as a search for a person."""
    from fhir_server.r4.graphql.document import read
    from fhir_server.r4.graphql.introspection import introspected
    from fhir_server.records.graphql import answered

    asked = await _asked(exchange, service)
    query = await asyncio.to_thread(read, asked.query, asked.operation_name, asked.variables)
    caller = exchange.known_caller()
    *root, _ = exchange.segments
    if query.introspects:
        data = await asyncio.to_thread(introspected, query, asked.query, root[0] if root else None)
    else:
        service.limits.identity_search(caller)
        key = (root[0], root[1]) if root else None
        cursors = _Cursors(service.page_links, caller.client_id)
        data = await answered(service.archive, caller, query, key, exchange.request_id, cursors)
    body = b'{"data":' + data + b"}"
    return Answer(200, msgspec.json.format(body) if wants_pretty(exchange) else body, media_type=JSON)


def failed(status: int, issues: Sequence[Issue], headers: Sequence[Header] = ()) -> Answer:
    """A failure as R4 shows it: an error for each issue, with its OperationOutcome in `extensions`."""
    errors = [
        {
            "message": issue.diagnostics,
            **({"locations": [dict(zip(("line", "column"), issue.location, strict=True))]} if issue.location else {}),
            "extensions": {"resource": outcome([issue])},
        }
        for issue in issues
    ]
    return Answer(status, orjson.dumps({"data": None, "errors": errors}), headers, JSON)


def is_asked(exchange: Exchange) -> bool:
    """Does a request ask for this operation, by whatever method and path?"""
    return exchange.segments[-1:] == (GRAPHQL.name,)


async def _asked(exchange: Exchange, service: Service) -> Asked:
    """What the URL and the body ask; the body has the last word.

    Raises BadSyntax, BadParameter, InvalidResource, UnsupportedMediaType, TooLarge.
    """
    media_type = exchange.media_type() if exchange.method == "POST" else ""
    if media_type in FORMS and media_type not in PLAIN_JSON:
        given = {
            name: only_text(found, name) for found in [await arguments(exchange, service, *NAMES)] for name in found
        }
    else:
        given: dict[str, Any] = dict(exchange.pairs())
        if media_type:
            given |= _posted(media_type, await exchange.body(LARGEST))
    for name in given:
        if name not in (*NAMES, "_format", "_pretty"):
            raise BadParameter(f"{name[:100]} is not a parameter of $graphql (it has: {', '.join(NAMES)})")
    query, variables, operation_name = (given.get(name) for name in NAMES)
    if not isinstance(query, str):
        raise BadParameter("The query is missing, or is no text", expression="query")
    if not isinstance(operation_name, str | None):
        raise BadParameter("operationName is a text", expression="operationName")
    return Asked(query, operation_name or None, _variables(variables))


def _posted(media_type: str, body: bytes) -> Mapping[str, Any]:
    """A body that is no Parameters: https://graphql.org/learn/serving-over-http/"""
    if media_type == GRAPHQL_TYPE:
        try:
            return {"query": body.decode()}
        except UnicodeDecodeError:
            raise BadSyntax("The query is not UTF-8") from None
    if media_type not in PLAIN_JSON:
        read = f"{GRAPHQL_TYPE}, application/json, or Parameters as application/fhir+json or application/fhir+xml"
        raise UnsupportedMediaType(f"A query comes as {read}")
    posted = _decoded(body)
    if not isinstance(posted, dict) or "resourceType" in posted:
        raise BadSyntax("As application/json a query is an object with `query`; Parameters are application/fhir+json")
    return {name: posted[name] for name in NAMES if posted.get(name) is not None}


def _variables(given: Any) -> Mapping[str, Any]:
    """As an object, or as the JSON text of one."""
    found = _decoded(given.encode()) if isinstance(given, str) and given else given or {}
    if not isinstance(found, dict):
        raise BadParameter("variables are a JSON object", expression="variables")
    return found


def _decoded(text: bytes) -> Any:
    try:
        return _DECODER.decode(text)
    except (msgspec.DecodeError, RecursionError):
        raise BadSyntax("The body or the variables are not JSON") from None


GRAPHQL = Operation(
    "$graphql",
    "http://hl7.org/fhir/OperationDefinition/Resource-graphql",
    graphql,
    frozenset({"system", "instance"}),
)
