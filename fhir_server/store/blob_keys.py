"""The keys of blobs: rows of the database, each wrapped under a master key that is not in it (docs/adr/0011)."""

import struct
from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

import structlog
from psycopg import errors

from fhir_server.outcomes import Conflict, Damaged, NotFound, Unavailable
from fhir_server.ports import Blob, MasterKeys
from fhir_server.store import queries
from fhir_server.store.database import Connection, Database

SQL = queries.load("blob_keys")
CHECK = b"dmst-fhir: this is the key that it says it is"
REWRAPPED_AT_ONCE = 200

log = structlog.get_logger(__name__)


class Kept(NamedTuple):
    """A sealed blob: SHA-256 and size of its content, where it lies, and its secret, wrapped."""

    sha256: bytes
    size: int
    address: bytes
    master: str
    wrapped: bytes


class Master(NamedTuple):
    """A master key in use: since when new keys are (or were) wrapped under it, and how many are."""

    key_id: str
    current: bool
    since: datetime
    uses: int
    here: bool


class BlobKeys:
    """The keys of the blobs of one tenant."""

    def __init__(self, database: Database, masters: MasterKeys) -> None:
        self._database = database
        self.masters = masters

    async def start(self, *, make: bool) -> bool:
        """See that every master key in use is here, and is the right one; whether there is any at all.

        The very first is made where `make` says so, never beside others. Raises Unavailable or Damaged.
        """
        async with self._database.transaction() as connection:
            await connection.execute(SQL["lock"])
            rows = await (await connection.execute(SQL["masters"])).fetchall()
            for key_id, check_value, _ in rows:
                await self._check(key_id, check_value)
            if rows or not make:
                return bool(rows)
            here = await self.masters.ids()
            key_id = here[-1] if here else await self.masters.make()
            await self._make_current(connection, key_id)
        if not here:
            log.warning(
                "A master key was made: documents are encrypted under it and are lost with it. Back it up, and move it"
                " away from them (docs/operator.md)",
                key=key_id,
                where=repr(self.masters),
            )
        return True

    async def find(self, sha256: bytes) -> Kept | None:
        """The key of a content; None where it is kept in the clear, or not at all."""
        return await self._one("find", sha256)

    async def hand_in_again(self, sha256: bytes) -> Kept | None:
        """The same, and nobody shreds it in the hour to come."""
        return await self._one("hand_in_again", sha256)

    async def secret(self, kept: Kept) -> bytes:
        """What opens a blob. Raises Damaged, Unavailable."""
        return await self.masters.unwrap(kept.master, kept.wrapped, self._context(kept.sha256, kept.size, kept.address))

    async def keep(self, blob: Blob, address: bytes, secret: bytes) -> bool:
        """Keep the key of a new blob; False where its content has one already."""
        for _ in range(3):
            master, wrapped = await self._wrapped(blob.sha256, blob.size, address, secret)
            values = (blob.sha256, blob.size, address, master, wrapped)
            async with self._database.connection("generic") as connection:
                try:
                    return (await connection.execute(SQL["keep"], values)).rowcount == 1
                except errors.ForeignKeyViolation:  # retired since we asked which one is current
                    continue
        raise Unavailable("The master key changes again and again")

    async def replace(self, lost: Kept, address: bytes, secret: bytes) -> bool:
        """Keep the key of a content whose sealed bytes were lost and came again; False where somebody did so before."""
        master, wrapped = await self._wrapped(lost.sha256, lost.size, address, secret)
        async with self._database.connection("generic") as connection:
            values = (address, master, wrapped, lost.sha256, lost.address)
            return (await connection.execute(SQL["replace"], values)).rowcount == 1

    async def known(self, names: Sequence[bytes]) -> list[tuple[bytes, bool, bool]]:
        """(name in the blob store, is it a sealed blob, is it a content that is sealed under another name)."""
        async with self._database.connection() as connection:
            return await (await connection.execute(SQL["known"], (list(names),))).fetchall()

    async def is_named(self, sha256: bytes) -> bool:
        """Does any row name this content?"""
        async with self._database.connection() as connection:
            return await _flag(connection, "is_named", {"sha256": sha256})

    async def count_plain(self) -> int:
        """How many contents that rows name are kept in the clear."""
        async with self._database.connection() as connection:
            return await _number(connection, "count_plain")

    async def listed(self) -> list[Master]:
        """The master keys in use, the current one last."""
        here = set(await self.masters.ids())
        async with self._database.connection() as connection:
            rows = await (await connection.execute(SQL["masters"])).fetchall()
            uses = dict(await (await connection.execute(SQL["uses"])).fetchall())
        return [
            Master(key_id, number == len(rows), since, uses.get(key_id, 0), key_id in here)
            for number, (key_id, _, since) in enumerate(rows, 1)
        ]

    async def make_current(self, key_id: str | None = None) -> str:
        """From now on new keys are wrapped under this one, or the newest that is here. Raises NotFound, Damaged."""
        here = await self.masters.ids()
        if not here or (key_id is not None and key_id not in here):
            raise NotFound(
                f"There is no master key {key_id or ''} here: `dmst-fhir keys make` makes one".replace("  ", " ")
            )
        key_id = key_id or here[-1]
        async with self._database.transaction() as connection:
            await connection.execute(SQL["lock"])
            rows = await (await connection.execute(SQL["masters"])).fetchall()
            for known, check_value, _ in rows:
                if known == key_id:
                    await self._check(key_id, check_value)
            if not rows or rows[-1][0] != key_id:
                await self._make_current(connection, key_id)
        return key_id

    async def rewrap_some(self) -> tuple[int, int]:
        """Wrap some keys anew under the current master key; how many, and how many are left. Blobs are not touched."""
        async with self._database.transaction() as connection:
            (current,) = await (await connection.execute(SQL["current"])).fetchone() or (None,)
            if current is None:
                return 0, 0
            rows = await (await connection.execute(SQL["under_others"], (current, REWRAPPED_AT_ONCE))).fetchall()
            names: list[bytes] = []
            wrapped: list[bytes] = []
            for kept in map(Kept._make, rows):
                context = self._context(kept.sha256, kept.size, kept.address)
                names.append(kept.sha256)
                wrapped.append(await self.masters.wrap(current, await self.secret(kept), context))
            await connection.execute(SQL["rewrap"], (current, names, wrapped))
            return len(rows), await _number(connection, "count_under_others", (current,))

    async def retire(self, key_id: str) -> None:
        """Destroy a master key under which nothing is wrapped. Raises Conflict, NotFound."""
        async with self._database.transaction() as connection:
            await connection.execute(SQL["lock"])
            (current,) = await (await connection.execute(SQL["current"])).fetchone() or (None,)
            if key_id == current:
                raise Conflict("This is the current master key: make another, and `dmst-fhir keys rotate` first")
            try:
                async with connection.transaction():
                    known = (await connection.execute(SQL["retire"], (key_id,))).rowcount
            except errors.ForeignKeyViolation:
                raise Conflict("Keys of documents are wrapped under it: `dmst-fhir keys rotate` first") from None
        if key_id in await self.masters.ids():
            await self.masters.forget(key_id)
        elif not known:
            raise NotFound("There is no such master key")

    async def _check(self, key_id: str, check_value: bytes) -> None:
        if await self.masters.unwrap(key_id, check_value, self._named(key_id)) != CHECK:
            raise Damaged(f"The master key {key_id} is another than the one of this database")

    async def _make_current(self, connection: Connection, key_id: str) -> None:
        check_value = await self.masters.wrap(key_id, CHECK, self._named(key_id))
        await connection.execute(SQL["make_current"], (key_id, check_value))

    async def _wrapped(self, sha256: bytes, size: int, address: bytes, secret: bytes) -> tuple[str, bytes]:
        async with self._database.connection("generic") as connection:
            row = await (await connection.execute(SQL["current"])).fetchone()
        if row is None:
            raise Unavailable("There is no current master key")
        return row[0], await self.masters.wrap(row[0], secret, self._context(sha256, size, address))

    async def _one(self, query: str, sha256: bytes) -> Kept | None:
        async with self._database.connection("generic") as connection:
            row = await (await connection.execute(SQL[query], (sha256,))).fetchone()
        return Kept._make(row) if row else None

    def _context(self, sha256: bytes, size: int, address: bytes) -> bytes:
        """What a wrapped secret is of: moved to another content, place or tenant it does not open."""
        return b"dmst-fhir blob 1" + struct.pack(">H32sQ32s", self._database.tenant, sha256, size, address)

    def _named(self, key_id: str) -> bytes:
        return b"dmst-fhir master 1" + struct.pack(">H", self._database.tenant) + key_id.encode()


async def _number(connection: Connection, query: str, values: tuple[object, ...] = ()) -> int:
    row = await (await connection.execute(SQL[query], values)).fetchone()
    return row[0] if row else 0


async def _flag(connection: Connection, query: str, values: dict[str, object]) -> bool:
    row = await (await connection.execute(SQL[query], values)).fetchone()
    return bool(row and row[0])
