"""Background work, written in the transaction that asks for it (docs/adr/0004).

procrastinate keeps the jobs in PostgreSQL; a job that is written here exists exactly if its transaction does.
"""

from collections.abc import Iterable
from datetime import datetime

from procrastinate import PsycopgConnector
from procrastinate.jobs import Job
from procrastinate.manager import JobManager

from fhir_server.store.database import Connection

DISPATCH = "dispatch"
BULK = "bulk"
"""The task of a bulk job, and its queue."""


def queue_of(recipient: str) -> str:
    """Each recipient has a queue of its own: one that is slow or down blocks nobody else."""
    return f"dispatch:{recipient}"


class Jobs:
    """Writes jobs over somebody else's connection."""

    def __init__(self, connector: PsycopgConnector) -> None:
        self._manager = JobManager(connector)

    async def defer_dispatch(
        self, connection: Connection, deliveries: Iterable[tuple[str, str]], *, at: datetime | None = None
    ) -> None:
        """One job for each (delivery id, recipient), to be run now or `at`."""
        jobs = [
            Job(
                queue=queue_of(recipient),
                lock=None,
                queueing_lock=None,
                task_name=DISPATCH,
                task_kwargs={"delivery_id": delivery_id},
                scheduled_at=at,
            )
            for delivery_id, recipient in deliveries
        ]
        if jobs:
            await self._manager.batch_defer_jobs_async(jobs=jobs, connection=connection)

    async def defer_bulk(self, connection: Connection, job_id: str) -> None:
        """A bulk job, to be worked on as soon as a worker is free."""
        job = Job(queue=BULK, lock=None, queueing_lock=None, task_name=BULK, task_kwargs={"job_id": job_id})
        await self._manager.batch_defer_jobs_async(jobs=[job], connection=connection)
