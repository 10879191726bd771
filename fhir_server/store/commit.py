"""Writing: units of change that wait at the same moment are committed together (group commit).

One commit costs one flush of the disk, whatever it holds: 64 writers sharing commits wrote nine times what
they wrote alone (docs/performance.md). A unit is all or nothing; a unit that fails leaves the others alone.
"""

import contextlib
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal

import orjson
import psycopg
import structlog
from psycopg import errors

from fhir_server.metrics import Metrics
from fhir_server.outcomes import (
    Conflict,
    DanglingReference,
    Failure,
    Forbidden,
    Gone,
    Issue,
    MethodNotAllowed,
    NotFound,
    PreconditionRequired,
    VersionConflict,
)
from fhir_server.r4.references import is_local, literal_targets
from fhir_server.r4.resource_types import TYPE_NAME, TYPE_NUMBER
from fhir_server.r4.search_parameters import REGISTRY
from fhir_server.sight import Bound
from fhir_server.store import index_rows, queries
from fhir_server.store.access_log import AccessRow, insert_accesses
from fhir_server.store.author import THE_SERVICE, Author, may_not_write
from fhir_server.store.batching import Batcher
from fhir_server.store.bounds import rows_meet
from fhir_server.store.custom_parameters import CustomParameters
from fhir_server.store.database import Connection, Database
from fhir_server.store.labels import keep_labels
from fhir_server.store.resources import Key, read_within
from fhir_server.store.search_index import NO_ROWS, IndexRows, own_hash, references_to, rows_of
from fhir_server.store.statistics import Statistics

SQL = queries.load("resources")
BINARY = TYPE_NUMBER["Binary"]
LONGEST_PROTECTION = 5
LARGEST_GROUP = 64
LANES = 2
ATTEMPTS = 3

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Write:
    """One resource to be written. `render(version, updated)` gives the bytes to keep; None deletes.

    `must` says what has to be there: `create` nothing, `update` something, `either` anything. `only_new` refuses
    what is there and not deleted, `may_create` off what never was, `needs_version` a change without `expected_version`.
    `rows` are those of `resource`, the parsed document: made again where search parameters were added meanwhile.
    `references` are the local references of the document: (FHIRPath, type number, id). `where` is the place in a
    Bundle. `bound` is what the scopes of its author ask of it, as it is before and as it is afterwards.
    """

    type: int
    id: str
    must: Literal["create", "update", "either"]
    render: Callable[[int, datetime], bytes] | None
    rows: IndexRows
    resource: Mapping[str, Any] | None = None
    references: Sequence[tuple[str, int, str]] = ()
    expected_version: int | None = None
    blob_sha256: bytes | None = None
    blob_size: int | None = None
    only_new: bool = False
    may_create: bool = True
    needs_version: bool = False
    where: str | None = None
    bound: Bound = ()


@dataclass(frozen=True, slots=True)
class Written:
    """What became of a Write: the version that is now current, and its bytes."""

    type: int
    id: str
    version: int
    updated: datetime
    created: bool
    doc: bytes | None


@dataclass(frozen=True, slots=True)
class Plan:
    """What a unit writes, once it is known, and the accesses that it leaves in the trail."""

    writes: Sequence[Write]
    accesses: Sequence[AccessRow] = ()


@dataclass(frozen=True, slots=True)
class Unit:
    """All or nothing. `plan` runs inside the transaction, after the advisory `locks` of its conditions are held.

    `alongside` runs in the same transaction after the resources are written: rows of other tables (scan lots,
    deliveries, jobs). A Failure raised by `plan` or `alongside` is the unit's own answer. It is written for `author`.
    """

    plan: Callable[[Connection], Awaitable[Plan]]
    touches: frozenset[Key] = frozenset()
    locks: frozenset[int] = frozenset()
    alongside: Callable[[Connection, Sequence[Written]], Awaitable[None]] | None = None
    author: Author = THE_SERVICE


@dataclass(slots=True)
class _Planned:
    plan: Plan
    alongside: Callable[[Connection, Sequence[Written]], Awaitable[None]] | None = None
    author: Author = THE_SERVICE
    written: list[Written] = field(default_factory=list)


