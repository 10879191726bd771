"""Blocking keys: what candidates are found by, as 8-byte keyed hashes out of which nobody reads a name. Pure.

Register and incoming record have the same keys; a candidate is whoever shares one. Each is BLAKE2b (RFC 7693) keyed
with the secret of the installation, so that the table of keys holds no readable identity.
"""

from collections.abc import Iterable
from hashlib import blake2b
from typing import Final

from fhir_server.linkage.comparable import Comparable
from fhir_server.linkage.phonetics import skeleton

MOST_KEYS: Final = 24


def keys_of(person: Comparable, secret: bytes, *, stored: bool = True) -> list[int]:
    """The keys of a person, as signed 64-bit integers, the most selective first; at most `MOST_KEYS`.

    `secret` has 16 to 64 bytes. For a record that comes in, say `stored=False`: keys that are only worth asking where
    the record states no full birth date are then left out for one that does.
    """
    texts = dict.fromkeys(_texts(person, stored=stored))
    return [_hashed(text, secret) for text in list(texts)[:MOST_KEYS]]


def parts_of(person: Comparable, *, stored: bool = True) -> list[int]:
    """The same without a secret, for a store that keeps them under one of its own (`store/candidates.py`)."""
    return keys_of(person, b"", stored=stored)


def _hashed(text: str, secret: bytes) -> int:
    return int.from_bytes(blake2b(text.encode(), digest_size=8, key=secret).digest(), "big", signed=True)


def _texts(one: Comparable, *, stored: bool) -> Iterable[str]:
    families = list(dict.fromkeys(skeleton(part[1:]) for part in one.family_parts[:4]))
    whole = list(dict.fromkeys(skeleton(name) for name in one.family_plain[:2]))
    spoken = (*one.given_plain[:1], *(word[1:] for word in one.given_words[:2]))
    givens = list(dict.fromkeys(skeleton(name) for name in spoken))
    for number in one.nirs[:4]:
        yield f"N {number}"
    for family in families[:3]:
        for given in givens[:2]:
            yield "FG " + " ".join(sorted((family, given)))
    if one.born and one.year:
        for family in families[:3]:
            yield f"FYM {family} {one.year}{one.month}"
            yield f"FMD {family} {min(one.month_day or '', one.day_month or '')}"
        for family in whole:
            yield f"FYD {family} {one.year}{one.day}"
        for given in givens[:2]:
            yield f"GB {given} {one.born}"
        for letters in dict.fromkeys(name[:2] for name in (*one.family_plain[:2], *one.given_plain[:1])):
            yield f"B {one.born} {letters}"
        for name in (*one.family_plain[:2], *one.given_plain[:1]):
            yield f"BE {one.born} {name[-2:]}"
    if stored or not one.born:
        for family in whole:
            for given in one.given_plain[:1]:
                yield f"F1 {family} {given[:2]}"
        for family in one.family_plain[:2]:
            for given in givens[:1]:
                yield f"1G {family[:3]} {given}"
                yield f"EG {family[-3:]} {given}"
