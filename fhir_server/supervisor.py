"""Several processes that serve on one port: `dmst-fhir serve --workers N`.

The socket belongs to the supervisor and is inherited, so no connection is refused or lost while a process is
replaced. SIGHUP replaces them one after the other, with the code that is installed now: the new one has to be ready
before the old one is told to stop. A process that dies is replaced. When the supervisor dies, they stop.
"""

import asyncio
import contextlib
import signal
import socket
import sys
from dataclasses import dataclass

import structlog

from fhir_server.listening import listening
from fhir_server.serving import BACKLOG
from fhir_server.settings import Settings

log = structlog.get_logger(__name__)

START_SECONDS = 60.0
PAUSE = 1.0


@dataclass(frozen=True, slots=True)
class _Process:
    number: int
    running: asyncio.subprocess.Process
    lifeline: socket.socket


class Supervisor:
    """Keeps `count` processes serving until it is told to stop."""

    def __init__(self, settings: Settings, count: int) -> None:
        self._settings = settings
        self._count = count
        self._socket = listening(settings.host, settings.port)
        self._socket.listen(BACKLOG)
        self._stopping, self._wanted = asyncio.Event(), asyncio.Event()
        self._rolling = asyncio.Lock()
        self._processes: dict[int, _Process] = {}

    async def run(self) -> int:
        """The exit status: 0 after a signal, 1 when the processes do not start."""
        loop = asyncio.get_running_loop()
        for name in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(name, self._stopping.set)
        loop.add_signal_handler(signal.SIGHUP, self._wanted.set)
        running = asyncio.create_task(self._serve())
        told = asyncio.create_task(self._stopping.wait())
        try:
            await asyncio.wait((running, told), return_when=asyncio.FIRST_COMPLETED)
            return 0 if told.done() else 1
        finally:
            for task in (running, told):
                task.cancel()
            await asyncio.gather(running, told, return_exceptions=True)
            self._socket.close()  # the processes hold it still, and close it when they have answered who waits
            await asyncio.gather(*(self._stop(process) for process in self._processes.values()))

    async def _serve(self) -> None:
        """Start the processes and keep them; returns when they do not start."""
        if not all(await asyncio.gather(*map(self._start, range(self._count)))):
            return
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._roll_when_wanted())
            for number in range(self._count):
                tasks.create_task(self._keep(number))

    async def _start(self, number: int) -> bool:
        """Start process `number`, in the place of the one that is there; True when it is ready."""
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        inherited = (self._socket.fileno(), theirs.fileno())
        command = [sys.executable, "-m", "fhir_server", "serve", *self._options(number)]
        command += ["--inherited", ",".join(map(str, inherited))]
        running = await asyncio.create_subprocess_exec(*command, pass_fds=inherited)
        theirs.close()
        process = _Process(number, running, ours)
        try:
            async with asyncio.timeout(START_SECONDS):
                ready = await asyncio.get_running_loop().sock_recv(ours, 1) != b""
        except (TimeoutError, OSError):
            ready = False
        except asyncio.CancelledError:
            await self._stop(process)
            raise
        if not ready:
            log.error("a server process did not start", number=number)
            await self._stop(process)
            return False
        self._processes[number] = process
        log.info("a server process is ready", number=number, pid=running.pid)
        return True

    def _options(self, number: int) -> list[str]:
        settings = self._settings
        options = ["--data", str(settings.data), "--host", settings.host, "--port", str(settings.port)]
        if settings.metrics_port:
            options += ["--metrics-port", str(settings.metrics_port + number)]
        return options

    async def _keep(self, number: int) -> None:
        """Replace a process that ended without being told."""
        while True:
            process = self._processes[number]
            await process.running.wait()
            async with self._rolling:
                while self._processes[number] is process:
                    log.error("a server process ended", number=number, status=process.running.returncode)
                    process.lifeline.close()
                    await self._start(number)
                    await asyncio.sleep(PAUSE)

    async def _roll_when_wanted(self) -> None:
        while await self._wanted.wait():
            self._wanted.clear()
            async with self._rolling:
                await self._roll()

    async def _roll(self) -> None:
        for number in range(self._count):
            before = self._processes[number]
            if not await self._start(number):
                log.error("the restart is given up: the processes that are left go on", number=number)
                return
            await self._stop(before)
        log.info("every server process was replaced", count=self._count)

    async def _stop(self, process: _Process) -> None:
        """Tell it to stop, and wait; kill it when it takes longer than it may."""
        with contextlib.suppress(ProcessLookupError):
            process.running.terminate()
        longest = self._settings.drain_seconds + 2 * self._settings.shutdown_seconds
        try:
            async with asyncio.timeout(longest):
                await process.running.wait()
        except TimeoutError:
            log.error("a server process did not stop, and was killed", number=process.number)
            process.running.kill()
            await process.running.wait()
        process.lifeline.close()


async def supervise(settings: Settings, count: int) -> int:
    """Run `count` server processes on the port of the settings. Raises Unavailable when the port is taken."""
    return await Supervisor(settings, count).run()
