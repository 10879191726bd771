"""Why a question of terminology has no answer: the three ways, as exceptions. Whoever asked tells them to his client.

No text here quotes what was asked or what is kept; `place` is a FHIRPath into the definition that stands in the way.
"""


class Problem(Exception):
    """The question cannot be answered."""

    def __init__(self, text: str, place: str | None = None) -> None:
        super().__init__(text)
        self.place = place


class NotKept(Problem):
    """A definition refers to another one, or to a version of it, that is not at hand."""


class Incomputable(Problem):
    """Everything is at hand, and it does not say enough: a fragment, or a filter that nobody can compute."""


class TooMuch(Problem):
    """The answer is too long, or would take too long."""
