"""A PDF without some of its pages, and with nothing left of them.

ISO 32000-1. The new file is built from nothing: what is not copied on purpose is not in it. No earlier revision,
outline, attachment, form, script, thumbnail, metadata or structure of the original comes along.
"""

import io
import os
import re
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Final

import pikepdf
from pikepdf import Array, Dictionary, Name, Object, Page, Pdf, Stream

from fhir_server.outcomes import BadParameter, BusinessRule
from fhir_server.scans.rendition import render_page

_DPI: Final = 300
_JPEG_QUALITY: Final = 90
_POINTS_PER_INCH: Final = 72
_KEPT: Final = ("/MediaBox", "/CropBox", "/Rotate", "/UserUnit")
_INHERITED: Final = frozenset({"/MediaBox", "/CropBox", "/Rotate", "/Resources"})
_NAMED_BY: Final = {"Do": "/XObject", "Tf": "/Font", "gs": "/ExtGState", "sh": "/Shading"}
_INVISIBLE: Final = frozenset({"/Link", "/Popup"})
_COLOURS: Final = frozenset({"/ColorSpace", "/CS"})
"""Where palettes and ICC profiles are, which say nothing of a page."""
_BESIDE: Final = (
    "/AF",
    "/Metadata",
    "/OPI",
    "/PieceInfo",
    "/StructParent",
    "/StructParents",
    "/Thumb",
    "/LastModified",
)
"""What an image or form may carry that nobody sees: files, descriptions, private data of programs."""
_SUBSET: Final = re.compile(r"/[A-Z]{6}\+")
_DEEPEST: Final = 40
_BROKEN: Final = (pikepdf.PdfError, OSError, ValueError, TypeError, LookupError, ArithmeticError, RuntimeError)
"""What is raised on the way through a file whose objects are not what they should be: a text for a side of the page, a
turn that is no number, a font whose name is no text.
"""


def without_pages(source: Path, target: Path, pages: Collection[int]) -> int:
    """Write the PDF `source` without `pages` (from 1) to `target`, and return how many pages are left.

    A page that stays is copied as it is with its text layer, unless something of a removed page would come along: an
    image, form, pattern or subset of a font that both use, layers that may be hidden, notes and stamps over it. Such a
    page is drawn instead, at 300 dpi and without text. When it fails, `target` is as it was.

    Raises BadParameter for a page that there is not, BusinessRule for what is no PDF that can be read, and where no
    page would be left.
    """
    part = target.with_name(f".{target.name}.part")
    try:
        with pikepdf.open(source) as pdf, pikepdf.new() as made:
            _must_be_there(len(pdf.pages), pages)
            for index in _faithful(pdf, made, pages):
                _append_drawn(made, source, index, pdf.pages[index])
            _strip(made)
            made.save(part, deterministic_id=True, object_stream_mode=pikepdf.ObjectStreamMode.generate)
            left = len(made.pages)
        os.replace(part, target)
    except pikepdf.PasswordError as error:
        raise BusinessRule("The PDF is encrypted: nothing can be taken out of it") from error
    except _BROKEN as error:
        raise BusinessRule("The PDF cannot be read") from error
    finally:
        part.unlink(missing_ok=True)
    return left


def _must_be_there(count: int, pages: Collection[int]) -> None:
    if not pages or min(pages) < 1 or max(pages) > count:
        raise BadParameter(f"The document has the pages 1 to {count}", expression="page")
    if len(set(pages)) == count:
        raise BusinessRule("No page would be left: flag the whole document non-transmissible")


def _faithful(pdf: Pdf, made: Pdf, pages: Collection[int]) -> Iterator[int]:
    """Append in their order the pages that stay; those that must be drawn are left to the caller, by their index."""
    layered = "/OCProperties" in pdf.Root
    removed: set[tuple[int, int]] = set()
    for number in pages:
        removed |= _streams(_slimmed(pdf.pages[number - 1]) or pdf.pages[number - 1].obj)
    for index, page in enumerate(pdf.pages):
        if index + 1 in pages:
            continue
        slim = None if layered or _is_written_over(page) else _slimmed(page)
        if slim is None or _streams(slim) & removed:
            yield index
        else:
            made.pages.append(Page(pdf.make_indirect(slim)))


def _is_written_over(page: Page) -> bool:
    notes = page.obj.get("/Annots")
    return isinstance(notes, Array) and any(
        not isinstance(note, Dictionary) or str(note.get("/Subtype")) not in _INVISIBLE for note in _items(notes)
    )


def _slimmed(page: Page) -> Dictionary | None:
    """What is shown of the page, with the resources that its content names; None where that cannot be made out."""
    slim = Dictionary(Type=Name.Page)
    for key in _KEPT:
        if (value := _of(page.obj, key)) is not None:
            slim[key] = value
    if (contents := page.obj.get("/Contents")) is not None:
        slim["/Contents"] = contents
    if (group := page.obj.get("/Group")) is not None:
        slim["/Group"] = group
    resources = _of(page.obj, "/Resources")
    try:
        slim["/Resources"] = _named(page, resources) if isinstance(resources, Dictionary) else Dictionary()
    except (pikepdf.PdfError, ValueError, TypeError, LookupError):
        return None
    return slim


