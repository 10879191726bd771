"""Opening a delivered lot: what an archive or a folder may hold, and its files against the manifest."""

import os
import struct
import zipfile
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from stat import S_IFIFO, S_IFLNK

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fhir_server.scans.manifest import ListedDocument, ListedFile, ListedFolder, LotRefused, Manifest
from fhir_server.scans.unpack import (
    FolderProblem,
    Problem,
    check_files,
    check_folder,
    list_files,
    open_lot,
    unpack,
)

LOT = "LOT_20261015_C07_0123"
DAY = datetime(2026, 10, 15, tzinfo=UTC)


def _unpack(archive: Path, target: Path, max_bytes: int = 10_000_000, max_files: int = 100) -> Path:
    return unpack(archive, target, max_bytes=max_bytes, max_files=max_files, max_ratio=100)


def _zip(path: Path, *entries: tuple[str | zipfile.ZipInfo, bytes], compression: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, content in entries:
            archive.writestr(name, content)
    return path


def _refused(archive: Path, tmp_path: Path, **limits: int) -> str:
    target = tmp_path / "target"
    with pytest.raises(LotRefused) as refused:
        _ = _unpack(archive, target, **limits)
    assert refused.value.reject_code == "E01"
    assert not target.exists()
    return refused.value.diagnostics


def _special(name: str, mode: int) -> zipfile.ZipInfo:
    entry = zipfile.ZipInfo(name)
    entry.external_attr = mode << 16
    return entry


def test_a_plain_archive_is_extracted_whole(tmp_path: Path) -> None:
    """Folders and files come out as they went in, and the lot's folder is returned."""
    archive = _zip(
        tmp_path / "a.zip",
        (f"{LOT}/", b""),
        (f"{LOT}/manifest.json", b"{}"),
        (f"{LOT}/DOSSIER_1/1_1.pdf", b"x" * 3_000_000),
        compression=zipfile.ZIP_DEFLATED,
    )
    lot = unpack(archive, tmp_path / "target", max_bytes=3_000_002, max_files=3, max_ratio=2000)
    assert lot == tmp_path / "target" / LOT
    assert list_files(lot) == {"DOSSIER_1/1_1.pdf": 3_000_000, "manifest.json": 2}


@pytest.mark.parametrize(
    ("entries", "reason"),
    [
        ([("../out", b"")], "`..`"),
        ([(f"{LOT}/../../out", b"")], "`..`"),
        ([("/etc/out", b"")], "absolute"),
        ([("C:/out", b"")], "absolute"),
        ([(f"{LOT}\\..\\out", b"")], "backslash"),
        ([(f"{LOT}/a\nb", b"")], "control"),
        ([(_special(f"{LOT}/link", S_IFLNK | 0o777), b"/etc/passwd")], "link"),
        ([(_special(f"{LOT}/pipe", S_IFIFO | 0o666), b"")], "special"),
        ([(f"{LOT}/a", b"1"), (f"{LOT}/A", b"2")], "same name"),
        ([(f"{LOT}/é", b"1"), (f"{LOT}/e\u0301", b"2")], "same name"),
        ([(f"{LOT}/a", b"1"), (f"{LOT}/a/b", b"2")], "file and a folder"),
        ([(f"{LOT}/a", b"1"), ("OTHER/b", b"2")], "exactly one folder"),
        ([("manifest.json", b"{}")], "exactly one folder"),
        ([], "exactly one folder"),
        ([(f"{LOT}/{number}", b"") for number in range(101)], "too many"),
    ],
)
def test_a_hostile_archive_is_refused_and_leaves_nothing(
    entries: list[tuple[str | zipfile.ZipInfo, bytes]], reason: str, tmp_path: Path
) -> None:
    """No path out of the target, no link, no second meaning of a name."""
    assert reason in _refused(_zip(tmp_path / "a.zip", *entries), tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.zip"]


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_two_entries_of_one_name_are_refused(tmp_path: Path) -> None:
    """A verifier could read the one and a viewer the other."""
    archive = _zip(tmp_path / "a.zip", (f"{LOT}/a", b"1"), (f"{LOT}/a", b"2"))
    assert "same name" in _refused(archive, tmp_path)


def test_a_bomb_is_refused_by_its_ratio_and_by_its_size(tmp_path: Path) -> None:
    """Before a byte is written."""
    archive = _zip(tmp_path / "a.zip", (f"{LOT}/a", bytes(5_000_000)), compression=zipfile.ZIP_DEFLATED)
    assert "beyond belief" in _refused(archive, tmp_path)
    assert "too large" in _refused(archive, tmp_path, max_bytes=4_999_999)


def test_a_size_that_lies_is_refused(tmp_path: Path) -> None:
    """The directory announces 10 bytes for a stream of a million: it is not followed further."""
    archive = _zip(tmp_path / "a.zip", (f"{LOT}/a", bytes(1_000_000)), compression=zipfile.ZIP_DEFLATED)
    raw = bytearray(archive.read_bytes())
    place = raw.rfind(b"PK\x01\x02")
    struct.pack_into("<L", raw, place + 24, 10)
    archive.write_bytes(raw)
    assert "damaged" in _refused(archive, tmp_path)


def test_encrypted_and_exotic_entries_are_refused(tmp_path: Path) -> None:
    """We have no password, and no need for other methods than deflate."""
    archive = _zip(tmp_path / "a.zip", (f"{LOT}/a", b"x"))
    raw = bytearray(archive.read_bytes())
    raw[raw.rfind(b"PK\x01\x02") + 8] |= 1
    archive.write_bytes(raw)
    assert "encrypted" in _refused(archive, tmp_path)
    other = _zip(tmp_path / "b.zip", (f"{LOT}/a", b"x"), compression=zipfile.ZIP_LZMA)
    assert "neither stored nor deflated" in _refused(other, tmp_path)


def test_a_directory_of_millions_of_entries_is_refused_before_it_is_read(tmp_path: Path) -> None:
    """Its size is looked up in the end record, plain or zip64."""
    archive = tmp_path / "a.zip"
    archive.write_bytes(bytes(2_000_000) + struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, 1, 1, 2_000_000, 0, 0))
    assert "too many" in _refused(archive, tmp_path)
    end64 = struct.pack("<4sQ2H2L4Q", b"PK\x06\x06", 44, 45, 45, 0, 0, 1, 1, 2_000_000, 0)
    locator = struct.pack("<4sLQL", b"PK\x06\x07", 0, 2_000_000, 1)
    end = struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, 0xFFFF, 0xFFFF, 0xFFFFFFFF, 0xFFFFFFFF, 0)
    archive.write_bytes(bytes(2_000_000) + end64 + locator + end)
    assert "too many" in _refused(archive, tmp_path)


