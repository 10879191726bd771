"""What is true of one delivered file: its form, its pages, and what is wrong with them.

ISO 19005 (PDF/A), ISO 32000-1 §12.6 (actions), ITU-T T.88 (JBIG2). The codes E05 to E07 are those of docs/scan_lot.md.
"""

import ctypes
import io
import math
import re
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal

import pikepdf
from PIL import Image

from fhir_server.outcomes import BusinessRule
from fhir_server.scans.codes import PageCode, read_codes, read_sketched_codes, sketch_scale
from fhir_server.scans.rendition import render_page

_MAGIC: Final = (
    (b"%PDF-", "application/pdf"),
    (b"II*\x00", "image/tiff"),
    (b"MM\x00*", "image/tiff"),
    (b"II+\x00", "image/tiff"),
    (b"MM\x00+", "image/tiff"),
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"\x89PNG\r\n\x1a\n", "image/png"),
)
_EXTENSIONS: Final = {
    ".pdf": "application/pdf",
    ".tif": "image/tiff",
    ".tiff": "image/tiff",
    ".jpg": "image/jpeg",
    ".jpeg": "image/jpeg",
    ".png": "image/png",
}
_PILLOW_FORMATS: Final = {"image/tiff": "TIFF", "image/jpeg": "JPEG", "image/png": "PNG"}
_UNKNOWN: Final = "application/octet-stream"

# Where each kind of file says that it ends, and in how many last bytes to look for it.
_ENDS: Final = {
    "application/pdf": (b"%%EOF", 1024),
    "image/jpeg": (b"\xff\xd9", 1024),
    "image/png": (b"IEND", 64),
}

# A0 at 230 dpi, A4 at 900: below the size at which Pillow itself warns of a decompression bomb.
_MAX_PIXELS: Final = 85_000_000
_MAX_PAGES: Final = 10_000
_MAX_OBJECTS: Final = 1_000_000
# What one image may take decoded, when it can only be looked at by decoding all of it.
_MAX_DECODED: Final = 80_000_000
_MAX_METADATA: Final = 4_000_000
_MAX_CONTENT: Final = 1_000_000
_MAX_DRAWN: Final = 5_000
_MAX_FORM_DEPTH: Final = 12

# Bounds what one stream (an object stream, a page content) may inflate to; qpdf keeps limits for the whole process.
_ = pikepdf.settings.set_qpdf_limits(flate_max_memory=256_000_000)

# A page box is rounded to whole points, so that a scan at 200 dpi may compute as 199.7.
_DPI_TOLERANCE: Final = 0.98


@dataclass(frozen=True, slots=True)
class Finding:
    """Something wrong: a code of docs/scan_lot.md, what it is (English, naming no person), and on which page (from 1).

    A fatal finding is one for which the folder cannot be accepted; another is for a person to know.
    """

    code: str
    detail: str
    page: int | None
    fatal: bool


@dataclass(frozen=True, slots=True)
class Inspection:
    """What was found in a file.

    `media_type` is the one of its content, whatever its name says; `pdfa` is its claim (`2B`), not validated; `dpi` is
    the lowest resolution of its pages, None where no page is a scan or says it. Pages count from 1.
    """

    media_type: str
    pages: int
    pdfa: str | None
    dpi: int | None
    findings: tuple[Finding, ...]
    codes: tuple[PageCode, ...]
    blank_pages: tuple[int, ...]
    black_pages: tuple[int, ...]


