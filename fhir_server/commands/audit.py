"""`dmst-fhir audit`: the trail of accesses, verified and handed out."""

from pathlib import Path
from typing import Annotated

import typer

from fhir_server.commands.running import Data, out, parts_of, run_to_end, settings_of

ALTERED, NOT_PROVEN = 2, 3

From = Annotated[str | None, typer.Option("--from", help="First day or moment, such as 2026-01-01.")]
To = Annotated[str | None, typer.Option("--to", help="Last day or moment.")]


def verify(
    data: Data = None,
    low: From = None,
    high: To = None,
    holds: Annotated[
        list[str] | None, typer.Option(help="A seal that was noted earlier and must be there: NUMBER:SHA256.")
    ] = None,
    as_json: Annotated[Path | None, typer.Option("--json", help="Write the report as JSON here.")] = None,
) -> None:
    """Is the trail as it was sealed? Status 0: yes. 2: something was altered. 3: not all of it is proven."""
    settings = settings_of(data)

    async def run() -> int:
        from fhir_server import audit_commands

        async with parts_of(settings) as parts:
            report = await audit_commands.verify(parts, low, high, holds or [])
        if as_json:
            as_json.write_bytes(audit_commands.render(report))
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

    run_to_end(run)


def export(
    output: Annotated[Path, typer.Option("-o", "--output", help="File to write; its signature is FILE.p7s.")],
    patient: Annotated[str | None, typer.Option(help="Of one worker: Patient/ID.")] = None,
    professional: Annotated[str | None, typer.Option(help="By one professional.")] = None,
    circumstance: Annotated[
        str | None, typer.Option(help="Only out-of-team, break-glass or reason-given accesses.")
    ] = None,
    low: From = None,
    high: To = None,
    form: Annotated[str, typer.Option("--format", help="ndjson (AuditEvent) or csv.")] = "ndjson",
    unsigned: Annotated[bool, typer.Option("--unsigned", help="Without a signature.")] = False,
    by: Annotated[str | None, typer.Option(help="Who asks for it (your user name).")] = None,
    data: Data = None,
) -> None:
    """Write accesses of the trail to a file, signed; this is itself an access, and traced."""
    settings = settings_of(data)

    async def run() -> None:
        from fhir_server import audit_commands

        async with parts_of(settings) as parts:
            done = await audit_commands.export(
                parts,
                output,
                patient_id=patient.removeprefix("Patient/") if patient else None,
                professional=professional,
                circumstance=circumstance,
                low=low,
                high=high,
                form=form,
                signed=not unsigned,
                by=by,
            )
        out.print_json(done.decode())

    run_to_end(run)
