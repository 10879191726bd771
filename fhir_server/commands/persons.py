"""`dmst-fhir persons`: whose record a worker sees, and of which centres professionals are (docs/access.md)."""

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fhir_server.commands.running import Data, out, parts_of, run_to_end, settings_of

if TYPE_CHECKING:
    from fhir_server.app import Parts

By = Annotated[str, typer.Option(help="Who records it, for the trail.")]
Person = Annotated[str, typer.Argument(help="Identifier that the provider gives of the person.")]


def link(who: Person, patient: str, by: By, data: Data = None) -> None:
    """Say that a person who logs in as `travailleur` is the worker Patient/ID; in force within ten seconds."""
    from fhir_server import person_commands

    _say(lambda parts: person_commands.link(parts, who, patient, by), data)


def unlink(who: Person, by: By, patient: Annotated[str | None, typer.Option()] = None, data: Data = None) -> None:
    """End the links of a person, or the one to --patient Patient/ID."""
    from fhir_server import person_commands

    _say(lambda parts: person_commands.unlink(parts, who, patient, by), data)


def join(who: Person, centre: str, by: By, data: Data = None) -> None:
    """Say that a professional is of the centre with this code; in force within ten seconds."""
    from fhir_server import person_commands

    _say(lambda parts: person_commands.join(parts, who, centre, by), data)


def leave(who: Person, centre: str, by: By, data: Data = None) -> None:
    """Say that a professional is of a centre no more."""
    from fhir_server import person_commands

    _say(lambda parts: person_commands.leave(parts, who, centre, by), data)


def listed(data: Data = None) -> None:
    """Every link and every centre of a person, also those that are over."""
    from fhir_server import person_commands

    _say(person_commands.listing, data)


def _say(work: "Callable[[Parts], Awaitable[str]]", data: Path | None) -> None:
    """What became of it."""
    settings = settings_of(data)

    async def run() -> None:
        async with parts_of(settings) as parts:
            out.print(await work(parts), soft_wrap=True, markup=False)

    run_to_end(run)
