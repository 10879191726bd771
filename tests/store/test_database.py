"""The store's connections: lent one by one, never returned half used, and failures in our own words."""

import asyncio

import psycopg
import pytest
from psycopg import errors
from psycopg.conninfo import conninfo_to_dict

from fhir_server.app import Parts
from fhir_server.outcomes import StorageFull, Unavailable
from fhir_server.store.database import SWITCHES, Connection, Database, Lent, Plans, noticing, translate


async def number(database: Database) -> int:
    async with database.connection() as connection:
        row = await (await connection.execute("select 7")).fetchone()
    assert row
    return row[0]


async def test_a_supported_postgresql_opens(database: Database) -> None:
    """15 and 18 are new enough."""
    await database.open()
    assert await number(database) == 7


async def test_many_callers_share_few_connections(database_dsn: str) -> None:
    """Two connections serve forty callers."""
    database = Database(database_dsn, connections=2, statement_timeout_ms=5_000)
    assert await asyncio.gather(*(number(database) for _ in range(40))) == [7] * 40
    async with database.connection() as connection:
        cursor = await connection.execute(
            "select count(*) from pg_stat_activity"
            " where datname = current_database() and application_name = 'dmst-fhir'"
        )
        assert await cursor.fetchone() == (2,)
    await database.close()


async def test_a_query_that_takes_too_long_is_unavailable(database_dsn: str) -> None:
    """The caller is told in our words, and the connection is good for the next one."""
    database = Database(database_dsn, connections=1, statement_timeout_ms=100)
    with pytest.raises(Unavailable):
        async with database.connection() as connection:
            await connection.execute("select pg_sleep(5)")
    assert await number(database) == 7
    await database.close()


async def test_a_failed_transaction_leaves_nothing(database: Database) -> None:
    """All or nothing."""

    async def fails() -> None:
        async with database.transaction() as connection:
            await connection.execute("insert into server_key values ('x', 'k')")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await fails()
    async with database.connection() as connection:
        cursor = await connection.execute("select count(*) from server_key")
        assert await cursor.fetchone() == (0,)


async def test_a_cancelled_caller_does_not_leave_his_transaction_to_the_next(database_dsn: str) -> None:
    """A connection left in the middle of something is closed, not lent again."""
    database = Database(database_dsn, connections=1, statement_timeout_ms=5_000)

    async def interrupted() -> None:
        async with database.transaction() as connection:
            await connection.execute("insert into server_key values ('x', 'k')")
            await connection.execute("select pg_sleep(3)")

    task = asyncio.create_task(interrupted())
    await asyncio.sleep(0.15)
    task.cancel()
    with pytest.raises((asyncio.CancelledError, Unavailable)):
        await task
    async with database.connection() as connection:
        cursor = await connection.execute("select count(*) from server_key")
        assert await cursor.fetchone() == (0,)
    await database.close()


async def test_a_connection_that_the_server_ended_is_replaced(database_dsn: str) -> None:
    """After a restart of PostgreSQL one caller may fail; those after him do not."""
    database = Database(database_dsn, connections=1, statement_timeout_ms=5_000)
    with pytest.raises(Unavailable):
        async with database.connection() as connection:
            await end(connection)
    assert await number(database) == 7
    await database.close()


async def end(connection: Connection) -> None:
    """As an operator may: the role of the server may not end its own session."""
    await connection.execute("reset role")
    await connection.execute("select pg_terminate_backend(pg_backend_pid())")


async def test_connections_that_the_server_ended_while_they_rested_are_replaced(database_dsn: str) -> None:
    """Nobody fails: they are not lent."""
    database = Database(database_dsn, connections=3, statement_timeout_ms=5_000)
    assert await asyncio.gather(*(number(database) for _ in range(3))) == [7] * 3
    async with await psycopg.AsyncConnection.connect(database_dsn, autocommit=True) as other:
        await other.execute(
            "select pg_terminate_backend(pid, 1000) from pg_stat_activity"
            " where datname = current_database() and application_name = 'dmst-fhir'"
        )
    assert await asyncio.gather(*(number(database) for _ in range(3))) == [7] * 3
    await database.close()


