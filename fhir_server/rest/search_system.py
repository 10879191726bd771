"""search over several types, by GET or POST: https://hl7.org/fhir/R4/http.html#search"""

from urllib.parse import urlencode

from fhir_server.r4 import search_system as several
from fhir_server.r4 import summary
from fhir_server.records import search_system as searches
from fhir_server.rest.http import Answer, Exchange
from fhir_server.rest.limits import looks_for_a_person
from fhir_server.rest.search import Pairs, form_of, searchset
from fhir_server.rest.service import Service
from fhir_server.store.ordering import Place

PATH = ""


async def search_system(exchange: Exchange, service: Service) -> Answer:
    """GET [base]?..."""
    return await _search(exchange, service, exchange.pairs())


async def search_system_by_post(exchange: Exchange, service: Service) -> Answer:
    """POST [base]/_search with the parameters as a form; those of the URL count too."""
    return await _search(exchange, service, await form_of(exchange), sealed=True)


async def _search(exchange: Exchange, service: Service, pairs: Pairs, *, sealed: bool = False) -> Answer:
    from fhir_server.rest.routes import types_together  # the table lists this interaction too

    caller = exchange.known_caller()
    place: Place | None = None
    if cursor := dict(pairs).get("_cursor"):
        pairs, place = service.page_links.open(caller.client_id, PATH, cursor)
        sealed = True
    if place is None and looks_for_a_person(None, (name for name, _ in pairs)):
        service.limits.identity_search(caller)
    part = summary.wish(pairs, None)
    lenient = exchange.prefers("handling") == "lenient"
    asked = several.parse(part.others, types_together(), lenient=lenient)
    page = await searches.search_system(service.archive, caller, asked, place, exchange.request_id)
    along = await service.archive.along(caller, asked.shared.includes, page.hits, exchange.request_id)
    applied = [*asked.shared.applied, *part.own]

    def link(at: Place | None) -> str:
        return f"_cursor={service.page_links.seal(caller.client_id, PATH, applied, at)}"

    self_link = link(place) if sealed else urlencode(applied, safe="/:,|")
    next_link = link(page.next) if page.next else None
    bundle = searchset(
        service.base, PATH, page.hits, page.total, along, self_link, next_link, part.subset, asked.shared.ignored
    )
    return Answer(200, bundle)
