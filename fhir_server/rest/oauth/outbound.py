"""Requests of ours to addresses that a client or a provider named: key sets, discovery, tokens, introspection.

What is asked must be where anybody could ask it: https, at an address of the public network, without a redirect,
small and soon (OWASP, server-side request forgery). The name is resolved once and the connection goes to that very
address, so a name that means something else a moment later leads nowhere.
"""

import asyncio
import ipaddress
import socket
import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import httpx
import orjson
import structlog

from fhir_server.outcomes import Unavailable
from fhir_server.settings import Settings, listed

log = structlog.get_logger(__name__)

SECONDS: Final = 5.0
LARGEST: Final = 512 * 1024
# Addresses of IPv6 that lead to addresses of IPv4 (RFC 6052, 3056, 4380).
DETOURS: Final = tuple(
    ipaddress.ip_network(net) for net in ("64:ff9b::/96", "64:ff9b:1::/48", "2002::/16", "2001::/32")
)

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


class Outbound:
    """Asks. `loopback` allows this machine, without TLS too; `private` names hosts that may be in a private network."""

    def __init__(
        self, *, loopback: bool = False, private: frozenset[str] = frozenset(), ca: Path | None = None
    ) -> None:
        self._loopback = loopback
        self._private = private
        self._ca = ca
        self._tls: ssl.SSLContext | None = None

    def trusting(self, *urls: str | None) -> "Outbound":
        """The same, for which the hosts of these addresses, that the operator wrote, may be in a private network."""
        hosts = {httpx.URL(url).host for url in urls if url}
        return Outbound(loopback=self._loopback, private=self._private | hosts, ca=self._ca)

    def check(self, text: str) -> httpx.URL:
        """The address. Raises ValueError where it is none that this server asks."""
        try:
            url = httpx.URL(text)
        except httpx.InvalidURL as error:
            raise ValueError("not an address") from error
        if not url.host or url.userinfo or url.fragment:
            raise ValueError("an address has a host, no user and no fragment")
        if url.scheme != "https" and not (url.scheme == "http" and self._loopback and _is_loopback(url.host)):
            raise ValueError("the address must be https")
        return url

    async def get(self, url: str, *, bearer: str | None = None) -> bytes:
        """The body of a 200. Raises Unavailable for anything else."""
        headers = {"accept": "application/json"} | ({"authorization": f"Bearer {bearer}"} if bearer else {})
        status, body = await self._ask("GET", url, headers)
        if status != 200:
            raise _unavailable(url, f"it answered {status}")
        return body

    async def get_json(self, url: str, *, bearer: str | None = None) -> dict[str, Any]:
        return _object(url, await self.get(url, bearer=bearer))

    async def post_form(
        self, url: str, form: Mapping[str, str], *, auth: tuple[str, str] | None = None
    ) -> tuple[int, dict[str, Any]]:
        """The status and the JSON object that came. Raises Unavailable."""
        status, body = await self._ask("POST", url, {"accept": "application/json"}, form, auth)
        return status, _object(url, body)

    async def _ask(
        self,
        method: str,
        text: str,
        headers: dict[str, str],
        form: Mapping[str, str] | None = None,
        auth: tuple[str, str] | None = None,
    ) -> tuple[int, bytes]:
        try:
            url = self.check(text)
            async with asyncio.timeout(SECONDS):
                address = await self._resolved(url)
                return await self._ask_at(address, method, url, headers, form, auth)
        except (ValueError, OSError, httpx.HTTPError, TimeoutError) as error:
            raise _unavailable(text, type(error).__name__) from None

    async def _ask_at(
        self,
        address: Address,
        method: str,
        url: httpx.URL,
        headers: dict[str, str],
        form: Mapping[str, str] | None,
        auth: tuple[str, str] | None,
    ) -> tuple[int, bytes]:
        limits = httpx.Limits(max_keepalive_connections=0)  # one made for a name is not used for another
        async with (
            httpx.AsyncClient(
                verify=self._context(), trust_env=False, follow_redirects=False, limits=limits, timeout=SECONDS
            ) as client,
            client.stream(
                method,
                url.copy_with(host=str(address)),
                headers={**headers, "host": url.netloc.decode(), "accept-encoding": "identity"},
                data=form,
                auth=httpx.BasicAuth(*auth) if auth else None,
                extensions={"sni_hostname": url.host},
            ) as answer,
        ):
            body = b""
            async for chunk in answer.aiter_raw():  # not unpacked, so it is no larger than it looks
                body += chunk
                if len(body) > LARGEST:
                    raise ValueError("too large")
            return answer.status_code, body

    async def _resolved(self, url: httpx.URL) -> Address:
        """Where the name leads. Raises ValueError where an address of it is not allowed, OSError where it has none."""
        port = url.port or (443 if url.scheme == "https" else 80)
        found = await asyncio.get_running_loop().getaddrinfo(url.host, port, type=socket.SOCK_STREAM)
        addresses = [ipaddress.ip_address(str(one[4][0]).partition("%")[0]) for one in found]
        if not addresses or not all(self._may_ask(url.host, one) for one in addresses):
            raise ValueError("an address that is not public")
        return min(addresses, key=lambda one: one.version)

    def _may_ask(self, host: str, address: Address) -> bool:
        address = getattr(address, "ipv4_mapped", None) or address
        if address.is_loopback:
            return self._loopback
        if address.is_multicast or address.is_unspecified or address.is_link_local or address.is_reserved:
            return False
        if host in self._private:
            return True
        return address.is_global and not any(address.version == net.version and address in net for net in DETOURS)

    def _context(self) -> ssl.SSLContext:
        if self._tls is None:
            self._tls = httpx.create_ssl_context(trust_env=False)
            if self._ca:
                self._tls.load_verify_locations(self._ca)
        return self._tls


def outbound_of(settings: Settings) -> Outbound:
    """What the settings allow to ask."""
    return Outbound(
        loopback=settings.outbound_loopback,
        private=frozenset(listed(settings.outbound_private)),
        ca=settings.outbound_ca,
    )


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _object(url: str, body: bytes) -> dict[str, Any]:
    try:
        answer = orjson.loads(body)
    except orjson.JSONDecodeError:
        answer = None
    if not isinstance(answer, dict):
        raise _unavailable(url, "it did not answer a JSON object")
    return answer


def _unavailable(url: str, reason: str) -> Unavailable:
    """The host goes to the log, where the operator looks; whoever asked us learns that something is out of reach."""
    log.warning("an address that this server asks did not answer", host=_host(url), reason=reason)
    return Unavailable("Another server, on which this request depends, did not answer as it should")


def _host(url: str) -> str | None:
    try:
        return httpx.URL(url).host
    except httpx.InvalidURL:
        return None
