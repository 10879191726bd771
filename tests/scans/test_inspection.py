"""What is found in a delivered file, good or bad; the bad ones are made here."""

import io
import random
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import img2pdf
import pikepdf
import pikepdf.pdfa
import psutil
import pytest
import zxingcpp
from PIL import Image, ImageDraw

from fhir_server.scans.inspection import Finding, Inspection, inspect

REPOSITORY = Path(__file__).resolve().parents[2]
SAMPLES = REPOSITORY / "samples"
SCANS = REPOSITORY.parent / "shared" / "data" / "scans"

A4_200 = (1654, 2339)
WRITTEN, BLANK, ALL_BLACK = range(3)
TEXT = "a text about as long as what an INS datamatrix says of one person: matricule, OID, names, sex, birth date"


def sheet(kind: int = WRITTEN, size: tuple[int, int] = A4_200) -> Image.Image:
    grain = Image.frombytes(
        "L", (size[0] // 4, size[1] // 4), random.Random(7).randbytes(size[0] // 4 * (size[1] // 4))
    )
    level = 20 if kind == ALL_BLACK else 225
    image = grain.resize(size).point(lambda noise: level + noise // 12)
    if kind == WRITTEN:
        draw = ImageDraw.Draw(image)
        for y in range(size[1] // 2, size[1] // 2 + 400, 60):
            draw.text((200, y), "Visite periodique, apte", fill=30, font_size=36)
    return image


def jpeg(image: Image.Image, dpi: int = 200, **options: Any) -> bytes:
    data = io.BytesIO()
    image.save(data, "JPEG", quality=60, dpi=(dpi, dpi), **options)
    return data.getvalue()


def g4(image: Image.Image, dpi: int = 200) -> bytes:
    data = io.BytesIO()
    bilevel = image.point(lambda level: 255 if level > 128 else 0).convert("1")
    bilevel.save(data, "TIFF", compression="group4", dpi=(dpi, dpi))
    return data.getvalue()


def pdfa(path: Path, *pages: bytes) -> Path:
    with pikepdf.open(io.BytesIO(img2pdf.convert(list(pages), engine=img2pdf.Engine.internal))) as pdf:
        pikepdf.pdfa.save(pdf, path, "2b")
    return path


def changed(path: Path, change: Callable[[pikepdf.Pdf], object], **options: Any) -> Path:
    with pikepdf.open(path, allow_overwriting_input=True) as pdf:
        change(pdf)
        pdf.save(path, **options)
    return path


@pytest.fixture
def document(tmp_path: Path) -> Path:
    return pdfa(tmp_path / "document.pdf", jpeg(sheet()))


def findings(path: Path, **options: Any) -> list[Finding]:
    return list(inspect(path, **options).findings)


def fatal(path: Path, **options: Any) -> list[str]:
    return [f"{finding.code} {finding.detail}" for finding in findings(path, **options) if finding.fatal]


def test_a_good_scan_has_nothing_to_say_against_it(document: Path) -> None:
    """A PDF/A-2b of a written page at 200 dpi passes without a word."""
    assert inspect(document) == Inspection("application/pdf", 1, "2B", 200, (), (), (), ())


@pytest.mark.parametrize("path", sorted(SAMPLES.glob("1*.*")), ids=lambda path: path.name)
def test_the_samples_are_good_but_the_one_broken_on_purpose(path: Path) -> None:
    """Every sample scan passes, and the truncated one is refused for E05."""
    found = inspect(path)
    expected = ["E05"] if "broken" in path.name else []
    assert [finding.code for finding in found.findings] == expected
    assert (found.blank_pages, found.black_pages) == ((), ())


def test_a_cover_sheet_gives_the_number_of_its_folder() -> None:
    """The barcode is read on the page as it was scanned."""
    codes = inspect(SAMPLES / "100000102-couverture.pdf").codes
    assert [(code.page, code.text) for code in codes if code.symbology == "code128"] == [(1, "100000102")]
    assert any(code.symbology == "datamatrix" for code in codes)


def test_codes_are_read_on_the_first_page_only_when_asked_so(tmp_path: Path) -> None:
    """`first` saves the time of the other pages; `every` looks at them all."""
    with (
        pikepdf.open(SAMPLES / "100000101-couverture.pdf") as cover,
        pikepdf.open(SAMPLES / "100000101-aptitude.pdf") as document,
    ):
        document.pages.append(cover.pages[0])
        document.save(tmp_path / "document.pdf")
    assert inspect(tmp_path / "document.pdf", read_codes_on="first").codes == ()
    assert {code.page for code in inspect(tmp_path / "document.pdf").codes} == {2}


@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("at", [(300, 300), (300, 2900)])
def test_a_fine_code_is_read_wherever_it_stands_on_a_jpeg_page(
    tmp_path: Path, at: tuple[int, int], progressive: bool
) -> None:
    """The page is looked at in half its size first; where it may hold a code, in full, even below the first rows."""
    drawn = zxingcpp.create_barcode(TEXT, zxingcpp.BarcodeFormat.DataMatrix, force_square=True)
    drawn = drawn.to_image(scale=3)
    page = sheet(size=(2480, 3508))
    page.paste(Image.frombuffer("L", (drawn.shape[1], drawn.shape[0]), memoryview(drawn).tobytes()), at)
    path = pdfa(tmp_path / "page.pdf", jpeg(page, 300, progressive=progressive))
    assert [(code.symbology, code.text) for code in inspect(path).codes] == [("datamatrix", TEXT)]


# The file as a whole: E05.


def test_an_empty_file_is_refused(tmp_path: Path) -> None:
    """Nothing was transferred."""
    (tmp_path / "empty.pdf").write_bytes(b"")
    assert fatal(tmp_path / "empty.pdf") == ["E05 the file is empty"]


def test_a_file_that_is_no_scan_is_refused(tmp_path: Path) -> None:
    """Four formats are scans; a word processor's file is none."""
    (tmp_path / "letter.pdf").write_bytes(b"PK\x03\x04" + bytes(100))
    assert fatal(tmp_path / "letter.pdf") == ["E05 the file is neither PDF, TIFF, JPEG nor PNG"]


def test_a_name_that_lies_is_refused(tmp_path: Path) -> None:
    """A JPEG named .pdf is told, and looked at as the JPEG it is."""
    (tmp_path / "photo.pdf").write_bytes(jpeg(sheet()))
    found = inspect(tmp_path / "photo.pdf")
    assert found.media_type == "image/jpeg"
    assert found.pages == 1
    assert [finding.detail for finding in found.findings] == ["the name says .pdf and the content is image/jpeg"]


@pytest.mark.parametrize("kept", [0.2, 0.5, 0.99])
@pytest.mark.parametrize("suffix", ["pdf", "jpg", "png", "tif"])
def test_a_file_cut_short_is_refused(tmp_path: Path, suffix: str, kept: float) -> None:
    """Wherever the transfer stopped, the file is not accepted."""
    whole = tmp_path / f"whole.{suffix}"
    if suffix == "pdf":
        pdfa(whole, jpeg(sheet()))
    else:
        sheet().save(whole, dpi=(200, 200))
    content = whole.read_bytes()
    part = tmp_path / f"part.{suffix}"
    part.write_bytes(content[: int(len(content) * kept)])
    assert fatal(part)


def test_a_file_with_its_end_and_without_its_middle_is_refused(document: Path) -> None:
    """An end-of-file marker does not make a whole file."""
    content = document.read_bytes()
    document.write_bytes(content[:2000] + content[9000:])
    assert fatal(document) == ["E05 the PDF cannot be opened: its structure is damaged"]


@pytest.mark.parametrize("user", ["", "secret"])
def test_an_encrypted_pdf_is_refused(document: Path, user: str) -> None:
    """Even one that opens without a password: its readers depend on somebody's key."""
    changed(document, lambda pdf: None, encryption=pikepdf.Encryption(owner="owner", user=user))
    assert fatal(document) == ["E05 the PDF is encrypted"]


def test_a_pdf_without_page_is_refused(tmp_path: Path) -> None:
    """There is nothing to read in it."""
    pikepdf.new().save(tmp_path / "none.pdf")
    assert "E05 the PDF has no page" in fatal(tmp_path / "none.pdf")


def test_pdfa_is_wished_for_and_demanded_only_where_the_agreement_does(document: Path) -> None:
    """Without its claim a PDF is told, and refused if so asked."""

    def drop(pdf: pikepdf.Pdf) -> None:
        del pdf.Root.Metadata

    changed(document, drop)
    assert findings(document) == [Finding("E05", "the PDF does not claim to be PDF/A", None, fatal=False)]
    assert fatal(document, require_pdfa=True) == ["E05 the PDF does not claim to be PDF/A"]


SCRIPT = {"/S": pikepdf.Name.JavaScript, "/JS": pikepdf.String("app.alert(1)")}


def action(**entries: Any) -> pikepdf.Dictionary:
    return pikepdf.Dictionary({f"/{key}": value for key, value in entries.items()})


def in_outline(pdf: pikepdf.Pdf) -> None:
    entry = pdf.make_indirect(action(Title=pikepdf.String("Page 1"), A=pikepdf.Dictionary(SCRIPT)))
    pdf.Root.Outlines = pdf.make_indirect(action(First=entry, Last=entry, Count=1))


def in_annotation(pdf: pikepdf.Pdf) -> None:
    link = action(Subtype=pikepdf.Name.Link, Rect=[0, 0, 9, 9], A=action(Next=pikepdf.Dictionary(SCRIPT)))
    pdf.pages[0].Annots = pikepdf.Array([link])


def annotation(kind: str) -> Callable[[pikepdf.Pdf], None]:
    def add(pdf: pikepdf.Pdf) -> None:
        pdf.pages[0].Annots = pikepdf.Array([action(Subtype=pikepdf.Name(kind), Rect=[0, 0, 9, 9])])

    return add


def opens_with(kind: str) -> Callable[[pikepdf.Pdf], None]:
    def add(pdf: pikepdf.Pdf) -> None:
        pdf.Root.OpenAction = action(S=pikepdf.Name(kind))

    return add


def set_root(key: str, value: pikepdf.Object) -> Callable[[pikepdf.Pdf], None]:
    def add(pdf: pikepdf.Pdf) -> None:
        pdf.Root[key] = value

    return add


def page_action(pdf: pikepdf.Pdf) -> None:
    pdf.pages[0].AA = action(O=pikepdf.Dictionary(SCRIPT))


def attach(pdf: pikepdf.Pdf) -> None:
    pdf.attachments["note.txt"] = b"hello"


@pytest.mark.parametrize(
    ("change", "what"),
    [
        (opens_with("/JavaScript"), "JavaScript"),
        (opens_with("/Launch"), "Launch action"),
        (opens_with("/SubmitForm"), "SubmitForm action"),
        (opens_with("/GoToR"), "GoToR action"),
        (opens_with("/GoToE"), "GoToE action"),
        (set_root("/AA", action(WC=pikepdf.Dictionary(SCRIPT))), "JavaScript"),
        (set_root("/Names", action(JavaScript=action(Names=pikepdf.Array()))), "JavaScript"),
        (set_root("/AcroForm", action(XFA=pikepdf.Array(), Fields=pikepdf.Array())), "XFA form"),
        (page_action, "JavaScript"),
        (in_outline, "JavaScript"),
        (in_annotation, "JavaScript"),
        (annotation("/RichMedia"), "RichMedia annotation"),
        (annotation("/FileAttachment"), "embedded file"),
        (attach, "embedded file"),
    ],
)
def test_active_content_is_refused_wherever_it_hides(
    document: Path, change: Callable[[pikepdf.Pdf], None], what: str
) -> None:
    """A scan has no reason to act: scripts, launches, forms and enclosed files are refused."""
    changed(document, change)
    assert fatal(document) == [f"E05 active content: {what}"]


def test_a_script_that_the_catalog_does_not_lead_to_is_refused_too(document: Path) -> None:
    """Every object of the file is looked at, wherever it hangs."""

    def hide(pdf: pikepdf.Pdf) -> None:
        pdf.trailer["/Hidden"] = pdf.make_indirect(pikepdf.Dictionary(SCRIPT))

    assert fatal(changed(document, hide)) == ["E05 active content: JavaScript"]


def test_a_link_inside_the_document_is_allowed(document: Path) -> None:
    """Bookmarks of a whole-folder PDF are no active content."""

    def add(pdf: pikepdf.Pdf) -> None:
        pdf.Root.OpenAction = action(S=pikepdf.Name.GoTo, D=pikepdf.Array([pdf.pages[0].obj, pikepdf.Name.Fit]))

    assert fatal(changed(document, add)) == []


# The resolution: E06.


def test_a_page_below_the_resolution_agreed_is_refused(tmp_path: Path) -> None:
    """The lowest page decides, and the finding names it."""
    path = pdfa(tmp_path / "low.pdf", jpeg(sheet()), jpeg(sheet(size=(827, 1170)), 100))
    assert inspect(path).dpi == 100
    assert findings(path) == [Finding("E06", "100 dpi, below the 200 dpi agreed", 2, fatal=True)]
    assert findings(path, minimum_dpi=100) == []


def test_a_logo_does_not_count_as_a_scan(document: Path) -> None:
    """A small image at 40 dpi on a scanned page leaves the page at its 200 dpi."""

    def add(pdf: pikepdf.Pdf) -> None:
        logo = pikepdf.Stream(pdf, bytes(20 * 20), Width=20, Height=20, BitsPerComponent=8)
        logo.Type, logo.Subtype, logo.ColorSpace = (
            pikepdf.Name.XObject,
            pikepdf.Name.Image,
            pikepdf.Name.DeviceGray,
        )
        name = pdf.pages[0].add_resource(logo, pikepdf.Name.XObject)
        pdf.pages[0].contents_add(f"q 36 0 0 36 20 20 cm {name} Do Q".encode())

    assert inspect(changed(document, add)).dpi == 200


def test_an_image_inside_a_form_counts(document: Path) -> None:
    """Scanning software that wraps the page image in a form is understood."""

    def wrap(pdf: pikepdf.Pdf) -> None:
        page = pdf.pages[0]
        form = pdf.make_stream(page.Contents.read_bytes(), Subtype=pikepdf.Name.Form, BBox=page.mediabox)
        form.Resources = page.Resources
        page.Resources = action(XObject=action(Fm0=form))
        page.Contents = pdf.make_stream(b"q /Fm0 Do Q")

    found = inspect(changed(document, wrap))
    assert (found.dpi, found.blank_pages) == (200, ())


def test_an_image_without_resolution_is_told(tmp_path: Path) -> None:
    """A JPEG that says nothing is for a person to judge."""
    sheet().save(tmp_path / "photo.jpg")
    assert findings(tmp_path / "photo.jpg") == [Finding("E06", "the image does not say its resolution", 1, fatal=False)]


def jbig2(flags: int, *segments: int) -> bytes:
    """A JBIG2 stream of a page with these flags and empty segments of these types."""
    page = struct.pack(">IIIIBH", 64, 64, 0, 0, flags, 0)
    stream = struct.pack(">IBBBI", 0, 48, 0, 1, len(page)) + page
    return stream + b"".join(struct.pack(">IBBBI", n, kind, 0, 1, 0) for n, kind in enumerate(segments, 1))


@pytest.mark.parametrize(
    ("stream", "lossy"),
    [(jbig2(0, 0, 6), True), (jbig2(1, 0, 6), False), (jbig2(0, 38), False), (b"\x00", False)],
)
def test_jbig2_that_replaces_shapes_is_refused(document: Path, stream: bytes, lossy: bool) -> None:
    """Symbol coding without the promise of being lossless may have swapped digits."""

    def replace_image(pdf: pikepdf.Pdf) -> None:
        (image,) = pdf.pages[0].get_images().values()
        image.write(stream, filter=pikepdf.Name.JBIG2Decode)
        image.BitsPerComponent, image.ColorSpace = 1, pikepdf.Name.DeviceGray

    codes = [line for line in fatal(changed(document, replace_image)) if "JBIG2" in line]
    assert bool(codes) == lossy


# The pages: E07.


@pytest.mark.parametrize("store", [jpeg, lambda image: jpeg(image, progressive=True), g4])
@pytest.mark.parametrize("codes", ["first", "every"])
def test_blank_and_black_pages_are_told_apart(
    tmp_path: Path, store: Callable[[Image.Image], bytes], codes: str
) -> None:
    """A blank back is a remark; a black page is a page lost. Paper grain is no writing."""
    pages = [store(sheet(kind)) for kind in (WRITTEN, BLANK, WRITTEN, ALL_BLACK)]
    found = inspect(pdfa(tmp_path / "pages.pdf", *pages), read_codes_on=codes)  # pyright: ignore[reportArgumentType]
    assert found.blank_pages == (2,)
    assert found.black_pages == (4,)
    assert found.findings == (
        Finding("E07", "the page is blank", 2, fatal=False),
        Finding("E07", "the page is all black", 4, fatal=True),
    )


def test_a_page_with_one_line_at_its_foot_is_not_blank(tmp_path: Path) -> None:
    """The quick look at the top of a page does not condemn it."""
    page = sheet(BLANK)
    ImageDraw.Draw(page).text((300, 2100), "RAS, revu le 3 mars", fill=40, font_size=40)
    assert inspect(pdfa(tmp_path / "foot.pdf", jpeg(page)), read_codes_on="first").blank_pages == ()


def test_a_blank_image_under_drawn_text_is_not_blank(document: Path, tmp_path: Path) -> None:
    """What the page draws counts, not only its image."""
    path = pdfa(tmp_path / "stamped.pdf", jpeg(sheet(BLANK)))
    changed(path, lambda pdf: pdf.pages[0].contents_add(b"q 0 g 100 100 300 40 re f Q"))
    assert inspect(path).blank_pages == ()


def test_the_pages_of_a_tiff_are_looked_at_one_by_one(tmp_path: Path) -> None:
    """A multipage TIFF has its blank page found like a PDF."""
    frames = [sheet(kind).point(lambda level: 255 if level > 128 else 0).convert("1") for kind in (WRITTEN, BLANK)]
    frames[0].save(tmp_path / "two.tif", save_all=True, append_images=frames[1:], compression="group4", dpi=(200, 200))
    found = inspect(tmp_path / "two.tif")
    assert (found.media_type, found.pages, found.dpi, found.blank_pages) == ("image/tiff", 2, 200, (2,))


def test_a_page_image_cut_short_inside_a_whole_pdf_is_refused(document: Path) -> None:
    """The file is whole and the scan in it is not."""

    def cut(pdf: pikepdf.Pdf) -> None:
        (image,) = pdf.pages[0].get_images().values()
        image.write(image.read_raw_bytes()[:-4000], filter=pikepdf.Name.DCTDecode)

    assert fatal(changed(document, cut)) == ["E07 the page image is cut short"]


# What is made to hurt.


def test_an_image_of_impossible_size_is_refused_without_being_decoded(document: Path) -> None:
    """A few bytes may claim a gigabyte of pixels."""

    def grow(pdf: pikepdf.Pdf) -> None:
        (image,) = pdf.pages[0].get_images().values()
        image.Width, image.Height = 60_000, 60_000

    assert fatal(changed(document, grow)) == ["E05 a page image is larger than can safely be opened"]


def test_a_png_bomb_is_refused(tmp_path: Path) -> None:
    """A PNG of 15,000 pixels square weighs a few kilobytes and 225 MB."""
    Image.new("1", (15_000, 15_000)).save(tmp_path / "bomb.png", dpi=(300, 300))
    assert fatal(tmp_path / "bomb.png")


def test_a_page_as_large_as_a_field_is_drawn_small(tmp_path: Path) -> None:
    """A huge page box costs no memory."""
    pdf = pikepdf.new()
    pdf.add_blank_page(page_size=(14_000, 14_000))
    pdf.save(tmp_path / "field.pdf")
    assert inspect(tmp_path / "field.pdf").blank_pages == (1,)


def test_forms_that_draw_themselves_are_refused(document: Path) -> None:
    """A form that contains itself twice would be drawn for ever."""

    def loop(pdf: pikepdf.Pdf) -> None:
        form = pdf.make_stream(
            b"/Fm0 Do /Fm0 Do", Type=pikepdf.Name.XObject, Subtype=pikepdf.Name.Form, BBox=[0, 0, 9, 9]
        )
        form.Resources = action(XObject=action(Fm0=form))
        pdf.pages[0].Resources = action(XObject=action(Fm0=form))
        pdf.pages[0].Contents = pdf.make_stream(b"/Fm0 Do")

    assert fatal(changed(document, loop)) == ["E05 the page draws more than can safely be followed"]


@pytest.mark.parametrize("seed", range(40))
def test_a_damaged_file_is_never_an_exception(document: Path, seed: int) -> None:
    """Whatever bytes were hit, the answer is an inspection."""
    chance = random.Random(seed)
    content = bytearray(document.read_bytes())
    for _ in range(30):
        content[chance.randrange(len(content))] = chance.randrange(256)
    for _ in range(10):
        content[-chance.randrange(1, 3000)] = chance.randrange(256)
    document.write_bytes(content)
    assert inspect(document).media_type in ("application/pdf", "application/octet-stream")


def test_a_missing_file_is_an_error_of_the_disk(tmp_path: Path) -> None:
    """Content never raises; the disk does."""
    with pytest.raises(FileNotFoundError):
        inspect(tmp_path / "nowhere.pdf")


def test_a_whole_folder_of_hundreds_of_pages_does_not_fill_memory(tmp_path: Path) -> None:
    """A file of 150 MB costs less than half of that."""
    page = jpeg(Image.effect_noise((2480, 3508), 60), 300)
    with pikepdf.new() as folder:
        for _ in range(max(1, 150_000_000 // len(page))):
            with pikepdf.open(io.BytesIO(img2pdf.convert(page))) as single:
                folder.pages.extend(single.pages)
        folder.save(tmp_path / "folder.pdf")
    inspect(SAMPLES / "100000101-visite4.pdf")
    before = psutil.Process().memory_info().rss
    assert inspect(tmp_path / "folder.pdf", read_codes_on="first").pages
    assert psutil.Process().memory_info().rss - before < 70_000_000


@pytest.mark.skipif(not SCANS.is_dir(), reason="the shared test scans are not on this machine")
@pytest.mark.parametrize(
    ("name", "code"),
    [("invalid.pdf", "E05"), ("livecycle.pdf", "E05"), ("jbig2.pdf", "E06"), ("lichtenstein.pdf", "E06")],
)
def test_the_bad_ones_of_the_public_collection_are_refused(name: str, code: str) -> None:
    """Damaged, dynamic form, lossy JBIG2, low resolution."""
    assert code in {finding.code for finding in findings(SCANS / name) if finding.fatal}


@pytest.mark.skipif(not SCANS.is_dir(), reason="the shared test scans are not on this machine")
@pytest.mark.parametrize("name", ["ccitt.pdf", "cardinal.pdf", "francais.pdf", "kcs.pdf", "linn.pdf", "skew.pdf"])
def test_the_good_ones_of_the_public_collection_pass(name: str) -> None:
    """G4, JPEG and lossless JBIG2 scans at 300 dpi, straight, turned and askew, pass."""
    found = inspect(SCANS / name)
    assert found.dpi == 300
    assert not [finding for finding in found.findings if finding.fatal]


@pytest.mark.skipif(not SCANS.is_dir(), reason="the shared test scans are not on this machine")
def test_the_blank_one_of_the_public_collection_is_blank() -> None:
    """A page with nothing drawn on it."""
    assert inspect(SCANS / "blank.pdf").blank_pages == (1,)
