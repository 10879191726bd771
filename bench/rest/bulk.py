"""W10: the whole archive by $export, to the last line of the last file.

https://hl7.org/fhir/uv/bulkdata/export.html - kick-off, polling, download of NDJSON.
"""

import asyncio
import time
from typing import Final

import orjson

from bench.rest.client import Connection
from bench.rest.driver import Book, Missing, Watch
from bench.rest.mixes import Ground
from bench.rest.population import must

KICK_OFF: Final = "$export?_outputFormat=application/fhir%2Bndjson"
ASYNCHRONOUS: Final = "prefer: respond-async\r\n"
POLL_SECONDS: Final = 0.2
LONGEST_SECONDS: Final = 1_800
DOWNLOADS: Final = 2


async def export(ground: Ground, watch: Watch) -> Book:
    """Kick off, wait, download; the book's `resources` are the lines. Raises Missing from a server without it."""
    book, connection = Book(), Connection(ground.target)
    watch.start()
    answer = await connection.ask("GET", KICK_OFF, headers=ASYNCHRONOUS, keep=True)
    must("GET [base]/$export", answer, 202)
    if not answer.location:
        raise Missing("$export was accepted without a Content-Location")
    manifest = await _manifest(connection, answer.location)
    book.latencies["export"].append(_since(watch))
    urls = [output["url"] for output in manifest.get("output", [])]
    await asyncio.gather(*(_download(ground, book, urls[start::DOWNLOADS]) for start in range(DOWNLOADS)))
    watch.stop()
    await connection.ask("DELETE", answer.location)
    connection.close()
    return book


def _since(watch: Watch) -> float:
    return (time.perf_counter() - watch.began) * 1000


async def _manifest(connection: Connection, url: str) -> dict[str, list[dict[str, str]]]:
    """Poll until the export is complete."""
    until = time.perf_counter() + LONGEST_SECONDS
    while time.perf_counter() < until:
        answer = await connection.ask("GET", url, headers="accept: application/json\r\n", keep=True)
        if answer.status == 200:
            return orjson.loads(answer.body)
        must("the status of $export", answer, 202)
        await asyncio.sleep(POLL_SECONDS)
    raise Missing(f"$export was not complete after {LONGEST_SECONDS} s")


async def _download(ground: Ground, book: Book, urls: list[str]) -> None:
    connection = Connection(ground.target)
    for url in urls:
        answer = await connection.ask("GET", url, headers="accept: application/fhir+ndjson\r\n", keep=True)
        must("a file of $export", answer, 200)
        book.latencies["download"].append(answer.milliseconds)
        book.size += answer.size
        book.resources += sum(1 for line in answer.body.splitlines() if line)
    connection.close()
