"""Opening what was delivered: a zip or a folder nobody has vouched for yet, and its files against the manifest.

docs/scan_lot.md, dmst reject codes E01 (not a lot), E02 (altered file), E03 (missing or extra file).
"""

import errno
import hashlib
import io
import os
import shutil
import stat
import struct
import unicodedata
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from fhir_server.outcomes import StorageFull
from fhir_server.scans.manifest import (
    FOLDER_PREFIX,
    MANIFEST_NAME,
    SEALED_NAMES,
    SIGNATURE_NAME,
    TOKEN_NAME,
    ListedFile,
    ListedFolder,
    LotRefused,
    Manifest,
    folder_directory,
    path_problem,
)

CHUNK = 1 << 20
LARGEST_MANIFEST = 256 << 20
LARGEST_SEAL = 1 << 20

ALTERED = "E02"
MISSING_OR_EXTRA = "E03"


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing wrong with a lot: its reject code, the file (relative to the lot, None where it is no one file), why.

    `detail` is a sentence without personal data.
    """

    code: str
    path: str | None
    detail: str


@dataclass(frozen=True, slots=True)
class FolderProblem:
    """What is wrong with the files of one paper folder; `barcode` is None for files that belong to no listed folder."""

    barcode: str | None
    problems: tuple[Problem, ...]


@dataclass(frozen=True, slots=True)
class DeliveredLot:
    """A lot as it lies on the disk, nothing verified yet but its shape.

    `files` maps each path (relative, forward slashes) to its size in bytes, manifest and seal included.
    """

    root: Path
    manifest: bytes
    signature: bytes | None
    token: bytes | None
    files: dict[str, int]


def unpack(archive: Path, target: Path, *, max_bytes: int, max_files: int, max_ratio: float) -> Path:
    """Extract a zip into `target`, which must not exist, and return the one folder at its top.

    `max_bytes` bounds the sum of the extracted sizes, `max_files` the number of entries, `max_ratio` how many times
    larger than its compressed form a file may be (above 1 MiB). Raises LotRefused (E01) with the reason for anything
    but plain files in plain folders, StorageFull where the disk is full, FileExistsError where `target` exists.
    After any of these nothing is left in `target`.
    """
    target.mkdir(parents=True)
    try:
        with archive.open("rb") as file:
            _check_directory_size(file, max_files)
            with zipfile.ZipFile(file) as opened:
                top = _check_entries(opened.infolist(), max_bytes, max_files, max_ratio)
                _extract(opened, target)
        return target / top
    except BaseException as failure:
        shutil.rmtree(target, ignore_errors=True)
        _translate(failure)
        raise


def open_lot(path: Path) -> DeliveredLot:
    """Look into the folder of a lot and read its manifest and its seal.

    Raises LotRefused (E01) where the manifest is absent or too large, or where anything in the tree is a link, a
    special file or badly named.
    """
    files = list_files(path)
    if MANIFEST_NAME not in files:
        raise LotRefused("The lot has no manifest.json.")
    manifest = _read_small(path, files, MANIFEST_NAME, LARGEST_MANIFEST)
    return DeliveredLot(
        root=path,
        manifest=manifest or b"",
        signature=_read_small(path, files, SIGNATURE_NAME, LARGEST_SEAL),
        token=_read_small(path, files, TOKEN_NAME, LARGEST_SEAL),
        files=files,
    )


def list_files(root: Path) -> dict[str, int]:
    """The size in bytes of each file under `root`, by relative path in alphabetical order, following no link.

    Raises LotRefused (E01) at the first link, special file or name that a lot may not hold.
    """
    if root.is_symlink() or not root.is_dir():
        raise LotRefused("The lot is not a folder.")
    found: dict[str, int] = {}
    waiting = [""]
    while waiting:
        directory = waiting.pop()
        with os.scandir(root / directory) as entries:
            for entry in entries:
                path = directory + entry.name
                problem = path_problem(path)
                if problem:
                    raise LotRefused(f"A file of the lot cannot be accepted: {problem}.")
                if entry.is_dir(follow_symlinks=False):
                    waiting.append(path + "/")
                elif entry.is_file(follow_symlinks=False):
                    found[path] = entry.stat(follow_symlinks=False).st_size
                else:
                    raise LotRefused("The lot holds a link or a special file.")
    return dict(sorted(found.items()))


def check_files(root: Path, manifest: Manifest) -> list[FolderProblem]:
    """Compare every file of the lot with the manifest: sizes, SHA-256, missing and extra ones; only what is wrong."""
    checked = [FolderProblem(None, check_lot_files(root, manifest))]
    checked += [FolderProblem(folder.barcode, check_folder(root, folder)) for folder in manifest.folders]
    return [result for result in checked if result.problems]


def check_lot_files(root: Path, manifest: Manifest) -> tuple[Problem, ...]:
    """The same for what belongs to no folder: the index, the other files, and anything that is not listed."""
    listed = (manifest.index, *manifest.others)
    expected = SEALED_NAMES | {file.path for file in listed}
    directories = {folder_directory(folder.barcode) for folder in manifest.folders}
    strays = (path for path in list_files(root) if path not in expected and path.partition("/")[0] not in directories)
    return (
        *_check_listed(root, listed),
        *(Problem(MISSING_OR_EXTRA, path, _stray_detail(path)) for path in strays),
    )


def check_folder(root: Path, folder: ListedFolder) -> tuple[Problem, ...]:
    """The same for the files of one paper folder; reads them whole, so it suits a pool of processes.

    Touches only the directory of the folder and never follows a link.
    """
    listed = tuple(document.file for document in folder.documents)
    directory = folder_directory(folder.barcode)
    try:
        delivered = list_files(root / directory)
    except LotRefused as refused:
        if not (root / directory).exists():
            return (Problem(MISSING_OR_EXTRA, directory, "the folder is missing"),)
        return (Problem(MISSING_OR_EXTRA, directory, refused.diagnostics),)
    expected = {file.path for file in listed}
    extra = (f"{directory}/{name}" for name in delivered if f"{directory}/{name}" not in expected)
    return (
        *_check_listed(root, listed),
        *(Problem(MISSING_OR_EXTRA, path, "the file is not in the manifest") for path in extra),
    )


def _stray_detail(path: str) -> str:
    if path.startswith(FOLDER_PREFIX):
        return "the folder of this file is not in the manifest"
    return "the file is not in the manifest"


def _check_listed(root: Path, files: tuple[ListedFile, ...]) -> Iterator[Problem]:
    for file in files:
        problem = _check_file(root, file)
        if problem:
            yield problem


def _check_file(root: Path, listed: ListedFile) -> Problem | None:
    try:
        with _open_plain(root / listed.path) as file:
            if os.fstat(file.fileno()).st_size != listed.size:
                return Problem(ALTERED, listed.path, "the file has not the size announced")
            digest = hashlib.file_digest(file, "sha256").hexdigest()
    except FileNotFoundError:
        return Problem(MISSING_OR_EXTRA, listed.path, "the file is missing")
    except OSError:
        return Problem(ALTERED, listed.path, "the file cannot be read")
    if digest != listed.sha256:
        return Problem(ALTERED, listed.path, "the file has not the SHA-256 announced")
    return None


def _open_plain(path: Path) -> io.BufferedReader:
    """Open a regular file and nothing else: a link fails (ELOOP), and a pipe does not make us wait."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "not a regular file")
        return os.fdopen(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise


def _read_small(root: Path, files: dict[str, int], name: str, largest: int) -> bytes | None:
    if name not in files:
        return None
    with _open_plain(root / name) as file:
        content = file.read(largest + 1)
    if len(content) > largest:
        raise LotRefused(f"The file {name} is larger than {largest >> 20} MiB.")
    return content


# PKWARE APPNOTE 4.3.16 (end of central directory) and 4.3.14, 4.3.15 (its zip64 forms)
END = struct.Struct("<4s4H2LH")
END64_LOCATOR = struct.Struct("<4sLQL")
END64 = struct.Struct("<4sQ2H2L4Q")
LONGEST_ENTRY = 1024


def _check_directory_size(file: BinaryIO, max_files: int) -> None:
    """Refuse a directory of entries too large to be read: zipfile keeps all of it in memory before we can count."""
    size = file.seek(0, os.SEEK_END)
    tail_start = max(0, size - END.size - 0xFFFF - END64_LOCATOR.size)
    _ = file.seek(tail_start)
    tail = file.read()
    place = tail.rfind(b"PK\x05\x06")
    if place < 0 or len(tail) - place < END.size:
        raise LotRefused("The archive is not a zip.")
    directory_size: int = END.unpack_from(tail, place)[5]
    if directory_size == 0xFFFFFFFF:
        directory_size = _zip64_directory_size(file, tail, place)
    _ = file.seek(0)
    if directory_size > max_files * LONGEST_ENTRY:
        raise LotRefused("The archive holds too many files.")


def _zip64_directory_size(file: BinaryIO, tail: bytes, place: int) -> int:
    if place < END64_LOCATOR.size:
        raise LotRefused("The archive is not a zip.")
    signature, _disk, offset, _disks = END64_LOCATOR.unpack_from(tail, place - END64_LOCATOR.size)
    if signature != b"PK\x06\x07":
        raise LotRefused("The archive is not a zip.")
    _ = file.seek(min(offset, 1 << 62))
    record = file.read(END64.size)
    if len(record) != END64.size or not record.startswith(b"PK\x06\x06"):
        raise LotRefused("The archive is not a zip.")
    return END64.unpack(record)[8]


def _check_entries(entries: list[zipfile.ZipInfo], max_bytes: int, max_files: int, max_ratio: float) -> str:
    """The name of the one folder at the top; raises LotRefused where an entry may not be extracted."""
    if len(entries) > max_files:
        raise LotRefused("The archive holds too many files.")
    if sum(entry.file_size for entry in entries) > max_bytes:
        raise LotRefused("The archive would be too large once extracted.")
    taken: dict[str, bool] = {}
    for entry in entries:
        _check_entry(entry, max_ratio)
        name = _folded(entry.filename.rstrip("/"))
        if name in taken:
            raise LotRefused("The archive holds two entries of the same name.")
        taken[name] = entry.is_dir()
    for name in taken:
        # PurePosixPath("a/b").parents ends with ".", which is no entry
        if any(taken.get(str(parent)) is False for parent in PurePosixPath(name).parents):
            raise LotRefused("The archive holds a file and a folder of the same name.")
    tops = {entry.filename.partition("/")[0] for entry in entries}
    if len(tops) != 1 or any("/" not in entry.filename for entry in entries):
        raise LotRefused("The archive must hold exactly one folder at its top.")
    return tops.pop()


def _folded(name: str) -> str:
    return unicodedata.normalize("NFC", name).casefold()


def _check_entry(entry: zipfile.ZipInfo, max_ratio: float) -> None:
    # orig_filename: zipfile cuts `filename` at a null byte and would hide the rest from this check.
    problem = path_problem(entry.orig_filename.removesuffix("/"))
    if problem:
        raise LotRefused(f"An entry of the archive cannot be accepted: {problem}.")
    if entry.flag_bits & 0x1:
        raise LotRefused("An entry of the archive is encrypted.")
    if entry.compress_type not in {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}:
        raise LotRefused("An entry of the archive is neither stored nor deflated.")
    kind = stat.S_IFMT(entry.external_attr >> 16)  # 0 where the archive was made on Windows
    if kind not in {0, stat.S_IFDIR if entry.is_dir() else stat.S_IFREG}:
        raise LotRefused("The archive holds a link or a special file.")
    if entry.file_size > CHUNK and entry.file_size > entry.compress_size * max_ratio:
        raise LotRefused("An entry of the archive is compressed beyond belief.")


def _extract(opened: zipfile.ZipFile, target: Path) -> None:
    for entry in opened.infolist():
        path = target / entry.filename
        if entry.is_dir():
            path.mkdir(parents=True, exist_ok=True)
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        # zipfile stops at the size announced and verifies the CRC, so the bound on the sum holds.
        with opened.open(entry) as source, path.open("xb") as destination:
            shutil.copyfileobj(source, destination, CHUNK)


def _translate(failure: BaseException) -> None:
    if isinstance(failure, OSError) and failure.errno in {errno.ENOSPC, errno.EDQUOT}:
        raise StorageFull("There is no room to unpack the lot.") from failure
    if isinstance(failure, OSError) and failure.errno == errno.ENAMETOOLONG:
        raise LotRefused("A path of the archive is too long.") from failure
    if isinstance(failure, (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, struct.error)):
        raise LotRefused("The archive is damaged.") from failure
    if isinstance(failure, (ValueError, OverflowError)):
        raise LotRefused("The archive cannot be read.") from failure
