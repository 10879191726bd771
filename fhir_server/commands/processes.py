"""`dmst-fhir serve`, `work`, `demo`: what runs until it is told to stop."""

import asyncio
import signal
import socket
from pathlib import Path
from typing import Annotated

import typer

from fhir_server.commands.running import Data, failures_told, parts_of, run_to_end, settings_of
from fhir_server.listening import listening


def serve(
    data: Data = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on.")] = None,
    host: Annotated[str | None, typer.Option(help="Address to listen on.")] = None,
    workers: Annotated[int, typer.Option(min=1, max=64, help="Processes that serve; SIGHUP replaces them.")] = 1,
    metrics_port: Annotated[int | None, typer.Option(help="Port of /metrics; that of process N is N higher.")] = None,
    inherited: Annotated[str | None, typer.Option(hidden=True)] = None,
) -> None:
    """Run the FHIR server."""
    settings = settings_of(data, port=port, host=host, metrics_port=metrics_port)
    if settings.identity_model:  # told once and plainly, before any process is started
        from fhir_server.identity.model_file import model_of

        with failures_told():
            model_of(settings.identity_model)
    if workers > 1:
        from fhir_server.supervisor import supervise

        run_to_end(lambda: supervise(settings, workers))
        return
    from fhir_server import serving

    if inherited:
        serving.serve(settings, *(socket.socket(fileno=int(number)) for number in inherited.split(",")))
        return
    with failures_told():
        bound = listening(settings.host, settings.port)
    serving.serve(settings, bound)


def work(data: Data = None) -> None:
    """Run the worker: deliveries, the drop folder, jobs of dead workers."""
    settings = settings_of(data)

    async def run() -> None:
        from fhir_server.work import work as work_on

        stop = asyncio.Event()
        for name in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(name, stop.set)
        async with parts_of(settings) as parts:
            await work_on(parts, stop)

    run_to_end(run)


def demo(
    data: Data = None,
    port: Annotated[int, typer.Option(help="Port of the server.")] = 8080,
    once: Annotated[bool, typer.Option("--once", help="Stop everything at the end.")] = False,
    as_json: Annotated[Path | None, typer.Option("--json", help="Write the summary here.")] = None,
) -> None:
    """The road of one document, end to end, on the sample scans."""
    from fhir_server.demo import run_demo

    settings = settings_of(data or Path("demo-data"), port=port, log_level="warning")
    run_to_end(lambda: run_demo(settings, once=once, summary_file=as_json))
