"""Whose folder is it: certain only when plainly so, and a human decides the rest."""

from dataclasses import replace
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fhir_server.identity.matching import (
    REASONS,
    Certain,
    Doubtful,
    Evidence,
    Known,
    Match,
    Unknown,
    match,
)
from fhir_server.linkage.traits import Status, TraitsIns

REAL, TEST = "1.2.250.1.213.1.4.8", "1.2.250.1.213.1.4.10"

ANNE = TraitsIns(
    birth_name="LE GOFF",
    used_name="MARTIN-DUPONT",
    given_names=("ANNE-MARIE", "LOUISE"),
    birth_date="1979-03-14",
    sex="female",
    birth_place="29019",
    matricule_ins="279032901921835",
    oid_ins=REAL,
)
INDEX = TraitsIns(birth_name="Le Goff", given_names=("Anne Marie",), birth_date="1979-03-14", sex="female")
CODE = replace(ANNE, used_name=None)


def known(patient_id: str = "anne", traits: TraitsIns = ANNE, **changes: object) -> Known:
    base = Known(patient_id, traits, (), "QUAL", frozenset(), ("000123456",))
    return replace(base, **changes)  # type: ignore[arg-type]


def evidence(**changes: object) -> Evidence:
    return replace(Evidence("000123456", INDEX, (), ()), **changes)  # type: ignore[arg-type]


def is_certain(found: Match, patient_id: str = "anne") -> bool:
    return isinstance(found, Certain) and found.patient_id == patient_id


def code_of(found: Match) -> str | None:
    return None if isinstance(found, Certain) else found.code


# --- certain


def test_a_known_folder_number_with_agreeing_index_is_certain() -> None:
    """The ordinary case: barcode, name, given name and birth date."""
    found = match(evidence(), [known()])
    assert found == Certain("anne", ("folder-number", "name", "given-name", "birth-date", "sex"))


@pytest.mark.parametrize(
    "index",
    [
        replace(INDEX, birth_name="LEGOFF"),
        replace(INDEX, birth_name="MARTIN-DUPONT"),
        replace(INDEX, birth_name=None, used_name="Dupont"),
        replace(INDEX, birth_name="MARTIN", used_name="Le Goff"),
        replace(INDEX, given_names=("ANNE-MARIE",)),
        replace(INDEX, given_names=("AnneMarie",)),
        replace(INDEX, given_names=("ANNE", "MARIE", "LOUISE")),
        replace(INDEX, sex=None),
        replace(INDEX, sex="unknown"),
        replace(INDEX, birth_place="99999"),
    ],
)
def test_usual_ways_of_writing_the_same_person_stay_certain(index: TraitsIns) -> None:
    """Particles glued, used or birth name, either half of a double name, composed given names."""
    assert is_certain(match(evidence(index=index), [known()]))


def test_a_datamatrix_can_stand_for_the_index() -> None:
    """A folder without index but with an INS code on a page: the folder number and the code agree."""
    assert is_certain(match(evidence(index=None, codes=(CODE, CODE)), [known()]))


def test_an_index_with_the_used_name_does_not_quarrel_with_the_code() -> None:
    """Old registers give the married name only; the INS code has the birth name."""
    index = replace(INDEX, birth_name="MARTIN-DUPONT")
    assert is_certain(match(evidence(index=index, codes=(CODE,)), [known()]))


def test_an_equal_matricule_with_two_traits_is_certain_without_any_number() -> None:
    """Rule (b), also by a former matricule."""
    assert is_certain(match(evidence(folder_number=None, index=None, codes=(CODE,)), [known()]))
    renumbered = known(traits=replace(ANNE, matricule_ins="279032901999990"), former_matricules=("279032901921835",))
    assert is_certain(match(evidence(folder_number=None, index=None, codes=(CODE,)), [renumbered]))


def test_a_twin_of_another_given_name_does_not_prevent_certainty() -> None:
    """The index names one of the two plainly, and the number is hers."""
    twin = known("twin", replace(ANNE, given_names=("CLAIRE",), matricule_ins="279032901921992"), folder_numbers=("7",))
    assert is_certain(match(evidence(), [known(), twin]))


# --- doubtful: traits


