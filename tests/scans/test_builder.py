"""Making a lot, and reading it back with the reader's own tools."""

import zipfile
from collections.abc import Iterator
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pikepdf
import pytest
from PIL import Image

from fhir_server.outcomes import BusinessRule
from fhir_server.scans import index_file
from fhir_server.scans.builder import build, build_zip
from fhir_server.scans.manifest import ManifestRefused, parse
from fhir_server.scans.seal import DemoAuthority, make_demo_authority, verify
from fhir_server.scans.unpack import check_files, open_lot, unpack

LOT = "LOT_20261015_C07_0123"
NOON = datetime(2026, 10, 15, 12, tzinfo=UTC)


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> DemoAuthority:
    """Fictitious certificates, made once."""
    return make_demo_authority(tmp_path_factory.mktemp("keys") / "demo")


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A PDF of three pages, a TIFF of two, a JPEG."""
    folder = tmp_path / "source"
    folder.mkdir()
    with pikepdf.new() as pdf:
        for _ in range(3):
            pdf.add_blank_page()
        with pdf.open_metadata() as metadata:
            metadata["pdfaid:part"] = "2"
            metadata["pdfaid:conformance"] = "B"
        pdf.save(folder / "visite.pdf")
    page = Image.new("1", (100, 100))
    page.save(folder / "audio.tiff", save_all=True, append_images=[page])
    page.convert("L").save(folder / "carte.JPEG")
    return folder


def _description(**changes: Any) -> dict[str, Any]:
    return {
        "provider": "Numérisation Fictive SA",
        "provider_siret": "12345678200010",
        "centre": "C07",
        "convention": "CONV-2026 v2",
        "operator": "OP-12",
        "scanner": "Fictif 9000",
        "folder": [
            {
                "barcode": "000123456",
                "carton": "CARTON-7",
                "birth_name": "LEFÈVRE",
                "used_name": "CŒURDACIER",
                "given_names": ["Marie Anne"],
                "birth_date": "1972-03-07",
                "sex": "F",
                "ins": "272037511604218",
                "ins_oid": "1.2.250.1.213.1.4.8",
                "worker_number": "T-88",
                "employer_siret": "12345678200010",
                "document": [
                    {"file": "visite.pdf", "type": "DMST-VISITE", "dated": date(1998, 3, 1), "dpi": 300},
                    {"file": "audio.tiff", "colour": "bilevel", "dated": "1999"},
                ],
            },
            {
                "barcode": "000123457",
                "birth_name": "PETIT",
                "given_names": ["Jean", "Luc"],
                "birth_date": date(1960, 1, 2),
                "sex": "M",
                "replaces_lot": "LOT_20261001_C07_0001",
                "document": [{"file": "carte.JPEG"}],
            },
        ],
    } | changes


def test_a_lot_that_is_built_passes_every_check_of_the_reader(
    source: Path, tmp_path: Path, authority: DemoAuthority
) -> None:
    """Manifest, files, index, seal and sentinel agree with each other."""
    root = build(_description(), source, tmp_path / "out", lot=LOT, at=NOON, seal=authority)
    assert root == tmp_path / "out" / LOT
    assert (tmp_path / "out" / f"{LOT}.ok").read_bytes() == b""
    lot = open_lot(root)
    manifest = parse(lot.manifest)
    assert check_files(root, manifest) == []
    seal = verify(lot.manifest, lot.signature, lot.token, authority.trust)
    assert (seal.state, seal.timestamp_at) == ("valid", NOON)
    assert [
        (document.document_id, document.pages, document.media_type, document.pdfa)
        for folder in manifest.folders
        for document in folder.documents
    ] == [
        ("000123456_0001", 3, "application/pdf", "2B"),
        ("000123456_0002", 2, "image/tiff", None),
        ("000123457_0001", 1, "image/jpeg", None),
    ]
    assert manifest.pages == 6
    assert manifest.folders[1].replaces_lot == "LOT_20261001_C07_0001"


def test_the_index_of_a_built_lot_reads_back_the_traits(source: Path, tmp_path: Path) -> None:
    """One line per document, with the traits of its folder."""
    root = build(_description(), source, tmp_path / "out", lot=LOT, at=NOON, seal=None)
    lines, problems = index_file.read((root / "index.csv").read_bytes())
    assert problems == []
    assert [line.document_id for line in lines] == ["000123456_0001", "000123456_0002", "000123457_0001"]
    first, _, last = lines
    assert (first.birth_name, first.used_name, first.given_names) == (
        "LEFÈVRE",
        "CŒURDACIER",
        ("Marie Anne",),
    )
    assert (first.birth_date, first.sex, first.matricule_ins) == ("1972-03-07", "female", "272037511604218")
    assert (first.kind, first.dated, first.pages) == ("DMST-VISITE", "1998-03-01", 3)
    assert (last.given_names, last.birth_date, last.sex) == (("Jean", "Luc"), "1960-01-02", "male")


def test_without_a_seal_the_lot_has_a_manifest_only(source: Path, tmp_path: Path) -> None:
    """The absence is plain to see."""
    lot = open_lot(build(_description(), source, tmp_path / "out", lot=LOT, at=NOON, seal=None))
    assert (lot.signature, lot.token) == (None, None)


def test_the_same_description_makes_the_same_bytes(source: Path, tmp_path: Path) -> None:
    """Manifest, index and archive do not depend on the moment of the build."""
    archives = [
        build_zip(_description(), source, tmp_path / name, lot=LOT, at=NOON, seal=None) for name in ("one", "two")
    ]
    assert archives[0].read_bytes() == archives[1].read_bytes()


def test_a_lot_may_be_built_as_an_archive(source: Path, tmp_path: Path, authority: DemoAuthority) -> None:
    """It unpacks into the same lot, and its sentinel has the same name."""
    archive = build_zip(_description(), source, tmp_path / "out", lot=LOT, at=NOON, seal=authority)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [f"{LOT}.ok", f"{LOT}.zip"]
    assert zipfile.is_zipfile(archive)
    root = unpack(archive, tmp_path / "in", max_bytes=10**7, max_files=100, max_ratio=100)
    assert check_files(root, parse(open_lot(root).manifest)) == []


def _broken() -> Iterator[tuple[str, dict[str, Any]]]:
    yield "operator", {key: value for key, value in _description().items() if key != "operator"}
    for file in ("absent.pdf", "broken.pdf", "broken.png", "notes.txt"):
        entry = {"barcode": "1", "birth_name": "A", "given_names": [], "document": [{"file": file}]}
        yield file, _description(folder=[entry])
    yield "barcode", _description(folder=[{"barcode": "../1", "document": []}])


@pytest.mark.parametrize(
    ("what", "description"), list(_broken()), ids=lambda value: value if isinstance(value, str) else ""
)
def test_a_description_that_makes_no_lot_leaves_nothing_behind(
    what: str, description: dict[str, Any], source: Path, tmp_path: Path
) -> None:
    """No folder, no sentinel, no scratch; and no text of a person in the error."""
    assert what
    (source / "broken.pdf").write_bytes(b"%PDF-1.7 broken")
    (source / "broken.png").write_bytes(b"broken")
    (source / "notes.txt").write_bytes(b"x")
    with pytest.raises(BusinessRule):
        _ = build(description, source, tmp_path / "out", lot=LOT, at=NOON, seal=None)
    assert list((tmp_path / "out").iterdir()) == []


def test_a_lot_that_its_own_reader_would_refuse_is_not_published(source: Path, tmp_path: Path) -> None:
    """The manifest is read back before it is sealed."""
    with pytest.raises(ManifestRefused):
        _ = build(_description(centre=""), source, tmp_path / "out", lot=LOT, at=NOON, seal=None)
    with pytest.raises(ManifestRefused):
        _ = build(_description(), source, tmp_path / "out", lot="MY_LOT", at=NOON, seal=None)
    with pytest.raises(BusinessRule):
        _ = build(_description(), source, tmp_path / "out", lot="../x", at=NOON, seal=None)


def test_a_lot_is_never_overwritten(source: Path, tmp_path: Path) -> None:
    """A correction is a new lot."""
    _ = build(_description(), source, tmp_path / "out", lot=LOT, at=NOON, seal=None)
    with pytest.raises(FileExistsError):
        _ = build(_description(), source, tmp_path / "out", lot=LOT, at=NOON, seal=None)
