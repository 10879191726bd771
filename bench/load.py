"""A client that asks as fast as it is answered: wrk where it is installed, else a plain one in Python."""

import asyncio
import json
import random
import shutil
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import httptools

from bench.measure import spread

WRK_SCRIPT = """
local paths = {}
for line in io.lines("PATHS") do paths[#paths + 1] = line end
math.randomseed(os.time())
wrk.headers["Authorization"] = "Bearer TOKEN"
function request() return wrk.format("GET", paths[math.random(#paths)]) end
function done(summary, latency)
    local e = summary.errors
    io.write(string.format(
        '\\n{"requests": %d, "seconds": %.3f, "bytes": %d, ' ..
        '"p50": %.2f, "p95": %.2f, "p99": %.2f, "max": %.2f, "errors": %d}\\n',
        summary.requests, summary.duration / 1e6, summary.bytes, latency:percentile(50) / 1e3,
        latency:percentile(95) / 1e3, latency:percentile(99) / 1e3, latency.max / 1e3,
        e.connect + e.read + e.write + e.status + e.timeout))
end
"""


def ask(port: int, token: str, paths: Sequence[str], connections: int, seconds: int) -> dict[str, Any]:
    """GET random ones of `paths` with a bearer token for some seconds; what came of it, latencies in milliseconds."""
    found = _wrk(port, token, paths, connections, seconds) if shutil.which("wrk") else None
    client = "wrk" if found else "python"
    answer = found or asyncio.run(_plain(port, token, paths, connections, seconds))
    per_second = {"per_second": round(answer["requests"] / answer["seconds"])}
    megabytes = {"mb_per_second": round(answer.pop("bytes") / answer["seconds"] / 1e6, 1)}
    return {"client": client, **per_second, **megabytes, **answer}


def _wrk(port: int, token: str, paths: Sequence[str], connections: int, seconds: int) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        listed, script = Path(folder) / "paths", Path(folder) / "ask.lua"
        listed.write_text("\n".join(paths))
        script.write_text(WRK_SCRIPT.replace("PATHS", str(listed)).replace("TOKEN", token))
        ran = subprocess.run(
            [
                *("wrk", "--threads", "1", "--connections", str(connections), "--duration", f"{seconds}s"),
                *("--timeout", "10s", "--script", str(script), f"http://127.0.0.1:{port}"),
            ],
            capture_output=True,
            text=True,
            check=True,
        )
    return json.loads(ran.stdout.strip().splitlines()[-1])


async def _plain(port: int, token: str, paths: Sequence[str], connections: int, seconds: int) -> dict[str, Any]:
    began = time.perf_counter()
    clients = [_Client(port, token, paths, began + seconds) for _ in range(connections)]
    await asyncio.gather(*(client.run() for client in clients))
    taken = [latency for client in clients for latency in client.latencies]
    return {
        "requests": len(taken),
        "seconds": round(time.perf_counter() - began, 3),
        "bytes": sum(client.bytes for client in clients),
        **spread(taken, 2),
        "errors": sum(client.errors for client in clients),
    }


class _Client:
    """One connection that sends its next request when the answer to the last is complete."""

    def __init__(self, port: int, token: str, paths: Sequence[str], until: float) -> None:
        self._port, self._paths, self._until = port, paths, until
        self._head = f"Host: 127.0.0.1\r\nAuthorization: Bearer {token}\r\n\r\n"
        self._parser = httptools.HttpResponseParser(self)
        self._complete = False
        self.latencies: list[float] = []
        self.errors = 0
        self.bytes = 0

    async def run(self) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", self._port, limit=2**20)
        while time.perf_counter() < self._until:
            began = time.perf_counter()
            writer.write(f"GET {random.choice(self._paths)} HTTP/1.1\r\n{self._head}".encode())
            self._parser, self._complete = httptools.HttpResponseParser(self), False
            while not self._complete:
                data = await reader.read(2**18)
                if not data:
                    raise ConnectionError("the server closed the connection")
                self.bytes += len(data)
                self._parser.feed_data(data)
            self.latencies.append((time.perf_counter() - began) * 1000)
            self.errors += self._parser.get_status_code() != 200
        writer.close()
        await writer.wait_closed()

    def on_message_complete(self) -> None:
        self._complete = True
