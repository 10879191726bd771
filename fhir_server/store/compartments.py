"""The members of a compartment, whatever their type, in the order in which they came: keyset paged, bounded in size.

https://hl7.org/fhir/R4/compartmentdefinition.html
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

from fhir_server.r4.care_dates import CARE_DATES
from fhir_server.r4.compartments import parameters
from fhir_server.r4.resource_types import TYPE_NAME, TYPE_NUMBER
from fhir_server.r4.search_parameters import parameters_of
from fhir_server.sight import Sight
from fhir_server.store import queries
from fhir_server.store.bounds import bounded
from fhir_server.store.database import Database
from fhir_server.store.histories import BEGINNING
from fhir_server.store.search_index import param_key, reference_to

SQL = queries.load("compartments")
LARGEST_PAGE = 16 * 1024 * 1024
"""Bytes of documents, as PostgreSQL keeps them, that a page holds; one document may be larger and is alone then."""


@dataclass(frozen=True, slots=True)
class Narrowed:
    """Which members are wanted: changed since a moment, with care in a span of microseconds; None means any."""

    since: datetime | None = None
    care_from: int | None = None
    care_until: int | None = None


class Member(NamedTuple):
    """A resource of the compartment; `rid` is its place in the order."""

    rid: int
    type: str
    id: str
    doc: bytes


@dataclass(frozen=True, slots=True)
class Compartments:
    """Reads compartments over one database."""

    database: Database

    async def page(
        self,
        compartment: str,
        owner_id: str,
        types: Iterable[str],
        narrowed: Narrowed,
        sight: Sight,
        *,
        after: int,
        limit: int,
    ) -> tuple[list[Member], int | None]:
        """At most `limit` members of these types in sight, behind place `after`, and where the next page begins.

        The resource that the compartment is of is no member of its own. Raises Unavailable.
        """
        wanted = tuple(types)
        text, seen = bounded(SQL["page"], sight, [TYPE_NUMBER[name] for name in wanted])
        asked = {
            "hashes": _hashes(compartment, owner_id, wanted),
            "dates": [param_key(TYPE_NUMBER[t], parameters_of(t)[c]) for t in wanted for c in CARE_DATES.get(t, ())],
            "after": after,
            "since": narrowed.since or BEGINNING,
            "low": narrowed.care_from,
            "high": narrowed.care_until,
            "limit": limit + 1,
            **seen,
        }
        async with self.database.connection() as connection:
            rows = await (await connection.execute(text, asked)).fetchall()
            rids = _that_fit(rows, limit)
            cursor = await connection.execute(SQL["members"], (rids,), binary=True)
            found = [
                Member(rid, TYPE_NAME[number], member, doc) for rid, number, member, doc in await cursor.fetchall()
            ]
        owner = f"{compartment}/{owner_id}".encode()
        following = rids[-1] if len(rids) < len(rows) else None
        return [one for one in found if owner in one.doc], following  # two references may share a hash


def _hashes(compartment: str, owner_id: str, types: Iterable[str]) -> list[int]:
    return [
        reference_to(
            param_key(TYPE_NUMBER[resource_type], parameters_of(resource_type)[code]), f"{compartment}/{owner_id}"
        )
        for resource_type in types
        for code in parameters(compartment, resource_type)
    ]


def _that_fit(rows: Iterable[tuple[int, int]], limit: int) -> list[int]:
    """The first of (rid, size) that a page may hold: one at least."""
    rids: list[int] = []
    room = LARGEST_PAGE
    for rid, size in rows:
        room -= size
        if rids and (room < 0 or len(rids) == limit):
            break
        rids.append(rid)
    return rids
