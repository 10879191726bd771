"""What of a store somebody may look at: a condition on every resource that an answer shows, counts or is led by.

The bits are those of `mappings.access_facts`. PostgreSQL asks the same of a row (`store.statement`) as `covers` does of
a resource that was read.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from types import MappingProxyType
from typing import Any, Final

from xxhash import xxh3_64_intdigest

from mappings.access_facts import IDENTITY, OUTSIDE


def signed_hash(text: str) -> int:
    """64 bits, as PostgreSQL keeps them."""
    unsigned = xxh3_64_intdigest(text.encode("utf-8", "surrogatepass"))
    return unsigned - (1 << 64) if unsigned >= 1 << 63 else unsigned


@lru_cache(maxsize=65536)
def own_hash(target: str) -> int:
    """The hash of a resource (`Type/id`), or of an absolute URL that is referred to."""
    return signed_hash(target)


Bound = tuple[tuple[str, ...], ...]
"""What granular scopes ask of a resource: of each of these, that it meets one of its searches (`category=...`)."""
Bounds = Mapping[str, Bound]
"""By the resource types of which not everything is meant."""
NO_BOUNDS: Final[Bounds] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Sight:
    """`hidden` are the bits that hide a resource. `rights` are those of a worker (C1 to C5) which, once he opposes,
    keep his record from who looks, but not who he is. `only`, where it is said, is the one worker whose record is seen
    (the own hash of his Patient). `bounds` are those of his scopes, whatever his role. `team`, where it is said, are
    the centres (`Organization/id`) whose workers' records are seen, besides those of the workers `lifted` (own hashes);
    who a worker is, is seen all the same.
    """

    hidden: int
    rights: tuple[str, ...] = ()
    only: int | None = None
    bounds: Bounds = field(default_factory=lambda: NO_BOUNDS, hash=False)
    team: tuple[str, ...] | None = None
    lifted: tuple[int, ...] = ()

    def covers(self, guard: int, worker: int | None, held: Collection[str]) -> bool:
        """Is a resource with these bits in sight, in the record of this worker? `held` is what holds of him: the rights
        that he exercised (`C2`) and the centre in whose charge he is (`Organization/id`).

        The bounds are not among that: they are asked of the document (`store.bounds`).
        """
        if guard & self.hidden:
            return False
        if self.only is not None and worker != self.only and not guard & OUTSIDE:
            return False
        if worker is None or guard & IDENTITY:
            return True
        return not any(right in held for right in self.rights) and not self._is_out_of_team(worker, held)

    def _is_out_of_team(self, worker: int, held: Collection[str]) -> bool:
        if self.team is None or worker in self.lifted:
            return False
        return any("/" in one and one not in self.team for one in held)

    def as_parameters(self) -> dict[str, Any]:
        """Those of `in_sight` in named SQL."""
        return {
            "hidden": self.hidden,
            "rights": list(self.rights),
            "only": self.only,
            "team": None if self.team is None else list(self.team),
            "lifted": list(self.lifted),
        }


EVERYTHING: Final = Sight(0)
"""That of this service itself at work."""
