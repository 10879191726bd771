"""The edge: an ASGI application that finds the interaction in the table, and turns failures into answers."""

import re
from collections.abc import AsyncIterator, Mapping
from typing import Any

import structlog

from fhir_server.outcomes import Failure, Forbidden, MethodNotAllowed, NotSupported, Unauthenticated
from fhir_server.r4.resource_types import TYPE_NUMBER
from fhir_server.records import audit
from fhir_server.rest.authentication import Authentication
from fhir_server.rest.http import Answer, Exchange, Header, failure_answer, surprise_answer
from fhir_server.rest.routes import ROUTES, Route, codes_of
from fhir_server.rest.service import Service

log = structlog.get_logger(__name__)

_ID = re.compile(r"[A-Za-z0-9\-.]{1,64}")
_TABLE = {(route.method, route.shape): route for route in ROUTES}
_METHODS = {shape: sorted(m for m, s in _TABLE if s == shape) for _, shape in _TABLE}


class Edge:
    """`/fhir` as an ASGI application. `root` is the path under which it is mounted."""

    def __init__(self, service: Service, authentication: Authentication, *, root: str = "/fhir") -> None:
        self._service = service
        self._authentication = authentication
        self._root = root

    async def __call__(self, scope: Mapping[str, Any], receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            return
        path: str = scope["path"][len(self._root) :]
        segments = tuple(segment for segment in path.split("/") if segment)
        exchange = Exchange(scope, receive, segments)
        try:
            answer = await self._answer(exchange)
            await _send(send, answer, exchange)
        except Failure as failure:
            await self._trace_refusal(exchange, failure)
            await _send(send, failure_answer(failure, exchange.request_id), exchange)
        except Exception:
            log.exception("request failed", request_id=exchange.request_id, method=exchange.method)
            await _send(send, surprise_answer(exchange.request_id), exchange)

    async def _answer(self, exchange: Exchange) -> Answer:
        route = _route(exchange)
        if route.needs_caller:
            exchange.caller = await self._authentication.caller(exchange.headers.get(b"authorization"))
        return await route.interaction(exchange, self._service)

    async def _trace_refusal(self, exchange: Exchange, failure: Failure) -> None:
        """A refusal is an access too: somebody asked for what he may not have."""
        if not isinstance(failure, Unauthenticated | Forbidden):
            return
        known_type = exchange.segments[0] if exchange.segments and exchange.segments[0] in TYPE_NUMBER else None
        row = audit.access(
            exchange.caller,
            exchange.method.lower(),
            exchange.request_id,
            outcome=audit.REFUSED,
            resource_type=known_type,
            resource_id=exchange.segments[1] if known_type and len(exchange.segments) > 1 else None,
        )
        try:
            await self._service.archive.accesses.append(row)
        except Failure as second:
            log.warning("refusal not traced", request_id=exchange.request_id, reason=second.diagnostics)


def _route(exchange: Exchange) -> Route:
    """Raises NotSupported, MethodNotAllowed."""
    shape = _shape(exchange.segments)
    method = "GET" if exchange.method == "HEAD" else exchange.method
    route = _TABLE.get((method, shape))
    if route is None:
        if shape in _METHODS:
            raise MethodNotAllowed(f"Here this server answers {', '.join(_METHODS[shape])}")
        raise NotSupported("This server has nothing under this path")
    if route.shape[:1] == ("T",) and route.code not in codes_of(exchange.segments[0]):
        raise MethodNotAllowed(f"This server does not offer {route.code} on {exchange.segments[0]}")
    return route


def _shape(segments: tuple[str, ...]) -> tuple[str, ...]:
    if not segments or segments[0] not in TYPE_NUMBER:
        return segments
    shape = ["T"]
    for position, segment in enumerate(segments[1:], start=1):
        if segment.startswith(("_", "$")):
            shape.append(segment)
        elif position == 3:
            shape.append("V")
        else:
            shape.append("I" if _ID.fullmatch(segment) else "?")
    return tuple(shape)


async def _send(send: Any, answer: Answer, exchange: Exchange) -> None:
    headers: list[Header] = [(b"content-type", answer.media_type), *answer.headers]
    if answer.status in (204, 304):
        headers = list(answer.headers)
    body = answer.body if isinstance(answer.body, bytes) else await _begun(answer.body)
    if isinstance(body, bytes) and not any(name == b"content-length" for name, _ in headers):
        headers.append((b"content-length", str(len(body)).encode()))
    await send({"type": "http.response.start", "status": answer.status, "headers": headers})
    if exchange.method == "HEAD" or answer.status in (204, 304):
        if not isinstance(body, bytes):
            await _close(body)
        await send({"type": "http.response.body", "body": b""})
    elif isinstance(body, bytes):
        await send({"type": "http.response.body", "body": body})
    else:
        async for chunk in body:
            await send({"type": "http.response.body", "body": chunk, "more_body": True})
        await send({"type": "http.response.body", "body": b""})


async def _begun(chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """The same chunks, of which the first is there: what cannot be read fails while a status can still say so."""
    first = await anext(chunks, b"")

    async def all_of_them() -> AsyncIterator[bytes]:
        yield first
        async for chunk in chunks:
            yield chunk

    return all_of_them()


async def _close(chunks: AsyncIterator[bytes]) -> None:
    if close := getattr(chunks, "aclose", None):
        await close()
