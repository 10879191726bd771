"""`dmst-fhir workers`: the register of workers."""

from pathlib import Path
from typing import Annotated

import typer

from fhir_server.commands.running import Data, out, parts_of, progress, run_to_end, settings_of


def import_csv(file: Annotated[Path, typer.Argument(exists=True, dir_okay=False)], data: Data = None) -> None:
    """Import the register of workers from a CSV file (docs/register.md)."""
    settings = settings_of(data)

    async def run() -> int:
        async with parts_of(settings) as parts:
            with progress(file.name) as tell:
                report = await parts.register.import_csv(file.read_bytes(), tell)
            back = await parts.review.look_again()
        out.print(
            f"{report.workers} workers: {report.created} new, {report.changed} changed, {report.unchanged} unchanged"
        )
        if back:
            out.print(f"{back} folders whose worker was not in the register came back to the review queue")
        errors = [problem for problem in report.problems if not problem.warning]
        for problem in report.problems:
            out.print(
                f"{'warning' if problem.warning else 'error'} line {problem.line}, {problem.column}: {problem.reason}"
            )
        return 1 if errors else 0

    run_to_end(run)
