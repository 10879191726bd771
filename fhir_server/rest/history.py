"""history of an instance, of a type and of the system: https://hl7.org/fhir/R4/http.html#history

Newest first. The link `next` is sealed and starts below the last version shown, so that what is written meanwhile
neither shifts a page nor shows up in one.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final
from urllib.parse import urlencode

import orjson

from fhir_server.outcomes import BadParameter, Issue
from fhir_server.r4 import summary
from fhir_server.r4.index_values import period_of
from fhir_server.r4.resource_types import TYPE_NAME, TYPE_NUMBER
from fhir_server.r4.search_criteria import DEFAULT_COUNT, LARGEST_COUNT
from fhir_server.r4.summary import Subset, subset
from fhir_server.records import history as histories
from fhir_server.records.history import Chapter
from fhir_server.records.render import instant
from fhir_server.records.write import is_ours
from fhir_server.rest.http import Answer, Exchange
from fhir_server.rest.service import Service
from fhir_server.store.histories import BEGINNING, END, Moment, Past, Span

Pairs = list[tuple[str, str]]

EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
PLACE: Final = "_place"  # of the sealed pairs only


async def history(exchange: Exchange, service: Service) -> Answer:
    """GET Type/id/_history: all that one resource was."""
    resource_type, resource_id, _ = exchange.segments
    wish = _wish(exchange, service)
    asked = wish.asked(exchange)
    caller = exchange.known_caller()
    chapter = await histories.of_instance(service.archive, caller, resource_type, resource_id, asked)
    return _answer(exchange, service, wish, chapter)


async def history_of_type(exchange: Exchange, service: Service) -> Answer:
    """GET Type/_history: all that happened to the resources of a type."""
    wish = _wish(exchange, service)
    asked = wish.asked(exchange)
    chapter = await histories.of_type(service.archive, exchange.known_caller(), exchange.segments[0], asked)
    return _answer(exchange, service, wish, chapter)


async def history_of_system(exchange: Exchange, service: Service) -> Answer:
    """GET _history: all that happened, as far as this caller may read it."""
    from fhir_server.rest.routes import types_offering  # the table lists this interaction too

    wish = _wish(exchange, service)
    asked = wish.asked(exchange)
    offered = types_offering("history-type")
    chapter = await histories.of_system(service.archive, exchange.known_caller(), offered, asked)
    return _answer(exchange, service, wish, chapter)


@dataclass(frozen=True, slots=True)
class _Wish:
    """The parameters as they were understood; `applied` goes into the links."""

    span: Span
    below: Moment
    count: int
    total: bool
    applied: tuple[tuple[str, str], ...]
    part: Subset | None

    def asked(self, exchange: Exchange) -> histories.Asked:
        return histories.Asked(
            self.span, self.below, self.count, self.total, urlencode(self.applied, safe=":"), exchange.request_id
        )


def _wish(exchange: Exchange, service: Service) -> _Wish:
    """Raises BadParameter with every fault at once."""
    pairs = exchange.pairs()
    if cursor := dict(pairs).get("_cursor"):
        pairs, _ = service.page_links.open(exchange.known_caller().client_id, "/".join(exchange.segments), cursor)
    part = summary.wish(pairs, exchange.segments[0] if exchange.segments[0] in TYPE_NUMBER else None)
    reader = _Reader()
    for name, value in part.others:
        reader.take(name, value)
    if reader.faults:
        raise BadParameter(issues=reader.faults)
    applied = (*reader.applied.items(), *part.own)
    return _Wish(Span(reader.since, *reader.at), reader.below, reader.count, reader.total, applied, part.subset)


class _Reader:
    def __init__(self) -> None:
        self.since = BEGINNING
        self.at = BEGINNING, END
        self.count = DEFAULT_COUNT
        self.total = False
        self.below = Moment()
        self.applied: dict[str, str] = {}
        self.faults: list[Issue] = []

    def take(self, name: str, value: str) -> None:
        if name in self.applied:
            self.faults.append(Issue("error", "invalid", f"{name} is given twice", name))
            return
        try:
            self._take(name, value)
        except ValueError as error:
            self.faults.append(Issue("error", "invalid", str(error), name))
        except KeyError:
            text = (
                f"{name[:100]} is not a parameter of history (it has _since, _at, _count, _total, _summary, _elements)"
            )
            self.faults.append(Issue("error", "not-supported", text, name))

    def _take(self, name: str, value: str) -> None:
        match name:
            case "_format" | "_pretty":
                return
            case "_count":
                self.count = min(_number(value), LARGEST_COUNT)
                self.total = self.total or self.count == 0
            case "_summary" if value == "count":
                self.count, self.total = 0, True
            case "_since":
                self.since = _period(value)[0]
            case "_at":
                self.at = _period(value)
            case "_total":
                if value not in ("none", "estimate", "accurate"):
                    raise ValueError("_total is none, estimate or accurate")
                self.total = self.total or value != "none"
            case "_place":
                self.below = _place(value)
                return
            case _:
                raise KeyError(name)
        self.applied[name] = value


def _number(text: str) -> int:
    if not text.isdecimal() or len(text) > 9:
        raise ValueError("a whole number is wanted")
    return int(text)


def _period(text: str) -> tuple[datetime, datetime]:
    """The time that an instant, dateTime or date means. Raises ValueError."""
    low, high = period_of(text.replace(" ", "+"))  # a `+` in a URL is a blank
    return _moment(low), _moment(high)


def _moment(microseconds: int) -> datetime:
    try:
        return EPOCH + timedelta(microseconds=microseconds)
    except OverflowError:
        return END if microseconds > 0 else BEGINNING


def _place(text: str) -> Moment:
    """Read what `_following` wrote; nobody else can, since it is sealed."""
    updated, rid, version = text.split(" ")
    return Moment(datetime.fromisoformat(updated), int(rid), int(version))


def _following(wish: _Wish, place: Moment) -> Pairs:
    return [*wish.applied, (PLACE, f"{place.updated.isoformat()} {place.rid} {place.version}")]


def _answer(exchange: Exchange, service: Service, wish: _Wish, chapter: Chapter) -> Answer:
    path = "/".join(exchange.segments)
    url = f"{service.base}/{path}"
    client_id = exchange.known_caller().client_id

    def sealed(place: Moment) -> str:
        return f"{url}?_cursor={service.page_links.seal(client_id, path, _following(wish, place), None)}"

    plain = f"{url}?{urlencode(wish.applied, safe=':')}" if wish.applied else url
    links = [{"relation": "self", "url": plain if wish.below == Moment() else sealed(wish.below)}]
    if chapter.next:
        links.append({"relation": "next", "url": sealed(chapter.next)})
    head: dict[str, object] = {"resourceType": "Bundle", "type": "history"}
    if chapter.total is not None:
        head["total"] = chapter.total
    return Answer(
        200, _bundle(head | {"link": links}, (_entry(service.base, one, wish.part) for one in chapter.versions))
    )


def _bundle(head: dict[str, object], entries: Iterable[bytes]) -> bytes:
    listed = b",".join(entries)
    return orjson.dumps(head)[:-1] + (b',"entry":[' + listed + b"]}" if listed else b"}")


def _entry(base: str, one: Past, part: Subset | None) -> bytes:
    """fullUrl, resource, and the request and response that made this version."""
    resource_type = TYPE_NAME[one.type]
    name = f"{resource_type}/{one.id}"
    method, status, url = "PUT", "201" if one.revived or one.version == 1 else "200", name
    if one.deleted:
        method, status = "DELETE", "204"
    elif one.version == 1 and is_ours(one.id):  # under another id, a client put it there
        method, url = "POST", resource_type
    rest = {
        "request": {"method": method, "url": url},
        "response": {
            "status": status,
            "etag": f'W/"{one.version}"',
            "lastModified": instant(one.updated.astimezone(UTC)),
        },
    }
    doc = subset(one.doc, resource_type, part) if one.doc and part else one.doc
    resource = b'"resource":' + doc + b"," if doc else b""
    return b'{"fullUrl":"%s/%s",%s%s' % (base.encode(), name.encode(), resource, orjson.dumps(rest)[1:])
