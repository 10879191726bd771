"""`dmst-fhir evidence`, `recall`, `redact`: what proves a document, where it went, what others see of it."""

from pathlib import Path
from typing import Annotated

import typer

from fhir_server.commands.running import Data, out, parts_of, run_to_end, settings_of, table_of


def evidence(
    document: Annotated[str, typer.Argument(help="DocumentReference/ID")],
    data: Data = None,
    html: Annotated[Path | None, typer.Option(help="Write the report as a page here.")] = None,
    as_json: Annotated[Path | None, typer.Option("--json", help="Write the report as JSON here.")] = None,
) -> None:
    """Verify what proves a document: its bytes, its seal, its time stamp, its chain; pass or fail."""
    settings = settings_of(data)

    async def run() -> int:
        from fhir_server.evidence import report, to_html, to_json

        async with parts_of(settings) as parts:
            found = await report(parts, document)
        if html:
            html.write_text(to_html(found), encoding="utf-8")
        if as_json:
            as_json.write_bytes(to_json(found))
        for check in found.checks:
            mark = {"pass": "[green]pass[/green]", "fail": "[red]FAIL[/red]"}.get(check.result, check.result)
            out.print(f"{mark}  {check.label}: {check.detail}")
        out.print(f"[bold]{document}: {'pass' if found.passed else 'FAIL'}[/bold]")
        return 0 if found.passed else 1

    run_to_end(run)


def recall(
    what: Annotated[str, typer.Argument(help="DocumentReference/ID or Patient/ID.")],
    data: Data = None,
) -> None:
    """What has left already, and to whom: the list to recall by, after a withdrawal or a mistake."""
    settings = settings_of(data)
    kind, _, identity = what.partition("/")
    if kind not in ("DocumentReference", "Patient") or not identity:
        raise typer.BadParameter("say DocumentReference/ID or Patient/ID")

    async def run() -> None:
        from fhir_server.store.outbox_rows import left_deliveries

        async with parts_of(settings) as parts:
            document, patient = (None, identity) if kind == "Patient" else (identity, None)
            left = await left_deliveries(parts.database, document=document, patient=patient)
        table = table_of("document", "recipient", "state", "at", "known there as")
        for one in left:
            at = one.at.isoformat("T", "seconds")
            table.add_row(one.document_reference_id, one.recipient, one.state, at, one.remote_id or "")
        out.print(table)

    run_to_end(run)


def redact(
    what: Annotated[str, typer.Argument(help="DocumentReference/ID.")],
    pages: Annotated[str, typer.Option(help="Pages to take out, from 1: 3,5-7.")],
    reason: Annotated[str, typer.Option(help="note-personnelle, tiers, autre-salarie or non-transmissible.")],
    by: Annotated[str, typer.Option(help="Who decided it.")],
    data: Data = None,
) -> None:
    """Take pages out of what everybody but the médecin du travail sees of a document."""
    settings = settings_of(data)
    kind, _, identity = what.partition("/")
    if kind != "DocumentReference" or not identity:
        raise typer.BadParameter("say DocumentReference/ID")
    wanted = _page_numbers(pages)

    async def run() -> None:
        from fhir_server.caller import service
        from fhir_server.records.write import new_id

        async with parts_of(settings) as parts:
            done = await parts.redactor.redact(service("redact"), identity, wanted, reason, request_id=new_id(), by=by)
        out.print(f"DocumentReference/{done.document_id} is what others see")
        for one in done.withheld:
            out.print(f"DocumentReference/{one} is withheld; has it left? dmst-fhir recall DocumentReference/{one}")

    run_to_end(run)


def _page_numbers(text: str) -> set[int]:
    """`3,5-7` as numbers. Raises BadParameter."""
    found: set[int] = set()
    for part in text.split(","):
        first, _, last = part.strip().partition("-")
        last = last or first
        if not (first.isdecimal() and last.isdecimal()) or len(first) > 6 or len(last) > 6:
            raise typer.BadParameter("pages are written as 3,5-7")
        found |= set(range(int(first), int(last) + 1))
    return found