@given(data=st.data())
@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_damaged_archive_is_refused_or_extracted_and_nothing_else(tmp_path: Path, data: st.DataObject) -> None:
    """Whatever bytes are changed, the only failure is LotRefused and the target is then gone."""
    archive = _zip(tmp_path / "a.zip", (f"{LOT}/a", b"abc" * 50), (f"{LOT}/b", b"d"), compression=zipfile.ZIP_DEFLATED)
    raw = bytearray(archive.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    archive.write_bytes(raw[: data.draw(st.integers(0, len(raw)))])
    target = tmp_path / "target"
    try:
        _ = _unpack(archive, target)
    except LotRefused:
        assert not target.exists()
        return
    for path in sorted(target.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    target.rmdir()


def test_an_existing_target_is_left_alone(tmp_path: Path) -> None:
    """Nothing of an earlier lot may be overwritten or removed."""
    (tmp_path / "target").mkdir()
    (tmp_path / "target" / "kept").touch()
    with pytest.raises(FileExistsError):
        _ = _unpack(_zip(tmp_path / "a.zip", (f"{LOT}/a", b"")), tmp_path / "target")
    assert (tmp_path / "target" / "kept").exists()


@pytest.fixture
def lot(tmp_path: Path) -> tuple[Path, Manifest]:
    """A lot of three folders of two documents, and its manifest."""
    root = tmp_path / LOT
    root.mkdir()

    def write(path: str, content: bytes) -> ListedFile:
        (root / path).parent.mkdir(exist_ok=True)
        (root / path).write_bytes(content)
        return ListedFile(path, len(content), sha256(content).hexdigest())

    def document(barcode: str, number: int) -> ListedDocument:
        name = f"{barcode}_{number:04d}"
        file = write(f"DOSSIER_{barcode}/{name}.pdf", name.encode())
        return ListedDocument(name, file, 1, "application/pdf", None, None, None, DAY, None, None)

    folders = tuple(
        ListedFolder(barcode, None, (document(barcode, 1), document(barcode, 2)), None)
        for barcode in ("101", "102", "103")
    )
    manifest = Manifest(
        LOT, "Fictif", None, "C07", "CONV", "OP", "S", DAY, DAY, write("index.csv", b"i"), (), folders, 6, 0
    )
    write("manifest.json", b"{}")
    return root, manifest


def test_a_faithful_delivery_has_no_problem(lot: tuple[Path, Manifest]) -> None:
    """Manifest and seal are not listed, and expected."""
    root, manifest = lot
    (root / "manifest.json.p7s").write_bytes(b"s")
    assert check_files(root, manifest) == []
    opened = open_lot(root)
    assert (opened.manifest, opened.signature, opened.token) == (b"{}", b"s", None)


def test_each_altered_missing_or_extra_file_rejects_its_own_folder_only(lot: tuple[Path, Manifest]) -> None:
    """E02 where the content differs, E03 where the list does; the third folder is untouched."""
    root, manifest = lot
    (root / "DOSSIER_101/101_0001.pdf").write_bytes(b"101_9999")
    (root / "DOSSIER_101/101_0002.pdf").write_bytes(b"longer than announced")
    (root / "DOSSIER_102/102_0001.pdf").unlink()
    (root / "DOSSIER_102/notes.txt").write_bytes(b"x")
    assert check_files(root, manifest) == [
        FolderProblem(
            "101",
            (
                Problem("E02", "DOSSIER_101/101_0001.pdf", "the file has not the SHA-256 announced"),
                Problem("E02", "DOSSIER_101/101_0002.pdf", "the file has not the size announced"),
            ),
        ),
        FolderProblem(
            "102",
            (
                Problem("E03", "DOSSIER_102/102_0001.pdf", "the file is missing"),
                Problem("E03", "DOSSIER_102/notes.txt", "the file is not in the manifest"),
            ),
        ),
    ]


def test_files_of_no_listed_folder_are_told_apart(lot: tuple[Path, Manifest]) -> None:
    """An unannounced folder or a stray file is the lot's problem, as is a changed index."""
    root, manifest = lot
    (root / "DOSSIER_999").mkdir()
    (root / "DOSSIER_999/a.pdf").write_bytes(b"x")
    (root / "stray").write_bytes(b"x")
    (root / "index.csv").write_bytes(b"j")
    (result,) = check_files(root, manifest)
    assert result.barcode is None
    assert [(problem.code, problem.path) for problem in result.problems] == [
        ("E02", "index.csv"),
        ("E03", "DOSSIER_999/a.pdf"),
        ("E03", "stray"),
    ]


def test_a_missing_folder_is_told_once_and_file_by_file_never(lot: tuple[Path, Manifest]) -> None:
    """One line says it."""
    root, manifest = lot
    folder = replace(manifest.folders[0], barcode="104")
    assert check_folder(root, folder) == (Problem("E03", "DOSSIER_104", "the folder is missing"),)


def test_folders_can_be_checked_in_a_pool_of_processes(lot: tuple[Path, Manifest]) -> None:
    """Arguments and results travel between processes."""
    root, manifest = lot
    (root / "DOSSIER_103/103_0002.pdf").write_bytes(b"")
    with ProcessPoolExecutor(2) as pool:
        results = list(pool.map(check_folder, [root] * 3, manifest.folders))
    assert [len(problems) for problems in results] == [0, 0, 1]


@pytest.mark.parametrize("kind", ["link", "link to a folder", "pipe", "control"])
def test_links_and_special_files_are_refused_anywhere(kind: str, lot: tuple[Path, Manifest]) -> None:
    """A link could show a file of ours as the provider's; a pipe would make us wait for ever."""
    root, manifest = lot
    place = root / "DOSSIER_101" / ("a\tb" if kind == "control" else "odd")
    match kind:
        case "link":
            place.symlink_to("/etc/passwd")
        case "link to a folder":
            place.symlink_to(root.parent, target_is_directory=True)
        case "pipe":
            os.mkfifo(place)
        case _:
            place.touch()
    for look in (open_lot, list_files):
        with pytest.raises(LotRefused):
            _ = look(root)
    assert [problem.code for problem in check_folder(root, manifest.folders[0])] == ["E03"]


def test_a_listed_file_replaced_by_a_link_is_not_followed(lot: tuple[Path, Manifest]) -> None:
    """Even to a file of the same content."""
    root, manifest = lot
    listed = root / manifest.folders[0].documents[0].file.path
    copy = listed.rename(root.parent / "copy.pdf")
    listed.symlink_to(copy)
    assert check_folder(root, manifest.folders[0]) != ()


def test_a_lot_without_manifest_or_that_is_a_link_is_refused(lot: tuple[Path, Manifest], tmp_path: Path) -> None:
    """E01 in both cases."""
    root, _ = lot
    (tmp_path / "alias").symlink_to(root)
    with pytest.raises(LotRefused):
        _ = open_lot(tmp_path / "alias")
    (root / "manifest.json").unlink()
    with pytest.raises(LotRefused, match=r"no manifest\.json"):
        _ = open_lot(root)
