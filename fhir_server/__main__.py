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
roles_app = typer.Typer(help="Who may see what, as the law has it and this service lays down.", no_args_is_help=True)
delegations_app = typer.Typer(help="Delegations of the médecin du travail (R4624-45-5).", no_args_is_help=True)
workers_app = typer.Typer(help="The register of workers.", no_args_is_help=True)
lot_app = typer.Typer(help="Scan lots: build one, look at those received.", no_args_is_help=True)
review_app = typer.Typer(help="Folders that wait for a person.", no_args_is_help=True)
retention_app = typer.Typer(help="How long documents are kept: holds, lists, destruction.", no_args_is_help=True)
audit_app = typer.Typer(help="The trail of accesses: verify its seals, hand it out.", no_args_is_help=True)
app.add_typer(audit_app, name="audit")
app.add_typer(retention_app, name="retention")
app.add_typer(clients_app, name="clients")
app.add_typer(roles_app, name="roles")
app.add_typer(delegations_app, name="delegations")
app.add_typer(workers_app, name="workers")
app.add_typer(lot_app, name="lot")
app.add_typer(review_app, name="review")
keys_app = typer.Typer(help="The keys under which documents are encrypted.", no_args_is_help=True)
app.add_typer(keys_app, name="keys")

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


ALTERED, NOT_PROVEN = 2, 3
From = Annotated[str | None, typer.Option("--from", help="First day or moment, such as 2026-01-01.")]
To = Annotated[str | None, typer.Option("--to", help="Last day or moment.")]


@audit_app.command("verify")
def audit_verify(
    data: Data = None,
    low: From = None,
    high: To = None,
    holds: Annotated[
        list[str] | None, typer.Option(help="A seal that was noted earlier and must be there: NUMBER:SHA256.")
    ] = None,
    as_json: Annotated[Path | None, typer.Option("--json", help="Write the report as JSON here.")] = None,
) -> None:
    """Is the trail as it was sealed? Status 0: yes. 2: something was altered. 3: not all of it is proven."""
    settings = _settings(data)

    async def run() -> int:
        from fhir_server.audit_commands import render, verify

        async with _parts(settings) as parts:
            report = await verify(parts, low, high, holds or [])
        if as_json:
            as_json.write_bytes(render(report))
        for fault in report.faults:
            where = f"rows {fault.first_id} to {fault.last_id}, " if fault.last_id else ""
            out.print(f"[red]{fault.kind}[/red]  {where}seal {fault.seal}: {fault.text}", soft_wrap=True)
        if report.faulty > len(report.faults):
            out.print(f"... and {report.faulty - len(report.faults)} more")
        for remark in report.remarks:
            out.print(f"[yellow]note[/yellow]  {remark}", soft_wrap=True)
        if report.unsealed:
            out.print(f"{report.unsealed} rows not sealed yet, the oldest of {report.unsealed_since:%Y-%m-%d %H:%M:%S}")
        if report.newest:
            out.print(f"newest seal {report.newest.number}:{report.newest.digest.hex()}", soft_wrap=True)
        if report.anchored_at:
            out.print(f"time-stamped up to seal {report.anchored}, on {report.anchored_at:%Y-%m-%d %H:%M:%S}")
        verdict = "ALTERED" if report.faulty else "NOT ALL PROVEN" if report.unproven else "OK"
        out.print(f"[bold]{report.rows} rows under {report.seals} seals: {verdict}[/bold]")
        return ALTERED if report.faulty else NOT_PROVEN if report.unproven else 0

    _run(run)


