"""The words of the index zone of a cover, read by Tesseract in a process of its own, bounded in time and memory.

Tesseract 5 with its French model, from the packages of the system: docs/scan_lot.md says why. Nothing is written to
disk: the picture goes in and the words come out through pipes.
"""

import contextlib
import math
import os
import resource
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from PIL import Image

from fhir_server.scans.cover import Line, Word

# The index zone of a cover: its upper part, where a DMST names its owner. What is below is medical and is not read.
ZONE: Final = 0.5
# A4 at 300 dpi: what Tesseract is trained for.
WIDTH: Final = 2480
_MOST_PIXELS: Final = WIDTH * 2200

_MEMORY: Final = 768 * 1024 * 1024
_ARGUMENTS: Final = ("stdin", "stdout", "-l", "fra", "--dpi", "300", "--psm", "4", "-c", "tessedit_create_tsv=1")
_COLUMNS: Final = 12
_WORD_LEVEL: Final = "5"
_MOST_WORDS: Final = 2000


class UnreadError(Exception):
    """The zone could not be read; the message says why, and nothing of what stands there."""


def read_zone(page: Image.Image, program: Path, *, seconds: float) -> tuple[Line, ...]:
    """The lines of the index zone of a grey page, top to bottom, each word with its confidence.

    Raises UnreadError when the program is absent, fails, or takes longer than `seconds` or more than 768 MB. Blocks:
    for a process that inspects, never for the event loop.
    """
    return tuple(_lines(_run(program, _picture(page), seconds)))


def _picture(page: Image.Image) -> bytes:
    height = min(round(page.height * ZONE), _MOST_PIXELS // max(1, page.width))
    zone = page.crop((0, 0, page.width, max(1, height)))
    return b"P5 %d %d 255\n" % zone.size + zone.convert("L").tobytes()


def _run(program: Path, picture: bytes, seconds: float) -> str:
    environment = {"OMP_THREAD_LIMIT": "1", "LC_ALL": "C.UTF-8"}
    try:
        process = subprocess.Popen(
            [program, *_ARGUMENTS],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=environment,
            start_new_session=True,
        )
    except OSError:
        raise UnreadError("the reader cannot be started") from None
    with process:
        _bound(process.pid, seconds)
        try:
            words, _ = process.communicate(picture, timeout=seconds)
        except subprocess.TimeoutExpired:
            raise UnreadError("the reader took too long") from None
        finally:
            _end(process)
    if process.returncode:
        raise UnreadError("the reader failed")
    return words.decode("utf-8", "replace")


def _bound(pid: int, seconds: float) -> None:
    """Its processor time is bounded too: it ends though the process that waits for it was killed."""
    cpu = math.ceil(seconds) + 1
    with contextlib.suppress(OSError, ValueError):  # it may be gone already
        resource.prlimit(pid, resource.RLIMIT_AS, (_MEMORY, _MEMORY))
        resource.prlimit(pid, resource.RLIMIT_CPU, (cpu, cpu))
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (0, 0))
        resource.prlimit(pid, resource.RLIMIT_CORE, (0, 0))


def _end(process: subprocess.Popen[bytes]) -> None:
    """The program and whatever it started: a child would keep the pipe open."""
    if process.poll() is None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)


def _lines(table: str) -> Iterator[Line]:
    """The TSV of Tesseract: a row for each word, with its block, paragraph and line, its box and its confidence."""
    where: tuple[str, ...] | None = None
    line: list[Word] = []
    right = tall = 0
    for row in table.splitlines()[1 : _MOST_WORDS * 2]:
        cells = row.split("\t", _COLUMNS - 1)
        if len(cells) < _COLUMNS or cells[0] != _WORD_LEVEL or not cells[-1].strip():
            continue
        try:
            left, width, height = int(cells[6]), int(cells[8]), int(cells[9])
            confidence = min(1.0, max(0.0, float(cells[10]) / 100))
        except ValueError:
            raise UnreadError("the reader answers in another form") from None
        if tuple(cells[1:5]) != where:
            if line:
                yield line
            where, line, right, tall = tuple(cells[1:5]), [], left, 0
        line.append(Word(cells[-1].strip(), confidence, max(0.0, (left - right) / max(1, height, tall))))
        right, tall = left + width, height
    if line:
        yield line
