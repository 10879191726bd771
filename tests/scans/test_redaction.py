"""A PDF without some of its pages: nothing of them is left, whatever way the original kept it."""

import contextlib
import hashlib
import io
import re
from pathlib import Path

import pikepdf
import pypdfium2
import pytest
from pikepdf import Array, AttachedFileSpec, Dictionary, Name, OutlineItem, Pdf, Stream

from fhir_server.outcomes import BadParameter, BusinessRule, Failure
from fhir_server.scans.redaction import without_pages

SCANS = Path(__file__).parents[3] / "shared/data/scans"
SECRET = "CONFIDENCE"


def scan(name: str) -> Path:
    path = SCANS / name
    if not path.exists():
        pytest.skip("the published scans are not beside this project (../shared/data/scans)")
    return path


def everything_in(path: Path) -> bytes:
    """The file, and every stream and text of it decoded: what a search through it could find."""
    found = [path.read_bytes()]
    with pikepdf.open(path) as pdf:
        for one in pdf.objects:
            if isinstance(one, Stream):
                found.append(one.read_raw_bytes())
                with contextlib.suppress(pikepdf.PdfError):  # an image that pikepdf does not unpack
                    found.append(one.read_bytes())
            found.append(one.unparse(resolved=True) if not isinstance(one, Stream) else b"")
            found.append(repr(one).encode())
    return b"\n".join(found)


def texts(path: Path) -> list[str]:
    with pypdfium2.PdfDocument(path) as pdf:
        return [pdf[number].get_textpage().get_text_range() for number in range(len(pdf))]


def images_on(page: pikepdf.Page) -> list[Stream]:
    shown = page.obj.get("/Resources", Dictionary()).get("/XObject", Dictionary())
    return [one for one in shown.values() if one.Subtype == Name.Image]


def images_of(path: Path) -> list[set[str]]:
    """The SHA-256 of the raw image streams of each page."""
    with pikepdf.open(path) as pdf:
        return [{hashlib.sha256(image.read_raw_bytes()).hexdigest() for image in images_on(page)} for page in pdf.pages]


def test_a_real_scan_loses_its_page_and_keeps_the_others_as_they_are(tmp_path: Path) -> None:
    """Six scanned pages: the third is gone, bytes and all; the five others are the same images, untouched."""
    source, target = scan("multipage.pdf"), tmp_path / "out.pdf"
    assert without_pages(source, target, {3}) == 5
    before, after = images_of(source), images_of(target)
    assert after == [*before[:2], *before[3:]]
    gone = before[2] - set().union(*after)
    assert gone
    with pikepdf.open(source) as pdf:
        for image in images_on(pdf.pages[2]):
            raw = image.read_raw_bytes()
            assert raw[100:400] not in target.read_bytes()
    again = tmp_path / "again.pdf"
    without_pages(source, again, {3})
    assert again.read_bytes() == target.read_bytes(), "the same pages of the same scan give the same bytes"


def test_an_image_that_a_removed_page_shares_does_not_come_along(tmp_path: Path) -> None:
    """Four pages show one image, turned: what stays is drawn anew, and no stream of the original is in it."""
    source, target = scan("cardinal.pdf"), tmp_path / "out.pdf"
    assert without_pages(source, target, {1}) == 3
    assert not set().union(*images_of(source)) & set().union(*images_of(target))
    with pypdfium2.PdfDocument(source) as old, pypdfium2.PdfDocument(target) as new:
        for number in range(3):
            assert new[number].get_size() == pytest.approx(old[number + 1].get_size(), abs=1)


def test_the_text_layer_of_a_page_that_stays_stays(tmp_path: Path) -> None:
    """Pages of two recognised scans in one document; each has fonts of its own."""
    source, target = tmp_path / "in.pdf", tmp_path / "out.pdf"
    with pikepdf.new() as pdf:
        for name in ("graph_ocred.pdf", "jbig2.pdf"):
            with pikepdf.open(scan(name)) as one:
                pdf.pages.extend(one.pages)
        pdf.save(source)
    words = texts(source)
    assert words[0].strip()
    assert without_pages(source, target, {2}) == 1
    assert texts(target) == [words[0]]


