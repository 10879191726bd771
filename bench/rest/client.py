"""A cheap HTTP/1.1 client: one connection, one request at a time, so that the load costs less than what it measures.

https://www.rfc-editor.org/rfc/rfc9112
"""

import asyncio
import contextlib
import ssl
import time
from dataclasses import dataclass
from typing import Final, cast
from urllib.parse import urlsplit

import httptools

JSON: Final = "application/fhir+json"


class Unreachable(Exception):
    """The server cannot be connected to, or went away in the middle of an answer."""


@dataclass(frozen=True, slots=True)
class Answer:
    """Status, the body where it was asked for, how many bytes it had, and the milliseconds until its last one."""

    status: int
    body: bytes
    size: int
    milliseconds: float
    location: str


@dataclass(frozen=True, slots=True)
class Target:
    """A FHIR base, taken apart once; `token` is sent as bearer."""

    base: str
    token: str | None = None

    @property
    def host(self) -> str:
        return urlsplit(self.base).hostname or ""

    @property
    def port(self) -> int:
        parts = urlsplit(self.base)
        return parts.port or (443 if parts.scheme == "https" else 80)

    @property
    def path(self) -> str:
        return urlsplit(self.base).path.rstrip("/")

    @property
    def tls(self) -> ssl.SSLContext | None:
        return ssl.create_default_context() if urlsplit(self.base).scheme == "https" else None

    def path_of(self, url: str) -> str:
        """What to ask the connection for, by an absolute URL of this server or a path below its base."""
        if url.startswith(("http://", "https://")):
            parts = urlsplit(url)
            return parts.path + (f"?{parts.query}" if parts.query else "")
        return f"{self.path}/{url}" if url else self.path or "/"


class _Protocol(asyncio.Protocol):
    """Feeds what arrives to the parser and wakes whoever waits for the answer."""

    def __init__(self) -> None:
        self._parser = httptools.HttpResponseParser(self)
        self._waiting: asyncio.Future[None] | None = None
        self._chunks: list[bytes] = []
        self._keep = False
        self.transport: asyncio.Transport | None = None
        self.closed = False
        self.size = 0
        self.status = 0
        self.location = ""
        self.body = b""

    def expect(self, keep: bool) -> asyncio.Future[None]:
        self._parser = httptools.HttpResponseParser(self)
        self._keep, self._chunks, self.size, self.location = keep, [], 0, ""
        self._waiting = asyncio.get_running_loop().create_future()
        return self._waiting

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            self.connection_lost(error)

    def connection_lost(self, exc: Exception | None) -> None:
        self.closed = True
        if self._waiting and not self._waiting.done():
            self._waiting.set_exception(Unreachable(f"the server closed the connection ({exc or 'end of stream'})"))

    def on_header(self, name: bytes, value: bytes) -> None:
        if name.lower() in (b"location", b"content-location"):
            self.location = value.decode("latin-1")

    def on_body(self, body: bytes) -> None:
        self.size += len(body)
        if self._keep:
            self._chunks.append(body)

    def on_message_complete(self) -> None:
        self.status = self._parser.get_status_code()
        if self.status < 200:
            return
        self.body = b"".join(self._chunks)
        if not self._parser.should_keep_alive():
            self.closed = True
        if self._waiting and not self._waiting.done():
            self._waiting.set_result(None)


class Connection:
    """One kept-alive connection to the target, made when it is first needed and again when the server closed it."""

    def __init__(self, target: Target, timeout: float = 120.0) -> None:
        self.target = target
        self._timeout = timeout
        self._protocol: _Protocol | None = None
        authority = f"{target.host}:{target.port}"
        bearer = f"authorization: Bearer {target.token}\r\n" if target.token else ""
        self._head = f" HTTP/1.1\r\nhost: {authority}\r\n{bearer}"

    async def ask(
        self,
        method: str,
        url: str,
        body: bytes = b"",
        content_type: str = JSON,
        headers: str = "",
        *,
        keep: bool = False,
    ) -> Answer:
        """One request and its whole answer; the body is kept when `keep`. `headers` are complete lines.

        Raises Unreachable when there is no connection to be had, when it breaks, or when nothing came for the timeout.
        """
        protocol = await self._connected()
        accept = "" if "accept:" in headers else f"accept: {JSON}\r\n"
        described = f"content-type: {content_type}\r\ncontent-length: {len(body)}\r\n" if body else ""
        if not body and method in ("POST", "PUT"):
            described = "content-length: 0\r\n"
        head = f"{method} {self.target.path_of(url)}{self._head}{accept}{headers}{described}\r\n"
        began = time.perf_counter()
        waiting = protocol.expect(keep)
        assert protocol.transport is not None
        protocol.transport.write(head.encode() + body)
        try:
            async with asyncio.timeout(self._timeout):
                await waiting
        except TimeoutError:
            self.close()
            raise Unreachable(f"no answer within {self._timeout:.0f} s") from None
        taken = (time.perf_counter() - began) * 1000
        return Answer(protocol.status, protocol.body, protocol.size, taken, protocol.location)

    async def _connected(self) -> _Protocol:
        if self._protocol and not self._protocol.closed:
            return self._protocol
        self.close()
        try:
            _, self._protocol = await asyncio.get_running_loop().create_connection(
                _Protocol, self.target.host, self.target.port, ssl=self.target.tls
            )
        except OSError as error:
            raise Unreachable(f"{self.target.base} cannot be connected to: {error}") from error
        return self._protocol

    def close(self) -> None:
        if self._protocol and self._protocol.transport:
            with contextlib.suppress(RuntimeError):
                self._protocol.transport.close()
        self._protocol = None
