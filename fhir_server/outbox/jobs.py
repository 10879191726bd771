"""Background work, written in the transaction that asks for it (docs/adr/0004).

procrastinate keeps the jobs in PostgreSQL; a job that is written here exists exactly if its transaction does.
"""

from collections.abc import Iterable
from datetime import datetime

from procrastinate import PsycopgConnector
from procrastinate.jobs import Job
from procrastinate.manager import JobManager

from fhir_server.store.database import Connection


class Jobs:
    """Writes jobs over somebody else's connection.

    Tenants share the tables of the jobs, which hold ids and nothing else; each has tasks and queues of its own.
    """

    def __init__(self, connector: PsycopgConnector, *, tenant: int = 0) -> None:
        self._manager = JobManager(connector)
        self._of_tenant = f"@{tenant}" if tenant else ""
        self.dispatch = f"dispatch{self._of_tenant}"
        self.bulk = f"bulk{self._of_tenant}"
        """The task of a bulk job, and its queue."""

    def queue_of(self, recipient: str) -> str:
        """Each recipient has a queue of its own: one that is slow or down blocks nobody else."""
        return f"dispatch:{recipient}{self._of_tenant}"

    async def defer_dispatch(
        self, connection: Connection, deliveries: Iterable[tuple[str, str]], *, at: datetime | None = None
    ) -> None:
        """One job for each (delivery id, recipient), to be run now or `at`."""
        jobs = [
            Job(
                queue=self.queue_of(recipient),
                lock=None,
                queueing_lock=None,
                task_name=self.dispatch,
                task_kwargs={"delivery_id": delivery_id},
                scheduled_at=at,
            )
            for delivery_id, recipient in deliveries
        ]
        if jobs:
            await self._manager.batch_defer_jobs_async(jobs=jobs, connection=connection)

    async def defer_bulk(self, connection: Connection, job_id: str) -> None:
        """A bulk job, to be worked on as soon as a worker is free."""
        job = Job(queue=self.bulk, lock=None, queueing_lock=None, task_name=self.bulk, task_kwargs={"job_id": job_id})
        await self._manager.batch_defer_jobs_async(jobs=[job], connection=connection)
