"""The manifest of a scan lot: what the provider says it delivered.

docs/scan_lot.md describes the format; manifest.schema.json beside this file is its JSON Schema.
"""

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import date, datetime
from functools import cache
from pathlib import Path
from typing import Any, ClassVar

import jsonschema_rs

from fhir_server.outcomes import BusinessRule, Issue

FORMAT = "dmst-scan-lot/1"
MANIFEST_NAME = "manifest.json"
SIGNATURE_NAME = "manifest.json.p7s"
TOKEN_NAME = "manifest.json.tsr"
INDEX_NAME = "index.csv"
SEALED_NAMES = frozenset({MANIFEST_NAME, SIGNATURE_NAME, TOKEN_NAME})
"""The files that the manifest does not list: itself and its seal."""

FOLDER_PREFIX = "DOSSIER_"
EXTENSIONS = {
    "application/pdf": ".pdf",
    "image/tiff": ".tif",
    "image/jpeg": ".jpg",
    "image/png": ".png",
}
"""The media types of a scanned document, and the extension that each must have in a lot."""

MOST_ISSUES = 200
"""A manifest wrong on each of its lines must not make an answer larger than itself."""


class LotRefused(BusinessRule):
    """The scan lot cannot be taken in."""

    reject_code: ClassVar[str] = "E01"


class ManifestRefused(LotRefused):
    """The manifest of the scan lot is absent, unreadable or contradicts itself."""


@dataclass(frozen=True, slots=True)
class ListedFile:
    """A file of the lot as the manifest lists it; `path` is relative to the lot, with forward slashes."""

    path: str
    size: int
    sha256: str


@dataclass(frozen=True, slots=True)
class ListedDocument:
    """One scanned document of a folder.

    `document_id` is unique in the lot and stable over re-deliveries (`000123456_0001`); `kind` is a code of
    the DMST nomenclature or None where the provider did not code it; `dated` is the date written on the
    document as a FHIR date (year, year-month or full), None where unknown.
    """

    document_id: str
    file: ListedFile
    pages: int
    media_type: str
    pdfa: str | None
    dpi: int | None
    colour: str | None
    scanned_at: datetime
    kind: str | None
    dated: str | None


@dataclass(frozen=True, slots=True)
class ListedFolder:
    """One paper folder: the barcode of its cover sheet, and its documents in order.

    `replaces_lot` names the earlier lot of which this delivery of the folder is a correction.
    """

    barcode: str
    carton: str | None
    documents: tuple[ListedDocument, ...]
    replaces_lot: str | None


@dataclass(frozen=True, slots=True)
class Manifest:
    """The whole lot: who scanned what, where, when, with which machine, under which agreement."""

    lot: str
    provider: str
    provider_siret: str | None
    centre: str
    convention: str
    operator: str
    scanner: str
    started_at: datetime
    finished_at: datetime
    index: ListedFile
    others: tuple[ListedFile, ...]
    folders: tuple[ListedFolder, ...]
    pages: int
    blank_pages_dropped: int


def parse(raw: bytes) -> Manifest:
    """Read the bytes of manifest.json.

    Raises ManifestRefused (reject code E01) whose `issues` are all the problems of the stage that failed: syntax,
    then schema, then the rules that a schema cannot say. No issue repeats a value of the manifest, only places.
    """
    tree = _tree(raw)
    _refuse(_schema_issues(tree))
    manifest, issues = _manifest(tree)
    _refuse((*issues, *_count_issues(tree["counts"], manifest), *_rule_issues(manifest)))
    return manifest


def render(manifest: Manifest) -> bytes:
    """The bytes of manifest.json: UTF-8, fixed order of keys, the same for the same manifest.

    Does not validate: `parse` of the result does.
    """
    tree = {
        "format": FORMAT,
        "lot": manifest.lot,
        "provider": manifest.provider,
        "provider_siret": manifest.provider_siret,
        "centre": manifest.centre,
        "convention": manifest.convention,
        "operator": manifest.operator,
        "scanner": manifest.scanner,
        "started_at": manifest.started_at.isoformat(),
        "finished_at": manifest.finished_at.isoformat(),
        "counts": {
            "folders": len(manifest.folders),
            "documents": sum(len(folder.documents) for folder in manifest.folders),
            "pages": manifest.pages,
            "blank_pages_dropped": manifest.blank_pages_dropped,
        },
        "index": _file_tree(manifest.index),
        "others": [_file_tree(file) for file in manifest.others],
        "folders": [_folder_tree(folder) for folder in manifest.folders],
    }
    return (json.dumps(tree, ensure_ascii=False, indent=1) + "\n").encode()


