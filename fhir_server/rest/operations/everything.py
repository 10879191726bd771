"""$everything of a Patient: his whole record as one searchset, in pages.

https://hl7.org/fhir/R4/patient-operation-everything.html
"""

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Final
from urllib.parse import urlencode

import orjson

from fhir_server.outcomes import BadParameter
from fhir_server.r4.index_values import period_of
from fhir_server.r4.resource_types import TYPE_NUMBER
from fhir_server.records.everything import Asked, RecordPage
from fhir_server.records.everything import everything as pages_of
from fhir_server.rest.http import Answer, Exchange
from fhir_server.rest.operations.operation import Arguments, Operation, arguments, only_count, only_text
from fhir_server.rest.service import Service
from fhir_server.store.compartments import Narrowed

PARAMETERS: Final = ("start", "end", "_since", "_type", "_count")
MOST: Final = 1000
AFTER: Final = "_after"
"""Stands in a sealed cursor only: the place where the page begins."""

Pairs = list[tuple[str, str]]


async def everything(exchange: Exchange, service: Service) -> Answer:
    """GET or POST Patient/id/$everything."""
    _, patient_id, _ = exchange.segments
    caller = exchange.known_caller()
    path = f"Patient/{patient_id}/$everything"
    given = await arguments(exchange, service, *PARAMETERS, "_cursor")
    after: int | None = None
    if cursor := only_text(given, "_cursor"):
        pairs, _ = service.page_links.open(caller.client_id, path, cursor)
        after = int(dict(pairs)[AFTER])
        given = _as_arguments((name, value) for name, value in pairs if name != AFTER)
    asked = _asked(given)
    pairs = [(name, str(value)) for name, values in given.items() for value in values]
    text = "$everything" + ("?" + urlencode(pairs, safe=":,") if pairs else "")
    page = await pages_of(service.archive, caller, patient_id, asked, after, exchange.request_id, text)
    links = [{"relation": "self", "url": _url(service.base, path, [("_cursor", cursor)] if cursor else pairs)}]
    if page.next is not None:
        sealed = service.page_links.seal(caller.client_id, path, [*pairs, (AFTER, str(page.next))], None)
        links.append({"relation": "next", "url": _url(service.base, path, [("_cursor", sealed)])})
    return Answer(200, _bundle(service.base, page, links, is_whole=after is None and page.next is None))


def _as_arguments(pairs: Iterable[tuple[str, str]]) -> Arguments:
    given: Arguments = {}
    for name, value in pairs:
        given.setdefault(name, []).append(value)
    return given


def _url(base: str, path: str, pairs: Pairs) -> str:
    return f"{base}/{path}" + ("?" + urlencode(pairs, safe=":,") if pairs else "")


def _asked(given: Arguments) -> Asked:
    start, end, since = (_moment(given, name) for name in ("start", "end", "_since"))
    narrowed = Narrowed(
        datetime.fromtimestamp(since[0] / 1_000_000, UTC) if since else None,
        start[0] if start else None,
        end[1] if end else None,
    )
    return Asked(_types(given), narrowed, only_count(given, "_count", default=MOST, largest=MOST))


def _moment(given: Arguments, name: str) -> tuple[int, int] | None:
    text = only_text(given, name)
    try:
        return period_of(text) if text else None
    except ValueError as error:
        raise BadParameter(f"{name} is not a FHIR date", expression=name) from error


def _types(given: Arguments) -> frozenset[str] | None:
    wanted = frozenset(one for value in given.get("_type", ()) for one in str(value).split(",") if one)
    if not wanted <= TYPE_NUMBER.keys():
        raise BadParameter("_type names something that is no resource type of R4", expression="_type")
    return wanted or None


def _bundle(base: str, page: RecordPage, links: list[dict[str, str]], *, is_whole: bool) -> bytes:
    """The Bundle as bytes: the stored documents, laid side by side."""
    patient = [("Patient", page.patient.id, page.patient.doc or b"")] if page.patient else []
    matches = [*patient, *((one.type, one.id, one.doc) for one in page.members)]
    entries = [_entry(base, *one, b"match") for one in matches]
    entries += [_entry(base, *one, b"include") for one in page.along]
    total = {"total": len(matches)} if is_whole else {}
    head = orjson.dumps({"resourceType": "Bundle", "type": "searchset", **total, "link": links})
    return head[:-1] + (b',"entry":[' + b",".join(entries) + b"]}" if entries else b"}")


def _entry(base: str, resource_type: str, resource_id: str, doc: bytes, mode: bytes) -> bytes:
    url = f"{base}/{resource_type}/{resource_id}".encode()
    return b'{"fullUrl":"%s","resource":%s,"search":{"mode":"%s"}}' % (url, doc, mode)


EVERYTHING = Operation(
    "$everything",
    "http://hl7.org/fhir/OperationDefinition/Patient-everything",
    everything,
    frozenset({"instance"}),
    frozenset({"Patient"}),
)
