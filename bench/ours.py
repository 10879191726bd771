"""This server as its users run it: `dmst-fhir serve` on the embedded PostgreSQL and Valkey of a data folder."""

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import AsyncGenerator, Generator, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import psycopg

from fhir_server.app import Parts

START_SECONDS = 60


@contextmanager
def data_folder(given: Path | None) -> Generator[Path]:
    """The folder that is named, or one that is gone afterwards."""
    if given:
        given.mkdir(parents=True, exist_ok=True)
        yield given
        return
    with tempfile.TemporaryDirectory(prefix="dmst-bench-", ignore_cleanup_errors=True) as folder:
        Path(folder).chmod(0o755)  # as root the embedded PostgreSQL runs as another user
        yield Path(folder)


@asynccontextmanager
async def token(parts: Parts, scopes: Sequence[str]) -> AsyncGenerator[str]:
    """A token that lives as long as the bench, at most an hour."""
    client_id, _ = await parts.clients.add("bench", scopes, "external-system")
    given, _ = await parts.clients.give_token(client_id, scopes, 60)
    yield given
    await parts.clients.disable(client_id)


@contextmanager
def serving(data: Path, profile: Path | None = None) -> Generator[tuple[int, int, float]]:
    """`dmst-fhir serve`: its port, its process and the seconds until /readyz was 200.

    With `profile` it runs under `bench.sampler`, which writes there.
    """
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    # As installed: with bytecode, which some environments forbid to write beside the sources.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    program = ("bench.sampler", str(profile)) if profile else ("fhir_server",)
    began = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-m", *program, "serve", "--data", str(data), "--port", str(port)],
        env={**environment, "PYTHONPYCACHEPREFIX": str(data / "bytecode")},
    )
    try:
        while not _is_ready(port):
            if process.poll() is not None or time.perf_counter() - began > START_SECONDS:
                raise RuntimeError("the server did not start")
            time.sleep(0.01)
        yield port, process.pid, time.perf_counter() - began
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=30)


def start_once(data: Path) -> float:
    """The seconds that one start takes."""
    with serving(data) as (_, _, seconds):
        return round(seconds, 2)


def _is_ready(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=2) as answer:
            return answer.status == 200
    except OSError:
        return False


def as_owner(dsn: str) -> psycopg.Connection[Any]:
    """A connection that may what the role of the server may not: COPY, VACUUM, DDL; of the first tenant."""
    return psycopg.connect(dsn, autocommit=True, options="-c dmst.tenant=0")
