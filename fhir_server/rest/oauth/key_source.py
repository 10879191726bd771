"""The public keys that one address publishes, kept for a while: whoever signs may change them at any moment.

A key that is not among those kept is looked for once more, so a new key is found at its first use; but not more often
than every `PAUSE`, whatever tokens come. Keys that were taken back are forgotten after `FRESH`, or after `STALE`
where the address does not answer.
"""

import asyncio
import time
from collections.abc import Callable
from typing import Final

from fhir_server.outcomes import Unavailable
from fhir_server.rest.oauth.outbound import Outbound
from fhir_server.rest.oauth.public_keys import Key, PublicKeys, published

FRESH: Final = 600.0
PAUSE: Final = 30.0
STALE: Final = 3600.0
NEVER: Final = float("-inf")


class KeySource:
    """The keys at one address."""

    def __init__(self, outbound: Outbound, url: str, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.url = url
        self._outbound = outbound
        self._clock = clock
        self._keys: PublicKeys | None = None
        self._fetched = self._tried = NEVER
        self._lock = asyncio.Lock()

    async def fitting(self, kid: str | None, algorithm: str) -> Key | None:
        """The key that a token names. Raises Unavailable where no keys could be fetched."""
        if self._clock() - self._fetched > FRESH:
            await self._refresh()
        found = self._keys.fitting(kid, algorithm) if self._keys else None
        if found is None:
            await self._refresh()
            found = self._keys.fitting(kid, algorithm) if self._keys else None
        if self._keys is None:
            raise Unavailable("The keys that verify this token cannot be fetched")
        return found

    async def _refresh(self) -> None:
        """Fetch the keys, unless somebody just tried. Where that fails the old ones are kept, for a while."""
        async with self._lock:
            now = self._clock()
            if now - self._tried < PAUSE:
                return
            self._tried = now
            try:
                self._keys = published(await self._outbound.get(self.url))
                self._fetched = self._clock()
            except (Unavailable, ValueError):
                if now - self._fetched > STALE:
                    self._keys = None


class KeySources:
    """One KeySource for each address."""

    def __init__(self, outbound: Outbound) -> None:
        self._outbound = outbound
        self._sources: dict[str, KeySource] = {}

    def at(self, url: str) -> KeySource:
        """Addresses are those of registered clients, so there are few."""
        if url not in self._sources:
            self._sources[url] = KeySource(self._outbound, url)
        return self._sources[url]
