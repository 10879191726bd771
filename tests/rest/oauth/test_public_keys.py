"""Key sets: what is registered must be right, what is published is used as far as it is."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from joserfc.jwk import RSAKey

from fhir_server.rest.oauth.public_keys import published, registered
from tests.oauth import key_set, signer

EC = signer("ES384", "a")
RSA = signer("RS384", "a")


def test_one_name_for_two_kinds_of_key() -> None:
    """The algorithm tells them apart."""
    keys = registered(key_set(EC, RSA))
    assert [type(keys.fitting("a", name)).__name__ for name in ("ES384", "RS384")] == ["ECKey", "RSAKey"]
    assert keys.fitting("a", "RS256") is None, "a key that names its algorithm is for that one"
    assert keys.fitting("b", "ES384") is None
    assert keys.fitting(None, "ES384") is not None, "the only one that fits"


def test_two_keys_that_fit_are_none() -> None:
    """A token without kid asks for one of them, and nobody knows which."""
    assert published(key_set(EC, signer("ES384", "b")).encode()).fitting(None, "ES384") is None


BAD: dict[str, Callable[[], Any]] = {
    "private": lambda: EC.key.as_dict(private=True) | {"kid": "a"},
    "symmetric": lambda: {"kty": "oct", "k": "c2VjcmV0", "kid": "a"},
    "weak": lambda: {**RSA.public, "n": RSA.public["n"][:170]},
    "for encryption": lambda: {**EC.public, "use": "enc"},
    "of another curve": lambda: {**EC.public, "crv": "secp256k1"},
    "off its curve": lambda: {**EC.public, "y": EC.public["x"]},
    "no key": lambda: "text",
    "half a key": lambda: {"kty": "RSA", "kid": "a", "n": RSA.public["n"]},
    "huge": lambda: {**RSA.public, "n": RSA.public["n"] * 8},
    "for HMAC": lambda: {**RSA.public, "alg": "HS256"},
}


@pytest.mark.parametrize("name", BAD)
def test_bad_keys(name: str) -> None:
    """Refused where a client is made, passed over where a set is fetched."""
    text = json.dumps({"keys": [BAD[name]()]})
    with pytest.raises(ValueError, match="key"):
        registered(text)
    assert published(text.encode()).keys == ()


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"keys":{}}', '{"keys":[]}', '{"keys":[{}]}'])
def test_what_is_no_key_set(text: str) -> None:
    with pytest.raises(ValueError, match="key"):
        registered(text)


def test_registered_keys_have_names_of_their_own() -> None:
    nameless = {name: value for name, value in EC.public.items() if name != "kid"}
    for keys in ([nameless], [EC.public, signer("ES384", "a").public]):
        with pytest.raises(ValueError, match="kid"):
            registered(json.dumps({"keys": keys}))


def test_a_key_of_1024_bits_is_weak() -> None:
    with pytest.warns(UserWarning, match="2048"):
        weak = RSAKey.generate_key(1024)
    with pytest.raises(ValueError, match="2048"):
        registered(json.dumps({"keys": [{**weak.as_dict(private=False), "kid": "a"}]}))
