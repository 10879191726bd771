"""A delivery moves as its table says, and not otherwise."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fhir_server.outbox.deliveries import STATES, TRANSITIONS, after, pause_before
from fhir_server.outcomes import Conflict

EVENTS = sorted({event for _, event in TRANSITIONS})
FINAL = {"refused", "withheld", "integrated"}


@pytest.mark.parametrize(("state", "event"), TRANSITIONS)
def test_every_move_of_the_table_is_made(state: str, event: str) -> None:
    """To where the table says."""
    assert after(state, event) == TRANSITIONS[state, event]


@pytest.mark.parametrize("state", sorted(STATES))
def test_every_other_move_is_refused(state: str) -> None:
    """A delivery that was refused cannot be received."""
    for event in [*EVENTS, "unheard-of"]:
        if (state, event) not in TRANSITIONS:
            with pytest.raises(Conflict):
                after(state, event)


def test_an_unknown_state_moves_nowhere() -> None:
    """Also a bug is a refusal."""
    with pytest.raises(Conflict):
        after("lost", "claimed")


def reachable(start: str) -> set[str]:
    seen, waiting = {start}, [start]
    while waiting:
        here = waiting.pop()
        for (state, _), there in TRANSITIONS.items():
            if state == here and there not in seen:
                seen.add(there)
                waiting.append(there)
    return seen


def test_every_state_can_be_reached_from_pending() -> None:
    """No state is only on paper."""
    assert reachable("pending") == STATES


def test_from_every_state_the_road_has_an_end() -> None:
    """Nothing is for ever on its way."""
    for state in STATES:
        assert reachable(state) & FINAL, state
    by_itself = {state for state, event in TRANSITIONS if event != "asked_again"}
    assert STATES - by_itself == FINAL


def test_what_left_never_waits_again() -> None:
    """A document that was handed over is not sent a second time."""
    assert not reachable("handed_over") & {"pending", "sending", "withheld"}


def test_a_claim_is_taken_over_from_a_dead_worker() -> None:
    """`sending` can be claimed again; what is finished cannot."""
    assert after("sending", "claimed") == "sending"
    for state in ("handed_over", "refused", "withheld"):
        with pytest.raises(Conflict):
            after(state, "claimed")


@pytest.mark.parametrize(
    ("attempt", "asked", "expected"),
    [
        (1, None, 5),
        (2, None, 10),
        (3, None, 20),
        (10, None, 600),
        (1, 60, 60),
        (5, 1, 80),
        (10, 5000, 5000),
        (1, 0.0, 5),
    ],
)
def test_pauses_double_up_to_the_longest_and_respect_the_recipient(
    attempt: int, asked: float | None, expected: float
) -> None:
    """Retry-After is never undercut."""
    assert pause_before(attempt, first=5, longest=600, asked=asked) == expected


@given(st.integers(1, 10_000), st.floats(0.1, 60), st.floats(60, 10_000), st.none() | st.floats(0, 100_000))
def test_pauses_never_overflow_nor_shrink(attempt: int, first: float, longest: float, asked: float | None) -> None:
    """However often it failed."""
    pause = pause_before(attempt, first=first, longest=longest, asked=asked)
    assert first <= pause <= max(longest, asked or 0)
    assert pause <= pause_before(attempt + 1, first=first, longest=longest, asked=asked)
