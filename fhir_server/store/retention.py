"""Retention behind the curtain: what is known of workers, and the rows of what was approved and destroyed."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any, Final, NamedTuple

from psycopg.types.json import Jsonb

from fhir_server.r4.resource_types import TYPE_NUMBER
from fhir_server.r4.search_parameters import indexed_of
from fhir_server.store import queries
from fhir_server.store.database import Connection, Database
from fhir_server.store.search_index import param_key, reference_to, references_to, uri_is

SQL = queries.load("retention")

PATIENT: Final = TYPE_NUMBER["Patient"]
BINARY: Final = TYPE_NUMBER["Binary"]
OF_A_WORKER: Final = (
    ("DocumentReference", "subject"),
    ("Encounter", "subject"),
    ("Observation", "subject"),
    ("Flag", "subject"),
    ("Patient", "link"),
)
"""The resources that facts are read from, and the parameter under which they name a worker."""


class Kept(NamedTuple):
    """A current resource."""

    type: int
    id: str
    version: int
    doc: bytes


class Item(NamedTuple):
    """A document that a list approves."""

    document_reference_id: str
    version: int
    kept_until: date


class Settled(NamedTuple):
    """What became of it. `reasons` are codes and dates; `contents` the SHA-256 of its bytes, of all versions."""

    document_reference_id: str
    state: str
    reasons: Any
    binaries: Sequence[str] = ()
    contents: Sequence[bytes] = ()
    provenance_id: str | None = None


class HalfDone(NamedTuple):
    """A document that is deleted, and of which something may be left."""

    list_id: str
    document_reference_id: str
    binaries: list[str]
    contents: list[bytes]


class Line(NamedTuple):
    """A document on a list."""

    document: str
    version: int
    patient: str
    until: date


class Counted(NamedTuple):
    """How many documents of a list are in one state."""

    list_id: str
    received: datetime
    approvals: int
    state: str
    number: int


async def patients(connection: Connection, ids: Iterable[str]) -> dict[str, bytes]:
    """The Patients with these ids, as far as they are there."""
    return dict(await (await connection.execute(SQL["patients"], (PATIENT, sorted(ids)))).fetchall())


async def patients_after(connection: Connection, after: str, limit: int) -> dict[str, bytes]:
    """The next Patients in the order of their ids."""
    asked = {"type": PATIENT, "after": after, "limit": limit}
    return dict(await (await connection.execute(SQL["patients_after"], asked)).fetchall())


async def of_workers(connection: Connection, ids: Iterable[str]) -> list[Kept]:
    """What names one of these workers, of the types of `OF_A_WORKER`."""
    keys = [param_key(TYPE_NUMBER[name], indexed_of(name)[code]) for name, code in OF_A_WORKER]
    return await _under(connection, [reference_to(key, f"Patient/{one}") for one in ids for key in keys])


async def referring(connection: Connection, names: Iterable[str]) -> list[Kept]:
    """Whatever refers to one of these (`Type/id`)."""
    return await _under(connection, [h for name in names for h in references_to(*name.split("/", 1))])


async def holding(connection: Connection, binaries: Iterable[str], base: str) -> list[Kept]:
    """The DocumentReferences whose bytes are these Binaries."""
    key = param_key(TYPE_NUMBER["DocumentReference"], indexed_of("DocumentReference")["location"])
    urls = [url for one in binaries for url in (f"Binary/{one}", f"{base}/Binary/{one}")]
    return await _under(connection, [uri_is(key, url) for url in urls])


async def _under(connection: Connection, hashes: list[int]) -> list[Kept]:
    if not hashes:
        return []
    cursor = await connection.execute(SQL["found_under"], (hashes,))
    return [Kept(*row) for row in await cursor.fetchall()]


async def contents_of(connection: Connection, binaries: Iterable[str]) -> list[bytes]:
    """The SHA-256 of the bytes of these Binaries, of all their versions."""
    cursor = await connection.execute(SQL["contents_of"], {"type": BINARY, "ids": list(binaries)})
    return [row[0] for row in await cursor.fetchall()]


async def hold_workers(connection: Connection, ids: Iterable[str]) -> None:
    """Until this transaction ends nobody changes these Patients or writes something new about them."""
    await connection.execute(SQL["hold_workers"], (PATIENT, sorted(ids)))


async def being_delivered(connection: Connection, documents: Iterable[str]) -> set[str]:
    """Which of these DocumentReferences wait for a delivery, or are under way."""
    cursor = await connection.execute(SQL["being_delivered"], (list(documents),))
    return {row[0] for row in await cursor.fetchall()}


async def settle(connection: Connection, list_id: str, items: Sequence[Settled], at: datetime) -> int:
    """Write what became of documents that were `approved`; how many still were."""
    settled = 0
    for item in items:
        row: Mapping[str, Any] = {
            "list": list_id,
            "document": item.document_reference_id,
            "state": item.state,
            "reasons": Jsonb(item.reasons),
            "binaries": list(item.binaries),
            "contents": list(item.contents),
            "provenance": item.provenance_id,
            "updated": at,
        }
        settled += (await connection.execute(SQL["settle_item"], row)).rowcount
    return settled


async def forget_origin(connection: Connection, documents: Iterable[str]) -> None:
    """No later delivery refers to these DocumentReferences."""
    await connection.execute(SQL["forget_origin"], (list(documents),))


@dataclass(frozen=True, slots=True)
class RetentionRows:
    """The lists, over one database."""

    database: Database

    async def add_lines(self, connection: Connection, list_id: str, lines: Sequence[Line], at: datetime) -> None:
        """Documents of a list that was announced; those that are there already stay as they are."""
        columns = [list(column) for column in zip(*lines, strict=True)]
        document, version, patient, until = columns
        await connection.execute(SQL["add_items"], (list_id, at, document, version, patient, until))

    async def announce(self, connection: Connection, list_id: str, items: int, at: datetime) -> bool:
        """Whether the list is new."""
        return (await connection.execute(SQL["add_list"], (list_id, items, at))).rowcount == 1

    async def approve(self, connection: Connection, list_id: str, by: str, at: datetime) -> bool:
        """Whether this person had not approved it before."""
        return (await connection.execute(SQL["add_approval"], (list_id, by, at))).rowcount == 1

    async def approvers(self, list_id: str) -> list[str]:
        async with self.database.connection() as connection:
            return await approvers(connection, list_id)

    async def next_worker(self, after: tuple[str, str], approvals: int) -> tuple[str, str] | None:
        """(list, Patient id) after these, with documents that enough persons approved."""
        asked = {"list": after[0], "patient": after[1], "approvers": approvals}
        async with self.database.connection() as connection:
            return await (await connection.execute(SQL["next_worker"], asked)).fetchone()

    async def items(self, list_id: str, patient_id: str, limit: int) -> list[Item]:
        async with self.database.connection() as connection:
            rows = await (await connection.execute(SQL["items_of_worker"], (list_id, patient_id, limit))).fetchall()
            return [Item(*row) for row in rows]

    async def half_done(self, limit: int = 100) -> list[HalfDone]:
        async with self.database.connection() as connection:
            return [HalfDone(*row) for row in await (await connection.execute(SQL["half_done"], (limit,))).fetchall()]

    async def finish(self, list_id: str, document: str, at: datetime) -> None:
        async with self.database.connection() as connection:
            await connection.execute(SQL["finish_item"], (at, list_id, document))

    async def counts(self) -> list[Counted]:
        async with self.database.connection() as connection:
            return [Counted(*row) for row in await (await connection.execute(SQL["count_items"])).fetchall()]


async def approvers(connection: Connection, list_id: str) -> list[str]:
    """Who approved a list, first to last."""
    return [row[0] for row in await (await connection.execute(SQL["approvers"], (list_id,))).fetchall()]
