"""Registers compared as wholes: who is who, duplicates, and the report; nothing of it links anybody."""

import csv
import io
import json
import stat
from dataclasses import replace
from pathlib import Path

import pytest

from fhir_server.identity import pair_report, registers
from fhir_server.identity.policy import case_for, decide_link
from fhir_server.identity.registers import Listed, Pair, Way, compared, duplicates
from fhir_server.linkage.model import default_model
from fhir_server.linkage.traits import TraitsIns
from mappings.register_csv import read

WAY = Way(default_model())
NIR, OTHER_NIR = "285032901921873", "285032901921970"


def someone(number: str, name: str, given: str, born: str, nir: str | None = None) -> Listed:
    return Listed(number, TraitsIns(name, None, (given,), born, "female", "29019", nir, "1.2.250.1.213.1.4.8"))


REGISTER = [
    someone("1", "LE GOFF", "ANNE", "1985-03-14"),
    someone("2", "KERMADEC", "ZOE", "1979-11-02"),
    someone("3", "NGUYEN", "LINH", "1990-07-30"),
    someone("4", "DURAND", "MARIE", "1968-01-20"),
]


def test_each_line_has_its_worker_or_none() -> None:
    incoming = [
        someone("a", "LEGOFF", "Anne", "1985-03-14"),
        someone("b", "KERMADEC", "CHLOE", "1979-11-02"),
        someone("c", "PETITJEAN", "PAULE", "2001-05-05"),
    ]
    assert [(p.number, p.other, p.grade) for p in compared(incoming, REGISTER, WAY)] == [
        ("a", "1", "certain"),
        ("b", "2", "possible"),  # a twin: G1
        ("c", "", "none"),
    ]


def test_two_lines_are_not_both_certain_of_one_worker() -> None:
    twice = [someone(number, "LE GOFF", "ANNE", "1985-03-14") for number in ("a", "b")]
    found = compared(twice, REGISTER, WAY)
    assert [(p.grade, p.reasons) for p in found] == [("possible", ("several-lines",))] * 2


def test_a_register_with_duplicates_makes_nobody_certain() -> None:
    found = compared([REGISTER[0]], [*REGISTER, REGISTER[0]._replace(number="1b")], WAY)
    assert {(p.other, p.grade, p.reasons) for p in found} == {
        ("1", "possible", ("G6-rival",)),
        ("1b", "possible", ("G6-rival",)),
    }


def test_a_test_matricule_is_nobody_in_production_only() -> None:
    test_oid = "1.2.250.1.213.1.4.10"
    marked = Listed("t", replace(REGISTER[0].traits, matricule_ins=NIR, oid_ins=test_oid))
    assert compared([marked], REGISTER, WAY)[0].grade == "possible"
    assert compared([marked], REGISTER, Way(default_model(), production=False))[0].grade == "certain"


def test_duplicates_are_pairs_each_once_and_not_rivals() -> None:
    """Three entries of one worker are three pairs; a twin is shown with the guard."""
    again = [REGISTER[0]._replace(number=number) for number in ("1b", "1c")]
    twin = someone("2b", "KERMADEC", "CHLOE", "1979-11-02")
    found = {(p.number, p.other): (p.grade, p.reasons) for p, _ in duplicates([*REGISTER, *again, twin], WAY)}
    assert found == {
        ("1", "1b"): ("certain", ()),
        ("1", "1c"): ("certain", ()),
        ("1b", "1c"): ("certain", ()),
        ("2", "2b"): ("possible", ("G1-same-family",)),
    }


def test_several_processes_find_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registers, "FEW", 0)
    monkeypatch.setattr(registers, "PART", 2)
    told: list[tuple[int, int | None]] = []
    way = Way(default_model(), processes=2, tell=lambda done, of=None: told.append((done, of)))
    assert compared(REGISTER, REGISTER, way) == compared(REGISTER, REGISTER, WAY)
    assert told[-1] == (4, 4)
    people = [*REGISTER, REGISTER[3]._replace(number="4b")]
    assert duplicates(people, way) == duplicates(people, WAY)


def test_nobody_is_compared_with_nobody() -> None:
    assert compared([], REGISTER, WAY) == []
    assert [p.grade for p in compared(REGISTER[:1], [], WAY)] == ["none"]
    assert duplicates([], WAY) == []


