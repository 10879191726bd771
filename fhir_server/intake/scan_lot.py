"""A scan lot comes in: prove that it is whole, cut it into folders, and settle each folder by itself.

docs/scan_lot.md is the format, docs/adr/0007 why a folder is the unit. Each folder is examined in a process
of its own pool and becomes records in one transaction; whatever was settled stays settled, so an intake that
was killed goes on where it stopped when the lot is given to it again.
"""

import asyncio
import contextlib
import hashlib
import multiprocessing
import os
import shutil
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import structlog

from fhir_server.intake.document import DocumentIntake, LotFacts
from fhir_server.outcomes import Conflict
from fhir_server.ports import AcknowledgedLot, BlobStore
from fhir_server.records.identifiers import stable_id
from fhir_server.scans import acknowledgement
from fhir_server.scans.acknowledgement import Acknowledgement, FolderResult
from fhir_server.scans.examination import Examination, Terms, begin, examine
from fhir_server.scans.index_file import IndexLine, read
from fhir_server.scans.manifest import ListedFolder, LotRefused, Manifest, parse
from fhir_server.scans.seal import Seal, verify
from fhir_server.scans.unpack import DeliveredLot, Problem, check_lot_files, open_lot, unpack
from fhir_server.settings import Settings
from fhir_server.store.database import Database
from fhir_server.store.scan_lots import FolderRow, LotRow, ScanLots
from fhir_server.store.transient import Transient

log = structlog.get_logger(__name__)

Progress = Callable[[int, int], None]
MOST_FILES = 200_000
HIGHEST_RATIO = 100.0
LARGEST_LOT = 200 * 1024**3
FOLDERS_AT_ONCE = 4


@dataclass(frozen=True, slots=True)
class _Opened:
    """A lot whose manifest is readable and whose seal is good enough."""

    delivered: DeliveredLot
    manifest: Manifest
    seal: Seal
    facts: LotFacts
    index: dict[str, list[IndexLine]]


class _Refused(Exception):
    """The whole lot is refused; carries what the provider is told."""

    def __init__(self, lot: str, problems: Sequence[Problem], seal: Seal) -> None:
        super().__init__(lot)
        self.lot = lot
        self.problems = tuple(problems)
        self.seal = seal