def path_problem(path: str) -> str | None:
    """Why this relative path may not be used inside a lot, or None where it may.

    Refused: absolute paths, drives, backslashes, control characters, empty segments, `.` and `..`, segments that
    Windows would rename (ending in a dot or a space) and segments over 255 bytes.
    """
    if any(ord(character) < 32 or 127 <= ord(character) < 160 for character in path):
        return "the path holds a control character"
    try:
        path.encode()
    except UnicodeEncodeError:
        return "the path is not UTF-8"
    if "\\" in path:
        return "the path holds a backslash"
    if path.startswith("/") or re.match("[A-Za-z]:", path):
        return "the path is absolute"
    segments = path.split("/")
    if any(segment in {"", ".", ".."} for segment in segments):
        return "the path holds an empty, `.` or `..` segment"
    if any(segment[-1] in ". " for segment in segments):
        return "a segment of the path ends in a dot or a space"
    if any(len(segment.encode()) > 255 for segment in segments):
        return "a segment of the path is longer than 255 bytes"
    return None


def folder_directory(barcode: str) -> str:
    """The directory of a paper folder, relative to the lot."""
    return FOLDER_PREFIX + barcode


def document_path(barcode: str, document_id: str, media_type: str) -> str:
    """Where the file of a document lies, relative to the lot."""
    return f"{folder_directory(barcode)}/{document_id}{EXTENSIONS[media_type]}"


def _tree(raw: bytes) -> Any:
    try:
        return json.loads(raw.decode("utf-8-sig"), object_pairs_hook=_unique_keys, parse_constant=_no_constant)
    except (ValueError, RecursionError) as unreadable:
        # The position is enough; the message of json would do, that of a decoder quotes the bytes.
        where = f" (line {unreadable.lineno})" if isinstance(unreadable, json.JSONDecodeError) else ""
        raise ManifestRefused(f"The manifest is not JSON in UTF-8{where}.") from None


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    # Two readers may keep different ones of two equal keys, and the seal would cover both readings.
    keys = dict(pairs)
    if len(keys) != len(pairs):
        raise ValueError("a key is given twice")
    return keys


def _no_constant(_name: str) -> None:
    raise ValueError("NaN and Infinity are not JSON")


@cache
def _validator() -> jsonschema_rs.Validator:
    schema = json.loads(Path(__file__).with_name("manifest.schema.json").read_bytes())
    return jsonschema_rs.validator_for(schema, validate_formats=True, mask="the value")


def _schema_issues(tree: Any) -> Iterator[Issue]:
    try:
        for error in _validator().iter_errors(tree):
            yield _issue(error.message, *error.instance_path)
    except UnicodeEncodeError:
        yield _issue("the manifest holds half of a surrogate pair")


def _issue(diagnostics: str, *place: str | int) -> Issue:
    path = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in place)
    return Issue("error", BusinessRule.code, diagnostics, "manifest" + path)


def _refuse(issues: Iterable[Issue]) -> None:
    found = tuple(issues)
    if not found:
        return
    shown = found[:MOST_ISSUES]
    if len(found) > MOST_ISSUES:
        shown = (*shown, _issue(f"and {len(found) - MOST_ISSUES} more problems"))
    raise ManifestRefused(f"The manifest is refused: {len(found)} problem(s).", issues=shown)


def _manifest(tree: dict[str, Any]) -> tuple[Manifest, list[Issue]]:
    issues: list[Issue] = []

    def instant(text: str, *place: str | int) -> datetime:
        try:
            return datetime.fromisoformat(text)
        except ValueError:  # the schema lets a leap second pass (RFC 3339 section 5.7)
            issues.append(_issue("the value is not a usable date and time", *place))
            return datetime.min

    def document(entry: dict[str, Any], *place: str | int) -> ListedDocument:
        return ListedDocument(
            document_id=entry["document_id"],
            file=ListedFile(**entry["file"]),
            pages=entry["pages"],
            media_type=entry["media_type"],
            pdfa=entry["pdfa"],
            dpi=entry["dpi"],
            colour=entry["colour"],
            scanned_at=instant(entry["scanned_at"], *place, "scanned_at"),
            kind=entry["kind"],
            dated=entry["dated"],
        )

    folders = tuple(
        ListedFolder(
            barcode=folder["barcode"],
            carton=folder["carton"],
            documents=tuple(
                document(entry, "folders", i, "documents", j) for j, entry in enumerate(folder["documents"])
            ),
            replaces_lot=folder["replaces_lot"],
        )
        for i, folder in enumerate(tree["folders"])
    )
    manifest = Manifest(
        lot=tree["lot"],
        provider=tree["provider"],
        provider_siret=tree["provider_siret"],
        centre=tree["centre"],
        convention=tree["convention"],
        operator=tree["operator"],
        scanner=tree["scanner"],
        started_at=instant(tree["started_at"], "started_at"),
        finished_at=instant(tree["finished_at"], "finished_at"),
        index=ListedFile(**tree["index"]),
        others=tuple(ListedFile(**file) for file in tree["others"]),
        folders=folders,
        pages=tree["counts"]["pages"],
        blank_pages_dropped=tree["counts"]["blank_pages_dropped"],
    )
    return manifest, issues


