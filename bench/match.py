"""Patient/$match end to end over HTTP, in a register of so many workers.

    python -m bench match [--workers 100000] [--clients 4] [--seconds 30] [--data FOLDER] [--json FILE]

Workers are drawn by the frequencies of names of the default model, with INS and birth place, and copied in as the
server keeps them: the resource and the parts of its identity, without the rows of the search index, which this question
does not ask. Three in four questions are about one of them, a fifth of these with a slip in the name or in the date;
half of all state the INS. `--data` names a folder that is kept: a second run measures at once.
"""

import argparse
import asyncio
import itertools
import os
import random
import struct
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from datetime import UTC, date, datetime, timedelta
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

import httptools
import orjson
from psycopg import sql

from bench.measure import Spent, family, machine, postgres_processes, spread, write
from bench.ours import as_owner, data_folder, serving, token
from fhir_server.app import build
from fhir_server.linkage.comparable import Rarity
from fhir_server.linkage.model import default_model
from fhir_server.linkage.workers import parts_of_patient
from fhir_server.r4.resource_types import TYPE_NUMBER
from fhir_server.settings import Settings
from fhir_server.sight import own_hash
from mappings.access_facts import access_facts
from mappings.patient_fr_core import WorkerRecord, ins_identifier, to_patient
from terminology import systems

SEED: Final = 20261123
CHUNK: Final = 10_000
UPDATED: Final = datetime(2026, 11, 1, tzinfo=UTC)
RESOURCE: Final = (
    ("rid", "int8"), ("type", "int2"), ("id", "text"), ("version", "int4"), ("updated", "timestamptz"),
    ("deleted", "bool"), ("doc", "bytea"), ("own_hash", "int8"), ("refs", "int8[]"), ("present", "int2[]"),
    ("guard", "int4"), ("worker", "int8"),
)  # fmt: skip
QUESTIONS: Final = 20_000


class Names:
    """Names as often as people bear them: of those that the model lists, and rare ones made of syllables."""

    def __init__(self, rarity: Rarity) -> None:
        self._names = list(rarity.classes)
        self._weights = list(itertools.accumulate(2.0**-one for one in rarity.classes.values()))
        self._listed = min(self._weights[-1], 0.98)

    def draw(self, chance: random.Random) -> str:
        if chance.random() < self._listed:
            return chance.choices(self._names, cum_weights=self._weights)[0]
        return "".join(chance.choice("BCDFGLMNPRSTV") + chance.choice(("A", "E", "I", "O", "OU", "AN")) for _ in "abc")


@cache
def _names() -> tuple[Names, Names]:
    model = default_model()
    return Names(model.families), Names(model.givens)


def worker(number: int) -> WorkerRecord:
    """The worker with this number: the same in every run."""
    chance = random.Random(SEED * 100_000_000 + number)
    families, givens = _names()
    born = date(1957, 1, 1) + timedelta(days=chance.randrange(50 * 365))
    man, place = chance.random() < 0.5, f"{chance.randrange(1, 96):02}{chance.randrange(1, 500):03}"
    thirteen = f"{1 if man else 2}{born:%y%m}{place.replace('20', '19', 1)}{chance.randrange(1, 999):03}"
    qualified = chance.random() < 0.8
    return WorkerRecord(
        folder_number=f"{number:08}",
        birth_name=families.draw(chance),
        used_name=families.draw(chance) if not man and chance.random() < 0.4 else None,
        given_names=tuple(givens.draw(chance) for _ in range(chance.choice((1, 1, 2)))),
        birth_date=born.isoformat(),
        sex="male" if man else "female",
        birth_place=place,
        matricule_ins=f"{thirteen}{97 - int(thirteen) % 97:02}",
        oid_ins=systems.INS_NIR_OID,
        status="QUAL" if qualified else "PROV",
        attributes=frozenset(),
        employer_name="Atelier",
    )


