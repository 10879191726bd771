"""Bulk export and import on behalf of a caller: asked for, worked on by a worker, looked after until they expire.

https://hl7.org/fhir/uv/bulkdata/export.html - a job, and the order to work on it, are written in one transaction.
"""

import asyncio
import errno
import os
import re
import secrets
import shutil
import stat
from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

import orjson
import structlog

from fhir_server.caller import UNTOLD, Caller, Standing
from fhir_server.outbox.jobs import Jobs
from fhir_server.outcomes import BadParameter, Failure, Forbidden, NotFound, NotSupported, StorageFull, Unavailable
from fhir_server.ports import BlobStore
from fhir_server.r4.resource_types import TYPE_NAME, TYPE_NUMBER
from fhir_server.records import audit
from fhir_server.records.export_run import Exporter, Wanted
from fhir_server.records.import_run import Importer
from fhir_server.records.protection import Protection
from fhir_server.scopes import constraints_of
from fhir_server.settings import Settings
from fhir_server.sight import Sight, own_hash
from fhir_server.store.access_log import AccessLog, insert_accesses
from fhir_server.store.blobs import CHUNK
from fhir_server.store.bulk_jobs import BulkJobs, ExportFile, Input, Job, Stopped, add_job
from fhir_server.store.database import Database
from fhir_server.store.moments import Moments
from fhir_server.store.persons import Persons
from fhir_server.store.resources import Resources
from mappings.access_facts import access_facts

log = structlog.get_logger(__name__)

POSTED = "input.ndjson"
MOST_WITHHELD = 1000
"""Of so many that are out of sight it is asked whether they were before; of more it is taken for granted."""
ERRORS = re.compile(r"errors\.(\d{1,6})\.ndjson")
_FILE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._\-]{0,199}")
_JOB_ID = re.compile(r"[0-9a-f]{32}")


@dataclass(frozen=True, slots=True)
class Source:
    """A file that an import is asked to read: its resource type, None for several, and its name."""

    type: str | None
    name: str