def inspect(
    path: Path,
    *,
    minimum_dpi: int = 200,
    read_codes_on: Literal["first", "every"] = "every",
    require_pdfa: bool = False,
) -> Inspection:
    """Inspect a PDF, TIFF, JPEG or PNG file, reading it from disk page by page.

    - E05, fatal: empty, cut short, of another type than its name says, not openable, encrypted, active content, or
      larger than can safely be opened. A PDF without a claim of PDF/A is E05 too, fatal only if `require_pdfa`.
    - E06, fatal: a page below `minimum_dpi`, or in lossy JBIG2. Not fatal: an image that does not say its resolution.
    - E07, fatal: a page all black or whose image is cut short or damaged. Not fatal: a blank page (a back scanned with
      its front is often blank), or one too large to be looked at.

    Codes are read on the first page or on every one. Never raises for what is in the file; OSError when it cannot be
    read from disk. Takes 5 to 60 ms a page: call it in a worker thread.
    """
    report = _Report(minimum_dpi, read_codes_on)
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(16)
    if size == 0:
        report.find("E05", "the file is empty")
        return report.close(_UNKNOWN)
    media_type = next((name for magic, name in _MAGIC if head.startswith(magic)), _UNKNOWN)
    if media_type == _UNKNOWN:
        report.find("E05", "the file is neither PDF, TIFF, JPEG nor PNG")
        return report.close(media_type)
    if _EXTENSIONS.get(path.suffix.lower(), media_type) != media_type:
        report.find("E05", f"the name says {path.suffix.lower()} and the content is {media_type}")
    if not _has_end(path, size, media_type):
        report.find("E05", "the file is cut short: its end-of-file marker is missing")
        return report.close(media_type)
    if media_type == "application/pdf":
        _inspect_pdf(path, report, require_pdfa)
    else:
        _inspect_image(path, media_type, report)
    return report.close(media_type)


