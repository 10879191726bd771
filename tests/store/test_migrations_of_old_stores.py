"""A store of before the tenants is brought up to date with everything that is in it."""

import hashlib

import psycopg
import pytest

from fhir_server.store.database import migrate, migrations

ROWS = 3000


@pytest.fixture
def old_dsn(empty_dsn: str) -> str:
    """A store of the version before tenants, with resources and tokens that are analysed."""
    with psycopg.connect(empty_dsn, autocommit=True) as connection:
        connection.execute(
            "create table schema_migration (number integer primary key, name text not null, sha256 text not null,"
            " applied timestamptz not null default now())"
        )
        for number, name, text in migrations():
            if number < 9:
                connection.execute(text.encode())
                digest = hashlib.sha256(text.encode()).hexdigest()
                connection.execute("insert into schema_migration values (%s, %s, %s)", (number, name, digest))
        connection.execute(
            b"insert into resource (rid, type, id, version, updated, deleted, doc, own_hash)"
            b" select n, 1, n::text, 1, now(), false, '{}', n from generate_series(1, %s) n",
            (ROWS,),
        )
        connection.execute(b"insert into token (h, rid) select n, n from generate_series(1, %s) n", (ROWS,))
        connection.execute("analyze")
    return empty_dsn


async def test_the_planner_knows_the_tenant_of_every_row(old_dsn: str) -> None:
    """Else it takes a tenant for a two-hundredth of a table, and a search of an upgraded store times out."""
    assert (await migrate(old_dsn))[0] == "0009_tenants"
    with psycopg.connect(old_dsn) as connection:
        known = connection.execute(
            "select tablename, n_distinct from pg_stats where attname = 'tenant' and tablename in ('resource', 'token')"
            " order by tablename"
        ).fetchall()
    assert known == [("resource", 1.0), ("token", 1.0)]
