"""What searching inside texts costs: `_content` per create, and trigrams for `:contains`, in CPU time.

docs/adr/0003 draws its decisions from these figures. CPU of this process (the door, without HTTP) and of the whole
embedded PostgreSQL, so that a busy machine matters little; wall time only beside it.

    python -m bench.full_text [--creates 3000] [--words 300000] [--json FILE]
"""

import argparse
import asyncio
import random
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import psycopg

from bench.measure import cpu_seconds, machine, postgres_processes, write
from bench.ours import as_owner
from fhir_server import app, embedded
from fhir_server.caller import service
from fhir_server.r4.resource_types import TYPE_NUMBER
from fhir_server.r4.search_parameters import parameters_of
from fhir_server.records.write import Incoming, incoming_from_dict
from fhir_server.settings import Settings
from fhir_server.store.search_index import param_key

SYLLABLES = [consonant + vowel for consonant in "bdflmnprstv" for vowel in "aeio"]
AT_ONCE = 16
TRIGRAMS = "create index word_trigrams on word using gin (folded gin_trgm_ops) where param > 0"


def word(chance: random.Random) -> str:
    return "".join(chance.choices(SYLLABLES, k=chance.randint(2, 5)))


def document_reference(chance: random.Random, number: int) -> dict[str, Any]:
    """A scanned document as the intake writes it, in size."""
    return {
        "resourceType": "DocumentReference",
        "id": f"d{number}",
        "masterIdentifier": {"system": "urn:ietf:rfc:3986", "value": f"urn:oid:2.25.{chance.getrandbits(100)}"},
        "identifier": [{"system": "https://dmst-fhir.org/ns/identifier/scan-document", "value": f"LOT_1/{number}"}],
        "status": "current",
        "type": {"coding": [{"system": "http://loinc.org", "code": "11488-4", "display": "Note de consultation"}]},
        "category": [{"coding": [{"system": "http://loinc.org", "code": "47039-3", "display": "Dossier médical"}]}],
        "subject": {
            "display": f"{word(chance)} {word(chance)}",
            "identifier": {"system": "urn:s", "value": f"{number}"},
        },
        "date": f"20{chance.randint(10, 25)}-0{chance.randint(1, 9)}-1{chance.randint(0, 9)}T10:00:00+01:00",
        "author": [{"display": f"Dr {word(chance)} {word(chance)}"}],
        "description": " ".join(word(chance) for _ in range(12)),
        "content": [{"attachment": {"contentType": "application/pdf", "url": "urn:a", "title": word(chance)}}],
        "context": {
            "facilityType": {"coding": [{"system": "urn:f", "code": "SA41", "display": "Service de prévention"}]}
        },
    }


def observation(chance: random.Random, number: int) -> dict[str, Any]:
    return {
        "resourceType": "Observation",
        "id": f"o{number}",
        "status": "final",
        "code": {"coding": [{"system": "http://loinc.org", "code": "8867-4", "display": "Fréquence cardiaque"}]},
        "subject": {"identifier": {"system": "urn:s", "value": f"{number}"}},
        "effectiveDateTime": f"20{chance.randint(10, 25)}-0{chance.randint(1, 9)}-11",
        "valueQuantity": {
            "value": chance.randint(50, 99),
            "unit": "/min",
            "system": "http://unitsofmeasure.org",
            "code": "/min",
        },
        "device": {"display": word(chance)},
    }


def patient(chance: random.Random, number: int) -> dict[str, Any]:
    return {
        "resourceType": "Patient",
        "id": f"p{number}",
        "identifier": [{"system": "https://dmst-fhir.org/ns/identifier/numero-dossier", "value": f"{number}"}],
        "name": [{"family": word(chance), "given": [word(chance), word(chance)]}],
        "birthDate": f"19{chance.randint(50, 99)}-01-1{chance.randint(0, 9)}",
        "address": [{"line": [f"{number % 90} rue {word(chance)}"], "city": word(chance), "postalCode": "35000"}],
    }


MAKERS: dict[str, Callable[[random.Random, int], dict[str, Any]]] = {
    "DocumentReference": document_reference,
    "Observation": observation,
    "Patient": patient,
}


class Cpu:
    """CPU time of this process and of PostgreSQL between two moments, in microseconds per operation."""

    def __init__(self, data: Path) -> None:
        self._data = data
        self._python, self._postgres = time.process_time(), cpu_seconds(postgres_processes(data))

    def per(self, operations: int) -> dict[str, float]:
        python = time.process_time() - self._python
        postgres = cpu_seconds(postgres_processes(self._data)) - self._postgres
        return {"python_us": round(python / operations * 1e6), "postgres_us": round(postgres / operations * 1e6)}


