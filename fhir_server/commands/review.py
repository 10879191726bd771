"""`dmst-fhir review`: folders that wait for a person (docs/review.md)."""

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fhir_server.commands.running import By, Data, out, parts_of, run_to_end, settings_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fhir_server.caller import Caller
    from fhir_server.store.identity_events import Event

Reason = Annotated[str | None, typer.Option(help="Code of the reason (docs/review.md).")]
Note = Annotated[str | None, typer.Option(help="In your words; kept with the decision, shown nowhere else.")]


def person(by: str) -> "Caller":
    """The operator at the command line, as the person that he says he is."""
    from dataclasses import replace

    from fhir_server.caller import service

    return replace(service("review"), professional=by)


def listed(
    state: Annotated[list[str] | None, typer.Option(help="to-review, second-opinion or aside.")] = None,
    lot: Annotated[str | None, typer.Option(help="Of one lot.")] = None,
    by: By = "operator",
    data: Data = None,
) -> None:
    """List the folders that wait, with the reasons and the candidates (ids only)."""
    settings = settings_of(data)

    async def run() -> None:
        from fhir_server.intake.review import Filters

        filters = Filters(tuple(state), lot) if state else Filters(lot=lot)
        async with parts_of(settings) as parts:
            place = None
            while True:
                queue = await parts.review.waiting(person(by), filters, place)
                for row in queue.folders:
                    codes = ", ".join(problem["code"] for problem in row.problems)
                    reasons = ", ".join((row.evidence or {}).get("reasons", []))
                    out.print(f"[bold]{row.lot} {row.barcode}[/bold]  {row.state}  {codes}  {reasons}")
                    for candidate in (row.evidence or {}).get("candidates", []):
                        out.print(
                            f"  Patient/{candidate['patient']}  for: {', '.join(candidate['for']) or '-'}"
                            f"  against: {', '.join(candidate['against']) or '-'}"
                        )
                place = queue.next
                if place is None:
                    return

    run_to_end(run)


def show(lot: str, barcode: str, by: By, data: Data = None) -> None:
    """One folder: its documents, who could be its worker, what was decided. Ids and codes, no trait."""
    settings = settings_of(data)

    async def run() -> None:
        async with parts_of(settings) as parts:
            item = await parts.review.item(person(by), lot, barcode)
        codes = ", ".join(problem.code for problem in item.problems)
        out.print(f"[bold]{lot} {barcode}[/bold]  {item.state}  {codes}  {', '.join(item.reasons)}")
        for document in item.documents:
            pages = item.flagged.get(document.document_id)
            flag = "" if pages is None else f"  non-transmissible: {', '.join(map(str, pages)) or 'all'}"
            out.print(f"  {document.document_id}  {document.pages} pages{flag}")
        for one in item.candidates:
            second = f"  second person: {', '.join(one.second_opinion)}" if one.second_opinion else ""
            out.print(
                f"  Patient/{one.patient_id}  for: {', '.join(one.grounds.get('for', ())) or '-'}"
                f"  against: {', '.join(one.grounds.get('against', ())) or '-'}{second}"
            )
        tell_events(item.events)

    run_to_end(run)


def tell_events(events: "Sequence[Event]") -> None:
    """A line for each event, with whole ids; no note, which is for reviewers."""
    for one in events:
        patients = " ".join(f"Patient/{identity}" for identity in (one.patient_id, one.other_patient_id) if identity)
        at = one.at.isoformat(" ", "seconds")
        undone = f"  undone or closed by {one.undone_by}" if one.undone_by else ""
        by = one.decided_by or "(the rule)"
        out.print(f"{one.event_id}  {at}  {one.kind}  {patients}  {by}  {one.reason or ''}{undone}", soft_wrap=True)


def _decide(lot: str, barcode: str, by: str, data: Path | None, kind: Any, **more: Any) -> None:
    settings = settings_of(data)

    async def run() -> None:
        from fhir_server.identity.decisions import Decision

        async with parts_of(settings) as parts:
            done = await parts.review.decide(person(by), lot, barcode, Decision(kind, **more))
        second = f": a second person must agree ({', '.join(done.second_opinion)})" if done.second_opinion else ""
        out.print(f"event {done.event_id}, the folder is {done.state}{second}")

    run_to_end(run)


Worker = Annotated[str, typer.Option(help="Patient/ID of the worker.")]


