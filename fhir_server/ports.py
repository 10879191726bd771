"""What the core asks of the outside, and the answers it understands.

An adapter answers, it does not raise: a refusal by a remote party is ordinary life (docs/adr/0005).
"""

from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol


class Clock(Protocol):
    """The time, so that a test can hold it still."""

    def __call__(self) -> datetime:
        """Now, with its time zone (UTC)."""
        ...


@dataclass(frozen=True, slots=True)
class Content:
    """The bytes of a document, opened only when somebody reads them.

    `chunks()` starts a new pass over the bytes each time it is called.
    """

    media_type: str
    size: int
    sha256: str
    chunks: Callable[[], AsyncIterator[bytes]]


@dataclass(frozen=True, slots=True)
class Envelope:
    """One document on its way to one recipient: everything that `send` may need, and nothing else.

    `delivery_id` is the same at every attempt: the adapter makes whatever it sends idempotent by it.
    `related` holds the other resources (Organization, Practitioner, PractitionerRole) by their `Type/id`.
    """

    delivery_id: str
    recipient: str
    document_reference: dict[str, Any]
    patient: dict[str, Any]
    content: Content
    created_at: datetime
    related: Mapping[str, dict[str, Any]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class HandedOver:
    """The recipient has it. `remote_id` is its own name for the document, where it gave one."""

    remote_id: str | None = None


@dataclass(frozen=True, slots=True)
class Refused:
    """The recipient will never take it as it is. `reason` is a code, `detail` a sentence without health data."""

    reason: str
    detail: str


@dataclass(frozen=True, slots=True)
class TryLater:
    """The recipient could not take it now. `after` is its own wish in seconds, where it named one."""

    reason: str
    detail: str
    after: float | None = None


Answer = HandedOver | Refused | TryLater


class Adapter(Protocol):
    """An outbound party. Called again with the same envelope after a crash: must bear being told twice."""

    async def send(self, envelope: Envelope) -> Answer:
        """Hand one document over. Raises only on a bug."""
        ...

    async def close(self) -> None:
        """Let go of connections."""
        ...


@dataclass(frozen=True, slots=True)
class AcknowledgedLot:
    """What the provider of a scan lot is told: the file to leave for it, and its bytes."""

    file_name: str
    content: bytes
