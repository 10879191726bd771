"""What is read of a cover takes certainty away, and never gives any."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fhir_server.identity.matching import REASONS, Certain, Doubtful, Evidence, Known, Match, Scored, Unknown, match
from fhir_server.identity.reading import with_reading
from fhir_server.linkage.traits import TraitsIns
from fhir_server.scans.cover import CoverReading, ReadField

ANNE = TraitsIns(
    birth_name="LE GOFF",
    used_name="MARTIN-DUPONT",
    given_names=("ANNE-MARIE", "LOUISE"),
    birth_date="1979-03-14",
    sex="female",
    matricule_ins="279032901921835",
    oid_ins="1.2.250.1.213.1.4.8",
)
TWIN = replace(ANNE, given_names=("SOPHIE",), matricule_ins=None)
CERTAIN = Certain("anne", ("folder-number", "name"))


def known(patient_id: str = "anne", traits: TraitsIns = ANNE) -> Known:
    return Known(patient_id, traits, (), "QUAL", frozenset(), ("000123456",))


def reading(confidence: float = 0.95, **values: str) -> CoverReading:
    return CoverReading(tuple(ReadField(name, value, confidence) for name, value in values.items()))  # type: ignore[arg-type]


def test_a_cover_that_agrees_confirms_and_changes_nothing_else() -> None:
    """The reason is kept with the attachment."""
    told = reading(birth_name="Le Goff", given_names="Anne-Marie", birth_date="1979-03-14")
    assert with_reading(CERTAIN, told, [known()]) == Certain("anne", (*CERTAIN.reasons, "cover-agrees"))


@pytest.mark.parametrize(
    "told",
    [
        reading(birth_name="LEG0FF", given_names="Anne-Marle", birth_date="1979-03-14"),
        reading(birth_name="LE GCFF", given_names="Louise", birth_date="1979-08-14"),
        reading(birth_name="MARTIN", given_names="Anne", birth_date="1979-03-11"),
        reading(birth_name="KERVELLA", given_names="Anne-Marie", birth_date="1979-03-14"),
        reading(birth_name="KERVELLA"),
        reading(given_names="Bernard"),
        reading(birth_date="1961-05-08"),
        reading(0.7, birth_name="GABARIT", given_names="Bernard", birth_date="1961-05-08"),
        reading(birth_name="LE GOFF", given_names="A", birth_date="1979-03-14"),
        reading(birth_name="LE GOFF", birth_date="1979-14-03"),
        reading(matricule="279032901921853"),
        reading(sex="male", employer="GABARIT", folder_number="100000104"),
        CoverReading(()),
    ],
)
def test_what_a_misreading_explains_sends_nobody_to_review(told: CoverReading) -> None:
    """A letter, a digit, the name of a marriage, one stray value, values that were read with doubt."""
    assert isinstance(with_reading(CERTAIN, told, [known()]), Certain)


@pytest.mark.parametrize(
    ("told", "code", "reason"),
    [
        (reading(birth_name="GABARIT", given_names="Bernard", birth_date="1961-05-08"), "E13", "cover-names-another"),
        (reading(birth_name="LE GOFF", given_names="Sophie", birth_date="1979-03-14"), "E13", "cover-names-another"),
        (reading(birth_name="LE GOFF", given_names="Anne", birth_date="1951-11-02"), "E13", "cover-names-another"),
        (reading(matricule="161052A00400094"), "E12", "cover-other-matricule"),
    ],
)
def test_a_cover_that_plainly_names_another_holds_the_folder_back(told: CoverReading, code: str, reason: str) -> None:
    """A stranger, a twin, a parent of the same name, another's number."""
    found = with_reading(CERTAIN, told, [known()])
    assert isinstance(found, Doubtful)
    assert (found.code, found.reasons) == (code, (reason,))
    assert found.candidates == (Scored("anne", CERTAIN.reasons, ("cover-differs",)),)


def test_the_one_whom_the_cover_names_is_shown_beside() -> None:
    """The twin, where the register has her."""
    told = reading(birth_name="LE GOFF", given_names="Sophie", birth_date="1979-03-14")
    found = with_reading(CERTAIN, told, [known(), known("sophie", TWIN)])
    assert isinstance(found, Doubtful)
    assert [one.patient_id for one in found.candidates] == ["anne", "sophie"]


