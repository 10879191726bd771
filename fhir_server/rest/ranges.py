"""Parts of a content: which a Range header asks for, and how several of them travel in one answer.

https://www.rfc-editor.org/rfc/rfc9110#section-14
"""

import re
from collections.abc import AsyncIterator, Callable, Sequence
from typing import NamedTuple

from fhir_server.outcomes import RangeNotSatisfiable

MOST_RANGES = 16
# Less between two parts than the words that would announce the second: they are sent as one (section 15.3.7.2).
SMALLEST_GAP = 160
_SET = re.compile(r"bytes=[ \t,]*(.*)", re.IGNORECASE | re.DOTALL)
_RANGE = re.compile(r"(\d{0,18})-(\d{0,18})")


class Part(NamedTuple):
    """From the byte `start`, `length` bytes."""

    start: int
    length: int

    @property
    def end(self) -> int:
        return self.start + self.length

    def content_range(self, size: int) -> str:
        return f"bytes {self.start}-{self.end - 1}/{size}"


def parts_of(header: str, size: int) -> list[Part] | None:
    """The parts of a content of `size` bytes that a Range header asks for, in ascending order, those that touch as one.

    None where the header is in another unit or in none: then it is ignored and the whole is sent (section 14.2). Raises
    RangeNotSatisfiable where nothing of it lies in the content, where one ends before it starts, or for more than
    `MOST_RANGES`.
    """
    found = _SET.fullmatch(header.strip())
    if not found:
        return None
    texts = [text.strip() for text in found[1].split(",") if text.strip()]
    if len(texts) > MOST_RANGES:
        raise RangeNotSatisfiable(f"At most {MOST_RANGES} ranges are sent in one answer")
    matches = [_RANGE.fullmatch(text) for text in texts]
    asked: list[tuple[str, str]] = [(match[1], match[2]) for match in matches if match and match[0] != "-"]
    if not asked or len(asked) != len(texts):
        return None
    parts = [part for first, last in asked if (part := _part(first, last, size))]
    if not parts:
        raise RangeNotSatisfiable(f"The content has {size} bytes")
    return _merged(sorted(parts))


def _part(first: str, last: str, size: int) -> Part | None:
    if not first:
        length = min(int(last), size)
        return Part(size - length, length) if length else None
    start, end = int(first), min(int(last) + 1, size) if last else size
    if last and int(last) < start:
        raise RangeNotSatisfiable("A range ends before it starts")
    return Part(start, end - start) if start < size else None


def _merged(parts: Sequence[Part]) -> list[Part]:
    merged = [parts[0]]
    for part in parts[1:]:
        last = merged[-1]
        if part.start - last.end <= SMALLEST_GAP:
            merged[-1] = Part(last.start, max(last.end, part.end) - last.start)
        else:
            merged.append(part)
    return merged


class Multipart:
    """Several parts as multipart/byteranges (section 14.6). `boundary` must not be in the content: make it random."""

    def __init__(self, parts: Sequence[Part], size: int, media_type: str, boundary: str) -> None:
        self._parts = parts
        head = f"\r\n--{boundary}\r\nContent-Type: {media_type}\r\nContent-Range: "
        self._heads = [f"{head}{part.content_range(size)}\r\n\r\n".encode() for part in parts]
        self._tail = f"\r\n--{boundary}--\r\n".encode()
        self.media_type = f"multipart/byteranges; boundary={boundary}".encode()
        self.length = sum(map(len, self._heads)) + sum(part.length for part in parts) + len(self._tail)

    async def chunks(self, read: Callable[[int, int], AsyncIterator[bytes]]) -> AsyncIterator[bytes]:
        """The body; `read(start, length)` gives the bytes of a part."""
        for head, part in zip(self._heads, self._parts, strict=True):
            begun = False
            async for chunk in read(part.start, part.length):
                if not begun:
                    yield head  # only now is it known that the content can be read
                    begun = True
                yield chunk
        yield self._tail