def prepare_process() -> None:
    """Let this process keep the memory of a page for the next one; for the processes that do nothing but inspect.

    A page decoded is 9 MB. Given back to the kernel after each page and taken again, it costs a third of the
    processor's time in page faults. Nothing happens where the C library is not glibc.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, 32 * 1024 * 1024)
        mallopt(_M_TRIM_THRESHOLD, 64 * 1024 * 1024)


# malloc.h of glibc.
_M_TRIM_THRESHOLD: Final = -1
_M_MMAP_THRESHOLD: Final = -3


_Ink = Literal["ink", "blank", "black"]


@dataclass(frozen=True, slots=True)
class _Look:
    """What a look at a page gave."""

    ink: _Ink
    codes: tuple[PageCode, ...] = ()


class _DamagedError(Exception):
    """An image that cannot be decoded to its end; the message says why."""


@dataclass(slots=True)
class _Report:
    """What is gathered while the pages go by."""

    minimum_dpi: int
    read_codes_on: Literal["first", "every"]
    pages: int = 0
    pdfa: str | None = None
    dpi: int | None = None
    findings: list[Finding] = field(default_factory=list)
    codes: list[PageCode] = field(default_factory=list)
    blank: list[int] = field(default_factory=list)
    black: list[int] = field(default_factory=list)

    def find(self, code: str, detail: str, page: int | None = None, *, fatal: bool = True) -> None:
        finding = Finding(code, detail, page, fatal)
        if finding not in self.findings:
            self.findings.append(finding)

    def wants_codes(self, page: int) -> bool:
        return page == 1 or self.read_codes_on == "every"

    def resolution(self, page: int, dpi: float) -> None:
        self.dpi = round(dpi) if self.dpi is None else min(self.dpi, round(dpi))
        if dpi < self.minimum_dpi * _DPI_TOLERANCE:
            self.find("E06", f"{round(dpi)} dpi, below the {self.minimum_dpi} dpi agreed", page)

    def look(self, page: int, look: _Look) -> None:
        self.codes.extend(look.codes)
        if look.ink == "black":
            self.black.append(page)
            self.find("E07", "the page is all black", page)
        elif look.ink == "blank":
            self.blank.append(page)
            self.find("E07", "the page is blank", page, fatal=False)

    def close(self, media_type: str) -> Inspection:
        return Inspection(
            media_type=media_type,
            pages=self.pages,
            pdfa=self.pdfa,
            dpi=self.dpi,
            findings=tuple(self.findings),
            codes=tuple(self.codes),
            blank_pages=tuple(self.blank),
            black_pages=tuple(self.black),
        )


def _has_end(path: Path, size: int, media_type: str) -> bool:
    marker, within = _ENDS.get(media_type, (b"", 0))
    with path.open("rb") as file:
        file.seek(max(0, size - within))
        return marker in file.read(within)


def _inspect_image(path: Path, media_type: str, report: _Report) -> None:
    try:
        with Image.open(path, formats=(_PILLOW_FORMATS[media_type],)) as image:
            frames: int = getattr(image, "n_frames", 1) if media_type == "image/tiff" else 1
            report.pages = frames
            if frames > _MAX_PAGES:
                report.find("E05", "the file has more pages than can safely be opened")
                return
            for page in range(1, frames + 1):
                image.seek(page - 1)
                if not _is_safe(image.width, image.height):
                    report.find("E05", "the image is larger than can safely be opened", page)
                    continue
                dpi: tuple[float, float] = image.info.get("dpi", (0, 0))
                if min(dpi) > 1:
                    report.resolution(page, min(dpi))
                else:
                    report.find("E06", "the image does not say its resolution", page, fatal=False)
                try:
                    grey = image.convert("L")
                except _UNDECODABLE:
                    report.find("E07", "the page image is cut short or damaged", page)
                    continue
                report.look(page, _look_at(grey, page, report.wants_codes(page)))
    except _UNDECODABLE:
        report.find("E05", "the image cannot be opened")


def _is_safe(width: int, height: int) -> bool:
    return 0 < width * height <= _MAX_PIXELS


def _look_at(grey: Image.Image, page: int, wants_codes: bool) -> _Look:
    return _Look(_ink_of(grey), read_codes(grey, page) if wants_codes else ())


def _ink_of(grey: Image.Image) -> _Ink:
    scale = max(1, grey.width // _SMALL)
    top = grey.crop((0, 0, grey.width, max(1, grey.height // _TOP)))
    return "ink" if _has_plain_ink(top.reduce(scale)) else _ink(grey.reduce(scale))


# A page is looked at some 300 pixels wide: paper grain and JPEG artefacts are gone, a line of writing is still there.
_SMALL: Final = 300
# Shadows along the edges of the sheet are no ink.
_EDGE: Final = 0.03
# Ink is that much (of 255) darker than the paper, more than the other side showing through; a page with less of it
# than a few characters is blank.
_CONTRAST: Final = 48
_LEAST_INK: Final = 0.0003
# A page is black when nearly all of it is darker than this.
_BLACK: Final = 64
_NEARLY_ALL: Final = 0.98
_TOP: Final = 4
# After its end marker a JPEG may be padded, to a block of the disk at most.
_PADDING: Final = 4096


def _ink(small: Image.Image) -> _Ink:
    histogram = _inside(small).histogram()
    if _percentile(histogram, _NEARLY_ALL) < _BLACK:
        return "black"
    return "ink" if _inked(histogram) >= _LEAST_INK else "blank"


def _has_plain_ink(top: Image.Image) -> bool:
    """True when the top quarter of a page is enough to know that the page is neither blank nor black."""
    histogram = _inside(top).histogram()
    return _percentile(histogram, 0.5) >= _BLACK and _inked(histogram) >= _LEAST_INK * _TOP


def _inside(image: Image.Image) -> Image.Image:
    across, down = round(image.width * _EDGE), round(image.height * _EDGE)
    return image.crop((across, down, image.width - across, image.height - down))


def _inked(histogram: list[int]) -> float:
    paper = _percentile(histogram, 0.75)
    return sum(histogram[: max(0, paper - _CONTRAST)]) / max(1, sum(histogram))


def _percentile(histogram: list[int], share: float) -> int:
    below, wanted = 0, share * sum(histogram)
    for level, count in enumerate(histogram):
        below += count
        if below >= wanted:
            return level
    return len(histogram) - 1


def _look_at_jpeg(data: bytes, page: int, wants_codes: bool) -> _Look:
    """Look at JPEG data, decoding no more of it than is needed; raises _DamagedError."""
    if not data[-_PADDING:].rstrip(b"\x00\r\n ").endswith(b"\xff\xd9"):
        raise _DamagedError("the page image is cut short")
    if wants_codes:
        scale = sketch_scale(_jpeg_size(data)[0])
        sketch = _grey_jpeg(data, scale)
        codes = read_sketched_codes(sketch, scale, page, lambda bottom: _rows_of_jpeg(data, bottom, sketch, scale))
        return _Look(_ink_of(sketch), codes)
    top = _cut_jpeg(data, _jpeg_size(data)[1] // _TOP)
    if top and _has_plain_ink(_grey_jpeg(top, 8)):
        return _Look("ink")
    return _Look(_ink(_grey_jpeg(data, 8)))


def _jpeg_size(data: bytes) -> tuple[int, int]:
    try:
        with Image.open(io.BytesIO(data), formats=("JPEG",)) as image:
            return image.size
    except _UNDECODABLE:
        raise _DamagedError("the page image is damaged") from None


def _grey_jpeg(data: bytes | bytearray, scale: int) -> Image.Image:
    try:
        with Image.open(io.BytesIO(data), formats=("JPEG",)) as image:
            if not _is_safe(image.width, image.height):
                raise _DamagedError("the page image is larger than can safely be opened")
            image.draft("L", (max(1, image.width // scale), max(1, image.height // scale)))
            image.load()
            return image if image.mode == "L" else image.convert("L")
    except _UNDECODABLE:
        raise _DamagedError("the page image is damaged") from None


def _rows_of_jpeg(data: bytes, rows: int, sketch: Image.Image, scale: int) -> Image.Image:
    """The JPEG in full size down to `rows` at least; `sketch` itself where that is the full size."""
    return sketch if scale == 1 else _grey_jpeg(_cut_jpeg(data, rows) or data, 1)


def _cut_jpeg(data: bytes, rows: int) -> bytearray | None:
    """The same JPEG announcing no more than `rows`, so that decoding stops there; None if it is progressive."""
    at = 2
    while at + 9 < len(data) and data[at] == 0xFF:
        marker, length = data[at + 1], int.from_bytes(data[at + 2 : at + 4], "big")
        if marker in (0xC0, 0xC1):
            cut = bytearray(data)
            height = int.from_bytes(data[at + 5 : at + 7], "big")
            cut[at + 5 : at + 7] = max(1, min(height, rows)).to_bytes(2, "big")
            return cut
        if 0xC2 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            return None
        at += 2 + length
    return None


def _inspect_pdf(path: Path, report: _Report, require_pdfa: bool) -> None:
    try:
        # Not mapped into memory: the pages of a mapped file count as the process's own.
        with pikepdf.open(path, access_mode=pikepdf.AccessMode.stream, attempt_recovery=False) as pdf:
            if pdf.is_encrypted:
                report.find("E05", "the PDF is encrypted")
                return
            if len(pdf.objects) > _MAX_OBJECTS or len(pdf.pages) > _MAX_PAGES:
                report.find("E05", "the PDF has more pages or objects than can safely be opened")
                return
            report.pages = len(pdf.pages)
            if not report.pages:
                report.find("E05", "the PDF has no page")
            for what in _active_content(pdf):
                report.find("E05", f"active content: {what}")
            report.pdfa = _pdfa_claim(pdf)
            if report.pdfa is None:
                report.find("E05", "the PDF does not claim to be PDF/A", fatal=require_pdfa)
            for number, page in enumerate(pdf.pages, 1):
                _inspect_page(path, page, number, report)
    except pikepdf.PasswordError:
        report.find("E05", "the PDF is encrypted")
    except _MALFORMED:
        report.find("E05", "the PDF cannot be opened: its structure is damaged")


def _pdfa_claim(pdf: pikepdf.Pdf) -> str | None:
    metadata = pdf.Root.get("/Metadata")
    if not isinstance(metadata, pikepdf.Stream) or int(metadata.get("/Length", 0)) > _MAX_METADATA:
        return None
    xmp = metadata.read_bytes()
    part = _PDFA_PART.search(xmp)
    if not part:
        return None
    level = _PDFA_LEVEL.search(xmp)
    return (part[1] + (level[1].upper() if level else b"")).decode("ascii")


_PDFA_PART: Final = re.compile(rb"pdfaid:part\s*(?:=\s*[\"']|>)\s*(\d)")
_PDFA_LEVEL: Final = re.compile(rb"pdfaid:conformance\s*(?:=\s*[\"']|>)\s*([A-Za-z])")

# ISO 32000-1 table 198 and its supplements: the actions that run, call out or fetch something.
_ACTIONS: Final = {
    "/GoToE": "GoToE action",
    "/GoToR": "GoToR action",
    "/ImportData": "ImportData action",
    "/JavaScript": "JavaScript",
    "/Launch": "Launch action",
    "/Movie": "Movie action",
    "/Rendition": "Rendition action",
    "/RichMediaExecute": "RichMediaExecute action",
    "/Sound": "Sound action",
    "/SubmitForm": "SubmitForm action",
}
_ANNOTATIONS: Final = {
    "/3D": "3D annotation",
    "/FileAttachment": "embedded file",
    "/Movie": "Movie annotation",
    "/RichMedia": "RichMedia annotation",
    "/Screen": "Screen annotation",
    "/Sound": "Sound annotation",
}
_KEYS: Final = {
    "/JS": "JavaScript",
    "/JavaScript": "JavaScript",
    "/XFA": "XFA form",
    "/EmbeddedFiles": "embedded file",
    "/EF": "embedded file",
    "/NeedsRendering": "XFA form",
}


def _active_content(pdf: pikepdf.Pdf) -> Iterator[str]:
    """Name each thing in the file that can act, wherever it hangs: every object is looked at, reached or not."""
    for root in pdf.objects:
        waiting: list[object] = [root]
        while waiting:
            item = waiting.pop()
            if isinstance(item, pikepdf.Array):
                waiting.extend(part for part in item if _is_direct(part))
            elif isinstance(item, (pikepdf.Dictionary, pikepdf.Stream)):
                for key, value in item.items():
                    if key in _KEYS and value is not False:
                        yield _KEYS[key]
                    elif key == "/S" and (action := _ACTIONS.get(str(value))):
                        yield action
                    elif key == "/Subtype" and (annotation := _ANNOTATIONS.get(str(value))):
                        yield annotation
                    elif _is_direct(value):
                        waiting.append(value)


def _is_direct(value: object) -> bool:
    """True for an array or dictionary that is not itself one of the file's objects."""
    return isinstance(value, (pikepdf.Array, pikepdf.Dictionary)) and not value.is_indirect


