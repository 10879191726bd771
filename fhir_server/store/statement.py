"""SQL text and its parameters, grown together so that they cannot fall apart."""

from typing import Any

from fhir_server.store.database import Connection


class Statement:
    """Every value travels as a parameter; the text is made of constants only.

    `row_by_row` asks index tables about each row by itself, for few rows that are known (`conditions`).
    """

    def __init__(self, text: str = "", *values: Any, row_by_row: bool = False) -> None:
        self.text: list[str] = [text] if text else []
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

    async def rows(self, connection: Connection, *, binary: bool = False) -> list[tuple[Any, ...]]:
        """Run it."""
        cursor = await connection.execute(str(self).encode(), self.values, binary=binary)
        return await cursor.fetchall()
