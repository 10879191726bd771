"""Is everything that was acknowledged there after kill -9, whole, indexed, with its history and its trail?

    python -m bench.crash [--rounds 20] [--writers 8] [--json FILE]

Each round: `dmst-fhir serve` starts on the embedded PostgreSQL, writers post transactions, and at a moment of chance
the server is killed with SIGKILL; in every other round all processes of PostgreSQL with it. Both start again, and each
transaction of the round is looked for: one that was acknowledged has to be there whole, one that was not is there whole
or not at all. At the end the whole store is looked through. A fault makes the status 1.

It proves what a crash of processes does; the disk keeps what the kernel holds, so not what a power cut does.
"""

import argparse
import asyncio
import hashlib
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import orjson
import psutil
import pybase64

from bench.measure import machine, postgres_processes, write
from fhir_server import embedded
from fhir_server.app import Parts, build
from fhir_server.r4.resource_types import TYPE_NUMBER
from fhir_server.records.trail_verify import Question, verify
from fhir_server.settings import Settings
from fhir_server.store.search_index import rows_of

SCOPES = ("system/*.cruds",)
START_SECONDS = 60.0
COUNTER = "counter"
INDEX_OF = {
    "tokens": b"select h from token where rid = %s",
    "periods": b"select param, low, high from period where rid = %s",
    "words": b"select param, folded from word where rid = %s",
}
# What must find nothing: rows that lead nowhere, versions that are missing or twice there, writes without a trace.
NOTHING = {
    "index rows without their resource": b"""
        select count(*) from (select rid from token union all select rid from period union all select rid from word) i
        left join resource r using (rid) where r.rid is null or r.deleted""",
    "histories with a gap": b"""
        select count(*) from resource r
        where version - 1 <> (select count(distinct h.version) from resource_history h
                              where h.rid = r.rid and h.version < r.version)""",
    "versions that lead nowhere": b"""
        select count(*) from resource_history h left join resource r using (rid) where r.rid is null""",
    "resources without a row in the trail": b"""
        select count(*) from resource r
        where not exists (select 1 from access a where (a.type, a.resource_id) = (r.type, r.id))""",
}


@dataclass
class Round:
    """What the writers of one round sent, and what of it was acknowledged."""

    number: int
    sent: set[str] = field(default_factory=set)
    acknowledged: set[str] = field(default_factory=set)
    refused: list[str] = field(default_factory=list)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--writers", type=int, default=8)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="dmst-crash-", ignore_cleanup_errors=True) as folder:
        Path(folder).chmod(0o755)  # as root the embedded PostgreSQL runs as another user
        data = Path(folder) / "data"
        with embedded.running(data):
            result = asyncio.run(crash(data, options.rounds, options.writers, random.Random(options.seed)))
    write("crash", result, options.json)
    return 1 if result["faults"] else 0


async def crash(data: Path, rounds: int, writers: int, chance: random.Random) -> dict[str, Any]:
    settings = Settings(data=data, log_level="error", drain_seconds=0)
    async with build(settings) as parts:
        client_id, _ = await parts.clients.add("crash", SCOPES, "external-system")
        token, _ = await parts.clients.give_token(client_id, SCOPES, 60)
    result: dict[str, Any] = {"machine": machine(), "rounds": rounds, "writers": writers, "postgres_killed": 0}
    done: list[Round] = []
    faults: list[str] = []
    for number in range(rounds):
        one = Round(number)
        with_postgres = number % 2 == 1
        await _until_killed(data, token, one, writers, chance.uniform(0.1, 2.0), with_postgres=with_postgres)
        result["postgres_killed"] += with_postgres
        async with build(settings) as parts:
            faults += await faults_of_round(parts, one)
        done.append(one)
        print(f"round {number}: {len(one.acknowledged)} acknowledged of {len(one.sent)}", file=sys.stderr)
    async with build(settings) as parts:
        faults += await faults_of_store(parts)
        there = await _there(parts)
    sent, acknowledged = (set().union(*(getattr(one, name) for one in done)) for name in ("sent", "acknowledged"))
    return result | {
        "transactions_sent": len(sent),
        "acknowledged": len(acknowledged),
        "under_way_when_killed": len(sent - acknowledged),
        "of_those_there_whole": len((sent - acknowledged) & there),
        "faults": faults,
    }


async def _until_killed(
    data: Path, token: str, one: Round, writers: int, seconds: float, *, with_postgres: bool
) -> None:
    port = _free_port()
    environment = os.environ | {"DMST_FHIR_LOG_LEVEL": "error"}
    command = [sys.executable, "-m", "fhir_server", "serve", "--data", str(data), "--port", str(port)]
    server = await asyncio.to_thread(subprocess.Popen, command, env=environment)
    headers = {"authorization": f"Bearer {token}", "content-type": "application/fhir+json"}
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", headers=headers, timeout=30) as client:
        try:
            await _ready(client)
            writing = [asyncio.create_task(_writes(client, one, writer)) for writer in range(writers)]
            await asyncio.sleep(seconds)
        finally:
            family = postgres_processes(data) if with_postgres else []
            server.send_signal(signal.SIGKILL)
            for process in family:
                _kill(process)
            server.wait()
        await asyncio.gather(*writing)
    if with_postgres:
        psutil.wait_procs(family, timeout=30)
        embedded._stop_postgres(data / "postgres")  # it is dead: this only makes the wheel forget that it runs
        embedded._start_postgres(data / "postgres")


def _kill(process: psutil.Process) -> None:
    try:
        process.kill()
    except psutil.NoSuchProcess:
        return


