"""For whom something is written: what he sees, what he may write, and what he may be told.

R4624-45-5 C. trav.: the headings of the DMST that a role may enter.
"""

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Final

from fhir_server.outcomes import Forbidden
from fhir_server.r4.resource_types import TYPE_NAME
from fhir_server.sight import EVERYTHING, Sight
from fhir_server.store.bounds import meets
from mappings.access_facts import NON_TRANSMISSIBLE


@dataclass(frozen=True, slots=True)
class Author:
    """`closed` are the bits (`mappings.access_facts`) of what he may not write, `recalls` says whether he may make what
    is non-transmissible transmissible again, `may_read` of which types (by number) he may be told something.
    """

    sight: Sight = EVERYTHING
    closed: int = 0
    recalls: bool = True
    may_read: Callable[[int], bool] = lambda _type: True

    def may_be_told_of(
        self, type_number: int, guard: int, worker: int | None, held: Collection[str], doc: bytes | None = None
    ) -> bool:
        """Whether a failure may name this resource to him. Without its document not where scopes limit the type."""
        seen = self.may_read(type_number) and self.sight.covers(guard, worker, held)
        return seen and meets(self.sight, TYPE_NAME[type_number], doc)

    def must_write(self, name: str, before: int | None, after: int | None) -> None:
        """Raises Forbidden unless he may turn a resource with the bits `before` (None: there is none) into one with
        `after` (None: it is deleted). `name` is that of the resource, for the text.
        """
        if ((before or 0) | (after or 0)) & self.closed:
            raise may_not_write(name)
        was_withheld = bool((before or 0) & NON_TRANSMISSIBLE)
        if was_withheld and after is not None and not after & NON_TRANSMISSIBLE and not self.recalls:
            raise Forbidden(f"Only the médecin du travail makes {name} transmissible again")


def may_not_write(name: str) -> Forbidden:
    """In the same words whether something is hidden there, or whether nothing is and this role may write none."""
    return Forbidden(f"This role may not write {name}, or not under its headings (R4624-45-5)")


THE_SERVICE: Final = Author()
