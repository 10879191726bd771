"""What this server keeps of terminology: CodeSystems, ValueSets and ConceptMaps, by canonical URL, read once.

https://hl7.org/fhir/R4/terminology-module.html - the store fetches; what they mean is said in `terminology/`.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, Final

import orjson

from fhir_server.outcomes import TooCostly
from fhir_server.r4.definitions import value_set_of
from fhir_server.r4.resource_types import TYPE_NUMBER
from fhir_server.r4.search_parameters import parameters_of
from fhir_server.store import queries
from fhir_server.store.database import Connection, Database
from fhir_server.store.resources import Stored, read_within
from fhir_server.store.search_index import param_key, reference_to, uri_is
from terminology import code_system
from terminology.code_system import CodeSystem
from terminology.library import Library, needed, split
from terminology.translation import other_maps

SQL = queries.load("definitions")
MOST: Final = 500
"""Definitions, of all versions together, that one question may need."""
LARGEST_SHELF: Final = 32 * 1024 * 1024
"""Bytes of JSON whose meaning is kept in memory; as Python objects they are several times that."""
READ_ASIDE: Final = 100_000
"""Bytes from which a document is read beside the requests of others."""

Json = Mapping[str, Any]
Key = tuple[int, str, int, datetime]
"""Type, id, version and moment of one version: what was read under it never changes."""
Definition = CodeSystem | Json


class Shelf:
    """Definitions as they were read, the last used ones. Nothing in it can go stale: a new version is another key."""

    def __init__(self, largest: int = LARGEST_SHELF) -> None:
        self._largest = largest
        self._held: OrderedDict[Key, tuple[Definition, int]] = OrderedDict()
        self._size = 0
        self._reading = asyncio.Lock()

    def get(self, key: Key) -> Definition | None:
        if key not in self._held:
            return None
        self._held.move_to_end(key)
        return self._held[key][0]

    async def take(self, stored: Stored) -> Definition:
        """What a resource says, read if it is not held. Large ones are read one after the other: they take memory."""
        key, doc = (stored.type, stored.id, stored.version, stored.updated), stored.doc or b"{}"
        if held := self.get(key):
            return held
        if len(doc) < READ_ASIDE:
            return self._hold(key, _read(doc), len(doc))
        async with self._reading:
            return self.get(key) or self._hold(key, await asyncio.to_thread(_read, doc), len(doc))

    def _hold(self, key: Key, one: Definition, size: int) -> Definition:
        if size <= self._largest and key not in self._held:
            self._held[key] = one, size
            self._size += size
            while self._size > self._largest:
                _, (_, gone) = self._held.popitem(last=False)
                self._size -= gone
        return one


class Definitions:
    """Reads over one database, with a shelf of its own or that of its searches."""

    def __init__(self, database: Database, shelf: Shelf | None = None) -> None:
        self._database = database
        self._shelf = shelf or Shelf()

    async def read(self, stored: Stored) -> Definition:
        """What a resource says that was read as such."""
        return await self._shelf.take(stored)

    async def value_sets(self, url: str) -> Sequence[Json]:
        """The versions of a value set: those that are kept, else R4's own."""
        async with self._database.connection() as connection:
            return await value_sets(connection, self._shelf, {url})

    async def concept_maps(self, url: str) -> Sequence[Json]:
        """The versions of a concept map."""
        async with self._database.connection() as connection:
            found = await _found(connection, self._shelf, "ConceptMap", "url", {url})
        return [one for one in found if not isinstance(one, CodeSystem) and one.get("url") == url]

    async def concept_maps_between(self, systems: Collection[str], *, reverse: bool) -> Sequence[Json]:
        """The concept maps that lead from one of these code systems; reversed, to one of them."""
        parameter = "target-system" if reverse else "source-system"
        async with self._database.connection() as connection:
            found = await _found(connection, self._shelf, "ConceptMap", parameter, systems)
        return [one for one in found if not isinstance(one, CodeSystem)]

    async def other_maps(self, concept_maps: Iterable[Json]) -> dict[str, list[Json]]:
        """The maps that these refer to, those that they refer to, and so on, by URL."""
        found: dict[str, list[Json]] = {}
        wanted = {url for one in concept_maps for url in other_maps(one)}
        while wanted := wanted - found.keys():
            url = wanted.pop()
            found[url] = list(await self.concept_maps(url))
            wanted |= {other for one in found[url] for other in other_maps(one)}
            _check(len(found))
        return found

    async def library(self, *, systems: Collection[str] = (), value_sets: Iterable[Json] = ()) -> Library:
        """What is needed to answer of code systems and value sets. Raises TooCostly, Unavailable."""
        async with self._database.connection() as connection:
            return await library(connection, self._shelf, systems=systems, value_sets=value_sets)


