"""SQL text and its parameters, grown together so that they cannot fall apart."""

from typing import Any

from fhir_server.store.database import Connection


class Statement:
    """Every value travels as a parameter; the text is made of constants only."""

    def __init__(self, text: str = "", *values: Any) -> None:
        self.text: list[str] = [text] if text else []
        self.values: list[Any] = list(values)
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