def attach(
    lot: str, barcode: str, worker: Worker, by: By, reason: Reason = None, note: Note = None, data: Data = None
) -> None:
    """Attach a folder to a worker: a person's decision, recorded as such."""
    _decide(lot, barcode, by, data, "attach", patient_id=_id(worker), reason=reason, note=note)


def dismiss(
    lot: str, barcode: str, worker: Worker, by: By, reason: Reason = None, note: Note = None, data: Data = None
) -> None:
    """It is not this worker's: he is not proposed again for this folder."""
    _decide(lot, barcode, by, data, "not-this-worker", patient_id=_id(worker), reason=reason, note=note)


def aside(lot: str, barcode: str, by: By, reason: Reason = None, note: Note = None, data: Data = None) -> None:
    """Its worker is not in the register: it waits until he is."""
    _decide(lot, barcode, by, data, "not-in-register", reason=reason, note=note)


def back(lot: str, barcode: str, by: By, reason: Reason = None, data: Data = None) -> None:
    """What was set aside comes back to the queue."""
    _decide(lot, barcode, by, data, "back-to-review", reason=reason)


def several(lot: str, barcode: str, by: By, reason: Reason = None, note: Note = None, data: Data = None) -> None:
    """Several workers in one folder: it goes back to the provider (E13)."""
    _decide(lot, barcode, by, data, "several-workers", reason=reason, note=note)


def ask(
    lot: str,
    barcode: str,
    by: By,
    worker: Annotated[str | None, typer.Option(help="Patient/ID that you propose.")] = None,
    note: Note = None,
    data: Data = None,
) -> None:
    """Ask a second person."""
    _decide(lot, barcode, by, data, "ask-second-opinion", patient_id=_id(worker) if worker else None, note=note)


def confirm(lot: str, barcode: str, by: By, reason: Reason = None, data: Data = None) -> None:
    """Agree, as the second person, with what the first one decided: it takes effect."""
    _decide(lot, barcode, by, data, "confirm", reason=reason)


def disagree(lot: str, barcode: str, by: By, reason: Reason = None, note: Note = None, data: Data = None) -> None:
    """Disagree with the first person: the folder goes back to the queue."""
    _decide(lot, barcode, by, data, "disagree", reason=reason, note=note)


def flag(
    lot: str,
    barcode: str,
    document: Annotated[list[str], typer.Option(help="DOCUMENT, or DOCUMENT:3,4 for some of its pages.")],
    by: By,
    reason: Reason = None,
    data: Data = None,
) -> None:
    """Mark documents of a folder non-transmissible before it is attached."""
    documents: dict[str, tuple[int, ...]] = {}
    for one in document:
        name, _, pages = one.partition(":")
        try:
            documents[name] = tuple(int(page) for page in pages.split(",")) if pages else ()
        except ValueError:
            raise typer.BadParameter("say DOCUMENT or DOCUMENT:3,4") from None
    _decide(lot, barcode, by, data, "non-transmissible", documents=documents, reason=reason)


def undo(event: int, by: By, reason: Reason = None, note: Note = None, data: Data = None) -> None:
    """Take a decision back; of an attachment, also the rule's. Lists what has left, to be recalled."""
    settings = settings_of(data)

    async def run() -> None:
        async with parts_of(settings) as parts:
            done = await parts.review.undo(person(by), event, reason, note=note)
        out.print(f"event {done.event_id}: taken back")
        for row in done.recall:
            out.print(f"  recall DocumentReference/{row.document_reference_id} from {row.recipient} ({row.state})")
        for name in done.referring:
            out.print(f"  {name} refers to these documents")

    run_to_end(run)


def look_again(data: Data = None) -> None:
    """Bring back what was set aside and whose worker is registered now. The worker process does so every hour."""
    settings = settings_of(data)

    async def run() -> None:
        async with parts_of(settings) as parts:
            out.print(f"{await parts.review.look_again()} folders came back")

    run_to_end(run)


def acknowledge(
    lot: str, folder: Annotated[Path, typer.Option("--output", help="Folder for the file.")], data: Data = None
) -> None:
    """Write the acknowledgement of a lot as it is now: persons reject folders after the first answer."""
    settings = settings_of(data)

    async def run() -> None:
        from fhir_server.scans import acknowledgement

        async with parts_of(settings) as parts:
            answer = await parts.review.acknowledge(lot)
        target = folder / acknowledgement.file_name(lot)
        await asyncio.to_thread(target.write_bytes, acknowledgement.render(answer))
        out.print(str(target))

    run_to_end(run)


def _id(worker: str) -> str:
    return worker.removeprefix("Patient/")