def booby_trapped(path: Path) -> None:
    """Three pages; the second holds the secret, and so does everything that a PDF can hide it in."""
    with pikepdf.new() as pdf:
        font = Dictionary(Type=Name.Font, Subtype=Name.Type1, BaseFont=Name.Helvetica)
        secret_image = Stream(pdf, b"\x00" * 12)
        secret_image.stream_dict = Dictionary(
            Type=Name.XObject,
            Subtype=Name.Image,
            Width=2,
            Height=2,
            ColorSpace=Name.DeviceRGB,
            BitsPerComponent=8,
            Secret=pikepdf.String(SECRET),
        )
        everything = pdf.make_indirect(  # one dictionary for all pages, as many producers write it
            Dictionary(Font=Dictionary(F=font), XObject=Dictionary(Im=pdf.make_indirect(secret_image)))
        )
        for text in ("one", SECRET, "three"):
            page = pdf.add_blank_page(page_size=(200, 200))
            page.obj.Resources = everything
            page.obj.Contents = Stream(pdf, f"BT /F 12 Tf 20 100 Td ({text}) Tj ET".encode())
        second = pdf.pages[1]
        second.obj.Contents = Stream(pdf, f"/Im Do BT /F 12 Tf 20 100 Td ({SECRET}) Tj ET".encode())
        link = Dictionary(
            Type=Name.Annot,
            Subtype=Name.Link,
            Rect=Array([0, 0, 9, 9]),
            Dest=Array([second.obj, Name.Fit]),
            Contents=pikepdf.String(SECRET),
        )
        first = pdf.pages[0].obj
        first.Annots = Array([pdf.make_indirect(link)])
        first.PieceInfo = Dictionary(X=pikepdf.String(SECRET))
        first.Thumb = Stream(pdf, SECRET.encode())
        first.Metadata = Stream(pdf, SECRET.encode())
        first.AA = Dictionary(O=Dictionary(S=Name.JavaScript, JS=pikepdf.String(SECRET)))
        pdf.docinfo["/Title"] = SECRET
        with pdf.open_metadata() as metadata:
            metadata["dc:description"] = SECRET
        with pdf.open_outline() as outline:
            outline.root.append(OutlineItem(SECRET, 1))
        pdf.attachments["note.txt"] = AttachedFileSpec(pdf, SECRET.encode(), description=SECRET)
        pdf.Root.OpenAction = Dictionary(S=Name.JavaScript, JS=pikepdf.String(SECRET))
        pdf.save(path, compress_streams=False, object_stream_mode=pikepdf.ObjectStreamMode.disable)


def test_nothing_hidden_of_a_removed_page_is_left(tmp_path: Path) -> None:
    """Shared resources, links, thumbnails, scripts, outlines, attachments, metadata: not a byte, nor its picture."""
    source, target = tmp_path / "in.pdf", tmp_path / "out.pdf"
    booby_trapped(source)
    assert everything_in(source).count(SECRET.encode()) > 10, "the trap is set"
    assert without_pages(source, target, {2}) == 2
    assert SECRET.encode() not in everything_in(target)
    assert SECRET.encode("utf-16-be") not in everything_in(target)
    assert [one.strip() for one in texts(target)] == ["one", "three"], "copied, not drawn"
    with pikepdf.open(target) as pdf:
        assert set(pdf.Root.keys()) <= {"/Type", "/Pages"}
        assert "/Info" not in pdf.trailer
        assert [len(images_on(page)) for page in pdf.pages] == [0, 0]


def test_an_earlier_revision_is_not_carried_along(tmp_path: Path) -> None:
    """A page that a later revision dropped is still in the file: the new one is no revision of it."""
    source, target = tmp_path / "in.pdf", tmp_path / "out.pdf"
    booby_trapped(source)
    kept = source.read_bytes()
    with pikepdf.open(source) as pdf:
        kids = pdf.Root.Pages
        number = kids.objgen[0]
        first, third = pdf.pages[0].objgen[0], pdf.pages[2].objgen[0]
        body = f"{number} 0 obj\n<< /Type /Pages /Count 2 /Kids [ {first} 0 R {third} 0 R ] >>\nendobj\n"
    start = int(re.findall(rb"startxref\s+(\d+)", kept)[-1])
    with pikepdf.open(source) as pdf:
        root, size = pdf.Root.objgen[0], len(pdf.objects) + 2
    at = len(kept) + 1
    revision = f"\n{body}xref\n{number} 1\n{at:010} 00000 n \n"
    revision += f"trailer\n<< /Size {size} /Root {root} 0 R /Prev {start} >>\nstartxref\n{at + len(body)}\n%%EOF\n"
    source.write_bytes(kept + revision.encode())
    with pikepdf.open(source) as pdf:
        assert len(pdf.pages) == 2
    assert without_pages(source, target, {2}) == 1
    assert SECRET.encode() not in everything_in(target)


@pytest.mark.parametrize("trap", ["stamp", "layer"])
def test_a_page_that_is_written_over_is_drawn(tmp_path: Path, trap: str) -> None:
    """A stamp is part of what is seen, a layer may be hidden: the picture of the page has the one and not the other."""
    source, target = tmp_path / "in.pdf", tmp_path / "out.pdf"
    with pikepdf.new() as pdf:
        for _ in range(2):
            pdf.add_blank_page(page_size=(100, 50))
        first = pdf.pages[0].obj
        if trap == "stamp":
            look = Stream(pdf, b"0 0 50 50 re f")
            look.stream_dict = Dictionary(Type=Name.XObject, Subtype=Name.Form, BBox=Array([0, 0, 50, 50]))
            stamp = Dictionary(
                Type=Name.Annot, Subtype=Name.Stamp, F=4, Rect=Array([0, 0, 50, 50]), AP=Dictionary(N=look)
            )
            first.Annots = Array([pdf.make_indirect(stamp)])
        else:
            layer = pdf.make_indirect(Dictionary(Type=Name.OCG, Name=pikepdf.String(SECRET)))
            pdf.Root.OCProperties = Dictionary(OCGs=Array([layer]), D=Dictionary(OFF=Array([layer]), BaseState=Name.ON))
            first.Resources = Dictionary(Properties=Dictionary(L=layer))
            first.Contents = Stream(pdf, b"/OC /L BDC 0 0 50 50 re f EMC")
        pdf.save(source)
    assert without_pages(source, target, {2}) == 1
    assert SECRET.encode() not in everything_in(target)
    with pypdfium2.PdfDocument(target) as pdf:
        picture = pdf[0].render(scale=1).to_pil().convert("L")
    left, right = picture.getpixel((25, 25)), picture.getpixel((75, 25))
    assert (left < 60, right > 200) == (trap == "stamp", True)


