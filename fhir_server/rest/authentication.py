"""Who holds this bearer token? (RFC 6750)

A token that was good a moment ago is not looked up again for `REMEMBERED` seconds: so a client that is shut
out loses its access within that time.
"""

import time
from collections import OrderedDict

from fhir_server.caller import Caller
from fhir_server.outcomes import Unauthenticated
from fhir_server.store.clients import Clients

REMEMBERED = 10.0
MOST_REMEMBERED = 10_000


class Authentication:
    """Turns the Authorization header into a Caller. `remembered`: seconds for which a token is not looked up again."""

    def __init__(self, clients: Clients, *, remembered: float = REMEMBERED) -> None:
        self._clients = clients
        self._seconds = remembered
        self._remembered: OrderedDict[bytes, tuple[float, Caller]] = OrderedDict()

    async def caller(self, authorization: bytes | None) -> Caller:
        """Raises Unauthenticated when there is no token or it is not good."""
        if authorization is None:
            raise Unauthenticated("An access token is needed: Authorization: Bearer ...")
        known = self._remembered.get(authorization)
        if known and known[0] > time.monotonic():
            return known[1]
        scheme, _, token = authorization.decode("latin-1").partition(" ")
        if scheme.lower() != "bearer" or not token:
            raise Unauthenticated("The Authorization header is not 'Bearer' and a token")
        holder = await self._clients.holder(token.strip())
        if holder is None:
            raise Unauthenticated("The access token is unknown or has expired")
        caller = Caller(
            holder.client_id,
            holder.name,
            holder.role,
            tuple(holder.scopes),
            holder.purpose,
            holder.worker,
            holder.delegated,
        )
        left = holder.expires.timestamp() - time.time()
        self._remember(authorization, time.monotonic() + min(self._seconds, left), caller)
        return caller

    def _remember(self, authorization: bytes, until: float, caller: Caller) -> None:
        self._remembered[authorization] = (until, caller)
        self._remembered.move_to_end(authorization)
        while len(self._remembered) > MOST_REMEMBERED:
            self._remembered.popitem(last=False)
