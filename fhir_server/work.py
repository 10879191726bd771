"""The worker process: deliveries, the drop folder, jobs of dead workers, search parameters that were added."""

import asyncio
import contextlib
from datetime import UTC, datetime, timedelta

import structlog
from procrastinate import App, PsycopgConnector

from adapters.scanner.drop_folder import DropFolder
from fhir_server.app import Parts, keep_trail, make_adapters, make_dispatcher
from fhir_server.dispatch import Dispatcher
from fhir_server.metrics_port import metrics_port
from fhir_server.outbox.jobs import Jobs
from fhir_server.rest.metrics import Exposition
from fhir_server.store.parameter_index import index_forever

log = structlog.get_logger(__name__)

DELIVERIES_AT_ONCE = 4
BULK_JOBS_AT_ONCE = 1
HEARTBEATS_PER_SILENCE = 3
FORGOTTEN_SECONDS = 86_400.0
"""Silence after which the library forgets a worker: of any tenant, so far beyond what one of them takes for death."""


async def work(parts: Parts, stop: asyncio.Event) -> None:
    """Run until `stop` is set, then finish what is under way."""
    adapters = make_adapters(parts.recipients, parts.settings.home)
    dispatcher = make_dispatcher(parts, adapters)
    connector = PsycopgConnector(conninfo=parts.postgres, min_size=1, max_size=5 + len(parts.recipients))
    jobs, names = App(connector=connector), parts.jobs

    @jobs.task(name=names.dispatch)
    async def dispatch(delivery_id: str) -> None:
        await dispatcher.dispatch(delivery_id)

    @jobs.task(name=names.bulk)
    async def bulk(job_id: str) -> None:
        await parts.bulk.run(job_id)

    drop_folder = DropFolder(parts.settings.incoming_folder, parts.lots.receive_and_answer)
    drop_folder.prepare()
    async with jobs.open_async(), metrics_port(Exposition(parts.metrics, parts.database), parts.settings):
        running = [
            asyncio.create_task(
                _run_queue(jobs, names.queue_of(recipient.name), DELIVERIES_AT_ONCE, parts.settings.stalled_seconds)
            )
            for recipient in parts.recipients
        ]
        running.append(
            asyncio.create_task(_run_queue(jobs, names.bulk, BULK_JOBS_AT_ONCE, parts.settings.stalled_seconds))
        )
        running.append(asyncio.create_task(_revive(jobs, names, dispatcher, parts.settings.stalled_seconds)))
        running.append(asyncio.create_task(index_forever(parts.database, parts.parameters)))
        running.append(asyncio.create_task(keep_trail(parts)))
        running.append(asyncio.create_task(_watch(drop_folder, parts.settings.watch_seconds)))
        running.append(asyncio.create_task(_tidy(parts, drop_folder)))
        await stop.wait()
        for task in running:
            task.cancel()
        for task in running:
            with contextlib.suppress(asyncio.CancelledError):
                await task
    for adapter in adapters.values():
        await adapter.close()


async def _run_queue(jobs: App, queue: str, at_once: int, stalled_seconds: float) -> None:
    """One queue per recipient and one for bulk jobs, so that one who is slow holds up nobody else."""
    while True:
        try:
            await jobs.run_worker_async(
                queues=[queue],
                name=queue,
                concurrency=at_once,
                install_signal_handlers=False,
                shutdown_graceful_timeout=10,
                fetch_job_polling_interval=1.0,
                update_heartbeat_interval=stalled_seconds / HEARTBEATS_PER_SILENCE,
                stalled_worker_timeout=FORGOTTEN_SECONDS,
                delete_jobs="successful",
            )
            return
        except Exception:
            log.exception("the queue stopped, starting it again", queue=queue)
            await asyncio.sleep(1)


async def _revive(jobs: App, names: Jobs, dispatcher: Dispatcher, stalled_seconds: float) -> None:
    """Give the jobs of dead workers to the living, and those that failed on a bug or a lost database another try.

    Each try counts as an attempt of its delivery, which is given up after as many as any other.
    """
    while True:
        try:
            for task in (names.dispatch, names.bulk):
                for job in await jobs.job_manager.get_stalled_jobs(
                    task_name=task, seconds_since_heartbeat=stalled_seconds
                ):
                    log.warning("job of a dead worker revived", job=job.id)
                    await jobs.job_manager.retry_job(job)
            for job in await jobs.job_manager.list_jobs_async(status="failed", task=names.dispatch):
                pause = await dispatcher.again_in(str(job.task_kwargs["delivery_id"]))
                if job.id is not None and pause is not None:
                    at = datetime.now(UTC) + timedelta(seconds=pause)
                    await jobs.job_manager.retry_job_by_id_async(job.id, retry_at=at)
            for job in await jobs.job_manager.list_jobs_async(status="failed", task=names.bulk):
                if job.id is not None:  # until its time is over: the job itself then gives up
                    await jobs.job_manager.retry_job_by_id_async(job.id, retry_at=datetime.now(UTC))
        except Exception:
            log.exception("stalled jobs could not be looked for")
        await asyncio.sleep(stalled_seconds / 2)


async def _tidy(parts: Parts, drop_folder: DropFolder) -> None:
    """At the start and every hour: forget what nobody can use any more."""
    while True:
        try:
            await asyncio.to_thread(parts.blobs.open)
            await parts.lots.forget_abandoned()
            await parts.uploads.purge()
            await parts.bulk.purge()
            if parts.shredder is not None:
                await parts.shredder.settle()
            if days := parts.settings.keep_done_days:
                await asyncio.to_thread(drop_folder.forget, days)
            await parts.review.look_again()
        except Exception:
            log.exception("what is left over could not be removed")
        await asyncio.sleep(3600)


async def _watch(drop_folder: DropFolder, pause: float) -> None:
    while True:
        try:
            await drop_folder.look()
        except Exception:
            log.exception("the drop folder could not be worked on")
        await asyncio.sleep(pause)