@dataclass(slots=True)
class _Current:
    rid: int
    version: int
    updated: datetime
    deleted: bool
    blob_sha256: bytes | None
    doc: bytes | None
    guard: int
    worker: int | None
    held: Sequence[str]

    def says(self, write: Write) -> bool:
        """Is this what is to be written, byte for byte? Then the update changes nothing, and makes no version."""
        if self.doc is None or write.render is None or self.blob_sha256 != write.blob_sha256:
            return False
        return write.render(self.version, self.updated) == self.doc


_Known = Mapping[Key, Any]
"""What references lead to and is there: the guard, the worker and his oppositions of each."""


class _Overlaps(Exception):
    """This unit has to see what another one of its group writes, written first."""


class _Claimed:
    """What the units of a group write, delete and refer to, as far as it is known."""

    def __init__(self) -> None:
        self._written: set[Key] = set()
        self._deleted: set[Key] = set()
        self._referred: set[Key] = set()

    def overlap(self, plan: Plan) -> bool:
        """Does the plan meet one that was claimed before? It is claimed itself where it does not."""
        written = {(write.type, write.id) for write in plan.writes}
        deleted = {(write.type, write.id) for write in plan.writes if write.render is None}
        referred = {(t, i) for write in plan.writes for _, t, i in write.references}
        if written & self._written or deleted & self._referred or referred & self._deleted:
            return True
        self._written |= written
        self._deleted |= deleted
        self._referred |= referred
        return False


Clock = Callable[[], datetime]


def _now() -> datetime:
    return datetime.now(UTC)


class Commits:
    """The queue of units that wait to be written to one database."""

    def __init__(
        self,
        database: Database,
        parameters: CustomParameters,
        *,
        now: Clock = _now,
        metrics: Metrics | None = None,
    ) -> None:
        self._database = database
        self._parameters = parameters
        self._metrics = metrics or Metrics()
        self._now = now
        self._statistics = Statistics(database)
        self._queue: Batcher[Unit, list[Written]] = Batcher(
            self._write_group, largest=LARGEST_GROUP, lanes=LANES, keys_of=_keys_of
        )

    async def submit(self, unit: Unit) -> list[Written]:
        """Write one unit durably; returns when the disk has it. Raises the unit's Failure, or Unavailable."""
        with self._metrics.traces.span("commit"):
            return await self._queue.submit(unit)

    async def drain(self) -> None:
        await self._queue.drain()
        await self._statistics.drain()

    async def _write_group(self, units: list[Unit]) -> list[list[Written] | BaseException]:
        alone = len(units) == 1 or any(unit.alongside for unit in units)
        if not alone:
            try:
                results = await self._commit(units)
            except psycopg.Error:
                log.info("group commit failed, retrying one by one", units=len(units))
            else:
                return [
                    await self._commit_alone(unit) if isinstance(result, _Overlaps) else result
                    for unit, result in zip(units, results, strict=True)
                ]
        return [await self._commit_alone(unit) for unit in units]

    async def _commit_alone(self, unit: Unit) -> list[Written] | BaseException:
        for attempt in range(1, ATTEMPTS + 1):
            try:
                return (await self._commit([unit]))[0]
            except errors.UniqueViolation:  # created by the other lane meanwhile: the next attempt sees it
                if attempt == ATTEMPTS:
                    return Conflict("The same identity was created by somebody else at the same moment")
            except errors.DeadlockDetected as error:
                if attempt == ATTEMPTS:
                    return error
            except Exception as error:
                return error
        raise AssertionError("unreachable")

    async def _commit(self, units: list[Unit]) -> list[list[Written] | BaseException]:
        """One transaction for all; a unit that fails in planning or checking is left out of it."""
        results: dict[int, list[Written] | BaseException] = {}
        began = time.perf_counter()
        async with self._database.transaction() as connection:
            planned: dict[int, _Planned] = {}
            claimed = _Claimed()
            await self._parameters.refresh_if_old(connection)
            await _hold_locks(connection, units)
            for number, unit in enumerate(units):
                try:
                    plan = await unit.plan(connection)
                except Failure as failure:
                    results[number] = failure
                    continue
                if claimed.overlap(plan):
                    results[number] = _Overlaps()
                    continue
                planned[number] = _Planned(plan, unit.alongside, unit.author)
            current = await _load_current(connection, planned.values())
            known = await _load_references(connection, planned.values())
            for number, entry in list(planned.items()):
                try:
                    _check(entry.plan.writes, current, known, entry.author)
                    await _check_protectors(connection, entry.plan.writes, current, entry.author)
                    await _check_referrers(connection, entry.plan.writes, entry.author)
                except Failure as failure:
                    results[number] = failure
                    del planned[number]
            updated = _milliseconds(self._now())
            await _store(connection, planned.values(), current, updated)
            for entry in planned.values():
                if entry.alongside:
                    await entry.alongside(connection, entry.written)
        self._database.last_write = time.monotonic()
        self._statistics.wrote(sum(len(entry.written) for entry in planned.values()))
        self._metrics.commit_units.observe(len(units))
        self._metrics.commit_seconds.observe(time.perf_counter() - began)
        results.update({number: entry.written for number, entry in planned.items()})
        return [results[number] for number in range(len(units))]


