"""Every search that matters in the database at 100,000 and at 1,000,000 resources, and how its time grows.

    python -m bench searches [--sizes 100000,1000000] [--rounds 200] [--no-lot] [--data FOLDER] [--json FILE]

Asked through the server's own `Search`, one after the other, values drawn anew each time: the time is that of the
statement, its rows and their recheck, without HTTP, rights and audit. After the last size a lot of 29 % more documents
of one date comes in, which is what turns sorted walks over an index into scans. `--data` names an empty folder.
"""

import argparse
import asyncio
import random
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import psutil

from bench.copy_in import AUTHORS, LOT_SHARE, TYPES, Archive, fill, ranked
from bench.measure import RESULTS, Spent, machine, postgres_processes, spread, write
from bench.ours import data_folder
from bench.rest import report, resources
from fhir_server.app import Parts, build
from fhir_server.outcomes import Failure
from fhir_server.r4 import search_query
from fhir_server.settings import Settings
from fhir_server.store.search import Search

WARM_UP: Final = 5
SECONDS_PER_SEARCH: Final = 60
CODE: Final = f"{resources.LOINC}|"

Pairs = list[tuple[str, str]]
Ask = Callable[[random.Random, Archive], tuple[str, Pairs]]


def _light(chance: random.Random, archive: Archive) -> str:
    return f"Patient/p{chance.randint(min(archive.heavy + 1, archive.patients), archive.patients)}"


def _heavy(chance: random.Random, archive: Archive) -> str:
    return f"Patient/p{chance.randint(1, archive.heavy)}"


def _type(chance: random.Random) -> str:
    return CODE + chance.choices(TYPES, cum_weights=ranked(len(TYPES)))[0][0]


def _since(chance: random.Random) -> str:
    return f"ge{chance.randrange(2017, 2025)}-{chance.randrange(1, 13):02}-01"


def _of_patient(subject: Callable[[random.Random, Archive], str]) -> Ask:
    def ask(chance: random.Random, archive: Archive) -> tuple[str, Pairs]:
        pairs = [("patient", subject(chance, archive)), ("type", _type(chance)), ("date", _since(chance))]
        return "DocumentReference", [*pairs, ("_sort", "-date"), ("_count", "20")]

    return ask


def _family_and_birth(chance: random.Random, _: Archive) -> tuple[str, Pairs]:
    year = chance.randrange(1955, 1995)
    return "Patient", [("family", "du"), ("birthdate", f"ge{year}-01-01"), ("birthdate", f"lt{year + 5}-01-01")]


def _family_and_year(chance: random.Random, _: Archive) -> tuple[str, Pairs]:
    family = chance.choice(resources.SYLLABLES) + chance.choice(resources.SYLLABLES)
    return "Patient", [("family", family), ("birthdate", str(chance.randrange(1955, 2004)))]


def _identifier(chance: random.Random, archive: Archive) -> tuple[str, Pairs]:
    while True:
        resource = archive.resource(chance.randint(1, archive.size))
        if resource["resourceType"] == "DocumentReference":
            one = resource["identifier"][0]
            return "DocumentReference", [("identifier", f"{one['system']}|{one['value']}")]


def _observation(chance: random.Random, archive: Archive) -> tuple[str, Pairs]:
    code = CODE + chance.choice(resources.READINGS)[0]
    return "Observation", [("code", code), ("patient", _light(chance, archive))]


def _category(chance: random.Random, _: Archive) -> tuple[str, Pairs]:
    category = f"{resources.IDENTIFIERS}|category-{chance.randrange(8)}"
    return "DocumentReference", [("category", category), ("status", "current"), ("_sort", "-date"), ("_count", "20")]