@pytest.mark.parametrize(
    ("index", "code", "reason"),
    [
        (replace(INDEX, birth_date="1979-04-13"), "E11", "G2-homonym"),
        (replace(INDEX, birth_date="1979-03-15"), "E11", "G2-homonym"),
        (replace(INDEX, given_names=("CLAIRE",)), "E11", "G1-same-family"),
        (replace(INDEX, birth_name="LE GALL"), "E11", "traits-conflict"),
        (replace(INDEX, birth_name="DURAND", used_name="MARTIN"), "E11", "traits-conflict"),
        (replace(INDEX, sex="male"), "E11", "G5-other-sex"),
        (replace(INDEX, birth_date=None), "E10", "G7-no-birth-date"),
        (replace(INDEX, birth_date="1979-03"), "E10", "traits-missing"),
        (replace(INDEX, given_names=("ANNE",)), "E10", "traits-missing"),
        (replace(INDEX, given_names=("A.",)), "E10", "traits-missing"),
        (replace(INDEX, given_names=("LOUISE",)), "E10", "traits-missing"),
        (replace(INDEX, birth_name="GOFF"), "E10", "traits-missing"),
        (replace(INDEX, birth_place="35238"), "E11", "traits-conflict"),
        (None, "E10", "traits-missing"),
    ],
)
def test_a_folder_number_alone_never_suffices(index: TraitsIns | None, code: str, reason: str) -> None:
    """Each trait that differs or is missing leaves the choice to a human, and says which guard spoke."""
    found = match(evidence(index=index), [known()])
    assert isinstance(found, Doubtful)
    assert found.code == code
    assert reason in found.reasons
    assert found.candidates[0].patient_id == "anne"


def test_father_and_son_of_the_same_names_are_told_apart_by_birth_only() -> None:
    """The number is the father's, the birth date the son's."""
    father = known("father", replace(ANNE, birth_date="1950-01-02", matricule_ins=None))
    son = known("son", replace(ANNE, matricule_ins=None), folder_numbers=("8",))
    found = match(evidence(), [father, son])
    assert isinstance(found, Doubtful)
    assert {one.patient_id for one in found.candidates} == {"father", "son"}


def test_twins_with_near_names_are_never_told_apart_by_the_nearer_one() -> None:
    """MARIE and MARIE-ANNE, one birth date: the index MARIE fits one and may be the start of the other."""
    marie = known("marie", replace(ANNE, given_names=("MARIE",), matricule_ins=None))
    marie_anne = known(
        "marie-anne", replace(ANNE, given_names=("MARIE-ANNE",), matricule_ins=None), folder_numbers=("9",)
    )
    found = match(evidence(index=replace(INDEX, given_names=("MARIE",))), [marie, marie_anne])
    assert code_of(found) == "E11"
    assert isinstance(found, Doubtful)
    assert "G6-rival" in found.reasons


def test_the_same_person_registered_twice_goes_to_a_human() -> None:
    """A duplicate in the register is settled there, not by a scan."""
    assert code_of(match(evidence(), [known(), known("doublon", folder_numbers=("9",))])) == "E11"


def test_a_folder_number_held_by_two_workers_designates_none() -> None:
    """E11, even when the traits fit only one."""
    other = known("other", TraitsIns(birth_name="PETIT", given_names=("JEAN",), birth_date="1960-01-01"))
    found = match(evidence(), [known(), other])
    assert isinstance(found, Doubtful)
    assert (found.code, found.reasons[0]) == ("E11", "folder-number-shared")


# --- doubtful: numbers and matricules


def test_traits_without_a_folder_number_are_left_to_a_human() -> None:
    """E08: the barcode is missing, or nobody has it."""
    missing = match(evidence(folder_number=None), [known()])
    unknown = match(evidence(folder_number="999"), [known()])
    assert isinstance(missing, Doubtful)
    assert isinstance(unknown, Doubtful)
    assert (missing.code, missing.reasons[0]) == ("E08", "folder-number-missing")
    assert (unknown.code, unknown.reasons[0]) == ("E08", "folder-number-unknown")


def test_a_stray_page_does_not_draw_a_folder_of_unknown_number() -> None:
    """With a number that nobody has, the index must name the owner of the datamatrix too."""
    assert code_of(match(evidence(folder_number="999", index=None, codes=(CODE,)), [known()])) == "E08"
    assert is_certain(match(evidence(folder_number="999", codes=(CODE,)), [known()]))


def test_another_matricule_is_a_conflict_whatever_else_agrees() -> None:
    """E12: a spouse's number on the file, or a usurpation."""
    found = match(evidence(index=replace(INDEX, matricule_ins="177032901921822")), [known()])
    assert isinstance(found, Doubtful)
    assert found.code == "E12"
    assert "G3-other-matricule" in found.reasons


