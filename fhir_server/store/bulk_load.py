"""Loading many resources at once: rows packed for PostgreSQL's binary COPY, and the transaction that takes them in.

https://www.postgresql.org/docs/current/sql-copy.html#id-1.9.3.55.9.4 - rows are packed where resources are prepared, in
other processes; the process that writes sees whole tables as bytes. Index rows are sorted, so that neighbours in each
b-tree come together: packed rows, since bytes are compared thrice as fast as tuples.
"""

import secrets
import struct
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final, NamedTuple

from psycopg import errors
from psycopg.types.json import Jsonb

from fhir_server.outcomes import Conflict
from fhir_server.r4.resource_types import TYPE_NAME
from fhir_server.store import index_rows, queries
from fhir_server.store.access_log import AccessRow
from fhir_server.store.author import Author
from fhir_server.store.bulk_jobs import Stopped, trace_subjects
from fhir_server.store.commit import SQL as RESOURCES
from fhir_server.store.commit import Write, write_within
from fhir_server.store.database import Connection, Database
from fhir_server.store.index_rows import RowsOf
from fhir_server.store.labels import Label, keep
from fhir_server.store.resources import Key
from fhir_server.store.search_index import NO_ROWS, IndexRows, own_hash

SQL = queries.load("bulk")
ATTEMPTS = 5
MOST_REFUSALS = 10_000
"""So many refused lines are kept with their reasons; of the others the number is."""

_HEAD: Final = b"PGCOPY\n\xff\r\n\0" + struct.pack(">ii", 0, 0)
_END: Final = struct.pack(">h", -1)
_POSTGRES_EPOCH: Final = datetime(2000, 1, 1, tzinfo=UTC)
_RESOURCE: Final = struct.Struct(">hiqihi")
_VERSION: Final = struct.Struct(">iiibiq")
_ARRAY: Final = struct.Struct(">iiiiii")
_INT2, _INT8 = 21, 20  # pg_type.dat
_MOMENT: Final = struct.pack(">i", 8)
_LENGTH: Final = struct.Struct(">i")
_TOKEN: Final = struct.Struct(">hiqiq")
_PERIOD: Final = struct.Struct(">hiiiqiqiq")
_WORD: Final = struct.Struct(">hiii")
_RID: Final = struct.Struct(">iq")
_GUARD: Final = struct.Struct(">ii")
_NULL: Final = struct.pack(">i", -1)


class Stamp(NamedTuple):
    """What stands in the packed bytes for the moment of writing, which only the transaction knows: 24 and 8 bytes."""

    text: bytes
    binary: bytes


def new_stamp() -> Stamp:
    return Stamp(secrets.token_hex(12).encode(), secrets.token_bytes(8))


class Packer:
    """Gathers new resources as COPY rows. `rids` are internal keys, taken in their order."""

    def __init__(self, rids: Sequence[int], stamp: Stamp) -> None:
        self._rids = iter(rids)
        self._stamp = stamp
        self._resources: list[bytes] = [_HEAD]
        self._tokens: list[bytes] = []
        self._periods: list[bytes] = []
        self._words: list[tuple[int, bytes, int]] = []
        self._measures: list[str] = []
        self.others: list[RowsOf] = []
        self.count = 0

    def add(self, type_number: int, resource_id: str, doc: bytes, rows: IndexRows) -> None:
        """A first version. `doc` has the text of the stamp where its moment of writing goes."""
        rid, identity = next(self._rids), resource_id.encode()
        self._resources += (
            _RESOURCE.pack(12, 8, rid, 2, type_number, len(identity)),
            identity,
            _VERSION.pack(4, 1, 1, 0, 8, own_hash(f"{TYPE_NAME[type_number]}/{resource_id}")),
            _array(rows.references, _INT8, "q"),
            _array(rows.present, _INT2, "h"),
            _GUARD.pack(4, rows.guard),
            _RID.pack(8, rows.worker) if rows.worker is not None else _NULL,
            _MOMENT,
            self._stamp.binary,
            _LENGTH.pack(len(doc)),
            doc,
        )
        self._tokens += [_TOKEN.pack(2, 8, h, 8, rid) for h in rows.tokens]
        self._periods += [_PERIOD.pack(4, 4, param, 8, low, 8, high, 8, rid) for param, low, high in rows.periods]
        self._words += [(param, word.encode(), rid) for param, word in rows.words]
        self._measures += [f"{h}\t{low}\t{high}\t{rid}\n" for h, low, high in rows.measures]
        others = IndexRows(  # few, or made by PostgreSQL itself
            places=rows.places,
            narratives=rows.narratives,
            contents=rows.contents,
            oppositions=rows.oppositions,
            centres=rows.centres,
            identities=rows.identities,
        )
        if others != NO_ROWS:
            self.others.append((rid, others))
        self.count += 1

    def copies(self) -> dict[str, bytes]:
        """The rows of each table, by its name."""
        if not self.count:
            return {}
        self._tokens.sort()
        self._periods.sort()
        self._words.sort()
        self._measures.sort()
        words = [
            part
            for param, word, rid in self._words
            for part in (_WORD.pack(3, 4, param, len(word)), word, _RID.pack(8, rid))
        ]
        return {
            "resource": b"".join((*self._resources, _END)),
            "token": b"".join((_HEAD, *self._tokens, _END)),
            "period": b"".join((_HEAD, *self._periods, _END)),
            "word": b"".join((_HEAD, *words, _END)),
            "measure": "".join(self._measures).encode(),
        }


