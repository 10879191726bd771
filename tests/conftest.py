"""What the tests of the core share: two PostgreSQL, one Valkey, a fresh database and a served application per test.

The servers are started once per session in folders of their own and listen on Unix sockets only: no other
server of the machine is touched.
"""

import contextlib
import itertools
import os
import pwd
import shutil
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Generator, Iterator, Sequence
from pathlib import Path

import httpx
import psycopg
import pytest
from psycopg import sql

from fhir_server import app as application
from fhir_server import embedded
from fhir_server.app import Parts
from fhir_server.r4.search_parameters import REGISTRY
from fhir_server.settings import Settings
from fhir_server.store.database import Database, migrate
from tests.support import EVERYTHING, PIN, ROLE, Caller, Server, run_aside, serving, settings_of

SOFTHSM = Path("/usr/lib/softhsm/libsofthsm2.so")
SYSTEM_POSTGRES = Path("/usr/lib/postgresql/15/bin")
TEMPLATE = "migrated"
# Nothing here has to outlive a power cut, and a flush of the disk is what a test spends most of its time in.
FORGETFUL = {"fsync": "off", "full_page_writes": "off", "synchronous_commit": "off"}

_numbers = itertools.count(1)


@pytest.fixture(autouse=True)
def forgotten() -> Iterator[None]:
    """The registry of added search parameters is that of the process: no test leaves something in it."""
    yield
    REGISTRY.use(())


@pytest.fixture(scope="session")
def folder() -> Iterator[Path]:
    """A folder for the session that the operating-system users of the servers may enter; in memory where possible.

    A new database took 30 ms in memory and 350 ms on the disk of a busy machine.
    """
    memory = Path("/dev/shm")
    path = Path(tempfile.mkdtemp(prefix="dmst-fhir-tests-", dir=memory if os.access(memory, os.W_OK) else None))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture(scope="session", autouse=True)
def bytecode(folder: Path) -> None:
    """The processes that tests start share their bytecode where the environment says to write none: 1 s against 3 s."""
    if sys.dont_write_bytecode:
        os.environ["PYTHONDONTWRITEBYTECODE"] = ""
        os.environ["PYTHONPYCACHEPREFIX"] = str(folder / "bytecode")


@pytest.fixture(scope="session")
def servers(folder: Path) -> Iterator[embedded.Servers]:
    """The embedded PostgreSQL 18 and Valkey."""
    with embedded.running(folder / "embedded") as running:
        with psycopg.connect(running.postgres, autocommit=True) as connection:
            for name, value in FORGETFUL.items():
                connection.execute(sql.SQL("alter system set {} = {}").format(sql.Identifier(name), sql.Literal(value)))
            connection.execute("select pg_reload_conf()")
        yield running


@pytest.fixture(scope="session")
def redis_url(servers: embedded.Servers) -> str:
    return servers.redis


@pytest.fixture(scope="session")
def embedded_cluster(servers: embedded.Servers) -> str:
    """The connection string of the maintenance database of the embedded PostgreSQL."""
    return servers.postgres


