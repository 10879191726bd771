"""The rows of the outbox. Moves are decided in outbox/deliveries.py; here they are only kept."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, NamedTuple

from fhir_server.store import queries
from fhir_server.store.database import Connection, Database

SQL = queries.load("deliveries")


class DeliveryRow(NamedTuple):
    delivery_id: str
    recipient: str
    document_reference_id: str
    patient_id: str
    state: str
    attempts: int
    reason: str | None
    detail: str | None
    remote_id: str | None
    created: datetime
    updated: datetime


async def insert_deliveries(
    connection: Connection, rows: Sequence[tuple[str, str, str, str]], at: datetime
) -> list[tuple[str, str]]:
    """New rows (delivery id, recipient, DocumentReference id, Patient id); returns (id, recipient) of the new ones."""
    columns: list[list[Any]] = [list(column) for column in zip(*rows, strict=True)]
    cursor = await connection.execute(SQL["insert"], (at, at, *columns))
    return [(row[0], row[1]) for row in await cursor.fetchall()]


async def lock_delivery(connection: Connection, delivery_id: str) -> DeliveryRow | None:
    row = await (await connection.execute(SQL["lock"], (delivery_id,))).fetchone()
    return DeliveryRow(*row) if row else None


async def move_delivery(
    connection: Connection,
    delivery_id: str,
    *,
    state: str,
    attempts: int,
    reason: str | None,
    detail: str | None,
    remote_id: str | None,
    updated: datetime,
) -> None:
    await connection.execute(
        SQL["move"],
        {
            "delivery_id": delivery_id,
            "state": state,
            "attempts": attempts,
            "reason": reason,
            "detail": detail,
            "remote_id": remote_id,
            "updated": updated,
        },
    )


async def read_delivery(database: Database, delivery_id: str) -> DeliveryRow | None:
    async with database.connection() as connection:
        row = await (await connection.execute(SQL["read"], (delivery_id,))).fetchone()
        return DeliveryRow(*row) if row else None


async def count_deliveries(database: Database) -> dict[str, dict[str, int]]:
    """{recipient: {state: n}}."""
    counts: dict[str, dict[str, int]] = {}
    async with database.connection() as connection:
        for recipient, state, number in await (await connection.execute(SQL["count"])).fetchall():
            counts.setdefault(recipient, {})[state] = number
    return counts
