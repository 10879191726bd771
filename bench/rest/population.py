"""What a server holds before it is measured: patients with their visits, and scans with their DocumentReferences.

Everything goes in as a client would send it (transactions, raw Binaries) and gets its ids from the server, so that any
server can be filled.
"""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

import orjson

from bench.rest import resources
from bench.rest.client import Answer, Connection, Target
from bench.rest.driver import Missing

SEED: Final = 20261122
VISITS: Final = 3
READINGS: Final = 7
SMALLEST_SCAN: Final = 200_000
LARGEST_SCAN: Final = 5_000_000
WRITERS: Final = 4

Work = TypeVar("Work")


@dataclass(slots=True)
class Stock:
    """The ids that a workload may ask for, by type; scans as (reference, bytes); how long it took to make them."""

    ids: dict[str, list[str]] = field(default_factory=dict)
    scans: list[tuple[str, int]] = field(default_factory=list)
    seconds: float = 0.0

    def of(self, resource_type: str) -> list[str]:
        """The ids of a type. Raises Missing where there are none."""
        if resource_type not in self.ids:
            raise Missing(f"the population has no {resource_type}")
        return self.ids[resource_type]

    def one_of(self, chance: random.Random, resource_type: str) -> str:
        """`Type/id` of any one. Raises Missing where there is none."""
        return f"{resource_type}/{chance.choice(self.of(resource_type))}"

    def add(self, reference: str) -> None:
        resource_type, _, resource_id = reference.partition("/")
        self.ids.setdefault(resource_type, []).append(resource_id)

    @property
    def resources(self) -> int:
        return sum(len(ids) for ids in self.ids.values())


async def populate(target: Target, patients: int, scans: int) -> Stock:
    """Fill the server. Raises Missing when it refuses a part of it."""
    began = time.perf_counter()
    stock = Stock()
    sizes = scan_sizes(scans)
    await each(target, enumerate(sizes), lambda connection, item: _store_scan(connection, stock, *item))
    await each(target, range(patients), lambda connection, number: _store_life(connection, stock, number))
    stock.seconds = round(time.perf_counter() - began, 1)
    return stock


async def populate_plainly(target: Target, patients: int) -> Stock:
    """Patients alone, one by one, for a server that refused the rest. Raises Missing when it refuses these too."""
    began = time.perf_counter()
    stock = Stock()

    async def store(connection: Connection, number: int) -> None:
        body = orjson.dumps(resources.patient(random.Random(SEED + number)))
        answer = await connection.ask("POST", "Patient", body, keep=True)
        must("POST of a Patient", answer, 201)
        stock.add(reference_of(answer.location))

    await each(target, range(patients), store)
    stock.seconds = round(time.perf_counter() - began, 1)
    return stock


def scan_sizes(count: int) -> list[int]:
    """Sizes from the smallest to the largest, evenly spread by ratio: many small ones, few large ones."""
    steps = max(1, count - 1)
    return [round(SMALLEST_SCAN * (LARGEST_SCAN / SMALLEST_SCAN) ** (number / steps)) for number in range(count)]


def life_of(number: int, scans: Iterable[tuple[str, int]] = ()) -> dict[str, Any]:
    """The transaction of patient `number`: always the same."""
    return resources.life(random.Random(SEED + number), VISITS, READINGS, tuple(scans))


async def _store_scan(connection: Connection, stock: Stock, number: int, size: int) -> None:
    content = resources.scan(number, size)
    answer = await connection.ask("POST", "Binary", content, content_type="application/pdf", keep=True)
    must("POST of a raw Binary", answer, 201)
    reference = reference_of(answer.location)
    stock.add(reference)
    stock.scans.append((reference, size))


async def _store_life(connection: Connection, stock: Stock, number: int) -> None:
    chance = random.Random(SEED - number)
    scans = chance.choices(stock.scans, k=chance.randint(5, 15)) if stock.scans else []
    answer = await connection.ask("POST", "", orjson.dumps(life_of(number, scans)), keep=True)
    must("transaction", answer, 200)
    for reference in references_of(answer.body):
        stock.add(reference)


async def each(target: Target, items: Iterable[Work], do: Callable[[Connection, Work], Awaitable[None]]) -> None:
    """Do something for each item over a few connections. Raises Missing or Unreachable, the first that comes."""
    left = iter(items)

    async def writer() -> None:
        connection = Connection(target)
        try:
            for item in left:
                await do(connection, item)
        finally:
            connection.close()

    tasks = [asyncio.create_task(writer()) for _ in range(WRITERS)]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()


def must(what: str, answer: Answer, *statuses: int) -> None:
    """Raises Missing, with what the server said, unless the status is one of these."""
    if answer.status not in statuses:
        raise Missing(f"{what} was answered {answer.status}: {reason(answer.body)}")


def reason(body: bytes) -> str:
    """What an OperationOutcome says, or the beginning of whatever else came."""
    try:
        issue = orjson.loads(body)["issue"][0]
        return str(issue.get("diagnostics") or issue.get("details", {}).get("text") or issue.get("code"))[:200]
    except (orjson.JSONDecodeError, KeyError, IndexError, TypeError, AttributeError):
        return body[:200].decode(errors="replace")


def reference_of(location: str) -> str:
    """`Type/id` out of a Location, absolute or not, with version or without."""
    parts = location.partition("?")[0].partition("/_history/")[0].rstrip("/").split("/")
    return "/".join(parts[-2:])


def references_of(answer: bytes) -> list[str]:
    """`Type/id` of every entry of a transaction-response, in order."""
    return [reference_of(entry["response"]["location"]) for entry in orjson.loads(answer)["entry"]]