def _array(numbers: Collection[int], of_type: int, code: str) -> bytes:
    """A one-dimensional array, its length in front."""
    size = struct.calcsize(">" + code)
    if not numbers:
        return struct.pack(">iiii", 12, 0, 0, of_type)
    parts = [value for number in numbers for value in (size, number)]
    length = 20 + len(numbers) * (4 + size)
    return _ARRAY.pack(length, 1, 0, of_type, len(numbers), 1) + struct.pack(">" + f"i{code}" * len(numbers), *parts)


class Refusal(NamedTuple):
    """A line that is not taken in: its number, and issues as (severity, code, text, place)."""

    line: int
    issues: tuple[tuple[str, str, str, str | None], ...]


class Forward(NamedTuple):
    """A reference of a line to another resource, and where it stands."""

    line: int
    place: str
    type: int
    id: str


class Apart(NamedTuple):
    """A line that is written by itself, because its identity is there already or it brings a blob."""

    line: int
    write: Write


class Deferred(NamedTuple):
    """A line that waits for what it refers to."""

    line: int
    start: int
    length: int
    type: int
    id: str


@dataclass(frozen=True, slots=True)
class Special:
    """Which lines of a chunk are not simply new: those written apart, those left out for what they refer to, and those
    refused since what is there is out of sight.
    """

    apart: frozenset[int] = frozenset()
    left_out: frozenset[int] = frozenset()
    refused: frozenset[int] = frozenset()


@dataclass(slots=True)
class Prepared:
    """A chunk of lines, ready to be written.

    `identities` and `references` are those of every valid line, with the lines; `forwards` the references of the lines
    that are left out; `blobs` the contents of Binaries, which whoever writes keeps first.
    """

    special: Special = field(default_factory=Special)
    stamp: Stamp = field(default_factory=new_stamp)
    copies: Mapping[str, bytes] = field(default_factory=dict)
    others: list[RowsOf] = field(default_factory=list)
    count: int = 0
    lines: int = 0
    identities: dict[Key, list[int]] = field(default_factory=dict)
    references: dict[Key, list[int]] = field(default_factory=dict)
    apart: list[Apart] = field(default_factory=list)
    blobs: dict[int, bytes] = field(default_factory=dict)
    left_out: list[Deferred] = field(default_factory=list)
    forwards: list[Forward] = field(default_factory=list)
    refusals: list[Refusal] = field(default_factory=list)
    patients: set[str] = field(default_factory=set)
    labels: set[Label] = field(default_factory=set)
    withheld: list[str] = field(default_factory=list)
    consenting: list[str] = field(default_factory=list)
    """DocumentReferences that are withheld and Patients whose Consents are brought: what waits is decided upon anew."""
    known: int = 0
    """The version of the search parameters by which the index rows were made."""


@dataclass(frozen=True, slots=True)
class Progress:
    """Which part of an import a chunk is: bytes of a file from `start` to `end`, or deferred lines (`end` None)."""

    job_id: str
    position: int
    start: int = 0
    end: int | None = None
    settled: tuple[int, ...] = ()


async def new_rids(database: Database, count: int) -> list[int]:
    async with database.connection("generic") as connection:
        cursor = await connection.execute(RESOURCES["new_rids"], (count,), binary=True)
        return [row[0] for row in await cursor.fetchall()]


