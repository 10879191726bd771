"""What the benches share: the machine, percentiles, processes and their memory, where results go."""

import json
import os
import platform
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any

import psutil

RESULTS = Path(__file__).resolve().parent / "results"
MB = 1_000_000


def machine() -> dict[str, Any]:
    """What the figures depend on; the load average tells how quiet the machine was when the bench began."""
    return {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "cores": os.cpu_count(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "load_average": [round(load, 2) for load in os.getloadavg()],
    }


def flushes(folder: Path, seconds: float = 1.0) -> dict[str, float]:
    """How often a second the disk of a folder makes 8 kB durable, one after the other, and how long one takes (ms)."""
    taken: list[float] = []
    with tempfile.TemporaryFile(dir=folder) as file:
        until = time.perf_counter() + seconds
        while (began := time.perf_counter()) < until or len(taken) < 2:
            file.write(bytes(8192))
            file.flush()
            os.fdatasync(file.fileno())
            taken.append((time.perf_counter() - began) * 1000)
    return {"per_second": round(len(taken) / sum(taken) * 1000), **spread(taken, 2)}


def spread(values: Sequence[float], digits: int = 1) -> dict[str, float]:
    """Median, 95th and 99th percentile and largest of at least two values."""
    cuts = statistics.quantiles(values, n=100, method="inclusive")
    return {
        "p50": round(cuts[49], digits),
        "p95": round(cuts[94], digits),
        "p99": round(cuts[98], digits),
        "max": round(max(values), digits),
    }


def write(name: str, result: dict[str, Any], file: Path | None) -> None:
    """Print a result and keep it, in bench/results unless another file is named."""
    target = file or RESULTS / f"{name}.json"
    target.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(result, indent=2, ensure_ascii=False)
    target.write_text(text + "\n", encoding="utf-8")
    print(text)


def postgres_processes(data: Path) -> list[psutil.Process]:
    """The embedded PostgreSQL of a data folder: its postmaster and everything under it."""
    pid = int((data / "postgres" / "postmaster.pid").read_text().split("\n", 1)[0])
    postmaster = psutil.Process(pid)
    return [postmaster, *postmaster.children(recursive=True)]


def family(pid: int) -> list[psutil.Process]:
    """A process and everything that it started."""
    process = psutil.Process(pid)
    return [process, *process.children(recursive=True)]


def listeners(port: int) -> list[psutil.Process]:
    """The local processes that listen on a TCP port, with everything that they started; none when they are not ours to
    see.
    """
    try:
        connections = psutil.net_connections("tcp")
    except psutil.AccessDenied:
        return []
    found = {
        one.pid for one in connections if one.status == psutil.CONN_LISTEN and one.laddr[1:] == (port,) and one.pid
    }
    return [process for pid in sorted(found) for process in family(pid)]


def cpu_seconds(processes: Iterable[psutil.Process]) -> float:
    """User and system time of the processes that are still there."""
    total = 0.0
    for process in processes:
        try:
            times = process.cpu_times()
        except psutil.NoSuchProcess:
            continue
        total += times.user + times.system
    return total


class PeakMemory:
    """While it is entered, watches the largest resident memory (in MB) of each process, and of all at one moment."""

    def __init__(self, processes: Callable[[], Iterable[psutil.Process]]) -> None:
        self._processes = processes
        self._stop = threading.Event()
        self._watcher = threading.Thread(target=self._watch, daemon=True)
        self.each: dict[int, float] = {}
        self.together = 0.0

    def __enter__(self) -> "PeakMemory":
        self._watcher.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._stop.set()
        self._watcher.join()

    def _watch(self) -> None:
        while not self._stop.wait(0.05):
            self._look()

    def _look(self) -> None:
        total = 0.0
        for process in self._processes():
            try:
                resident = process.memory_info().rss / MB
            except psutil.NoSuchProcess:
                continue
            total += resident
            self.each[process.pid] = max(self.each.get(process.pid, 0.0), resident)
        self.together = max(self.together, total)


class Spent:
    """Processor time of processes since it was made; one that ended meanwhile counts for nothing, not as less."""

    def __init__(self, find: Callable[[], Iterable[psutil.Process]]) -> None:
        self._find = find
        self._before = {process.pid: cpu_seconds([process]) for process in find()}

    def seconds(self) -> float:
        return sum(max(0.0, cpu_seconds([one]) - self._before.get(one.pid, 0.0)) for one in self._find())