class LotIntake:
    """Receives lots."""

    def __init__(
        self,
        *,
        documents: DocumentIntake,
        database: Database,
        blobs: BlobStore,
        transient: Transient,
        settings: Settings,
    ) -> None:
        self._documents = documents
        self._lots = ScanLots(database)
        self._blobs = blobs
        self._transient = transient
        self._settings = settings
        self._pool: ProcessPoolExecutor | None = None

    async def close(self) -> None:
        if self._pool:
            self._pool.shutdown(wait=False, cancel_futures=True)

    async def receive(self, path: Path, progress: Progress | None = None) -> Acknowledgement:
        """Take in the lot at `path` (a folder or a .zip); returns what the provider is told.

        A refusal is an answer, not an exception. Raises Unavailable when the database or the blob store is out
        of reach, StorageFull when the disk is full, and Conflict while another process takes the same lot in: nothing
        is lost, give the lot again later.
        """
        async with self._lots.held(path.stem if path.suffix == ".zip" else path.name):
            return await self._receive(path, progress)

    async def _receive(self, path: Path, progress: Progress | None) -> Acknowledgement:
        received = datetime.now(UTC)
        try:
            opened = await self._open(path, received)
            known = await self._announce(opened, received)
            if known.state != "received":
                return await self._already(opened, known)
            results = await self._settle_folders(opened, progress)
            return await self._finish(opened, known, results)
        except _Refused as refused:
            log.info("lot refused", lot=refused.lot, codes=sorted({p.code for p in refused.problems}))
            return Acknowledgement(refused.lot, received, "rejected", refused.seal, (), refused.problems)
        finally:
            if path.suffix == ".zip":
                await asyncio.to_thread(shutil.rmtree, self._unpacked(path), ignore_errors=True)

    async def forget_abandoned(self) -> int:
        """Remove what archives were unpacked to by a process that died; returns how many. What is being read stays."""
        folder = self._settings.home / "unpacked"
        forgotten = 0
        for left in list(folder.iterdir()) if folder.is_dir() else []:
            with contextlib.suppress(Conflict):
                async with self._lots.held(left.name):
                    await asyncio.to_thread(shutil.rmtree, left, ignore_errors=True)
                forgotten += 1
        return forgotten

    async def receive_and_answer(self, path: Path) -> AcknowledgedLot:
        """The same for a drop folder, which leaves the answer for the provider."""
        answer = await self.receive(path)
        return AcknowledgedLot(acknowledgement.file_name(answer.lot), acknowledgement.render(answer))

    async def _open(self, path: Path, received: datetime) -> _Opened:
        try:
            root = await asyncio.to_thread(self._unpack, path)
            delivered = await asyncio.to_thread(open_lot, root)
            manifest = parse(delivered.manifest)
        except LotRefused as refused:
            problems = [Problem(refused.reject_code, None, issue.diagnostics) for issue in refused.issues]
            raise _Refused(path.stem if path.suffix == ".zip" else path.name, problems, Seal("absent")) from refused
        seal = await asyncio.to_thread(self._verify, delivered, received)
        problems = self._seal_problems(seal)
        problems += await asyncio.to_thread(check_lot_files, delivered.root, manifest)
        if problems:
            raise _Refused(manifest.lot, problems, seal)
        lines, faults = read((delivered.root / manifest.index.path).read_bytes())
        for fault in faults:
            log.info("index line", lot=manifest.lot, line=fault.line, column=fault.column, detail=fault.detail)
        index: dict[str, list[IndexLine]] = {}
        for line in lines:
            index.setdefault(line.folder, []).append(line)
        return _Opened(delivered, manifest, seal, await self._facts(delivered, manifest, seal, received), index)

    def _unpacked(self, path: Path) -> Path:
        return self._settings.home / "unpacked" / path.stem

    def _unpack(self, path: Path) -> Path:
        if path.suffix != ".zip":
            return path
        target = self._unpacked(path)
        shutil.rmtree(target, ignore_errors=True)
        target.parent.mkdir(parents=True, exist_ok=True)
        return unpack(path, target, max_bytes=LARGEST_LOT, max_files=MOST_FILES, max_ratio=HIGHEST_RATIO)

    def _verify(self, delivered: DeliveredLot, at: datetime) -> Seal:
        trust = [self._settings.seal_trust.read_bytes()] if self._settings.seal_trust else []
        return verify(delivered.manifest, delivered.signature, delivered.token, trust, at=at)

    def _seal_problems(self, seal: Seal) -> list[Problem]:
        """A seal that is there must be good; one that is not there must be one that may be missing."""
        problems = [Problem("E01", "manifest.json.p7s", text) for text in seal.problems]
        if seal.state == "absent" and self._settings.seal == "required":
            problems.append(Problem("E01", "manifest.json.p7s", "the lot is not sealed, and a seal is required"))
        if seal.timestamp_at is None and not seal.problems and self._settings.timestamp == "required":
            problems.append(Problem("E01", "manifest.json.tsr", "the lot has no time stamp, and one is required"))
        return problems

    async def _facts(self, delivered: DeliveredLot, manifest: Manifest, seal: Seal, received: datetime) -> LotFacts:
        """Keep manifest, seal and index: the evidence must be there as long as the documents are."""
        return LotFacts(
            manifest=manifest,
            manifest_sha256=await self._keep(delivered.manifest),
            signature=delivered.signature,
            token=delivered.token,
            seal={
                "state": seal.state,
                "signer": seal.signer,
                "signer_serial": seal.signer_serial,
                "timestamp_at": seal.timestamp_at.isoformat() if seal.timestamp_at else None,
                "timestamp_authority": seal.timestamp_authority,
                "signature": (await self._keep(delivered.signature)).hex() if delivered.signature else None,
                "token": (await self._keep(delivered.token)).hex() if delivered.token else None,
                "index": (await self._keep((delivered.root / manifest.index.path).read_bytes())).hex(),
            },
            received_at=received,
            root=delivered.root,
        )

    async def _keep(self, content: bytes) -> bytes:
        return (await self._blobs.put_bytes(content)).sha256

    async def _announce(self, opened: _Opened, received: datetime) -> LotRow:
        manifest = opened.manifest
        row = await self._lots.announce(
            manifest.lot,
            manifest_sha256=hashlib.sha256(opened.delivered.manifest).digest(),
            provider=manifest.provider,
            centre=manifest.centre,
            seal=opened.facts.seal,
            list_id=stable_id("scan-lot", manifest.lot),
            received=received,
        )
        if row.manifest_sha256 != hashlib.sha256(opened.delivered.manifest).digest():
            problem = Problem("E16", "manifest.json", "a lot of this name came before with another content")
            raise _Refused(manifest.lot, [problem], opened.seal)
        return row

    async def _already(self, opened: _Opened, known: LotRow) -> Acknowledgement:
        """The same lot again adds nothing; a folder that was rejected is not in, and the answer says so again."""
        settled = {row.barcode: row for row in await self._lots.folders(known.lot)}
        results = [_result(folder, settled[folder.barcode]) for folder in opened.manifest.folders]
        folders = [one if one.state == "rejected" else replace(one, state="already-ingested") for one in results]
        state = acknowledgement.overall_state(folders)
        return Acknowledgement(known.lot, known.received, state, opened.seal, tuple(folders))

    async def _finish(self, opened: _Opened, known: LotRow, results: Sequence[FolderResult]) -> Acknowledgement:
        await self._documents.write_lot_list(opened.facts, known.list_id)
        state = acknowledgement.overall_state(results)
        await self._lots.finish(known.lot, state=state, problems=[], at=datetime.now(UTC))
        return Acknowledgement(known.lot, known.received, state, opened.seal, tuple(results))

    async def _settle_folders(self, opened: _Opened, progress: Progress | None) -> list[FolderResult]:
        settled = {row.barcode: row for row in await self._lots.folders(opened.manifest.lot)}
        folders = opened.manifest.folders
        results: list[FolderResult | None] = [None] * len(folders)
        places = asyncio.Semaphore(self._settings.inspectors + FOLDERS_AT_ONCE)
        done = 0

        async def settle(position: int, folder: ListedFolder) -> None:
            nonlocal done
            async with places:
                row = settled.get(folder.barcode) or await self._settle_folder(opened, position, folder)
            results[position] = _result(folder, row)
            done += 1
            if progress:
                progress(done, len(folders))
            await self._transient.show_progress(opened.manifest.lot, done, len(folders))

        try:
            async with asyncio.TaskGroup() as tasks:
                for position, folder in enumerate(folders):
                    tasks.create_task(settle(position, folder))
        except ExceptionGroup as group:
            raise group.exceptions[0] from group
        return [result for result in results if result]

    async def _settle_folder(self, opened: _Opened, position: int, folder: ListedFolder) -> FolderRow:
        examination = await self._examine(opened.delivered.root, folder)
        if examination.unread:
            log.warning("the words of a cover could not be read", barcode=folder.barcode, why=examination.unread)
        return await self._documents.settle(
            opened.facts, position, folder, examination, opened.index.get(folder.barcode, [])
        )

    async def _examine(self, root: Path, folder: ListedFolder) -> Examination:
        """In a process of the pool: a file that kills its reader costs one folder, not the service."""
        terms = Terms(
            self._settings.minimum_dpi,
            self._settings.read_codes_on,
            require_pdfa=self._settings.pdfa == "required",
            cover_reader=self._settings.cover_reader,
            cover_seconds=self._settings.cover_seconds,
        )
        loop = asyncio.get_running_loop()
        for attempt in (1, 2):
            if self._pool is None:
                context = multiprocessing.get_context("forkserver")
                context.set_forkserver_preload(["fhir_server.scans.examination"])
                self._pool = ProcessPoolExecutor(
                    self._settings.inspectors, mp_context=context, initializer=begin, initargs=(os.getpid(),)
                )
            pool = self._pool
            try:
                return await loop.run_in_executor(pool, examine, root, folder, terms)
            except BrokenProcessPool:
                if self._pool is pool:
                    self._pool = None
                if attempt == 2:
                    log.warning("a file of this folder kills its inspector", barcode=folder.barcode)
        problem = Problem("E05", None, "a file of this folder cannot be inspected: it stops the inspector")
        return Examination(folder.barcode, (problem,), (), (), ())


def _result(folder: ListedFolder, row: FolderRow) -> FolderResult:
    problems = tuple(Problem(p["code"], p["path"], p["detail"]) for p in row.problems)
    return FolderResult(
        folder.barcode, acknowledgement.TOLD[row.state], len(folder.documents), _pages(folder), problems
    )


def _pages(folder: ListedFolder) -> int:
    return sum(document.pages for document in folder.documents)
