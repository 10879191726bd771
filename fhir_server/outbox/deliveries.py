"""A delivery: one document on its way to one recipient, its states and its moves.

The table is the law: whatever is not in it cannot happen (docs/adr/0004). Accusés have kinds; one flag
`received` would lie.
"""

from typing import Final

from fhir_server.outcomes import Conflict

TRANSITIONS: Final = {
    # (where a delivery is, what happened): where it goes
    ("pending", "claimed"): "sending",
    ("sending", "claimed"): "sending",  # its worker died: send() must bear being called twice
    ("sending", "withheld"): "withheld",  # law or consent says no, asked at the last moment
    ("withheld", "asked_again"): "pending",  # a transfer that somebody asks for anew; it is decided upon anew
    ("sending", "try_later"): "pending",
    ("sending", "gave_up"): "refused",
    ("sending", "refused"): "refused",
    ("sending", "handed_over"): "handed_over",
    ("handed_over", "received"): "received",  # accuse de reception
    ("handed_over", "integrated"): "integrated",  # some parties send only this one
    ("handed_over", "refused"): "refused",
    ("received", "refused"): "refused",  # received, then not integrated
    ("received", "read"): "read",  # accuse de lecture (MDN)
    ("received", "integrated"): "integrated",  # accuse de traitement
    ("read", "integrated"): "integrated",
}
STATES: Final = frozenset({"pending", *TRANSITIONS.values()})


def after(state: str, event: str) -> str:
    """Where a delivery goes from `state` when `event` happens. Raises Conflict when it cannot happen."""
    try:
        return TRANSITIONS[state, event]
    except KeyError as error:
        raise Conflict(f"A delivery that is {state} cannot be {event}") from error


def pause_before(attempt: int, *, first: float, longest: float, asked: float | None) -> float:
    """Seconds to wait after `attempt` failed: doubled each time, never below what the recipient asked for."""
    doubled = first * 2.0 ** min(attempt - 1, 30)
    return max(asked or 0.0, min(longest, doubled))
