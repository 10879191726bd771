"""`dmst-fhir roles`: who may see what, edition by edition."""

import json
import tomllib
from pathlib import Path
from typing import Annotated

import typer

from fhir_server.commands.running import Data, out, parts_of, run_to_end, settings_of, table_of


def show(data: Data = None) -> None:
    """The table of roles in force: who sees and writes which headings of the DMST."""
    from fhir_server import roles

    settings = settings_of(data)

    async def run() -> None:
        async with parts_of(settings):
            pass  # which puts the newest edition in force
        columns = ("role", "sees", "writes", "withheld, seen", "opposed by", "only", "source")
        table = table_of(*columns)
        for code, role in roles.IN_FORCE.table.items():
            only = [name for name in ("delegation", "models_only", "own_record") if getattr(role, name)]
            said = (role.read, role.write, role.sees, role.opposed_by, (*only, *role.purposes))
            table.add_row(code, *(" ".join(map(str, one)) for one in said), role.source)
        out.print(f"edition {roles.IN_FORCE.edition}" if roles.IN_FORCE.edition else "the law's table")
        out.print(table)

    run_to_end(run)


def restrict(
    file: Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="TOML rows, as in roles.toml.")],
    by: Annotated[str, typer.Option(help="The doctor who lays it down.")],
    reason: Annotated[str, typer.Option()],
    data: Data = None,
) -> None:
    """Lay down a new edition: the law's table, with these rows in the place of its own. It may only take away."""
    settings = settings_of(data)

    async def run() -> None:
        async with parts_of(settings) as parts:
            try:
                number = await parts.role_editions.lay_down(tomllib.loads(file.read_text("utf-8")), by, reason)
            except ValueError as error:
                raise typer.BadParameter(str(error)) from None
        out.print(f"edition {number} is in force")

    run_to_end(run)


def history(data: Data = None) -> None:
    """Every edition: when, by whom, why, and which rows."""
    settings = settings_of(data)

    async def run() -> None:
        async with parts_of(settings) as parts:
            for one in await parts.role_editions.editions():
                out.print_json(json.dumps(one._asdict(), default=str))

    run_to_end(run)
