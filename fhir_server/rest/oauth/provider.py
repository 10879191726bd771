"""A provider of identities as it describes itself: OpenID Connect Discovery 1.0, RFC 8414.

Its description is asked for when it is needed first, so this server starts without it, and again every hour.
"""

import asyncio
import time
from collections.abc import Mapping
from typing import Any, Final

from fhir_server.outcomes import Unavailable
from fhir_server.rest.oauth.key_source import KeySource
from fhir_server.rest.oauth.outbound import Outbound
from fhir_server.rest.oauth.public_keys import Key

HOUR: Final = 3600.0


class Provider:
    """One issuer. `discovery`: where it describes itself, where that is not the usual place; `jwks`: its keys."""

    def __init__(
        self, outbound: Outbound, issuer: str, *, discovery: str | None = None, jwks: str | None = None
    ) -> None:
        self.issuer = issuer
        self._outbound = outbound
        self._discovery = discovery or f"{issuer.rstrip('/')}/.well-known/openid-configuration"
        self._description: Mapping[str, Any] | None = None
        self._until = 0.0
        self._lock = asyncio.Lock()
        self._keys = KeySource(outbound, jwks) if jwks else None
        self._keys_are_fixed = jwks is not None

    async def described(self) -> Mapping[str, Any]:
        """Raises Unavailable."""
        async with self._lock:
            if self._description is None or time.monotonic() > self._until:
                description = await self._outbound.get_json(self._discovery)
                if description.get("issuer") != self.issuer:  # Discovery section 4.3
                    raise Unavailable("The provider calls itself by another name than the settings do")
                self._description, self._until = description, time.monotonic() + HOUR
            return self._description

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
