"""Health: `/livez` (this process turns) and `/readyz` (it can do its work, and is not about to stop)."""

import asyncio

from fastapi import APIRouter
from fastapi.responses import JSONResponse

from fhir_server.outcomes import Failure
from fhir_server.ports import BlobStore
from fhir_server.rest.watch import Watch
from fhir_server.store.database import Database
from fhir_server.store.transient import Transient

PATIENCE = 3.0


def health_routes(database: Database, transient: Transient, blobs: BlobStore, watch: Watch) -> APIRouter:
    router = APIRouter()

    @router.get("/livez")
    async def livez() -> dict[str, str]:
        return {"status": "ok"}

    @router.get("/readyz")
    async def readyz() -> JSONResponse:
        """503 while it stops, and when PostgreSQL or the blob store is out of reach; the loss of Redis is borne."""
        if watch.draining:
            return JSONResponse({"status": "stopping"}, status_code=503)
        parts = {
            "postgres": await _answers(database),
            "blobs": await blobs.answers(),
            "redis": await transient.answers(),
        }
        ready = parts["postgres"] and parts["blobs"]
        shown = {name: "ok" if good else "out of reach" for name, good in parts.items()}
        return JSONResponse({"status": "ok" if ready else "not ready", **shown}, status_code=200 if ready else 503)

    return router


async def _answers(database: Database) -> bool:
    try:
        async with asyncio.timeout(PATIENCE), database.connection() as connection:
            await connection.execute("select 1")
    except (Failure, TimeoutError):
        return False
    return True
