"""Fills a database by COPY with resources that the server's own index code has looked at: a million in minutes.

The proportions are those of an archive (docs/adr/0003): 70 % DocumentReference, 25 % Observation, 5 % Patient; a fifth
of the documents belong to one patient in a hundred. Types and authors fall in frequency with their rank.
"""

import hashlib
import os
import random
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, fields
from datetime import UTC, datetime, timedelta
from functools import cache
from itertools import accumulate
from typing import Any, Final

import orjson
import psycopg
from psycopg import sql

from bench.ours import as_owner
from bench.rest import resources
from bench.rest.resources import Resource
from fhir_server.r4.resource_types import TYPE_NUMBER
from fhir_server.store import candidates
from fhir_server.store.search_index import IndexRows, own_hash, rows_of

SEED: Final = 20261122
CHUNK: Final = 10_000
LAST_DAY: Final = datetime(2026, 11, 1, tzinfo=UTC)
LOT_SHARE: Final = 0.29
PER_PATIENT: Final = 20
AUTHORS: Final = 2_000
TYPES: Final = tuple((f"{10_000 + 37 * rank}-{rank % 10}", f"Type {rank}") for rank in range(40))

# Field of IndexRows -> table, columns without the key, their PostgreSQL types.
INDEX: Final = {
    "tokens": ("token", ("h",), ("int8",)),
    "periods": ("period", ("param", "low", "high"), ("int4", "int8", "int8")),
    "words": ("word", ("param", "folded"), ("int4", "text")),
    "measures": ("measure", ("h", "low", "high"), ("int8", "numeric", "numeric")),
    "places": ("place", ("latitude", "longitude"), ("float8", "float8")),
    "centres": ("worker_centre", ("worker", "centre"), ("int8", "text")),
    "identities": ("identity_key", ("k",), ("int8",)),
}
NOT_MADE: Final = frozenset({"narratives", "contents", "oppositions"})
"""Rows that none of these resources has."""
RESOURCE: Final = (
    ("rid", "int8"), ("type", "int2"), ("id", "text"), ("version", "int4"), ("updated", "timestamptz"),
    ("deleted", "bool"), ("doc", "bytea"), ("own_hash", "int8"), ("refs", "int8[]"), ("present", "int2[]"),
    ("guard", "int4"), ("worker", "int8"),
)  # fmt: skip
TABLES: Final = ["resource", *(table for table, _, _ in INDEX.values())]


