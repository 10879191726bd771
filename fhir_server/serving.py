"""One process that serves and that stops without failing a request which it took.

It stops in four steps. It says so at /readyz and on every answer (`Connection: close`) while it still takes
connections; it takes no more, but those that the kernel has taken for it; it answers what comes over those that are
there, and closes them; commits and audit rows reach the disk. A second signal skips the first step.
"""

import asyncio
import contextlib
import signal
import socket
from collections.abc import Generator
from typing import Any

import uvicorn

from fhir_server.app import Application, create
from fhir_server.settings import Settings

BACKLOG = 2048
READY = b"1"
LINGER_TURNS = 50


class Server(uvicorn.Server):
    """Serves an application. `lifeline` leads to the process that started this one, and ends with it."""

    def __init__(self, app: Application, settings: Settings, lifeline: socket.socket | None = None) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                access_log=False,
                log_config=None,  # its records go through ours, which keeps values of exceptions out
                server_header=False,
                proxy_headers=False,
                backlog=BACKLOG,
                timeout_graceful_shutdown=settings.shutdown_seconds,
            )
        )
        self._watch = app.watch
        self._drain_seconds = settings.drain_seconds
        self._lifeline = lifeline

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None]:
        """In the place of uvicorn's, which drops what it has not taken and ends the process by the signal."""
        loop = asyncio.get_running_loop()
        for name in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(name, self._stop)
        if self._lifeline:
            loop.add_reader(self._lifeline, self._lifeline_ended)
        yield
        for name in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(name)

    def _stop(self) -> None:
        if self._watch.draining:
            self.should_exit = True
        self._watch.draining = True
        asyncio.get_running_loop().call_later(self._drain_seconds, setattr, self, "should_exit", True)

    def _lifeline_ended(self) -> None:
        assert self._lifeline
        asyncio.get_running_loop().remove_reader(self._lifeline)
        self._stop()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self._lifeline and self.started:
            with contextlib.suppress(OSError):  # its other end is gone: the reader above sees it
                self._lifeline.send(READY)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        await self._take_no_more(sockets or [])
        for _ in range(LINGER_TURNS):
            if not self.server_state.connections:
                break
            await asyncio.sleep(0.02)
        await super().shutdown()

    async def _take_no_more(self, sockets: list[socket.socket]) -> None:
        """Close the port; a connection that the kernel holds for us would otherwise be reset."""
        loop = asyncio.get_running_loop()
        left = [listening.dup() for listening in sockets]
        for server in self.servers:
            server.close()
        self.servers = []
        taken: list[socket.socket] = []
        for listening in left:
            listening.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                while len(taken) < BACKLOG:
                    taken.append(listening.accept()[0])
            listening.close()
        for connection in taken:
            await loop.connect_accepted_socket(self._protocol, connection)

    def _protocol(self) -> asyncio.Protocol:
        protocol: Any = self.config.http_protocol_class
        return protocol(config=self.config, server_state=self.server_state, app_state=self.lifespan.state)


def serve(settings: Settings, listening: socket.socket, lifeline: socket.socket | None = None) -> None:
    """Serve until a signal comes, then finish what is under way."""
    Server(create(settings), settings, lifeline).run([listening])