@contextlib.asynccontextmanager
async def as_if(connection: Connection, writes: Sequence[Write]) -> AsyncGenerator[None]:
    """Inside it, the database is as it will be after these writes, unchecked; outside, it is as it was.

    For criteria that are asked between two steps of one transaction (R4 3.1.0.11.2).
    """
    async with connection.transaction(force_rollback=True):
        planned = [_Planned(Plan(writes))]
        await _store(connection, planned, await _load_current(connection, planned), _milliseconds(_now()))
        yield


def _keys_of(unit: Unit) -> Iterable[Hashable]:
    yield from unit.touches
    yield from unit.locks


def _milliseconds(moment: datetime) -> datetime:
    """What FHIR shows of an instant and what the table keeps must be the same moment."""
    return moment.replace(microsecond=moment.microsecond // 1000 * 1000)


async def _hold_locks(connection: Connection, units: Iterable[Unit]) -> None:
    if locks := sorted({lock for unit in units for lock in unit.locks}):
        await connection.execute(SQL["lock_criteria"], (locks,))


async def _load_current(connection: Connection, planned: Iterable[_Planned]) -> dict[Key, _Current]:
    keys = [(write.type, write.id) for entry in planned for write in entry.plan.writes]
    if not keys:
        return {}
    cursor = await connection.execute(
        SQL["load_for_update"], ([key[0] for key in keys], [key[1] for key in keys]), binary=True
    )
    return {(type_number, resource_id): _Current(*row) for type_number, resource_id, *row in await cursor.fetchall()}


async def _load_references(connection: Connection, planned: Iterable[_Planned]) -> _Known:
    entries = list(planned)
    keys = {(t, i) for entry in entries for write in entry.plan.writes for _, t, i in write.references}
    if not keys:
        return {}
    ordered = sorted(keys)
    cursor = await connection.execute(SQL["existing"], ([key[0] for key in ordered], [key[1] for key in ordered]))
    return {(type_number, resource_id): facts for type_number, resource_id, *facts in await cursor.fetchall()}


def _check(writes: Sequence[Write], current: dict[Key, _Current], known: _Known, author: Author) -> None:
    """Does the database allow this unit? Raises the Failure that says why not."""
    here = {(write.type, write.id) for write in writes if write.render}
    gone = {(write.type, write.id) for write in writes if not write.render}
    missing: list[Issue] = []
    for write in writes:
        found = current.get((write.type, write.id))
        try:
            _check_author(write, found, author)
            _check_version(write, found)
        except Failure as failure:
            raise failure.within(write.where) from None
        faults = [
            Issue("error", "not-found", f"{TYPE_NAME[t]}/{i} does not exist on this server", where)
            for where, t, i in write.references
            if (t, i) not in here and ((t, i) in gone or not _may_refer(author, found, (t, i), known))
        ]
        if faults:
            missing.extend(DanglingReference(issues=faults).within(write.where).issues)
    if missing:
        raise DanglingReference(issues=missing)


def _may_refer(author: Author, found: _Current | None, target: Key, known: _Known) -> bool:
    """What is out of sight is not there, or guesses would find it; but what a resource refers to already may stay."""
    if target not in known:
        return False
    if author.sight.covers(*known[target]):
        return True
    before = orjson.loads(found.doc) if found and found.doc else {}
    return any(
        (local := is_local(one)) and (TYPE_NUMBER[local[0]], local[1]) == target for one in literal_targets(before)
    )


async def write_within(connection: Connection, writes: Sequence[Write], updated: datetime) -> list[Written]:
    """Write inside a transaction of somebody else, who has seen to references and keeps each identity to one write."""
    entry = _Planned(Plan(writes))
    await _store(connection, [entry], await _load_current(connection, [entry]), updated)
    return entry.written


def _check_author(write: Write, found: _Current | None, author: Author) -> None:
    """Before anything else is said of what is there. Raises Forbidden."""
    name = f"{TYPE_NAME[write.type]}/{write.id}"
    if found and not author.sight.covers(found.guard, found.worker, found.held):
        raise may_not_write(name)
    before = found.guard if found and not found.deleted else None
    author.must_write(name, before, write.rows.guard if write.render else None)
    if write.bound:
        _check_bound(write, found)


def _check_bound(write: Write, found: _Current | None) -> None:
    """Raises Forbidden unless the resource is what the scopes allow to change, and stays so."""
    name = TYPE_NAME[write.type]
    times = [rows_of(orjson.loads(found.doc))] if found and found.doc else []
    times += [_rows(write)] if write.render else []
    if not all(rows_meet(write.bound, name, rows) for rows in times):
        raise Forbidden(
            f"The scopes of this client do not allow to write {name}/{write.id}, as it is or as it would be"
        )


async def _check_protectors(
    connection: Connection, writes: Sequence[Write], current: dict[Key, _Current], author: Author
) -> None:
    """Only who may read what protects a Binary changes it (R4 2.5.5, `securityContext`). Raises Forbidden."""
    for write in writes:
        found = current.get((write.type, write.id)) if write.type == BINARY else None
        doc = found.doc if found else None
        for _ in range(LONGEST_PROTECTION):
            context = orjson.loads(doc).get("securityContext") if doc else None
            if context is None:
                break
            target = is_local(str(context.get("reference", "")))
            there = await read_within(connection, [(TYPE_NUMBER[target[0]], target[1])]) if target else []
            if (
                not there
                or there[0].doc is None
                or not author.may_be_told_of(there[0].type, *there[0].access, there[0].doc)
            ):
                raise may_not_write(f"Binary/{write.id}")
            doc = there[0].doc if there[0].type == BINARY else None
        else:
            raise may_not_write(f"Binary/{write.id}")


async def _check_referrers(connection: Connection, writes: Sequence[Write], author: Author) -> None:
    """What others refer to stays. Raises Conflict, naming one of them where that may be named.

    What the same unit writes does not count: it was checked that nothing of it refers to what goes.
    """
    gone = [write for write in writes if write.render is None]
    if gone:
        await connection.execute(SQL["lock_for_deletion"], ([one.type for one in gone], [one.id for one in gone]))
    for write in gone:
        hashes = references_to(TYPE_NAME[write.type], write.id)
        others = ([other.type for other in writes], [other.id for other in writes])
        found = await (await connection.execute(SQL["referrer"], (hashes, *others))).fetchone()
        if found:
            number, identity, *facts = found
            other = f"{TYPE_NAME[number]}/{identity}" if author.may_be_told_of(number, *facts) else "another resource"
            text = f"{TYPE_NAME[write.type]}/{write.id} is referred to by {other}"
            raise Conflict(text, expression=write.where)


def _check_version(write: Write, found: _Current | None) -> None:
    name = f"{TYPE_NAME[write.type]}/{write.id}"
    there = found is not None and not found.deleted
    if write.only_new and there:
        raise VersionConflict(f"{name} exists already (If-None-Match: *)")
    if found is None and not write.may_create:
        raise MethodNotAllowed(f"{name} does not exist, and here the server gives the ids: create it by POST")
    if there and write.needs_version and write.expected_version is None:
        raise PreconditionRequired(f'{name} is changed over a version that you name: If-Match: W/"..."')
    if write.must == "create" and found is not None:
        raise Conflict(f"{name} exists already")
    if write.must == "update" and found is None:
        raise NotFound(f"{name} does not exist")
    if write.must == "update" and found and found.deleted and write.render is None:
        raise Gone(f"{name} is deleted already")
    if write.expected_version is not None and (found is None or found.version != write.expected_version):
        has = f"version {found.version}" if found else "no version"
        raise VersionConflict(f"{name} has {has}, not version {write.expected_version}")


async def _store(
    connection: Connection, planned: Iterable[_Planned], current: dict[Key, _Current], updated: datetime
) -> None:
    creations: list[tuple[Written, Write]] = []
    changes: list[tuple[_Current, Written, Write]] = []
    entries = list(planned)
    for entry in entries:
        for write in entry.plan.writes:
            found = current.get((write.type, write.id))
            if found and found.says(write):
                entry.written.append(Written(write.type, write.id, found.version, found.updated, False, found.doc))
                continue
            version = found.version + 1 if found else 1
            doc = write.render(version, updated) if write.render else None
            result = Written(write.type, write.id, version, updated, found is None or found.deleted, doc)
            entry.written.append(result)
            if found:
                changes.append((found, result, write))
            else:
                creations.append((result, write))
    if creations:
        await _insert(connection, creations, updated)
    if changes:
        await _replace(connection, changes, updated)
    await keep_labels(connection, (result.doc for entry in entries for result in entry.written))
    await insert_accesses(connection, [row for entry in entries for row in entry.plan.accesses])


async def _insert(connection: Connection, creations: list[tuple[Written, Write]], updated: datetime) -> None:
    rows = [_rows(write) for _, write in creations]
    cursor = await connection.execute(SQL["new_rids"], (len(creations),))
    rids = [row[0] for row in await cursor.fetchall()]
    await connection.execute(
        SQL["insert_resources"],
        (
            updated,
            rids,
            [write.type for _, write in creations],
            [write.id for _, write in creations],
            [write.blob_sha256 for _, write in creations],
            [write.blob_size for _, write in creations],
            [result.doc for result, _ in creations],
            [own_hash(f"{TYPE_NAME[write.type]}/{write.id}") for _, write in creations],
            *index_rows.columns_of(rows),
        ),
    )
    await index_rows.insert(connection, list(zip(rids, rows, strict=True)))


def _rows(write: Write) -> IndexRows:
    """The index rows of what is written, by the search parameters of this moment."""
    if write.resource is None or write.rows.version == REGISTRY.version:
        return write.rows
    return rows_of(write.resource)


async def _replace(connection: Connection, changes: list[tuple[_Current, Written, Write]], updated: datetime) -> None:
    rids = [found.rid for found, _, _ in changes]
    # both at one moment: rows of a parameter that only one of them knows would be lost, or come twice
    before = [rows_of(orjson.loads(found.doc)) if found.doc else NO_ROWS for found, _, _ in changes]
    after = [_rows(write) if write.render else NO_ROWS for _, _, write in changes]
    await connection.execute(SQL["keep_history"], (rids,))
    await connection.execute(
        SQL["update_resources"],
        (
            updated,
            rids,
            [result.version for _, result, _ in changes],
            [write.blob_sha256 for _, _, write in changes],
            [write.blob_size for _, _, write in changes],
            [result.doc for _, result, _ in changes],
            *index_rows.columns_of(after),
        ),
    )
    rows = list(zip(rids, before, after, strict=True))
    await index_rows.delete(connection, [(rid, index_rows.difference(old, new)) for rid, old, new in rows])
    await index_rows.insert_missing(connection, [(rid, index_rows.difference(new, old)) for rid, old, new in rows])
