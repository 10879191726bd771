"""The audit trail, filled and asked: first pages, inserts with sealing beside them, sealing, verification, export.

docs/adr/0006; dmst.md §7 and scenario A10. Rows are made up and copied in as the superuser, the indexes made after it.

    python -m bench audit [--millions 2] [--seconds 10] [--writers 64] [--data FOLDER] [--json FILE]
"""

import argparse
import asyncio
import random
import statistics
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import orjson
from psycopg import sql

from bench.measure import cpu_seconds, machine, postgres_processes, write
from bench.ours import as_owner, data_folder
from fhir_server.app import Parts, build
from fhir_server.audit_commands import export
from fhir_server.caller import Caller
from fhir_server.records import audit
from fhir_server.records.trail_verify import Question, verify
from fhir_server.rest.audit_events import MOST_COUNTED
from fhir_server.settings import Settings
from fhir_server.store.access_log import Wanted

WORKERS, PROFESSIONALS, DAYS = 480_000, 592, 365
LAST = datetime(2026, 10, 31, 18, tzinfo=UTC)
COLUMNS = (
    "at, interaction, outcome, client_id, role, purpose, type, resource_id, version, patient_id, query, request_id,"
    " professional"
)
PAGE = 21
REPEATED = 15


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--millions", type=float, default=2.0)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--writers", type=int, default=64)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    with data_folder(options.data) as data:
        result = asyncio.run(run(data, int(options.millions * 1_000_000), options.seconds, options.writers))
    write("audit", result, options.json)
    return 0


async def run(data: Path, count: int, seconds: float, writers: int) -> dict[str, Any]:
    settings = Settings(data=data, log_level="error")
    result: dict[str, Any] = {"machine": machine(), "rows": count}
    async with build(settings) as parts:
        began = time.perf_counter()
        await asyncio.to_thread(_fill, parts, count)
        result["fill_seconds"] = round(time.perf_counter() - began, 1)
        began = time.perf_counter()
        sealed = await parts.seals.seal_once()
        result["sealed_per_second"] = round(sealed / (time.perf_counter() - began))
        result["insert"] = await _inserts(parts, data, seconds, writers)
        result["first_page_ms"] = await _pages(parts)
        await parts.seals.seal_once()
        began = time.perf_counter()
        report = await verify(parts.seals, Question())
        assert not report.faults, report.faults[0]
        result["verified_per_second"] = round(report.rows / (time.perf_counter() - began))
        result["seals"] = report.seals
        began = time.perf_counter()
        account = await export(
            parts, data / "trail.ndjson", patient_id=None, professional="p7", low=None, high=None, form="ndjson",
            signed=False, by="bench",
        )  # fmt: skip
        taken = time.perf_counter() - began
        result["export"] = {"rows": orjson.loads(account)["rows"], "seconds": round(taken, 2)}
        result["bytes"] = _sizes(parts)
    return result


async def _inserts(parts: Parts, data: Path, seconds: float, writers: int) -> dict[str, Any]:
    """Rows a second that are on disk, one at a time from many readers, while the sealer works."""
    sealing = asyncio.create_task(parts.seals.seal_forever(1.0))
    caller = Caller("software", "Software", "external-system", (), "TREAT", "p1")
    until, kept = time.perf_counter() + seconds, 0
    cpu = cpu_seconds(postgres_processes(data))
    processor = time.process_time()

    async def one() -> None:
        nonlocal kept
        while time.perf_counter() < until:
            row = audit.access(caller, "read", "r", resource_type="Patient", resource_id="w1", patient_id="w1")
            await parts.archive.accesses.append(row)
            kept += 1

    await asyncio.gather(*(one() for _ in range(writers)))
    spent = cpu_seconds(postgres_processes(data)) - cpu
    sealing.cancel()
    newest = await parts.seals.newest()
    waiting, _ = await parts.seals.unsealed(newest.last_id if newest else None)
    return {
        "writers": writers,
        "per_second": round(kept / seconds),
        "postgres_cpu_us": round(spent / kept * 1e6, 1),
        "server_cpu_us": round((time.process_time() - processor) / kept * 1e6, 1),
        "unsealed_at_the_end": waiting,
    }


def _fill(parts: Parts, count: int) -> None:
    chance = random.Random(20261122)
    step = timedelta(days=DAYS) / count
    with as_owner(parts.postgres) as connection:
        connection.execute("set maintenance_work_mem = '512MB'")
        indexes = connection.execute(
            "select indexname, indexdef from pg_indexes where tablename = 'access' and indexname <> 'access_pkey'"
        ).fetchall()
        for name, _ in indexes:
            connection.execute(sql.SQL("drop index {}").format(sql.Identifier(name)))
        with connection.cursor().copy(f"copy access ({COLUMNS}) from stdin") as copy:
            for number in range(count):
                at = LAST - step * (count - number)
                worker = chance.randrange(WORKERS)
                copy.write_row((
                    at, "read", 0, "software", "external-system", "TREAT", 34, f"d{worker}", 1, f"w{worker}", None,
                    f"{chance.getrandbits(64):016x}", f"p{int(PROFESSIONALS * chance.random() ** 2)}",
                ))  # fmt: skip
        for _, statement in indexes:
            connection.execute(statement)
        connection.execute("vacuum analyze access")


async def _pages(parts: Parts) -> dict[str, Any]:
    """Milliseconds of the first page with its total, as the search makes it: median and largest."""
    day = LAST.replace(hour=0) - timedelta(days=30)
    busiest = Wanted(professional="p0")
    asked = {
        "newest of all": Wanted(),
        "one worker": Wanted(patient_id="w4711"),
        "one worker, a year": Wanted(patient_id="w4712", low=day - timedelta(days=DAYS), high=day),
        "the busiest professional": busiest,
        "the busiest professional, one day": busiest._replace(low=day, high=day + timedelta(days=1)),
        "one day": Wanted(low=day, high=day + timedelta(days=1)),
        "the one client": Wanted(client_id="software"),
        "a client of long ago, nothing found": Wanted(client_id="nobody"),
        "one worker by one professional": Wanted(patient_id="w4713", professional="p1"),
    }
    log = parts.archive.accesses

    async def page(wanted: Wanted) -> None:
        await log.search(wanted, before=None, limit=PAGE)
        await log.count(wanted, most=MOST_COUNTED + 1)

    return {name: await _timed(lambda wanted=wanted: page(wanted)) for name, wanted in asked.items()}


async def _timed(work: Callable[[], Awaitable[None]]) -> dict[str, float]:
    taken: list[float] = []
    for _ in range(REPEATED):
        began = time.perf_counter()
        await work()
        taken.append((time.perf_counter() - began) * 1000)
    return {"p50": round(statistics.median(taken), 1), "max": round(max(taken), 1)}


def _sizes(parts: Parts) -> dict[str, int]:
    with as_owner(parts.postgres) as connection:
        return dict(
            connection.execute(
                "select relname, pg_relation_size(oid) from pg_class where relname like 'access%'"
                " and relkind in ('r', 'i') and relname not like 'access_token%' order by 2 desc"
            ).fetchall()
        )


if __name__ == "__main__":
    raise SystemExit(main())
