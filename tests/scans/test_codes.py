"""The codes of a page: what is read, what is not believed, and the INS datamatrix word by word."""

import re
from dataclasses import replace

import pytest
import zxingcpp
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageDraw

from fhir_server.scans.codes import (
    DatamatrixIns,
    PageCode,
    parse_datamatrix_ins,
    read_codes,
    write_datamatrix_ins,
)

HEADER = "IS01" + "0" * 22
ADA = HEADER + "S1185057512345673S21.2.250.1.213.1.4.8\x1dS3ADA ROSE\x1dS4LOVELACE\x1dS5FS610-12-1815S799100"
TRAITS = DatamatrixIns(
    matricule="185057512345673",
    oid="1.2.250.1.213.1.4.8",
    given_names=("ADA", "ROSE"),
    birth_name="LOVELACE",
    sex="F",
    birth_date="1815-12-10",
    birth_place="99100",
)


def symbol(text: str, kind: zxingcpp.BarcodeFormat, module: int) -> Image.Image:
    options = {"force_square": True} if kind == zxingcpp.BarcodeFormat.DataMatrix else {}
    drawn = zxingcpp.create_barcode(text, kind, **options).to_image(scale=module)
    return Image.frombuffer("L", (drawn.shape[1], drawn.shape[0]), memoryview(drawn).tobytes())


def page_with(*placed: tuple[Image.Image, tuple[int, int]]) -> Image.Image:
    page = Image.new("L", (2480, 3508), 240)
    draw = ImageDraw.Draw(page)
    for y in range(600, 3300, 60):
        draw.text((200, y), "Visite periodique, poste de travail, observations " * 3, fill=40, font_size=40)
    for image, where in placed:
        page.paste(image, where)
    return page


COVER = page_with(
    (symbol("000123456", zxingcpp.BarcodeFormat.Code128, 4), (200, 200)),
    (symbol(ADA, zxingcpp.BarcodeFormat.DataMatrix, 4), (2000, 200)),
)


@pytest.mark.parametrize("turned", [0, 1, 90, 180, 270])
def test_a_cover_sheet_gives_its_barcode_and_its_datamatrix_however_it_lies(turned: int) -> None:
    """A sheet that went askew, sideways or upside down through the scanner is read all the same."""
    codes = read_codes(COVER.rotate(turned, expand=True, fillcolor=240), 3)
    assert set(codes) == {PageCode(3, "code128", "000123456"), PageCode(3, "datamatrix", ADA)}


def test_a_code_is_told_once_though_it_is_found_twice() -> None:
    """The two readings of a page, whole and where it is dark, do not double a code."""
    assert len(read_codes(COVER, 1)) == 2


@pytest.mark.parametrize("turned", [2, 8, 15, 45, 135])
def test_a_label_stuck_on_askew_is_read(turned: int) -> None:
    """By hand, on a folder that went through straight or not."""
    code = symbol(ADA, zxingcpp.BarcodeFormat.DataMatrix, 4)
    label = code.rotate(turned, expand=True, fillcolor=255, resample=Image.Resampling.BICUBIC)
    assert read_codes(page_with((label, (1900, 150))), 1) == (PageCode(1, "datamatrix", ADA),)


def test_a_datamatrix_of_two_pixels_a_cell_and_one_at_200_dpi_are_read() -> None:
    """The smallest that the guide allows, and the coarsest scan that a convention does."""
    small = page_with((symbol(ADA, zxingcpp.BarcodeFormat.DataMatrix, 2), (2000, 200)))
    assert read_codes(small, 1) == (PageCode(1, "datamatrix", ADA),)
    coarse = COVER.resize((1654, 2339), Image.Resampling.LANCZOS)
    assert PageCode(1, "datamatrix", ADA) in read_codes(coarse, 1)


