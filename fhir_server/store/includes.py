"""What comes along with the hits of a search: the resources that they refer to, or that refer to them.

https://hl7.org/fhir/R4/search.html#revinclude - each resource once, in a bounded number of steps.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import orjson

from fhir_server.outcomes import TooCostly
from fhir_server.r4.include import Include
from fhir_server.r4.index_values import Reference, extract
from fhir_server.r4.references import is_local
from fhir_server.r4.resource_types import TYPE_NAME, TYPE_NUMBER
from fhir_server.r4.search_parameters import SearchParameter, parameters_of
from fhir_server.sight import Sight
from fhir_server.store import queries
from fhir_server.store.bounds import bounded
from fhir_server.store.database import Database
from fhir_server.store.resources import Key, Resources
from fhir_server.store.search_index import param_key, reference_to

SQL = queries.load("resources")
MOST_STEPS = 5
MOST_INCLUDED = 1000


class Included(NamedTuple):
    """A resource that a search shows: one that it found, or that came along."""

    type: str
    id: str
    doc: bytes


@dataclass(frozen=True, slots=True)
class Includes:
    """Follows references over one store."""

    database: Database
    resources: Resources

    async def of(self, hits: Sequence[Included], wanted: Sequence[Include], sight: Sight) -> list[Included]:
        """What comes along with `hits` and is in sight. Raises TooCostly beyond `MOST_INCLUDED` resources."""
        latest = list(hits)
        known = {(TYPE_NUMBER[one.type], one.id) for one in latest}
        along: list[Included] = []
        for step in range(MOST_STEPS):
            follow = [one for one in wanted if step == 0 or one.iterate]
            if not latest or not follow:
                break
            latest = [
                one for one in await self._step(latest, follow, sight) if (TYPE_NUMBER[one.type], one.id) not in known
            ]
            known.update((TYPE_NUMBER[one.type], one.id) for one in latest)
            along += latest
            if len(along) > MOST_INCLUDED:
                raise TooCostly(f"More than {MOST_INCLUDED} resources would be included")
        return along

    async def _step(self, latest: Sequence[Included], follow: Sequence[Include], sight: Sight) -> list[Included]:
        found: dict[Key, Included] = {}
        keys = {key for one in latest for key in _referred(one, [f for f in follow if not f.reverse])}
        if keys:
            for row in await self.resources.read_many(sorted(keys)[: MOST_INCLUDED + 1]):
                if row.doc and row.is_in(sight):
                    found[row.type, row.id] = Included(TYPE_NAME[row.type], row.id, row.doc)
        for one in (f for f in follow if f.reverse):
            for included in await self._referring(latest, one, sight):
                found[TYPE_NUMBER[included.type], included.id] = included
        return list(found.values())

    async def _referring(self, latest: Sequence[Included], wanted: Include, sight: Sight) -> list[Included]:
        number = TYPE_NUMBER[wanted.source]
        parameters = [wanted.parameter] if wanted.parameter else _references_of(wanted.source)
        hashes = [
            reference_to(param_key(number, parameter), f"{one.type}/{one.id}")
            for parameter in parameters
            for one in latest
            if wanted.target in (None, one.type) and (not parameter.targets or one.type in parameter.targets)
        ]
        async with self.database.connection() as connection:
            text, asked = bounded(SQL["referring"], sight, [number])
            asked |= {"hashes": hashes, "type": number, "limit": MOST_INCLUDED + 1}
            cursor = await connection.execute(text, asked)
            return [Included(wanted.source, resource_id, doc) for resource_id, doc in await cursor.fetchall()]


def _references_of(resource_type: str) -> list[SearchParameter]:
    return [parameter for parameter in parameters_of(resource_type).values() if parameter.type == "reference"]


def _referred(one: Included, follow: Sequence[Include]) -> Iterable[Key]:
    """The local targets of the references that are to be followed from one resource."""
    wanted = [include for include in follow if include.source == one.type]
    if not wanted:
        return
    resource: Mapping[str, Any] = orjson.loads(one.doc)
    for value in extract(resource):
        if not isinstance(value, Reference) or not (target := is_local(value.target or "")):
            continue
        if any(include.follows(value.param) and include.target in (None, target[0]) for include in wanted):
            yield TYPE_NUMBER[target[0]], target[1]
