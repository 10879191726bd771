"""A register of many linked with as many others, in two processes: python -m bench.identity.batch COUNT FOLDER...

The first half of the folders (FR-SYN) gives the register, the second half its people as incoming records, after the
incoming records of the first half; each up to COUNT. Wall-clock and processor time, and the memory of all processes.
"""

import gc
import json
import os
import resource
import sys
import time
from collections import Counter
from collections.abc import Callable
from itertools import chain, islice
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from bench.identity.french import of_incoming, of_register, rows
from fhir_server.linkage.batch import KeyTable, keys_by_first_byte, linked, merged_keys
from fhir_server.linkage.comparable import Comparable, comparable
from fhir_server.linkage.grade import Candidate, Judge
from fhir_server.linkage.model import default_model
from fhir_server.linkage.traits import TraitsIns

SECRET = b"bench-of-identity"
PROCESSES = 2
_held: dict[str, Any] = {}


def _made(traits: list[TraitsIns]) -> list[Comparable]:
    model = default_model()
    return [comparable(one, families=model.families, givens=model.givens) for one in traits]


def _keys(part: int) -> Any:
    people = [candidate.person for candidate in _held["register"]]
    size = len(people) // PROCESSES + 1
    return keys_by_first_byte(people[part * size : (part + 1) * size], SECRET, part * size)


def _linked(part: int) -> Counter[str]:
    grades: Counter[str] = Counter()
    mine = _held["incoming"][part::PROCESSES]
    judge = Judge(default_model(), len(_held["register"]))
    for start in range(0, len(mine), 5000):
        people = _made(mine[start : start + 5000])
        for answers in linked(people, _held["register"], _held["table"], judge, SECRET):
            grades[answers[0].grade if answers else "none"] += 1
    grades["rss_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    return grades


def _in_processes(work: Callable[[int], Any]) -> list[Any]:
    gc.freeze()
    with get_context("fork").Pool(PROCESSES, initializer=gc.disable) as pool:
        return pool.map(work, range(PROCESSES))


def main(count: int, folders: list[Path]) -> dict[str, Any]:
    half = len(folders) // 2
    registers = [(row for row in rows(folder / "registry.parquet")) for folder in folders]
    known = [of_register(row) for row in islice(chain(*registers[:half]), count)]
    queries = chain.from_iterable(rows(folder / "queries.parquet") for folder in folders[:half])
    others = (of_register(row) for row in chain(*registers[half:]))
    _held["incoming"] = list(islice(chain((of_incoming(row) for row in queries), others), count))
    times: dict[str, float] = {}
    started = last = time.perf_counter()

    def lap(name: str) -> None:
        nonlocal last
        times[name], last = round(time.perf_counter() - last, 1), time.perf_counter()

    _held["register"] = [Candidate(str(place), one) for place, one in enumerate(_made(known))]
    lap("prepare")
    table: KeyTable = merged_keys(_in_processes(_keys))
    _held["table"] = table
    lap("keys")
    found = _in_processes(_linked)
    lap("link")
    spent = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return {
        "register": len(known),
        "incoming": len(_held["incoming"]),
        "seconds": round(time.perf_counter() - started, 1),
        "of_which": times,
        "cpu_seconds": round(sum(one.ru_utime + one.ru_stime for one in spent), 1),
        "peak_rss_mb_of_each": [spent[0].ru_maxrss // 1024, *(one.pop("rss_mb") for one in found)],
        "grades": dict(sum(found, Counter())),
        "load_average": os.getloadavg(),
    }


if __name__ == "__main__":
    print(json.dumps(main(int(sys.argv[1]), [Path(name) for name in sys.argv[2:]])))
