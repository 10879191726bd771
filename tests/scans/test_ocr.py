"""The words of a cover: read by a real Tesseract, in a process that may fail, hang or be absent without harm."""

import shutil
import time
from datetime import UTC, date, datetime
from pathlib import Path

import pytest
from PIL import Image, ImageDraw

from bench.covers import drawn
from fhir_server.scans import ocr
from fhir_server.scans.cover import read_cover
from fhir_server.scans.examination import Terms, examine
from fhir_server.scans.manifest import ListedDocument, ListedFile, ListedFolder
from fhir_server.scans.ocr import UnreadError, read_zone
from fhir_server.scans.rendition import first_page
from tests.scans.test_codes import ADA, symbol

SAMPLES = Path(__file__).resolve().parents[2] / "samples"
SCANS = Path(__file__).resolve().parents[3] / "shared" / "data" / "scans"
PROGRAM = shutil.which("tesseract")
tesseract = pytest.mark.skipif(PROGRAM is None, reason="Tesseract is not installed: see tools/test-packages")
WHITE = Image.new("L", (600, 800), 255)


def program(folder: Path, script: str) -> Path:
    """A reader of ours, in the place of Tesseract."""
    path = folder / "reader"
    path.write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
    path.chmod(0o755)
    return path


def stated(path: Path) -> dict[str, str]:
    assert PROGRAM
    page = first_page(path, ocr.WIDTH, grey=True)
    found = read_cover(read_zone(page, Path(PROGRAM), seconds=60), scanned=date(2026, 10, 15))
    return {field.name: field.value for field in found.fields}


@tesseract
def test_the_cover_of_a_folder_says_whose_it_is(tmp_path: Path) -> None:
    """Accents, capitals and lower case, at 200 dpi, a little askew."""
    lines = [
        ("Nom de naissance :", "LEFÈVRE"),
        ("Prénom(s) :", "François-Xavier, Anaïs"),
        ("Né(e) le :", "1er août 1962"),
        ("Sexe :", "M"),
        ("N° Sécurité sociale :", "1 62 08 75 115 208 87"),
    ]
    page = drawn(lines, dpi=200)
    page.rotate(0.5, fillcolor=255, resample=Image.Resampling.BICUBIC).save(tmp_path / "cover.png", dpi=(200, 200))
    assert stated(tmp_path / "cover.png") == {
        "birth_name": "LEFÈVRE",
        "given_names": "François-Xavier, Anaïs",
        "birth_date": "1962-08-01",
        "sex": "male",
        "matricule": "162087511520887",
    }


@tesseract
@pytest.mark.skipif(not SCANS.exists(), reason="the sample scans are not here")
@pytest.mark.parametrize("name", ["skew.pdf", "typewriter.png", "blank.pdf"])
def test_a_page_that_is_no_cover_states_nothing(name: str) -> None:
    """Real scans of other things: no field is invented."""
    assert stated(SCANS / name) == {}


@tesseract
def test_what_is_below_the_index_zone_is_not_read(tmp_path: Path) -> None:
    """The lower half of a cover is medical."""
    page = drawn([*[("", "")] * 14, ("Nom de naissance :", "LEFÈVRE")], dpi=200)
    page.save(tmp_path / "cover.png", dpi=(200, 200))
    assert stated(tmp_path / "cover.png") == {}


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        ("cat >/dev/null; exit 1", "the reader failed"),
        ("exit 0", None),
        ("kill -9 $$", "the reader failed"),
        ("cat >/dev/null; printf 'a\\n5\\t1\\t1\\t1\\t1\\t1\\tx\\ty\\tz\\t1\\t96\\tMARTIN\\n'", "another form"),
        ("cat >/dev/null; head -c 300000 /dev/urandom", None),
        ("sleep 600 & sleep 600", "took too long"),
    ],
)
def test_a_reader_that_misbehaves_ends_and_says_why(script: str, reason: str | None, tmp_path: Path) -> None:
    """It fails, reads nothing, is killed, babbles, hangs with a child that keeps the pipe open."""
    began = time.monotonic()
    if reason is None:
        assert read_zone(WHITE, program(tmp_path, script), seconds=5) == ()
        return
    with pytest.raises(UnreadError, match=reason):
        read_zone(WHITE, program(tmp_path, script), seconds=0.5)
    assert time.monotonic() - began < 5


def test_a_reader_has_no_more_memory_than_it_needs(tmp_path: Path) -> None:
    """768 MB, and its own processor time: what Tesseract wants for a page is a tenth of it."""
    with pytest.raises(UnreadError, match="the reader failed"):
        read_zone(WHITE, program(tmp_path, "cat >/dev/null; test $(ulimit -v) = unlimited"), seconds=5)


def test_an_absent_reader_is_told_and_no_more(tmp_path: Path) -> None:
    with pytest.raises(UnreadError, match="cannot be started"):
        read_zone(WHITE, tmp_path / "nothing", seconds=1)


# --- within a folder


def folder_of(root: Path, page: Image.Image) -> ListedFolder:
    import hashlib

    path = root / "DOSSIER_1" / "1_0001.png"
    path.parent.mkdir(parents=True)
    page.save(path, dpi=(300, 300))
    content = path.read_bytes()
    file = ListedFile("DOSSIER_1/1_0001.png", len(content), hashlib.sha256(content).hexdigest())
    when = datetime(2026, 10, 15, tzinfo=UTC)
    document = ListedDocument("1_0001", file, 1, "image/png", None, 300, "grey", when, None, None)
    return ListedFolder(barcode="1", carton=None, documents=(document,), replaces_lot=None)


def cover_with(image: Image.Image | None = None) -> Image.Image:
    page = Image.new("L", (2480, 3508), 240)
    for y in range(600, 3300, 60):
        ImageDraw.Draw(page).text((200, y), "Nom de naissance : MARTIN", fill=40, font_size=40)
    if image:
        page.paste(image, (2000, 200))
    return page


def test_a_folder_comes_in_though_its_cover_cannot_be_read(tmp_path: Path) -> None:
    """The failure is told beside; it is neither a problem nor a remark."""
    folder = folder_of(tmp_path, cover_with())
    terms = Terms(200, "every", require_pdfa=False, cover_reader=tmp_path / "nothing")
    found = examine(tmp_path, folder, terms)
    assert (found.problems, found.remarks, found.reading) == ((), (), None)
    assert found.unread == "the reader cannot be started"
    silent = examine(tmp_path, folder, Terms(200, "every", require_pdfa=False))
    assert (silent.reading, silent.unread) == (None, None), "and unset it is not read at all"


def test_the_cover_is_looked_at_thoroughly_where_nothing_was_found(tmp_path: Path) -> None:
    """A faded datamatrix, too light for the quick look."""
    import zxingcpp

    faded = symbol(ADA, zxingcpp.BarcodeFormat.DataMatrix, 4).point(lambda level: 185 if level < 128 else 240)
    found = examine(tmp_path, folder_of(tmp_path, cover_with(faded)), Terms(200, "every", require_pdfa=False))
    assert [one.birth_name for one in found.datamatrices] == ["LOVELACE"]


@tesseract
def test_a_blank_cover_is_not_read(tmp_path: Path) -> None:
    """There is nothing to read, and nothing is spent on it."""
    folder = folder_of(tmp_path, Image.new("L", (2480, 3508), 250))
    found = examine(tmp_path, folder, Terms(200, "every", require_pdfa=False, cover_reader=Path(str(PROGRAM))))
    assert (found.reading, found.unread) == (None, None)
