"""`dmst-fhir ingest`, `lot`: scan lots, received, built, looked at."""

import tomllib
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fhir_server.commands.running import Data, out, parts_of, progress, run_to_end, settings_of, table_of

if TYPE_CHECKING:
    from fhir_server.app import Parts
    from fhir_server.scans.acknowledgement import Acknowledgement


def ingest(
    lots: Annotated[list[Path], typer.Argument(help="Lots: folders or .zip files.", exists=True)],
    data: Data = None,
    acknowledgements: Annotated[
        Path | None, typer.Option(help="Folder for the acknowledgement files (beside each lot when not given).")
    ] = None,
) -> None:
    """Receive scan lots now, with a progress bar, and write the acknowledgement of each."""
    settings = settings_of(data)

    async def run() -> int:
        worst = 0
        async with parts_of(settings) as parts:
            for lot in lots:
                answer = await _receive(parts, lot)
                folder = acknowledgements or lot.parent
                _write(folder, answer)
                _show(answer)
                worst = max(worst, {"rejected": 2, "partly-accepted": 1}.get(answer.state, 0))
        return worst

    run_to_end(run)


async def _receive(parts: "Parts", lot: Path) -> "Acknowledgement":
    """Receive one lot while a bar shows how many folders are settled."""
    with progress(lot.name) as tell:
        return await parts.lots.receive(lot, tell)


def _write(folder: Path, answer: "Acknowledgement") -> None:
    from fhir_server.scans import acknowledgement

    folder.mkdir(parents=True, exist_ok=True)
    (folder / acknowledgement.file_name(answer.lot)).write_bytes(acknowledgement.render(answer))


def _show(answer: "Acknowledgement") -> None:
    counts = answer.counts
    out.print(
        f"[bold]{answer.lot}[/bold]: {answer.state}; seal {answer.seal.state}; {counts.folders} folders: "
        f"{counts.accepted} accepted, {counts.rejected} rejected, {counts.to_review} to review, "
        f"{counts.already_ingested} already ingested"
    )
    table = table_of("folder", "state", "documents", "pages", "codes")
    for folder in answer.folders:
        codes = ", ".join(sorted({problem.code for problem in folder.problems}))
        table.add_row(folder.barcode, folder.state, str(folder.documents), str(folder.pages), codes)
    if answer.folders:
        out.print(table)
    for problem in answer.problems:
        out.print(f"[red]{problem.code}[/red] {problem.path or ''} {problem.detail}")


def build(
    description: Annotated[Path, typer.Argument(help="TOML file: see samples/lot.toml", exists=True, dir_okay=False)],
    target: Annotated[Path, typer.Argument(help="Folder in which the lot is made.")],
    lot: Annotated[str, typer.Option(help="Name, such as LOT_20261015_C07_0123")],
    seal: Annotated[
        Path | None, typer.Option(help="Folder of a demonstration authority, made when it is not there.")
    ] = None,
    zipped: Annotated[bool, typer.Option("--zip", help="As one .zip file.")] = False,
) -> None:
    """Build a scan lot as a provider would deliver it: manifest, index, seal, sentinel."""
    from fhir_server.scans import builder
    from fhir_server.scans.seal import make_demo_authority

    async def run() -> None:
        make = builder.build_zip if zipped else builder.build
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
    run_to_end(run)


def listed(data: Data = None) -> None:
    """List the lots received, newest first, with what became of their folders."""
    settings = settings_of(data)

    async def run() -> None:
        from fhir_server.store.scan_lots import ScanLots

        async with parts_of(settings) as parts:
            table = table_of("lot", "centre", "state", "received", "folders")
            for row in await ScanLots(parts.database).newest():
                folders = ", ".join(f"{number} {state}" for state, number in sorted((row.folders or {}).items()))
                under_way = await parts.transient.progress(row.lot) if row.state == "received" else None
                state = f"{row.state} {under_way[0]}/{under_way[1]}" if under_way else row.state
                table.add_row(row.lot, row.centre, state, f"{row.received:%Y-%m-%d %H:%M}", folders)
            out.print(table)

    run_to_end(run)


def manifest(
    lot: str,
    target: Annotated[Path, typer.Argument(help="File that is written.")],
    data: Data = None,
) -> None:
    """Write the manifest of a lot as it was received, to be verified by other means."""
    settings = settings_of(data)

    async def run() -> None:
        from fhir_server.outcomes import NotFound
        from fhir_server.store.scan_lots import ScanLots

        async with parts_of(settings) as parts:
            row = await ScanLots(parts.database).read(lot)
            if row is None:
                raise NotFound("There is no such lot")
            target.write_bytes(b"".join([chunk async for chunk in parts.blobs.chunks(row.manifest_sha256)]))

    run_to_end(run)