@audit_app.command("export")
def audit_export(
    output: Annotated[Path, typer.Option("-o", "--output", help="File to write; its signature is FILE.p7s.")],
    patient: Annotated[str | None, typer.Option(help="Of one worker: Patient/ID.")] = None,
    professional: Annotated[str | None, typer.Option(help="By one professional.")] = None,
    low: From = None,
    high: To = None,
    form: Annotated[str, typer.Option("--format", help="ndjson (AuditEvent) or csv.")] = "ndjson",
    unsigned: Annotated[bool, typer.Option("--unsigned", help="Without a signature.")] = False,
    by: Annotated[str | None, typer.Option(help="Who asks for it (your user name).")] = None,
    data: Data = None,
) -> None:
    """Write accesses of the trail to a file, signed; this is itself an access, and traced."""
    settings = _settings(data)

    async def run() -> None:
        from fhir_server.audit_commands import export

        async with _parts(settings) as parts:
            done = await export(
                parts,
                output,
                patient_id=patient.removeprefix("Patient/") if patient else None,
                professional=professional,
                low=low,
                high=high,
                form=form,
                signed=not unsigned,
                by=by,
            )
        out.print_json(done.decode())

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


@roles_app.command("show")
def roles_show(data: Data = None) -> None:
    """The table of roles in force: who sees and writes which headings of the DMST."""
    from fhir_server import roles

    settings = _settings(data)

    async def run() -> None:
        async with _parts(settings):
            pass  # which puts the newest edition in force
        columns = ("role", "sees", "writes", "withheld, seen", "opposed by", "only", "source")
        table = Table(*columns, box=None, pad_edge=False)
        for code, role in roles.IN_FORCE.table.items():
            only = [name for name in ("delegation", "models_only", "own_record") if getattr(role, name)]
            said = (role.read, role.write, role.sees, role.opposed_by, (*only, *role.purposes))
            table.add_row(code, *(" ".join(map(str, one)) for one in said), role.source)
        out.print(f"edition {roles.IN_FORCE.edition}" if roles.IN_FORCE.edition else "the law's table")
        out.print(table)

    _run(run)


@roles_app.command("restrict")
def roles_restrict(
    file: Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="TOML rows, as in roles.toml.")],
    by: Annotated[str, typer.Option(help="The doctor who lays it down.")],
    reason: Annotated[str, typer.Option()],
    data: Data = None,
) -> None:
    """Lay down a new edition: the law's table, with these rows in the place of its own. It may only take away."""
    settings = _settings(data)

    async def run() -> None:
        async with _parts(settings) as parts:
            try:
                number = await parts.role_editions.lay_down(tomllib.loads(file.read_text("utf-8")), by, reason)
            except ValueError as error:
                raise typer.BadParameter(str(error)) from None
        out.print(f"edition {number} is in force")

    _run(run)


@roles_app.command("history")
def roles_history(data: Data = None) -> None:
    """Every edition: when, by whom, why, and which rows."""
    settings = _settings(data)

    async def run() -> None:
        async with _parts(settings) as parts:
            for one in await parts.role_editions.editions():
                out.print_json(json.dumps(one._asdict(), default=str))

    _run(run)


@app.command()
def recall(
    what: Annotated[str, typer.Argument(help="DocumentReference/ID or Patient/ID.")],
    data: Data = None,
) -> None:
    """What has left already, and to whom: the list to recall by, after a withdrawal or a mistake."""
    settings = _settings(data)
    kind, _, identity = what.partition("/")
    if kind not in ("DocumentReference", "Patient") or not identity:
        raise typer.BadParameter("say DocumentReference/ID or Patient/ID")

    async def run() -> None:
        from fhir_server.store.outbox_rows import left_deliveries

        async with _parts(settings) as parts:
            document, patient = (None, identity) if kind == "Patient" else (identity, None)
            left = await left_deliveries(parts.database, document=document, patient=patient)
        table = Table("document", "recipient", "state", "at", "known there as", box=None, pad_edge=False)
        for one in left:
            at = one.at.isoformat("T", "seconds")
            table.add_row(one.document_reference_id, one.recipient, one.state, at, one.remote_id or "")
        out.print(table)

    _run(run)


