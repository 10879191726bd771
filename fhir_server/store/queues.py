"""How long the queues are that the database holds: deliveries, folders that wait for a person, jobs."""

from typing import Any

from fhir_server.store import queries
from fhir_server.store.database import Database

SQL = queries.load("queues")
LONGEST_MS = 2_000

Samples = list[tuple[tuple[str, ...], float]]


async def queue_lengths(database: Database) -> dict[str, Samples]:
    """Samples by family: labels and number. Raises Unavailable where a count takes longer than two seconds."""
    async with database.transaction() as connection:
        await connection.execute(f"set local statement_timeout = {LONGEST_MS}".encode())

        async def rows(name: str) -> list[tuple[Any, ...]]:
            return await (await connection.execute(SQL[name])).fetchall()

        return {
            "deliveries": [((recipient, state), number) for recipient, state, number in await rows("deliveries")],
            "delivery_oldest_waiting_seconds": [((name,), age) for name, age in await rows("oldest_waiting")],
            "review_folders": [((), number) for (number,) in await rows("review_folders")],
            "jobs": [((task, status), number) for task, status, number in await rows("jobs")],
        }
