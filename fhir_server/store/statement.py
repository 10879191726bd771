"""SQL text and its parameters, grown together so that they cannot fall apart."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from fhir_server.sight import EVERYTHING, Sight
from fhir_server.store.database import Connection
from mappings.access_facts import IDENTITY, OUTSIDE
from mappings.consent import RIGHTS


@dataclass(frozen=True, slots=True)
class Earlier:
    """A connection through which a statement sees some resources as they were.

    `shadows` is a `with` that names the tables, in which rows of then stand beside those of now and have a true `was`;
    of the resources `hidden` the rows of now do not count.
    """

    connection: Connection
    shadows: str
    values: Sequence[Any]
    hidden: Sequence[int]


COUNTS: Final = (
    "and ({row}.was or {row}.rid <> all(%s::bigint[])) and {row}.tenant = current_setting('dmst.tenant')::smallint"
)
Reader = Connection | Earlier
"""Through which statements are asked."""


class Statement:
    """Every value travels as a parameter; the text is made of constants only.

    `row_by_row` asks index tables about each row by itself, for few rows that are known (`conditions`). `planned` asks
    for its plan, as JSON, in the place of its rows.
    """

    sight: Sight = EVERYTHING
    """What of the store the statement may be answered from: asked of every row of `resource`."""
    of_few: bool = False
    """Whether so few rows are asked that to gather what is asked of them for all at once is not worth a thought."""

    def __init__(self, text: str = "", *values: Any, row_by_row: bool = False, planned: bool = False) -> None:
        self._parts: list[tuple[str, Sequence[Any]]] = [(text, values)] if text else []
        self._counted: list[tuple[int, str]] = []
        self.planned = planned
        self.row_by_row = row_by_row
        self._aliases = 0

    def add(self, text: str, *values: Any) -> None:
        self._parts.append((text, values))

    def if_counted(self, row: str) -> None:
        """One more condition, after others: that this row of a table counts. In the tables as they are, each does."""
        self._counted.append((len(self._parts), row))

    def if_in_sight(self, row: str) -> None:
        """One more condition, after others: that this row of `resource` is in sight. The same as `Sight.covers`.

        The planner should think of it as of no condition. That some bits of a number are 0 it believes of one row in
        200, that a number is not 1 of nearly all. Rights stand in the text, of which there are few, as constants. And a
        question to `opposition` is planned twice, row by row and for all at once, unless it says that it skips nothing.

        The bounds of scopes are asked beside it, of a type (`conditions`).
        """
        if self.sight.hidden:
            self.add(f"and least({row}.guard & %s, 1) <> 1", self.sight.hidden)
        if self.sight.only is not None:
            self.add(f"and ({row}.worker = %s or ({row}.guard & {OUTSIDE}) <> 0)", self.sight.only)
        if rights := " or ".join(f"o.exercised = '{right}'" for right in RIGHTS if right in self.sight.rights):
            self.add(
                f"and (({row}.guard & {IDENTITY}) <> 0 or {row}.worker is null or not exists (select from opposition o"
                f" where o.worker = {row}.worker and ({rights}) and o.low <= now() and now() < o.high"
                f" {'offset 0' if self.of_few else ''}))"
            )
        if self.sight.team is not None:
            self.add(
                f"and (({row}.guard & {IDENTITY}) <> 0 or {row}.worker is null or {row}.worker = any(%s::bigint[])"
                f" or not exists (select from worker_centre w where w.worker = {row}.worker"
                " and w.centre <> all(%s::text[])))",
                list(self.sight.lifted),
                list(self.sight.team),
            )

    def alias(self) -> str:
        """A name for a row that no other has."""
        self._aliases += 1
        return f"c{self._aliases}"

    def __str__(self) -> str:
        return " ".join(text for text, _ in self._parts)

    @property
    def values(self) -> list[Any]:
        return [value for _, values in self._parts for value in values]

    async def rows(self, reader: Reader, *, binary: bool = False) -> list[tuple[Any, ...]]:
        """Run it."""
        if isinstance(reader, Earlier):
            return await self._of_then(reader).rows(reader.connection, binary=binary)
        text = f"explain (format json) {self}" if self.planned else str(self)
        cursor = await reader.execute(text.encode(), self.values, binary=binary)
        return await cursor.fetchall()

    def _of_then(self, earlier: Earlier) -> "Statement":
        """The same on the tables of then."""
        statement = Statement(earlier.shadows, *earlier.values, planned=self.planned)
        begin = 0
        for end, row in self._counted:
            statement._parts += self._parts[begin:end]
            statement.add(COUNTS.format(row=row), earlier.hidden)
            begin = end
        statement._parts += self._parts[begin:]
        return statement
