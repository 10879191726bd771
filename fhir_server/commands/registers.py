"""`dmst-fhir identities compare`, `dedupe`: whole registers compared, with a report (docs/identity.md)."""

import contextlib
import os
import signal
from collections import Counter
from collections.abc import Generator, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fhir_server.commands.review import person
from fhir_server.commands.running import By, Data, err, failures_told, out, parts_of, progress, run_to_end, settings_of

if TYPE_CHECKING:
    from fhir_server.identity.registers import Listed
    from fhir_server.settings import Settings
    from mappings.patient_fr_core import PatientIdentity
    from terminology.ins import Status

MOST_TOLD = 50
INTERRUPTED = 130

Report = Annotated[Path, typer.Option("-o", "--output", help="Report to write: JSON if it ends in .json, else CSV.")]
Processes = Annotated[int | None, typer.Option(min=1, max=64, help="Processes that share the work; one per core.")]
File = Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="CSV of the register format.")]


def compare(
    file: File,
    output: Report,
    register: Annotated[
        Path | None,
        typer.Argument(exists=True, dir_okay=False, help="The other register; without it, that of the store."),
    ] = None,
    by: By = "operator",
    processes: Processes = None,
    data: Data = None,
) -> None:
    """Who of a register file is who of another one, or of the register in the store. A report; nothing is written."""
    settings = settings_of(data)
    with failures_told(), interruptible():
        from fhir_server.identity import pair_report
        from fhir_server.identity.model_file import model_of
        from fhir_server.identity.registers import Way, compared, of_store

        model = model_of(settings.identity_model)
        incoming, wrong = lines_of(file)
        if register:
            known, more = lines_of(register)
            wrong += more
        else:
            known = [of_store(identity) for identity in everybody(settings, by, "compare")]
        with progress("compare") as tell:
            pairs = compared(incoming, known, Way(model, settings.production, _processes(processes), tell))
        about = pair_report.about(model, register=len(known), incoming=len(incoming), refused_lines=wrong)
        _write(output, ((pair, "review" if pair.other else "") for pair in pairs), about)
    grades = pair_report.by_line(pairs)
    out.print(
        f"{len(incoming)} lignes comparées à {len(known)} salariés. Meilleure correspondance de chaque ligne :",
        soft_wrap=True,
    )
    for line in pair_report.summary(grades, pairs, model):
        out.print(line, soft_wrap=True, markup=False)
    out.print("Rien n'a été enregistré ni lié.")
    if wrong:
        raise typer.Exit(1)


def dedupe(
    output: Report,
    by: By,
    open_cases: Annotated[
        bool, typer.Option("--open-cases", help="Open duplicate and collision cases for persons; nothing is linked.")
    ] = False,
    processes: Processes = None,
    data: Data = None,
) -> None:
    """Workers of the register who may be one. A report; with --open-cases also a case for each pair that needs one."""
    settings = settings_of(data)
    with failures_told(), interruptible():
        from fhir_server.identity import pair_report
        from fhir_server.identity.model_file import model_of
        from fhir_server.identity.policy import decide_link
        from fhir_server.identity.registers import Way, duplicates, of_store

        model = model_of(settings.identity_model)
        people = everybody(settings, by, "dedupe")
        ins: dict[str, tuple[Status, str | None]] = {
            f"Patient/{one.patient_id}": (one.status, one.matricule_ins) for one in people
        }
        listed = [of_store(one) for one in people]
        people.clear()
        with progress("dedupe") as tell:
            found = duplicates(listed, Way(model, settings.production, _processes(processes), tell))
        rows = [(pair, decide_link(*ins[pair.number], *ins[pair.other])) for pair, _ in found]
        _write(output, rows, pair_report.about(model, register=len(listed)))
    pairs = [pair for pair, _ in rows]
    out.print(f"{len(listed)} salariés, {len(pairs)} paires à examiner :")
    for line in pair_report.summary(Counter(pair.grade for pair in pairs), pairs, model):
        out.print(line, soft_wrap=True, markup=False)
    for then, count in Counter(then for _, then in rows).items():
        out.print(f"  {count:>9} {pair_report.NEXT[then]}", soft_wrap=True)
    if not open_cases:
        out.print("Rien n'a été enregistré ni lié.")
        return

    async def run() -> None:
        opened: Counter[str] = Counter()
        async with parts_of(settings) as parts:
            with progress("cases") as tell:
                for done, (pair, why) in enumerate(found, 1):
                    case = await parts.identities.suspect(person(by), pair, why, model.version)
                    opened[case or "none"] += 1
                    tell(done, len(found))
        out.print(f"Cas ouverts : {opened['duplicate']} doublons, {opened['collision']} collisions. Rien n'a été lié.")

    with interruptible():
        run_to_end(run)


def lines_of(file: Path) -> "tuple[list[Listed], int]":
    """The entries of a register file, and how many lines were refused; they are told. Raises BadParameter for none."""
    from fhir_server.identity.registers import of_file
    from fhir_server.outcomes import BadParameter
    from mappings.register_csv import read

    workers, problems = read(file.read_bytes())
    for problem in problems[:MOST_TOLD]:
        kind = "warning" if problem.warning else "error"
        err.print(f"{file.name}: {kind} line {problem.line}, {problem.column}: {problem.reason}", markup=False)
    if len(problems) > MOST_TOLD:
        err.print(f"{file.name}: and {len(problems) - MOST_TOLD} more")
    if not workers:
        raise BadParameter(f"{file.name}: no line of it can be used", expression=file.name)
    return [of_file(worker) for worker in workers], sum(not problem.warning for problem in problems)


def everybody(settings: "Settings", by: str, what: str) -> "list[PatientIdentity]":
    """The identities of the register in the store: this is an access, and traced."""
    found: list[PatientIdentity] = []

    async def run() -> None:
        async with parts_of(settings) as parts:
            with progress("register") as tell:
                async for identity in parts.identities.everybody(person(by), what):
                    found.append(identity)
                    if len(found) % 1000 == 0:
                        tell(len(found))

    run_to_end(run)
    return found


@contextlib.contextmanager
def interruptible() -> Generator[None]:
    """Ctrl-C and SIGTERM end it with status 130: the report is there whole or not at all."""

    def stop(*_: Any) -> None:
        raise KeyboardInterrupt

    with contextlib.ExitStack() as stack:
        with contextlib.suppress(ValueError):  # only the main thread has signals
            before = signal.signal(signal.SIGTERM, stop)
            stack.callback(signal.signal, signal.SIGTERM, before)
        try:
            yield
        except KeyboardInterrupt:
            err.print("interrupted: no report was written")
            raise typer.Exit(INTERRUPTED) from None


def _processes(wanted: int | None) -> int:
    return wanted or os.cpu_count() or 1


def _write(file: Path, pairs: "Iterable[tuple[Any, str]]", about: dict[str, Any]) -> None:
    from fhir_server.identity import pair_report
    from fhir_server.outcomes import BadParameter

    try:
        pair_report.write(file, pairs, about)
    except OSError as error:
        raise BadParameter(f"The report cannot be written: {error.strerror}", expression="output") from None
