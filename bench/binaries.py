"""A document of one gigabyte, in and out, in every form: how fast, and in how much memory of the server.

    python -m bench.binaries [--megabytes 1000] [--json FILE]

`dmst-fhir serve` runs as its users run it, on embedded servers and a folder of its own. The client speaks plain sockets
from the same machine and throws away what it reads, so that it costs as little as a client can. Resident memory is the
largest of the process of the server while the transfer ran. It fails where that is 200 MB or more.
"""

import argparse
import json
import os
import random
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Generator, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import psutil
import pybase64

from bench.measure import MB, PeakMemory, machine, write

MOST_MEMORY = 200
BLOCK = 3 * 2**18
ROUNDS = 3
RAW = "application/pdf"
PARTS = "bytes=0-99999999,200000000-299999999"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--megabytes", type=int, default=1000)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="dmst-bench-", ignore_cleanup_errors=True) as folder:
        Path(folder).chmod(0o755)  # as root the embedded PostgreSQL runs as another user
        result = measure(Path(folder), options.megabytes)
    write("binaries", result, options.json)
    return int(any(one["peak_memory_mb"] >= MOST_MEMORY for one in result["transfers"].values()))


def measure(data: Path, megabytes: int) -> dict[str, Any]:
    size = megabytes * MB // BLOCK * BLOCK
    environment = os.environ | {"DMST_FHIR_MAX_BINARY_MB": str(megabytes + 1)}
    result: dict[str, Any] = {"machine": machine(), "bytes": size, "transfers": {}}
    with _server(data, environment) as (port, process):
        client = _Client(port, _token(port, data, environment))
        steps: dict[str, Iterator[int]] = {
            "in_raw": client.send("raw", RAW, size, _blocks(size, 1)),
            "in_json": client.send("json", "application/fhir+json", *_as_json(size)),
            "out_raw": client.receive("raw", {"Accept": "*/*"}),
            "out_json": client.receive("raw", {"Accept": "application/fhir+json"}),
            "out_xml": client.receive("raw", {"Accept": "application/fhir+xml"}),
            "out_parts": client.receive("raw", {"Accept": "*/*", "Range": PARTS}),
        }
        for name, step in steps.items():
            result["transfers"][name] = _measured(process, step)
    return result


def _measured(process: psutil.Process, step: Iterator[int]) -> dict[str, Any]:
    """The fastest of the rounds of a step, and the largest memory of all of them."""
    seconds, moved, cpu = float("inf"), 0, 0.0
    with PeakMemory(lambda: [process]) as memory:
        while True:
            began, used = time.perf_counter(), sum(process.cpu_times()[:2])
            moved_now = next(step, None)
            if moved_now is None:
                break
            taken = time.perf_counter() - began
            if taken < seconds:
                seconds, moved, cpu = taken, moved_now, sum(process.cpu_times()[:2]) - used
    return {
        "mb_per_second": round(moved / MB / seconds),
        "server_cpu_seconds_per_gb": round(cpu / moved * 1e9, 2),
        "peak_memory_mb": round(memory.together),
    }


def _blocks(size: int, seed: int) -> Iterable[bytes]:
    """Bytes that no compression helps, made of few, so that making them costs nothing."""
    block = random.Random(seed).randbytes(BLOCK)
    for number in range(size // BLOCK):
        yield number.to_bytes(8, "big") + block[8:]


def _as_json(size: int) -> tuple[int, Iterable[bytes]]:
    """The same content as a Binary in JSON: its length, and its pieces."""
    before = b'{"resourceType":"Binary","id":"json","contentType":"application/pdf","data":"'
    after = b'"}'

    def pieces() -> Iterable[bytes]:
        yield before
        yield from map(pybase64.b64encode, _blocks(size, 2))
        yield after

    return len(before) + size // 3 * 4 + len(after), pieces()


class _Client:
    def __init__(self, port: int, token: str) -> None:
        self._port, self._token = port, token

    def send(self, name: str, media_type: str, length: int, pieces: Iterable[bytes]) -> Iterator[int]:
        """PUT a Binary once: the same bytes again would be kept already."""
        with self._asked("PUT", name, {"Content-Type": media_type, "Content-Length": str(length)}) as connection:
            for piece in pieces:
                connection.sendall(piece)
            head, _ = _head(connection)
            if not head.startswith(b"HTTP/1.1 201"):
                raise RuntimeError(head.decode("latin-1"))
        yield length

    def receive(self, name: str, headers: dict[str, str]) -> Iterator[int]:
        """GET a Binary, some times; the bytes that came."""
        buffer = memoryview(bytearray(2**20))
        for _ in range(ROUNDS):
            with self._asked("GET", name, headers) as connection:
                head, begun = _head(connection)
                fields = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:])
                length = left = int(fields[b"content-length"])
                left -= len(begun)
                while left:
                    received = connection.recv_into(buffer)
                    if not received:
                        raise RuntimeError("the answer ends before its end")
                    left -= received
            yield length

    @contextmanager
    def _asked(self, method: str, name: str, headers: dict[str, str]) -> Generator[socket.socket]:
        lines = {"Host": "127.0.0.1", "Authorization": f"Bearer {self._token}", "Connection": "close"} | headers
        text = "".join(f"{key}: {value}\r\n" for key, value in lines.items())
        with socket.create_connection(("127.0.0.1", self._port), timeout=120) as connection:
            connection.sendall(f"{method} /fhir/Binary/{name} HTTP/1.1\r\n{text}\r\n".encode())
            yield connection


def _head(connection: socket.socket) -> tuple[bytes, bytes]:
    received = b""
    while b"\r\n\r\n" not in received:
        received += connection.recv(65_536)
    head, _, begun = received.partition(b"\r\n\r\n")
    return head, begun


def _token(port: int, data: Path, environment: dict[str, str]) -> str:
    """A token of a new client."""
    command = [sys.executable, "-m", "fhir_server", "clients", "add", "bench", "--scope", "system/Binary.cru"]
    made = subprocess.run([*command, "--data", str(data)], env=environment, check=True, capture_output=True)
    client = json.loads(made.stdout)
    form = urlencode({"grant_type": "client_credentials", **client}).encode()
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/oauth2/token", form, timeout=10) as answer:
        return json.load(answer)["access_token"]


@contextmanager
def _server(data: Path, environment: dict[str, str]) -> Generator[tuple[int, psutil.Process]]:
    """`dmst-fhir serve`: its port and its process."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "fhir_server", "serve", "--data", str(data), "--port", str(port)]
    with subprocess.Popen(command, env=environment) as process:
        try:
            _wait(port, process)
            yield port, psutil.Process(process.pid)
        finally:
            process.terminate()


def _wait(port: int, process: "subprocess.Popen[bytes]") -> None:
    for _ in range(600):
        try:
            socket.create_connection(("127.0.0.1", port)).close()
        except OSError:
            if process.poll() is not None:
                break
            time.sleep(0.1)
        else:
            return
    raise RuntimeError("the server did not start")


if __name__ == "__main__":
    sys.exit(main())