@delegations_app.command("give")
def delegations_give(
    who: Annotated[str, typer.Argument(help="Identifier (RPPS) that the provider gives of the person.")],
    by: Annotated[str, typer.Option(help="The médecin du travail who delegates.")],
    days: Annotated[int, typer.Option(min=1, max=366)] = 365,
    data: Data = None,
) -> None:
    """Record a delegation of R4624-45-5 from now on; it is in force within ten seconds."""
    from fhir_server.store.role_editions import in_days

    settings = _settings(data)

    async def run() -> None:
        async with _parts(settings) as parts:
            await parts.role_editions.delegate(who, by, *in_days(days))
        out.print("recorded")

    _run(run)


@delegations_app.command("end")
def delegations_end(who: str, data: Data = None) -> None:
    """End the delegations of somebody; what they allowed is closed within ten seconds."""
    settings = _settings(data)

    async def run() -> int:
        async with _parts(settings) as parts:
            ended = await parts.role_editions.end(who)
        out.print(f"{ended} ended")
        return 0 if ended else 1

    _run(run)


@delegations_app.command("list")
def delegations_list(data: Data = None) -> None:
    """Every delegation, also those that are over."""
    settings = _settings(data)

    async def run() -> None:
        async with _parts(settings) as parts:
            found = await parts.role_editions.delegations()
        table = Table("delegate", "by", "from", "to", box=None, pad_edge=False)
        for one in found:
            table.add_row(one.delegate, one.by_whom, *(at.isoformat("T", "minutes") for at in (one.low, one.high)))
        out.print(table)

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


@lot_app.command("manifest")
def lot_manifest(
    lot: str,
    target: Annotated[Path, typer.Argument(help="File that is written.")],
    data: Data = None,
) -> None:
    """Write the manifest of a lot as it was received, to be verified by other means."""
    settings = _settings(data)

    async def run() -> None:
        from fhir_server.outcomes import NotFound
        from fhir_server.store.scan_lots import ScanLots

        async with _parts(settings) as parts:
            row = await ScanLots(parts.database).read(lot)
            if row is None:
                raise NotFound("There is no such lot")
            target.write_bytes(b"".join([chunk async for chunk in parts.blobs.chunks(row.manifest_sha256)]))

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


@retention_app.command("hold")
def retention_hold(
    patient: Annotated[str, typer.Argument(help="Patient/ID of the worker.")],
    reason: Annotated[str, typer.Option(help="Why: it is kept in the worker's record.")],
    by: Annotated[str, typer.Option(help="Who decides (your user name).")],
    data: Data = None,
) -> None:
    """Suspend the destruction of everything of a worker: a claim, a request of an authority."""
    settings = _settings(data)

    async def run() -> None:
        from fhir_server.retention.holds import hold

        async with _parts(settings) as parts:
            flag_id = await hold(parts.door, patient.removeprefix("Patient/"), reason=reason, by=by)
        out.print(f"held: Flag/{flag_id}")

    _run(run)


@retention_app.command("release")
def retention_release(
    patient: Annotated[str, typer.Argument(help="Patient/ID of the worker.")],
    by: Annotated[str, typer.Option(help="Who decides (your user name).")],
    data: Data = None,
) -> None:
    """Lift the holds of a worker."""
    settings = _settings(data)

    async def run() -> None:
        from fhir_server.retention.holds import release

        async with _parts(settings) as parts:
            number = await release(parts.database, parts.door, patient.removeprefix("Patient/"), by=by)
        out.print(f"released: {number}")

    _run(run)


@retention_app.command("due")
def retention_due(
    at: Annotated[datetime | None, typer.Option(formats=["%Y-%m-%d"], help="On which day; today when unset.")] = None,
    form: Annotated[str, typer.Option("--format", help="table, csv or json; the last two can be approved.")] = "table",
    data: Data = None,
) -> None:
    """List the documents that need not be kept any longer, with the reasons (ids only)."""
    settings = _settings(data)

    async def run() -> None:
        from fhir_server.app import make_due_documents
        from fhir_server.retention.listing import lines

        async with _parts(settings) as parts:
            due = make_due_documents(parts).at((at or datetime.now(UTC)).date())
            async for line in lines(due, form):
                typer.echo(line)

    _run(run)