def test_a_stained_datamatrix_is_mended_or_not_believed() -> None:
    """Reed-Solomon (ECC 200) mends a stain of 8 % of it; of one that is half gone nothing is told."""
    stained = symbol(ADA, zxingcpp.BarcodeFormat.DataMatrix, 4)
    ImageDraw.Draw(stained).ellipse((60, 60, 108, 108), fill=0)
    assert read_codes(page_with((stained, (2000, 200))), 1) == (PageCode(1, "datamatrix", ADA),)
    ImageDraw.Draw(stained).rectangle((0, 0, stained.width // 2, stained.height), fill=255)
    assert read_codes(page_with((stained, (2000, 200))), 1) == ()


@pytest.mark.parametrize("second", [(1720, 200), (2000, 380), (200, 3000)], ids=["beside", "below", "far"])
def test_two_datamatrices_on_a_page_are_both_told(second: tuple[int, int]) -> None:
    """The page of one worker stapled to that of another: both are needed to see it (E13)."""
    other = ADA.replace("LOVELACE", "BYRON")
    kind = zxingcpp.BarcodeFormat.DataMatrix
    page = page_with((symbol(ADA, kind, 4), (2000, 200)), (symbol(other, kind, 4), second))
    assert {code.text for code in read_codes(page, 1)} == {ADA, other}


@pytest.mark.parametrize(("arc", "known"), [("8", True), ("9", True), ("10", True), ("11", True), ("12", False)])
def test_each_oid_of_the_matricule_is_read_as_it_is(arc: str, known: bool) -> None:
    """Test (.10) and demonstration (.11) identities are read too: matching keeps them from real workers."""
    text = ADA.replace("213.1.4.8\x1d", f"213.1.4.{arc}" + ("" if len(arc) > 1 else "\x1d"))
    if known:
        traits = parse_datamatrix_ins(text)
        assert traits is not None
        assert traits.oid == f"1.2.250.1.213.1.4.{arc}"
    else:
        with pytest.raises(ValueError, match="S2"):
            parse_datamatrix_ins(text)


def test_a_page_of_writing_has_no_code() -> None:
    """Lines of text are not taken for codes."""
    assert read_codes(page_with(), 1) == ()


def test_a_short_code_39_is_not_believed() -> None:
    """Code 39 has no check character: what reads as three characters may be a table."""
    short = symbol("A12", zxingcpp.BarcodeFormat.Code39, 4)
    long = symbol("000123456", zxingcpp.BarcodeFormat.Code39, 4)
    assert read_codes(page_with((short, (200, 200))), 1) == ()
    assert read_codes(page_with((long, (200, 200))), 1) == (PageCode(1, "code39", "000123456"),)


def test_the_thorough_reading_sees_a_light_code_on_dark() -> None:
    """What the quick reading leaves out for speed, the thorough one finds."""
    inverted = page_with((symbol(ADA, zxingcpp.BarcodeFormat.DataMatrix, 4), (200, 200))).point(
        lambda level: 255 - level
    )
    assert read_codes(inverted, 1) == ()
    assert read_codes(inverted, 1, thorough=True) == (PageCode(1, "datamatrix", ADA),)


def test_a_page_smaller_than_a_stamp_is_read_too() -> None:
    """An image of a few pixels is no error."""
    assert read_codes(Image.new("L", (8, 8), 255), 1) == ()


def test_an_ins_datamatrix_gives_matricule_oid_and_traits() -> None:
    """The example of the format reads field by field."""
    assert parse_datamatrix_ins(ADA) == TRAITS


def test_another_datamatrix_is_not_an_ins_datamatrix() -> None:
    """A GTIN, a 2D-Doc or a word starting with IS is left alone."""
    for text in ("", "0103400930000000", "DC04FR000001", "ISABELLE", "IS01"):
        assert parse_datamatrix_ins(text) is None


def test_the_birth_place_is_optional() -> None:
    """S7 may be missing; the six other fields may not."""
    traits = parse_datamatrix_ins(ADA.removesuffix("S799100"))
    assert traits == replace(TRAITS, birth_place=None)


def test_a_corsican_matricule_has_its_key_computed_with_19_and_18() -> None:
    """2A counts as 19 and 2B as 18."""
    traits = parse_datamatrix_ins(ADA.replace("185057512345673", "180032B02040123"))
    assert traits is not None
    assert traits.matricule == "180032B02040123"


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ("IS01", "IS02", "the header is not that of version 01 of the INS datamatrix"),
        ("185057512345673", "185057512345674", "S1: the key of the matricule is wrong"),
        ("185057512345673", "1850575123456XX", "S1: the matricule is not written as one"),
        ("213.1.4.8", "213.1.4.7", "S2: the OID is not one of the matricule INS"),
        ("S3ADA ROSE\x1d", "S3\x1d", "S3: the field is too short"),
        ("S3ADA ROSE\x1d", "S3 \x1d", "S3: the field holds no text, or control characters"),
        ("S4LOVELACE\x1d", "", "S4: the field is missing"),
        ("S4LOVELACE\x1d", "S4LOVE\nLACE\x1d", "S4: the field holds no text, or control characters"),
        ("S5F", "S5X", "S5: the sex is neither M nor F"),
        ("10-12-1815", "31-02-1815", "S6: the birth date is no day of the calendar"),
        ("10-12-1815", "1815-12-10", "S6: the birth date is not written JJ-MM-AAAA"),
        ("S799100", "S7XX100", "S7: the birth place is not an INSEE code"),
        ("S799100", "S7991", "S7: the field is too short"),
        ("S799100", "S999100", "a field has an unknown identifier"),
        ("S799100", "S5M", "S5: the field comes twice"),
    ],
)
def test_a_malformed_ins_datamatrix_is_refused_with_a_reason_that_names_nobody(old: str, new: str, reason: str) -> None:
    """The reason names the field; never the value, which is a person's."""
    with pytest.raises(ValueError, match=f"^{re.escape(reason)}$"):
        parse_datamatrix_ins(ADA.replace(old, new))


def test_writing_refuses_what_cannot_be_read_back() -> None:
    """A given name with a space would come back as two."""
    with pytest.raises(ValueError, match="do not survive"):
        write_datamatrix_ins(replace(TRAITS, given_names=("ADA ROSE",)))


names = st.text(st.sampled_from("ABCDEFGHIJKLMNOPQRSTUVWXYZ'-"), min_size=1, max_size=60)


@given(
    birth_name=st.one_of(names, st.just("L" * 100)),
    given_names=st.lists(names.map(lambda name: name[:20]), min_size=1, max_size=4).map(tuple),
    sex=st.sampled_from("MF"),
    birth_date=st.dates().map(lambda day: day.isoformat()),
    birth_place=st.sampled_from([None, "75115", "2A004", "97411", "99352"]),
    oid=st.sampled_from(["1.2.250.1.213.1.4.8", "1.2.250.1.213.1.4.10"]),
)
def test_what_is_written_is_what_is_read(
    birth_name: str,
    given_names: tuple[str, ...],
    sex: str,
    birth_date: str,
    birth_place: str | None,
    oid: str,
) -> None:
    """Names of full length, OIDs of both lengths and the missing birth place all come back."""
    traits = DatamatrixIns("185057512345673", oid, given_names, birth_name, sex, birth_date, birth_place)
    assert parse_datamatrix_ins(write_datamatrix_ins(traits)) == traits
