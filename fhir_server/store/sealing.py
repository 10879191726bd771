"""How the bytes of a blob are sealed: AES-256-GCM in blocks of 512 KiB, one key for each blob (docs/adr/0011).

The construction is STREAM (Hoang, Reyhanitabar, Rogaway, Vizár 2015): the nonce of a block is seven random bytes, its
number, and whether it is the last. A block that is changed, moved, missing, or of another blob does not open. Each is
opened by itself, so that a part of a document costs no more than that part. NIST SP 800-38D; no I/O here.
"""

import secrets
from collections.abc import Sequence

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from fhir_server.outcomes import Damaged

HEADER = b"dmst-fhir sealed blob, format 1\n"
"""What a sealed blob begins with; authenticated with every block."""
BLOCK = 512 * 1024
TAG = 16
ROOM = BLOCK - TAG
"""What a block holds. The header takes its place in the first one: every block begins at a multiple of BLOCK."""
KEY, PREFIX = 32, 7
SECRET = KEY + PREFIX


def new_secret() -> bytes:
    """The key of a new blob and the beginning of its nonces: used once, never for another."""
    return secrets.token_bytes(SECRET)


def blocks_of(size: int) -> int:
    """How many blocks hold so many bytes."""
    return -(-(len(HEADER) + size) // ROOM)


def sealed_size(size: int) -> int:
    """How long the sealed form of so many bytes is."""
    return len(HEADER) + size + TAG * blocks_of(size)


class Seal:
    """The secret of one blob at work. It prints as nothing."""

    __slots__ = ("_cipher", "_prefix")

    def __init__(self, secret: bytes) -> None:
        self._cipher, self._prefix = AESGCM(secret[:KEY]), secret[KEY:]

    def _nonce(self, number: int, last: bool) -> bytes:
        return self._prefix + number.to_bytes(4, "big") + bytes((last,))

    def close(self, number: int, content: memoryview | bytes, *, last: bool) -> bytes:
        """One block, without the header."""
        return self._cipher.encrypt(self._nonce(number, last), content, HEADER)

    def open(self, number: int, block: memoryview | bytes, *, last: bool) -> bytes:
        """What a block holds. Raises Damaged where it is not the one that was sealed here."""
        try:
            return self._cipher.decrypt(self._nonce(number, last), block, HEADER)
        except InvalidTag:
            raise Damaged("The content of this document is not what was kept") from None


class Sealing:
    """Bytes that arrive become sealed blocks. What it holds back is less than two blocks."""

    def __init__(self, secret: bytes) -> None:
        self._seal = Seal(secret)
        self._number = 0
        self._left = b""

    def add(self, chunks: Sequence[bytes]) -> list[bytes]:
        """The blocks that are full, and are not the last."""
        content = memoryview(b"".join((self._left, *chunks)))
        sealed: list[bytes] = []
        at = 0
        while len(content) - at > self._room():
            end = at + self._room()
            sealed += self._block(content[at:end], last=False)
            at = end
        self._left = bytes(content[at:])
        return sealed

    def end(self) -> list[bytes]:
        """The last block: there is always one, of nothing where nothing arrived."""
        return self._block(self._left, last=True)

    def _room(self) -> int:
        return ROOM if self._number else ROOM - len(HEADER)

    def _block(self, content: memoryview | bytes, *, last: bool) -> list[bytes]:
        sealed = self._seal.close(self._number, content, last=last)
        self._number += 1
        return [sealed] if self._number > 1 else [HEADER, sealed]


class Part:
    """The bytes from `start` to before `end` of a blob of `size` bytes: which blocks hold them, and what is in those.

    The blocks are handed in one after the other, as they lie in the file from `offset`, `length` bytes in all.
    """

    def __init__(self, secret: bytes, size: int, start: int, end: int) -> None:
        self._seal = Seal(secret)
        self._size = size
        self._start, self._end = len(HEADER) + start, len(HEADER) + max(start, end)
        self._number = self._start // ROOM if end > start else 0
        self._beyond = -(-self._end // ROOM) if end > start else 1
        self.offset = self._number * BLOCK
        self.length = min(self._beyond * BLOCK, sealed_size(size)) - self.offset

    @property
    def complete(self) -> bool:
        return self._number >= self._beyond

    @property
    def wanted(self) -> int:
        """How long the next block is."""
        return min(BLOCK, sealed_size(self._size) - self._number * BLOCK)

    def open(self, block: memoryview | bytes) -> bytes:
        """What the next block holds of this part. Raises Damaged."""
        number, last = self._number, self._number == blocks_of(self._size) - 1
        if number == 0:
            if block[: len(HEADER)] != HEADER:
                raise Damaged("The content of this document is not what was kept")
            block = memoryview(block)[len(HEADER) :]
        content = self._seal.open(number, block, last=last)
        self._number += 1
        begins = len(HEADER) if number == 0 else number * ROOM
        return content[max(0, self._start - begins) : max(0, self._end - begins)]  # the same bytes where it is all
