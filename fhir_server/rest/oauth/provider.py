"""A provider of identities as it describes itself: OpenID Connect Discovery 1.0, RFC 8414.

Its description is asked for when it is needed first, so this server starts without it, and again every hour. Where it
is away then, the last one counts for another hour, as its keys do, and it is asked at most every five seconds.
"""

import asyncio
import time
from collections.abc import Callable, Mapping
from typing import Any, Final

from fhir_server.outcomes import Unavailable
from fhir_server.rest.oauth.key_source import KeySource
from fhir_server.rest.oauth.outbound import Outbound
from fhir_server.rest.oauth.public_keys import Key

HOUR: Final = 3600.0
PAUSE: Final = 5.0
NEVER: Final = float("-inf")


class Provider:
    """One issuer. `discovery`: where it describes itself, where that is not the usual place; `jwks`: its keys."""

    def __init__(
        self,
        outbound: Outbound,
        issuer: str,
        *,
        discovery: str | None = None,
        jwks: str | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.issuer = issuer
        self._outbound = outbound
        self._discovery = discovery or f"{issuer.rstrip('/')}/.well-known/openid-configuration"
        self._description: Mapping[str, Any] | None = None
        self._until = self._tried = NEVER
        self._why = Unavailable("The provider has not described itself yet")
        self._clock = clock
        self._lock = asyncio.Lock()
        self._keys = KeySource(outbound, jwks) if jwks else None
        self._keys_are_fixed = jwks is not None

    async def described(self) -> Mapping[str, Any]:
        """Raises Unavailable."""
        if self._clock() > self._until:
            await self._ask()
        if self._description is None:
            raise Unavailable(self._why.diagnostics)
        return self._description

    async def _ask(self) -> None:
        """Ask it, unless somebody just did: those who wait do not ask one after the other a provider that is away."""
        async with self._lock:
            now = self._clock()
            if now <= self._until or now - self._tried < PAUSE:
                return
            try:
                description = await self._outbound.get_json(self._discovery)
                if description.get("issuer") != self.issuer:  # Discovery section 4.3
                    raise Unavailable("The provider calls itself by another name than the settings do")
            except Unavailable as why:
                self._why, self._tried = why, self._clock()
                if now > self._until + HOUR:
                    self._description = None
            else:
                self._description, self._until = description, now + HOUR

    async def endpoint(self, name: str) -> str:
        """The address under which something is asked. Raises Unavailable where there is none."""
        url = await self.optional(name)
        if url is None:
            raise Unavailable(f"The provider names no {name}")
        return url

    async def optional(self, name: str) -> str | None:
        url = (await self.described()).get(name)
        if not isinstance(url, str):
            return None
        try:
            self._outbound.check(url)
        except ValueError:
            raise Unavailable(f"The provider names a {name} that is not asked") from None
        return url

    async def key(self, kid: str | None, algorithm: str) -> Key | None:
        """The key with which it signed. Raises Unavailable."""
        if not self._keys_are_fixed:
            url = await self.endpoint("jwks_uri")
            if self._keys is None or self._keys.url != url:
                self._keys = KeySource(self._outbound, url)
        assert self._keys
        return await self._keys.fitting(kid, algorithm)
