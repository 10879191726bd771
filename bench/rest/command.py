"""Workloads W1 to W11 against any FHIR server.

    python -m bench rest [--base URL [--token T]] [--peer hapi] [--workloads W1,W3] [--clients 16] [--seconds 20]
                         [--repeat 3] [--patients 300] [--scans 40] [--synthea FOLDER] [--profile] [--out FILE]

Without --base this server is started on its embedded PostgreSQL and Valkey, in a folder of its own. The server is
filled first, over REST; then each workload runs `--repeat` times after a warm-up that does not count, and the run with
the median throughput is the result. With several numbers in --clients every workload runs with each.
"""

import argparse
import asyncio
import os
import signal
import statistics
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import psutil
import uvloop

from bench.measure import RESULTS, flushes, listeners, machine, postgres_processes, write
from bench.ours import data_folder, serving, token
from bench.rest import report
from bench.rest.client import Connection, Target
from bench.rest.driver import Book, Missing, Watch, drive
from bench.rest.mixes import Ground
from bench.rest.population import Stock, populate, populate_plainly
from bench.rest.workloads import WORKLOADS, Timed, Workload
from bench.sampler import shares
from fhir_server.app import Parts, build
from fhir_server.settings import Settings

Processes = Callable[[], Sequence[psutil.Process]]
LOCAL = frozenset({"127.0.0.1", "localhost", "::1"})


@dataclass(frozen=True, slots=True)
class Measured:
    """A server that is measured: its name in the result, where it answers, and whose processor time is counted."""

    name: str
    target: Target
    processes: dict[str, Processes]
    settle: Callable[[], Awaitable[None]] | None = None
    """What its makers advise after much was loaded, such as fresh statistics."""
    profile: Path | None = None
    """Where our server, sampled, writes its samples on SIGUSR2."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What is asked for on the command line."""

    workloads: tuple[Workload, ...]
    clients: tuple[int, ...]
    seconds: float
    warm_up: float
    repeat: int
    patients: int
    scans: int
    whole_patients: int
    synthea: Path | None


