"""SQL text and its parameters, grown together so that they cannot fall apart."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from fhir_server.store.database import Connection


@dataclass(frozen=True, slots=True)
class Earlier:
    """A connection through which a statement sees other tables than there are: `shadows`, a `with` that names them."""

    connection: Connection
    shadows: str
    values: Sequence[Any]


Reader = Connection | Earlier
"""Through which statements are asked."""


class Statement:
    """Every value travels as a parameter; the text is made of constants only.

    `row_by_row` asks index tables about each row by itself, for few rows that are known (`conditions`). `planned` asks
    for its plan, as JSON, in the place of its rows.
    """

    def __init__(self, text: str = "", *values: Any, row_by_row: bool = False, planned: bool = False) -> None:
        self.text: list[str] = [text] if text else []
        self.planned = planned
        self.values: list[Any] = list(values)
        self.row_by_row = row_by_row
        self._aliases = 0

    def add(self, text: str, *values: Any) -> None:
        self.text.append(text)
        self.values.extend(values)

    def alias(self) -> str:
        """A name for a row that no other has."""
        self._aliases += 1
        return f"c{self._aliases}"

    def __str__(self) -> str:
        return " ".join(self.text)

    async def rows(self, reader: Reader, *, binary: bool = False) -> list[tuple[Any, ...]]:
        """Run it."""
        text, values, connection = str(self), self.values, reader
        if isinstance(connection, Earlier):
            text, values = f"{connection.shadows} {text}", [*connection.values, *values]
            connection = connection.connection
        if self.planned:
            text = f"explain (format json) {text}"
        cursor = await connection.execute(text.encode(), values, binary=binary)
        return await cursor.fetchall()
