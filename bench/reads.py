"""How fast a server answers that has 100,000 DocumentReferences of 10,000 workers: read, search, retrieve.

    python -m bench.reads [--documents 100000] [--seconds 15] [--data FOLDER] [--json FILE]

`dmst-fhir serve` runs as its users run it: rights checked, and each read traced in the audit trail on disk before
its answer leaves. wrk asks over 16 connections from the same machine, so client, server and PostgreSQL share the
cores; where wrk is not installed a client in Python does it, which itself takes half of them.
A data folder that is there already is used again.
"""

import argparse
import asyncio
import os
import random
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from bench.load import ask
from bench.measure import cpu_seconds, family, machine, postgres_processes, write
from bench.ours import as_owner, data_folder, serving, start_once, token
from fhir_server.app import Parts, build
from fhir_server.caller import service
from fhir_server.records.identifiers import oid_of, stable_id
from fhir_server.records.write import incoming_from_dict, new_id
from fhir_server.settings import Settings
from mappings.nomenclature import kinds
from mappings.patient_fr_core import WorkerRecord, to_patient
from mappings.scanned_document import FolderContext, ScannedDocument, document_reference, source_patient_info

CALLER = service("bench")
CONNECTIONS = 16
UNIT = 200
FULL = 20  # documents of a worker whose search fills a page
DAY = datetime(2026, 3, 2, 9, tzinfo=UTC)
BLOBS = 200
BLOB_SIZE = 250_000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--documents", type=int, default=100_000)
    parser.add_argument("--seconds", type=int, default=15)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    with data_folder(options.data) as data:
        result = asyncio.run(measure(data, options.documents, options.seconds))
    write("reads", result, options.json)


async def measure(data: Path, documents: int, seconds: int) -> dict[str, Any]:
    result: dict[str, Any] = {"machine": machine(), "documents": documents, "connections": CONNECTIONS}
    result["start_seconds"] = {}
    if not (data / "postgres").exists():
        result["start_seconds"]["first_ever"] = start_once(data)
    result["start_seconds"]["cold"] = start_once(data)
    async with build(Settings(data=data, log_level="warning")) as parts:
        result["load"] = await _load(parts, documents)
        result["start_seconds"]["warm"] = start_once(data)
        async with token(parts, ("system/*.rs",)) as bearer:
            with serving(data) as (port, pid, _):
                result["requests"] = await _requests(parts, port, pid, bearer, documents, seconds)
    return result


async def _requests(
    parts: Parts, port: int, pid: int, bearer: str, documents: int, seconds: int
) -> dict[str, dict[str, Any]]:
    chance = random.Random(1)
    names = [_document_id(chance.randrange(documents)) for _ in range(20_000)]
    full = [_patient_id(number) for number in range(_full_workers(documents))]
    asked = {
        "read": [f"/fhir/DocumentReference/{name}" for name in names],
        "search": [f"/fhir/DocumentReference?patient={chance.choice(full)}&_count=20" for _ in range(20_000)],
        "retrieve": [f"/fhir/Binary/{_binary_id(number)}" for number in range(BLOBS)],
    }
    results: dict[str, dict[str, Any]] = {}
    for name, paths in asked.items():
        await asyncio.to_thread(ask, port, bearer, paths, CONNECTIONS, 3)  # warm up
        traced = await _accesses(parts)
        servers, database = family(pid), postgres_processes(parts.settings.data)
        before = cpu_seconds(servers), cpu_seconds(database)
        load = round(os.getloadavg()[0], 2)
        answer = await asyncio.to_thread(ask, port, bearer, paths, CONNECTIONS, seconds)
        done = answer["requests"]
        results[name] = {
            **answer,
            "load_average_before": load,
            "server_cpu_us": round((cpu_seconds(servers) - before[0]) / done * 1e6),
            "postgres_cpu_us": round((cpu_seconds(database) - before[1]) / done * 1e6),
            "audit_rows": await _accesses(parts) - traced,
            "server_rss_mb": round(sum(process.memory_info().rss for process in servers) / 1e6),
        }
    return results


async def _accesses(parts: Parts) -> int:
    return await _count(parts, b"select count(*) from access")


async def _count(parts: Parts, query: bytes) -> int:
    async with parts.database.connection() as connection:
        row = await (await connection.execute(query)).fetchone()
        return row[0] if row else 0


# What is in the archive: a fifth of the documents belong to workers with few, the others to workers with FULL each.


def _full_workers(documents: int) -> int:
    return documents * 4 // 5 // FULL


