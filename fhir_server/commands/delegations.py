"""`dmst-fhir delegations`: what the médecin du travail delegates (R4624-45-5)."""

from typing import Annotated

import typer

from fhir_server.commands.running import Data, out, parts_of, run_to_end, settings_of, table_of


def give(
    who: Annotated[str, typer.Argument(help="Identifier (RPPS) that the provider gives of the person.")],
    by: Annotated[str, typer.Option(help="The médecin du travail who delegates.")],
    days: Annotated[int, typer.Option(min=1, max=366)] = 365,
    data: Data = None,
) -> None:
    """Record a delegation of R4624-45-5 from now on; it is in force within ten seconds."""
    from fhir_server.store.role_editions import in_days

    settings = settings_of(data)

    async def run() -> None:
        async with parts_of(settings) as parts:
            await parts.role_editions.delegate(who, by, *in_days(days))
        out.print("recorded")

    run_to_end(run)


def end(who: str, data: Data = None) -> None:
    """End the delegations of somebody; what they allowed is closed within ten seconds."""
    settings = settings_of(data)

    async def run() -> int:
        async with parts_of(settings) as parts:
            ended = await parts.role_editions.end(who)
        out.print(f"{ended} ended")
        return 0 if ended else 1

    run_to_end(run)


def listed(data: Data = None) -> None:
    """Every delegation, also those that are over."""
    settings = settings_of(data)

    async def run() -> None:
        async with parts_of(settings) as parts:
            found = await parts.role_editions.delegations()
        table = table_of("delegate", "by", "from", "to")
        for one in found:
            table.add_row(one.delegate, one.by_whom, *(at.isoformat("T", "minutes") for at in (one.low, one.high)))
        out.print(table)

    run_to_end(run)
