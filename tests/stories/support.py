"""What the stories say often: deliver a lot, let the outbox run dry, ask the server."""

import tomllib
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx

from fhir_server.app import Parts, build, make_adapters, make_dispatcher, make_service
from fhir_server.rest.authentication import Authentication
from fhir_server.rest.edge import Edge
from fhir_server.rest.page_links import PageLinks
from fhir_server.scans.builder import build as build_lot
from fhir_server.scans.seal import DemoAuthority
from fhir_server.settings import Settings

SAMPLES = Path(__file__).parents[2] / "samples"
DESCRIPTION: dict[str, Any] = tomllib.loads((SAMPLES / "lot.toml").read_text(encoding="utf-8"))
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
async def asking(parts: Parts) -> AsyncGenerator[httpx.AsyncClient]:
    """A client of the FHIR server with every right to read and search."""
    service = make_service(parts, PageLinks(await parts.clients.key("page-links")))
    edge = Edge(service, Authentication(parts.clients))
    client_id, _ = await parts.clients.add("reader", ("system/*.cruds",), "external-system")
    token, _ = await parts.clients.give_token(client_id, ("system/*.cruds",), 15)
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(edge),
        base_url="http://test",
        headers={"authorization": f"Bearer {token}"},
    ) as client:
        yield client