def main(arguments: Sequence[str]) -> None:
    options = _parser().parse_args(arguments)
    plan = Plan(
        workloads=tuple(WORKLOADS[code] for code in options.workloads.split(",")),
        clients=tuple(int(number) for number in str(options.clients).split(",")),
        seconds=options.seconds,
        warm_up=options.seconds / 4 if options.warm_up is None else options.warm_up,
        repeat=options.repeat,
        patients=options.patients,
        scans=options.scans,
        whole_patients=options.whole_patients,
        synthea=options.synthea,
    )
    result = uvloop.run(_measure_all(options, plan))
    write("rest", result, options.out)
    if options.out is None:
        report.publish(RESULTS / "rest.json")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("bench rest", description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--base", help="FHIR base of the server to measure; none starts ours")
    parser.add_argument("--token", help="bearer token for --base")
    parser.add_argument("--server-pid", type=int, action="append", help="count this process and its children")
    parser.add_argument("--postgres-pid", type=int, action="append", help="count this PostgreSQL and its children")
    parser.add_argument("--peer", choices=["hapi"], help="measure this server beside, with the same workloads")
    parser.add_argument("--workloads", default=",".join(WORKLOADS), help="codes with commas")
    parser.add_argument("--clients", default="16", help="numbers with commas")
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--warm-up", type=float, help="seconds that do not count; a quarter of --seconds unless given")
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--patients", type=int, default=300, help="patients in the population")
    parser.add_argument("--scans", type=int, default=40, help="scans of 200 kB to 5 MB in the population")
    parser.add_argument("--whole-patients", type=int, default=100, help="patients of W9")
    parser.add_argument("--synthea", type=Path, help="folder of Synthea transactions (*.json) for W9")
    parser.add_argument("--data", type=Path, help="data folder of our server, kept")
    parser.add_argument("--profile", action="store_true", help="sample our server: its functions by CPU, in the result")
    parser.add_argument("--out", type=Path, help="result; bench/results/rest.json and docs/performance.md unless given")
    return parser


async def _measure_all(options: argparse.Namespace, plan: Plan) -> dict[str, Any]:
    result: dict[str, Any] = {
        "machine": machine(),
        "flushes": flushes(options.data or Path.cwd()),
        "settings": {"seconds": plan.seconds, "warm_up": plan.warm_up, "repeat": plan.repeat},
        "servers": {},
    }
    async with AsyncExitStack() as stack:
        first = (
            _given(options) if options.base else await stack.enter_async_context(_ours(options.data, options.profile))
        )
        result["servers"][first.name] = await measure(first, plan)
    if options.peer:
        async with AsyncExitStack() as stack:
            peer = await stack.enter_async_context(_hapi())
            result["servers"][peer.name] = await measure(peer, plan)
    return result


def _given(options: argparse.Namespace) -> Measured:
    """The server at --base: its processes where they are named or on this machine."""
    target = Target(options.base.rstrip("/"), options.token)
    processes: dict[str, Processes] = {}
    if options.server_pid:
        processes["server"] = lambda: _families(options.server_pid)
    elif target.host in LOCAL:
        processes["server"] = lambda: listeners(target.port)
    if options.postgres_pid:
        processes["postgres"] = lambda: _families(options.postgres_pid)
    return Measured("other", target, processes)


def _families(pids: Sequence[int]) -> list[psutil.Process]:
    found = [psutil.Process(pid) for pid in pids]
    return [one for process in found for one in (process, *process.children(recursive=True))]


@asynccontextmanager
async def _ours(data: Path | None, profiled: bool) -> AsyncGenerator[Measured]:
    async with AsyncExitStack() as stack:
        folder = stack.enter_context(data_folder(data))
        parts = await stack.enter_async_context(build(Settings(data=folder, log_level="warning")))
        bearer = await stack.enter_async_context(token(parts, ("system/*.cruds",)))
        profile = folder / "profile.json" if profiled else None
        port, pid, _ = stack.enter_context(serving(folder, profile))
        processes: dict[str, Processes] = {
            "server": lambda: _families([pid]),
            "postgres": lambda: postgres_processes(folder),
        }
        yield Measured(
            "dmst-fhir", Target(f"http://127.0.0.1:{port}/fhir", bearer), processes, lambda: _analyze(parts), profile
        )


async def _analyze(parts: Parts) -> None:
    async with parts.database.connection() as connection:
        await connection.execute("vacuum analyze")


@asynccontextmanager
async def _hapi() -> AsyncGenerator[Measured]:
    """HAPI's plain server over memory with its validator: no disk, no index, a scan for every search."""
    from tests.peers.hapi import hapi_server

    with hapi_server() as peer:
        target = Target(peer.base_url)
        yield Measured("HAPI in memory", target, {"server": lambda: listeners(target.port)})


async def measure(server: Measured, plan: Plan) -> dict[str, Any]:
    """The population and every workload on one server."""
    result: dict[str, Any] = {"software": await _software(server.target), "workloads": {}}
    stock, refused = await _filled(server, plan)
    result["population"] = {"resources": stock.resources, "seconds": stock.seconds} | refused
    for workload in plan.workloads:
        result["workloads"][workload.code] = {"title": workload.title, "runs": []}
        for clients in plan.clients if isinstance(workload, Timed) else (workload.clients,):
            outcome = await _repeated(server, plan, workload, stock, clients)
            result["workloads"][workload.code]["runs"].append(outcome)
            if "missing" in outcome:
                break
    return result


async def _filled(server: Measured, plan: Plan) -> tuple[Stock, dict[str, str]]:
    """The population, as much of it as the server takes, and what it refused."""
    refused: list[str] = []
    stock = Stock()
    try:
        stock = await populate(server.target, plan.patients, plan.scans)
    except Missing as missing:
        refused.append(str(missing))
        try:
            stock = await populate_plainly(server.target, plan.patients)
        except Missing as again:
            refused.append(str(again))
    if server.settle:
        await server.settle()
    return stock, {"refused": "; ".join(refused)} if refused else {}


async def _software(target: Target) -> str:
    """Name and version, as its CapabilityStatement says. Raises Unreachable."""
    connection = Connection(target)
    answer = await connection.ask("GET", "metadata", keep=True)
    connection.close()
    software = orjson.loads(answer.body).get("software", {}) if answer.status == 200 else {}
    return f"{software.get('name', 'unknown')} {software.get('version', '')}".strip()


async def _repeated(server: Measured, plan: Plan, workload: Workload, stock: Stock, clients: int) -> dict[str, Any]:
    """The run of median throughput out of the repetitions, with the rates of all; or why there is none."""
    runs: list[dict[str, Any]] = []
    notes: list[str] = []
    for _ in range(plan.repeat):
        ground = Ground(server.target, stock, plan.whole_patients, plan.synthea)
        try:
            runs.append(await _once(server, plan, workload, ground, clients))
        except Missing as refused:
            return {"clients": clients, "missing": str(refused)}
        notes = ground.notes
    rate = "resources_per_second" if "resources_per_second" in runs[0] else "per_second"
    middle = statistics.median_low(run[rate] for run in runs)
    run = next(run for run in runs if run[rate] == middle)
    return {"clients": clients, **run, "all": [run[rate] for run in runs], **({"notes": notes} if notes else {})}


async def _once(server: Measured, plan: Plan, workload: Workload, ground: Ground, clients: int) -> dict[str, Any]:
    watch = Watch({**server.processes, "client": lambda: [psutil.Process()]})
    load = round(os.getloadavg()[0], 2)
    await _samples(server)
    if isinstance(workload, Timed):
        iterate = await workload.prepare(ground)
        book = await drive(server.target, iterate, clients, plan.warm_up, plan.seconds, watch)
    else:
        book = await workload.run(ground, watch)
    profile = await _samples(server)
    return {**book.summary(watch.seconds), **_cpu(book, watch), "load_average_before": load, **profile}


async def _samples(server: Measured) -> dict[str, Any]:
    """What the sampler of our server counted since it was last asked."""
    if server.profile is None:
        return {}
    server.profile.unlink(missing_ok=True)
    for process in server.processes["server"]()[:1]:
        process.send_signal(signal.SIGUSR2)
    return {"profile": shares(orjson.loads(await asyncio.to_thread(_written, server.profile)))}


def _written(file: Path) -> bytes:
    """The content of a file as soon as it is there."""
    while not file.exists():
        time.sleep(0.05)
    return file.read_bytes()


def _cpu(book: Book, watch: Watch) -> dict[str, int]:
    """Microseconds of processor time per request, and per resource where resources were counted."""
    count = book.resources or book.requests or 1
    per = "resource" if book.resources else "request"
    return {f"{name}_cpu_us_per_{per}": round(seconds / count * 1e6) for name, seconds in watch.cpu.items()}
