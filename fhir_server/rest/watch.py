"""What the outside is told of each request: a number in the metrics, one line in the log, its id on the answer.

The line says which interaction on which type; never the id of a resource, a path or a query, which may say who it is
about.
"""

import time
from collections.abc import MutableMapping
from typing import Any, Final

import structlog
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from fhir_server.caller import Caller
from fhir_server.metrics import Metrics
from fhir_server.r4.resource_types import TYPE_NUMBER
from fhir_server.rest.http import UNKNOWN, Exchange, Header, request_id_of
from fhir_server.traces import Span

log = structlog.get_logger(__name__)

CLOSE: Final = (b"connection", b"close")
# What is served beside FHIR, by its path, as the log and the metrics call it.
BESIDE: Final = {
    "/oauth2/token": "token",
    "/login": "login",
    "/login/callback": "login",
    "/logout": "logout",
    "/session": "session",
    "/livez": "health",
    "/readyz": "health",
    "/metrics": "metrics",
    "/openapi.json": "docs",
    "/docs": "docs",
}
CONSOLE: Final = "console"
"""All its pages, whose paths name a folder in a sealed word."""
# Asked every few seconds by machines: counted, and told in the log only to those who debug.
SILENT: Final = frozenset({"health", "metrics"})
METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


class Watch:
    """Sees every request of a process. `draining`: the process is about to stop, and asks its clients to go."""

    def __init__(self, metrics: Metrics | None = None) -> None:
        self.metrics = metrics or Metrics()
        self.draining = False

    def headers(self, exchange: Exchange) -> list[Header]:
        """The headers that every answer carries."""
        given = (b"x-request-id", exchange.request_id.encode())
        return [given, CLOSE] if self.draining else [given]

    def begins(self) -> float:
        """A request has come; what is returned is handed to `ends`."""
        self.metrics.in_flight += 1
        return time.perf_counter()

    def tells(self, span: Span, exchange: Exchange) -> None:
        """The trace of a FHIR request says what its line in the log says."""
        resource_type = _type_of(exchange)
        about: dict[str, str | int] = {
            "http.request.method": _method_of(exchange.method),
            "http.response.status_code": exchange.status,
            "dmst_fhir.request_id": exchange.request_id,
            "dmst_fhir.interaction": exchange.interaction,
            "dmst_fhir.type": resource_type,
        }
        span.tell(f"{exchange.interaction} {resource_type}".rstrip(), about)

    def ends(self, began: float, exchange: Exchange) -> None:
        """The answer to a FHIR request is complete, or its client has left."""
        self._ends(
            began,
            exchange.request_id,
            exchange.method,
            exchange.interaction,
            _type_of(exchange),
            exchange.status,
            _software(exchange.caller) if exchange.caller else None,
        )

    async def around(self, app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
        """The same for what is served beside FHIR. The id of the request is left in `scope["state"]`."""
        request_id = request_id_of(dict(scope["headers"]))
        state: MutableMapping[str, Any] = scope.setdefault("state", {})
        state["request_id"] = request_id
        given = [(b"x-request-id", request_id.encode()), *([CLOSE] if self.draining else [])]
        status = 0

        async def send_with_headers(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message = {**message, "headers": [*message.get("headers", ()), *given]}
            await send(message)

        began = self.begins()
        try:
            await app(scope, receive, send_with_headers)
        finally:
            interaction = CONSOLE if scope["path"].startswith(f"/{CONSOLE}") else BESIDE.get(scope["path"], UNKNOWN)
            self._ends(began, request_id, scope["method"], interaction, "", status, None)

    def _ends(
        self,
        began: float,
        request_id: str,
        method: str,
        interaction: str,
        resource_type: str,
        status: int,
        client_id: str | None,
    ) -> None:
        seconds = time.perf_counter() - began
        self.metrics.in_flight -= 1
        self.metrics.request(interaction, resource_type, status, seconds)
        tell = log.debug if interaction in SILENT else log.info
        tell(
            "access",
            request_id=request_id,
            method=_method_of(method),
            interaction=interaction,
            type=resource_type or None,
            status=status,
            ms=round(seconds * 1000, 2),
            client=client_id,
        )


def _software(caller: Caller) -> str:
    """What asks, without the person who does: that is for the trail."""
    return caller.client_id.removesuffix(f":{caller.professional}") if caller.professional else caller.client_id


def _type_of(exchange: Exchange) -> str:
    asked = exchange.segments[0] if exchange.segments else ""
    return asked if asked in TYPE_NUMBER else ""


def _method_of(method: str) -> str:
    return method if method in METHODS else UNKNOWN
