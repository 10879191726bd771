"""Signed tokens: JSON Web Tokens (RFC 7519) in their compact form, checked as RFC 8725 recommends.

Which key verifies a token follows from who is said to have made it, so its claims are looked at before it is
verified; what they say counts afterwards only.
"""

import base64
import binascii
from collections.abc import Mapping
from functools import cache
from typing import Any, Final, NamedTuple

import orjson
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jws import JWSRegistry

from fhir_server.rest.oauth.public_keys import ALGORITHMS, Key

LARGEST: Final = 16_384
SKEW: Final = 10
"""Seconds by which the clock of whoever signs may be ahead of ours."""


class NotGood(Exception):
    """A token that is refused. The text says why, in words that may be told to whoever sent it."""


class Glimpse(NamedTuple):
    """What a token says of itself, whoever wrote it."""

    algorithm: str
    kid: str | None
    type: str | None
    header: Mapping[str, Any]
    claims: Mapping[str, Any]

    def text(self, name: str) -> str | None:
        value = self.claims.get(name)
        return value if isinstance(value, str) else None


def look(token: str) -> Glimpse:
    """Raises NotGood for what is no signed token, or is signed in a way that is not accepted (`none`, HMAC)."""
    parts = token.split(".")
    if len(token) > LARGEST or len(parts) != 3:
        raise NotGood("not a signed JWT in compact form")
    header, claims = _part(parts[0]), _part(parts[1])
    algorithm, kid, kind = header.get("alg"), header.get("kid"), header.get("typ")
    if algorithm not in ALGORITHMS:
        raise NotGood(f"the algorithm is not one of {', '.join(ALGORITHMS)}")
    if "crit" in header or "b64" in header:
        raise NotGood("the header asks for an extension that is not known here")
    if not isinstance(kid, str | None) or not isinstance(kind, str | None):
        raise NotGood("the header is malformed")
    return Glimpse(algorithm, kid, kind, header, claims)


def verified(token: str, key: Key, algorithm: str) -> dict[str, Any]:
    """The claims of a token that this key signed. Raises NotGood."""
    try:
        return dict(jwt.decode(token, key, registry=_registry(algorithm)).claims)
    except (JoseError, ValueError) as error:
        raise NotGood("the signature does not hold") from error


@cache
def _registry(algorithm: str) -> JWSRegistry:
    """One algorithm alone. Members of the header that nobody must understand are passed over (RFC 7515 section 4)."""
    registry = JWSRegistry(algorithms=[algorithm], strict_check_header=False)
    registry.max_header_length = registry.max_payload_length = LARGEST
    return registry


def check_times(claims: Mapping[str, Any], now: float, *, longest: float | None = None) -> float:
    """When the token ends. Raises NotGood where it has, has not begun, or lasts more than `longest` seconds."""
    end = _time(claims, "exp")
    if end is None:
        raise NotGood("exp is missing")
    if end <= now:
        raise NotGood("the token has expired")
    if longest is not None and end > now + longest:
        raise NotGood(f"exp is more than {longest:.0f} seconds ahead")
    for name in ("nbf", "iat"):
        begin = _time(claims, name)
        if begin is not None and begin > now + SKEW:
            raise NotGood(f"{name} is in the future")
    return end


def audiences(claims: Mapping[str, Any]) -> list[str]:
    """Whom a token is meant for. Raises NotGood where that is no text."""
    given = claims.get("aud")
    listed: list[Any] = given if isinstance(given, list) else [given]
    if not listed or not all(isinstance(one, str) for one in listed):
        raise NotGood("aud is missing or malformed")
    return listed


def _time(claims: Mapping[str, Any], name: str) -> float | None:
    value = claims.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1e11:
        raise NotGood(f"{name} is no number of seconds")
    return float(value)


def _part(text: str) -> Mapping[str, Any]:
    try:
        part = orjson.loads(base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True))
    except (binascii.Error, ValueError) as error:
        raise NotGood("not a signed JWT in compact form") from error
    if not isinstance(part, dict):
        raise NotGood("not a signed JWT in compact form")
    return part
