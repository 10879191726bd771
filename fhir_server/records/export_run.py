"""An export at work: the store as it was at the kick-off, walked once and sorted into files.

https://hl7.org/fhir/uv/bulkdata/export.html - a step, its files on disk and the note that it is done: who takes over
from a worker that died goes on there, and finds the same.
"""

import asyncio
import re
import time
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import orjson

from fhir_server.caller import Caller
from fhir_server.r4 import search_query
from fhir_server.r4.membership import patients_of
from fhir_server.r4.resource_types import TYPE_NAME, TYPE_NUMBER
from fhir_server.r4.search_criteria import LARGEST_COUNT, SearchQuery
from fhir_server.r4.subjects import patient_in_bytes
from fhir_server.records import audit
from fhir_server.records.export_files import DELETED, OUTPUT, ExportFiles
from fhir_server.records.protection import Protection
from fhir_server.sight import Sight
from fhir_server.store.bounds import meets
from fhir_server.store.bulk_jobs import BulkJobs, Job
from fhir_server.store.moments import Moments, Version, Walk

SECONDS_BETWEEN_NOTES = 2.0
_BINARY_LINK = re.compile(rb'("url"\s*:\s*")(Binary/[A-Za-z0-9\-.]{1,64}")')
_LINE_ENDS = b"\r\n"

BINARY = TYPE_NUMBER["Binary"]


@dataclass(frozen=True, slots=True)
class Wanted:
    """What an export is to hold, as it was asked for and as the caller may have it. Kept as JSON with the job.

    `level` is `system`, `patient` or `group`; `patients` limits the last two, None means every patient. `filters` are
    (type, pairs) of `_typeFilter`; `shown` says how the request is shown in the manifest.
    """

    level: str
    types: tuple[str, ...]
    shown: str
    since: str | None = None
    until: str | None = None
    patients: tuple[str, ...] | None = None
    filters: tuple[tuple[str, tuple[tuple[str, str], ...]], ...] = ()

    @staticmethod
    def read(kept: Mapping[str, Any]) -> "Wanted":
        patients = kept["patients"]
        return Wanted(
            kept["level"],
            tuple(kept["types"]),
            kept["shown"],
            kept["since"],
            kept["until"],
            None if patients is None else tuple(patients),
            tuple((name, tuple((key, value) for key, value in pairs)) for name, pairs in kept["filters"]),
        )

    def queries(self) -> list[SearchQuery]:
        most = ("_count", str(LARGEST_COUNT))
        return [search_query.parse(name, [*pairs, most]) for name, pairs in self.filters]


@dataclass(frozen=True, slots=True)
class Exporter:
    """Runs exports of one store."""

    jobs: BulkJobs
    moments: Moments
    protection: Protection
    base: str

    async def run(self, job: Job, caller: Caller, folder: Path) -> None:
        """Write the files of a job, from where it is. Raises Stopped, Unavailable; OSError of the disk."""
        wanted = Wanted.read(job.request)
        if job.until is None:
            job = await self._begin(job, wanted, caller)
        files = await asyncio.to_thread(ExportFiles, folder, await self.jobs.files(job.job_id))
        try:
            await self._walk(job, wanted, caller, files)
        finally:
            await asyncio.to_thread(files.close)

    async def _begin(self, job: Job, wanted: Wanted, caller: Caller) -> Job:
        await self.moments.settled(job.at)
        filtered = {name for name, _ in wanted.filters}
        others = [name for name in wanted.types if name not in filtered]
        queries = [replace(query, sight=caller.sight("r", "s")) for query in wanted.queries()]
        await self.moments.begin(job.job_id, job.at, queries, wanted.patients, others)
        begun = await self.jobs.read(job.job_id)
        return begun or job

    async def _walk(self, job: Job, wanted: Wanted, caller: Caller, files: ExportFiles) -> None:
        sorter = _Sorter(wanted, self.base, files)
        trace = audit.access(caller, "operation", job.job_id, query="$export")
        noted = time.monotonic()
        reached = job.reached
        async for reach, versions in _ahead(self.moments.steps(_walk_of(job, wanted), job.reached, job.until or 0)):
            await asyncio.to_thread(sorter.sort, await self._permitted(caller, versions))
            reached = reach
            if time.monotonic() - noted > SECONDS_BETWEEN_NOTES:
                job = await self._note(job, reached, files, sorter, trace)
                noted = time.monotonic()
        await self._note(job, max(reached, job.until or 0), files, sorter, trace)

    async def _permitted(self, caller: Caller, versions: Iterable[Version]) -> list[Version]:
        """Without what the caller's role or scopes keep from him, and the Binaries whose protector he may not read."""
        sight = caller.sight("r", "s")
        seen = [one for one in versions if sight.covers(one.guard, one.worker, one.held)]
        if sight.bounds:
            seen = await self._within_bounds(sight, seen)
        return [
            one
            for one in seen
            if await self.protection.of_then(caller, one.doc)
            and (one.type != BINARY or one.doc is None or (await self.protection.of_document(caller, one.doc)).allowed)
        ]

    async def _within_bounds(self, sight: Sight, versions: Sequence[Version]) -> list[Version]:
        """What scopes allow as it was at the moment of the export and as it is now."""
        keys = [(one.type, one.id) for one in versions if TYPE_NAME[one.type] in sight.bounds]
        now = {(one.type, one.id): one for one in await self.protection.resources.read_many(keys)} if keys else {}
        return [
            one
            for one in versions
            if TYPE_NAME[one.type] not in sight.bounds
            or (
                (one.type, one.id) in now
                and meets(sight, TYPE_NAME[one.type], one.doc)
                and meets(sight, TYPE_NAME[one.type], now[one.type, one.id].doc)
            )
        ]

    async def _note(self, job: Job, reached: int, files: ExportFiles, sorter: "_Sorter", trace: audit.AccessRow) -> Job:
        changed = await asyncio.to_thread(files.flush)
        job = await self.jobs.advance(job, reached, changed, sorted(sorter.patients), trace)
        sorter.patients.clear()
        return job


