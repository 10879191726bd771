"""Who may be filed without a human: the table of identitovigilance, cell by cell, the strictest line winning."""

import pytest

from fhir_server.identity.policy import decide, decide_link
from fhir_server.linkage.grade import Grade
from terminology.ins import Status

TABLE = {
    "QUAL": ("attach", "review", "review-two-choices"),
    "VALI": ("attach", "review", "review"),
    "RECUP": ("attach", "review", "review"),
    "PROV": ("review", "review", "review"),
}
GRADES: tuple[Grade, ...] = ("certain", "probable", "possible")
STATUSES: tuple[Status, ...] = ("QUAL", "VALI", "RECUP", "PROV")


@pytest.mark.parametrize("status", STATUSES)
def test_the_table_is_that_of_the_specification(status: Status) -> None:
    assert tuple(decide(grade, status) for grade in GRADES) == TABLE[status]
    assert decide("none", status) == "never"


@pytest.mark.parametrize("status", STATUSES)
@pytest.mark.parametrize("attribute", ["douteuse", "fictive", "anything else"])
def test_a_doubtful_fictitious_or_strange_identity_takes_nothing(status: Status, attribute: str) -> None:
    assert {decide(grade, status, [attribute]) for grade in GRADES} == {"never"}


def test_the_strictest_line_wins() -> None:
    assert decide("certain", "QUAL", ["homonyme"]) == "review"
    assert decide("possible", "QUAL", ["homonyme"]) == "review-two-choices"
    assert decide("certain", "QUAL", ["homonyme", "douteuse"]) == "never"


def test_two_known_identities_always_need_a_human() -> None:
    one, other = "180032B02040123", "109076322083489"
    assert decide_link("QUAL", one, "QUAL", other) == "refused"
    assert decide_link("QUAL", one, "VALI", one) == "doublon"
    assert decide_link("QUAL", one, "VALI", other) == "review"
    assert decide_link("QUAL", one, "QUAL", None) == "review"
    assert {decide_link(a, None, b, None) for a in STATUSES for b in STATUSES} == {"review"}