def test_where_nobody_was_found_the_cover_proposes() -> None:
    """For a person to decide, and never for itself."""
    told = reading(birth_name="LE GOFF", given_names="Anne-Marie", birth_date="1979-03-14", matricule="279032901921835")
    found = with_reading(Unknown("E10", ("nobody",)), told, [known()])
    assert found == Doubtful((Scored("anne", ("cover-proposes",), ()),), "E10", ("nobody", "cover-proposes"))
    stranger = reading(birth_name="GABARIT", given_names="Bernard", birth_date="1961-05-08")
    assert with_reading(Unknown("E10", ("nobody",)), stranger, [known()]) == Unknown("E10", ("nobody",))


def test_candidates_keep_their_order_and_say_what_the_cover_says() -> None:
    """The reading is shown; it does not rank."""
    doubt = Doubtful((Scored("anne", ("name",), ()), Scored("sophie", ("name",), ())), "E11", ("G6-rival",))
    told = reading(birth_name="LE GOFF", given_names="Sophie", birth_date="1979-03-14")
    found = with_reading(doubt, told, [known(), known("sophie", TWIN)])
    assert isinstance(found, Doubtful)
    assert [(one.patient_id, one.agreements, one.conflicts) for one in found.candidates] == [
        ("anne", ("name",), ("cover-differs",)),
        ("sophie", ("name", "cover-agrees"), ()),
    ]
    assert (found.code, found.reasons) == ("E11", ("G6-rival",))


def test_every_reason_has_a_text_for_the_reviewer() -> None:
    """In French."""
    for code in ("cover-agrees", "cover-differs", "cover-other-matricule", "cover-names-another", "cover-proposes"):
        assert REASONS[code]


# --- properties

names = st.sampled_from(["LE GOFF", "MARTIN", "DUPONT", "GABARIT", "LE GCFF"])
givens = st.sampled_from(["ANNE", "MARIE", "ANNE-MARIE", "SOPHIE", "BERNARD"])
dates = st.sampled_from(["1979-03-14", "1979-03-11", "1961-05-08", "1979"])
matricules = st.sampled_from(["279032901921835", "161052A00400094"])
numbers = st.sampled_from(["000123456", "100000104"])
people = st.builds(
    TraitsIns,
    birth_name=st.none() | names,
    used_name=st.none() | names,
    given_names=st.lists(givens, max_size=2).map(tuple),
    birth_date=st.none() | dates,
    sex=st.sampled_from([None, "male", "female"]),
    matricule_ins=st.none() | matricules,
    oid_ins=st.just("1.2.250.1.213.1.4.8"),
)
registers = st.lists(st.builds(known, st.sampled_from("abc"), people), max_size=3, unique_by=lambda one: one.patient_id)
folders = st.builds(
    Evidence,
    folder_number=st.none() | numbers,
    index=st.none() | people,
    codes=st.lists(people, max_size=1).map(tuple),
    barcodes=st.lists(numbers, max_size=1).map(tuple),
)
readings = st.fixed_dictionaries(
    {},
    optional={
        "birth_name": names,
        "used_name": names,
        "given_names": givens,
        "birth_date": dates,
        "matricule": matricules,
    },
).flatmap(
    lambda values: st.builds(
        CoverReading,
        st.tuples(*(st.builds(ReadField, st.just(n), st.just(v), st.floats(0, 1)) for n, v in values.items())),
    )
)


def decided(folder: Evidence, register: list[Known]) -> Match:
    return with_reading(match(folder, register), folder.read, register)


@given(readings, registers)
def test_with_a_reading_alone_nobody_is_ever_certain(read: CoverReading, register: list[Known]) -> None:
    """Whatever the cover states, and however well."""
    alone = Evidence(None, None, (), (), read)
    assert not isinstance(match(alone, register), Certain)
    assert not isinstance(decided(alone, register), Certain)


@given(folders, readings, registers)
def test_a_reading_never_makes_certain_what_was_not(
    folder: Evidence, read: CoverReading, register: list[Known]
) -> None:
    """And what stays certain is still the same person; whoever was a candidate stays one, in the same place."""
    without, told = match(folder, register), decided(replace(folder, read=read), register)
    if isinstance(told, Certain):
        assert isinstance(without, Certain)
        assert told.patient_id == without.patient_id
    if isinstance(without, Doubtful):
        assert isinstance(told, Doubtful)
        kept = [one.patient_id for one in told.candidates][: len(without.candidates)]
        assert kept == [one.patient_id for one in without.candidates]
        assert told.code == without.code


@given(folders, readings, registers)
def test_matching_itself_does_not_look_at_the_reading(
    folder: Evidence, read: CoverReading, register: list[Known]
) -> None:
    """The decision that can attach is made without it."""
    assert match(folder, register) == match(replace(folder, read=read), register)