@pytest.fixture(scope="session")
def system_cluster(folder: Path) -> Iterator[str]:
    """The same of a throw-away cluster of the PostgreSQL 15 that the system has; skips where it has none."""
    if not (SYSTEM_POSTGRES / "initdb").exists():
        pytest.skip("the system has no PostgreSQL 15")
    here = folder / "postgresql-15"
    here.mkdir()
    as_user: list[str] = []
    if os.getuid() == 0:  # PostgreSQL refuses root
        try:
            user = pwd.getpwnam("postgres")
        except KeyError:
            pytest.skip("root cannot run PostgreSQL 15 and there is no user postgres to run it as")
        os.chown(here, user.pw_uid, user.pw_gid)
        as_user = ["setpriv", f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups"]
    data, log = here / "data", here / "log"

    def run(program: str, *arguments: str) -> None:
        command = [*as_user, str(SYSTEM_POSTGRES / program), *arguments]
        subprocess.run(command, check=True, cwd=here, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    run("initdb", "-D", str(data), "-U", "postgres", "-A", "trust", "-E", "UTF8", "--no-sync")
    options = {**FORGETFUL, "listen_addresses": "", "unix_socket_directories": str(here), "max_connections": "60"}
    with (data / "postgresql.conf").open("a") as configuration:
        configuration.writelines(f"{name} = '{value}'\n" for name, value in options.items())
    run("pg_ctl", "-D", str(data), "-l", str(log), "-w", "start")
    try:
        yield f"host={here} port=5432 user=postgres dbname=postgres"
    finally:
        run("pg_ctl", "-D", str(data), "-m", "immediate", "-w", "stop")


@pytest.fixture(scope="session")
def prepared() -> set[str]:
    """The clusters in which the template database is there."""
    return set()


@pytest.fixture(scope="session")
def softhsm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A token of SoftHSM2 in a folder of its own; skips where the Debian package `softhsm2` is not."""
    pytest.importorskip("pkcs11", reason="the extra pkcs11 is not installed")
    if not SOFTHSM.exists() or not shutil.which("softhsm2-util"):
        pytest.skip("the system has no SoftHSM2 (Debian package softhsm2)")
    folder = tmp_path_factory.mktemp("softhsm")
    (folder / "tokens").mkdir()
    (folder / "softhsm2.conf").write_text(f"directories.tokendir = {folder / 'tokens'}\n")
    before = os.environ.get("SOFTHSM2_CONF")
    os.environ["SOFTHSM2_CONF"] = str(folder / "softhsm2.conf")
    command = ["softhsm2-util", "--init-token", "--free", "--label", "dmst", "--pin", PIN, "--so-pin", PIN]
    subprocess.run(command, check=True, capture_output=True)
    yield SOFTHSM
    os.environ.pop("SOFTHSM2_CONF")
    if before:
        os.environ["SOFTHSM2_CONF"] = before


@contextlib.contextmanager
def new_database(cluster: str, template: str = "template0") -> Generator[str]:
    """A database of its own in a cluster, dropped at the end whoever still holds it."""
    name = f"test_{next(_numbers)}"
    with psycopg.connect(cluster, autocommit=True) as connection:
        connection.execute(
            sql.SQL("create database {} template {} strategy file_copy").format(
                sql.Identifier(name), sql.Identifier(template)
            )
        )
    try:
        yield f"{cluster.rpartition(' ')[0]} dbname={name}"
    finally:
        with psycopg.connect(cluster, autocommit=True) as connection:
            connection.execute(sql.SQL("drop database {} with (force)").format(sql.Identifier(name)))


def migrated_database(cluster: str, prepared: set[str]) -> contextlib.AbstractContextManager[str]:
    """A copy of the template, which is migrated the first time that somebody wants it."""
    if cluster not in prepared:
        with psycopg.connect(cluster, autocommit=True) as connection:
            connection.execute(sql.SQL("create database {}").format(sql.Identifier(TEMPLATE)))
        run_aside(migrate(f"{cluster.rpartition(' ')[0]} dbname={TEMPLATE}"))
        prepared.add(cluster)
    return new_database(cluster, TEMPLATE)


@pytest.fixture(
    params=[
        pytest.param("embedded_cluster", id="postgresql-18-embedded"),
        pytest.param("system_cluster", id="postgresql-15-system", marks=pytest.mark.postgres15),
    ]
)
def cluster(request: pytest.FixtureRequest) -> str:
    """Each PostgreSQL that is supported."""
    return request.getfixturevalue(request.param)


@pytest.fixture
def empty_dsn(cluster: str) -> Iterator[str]:
    """An empty database on each PostgreSQL."""
    with new_database(cluster) as dsn:
        yield dsn


@pytest.fixture
def database_dsn(cluster: str, prepared: set[str]) -> Iterator[str]:
    """A migrated database on each PostgreSQL."""
    with migrated_database(cluster, prepared) as dsn:
        yield dsn


@pytest.fixture
def dsn(embedded_cluster: str, prepared: set[str]) -> Iterator[str]:
    """A migrated database on the embedded PostgreSQL."""
    with migrated_database(embedded_cluster, prepared) as dsn:
        yield dsn


@pytest.fixture
async def database(database_dsn: str) -> AsyncIterator[Database]:
    """The store's own view of `database_dsn`."""
    database = Database(database_dsn, connections=6, statement_timeout_ms=15_000)
    yield database
    await database.close()


@pytest.fixture
def make_settings(dsn: str, redis_url: str, tmp_path: Path) -> Callable[..., Settings]:
    """Settings for `dsn` and a data folder of the test, with whatever a test wants to be different."""

    def make(**changes: object) -> Settings:
        return settings_of(dsn, redis_url, tmp_path / "data", **changes)

    return make


@pytest.fixture
def settings(make_settings: Callable[..., Settings]) -> Settings:
    """What `parts` and `server` run with; a test module that wants others overrides this fixture."""
    return make_settings()


@pytest.fixture
async def parts(settings: Settings) -> AsyncIterator[Parts]:
    """Everything that the composition root builds."""
    async with application.build(settings) as parts:
        yield parts


@pytest.fixture
async def server(settings: Settings) -> AsyncIterator[Server]:
    """The whole ASGI application, served, with a way to make clients of it."""
    async with serving(settings) as server:
        yield server


@pytest.fixture
def client_with(server: Server) -> Callable[..., Awaitable[Caller]]:
    """`await client_with("system/Patient.rs")`: an HTTP client whose token has these scopes."""

    async def make(*scopes: str, name: str = "Logiciel de test", role: str = ROLE) -> Caller:
        return await server.client(scopes, name=name, role=role)

    return make


@pytest.fixture
async def fhir_client(server: Server) -> httpx.AsyncClient:
    """A client that may do everything; paths are `/fhir/...`."""
    return (await server.client(EVERYTHING)).http


@pytest.fixture
async def anonymous(server: Server) -> httpx.AsyncClient:
    """Somebody without a token."""
    return await server.http({})


def pytest_collection_modifyitems(items: Sequence[pytest.Item]) -> None:
    """Tests on PostgreSQL 15 last, so that its cluster lives only as long as it is used."""
    assert isinstance(items, list)
    items.sort(key=lambda item: item.get_closest_marker("postgres15") is not None)