async def load(
    database: Database,
    prepared: Prepared,
    progress: Progress,
    trace: AccessRow,
    instant: Callable[[datetime], str],
    *,
    author: Author,
    alongside: Callable[[Connection], Awaitable[None]],
) -> Special | None:
    """Take a chunk in, all or nothing, and with it the note that it is done and what is written `alongside`.

    Answers with what is special about its lines where they were prepared otherwise: then nothing is written. Raises
    Stopped where the job is gone or somebody else has done this chunk, Conflict when others are in the way for long.
    """
    for _ in range(ATTEMPTS):
        try:
            async with database.transaction() as connection:
                special, missing = await _look(connection, prepared, progress, author)
                if special != prepared.special:
                    return special
                await _write(connection, prepared, progress, missing, trace, instant)
                await alongside(connection)
        except (errors.UniqueViolation, errors.DeadlockDetected):  # somebody wrote the same identity: look again
            continue
        return None
    raise Conflict("Others keep writing the same identities")


async def _look(
    connection: Connection, prepared: Prepared, progress: Progress, author: Author
) -> tuple[Special, set[Key]]:
    """Which lines meet what is there, or refer to what is not; and what that is."""
    columns = _columns(prepared.identities)
    rows = await _fetch(connection, "there", columns) if prepared.identities else []
    there = {(row[0], row[1]) for row in rows}
    hidden = {(row[0], row[1]) for row in rows if not author.sight.covers(*row[2:])}
    refused = prepared.special.refused.union(*(prepared.identities[key] for key in hidden))
    apart = {line for key in there for line in prepared.identities[key]}
    apart |= {line for lines in prepared.identities.values() for line in lines[1:]}
    apart |= {one.line for one in prepared.apart}
    asked = prepared.references.keys() - prepared.identities.keys()
    known: set[Key] = set()
    if prepared.references:
        cursor = await connection.execute(RESOURCES["existing"], _columns(sorted(prepared.references)))
        known = {(row[0], row[1]) for row in await cursor.fetchall()}
    if progress.end is None and (unknown := asked - known):
        rows = await _fetch(connection, "deferred_identities", (*_columns(sorted(unknown)), progress.job_id))
        known |= {(row[0], row[1]) for row in rows}
    left_out, missing = _closure(prepared, known)
    left_out -= refused
    return Special(frozenset(apart - left_out - refused), frozenset(left_out), refused), missing


def _closure(prepared: Prepared, known: set[Key]) -> tuple[set[int], set[Key]]:
    """The lines that cannot stand, since they refer to what is not there or to lines that cannot stand."""
    left_out: set[int] = set()
    while True:
        here = {key for key, lines in prepared.identities.items() if not left_out.issuperset(lines)}
        missing = {key for key in prepared.references if key not in known and key not in here}
        lines = {line for key in missing for line in prepared.references[key]}
        if lines <= left_out:
            return left_out, missing
        left_out |= lines