@retention_app.command("approve")
def retention_approve(
    file: Annotated[Path, typer.Argument(metavar="LIST", exists=True, dir_okay=False, help="CSV or JSON of `due`.")],
    by: Annotated[str, typer.Option(help="Who approves (your user name).")],
    data: Data = None,
) -> None:
    """Approve a list: what is on it may be destroyed."""
    settings = _settings(data)

    async def run() -> None:
        from fhir_server.retention.approval import approve
        from fhir_server.store.retention import RetentionRows

        async with _parts(settings) as parts:
            rows, needed = RetentionRows(parts.database), settings.retention_approvers
            approved = await approve(rows, file, by=by, needed=needed)
        out.print(f"list {approved.list_id}: {approved.documents} documents, approved by {len(approved.approvers)}")
        if approved.missing:
            out.print(f"{approved.missing} more must approve it")

    _run(run)


@retention_app.command("delete")
def retention_delete(data: Data = None) -> None:
    """Destroy what is approved and still may be destroyed; status 1 where something was not."""
    settings = _settings(data)

    async def run() -> int:
        from fhir_server.app import make_destroyer

        kept = 0

        def tell(fate: Any) -> None:
            nonlocal kept
            kept += fate.state != "destroyed"
            typer.echo(f"{fate.document} {fate.state} {', '.join(fate.why)}".rstrip())

        async with _parts(settings) as parts:
            await make_destroyer(parts).run(tell)
            if parts.shredder:
                await parts.shredder.settle()
        return 1 if kept else 0

    _run(run)


@retention_app.command("lists")
def retention_lists(data: Data = None) -> None:
    """The lists that were approved, and what became of their documents."""
    settings = _settings(data)

    async def run() -> None:
        from fhir_server.store.retention import RetentionRows

        async with _parts(settings) as parts:
            for one in await RetentionRows(parts.database).counts():
                typer.echo(f"{one.list_id} {one.received:%Y-%m-%d} {one.approvals} {one.state} {one.number}")

    _run(run)


@keys_app.command("make")
def keys_make(data: Data = None) -> None:
    """Make a master key, in the key file or the device. It is used from `keys rotate` on, or from the first start."""
    settings = _settings(data)

    async def run() -> None:
        from fhir_server.app import make_master_keys

        masters = make_master_keys(settings)
        out.print(f"made [bold]{await masters.make()}[/bold] in {masters!r}; back it up before it is used")
        masters.close()

    _run(run)


@keys_app.command("status")
def keys_status(data: Data = None) -> None:
    """The master keys and what is wrapped under each, documents in the clear, what waits to be shredded."""
    settings = _settings(data)

    async def run() -> None:
        from fhir_server.app import make_master_keys
        from fhir_server.store.blob_keys import BlobKeys
        from fhir_server.store.shredding import Shredder

        async with _parts(settings) as parts:
            masters = make_master_keys(settings)
            keys = BlobKeys(parts.database, masters)
            table = Table("master key", "state", "since", "documents", box=None, pad_edge=False)
            used = await keys.listed()
            for one in used:
                state = "current" if one.current else "in use" if one.uses else "may be retired"
                table.add_row(one.key_id, state, f"{one.since:%Y-%m-%d %H:%M}", str(one.uses))
            for key_id in sorted(set(await masters.ids()) - {one.key_id for one in used}):
                table.add_row(key_id, "not used yet", "", "")
            out.print(table)
            waiting, shredded = await Shredder(parts.database, parts.blobs).waiting()
            out.print(
                f"{await keys.count_plain()} documents in the clear; {waiting} to be shredded, {shredded} shredded"
            )
            masters.close()

    _run(run)


