"""The codes that a value set holds, and those that stand above or below one in its code system.

https://hl7.org/fhir/R4/search.html#token (`:in`, `:not-in`, `:below`, `:above`) - from the ValueSets and CodeSystems
that this server keeps, and from the value sets of R4's required bindings.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

import orjson

from fhir_server.outcomes import BadParameter, TooCostly
from fhir_server.r4.definitions import codes_of
from fhir_server.r4.resource_types import TYPE_NUMBER
from fhir_server.r4.search_criteria import TokenValue
from fhir_server.r4.search_parameters import parameters_of
from fhir_server.store.database import Connection
from fhir_server.store.search_index import param_key, uri_is
from fhir_server.store.statement import Statement

MOST_CODES: Final = 10_000
DEEPEST: Final = 5
R4_SETS: Final = "http://hl7.org/fhir/ValueSet/"
Resource = Mapping[str, Any]


async def codes_in(connection: Connection, value_set: str, *, depth: int = 0) -> set[TokenValue]:
    """The tokens of a value set, by canonical URL or `ValueSet/id`; (system, None) stands for a whole code system.

    Raises BadParameter for one that is not here or that cannot be listed, TooCostly beyond `MOST_CODES`.
    """
    if depth > DEEPEST:
        raise TooCostly(f"The value set refers to others more than {DEEPEST} deep")
    resource = await _kept(connection, "ValueSet", value_set)
    if resource is None:
        return _of_r4(value_set)
    if "expansion" in resource:
        found = set(_contained(resource["expansion"].get("contains", ())))
    else:
        compose = resource.get("compose", {})
        found = await _composed(connection, compose.get("include", ()), depth)
        found -= await _composed(connection, compose.get("exclude", ()), depth)
    if len(found) > MOST_CODES:
        raise TooCostly(f"The value set has more than {MOST_CODES} codes")
    return found


async def codes_beside(connection: Connection, value: TokenValue, *, below: bool) -> set[TokenValue]:
    """A code with all that stand below it (or above it) in its code system. Raises BadParameter."""
    system, code = value
    if not system or code is None:
        raise BadParameter("Say it as system|code: a code has its place in a code system")
    resource = await _kept(connection, "CodeSystem", system)
    if resource is None:
        raise BadParameter("This server does not keep the code system, so it does not know what stands above or below")
    edges = list(_edges(resource.get("concept", ()), None))
    found, latest = {code}, {code}
    while latest:
        latest = {(c if below else p) for p, c in edges if (p if below else c) in latest} - found
        found |= latest
    return {(system, one) for one in found}


def _edges(concepts: Iterable[Resource], parent: str | None) -> Iterator[tuple[str, str]]:
    """(parent, child) of a code system, by nesting or by the property `parent`."""
    for concept in concepts:
        if parent is not None:
            yield parent, concept["code"]
        for stated in concept.get("property", ()):
            if stated.get("code") in ("parent", "subsumedBy") and "valueCode" in stated:
                yield stated["valueCode"], concept["code"]
        yield from _edges(concept.get("concept", ()), concept["code"])


def _of_r4(value_set: str) -> set[TokenValue]:
    try:
        known = codes_of(value_set.partition("|")[0].removeprefix(R4_SETS))
    except KeyError:
        raise BadParameter("This server does not keep that value set", expression="ValueSet") from None
    return {(known.system, code) for code in known.codes}


def _contained(entries: Iterable[Resource]) -> Iterator[TokenValue]:
    for entry in entries:
        if "code" in entry and not entry.get("abstract"):
            yield entry.get("system", ""), entry["code"]
        yield from _contained(entry.get("contains", ()))


async def _composed(connection: Connection, parts: Iterable[Resource], depth: int) -> set[TokenValue]:
    """What the parts of a definition select, all together."""
    found: set[TokenValue] = set()
    for part in parts:
        if "filter" in part:
            raise BadParameter("The value set selects codes by a filter; this server needs its expansion")
        sets = [await codes_in(connection, one, depth=depth + 1) for one in part.get("valueSet", ())]
        if "concept" in part:
            sets.append({(part["system"], concept["code"]) for concept in part["concept"]})
        elif "system" in part:
            sets.append(await _whole(connection, part["system"]))
        found |= set.intersection(*sets) if sets else set()
    return found


async def _whole(connection: Connection, system: str) -> set[TokenValue]:
    """Every code of a system that is kept whole; else the system as such."""
    resource = await _kept(connection, "CodeSystem", system)
    if resource is None or resource.get("content") != "complete":
        return {(system, None)}
    return {(system, code) for code in _codes(resource.get("concept", ()))}


def _codes(concepts: Iterable[Resource]) -> Iterator[str]:
    for concept in concepts:
        yield concept["code"]
        yield from _codes(concept.get("concept", ()))


async def _kept(connection: Connection, resource_type: str, name: str) -> Resource | None:
    """A ValueSet or CodeSystem of this server by canonical URL (and `|version`) or `Type/id`; the newest of several."""
    number = TYPE_NUMBER[resource_type]
    statement = Statement("select r.doc from resource r where r.type = %s and not r.deleted and", number)
    url, _, version = name.partition("|")
    if url.startswith(f"{resource_type}/"):
        statement.add("r.id = %s", url.removeprefix(f"{resource_type}/"))
    else:
        key = param_key(number, parameters_of(resource_type)["url"])
        statement.add("r.rid in (select t.rid from token t where t.h = %s) order by r.rid desc", uri_is(key, url))
    found = [orjson.loads(doc) for (doc,) in await statement.rows(connection)]
    return next((one for one in found if not version or one.get("version") == version), None)
