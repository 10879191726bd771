"""What the stories say often: deliver a lot, let the outbox run dry, ask the server."""

import asyncio
import os
import signal
import subprocess
import sys
import time
import tomllib
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
from pydantic import SecretStr
from typer.testing import CliRunner, Result

from fhir_server.__main__ import app as command
from fhir_server.app import Parts, build, make_adapters, make_dispatcher, make_service
from fhir_server.rest.authentication import Authentication
from fhir_server.rest.edge import Edge
from fhir_server.rest.page_links import PageLinks
from fhir_server.scans.builder import build as build_lot
from fhir_server.scans.seal import DemoAuthority
from fhir_server.settings import Settings

SAMPLES = Path(__file__).parents[2] / "samples"
DESCRIPTION: dict[str, Any] = tomllib.loads((SAMPLES / "lot.toml").read_text(encoding="utf-8"))
PATIENCE = 60.0
CERTAIN = ("100000101", "100000102", "100000103")


@dataclass
class Provider:
    """The scanning provider: makes lots of chosen folders of the samples, sealed unless told otherwise."""

    authority: DemoAuthority
    folder: Path
    number: int = 0

    def lot(
        self,
        *barcodes: str,
        change: Callable[[dict[str, Any]], None] | None = None,
        source: Path = SAMPLES,
        sealed: bool = True,
        name: str | None = None,
    ) -> Path:
        """A lot with these folders of samples/lot.toml (all of them when none is named)."""
        self.number += 1
        wanted = [f for f in DESCRIPTION["folder"] if not barcodes or f["barcode"] in barcodes]
        description = {**DESCRIPTION, "folder": [dict(folder) for folder in wanted]}
        if change:
            change(description)
        return build_lot(
            description,
            source,
            self.folder,
            lot=name or f"LOT_20261015_C07_{self.number:04}",
            at=datetime.now(UTC),
            seal=self.authority if sealed else None,
        )


@asynccontextmanager
async def running_service(settings: Settings) -> AsyncGenerator[Parts]:
    """The parts of the service, with the register of fictitious workers in it."""
    async with build(settings) as parts:
        await parts.register.import_csv((SAMPLES / "workers.csv").read_bytes())
        yield parts


async def dispatch_all(parts: Parts, **more: Any) -> None:
    """Give every delivery that waits its attempts, without a worker process; `more` replaces adapters by name."""
    adapters = {**make_adapters(parts.recipients, parts.settings.data), **more}
    dispatcher = make_dispatcher(parts, adapters)
    try:
        for _ in range(20):
            async with parts.database.connection() as connection:
                cursor = await connection.execute(
                    b"select delivery_id::text from delivery where state in ('pending', 'sending')"
                )
                rows = await cursor.fetchall()
            for (delivery_id,) in rows:
                await dispatcher.dispatch(delivery_id)
            if not rows:
                return
    finally:
        for adapter in adapters.values():
            await adapter.close()


async def count(parts: Parts, what: str) -> int:
    """How many rows a query of the form `table where ...` finds."""
    async with parts.database.connection() as connection:
        row = await (await connection.execute(f"select count(*) from {what}".encode())).fetchone()
        assert row
        return int(row[0])


@asynccontextmanager
async def asking(parts: Parts, role: str = "external-system") -> AsyncGenerator[httpx.AsyncClient]:
    """A client of the FHIR server with every scope, in a role."""
    service = make_service(parts, PageLinks(await parts.clients.key("page-links")))
    edge = Edge(service, Authentication(parts.clients))
    client_id, _ = await parts.clients.add("reader", ("system/*.cruds",), role)
    token, _ = await parts.clients.give_token(client_id, ("system/*.cruds",), 15)
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(edge),
        base_url="http://test",
        headers={"authorization": f"Bearer {token}"},
    ) as client:
        yield client


def environment(settings: Settings) -> dict[str, str]:
    """The settings as the environment of a process of its own."""
    given = {
        name: value.get_secret_value() if isinstance(value, SecretStr) else str(value)
        for name, value in settings.model_dump(exclude_defaults=True).items()
    }
    return os.environ | {f"DMST_FHIR_{name.upper()}": value for name, value in given.items()}


def dmst_fhir(settings: Settings, *words: str) -> Result:
    """The command in this process, as a test in a thread (`asyncio.to_thread`) runs it: it has a loop of its own.

    What a process of its own adds is the start of Python and the import of everything, a second or three.
    """
    return CliRunner(env=environment(settings)).invoke(command, list(words))


@contextmanager
def process(settings: Settings, *words: str) -> Iterator[subprocess.Popen[bytes]]:
    """`dmst-fhir ...` as a process; it is killed at the end if it still runs."""
    log = settings.data / f"{words[0]}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as output:
        running = subprocess.Popen(
            [sys.executable, "-m", "fhir_server", *words], env=environment(settings), stdout=output, stderr=output
        )
    try:
        yield running
    finally:
        running.kill()
        running.wait()


async def until(true: Callable[[], Any], what: str) -> None:
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        answer = true()
        if asyncio.iscoroutine(answer):
            answer = await answer
        if answer:
            return
        await asyncio.sleep(0.02)
    pytest.fail(f"waited in vain: {what}")


def kill(running: subprocess.Popen[bytes]) -> None:
    running.send_signal(signal.SIGKILL)
    running.wait()
