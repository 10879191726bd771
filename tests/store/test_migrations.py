"""Migrations: forward only, each once, and safe to start from several processes."""

import asyncio

import psycopg
import pytest

from fhir_server.outcomes import Unavailable
from fhir_server.store.database import migrate, migrations

EVERY_STEP = [f"{number:04}_{name}" for number, name, _ in migrations()] + ["jobs"]


def test_migrations_are_numbered_without_gaps() -> None:
    """1, 2, 3: no number is given twice."""
    numbers = [number for number, _, _ in migrations()]
    assert numbers == list(range(1, len(numbers) + 1))


async def test_an_empty_database_gets_every_step(empty_dsn: str) -> None:
    """From nothing to the newest schema, jobs included."""
    assert await migrate(empty_dsn) == EVERY_STEP
    with psycopg.connect(empty_dsn) as connection:
        names = {row[0] for row in connection.execute("select tablename from pg_tables where schemaname = 'public'")}
    assert {
        "resource",
        "resource_history",
        "token",
        "period",
        "word",
        "access",
        "delivery",
        "procrastinate_jobs",
    } <= names


async def test_a_second_time_does_nothing(database_dsn: str) -> None:
    """What was applied is not applied again."""
    assert await migrate(database_dsn) == []


async def test_several_processes_may_start_at_once(empty_dsn: str) -> None:
    """One of them migrates, the others find it done."""
    results = await asyncio.gather(*(migrate(empty_dsn) for _ in range(4)))
    assert sorted(results) == [[], [], [], EVERY_STEP]


async def test_a_migration_edited_after_it_was_applied_is_refused(database_dsn: str) -> None:
    """A schema that no file describes any more must not be built upon."""
    with psycopg.connect(database_dsn, autocommit=True) as connection:
        connection.execute("update schema_migration set sha256 = repeat('0', 64) where number = 1")
    with pytest.raises(RuntimeError, match=r"0001_first\.sql was edited"):
        await migrate(database_dsn)


async def test_no_server_is_unavailable(tmp_path: object) -> None:
    """In our words, not psycopg's."""
    with pytest.raises(Unavailable):
        await migrate(f"host={tmp_path} port=1 dbname=none")


async def test_documents_are_compressed_with_lz4_or_not_at_all(database_dsn: str) -> None:
    """pglz costs more time than the room is worth."""
    with psycopg.connect(database_dsn) as connection:
        row = connection.execute(
            "select attcompression, attstorage from pg_attribute"
            " where attrelid = 'resource'::regclass and attname = 'doc'"
        ).fetchone()
    assert row is not None
    compression, storage = row
    assert compression in ("l", b"l") or storage in ("e", b"e")