def _count_issues(counts: dict[str, int], manifest: Manifest) -> Iterator[Issue]:
    documents = [document for folder in manifest.folders for document in folder.documents]
    added_up = {
        "folders": len(manifest.folders),
        "documents": len(documents),
        "pages": sum(document.pages for document in documents),
    }
    for name, sum_ in added_up.items():
        if counts[name] != sum_:
            yield _issue(f"announces {counts[name]} where the manifest lists {sum_}", "counts", name)


def _rule_issues(manifest: Manifest) -> Iterator[Issue]:
    if _is_before(manifest.finished_at, manifest.started_at):
        yield _issue("the end of the scanning is before its start", "finished_at")
    if manifest.index.path != INDEX_NAME:
        yield _issue(f"the index must be {INDEX_NAME}", "index", "path")
    yield from _path_issues(manifest)
    yield from _repeated("barcode", ((folder.barcode, ("folders", i)) for i, folder in enumerate(manifest.folders)))
    yield from _repeated(
        "document_id",
        (
            (document.document_id, ("folders", i, "documents", j))
            for i, folder in enumerate(manifest.folders)
            for j, document in enumerate(folder.documents)
        ),
    )
    for i, folder in enumerate(manifest.folders):
        if folder.replaces_lot == manifest.lot:
            yield _issue("a lot cannot replace itself", "folders", i, "replaces_lot")
        for j, document in enumerate(folder.documents):
            yield from _document_issues(folder, document, "folders", i, "documents", j)


def _is_before(later: datetime, earlier: datetime) -> bool:
    # datetime.min stands for an instant already reported as unusable; it is naive and compares with nothing.
    return later.tzinfo is not None and earlier.tzinfo is not None and later < earlier


def _path_issues(manifest: Manifest) -> Iterator[Issue]:
    files: list[tuple[str, tuple[str | int, ...]]] = [(manifest.index.path, ("index",))]
    files += [(file.path, ("others", i)) for i, file in enumerate(manifest.others)]
    files += [
        (document.file.path, ("folders", i, "documents", j, "file"))
        for i, folder in enumerate(manifest.folders)
        for j, document in enumerate(folder.documents)
    ]
    for path, place in files:
        problem = path_problem(path)
        if problem:
            yield _issue(problem, *place, "path")
        if path in SEALED_NAMES:
            yield _issue("the manifest and its seal are not listed", *place, "path")
    yield from _repeated("path", files)
    for i, file in enumerate(manifest.others):
        if file.path.casefold().startswith(FOLDER_PREFIX.casefold()):
            yield _issue("a file of a folder must be one of its documents", "others", i, "path")


def _repeated(name: str, values: Iterable[tuple[str, tuple[str | int, ...]]]) -> Iterator[Issue]:
    # Case is ignored: on the file systems of Windows two such names are one file.
    seen: set[str] = set()
    for value, place in values:
        folded = value.casefold()
        if folded in seen:
            yield _issue(f"the same {name} is listed twice", *place, name)
        seen.add(folded)


def _document_issues(folder: ListedFolder, document: ListedDocument, *place: str | int) -> Iterator[Issue]:
    expected = document_path(folder.barcode, document.document_id, document.media_type)
    if document.file.path != expected:
        yield _issue(
            "the path is not DOSSIER_<barcode>/<document_id> with the extension of its media type",
            *place,
            "file",
            "path",
        )
    if document.file.size == 0:
        yield _issue("the file is empty", *place, "file", "size")
    if document.pdfa is not None and document.media_type != "application/pdf":
        yield _issue("only a PDF can be PDF/A", *place, "pdfa")
    if document.dated is not None and not _is_date(document.dated):
        yield _issue("the value is not a date of the calendar", *place, "dated")


def _is_date(partial: str) -> bool:
    try:
        date.fromisoformat(partial + "0001-01-01"[len(partial) :])
    except ValueError:
        return False
    return True


def _file_tree(file: ListedFile) -> dict[str, Any]:
    return {"path": file.path, "size": file.size, "sha256": file.sha256}


def _folder_tree(folder: ListedFolder) -> dict[str, Any]:
    return {
        "barcode": folder.barcode,
        "carton": folder.carton,
        "replaces_lot": folder.replaces_lot,
        "documents": [_document_tree(document) for document in folder.documents],
    }


def _document_tree(document: ListedDocument) -> dict[str, Any]:
    return {
        "document_id": document.document_id,
        "file": _file_tree(document.file),
        "pages": document.pages,
        "media_type": document.media_type,
        "pdfa": document.pdfa,
        "dpi": document.dpi,
        "colour": document.colour,
        "scanned_at": document.scanned_at.isoformat(),
        "kind": document.kind,
        "dated": document.dated,
    }
