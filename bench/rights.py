"""What do rights cost? A decision explained, and every search of `bench.searches` with and without them.

    python -m bench rights [--size 100000] [--rounds 200] [--opposing 1] [--json FILE]

Searches are asked through the server's own `Search`, in turn without a sight, as the software of the service, and as a
nurse while so many of a hundred workers oppose that nurses see their records (C2).
"""

import argparse
import asyncio
import random
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from bench.copy_in import Archive, fill
from bench.measure import machine, spread, write
from bench.ours import as_owner, data_folder
from bench.searches import SEARCHES, WARM_UP
from fhir_server import roles
from fhir_server.app import build
from fhir_server.consent.decide import Looking, decide_looking
from fhir_server.r4 import search_query
from fhir_server.r4.resource_types import TYPE_NUMBER
from fhir_server.settings import Settings
from fhir_server.sight import EVERYTHING
from fhir_server.store.search import Search
from mappings.access_facts import HEADINGS, NOT_A_MODEL

SIGHTS: Final = {
    "none": EVERYTHING,
    "external-system": roles.sight_of("external-system", None, None, delegated=False),
    "infirmier": roles.sight_of("infirmier", None, None, delegated=False),
}
OPPOSED: Final = (
    "insert into opposition (worker, exercised, low, high, rid)"
    " select worker, 'C2', '-infinity', 'infinity', rid from resource"
    " where type = %s and hashint8extended(rid, 0) & 1023 < 10.24 * %s"
)


def main(arguments: Sequence[str]) -> None:
    parser = argparse.ArgumentParser("bench rights", description=__doc__)
    parser.add_argument("--size", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--opposing", type=float, default=1, help="in a hundred workers")
    parser.add_argument("--data", type=Path)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args(arguments)
    with data_folder(options.data) as data:
        result = asyncio.run(measure(data, options.size, options.rounds, options.opposing))
    write("rights", result, options.json)


def decisions() -> dict[str, float]:
    """Microseconds of one decision that is explained, and of one as a sight."""
    role, guard = roles.of_the_law()["infirmier"], HEADINGS[3] | NOT_A_MODEL
    looking, sight, times = Looking(role, guard, opposed=("C1",)), SIGHTS["infirmier"], 20_000
    began = time.perf_counter()
    for _ in range(times):
        decide_looking(looking)
    explained = time.perf_counter()
    for _ in range(times):
        sight.covers(guard, 1, ("C1",))
    return {
        "explained_us": round((explained - began) / times * 1e6, 2),
        "sight_us": round((time.perf_counter() - explained) / times * 1e6, 2),
    }


async def measure(data: Path, size: int, rounds: int, opposing: float) -> dict[str, Any]:
    result: dict[str, Any] = {
        "machine": machine(),
        "size": size,
        "rounds": rounds,
        "opposing_in_a_hundred": opposing,
        "decide": decisions(),
        "searches": {},
    }
    async with build(Settings(data=data, log_level="warning", connections=2)) as parts:
        archive = Archive(size)
        await asyncio.to_thread(fill, parts.postgres, archive, range(1, size + 1))
        with as_owner(parts.postgres) as connection:
            connection.execute("set dmst.tenant = 0")
            connection.execute(OPPOSED, (TYPE_NUMBER["Patient"], opposing))
            connection.execute("vacuum analyze opposition")  # as autovacuum does within a minute
        search = Search(parts.database)
        for name, ask in SEARCHES.items():
            chance = random.Random(7)
            taken: dict[str, list[float]] = {sight: [] for sight in SIGHTS}
            for number in range(WARM_UP + rounds):
                query = search_query.parse(*ask(chance, archive))
                for label in sorted(SIGHTS, key=lambda _: chance.random()):
                    began = time.perf_counter()
                    await search.page(replace(query, sight=SIGHTS[label]), None)
                    if number >= WARM_UP:
                        taken[label].append((time.perf_counter() - began) * 1000)
            result["searches"][name] = {}
            for measured in ("p50", "p95"):
                times = {label: spread(values, 3)[measured] for label, values in taken.items()}
                more = {
                    label: round(100 * (took / times["none"] - 1)) for label, took in times.items() if label != "none"
                }
                result["searches"][name][measured] = {"ms": times, "percent_more": more}
                print(name, measured, times, more, flush=True)
    return result
