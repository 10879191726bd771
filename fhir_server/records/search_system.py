"""A search over several types on behalf of a caller: what he may not search is not looked at, nor counted.

A type that he names and may not search is refused, as a search on it alone would be.
https://hl7.org/fhir/R4/http.html#search
"""

import time
from dataclasses import replace

from fhir_server.caller import Caller
from fhir_server.outcomes import BadParameter, Forbidden
from fhir_server.r4.search_criteria import SearchQuery, narrowed
from fhir_server.r4.search_system import SystemQuery
from fhir_server.r4.subjects import patient_in_bytes
from fhir_server.records import audit
from fhir_server.records.protection import BINARY
from fhir_server.records.read import Archive, patient_asked
from fhir_server.store.ordering import Place
from fhir_server.store.search_system import MixedPage, mixed_page


async def search_system(
    archive: Archive, caller: Caller, asked: SystemQuery, after: Place | None, request_id: str
) -> MixedPage:
    """One page, traced on every worker that it shows. Raises Forbidden, TooCostly, BadParameter, Unavailable."""
    queries = _allowed(caller, asked)
    has_binaries = any(query.resource_type == BINARY for query in queries)
    if has_binaries and asked.shared.only_count:
        raise BadParameter("Binaries are not counted: some may be hidden from you", expression="_summary")
    began = time.perf_counter()
    with archive.metrics.traces.span("search"):
        page = await mixed_page(archive.searches, queries, after)
    archive.metrics.search_seconds.observe(time.perf_counter() - began)
    if has_binaries:
        page = await _readable(archive, caller, page, after)
    await _trace(archive, caller, queries, page, request_id)
    return page


def _allowed(caller: Caller, asked: SystemQuery) -> list[SearchQuery]:
    """The queries that may be carried out. Raises Forbidden for a type that is named, and where nothing is left.

    Binaries are searched where they are named: what protects them is asked of each, so that none can be counted.
    """

    def may(resource_type: str) -> bool:
        return caller.may("s", resource_type)

    left = [one for one in asked.queries if asked.named or (may(one.resource_type) and one.resource_type != BINARY)]
    if not left:
        raise Forbidden("No scope of this client allows 's' on any of these types")
    queries = [replace(narrowed(one, may), sight=caller.sight("s")) for one in left]
    caller.must_search(frozenset[str]().union(*(one.asked_types for one in queries)))
    return queries


async def _readable(archive: Archive, caller: Caller, page: MixedPage, after: Place | None) -> MixedPage:
    """A page without the Binaries that the caller may not have, and without a total that would count them."""
    binaries = [(hit.id, hit.doc) for hit in page.hits if hit.type == BINARY]
    hidden = {one for (one, _), may in zip(binaries, await archive.may_have(caller, binaries), strict=True) if not may}
    hits = tuple(hit for hit in page.hits if hit.type != BINARY or hit.id not in hidden)
    whole = after is None and page.next is None
    return replace(page, hits=hits, total=len(hits) if whole else None)


async def _trace(
    archive: Archive, caller: Caller, queries: list[SearchQuery], page: MixedPage, request_id: str
) -> None:
    text = audit.query_for_trail([one.resource_type for one in queries], queries[0].applied)
    row = audit.access(caller, "search-system", request_id, query=text)
    shown = {patient_in_bytes(hit.type, hit.id, hit.doc) for hit in page.hits}
    shown |= {patient_asked(query) for query in queries}
    rows = [row._replace(patient_id=patient) for patient in sorted(shown - {None}, key=str)] or [row]
    await archive.accesses.append(*rows)
