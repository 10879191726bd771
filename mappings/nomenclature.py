"""The DMST nomenclature: what a scanned paper is, and what follows from it.

Code du travail R4624-45-4 (headings) and JDV_J07 / TRE_A03 of the CI-SIS (types and classes). The data is
`tables/nomenclature.toml`, legend and sources on top of it.
"""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from types import MappingProxyType
from typing import Any, Final, Literal

from terminology import systems

UNQUALIFIED: Final = "DMST-AUTRE"

_TYPE_SYSTEMS: Final = {"LOINC": systems.LOINC, "TRE_A05": systems.TRE_A05}

CATEGORIES: Final[Mapping[str, str]] = MappingProxyType(
    {
        "1": "Identité et données médico-administratives",
        "2": "Risques professionnels et expositions",
        "3": "Informations de santé",
        "4": "Correspondances entre professionnels de santé",
        "5": "Attestations, avis et propositions",
        "6": "Information du travailleur sur ses droits",
        "7": "Consentement ou opposition du travailleur",
    }
)
"""Code of `systems.DMST_CATEGORY` -> French label (R4624-45-4, 1° to 7°)."""

TO_QUALIFY: Final = ("a-qualifier", "Rubrique à qualifier")
"""Coding of `systems.DMST_CATEGORY` for a document whose heading nobody has fixed yet."""


@dataclass(frozen=True, slots=True)
class DocumentKind:
    """One kind of DMST paper.

    `type_system`, `type_code`, `type_display` (JDV_J07) and `class_code`, `class_display` (TRE_A03) are None
    where the kind is local only. `categories` holds headings `1` to `7`, empty while unknown. `dmp`
    `undecided` counts as no.
    """

    code: str
    label: str
    categories: tuple[str, ...]
    type_system: str | None
    type_code: str | None
    type_display: str | None
    class_code: str | None
    class_display: str | None
    confidentiality: Literal["N", "R", "V"]
    transfer: Literal["yes", "no", "if-agreed", "after-check", "note-only"]
    dmp: Literal["yes", "no", "undecided"]
    employer: Literal["yes", "no", "sender"]
    retention: tuple[str, ...]
    assistant: Literal["yes", "no", "configurable", "masked"]
    minimal: bool
    notes: str

    @property
    def publishable(self) -> bool:
        """True where a national type and class exist: without both, PDSm and the DMP cannot carry the
        document.
        """
        return self.type_code is not None and self.class_code is not None


def _kind(row: Mapping[str, Any]) -> DocumentKind:
    of_type: Mapping[str, str] = row.get("type", {})
    of_class: Mapping[str, str] = row.get("class", {})
    return DocumentKind(
        code=row["code"],
        label=row["label"],
        categories=tuple(row["categories"]),
        type_system=_TYPE_SYSTEMS[of_type["system"]] if of_type else None,
        type_code=of_type.get("code"),
        type_display=of_type.get("display"),
        class_code=of_class.get("code"),
        class_display=of_class.get("display"),
        confidentiality=row["confidentiality"],
        transfer=row["transfer"],
        dmp=row["dmp"],
        employer=row["employer"],
        retention=tuple(row["retention"]),
        assistant=row["assistant"],
        minimal=row.get("minimal", False),
        notes=row.get("notes", ""),
    )


@cache
def kinds() -> Mapping[str, DocumentKind]:
    """The whole nomenclature by local code, read once from the table."""
    table = tomllib.loads(files("mappings").joinpath("tables/nomenclature.toml").read_text("utf-8"))
    return MappingProxyType({row["code"]: _kind(row) for row in table["kind"]})


def kind_of(code: str | None) -> DocumentKind:
    """The kind with this local code; an absent or unknown code is DMST-AUTRE, which is shown to nobody and
    goes nowhere.
    """
    return kinds().get(code or UNQUALIFIED) or kinds()[UNQUALIFIED]


def __getattr__(name: str) -> Mapping[str, DocumentKind]:
    """`KINDS` is `kinds()`, read at first use."""
    if name == "KINDS":
        return kinds()
    raise AttributeError(name)
