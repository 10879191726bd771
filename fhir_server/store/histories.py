"""Versions of one resource, of some types, newest first: https://hl7.org/fhir/R4/http.html#history

A page starts below a place (keyset), so that what is written meanwhile shifts nothing, and page 1,000 costs what page 1
does: of each type a few entries of one index are read, from the current versions and from the earlier ones.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

from fhir_server.sight import EVERYTHING, Sight
from fhir_server.store import queries
from fhir_server.store.bounds import bounded
from fhir_server.store.database import Database
from fhir_server.store.resources import Key

SQL = queries.load("history")
BEGINNING: Final = datetime(1, 1, 1, tzinfo=UTC)
END: Final = datetime(9999, 12, 31, 23, 59, 59, 999_999, UTC)


class Past(NamedTuple):
    """One version. `doc` is None where it is a deletion; `last` is then what was deleted.

    `revived` says that the version before it was a deletion.
    """

    rid: int
    type: int
    id: str
    version: int
    updated: datetime
    deleted: bool
    doc: bytes | None
    revived: bool
    last: bytes | None

    @property
    def place(self) -> "Moment":
        return Moment(self.updated, self.rid, self.version)


class Moment(NamedTuple):
    """Where a page ended."""

    updated: datetime = END
    rid: int = 2**63 - 1
    version: int = 2**31 - 1


@dataclass(frozen=True, slots=True)
class Span:
    """Which versions: made at or after `since`, and current at some time between `low` and `until`."""

    since: datetime = BEGINNING
    low: datetime = BEGINNING
    until: datetime = END
    sight: Sight = EVERYTHING
    """Of whoever asks, by what is known of each resource now."""

    def as_parameters(self) -> dict[str, Any]:
        return {"since": self.since, "low": self.low, "until": self.until, **self.sight.as_parameters()}


class Histories:
    """Histories over one database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def of_instance(self, key: Key, span: Span, below: Moment, limit: int) -> list[Past]:
        """Versions of one resource with numbers below the place; none when it never existed."""
        asked = {"type": key[0], "id": key[1], "version": below.version, "limit": limit}
        return await self._rows("of_instance", span, [key[0]], asked)

    async def count_of_instance(self, key: Key, span: Span) -> int:
        return await self._count("count_of_instance", span, [key[0]], {"type": key[0], "id": key[1]})

    async def of_types(self, types: Sequence[int], span: Span, below: Moment, limit: int) -> list[Past]:
        """Versions of every resource of these types, from below the place on. Raises Unavailable."""
        asked = {"types": list(types), "limit": limit, **below._asdict()}
        return await self._rows("of_types", span, types, asked)

    async def count_of_types(self, types: Sequence[int], span: Span) -> int:
        return await self._count("count_of_types", span, types, {"types": list(types)})

    async def _rows(self, query: str, span: Span, types: Sequence[int], asked: dict[str, Any]) -> list[Past]:
        text, seen = bounded(SQL[query], span.sight, types)
        async with self._database.connection() as connection:
            cursor = await connection.execute(text, span.as_parameters() | seen | asked, binary=True)
            return [Past(*row) for row in await cursor.fetchall()]

    async def _count(self, query: str, span: Span, types: Sequence[int], asked: dict[str, Any]) -> int:
        text, seen = bounded(SQL[query], span.sight, types)
        async with self._database.connection() as connection:
            row = await (await connection.execute(text, span.as_parameters() | seen | asked)).fetchone()
            return row[0] if row else 0