@keys_app.command("rotate")
def keys_rotate(
    to: Annotated[str | None, typer.Option(help="The master key; the newest when not given.")] = None,
    data: Data = None,
) -> None:
    """Use the newest master key from now on, and wrap the keys of all documents anew under it.

    Documents are not touched and everything goes on; interrupted, run it again.
    """
    settings = _settings(data)

    async def run() -> None:
        async with _parts(settings) as parts:
            keys = _sealed(parts).keys
            current, wrapped, left = await keys.make_current(to), 0, 1
            with Progress(console=err, transient=not err.is_terminal) as bar:
                task = bar.add_task("keys", total=None)
                while left:
                    some, left = await keys.rewrap_some()
                    wrapped += some
                    bar.update(task, completed=wrapped, total=wrapped + left)
                    if left and not some:
                        await asyncio.sleep(0.1)  # another process is at them
        out.print(f"{current} is current; {wrapped} keys of documents were wrapped anew")

    _run(run)


@keys_app.command("retire")
def keys_retire(key_id: str, data: Data = None) -> None:
    """Destroy a master key that nothing is wrapped under. Backups of the database from its time need it."""
    settings = _settings(data)

    async def run() -> None:
        async with _parts(settings) as parts:
            await _sealed(parts).keys.retire(key_id)
        out.print("retired")

    _run(run)


@keys_app.command("encrypt")
def keys_encrypt(data: Data = None) -> None:
    """Encrypt the documents that were kept in the clear. Everything goes on; interrupted, run it again."""
    settings = _settings(data)

    async def run() -> int:
        from fhir_server.store.plain_blobs import seal_all

        async with _parts(settings) as parts:
            with Progress(console=err, transient=not err.is_terminal) as bar:
                task = bar.add_task("documents", total=None)
                found = await seal_all(_sealed(parts), lambda now: bar.update(task, completed=now.encrypted))
        out.print(f"{found.encrypted} encrypted, {found.already} were already")
        if found.without_key:
            out.print(f"{found.without_key} sealed files have no key here (a process that died, or a restored backup)")
        for sha256 in found.damaged:
            out.print(f"[red]damaged, left alone:[/red] {sha256}")
        return 1 if found.damaged else 0

    _run(run)


@keys_app.command("shredded")
def keys_shredded(
    data: Data = None,
    as_json: Annotated[Path | None, typer.Option("--json", help="Write all of them as JSON lines here.")] = None,
) -> None:
    """What was let go: which content, when, by whom, why, and what became of it."""
    settings = _settings(data)

    async def run() -> None:
        from fhir_server.store.shredding import Shredder

        async with _parts(settings) as parts:
            found = await Shredder(parts.database, parts.blobs).releases(2**31 if as_json else 100)
        if as_json:
            lines = [{name: _told(value) for name, value in one._asdict().items()} for one in found]
            as_json.write_text("".join(f"{json.dumps(line)}\n" for line in lines), encoding="utf-8")
            return
        table = Table("sha256", "asked", "by", "reason", "outcome", "when", box=None, pad_edge=False)
        for one in found:
            when = f"{one.settled:%Y-%m-%d %H:%M}" if one.settled else ""
            asked = f"{one.asked:%Y-%m-%d %H:%M}"
            table.add_row(one.sha256.hex(), asked, one.asked_by, one.reason, one.outcome or "waits", when)
        out.print(table)

    _run(run)


def _told(value: object) -> object:
    return value.hex() if isinstance(value, bytes) else value.isoformat() if isinstance(value, datetime) else value


def _sealed(parts: Any) -> Any:
    """The encrypted store. Raises Conflict where documents are kept in the clear."""
    from fhir_server.outcomes import Conflict
    from fhir_server.store.blobs_sealed import SealedBlobs

    if not isinstance(parts.blobs, SealedBlobs) or not parts.blobs.sealing:
        raise Conflict("Documents are kept in the clear: DMST_FHIR_ENCRYPT_BLOBS is false")
    return parts.blobs


def main() -> None:
    """Entry point of the command."""
    sys.exit(app())


if __name__ == "__main__":
    main()
