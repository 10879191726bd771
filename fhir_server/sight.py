"""What of a store somebody may look at: a condition on every resource that an answer shows, counts or is led by.

The bits are those of `mappings.access_facts`. PostgreSQL asks the same of a row (`store.statement`) as `covers` does of
a resource that was read.
"""

from collections.abc import Collection
from dataclasses import dataclass
from functools import lru_cache
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


@dataclass(frozen=True, slots=True)
class Sight:
    """`hidden` are the bits that hide a resource. `rights` are those of a worker (C1 to C5) which, once he opposes,
    keep his record from who looks, but not who he is. `only`, where it is said, is the one worker whose record is seen
    (the own hash of his Patient).
    """

    hidden: int
    rights: tuple[str, ...] = ()
    only: int | None = None

    def covers(self, guard: int, worker: int | None, opposed: Collection[str]) -> bool:
        """Is a resource with these bits in sight, in the record of this worker, who exercised these rights?"""
        if guard & self.hidden:
            return False
        if self.only is not None and worker != self.only and not guard & OUTSIDE:
            return False
        return worker is None or bool(guard & IDENTITY) or not any(right in opposed for right in self.rights)

    def as_parameters(self) -> dict[str, Any]:
        """Those of `in_sight` in named SQL."""
        return {"hidden": self.hidden, "rights": list(self.rights), "only": self.only}


EVERYTHING: Final = Sight(0)
"""That of this service itself at work."""
