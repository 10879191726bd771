"""Public keys of whoever signs tokens: JSON Web Key Sets (RFC 7517), and which key a token asks for.

A set that is registered here must be right as a whole; in one that is published elsewhere, what cannot be used is
passed over.
"""

import base64
import binascii
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import orjson
from joserfc.errors import JoseError
from joserfc.jwk import ECKey, RSAKey

Key = RSAKey | ECKey

# Algorithm -> the type of its keys and, for an elliptic curve, which one (RFC 7518 section 3). Nothing symmetric, and
# not `none`: who knows a public key must not be able to sign with it.
ALGORITHMS: Final[dict[str, tuple[str, str | None]]] = {
    "RS256": ("RSA", None),
    "RS384": ("RSA", None),
    "RS512": ("RSA", None),
    "PS256": ("RSA", None),
    "PS384": ("RSA", None),
    "PS512": ("RSA", None),
    "ES256": ("EC", "P-256"),
    "ES384": ("EC", "P-384"),
    "ES512": ("EC", "P-521"),
}
MOST_KEYS: Final = 100
RSA_BITS: Final = range(2048, 8193)
PRIVATE_MEMBERS: Final = frozenset({"d", "p", "q", "dp", "dq", "qi", "oth", "k"})


@dataclass(frozen=True, slots=True)
class PublicKey:
    kid: str | None
    algorithm: str | None
    type: str
    curve: str | None
    key: Key

    def fits(self, algorithm: str) -> bool:
        return ALGORITHMS.get(algorithm) == (self.type, self.curve) and self.algorithm in (None, algorithm)


@dataclass(frozen=True, slots=True)
class PublicKeys:
    keys: tuple[PublicKey, ...]

    def fitting(self, kid: str | None, algorithm: str) -> Key | None:
        """The key that a token names; where it names none, the only one that fits its algorithm."""
        found = [one for one in self.keys if one.fits(algorithm) and (kid is None or one.kid == kid)]
        return found[0].key if len(found) == 1 else None


def registered(text: bytes | str) -> PublicKeys:
    """The keys of a client as its operator hands them in. Raises ValueError that says what is wrong."""
    given = _members(text)
    keys = tuple(_public_key(one) for one in given)
    names = [(one.kid, one.type, one.curve) for one in keys]
    if not keys:
        raise ValueError("the key set holds no key")
    if any(not one.kid for one in keys):
        raise ValueError("each key needs a kid, by which tokens name it")
    if len(set(names)) < len(names):
        raise ValueError("two keys have the same kid")
    return PublicKeys(keys)


def published(text: bytes) -> PublicKeys:
    """The keys that can be used of a set that was fetched. Raises ValueError for what is no key set."""
    keys: list[PublicKey] = []
    for one in _members(text):
        try:
            keys.append(_public_key(one))
        except ValueError:
            continue
    return PublicKeys(tuple(keys))


def _members(text: bytes | str) -> list[Any]:
    try:
        keys = orjson.loads(text)["keys"]
    except (orjson.JSONDecodeError, KeyError, TypeError) as error:
        raise ValueError("not a JSON Web Key Set: an object with `keys`") from error
    if not isinstance(keys, list) or len(keys) > MOST_KEYS:
        raise ValueError(f"the keys are a list of at most {MOST_KEYS}")
    return keys


def _public_key(given: Any) -> PublicKey:
    """Raises ValueError for a key that is private, weak, or not for signatures."""
    if not isinstance(given, Mapping) or not all(isinstance(name, str) for name in given):
        raise ValueError("a key is a JSON object")
    if PRIVATE_MEMBERS.intersection(given):
        raise ValueError("a key is private or symmetric: hand in the public half alone")
    kid, algorithm, kind = given.get("kid"), given.get("alg"), given.get("kty")
    if given.get("use", "sig") != "sig" or "verify" not in given.get("key_ops", ["verify"]):
        raise ValueError("a key is not for signatures")
    if not isinstance(kid, str | None) or algorithm not in (None, *ALGORITHMS):
        raise ValueError("a key has a kid that is no text, or an algorithm that is not used here")
    try:
        if kind == "RSA" and _bits(given.get("n")) in RSA_BITS:
            used = {name: given[name] for name in ("kty", "n", "e")}
            return PublicKey(kid, algorithm, "RSA", None, RSAKey.import_key(used))
        if kind == "EC" and ("EC", given.get("crv")) in ALGORITHMS.values():
            used = {name: given[name] for name in ("kty", "crv", "x", "y")}
            key = ECKey.import_key(used)
            _ = key.public_key  # made only now; a point that is not on the curve fails
            return PublicKey(kid, algorithm, "EC", given["crv"], key)
    except (JoseError, ValueError, TypeError, KeyError) as error:
        raise ValueError("a key is not well formed") from error
    raise ValueError("keys are RSA of 2048 to 8192 bits, or EC on P-256, P-384 or P-521")


def _bits(modulus: Any) -> int:
    try:
        return int.from_bytes(base64.urlsafe_b64decode(str(modulus) + "==")).bit_length()
    except (binascii.Error, ValueError):
        return 0