PLANNING = ("plan_cache_mode", "enable_hashjoin", "enable_mergejoin", "enable_seqscan")
AS_WANTED: dict[Plans, list[str]] = {
    "custom": ["force_custom_plan", "on", "on", "on"],
    "generic": ["force_generic_plan", "off", "off", "off"],
}


async def planning(connection: Connection) -> list[str]:
    return [(await (await connection.execute(f"show {name}".encode())).fetchall())[0][0] for name in PLANNING]


async def test_each_caller_gets_the_plans_that_he_asks_for(database_dsn: str) -> None:
    """Over one connection, again and again: what switches them is several statements, which nothing can prepare."""
    database = Database(database_dsn, connections=1, statement_timeout_ms=5_000)
    for _ in range(4):
        for plans, wanted in AS_WANTED.items():
            async with database.connection(plans) as connection:
                assert await planning(connection) == wanted
    async with database.transaction() as connection:
        lent = Lent(connection)
        for _ in range(4):
            for plans, wanted in AS_WANTED.items():
                async with lent.connection(plans):
                    assert await planning(connection) == wanted
    async with database.connection("generic") as connection:
        assert await planning(connection) == AS_WANTED["generic"], "what was set for the transaction ends with it"
    await database.close()


async def test_a_caller_cancelled_while_plans_are_switched_leaves_none_that_are_wrong(
    database_dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The connection is closed, not kept under the wrong name."""
    database = Database(database_dsn, connections=1, statement_timeout_ms=5_000)
    with monkeypatch.context() as slow:
        slow.setitem(SWITCHES, "generic", SWITCHES["generic"] + b"; select pg_sleep(3)")

        async def interrupted() -> None:
            async with database.connection("generic"):
                pytest.fail("the switch was not waited for")

        task = asyncio.create_task(interrupted())
        await asyncio.sleep(0.3)
        task.cancel()
        with pytest.raises((asyncio.CancelledError, Unavailable)):
            await task
    async with database.connection("generic") as connection:
        assert await planning(connection) == AS_WANTED["generic"]
    await database.close()


@pytest.mark.parametrize("given", ["host=db.example.org dbname=dmst", "postgresql://db.example.org/dmst"])
def test_a_server_that_vanishes_is_noticed(given: str) -> None:
    """Without a packet from it: the kernel would wait for a quarter of an hour."""
    said = conninfo_to_dict(noticing(given))
    assert (said["host"], said["dbname"]) == ("db.example.org", "dmst")
    unsent, idle, interval, times = (
        int(str(said[name]))
        for name in ("tcp_user_timeout", "keepalives_idle", "keepalives_interval", "keepalives_count")
    )
    assert 0 < unsent <= 30_000
    assert idle + interval * times <= 30


def test_the_operator_says_how_soon() -> None:
    """What stands in the connection string is kept."""
    assert conninfo_to_dict(noticing("host=db tcp_user_timeout=1000"))["tcp_user_timeout"] == "1000"
    with pytest.raises(Unavailable):
        noticing("neither of them")


async def test_every_connection_of_a_service_notices(parts: Parts) -> None:
    """The store and its jobs."""
    async with parts.database.connection() as connection:
        assert "tcp_user_timeout" in connection.info.get_parameters()
    assert "tcp_user_timeout" in conninfo_to_dict(parts.postgres)


async def test_a_server_that_is_not_there_is_unavailable(tmp_path: object) -> None:
    """Nobody listens on that socket."""
    database = Database(f"host={tmp_path} port=1 dbname=none", connections=1, statement_timeout_ms=1_000)
    with pytest.raises(Unavailable):
        await database.open()


def test_a_full_disk_and_a_lost_connection_are_ours_and_a_deadlock_is_not() -> None:
    """Ordinary life is translated, bugs and what the writer handles itself pass."""
    assert isinstance(translate(errors.DiskFull()), StorageFull)
    assert isinstance(translate(psycopg.OperationalError()), Unavailable)
    assert isinstance(translate(errors.AdminShutdown()), Unavailable)
    deadlock, bug = errors.DeadlockDetected(), errors.UndefinedTable()
    assert translate(deadlock) is deadlock
    assert translate(bug) is bug