async def creates(data: Path, kind: str, count: int, *, seed: int, content: bool) -> dict[str, float]:
    """CPU per create, with `AT_ONCE` clients at the door."""
    settings = Settings(data=data, content_search=content, seal="optional", parameters_seconds=60)
    chance = random.Random(seed)
    bodies = [MAKERS[kind](chance, seed * 1_000_000 + number) for number in range(count)]
    async with app.build(settings) as parts:
        await asyncio.sleep(1)
        cpu = Cpu(data)
        for start in range(0, count, AT_ONCE):
            incoming: list[Incoming] = [incoming_from_dict(one) for one in bodies[start : start + AT_ONCE]]
            await asyncio.gather(
                *(parts.door.write(service("bench"), [one], interaction="create", request_id="b") for one in incoming)
            )
        with as_owner(parts.postgres) as connection:  # what was put off (GIN pending lists) is paid here
            for table in ("content", "narrative", "word"):
                connection.execute(f"vacuum {table}".encode())
        return cpu.per(count)


async def of_content(data: Path, count: int) -> dict[str, Any]:
    result: dict[str, Any] = {}
    seed = 0
    for kind in ("DocumentReference", "Observation"):
        runs: dict[bool, list[dict[str, float]]] = {False: [], True: []}
        for content in (False, True) * 3:
            seed += 1
            runs[content].append(await creates(data, kind, count, seed=seed, content=content))
        result[kind] = {("on" if on else "off"): middle(figures) for on, figures in runs.items()}
    return result


async def of_trigrams(data: Path, dsn: str, count: int) -> dict[str, Any]:
    """CPU per create with the index and without it."""
    result: dict[str, Any] = {}
    seed = 100
    for kind in ("Patient", "DocumentReference", "Observation"):
        runs: dict[str, list[dict[str, float]]] = {"without": [], "with": []}
        for index in ("without", "with") * 3:
            seed += 1
            with as_owner(dsn) as connection:
                connection.execute("drop index if exists word_trigrams")
                if index == "with":
                    connection.execute(TRIGRAMS)
            runs[index].append(await creates(data, kind, count, seed=seed, content=False))
        result[kind] = {index: middle(figures) for index, figures in runs.items()}
    return result


def middle(figures: Sequence[dict[str, float]]) -> dict[str, float]:
    return {name: statistics.median(one[name] for one in figures) for name in figures[0]}


def of_contains(dsn: str, count: int) -> dict[str, Any]:
    """Milliseconds of PostgreSQL per search inside `count` words of one parameter, beside as many of others."""
    key = param_key(TYPE_NUMBER["Patient"], parameters_of("Patient")["family"])
    chance = random.Random(7)
    result: dict[str, Any] = {}
    with as_owner(dsn) as connection:
        for other in (0, 1, 2):
            rows = [(key + other, word(chance) + word(chance), 10_000_000 + number) for number in range(count)]
            with connection.cursor().copy("copy word (param, folded, rid) from stdin") as copy:
                for row in sorted(rows):
                    copy.write_row(row)
        connection.execute("set plan_cache_mode = force_custom_plan")
        connection.execute("set jit = off")
        for index in ("without", "with"):
            connection.execute("drop index if exists word_trigrams")
            if index == "with":
                connection.execute(TRIGRAMS)
                size = connection.execute("select pg_relation_size('word_trigrams')").fetchone()
                result["index_mb"] = round((size or (0,))[0] / 1e6, 1)
            connection.execute("vacuum analyze word")
            for name, length in (("2 letters", 2), ("4 letters", 4), ("8 letters", 8)):
                result.setdefault(name, {})[index] = _times(connection, key, length)
    return result


def _times(connection: psycopg.Connection[Any], key: int, length: int) -> dict[str, float]:
    chance = random.Random(length)
    times: list[float] = []
    found: list[int] = []
    for _ in range(30):
        asked = "".join(word(chance) for _ in range(5))[:length]
        began = time.perf_counter()
        statement = "select count(*) from word w where w.param = %s and w.folded like %s"
        row = connection.execute(statement, (key, f"%{asked}%")).fetchone()
        times.append((time.perf_counter() - began) * 1000)
        found.append((row or (0,))[0])
    return {
        "ms_p50": round(statistics.median(times), 2),
        "ms_max": round(max(times), 2),
        "found": statistics.median(found),
    }


async def measured(data: Path, dsn: str, count: int, words: int) -> dict[str, Any]:
    return {
        "machine": machine(),
        "content": await of_content(data, count),
        "trigrams": await of_trigrams(data, dsn, count),
        "contains": of_contains(dsn, words),
    }


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--creates", type=int, default=3000)
    arguments.add_argument("--words", type=int, default=300_000)
    arguments.add_argument("--json", type=Path)
    given = arguments.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder)
        data.chmod(0o755)
        with embedded.running(data) as servers:
            result = asyncio.run(measured(data, servers.postgres, given.creates, given.words))
    write("full_text", result, given.json)


if __name__ == "__main__":
    main()
