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
    withdrawn: datetime | None = None
    """When its document was taken out of the record of this worker, where it was filed by mistake."""


async def insert_deliveries(
    connection: Connection, rows: Sequence[tuple[str, str, str, str]], at: datetime
) -> list[tuple[str, str]]:
    """New rows (delivery id, recipient, DocumentReference id, Patient id); returns (id, recipient) of the new ones."""
    columns: list[list[Any]] = [list(column) for column in zip(*rows, strict=True)]
    cursor = await connection.execute(SQL["insert"], (at, at, *columns))
    return [(row[0], row[1]) for row in await cursor.fetchall()]


async def ask_again(
    connection: Connection, recipient: str, documents: Sequence[str], at: datetime
) -> list[tuple[str, str]]:
    """(delivery id, recipient) of what was withheld, of these DocumentReferences, and waits again."""
    cursor = await connection.execute(SQL["ask_again"], (at, recipient, list(documents)))
    return [(delivery_id, name) for delivery_id, name in await cursor.fetchall()]


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


async def waiting_deliveries(
    connection: Connection, documents: Sequence[str], patients: Sequence[str]
) -> list[tuple[str, str]]:
    """(delivery id, recipient) of what has not left, of these DocumentReferences and of these Patients."""
    cursor = await connection.execute(SQL["waiting"], (list(documents), list(patients)))
    return [(delivery_id, recipient) for delivery_id, recipient in await cursor.fetchall()]


class Left(NamedTuple):
    """A document that a recipient has."""

    delivery_id: str
    recipient: str
    document_reference_id: str
    patient_id: str
    state: str
    at: datetime
    remote_id: str | None


async def left_deliveries(database: Database, *, document: str | None, patient: str | None) -> list[Left]:
    """What has left, of a DocumentReference or of a Patient, the oldest first."""
    async with database.connection() as connection:
        cursor = await connection.execute(SQL["left"], {"document": document, "patient": patient})
        return [Left(*row) for row in await cursor.fetchall()]


async def count_deliveries(database: Database) -> dict[str, dict[str, int]]:
    """{recipient: {state: n}}."""
    counts: dict[str, dict[str, int]] = {}
    async with database.connection() as connection:
        for recipient, state, number in await (await connection.execute(SQL["count"])).fetchall():
            counts.setdefault(recipient, {})[state] = number
    return counts
