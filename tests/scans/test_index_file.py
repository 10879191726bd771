"""The index of a scan lot, as providers really write it."""

import csv
import io
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fhir_server.scans.index_file import COLUMNS, IndexLine, LineProblem, partial_date, read

HEADER = ";".join(COLUMNS)
ROW = (
    "000123456;000123456_0001;LEFÈVRE;CŒURDACIER;Anaïs, Marie Anne;07/03/1972;F;2 72 03 75 116 042 18;"
    "1.2.250.1.213.1.4.8;T-88;123 456 782 00010;C07;DMST-VISITE;1998;2"
)
LINE = IndexLine(
    folder="000123456",
    document_id="000123456_0001",
    birth_name="LEFÈVRE",
    used_name="CŒURDACIER",
    given_names=("Anaïs", "Marie Anne"),
    birth_date="1972-03-07",
    sex="female",
    matricule_ins="272037511604218",
    oid_ins="1.2.250.1.213.1.4.8",
    worker_number="T-88",
    employer_siret="12345678200010",
    centre="C07",
    kind="DMST-VISITE",
    dated="1998",
    pages=2,
)


def _one(**cells: str) -> tuple[list[IndexLine], list[LineProblem]]:
    text = io.StringIO()
    writer: csv.DictWriter[str] = csv.DictWriter(text, COLUMNS, delimiter=";")
    writer.writeheader()
    writer.writerow({"dossier": "1", "document": "1_1", "nom_naissance": "A", "prenoms": "B"} | cells)
    return read(text.getvalue().encode())


@pytest.mark.parametrize("charset", ["utf-8", "utf-8-sig", "cp1252", "utf-16"])
@pytest.mark.parametrize("delimiter", [";", "\t"])
def test_a_line_is_read_whatever_the_charset_and_the_separator(charset: str, delimiter: str) -> None:
    """é, œ, ï and È come out as typed."""
    raw = f"{HEADER}\r\n{ROW}\r\n".replace(";", delimiter).encode(charset)
    assert read(raw) == ([LINE], [])


def test_commas_separate_where_the_header_has_them() -> None:
    """A quoted cell may hold the separator."""
    raw = (HEADER + "\n" + ROW).replace(",", "@").replace(";", ",").replace("Anaïs@ Marie Anne", '"Anaïs, Marie Anne"')
    assert read(raw.encode()) == ([LINE], [])


@given(st.text("éèêëàâçîïôöùûüÿœæÉÈÇÏŒÆ ñÑßžŠ'-abcXYZ", min_size=1))
def test_a_french_name_is_never_garbled(name: str) -> None:
    """Whatever is read is what was typed, in either charset; a doubt is a problem, not a wrong letter."""
    for charset in ("utf-8", "cp1252"):
        raw = f"{HEADER}\n{ROW.replace('LEFÈVRE', name)}\n".encode(charset)
        lines, problems = read(raw)
        assert problems or lines[0].birth_name == (" ".join(name.split()) or None)


@pytest.mark.parametrize("charset", ["cp850", "mac_roman"])
def test_an_index_in_the_charset_of_dos_or_of_an_old_mac_is_refused_whole(charset: str) -> None:
    """Its accents would otherwise become other letters in silence."""
    raw = f"{HEADER}\n{ROW.replace('LEFÈVRE', 'Hélène').replace('CŒURDACIER', 'François')}\n".encode(charset)
    assert read(raw) == ([], [LineProblem(1, None, "the file is neither UTF-8 nor Windows-1252")])


