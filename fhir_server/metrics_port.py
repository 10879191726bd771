"""A port of its own for the metrics of one process: off unless set, without a token, so on loopback unless set."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Generator

import uvicorn

from fhir_server.listening import listening
from fhir_server.rest.metrics import Exposition
from fhir_server.settings import Settings


class _Server(uvicorn.Server):
    """Lives and dies with what it tells of: signals are not for it."""

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None]:
        yield


@contextlib.asynccontextmanager
async def metrics_port(exposition: Exposition, settings: Settings) -> AsyncGenerator[None]:
    """Answers `GET /metrics` while it is entered, where a port is set. Raises Unavailable when the port is taken."""
    if settings.metrics_port is None:
        yield
        return
    bound = listening(settings.metrics_host, settings.metrics_port, shared=True)  # with who takes over from this one
    config = uvicorn.Config(exposition, lifespan="off", access_log=False, log_config=None, server_header=False)
    server = _Server(config)
    running = asyncio.create_task(server.serve([bound]))
    try:
        yield
    finally:
        server.should_exit = server.force_exit = True
        await running