def question(chance: random.Random, workers: int) -> bytes:
    """A Patient that somebody asks for."""
    known = chance.random() < 0.75
    asked = worker(chance.randrange(1, workers + 1) if known else workers + chance.randrange(1, 10**7))
    name, born = asked.used_name or asked.birth_name or "", asked.birth_date or ""
    slip = chance.random()
    if slip < 0.1 and len(name) > 3:
        at = chance.randrange(1, len(name))
        name = name[:at] + name[at + 1 :]
    elif slip < 0.2:
        year, month, day = born.split("-")
        born = f"{year}-{day}-{month}" if int(day) <= 12 else f"{year}-{month}-{int(day) - 3 or 1:02}"
    patient: dict[str, Any] = {
        "resourceType": "Patient",
        "name": [{"family": name, "given": list(asked.given_names[:1])}],
        "birthDate": born,
        "gender": asked.sex,
    }
    if chance.random() < 0.5:
        patient["identifier"] = [ins_identifier(asked.matricule_ins or "", systems.INS_NIR_OID)]
    parameter = [{"name": "resource", "resource": patient}, {"name": "count", "valueInteger": 5}]
    return orjson.dumps({"resourceType": "Parameters", "parameter": parameter})


def fill(dsn: str, workers: int) -> float:
    """COPY the workers in; the seconds that it took."""
    began = time.perf_counter()
    with as_owner(dsn) as connection:
        row = connection.execute("select key from server_key where purpose = 'identity'").fetchone()
        assert row
        connection.execute("alter table identity_key drop constraint identity_key_pkey")
        chunks = [range(start, min(start + CHUNK, workers + 1)) for start in range(1, workers + 1, CHUNK)]
        with ProcessPoolExecutor(os.cpu_count()) as pool:
            for done, _ in enumerate(pool.map(_copy, [dsn] * len(chunks), [bytes(row[0])] * len(chunks), chunks), 1):
                print(f"{done * CHUNK} of {workers}", f"{time.perf_counter() - began:.0f} s", flush=True)
        connection.execute("set maintenance_work_mem = '1GB'")
        connection.execute("alter table identity_key add primary key (tenant, k, rid)")
        connection.execute("select setval('rid_seq', %s)", (workers + 1,))
        connection.execute("vacuum analyze resource, identity_key")
        connection.execute("checkpoint")
    return time.perf_counter() - began


def _copy(dsn: str, secret: bytes, numbers: range) -> None:
    resources: list[tuple[Any, ...]] = []
    keys: list[tuple[int, int]] = []
    for number in numbers:
        patient = to_patient(worker(number), patient_id=f"w{number}", organization_id="spst", practitioner_role_id=None)
        patient["meta"] |= {"versionId": "1", "lastUpdated": "2026-11-01T00:00:00.000Z"}
        own = own_hash(f"Patient/w{number}")
        guard = access_facts(patient).guard
        doc = orjson.dumps(patient)
        row = (number, TYPE_NUMBER["Patient"], f"w{number}", 1, UPDATED, False, doc, own, [], [], guard, own)
        resources.append(row)
        keys += [(_keyed(part, secret), number) for part in set(parts_of_patient(patient))]
    with as_owner(dsn) as connection, connection.transaction():
        connection.execute("set local synchronous_commit = off")
        _copy_rows(connection, "resource", [name for name, _ in RESOURCE], [kind for _, kind in RESOURCE], resources)
        _copy_rows(connection, "identity_key", ("k", "rid"), ("int8", "int8"), sorted(keys))


def _keyed(part: int, secret: bytes) -> int:
    """`queries.KEYED`."""
    return int.from_bytes(sha256(secret + struct.pack(">q", part)).digest()[:8], "big", signed=True)


def _copy_rows(connection: Any, table: str, columns: Sequence[str], types: Sequence[str], rows: Sequence[Any]) -> None:
    names = sql.SQL(", ").join(map(sql.Identifier, columns))
    statement = sql.SQL("copy {} ({}) from stdin (format binary)").format(sql.Identifier(table), names)
    with connection.cursor() as cursor, cursor.copy(statement) as copy:
        copy.set_types(list(types))
        for row in rows:
            copy.write_row(row)


