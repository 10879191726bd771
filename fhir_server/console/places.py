"""Where somebody is in the queue: his filters and a folder, carried from page to page as a sealed word."""

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from fhir_server.console.references import References
from fhir_server.intake.review import Filters
from fhir_server.outcomes import NotFound
from fhir_server.store.identity_events import PlaceInQueue

STATES: Final[dict[str, tuple[str, ...]]] = {
    "": ("to-review", "second-opinion"),
    "to-review": ("to-review",),
    "second-opinion": ("second-opinion",),
    "aside": ("aside",),
}
"""What may be asked for -> states of a folder."""


@dataclass(frozen=True, slots=True)
class Sought:
    """What somebody filters the queue by; empty is anything."""

    state: str = ""
    centre: str = ""
    code: str = ""

    @property
    def filters(self) -> Filters:
        return Filters(STATES.get(self.state, STATES[""]), centre=self.centre or None, code=self.code or None)

    @property
    def pairs(self) -> dict[str, str]:
        """As the query of the queue has it."""
        named = {"etat": self.state, "centre": self.centre, "motif": self.code}
        return {name: value for name, value in named.items() if value}


@dataclass(frozen=True, slots=True)
class Position:
    """`sought`, and the folder after which one goes on."""

    sought: Sought
    place: PlaceInQueue

    def sealed(self, references: References) -> str:
        sought, place = self.sought, self.place
        return references.seal(
            "position", sought.state, sought.centre, sought.code, place.updated.isoformat(), place.lot, place.barcode
        )


def position_of(references: References, word: str | None) -> Position:
    """The place that a word says; the beginning of the whole queue where there is none, or none of ours."""
    try:
        state, centre, code, updated, lot, barcode = references.open("position", word or "")
    except NotFound:
        return Position(Sought(), PlaceInQueue())
    return Position(Sought(state, centre, code), PlaceInQueue(datetime.fromisoformat(updated), lot, barcode))