@dataclass(frozen=True, slots=True)
class Archive:
    """Where resource `number` (from 1) of an archive of any size comes from; patients are every twentieth."""

    size: int

    @property
    def patients(self) -> int:
        return max(1, self.size // PER_PATIENT)

    @property
    def heavy(self) -> int:
        """How many patients have a hundred times what the others have."""
        return max(1, self.patients // 100)

    def resource(self, number: int, *, lot: bool = False) -> Resource:
        """The resource with its id and meta; one of a `lot` is a document of the last day, of three types."""
        chance = random.Random(SEED * 10_000_000 + number)
        made = self._made(number, chance, lot=lot)
        made["id"] = f"p{number // PER_PATIENT}" if made["resourceType"] == "Patient" else f"r{number}"
        made["meta"] = {"versionId": "1", "lastUpdated": _updated(number).isoformat(timespec="milliseconds")}
        return made

    def _made(self, number: int, chance: random.Random, *, lot: bool) -> Resource:
        if lot:
            return _document(chance, self._subject(chance), LAST_DAY, TYPES[number % 3 * 5], AUTHORS - 1 - number % 3)
        if number % PER_PATIENT == 0:
            return resources.patient(chance)
        if number % PER_PATIENT > 14:
            return resources.observation(chance, self._subject(chance), f"Encounter/e{number}")
        kind = chance.choices(TYPES, cum_weights=ranked(len(TYPES)))[0]
        author = chance.choices(range(AUTHORS), cum_weights=ranked(AUTHORS))[0]
        return _document(chance, self._subject(chance), resources.day(chance), kind, author)

    def _subject(self, chance: random.Random) -> str:
        first, last = (1, self.heavy) if chance.random() < 0.2 else (self.heavy + 1, self.patients)
        return f"Patient/p{chance.randint(min(first, last), last)}"


@cache
def ranked(count: int) -> list[float]:
    """Cumulated weights of so many values, of which the first is the most frequent."""
    return list(accumulate(1 / (rank + 1) ** 0.8 for rank in range(count)))


def _updated(number: int) -> datetime:
    return LAST_DAY + timedelta(milliseconds=number)


def _document(chance: random.Random, subject: str, made: datetime, kind: tuple[str, str], author: int) -> Resource:
    document = resources.document_reference(chance, subject, f"Binary/b{chance.randrange(10**6)}", 250_000)
    rank = TYPES.index(kind)
    return document | {
        "status": chance.choices(("current", "superseded", "entered-in-error"), (95, 4, 1))[0],
        "type": resources.coded(resources.LOINC, *kind),
        "category": [resources.coded(resources.IDENTIFIERS, f"category-{rank % 8}", f"Rubrique {rank % 8}")],
        "date": resources.instant(made),
        "author": [{"reference": f"Practitioner/d{author}"}],
        "custodian": {"reference": "Organization/o1"},
    }


def fill(dsn: str, archive: Archive, numbers: range, *, lot: bool = False) -> None:
    """COPY these resources and their index rows in, indexes built again afterwards, statistics fresh.

    The database is migrated, and nobody else is writing.
    """
    known = {field.name for field in fields(IndexRows)}
    filled = {*INDEX, *NOT_MADE, "references", "present", "version", "guard", "worker"}
    assert known == filled, f"the index has tables that this loader does not fill: {known ^ filled}"
    with as_owner(dsn) as connection:
        made_again = _drop_indexes(connection)
        chunks = [numbers[start : start + CHUNK] for start in range(0, len(numbers), CHUNK)]
        with ProcessPoolExecutor(os.cpu_count()) as pool:
            list(pool.map(_copy_chunk, [dsn] * len(chunks), [archive] * len(chunks), chunks, [lot] * len(chunks)))
        connection.execute("set maintenance_work_mem = '1GB'")
        for statement in made_again:
            connection.execute(statement.encode())
        connection.execute("select setval('rid_seq', %s)", (numbers[-1],))
        connection.execute("vacuum analyze")
        connection.execute("checkpoint")


def _drop_indexes(connection: psycopg.Connection[Any]) -> list[str]:
    """Drop every index of the tables; the statements that make them again."""
    constraints = connection.execute(
        "select conrelid::regclass::text, conname, pg_get_constraintdef(oid) from pg_constraint"
        " where contype = 'p' and conrelid = any(%s::regclass[])",
        (TABLES,),
    ).fetchall()
    for table, name, _ in constraints:
        connection.execute(
            sql.SQL("alter table {} drop constraint {} cascade").format(*map(sql.Identifier, (table, name)))
        )
    indexes = connection.execute(
        "select indexname, indexdef from pg_indexes where schemaname = 'public' and tablename = any(%s)", (TABLES,)
    ).fetchall()
    for name, _ in indexes:
        connection.execute(sql.SQL("drop index {}").format(sql.Identifier(name)))
    return [
        *(f'alter table {table} add constraint "{name}" {definition}' for table, name, definition in constraints),
        *(definition for _, definition in indexes),
    ]


def _copy_chunk(dsn: str, archive: Archive, numbers: range, lot: bool) -> None:
    rows = {table: list[tuple[Any, ...]]() for table in TABLES}
    for number in numbers:
        resource = archive.resource(number, lot=lot)
        name, doc = resource["resourceType"], orjson.dumps(resource)
        index = rows_of(resource)
        assert not index.narratives
        assert not index.contents
        own = own_hash(f"{name}/{resource['id']}")
        columns = (list(index.references), list(index.present), index.guard, index.worker)
        rows["resource"].append(
            (number, TYPE_NUMBER[name], resource["id"], 1, _updated(number), False, doc, own, *columns)
        )
        for field, (table, _, _) in INDEX.items():
            rows[table].extend(_flat(getattr(index, field), number))
    with as_owner(dsn) as connection, connection.transaction():
        connection.execute("set local synchronous_commit = off")
        names, kinds = [name for name, _ in RESOURCE], [kind for _, kind in RESOURCE]
        _copy(connection, "resource", names, kinds, rows["resource"])
        rows["identity_key"] = list(_keyed(connection, rows["identity_key"]))
        for table, columns, types in INDEX.values():
            _copy(connection, table, (*columns, "rid"), (*types, "int8"), sorted(rows[table]))


def _keyed(connection: psycopg.Connection[Any], rows: list[tuple[Any, ...]]) -> Iterator[tuple[Any, ...]]:
    """Parts of identities under the secret of the service, as the server keeps them (`store/queries`, `keyed`)."""
    found = connection.execute("select key from server_key where purpose = %s", (candidates.SECRET,)).fetchone()
    assert found, "the server has started once"
    for part, rid in rows:
        digest = hashlib.sha256(found[0] + part.to_bytes(8, "big", signed=True)).digest()
        yield int.from_bytes(digest[:8], "big", signed=True), rid


def _flat(values: Any, number: int) -> Iterator[tuple[Any, ...]]:
    for value in values:
        yield (*value, number) if isinstance(value, tuple) else (value, number)


def _copy(
    connection: psycopg.Connection[Any],
    table: str,
    columns: Sequence[str],
    types: Sequence[str],
    rows: Sequence[tuple[Any, ...]],
) -> None:
    names = sql.SQL(", ").join(map(sql.Identifier, columns))
    statement = sql.SQL("copy {} ({}) from stdin (format binary)").format(sql.Identifier(table), names)
    with connection.cursor() as cursor, cursor.copy(statement) as copy:
        copy.set_types(list(types))
        for row in rows:
            copy.write_row(row)