def test_a_matricule_of_another_sex_is_seen_where_the_worker_has_none() -> None:
    """The number itself says that it is the spouse's."""
    unqualified = known(traits=replace(ANNE, matricule_ins=None), status="VALI")
    index = replace(INDEX, matricule_ins="177032901921822")
    assert code_of(match(evidence(index=index), [unqualified])) == "E12"


def test_an_equal_matricule_with_other_traits_is_not_certain() -> None:
    """G4: the insured's number was long used for the whole family."""
    child = replace(CODE, given_names=("PAUL",), birth_date="2004-05-06", sex="male")
    found = match(evidence(folder_number=None, index=None, codes=(child,)), [known()])
    assert isinstance(found, Doubtful)
    assert "G4-matricule-traits" in found.reasons


def test_an_equal_matricule_alone_is_not_certain() -> None:
    """At least two further traits must agree."""
    bare = TraitsIns(matricule_ins=ANNE.matricule_ins, birth_name="LE GOFF", sex="female")
    assert code_of(match(evidence(folder_number=None, index=bare), [known()])) == "E10"


def test_a_number_of_one_and_a_matricule_of_another_is_a_conflict() -> None:
    """E12: one of the two cover sheets lies."""
    other = known("other", replace(ANNE, matricule_ins=None))
    found = match(evidence(codes=(CODE,)), [other, known(folder_numbers=("9",))])
    assert code_of(found) == "E12"


def test_a_test_matricule_matches_nobody_in_production() -> None:
    """A .10 or .11 OID goes to quarantine; outside production it is ordinary."""
    trial = replace(CODE, oid_ins=TEST)
    assert code_of(match(evidence(codes=(trial,)), [known()])) == "E12"
    assert code_of(match(evidence(codes=(trial,)), [])) == "E12"
    registered = known(traits=replace(ANNE, oid_ins=TEST))
    assert code_of(match(evidence(), [registered])) == "E11"
    assert is_certain(match(evidence(codes=(trial,)), [registered], production=False))


# --- doubtful: mixed folders


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"codes": (CODE, replace(CODE, matricule_ins="180057510012345"))}, "several-persons"),
        ({"barcodes": ("000123456", "000999999")}, "several-folders"),
        ({"barcodes": ("000999999",)}, "several-folders"),
        (
            {"codes": (replace(CODE, given_names=("PAUL",), birth_date="1990-01-01"),)},
            "index-and-page-differ",
        ),
    ],
)
def test_pages_of_two_workers_in_one_folder_are_never_attached(changes: dict[str, object], reason: str) -> None:
    """E13 comes before everything else."""
    found = match(evidence(**changes), [known()])
    assert isinstance(found, Doubtful)
    assert found.code == "E13"
    assert reason in found.reasons


def test_the_same_barcode_on_every_page_is_one_number() -> None:
    """Case and blanks around it do not make another."""
    assert is_certain(match(evidence(barcodes=(" 000123456", "000123456 ")), [known()]))


# --- policy


@pytest.mark.parametrize(
    ("status", "attributes", "attached"),
    [
        ("QUAL", (), True),
        ("VALI", (), True),
        ("RECUP", (), True),
        ("PROV", (), False),
        ("QUAL", ("homonyme",), False),
        ("QUAL", ("douteuse",), False),
        ("VALI", ("fictive",), False),
        ("VALI", ("douteuse", "homonyme"), False),
    ],
)
def test_the_status_of_the_worker_decides_who_may_attach(
    status: Status, attributes: tuple[str, ...], attached: bool
) -> None:
    """Provisional and homonym: review even when certain; doubtful and fictive: never."""
    found = match(evidence(), [known(status=status, attributes=frozenset(attributes))])
    assert isinstance(found, Certain) is attached
    if isinstance(found, Doubtful):
        never = {"douteuse", "fictive"} & set(attributes)
        assert found.reasons[0] == ("status-never" if never else "status-review")


# --- unknown


def test_nobody_like_this_is_unknown() -> None:
    """A sex or a birth place in common is nothing."""
    stranger = known("x", TraitsIns(birth_name="PETIT", given_names=("EVE",), birth_date="1960-01-01", sex="female"))
    assert match(evidence(folder_number=None), [stranger]) == Unknown("E10", ("nobody",))
    assert match(evidence(), []) == Unknown("E10", ("nobody",))
    assert match(Evidence(None, None, (), ()), [known()]) == Unknown("E10", ("nobody",))


