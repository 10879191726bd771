"""The provider ends sessions: OpenID Connect Back-Channel Logout 1.0.

https://openid.net/specs/openid-connect-backchannel-1_0.html - a logout token names a session (`sid`), or somebody whose
sessions all end (`sub`). It opens nothing and is taken once.
"""

import hashlib
import time
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from fhir_server.rest.oauth.provider import Provider
from fhir_server.rest.oauth.signed import NotGood, audiences, check_times, look, verified
from fhir_server.store.transient import Transient

EVENT: Final = "http://schemas.openid.net/event/backchannel-logout"
TYPES: Final = frozenset({"logout+jwt", "application/logout+jwt", "jwt"})
LONGEST: Final = 600.0
"""Seconds that a logout token may be good for: so long it is remembered."""


def names_of(claims: Mapping[str, Any]) -> tuple[str, ...]:
    """Under which names a session is found again: that of the provider's session, and of the person."""
    return tuple(_name(kind, value) for kind in ("sid", "sub") if isinstance(value := claims.get(kind), str) and value)


class Logout(NamedTuple):
    """The name under which sessions end, and that of the logout token itself."""

    whom: str
    token: str


async def read(provider: Provider, client_id: str, transient: Transient, token: str) -> Logout:
    """What a logout token says: section 2.6. `remember` it when it is done. Raises NotGood, Unavailable."""
    seen = look(token)
    if seen.type is not None and seen.type.lower() not in TYPES:
        raise NotGood("it is no logout token")
    key = await provider.key(seen.kid, seen.algorithm)
    if key is None:
        raise NotGood("the provider has no key of this name")
    claims = verified(token, key, seen.algorithm)
    if claims.get("iss") != provider.issuer or client_id not in audiences(claims):
        raise NotGood("it is of another issuer, or for somebody else")
    check_times(claims, time.time(), longest=LONGEST)
    events = claims.get("events")
    if not isinstance(events, Mapping) or not isinstance(events.get(EVENT), Mapping) or "iat" not in claims:
        raise NotGood("it tells of no logout")
    if "nonce" in claims:
        raise NotGood("a logout token has no nonce")
    jti, names = claims.get("jti"), names_of(claims)
    if not isinstance(jti, str) or not jti or not names:
        raise NotGood("it has no jti, or names neither a session nor a person")
    logout = Logout(names[0], _name("jti", jti))
    if await transient.kept(logout.token):
        raise NotGood("it was used before")
    return logout


async def remember(transient: Transient, logout: Logout) -> None:
    """Its sessions have ended. Not before: a provider that got no answer sends the same token again, and must be able
    to. Raises Unavailable.
    """
    await transient.keep(logout.token, b"1", int(LONGEST))


def _name(kind: str, value: str) -> str:
    return f"{kind}:{hashlib.sha256(value.encode()).hexdigest()}"