def test_what_an_image_carries_beside_itself_goes(tmp_path: Path) -> None:
    """Files and descriptions that hang on an image of a page that stays."""
    source, target = tmp_path / "in.pdf", tmp_path / "out.pdf"
    with pikepdf.open(scan("multipage.pdf")) as pdf:
        image = next(image for page in pdf.pages for image in images_on(page))
        image.Metadata = Stream(pdf, SECRET.encode())
        image.AF = Array([Dictionary(Type=Name.Filespec, UF=pikepdf.String(SECRET))])
        pdf.save(source)
    without_pages(source, target, {2})
    assert SECRET.encode() not in everything_in(target)
    assert images_of(target)[0] == images_of(source)[0]


@pytest.mark.parametrize(
    ("pages", "failure", "said"),
    [
        ({0}, BadParameter, "1 to 3"),
        ({4}, BadParameter, "1 to 3"),
        (set(), BadParameter, "1 to 3"),
        ({1, 2, 3}, BusinessRule, "No page would be left"),
    ],
)
def test_what_cannot_be_taken_out(tmp_path: Path, pages: set[int], failure: type[Failure], said: str) -> None:
    source, target = tmp_path / "in.pdf", tmp_path / "out.pdf"
    booby_trapped(source)
    with pytest.raises(failure, match=said):
        without_pages(source, target, pages)
    assert sorted(tmp_path.iterdir()) == [source]


@pytest.mark.parametrize(
    ("page", "content", "left"),
    [
        ("/Resources << /Font << /F1 << /Type /Font /BaseFont /X >> >> >>", "Tf", 1),
        ("/CropBox [(a) 0 1 1] /Annots [<< /Type /Annot /Subtype /Stamp >>]", "", None),
        ("/Rotate /x /Annots [<< /Type /Annot /Subtype /Stamp >>]", "", None),
        ("/Rotate [90] /Annots [<< /Type /Annot /Subtype /Stamp >>]", "", None),
        ("/Resources << /Font << /F1 << /Type /Font /BaseFont /a#e9#ff >> >> >>", "/F1 5 Tf", None),
    ],
)
def test_a_page_whose_objects_are_not_what_they_should_be(
    tmp_path: Path, page: str, content: str, left: int | None
) -> None:
    """Drawn or refused, and nothing is left behind: never a failure of the server."""
    objects = [
        "<< /Type /Catalog /Pages 2 0 R >>",
        "<< /Type /Pages /Kids [3 0 R 4 0 R] /Count 2 >>",
        f"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 99 99] /Contents 5 0 R {page} >>",
        "<< /Type /Page /Parent 2 0 R /MediaBox [0 0 99 99] >>",
        f"<< /Length {len(content)} >>\nstream\n{content}\nendstream",
    ]
    body = "".join(f"{number} 0 obj\n{one}\nendobj\n" for number, one in enumerate(objects, 1))
    source, target = tmp_path / "in.pdf", tmp_path / "out.pdf"
    source.write_text(f"%PDF-1.7\n{body}trailer << /Root 1 0 R >>\n%%EOF")
    if left:
        assert without_pages(source, target, {2}) == left
        return
    with pytest.raises(BusinessRule, match="cannot be read"):
        without_pages(source, target, {2})
    assert sorted(tmp_path.iterdir()) == [source]


def test_what_is_no_pdf_or_is_locked_is_refused(tmp_path: Path) -> None:
    """Nothing is guessed of a file that cannot be read."""
    target = tmp_path / "out.pdf"
    locked = tmp_path / "locked.pdf"
    plain = io.BytesIO()
    with pikepdf.new() as pdf:
        pdf.add_blank_page()
        pdf.add_blank_page()
        pdf.save(plain)
    with Pdf.open(plain) as pdf:
        pdf.save(locked, encryption=pikepdf.Encryption(owner="o", user="u"))
    with pytest.raises(BusinessRule, match="encrypted"):
        without_pages(locked, target, {1})
    damaged = tmp_path / "damaged.pdf"
    damaged.write_bytes(b"%PDF-1.7\nnothing")
    with pytest.raises(BusinessRule, match="cannot be read"):
        without_pages(damaged, target, {1})
    assert not target.exists()
