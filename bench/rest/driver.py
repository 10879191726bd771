"""Clients that ask as fast as they are answered, and the book in which every answer is written down.

A closed loop: each client sends its next request when it has the answer to the last, so that the rate is what the
server can do, and a latency is what such a client waits.
"""

import asyncio
import random
import time
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import psutil

from bench.measure import Spent, spread
from bench.rest.client import JSON, Answer, Connection, Target, Unreachable

MOST_IN_A_ROW = 50
"""Connections that fail one after the other before a client gives up: then the server is gone."""


class Missing(Exception):
    """The server does not do what a workload is about; the text says which request it refused and how."""


@dataclass(slots=True)
class Book:
    """What came of the requests, by name; `resources` counts what was written or read in bulk."""

    latencies: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    errors: Counter[str] = field(default_factory=Counter)
    size: int = 0
    resources: int = 0
    open: bool = True

    @property
    def requests(self) -> int:
        return sum(len(values) for values in self.latencies.values())

    def summary(self, seconds: float) -> dict[str, Any]:
        """Throughput and percentiles, of all requests and of each name where there are several."""
        done = [value for values in self.latencies.values() for value in values]
        result: dict[str, Any] = {
            "seconds": round(seconds, 3),
            "requests": len(done),
            "per_second": round(len(done) / seconds, 1),
            "mb_per_second": round(self.size / seconds / 1e6, 2),
            "errors": sum(self.errors.values()),
            **percentiles(done),
        }
        if self.errors:
            result["errors_by"] = dict(sorted(self.errors.items()))
        if self.resources:
            result["resources"] = self.resources
            result["resources_per_second"] = round(self.resources / seconds, 1)
        if len(self.latencies) > 1:
            result["by"] = {
                name: {"requests": len(values), **percentiles(values)}
                for name, values in sorted(self.latencies.items())
            }
        return result


def percentiles(values: Sequence[float]) -> dict[str, float]:
    """p50, p95, p99 and the largest, in milliseconds; of nothing nothing, of one value that one."""
    if not values:
        return {}
    return spread(values if len(values) > 1 else [*values, *values], 2)


class Session:
    """One client: its connection, its own chance, and the book it writes in."""

    def __init__(self, target: Target, book: Book, seed: object) -> None:
        self.chance = random.Random(str(seed))
        self.book = book
        self.own: list[Any] = []
        """What this client created and may change: workloads put in here what they need."""
        self._connection = Connection(target)

    async def ask(
        self,
        name: str,
        method: str,
        url: str,
        body: bytes = b"",
        *,
        content_type: str = JSON,
        headers: str = "",
        expect: tuple[int, ...] = (200,),
        keep: bool = False,
        resources: int = 0,
    ) -> Answer:
        """One request, timed under `name`. An answer with a status that is not expected counts as an error, and its
        latency does not count.
        """
        answer = await self._connection.ask(method, url, body, content_type, headers, keep=keep)
        if self.book.open:
            if answer.status in expect:
                self.book.latencies[name].append(answer.milliseconds)
                self.book.size += answer.size
                self.book.resources += resources
            else:
                self.book.errors[f"{name}: {answer.status}"] += 1
        return answer

    def failed(self, error: Unreachable) -> None:
        if self.book.open:
            self.book.errors[f"connection: {error}"] += 1

    def close(self) -> None:
        self._connection.close()


Iterate = Callable[[Session], Awaitable[None]]


class Watch:
    """Processor time of the processes that matter, read at the beginning and at the end of what is measured."""

    def __init__(self, processes: Mapping[str, Callable[[], Sequence[psutil.Process]]]) -> None:
        self._processes = processes
        self._spent: dict[str, Spent] = {}
        self.began = 0.0
        self.seconds = 0.0
        self.cpu: dict[str, float] = {}

    def start(self) -> None:
        self._spent = {name: Spent(find) for name, find in self._processes.items()}
        self.began = time.perf_counter()

    def stop(self) -> None:
        self.seconds = time.perf_counter() - self.began
        self.cpu = {name: spent.seconds() for name, spent in self._spent.items()}


async def drive(target: Target, iterate: Iterate, clients: int, warm_up: float, seconds: float, watch: Watch) -> Book:
    """`clients` at once for `warm_up` seconds that do not count and `seconds` that do.

    What is under way when the time is over is finished and not counted. Raises Unreachable when the server is gone.
    """
    book = Book(open=False)
    sessions = [Session(target, book, f"{time.time_ns()} {number}") for number in range(clients)]
    stop = asyncio.Event()
    tasks = [asyncio.create_task(_repeat(session, iterate, stop)) for session in sessions]
    await _sleep(warm_up, tasks)
    watch.start()
    book.open = True
    await _sleep(seconds, tasks)
    book.open = False
    watch.stop()
    stop.set()
    await asyncio.gather(*tasks)
    for session in sessions:
        session.close()
    return book


async def _sleep(seconds: float, tasks: Sequence[asyncio.Task[None]]) -> None:
    """Sleep, unless a client fails meanwhile: its error is then the answer."""
    done, _ = await asyncio.wait(tasks, timeout=seconds, return_when=asyncio.FIRST_EXCEPTION)
    for task in done:
        task.result()


async def _repeat(session: Session, iterate: Iterate, stop: asyncio.Event) -> None:
    failures = 0
    while not stop.is_set():
        try:
            await iterate(session)
            failures = 0
        except Unreachable as error:
            session.failed(error)
            failures += 1
            if failures == MOST_IN_A_ROW:
                raise
            await asyncio.sleep(0.02)