class Client:
    """One connection that asks again when it has its answer."""

    def __init__(self, port: int, bearer: str, questions: Iterator[bytes], until: float) -> None:
        self._port, self._questions, self._until = port, questions, until
        self._head = (
            f"POST /fhir/Patient/$match HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {bearer}\r\n"
            "Content-Type: application/fhir+json\r\n"
        )
        self._complete = False
        self._body = b""
        self.latencies: list[float] = []
        self.shown: list[int] = []
        self.certain = self.errors = 0

    async def run(self) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", self._port, limit=2**20)
        while time.perf_counter() < self._until:
            body = next(self._questions)
            began = time.perf_counter()
            writer.write(f"{self._head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
            parser, self._complete, self._body = httptools.HttpResponseParser(self), False, b""
            while not self._complete:
                data = await reader.read(2**18)
                if not data:
                    raise ConnectionError("the server closed the connection")
                parser.feed_data(data)
            self.latencies.append((time.perf_counter() - began) * 1000)
            self.errors += parser.get_status_code() != 200
            self.shown.append(self._body.count(b'"mode":"match"'))
            self.certain += b'"valueCode":"certain"' in self._body
        writer.close()
        await writer.wait_closed()

    def on_body(self, body: bytes) -> None:
        self._body += body

    def on_message_complete(self) -> None:
        self._complete = True


async def ask(port: int, bearer: str, workers: int, clients: int, seconds: float, seed: int) -> dict[str, Any]:
    """What came of asking so long by so many clients at once; latencies in milliseconds."""
    chance = random.Random(seed)
    questions = itertools.cycle([question(chance, workers) for _ in range(QUESTIONS)])
    began = time.perf_counter()
    asking = [Client(port, bearer, questions, began + seconds) for _ in range(clients)]
    await asyncio.gather(*(one.run() for one in asking))
    taken = [latency for one in asking for latency in one.latencies]
    spent = time.perf_counter() - began
    shown = [count for one in asking for count in one.shown]
    return {
        "requests": len(taken),
        "per_second": round(len(taken) / spent),
        **spread(taken, 2),
        "errors": sum(one.errors for one in asking),
        "shown_on_average": round(sum(shown) / len(shown), 2),
        "certain_share": round(sum(one.certain for one in asking) / len(taken), 3),
    }


async def measure(data: Path, workers: int, clients: int, seconds: float) -> dict[str, Any]:
    """The register is filled where the folder has none; then it is asked, warm-up not counted."""
    os.environ["DMST_FHIR_CLIENT_IDENTITY_SEARCHES_PER_MINUTE"] = "10000000"
    os.environ["DMST_FHIR_CLIENT_REQUESTS_PER_MINUTE"] = "10000000"
    result: dict[str, Any] = {"machine": machine(), "workers": workers, "clients": clients}
    async with build(Settings(data=data, log_level="warning")) as parts:
        row = await parts.archive.resources.read(TYPE_NUMBER["Patient"], "w1")
        if row is None:
            result["load_seconds"] = round(await asyncio.to_thread(fill, parts.postgres, workers))
        async with token(parts, ("system/Patient.rs",)) as bearer:
            with serving(data) as (port, pid, _):
                await ask(port, bearer, workers, clients, min(seconds, 10), 1)
                server, database = Spent(lambda: family(pid)), Spent(lambda: postgres_processes(data))
                load = os.getloadavg()[0]
                result["answer"] = await ask(port, bearer, workers, clients, seconds, 2)
                done = result["answer"]["requests"] / 1000
                result["server_cpu_ms"] = round(server.seconds() / done, 2)
                result["postgres_cpu_ms"] = round(database.seconds() / done, 2)
                result["load_average_during"] = [round(load, 2), round(os.getloadavg()[0], 2)]
    return result


def main() -> None:
    parser = argparse.ArgumentParser("bench match", description=__doc__)
    parser.add_argument("--workers", type=int, default=100_000)
    parser.add_argument("--clients", type=int, default=4)
    parser.add_argument("--seconds", type=float, default=30)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    with data_folder(options.data) as data:
        write("match", asyncio.run(measure(data, options.workers, options.clients, options.seconds)), options.json)


if __name__ == "__main__":
    main()
