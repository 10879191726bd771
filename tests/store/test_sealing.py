"""The sealed form of blobs: what is changed, moved, cut off or of another blob does not open."""

import os
import random
from collections.abc import Callable

import pytest

from fhir_server.outcomes import Damaged
from fhir_server.store.sealing import BLOCK, HEADER, ROOM, TAG, Part, Sealing, blocks_of, new_secret, sealed_size

FIRST = ROOM - len(HEADER)
SIZES = [0, 1, 1000, FIRST - 1, FIRST, FIRST + 1, FIRST + ROOM - 1, FIRST + ROOM, FIRST + ROOM + 1, 3 * BLOCK]
WHOLE = random.Random(1).randbytes(3 * BLOCK)


def sealed(secret: bytes, content: bytes, piece: int = 100_003) -> bytes:
    sealing = Sealing(secret)
    out: list[bytes] = []
    for at in range(0, len(content), piece):
        out += sealing.add([content[at : at + piece]])
    return b"".join([*out, *sealing.end()])


def opened(secret: bytes, size: int, file: bytes, start: int = 0, end: int | None = None) -> bytes:
    """As the store reads it: the blocks of a part, one by one, and then it is complete."""
    part = Part(secret, size, start, size if end is None else end)
    content: list[bytes] = []
    at = part.offset
    while not part.complete:
        block, at = file[at : at + part.wanted], at + part.wanted
        content.append(part.open(block))
    assert at - part.offset == part.length
    return b"".join(content)


@pytest.mark.parametrize("size", SIZES)
def test_what_is_sealed_opens_again(size: int) -> None:
    """Around the edges of blocks, in whatever pieces it arrives; and its length is known beforehand."""
    secret, content = new_secret(), WHOLE[:size]
    for piece in (1_000_000, 77_777, max(1, size)):
        file = sealed(secret, content, piece)
        assert len(file) == sealed_size(size)
        assert len(file) == len(HEADER) + size + TAG * blocks_of(size)
        assert file.startswith(HEADER)
        assert opened(secret, size, file) == content
    assert len(content) < 100 or content[:50] not in file


def test_a_part_is_opened_from_its_own_blocks() -> None:
    """Any start and end; nothing but the blocks that hold them is looked at."""
    secret, size = new_secret(), len(WHOLE)
    file = sealed(secret, WHOLE)
    edges = sorted({0, 1, FIRST - 1, FIRST, FIRST + 1, FIRST + ROOM, FIRST + ROOM + 5, size - 1, size})
    for start in edges:
        for end in (one for one in edges if one > start):
            part = Part(secret, size, start, end)
            blind = bytearray(os.urandom(len(file)))
            blind[part.offset : part.offset + part.length] = file[part.offset : part.offset + part.length]
            assert opened(secret, size, bytes(blind), start, end) == WHOLE[start:end]
            assert part.length <= (end - start) + 2 * BLOCK + 5 * TAG


def flipped(at: int) -> Callable[[bytes], bytes]:
    def change(file: bytes) -> bytes:
        return file[:at] + bytes([file[at] ^ 1]) + file[at + 1 :]

    return change


def swapped(file: bytes) -> bytes:
    return file[:BLOCK] + file[2 * BLOCK : 3 * BLOCK] + file[BLOCK : 2 * BLOCK] + file[3 * BLOCK :]


OTHER = new_secret()
CHANGES: dict[str, Callable[[bytes], bytes]] = {
    "header": flipped(3),
    "header, its version": flipped(len(HEADER) - 2),
    "first block": flipped(len(HEADER) + 10),
    "tag of the first block": flipped(BLOCK - 1),
    "block in the middle": flipped(BLOCK + 1000),
    "tag in the middle": flipped(2 * BLOCK - TAG),
    "last byte": flipped(-1 % sealed_size(len(WHOLE))),
    "two blocks exchanged": swapped,
    "a block twice": lambda file: file[: 2 * BLOCK] + file[BLOCK : 2 * BLOCK] + file[3 * BLOCK :],
    "a block missing": lambda file: file[:BLOCK] + file[2 * BLOCK :],
    "a block of another blob": lambda file: file[:BLOCK] + sealed(OTHER, WHOLE)[BLOCK : 2 * BLOCK] + file[2 * BLOCK :],
    "another blob": lambda file: sealed(OTHER, WHOLE),
    "cut after a block": lambda file: file[: 2 * BLOCK],
    "cut in a block": lambda file: file[:-5],
    "cut in the header": lambda file: file[:10],
    "empty": lambda file: b"",
}


@pytest.mark.parametrize("change", CHANGES)
def test_what_was_changed_does_not_open(change: str) -> None:
    """Damaged, whatever was done to it; the bytes before the damage are right, and none are made up."""
    secret = new_secret()
    file = CHANGES[change](sealed(secret, WHOLE))
    part = Part(secret, len(WHOLE), 0, len(WHOLE))
    given: list[bytes] = []

    def read() -> None:
        at = 0
        while not part.complete:
            block, at = file[at : at + part.wanted], at + part.wanted
            given.append(part.open(block))

    with pytest.raises(Damaged):
        read()
    assert WHOLE.startswith(b"".join(given))


@pytest.mark.parametrize("lie", [1, -1, ROOM, -ROOM, BLOCK])
def test_a_length_that_is_wrong_does_not_open(lie: int) -> None:
    """A blob cut at a block and a row that says so would still miss the mark of the last block."""
    secret = new_secret()
    file = sealed(secret, WHOLE[: FIRST + ROOM])
    with pytest.raises(Damaged):
        opened(secret, FIRST + ROOM + lie, file)


def test_equal_contents_look_different() -> None:
    """Each blob has a key of its own: nobody sees on the disk that two are the same."""
    content = bytes(2 * BLOCK)
    first, second = sealed(new_secret(), content), sealed(new_secret(), content)
    assert first[len(HEADER) :][:1000] != second[len(HEADER) :][:1000]
    blocks = [first[at : at + BLOCK] for at in range(0, len(first), BLOCK)]
    assert len(set(blocks)) == len(blocks)
