"""FR-SYN read as traits: a register, and incoming records with their truth."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from fhir_server.linkage.comparable import Comparable, Rarity, comparable
from fhir_server.linkage.traits import Sex, TraitsIns

_SEX: dict[str, Sex] = {"M": "male", "F": "female"}


def rows(file: Path) -> Iterator[dict[str, Any]]:
    """The rows of a Parquet file, nulls as None."""
    import pyarrow.parquet

    yield from pyarrow.parquet.read_table(file).to_pylist()


def of_register(row: dict[str, Any]) -> TraitsIns:
    given = row["given"]
    listed = row["given_list"] or given
    later = listed[len(given) :].split() if listed.startswith(given) else []
    return TraitsIns(
        birth_name=row["birth_name"],
        used_name=row["used_name"],
        given_names=(given, *later),
        birth_date=row["dob"],
        sex=_SEX.get(row["sex"] or ""),
        birth_place=row["place"],
        matricule_ins=row["nir"],
    )


def of_incoming(row: dict[str, Any]) -> TraitsIns:
    """What one system or scan sends: it calls `family` whatever name it has."""
    birth, used = row["family"], None
    if row["birth_family"]:
        birth, used = row["birth_family"], row["family"]
    return TraitsIns(
        birth_name=birth,
        used_name=used,
        given_names=(row["given"],) if row["given"] else (),
        birth_date=row["dob"],
        sex=_SEX.get(row["sex"] or ""),
        birth_place=row["place"],
        matricule_ins=row["nir"],
    )


def load(
    folder: Path, families: Rarity, givens: Rarity
) -> tuple[list[Any], list[Comparable], list[Any], list[Comparable]]:
    """Register rows and people, incoming rows and people."""
    register, incoming = list(rows(folder / "registry.parquet")), list(rows(folder / "queries.parquet"))
    return (
        register,
        [comparable(of_register(row), families=families, givens=givens) for row in register],
        incoming,
        [comparable(of_incoming(row), families=families, givens=givens) for row in incoming],
    )
