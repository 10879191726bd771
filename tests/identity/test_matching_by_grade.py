"""The decision on a folder where its sources are weighed: what is only written otherwise, guards, rivals, order."""

from collections.abc import Sequence

from fhir_server.identity.matching import Certain, Doubtful, Evidence, Grades, Known, Unknown, match
from fhir_server.linkage.comparable import comparable
from fhir_server.linkage.grade import Candidate, Judge
from fhir_server.linkage.model import default_model
from fhir_server.linkage.traits import TraitsIns

MODEL = default_model()
REGISTER = 100_000
YANN = TraitsIns("LE GOFF", None, ("YANN",), "1979-03-14", "male", "29019")


def worker(identity: str, traits: TraitsIns, number: str, status: str = "QUAL") -> Known:
    return Known(identity, traits, (), status, frozenset(), (number,))  # pyright: ignore[reportArgumentType]


def grades_of(stated: TraitsIns, workers: Sequence[Known]) -> Grades:
    compared = [
        Candidate(one.patient_id, comparable(one.traits, families=MODEL.families, givens=MODEL.givens))
        for one in workers
    ]
    incoming = comparable(stated, families=MODEL.families, givens=MODEL.givens)
    return [{one.identity: one for one in Judge(MODEL, REGISTER).grade(incoming, compared)}]


def decided(stated: TraitsIns, *workers: Known, number: str | None = "F1") -> Certain | Doubtful | Unknown:
    return match(Evidence(number, stated, (), ()), workers, grades=grades_of(stated, workers))


def test_a_name_that_is_only_written_otherwise_is_no_conflict_under_the_right_number() -> None:
    misspelt = TraitsIns("LE GOF", None, ("YANN",), "1979-03-14", "male")
    his = worker("yann", YANN, "F1")
    assert isinstance(match(Evidence("F1", misspelt, (), ()), [his]), Doubtful), "letter by letter it was one"
    found = decided(misspelt, his)
    assert isinstance(found, Certain)
    assert found.graded
    assert found.graded.grade == "certain"


def test_without_a_number_likeness_alone_attaches_nothing() -> None:
    """The barcode of the cover is missing: a person looks, and finds him at the top."""
    found = decided(YANN, worker("yann", YANN, "F1"), number=None)
    assert isinstance(found, Doubtful)
    assert (found.code, found.candidates[0].patient_id) == ("E08", "yann")


def test_a_guard_holds_a_folder_back_under_the_right_number() -> None:
    """The twin of the same family: the number may be that of the other folder of two that lay together."""
    twin = TraitsIns("LE GOFF", None, ("YVES",), "1979-03-14", "male", "29019")
    found = decided(twin, worker("yann", YANN, "F1"))
    assert isinstance(found, Doubtful)
    assert "G1-same-family" in found.reasons


def test_another_who_is_as_likely_holds_it_back() -> None:
    """The same traits twice in the register: G6."""
    found = decided(YANN, worker("yann", YANN, "F1"), worker("double", YANN, "F2"))
    assert isinstance(found, Doubtful)
    assert "G6-rival" in found.reasons
    assert [one.patient_id for one in found.candidates][:1] == ["yann"], "whom the number designates comes first"


def test_whoever_shares_little_is_shown_last_and_whoever_shares_nothing_is_not_shown() -> None:
    near = worker("near", TraitsIns("LE GOFF", None, ("YANN",), "1979-04-14", "male"), "F2")
    far = worker("far", TraitsIns("MARTIN", None, ("PAULINE",), "1961-01-02", "female"), "F3")
    found = decided(YANN, far, near, worker("yann", YANN, "F9"), number=None)
    assert isinstance(found, Doubtful)
    assert [one.patient_id for one in found.candidates] == ["yann", "near"]
    assert all(one.graded for one in found.candidates)


def test_a_status_that_wants_a_person_is_not_outweighed() -> None:
    found = decided(YANN, worker("yann", YANN, "F1", status="PROV"))
    assert isinstance(found, Doubtful)
    assert "status-review" in found.reasons
