"""search on one type, by GET or POST: https://hl7.org/fhir/R4/http.html#search

The Bundle is made of the stored bytes, laid side by side.
"""

from collections.abc import Sequence
from urllib.parse import urlencode

import orjson

from fhir_server.outcomes import Issue, UnsupportedMediaType
from fhir_server.r4 import search_query, summary
from fhir_server.r4.search_query import SearchQuery
from fhir_server.r4.summary import Subset, subset
from fhir_server.records.audit import query_for_trail
from fhir_server.rest import audit_events
from fhir_server.rest.http import Answer, Exchange, decode_pairs, outcome
from fhir_server.rest.service import Service
from fhir_server.store.includes import Included
from fhir_server.store.search import Page, Place

Pairs = list[tuple[str, str]]


async def search(exchange: Exchange, service: Service) -> Answer:
    """GET Type?..."""
    return await _search(exchange, service, exchange.pairs())


async def search_by_post(exchange: Exchange, service: Service) -> Answer:
    """POST Type/_search with the parameters as a form; those of the URL count too."""
    if exchange.media_type() != "application/x-www-form-urlencoded":
        raise UnsupportedMediaType("A search by POST is application/x-www-form-urlencoded")
    body = decode_pairs(await exchange.body(1024 * 1024))
    exchange.asked_format, exchange.asked_pretty = dict(body).get("_format"), dict(body).get("_pretty")
    return await _search(exchange, service, exchange.pairs() + body, sealed=True)


async def _search(exchange: Exchange, service: Service, pairs: Pairs, *, sealed: bool = False) -> Answer:
    resource_type = exchange.segments[0]
    caller = exchange.known_caller()
    caller.must("s", resource_type)
    place: Place | None = None
    if cursor := dict(pairs).get("_cursor"):
        pairs, place = service.page_links.open(caller.client_id, resource_type, cursor)
        sealed = True
    if resource_type == "AuditEvent":
        return await audit_events.search(exchange, service, pairs, place)
    part = summary.wish(pairs, resource_type)
    query = search_query.parse(resource_type, part.others, lenient=exchange.prefers("handling") == "lenient")
    text = query_for_trail(resource_type, query.applied)
    page = await service.archive.search(caller, query, place, exchange.request_id, text)
    along = await service.archive.along(caller, query, page, exchange.request_id)
    applied = [*query.applied, *part.own]
    self_link = (
        f"_cursor={service.page_links.seal(caller.client_id, resource_type, applied, place)}"
        if sealed
        else urlencode(applied, safe="/:,|")
    )
    next_link = (
        f"_cursor={service.page_links.seal(caller.client_id, resource_type, applied, page.next)}" if page.next else None
    )
    return Answer(200, searchset(service.base, query, page, along, self_link, next_link, part.subset))


def searchset(
    base: str,
    query: SearchQuery,
    page: Page,
    along: Sequence[Included],
    self_link: str,
    next_link: str | None,
    part: Subset | None = None,
) -> bytes:
    """The Bundle of one page, as bytes; of each resource the part that is wanted."""
    url = f"{base}/{query.resource_type}"
    links = [{"relation": "self", "url": f"{url}?{self_link}" if self_link else url}]
    if next_link:
        links.append({"relation": "next", "url": f"{url}?{next_link}"})
    head: dict[str, object] = {"resourceType": "Bundle", "type": "searchset"}
    if page.total is not None:
        head["total"] = page.total
    head["link"] = links
    prefix = b'{"fullUrl":"' + url.encode() + b"/"
    entries = [
        b'%s%s","resource":%s,"search":{"mode":"match"}}'
        % (prefix, hit.id.encode(), subset(hit.doc, query.resource_type, part) if part else hit.doc)
        for hit in page.hits
    ]
    entries += [
        b'{"fullUrl":"%s/%s/%s","resource":%s,"search":{"mode":"include"}}'
        % (base.encode(), one.type.encode(), one.id.encode(), subset(one.doc, one.type, part) if part else one.doc)
        for one in along
    ]
    if query.ignored:
        entries.append(_outcome_entry(query.ignored))
    body = orjson.dumps(head)
    return body[:-1] + (b',"entry":[' + b",".join(entries) + b"]}" if entries else b"}")


def _outcome_entry(issues: tuple[Issue, ...]) -> bytes:
    return orjson.dumps({"resource": outcome(issues), "search": {"mode": "outcome"}})
