"""Making a scan lot: the provider's side of docs/scan_lot.md, from a description and a folder of images.

The description is a mapping as read from TOML: `provider`, `provider_siret`, `centre`, `convention`, `operator`,
`scanner`, and `[[folder]]` with its `[[folder.document]]`; docs/scan_lot.md lists the keys.
"""

import csv
import hashlib
import io
import os
import tempfile
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import date, datetime
from pathlib import Path
from typing import Any

from fhir_server.outcomes import BusinessRule
from fhir_server.scans.index_file import COLUMNS
from fhir_server.scans.manifest import (
    EXTENSIONS,
    INDEX_NAME,
    MANIFEST_NAME,
    SIGNATURE_NAME,
    TOKEN_NAME,
    ListedDocument,
    ListedFile,
    ListedFolder,
    Manifest,
    document_path,
    folder_directory,
    parse,
    path_problem,
    render,
)
from fhir_server.scans.seal import Signer

CHUNK = 1 << 20
MEDIA_TYPES = {extension: media_type for media_type, extension in EXTENSIONS.items()} | {
    ".tiff": "image/tiff",
    ".jpeg": "image/jpeg",
}
ZIP_EPOCH = (1980, 1, 1, 0, 0, 0)

Description = Mapping[str, Any]


def build(description: Description, source: Path, target: Path, *, lot: str, at: datetime, seal: Signer | None) -> Path:
    """Make the lot `target/<lot>` and, last, its sentinel `target/<lot>.ok`; return the folder.

    `source` is where the files named in the description lie; `at` (aware) dates the scan and the seal. Without a
    `seal` the lot is not sealed. The folder appears complete or not at all. Raises BusinessRule where the description
    or one of its files cannot make a valid lot (ManifestRefused with its issues among them), FileExistsError where the
    lot is there already.
    """

    def publish(folder: Path, place: Path) -> None:
        _ = folder.rename(place)

    return _publish(description, source, target / lot, lot=lot, at=at, seal=seal, publish=publish)


def build_zip(
    description: Description, source: Path, target: Path, *, lot: str, at: datetime, seal: Signer | None
) -> Path:
    """The same as one archive `target/<lot>.zip`, with the same sentinel `target/<lot>.ok`."""

    def publish(folder: Path, place: Path) -> None:
        made = folder.with_suffix(".zip")
        _zip(folder, made)
        _ = made.rename(place)

    return _publish(description, source, target / f"{lot}.zip", lot=lot, at=at, seal=seal, publish=publish)


def _publish(
    description: Description,
    source: Path,
    place: Path,
    *,
    lot: str,
    at: datetime,
    seal: Signer | None,
    publish: Callable[[Path, Path], None],
) -> Path:
    if path_problem(lot) or "/" in lot:
        raise BusinessRule("The identifier of the lot cannot name a folder.")
    if place.exists():
        raise FileExistsError(f"{place.name} is there already")
    place.parent.mkdir(parents=True, exist_ok=True)
    # Beside the target, because a rename is atomic within one file system only.
    with tempfile.TemporaryDirectory(prefix=".lot-", dir=place.parent) as scratch:
        folder = Path(scratch) / lot
        folder.mkdir()
        _fill(description, source, folder, lot=lot, at=at, seal=seal)
        publish(folder, place)
    (place.parent / f"{lot}.ok").touch()
    return place


def _fill(description: Description, source: Path, folder: Path, *, lot: str, at: datetime, seal: Signer | None) -> None:
    try:
        folders = tuple(_copy_folder(entry, source, folder, at) for entry in description["folder"])
        index = _write(folder / INDEX_NAME, _index(description, folders), INDEX_NAME)
        manifest = Manifest(
            lot=lot,
            provider=description["provider"],
            provider_siret=description.get("provider_siret"),
            centre=description["centre"],
            convention=description["convention"],
            operator=description["operator"],
            scanner=description["scanner"],
            started_at=at,
            finished_at=at,
            index=index,
            others=(),
            folders=folders,
            pages=sum(document.pages for listed in folders for document in listed.documents),
            blank_pages_dropped=description.get("blank_pages_dropped", 0),
        )
    except KeyError as missing:
        raise BusinessRule(f"The description of the lot has no {missing.args[0]}.") from None
    raw = render(manifest)
    _ = parse(raw)
    _ = (folder / MANIFEST_NAME).write_bytes(raw)
    if seal is not None:
        signature, token = seal.seal(raw, at)
        _ = (folder / SIGNATURE_NAME).write_bytes(signature)
        if token is not None:
            _ = (folder / TOKEN_NAME).write_bytes(token)


def _copy_folder(entry: Description, source: Path, lot: Path, at: datetime) -> ListedFolder:
    barcode = str(entry["barcode"])
    if path_problem(barcode) or "/" in barcode:
        raise BusinessRule("The barcode of a folder cannot name a directory.")
    (lot / folder_directory(barcode)).mkdir(exist_ok=True)
    return ListedFolder(
        barcode=barcode,
        carton=entry.get("carton"),
        documents=tuple(
            _copy_document(document, f"{barcode}_{number:04d}", barcode, source, lot, at)
            for number, document in enumerate(entry["document"], 1)
        ),
        replaces_lot=entry.get("replaces_lot"),
    )


