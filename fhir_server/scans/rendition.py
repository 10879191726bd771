"""Other forms of a scanned document: PDF/A made of images, and pictures of its pages.

ISO 19005-2 (PDF/A-2b). The original stays what it is: a rendition is one more attachment beside it.
"""

import io
import os
import threading
from pathlib import Path
from typing import Final

import img2pdf
import pikepdf
import pypdfium2
from PIL import Image

from fhir_server.outcomes import BusinessRule

# A rendition does not say when it was made, so that the same scan always gives the same bytes.
_UNDATED: Final = "1970-01-01T00:00:00+00:00"

# A page is as large as its image says; one that says nothing sensible is taken for a usual scan.
_USUAL_DPI: Final = 300
_LOWEST_DPI: Final = 30

_UNREADABLE: Final = (
    img2pdf.ImageOpenError,
    img2pdf.AlphaChannelError,
    img2pdf.ExifOrientationError,
    img2pdf.JpegColorspaceError,
    img2pdf.NegativeDimensionError,
    img2pdf.PdfTooLargeError,
    img2pdf.UnsupportedColorspaceError,
)

# pdfium keeps global state: one thread at a time may be in it.
_PDFIUM: Final = threading.Lock()

# A page box may be as large as its author likes; the picture made of it may not.
_MAX_SIDE: Final = 6000


def to_pdfa(source: Path, target: Path) -> None:
    """Write the TIFF (of one page or more), JPEG or PNG file `source` as PDF/A-2b, validated, to `target`.

    JPEG and G4 data go in as they are and other images without loss; transparency is laid on white. The same source
    gives the same bytes. When it fails, `target` is as it was.

    Raises BusinessRule when the image cannot be read, or cannot be carried by PDF/A-2b (CMYK, for one).
    """
    from pikepdf import pdfa  # with its fonts a sixth of what the server would take to start

    part = target.with_name(f".{target.name}.part")
    try:
        with pikepdf.open(_image_pdf(source)) as pdf:
            pdfa.prepare(pdf, "2b")
            with pdf.open_metadata(set_pikepdf_as_editor=False, update_docinfo=False) as metadata:
                metadata["xmp:MetadataDate"] = _UNDATED
            pdfa.save(pdf, part, "2b", repair=False, deterministic_id=True)
        os.replace(part, target)
    except (pikepdf.PdfError, pdfa.PdfaError) as error:
        raise BusinessRule("PDF/A-2b cannot carry this image.") from error
    finally:
        part.unlink(missing_ok=True)


def first_page_png(path: Path, width: int = 1000) -> bytes:
    """Return the first page of a PDF, TIFF, JPEG or PNG file as a PNG of `width` pixels, for a reader's screen.

    Raises BusinessRule when the document cannot be opened or drawn.
    """
    png = io.BytesIO()
    first_page(path, width).save(png, "PNG")
    return png.getvalue()


def first_page(path: Path, width: int, *, grey: bool = False) -> Image.Image:
    """The same as a picture, in RGB or grey. Raises BusinessRule when the document cannot be opened or drawn."""
    return picture_of_page(path, 0, width=width, grey=grey)


def picture_of_page(path: Path, index: int, *, width: int, grey: bool = False) -> Image.Image:
    """Draw page `index` (from 0) of a PDF, TIFF, JPEG or PNG file, `width` pixels wide, in RGB or grey.

    Raises BusinessRule when the document cannot be opened or drawn, or has no such page.
    """
    with path.open("rb") as file:
        is_pdf = file.read(5) == b"%PDF-"
    if is_pdf:
        return render_page(path, index, width=width, grey=grey)
    picture = _image(path, index, width)
    return picture.convert("L") if grey else picture


def render_page(path: Path, index: int, *, width: int, grey: bool = False) -> Image.Image:
    """Draw page `index` (from 0) of a PDF, `width` pixels wide, in RGB, or grey and without its annotations.

    Raises BusinessRule when the document cannot be opened or drawn. Safe to call from several threads, which then
    draw one after the other.
    """
    try:
        with _PDFIUM, pypdfium2.PdfDocument(path) as document:
            page = document[index]
            across, down = page.get_size()
            if min(across, down) <= 0:
                raise BusinessRule("The page has no size.")
            # pdfium rounds a size up: stay a little below, so as not to be a pixel too wide.
            scale = min((width - 0.01) / across, _MAX_SIDE / max(across, down))
            bitmap = page.render(scale=scale, grayscale=grey, draw_annots=not grey, may_draw_forms=False)
            return bitmap.to_pil().copy()
    except (pypdfium2.PdfiumError, ValueError, IndexError) as error:
        raise BusinessRule("The page cannot be drawn.") from error


def _image(path: Path, index: int, width: int) -> Image.Image:
    try:
        with Image.open(path) as image:
            image.seek(index)
            image.draft("RGB", (width, width))
            picture = _opaque(image)
    except (OSError, EOFError, SyntaxError, ValueError, Warning, Image.DecompressionBombError) as error:
        raise BusinessRule("The image cannot be read.") from error
    height = max(1, min(_MAX_SIDE, round(picture.height * width / picture.width)))
    return picture.resize((width, height), Image.Resampling.BILINEAR, reducing_gap=2.0)


def _image_pdf(source: Path) -> io.BytesIO:
    """The images of the file as a PDF without any date or random identifier."""
    pdf = io.BytesIO()
    try:
        with Image.open(source) as image:
            image.load()  # img2pdf would carry a JPEG that is cut short
            dpi: tuple[float, float] = image.info.get("dpi", (_USUAL_DPI, _USUAL_DPI))
            if min(dpi) < _LOWEST_DPI:
                dpi = (_USUAL_DPI, _USUAL_DPI)
            opaque = _png(_opaque(image)) if image.has_transparency_data else None
        img2pdf.convert(  # pyright: ignore[reportUnknownMemberType]
            opaque or str(source),
            outputstream=pdf,
            engine=img2pdf.Engine.internal,
            nodate=True,
            rotation=img2pdf.Rotation.ifvalid,
            layout_fun=img2pdf.get_fixed_dpi_layout_fun(dpi),  # pyright: ignore[reportUnknownMemberType]
        )
    except (*_UNREADABLE, Image.DecompressionBombError, OSError, SyntaxError, ValueError, Warning) as error:
        raise BusinessRule("The image cannot be read, or has colours that PDF/A-2b cannot carry.") from error
    pdf.seek(0)
    return pdf


def _opaque(image: Image.Image) -> Image.Image:
    if not image.has_transparency_data:
        return image.convert("RGB") if image.mode not in ("1", "L", "RGB") else image.copy()
    coloured = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", image.size, "white"), coloured).convert("RGB")


def _png(image: Image.Image) -> bytes:
    png = io.BytesIO()
    image.save(png, "PNG")
    return png.getvalue()
