"""What may be decided, for which reasons, and when a second person must agree: the table and its reading."""

from typing import Any

import pytest

from fhir_server.identity.decisions import (
    Decision,
    Target,
    candidate_of,
    check,
    grounds_of,
    reason_of,
    second_opinion,
    table,
)
from fhir_server.identity.matching import REASONS
from fhir_server.outcomes import BadParameter

PLAIN = Target("QUAL", frozenset(), dismissed=False)


def test_the_table_knows_its_own_words() -> None:
    """Every reason that may be given has its text, every guard is a reason of matching."""
    rows = table()
    used = {reason for row in rows.decision.values() for reason in row.reasons}
    assert used == set(rows.reason)
    assert set(rows.guards["codes"]) <= set(REASONS)


@pytest.mark.parametrize(
    ("target", "reasons", "candidate", "expected"),
    [
        (PLAIN, [], {"against": []}, ()),
        (PLAIN, ["traits-missing"], None, ()),
        (PLAIN, ["G1-same-family"], None, ("guard",)),
        (PLAIN, [], {"against": ["G2-homonym"]}, ("guard",)),
        (PLAIN, [], {"guards": ["twin"]}, ("guard",)),
        (Target("PROV", frozenset({"homonyme"}), dismissed=False), [], None, ("PROV", "homonyme")),
        (Target("RECUP", frozenset({"douteuse"}), dismissed=False), [], None, ("douteuse",)),
        (Target("PROV", frozenset({"fictive"}), dismissed=False), [], None, ("PROV", "fictive")),
        (Target("VALI", frozenset(), dismissed=True), [], None, ("dismissed",)),
    ],
)
def test_when_two_persons_are_asked(
    target: Target, reasons: list[str], candidate: dict[str, Any] | None, expected: tuple[str, ...]
) -> None:
    assert second_opinion(target, reasons, candidate) == expected


@pytest.mark.parametrize(
    "decision",
    [
        Decision("attach"),
        Decision("not-in-register", patient_id="a"),
        Decision("non-transmissible"),
        Decision("attach", patient_id="a", documents={"d": ()}),
        Decision("non-transmissible", documents={"d": (0,)}),
        Decision("disagree", note="x" * 1001),
        Decision("burn"),  # pyright: ignore[reportArgumentType]
    ],
)
def test_what_is_no_decision_is_refused(decision: Decision) -> None:
    with pytest.raises(BadParameter):
        check(decision)


def test_a_reason_is_one_of_the_table() -> None:
    assert reason_of("undo", None) == "wrong-worker"
    assert reason_of("undo", "other") == "other"
    with pytest.raises(BadParameter):
        reason_of("undo", "personal-notes")


def test_an_event_keeps_codes_and_numbers_only() -> None:
    """Barcodes are folder numbers, and whatever else comes with the evidence is somebody's."""
    evidence: dict[str, Any] = {
        "reasons": ["G6-rival"],
        "barcodes": ["100000101"],
        "traits": {"birth_name": "X"},
        "candidates": [
            {"patient": "a", "for": ["name"], "against": [], "steps": [{"field": "family", "bits": 7.5}], "name": "X"}
        ],
    }
    kept = grounds_of(evidence)
    assert kept == {
        "reasons": ["G6-rival"],
        "candidates": [{"patient": "a", "for": ["name"], "against": [], "steps": [{"field": "family", "bits": 7.5}]}],
    }
    assert candidate_of(evidence, "a") == evidence["candidates"][0]
    assert candidate_of(None, "a") is None
    assert grounds_of(None) == {"reasons": [], "candidates": []}
