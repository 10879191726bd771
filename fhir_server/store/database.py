"""PostgreSQL: few long-lived connections, handed out last in first out, and forward-only migrations.

A pool library costs 40 microseconds more per request than this stack of connections (docs/performance.md),
which is a third of a read: so the store keeps its own, and only here.
"""

import asyncio
import contextlib
import hashlib
import math
import select
import time
from collections.abc import AsyncGenerator, Iterable
from importlib import resources
from typing import Any, ClassVar, Final, Literal

import psycopg
import structlog
from procrastinate.schema import SchemaManager
from psycopg import AsyncConnection, errors, sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from fhir_server.metrics import Metrics, Samples
from fhir_server.outcomes import Failure, StorageFull, Unavailable
from fhir_server.store import queries

Connection = AsyncConnection[tuple[Any, ...]]

log = structlog.get_logger(__name__)

# How PostgreSQL plans: for the values of each execution, or once for a statement whose values do not matter to its plan
# (by identity, by one token, writes), which halves what a search of 20 documents costs. A generic plan of a search by
# several values may walk a whole table. So would one that was made while the tables were small, and is kept until they
# are analysed: what is planned once leads from row to row by an index.
Plans = Literal["custom", "generic"]
SWITCHES: Final[dict[Plans, bytes]] = {
    "custom": b"set plan_cache_mode = force_custom_plan; set enable_hashjoin = on; set enable_mergejoin = on;"
    b"set enable_seqscan = on",
    "generic": b"set plan_cache_mode = force_generic_plan; set enable_hashjoin = off; set enable_mergejoin = off;"
    b"set enable_seqscan = off",
}

MOMENT: Final = b"begin isolation level repeatable read read only"
TENANCY = queries.load("tenancy")
STATISTICS = queries.load("statistics")
MINIMUM_VERSION = 150_000
SESSION = (
    "set jit = off",
    "set plan_cache_mode = force_custom_plan",
    "set time zone 'UTC'",
    "set default_transaction_isolation = 'read committed'",
)


def _spoken(connection: Connection) -> bool:
    """Whether the server has said something since the last answer: as a rule that it ended this session."""
    poll = select.poll()
    poll.register(connection.fileno(), select.POLLIN | select.POLLHUP | select.POLLERR)
    return bool(poll.poll(0))


# A host that vanishes says nothing: the kernel would wait a quarter of an hour for it, and every request with it.
NOTICING: Final = {"keepalives_idle": 10, "keepalives_interval": 5, "keepalives_count": 3, "tcp_user_timeout": 20_000}


def noticing(dsn: str) -> str:
    """A connection string over which a PostgreSQL that vanished is noticed within some 25 s, unless it says otherwise.

    Raises Unavailable where it is none.
    """
    try:
        return make_conninfo("", **{**NOTICING, **conninfo_to_dict(dsn)})
    except psycopg.ProgrammingError as error:
        raise Unavailable("The connection string of PostgreSQL cannot be read") from error


async def _let_plan(connection: Connection, plans: Plans) -> None:
    """Who is cancelled here leaves nobody a connection that plans otherwise than it is kept for."""
    try:
        await connection.execute(SWITCHES[plans])
    except BaseException:
        await connection.close()
        raise


def translate(error: psycopg.Error) -> Failure | psycopg.Error:
    """A foreign exception as one of ours, where it is ordinary life; itself where it is a bug."""
    if isinstance(error, errors.DeadlockDetected):
        return error  # an OperationalError for psycopg, but the writer knows what to do about it
    if isinstance(error, errors.DiskFull):
        return StorageFull("The database has no room left")
    if isinstance(error, errors.QueryCanceled):
        return Unavailable("The query took longer than this server allows; narrow the search")
    if isinstance(error, psycopg.OperationalError | psycopg.InterfaceError | errors.AdminShutdown):
        return Unavailable("The database is out of reach; try again")
    return error


