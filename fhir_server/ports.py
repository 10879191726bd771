"""What the core asks of the outside, and the answers it understands.

An adapter answers, it does not raise: a refusal by a remote party is ordinary life (docs/adr/0005).
"""

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol


class Clock(Protocol):
    """The time, so that a test can hold it still."""

    def __call__(self) -> datetime:
        """Now, with its time zone (UTC)."""
        ...


@dataclass(frozen=True, slots=True)
class Blob:
    """What was kept: SHA-256 and SHA-1 (which FHIR's attachment.hash is) as bytes, size in bytes."""

    sha256: bytes
    sha1: bytes
    size: int


class BlobStore(Protocol):
    """Bytes named by their SHA-256: written once, whole or not at all, never changed, streamed both ways.

    What is not there is NotFound; a store that is out of reach is Unavailable, one without room StorageFull.
    """

    def open(self) -> None:
        """Make ready, and clear away what a crash left half written (blocking)."""
        ...

    async def put(self, chunks: AsyncIterator[bytes], *, largest: int) -> Blob:
        """Keep a stream; if it raises, nothing is kept. Raises TooLarge beyond `largest` bytes."""
        ...

    async def put_bytes(self, content: bytes) -> Blob:
        """Keep something small that is in memory already."""
        ...

    def put_file(self, source: Path, *, largest: int) -> Blob:
        """Keep a copy of a file (blocking). Raises TooLarge."""
        ...

    def chunks(self, sha256: bytes, start: int = 0, length: int | None = None) -> AsyncIterator[bytes]:
        """The bytes from `start`, at most `length` of them."""
        ...

    async def size(self, sha256: bytes) -> int:
        """In bytes."""
        ...

    def as_file(self, sha256: bytes) -> AbstractContextManager[Path]:
        """The blob as a file to read from, while the context lasts (blocking)."""
        ...

    async def answers(self) -> bool:
        """Can something be kept now?"""
        ...

    async def delete(self, sha256: bytes) -> None:
        """Forget a blob that nothing names any more; one that is not there is forgotten already."""
        ...

    def names(self) -> AsyncIterator[bytes]:
        """The SHA-256 of every blob, in any order; one that comes or goes meanwhile may be missed."""
        ...


class MasterKeys(Protocol):
    """The keys under which the keys of documents are wrapped. They have names, and never leave.

    A key that is not here, or a device that does not answer, is Unavailable; a wrapping that does not open is Damaged.
    """

    async def ids(self) -> Sequence[str]:
        """The names of the keys that are here, the newest last."""
        ...

    async def make(self) -> str:
        """A new key; its name."""
        ...

    async def forget(self, key_id: str) -> None:
        """Destroy a key: what is wrapped under it, here or in any backup, is never opened again."""
        ...

    async def wrap(self, key_id: str, secret: bytes, context: bytes) -> bytes:
        """A secret wrapped under a key; it opens with the same context only (AES-256-GCM, context as AAD)."""
        ...

    async def unwrap(self, key_id: str, wrapped: bytes, context: bytes) -> bytes:
        """The secret again."""
        ...

    def close(self) -> None:
        """Let go of a device."""
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


@dataclass(frozen=True, slots=True)
class Stamped:
    """A time-stamp token (DER) as the authority gave it; who trusts it checks it."""

    token: bytes


class TimeStamper(Protocol):
    """A time-stamping authority (RFC 3161)."""

    async def stamp(self, sha256: bytes) -> Stamped | Refused | TryLater:
        """A token on this digest. Raises only on a bug."""
        ...

    async def close(self) -> None:
        """Let go of connections."""
        ...


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
