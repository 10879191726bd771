"""The search parameters of each resource type: R4's own, and those that PDSm and MHD add.

https://hl7.org/fhir/R4/searchparameter-registry.html
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from types import MappingProxyType
from typing import Any, Final

import orjson

from fhir_server.r4.definitions import TABLES
from fhir_server.r4.resource_types import TYPE_NUMBER

NOT_DOMAIN: Final = frozenset({"Binary", "Bundle", "Parameters"})


@dataclass(frozen=True, slots=True)
class SearchParameter:
    """A search parameter, as its definition has it."""

    code: str
    type: str
    """number, date, string, token, reference, composite, quantity, uri or special."""
    url: str
    expression: str
    """FHIRPath for every type that shares the parameter; empty for `_text`, `_content` and `_query`."""
    targets: tuple[str, ...]
    """Of a reference: the resource types that it may point to."""
    components: tuple[tuple[str, str], ...]
    """Of a composite: the url of each component's parameter, and its expression on what `expression` selects."""
    number: int
    """Stands for the url in the store: never given to another, from 1 for R4 and from 10001 for guides."""


@cache
def parameters_of(resource_type: str) -> Mapping[str, SearchParameter]:
    """Code -> parameter, for a type and what holds for all types (`_id`, `_tag`...); empty for an unknown type."""
    if resource_type not in TYPE_NUMBER:
        return MappingProxyType({})
    bases = {resource_type, "Resource"} | (set() if resource_type in NOT_DOMAIN else {"DomainResource"})
    found = {one.code: one for base in sorted(bases & _by_base().keys()) for one in _by_base()[base]}
    return MappingProxyType(dict(sorted(found.items())))


@cache
def parameter_at(url: str) -> SearchParameter:
    """The parameter with this canonical url; KeyError when there is none."""
    return _by_url()[url]


@cache
def _rows() -> list[dict[str, Any]]:
    files = ("search_parameters.json", "search_parameters_pdsm.json")
    return [row for file in files for row in orjson.loads((TABLES / file).read_bytes())]


@cache
def _by_url() -> dict[str, SearchParameter]:
    return {row["url"]: _parameter(row) for row in _rows()}


@cache
def _by_base() -> dict[str, list[SearchParameter]]:
    by_base: dict[str, list[SearchParameter]] = {}
    for row in _rows():
        for base in row["base"]:
            by_base.setdefault(base, []).append(_by_url()[row["url"]])
    return by_base


def _parameter(row: dict[str, Any]) -> SearchParameter:
    return SearchParameter(
        code=row["code"],
        type=row["type"],
        url=row["url"],
        expression=row.get("expression", ""),
        targets=tuple(row.get("targets", ())),
        components=tuple((url, expression) for url, expression in row.get("components", ())),
        number=row["number"],
    )