def _walk_of(job: Job, wanted: Wanted) -> Walk:
    filtered = {name for name, _ in wanted.filters}
    whole = () if wanted.patients is not None else tuple(n for n in wanted.types if n not in filtered)
    return Walk(
        job.job_id,
        tuple(TYPE_NUMBER[name] for name in wanted.types),
        tuple(TYPE_NUMBER[name] for name in whole),
        job.at,
        datetime.fromisoformat(wanted.since) if wanted.since else None,
        datetime.fromisoformat(wanted.until) if wanted.until else None,
    )


async def _ahead(
    steps: AsyncIterator[tuple[int, list[Version]]],
) -> AsyncIterator[tuple[int, list[Version]]]:
    """The same steps, the next one on its way while one is worked on."""
    coming = asyncio.ensure_future(anext(steps, None))
    try:
        while (step := await coming) is not None:
            coming = asyncio.ensure_future(anext(steps, None))
            yield step
    finally:
        coming.cancel()


class _Sorter:
    """Sorts the resources of a step into files. `patients` are the workers whose records it saw."""

    def __init__(self, wanted: Wanted, base: str, files: ExportFiles) -> None:
        self._everybody = wanted.level == "system"
        self._members = None if wanted.patients is None else frozenset(wanted.patients)
        self._deletions = wanted.since is not None and self._everybody
        self._link = rb"\1" + base.encode() + rb"/\2"
        self._files = files
        self.patients: set[str] = set()

    def sort(self, versions: Iterable[Version]) -> None:
        lines: dict[tuple[str, int], list[bytes]] = {}
        for version in versions:
            if version.doc is None:
                if self._deletions:
                    lines.setdefault((DELETED, version.type), []).append(_deletion(version))
            elif self._belongs(version.type, version.id, version.doc):
                lines.setdefault((OUTPUT, version.type), []).append(self._line(version.doc))
        for (kind, number), some in lines.items():
            self._files.append(kind, number, some)

    def _belongs(self, number: int, resource_id: str, doc: bytes) -> bool:
        """Is it wanted? Notes whose record it is."""
        name = TYPE_NAME[number]
        if self._everybody:
            if patient := patient_in_bytes(name, resource_id, doc):
                self.patients.add(patient)
            return True
        if name != "Patient" and b"Patient" not in doc:
            return False
        owners = patients_of(orjson.loads(doc))
        if self._members is not None:
            owners &= self._members
        self.patients |= owners
        return bool(owners)

    def _line(self, doc: bytes) -> bytes:
        """The stored bytes as one line: a line end stands between tokens only, since inside a string it is escaped."""
        if b"\n" in doc or b"\r" in doc:
            doc = doc.translate(None, _LINE_ENDS)
        return _BINARY_LINK.sub(self._link, doc) if b'"Binary/' in doc else doc


def _deletion(version: Version) -> bytes:
    """https://hl7.org/fhir/uv/bulkdata/export.html#response---complete-status - `deleted`: a transaction per line."""
    url = f"{TYPE_NAME[version.type]}/{version.id}"
    return orjson.dumps(
        {"resourceType": "Bundle", "type": "transaction", "entry": [{"request": {"method": "DELETE", "url": url}}]}
    )
