"""What tests of bulk data say often: kick off, let the worker work, read what came out."""

from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import httpx
import orjson

from fhir_server import app as application
from fhir_server.app import Parts
from tests.support import Server

ASYNC = {"prefer": "respond-async", "accept": "application/fhir+json"}
NDJSON = {**ASYNC, "content-type": "application/fhir+ndjson"}


@dataclass(frozen=True, slots=True)
class Done:
    """A job that is over: the answer to the last question for its status."""

    url: str
    status: httpx.Response

    @property
    def manifest(self) -> dict[str, Any]:
        assert self.status.status_code == 200, self.status.text
        return self.status.json()


@asynccontextmanager
async def worker(server: Server) -> AsyncGenerator[Parts]:
    """The parts of a worker beside a server."""
    async with application.build(server.settings) as parts:
        yield parts


async def work(server: Server) -> None:
    """Every job that waits is worked on, as the worker process does."""
    async with worker(server) as parts:
        for (job_id,) in await server.rows("select job_id from bulk_job where state in ('accepted', 'running')"):
            await parts.bulk.run(job_id)


async def kick_off(client: httpx.AsyncClient, path: str, **more: Any) -> str:
    """Ask for a job; where its status is."""
    method = "POST" if "json" in more or "content" in more else "GET"
    response = await client.request(method, f"/fhir/{path}", headers=more.pop("headers", ASYNC), **more)
    assert response.status_code == 202, response.text
    return response.headers["content-location"]


async def export(server: Server, client: httpx.AsyncClient, path: str = "$export", **more: Any) -> Done:
    """Ask for an export and let it be worked on."""
    url = await kick_off(client, path, **more)
    await work(server)
    return Done(url, await client.get(url))


async def lines(client: httpx.AsyncClient, url: str) -> list[dict[str, Any]]:
    """The resources of a file."""
    response = await client.get(url)
    assert response.status_code == 200, response.text
    assert response.headers["content-type"] == "application/fhir+ndjson"
    return [orjson.loads(line) for line in response.content.splitlines()]


async def exported(client: httpx.AsyncClient, done: Done) -> list[str]:
    """`Type/id` of everything in the output, sorted; the counts of the manifest are right."""
    found: list[str] = []
    for file in done.manifest["output"]:
        resources = await lines(client, file["url"])
        assert len(resources) == file["count"]
        assert {resource["resourceType"] for resource in resources} == {file["type"]}
        found += [f"{resource['resourceType']}/{resource['id']}" for resource in resources]
    return sorted(found)


def ndjson(resources: Sequence[dict[str, Any]]) -> bytes:
    return b"\n".join(orjson.dumps(resource) for resource in resources) + b"\n"


def posted(**values: Any) -> dict[str, Any]:
    """Parameters of a kick-off by POST: each value an element such as `valueString`."""
    return {"resourceType": "Parameters", "parameter": [{"name": name, **value} for name, value in values.items()]}
