"""What tests say often: resources of fictitious people, and what is to be read in an answer."""

import asyncio
import atexit
import contextlib
import functools
import itertools
import secrets
import shutil
import socket
import tempfile
from collections.abc import AsyncGenerator, AsyncIterator, Coroutine, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import httpx
import orjson
import psycopg
from fastapi import FastAPI
from psycopg.conninfo import conninfo_to_dict
from pydantic import SecretStr

from fhir_server import app as application
from fhir_server.settings import Settings
from fhir_server.store.clients import Clients, hash_secret
from fhir_server.store.database import Database

Resource = dict[str, Any]
Result = TypeVar("Result")

EVERYTHING = ("system/*.cruds",)
ROLE = "external-system"
PIN = "1234"
"""Of the token of SoftHSM2 of the tests."""
FHIR_JSON = {"content-type": "application/fhir+json"}
FOLDERS = "urn:test:folder"
"""The identifier system of the workers below."""


@dataclass(frozen=True, slots=True)
class Caller:
    """A client of the server: its HTTP client, and how it came to its token."""

    http: httpx.AsyncClient
    client_id: str
    secret: str


@dataclass(frozen=True, slots=True)
class Server:
    """A served application and its database."""

    app: FastAPI
    database: Database
    settings: Settings
    stack: contextlib.AsyncExitStack
    numbers: Iterator[int] = field(default_factory=itertools.count)
    """Of the clients that it gets."""

    async def http(self, headers: Mapping[str, str]) -> httpx.AsyncClient:
        """An HTTP client of this server, closed with it."""
        transport = httpx.ASGITransport(self.app)
        return await self.stack.enter_async_context(
            httpx.AsyncClient(transport=transport, base_url="http://test", headers=dict(headers), timeout=60)
        )

    async def client(
        self,
        scopes: Sequence[str],
        *,
        name: str = "Logiciel de test",
        role: str = ROLE,
        purpose: str | None = None,
        worker: str | None = None,
    ) -> Caller:
        """A new client that holds a token with these scopes."""
        clients = Clients(self.database)
        secret, kept = a_secret(next(self.numbers))
        client_id = await clients._add(name, scopes, role, kept, None, None, False, purpose, worker)
        token, _ = await clients.give_token(client_id, scopes, 15)
        return Caller(await self.http({"authorization": f"Bearer {token}"}), client_id, secret)

    async def rows(self, statement: str, *values: object) -> list[tuple[Any, ...]]:
        """The rows of a query, to look behind the curtain."""
        async with self.database.connection() as connection:
            cursor = await connection.execute(statement.encode(), values)
            return await cursor.fetchall() if cursor.description else []

    async def as_owner(self, statement: str) -> None:
        """A statement that the role of the server may not make: it owns no table."""
        async with await psycopg.AsyncConnection.connect(self.database.dsn, autocommit=True) as connection:
            await connection.execute(statement.encode())


@functools.cache
def a_secret(number: int) -> tuple[str, str]:
    """The secret of the client `number` of every server, and what is kept of it.

    To hash one takes 50 ms, as it should, and nearly every test makes a client.
    """
    secret = secrets.token_urlsafe(32)
    return secret, hash_secret(secret)


KEYS = Path(tempfile.mkdtemp(prefix="dmst-fhir-keys-"))
"""The master keys of the databases of this run: several data folders may serve one database."""
atexit.register(shutil.rmtree, KEYS, ignore_errors=True)


def settings_of(dsn: str, redis_url: str, data: Path, **changes: object) -> Settings:
    """Settings for one database and one data folder, with whatever a test wants to be different."""
    keys = KEYS / str(conninfo_to_dict(dsn)["dbname"])
    defaults: dict[str, object] = {
        "data": data,
        "base_url": "http://test/fhir",
        "postgres": SecretStr(dsn),
        "redis": SecretStr(redis_url),
        "audit_sync": False,
        "keys": keys,
    }
    return Settings(**{**defaults, **changes})  # pyright: ignore[reportArgumentType]


@contextlib.asynccontextmanager
async def serving(settings: Settings) -> AsyncGenerator[Server]:
    """The whole ASGI application, started and stopped."""
    app = application.create(settings)
    postgres = settings.postgres
    assert postgres is not None
    database = Database(postgres.get_secret_value(), connections=4, statement_timeout_ms=15_000, tenant=settings.tenant)
    try:
        async with contextlib.AsyncExitStack() as stack:
            await stack.enter_async_context(app.router.lifespan_context(app))
            yield Server(app, database, settings, stack)
    finally:
        await database.close()


