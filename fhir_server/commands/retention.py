"""`dmst-fhir retention`: how long documents are kept, what is held, and what is destroyed."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from fhir_server.commands.running import By, Data, out, parts_of, run_to_end, settings_of


def hold(
    patient: Annotated[str, typer.Argument(help="Patient/ID of the worker.")],
    reason: Annotated[str, typer.Option(help="Why: it is kept in the worker's record.")],
    by: By,
    data: Data = None,
) -> None:
    """Suspend the destruction of everything of a worker: a claim, a request of an authority."""
    settings = settings_of(data)

    async def run() -> None:
        from fhir_server.retention import holds

        async with parts_of(settings) as parts:
            flag_id = await holds.hold(parts.door, patient.removeprefix("Patient/"), reason=reason, by=by)
        out.print(f"held: Flag/{flag_id}")

    run_to_end(run)


def release(
    patient: Annotated[str, typer.Argument(help="Patient/ID of the worker.")],
    by: By,
    data: Data = None,
) -> None:
    """Lift the holds of a worker."""
    settings = settings_of(data)

    async def run() -> None:
        from fhir_server.retention import holds

        async with parts_of(settings) as parts:
            number = await holds.release(parts.database, parts.door, patient.removeprefix("Patient/"), by=by)
        out.print(f"released: {number}")

    run_to_end(run)


def due(
    at: Annotated[datetime | None, typer.Option(formats=["%Y-%m-%d"], help="On which day; today when unset.")] = None,
    form: Annotated[str, typer.Option("--format", help="table, csv or json; the last two can be approved.")] = "table",
    data: Data = None,
) -> None:
    """List the documents that need not be kept any longer, with the reasons (ids only)."""
    settings = settings_of(data)

    async def run() -> None:
        from fhir_server.app import make_due_documents
        from fhir_server.retention.listing import lines

        async with parts_of(settings) as parts:
            due = make_due_documents(parts).at((at or datetime.now(UTC)).date())
            async for line in lines(due, form):
                typer.echo(line)

    run_to_end(run)


def approve(
    file: Annotated[Path, typer.Argument(metavar="LIST", exists=True, dir_okay=False, help="CSV or JSON of `due`.")],
    by: Annotated[str, typer.Option(help="Who approves (your user name).")],
    data: Data = None,
) -> None:
    """Approve a list: what is on it may be destroyed."""
    settings = settings_of(data)

    async def run() -> None:
        from fhir_server.retention import approval
        from fhir_server.store.retention import RetentionRows

        async with parts_of(settings) as parts:
            rows, needed = RetentionRows(parts.database), settings.retention_approvers
            approved = await approval.approve(rows, file, by=by, needed=needed)
        out.print(f"list {approved.list_id}: {approved.documents} documents, approved by {len(approved.approvers)}")
        if approved.missing:
            out.print(f"{approved.missing} more must approve it")

    run_to_end(run)


def delete(data: Data = None) -> None:
    """Destroy what is approved and still may be destroyed; status 1 where something was not."""
    settings = settings_of(data)

    async def run() -> int:
        from fhir_server.app import make_destroyer

        kept = 0

        def tell(fate: Any) -> None:
            nonlocal kept
            kept += fate.state != "destroyed"
            typer.echo(f"{fate.document} {fate.state} {', '.join(fate.why)}".rstrip())

        async with parts_of(settings) as parts:
            await make_destroyer(parts).run(tell)
            if parts.shredder:
                await parts.shredder.settle()
        return 1 if kept else 0

    run_to_end(run)


def lists(data: Data = None) -> None:
    """The lists that were approved, and what became of their documents."""
    settings = settings_of(data)

    async def run() -> None:
        from fhir_server.store.retention import RetentionRows

        async with parts_of(settings) as parts:
            for one in await RetentionRows(parts.database).counts():
                typer.echo(f"{one.list_id} {one.received:%Y-%m-%d} {one.approvals} {one.state} {one.number}")

    run_to_end(run)
