"""Every workload runs against the served application: one client, one second."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator

import pytest
import uvicorn

from bench.rest.client import Connection, Target, Unreachable
from bench.rest.command import Measured, Plan, measure
from bench.rest.driver import Session, Watch, drive
from bench.rest.workloads import WORKLOADS, Whole
from tests.rest.operations.bulk import work
from tests.support import EVERYTHING, Server

PLAN = Plan(
    workloads=tuple(WORKLOADS.values()),
    clients=(1,),
    seconds=1.0,
    warm_up=0.1,
    repeat=1,
    patients=3,
    scans=2,
    whole_patients=2,
    synthea=None,
)


@pytest.fixture
async def target(server: Server) -> AsyncIterator[Target]:
    """The served application on a port of its own."""
    caller = await server.client(EVERYTHING)
    async with listening(server.app) as port:
        token = caller.http.headers["authorization"].removeprefix("Bearer ")
        yield Target(f"http://127.0.0.1:{port}/fhir", token)


@contextlib.asynccontextmanager
async def listening(app: object) -> AsyncGenerator[int]:
    """uvicorn on a free port of loopback; the lifespan of the application is somebody else's affair."""
    config = uvicorn.Config(app, port=0, lifespan="off", log_config=None, access_log=False)  # pyright: ignore[reportArgumentType]
    web = uvicorn.Server(config)
    serving = asyncio.create_task(web.serve())
    while not web.started:
        await asyncio.sleep(0.01)
    yield web.servers[0].sockets[0].getsockname()[1]
    web.should_exit = True
    await serving


@contextlib.asynccontextmanager
async def working(server: Server) -> AsyncGenerator[None]:
    """A worker that takes what is asked in bulk."""

    async def again_and_again() -> None:
        while True:
            await work(server)
            await asyncio.sleep(0.2)

    task = asyncio.create_task(again_and_again())
    yield
    task.cancel()
    await asyncio.wait({task})


async def test_every_workload_runs_without_an_error(server: Server, target: Target) -> None:
    """What the server offers is answered as expected, and what it does not offer is said."""
    async with working(server):
        result = await measure(Measured("served", target, {}), PLAN)
    assert result["software"].startswith("dmst-fhir")
    everything_but_documents = PLAN.scans + PLAN.patients * (1 + 3 * 10)
    assert 5 * PLAN.patients <= result["population"]["resources"] - everything_but_documents <= 15 * PLAN.patients
    for code, workload in result["workloads"].items():
        (run,) = workload["runs"]
        assert run["clients"] == getattr(WORKLOADS[code], "clients", 1)
        assert "missing" not in run, (code, run)
        assert run["requests"] > 0, code
        assert run["errors"] == 0, (code, run)
        assert 0 < run["p50"] <= run["p95"] <= run["p99"] <= run["max"], code
        assert isinstance(WORKLOADS[code], Whole) or 0.9 < run["seconds"] < 3, code
    assert set(result["workloads"]) == {f"W{number}" for number in range(1, 12)}


async def test_a_refusal_is_an_error_and_not_a_latency(target: Target) -> None:
    """An answer with another status than the expected one counts as error under the name of the request."""

    async def step(session: Session) -> None:
        await session.ask("read", "GET", "Patient/nobody")

    book = await drive(target, step, 2, 0.0, 0.3, Watch({}))
    assert book.requests == 0
    assert list(book.errors) == ["read: 404"]


async def test_without_a_token_nothing_can_be_filled(target: Target) -> None:
    """The result says what was refused, and goes on: every workload that needs the population is missing."""
    plan = Plan((WORKLOADS["W1"],), (1,), 0.2, 0.0, 1, 1, 1, 1, None)
    result = await measure(Measured("served", Target(target.base), {}), plan)
    assert "401" in result["population"]["refused"]
    assert result["workloads"]["W1"]["runs"] == [{"clients": 1, "missing": "the population is empty"}]


async def test_a_client_without_the_right_to_binaries_measures_what_remains(server: Server) -> None:
    """A server that takes Patients only is filled with Patients, and the workload that needs no more runs."""
    caller = await server.client(["system/Patient.cruds"])
    async with listening(server.app) as port:
        token = caller.http.headers["authorization"].removeprefix("Bearer ")
        plan = Plan((WORKLOADS["W1"], WORKLOADS["W5"]), (1,), 0.3, 0.0, 1, 2, 1, 1, None)
        result = await measure(Measured("served", Target(f"http://127.0.0.1:{port}/fhir", token), {}), plan)
    assert result["population"]["resources"] == 2
    assert "403" in result["population"]["refused"]
    assert result["workloads"]["W1"]["runs"][0]["errors"] == 0
    assert {name.partition(":")[2] for name in result["workloads"]["W5"]["runs"][0]["errors_by"]} == {" 403"}


async def test_a_server_that_is_gone_is_said() -> None:
    """Nobody listens there: no measurement comes out of it."""
    with pytest.raises(Unreachable, match="cannot be connected to"):
        await Connection(Target("http://127.0.0.1:9/fhir")).ask("GET", "metadata")


async def test_a_connection_that_the_server_closed_is_made_again() -> None:
    """An answer may end its connection; the next request gets a new one."""
    connections = 0

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nconnection: close\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n")
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as listener:
        connection = Connection(Target(f"http://127.0.0.1:{listener.sockets[0].getsockname()[1]}/fhir"))
        answers = [await connection.ask("GET", "metadata", keep=True) for _ in range(2)]
        connection.close()
    assert [(one.status, one.body, one.size) for one in answers] == [(200, b"abc", 3)] * 2
    assert connections == 2
