"""An import at work: chunks of lines are prepared in other processes and written one after the other.

A chunk, and the note that it is done, are one transaction: an import that was killed goes on where it was. Lines that
refer to what comes later are set aside and written at the end, or refused: no reference ever leads nowhere.
"""

import asyncio
import contextlib
import multiprocessing
import os
from collections import deque
from collections.abc import AsyncGenerator, Generator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from fhir_server.caller import Caller
from fhir_server.outbox.jobs import Jobs
from fhir_server.outcomes import BusinessRule, NotFound
from fhir_server.ports import BlobStore
from fhir_server.r4.resource_types import TYPE_NAME
from fhir_server.r4.search_parameters import REGISTRY
from fhir_server.records import audit
from fhir_server.records.import_lines import BYTES_PER_CHUNK, Chunk, Line, Task, Terms, begin, prepare
from fhir_server.records.render import instant
from fhir_server.records.withdrawal import ask_again
from fhir_server.records.write import author_of
from fhir_server.settings import Settings
from fhir_server.store.bulk_jobs import BulkJobs, Input, Job
from fhir_server.store.bulk_load import (
    Apart,
    Prepared,
    Progress,
    Special,
    deferred_lines,
    load,
    new_rids,
    strand,
)
from fhir_server.store.database import Database
from fhir_server.store.statistics import Statistics

LINES_PER_CHUNK = 4_000
WORTH_ANALYZING = 5_000
FIRST = (
    "Organization", "Location", "Practitioner", "PractitionerRole", "HealthcareService", "Device", "Patient",
    "RelatedPerson", "EpisodeOfCare", "Encounter", "Medication", "Substance", "Specimen",
)  # fmt: skip
"""What others refer to is read first, so that little has to be set aside."""
LAST = ("DocumentReference", "List", "Composition", "Provenance", "Task")


@dataclass(frozen=True, slots=True)
class Importer:
    """Runs imports over one store."""

    database: Database
    jobs: BulkJobs
    blobs: BlobStore
    settings: Settings
    orders: Jobs

    async def run(self, job: Job, caller: Caller, folder: Path) -> None:
        """Take in every file of a job, from where it is. Raises Stopped, Unavailable, and NotFound or BusinessRule for
        a file that is gone or has changed since.
        """
        await self.jobs.start(job.job_id)
        inputs = sorted(await self.jobs.inputs(job.job_id), key=_order)
        statistics = Statistics(self.database)
        try:
            with _processes(self.settings.import_processes) as pool:
                reader = _Reader(self, job, caller, pool, statistics)
                for one in inputs:
                    await reader.read(one, _unchanged(folder / one.name, one))
                await strand(self.database, job.job_id)
                for one in inputs:
                    await reader.read_deferred(one, folder / one.name)
        finally:
            await statistics.drain()
        if sum(one.kept for one in await self.jobs.inputs(job.job_id)) >= WORTH_ANALYZING:
            await statistics.analyze()


def _order(one: Input) -> tuple[int, int]:
    name = TYPE_NAME[one.type] if one.type is not None else ""
    rank = FIRST.index(name) if name in FIRST else len(FIRST) + (1 + LAST.index(name) if name in LAST else 0)
    return rank, one.position


def _unchanged(path: Path, one: Input) -> Path:
    """The file, if it is the one that was named. Raises NotFound, BusinessRule."""
    try:
        status = path.stat()
    except OSError as error:
        raise NotFound(f"Input {one.position + 1} of this import is no longer there") from error
    if (status.st_size, status.st_mtime_ns) != (one.size, one.modified):
        raise BusinessRule(f"Input {one.position + 1} of this import was changed after it was named")
    return path


@contextlib.contextmanager
def _processes(number: int) -> Generator[ProcessPoolExecutor]:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["fhir_server.records.import_lines"])
    pool = ProcessPoolExecutor(number, mp_context=context, initializer=begin, initargs=(os.getpid(),))
    try:
        yield pool
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


