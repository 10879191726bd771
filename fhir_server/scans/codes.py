"""The codes printed on a page: the folder barcode of a cover sheet and the INS datamatrix of a first page.

ANS, Guide d'implémentation de l'identité INS dans les logiciels, annexe datamatrix INS (RNIV, EXI DIF 02).
"""

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Final, Literal

import zxingcpp
from PIL import Image, ImageFilter

Symbology = Literal["code128", "code39", "datamatrix"]

_FORMATS: Final[dict[zxingcpp.BarcodeFormat, Symbology]] = {
    zxingcpp.BarcodeFormat.Code128: "code128",
    zxingcpp.BarcodeFormat.Code39: "code39",
    zxingcpp.BarcodeFormat.DataMatrix: "datamatrix",
}
_ALL: Final = zxingcpp.BarcodeFormats(list(_FORMATS))
_LINEAR: Final = zxingcpp.BarcodeFormats([zxingcpp.BarcodeFormat.Code128, zxingcpp.BarcodeFormat.Code39])

# Code 39 has no check character, so a ruled table can look like a short one: shorter readings are not believed.
_SHORTEST_CODE39: Final = 6

# A code that can be read at all covers 3 x 3 whole cells of this many pixels, each about half black: 36 modules of
# 2 pixels and more for an INS datamatrix. Written and printed lines leave white between them.
_CELL: Final = 20
_DARK: Final = 0.78

# From this width on (A4 at 250 dpi), half the size of a page is enough to see where codes may be.
_FINE: Final = 2000


@dataclass(frozen=True, slots=True)
class PageCode:
    """A code read on a page (counted from 1); `text` keeps control characters, such as GS (0x1D)."""

    page: int
    symbology: Symbology
    text: str


def read_codes(image: Image.Image, page: int, *, thorough: bool = False) -> tuple[PageCode, ...]:
    """Return the Code 128, Code 39 and DataMatrix codes of a page image, without duplicates.

    The quick reading takes every code, turned or not, where the page is dark enough to hold one, and elsewhere upright
    linear codes; of those that are both lower than 5 mm and finer than 0.3 mm a bar, it may miss some at 300 dpi.
    `thorough` looks everywhere, at reduced sizes and inverted too: some 20 times slower, for a cover sheet
    on which the quick reading found nothing.
    """
    grey = image if image.mode == "L" else image.convert("L")
    if thorough:
        return _distinct(page, _scan(grey, rotate=True, everything=True))
    scale = sketch_scale(grey.width)
    return read_sketched_codes(grey.reduce(scale) if scale > 1 else grey, scale, page, lambda _bottom: grey)


def sketch_scale(width: int) -> int:
    """By how much a page image of this many pixels across may be reduced for `read_sketched_codes`."""
    return 2 if width >= _FINE else 1


