"""`dmst-fhir review`: folders that wait for a person."""

from typing import Annotated

import typer

from fhir_server.commands.running import By, Data, out, parts_of, run_to_end, settings_of


def listed(data: Data = None) -> None:
    """List the folders that wait, with the reasons and the candidates (ids only)."""
    settings = settings_of(data)

    async def run() -> None:
        from fhir_server.store.scan_lots import ScanLots

        async with parts_of(settings) as parts:
            for row in await ScanLots(parts.database).waiting():
                codes = ", ".join(problem["code"] for problem in row.problems)
                reasons = ", ".join((row.evidence or {}).get("reasons", []))
                out.print(f"[bold]{row.lot} {row.barcode}[/bold]  {codes}  {reasons}")
                for candidate in (row.evidence or {}).get("candidates", []):
                    out.print(
                        f"  Patient/{candidate['patient']}  for: {', '.join(candidate['for']) or '-'}"
                        f"  against: {', '.join(candidate['against']) or '-'}"
                    )

    run_to_end(run)


def attach(
    lot: str,
    barcode: str,
    worker: Annotated[str, typer.Option(help="Patient/ID of the worker.")],
    by: By,
    data: Data = None,
) -> None:
    """Attach a folder to a worker: a person's decision, recorded as such."""
    settings = settings_of(data)

    async def run() -> None:
        async with parts_of(settings) as parts:
            await parts.documents.attach(lot, barcode, worker.removeprefix("Patient/"), by=by)
        out.print("attached")

    run_to_end(run)