def test_a_text_encoded_twice_is_a_problem_of_its_cell() -> None:
    """`LefÃ¨vre` in good UTF-8 is the work of an earlier program."""
    lines, problems = _one(nom_naissance="Lefèvre".encode().decode("cp1252"))
    assert lines[0].birth_name is None
    assert [(problem.line, problem.column) for problem in problems] == [(2, "nom_naissance")]


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("07/03/1972", "1972-03-07"),
        ("7/3/1972", "1972-03-07"),
        ("07.03.1972", "1972-03-07"),
        ("07-03-1972", "1972-03-07"),
        ("1972-03-07", "1972-03-07"),
        ("07031972", "1972-03-07"),
        ("19720307", "1972-03-07"),
        ("20121912", "1912-12-20"),
        ("03/1972", "1972-03"),
        ("1972-03", "1972-03"),
        ("1972", "1972"),
        ("00/03/1972", "1972-03"),
        ("00/00/1972", "1972"),
        ("1972-00-00", "1972"),
        ("07/00/1972", None),
        ("30/02/1972", None),
        ("07/03/72", None),
        ("07/03/1472", None),
        ("13/1972", None),
        ("hier", None),
    ],
)
def test_dates_are_read_in_the_french_forms(written: str, expected: str | None) -> None:
    """JJ/MM/AAAA, ISO and JJMMAAAA; zeros are unknown parts; two-digit years are refused."""
    assert partial_date(written) == expected


@pytest.mark.parametrize(
    ("column", "value", "field"),
    [
        ("date_naissance", "31/02/1972", "birth_date"),
        ("sexe", "X9", "sex"),
        ("matricule_ins", "2720375116042", "matricule_ins"),
        ("oid_ins", "NIR", "oid_ins"),
        ("siret_employeur", "123456782", "employer_siret"),
        ("date", "99", "dated"),
        ("pages", "-1", "pages"),
        ("pages", "٣", "pages"),
        ("nom_naissance", "DU\x07PONT", "birth_name"),
    ],
)
def test_an_unreadable_cell_is_told_by_place_and_never_by_value(column: str, value: str, field: str) -> None:
    """The line is kept, the field is None, and the problem holds no personal data."""
    lines, problems = _one(**{column: value})
    assert getattr(lines[0], field) is None
    assert [(problem.line, problem.column) for problem in problems] == [(2, column)]
    assert value not in problems[0].detail


@pytest.mark.parametrize(
    ("value", "expected"),
    [("2 72 03 2A 116 042 18", "272032A11604218"), ("172037511604218", "172037511604218")],
)
def test_an_ins_is_read_with_its_spaces_and_corsica(value: str, expected: str) -> None:
    """Department 2A and 2B have a letter."""
    assert _one(matricule_ins=value)[0][0].matricule_ins == expected


@pytest.mark.parametrize(("value", "expected"), [("H", "male"), ("1", "male"), ("femme", "female"), ("I", None)])
def test_sex_is_read_in_the_usual_codes(value: str, expected: str | None) -> None:
    """I (indéterminé) is known to be unknown, not a problem."""
    lines, problems = _one(sexe=value)
    assert (lines[0].sex, problems) == (expected, [])


def test_a_line_with_a_shifted_cell_is_left_out() -> None:
    """One separator too many would give a person the traits of another column."""
    lines, problems = read(f"{HEADER}\n{ROW};\n{ROW}\n".encode())
    assert lines == [LINE]
    assert [(problem.line, problem.column) for problem in problems] == [(2, None)]


def test_a_document_listed_twice_is_told() -> None:
    """The first line counts; the second may name another person."""
    lines, problems = read(f"{HEADER}\n{ROW}\n{ROW}\n".encode())
    assert (lines, problems[0].line, problems[0].column) == ([LINE], 3, "document")


def test_titles_may_be_in_another_order_with_accents_and_spaces() -> None:
    """`Nom naissance` and `Prénoms` are what a spreadsheet shows."""
    raw = "Prénoms;Document;Dossier;Nom naissance;Date-naissance\nZoé;1_1;1;Petit;1980\n".encode()
    lines, problems = read(raw)
    assert problems == []
    assert (lines[0].folder, lines[0].birth_name, lines[0].given_names) == ("1", "Petit", ("Zoé",))


def test_a_file_without_header_is_refused_without_repeating_its_first_line() -> None:
    """That line is a person's."""
    lines, problems = read(ROW.encode())
    assert lines == []
    assert problems
    assert not any(word in str(problems) for word in ("LEFÈVRE", "1972", "Anaïs"))


@given(st.binary(max_size=400))
def test_no_bytes_make_the_reader_fail(raw: bytes) -> None:
    """The index comes from outside."""
    for file in (raw, HEADER.encode() + b"\n" + raw):
        lines, problems = read(file)
        assert lines or problems or not re.search(rb"[0-9A-Za-z]", raw)  # blank rows are nobody's