def read_sketched_codes(
    sketch: Image.Image, scale: int, page: int, whole: Callable[[int], Image.Image]
) -> tuple[PageCode, ...]:
    """The same from a grey `sketch`, the page reduced by `scale` (see `sketch_scale`).

    `whole(bottom)` is asked only where the sketch is dark enough to hold a code, once, for the page in its full size
    down to that row at least.
    """
    found = _scan(sketch, _LINEAR)
    boxes = list(_dark_bands(sketch, _CELL // scale))
    if boxes:
        page_image = whole(max(bottom for _, _, _, bottom in boxes) * scale)
        for left, top, right, bottom in boxes:
            found += _scan(page_image.crop((left * scale, top * scale, right * scale, bottom * scale)), rotate=True)
    return _distinct(page, found)


def _scan(
    image: Image.Image,
    formats: zxingcpp.BarcodeFormats = _ALL,
    *,
    rotate: bool = False,
    everything: bool = False,
) -> list[zxingcpp.Barcode]:
    # Given a Pillow image, zxing-cpp asks it for its bytes twice; given a view, it does not keep them alive.
    pixels = image.tobytes()
    return zxingcpp.read_barcodes(
        zxingcpp.ImageView(pixels, image.width, image.height, zxingcpp.ImageFormat.Lum),
        formats=formats,
        try_rotate=rotate,
        try_downscale=everything,
        try_invert=everything,
        text_mode=zxingcpp.TextMode.Plain,
    )


def _distinct(page: int, found: Iterable[zxingcpp.Barcode]) -> tuple[PageCode, ...]:
    codes = (PageCode(page, _FORMATS[code.format], code.text) for code in found if code.format in _FORMATS)
    return tuple(
        dict.fromkeys(code for code in codes if code.symbology != "code39" or len(code.text) >= _SHORTEST_CODE39)
    )


def _dark_bands(page: Image.Image, cell: int) -> Iterator[tuple[int, int, int, int]]:
    """Boxes of the page that are dark over 3 x 3 cells of `cell` pixels, one for each band of rows that has some."""
    cells = page.reduce(cell)
    if min(cells.size) < 3 * 3:
        yield (0, 0, *page.size)
        return
    paper = _percentile(cells.histogram(), 0.75)
    dark = cells.point([255 if level < paper * _DARK else 0 for level in range(256)])
    # Eroded by one cell, then grown by four: the cells that a code's edge cuts and its quiet zone come back, and its
    # parts join. A box blur does it faster than a rank filter.
    cores = dark.filter(ImageFilter.BoxBlur(1)).point([0] * 255 + [255])
    areas = cores.filter(ImageFilter.BoxBlur(4))
    top: int | None = None
    _, rows = areas.getprojection()
    for y, inside in enumerate([*rows, 0]):
        if inside and top is None:
            top = y
        elif not inside and top is not None:
            left, _, right, _ = areas.crop((0, top, areas.width, y)).getbbox() or (0, 0, areas.width, 0)
            yield (left * cell, top * cell, min(page.width, right * cell), min(page.height, y * cell))
            top = None


def _percentile(histogram: Sequence[int], share: float) -> int:
    below, wanted = 0, share * sum(histogram)
    for level, count in enumerate(histogram):
        below += count
        if below >= wanted:
            return level
    return 255


# The INS datamatrix, ECC200: a header of 26 characters, `IS` (type), `01` (version) and 22 zeros, then fields.
# Each field is an identifier and its value:
#   S1 matricule INS with its key (15)    S2 OID of its assigning authority (19 to 20)
#   S3 birth given names, separated by a space (1 to 100)    S4 birth name (1 to 100)
#   S5 sex, M or F (1)    S6 birth date JJ-MM-AAAA (10)    S7 INSEE code of the birth place (5), optional
# GS (0x1D) closes a field of variable length that is neither full nor the last.
_HEADER: Final = "IS01" + "0" * 22
_NUMBERS: Final = re.compile(r"IS\d{24}")
_GS: Final = "\x1d"
_LENGTHS: Final[dict[str, tuple[int, int]]] = {
    "S1": (15, 15),
    "S2": (19, 20),
    "S3": (1, 100),
    "S4": (1, 100),
    "S5": (1, 1),
    "S6": (10, 10),
    "S7": (5, 5),
}
_OPTIONAL: Final = frozenset({"S7"})

# INS-NIR, INS-NIA, test and demonstration.
_OID: Final = re.compile(r"1\.2\.250\.1\.213\.1\.4\.(8|9|10|11)")
_MATRICULE: Final = re.compile(r"\d{5}(\d{2}|2[AB])\d{8}")
_BIRTH_DATE: Final = re.compile(r"(\d{2})-(\d{2})-(\d{4})")
_BIRTH_PLACE: Final = re.compile(r"\d[0-9AB]\d{3}")
_CORSICA: Final = {"2A": "19", "2B": "18"}


@dataclass(frozen=True, slots=True)
class DatamatrixIns:
    """A matricule INS with its OID (digits and dots) and the strict traits, as an INS datamatrix carries them.

    `matricule` has 15 characters, key included; `sex` is M or F; `birth_date` is ISO 8601; `birth_place` is an INSEE
    code of 5 characters. What has been decoded is still to be compared with the worker's own traits (RNIV).
    """

    matricule: str
    oid: str
    given_names: tuple[str, ...]
    birth_name: str
    sex: str
    birth_date: str
    birth_place: str | None


def parse_datamatrix_ins(text: str) -> DatamatrixIns | None:
    """Read the text of a datamatrix; None when it is not an INS datamatrix.

    Raises ValueError, naming the field and no value, when it announces itself as one (type IS) and is malformed.
    """
    if not _NUMBERS.match(text):
        return None
    if not text.startswith(_HEADER):
        raise ValueError("the header is not that of version 01 of the INS datamatrix")
    fields = _fields(text[len(_HEADER) :])
    return DatamatrixIns(
        matricule=checked_matricule(fields["S1"]),
        oid=_matching(_OID, fields["S2"], "S2: the OID is not one of the matricule INS"),
        given_names=tuple(fields["S3"].split()),
        birth_name=fields["S4"],
        sex=_matching(re.compile("[MF]"), fields["S5"], "S5: the sex is neither M nor F"),
        birth_date=_iso_date(fields["S6"]),
        birth_place=_matching(_BIRTH_PLACE, fields["S7"], "S7: the birth place is not an INSEE code")
        if "S7" in fields
        else None,
    )


def write_datamatrix_ins(traits: DatamatrixIns) -> str:
    """Return the text that a datamatrix of this identity carries; the inverse of `parse_datamatrix_ins`.

    Raises ValueError, naming the field and no value, for traits that the datamatrix cannot carry.
    """
    year, month, day = date.fromisoformat(traits.birth_date).isoformat().split("-")
    values = {
        "S1": traits.matricule,
        "S2": traits.oid,
        "S3": " ".join(traits.given_names),
        "S4": traits.birth_name,
        "S5": traits.sex,
        "S6": f"{day}-{month}-{year}",
    }
    if traits.birth_place is not None:
        values["S7"] = traits.birth_place
    last = list(values)[-1]
    text = _HEADER + "".join(
        name + value + (_GS if len(value) < _LENGTHS[name][1] and name != last else "")
        for name, value in values.items()
    )
    if parse_datamatrix_ins(text) != traits:
        raise ValueError("the traits do not survive the datamatrix: a name holds a blank too many")
    return text


def _fields(body: str) -> dict[str, str]:
    fields: dict[str, str] = {}
    while body:
        name = body[:2]
        if name not in _LENGTHS:
            raise ValueError("a field has an unknown identifier")
        if name in fields:
            raise ValueError(f"{name}: the field comes twice")
        least, most = _LENGTHS[name]
        value = body[2 : 2 + most].split(_GS, 1)[0]
        if len(value) < least:
            raise ValueError(f"{name}: the field is too short")
        if not value.isprintable() or not value.strip():
            raise ValueError(f"{name}: the field holds no text, or control characters")
        fields[name] = value
        body = body[2 + len(value) :].removeprefix(_GS)
    missing = [name for name in _LENGTHS if name not in fields and name not in _OPTIONAL]
    if missing:
        raise ValueError(f"{missing[0]}: the field is missing")
    return fields


def _matching(pattern: re.Pattern[str], value: str, reason: str) -> str:
    if not pattern.fullmatch(value):
        raise ValueError(reason)
    return value


def checked_matricule(value: str) -> str:
    """The same 15 characters. Raises ValueError, naming no value, where they are no matricule or the key is wrong."""
    if not _MATRICULE.fullmatch(value):
        raise ValueError("S1: the matricule is not written as one")
    number = value[:5] + _CORSICA.get(value[5:7], value[5:7]) + value[7:13]
    if 97 - int(number) % 97 != int(value[13:]):
        raise ValueError("S1: the key of the matricule is wrong")
    return value


def _iso_date(value: str) -> str:
    parts = _BIRTH_DATE.fullmatch(value)
    if not parts:
        raise ValueError("S6: the birth date is not written JJ-MM-AAAA")
    day, month, year = (int(part) for part in parts.groups())
    try:
        return date(year, month, day).isoformat()
    except ValueError:
        raise ValueError("S6: the birth date is no day of the calendar") from None