class Bulk:
    """Bulk jobs of one service."""

    def __init__(
        self, *, database: Database, blobs: BlobStore, jobs: Jobs, accesses: AccessLog, settings: Settings
    ) -> None:
        self.jobs = BulkJobs(database)
        self._database = database
        self._orders = jobs
        self._accesses = accesses
        self._settings = settings
        self._exporter = Exporter(self.jobs, Moments(database), Protection(Resources(database)), settings.public_base)
        self._importer = Importer(database, self.jobs, blobs, settings, jobs)

    async def ask_export(self, caller: Caller, wanted: Wanted, request_id: str, text: str) -> str:
        """A new export of what this moment holds; its id. `text` is the request as the trail may keep it."""
        job_id = secrets.token_hex(16)
        await self._add(caller, job_id, "export", asdict(wanted), request_id, text)
        return job_id

    async def ask_import(self, caller: Caller, sources: Sequence[Source], request_id: str, shown: str) -> str:
        """A new import of files in the import folder; its id.

        Raises Forbidden, NotSupported where there is no such folder, BadParameter for a name that is none in it.
        """
        _must_import(caller, sources)
        folder = self._settings.imports_folder
        if folder is None:
            raise NotSupported("This server reads no files: send the resources as the body (application/fhir+ndjson)")
        inputs = [_input(folder, source, number) for number, source in enumerate(sources)]
        job_id = secrets.token_hex(16)
        request = {"shown": shown, "posted": False}
        await self._add(caller, job_id, "import", request, request_id, "$import", inputs)
        return job_id

    async def ask_import_of(self, caller: Caller, chunks: AsyncIterator[bytes], request_id: str, shown: str) -> str:
        """A new import of resources that are sent now; its id. Raises Forbidden, TooLarge, StorageFull."""
        _must_import(caller, ())
        job_id = secrets.token_hex(16)
        folder = self._folder(job_id)
        try:
            path = await _receive(folder, chunks)
            status = path.stat()
            request = {"shown": shown, "posted": True}
            inputs = [(None, POSTED, status.st_size, status.st_mtime_ns)]
            await self._add(caller, job_id, "import", request, request_id, "$import", inputs)
        except BaseException as error:
            shutil.rmtree(folder, ignore_errors=True)
            if isinstance(error, OSError):
                raise _translated(error) from error
            raise
        return job_id

    async def find(self, caller: Caller, job_id: str) -> Job:
        """A job of this caller. Raises NotFound, also for a job of somebody else."""
        job = await self.jobs.read(job_id) if _JOB_ID.fullmatch(job_id) else None
        if job is None or job.caller["client_id"] != caller.client_id:
            raise NotFound("There is no such job; it may have been cancelled, or its files have expired")
        return job

    async def cancel(self, caller: Caller, job_id: str) -> None:
        """Forget a job and its files. Raises NotFound."""
        await self.find(caller, job_id)
        await self.jobs.drop(job_id)
        await asyncio.to_thread(shutil.rmtree, self._folder(job_id), ignore_errors=True)

    async def file(self, caller: Caller, job_id: str, name: str, request_id: str) -> tuple[ExportFile, Path]:
        """A file of an export that is complete. Raises NotFound, Forbidden for a type the caller may not read now."""
        job = await self.find(caller, job_id)
        found = [file for file in await self.jobs.files(job_id) if file.name == name]
        if job.state != "complete" or not found:
            raise NotFound("This job has no such file")
        _must_read_file(caller, job, TYPE_NAME[found[0].type])
        await self._must_still_see(caller, job, found[0].type)
        await self._accesses.append(
            audit.access(
                caller,
                "operation",
                request_id,
                resource_type=TYPE_NAME[found[0].type],
                query=f"$export {job_id}/{name}",
            )
        )
        return found[0], self._folder(job_id) / name

    async def _must_still_see(self, caller: Caller, job: Job, type_number: int) -> None:
        """A file is as old as its export: what was taken from the caller since is not handed out with it.

        Raises Forbidden where his role sees less than it did, or something that may be in the file was withheld.
        """
        sight, given = caller.sight("r"), job.caller
        before = Sight(given.get("hidden", 0), tuple(given.get("rights", ())), given.get("only"))
        team, lifted = given.get("team"), given.get("lifted", ())
        less = sight.hidden & ~before.hidden or set(sight.rights) - set(before.rights) or sight.only != before.only
        if sight.team is not None:
            less = less or team is None or set(team) - set(sight.team) or set(lifted) - set(sight.lifted)
        if not less and await self.jobs.opposed_since(job, sight):
            less = True
        if not less:
            then = await self.jobs.hidden_since(job, type_number, sight, MOST_WITHHELD)
            less = len(then) == MOST_WITHHELD or any(map(partial(_was_seen, before), then))
        if less:
            raise Forbidden("What may be in this file was withheld from you since it was exported: export again")

    async def run(self, job_id: str) -> None:
        """Work on a job until it is over. Raises Unavailable or Conflict: then it is to be run again."""
        async with self.jobs.held(job_id):
            job = await self.jobs.read(job_id)
            if job is None or job.state in ("complete", "failed"):
                return
            try:
                await self._work(job)
            except Stopped:
                if await self.jobs.read(job_id) is None:
                    await asyncio.to_thread(shutil.rmtree, self._folder(job_id), ignore_errors=True)
                    return
                raise Unavailable("Somebody else worked on this job") from None
            except Unavailable:
                if datetime.now(UTC) - job.at < self._keeping:
                    raise
                await self._fail(job, "What this job needs was out of reach for too long")
            except (Failure, OSError) as error:
                failure = _translated(error) if isinstance(error, OSError) else error
                await self._fail(job, str(failure))
            except Exception:
                log.exception("bulk job failed", job=job_id, kind=job.kind)
                await self._fail(job, "The server failed; quote this job to its operators")

    async def purge(self) -> None:
        """Forget jobs whose time is over, and remove folders of jobs that are gone."""
        await self.jobs.drop_expired(datetime.now(UTC))
        folder = self._settings.exports_folder
        names = await asyncio.to_thread(_job_folders, folder, datetime.now(UTC) - timedelta(hours=1))
        for name in set(names) - await self.jobs.known(names):
            await asyncio.to_thread(shutil.rmtree, folder / name, ignore_errors=True)

    async def _work(self, job: Job) -> None:
        given = job.caller
        caller = Caller(
            given["client_id"],
            given["name"],
            given["role"],
            tuple(given["scopes"]),
            given.get("purpose"),
            given.get("worker"),
            await self._is_delegated(given),
            given.get("professional"),
            standing=_standing(given.get("standing")),
        )
        folder = self._folder(job.job_id)
        if job.kind == "export":
            await self._exporter.run(job, caller, folder)
        elif job.request["posted"]:
            await self._importer.run(job, caller, folder)
        else:
            assert self._settings.imports_folder
            await self._importer.run(job, caller, self._settings.imports_folder)
        await self.jobs.settle(job.job_id, "complete", expires=datetime.now(UTC) + self._keeping)
        if job.kind == "import":
            await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)
        log.info("bulk job complete", job=job.job_id, kind=job.kind)

    async def _is_delegated(self, given: dict[str, Any]) -> bool:
        """Whether the delegation of whoever asked is in force still."""
        if not given.get("delegated"):
            return False
        return (await Persons(self._database).recorded(given.get("professional") or given["client_id"])).delegated

    async def _fail(self, job: Job, problem: str) -> None:
        await self.jobs.settle(job.job_id, "failed", problem=problem, expires=datetime.now(UTC) + self._keeping)
        await asyncio.to_thread(shutil.rmtree, self._folder(job.job_id), ignore_errors=True)
        log.warning("bulk job failed", job=job.job_id, kind=job.kind, reason=problem)

    async def _add(
        self,
        caller: Caller,
        job_id: str,
        kind: str,
        request: dict[str, Any],
        request_id: str,
        text: str,
        inputs: Sequence[tuple[int | None, str, int, int]] = (),
    ) -> None:
        now = datetime.now(UTC)
        at = now.replace(microsecond=now.microsecond // 1000 * 1000)
        given = {
            "client_id": caller.client_id,
            "name": caller.name,
            "role": caller.role,
            "scopes": list(caller.scopes),
            "purpose": caller.purpose,
            "worker": caller.worker,
            "delegated": caller.delegated,
            "professional": caller.professional,
            "standing": asdict(caller.standing),
            **caller.sight("r").as_parameters(),
        }
        async with self._database.transaction() as connection:
            await add_job(
                connection,
                job_id,
                kind,
                caller=given,
                request=request,
                at=at,
                expires=at + self._keeping,
                inputs=inputs,
            )
            await insert_accesses(connection, [audit.access(caller, "operation", request_id, query=text)])
            await self._orders.defer_bulk(connection, job_id)

    def _folder(self, job_id: str) -> Path:
        return self._settings.exports_folder / job_id

    @property
    def _keeping(self) -> timedelta:
        return timedelta(hours=self._settings.export_hours)


def _was_seen(sight: Sight, doc: bytes) -> bool:
    guard, worker = access_facts(orjson.loads(doc))
    return sight.covers(guard, own_hash(f"Patient/{worker}") if worker else None, ())


def progress_of(job: Job, inputs: Iterable[Input]) -> tuple[str, float]:
    """How far a job is, in words and as a share."""
    if job.kind == "export":
        share = job.reached / job.until if job.until else 0.0
        return ("accepted" if job.state == "accepted" else f"exporting, {share:.0%} done"), share
    listed = list(inputs)
    size = sum(one.size for one in listed)
    share = sum(one.reached for one in listed) / size if size else 0.0
    lines, refused = sum(one.lines for one in listed), sum(one.refused for one in listed)
    return f"{share:.0%} read, {lines} lines done, {refused} refused", share


def _must_read_file(caller: Caller, job: Job, resource_type: str) -> None:
    """Raises Forbidden. The file holds what the scopes of the job allowed, and nobody looks at its lines again."""
    caller.must("r", resource_type)
    if caller.constraints("r", resource_type) != constraints_of(job.caller["scopes"], "r", resource_type):
        caller.must_wholly("r", resource_type)


def _standing(given: dict[str, Any] | None) -> Standing:
    """That of whoever asked, when he asked: a job sees no more because somebody waited."""
    if given is None:
        return UNTOLD
    declared = tuple((patient_id, kind) for patient_id, kind in given["declared"])
    return Standing(tuple(given["centres"]), given["kept_to_them"], declared, tuple(given["lifted"]))


def _must_import(caller: Caller, sources: Iterable[Source]) -> None:
    """Raises Forbidden: an import is for operators, and for types that the caller may create and update."""
    if caller.role != "operator":
        raise Forbidden("Only a client with the role of an operator imports")
    for source in sources:
        if source.type is not None:
            caller.must_wholly("c", source.type)
            caller.must_wholly("u", source.type)


def _input(folder: Path, source: Source, number: int) -> tuple[int | None, str, int, int]:
    """A file of the import folder, by its name alone: no path leads out of it, and no link."""
    place = f"Parameters.parameter.where(name='input')[{number}]"
    if not _FILE_NAME.fullmatch(source.name):
        raise BadParameter("The url of an input is the name of a file in the import folder", expression=place)
    try:
        status = (folder / source.name).lstat()
    except OSError as error:
        raise BadParameter("The import folder has no such file", expression=place) from error
    if not stat.S_ISREG(status.st_mode):
        raise BadParameter("This input is no plain file", expression=place)
    number_of = TYPE_NUMBER[source.type] if source.type is not None else None
    return number_of, source.name, status.st_size, status.st_mtime_ns


async def _receive(folder: Path, chunks: AsyncIterator[bytes]) -> Path:
    """Keep a body as it comes; it is on disk for good when this returns."""
    path = folder / POSTED
    file = await asyncio.to_thread(_begin, path)
    try:
        async for chunk in chunks:
            await asyncio.to_thread(file.write, chunk)
        await asyncio.to_thread(_finish, file)
    finally:
        file.close()
    return path


def _begin(path: Path) -> BinaryIO:
    path.parent.mkdir(mode=0o700, parents=True)
    return path.open("wb")


def _finish(file: BinaryIO) -> None:
    file.flush()
    os.fsync(file.fileno())


def _job_folders(folder: Path, before: datetime) -> list[str]:
    """The folders of jobs that were made some time ago: that of one asked for now may be here before its row is."""
    if not folder.is_dir():
        return []
    return [
        path.name
        for path in folder.iterdir()
        if _JOB_ID.fullmatch(path.name) and path.stat().st_mtime < before.timestamp()
    ]


def _translated(error: OSError) -> Failure:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return StorageFull("There is no room left for the files of this job")
    return Unavailable("The files of this job cannot be written or read")


async def chunks_of(path: Path, start: int, length: int) -> AsyncIterator[bytes]:
    """Part of a file, as it is read. Raises NotFound where its job was cancelled meanwhile."""
    try:
        file = await asyncio.to_thread(path.open, "rb")
    except FileNotFoundError as error:
        raise NotFound("This file is gone: its job was cancelled") from error
    try:
        file.seek(start)
        while length and (chunk := await asyncio.to_thread(file.read, min(CHUNK, length))):
            length -= len(chunk)
            yield chunk
    finally:
        file.close()
