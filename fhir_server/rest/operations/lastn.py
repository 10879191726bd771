"""$lastn of Observation: the newest readings of a worker, so many of each kind.

https://hl7.org/fhir/R4/observation-operation-lastn.html
"""

from collections.abc import Iterable
from dataclasses import replace
from typing import Any, Final
from urllib.parse import urlencode

import orjson

from fhir_server.outcomes import BadParameter, TooCostly
from fhir_server.r4 import search_query
from fhir_server.rest.http import Answer, Exchange
from fhir_server.rest.operations.operation import Arguments, Operation, arguments, only_count
from fhir_server.rest.service import Service
from fhir_server.store.search import Found

CRITERIA: Final = ("patient", "subject", "category", "code", "date")
MOST_OF_A_KIND: Final = 100
MOST_LOOKED_AT: Final = 10_000
MOST_SHOWN: Final = 1000
A_PAGE: Final = 1000
ALWAYS: Final = (("status:not", "entered-in-error"), ("_sort", "-date"), ("_count", str(A_PAGE)))

Key = tuple[str, str]


async def lastn(exchange: Exchange, service: Service) -> Answer:
    """GET or POST Observation/$lastn: a searchset, the kind with the newest reading first, each kind newest first."""
    given = await arguments(exchange, service, "max", *CRITERIA)
    pairs = _criteria(given)
    kinds = _Kinds(only_count(given, "max", default=1, largest=MOST_OF_A_KIND))
    await _fill(kinds, exchange, service, pairs)
    asked = [("max", str(kinds.most)), *pairs]
    url = f"{service.base}/Observation/$lastn" + (
        f"?{urlencode(asked, safe=':,|/')}" if exchange.method != "POST" else ""
    )
    return Answer(200, _bundle(service.base, url, kinds.newest()))


def _criteria(given: Arguments) -> list[tuple[str, str]]:
    """The pairs of the search. Raises BadParameter where they are not about one worker."""
    pairs = [(name, str(value)) for name in CRITERIA for value in given.get(name, ())]
    whose = [value for name, value in pairs if name in ("patient", "subject")]
    if len(whose) != 1 or "," in whose[0]:
        raise BadParameter("Say whose observations: one `patient` or `subject`", expression="patient")
    return pairs


async def _fill(kinds: "_Kinds", exchange: Exchange, service: Service, pairs: list[tuple[str, str]]) -> None:
    """All readings that meet the criteria, newest first. Raises Forbidden, TooCostly, Unavailable."""
    query = search_query.parse("Observation", [*pairs, *ALWAYS])
    text = "$lastn?" + urlencode(pairs, safe=":,|/")
    page = await service.archive.search(exchange.known_caller(), query, None, exchange.request_id, text)
    looked_at = 0
    while True:
        for hit in page.hits:
            kinds.add(hit)
        looked_at += len(page.hits)
        if page.next is None:
            return
        if looked_at >= MOST_LOOKED_AT:
            raise TooCostly(
                f"There are more than {MOST_LOOKED_AT} such observations: narrow them by code, category or date"
            )
        page = await service.archive.searches.page(replace(query, sight=exchange.known_caller().sight("s")), page.next)


class _Kinds:
    """Readings by kind: two are of one kind where a coding of their code is the same, also by way of a third."""

    def __init__(self, most: int) -> None:
        self.most = most
        self._kind_of: dict[Key, int] = {}
        self._members: dict[int, tuple[set[Key], list[tuple[int, Found]]]] = {}
        self._seen = 0
        self._kept = 0

    def add(self, hit: Found) -> None:
        """The next reading, none of which is newer than those before. Raises TooCostly."""
        keys = set(_codes(orjson.loads(hit.doc).get("code", {})))
        readings: list[tuple[int, Found]] = []
        for kind in sorted({self._kind_of[key] for key in keys if key in self._kind_of}):
            its_keys, its_readings = self._members.pop(kind)
            keys |= its_keys
            readings += its_readings
        self._kept -= len(readings)
        kept = sorted([*readings, (self._seen, hit)], key=lambda one: one[0])[: self.most]
        self._kept += len(kept)
        if self._kept > MOST_SHOWN:
            raise TooCostly(
                f"More than {MOST_SHOWN} observations would be shown: ask for fewer of each, or narrow them"
            )
        self._members[self._seen] = keys, kept
        self._kind_of.update(dict.fromkeys(keys, self._seen))
        self._seen += 1

    def newest(self) -> list[Found]:
        groups = sorted((readings for _, readings in self._members.values()), key=lambda readings: readings[0][0])
        return [hit for readings in groups for _, hit in readings]


def _codes(concept: dict[str, Any]) -> Iterable[Key]:
    """What says which kind it is: the codings, or the text where there are none."""
    codings = [(one.get("system", ""), one["code"]) for one in concept.get("coding", ()) if "code" in one]
    return codings or [("", " ".join(concept.get("text", "").casefold().split()) + "\n")]


def _bundle(base: str, url: str, hits: list[Found]) -> bytes:
    entries = [
        b'{"fullUrl":"%s/Observation/%s","resource":%s,"search":{"mode":"match"}}'
        % (base.encode(), hit.id.encode(), hit.doc)
        for hit in hits
    ]
    links = [{"relation": "self", "url": url}]
    head = orjson.dumps({"resourceType": "Bundle", "type": "searchset", "total": len(hits), "link": links})
    return head[:-1] + (b',"entry":[' + b",".join(entries) + b"]}" if entries else b"}")


LASTN = Operation(
    "$lastn",
    "http://hl7.org/fhir/OperationDefinition/Observation-lastn",
    lastn,
    frozenset({"type"}),
    frozenset({"Observation"}),
)