@dataclass(frozen=True, slots=True)
class _PlacedImage:
    """An image as a page draws it; sizes in inches."""

    image: pikepdf.Stream
    across: float
    down: float

    @property
    def dpi(self) -> float:
        return min(int(self.image.Width) / self.across, int(self.image.Height) / self.down)


def _inspect_page(path: Path, page: pikepdf.Page, number: int, report: _Report) -> None:
    left, bottom, right, top = (float(edge) for edge in page.cropbox)
    unit = float(page.obj.get("/UserUnit", 1)) / 72
    across, down = abs(right - left) * unit, abs(top - bottom) * unit
    if not across * down:
        report.find("E05", "the page has no size", number)
        return
    try:
        images = [placed for placed in _placed_images(page, unit) if placed.across * placed.down > 0]
    except _TooIntricateError:
        report.find("E05", "the page draws more than can safely be followed", number)
        return
    if not all(_is_safe(int(placed.image.Width), int(placed.image.Height)) for placed in images):
        report.find("E05", "a page image is larger than can safely be opened", number)
        return
    for placed in images:
        if _is_lossy_jbig2(placed.image):
            report.find("E06", _LOSSY_JBIG2, number)
    shares = [placed.across * placed.down / (across * down) for placed in images]
    if sum(shares) >= _SCANNED:
        # Of a background and a text mask over it, or of strips, the finest says the resolution; a logo does not.
        seen = [placed.dpi for placed, share in zip(images, shares, strict=True) if share >= _STRIP]
        if seen:
            report.resolution(number, max(seen))
    try:
        whole = len(images) == 1 and shares[0] >= _WHOLE
        wants_codes = report.wants_codes(number)
        look = _look_at_page(path, images, number, whole=whole, across=across, wants_codes=wants_codes)
        report.look(number, look)
    except _DamagedError as damage:
        report.find("E07", str(damage), number)
    except _TooLargeError:
        report.find("E07", "the page image is too large to be looked at", number, fatal=False)


