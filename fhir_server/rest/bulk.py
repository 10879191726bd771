"""Bulk jobs seen from outside: status, manifest, files, cancellation.

https://hl7.org/fhir/uv/bulkdata/export.html#bulk-data-status-request - only the client that asked sees its job.
"""

import re
from collections.abc import AsyncIterator, Sequence
from email.utils import format_datetime
from typing import Any, Final

import orjson

from fhir_server.outcomes import BadParameter, Failure, Issue, NotFound, RangeNotSatisfiable
from fhir_server.r4.resource_types import TYPE_NAME
from fhir_server.records.bulk import ERRORS, chunks_of, progress_of
from fhir_server.records.export_files import DELETED, OUTPUT
from fhir_server.records.render import instant
from fhir_server.rest.http import Answer, Exchange, Header, outcome
from fhir_server.rest.service import Service
from fhir_server.store.bulk_jobs import ExportFile, Input, Job

JOBS: Final = "_bulk"
NDJSON: Final = b"application/fhir+ndjson"
SHORTEST_PAUSE, LONGEST_PAUSE = 1, 60
_REST = re.compile(r"bytes=(\d{1,18})-(\d{1,18})?")


def must_be_asynchronous(exchange: Exchange) -> None:
    """Raises BadParameter for a client that would wait for the answer."""
    if "respond-async" not in [part.strip() for part in (exchange.header(b"prefer") or "").lower().split(",")]:
        raise BadParameter("This operation is asynchronous only: send Prefer: respond-async", expression="Prefer")


def accepted(service: Service, job_id: str, ignored: Sequence[Issue] = ()) -> Answer:
    """202: where to ask how far it is, and what of the request was left out."""
    issues = [Issue("warning", one.code, one.diagnostics, one.expression) for one in ignored]
    issues.append(Issue("information", "informational", "Accepted: ask for the status at Content-Location"))
    location = f"{service.base}/{JOBS}/{job_id}"
    return Answer(202, orjson.dumps(outcome(issues)), [(b"content-location", location.encode())])


async def status(exchange: Exchange, service: Service) -> Answer:
    """202 while it is under way, 200 with the manifest at its end. Raises Failure with what stopped it, NotFound."""
    job = await service.bulk.find(exchange.known_caller(), exchange.segments[1])
    inputs = await service.bulk.jobs.inputs(job.job_id)
    if job.state == "failed":
        raise Failure(job.problem or "The job could not be finished")
    if job.state != "complete":
        words, share = progress_of(job, inputs)
        pause = LONGEST_PAUSE if share < 0.01 else round((1 - share) * LONGEST_PAUSE)
        if job.state == "accepted" or share > 0.5:
            pause = SHORTEST_PAUSE
        headers: list[Header] = [
            (b"x-progress", words.encode()),
            (b"retry-after", str(max(SHORTEST_PAUSE, min(pause, LONGEST_PAUSE))).encode()),
        ]
        return Answer(202, b"", headers)
    refused = await service.bulk.jobs.refused_inputs(job.job_id)
    files = await service.bulk.jobs.files(job.job_id)
    manifest = (
        _export_manifest(service, job, files)
        if job.kind == "export"
        else _import_manifest(service, job, inputs, refused)
    )
    expires = (b"expires", format_datetime(job.expires, usegmt=True).encode())
    return Answer(200, orjson.dumps(manifest), [expires], b"application/json")


def _export_manifest(service: Service, job: Job, files: Sequence[ExportFile]) -> dict[str, Any]:
    listed = [
        (file.kind, {"type": TYPE_NAME[file.type], "url": _url(service, job, file.name), "count": file.resources})
        for file in files
    ]
    return {
        "transactionTime": instant(job.at),
        "request": job.request["shown"],
        "requiresAccessToken": True,
        "output": [one for kind, one in listed if kind == OUTPUT],
        "deleted": [one | {"type": "Bundle"} for kind, one in listed if kind == DELETED],
        "error": [],
    }


def _import_manifest(service: Service, job: Job, inputs: Sequence[Input], refused: dict[int, int]) -> dict[str, Any]:
    named = {one.position: {"inputUrl": one.name} for one in inputs if not job.request["posted"]}
    return {
        "transactionTime": instant(job.at),
        "request": job.request["shown"],
        "requiresAccessToken": True,
        "output": [
            {
                **({"type": TYPE_NAME[one.type]} if one.type is not None else {}),
                **named.get(one.position, {}),
                "count": one.kept,
            }
            for one in inputs
        ],
        "error": [
            {
                "type": "OperationOutcome",
                **named.get(one.position, {}),
                "url": _url(service, job, f"errors.{one.position}.ndjson"),
                "count": one.refused,
            }
            for one in inputs
            if one.position in refused
        ],
    }


def _url(service: Service, job: Job, name: str) -> str:
    return f"{service.base}/{JOBS}/{job.job_id}/{name}"


async def cancel(exchange: Exchange, service: Service) -> Answer:
    """DELETE: the job and its files are gone. Raises NotFound."""
    await service.bulk.cancel(exchange.known_caller(), exchange.segments[1])
    done = Issue("information", "informational", "The job is cancelled, and its files are removed")
    return Answer(202, orjson.dumps(outcome([done])))


async def file(exchange: Exchange, service: Service) -> Answer:
    """A file of a job, whole or from where a download was broken off. Raises NotFound, Forbidden."""
    _, job_id, name = exchange.segments
    if errors := ERRORS.fullmatch(name):
        return await _errors(exchange, service, job_id, int(errors[1]))
    found, path = await service.bulk.file(exchange.known_caller(), job_id, name, exchange.request_id)
    start, length = _range(exchange, found.size)
    headers: list[Header] = [
        (b"content-length", str(length).encode()),
        (b"accept-ranges", b"bytes"),
        (b"cache-control", b"private, no-store"),
    ]
    partial = length < found.size
    if partial:
        headers.append((b"content-range", f"bytes {start}-{start + length - 1}/{found.size}".encode()))
    return Answer(206 if partial else 200, chunks_of(path, start, length), headers, NDJSON)


def _range(exchange: Exchange, size: int) -> tuple[int, int]:
    """(start, length) of what is wanted. Raises RangeNotSatisfiable."""
    match = _REST.fullmatch((exchange.header(b"range") or "").strip())
    if match is None:
        return 0, size
    start, end = int(match[1]), min(int(match[2]), size - 1) if match[2] else size - 1
    if start > end:
        raise RangeNotSatisfiable(f"The file has {size} bytes")
    return start, end - start + 1


async def _errors(exchange: Exchange, service: Service, job_id: str, position: int) -> Answer:
    """The refused lines of one input of an import, as OperationOutcomes."""
    job = await service.bulk.find(exchange.known_caller(), job_id)
    inputs = {one.position: one for one in await service.bulk.jobs.inputs(job_id)}
    if job.state != "complete" or position not in inputs:
        raise NotFound("This job has no such file")

    async def lines() -> AsyncIterator[bytes]:
        async for line, issues in service.bulk.jobs.refusals(job_id, position):
            told = [
                Issue(
                    one["severity"],
                    one["code"],
                    f"{inputs[position].name}, line {line}: {one['diagnostics']}",
                    one["expression"],
                )
                for one in issues
            ]
            yield orjson.dumps(outcome(told)) + b"\n"

    return Answer(200, lines(), [(b"cache-control", b"private, no-store")], NDJSON)
