"""Tenants in one database: what PostgreSQL itself refuses, whatever a query forgets (docs/adr/0009)."""

from collections.abc import Iterator

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from fhir_server.outcomes import Unavailable
from fhir_server.store.clients import Clients
from fhir_server.store.database import Database, migrate

OF_NO_TENANT = {"schema_migration"}
JOBS = "procrastinate"
"""Tables of the job library: they hold ids, and each tenant has queues of its own."""


def test_every_table_has_a_policy_and_every_key_the_tenant(database_dsn: str) -> None:
    """A table that a later migration forgets is found here."""
    with psycopg.connect(database_dsn) as connection:
        tables = connection.execute(
            "select relname, relrowsecurity and relforcerowsecurity"
            " and exists (select from pg_policy where polrelid = c.oid)"
            " from pg_class c where relkind in ('r', 'p') and relnamespace = 'public'::regnamespace"
        ).fetchall()
        keys = connection.execute(
            "select i.indrelid::regclass::text, a.attname from pg_index i"
            " join pg_attribute a on a.attrelid = i.indrelid and a.attnum = i.indkey[0]"
            " join pg_class c on c.oid = i.indrelid"
            " where i.indisunique and c.relnamespace = 'public'::regnamespace"
        ).fetchall()
    held = {name for name, policy in tables if policy}
    assert {name for name, _ in tables if not name.startswith(JOBS)} - held == OF_NO_TENANT
    assert len(held) > 25
    assert {(name, column) for name, column in keys if name in held} == {
        (name, "tenant") for name, _ in keys if name in held
    }


async def test_a_session_without_a_tenant_gets_nothing(database_dsn: str) -> None:
    """Neither rows nor a place to write one."""
    with psycopg.connect(database_dsn, autocommit=True) as connection:
        connection.execute("set role dmst_app")
        for statement in ("select * from server_key", "insert into server_key (purpose, key) values ('x', '')"):
            with pytest.raises(psycopg.errors.UndefinedObject, match=r"dmst\.tenant"):
                connection.execute(statement)


async def test_a_tenant_neither_sees_nor_writes_the_rows_of_another(database_dsn: str) -> None:
    """Read, changed, deleted, or written in the name of another."""
    mine, other = (Database(database_dsn, connections=1, statement_timeout_ms=5_000, tenant=one) for one in (1, 2))
    key = await Clients(mine).key("page-links")
    assert await Clients(other).key("page-links") != key, "the same key for both would be the name of one row"
    async with other.connection() as connection:
        assert (await connection.execute("delete from server_key where key = %s", (key,))).rowcount == 0
        assert (await connection.execute("update server_key set key = ''")).rowcount == 1
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            await connection.execute("insert into server_key (tenant, purpose, key) values (1, 'mine', '')")
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            await connection.execute("update server_key set tenant = 1")
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            await connection.execute("truncate server_key")
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            await connection.execute("alter table server_key disable row level security")
    assert await Clients(mine).key("page-links") == key
    await mine.close()
    await other.close()


@pytest.fixture
def plain_role(empty_dsn: str) -> Iterator[str]:
    """A role that may log in and owns a database, as a hosting service gives it."""
    name = conninfo_to_dict(empty_dsn)["dbname"]
    role = f"owner_of_{name}"
    with psycopg.connect(empty_dsn, autocommit=True) as connection:
        connection.execute(sql.SQL("create role {} login").format(sql.Identifier(role)))
        connection.execute(
            sql.SQL("alter database {} owner to {}").format(sql.Identifier(str(name)), sql.Identifier(role))
        )
        connection.execute(sql.SQL("alter schema public owner to {}").format(sql.Identifier(role)))
    yield role
    with psycopg.connect(empty_dsn, autocommit=True) as connection:
        connection.execute(sql.SQL("reassign owned by {} to postgres").format(sql.Identifier(role)))
        connection.execute(sql.SQL("drop owned by {}").format(sql.Identifier(role)))
        connection.execute(sql.SQL("drop role {}").format(sql.Identifier(role)))


async def test_policies_hold_an_owner_who_is_no_superuser(empty_dsn: str, plain_role: str) -> None:
    """He cannot make roles, and need not."""
    dsn = make_conninfo(empty_dsn, user=plain_role)
    await migrate(dsn)
    mine, other = (Database(dsn, connections=1, statement_timeout_ms=5_000, tenant=one) for one in (1, 2))
    await mine.open()
    assert await Clients(mine).key("page-links") != await Clients(other).key("page-links")
    await mine.close()
    await other.close()


async def test_a_role_that_bypasses_policies_is_refused(empty_dsn: str, plain_role: str) -> None:
    """The server does not start, and says why."""
    with psycopg.connect(empty_dsn, autocommit=True) as connection:
        connection.execute(sql.SQL("alter role {} bypassrls").format(sql.Identifier(plain_role)))
    database = Database(make_conninfo(empty_dsn, user=plain_role), connections=1, statement_timeout_ms=5_000)
    with pytest.raises(Unavailable, match="bypasses row-level security"):
        await database.open()
    await database.close()
