"""A worker process that indexes a new search parameter is killed; another goes on, while a third process writes."""

import asyncio
import contextlib
import os
import sys
from collections.abc import AsyncGenerator, Callable

from pydantic import SecretStr

from fhir_server.app import Parts, build
from fhir_server.caller import service
from fhir_server.records.write import Incoming, incoming_from_dict
from fhir_server.settings import Settings
from fhir_server.store import reindex
from fhir_server.store.custom_parameters import Added
from tests.support import patient

COUNT = 900
OPERATOR = service("test")
DEFINITION = {
    "resourceType": "SearchParameter",
    "id": "caller",
    "url": "urn:test:caller",
    "name": "Caller",
    "status": "active",
    "description": "Who is called",
    "code": "caller",
    "base": ["Patient"],
    "type": "string",
    "expression": "Patient.contact.name",
}


def worker(number: int, called: str) -> Incoming:
    return incoming_from_dict(patient(f"p{number}", contact=[{"name": {"family": called}}]), method="update")


async def write(parts: Parts, *incoming: Incoming) -> None:
    await parts.door.write(OPERATOR, incoming, interaction="transaction", request_id="t")


@contextlib.asynccontextmanager
async def worker_process(settings: Settings) -> AsyncGenerator[asyncio.subprocess.Process]:
    """`dmst-fhir work`, killed at the end."""
    given = settings.model_dump(exclude_defaults=True)
    plain = {name: one.get_secret_value() if isinstance(one, SecretStr) else one for name, one in given.items()}
    environment = os.environ | {f"DMST_FHIR_{name.upper()}": str(value) for name, value in plain.items()}
    running = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "fhir_server", "work"),
        env=environment,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        yield running
    finally:
        running.kill()
        await running.wait()


async def until(parts: Parts, true: Callable[[Added], bool]) -> Added:
    async with asyncio.timeout(60):
        while True:
            (added,) = await parts.parameters.listed()
            if true(added):
                return added
            await asyncio.sleep(0.005)


async def test_killed_anywhere_it_goes_on_with_the_next_process(make_settings: Callable[..., Settings]) -> None:
    """Nothing is searched by half: the words that are found at the end are those of an index made from nothing."""
    settings = make_settings(parameters_seconds=0.05)
    async with build(settings) as parts:
        await write(parts, *(worker(number, f"Before{number % 9}") for number in range(COUNT)))
        await write(parts, incoming_from_dict(DEFINITION, method="update"))
        async with worker_process(settings):
            killed = await until(parts, lambda added: added.done > 0)
        assert killed.state == "indexing", "the kill came in the middle"
        for number in range(0, COUNT, 10):
            await write(parts, worker(number, "Meanwhile"), worker(COUNT + number, "New"))
        async with worker_process(settings):
            ended = await until(parts, lambda added: added.state == "active")
        assert ended.done == ended.of >= COUNT
        words = "select * from word order by 1, 2, 3"
        async with parts.database.connection() as connection:
            found = await (await connection.execute(words.encode())).fetchall()
            await connection.execute(b"update index_state set version = 1")
        await reindex.bring_up_to_date(parts.database)
        async with parts.database.connection() as connection:
            assert found == await (await connection.execute(words.encode())).fetchall()
        assert len([row for row in found if row[1] == "meanwhile"]) == COUNT // 10