async def _write(
    connection: Connection,
    prepared: Prepared,
    progress: Progress,
    missing: set[Key],
    trace: AccessRow,
    instant: Callable[[datetime], str],
) -> None:
    refusals = list(prepared.refusals)
    if progress.end is None:
        refusals += _stranded(prepared, missing)
    await _note(connection, prepared, progress, len(refusals))
    now = datetime.now(UTC)
    updated = now.replace(microsecond=now.microsecond // 1000 * 1000)
    await _copy(connection, prepared, updated, instant)
    for writes in _rounds(prepared.apart):
        await write_within(connection, writes, updated)
    await _refuse(connection, progress, refusals)
    if progress.end is not None:
        await _defer(connection, prepared, progress, missing)
    await trace_subjects(connection, progress.job_id, sorted(prepared.patients), trace)


async def _note(connection: Connection, prepared: Prepared, progress: Progress, refused: int) -> None:
    """The chunk is done, by us and now. Raises Stopped."""
    kept, of = prepared.count + len(prepared.apart), (progress.job_id, progress.position)
    if progress.end is not None:
        values = (progress.end, prepared.lines, kept, refused, *of, progress.start)
        if (await connection.execute(SQL["advance_input"], values)).rowcount != 1:
            raise Stopped
        return
    cursor = await connection.execute(SQL["settle_deferred"], (*of, list(progress.settled)))
    if cursor.rowcount != len(progress.settled):
        raise Stopped
    await connection.execute(SQL["count_deferred"], (kept, refused, *of))


async def _copy(
    connection: Connection, prepared: Prepared, updated: datetime, instant: Callable[[datetime], str]
) -> None:
    moment = struct.pack(">q", (updated - _POSTGRES_EPOCH) // timedelta(microseconds=1))
    if prepared.copies:
        await connection.execute(SQL["incoming"])
    for table, rows in prepared.copies.items():
        stamped = rows
        if table == "resource":
            stamp = prepared.stamp
            assert rows.count(stamp.text) == rows.count(stamp.binary) == prepared.count, "a stamp stands elsewhere too"
            stamped = rows.replace(stamp.text, instant(updated).encode()).replace(stamp.binary, moment)
        async with connection.cursor().copy(SQL[f"copy_{table}"]) as copy:
            await copy.write(stamped)
        await connection.execute(SQL[f"take_{table}"])
    await index_rows.insert(connection, prepared.others)
    await keep(connection, prepared.labels)


def _rounds(apart: Sequence[Apart]) -> Iterable[list[Write]]:
    """The writes in their order, each identity once in a round."""
    left = list(apart)
    while left:
        seen: set[Key] = set()
        this: list[Write] = []
        later: list[Apart] = []
        for one in left:
            key = (one.write.type, one.write.id)
            if key in seen:
                later.append(one)
            else:
                seen.add(key)
                this.append(one.write)
        yield this
        left = later


def _stranded(prepared: Prepared, missing: set[Key]) -> list[Refusal]:
    """The lines left out for good, each with the references that lead nowhere."""
    return _refusals(one for one in prepared.forwards if (one.type, one.id) in missing)


def _refusals(forwards: Iterable[Forward]) -> list[Refusal]:
    by_line: dict[int, list[tuple[str, str, str, str | None]]] = {}
    for one in forwards:
        text = f"{TYPE_NAME[one.type]}/{one.id} is neither on this server nor in this import"
        by_line.setdefault(one.line, []).append(("error", "not-found", text, one.place))
    return [Refusal(line, tuple(issues)) for line, issues in sorted(by_line.items())]


async def _refuse(connection: Connection, progress: Progress, refusals: Sequence[Refusal]) -> None:
    if refusals:
        await keep_refusals(connection, progress.job_id, progress.position, refusals)


async def keep_refusals(connection: Connection, job_id: str, position: int, refusals: Sequence[Refusal]) -> None:
    """The reasons of refused lines, while there are not too many."""
    row = await (await connection.execute(SQL["count_refusals"], (job_id,))).fetchone()
    kept = refusals[: max(0, MOST_REFUSALS - (row[0] if row else 0))]
    issues = [
        Jsonb([{"severity": s, "code": c, "diagnostics": t, "expression": p} for s, c, t, p in one.issues])
        for one in kept
    ]
    await connection.execute(SQL["refuse_lines"], (job_id, position, [one.line for one in kept], issues))


async def _defer(connection: Connection, prepared: Prepared, progress: Progress, missing: set[Key]) -> None:
    if not prepared.left_out:
        return
    of = (progress.job_id, progress.position)
    columns = [list(column) for column in zip(*prepared.left_out, strict=True)]
    await connection.execute(SQL["defer_lines"], (*of, *columns))
    waiting = [one for one in prepared.forwards if (one.type, one.id) in missing]
    await connection.execute(SQL["defer_references"], (*of, *(list(column) for column in zip(*waiting, strict=True))))


async def strand(database: Database, job_id: str) -> None:
    """Refuse the deferred lines that refer to nothing, until every one left refers to the store or to others left."""
    while True:
        async with database.transaction() as connection:
            cursor = await connection.execute(SQL["strand"], {"job_id": job_id})
            gone: dict[int, list[int]] = {}
            for position, line in await cursor.fetchall():
                gone.setdefault(position, []).append(line)
            for position, lines in gone.items():
                rows = await _fetch(connection, "forward_references", (job_id, position, lines))
                refusals = _refusals(Forward(*row) for row in rows)
                await keep_refusals(connection, job_id, position, refusals)
                await connection.execute(SQL["count_deferred"], (0, len(lines), job_id, position))
        if not gone:
            return


async def deferred_lines(database: Database, job_id: str, position: int, limit: int) -> list[tuple[int, int, int]]:
    """Line, start and length of the next deferred lines of a file."""
    async with database.connection() as connection:
        return await _fetch(connection, "deferred_lines", (job_id, position, limit))


async def _fetch(connection: Connection, query: str, values: Sequence[Any]) -> list[tuple[Any, ...]]:
    return await (await connection.execute(SQL[query], values)).fetchall()


def _columns(keys: Iterable[Key]) -> tuple[list[int], list[str]]:
    listed = list(keys)
    return [key[0] for key in listed], [key[1] for key in listed]