async def _ready(client: httpx.AsyncClient) -> None:
    deadline = time.monotonic() + START_SECONDS
    while True:
        try:
            if (await client.get("/readyz")).status_code == 200:
                return
        except httpx.TransportError:
            if time.monotonic() > deadline:
                raise
        await asyncio.sleep(0.05)


async def _writes(client: httpx.AsyncClient, one: Round, writer: int) -> None:
    """Transactions one after the other, until the server is gone."""
    turn = 0
    while True:
        turn += 1
        name = f"r{one.number}-w{writer}-t{turn}"
        one.sent.add(name)
        try:
            answer = await client.post("/fhir", content=transaction_of(name, writer), headers={"x-request-id": name})
        except httpx.TransportError:
            return
        if answer.status_code == 200:
            one.acknowledged.add(name)
        elif answer.status_code != 503:  # PostgreSQL went first
            one.refused.append(f"{name}: {answer.status_code} {answer.text[:200]}")


def transaction_of(name: str, writer: int) -> bytes:
    """A new Patient, an Observation on him, a Binary, and the next version of what this writer counts."""
    patient = {"resourceType": "Patient", "id": f"{name}-p", "name": [{"family": name}], "birthDate": "1970-01-01"}
    reading = {
        "resourceType": "Observation",
        "id": f"{name}-o",
        "status": "final",
        "code": {"coding": [{"system": "http://loinc.org", "code": "8867-4"}]},
        "subject": {"reference": f"Patient/{name}-p"},
        "effectiveDateTime": "2026-03-02T09:00:00Z",
    }
    content = pybase64.b64encode(f"{name} {'x' * 5000}".encode()).decode()
    binary = {"resourceType": "Binary", "id": f"{name}-b", "contentType": "text/plain", "data": content}
    counter = {"resourceType": "Basic", "id": f"{COUNTER}-{writer}", "code": {"text": name}}
    entries = [
        {"resource": one, "request": {"method": "PUT", "url": f"{one['resourceType']}/{one['id']}"}}
        for one in (patient, reading, binary, counter)
    ]
    return orjson.dumps({"resourceType": "Bundle", "type": "transaction", "entry": entries})


async def faults_of_round(parts: Parts, one: Round) -> list[str]:
    """What is wrong with the transactions of a round."""
    faults = list(one.refused)
    async with parts.database.connection() as connection:
        kept = await (await connection.execute(b"select type, id from resource")).fetchall()
        traced = await (await connection.execute(b"select request_id, type, resource_id from access")).fetchall()
        counted = await (
            await connection.execute(
                b"select convert_from(doc, 'UTF8')::jsonb #>> '{code,text}' from"
                b" (select type, doc from resource union all select r.type, h.doc from resource r"
                b" join resource_history h using (rid)) v where type = %s",
                (TYPE_NUMBER["Basic"],),
            )
        ).fetchall()
    there, trail, counts = set(kept), set(traced), {text for (text,) in counted}
    for name in sorted(one.sent):
        parts_of_it = _resources_of(name)
        found = [part in there for part in parts_of_it] + [name in counts]
        found += [(name, *part) in trail for part in parts_of_it]
        if name in one.acknowledged and not all(found):
            faults.append(f"{name} was acknowledged and is not there whole: {found}")
        elif any(found) and not all(found):
            faults.append(f"{name} is half there: {found}")
    return faults


def _resources_of(name: str) -> list[tuple[int, str]]:
    return [
        (TYPE_NUMBER["Patient"], f"{name}-p"),
        (TYPE_NUMBER["Observation"], f"{name}-o"),
        (TYPE_NUMBER["Binary"], f"{name}-b"),
    ]


async def _there(parts: Parts) -> set[str]:
    async with parts.database.connection() as connection:
        rows = await (
            await connection.execute(b"select id from resource where type = %s", (TYPE_NUMBER["Patient"],))
        ).fetchall()
    return {resource_id.removesuffix("-p") for (resource_id,) in rows}


async def faults_of_store(parts: Parts) -> list[str]:
    """Every resource against its index and its bytes, what must not be there, and the trail against its seals."""
    faults: list[str] = []
    async with parts.database.connection() as connection:
        for name, statement in NOTHING.items():
            row = await (await connection.execute(statement)).fetchone()
            if row and row[0]:
                faults.append(f"{row[0]} {name}")
        rows = await (
            await connection.execute(b"select rid, id, doc, blob_sha256 from resource where not deleted")
        ).fetchall()
        for rid, resource_id, doc, sha256 in rows:
            expected = rows_of(orjson.loads(doc))
            for table, statement in INDEX_OF.items():
                found = await (await connection.execute(statement, (rid,))).fetchall()
                indexed = {one[0] if table == "tokens" else one for one in found}
                wanted = {one if table == "tokens" else tuple(one) for one in getattr(expected, table)}
                if indexed != wanted:
                    faults.append(f"{resource_id}: its {table} are not those of its document")
            kept = sha256 and hashlib.sha256(b"".join([one async for one in parts.blobs.chunks(sha256)])).digest()
            if kept != sha256 or (sha256 is not None) != (orjson.loads(doc)["resourceType"] == "Binary"):
                faults.append(f"{resource_id}: its bytes are not those of its name")
    await parts.seals.seal_once()
    report = await verify(parts.seals, Question())
    return faults + [f"seal {fault.seal} of the trail: {fault.text}" for fault in report.faults]


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


if __name__ == "__main__":
    sys.exit(main())
