"""The demonstration: the road of one document, end to end, on embedded servers and the sample scans.

Everything lives in one folder; a second run finds what the first one made, and adds nothing.
"""

import asyncio
import contextlib
import json
import os
import signal
import socket
import sys
import time
import tomllib
from collections import Counter
from collections.abc import AsyncGenerator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from fhir_server.app import Parts, build
from fhir_server.evidence import report, to_html
from fhir_server.outcomes import Unavailable
from fhir_server.scans import acknowledgement
from fhir_server.scans.acknowledgement import Acknowledgement
from fhir_server.scans.builder import build as build_lot
from fhir_server.scans.seal import make_demo_authority
from fhir_server.settings import Settings
from fhir_server.store.outbox_rows import count_deliveries
from fhir_server.store.scan_lots import ScanLots

SAMPLES = Path(__file__).parent.parent / "samples"
LOT = "LOT_20261015_C07_0001"
RECIPIENTS = """\
[[recipient]]
name = "logiciel-metier"
kind = "logiciel-metier"
adapter = "loopback"

[[recipient]]
name = "logiciel-occupe"
kind = "logiciel-metier"
adapter = "loopback"
options = { fail_first = 1 }

[[recipient]]
name = "dmp"
kind = "dmp"
adapter = "dmp"
"""
ON_THE_WAY = ("pending", "sending")
PATIENCE = 90.0

out = Console()


async def run_demo(settings: Settings, *, once: bool, summary_file: Path | None) -> int:
    """Run it; returns the exit status. Raises Unavailable when a part does not start."""
    started = time.monotonic()
    settings = _prepare(settings)
    out.rule("dmst-fhir: from a sealed scan lot to its recipients")
    async with build(settings) as parts:
        out.print("[bold]1[/bold] PostgreSQL and Valkey run out of their wheels in", str(settings.data))
        async with _server_and_worker(settings):
            await _import_register(parts)
            answer = await _receive(parts)
            await _deliveries_settle(parts)
            summary = await _summary(parts, answer, time.monotonic() - started)
            _show(summary)
            await _look_back(parts, settings)
            if summary_file:
                await asyncio.to_thread(summary_file.write_text, json.dumps(summary, indent=2), encoding="utf-8")
            if not once:
                await _until_interrupted(settings)
    return 0


def _prepare(settings: Settings) -> Settings:
    """Folders, recipients, and a fictitious authority whose seal is trusted here only."""
    data = settings.data.resolve()
    data.mkdir(parents=True, exist_ok=True)
    recipients = data / "recipients.toml"
    recipients.write_text(RECIPIENTS, encoding="utf-8")
    authority = make_demo_authority(data / "provider" / "authority")
    trust = data / "seal-trust.pem"
    trust.write_bytes(b"".join(_pem(certificate) for certificate in authority.roots))
    return Settings(
        data=data,
        host=settings.host,
        port=settings.port if settings.port and _is_free(settings.host, settings.port) else _free_port(settings.host),
        recipients=recipients,
        seal_trust=trust,
        log_level="warning",
        retry_first_seconds=1.0,
        stalled_seconds=5.0,
        watch_seconds=1.0,
    )


def _pem(certificate: Any) -> bytes:
    from cryptography.hazmat.primitives.serialization import Encoding

    return certificate.public_bytes(Encoding.PEM)


