"""`dmst-fhir identities`: links between workers of the register, cases, what was decided (docs/review.md)."""

from pathlib import Path
from typing import Annotated

import typer

from fhir_server.commands.review import Note, Reason, person, tell_events
from fhir_server.commands.running import By, Data, out, parts_of, run_to_end, settings_of


def link(
    worker: Annotated[str, typer.Argument(help="Patient/ID")],
    other: Annotated[str, typer.Argument(help="Patient/ID")],
    by: By,
    reason: Reason = None,
    note: Note = None,
    data: Data = None,
) -> None:
    """Say of two identities that they are of one worker: a link on both, never a merge."""
    settings = settings_of(data)

    async def run() -> None:
        async with parts_of(settings) as parts:
            done = await parts.identities.link(person(by), _id(worker), _id(other), reason, note=note)
        case = f"; same INS twice: duplicate case {done.case_id}" if done.case_id else ""
        out.print(f"event {done.event_id}: linked{case}")

    run_to_end(run)


def unlink(event: int, by: By, reason: Reason = None, note: Note = None, data: Data = None) -> None:
    """Take a link back, by the number of its event."""
    settings = settings_of(data)

    async def run() -> None:
        async with parts_of(settings) as parts:
            done = await parts.identities.unlink(person(by), event, reason, note=note)
        out.print(f"event {done}: unlinked")

    run_to_end(run)


def cases(by: By, data: Data = None) -> None:
    """List collisions and duplicates that wait for somebody."""
    settings = settings_of(data)

    async def run() -> None:
        async with parts_of(settings) as parts:
            tell_events(await parts.identities.cases(person(by)))

    run_to_end(run)


def close(case: int, by: By, reason: Reason = None, note: Note = None, data: Data = None) -> None:
    """Close a case."""
    settings = settings_of(data)

    async def run() -> None:
        async with parts_of(settings) as parts:
            done = await parts.identities.close(person(by), case, reason, note=note)
        out.print(f"event {done}: closed")

    run_to_end(run)


def history(worker: Annotated[str, typer.Argument(help="Patient/ID")], by: By, data: Data = None) -> None:
    """What was decided about a worker, newest first."""
    settings = settings_of(data)

    async def run() -> None:
        async with parts_of(settings) as parts:
            tell_events(await parts.identities.history(person(by), _id(worker)))

    run_to_end(run)


def labels(
    output: Annotated[Path, typer.Option("-o", "--output", help="File to write, a line of JSON for each pair.")],
    data: Data = None,
) -> None:
    """Write decisions as labelled pairs (comparison and verdict, no id, no trait), to set thresholds by."""
    settings = settings_of(data)

    async def run() -> None:
        import orjson

        from fhir_server.intake.labels import labelled_pairs
        from fhir_server.store.identity_events import IdentityEvents

        async with parts_of(settings) as parts:
            pairs = [pair async for pair in labelled_pairs(IdentityEvents(parts.database))]
        output.write_bytes(b"".join(orjson.dumps(pair._asdict()) + b"\n" for pair in pairs))
        out.print(f"{len(pairs)} pairs")

    run_to_end(run)


def _id(worker: str) -> str:
    return worker.removeprefix("Patient/")