def _worker_of(number: int, documents: int) -> int:
    """Which worker a document belongs to; there is a worker for ten documents."""
    full = _full_workers(documents)
    if number < full * FULL:
        return number % full  # the documents of one worker lie far apart, as those of ten years of lots do
    return full + number % (documents // 10 - full)


def _patient_id(number: int) -> str:
    return stable_id("patient", f"B{number:08}")


def _document_id(number: int) -> str:
    return stable_id("document", "bench", str(number))


def _binary_id(number: int) -> str:
    return stable_id("binary", "bench", str(number))


async def _load(parts: Parts, documents: int) -> dict[str, Any]:
    """Workers and documents through the one door, in units of change of 200 resources, where they are not there yet."""
    if await _count(parts, b"select count(*) from resource") >= documents:
        return {"workers": documents // 10, "documents_per_second": None, "seconds": 0}
    began = time.perf_counter()
    service_id = stable_id("service", "bench")
    await _write(parts, [{"resourceType": "Organization", "id": service_id, "name": "Service de démonstration"}])
    for start in range(0, documents // 10, UNIT):
        await _write(parts, [_patient(n, service_id) for n in range(start, min(start + UNIT, documents // 10))])
    middle = time.perf_counter()
    for start in range(0, documents, UNIT * 2):
        halves = (range(s, min(s + UNIT, documents)) for s in (start, start + UNIT))
        await asyncio.gather(*(_write(parts, [_document(n, documents, service_id) for n in half]) for half in halves))
    ended = time.perf_counter()
    for number in range(BLOBS):
        content = random.Random(number).randbytes(BLOB_SIZE)
        blob = await parts.blobs.put_bytes(content)
        binary = {"resourceType": "Binary", "id": _binary_id(number), "contentType": "application/pdf"}
        incoming = replace(incoming_from_dict(binary, method="update"), blob=blob)
        await parts.door.write(CALLER, [incoming], interaction="update", request_id=new_id())
    with as_owner(parts.postgres) as connection:
        connection.execute("vacuum analyze")
        connection.execute("checkpoint")
    return {
        "workers": documents // 10,
        "documents_per_second": round(documents / (ended - middle)),
        "seconds": round(ended - began, 1),
    }


async def _write(parts: Parts, resources: list[dict[str, Any]]) -> None:
    incoming = [incoming_from_dict(resource, method="update") for resource in resources]
    await parts.door.write(CALLER, incoming, interaction="transaction", request_id=new_id())


def _patient(number: int, service_id: str) -> dict[str, Any]:
    worker = WorkerRecord(
        folder_number=f"B{number:08}",
        birth_name=_name(number),
        used_name=None,
        given_names=("CAMILLE",),
        birth_date=(DAY - timedelta(days=9000 + number % 9000)).date().isoformat(),
        sex="female" if number % 2 else "male",
        birth_place="75115",
        matricule_ins=None,
        oid_ins=None,
        status="VALI",
        attributes=frozenset(),
    )
    return to_patient(worker, patient_id=_patient_id(number), organization_id=service_id, practitioner_role_id=None)


def _name(number: int) -> str:
    return "".join("BADUFIKOLEMINOPARESITU"[2 * (number // 11**n % 11) :][:2] for n in range(5))


def _document(number: int, documents: int, service_id: str) -> dict[str, Any]:
    worker = _worker_of(number, documents)
    patient = _patient(worker, service_id)
    scanned = DAY + timedelta(minutes=number)
    identity = _document_id(number)
    kind = list(kinds().values())[number % len(kinds())]
    context = FolderContext(
        lot="LOT_20260302_C07_0001",
        barcode=f"B{worker:08}",
        carton=None,
        provider_name="Numérisation Exemple SAS",
        provider_siret=None,
        operator="OP-001",
        scanner="SCAN-01",
        convention="CONV-2026-01",
        centre_id=service_id,
        custodian_id=service_id,
        patient_id=_patient_id(worker),
        patient_contained=source_patient_info(patient),
        doctor_practitioner_role=None,
        list_id=stable_id("list", str(worker)),
        provenance_id=lambda step: stable_id("provenance", step, str(worker)),
        manifest_sha256="0" * 64,
        seal_summary="",
        signature_der=None,
        token_der=None,
        received_at=scanned,
        verified_at=scanned,
        attached_at=scanned,
        match_reasons=(),
        attached_by=None,
    )
    document = ScannedDocument(
        document_reference_id=identity,
        binary_id=_binary_id(number % BLOBS),
        document_id=f"B{worker:08}_{number:08}",
        unique_oid=oid_of(identity),
        kind=kind,
        dated=(scanned - timedelta(days=number % 4000)).date().isoformat(),
        scanned_at=scanned,
        created=scanned,
        media_type="application/pdf",
        size=BLOB_SIZE,
        sha1=number.to_bytes(20, "big"),
        sha256=f"{number:064x}",
        pages=3,
        title=kind.label,
    )
    return document_reference(context, document)


if __name__ == "__main__":
    main()
