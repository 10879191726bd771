"""The command `dmst-fhir`: thin words over the parts that app.py builds."""

import asyncio
import contextlib
import json
import signal
import socket
import sys
import tomllib
from collections.abc import AsyncGenerator, Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from fhir_server import logs
from fhir_server.caller import MACHINE_ROLES, check_scopes
from fhir_server.listening import listening
from fhir_server.outcomes import Failure
from fhir_server.settings import Settings, load

app = typer.Typer(
    help="FHIR R4 interoperability server for scanned occupational-health records (DMST).",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
clients_app = typer.Typer(help="Machines that may ask: add, list, shut out.", no_args_is_help=True)
workers_app = typer.Typer(help="The register of workers.", no_args_is_help=True)
lot_app = typer.Typer(help="Scan lots: build one, look at those received.", no_args_is_help=True)
review_app = typer.Typer(help="Folders that wait for a person.", no_args_is_help=True)
app.add_typer(clients_app, name="clients")
app.add_typer(workers_app, name="workers")
app.add_typer(lot_app, name="lot")
app.add_typer(review_app, name="review")

out = Console()
err = Console(stderr=True)

Data = Annotated[Path | None, typer.Option("--data", help="Folder of everything kept on disk (DMST_FHIR_DATA).")]
Jwks = Annotated[Path | None, typer.Option("--jwks", help="File of its public keys (JSON Web Key Set).")]
JwksUri = Annotated[str | None, typer.Option("--jwks-uri", help="https address where it publishes them.")]


def _settings(data: Path | None = None, **more: Any) -> Settings:
    given: dict[str, Any] = {key: value for key, value in {"data": data, **more}.items() if value is not None}
    try:
        settings = load(**given)
    except Failure as failure:
        _show(failure)
        raise typer.Exit(1) from None
    logs.configure(settings.log_level, settings.log_format)
    return settings


def _show(failure: Failure) -> None:
    for issue in failure.issues:
        where = f" ({issue.expression})" if issue.expression else ""
        err.print(f"[red]{issue.code}[/red] {issue.diagnostics}{where}")


@contextlib.asynccontextmanager
async def _parts(settings: Settings) -> AsyncGenerator[Any]:
    from fhir_server.app import build  # the command line starts quickly; what it runs is imported when it runs

    async with build(settings) as parts:
        yield parts


def _run(work: Callable[[], Awaitable[int | None]]) -> None:
    """Run a command; a Failure is a sentence and status 1, not a traceback."""

    async def run() -> int | None:
        return await work()

    try:
        status = asyncio.run(run())
    except Failure as failure:
        _show(failure)
        raise typer.Exit(1) from None
    if status:
        raise typer.Exit(status)


@app.command()
def serve(
    data: Data = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on.")] = None,
    host: Annotated[str | None, typer.Option(help="Address to listen on.")] = None,
    workers: Annotated[int, typer.Option(min=1, max=64, help="Processes that serve; SIGHUP replaces them.")] = 1,
    metrics_port: Annotated[int | None, typer.Option(help="Port of /metrics; that of process N is N higher.")] = None,
    inherited: Annotated[str | None, typer.Option(hidden=True)] = None,
) -> None:
    """Run the FHIR server."""
    settings = _settings(data, port=port, host=host, metrics_port=metrics_port)
    if workers > 1:
        from fhir_server.supervisor import supervise

        _run(lambda: supervise(settings, workers))
        return
    from fhir_server.serving import serve

    if inherited:
        serve(settings, *(socket.socket(fileno=int(number)) for number in inherited.split(",")))
        return
    try:
        bound = listening(settings.host, settings.port)
    except Failure as failure:
        _show(failure)
        raise typer.Exit(1) from None
    serve(settings, bound)


@app.command()
def work(data: Data = None) -> None:
    """Run the worker: deliveries, the drop folder, jobs of dead workers."""
    settings = _settings(data)

    async def run() -> None:
        from fhir_server.work import work

        stop = asyncio.Event()
        for name in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(name, stop.set)
        async with _parts(settings) as parts:
            await work(parts, stop)

    _run(run)


@app.command()
def migrate(data: Data = None) -> None:
    """Bring the database schema to the newest version and say what was applied."""
    settings = _settings(data)

    async def run() -> None:
        async with _parts(settings):
            out.print("The schema is up to date.")

    _run(run)


@app.command("search-parameters")
def search_parameters(data: Data = None) -> None:
    """List the search parameters that were added, and how far their indexing is."""
    settings = _settings(data)

    async def run() -> None:
        table = Table(
            "number", "code", "types", "type", "state", "indexed", "SearchParameter", box=None, pad_edge=False
        )
        async with _parts(settings) as parts:
            for one in await parts.parameters.listed():
                of, definition = f"{one.done}/{one.of}", one.definition
                bases = " ".join(definition.bases)
                named = f"SearchParameter/{one.resource_id}"
                table.add_row(str(one.number), definition.code, bases, definition.type, one.state, of, named)
        out.print(table)

    _run(run)


@app.command()
def ingest(
    lots: Annotated[list[Path], typer.Argument(help="Lots: folders or .zip files.", exists=True)],
    data: Data = None,
    acknowledgements: Annotated[
        Path | None, typer.Option(help="Folder for the acknowledgement files (beside each lot when not given).")
    ] = None,
) -> None:
    """Receive scan lots now, with a progress bar, and write the acknowledgement of each."""
    settings = _settings(data)

    async def run() -> int:
        worst = 0
        async with _parts(settings) as parts:
            for lot in lots:
                answer = await receive_with_progress(parts, lot)
                folder = acknowledgements or lot.parent
                write_acknowledgement(folder, answer)
                show_acknowledgement(answer)
                worst = max(worst, {"rejected": 2, "partly-accepted": 1}.get(answer.state, 0))
        return worst

    _run(run)


async def receive_with_progress(parts: Any, lot: Path) -> Any:
    """Receive one lot while a bar shows how many folders are settled."""
    with Progress(console=err, transient=not err.is_terminal) as bar:
        task = bar.add_task(lot.name, total=None)
        return await parts.lots.receive(lot, lambda done, of: bar.update(task, completed=done, total=of))


def write_acknowledgement(folder: Path, answer: Any) -> Path:
    from fhir_server.scans import acknowledgement

    folder.mkdir(parents=True, exist_ok=True)
    path = folder / acknowledgement.file_name(answer.lot)
    path.write_bytes(acknowledgement.render(answer))
    return path


def show_acknowledgement(answer: Any) -> None:
    counts = answer.counts
    out.print(
        f"[bold]{answer.lot}[/bold]: {answer.state}; seal {answer.seal.state}; {counts.folders} folders: "
        f"{counts.accepted} accepted, {counts.rejected} rejected, {counts.to_review} to review, "
        f"{counts.already_ingested} already ingested"
    )
    table = Table("folder", "state", "documents", "pages", "codes", box=None, pad_edge=False)
    for folder in answer.folders:
        codes = ", ".join(sorted({problem.code for problem in folder.problems}))
        table.add_row(folder.barcode, folder.state, str(folder.documents), str(folder.pages), codes)
    if answer.folders:
        out.print(table)
    for problem in answer.problems:
        out.print(f"[red]{problem.code}[/red] {problem.path or ''} {problem.detail}")


@app.command()
def evidence(
    document: Annotated[str, typer.Argument(help="DocumentReference/ID")],
    data: Data = None,
    html: Annotated[Path | None, typer.Option(help="Write the report as a page here.")] = None,
    as_json: Annotated[Path | None, typer.Option("--json", help="Write the report as JSON here.")] = None,
) -> None:
    """Verify what proves a document: its bytes, its seal, its time stamp, its chain; pass or fail."""
    settings = _settings(data)

    async def run() -> int:
        from fhir_server.evidence import report, to_html, to_json

        async with _parts(settings) as parts:
            found = await report(parts, document)
        if html:
            html.write_text(to_html(found), encoding="utf-8")
        if as_json:
            as_json.write_bytes(to_json(found))
        for check in found.checks:
            mark = {"pass": "[green]pass[/green]", "fail": "[red]FAIL[/red]"}.get(check.result, check.result)
            out.print(f"{mark}  {check.label}: {check.detail}")
        out.print(f"[bold]{document}: {'pass' if found.passed else 'FAIL'}[/bold]")
        return 0 if found.passed else 1

    _run(run)


@app.command()
def demo(
    data: Data = None,
    port: Annotated[int, typer.Option(help="Port of the server.")] = 8080,
    once: Annotated[bool, typer.Option("--once", help="Stop everything at the end.")] = False,
    as_json: Annotated[Path | None, typer.Option("--json", help="Write the summary here.")] = None,
) -> None:
    """The road of one document, end to end, on the sample scans."""
    from fhir_server.demo import run_demo

    settings = _settings(data or Path("demo-data"), port=port, log_level="warning")
    _run(lambda: run_demo(settings, once=once, summary_file=as_json))


@clients_app.command("add")
def clients_add(
    name: str,
    scope: Annotated[list[str], typer.Option(help="SMART v2 system scope, such as system/DocumentReference.rs")],
    role: Annotated[str, typer.Option(help=f"One of: {', '.join(sorted(MACHINE_ROLES))}.")] = "external-system",
    jwks: Jwks = None,
    jwks_uri: JwksUri = None,
    certificate_bound: Annotated[
        bool, typer.Option("--certificate-bound", help="Its tokens are good only with its TLS certificate.")
    ] = False,
    data: Data = None,
) -> None:
    """Add a client; its secret is shown this once. With --jwks or --jwks-uri it signs, and has no secret."""
    settings = _settings(data)
    try:
        scopes = check_scopes(scope)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None
    if role not in MACHINE_ROLES:
        raise typer.BadParameter(f"role must be one of {', '.join(sorted(MACHINE_ROLES))}")
    keys = _checked_keys(settings, jwks, jwks_uri) if jwks or jwks_uri else None

    async def run() -> None:
        async with _parts(settings) as parts:
            if keys:
                client_id = await parts.clients.add_with_keys(
                    name, scopes, role, **keys, certificate_bound=certificate_bound
                )
                shown = {"client_id": client_id}
            else:
                client_id, secret = await parts.clients.add(name, scopes, role, certificate_bound=certificate_bound)
                shown = {"client_id": client_id, "client_secret": secret}
        out.print_json(json.dumps({**shown, "scope": " ".join(scopes)}))

    _run(run)


@clients_app.command("keys")
def clients_keys(client_id: str, jwks: Jwks = None, jwks_uri: JwksUri = None, data: Data = None) -> None:
    """Replace the public keys of a client that signs; from the next token request on only these count."""
    settings = _settings(data)
    keys = _checked_keys(settings, jwks, jwks_uri)

    async def run() -> int:
        async with _parts(settings) as parts:
            done = await parts.clients.replace_keys(client_id, **keys)
        out.print("replaced" if done else "no such client that signs, or it is disabled")
        return 0 if done else 1

    _run(run)


def _checked_keys(settings: Settings, jwks: Path | None, jwks_uri: str | None) -> dict[str, str]:
    """The one of the two that is given, where it is right."""
    from fhir_server.rest.oauth.outbound import outbound_of
    from fhir_server.rest.oauth.public_keys import registered

    if (jwks is None) == (jwks_uri is None):
        raise typer.BadParameter("give one of --jwks and --jwks-uri")
    try:
        if jwks_uri is not None:
            return {"jwks_uri": str(outbound_of(settings).check(jwks_uri))}
        assert jwks
        text = jwks.read_text(encoding="utf-8")
        registered(text)
    except (ValueError, OSError) as error:
        raise typer.BadParameter(str(error)) from None
    return {"jwks": text}


@clients_app.command("list")
def clients_list(data: Data = None) -> None:
    """List the clients."""
    settings = _settings(data)

    async def run() -> None:
        async with _parts(settings) as parts:
            listed = await parts.clients.everybody()
        table = Table("client_id", "name", "role", "scopes", "proof", "since", "disabled", box=None, pad_edge=False)
        for client in listed:
            disabled = client.disabled.date().isoformat() if client.disabled else ""
            table.add_row(
                client.client_id,
                client.name,
                client.role,
                " ".join(client.scopes),
                client.proof,
                client.created.date().isoformat(),
                disabled,
            )
        out.print(table)

    _run(run)


@clients_app.command("disable")
def clients_disable(client_id: str, data: Data = None) -> None:
    """Shut a client out; its tokens are void within ten seconds."""
    settings = _settings(data)

    async def run() -> int:
        async with _parts(settings) as parts:
            done = await parts.clients.disable(client_id)
        out.print("disabled" if done else "no such client, or disabled already")
        return 0 if done else 1

    _run(run)


@workers_app.command("import")
def workers_import(file: Annotated[Path, typer.Argument(exists=True, dir_okay=False)], data: Data = None) -> None:
    """Import the register of workers from a CSV file (docs/register.md)."""
    settings = _settings(data)

    async def run() -> int:
        async with _parts(settings) as parts:
            with Progress(console=err, transient=not err.is_terminal) as bar:
                task = bar.add_task(file.name, total=None)
                report = await parts.register.import_csv(
                    file.read_bytes(), lambda done, of: bar.update(task, completed=done, total=of)
                )
        out.print(
            f"{report.workers} workers: {report.created} new, {report.changed} changed, {report.unchanged} unchanged"
        )
        errors = [problem for problem in report.problems if not problem.warning]
        for problem in report.problems:
            out.print(
                f"{'warning' if problem.warning else 'error'} line {problem.line}, {problem.column}: {problem.reason}"
            )
        return 1 if errors else 0

    _run(run)


@lot_app.command("build")
def lot_build(
    description: Annotated[Path, typer.Argument(help="TOML file: see samples/lot.toml", exists=True, dir_okay=False)],
    target: Annotated[Path, typer.Argument(help="Folder in which the lot is made.")],
    lot: Annotated[str, typer.Option(help="Name, such as LOT_20261015_C07_0123")],
    seal: Annotated[
        Path | None, typer.Option(help="Folder of a demonstration authority, made when it is not there.")
    ] = None,
    zipped: Annotated[bool, typer.Option("--zip", help="As one .zip file.")] = False,
) -> None:
    """Build a scan lot as a provider would deliver it: manifest, index, seal, sentinel."""
    from fhir_server.scans.builder import build, build_zip
    from fhir_server.scans.seal import make_demo_authority

    async def run() -> None:
        make = build_zip if zipped else build
        made = make(
            tomllib.loads(description.read_text(encoding="utf-8")),
            description.parent,
            target,
            lot=lot,
            at=datetime.now(UTC),
            seal=make_demo_authority(seal) if seal else None,
        )
        out.print(str(made))

    target.mkdir(parents=True, exist_ok=True)
    _run(run)


@lot_app.command("list")
def lot_list(data: Data = None) -> None:
    """List the lots received, newest first, with what became of their folders."""
    settings = _settings(data)

    async def run() -> None:
        from fhir_server.store.scan_lots import ScanLots

        async with _parts(settings) as parts:
            table = Table("lot", "centre", "state", "received", "folders", box=None, pad_edge=False)
            for row in await ScanLots(parts.database).newest():
                folders = ", ".join(f"{number} {state}" for state, number in sorted((row.folders or {}).items()))
                under_way = await parts.transient.progress(row.lot) if row.state == "received" else None
                state = f"{row.state} {under_way[0]}/{under_way[1]}" if under_way else row.state
                table.add_row(row.lot, row.centre, state, f"{row.received:%Y-%m-%d %H:%M}", folders)
            out.print(table)

    _run(run)


@review_app.command("list")
def review_list(data: Data = None) -> None:
    """List the folders that wait, with the reasons and the candidates (ids only)."""
    settings = _settings(data)

    async def run() -> None:
        from fhir_server.store.scan_lots import ScanLots

        async with _parts(settings) as parts:
            for row in await ScanLots(parts.database).waiting():
                codes = ", ".join(problem["code"] for problem in row.problems)
                reasons = ", ".join((row.evidence or {}).get("reasons", []))
                out.print(f"[bold]{row.lot} {row.barcode}[/bold]  {codes}  {reasons}")
                for candidate in (row.evidence or {}).get("candidates", []):
                    out.print(
                        f"  Patient/{candidate['patient']}  for: {', '.join(candidate['for']) or '-'}"
                        f"  against: {', '.join(candidate['against']) or '-'}"
                    )

    _run(run)


@review_app.command("attach")
def review_attach(
    lot: str,
    barcode: str,
    worker: Annotated[str, typer.Option(help="Patient/ID of the worker.")],
    by: Annotated[str, typer.Option(help="Who decides (your user name).")],
    data: Data = None,
) -> None:
    """Attach a folder to a worker: a person's decision, recorded as such."""
    settings = _settings(data)

    async def run() -> None:
        async with _parts(settings) as parts:
            await parts.documents.attach(lot, barcode, worker.removeprefix("Patient/"), by=by)
        out.print("attached")

    _run(run)


def main() -> None:
    """Entry point of the command."""
    sys.exit(app())


if __name__ == "__main__":
    main()