SEARCHES: Final[dict[str, Ask]] = {
    "DocumentReference patient + type + date>= sorted, 20": _of_patient(_light),
    "same, heavy patient": _of_patient(_heavy),
    "Patient family=du + birthdate range": _family_and_birth,
    "Patient family + birth year": _family_and_year,
    "Observation code + patient": _observation,
    "unique identifier": _identifier,
    "type + date>=, whole population, sorted": lambda chance, _: (
        "DocumentReference",
        [("type", _type(chance)), ("date", _since(chance)), ("_sort", "-date"), ("_count", "20")],
    ),
    "category + status sorted by date": _category,
    "author, count": lambda chance, _: (
        "DocumentReference", [("author", f"Practitioner/d{chance.randrange(AUTHORS)}"), ("_summary", "count")]
    ),
    "patient timeline": lambda chance, archive: (
        "DocumentReference", [("patient", _light(chance, archive)), ("_sort", "-date"), ("_count", "20")]
    ),
    "patient timeline, heavy patient": lambda chance, archive: (
        "DocumentReference", [("patient", _heavy(chance, archive)), ("_sort", "-date"), ("_count", "20")]
    ),
}  # fmt: skip


def main(arguments: Sequence[str]) -> None:
    parser = argparse.ArgumentParser("bench searches", description=__doc__)
    parser.add_argument("--sizes", default="100000,1000000")
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--no-lot", action="store_true", help="without the lot of one date at the end")
    parser.add_argument("--data", type=Path)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args(arguments)
    sizes = [int(size) for size in options.sizes.split(",")]
    with data_folder(options.data) as data:
        result = asyncio.run(measure(data, sizes, options.rounds, lot=not options.no_lot))
    write("searches", result, options.json)
    if options.json is None:
        report.publish(RESULTS / "searches.json")


async def measure(data: Path, sizes: Sequence[int], rounds: int, *, lot: bool) -> dict[str, Any]:
    """The searches after each size, and after the lot."""
    result: dict[str, Any] = {"machine": machine(), "rounds": rounds, "load": [], "searches": {}}
    async with build(Settings(data=data, log_level="warning", connections=2)) as parts:
        there = 0
        for size in sizes:
            await _grow(parts, result, str(size), Archive(size), range(there + 1, size + 1), rounds)
            there = size
        if lot:
            numbers = range(there + 1, there + 1 + round(there * LOT_SHARE))
            await _grow(parts, result, f"{there} + lot", Archive(there), numbers, rounds, lot=True)
    for by_size in result["searches"].values():
        first, last = by_size[str(sizes[0])], by_size[str(sizes[-1])]
        if "p50" in first and "p50" in last:
            by_size["growth"] = round(last["p50"] / first["p50"], 1)
    return result


async def _grow(
    parts: Parts,
    result: dict[str, Any],
    label: str,
    archive: Archive,
    numbers: range,
    rounds: int,
    *,
    lot: bool = False,
) -> None:
    began = time.perf_counter()
    await asyncio.to_thread(fill, parts.postgres, archive, numbers, lot=lot)
    seconds = time.perf_counter() - began
    result["load"].append({"to": label, "seconds": round(seconds), "per_second": round(len(numbers) / seconds)})
    for name, ask in SEARCHES.items():
        measured = await _ask(parts, archive, ask, rounds)
        result["searches"].setdefault(name, {})[label] = measured
        print(label, name, measured, datetime.now(UTC).isoformat(timespec="seconds"), flush=True)


async def _ask(parts: Parts, archive: Archive, ask: Ask, rounds: int) -> dict[str, Any]:
    """Percentiles in milliseconds, hits on average, PostgreSQL's CPU; fewer rounds where one search takes long."""
    chance, search = random.Random(7), Search(parts.database)
    taken: list[float] = []
    hits = failures = 0

    def processes() -> list[psutil.Process]:
        return postgres_processes(parts.settings.data)

    spent = Spent(processes)
    until = time.perf_counter() + SECONDS_PER_SEARCH
    for number in range(WARM_UP + rounds):
        if number == WARM_UP:
            taken, hits, spent = [], 0, Spent(processes)
        query = search_query.parse(*ask(chance, archive))
        began = time.perf_counter()
        try:
            page = await search.page(query, None)
            hits += len(page.hits) or page.total or 0
        except Failure:
            failures += 1
        taken.append((time.perf_counter() - began) * 1000)
        if time.perf_counter() > until and number > WARM_UP:
            break
    cpu = spent.seconds()
    return {
        **spread(taken, 2),
        "rounds": len(taken),
        "hits": round(hits / len(taken), 1),
        "postgres_cpu_us": round(cpu / len(taken) * 1e6),
        **({"too_slow": failures} if failures else {}),
    }