# A page is a scan when images cover this share of it; an image below that other share is a logo or a stamp.
_SCANNED: Final = 0.5
_STRIP: Final = 0.05
_WHOLE: Final = 0.85

_CODE_DPI: Final = 300
_INK_WIDTH: Final = 600

# A bilevel stream of more than this many bits for a pixel holds writing: 11 kB for an A4 page at 300 dpi.
_WRITTEN: Final = 0.01


class _TooLargeError(Exception):
    """A page that would take too much memory to draw."""


def _look_at_page(
    path: Path, images: list[_PlacedImage], number: int, *, whole: bool, across: float, wants_codes: bool
) -> _Look:
    """Look at the one image of a scanned page where that is enough, at the page as drawn otherwise."""
    if whole:
        look = _look_at_plain_image(images[0].image, number, wants_codes)
        if look and look.ink == "ink":
            return look
    if sum(_decoded_size(placed.image) for placed in images) > _MAX_DECODED:
        raise _TooLargeError
    width = max(_INK_WIDTH, round(across * _CODE_DPI)) if wants_codes else _INK_WIDTH
    try:
        return _look_at(render_page(path, number - 1, width=width, grey=True), number, wants_codes)
    except BusinessRule:
        raise _DamagedError("the page cannot be drawn") from None


def _look_at_plain_image(image: pikepdf.Stream, number: int, wants_codes: bool) -> _Look | None:
    """Look at an image that is drawn as it is stored, in JPEG or G4; None for any other."""
    if any(key in image for key in ("/ImageMask", "/Mask", "/SMask")) or not _is_decoded_straight(image):
        return None
    kind = _filter(image)
    if kind == "/DCTDecode":
        return _look_at_jpeg(image.read_raw_bytes(), number, wants_codes)
    bits = int(image.get("/Length", 0)) * 8
    is_written = bits > _WRITTEN * int(image.Width) * int(image.Height)
    if kind in ("/CCITTFaxDecode", "/JBIG2Decode") and is_written and not wants_codes:
        return _Look("ink")
    if kind != "/CCITTFaxDecode":
        return None
    try:
        return _look_at(pikepdf.PdfImage(image).as_pil_image().convert("L"), number, wants_codes)
    except (*_UNDECODABLE, *_MALFORMED):
        raise _DamagedError("the page image is damaged") from None


