"""The acknowledgement of a scan lot: what was accepted, what was rejected and why, in a file for the provider.

docs/scan_lot.md describes the file `<lot>.ack.json`; reject_codes.toml beside this module holds the codes.
No personal data: barcodes, paths and codes only.
"""

import json
import tomllib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, Literal, get_args

from fhir_server.outcomes import BadSyntax
from fhir_server.scans.seal import Seal
from fhir_server.scans.unpack import Problem

FORMAT = "dmst-scan-lot-ack/1"

LotState = Literal["accepted", "partly-accepted", "rejected", "already-ingested"]
FolderState = Literal["accepted", "rejected", "to-review", "already-ingested"]
Scope = Literal["lot", "folder", "document"]
TOLD: Final[Mapping[str, FolderState]] = {
    "accepted": "accepted",
    "to-review": "to-review",
    "second-opinion": "to-review",
    "aside": "to-review",
    "rejected": "rejected",
    "replaced": "already-ingested",
}
"""Where a folder stands, and what its provider is told of that."""


@dataclass(frozen=True, slots=True)
class RejectCode:
    """A reject or anomaly code: French texts for the provider, English for developers."""

    code: str
    label_fr: str
    label_en: str
    scope: Scope
    meaning: str
    action_fr: str
    source: str


@dataclass(frozen=True, slots=True)
class FolderResult:
    """What became of one folder. `to-review`: taken in, and kept from view until a person has decided."""

    barcode: str
    state: FolderState
    documents: int
    pages: int
    problems: tuple[Problem, ...] = ()


@dataclass(frozen=True, slots=True)
class Counts:
    """Folders by state, and the documents and pages of all of them."""

    folders: int
    accepted: int
    rejected: int
    to_review: int
    already_ingested: int
    documents: int
    pages: int


@dataclass(frozen=True, slots=True)
class Acknowledgement:
    """The answer to one delivery of a lot; `problems` are those of the whole lot (E01, E17)."""

    lot: str
    received_at: datetime
    state: LotState
    seal: Seal
    folders: tuple[FolderResult, ...]
    problems: tuple[Problem, ...] = ()

    @property
    def counts(self) -> Counts:
        states = Counter(folder.state for folder in self.folders)
        return Counts(
            folders=len(self.folders),
            accepted=states["accepted"],
            rejected=states["rejected"],
            to_review=states["to-review"],
            already_ingested=states["already-ingested"],
            documents=sum(folder.documents for folder in self.folders),
            pages=sum(folder.pages for folder in self.folders),
        )


def overall_state(folders: Sequence[FolderResult]) -> LotState:
    """The state of a lot from those of its folders.

    A folder to review is in: it counts as accepted here. No folder at all is a rejected lot.
    """
    states = {folder.state for folder in folders}
    if states == {"already-ingested"}:
        return "already-ingested"
    if states <= {"rejected"}:
        return "rejected"
    return "partly-accepted" if "rejected" in states else "accepted"


def file_name(lot: str) -> str:
    """The name of the acknowledgement of a lot."""
    return f"{lot}.ack.json"


def render(acknowledgement: Acknowledgement) -> bytes:
    """The acknowledgement as UTF-8 JSON, the same bytes for the same acknowledgement."""
    counts = acknowledgement.counts
    seal = acknowledgement.seal
    tree = {
        "format": FORMAT,
        "lot": acknowledgement.lot,
        "received_at": acknowledgement.received_at.isoformat(),
        "state": acknowledgement.state,
        "seal": {
            "state": seal.state,
            "signer": seal.signer,
            "signer_serial": seal.signer_serial,
            "signed_at": _instant(seal.signed_at),
            "timestamp_at": _instant(seal.timestamp_at),
            "timestamp_authority": seal.timestamp_authority,
            "problems": list(seal.problems),
        },
        "counts": {
            "folders": counts.folders,
            "accepted": counts.accepted,
            "rejected": counts.rejected,
            "to_review": counts.to_review,
            "already_ingested": counts.already_ingested,
            "documents": counts.documents,
            "pages": counts.pages,
        },
        "problems": _problems_tree(acknowledgement.problems),
        "folders": [
            {
                "barcode": folder.barcode,
                "state": folder.state,
                "documents": folder.documents,
                "pages": folder.pages,
                "problems": _problems_tree(folder.problems),
            }
            for folder in acknowledgement.folders
        ],
    }
    return (json.dumps(tree, ensure_ascii=False, indent=1) + "\n").encode()


def parse(raw: bytes) -> Acknowledgement:
    """Read what `render` wrote; raises BadSyntax where it is anything else."""
    try:
        tree = json.loads(raw.decode())
        if tree["format"] != FORMAT:
            raise ValueError("another format")
        return Acknowledgement(
            lot=tree["lot"],
            received_at=datetime.fromisoformat(tree["received_at"]),
            state=_one_of(LotState, tree["state"]),
            seal=_seal(tree["seal"]),
            folders=tuple(
                FolderResult(
                    barcode=folder["barcode"],
                    state=_one_of(FolderState, folder["state"]),
                    documents=folder["documents"],
                    pages=folder["pages"],
                    problems=_problems(folder["problems"]),
                )
                for folder in tree["folders"]
            ),
            problems=_problems(tree["problems"]),
        )
    except (ValueError, TypeError, KeyError, RecursionError) as unreadable:
        raise BadSyntax("The file is not the acknowledgement of a scan lot.") from unreadable


@cache
def reject_codes() -> Mapping[str, RejectCode]:
    """The codes E01 to E17, in order."""
    tables = tomllib.loads(Path(__file__).with_name("reject_codes.toml").read_text(encoding="utf-8"))
    return MappingProxyType(
        {
            code: RejectCode(
                code=code,
                label_fr=table["label_fr"],
                label_en=table["label_en"],
                scope=_one_of(Scope, table["scope"]),
                meaning=table["meaning"],
                action_fr=table["action_fr"],
                source=table["source"],
            )
            for code, table in tables.items()
        }
    )


def _problems_tree(problems: tuple[Problem, ...]) -> list[dict[str, str | None]]:
    return [
        {
            "code": problem.code,
            "path": problem.path,
            "detail": problem.detail,
            "action_fr": reject_codes()[problem.code].action_fr,
        }
        for problem in problems
    ]


def _problems(tree: list[dict[str, Any]]) -> tuple[Problem, ...]:
    return tuple(Problem(entry["code"], entry["path"], entry["detail"]) for entry in tree)


def _seal(tree: dict[str, Any]) -> Seal:
    return Seal(
        state=_one_of(Literal["valid", "absent", "invalid"], tree["state"]),
        signer=tree["signer"],
        signer_serial=tree["signer_serial"],
        signed_at=_moment(tree["signed_at"]),
        timestamp_at=_moment(tree["timestamp_at"]),
        timestamp_authority=tree["timestamp_authority"],
        problems=tuple(tree["problems"]),
    )


def _instant(moment: datetime | None) -> str | None:
    return moment.isoformat() if moment else None


def _moment(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text) if text is not None else None


def _one_of(allowed: Any, value: Any) -> Any:
    if value not in get_args(allowed):
        raise ValueError("not one of the values allowed")
    return value
