"""Metrics as Prometheus reads them: at `/metrics` for clients in the role of an operator, or on a port of their own.

https://prometheus.io/docs/instrumenting/exposition_formats/
"""

import time

import structlog
from fastapi import APIRouter, Request
from fastapi.responses import Response
from prometheus_client.exposition import choose_encoder
from starlette.types import Receive, Scope, Send

from fhir_server.metrics import Metrics, registry_of
from fhir_server.outcomes import Failure, Forbidden
from fhir_server.rest.authentication import Authentication
from fhir_server.store.database import Database
from fhir_server.store.queues import queue_lengths

log = structlog.get_logger(__name__)

OPERATOR = "operator"
QUEUES_LIVE = 15.0


class Exposition:
    """The numbers of a process as text. The queues are counted by the database at most every 15 seconds."""

    def __init__(self, metrics: Metrics, database: Database, *, queues_live: float = QUEUES_LIVE) -> None:
        self._metrics = metrics
        self._database = database
        self._live = queues_live
        self._counted = -queues_live
        self._registry = registry_of(metrics)

    async def answer(self, accept: str) -> Response:
        """In the format that the Accept header prefers."""
        if time.monotonic() - self._counted >= self._live:
            self._counted = time.monotonic()
            self._metrics.queues = await self._queues()
        encode, media_type = choose_encoder(accept)
        return Response(encode(self._registry), media_type=media_type)

    async def _queues(self) -> dict[str, list[tuple[tuple[str, ...], float]]]:
        """What the process knows of itself is told without the database, too."""
        try:
            return {**await queue_lengths(self._database), "queues_known": [((), 1.0)]}
        except Failure as failure:
            log.warning("the queues could not be counted", reason=failure.diagnostics)
            return {"queues_known": [((), 0.0)]}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """An ASGI application by itself, for the metrics port."""
        if scope["type"] != "http":
            return
        accept = dict(scope["headers"]).get(b"accept", b"").decode("latin-1")
        found = scope["path"] == "/metrics" and scope["method"] in ("GET", "HEAD")
        answer = await self.answer(accept) if found else Response("Only GET /metrics is here\n", 404)
        await answer(scope, receive, send)


def metrics_route(exposition: Exposition, authentication: Authentication) -> APIRouter:
    router = APIRouter()

    @router.get("/metrics")
    async def metrics(request: Request) -> Response:
        """Raises Unauthenticated without a token, Forbidden for a client that is no operator."""
        authorization = request.headers.get("authorization")
        caller = await authentication.caller(authorization.encode("latin-1") if authorization else None, request.scope)
        if caller.role != OPERATOR:
            raise Forbidden("Metrics are for clients in the role operator")
        return await exposition.answer(request.headers.get("accept", ""))

    return router
