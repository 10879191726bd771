"""Bulk jobs as rows: what was asked, how far it is, what came of it. Whoever works on a job may die at any moment."""

import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Sequence
from datetime import datetime
from typing import Any, Literal, NamedTuple

from psycopg.types.json import Jsonb
from xxhash import xxh3_64_intdigest

from fhir_server.outcomes import Conflict
from fhir_server.sight import Sight
from fhir_server.store import queries
from fhir_server.store.access_log import AccessRow, insert_accesses
from fhir_server.store.database import Connection, Database

SQL = queries.load("bulk")

State = Literal["accepted", "running", "complete", "failed"]


class Job(NamedTuple):
    """One job. `at` is the moment of which an export tells; `reached` and `until` are internal keys of its walk."""

    job_id: str
    kind: Literal["export", "import"]
    state: State
    caller: dict[str, Any]
    request: dict[str, Any]
    at: datetime
    reached: int
    until: int | None
    problem: str | None
    expires: datetime


class ExportFile(NamedTuple):
    """A file of an export, as far as it is on disk for good. `kind` is `output` or `deleted`."""

    name: str
    kind: str
    type: int
    resources: int
    size: int


class Input(NamedTuple):
    """A file of an import: `reached` bytes and `lines` lines are done with, of which some were kept, some refused."""

    position: int
    type: int | None
    name: str
    size: int
    modified: int
    reached: int
    lines: int
    kept: int
    refused: int


class Stopped(Exception):
    """The job was cancelled, or somebody else works on it: whoever is told so lets go of it."""


class BulkJobs:
    """Jobs over one database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    @contextlib.asynccontextmanager
    async def held(self, job_id: str) -> AsyncGenerator[None]:
        """A job for this caller alone, until he lets go of it or his process dies. Raises Conflict."""
        unsigned = xxh3_64_intdigest(b"bulk job" + job_id.encode())
        async with self._database.connection() as connection:
            cursor = await connection.execute(SQL["hold_job"], (unsigned - (1 << 63),))
            if await cursor.fetchone() != (True,):
                raise Conflict("Somebody else works on this job")
            try:
                yield
            finally:
                await connection.close()  # the lock ends with its session, also where that is broken

    async def read(self, job_id: str) -> Job | None:
        rows = await self._rows("read_job", job_id)
        return Job(*rows[0]) if rows else None

    async def start(self, job_id: str) -> None:
        await self._rows("start_job", job_id)

    async def settle(self, job_id: str, state: State, *, problem: str | None = None, expires: datetime) -> None:
        await self._rows("settle_job", state, problem, expires, job_id)

    async def drop(self, job_id: str) -> None:
        await self._rows("drop_job", job_id)

    async def drop_expired(self, now: datetime) -> list[str]:
        """Forget jobs that are over and whose time is over too; their ids."""
        return [row[0] for row in await self._rows("drop_expired", now)]

    async def known(self, job_ids: Sequence[str]) -> set[str]:
        return {row[0] for row in await self._rows("known_jobs", list(job_ids))}

    async def files(self, job_id: str) -> list[ExportFile]:
        return [ExportFile(*row) for row in await self._rows("files_of", job_id)]

    async def hidden_since(self, job: Job, type_number: int, sight: Sight, limit: int) -> list[bytes]:
        """Of what the export of a job may hold of a type and is out of sight now: as it was then, at most so many.

        What was not written again is not among them: of that only an opposition can have taken the sight.
        """
        asked = {"at": job.at, "type": type_number, "until": job.until, "limit": limit, **sight.as_parameters()}
        async with self._database.connection() as connection:
            cursor = await connection.execute(SQL["hidden_since"], asked)
            return [row[0] for row in await cursor.fetchall()]

    async def opposed_since(self, job: Job, sight: Sight) -> bool:
        """Whether a worker exercises, since the moment of a job, a right that keeps his record from this sight."""
        if not sight.rights:
            return False
        return (await self._rows("opposed_since", list(sight.rights), job.at, job.at))[0][0]

    async def inputs(self, job_id: str) -> list[Input]:
        return [Input(*row) for row in await self._rows("inputs_of", job_id)]

    async def refused_inputs(self, job_id: str) -> dict[int, int]:
        """How many refusals are kept of each input that has some, by its position."""
        return dict(await self._rows("refused_inputs", job_id))

    async def refusals(self, job_id: str, position: int) -> AsyncIterator[tuple[int, list[dict[str, Any]]]]:
        """The refused lines of one input, in their order, with their issues."""
        line = -1
        while rows := await self._rows("refusals", job_id, position, line):
            for row in rows:
                line = row[0]
                yield line, row[1]

    async def advance(
        self,
        job: Job,
        reached: int,
        files: Iterable[ExportFile],
        patients: Sequence[str],
        trace: AccessRow,
    ) -> Job:
        """An export came as far as `reached`, with these files; each worker met for the first time is traced.

        Raises Stopped.
        """
        async with self._database.transaction() as connection:
            cursor = await connection.execute(SQL["advance"], (reached, job.job_id, job.reached))
            if cursor.rowcount != 1:
                raise Stopped
            for file in files:
                await connection.execute(SQL["keep_file"], (job.job_id, *file[:5]))
            await trace_subjects(connection, job.job_id, patients, trace)
        return job._replace(reached=reached)

    async def _rows(self, query: str, *values: object) -> list[tuple[Any, ...]]:
        async with self._database.connection("generic") as connection:
            cursor = await connection.execute(SQL[query], values)
            return await cursor.fetchall() if cursor.description else []


async def add_job(
    connection: Connection,
    job_id: str,
    kind: str,
    *,
    caller: dict[str, Any],
    request: dict[str, Any],
    at: datetime,
    expires: datetime,
    inputs: Sequence[tuple[int | None, str, int, int]] = (),
) -> None:
    """A new job, inside a transaction of somebody else; `inputs` are (type, name, size, modified) of its files."""
    await connection.execute(SQL["add_job"], (job_id, kind, Jsonb(caller), Jsonb(request), at, expires))
    for position, one in enumerate(inputs):
        await connection.execute(SQL["add_input"], (job_id, position, *one))


async def trace_subjects(connection: Connection, job_id: str, patients: Sequence[str], trace: AccessRow) -> None:
    """One row like `trace` for each worker whom this job meets for the first time."""
    if patients:
        cursor = await connection.execute(SQL["new_subjects"], (job_id, sorted(set(patients))))
        rows = [trace._replace(patient_id=row[0]) for row in await cursor.fetchall()]
        await insert_accesses(connection, rows)