class Database:
    """Connections to one PostgreSQL database, that see the rows of one tenant (docs/adr/0009).

    `connection()` lends one in autocommit; `transaction()` lends one inside a transaction, with generic plans. Both
    raise Unavailable when PostgreSQL is gone, and reconnect by themselves when it is back.
    """

    keeps_moments: ClassVar[bool] = True
    """Whether what is seen through it can be seen again later: not what a transaction wrote that has not ended."""

    def __init__(
        self,
        dsn: str,
        *,
        connections: int,
        statement_timeout_ms: int,
        metrics: Metrics | None = None,
        name: str = "primary",
        tenant: int = 0,
    ) -> None:
        self.dsn = dsn
        self.name = name
        self.tenant = tenant
        self._metrics = metrics or Metrics()
        self._metrics.pools.append(self._in_use)
        self._busy = 0
        self.last_write = -math.inf  # when this process last changed a resource, by its monotonic clock
        self._idle: dict[Plans, list[Connection]] = {"custom": [], "generic": []}
        self._places = asyncio.Semaphore(connections)
        self._timeout = statement_timeout_ms

    async def open(self) -> None:
        """Check that the server is there, new enough, and keeps tenants apart. Raises Unavailable otherwise."""
        async with self.connection() as connection:
            version = connection.info.server_version
            if version < MINIMUM_VERSION:
                raise Unavailable(f"PostgreSQL 15 or newer is needed, this one is {version // 10_000}")
            held = await (await connection.execute(TENANCY["is_held"])).fetchone()
            if held != (True,):
                raise Unavailable(
                    "This role of PostgreSQL bypasses row-level security: name another in DMST_FHIR_POSTGRES"
                )

    async def close(self) -> None:
        for idle in self._idle.values():
            while idle:
                await idle.pop().close()

    @contextlib.asynccontextmanager
    async def connection(self, plans: Plans = "custom") -> AsyncGenerator[Connection]:
        began = time.perf_counter()
        async with self._places:
            connection, planned = await self._take(plans)
            self._metrics.pool_wait_seconds.observe(time.perf_counter() - began)
            self._busy += 1
            try:
                if planned != plans:
                    await _let_plan(connection, plans)
                yield connection
            except psycopg.Error as error:
                failure = translate(error)
                if failure is error:
                    raise
                raise failure from error
            finally:
                self._busy -= 1
                await self._give_back(connection, plans)

    @contextlib.asynccontextmanager
    async def moment(self, seen: str | None = None) -> AsyncGenerator[Connection]:
        """A connection on which all statements see the store as it is now, and none writes.

        Everything that `seen` holds, a snapshot of an earlier moment, is there.
        """
        async with self.connection() as connection:
            await connection.execute(MOMENT)
            try:
                yield connection
            finally:
                if connection.info.transaction_status in (
                    psycopg.pq.TransactionStatus.INTRANS,
                    psycopg.pq.TransactionStatus.INERROR,
                ):
                    await connection.execute(b"rollback")

    @contextlib.asynccontextmanager
    async def transaction(self) -> AsyncGenerator[Connection]:
        async with self.connection("generic") as connection, connection.transaction():
            yield connection

    def _in_use(self) -> Samples:
        idle = sum(len(connections) for connections in self._idle.values())
        return [((self.name, "busy"), self._busy), ((self.name, "idle"), idle)]

    async def _take(self, plans: Plans) -> tuple[Connection, Plans]:
        """A connection and how it plans now; one that plans as wanted where there is one."""
        other: Plans = "generic" if plans == "custom" else "custom"
        for planned in (plans, other):
            while self._idle[planned]:
                connection = self._idle[planned].pop()
                if not connection.closed and not connection.broken and not _spoken(connection):
                    return connection, planned
                await connection.close()
        try:
            connection = await AsyncConnection.connect(
                self.dsn, autocommit=True, prepare_threshold=1, connect_timeout=5, application_name="dmst-fhir"
            )
        except psycopg.Error as error:
            raise Unavailable("The database is out of reach; try again") from error
        try:
            tenant, timeout = f"set dmst.tenant = {self.tenant}", f"set statement_timeout = {self._timeout}"
            for statement in (*SESSION, tenant, timeout):
                await connection.execute(statement.encode())
            await connection.execute(TENANCY["become_the_role"])
        except BaseException:  # a cancelled task too must not leave it open
            await connection.close()
            raise
        return connection, "custom"

    async def _give_back(self, connection: Connection, plans: Plans) -> None:
        if connection.closed or connection.broken:
            return
        if connection.info.transaction_status != psycopg.pq.TransactionStatus.IDLE:
            await connection.close()  # left in the middle of something (a cancelled task): never lend it again
            return
        self._idle[plans].append(connection)


