"""Real processes under load: replaced one after the other, then stopped, and nobody's request fails.

A client may be refused a connection once the port is closed; whatever the server took, it answers, and what it
answered is on disk.
"""

import asyncio
import os
import re
import signal
import subprocess
from pathlib import Path

import httpx
import orjson

from fhir_server.app import Parts
from fhir_server.settings import Settings
from tests.stories.support import count, process, running_service, until
from tests.support import EVERYTHING, FHIR_JSON, entry, free_port, patient, transaction

WRITERS = 6


class Load:
    """Clients that write and read as fast as they are answered, until the port is closed."""

    def __init__(self, base: str, token: str) -> None:
        self._base, self._headers = base, {"authorization": f"Bearer {token}", **FHIR_JSON}
        self.written: list[str] = []
        self.reads = 0
        self.failed: list[str] = []

    async def run(self) -> None:
        await asyncio.gather(*(self._client(number) for number in range(WRITERS)))

    async def _client(self, number: int) -> None:
        async with httpx.AsyncClient(base_url=self._base, headers=self._headers, timeout=30) as client:
            for turn in range(1_000_000):
                try:
                    await self._turn(client, f"w{number}-{turn}")
                except httpx.ConnectError:
                    return
                except httpx.HTTPError as error:
                    self.failed.append(repr(error))

    async def _turn(self, client: httpx.AsyncClient, name: str) -> None:
        two = (patient(f"{name}-{letter}") for letter in "ab")
        bundle = transaction(*(entry(one, method="PUT", url=f"Patient/{one['id']}") for one in two))
        answer = await client.post("/fhir", content=orjson.dumps(bundle))
        if answer.status_code != 200:
            self.failed.append(answer.text)
            return
        self.written.append(name)
        answer = await client.get(f"/fhir/Patient/{name}-a")
        self.reads += 1
        if answer.status_code != 200:
            self.failed.append(answer.text)


async def test_processes_are_replaced_and_stopped_under_load(world: Settings) -> None:
    """Two processes on one port: SIGHUP replaces both without one error, SIGTERM stops both with status 0."""
    settings = world.model_copy(update={"port": free_port(), "log_level": "info", "drain_seconds": 0.3})
    base = f"http://127.0.0.1:{settings.port}"
    log = settings.data / "serve.log"
    async with running_service(settings) as service:
        token = await token_of(service)
        with process(settings, "serve", "--workers", "2") as serving:
            await until(lambda: log.read_text().count("a server process is ready") == 2, "both processes are ready")
            load = Load(base, token)
            running = asyncio.create_task(load.run())
            await until(lambda: len(load.written) > 10, "the load is on")
            serving.send_signal(signal.SIGHUP)
            await until(lambda: "every server process was replaced" in log.read_text(), "both are replaced")
            during = len(load.written)
            await until(lambda: len(load.written) > during + 10, "the new ones answer")
            assert not running.done(), "no connection was refused"
            assert load.failed == []
            serving.send_signal(signal.SIGTERM)
            await running
            assert await asyncio.to_thread(serving.wait, 15) == 0
        assert load.failed == []
        assert len(set(re.findall(r'"pid":(\d+)', log.read_text()))) == 4
        await everything_is_there(service, load)


async def everything_is_there(service: Parts, load: Load) -> None:
    """Both resources of each acknowledged transaction, and a row in the trail for each write and read."""
    ids = [f"{name}-{letter}" for name in load.written for letter in "ab"]
    async with service.database.connection() as connection:
        cursor = await connection.execute(b"select count(*) from resource where id = any(%s)", (ids,))
        assert await cursor.fetchone() == (len(ids),)
    assert await count(service, "access where interaction = 'read'") >= load.reads
    assert await count(service, "access where interaction = 'transaction'") >= len(load.written)


async def token_of(service: Parts) -> str:
    client_id, _ = await service.clients.add("load", EVERYTHING, "external-system")
    return (await service.clients.give_token(client_id, EVERYTHING, 15))[0]


async def test_a_process_that_dies_is_replaced_and_none_survives_its_supervisor(world: Settings) -> None:
    """kill -9 of one process: another takes its place. kill -9 of the supervisor: the others stop by themselves."""
    settings = world.model_copy(update={"port": free_port(), "log_level": "info", "drain_seconds": 0.0})
    log = settings.data / "serve.log"
    async with running_service(settings):
        with process(settings, "serve", "--workers", "2") as serving:
            await until(lambda: len(ready(log)) == 2, "both are ready")
            os.kill(ready(log)[0], signal.SIGKILL)
            await until(lambda: len(ready(log)) == 3, "the dead one is replaced")
            asked = subprocess.run(["pgrep", "-P", str(serving.pid)], capture_output=True, text=True, check=True)
            family = [int(pid) for pid in asked.stdout.split()]
            first, *others = ready(log)
            assert first not in family
            assert set(others) <= set(family)
            serving.kill()
            await until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in family), "all stop")


def ready(log: Path) -> list[int]:
    """The processes that said that they are ready, in their order."""
    return [int(pid) for pid in re.findall(r'"pid":(\d+),"event":"a server process is ready"', log.read_text())]
