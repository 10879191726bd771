"""What a resource is found by: the values that R4 makes searchable, as rows of the index tables.

https://hl7.org/fhir/R4/search.html - docs/adr/0003 says why equality is one narrow table of hashes.
A hash is 64 bits, so two values can share one: a search rechecks its page on the documents.
"""

import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Any

from xxhash import xxh3_64_intdigest

from fhir_server.r4.index_values import Period, Reference, Text, Token, Uri, extract
from fhir_server.r4.resource_types import TYPE_NUMBER
from fhir_server.r4.search_parameters import SearchParameter, parameters_of

SEPARATOR = "\x1f"
PARAMETERS_PER_TYPE = 4096
LONGEST_WORD = 200


@dataclass(frozen=True, slots=True)
class IndexRows:
    """The rows of one resource, without its key: sets, so that an update touches only what changed."""

    tokens: frozenset[int]
    periods: frozenset[tuple[int, int, int]]
    words: frozenset[tuple[int, str]]


NO_ROWS = IndexRows(frozenset(), frozenset(), frozenset())


def param_key(type_number: int, parameter: SearchParameter) -> int:
    """The parameter of one resource type as one small number (a parameter such as `patient` serves many types)."""
    return type_number * PARAMETERS_PER_TYPE + parameter.number


@lru_cache(maxsize=65536)
def hashed(param: int, *parts: str) -> int:
    """A signed 64-bit hash of a parameter and the parts of a value."""
    unsigned = xxh3_64_intdigest(SEPARATOR.join((str(param), *parts)).encode("utf-8", "surrogatepass"))
    return unsigned - (1 << 64) if unsigned >= 1 << 63 else unsigned


def token_any_system(param: int, code: str) -> int:
    return hashed(param, code)


def token_with_system(param: int, system: str, code: str) -> int:
    """`system` is empty for a value that has none (`|code` in a search)."""
    return hashed(param, system, code)


def reference_to(param: int, target: str) -> int:
    """`target` is `Type/id`, or an absolute URL as written."""
    return hashed(param, target)


def reference_by_identifier(param: int, system: str, value: str) -> int:
    return hashed(param, "identifier", system, value)


def uri_is(param: int, uri: str) -> int:
    return hashed(param, uri)


@lru_cache(maxsize=65536)
def folded(text: str) -> str:
    """Lower case, without accents, ligatures opened, blanks single: the form in which strings are compared."""
    opened = text.replace("œ", "oe").replace("Œ", "OE").replace("æ", "ae").replace("Æ", "AE")
    plain = "".join(c for c in unicodedata.normalize("NFKD", opened) if not unicodedata.combining(c))
    return " ".join(plain.casefold().split())[:LONGEST_WORD]


@cache
def _leading_to(target_type: str) -> tuple[int, ...]:
    """The reference parameters of every type that may lead to `target_type`."""
    return tuple(
        param_key(number, parameter)
        for name, number in TYPE_NUMBER.items()
        for parameter in parameters_of(name).values()
        if parameter.type == "reference" and (not parameter.targets or target_type in parameter.targets)
    )


def references_to(target_type: str, resource_id: str) -> list[int]:
    """The hashes under which any resource that refers to this one is found, by whichever parameter."""
    return [reference_to(param, f"{target_type}/{resource_id}") for param in _leading_to(target_type)]


def rows_of(resource: Mapping[str, Any]) -> IndexRows:
    """The index rows of one resource (its parsed JSON)."""
    type_number = TYPE_NUMBER[resource["resourceType"]]
    tokens: set[int] = set()
    periods: set[tuple[int, int, int]] = set()
    words: set[tuple[int, str]] = set()
    for value in extract(resource):
        if isinstance(value, Token):
            tokens.update(_token_hashes(param_key(type_number, value.param), value))
        elif isinstance(value, Reference):
            tokens.update(_reference_hashes(param_key(type_number, value.param), value))
        elif isinstance(value, Period):
            periods.add((param_key(type_number, value.param), value.low, value.high))
        elif isinstance(value, Text):
            if word := folded(value.value):
                words.add((param_key(type_number, value.param), word))
        elif isinstance(value, Uri):
            tokens.add(uri_is(param_key(type_number, value.param), value.value))
    return IndexRows(frozenset(tokens), frozenset(periods), frozenset(words))


def _token_hashes(param: int, value: Token) -> Iterable[int]:
    if value.code is not None:
        yield token_any_system(param, value.code)
        yield token_with_system(param, value.system or "", value.code)


def _reference_hashes(param: int, value: Reference) -> Iterable[int]:
    if value.target:
        yield reference_to(param, value.target)
    if value.identifier is not None:
        system, code = value.identifier
        yield reference_by_identifier(param, system or "", code or "")
