"""What a cover states, from words to fields: French labels, French dates, and nothing that is not plainly there."""

from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fhir_server.scans.cover import CoverReading, Line, Word, birth_date_of, matricule_of, read_cover

SCANNED = date(2026, 10, 15)


def lines(text: str, confidence: float = 0.95) -> list[Line]:
    """One line of words for each line of text; `  ` (two blanks and more) is a wide white space."""
    found: list[Line] = []
    for line in text.splitlines():
        words: list[Word] = []
        for cell in line.split("  "):
            words += [Word(word, confidence, 9.0 if n == 0 and words else 0.5) for n, word in enumerate(cell.split())]
        found.append(words)
    return found


def stated(text: str) -> dict[str, str]:
    return {field.name: field.value for field in read_cover(lines(text), scanned=SCANNED).fields}


COVER = """
DOSSIER MÉDICAL EN SANTÉ AU TRAVAIL
N° de dossier : 000123456
Nom de naissance :  LEFÈVRE
Nom d'usage ......... BOÎTEUX-D’HÉRAULT
Prénom(s) : Anaïs, Gaëlle
Né(e) le : 12/03/1975  à Ÿ
Sexe  F
N° Sécurité sociale : 2 75 O3 35 238 OO4 18
Entreprise : Chênebenoît & Fils
Nom du médecin : Dr MARTIN
"""


def test_a_printed_cover_is_read_field_by_field() -> None:
    """Labels with and without a colon, dotted lines, a typographic apostrophe, and the doctor is not the owner."""
    assert stated(COVER) == {
        "folder_number": "000123456",
        "birth_name": "LEFÈVRE",
        "used_name": "BOÎTEUX-D'HÉRAULT",
        "given_names": "Anaïs, Gaëlle",
        "birth_date": "1975-03-12",
        "sex": "female",
        "matricule": "275033523800418",
        "employer": "Chênebenoît & Fils",
    }


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("NOM : MARTIN  PRÉNOM : Zoé", {"birth_name": "MARTIN", "given_names": "Zoé"}),
        ("Nom MARTIN Prénom Zoé", {"birth_name": "MARTIN", "given_names": "Zoé"}),
        ("NOM : DUPONT née LE GOFF", {"used_name": "DUPONT", "birth_name": "LE GOFF"}),
        ("NOM : LE GOFF épouse DUPONT", {"birth_name": "LE GOFF", "used_name": "DUPONT"}),
        ("Nom et prénom : DE LA TOUR Jean-Luc", {"birth_name": "DE LA TOUR", "given_names": "Jean-Luc"}),
        ("Nom et prénom : MARTIN PAUL", {}),
        ("Nom marital : NÖEL\nNom de jeune fille : PETIT", {"used_name": "NÖEL", "birth_name": "PETIT"}),
        ("Nom de naisence : PETIT", {}),
        ("Nom de naissanse : PETIT", {"birth_name": "PETIT"}),
        ("Nom de naissance\nŒUVRARD", {"birth_name": "ŒUVRARD"}),
        ("Nom d'usage :\nPrénom : Léa", {"given_names": "Léa"}),
        ("Nom : MARTIN\nNom : DURAND", {}),
        ("Nom : MARTIN\nNOM : Martin", {"birth_name": "MARTIN"}),
        ("Nom : M4RTIN", {}),
        ("Nom : MARTIN  vu le 12/03/2020", {"birth_name": "MARTIN"}),
        ("Nom du conjoint : MARTIN\nPrénom du conjoint : Paul", {}),
        ("Son nom est MARTIN et son sexe masculin", {}),
        ("Sexe : X\nNé le 31/02/1975\nN° SS : 123", {}),
        ("Née le : 1er août 1975", {"birth_date": "1975-08-01"}),
        ("Né le 12 mars 1975 à Brest", {"birth_date": "1975-03-12"}),
        ("", {}),
    ],
)
def test_forms_differ_and_what_is_not_plain_is_not_stated(text: str, expected: dict[str, str]) -> None:
    """Two labels on a line, a maiden name inside it, a value below its label; two values for one field are none."""
    assert stated(text) == expected


def test_a_value_is_as_sure_as_its_least_sure_word() -> None:
    """And a speck of dust is no word."""
    line = [Word("Nom", 0.96), Word(":", 0.9), Word("L", 0.0, 2.0), Word("LE", 0.9), Word("GOFF", 0.42)]
    (field,) = read_cover([line], scanned=SCANNED).fields
    assert (field.value, field.confidence) == ("LE GOFF", 0.42)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("12/03/1975", "1975-03-12"),
        ("12.03.75", "1975-03-12"),
        ("12 - 03 - 1975", "1975-03-12"),
        ("12 03 1975", "1975-03-12"),
        ("12031975", "1975-03-12"),
        ("3/7/1980", "1980-07-03"),
        ("12 mars 1975", "1975-03-12"),
        ("1er août 1962", "1962-08-01"),
        ("ler aout 62", "1962-08-01"),
        ("05 DÉC. 1999", "1999-12-05"),
        ("07.11.08", "2008-11-07"),
        ("07.11.20", "1920-11-07"),
        ("31/02/1975", None),
        ("12/13/1975", None),
        ("12/03/2020", None),
        ("12/03/1875", None),
        ("12/O3/1975", None),
        ("12 brumaire 1975", None),
        ("mars 1975", None),
        ("12/03/19755", None),
        ("", None),
    ],
)
def test_french_dates_of_birth(text: str, expected: str | None) -> None:
    """Digits are not guessed in a date: nothing would tell that the guess is wrong."""
    assert birth_date_of(text, SCANNED) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1 80 03 2B 020 401 23", "180032B02040123"),
        ("1 80 03 28 020 401 23", "180032B02040123"),
        ("l 8O O3 2B O2O 4OI 23", "180032B02040123"),
        ("2 77 O1 01 154 003 29", "277010115400329"),
        ("2 77 01 01 154 003 28", None),
        ("2 77 01 01 154 003", None),
        ("277010115400329 12", None),
        ("", None),
    ],
)
def test_letters_are_taken_for_digits_only_where_the_key_proves_it(text: str, expected: str | None) -> None:
    """O for 0, I for 1, S for 5, B for 8, and the Corsican B that was read as 8."""
    assert matricule_of(text) == expected


labels = st.sampled_from(["Nom", "Prénom", "Né le", "Sexe", "N° SS", "épouse", ":", "12/03/1975", "MARTIN", "É", "|"])


@given(st.lists(st.lists(labels | st.text(max_size=12), max_size=8), max_size=6))
def test_any_words_give_a_reading(texts: list[list[str]]) -> None:
    """Whatever the page holds: each field once at most, never an error."""
    told = read_cover([[Word(text, 0.9) for text in line] for line in texts], scanned=SCANNED)
    assert isinstance(told, CoverReading)
    assert len({field.name for field in told.fields}) == len(told.fields)