def _copy_document(
    entry: Description, document_id: str, barcode: str, source: Path, lot: Path, at: datetime
) -> ListedDocument:
    original = source / entry["file"]
    media_type = MEDIA_TYPES.get(original.suffix.lower())
    if media_type is None:
        raise BusinessRule(f"The file of document {document_id} is no PDF, TIFF, JPEG or PNG.")
    path = document_path(barcode, document_id, media_type)
    try:
        size, sha256 = _copy(original, lot / path)
    except FileNotFoundError:
        raise BusinessRule(f"The file of document {document_id} does not exist.") from None
    pages, pdfa = _pages(lot / path, media_type, document_id)
    return ListedDocument(
        document_id=document_id,
        file=ListedFile(path, size, sha256),
        pages=pages,
        media_type=media_type,
        pdfa=pdfa,
        dpi=entry.get("dpi"),
        colour=entry.get("colour"),
        scanned_at=at,
        kind=entry.get("type"),
        dated=_text(entry.get("dated")),
    )


def _copy(original: Path, copy: Path) -> tuple[int, str]:
    digest = hashlib.sha256()
    size = 0
    with original.open("rb") as source, copy.open("xb") as destination:
        while chunk := source.read(CHUNK):
            digest.update(chunk)
            size += destination.write(chunk)
        destination.flush()
        os.fsync(destination.fileno())
    return size, digest.hexdigest()


def _pages(path: Path, media_type: str, document_id: str) -> tuple[int, str | None]:
    """The number of pages, and the PDF/A level that the file claims (`2B`)."""
    try:
        if media_type == "application/pdf":
            return _pdf_pages(path)
        return _image_pages(path), None
    except Exception as unreadable:  # pikepdf and Pillow have no common family of errors
        raise BusinessRule(f"The file of document {document_id} cannot be opened.") from unreadable


def _pdf_pages(path: Path) -> tuple[int, str | None]:
    import pikepdf

    with pikepdf.open(path) as pdf:
        with pdf.open_metadata(update_docinfo=False) as metadata:
            claimed = metadata.pdfa_status
        return len(pdf.pages), claimed or None


def _image_pages(path: Path) -> int:
    from PIL import Image

    with Image.open(path) as image:
        return getattr(image, "n_frames", 1)


def _index(description: Description, folders: tuple[ListedFolder, ...]) -> bytes:
    text = io.StringIO()
    writer: csv.DictWriter[str] = csv.DictWriter(text, COLUMNS, delimiter=";", lineterminator="\r\n")
    writer.writeheader()
    for entry, listed in zip(description["folder"], folders, strict=True):
        for document in listed.documents:
            writer.writerow(_index_row(description, entry, listed, document))
    return text.getvalue().encode()


def _index_row(
    description: Description, entry: Description, folder: ListedFolder, document: ListedDocument
) -> dict[str, str]:
    values = {
        "dossier": folder.barcode,
        "document": document.document_id,
        "nom_naissance": entry.get("birth_name"),
        "nom_utilise": entry.get("used_name"),
        "prenoms": _given_names(entry.get("given_names", ())),
        "date_naissance": entry.get("birth_date"),
        "sexe": entry.get("sex"),
        "matricule_ins": entry.get("ins"),
        "oid_ins": entry.get("ins_oid"),
        "numero_travailleur": entry.get("worker_number"),
        "siret_employeur": entry.get("employer_siret"),
        "centre": description["centre"],
        "type": document.kind,
        "date": document.dated,
        "pages": document.pages,
    }
    return {column: _text(value) or "" for column, value in values.items()}


def _given_names(names: Sequence[str]) -> str:
    # The last comma keeps a single `Marie Anne` one given name.
    return ", ".join(names) + ("," if len(names) == 1 and " " in names[0] else "")


def _text(value: object) -> str | None:
    """TOML gives dates as dates and numbers as numbers; the index and the manifest want texts."""
    if value is None:
        return None
    return value.isoformat() if isinstance(value, date) else str(value)


def _write(path: Path, content: bytes, name: str) -> ListedFile:
    _ = path.write_bytes(content)
    return ListedFile(name, len(content), hashlib.sha256(content).hexdigest())


def _zip(folder: Path, archive: Path) -> None:
    # Stored: scans are compressed already. Fixed dates: the same lot makes the same archive.
    with zipfile.ZipFile(archive, "x", zipfile.ZIP_STORED) as zipped:
        for path in _files(folder):
            entry = zipfile.ZipInfo(f"{folder.name}/{path.relative_to(folder).as_posix()}", ZIP_EPOCH)
            entry.external_attr = 0o100644 << 16
            with path.open("rb") as source, zipped.open(entry, "w", force_zip64=True) as destination:
                while chunk := source.read(CHUNK):
                    _ = destination.write(chunk)


def _files(folder: Path) -> Iterator[Path]:
    return (path for path in sorted(folder.rglob("*")) if path.is_file())
