"""search on one type, by GET or POST: https://hl7.org/fhir/R4/http.html#search

The Bundle is made of the stored bytes, laid side by side.
"""

from collections.abc import Sequence
from dataclasses import replace
from urllib.parse import urlencode

import orjson

from fhir_server.caller import Caller
from fhir_server.outcomes import Forbidden, Issue, NotSupported, UnsupportedMediaType
from fhir_server.r4 import compartments, search_query, summary
from fhir_server.r4.search_criteria import AnyOf, Criterion, IdIs, ReferenceIs, SearchQuery
from fhir_server.r4.search_parameters import parameters_of
from fhir_server.r4.summary import Subset, subset
from fhir_server.records.audit import query_for_trail
from fhir_server.rest import audit_events
from fhir_server.rest.http import Answer, Exchange, decode_pairs, outcome
from fhir_server.rest.limits import looks_for_a_person
from fhir_server.rest.service import Service
from fhir_server.store.includes import Included
from fhir_server.store.ordering import Place

Pairs = list[tuple[str, str]]


async def search(exchange: Exchange, service: Service) -> Answer:
    """GET Type?..., or Compartment/id/Type?..."""
    return await _search(exchange, service, exchange.pairs())


async def search_by_post(exchange: Exchange, service: Service) -> Answer:
    """POST Type/_search with the parameters as a form; those of the URL count too."""
    return await _search(exchange, service, await form_of(exchange), sealed=True)


async def form_of(exchange: Exchange) -> Pairs:
    """The parameters of the URL, then those of the form that was posted. Raises UnsupportedMediaType, BadSyntax."""
    if exchange.media_type() != "application/x-www-form-urlencoded":
        raise UnsupportedMediaType("A search by POST is application/x-www-form-urlencoded")
    body = decode_pairs(await exchange.body(1024 * 1024))
    exchange.asked_format, exchange.asked_pretty = dict(body).get("_format"), dict(body).get("_pretty")
    return exchange.pairs() + body


async def _search(exchange: Exchange, service: Service, pairs: Pairs, *, sealed: bool = False) -> Answer:
    *compartment, resource_type = (one for one in exchange.segments if one != "_search")
    path = "/".join((*compartment, resource_type))
    caller = exchange.known_caller()
    caller.must("s", resource_type)
    place: Place | None = None
    if cursor := dict(pairs).get("_cursor"):
        pairs, place = service.page_links.open(caller.client_id, path, cursor)
        sealed = True
    if resource_type == "AuditEvent":
        if compartment and not place:
            pairs = [_of_worker(compartment), *pairs]
        return await audit_events.search(exchange, service, pairs, place)
    if place is None and looks_for_a_person(resource_type, (name for name, _ in pairs)):
        service.limits.identity_search(caller)
    part = summary.wish(pairs, resource_type)
    query = search_query.parse(resource_type, part.others, lenient=exchange.prefers("handling") == "lenient")
    if compartment:
        query = replace(query, criteria=(_within(compartment, resource_type), *query.criteria))
    if query.explained:
        return await _explained(service, caller, query)
    text = query_for_trail([resource_type], query.applied)
    page = await service.archive.search(caller, query, place, exchange.request_id, text)
    hits = [Included(resource_type, hit.id, hit.doc) for hit in page.hits]
    along = await service.archive.along(caller, query.includes, hits, exchange.request_id)
    applied = [*query.applied, *part.own]

    def link(at: Place | None) -> str:
        return f"_cursor={service.page_links.seal(caller.client_id, path, applied, at)}"

    self_link = link(place) if sealed else urlencode(applied, safe="/:,|")
    next_link = link(page.next) if page.next else None
    bundle = searchset(service.base, path, hits, page.total, along, self_link, next_link, part.subset, query.ignored)
    return Answer(200, bundle)


def _within(compartment: Sequence[str], resource_type: str) -> Criterion:
    """What is in a compartment: https://hl7.org/fhir/R4/compartmentdefinition.html"""
    of, resource_id = compartment
    codes = compartments.parameters(of, resource_type)
    found: list[Criterion] = [
        ReferenceIs(parameters_of(resource_type)[code], (f"{of}/{resource_id}",)) for code in codes
    ]
    if of == resource_type:
        found.append(IdIs((resource_id,)))
    if not found:
        raise NotSupported(f"No {resource_type} is in the compartment of a {of}")
    return AnyOf(tuple(found))


def _of_worker(compartment: Sequence[str]) -> tuple[str, str]:
    """The trail is kept by worker."""
    if compartment[0] != "Patient":
        raise NotSupported(f"The trail is not searched in the compartment of a {compartment[0]}")
    return "patient", compartment[1]


async def _explained(service: Service, caller: Caller, query: SearchQuery) -> Answer:
    """`_explain=true`: the statement and its plan, for operators. Raises Forbidden."""
    if caller.role != "operator":
        raise Forbidden("Only an operator may see how a search is carried out")
    caller.must_search(query.asked_types)
    statement, plan = await service.archive.searches.explain(query)
    told = {"statement": statement, "plan": orjson.dumps(plan, option=orjson.OPT_INDENT_2).decode()}
    parameters = [{"name": name, "valueString": text} for name, text in told.items()]
    return Answer(200, orjson.dumps({"resourceType": "Parameters", "parameter": parameters}))


def searchset(
    base: str,
    path: str,
    hits: Sequence[Included],
    total: int | None,
    along: Sequence[Included],
    self_link: str,
    next_link: str | None,
    part: Subset | None,
    ignored: tuple[Issue, ...],
) -> bytes:
    """The Bundle of one page, as bytes; of each resource the part that is wanted."""
    url = f"{base}/{path}" if path else base
    links = [{"relation": "self", "url": f"{url}?{self_link}" if self_link else url}]
    if next_link:
        links.append({"relation": "next", "url": f"{url}?{next_link}"})
    head: dict[str, object] = {"resourceType": "Bundle", "type": "searchset"}
    if total is not None:
        head["total"] = total
    head["link"] = links
    entries = [
        b'{"fullUrl":"%s/%s/%s","resource":%s,"search":{"mode":"%s"}}'
        % (
            base.encode(),
            one.type.encode(),
            one.id.encode(),
            subset(one.doc, one.type, part) if part else one.doc,
            mode,
        )
        for mode, found in ((b"match", hits), (b"include", along))
        for one in found
    ]
    if ignored:
        entries.append(_outcome_entry(ignored))
    body = orjson.dumps(head)
    return body[:-1] + (b',"entry":[' + b",".join(entries) + b"]}" if entries else b"}")


def _outcome_entry(issues: tuple[Issue, ...]) -> bytes:
    return orjson.dumps({"resource": outcome(issues), "search": {"mode": "outcome"}})
