"""`dmst-fhir identities train` and `identities model`: the model of identity matching (docs/identity.md)."""

from pathlib import Path
from typing import Annotated

import typer

from fhir_server.commands.registers import everybody, interruptible, lines_of
from fhir_server.commands.running import By, Data, failures_told, out, progress, settings_of

File = Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="Model (JSON).")]


def train(
    output: Annotated[Path, typer.Option("--out", "-o", help="Model file to write.")],
    by: By = "operator",
    incoming: Annotated[
        Path | None,
        typer.Option(
            exists=True, dir_okay=False, help="Records of another source (register format); else the register."
        ),
    ] = None,
    register: Annotated[
        Path | None, typer.Option(exists=True, dir_okay=False, help="A register file in the place of the store.")
    ] = None,
    labels: Annotated[
        Path | None, typer.Option(exists=True, dir_okay=False, help="File of `identities labels`: raises thresholds.")
    ] = None,
    version: Annotated[str | None, typer.Option(help="Name of the new model; else made of the date.")] = None,
    data: Data = None,
) -> None:
    """Train a model on the register, without labels. It is used once DMST_FHIR_IDENTITY_MODEL names it."""
    settings = settings_of(data)
    with failures_told(), interruptible():
        from datetime import UTC, datetime

        from fhir_server.identity.model_file import model_of
        from fhir_server.identity.registers import Way, of_store, prepared
        from fhir_server.identity.training import labels_in, trained
        from fhir_server.linkage.model import ModelRefused, written
        from fhir_server.outcomes import BadParameter

        base = model_of(settings.identity_model)
        now = datetime.now(UTC)
        way = Way(base, settings.production)
        known = prepared(lines_of(register)[0] if register else map(of_store, everybody(settings, by, "train")), way)
        stated = prepared(lines_of(incoming)[0], way) if incoming else known
        try:
            judged = labels_in(labels.read_text("utf-8")) if labels else []
            with progress("train"):
                made = trained(
                    base,
                    stated,
                    known,
                    version=version or f"{base.version}+{now:%Y%m%d%H%M}",
                    labels=judged,
                    about={"trained_on": "register of the service", "trained_at": now.isoformat(timespec="seconds")},
                )
            output.write_text(written(made.model), encoding="utf-8")
        except ModelRefused as error:
            raise BadParameter(str(error)) from None
        except OSError as error:
            raise BadParameter(f"The model cannot be written: {error.strerror}", expression="out") from None
    out.print(f"Modèle {made.model.version} : {len(known)} salariés, {len(stated)} enregistrements comparés")
    out.print(f"Paires d'une même personne, par session : {', '.join(map(str, made.matches))}")
    if kept := made.model.provenance["kept_from_former"]:
        out.print(f"Trop peu de paires : m gardé du modèle {base.version} pour {', '.join(kept)}", soft_wrap=True)
    if labels:
        out.print(
            f"{made.labels} paires étiquetées, dont {made.non_matches} de deux personnes :"
            f" seuil « certain » relevé de {made.raised_by:.1f} bits"
        )
    out.print(f"SHA-256 {made.model.checksum}", soft_wrap=True)
    out.print("À faire valider par l'identitovigilance avant de le nommer dans DMST_FHIR_IDENTITY_MODEL.")


def show(file: File) -> None:
    """What a model is: version, checksum, provenance, thresholds, bits of each level."""
    with failures_told():
        from fhir_server.identity.model_file import model_of
        from fhir_server.linkage.levels import FRENCH

        model = model_of(file, named_by=file.name)
    limits = model.thresholds
    out.print(f"[bold]{model.version}[/bold]  SHA-256 {model.checksum}", soft_wrap=True)
    for name, said in model.provenance.items():
        out.print(f"{name}: {said}", soft_wrap=True, markup=False)
    out.print(f"share {model.share}, register of {model.register_size}, prior {model.prior():.1f} bits")
    out.print(
        f"thresholds (bits): certain {limits.certain}, probable {limits.probable}, possible {limits.possible},"
        f" margin {limits.margin}"
    )
    for comparison in FRENCH:
        bits = (f"{level.name} {model.fields[comparison.field][level.name].bits:+.1f}" for level in comparison.levels)
        out.print(f"{comparison.field}: {', '.join(bits)}", soft_wrap=True)


def check(file: File) -> None:
    """Can this model be used? Status 0: yes; 1: no, and why."""
    with failures_told():
        from fhir_server.identity.model_file import model_of

        model = model_of(file, named_by=file.name)
    out.print(f"OK: {model.version}, SHA-256 {model.checksum}", soft_wrap=True)