def test_every_reason_is_written_for_people() -> None:
    """The console shows the French text of each code."""
    assert all(text.strip() for text in REASONS.values())


# --- properties

names = st.sampled_from(["MARTIN", "LE GOFF", "MARTIN-DUPONT", "DUPONT", "DE LA TOUR", None])
givens = st.sampled_from([(), ("JEAN",), ("JEAN-PIERRE",), ("JEAN", "PIERRE"), ("MARIE",), ("J",)])
dates = st.sampled_from(["1980-01-02", "1980-02-01", "1981-01-02", "1980-01", None])
numbers = st.sampled_from(["1", "2", "3"])
matricules = st.sampled_from([None, "180012901900101", "180012901900202", "280012901900303"])
people = st.builds(
    TraitsIns,
    birth_name=names,
    used_name=names,
    given_names=givens,
    birth_date=dates,
    sex=st.sampled_from(["male", "female", "unknown", None]),
    birth_place=st.sampled_from(["29019", "35238", None]),
    matricule_ins=matricules,
    oid_ins=st.just(REAL),
)
statuses = st.sampled_from(["PROV", "RECUP", "VALI", "QUAL"])
workers = st.builds(
    Known,
    patient_id=st.sampled_from(["a", "b", "c", "d"]),
    traits=people,
    former_matricules=st.tuples() | st.tuples(matricules.filter(bool)),  # type: ignore[arg-type]
    status=statuses,
    attributes=st.frozensets(st.sampled_from(["homonyme", "douteuse", "fictive"]), max_size=1),
    folder_numbers=st.tuples(numbers),
)
registers = st.lists(workers, max_size=5, unique_by=lambda known: known.patient_id)
folders = st.builds(
    Evidence,
    folder_number=st.none() | numbers,
    index=st.none() | people,
    codes=st.tuples() | st.tuples(people),
    barcodes=st.tuples() | st.tuples(numbers),
)


@given(folders, registers, st.randoms(use_true_random=False))
def test_the_order_of_candidates_never_changes_the_answer(
    folder: Evidence, register: list[Known], random: Random
) -> None:
    """The store returns rows in any order, and some twice."""
    shuffled = [*register, *register[:1]]
    random.shuffle(shuffled)
    assert match(folder, register) == match(folder, shuffled)


@given(folders, registers)
def test_certain_always_means_that_all_stated_traits_hold(folder: Evidence, register: list[Known]) -> None:
    """Nobody is certain against a full birth date, a matricule or a folder number that says otherwise."""
    found = match(folder, register)
    if not isinstance(found, Certain):
        return
    (owner,) = [one for one in register if one.patient_id == found.patient_id]
    for said in (*([folder.index] if folder.index else []), *folder.codes):
        if said.birth_date and owner.traits.birth_date and len(said.birth_date) == len(owner.traits.birth_date):
            assert said.birth_date == owner.traits.birth_date
        if said.matricule_ins and owner.traits.matricule_ins:
            assert said.matricule_ins in (owner.traits.matricule_ins, *owner.former_matricules)
    assert owner.status != "PROV"
    assert not owner.attributes


def _true_folder(owner: Known, number: str | None) -> Evidence:
    return Evidence(number, owner.traits, (owner.traits,), ())


@given(
    registers.filter(bool),
    st.none() | numbers,
    st.sets(st.sampled_from(sorted(TraitsIns.__dataclass_fields__))),
)
def test_less_evidence_never_attaches_to_somebody_else(
    register: list[Known], number: str | None, dropped: set[str]
) -> None:
    """Traits of the first worker, the number of anyone: dropping traits may lose the answer, never change the
    person.
    """
    owner = register[0]
    full = _true_folder(owner, number)
    blank = {name: () if name == "given_names" else None for name in dropped}
    less = replace(full, index=replace(owner.traits, **blank), codes=())  # type: ignore[arg-type]
    for folder in (full, less):
        found = match(folder, register)
        assert not isinstance(found, Certain) or found.patient_id == owner.patient_id


def test_a_name_without_a_single_letter_agrees_with_nothing() -> None:
    """A dash in a column is not a name."""
    dash = TraitsIns(birth_name="-", given_names=("?",), birth_date="1979-03-14")
    assert code_of(match(evidence(index=dash), [known(traits=replace(dash, sex="female"))])) == "E10"