def _is_decoded_straight(image: pikepdf.Stream) -> bool:
    ranges = image.get("/Decode")
    return not isinstance(ranges, pikepdf.Array) or [float(end) for end in ranges] == [0, 1] * (len(ranges) // 2)


def _filter(image: pikepdf.Stream) -> str:
    """The only filter of a stream, or the empty string."""
    kind = image.get("/Filter")
    if isinstance(kind, pikepdf.Array) and len(kind) == 1:
        kind = kind[0]
    return str(kind) if isinstance(kind, pikepdf.Name) else ""


def _decoded_size(image: pikepdf.Stream) -> int:
    """Bytes that an image takes decoded, at most (four components)."""
    bits = int(image.get("/BitsPerComponent", 8))
    grey = bits == 1 or image.get("/ColorSpace") == pikepdf.Name.DeviceGray
    return int(image.Width) * int(image.Height) * bits * (1 if grey else 3) // 8


class _TooIntricateError(Exception):
    """A page whose forms draw forms beyond what any scanner makes; drawing it might never end."""


def _placed_images(page: pikepdf.Page, unit: float) -> Iterator[_PlacedImage]:
    contents = page.obj.get("/Contents")
    streams = list(contents) if isinstance(contents, pikepdf.Array) else [contents]
    if sum(int(stream.get("/Length", 0)) for stream in streams if isinstance(stream, pikepdf.Stream)) > _MAX_CONTENT:
        raise _TooIntricateError
    resources = page.obj.get("/Resources", pikepdf.Dictionary())
    yield from _drawn(page, resources, (unit, 0.0, 0.0, unit), _Budget(_MAX_DRAWN), 0)


@dataclass(slots=True)
class _Budget:
    """How much more may be drawn on a page: an object costs 1, and the content of a form 1 for each kilobyte."""

    left: int

    def spend(self, cost: int) -> None:
        self.left -= cost
        if self.left < 0:
            raise _TooIntricateError


_Matrix = tuple[float, float, float, float]


def _drawn(
    holder: pikepdf.Page | pikepdf.Object,
    resources: pikepdf.Object,
    matrix: _Matrix,
    budget: _Budget,
    depth: int,
) -> Iterator[_PlacedImage]:
    """The images that a content stream draws; `matrix` is a PDF matrix without its translation."""
    drawables = resources.get("/XObject", pikepdf.Dictionary())
    stack: list[_Matrix] = []
    for operands, operator in pikepdf.parse_content_stream(holder, "q Q cm Do"):
        match str(operator):
            case "q":
                stack.append(matrix)
            case "Q":
                matrix = stack.pop() if stack else matrix
            case "cm":
                matrix = _within(matrix, [float(number) for number in operands])
            case _:
                drawable = drawables.get(str(operands[0])) if operands else None
                if not isinstance(drawable, pikepdf.Stream):
                    continue
                budget.spend(1)
                if drawable.get("/Subtype") == pikepdf.Name.Image:
                    a, b, c, d = matrix
                    yield _PlacedImage(drawable, math.hypot(a, b), math.hypot(c, d))
                elif drawable.get("/Subtype") == pikepdf.Name.Form:
                    budget.spend(_MAX_DRAWN if depth == _MAX_FORM_DEPTH else int(drawable.get("/Length", 0)) // 1000)
                    placed = [float(number) for number in drawable.get("/Matrix", (1, 0, 0, 1, 0, 0))]
                    inner = drawable.get("/Resources", resources)
                    yield from _drawn(drawable, inner, _within(matrix, placed), budget, depth + 1)


def _within(outer: _Matrix, inner: list[float]) -> _Matrix:
    a, b, c, d = inner[:4]
    e, f, g, h = outer
    return (a * e + b * g, a * f + b * h, c * e + d * g, c * f + d * h)


# ITU-T T.88 §7.3: the segments that draw a page with dictionaries of shapes, and the one that describes the page, whose
# flags (§7.4.8.5) may promise that it is lossless in the end. A generic region (36 to 43) codes the pixels themselves.
_LOSSY_JBIG2: Final = "lossy JBIG2: shapes that look alike stand for each other, a digit for another perhaps"
_JBIG2_SHAPES: Final = frozenset({4, 6, 7, 20, 22, 23})
_JBIG2_PAGE: Final = 48
_JBIG2_FLAGS: Final = 16


def _is_lossy_jbig2(image: pikepdf.Stream) -> bool:
    """True when shapes were, or may have been, replaced by others that look alike."""
    if _filter(image) != "/JBIG2Decode":
        return False
    shapes, lossless = False, False
    for kind, data in _jbig2_segments(image.read_raw_bytes()):
        shapes = shapes or kind in _JBIG2_SHAPES
        if kind == _JBIG2_PAGE and len(data) > _JBIG2_FLAGS:
            lossless = bool(data[_JBIG2_FLAGS] & 1)
    return shapes and not lossless


def _jbig2_segments(stream: bytes) -> Iterator[tuple[int, bytes]]:
    """The type and data of each segment (§7.2) of an embedded JBIG2 stream, as far as it is well formed."""
    at = 0
    try:
        while at < len(stream):
            number, flags, referred = struct.unpack_from(">IBB", stream, at)
            at += 6
            count = referred >> 5
            if count > 4:
                (long_count,) = struct.unpack_from(">I", stream, at - 1)
                count = long_count & 0x1FFFFFFF
                at += 3 + (count + 8) // 8
            at += count * (1 if number <= 256 else 2 if number <= 65536 else 4) + (4 if flags & 0x40 else 1)
            (length,) = struct.unpack_from(">I", stream, at)
            at += 4
            yield flags & 0x3F, stream[at : at + length]
            at += length
    except struct.error:
        return


# What the libraries raise for content that is not as it should be.
_MALFORMED: Final = (
    pikepdf.PikepdfError,
    pikepdf.PdfError,
    ArithmeticError,
    AttributeError,
    LookupError,
    RecursionError,
    RuntimeError,
    TypeError,
    ValueError,
)
_UNDECODABLE: Final = (
    Image.DecompressionBombError,
    Warning,
    EOFError,
    OSError,
    SyntaxError,
    ValueError,
    TypeError,
    KeyError,
    struct.error,
    zlib.error,
)
