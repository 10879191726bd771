"""A real FHIR R4 server for tests, written by others: HAPI FHIR with its instance validator as a judge.

https://hapifhir.io/hapi-fhir/docs/server_plain/ - the Java sources are in the folder `hapi` beside this file.
"""

import contextlib
import hashlib
import os
import queue
import shutil
import subprocess
import tempfile
import threading
import time
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import httpx

SOURCES = Path(__file__).with_name("hapi")
CACHE = Path.home() / ".cache" / "dmst-fhir" / "hapi"
BUILD_SECONDS = 240
START_SECONDS = 120
STOP_SECONDS = 10

# The simple collector and the quick compiler: a test server lives for seconds, beside others on few processors.
JVM_OPTIONS = (
    "-Xmx384m",
    "-XX:+UseSerialGC",
    "-XX:TieredStopAtLevel=1",
    "-Dorg.slf4j.simpleLogger.defaultLogLevel=error",
)

# How the Java launcher and its stack traces begin the line that tells why; the last such line is the root cause.
CAUSES = ("Error", "Exception", "Caused by")


class PeerUnavailable(Exception):
    """The peer cannot be built or started on this machine; the reason is for the message of a skipped test."""


@dataclass(frozen=True, slots=True)
class HapiPeer:
    """Where the peer answers.

    `base_url` is the FHIR base (transactions are posted to it). GET `judge_url` gives
    `{"received": n, "rejected": n, "resources": {"Patient": n, ...}}`: write requests that came in (those failed on
    order too), bodies that the validator refused, resources held now. POST `judge_url`/fail?times=2&status=503
    makes the next two transactions answer 503 without being looked at.

    Keep documents inside transactions small: the validator takes about two seconds per megabyte of them, and its
    memory ends before twenty megabytes. A raw Binary is not validated.
    """

    base_url: str
    judge_url: str


@contextmanager
def hapi_server(port: int | None = None) -> Generator[HapiPeer]:
    """Run the peer on loopback, empty, until the block ends; `port` None takes a free one.

    Builds it first when its sources are new to this machine. Raises `PeerUnavailable` where Java or Maven is missing,
    Maven cannot reach its repository, or the server does not start.
    """
    java = _tool("java")
    classpath = _build()
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(
            [java, *JVM_OPTIONS, "-cp", classpath, "peer.Peer", str(port or 0)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
        )
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            deadline = time.monotonic() + START_SECONDS
            root = f"http://127.0.0.1:{_port_told(process.stdout, log)}"
            _wait_for_metadata(f"{root}/fhir/metadata", deadline)
            yield HapiPeer(base_url=f"{root}/fhir", judge_url=f"{root}/judge")
        finally:
            _stop(process)


def _build() -> str:
    """The class path of the built peer, from the cache or by Maven."""
    maven = _tool("mvn")
    home = CACHE / _fingerprint()
    if (classpath := _class_path(home)) is not None:
        return classpath

    CACHE.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=CACHE) as workshop:
        project = Path(workshop) / "project"
        shutil.copytree(SOURCES, project)
        deadline = time.monotonic() + BUILD_SECONDS
        if (failure := _maven([maven, "-o"], project, deadline)) is not None:
            failure = _maven([maven], project, deadline)
        if failure is not None:
            raise PeerUnavailable(f"Maven could not build the HAPI peer: {failure}")
        shutil.rmtree(home, ignore_errors=True)
        # Another test run may have built the same thing meanwhile: then its result serves as well.
        with contextlib.suppress(OSError):
            (project / "target").rename(home)

    if (classpath := _class_path(home)) is None:
        raise PeerUnavailable("Maven built the HAPI peer, and its libraries cannot be found")
    return classpath


def _tool(name: str) -> str:
    path = shutil.which(name)
    if path is None:
        raise PeerUnavailable(f"the HAPI peer needs the command {name}")
    return path


def _fingerprint() -> str:
    """Changes with any source of the peer, so that an older build is not taken for it."""
    digest = hashlib.sha256()
    for path in [SOURCES / "pom.xml", *sorted(SOURCES.rglob("*.java"))]:
        digest.update(path.name.encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def _class_path(home: Path) -> str | None:
    """Our classes and the libraries in Maven's own repository; None when any of them is gone."""
    try:
        libraries = (home / "classpath.txt").read_text().strip().split(os.pathsep)
    except OSError:
        return None
    if not all(Path(library).exists() for library in libraries):
        return None
    return os.pathsep.join([str(home / "classes"), *libraries])


def _maven(command: list[str], project: Path, deadline: float) -> str | None:
    """Compile the project and write its class path; what went wrong, or None."""
    try:
        done = subprocess.run(
            [*command, "-q", "-B", "process-classes"],
            cwd=project,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=max(1.0, deadline - time.monotonic()),
            check=False,
        )
    except subprocess.TimeoutExpired:
        return f"not done after {BUILD_SECONDS} s"
    if done.returncode == 0:
        return None
    errors = [line.partition("[ERROR] ")[2] for line in done.stdout.splitlines() if "[ERROR] " in line]
    return errors[0] if errors else f"exit status {done.returncode}"


def _port_told(output: IO[bytes], log: IO[bytes]) -> int:
    """The port that the server writes when it is up; reading may block, hence the thread."""
    lines: queue.Queue[bytes] = queue.Queue()
    threading.Thread(target=lambda: lines.put(output.readline()), daemon=True).start()
    try:
        line = lines.get(timeout=START_SECONDS)
    except queue.Empty:
        raise PeerUnavailable(f"the HAPI peer did not start in {START_SECONDS} s") from None
    if not line.strip():
        log.seek(0)
        causes = [line for line in log.read().decode(errors="replace").splitlines() if line.startswith(CAUSES)]
        raise PeerUnavailable(f"the HAPI peer did not start: {causes[-1] if causes else 'no reason given'}")
    return int(line)


def _wait_for_metadata(url: str, deadline: float) -> None:
    while time.monotonic() < deadline:
        with contextlib.suppress(httpx.HTTPError):
            if httpx.get(url, timeout=10, trust_env=False).is_success:
                return
        time.sleep(0.1)
    raise PeerUnavailable("the HAPI peer started and gives no CapabilityStatement")


def _stop(process: subprocess.Popen[bytes]) -> None:
    """Close its standard input, on which it leaves by itself; insist if it does not."""
    assert process.stdin is not None
    process.stdin.close()
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    if process.stdout is not None:
        process.stdout.close()
