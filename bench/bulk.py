"""How fast resources come in by `$import` and go out by `$export`.

    python -m bench.bulk [--resources 200000] [--data FOLDER] [--json FILE]

Makes NDJSON files of fictitious workers (5 %), of readings (55 %) and of scanned documents (40 %, 3.5 kB each), before
anything is timed. `dmst-fhir serve` and `dmst-fhir work` run as their users run them. An operator names the files to
`$import`, which starts from an empty store and keeps every index as it goes; a client asks for `$export` of all and
downloads the files. Times run from the kick-off to the status that says complete. The CPU figures are of every
process, also of those that ended meanwhile.
"""

import argparse
import asyncio
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import AsyncGenerator, Callable, Generator, Iterable
from contextlib import asynccontextmanager, contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import orjson
import psutil

from bench.measure import MB, PeakMemory, family, machine, postgres_processes, write
from bench.ours import data_folder, serving
from bench.reads import DAY, _document, _patient, _patient_id
from fhir_server.app import Parts, build
from fhir_server.intake.register import service_id_of
from fhir_server.settings import Settings

PATIENTS, READINGS = 0.05, 0.55
CODES = (("8480-6", "mm[Hg]"), ("8462-4", "mm[Hg]"), ("8867-4", "/min"), ("29463-7", "kg"), ("8302-2", "cm"))
ASYNC = {"prefer": "respond-async", "accept": "application/fhir+json"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--resources", type=int, default=200_000)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    with data_folder(options.data) as data:
        result = asyncio.run(measure(data, options.resources))
    write("bulk", result, options.json)


async def measure(data: Path, resources: int) -> dict[str, Any]:
    result: dict[str, Any] = {"machine": machine()}
    files = data / "ndjson"
    settings = Settings(data=data, import_folder=files, log_level="warning")
    result["corpus"] = make_files(files, resources, service_id_of(settings))
    async with build(settings) as parts:
        with _environment(settings), serving(data) as (port, server, _), _worker(data) as worker:
            async with _operator(parts, port) as client:
                inputs = [{"type": path.stem, "url": path.name} for path in sorted(files.iterdir())]
                asked = {"resourceType": "Parameters", "parameter": [_input(**one) for one in inputs]}
                watched = [server, worker]
                result["import"], manifest = await _timed(parts, client, watched, "POST", "$import", json=asked)
                _must_be_whole(manifest, resources)
                result["import_of_what_is_there"], _ = await _timed(
                    parts, client, watched, "POST", "$import", json=asked
                )
                result["export"], manifest = await _timed(parts, client, watched, "GET", "$export")
                _must_be_whole(manifest, resources)
                result["export_of_patients"], _ = await _timed(parts, client, watched, "GET", "Patient/$export")
                result["download"] = await _download(client, manifest)
    return result


def make_files(folder: Path, resources: int, service_id: str) -> dict[str, Any]:
    """The files, one per type."""
    patients, readings = int(resources * PATIENTS), int(resources * READINGS)
    documents = resources - patients - readings - 1
    chance = random.Random(1)
    makers: dict[str, tuple[int, Callable[[int], dict[str, Any]]]] = {
        "Organization": (1, lambda _: {"resourceType": "Organization", "id": service_id, "name": "Exemple"}),
        "Patient": (patients, lambda number: _bare(_patient(number, service_id))),
        "Observation": (readings, lambda number: _reading(number, chance.randrange(patients))),
        "DocumentReference": (documents, lambda number: _bare_document(number, patients, service_id)),
    }
    folder.mkdir(parents=True, exist_ok=True)
    told: dict[str, Any] = {}
    for name, (count, make) in makers.items():
        path = folder / f"{name}.ndjson"
        with path.open("wb") as file:
            for number in range(count):
                file.write(orjson.dumps(make(number)) + b"\n")
        told[name] = {"resources": count, "mb": round(path.stat().st_size / MB, 1)}
    return told


def _bare(patient: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in patient.items() if name != "generalPractitioner"}


def _bare_document(number: int, patients: int, service_id: str) -> dict[str, Any]:
    """A document of a worker who is there, as a lot makes it, its links to what is not here left out."""
    document = _document(number, patients * 10, service_id)
    document["subject"] = {"reference": f"Patient/{_patient_id(number % patients)}"}
    document["context"].pop("related", None)
    return document


def _reading(number: int, patient: int) -> dict[str, Any]:
    code, unit = CODES[number % len(CODES)]
    at = (DAY + timedelta(minutes=number)).isoformat()
    return {
        "resourceType": "Observation",
        "id": f"reading-{number}",
        "status": "final",
        "category": [
            {
                "coding": [
                    {
                        "system": "http://terminology.hl7.org/CodeSystem/observation-category",
                        "code": "vital-signs",
                    }
                ]
            }
        ],
        "code": {"coding": [{"system": "http://loinc.org", "code": code}]},
        "subject": {"reference": f"Patient/{_patient_id(patient)}"},
        "effectiveDateTime": at,
        "issued": at,
        "valueQuantity": {
            "value": 40 + number % 1400 / 10,
            "unit": unit,
            "system": "http://unitsofmeasure.org",
            "code": unit,
        },
    }


def _input(type: str, url: str) -> dict[str, Any]:  # noqa: A002 - the name of the parameter
    return {"name": "input", "part": [{"name": "type", "valueCode": type}, {"name": "url", "valueUri": url}]}


async def _timed(
    parts: Parts, client: httpx.AsyncClient, pids: list[int], method: str, path: str, **more: Any
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Kick off, wait, and say how fast it was; and the manifest."""
    load = round(os.getloadavg()[0], 2)

    def ours() -> list[psutil.Process]:
        return [process for pid in pids for process in family(pid)]

    def database() -> list[psutil.Process]:
        return postgres_processes(parts.settings.data)

    before = _cpu_seconds(ours()), _cpu_seconds(database())
    with PeakMemory(ours) as memory:
        began = time.perf_counter()
        answer = await client.request(method, path, headers=ASYNC, **more)
        answer.raise_for_status()
        status = await _complete(client, answer.headers["content-location"])
        seconds = time.perf_counter() - began
    status.raise_for_status()
    manifest = status.json()
    done = sum(file["count"] for file in manifest["output"])
    result = {
        "resources": done,
        "seconds": round(seconds, 2),
        "per_second": round(done / seconds),
        "load_average_before": load,
        "server_and_worker_cpu_us": round((_cpu_seconds(ours()) - before[0]) / done * 1e6),
        "postgres_cpu_us": round((_cpu_seconds(database()) - before[1]) / done * 1e6),
        "peak_rss_mb": {"together": round(memory.together), "largest": round(max(memory.each.values()))},
    }
    return result, manifest


async def _complete(client: httpx.AsyncClient, url: str) -> httpx.Response:
    while True:
        status = await client.get(url)
        if status.status_code != 202:
            return status
        await asyncio.sleep(0.1)


def _cpu_seconds(processes: Iterable[psutil.Process]) -> float:
    """User and system time of the processes, and of their children that ended: an import's, a connection's."""
    total = 0.0
    for process in processes:
        try:
            total += sum(process.cpu_times()[:4])
        except psutil.NoSuchProcess:
            continue
    return total


def _must_be_whole(manifest: dict[str, Any], resources: int) -> None:
    if manifest["error"] or sum(file["count"] for file in manifest["output"]) != resources:
        raise RuntimeError(f"not everything came through: {manifest}")


async def _download(client: httpx.AsyncClient, manifest: dict[str, Any]) -> dict[str, Any]:
    """All files, one after the other."""
    began, size = time.perf_counter(), 0
    for file in manifest["output"]:
        async with client.stream("GET", file["url"]) as answer:
            async for chunk in answer.aiter_raw(2**20):
                size += len(chunk)
    seconds = time.perf_counter() - began
    return {"mb": round(size / MB), "mb_per_second": round(size / MB / seconds)}


@asynccontextmanager
async def _operator(parts: Parts, port: int) -> AsyncGenerator[httpx.AsyncClient]:
    """A client that may do everything, for as long as the bench lasts."""
    scopes = ("system/*.cruds",)
    client_id, _ = await parts.clients.add("bench", scopes, "operator")
    token, _ = await parts.clients.give_token(client_id, scopes, 60)
    base = f"http://127.0.0.1:{port}/fhir/"
    async with httpx.AsyncClient(base_url=base, headers={"authorization": f"Bearer {token}"}, timeout=120) as client:
        yield client
    await parts.clients.disable(client_id)


@contextmanager
def _environment(settings: Settings) -> Generator[None]:
    """The processes that are started know the import folder."""
    os.environ["DMST_FHIR_IMPORT_FOLDER"] = str(settings.import_folder)
    try:
        yield
    finally:
        del os.environ["DMST_FHIR_IMPORT_FOLDER"]


@contextmanager
def _worker(data: Path) -> Generator[int]:
    """`dmst-fhir work`."""
    process = subprocess.Popen([sys.executable, "-m", "fhir_server", "work", "--data", str(data)])
    try:
        yield process.pid
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=60)


if __name__ == "__main__":
    main()