async def value_set_named(connection: Connection, shelf: Shelf, name: str) -> Sequence[Json]:
    """The versions of a value set by canonical URL, or the one of `ValueSet/id`."""
    if not name.startswith("ValueSet/"):
        return await value_sets(connection, shelf, {split(name)[0]})
    stored = await read_within(connection, [(TYPE_NUMBER["ValueSet"], name.removeprefix("ValueSet/"))])
    found = [await shelf.take(one) for one in stored if one.doc]
    return [one for one in found if not isinstance(one, CodeSystem)]


async def value_sets(connection: Connection, shelf: Shelf, urls: Collection[str]) -> Sequence[Json]:
    """The versions of value sets: those that are kept; R4's own where none is."""
    found = await _found(connection, shelf, "ValueSet", "url", urls)
    kept = [one for one in found if not isinstance(one, CodeSystem) and one.get("url") in urls]
    known = {one["url"] for one in kept}
    return [*kept, *(own for url in sorted(set(urls) - known) if (own := value_set_of(url)))]


async def library(
    connection: Connection, shelf: Shelf, *, systems: Collection[str] = (), value_sets: Iterable[Json] = ()
) -> Library:
    """Code systems (`url` or `url|version`) with their supplements, and whatever value sets refer to."""
    gatherer = _Gatherer(connection, shelf)
    wanted_systems, wanted_sets = set(systems), set[str]()
    for one in value_sets:
        more_systems, more_sets = needed(one)
        wanted_systems |= more_systems
        wanted_sets |= more_sets
    while wanted_sets:
        more_systems, wanted_sets = await gatherer.take_value_sets(wanted_sets)
        wanted_systems |= more_systems
    await gatherer.take_code_systems(wanted_systems)
    return Library(gatherer.code_systems, gatherer.value_sets)


class _Gatherer:
    """Definitions as they are fetched, each once."""

    def __init__(self, connection: Connection, shelf: Shelf) -> None:
        self._connection = connection
        self._shelf = shelf
        self.code_systems: dict[str, list[CodeSystem]] = {}
        self.value_sets: dict[str, list[Json]] = {}

    async def take_value_sets(self, urls: Collection[str]) -> tuple[set[str], set[str]]:
        """Fetch value sets; what they refer to in their turn."""
        systems: set[str] = set()
        others: set[str] = set()
        self.value_sets.update({url: [] for url in urls})
        for one in await value_sets(self._connection, self._shelf, urls):
            self.value_sets[one["url"]].append(one)
            more_systems, more_sets = needed(one)
            systems |= more_systems
            others |= more_sets
        _check(len(self.value_sets))
        return systems, others - self.value_sets.keys()

    async def take_code_systems(self, canonicals: Collection[str]) -> None:
        """Fetch code systems, then the supplements of all of them."""
        _check(len(canonicals) + len(self.value_sets))
        urls = {split(one)[0] for one in canonicals}
        found = await self._take("url", urls)
        versions = {one.canonical for one in found if not one.is_supplement}
        await self._take("supplements", {*urls, *canonicals, *versions})

    async def _take(self, parameter: str, values: Collection[str]) -> list[CodeSystem]:
        found = await _found(self._connection, self._shelf, "CodeSystem", parameter, values)
        systems = [one for one in found if isinstance(one, CodeSystem)]
        taken = [one for one in systems if (one.url if parameter == "url" else one.supplements) in values]
        for one in taken:
            versions = self.code_systems.setdefault(one.url, [])
            if all(one is not other for other in versions):
                versions.append(one)
        return taken


async def _found(
    connection: Connection, shelf: Shelf, resource_type: str, parameter: str, values: Collection[str]
) -> list[Definition]:
    """The definitions that the index has under any of these values, the last put here first.

    Two values may share a hash: whoever asks looks at what is found.
    """
    if not values:
        return []
    number = TYPE_NUMBER[resource_type]
    key = param_key(number, parameters_of(resource_type)[parameter])
    hashed = reference_to if parameter == "supplements" else uri_is
    cursor = await connection.execute(SQL["found"], ([hashed(key, one) for one in values], number, MOST + 1))
    rows: list[Key] = await cursor.fetchall()
    _check(len(rows))
    found: list[Definition] = []
    for row in rows:  # one by one: they may be large
        if held := shelf.get(row):
            found.append(held)
        else:
            found += [await shelf.take(one) for one in await read_within(connection, [row[:2]]) if one.doc]
    return found


def _check(count: int) -> None:
    if count > MOST:
        raise TooCostly(f"More than {MOST} definitions are needed to answer")


def _read(doc: bytes) -> Definition:
    resource = orjson.loads(doc)
    return code_system.parse(resource) if resource.get("resourceType") == "CodeSystem" else resource
