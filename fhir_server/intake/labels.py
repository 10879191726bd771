"""Decisions of persons as labelled pairs, to set thresholds by: what was compared, and what he said. No trait, no id.

identity.md section 5: decisions feed the calibration of thresholds.
"""

from collections.abc import AsyncIterator, Iterator
from typing import Any, Final, Literal, NamedTuple

from fhir_server.store.identity_events import Event, IdentityEvents, Kind

AT_ONCE: Final = 500
_KINDS: Final[tuple[Kind, ...]] = ("attach", "not-this-worker", "not-in-register")
_KEPT: Final = ("for", "against", "steps", "odds", "score", "grade", "guards")


class LabelledPair(NamedTuple):
    """A folder and a worker who was proposed for it: the comparison, and whether he was the one."""

    event_id: int
    verdict: Literal["match", "non-match"]
    model: str | None
    comparison: dict[str, Any]


async def labelled_pairs(events: IdentityEvents) -> AsyncIterator[LabelledPair]:
    """Every pair on which a person decided, in the order of the decisions. What was taken back is left out, but for an
    attachment to the wrong worker: that is a pair which does not match, be it by a person or by the rule.
    """
    after = 0
    while page := await events.walk(_KINDS, after, AT_ONCE):
        for event in page:
            undone = await events.read(event.undone_by) if event.undone_by else None
            for pair in _pairs_of(event, undone):
                yield pair
        after = page[-1].event_id


def _pairs_of(event: Event, undone: Event | None) -> Iterator[LabelledPair]:
    candidates = {one["patient"]: one for one in event.explanation.get("candidates", ())}
    if undone is not None:
        if event.kind == "attach" and undone.reason == "wrong-worker" and event.patient_id in candidates:
            yield _pair(event, candidates[event.patient_id], match=False)
        return
    if event.decided_by is None:
        return
    if event.kind == "not-this-worker":
        wanted = [one for patient, one in candidates.items() if patient == event.patient_id]
    else:
        wanted = list(candidates.values())
    for one in wanted:
        yield _pair(event, one, match=event.kind == "attach" and one["patient"] == event.patient_id)


def _pair(event: Event, candidate: dict[str, Any], *, match: bool) -> LabelledPair:
    comparison = {name: candidate[name] for name in _KEPT if name in candidate}
    return LabelledPair(event.event_id, "match" if match else "non-match", event.model, comparison)