def _named(page: Page, resources: Dictionary) -> Dictionary:
    """Pages often share one dictionary of everything: of it what this page names, and the colours."""
    wanted: set[tuple[str, str]] = set()
    for operands, operator in pikepdf.parse_content_stream(page):
        name, last = str(operator), next(reversed(list(operands)), None)
        if name == "Tf":
            wanted.add(("/Font", str(operands[0])))
        elif name in _NAMED_BY:
            wanted.add((_NAMED_BY[name], str(last)))
        elif name in ("scn", "SCN") and isinstance(last, Name):
            wanted.add(("/Pattern", str(last)))
    kept = Dictionary()
    for kind in ("/XObject", "/Font", "/ExtGState", "/Shading", "/Pattern"):
        there = resources.get(kind)
        if isinstance(there, Dictionary):
            of_kind = {name: there[name] for group, name in wanted if group == kind and name in there}
            if of_kind:
                kept[kind] = Dictionary(of_kind)
    if isinstance(resources.get("/ColorSpace"), Dictionary):
        kept["/ColorSpace"] = resources["/ColorSpace"]
    return kept


def _of(node: Object, key: str) -> Object | None:
    """An attribute of a page, its own or inherited (ISO 32000-1, 7.7.3.4)."""
    for _ in range(_DEEPEST):
        if (value := node.get(key)) is not None:
            return value
        parent = node.get("/Parent")
        if key not in _INHERITED or not isinstance(parent, Dictionary):
            return None
        node = parent
    return None


def _streams(root: Object) -> set[tuple[int, int]]:
    """The streams that are reached from here: contents, images, forms, patterns, and subsets of fonts."""
    found: set[tuple[int, int]] = set()
    seen: set[tuple[int, int]] = set()
    pending = [root]
    while pending:
        one = pending.pop()
        if one.is_indirect:
            if one.objgen in seen:
                continue
            seen.add(one.objgen)
        if isinstance(one, Stream):
            found.add(one.objgen)
        if isinstance(one, Array):
            pending += [item for item in _items(one) if isinstance(item, Array | Dictionary | Stream)]
        elif isinstance(one, Dictionary | Stream) and not _is_whole_font(one):
            pending += [
                value
                for key, value in one.items()
                if key not in _COLOURS and key != "/Parent" and isinstance(value, Array | Dictionary | Stream)
            ]
    return found


def _strip(made: Pdf) -> None:
    """What is then reached by nothing is not saved."""
    for one in made.objects:
        if isinstance(one, Dictionary | Stream):
            for key in _BESIDE:
                if key in one:
                    del one[key]


def _is_whole_font(one: Object) -> bool:
    """A font that is there as a whole tells nothing of the text that is set in it; a subset tells its letters."""
    if one.get("/Type") != Name.Font or one.get("/Subtype") == Name.Type3:
        return False
    return not _SUBSET.match(str(one.get("/BaseFont", "")))


def _items(array: Object) -> Iterator[Object]:
    for number in range(len(array)):
        yield array[number]


def _append_drawn(made: Pdf, source: Path, index: int, page: Page) -> None:
    """The page as a picture of what is seen of it."""
    box = _of(page.obj, "/CropBox") or _of(page.obj, "/MediaBox")
    sides = [float(side) for side in _items(box)] if isinstance(box, Array) and len(box) == 4 else [0, 0, 595, 842]
    across, down = abs(sides[2] - sides[0]), abs(sides[3] - sides[1])
    if int(_of(page.obj, "/Rotate") or 0) % 180:
        across, down = down, across
    picture = render_page(source, index, width=max(1, round(across / _POINTS_PER_INCH * _DPI)))
    jpeg = io.BytesIO()
    picture.save(jpeg, "JPEG", quality=_JPEG_QUALITY, dpi=(_DPI, _DPI))
    image = Stream(made, jpeg.getvalue())
    image.stream_dict = Dictionary(
        Type=Name.XObject,
        Subtype=Name.Image,
        Width=picture.width,
        Height=picture.height,
        ColorSpace=Name.DeviceRGB,
        BitsPerComponent=8,
        Filter=Name.DCTDecode,
    )
    shown = f"q {across:.2f} 0 0 {down:.2f} 0 0 cm /Page Do Q".encode()
    drawn = Dictionary(
        Type=Name.Page,
        MediaBox=Array([0, 0, round(across, 2), round(down, 2)]),
        Resources=Dictionary(XObject=Dictionary(Page=made.make_indirect(image))),
        Contents=made.make_indirect(Stream(made, shown)),
    )
    made.pages.append(Page(made.make_indirect(drawn)))
