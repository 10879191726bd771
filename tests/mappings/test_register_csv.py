"""The register is read whatever office suite wrote it, and says what it could not read,
never whose it was.
"""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mappings.register_csv import COLUMNS, RowProblem, fhir_date, read

HEADING = ";".join(COLUMNS)
ANNE = (
    "000123456;LE GOFF;MARTIN;ANNE-MARIE LOUISE;14/03/1979;F;29019;2 79 03 29 019 218 35;"
    "1.2.250.1.213.1.4.8;QUAL;;Ateliers Exemple;999 999 999 00017;C07;Dr DURAND Claire;10101201234;03/11/2025"
)


def register(*rows: str, heading: str = HEADING) -> bytes:
    return "\r\n".join((heading, *rows, "")).encode()


def row(**changes: str) -> str:
    cells = dict(zip(COLUMNS, ANNE.split(";"), strict=True)) | changes
    return ";".join(cells[name] for name in COLUMNS)


def test_a_full_row_becomes_a_worker() -> None:
    """Every column lands in its field; French dates, spaces in numbers."""
    (worker,), problems = read(register(ANNE))
    assert problems == []
    assert worker.folder_number == "000123456"
    assert worker.given_names == ("ANNE-MARIE", "LOUISE")
    assert (worker.birth_date, worker.last_visit) == ("1979-03-14", "2025-11-03")
    assert (worker.matricule_ins, worker.oid_ins, worker.status) == (
        "279032901921835",
        "1.2.250.1.213.1.4.8",
        "QUAL",
    )
    assert (worker.employer_siret, worker.centre, worker.doctor_rpps) == (
        "99999999900017",
        "C07",
        "10101201234",
    )


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "cp1252", "utf-16"])
@pytest.mark.parametrize("delimiter", [";", ",", "\t"])
def test_encoding_and_separator_are_found(encoding: str, delimiter: str) -> None:
    """Excel, LibreOffice and database exports alike; a quoted cell may hold the separator."""
    text = "Numéro_Dossier;nom_naissance;prenoms;date_naissance;employeur\n1;GARÇON;ÉLÉONORE;1980-03-02;x\n"
    text = (
        text.replace("Numéro", "NUMERO")
        .replace(";", delimiter)
        .replace(f"{delimiter}x", f'{delimiter}"A {delimiter} Z"')
    )
    (worker,), problems = read(text.encode(encoding))
    assert problems == []
    assert (worker.birth_name, worker.given_names, worker.employer_name) == (
        "GARÇON",
        ("ÉLÉONORE",),
        f"A {delimiter} Z",
    )


@pytest.mark.parametrize(
    ("changes", "column"),
    [
        ({"numero_dossier": ""}, "numero_dossier"),
        ({"nom_naissance": "", "nom_utilise": " "}, "nom_naissance"),
        ({"prenoms": ""}, "prenoms"),
        ({"date_naissance": "31/02/1979"}, "date_naissance"),
        ({"date_naissance": ""}, "date_naissance"),
        ({"sexe": "X"}, "sexe"),
        ({"statut_identite": "SUPER"}, "statut_identite"),
        ({"attributs": "douteuse, fictive"}, "attributs"),
        ({"attributs": "bizarre"}, "attributs"),
        ({"oid_ins": "1.2.3"}, "oid_ins"),
        ({"oid_ins": ""}, "matricule_ins"),
        ({"matricule_ins": "279"}, "matricule_ins"),
    ],
)
def test_a_bad_row_is_reported_with_its_place_and_the_others_go_on(changes: dict[str, str], column: str) -> None:
    """Line and column, never the value."""
    workers, problems = read(register(row(**changes), row(numero_dossier="2")))
    assert [worker.folder_number for worker in workers] == ["2"]
    (problem,) = problems
    assert (problem.line, problem.column, problem.warning) == (2, column, False)
    for value in changes.values():
        assert not value.strip() or value not in problem.reason