class _Reader:
    """One run of one import."""

    def __init__(
        self, importer: Importer, job: Job, caller: Caller, pool: ProcessPoolExecutor, statistics: Statistics
    ) -> None:
        self._of = importer
        self._statistics = statistics
        self._job = job
        self._caller = caller
        self._pool = pool
        self._trace = audit.access(caller, "operation", job.job_id, query="$import")

    async def read(self, one: Input, path: Path) -> None:
        """The lines that are not done with yet. While one chunk is written, the next are prepared."""
        waiting: deque[tuple[Chunk, asyncio.Task[Prepared]]] = deque()
        terms = self._terms(one)
        ahead = self._of.settings.import_processes
        try:
            async for chunk in _chunks(path, one):
                waiting.append((chunk, asyncio.create_task(self._prepare(chunk, terms))))
                if len(waiting) > ahead:
                    await self._write(one, terms, *waiting.popleft())
            while waiting:
                await self._write(one, terms, *waiting.popleft())
        finally:
            for _, task in waiting:
                task.cancel()

    async def read_deferred(self, one: Input, path: Path) -> None:
        """The lines that were set aside."""
        terms = self._terms(one)
        while rows := await deferred_lines(self._of.database, self._job.job_id, one.position, LINES_PER_CHUNK):
            for some in _bounded([Line(*row) for row in rows]):
                chunk = Chunk(path, len(some), lines=tuple(some))
                prepared = await self._prepare(chunk, terms)
                progress = Progress(self._job.job_id, one.position, settled=tuple(line.number for line in some))
                await self._load(chunk, terms, prepared, progress)

    def _terms(self, one: Input) -> Terms:
        name = TYPE_NAME[one.type] if one.type is not None else None
        return Terms(name, self._caller, self._of.settings.max_body_mb * 1024 * 1024, self._caller.closed)

    async def _write(self, one: Input, terms: Terms, chunk: Chunk, task: asyncio.Task[Prepared]) -> None:
        progress = Progress(self._job.job_id, one.position, chunk.start, chunk.start + chunk.length)
        await self._load(chunk, terms, await task, progress)

    async def _load(self, chunk: Chunk, terms: Terms, prepared: Prepared, progress: Progress) -> None:
        while True:
            special: Special | None = prepared.special
            if prepared.known == REGISTRY.version:  # else search parameters came meanwhile
                await self._keep_blobs(prepared)
                special = await load(
                    self._of.database,
                    prepared,
                    progress,
                    self._trace,
                    instant,
                    author=author_of(self._caller),
                    alongside=partial(
                        ask_again, jobs=self._of.orders, documents=prepared.withheld, patients=prepared.consenting
                    ),
                )
            if special is None:
                self._statistics.wrote(prepared.count + len(prepared.apart))
                return
            prepared = await self._prepare(chunk, terms, special)

    async def _prepare(self, chunk: Chunk, terms: Terms, special: Special | None = None) -> Prepared:
        rids = await new_rids(self._of.database, chunk.count)
        loop = asyncio.get_running_loop()
        task = Task(chunk, terms, rids, special or Special(), REGISTRY.known)
        return await loop.run_in_executor(self._pool, prepare, task)

    async def _keep_blobs(self, prepared: Prepared) -> None:
        """The contents of Binaries are on disk before anything names them."""
        for number, one in enumerate(prepared.apart):
            if (data := prepared.blobs.pop(one.line, None)) is not None:
                blob = await self._of.blobs.put_bytes(data)
                write = replace(one.write, blob_sha256=blob.sha256, blob_size=blob.size)
                prepared.apart[number] = Apart(one.line, write)


def _bounded(lines: Sequence[Line]) -> list[list[Line]]:
    """The same lines in chunks of bounded size."""
    chunks: list[list[Line]] = [[]]
    size = 0
    for line in lines:
        if chunks[-1] and size + line.length > BYTES_PER_CHUNK:
            chunks.append([])
            size = 0
        chunks[-1].append(line)
        size += line.length
    return chunks


async def _chunks(path: Path, one: Input) -> AsyncGenerator[Chunk]:
    """What is left of a file, in chunks that end with a line: bounded in bytes and lines, but never less than one."""
    start, first = one.reached, one.lines + 1
    while start < one.size:
        length, lines = await asyncio.to_thread(_extent, path, start, one.size)
        yield Chunk(path, lines, start, length, first)
        start += length
        first += lines


def _extent(path: Path, start: int, size: int) -> tuple[int, int]:
    """How many bytes and lines the chunk from `start` has."""
    with path.open("rb") as file:
        file.seek(start)
        content = file.read(BYTES_PER_CHUNK)
        end = _end_of_lines(content)
        if end:
            return end, content.count(b"\n", 0, end)
        if start + len(content) >= size:
            return len(content), 1
        length = len(content)
        while more := file.read(BYTES_PER_CHUNK):  # one line that is longer than a chunk
            found = more.find(b"\n")
            if found >= 0:
                return length + found + 1, 1
            length += len(more)
        return length, 1


def _end_of_lines(content: bytes) -> int:
    """Where the last whole line of a chunk ends, 0 where it has none."""
    at = 0
    for _ in range(LINES_PER_CHUNK):
        found = content.find(b"\n", at)
        if found < 0:
            break
        at = found + 1
    return at
