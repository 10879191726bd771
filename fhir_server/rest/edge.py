"""The edge: an ASGI application that finds the interaction in the table, and turns failures into answers."""

from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from typing import Any

import structlog

from fhir_server.outcomes import Failure
from fhir_server.rest import bulk
from fhir_server.rest.authentication import Authentication
from fhir_server.rest.forms import in_form, wanted, wants_pretty
from fhir_server.rest.http import FHIR_JSON, Answer, Exchange, Header, failure_answer, surprise, surprise_answer
from fhir_server.rest.operations import graphql
from fhir_server.rest.routes import Route, answers_options, methods_of, route_of, trace_refusal
from fhir_server.rest.service import Service
from fhir_server.rest.watch import Watch

log = structlog.get_logger(__name__)


class Edge:
    """`/fhir` as an ASGI application. `root` is the path under which it is mounted."""

    def __init__(
        self, service: Service, authentication: Authentication, *, root: str = "/fhir", watch: Watch | None = None
    ) -> None:
        self._service = service
        self._authentication = authentication
        self._root = root
        self._watch = watch or Watch()

    async def __call__(self, scope: Mapping[str, Any], receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            return
        path: str = scope["path"][len(self._root) :]
        segments = tuple(segment for segment in path.split("/") if segment)
        exchange = Exchange(scope, receive, segments)
        began = self._watch.begins()
        try:
            with self._watch.metrics.traces.whole("request", exchange.texts) as span:
                await self._exchange(exchange, send)
                self._watch.tells(span, exchange)
        finally:
            self._watch.ends(began, exchange)

    async def _exchange(self, exchange: Exchange, send: Any) -> None:
        try:
            await self._send(send, await self._answer(exchange), exchange)
        except Failure as failure:
            await trace_refusal(exchange, self._service, failure)
            await self._send(send, await _told(exchange, failure), exchange)
        except Exception:
            log.exception("request failed", request_id=exchange.request_id, method=exchange.method)
            await self._send(send, _surprised(exchange), exchange)

    async def _answer(self, exchange: Exchange) -> Answer:
        if exchange.method == "OPTIONS" and not answers_options(exchange.segments):
            return Answer(204, b"", [_allow(exchange)])
        route = route_of(exchange)
        exchange.interaction = route.name
        if route.needs_caller:
            exchange.caller = await self._authentication.caller(exchange.headers.get(b"authorization"), exchange.scope)
            self._service.limits.request(exchange.caller)
        if _streams(exchange, route):
            answer = await route.interaction(exchange, self._service)
            if answer.media_type != FHIR_JSON:
                return answer
            if answer.status >= 400:
                return await _in_some_form(answer, exchange)
            return await in_form(answer, wanted(exchange), pretty=wants_pretty(exchange))
        form = wanted(exchange)
        answer = await route.interaction(exchange, self._service)
        form = wanted(exchange) if exchange.asked_format else form
        return await in_form(answer, form, pretty=wants_pretty(exchange))

    async def _send(self, send: Any, answer: Answer, exchange: Exchange) -> None:
        headers: list[Header] = [*self._watch.headers(exchange), *answer.headers]
        bodiless = answer.status in (204, 304)  # and without a length (RFC 9110 section 8.6)
        if not bodiless:
            headers.append((b"content-type", answer.media_type))
        body = answer.body if isinstance(answer.body, bytes) else await _begun(answer.body)
        if isinstance(body, bytes) and not bodiless and not any(name == b"content-length" for name, _ in headers):
            headers.append((b"content-length", str(len(body)).encode()))
        exchange.status = answer.status
        await send({"type": "http.response.start", "status": answer.status, "headers": headers})
        if exchange.method == "HEAD" or bodiless:
            if not isinstance(body, bytes):
                await _close(body)
            await send({"type": "http.response.body", "body": b""})
        elif isinstance(body, bytes):
            await send({"type": "http.response.body", "body": body})
        else:
            async for chunk in body:
                await send({"type": "http.response.body", "body": chunk, "more_body": True})
            await send({"type": "http.response.body", "body": b""})


def _streams(exchange: Exchange, route: Route) -> bool:
    """A Binary is answered in any media type that it has, so its Accept may name any; so is a bulk job."""
    return route.shape[:1] == (bulk.JOBS,) or (exchange.segments[:1] == ("Binary",) and route.code in ("read", "vread"))


def _allow(exchange: Exchange) -> Header:
    """What may be done under this path (RFC 9110 section 10.2.1). Raises NotSupported where there is nothing."""
    return b"allow", ", ".join(methods_of(exchange.segments)).encode()


def _surprised(exchange: Exchange) -> Answer:
    """A bug of ours."""
    if graphql.is_asked(exchange):
        return graphql.failed(500, [surprise(exchange.request_id)])
    return surprise_answer(exchange.request_id)


async def _told(exchange: Exchange, failure: Failure) -> Answer:
    """The OperationOutcome in the form that the client reads, in JSON where it reads neither."""
    answer = failure_answer(failure)
    if graphql.is_asked(exchange):
        answer = graphql.failed(answer.status, failure.issues, answer.headers)
    if failure.status == 405:
        answer = replace(answer, headers=[*answer.headers, _allow(exchange)])
    return await _in_some_form(answer, exchange)


async def _in_some_form(answer: Answer, exchange: Exchange) -> Answer:
    try:
        return await in_form(answer, wanted(exchange), pretty=wants_pretty(exchange))
    except Failure:
        return answer


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