@pytest.mark.parametrize(
    ("statuses", "numbers", "grade", "guards", "case"),
    [
        (("QUAL", "QUAL"), (NIR, NIR), "certain", (), "duplicate"),
        (("QUAL", "QUAL"), (NIR, NIR), "possible", ("G4-matricule-traits",), "duplicate"),
        (("QUAL", "QUAL"), (NIR, OTHER_NIR), "possible", ("G3-other-matricule",), "collision"),
        (("QUAL", "QUAL"), (NIR, OTHER_NIR), "possible", ("G1-same-family", "G3-other-matricule"), None),
        (("VALI", "PROV"), (None, None), "certain", (), "duplicate"),
        (("VALI", "PROV"), (None, None), "possible", ("G2-homonym",), None),
        (("QUAL", "QUAL"), (NIR, NIR), "none", (), None),
    ],
)
def test_the_case_that_a_pair_is_worth(statuses, numbers, grade, guards, case) -> None:  # type: ignore[no-untyped-def]
    decision = decide_link(statuses[0], numbers[0], statuses[1], numbers[1])
    assert case_for(decision, grade, guards) == case


def test_the_report_is_for_its_owner_and_has_no_name(tmp_path: Path) -> None:
    found = [(pair, "review") for pair in compared([REGISTER[0]._replace(number="=1+1")], REGISTER, WAY)]
    about = pair_report.about(default_model(), incoming=1)
    for name in ("report.csv", "report.json"):
        pair_report.write(tmp_path / name, found, about)
        assert stat.S_IMODE((tmp_path / name).stat().st_mode) == 0o600
        assert "GOFF" not in (tmp_path / name).read_text()
    (row,) = csv.DictReader(io.StringIO((tmp_path / "report.csv").read_text()), delimiter=";")
    assert (row["numero"], row["autre_numero"], row["note"]) == ("'=1+1", "1", "certain")
    assert "born:same" in row["niveaux"]
    whole = json.loads((tmp_path / "report.json").read_text())
    assert whole["model"]["checksum"] == default_model().checksum
    assert whole["pairs"][0]["grade"] == "certain"
    lines = "\n".join(pair_report.summary(pair_report.by_line([found[0][0]]), [found[0][0]], default_model()))
    assert "1 certaine" in lines


def test_an_interrupted_report_leaves_nothing(tmp_path: Path) -> None:
    def pairs():  # type: ignore[no-untyped-def]
        yield Pair("a", "", "none"), ""
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pair_report.write(tmp_path / "report.csv", pairs(), {})
    assert list(tmp_path.iterdir()) == []


def test_lines_that_cannot_be_used_are_told_and_link_nobody() -> None:
    """A name of 500 characters, a number twice: errors. A matricule that is none: left out, and told."""
    text = "\n".join(
        (
            "numero_dossier;nom_naissance;prenoms;date_naissance;matricule_ins",
            f"1;{'A' * 500};ANNE;14/03/1985;",
            "2;LE GOFF;ANNE;14/03/1985;999999999999999999",
            "2;LE GOFF;ANNE;14/03/1985;",
        )
    )
    workers, problems = read(text.encode())
    assert [worker.matricule_ins for worker in workers] == [None]
    assert [(p.line, p.column, p.warning) for p in problems] == [
        (2, "nom_naissance", False),
        (3, "matricule_ins", True),
        (4, "numero_dossier", False),
    ]
    assert all("LE GOFF" not in p.reason for p in problems)


def test_exotic_traits_are_nobody() -> None:
    """Whatever comes in by another way than the file: no failure, and nobody is certain."""
    odd = [
        Listed("a", TraitsIns("A" * 500, "B" * 500, ("C" * 500,) * 20, "1985-03-14", "male", "29019", "9" * 500, "x")),
        Listed("b", TraitsIns("\u202e\x00☃", None, ("١٢٣",), "0000-00-00", "unknown", "XXXXX", "2990019921999", None)),
        Listed("c", TraitsIns()),
    ]
    assert [p.grade for p in compared(odd, REGISTER, WAY)] == ["none"] * 3
    assert duplicates([*odd, *REGISTER], WAY) == []
