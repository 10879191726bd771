"""What the execution of a query asks for, and what it is given."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

Key = tuple[str, str]
"""Type and id of a resource."""


@dataclass(frozen=True, slots=True)
class Reads:
    """Resources to read: those that a query names must be there, those that are referred to may be missing."""

    keys: tuple[Key, ...]
    named: bool


@dataclass(frozen=True, slots=True)
class Search:
    """A search to make, in the words of REST. With a `cursor`, it is the search that the cursor stands for."""

    type: str
    pairs: tuple[tuple[str, str], ...]
    """What the client asks, with `_count` where he gives one."""
    count: int
    """How many resources it may find."""
    connection: bool
    counted: bool
    """Whether the total is wanted."""
    path: str | None
    """The FHIRPath that hits are chosen by, for the cursors of other pages."""
    cursor: str | None


@dataclass(frozen=True, slots=True)
class Hit:
    """A resource that was found, with what a searchset says of it (`Bundle.entry.search`)."""

    doc: bytes
    mode: str | None = "match"
    score: Decimal | None = None


@dataclass(frozen=True, slots=True)
class Hits:
    """What a search found, in order, and of a connection what it says of itself."""

    found: Sequence[Hit]
    more: bool = False
    path: str | None = None
    about: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """`count`, `offset`, `pagesize` and the cursors, as far as there are such."""