class Lent(Database):
    """One transaction as a database of its own: who asks through it sees what was written in it so far."""

    keeps_moments = False

    def __init__(self, connection: Connection) -> None:
        super().__init__("", connections=1, statement_timeout_ms=0)
        self._lent = connection

    @contextlib.asynccontextmanager
    async def connection(self, plans: Plans = "custom") -> AsyncGenerator[Connection]:
        """The connection of the transaction, however often it is asked for."""
        try:
            await self._lent.execute(SWITCHES[plans].replace(b"set ", b"set local "))
            yield self._lent
        except psycopg.Error as error:
            failure = translate(error)
            if failure is error:
                raise
            raise failure from error

    @contextlib.asynccontextmanager
    async def moment(self, seen: str | None = None) -> AsyncGenerator[Connection]:
        """The same: it sees what it wrote, and what others had committed when it asks."""
        async with self.connection() as connection:
            yield connection


def migrations() -> Iterable[tuple[int, str, str]]:
    """(number, name, SQL) of every migration, in order."""
    folder = resources.files("fhir_server.store.migrations")
    for file in sorted(folder.iterdir(), key=lambda entry: entry.name):
        if file.name.endswith(".sql"):
            number, _, name = file.name.removesuffix(".sql").partition("_")
            yield int(number), name, file.read_text(encoding="utf-8")


async def migrate(dsn: str) -> list[str]:
    """Bring the schema to the newest version, each step in its own transaction; returns the names applied.

    Safe to call from several processes at once. Raises Unavailable when PostgreSQL is out of reach, and
    RuntimeError when a migration that was applied has been edited since.
    """
    applied: list[str] = []
    try:
        connection = await AsyncConnection.connect(dsn, autocommit=True)
    except psycopg.Error as error:
        raise Unavailable("The database is out of reach; try again") from error
    async with connection:
        await connection.execute("select pg_advisory_lock(hashtext('dmst-fhir migrations'))")
        await connection.execute("set dmst.tenant = 0")  # what a migration may have to touch is said by itself
        await connection.execute(
            "create table if not exists schema_migration ("
            " number integer primary key, name text not null, sha256 text not null,"
            " applied timestamptz not null default now())"
        )
        rows = await (await connection.execute("select number, sha256 from schema_migration")).fetchall()
        known: dict[int, str] = dict(rows)
        steps = list(migrations())
        for number, name, text in steps:
            digest = hashlib.sha256(text.encode()).hexdigest()
            if number in known:
                if known[number] != digest:
                    raise RuntimeError(f"Migration {number:04}_{name}.sql was edited after it was applied")
                continue
            async with connection.transaction():
                await connection.execute(sql.SQL(text))  # pyright: ignore[reportArgumentType] - our own file
                await connection.execute(
                    "insert into schema_migration (number, name, sha256) values (%s, %s, %s)", (number, name, digest)
                )
                if number == steps[-1][0]:  # not after it: a process that dies here does not come by again
                    await connection.execute(STATISTICS["analyze_owned"])
            applied.append(f"{number:04}_{name}")
        jobs = await (await connection.execute("select to_regclass('procrastinate_jobs')")).fetchone()
        if jobs and jobs[0] is None:
            async with connection.transaction():
                await connection.execute(sql.SQL(SchemaManager.get_schema()))
            applied.append("jobs")
        await connection.execute(TENANCY["prepare"])
    return applied