def run_aside(work: Coroutine[Any, Any, Result]) -> Result:
    """Run a coroutine to its end in a loop of its own, so that a fixture of any scope may."""
    with ThreadPoolExecutor(max_workers=1) as thread:
        return thread.submit(asyncio.run, work).result()


def free_port() -> int:
    """A port on which nobody listens at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def patient(patient_id: str | None = None, family: str = "TESTEUR", **more: Any) -> Resource:
    """A worker who does not exist."""
    given = {"id": patient_id} if patient_id else {}
    return {"resourceType": "Patient", **given, "name": [{"family": family, "given": ["Camille"]}], **more}


def in_folder(number: str, **more: Any) -> Resource:
    """A worker with a folder number, which is what conditional creates ask for."""
    return patient(identifier=[{"system": FOLDERS, "value": number}], **more)


def observation(patient_id: str, code: str = "8867-4", **more: Any) -> Resource:
    """A reading about a worker."""
    return {
        "resourceType": "Observation",
        "status": "final",
        "code": {"coding": [{"system": "http://loinc.org", "code": code}]},
        "subject": {"reference": f"Patient/{patient_id}"},
        **more,
    }


def document_reference(patient_id: str, **more: Any) -> Resource:
    """A document about a worker, kept elsewhere."""
    return {
        "resourceType": "DocumentReference",
        "status": "current",
        "subject": {"reference": f"Patient/{patient_id}"},
        "content": [{"attachment": {"contentType": "application/pdf", "url": "urn:test:elsewhere"}}],
        **more,
    }


def transaction(*entries: Resource) -> Resource:
    return {"resourceType": "Bundle", "type": "transaction", "entry": list(entries)}


def entry(resource: Resource, full_url: str | None = None, **request: str) -> Resource:
    """One entry; without `request` it is a POST."""
    asked = request or {"method": "POST", "url": resource["resourceType"]}
    return {**({"fullUrl": full_url} if full_url else {}), "resource": resource, "request": asked}


async def put(client: httpx.AsyncClient, resource: Resource, **headers: str) -> httpx.Response:
    """Update (or create) a resource under its own id."""
    path = f"/fhir/{resource['resourceType']}/{resource['id']}"
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return await client.put(path, content=orjson.dumps(resource), headers={**FHIR_JSON, **named})


async def post(client: httpx.AsyncClient, resource: Resource, **headers: str) -> httpx.Response:
    """Create a resource; a transaction goes to the base."""
    kind = resource["resourceType"]
    path = "/fhir" if kind == "Bundle" and resource.get("type") == "transaction" else f"/fhir/{kind}"
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return await client.post(path, content=orjson.dumps(resource), headers={**FHIR_JSON, **named})


async def keep(client: httpx.AsyncClient, *resources: Resource) -> None:
    """Put resources that a test takes for granted."""
    for resource in resources:
        response = await put(client, resource)
        assert response.status_code in (200, 201), response.text


async def found(client: httpx.AsyncClient, query: str) -> list[str]:
    """Ids of the matches of one page, sorted: for tests in which order does not matter."""
    return sorted(await in_order(client, query))


async def in_order(client: httpx.AsyncClient, query: str) -> list[str]:
    """Ids of the matches of one page, in their order."""
    response = await client.get(f"/fhir/{query}")
    assert response.status_code == 200, response.text
    return ids_of(response.json())


async def pages(client: httpx.AsyncClient, query: str) -> AsyncIterator[Resource]:
    """Every page of a search, by following its next links."""
    url: str | None = f"/fhir/{query}"
    while url:
        response = await client.get(url)
        assert response.status_code == 200, response.text
        yield response.json()
        url = link(response.json(), "next")


def link(bundle: Mapping[str, Any], relation: str) -> str | None:
    return next((one["url"] for one in bundle.get("link", []) if one["relation"] == relation), None)


def ids_of(bundle: Mapping[str, Any]) -> list[str]:
    """Ids of the matches of a Bundle, in their order."""
    return [
        one["resource"]["id"]
        for one in bundle.get("entry", [])
        if one.get("search", {}).get("mode", "match") == "match"
    ]


def issues(response: httpx.Response) -> list[tuple[str, str | None]]:
    """(code, FHIRPath) of every issue of an answer that is an OperationOutcome."""
    outcome = response.json()
    assert outcome["resourceType"] == "OperationOutcome", outcome
    return [(issue["code"], (issue.get("expression") or [None])[0]) for issue in outcome["issue"]]


def codes(response: httpx.Response) -> list[str]:
    """The issue codes of an answer."""
    return [code for code, _ in issues(response)]
