"""PDF/A made of images, and pictures made of pages."""

import io
from pathlib import Path

import pikepdf.pdfa
import pytest
from PIL import Image

from fhir_server.outcomes import BusinessRule
from fhir_server.scans.inspection import inspect
from fhir_server.scans.rendition import first_page_png, render_page, to_pdfa

SAMPLES = Path(__file__).resolve().parents[2] / "samples"
IMAGES = [SAMPLES / f"100000{name}" for name in ("103-questionnaire.tif", "106-vaccination.jpg", "106-vision.png")]


@pytest.mark.parametrize("source", IMAGES, ids=lambda path: path.suffix)
def test_an_image_becomes_a_valid_pdfa_with_the_same_pages(source: Path, tmp_path: Path) -> None:
    """TIFF, JPEG and PNG keep their number of pages and their resolution."""
    to_pdfa(source, tmp_path / "out.pdf")
    assert pikepdf.pdfa.validate_written(tmp_path / "out.pdf", "2b").passed
    before, after = inspect(source), inspect(tmp_path / "out.pdf")
    assert (after.pages, after.dpi, after.pdfa) == (before.pages, before.dpi, "2B")
    assert after.findings == ()


@pytest.mark.parametrize("source", IMAGES, ids=lambda path: path.suffix)
def test_the_same_image_gives_the_same_bytes(source: Path, tmp_path: Path) -> None:
    """A rendition made again has the same fingerprint: no date, no random identifier."""
    to_pdfa(source, tmp_path / "one.pdf")
    to_pdfa(source, tmp_path / "two.pdf")
    content = (tmp_path / "one.pdf").read_bytes()
    assert content == (tmp_path / "two.pdf").read_bytes()
    assert b"/CreationDate" not in content


def test_a_jpeg_goes_in_as_it_is(tmp_path: Path) -> None:
    """No second compression: the JPEG data is in the PDF, byte for byte."""
    to_pdfa(IMAGES[1], tmp_path / "out.pdf")
    assert IMAGES[1].read_bytes() in (tmp_path / "out.pdf").read_bytes()


def test_transparency_is_laid_on_white(tmp_path: Path) -> None:
    """PDF/A has a page under the image; a transparent PNG shows that page."""
    Image.new("RGBA", (300, 300), (0, 0, 0, 0)).save(tmp_path / "clear.png", dpi=(300, 300))
    to_pdfa(tmp_path / "clear.png", tmp_path / "out.pdf")
    assert render_page(tmp_path / "out.pdf", 0, width=100).getpixel((50, 50)) == (255, 255, 255)


def test_an_image_without_resolution_is_taken_for_a_usual_scan(tmp_path: Path) -> None:
    """A page of 2480 pixels is A4 at 300 dpi, not a poster at 96."""
    Image.new("L", (2480, 3508), 128).save(tmp_path / "plain.jpg")
    to_pdfa(tmp_path / "plain.jpg", tmp_path / "out.pdf")
    assert inspect(tmp_path / "out.pdf").dpi == 300


@pytest.mark.parametrize("kind", ["cut short", "cmyk", "no image"])
def test_an_image_that_cannot_be_carried_is_refused_and_leaves_nothing(kind: str, tmp_path: Path) -> None:
    """The reason names no path, and the target is as it was."""
    source, target = tmp_path / "source.jpg", tmp_path / "out.pdf"
    if kind == "cut short":
        source.write_bytes(IMAGES[1].read_bytes()[:5000])
    elif kind == "cmyk":
        Image.new("CMYK", (100, 100)).save(source, dpi=(300, 300))
    else:
        source.write_bytes(b"hello")
    target.write_bytes(b"what was there")
    with pytest.raises(BusinessRule) as refused:
        to_pdfa(source, target)
    assert "source" not in str(refused.value)
    assert target.read_bytes() == b"what was there"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.pdf", "source.jpg"]


@pytest.mark.parametrize("source", [*IMAGES, SAMPLES / "100000101-visite4.pdf"], ids=lambda path: path.suffix)
def test_the_first_page_of_any_document_becomes_a_picture(source: Path) -> None:
    """A PNG of the width asked for, in the proportions of the page."""
    with Image.open(io.BytesIO(first_page_png(source, 500))) as picture:
        assert picture.format == "PNG"
        assert picture.width == 500
        assert 690 < picture.height < 720


@pytest.mark.parametrize("content", [b"", b"%PDF-1.7 and nothing", b"II*\x00 and nothing"])
def test_a_document_that_cannot_be_drawn_is_refused(content: bytes, tmp_path: Path) -> None:
    """The review page shows that there is nothing to show."""
    (tmp_path / "bad").write_bytes(content)
    with pytest.raises(BusinessRule):
        first_page_png(tmp_path / "bad")


def test_a_page_that_does_not_exist_is_refused() -> None:
    """Asking beyond the last page is the caller's mistake, told in the closed family."""
    with pytest.raises(BusinessRule):
        render_page(SAMPLES / "100000101-visite4.pdf", 9, width=100)
