"""Who holds this bearer token? (RFC 6750)

A token that was good a moment ago is not looked up again for `REMEMBERED` seconds: so a client that is shut
out loses its access within that time.
"""

import secrets
import time
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from fhir_server.caller import Caller
from fhir_server.outcomes import Unauthenticated
from fhir_server.rest.oauth.bearer import Bearer
from fhir_server.rest.oauth.certificates import Certificates
from fhir_server.rest.oauth.issuer import Issuer
from fhir_server.rest.oauth.sessions import COOKIE, Session, Sessions, cookie, has_session
from fhir_server.rest.standings import Standings
from fhir_server.store.clients import Clients

REMEMBERED = 10.0
MOST_REMEMBERED = 10_000


class Authentication:
    """Turns the Authorization header into a Caller. `remembered`: seconds for which a token is not looked up again."""

    def __init__(
        self,
        clients: Clients,
        *,
        issuer: Issuer | None = None,
        sessions: Sessions | None = None,
        certificates: Certificates | None = None,
        standings: Standings | None = None,
        remembered: float = REMEMBERED,
    ) -> None:
        self._clients = clients
        self._issuer = issuer
        self._sessions = sessions
        self._certificates = certificates or Certificates()
        self._standings = standings
        self._seconds = remembered
        self._remembered: OrderedDict[bytes, tuple[float, Bearer]] = OrderedDict()

    async def caller(self, authorization: bytes | None, scope: Mapping[str, Any] | None = None) -> Caller:
        """Who asks: by a token, or where there is none by the session of a browser.

        Raises Unauthenticated without a token, with one that is not good or is bound to another certificate;
        Forbidden for a good one without a role here, and for a session that changes something without its CSRF token.

        `scope` is that of the request in ASGI, in which certificates are looked for.
        """
        if authorization is None and self._sessions and scope and has_session(scope):
            session = await self._sessions.of_request(scope)
            if self._standings is None:
                return session.caller
            return (await self._standings.kept(session.caller, session.claims)).caller
        if authorization is None:
            raise Unauthenticated("An access token is needed: Authorization: Bearer ...")
        known = self._remembered.get(authorization)
        if known and known[0] > time.monotonic():
            return self._at_its_end(known[1], scope)
        kind, _, text = authorization.decode("latin-1").partition(" ")
        token = text.strip()
        if kind.lower() != "bearer" or not token:
            raise Unauthenticated("The Authorization header is not 'Bearer' and a token")
        bearer = await self._bearer(token)
        until = bearer.expires
        if self._standings:
            known = await self._standings.now(bearer.caller, bearer.claims)
            bearer, until = bearer._replace(caller=known.caller), min(until, known.until)
        self._remember(authorization, bearer, until)
        return self._at_its_end(bearer, scope)

    def forget(self, person: str) -> None:
        """What is recorded of a person has changed: it counts from now on in this process."""
        if self._standings:
            self._standings.forget(person)
        for key in [key for key, (_, one) in self._remembered.items() if one.caller.person == person]:
            del self._remembered[key]

    async def visit(self, scope: Mapping[str, Any]) -> Session | None:
        """The session of a browser, with the caller as he stands now, for pages whose forms repeat its CSRF token.

        None where there is no session, or not any more. Raises Unavailable.
        """
        value = cookie(scope, COOKIE)
        session = await self._sessions.find(value) if self._sessions and value else None
        if session is None or self._standings is None:
            return session
        return replace(session, caller=(await self._standings.kept(session.caller, session.claims)).caller)

    async def _bearer(self, token: str) -> Bearer:
        """Tokens of this server have no dots, and those of an issuer that it does not introspect have two."""
        if self._issuer and "." in token:
            return await self._issuer.bearer(token)
        holder = await self._clients.holder(token)
        if holder is None and self._issuer and self._issuer.introspection:
            return await self._issuer.bearer(token)
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
        return Bearer(caller, holder.expires.timestamp(), holder.certificate)

    def _at_its_end(self, bearer: Bearer, scope: Mapping[str, Any] | None) -> Caller:
        """The caller, where a token that is bound to a certificate comes with it (RFC 8705 section 3)."""
        if bearer.certificate is not None:
            shown = self._certificates.thumbprint(scope or {})
            if shown is None or not secrets.compare_digest(shown, bearer.certificate):
                raise Unauthenticated("This token is good only with the TLS certificate of its client")
        return bearer.caller

    def _remember(self, authorization: bytes, bearer: Bearer, until: float) -> None:
        left = until - time.time()
        self._remembered[authorization] = (time.monotonic() + min(self._seconds, left), bearer)
        self._remembered.move_to_end(authorization)
        while len(self._remembered) > MOST_REMEMBERED:
            self._remembered.popitem(last=False)