@pytest.mark.parametrize(
    ("changes", "column", "field", "value"),
    [
        (
            {"matricule_ins": "279032901921888", "statut_identite": "QUAL"},
            "matricule_ins",
            "matricule_ins",
            "279032901921888",
        ),
        ({"matricule_ins": "279", "statut_identite": "VALI"}, "matricule_ins", "matricule_ins", None),
        ({"oid_ins": "", "statut_identite": "RECUP"}, "oid_ins", "oid_ins", None),
        ({"lieu_naissance": "BREST"}, "lieu_naissance", "birth_place", None),
        ({"siret": "12"}, "siret", "employer_siret", None),
        ({"rpps": "ABC"}, "rpps", "doctor_rpps", None),
        ({"derniere_visite": "hier"}, "derniere_visite", "last_visit", None),
    ],
)
def test_a_doubtful_value_warns_and_keeps_the_worker(
    changes: dict[str, str], column: str, field: str, value: str | None
) -> None:
    """An impossible key of a matricule warns only: published test identities have some."""
    (worker,), problems = read(register(row(**changes)))
    assert getattr(worker, field) == value
    assert [(problem.line, problem.column, problem.warning) for problem in problems] == [(2, column, True)]


def test_statuses_and_attributes_are_read_in_words() -> None:
    """Accents and case do not matter; an empty status is provisional."""
    rows = (
        row(numero_dossier="1", statut_identite="Qualifiée"),
        row(numero_dossier="2", statut_identite="récupérée"),
        row(numero_dossier="3", statut_identite="", attributs="Homonyme + Douteuse"),
    )
    workers, problems = read(register(*rows))
    assert problems == []
    assert [worker.status for worker in workers] == ["QUAL", "RECUP", "PROV"]
    assert workers[2].attributes == {"homonyme", "douteuse"}


def test_the_same_folder_number_twice_keeps_the_first() -> None:
    """Two workers under one number would attach folders to the wrong one."""
    workers, problems = read(register(ANNE, row(nom_naissance="AUTRE")))
    assert [worker.birth_name for worker in workers] == ["LE GOFF"]
    assert [(problem.line, problem.column) for problem in problems] == [(3, "numero_dossier")]


def test_a_heading_without_the_needed_columns_reads_nothing() -> None:
    """Each missing column is named once; columns that we do not read are only mentioned."""
    workers, problems = read(b"nom;prenom\nA;B\n")
    assert workers == []
    assert {problem.column for problem in problems if not problem.warning} == {
        "numero_dossier",
        "prenoms",
        "date_naissance",
        "nom_naissance",
    }
    assert read(b"")[1] == [RowProblem(1, "", "le registre est vide")]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("02/03/1980", "1980-03-02"),
        ("02-03-1980", "1980-03-02"),
        ("1980-03-02", "1980-03-02"),
        ("03/1980", "1980-03"),
        ("00/03/1980", "1980-03"),
        ("00/00/1980", "1980"),
        ("1980-00-00", "1980"),
        ("1980", "1980"),
        ("1980-02-30", None),
        ("02/03/80", None),
        ("0001-01-01", None),
        ("", None),
    ],
)
def test_dates_are_read_as_french_or_iso(text: str, expected: str | None) -> None:
    """A day or month of 00 is not known; what is no day of the calendar is no date."""
    assert fhir_date(text, partial=True) == expected


@given(st.binary(max_size=300))
def test_no_bytes_whatever_make_it_fall(raw: bytes) -> None:
    """A wrong file is reported, not raised."""
    workers, problems = read(raw)
    assert workers == [] or problems is not None


@given(st.text(max_size=60))
def test_no_cell_whatever_hides_the_next_row(cell: str) -> None:
    """Quotes, separators and line ends inside a quoted cell stay inside."""
    quoted = '"' + cell.replace('"', '""').replace("\0", "") + '"'
    workers, _ = read(register(row(numero_dossier="1", employeur=quoted), row(numero_dossier="2")))
    assert workers[-1].folder_number == "2"