def _is_free(host: str, port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            out.print(f"[yellow]Port {port} is taken by another program: the server gets a free one.[/yellow]")
            return False
    return True


def _free_port(host: str) -> int:
    with socket.socket() as probe:
        probe.bind((host, 0))
        return probe.getsockname()[1]


@contextlib.asynccontextmanager
async def _server_and_worker(settings: Settings) -> AsyncGenerator[None]:
    """The two commands that production runs, as processes of their own."""
    environment = os.environ | {
        "DMST_FHIR_RECIPIENTS": str(settings.recipients),
        "DMST_FHIR_SEAL_TRUST": str(settings.seal_trust),
        "DMST_FHIR_RETRY_FIRST_SECONDS": str(settings.retry_first_seconds),
        "DMST_FHIR_STALLED_SECONDS": str(settings.stalled_seconds),
        "DMST_FHIR_WATCH_SECONDS": str(settings.watch_seconds),
    }
    logs = settings.data / "logs"
    logs.mkdir(exist_ok=True)
    processes: list[asyncio.subprocess.Process] = []
    commands = {
        "serve": ["serve", "--data", str(settings.data), "--host", settings.host, "--port", str(settings.port)],
        "work": ["work", "--data", str(settings.data)],
    }
    try:
        for name, words in commands.items():
            with (logs / f"{name}.log").open("ab") as log:
                processes.append(
                    await asyncio.create_subprocess_exec(
                        sys.executable, "-m", "fhir_server", *words, stdout=log, stderr=log, env=environment
                    )
                )
        await _ready(settings, processes)
        out.print(f"[bold]2[/bold] Server and worker run; FHIR is at {settings.public_base}")
        yield
    finally:
        for process in processes:
            with contextlib.suppress(ProcessLookupError):
                process.terminate()
        for process in processes:
            await process.wait()


async def _ready(settings: Settings, processes: list[asyncio.subprocess.Process]) -> None:
    deadline = time.monotonic() + PATIENCE
    async with httpx.AsyncClient(base_url=f"http://{settings.host}:{settings.port}") as client:
        while time.monotonic() < deadline:
            if any(process.returncode is not None for process in processes):
                break
            with contextlib.suppress(httpx.TransportError):
                if (await client.get("/readyz")).status_code == 200:
                    return
            await asyncio.sleep(0.05)
    raise Unavailable(f"The server did not start: see {settings.data / 'logs'}")


async def _import_register(parts: Parts) -> None:
    done = await parts.register.import_csv((SAMPLES / "workers.csv").read_bytes())
    out.print(
        f"[bold]3[/bold] Register of fictitious workers: {done.created} new, {done.changed} changed, "
        f"{done.unchanged} unchanged"
    )


async def _receive(parts: Parts) -> Acknowledgement:
    """The provider builds and seals the lot once; we receive it at every run."""
    provider = parts.settings.data / "provider"
    lot = provider / LOT
    if not lot.exists():
        description = tomllib.loads((SAMPLES / "lot.toml").read_text(encoding="utf-8"))
        authority = make_demo_authority(provider / "authority")
        build_lot(description, SAMPLES, provider, lot=LOT, at=datetime.now(UTC), seal=authority)
    out.print(f"[bold]4[/bold] The provider delivers the sealed lot {LOT}")
    with Progress(console=out) as bar:
        task = bar.add_task("   receiving", total=None)
        answer = await parts.lots.receive(lot, lambda done, of: bar.update(task, completed=done, total=of))
    path = provider / acknowledgement.file_name(answer.lot)
    path.write_bytes(acknowledgement.render(answer))
    out.print(f"   {answer.state}, seal {answer.seal.state}; acknowledgement for the provider: {path}")
    codes = acknowledgement.reject_codes()
    table = Table("folder", "state", "documents", "pages", "why", box=None, padding=(0, 2, 0, 3))
    for folder in answer.folders:
        why = "; ".join(dict.fromkeys(f"{p.code} {codes[p.code].label_fr}" for p in folder.problems))
        table.add_row(folder.barcode, folder.state, str(folder.documents), str(folder.pages), why)
    out.print(table)
    return answer


async def _deliveries_settle(parts: Parts) -> None:
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        counts = await count_deliveries(parts.database)
        if not any(states.get(state) for states in counts.values() for state in ON_THE_WAY):
            return
        await asyncio.sleep(0.1)
    out.print("[yellow]Some deliveries are still on their way.[/yellow]")


async def _summary(parts: Parts, answer: Acknowledgement, seconds: float) -> dict[str, Any]:
    """What the store holds of the lot, whichever run brought it in."""
    lots = ScanLots(parts.database)
    folders = await lots.folders(answer.lot)
    accepted = review = 0
    rejected: Counter[str] = Counter()
    for folder in folders:
        documents = len(await lots.documents(answer.lot, folder.barcode))
        match folder.state:
            case "accepted":
                accepted += documents
            case "to-review":
                review += documents
            case _:
                rejected[folder.problems[0]["code"]] += documents
    return {
        "lots": 1 if folders else 0,
        "folders": len(folders),
        "documents": {"accepted": accepted, "rejected": dict(rejected), "review": review},
        "deliveries": await count_deliveries(parts.database),
        "seconds": round(seconds, 1),
    }


def _show(summary: Mapping[str, Any]) -> None:
    documents = summary["documents"]
    rejected = ", ".join(f"{number} {code}" for code, number in documents["rejected"].items()) or "none"
    out.print(
        f"[bold]5[/bold] Documents: {documents['accepted']} accepted, rejected: {rejected}, "
        f"{documents['review']} set aside for a person to decide"
    )
    out.print("[bold]6[/bold] Receipts:")
    for recipient, states in summary["deliveries"].items():
        out.print(f"   {recipient}: " + ", ".join(f"{number} {state}" for state, number in sorted(states.items())))
    if "dmp" in summary["deliveries"]:
        out.print("   (dmp: withheld, since no worker has given express consent: CSP L1111-17 IV)")


async def _look_back(parts: Parts, settings: Settings) -> None:
    """Ask the server as a client would, verify the evidence of one document, and say how to try it."""
    client_id, secret = await _client(parts)
    base = f"http://{settings.host}:{settings.port}"
    async with httpx.AsyncClient(timeout=30) as client:
        token = await client.post(
            f"{base}/oauth2/token", data={"grant_type": "client_credentials"}, auth=(client_id, secret)
        )
        headers = {"authorization": f"Bearer {token.json()['access_token']}"}
        found = await client.get(f"{base}/fhir/DocumentReference?status=current&_count=100", headers=headers)
        first = next(e["resource"] for e in found.json()["entry"] if not e["resource"].get("relatesTo"))
        patient, attachment = first["subject"]["reference"], first["content"][0]["attachment"]
        of_worker = await client.get(f"{base}/fhir/DocumentReference?patient={patient}", headers=headers)
        binary = await client.get(f"{base}/fhir/{attachment['url']}", headers=headers)
    out.print(
        f"[bold]7[/bold] GET DocumentReference?patient=... answers {of_worker.status_code} with "
        f"{len(of_worker.json()['entry'])} documents; GET Binary/... answers {binary.status_code}, "
        f"{len(binary.content)} bytes of {binary.headers['content-type']}"
    )
    proof = await report(parts, f"DocumentReference/{first['id']}")
    page = settings.data / "evidence.html"
    page.write_text(to_html(proof), encoding="utf-8")
    out.print(f"[bold]8[/bold] Evidence of one document: {'pass' if proof.passed else 'FAIL'}, report in {page}")
    out.print("\n[bold]Try it:[/bold]")
    lines = (
        f"TOKEN=$(curl -s -u {client_id}:{secret} -d grant_type=client_credentials {base}/oauth2/token"
        ' | sed \'s/.*"access_token":"\\([^"]*\\)".*/\\1/\')',
        f"curl -s -H \"Authorization: Bearer $TOKEN\" '{base}/fhir/DocumentReference?patient={patient}'",
        f"curl -s -H \"Authorization: Bearer $TOKEN\" -o page.pdf '{base}/fhir/{attachment['url']}'",
    )
    for line in lines:
        print(line)  # noqa: T201 - to be copied: no wrapping, no colours


async def _client(parts: Parts) -> tuple[str, str]:
    """The client of the demonstration, made at the first run."""
    kept = parts.settings.data / "client.json"
    if kept.exists():
        known = json.loads(kept.read_text(encoding="utf-8"))
        if await parts.clients.find(known["client_id"]):
            return known["client_id"], known["client_secret"]
    client_id, secret = await parts.clients.add("demonstration", ("system/*.rs",), "external-system")
    kept.touch(mode=0o600)
    kept.write_text(json.dumps({"client_id": client_id, "client_secret": secret}), encoding="utf-8")
    return client_id, secret


async def _until_interrupted(settings: Settings) -> None:
    stop = asyncio.Event()
    for name in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(name, stop.set)
    out.print(f"\nThe server runs at [bold]{settings.public_base}[/bold]; Ctrl-C stops everything.")
    await stop.wait()
