"""Two sets of people linked at once, for the take-over of a register: candidates by keys, then the judge. Pure.

Everything is the online path over many records: the same keys, levels, guards and grades. The work is cut into parts
that do not know of one another, so that several processes may share it (`linked` in each, on its part).
"""

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from heapq import nsmallest
from typing import Final

from fhir_server.linkage.comparable import Comparable
from fhir_server.linkage.grade import Candidate, Graded, Judge
from fhir_server.linkage.keys import keys_of

_HALF: Final = 1 << 15
_GRADES: Final = ("certain", "probable", "possible", "none")


@dataclass(frozen=True, slots=True)
class KeyTable:
    """Keys in order, and beside each the place of its person: what the database holds online, in 16 bytes a key.

    `starts` says where the keys of each value of their first 16 bits begin: a search stays within a few cache lines.
    """

    keys: "array[int]"
    places: "array[int]"
    starts: "array[int]"

    def of(self, key: int, most: int) -> Sequence[int]:
        """The places of the people who have a key; none where they are more than `most`: such a key tells nothing."""
        slot = (key >> 48) + _HALF
        stop = self.starts[slot + 1]
        start = bisect_left(self.keys, key, self.starts[slot], stop)
        if start == stop or self.keys[start] != key or (start + most < stop and self.keys[start + most] == key):
            return ()
        return self.places[start : bisect_right(self.keys, key, start, min(start + most, stop))]


def key_table(people: Iterable[Comparable], secret: bytes) -> KeyTable:
    """The keys of a register."""
    return merged_keys([keys_by_first_byte(people, secret)])


def keys_by_first_byte(
    people: Iterable[Comparable], secret: bytes, first_place: int = 0
) -> "list[tuple[array[int], array[int]]]":
    """Keys and places of a part of a register whose people begin at `first_place`, unsorted in 256 heaps: so several
    processes may make them, and no sort holds them all as objects.
    """
    heaps = [(array("q"), array("q")) for _ in range(256)]
    for place, person in enumerate(people, first_place):
        for key in keys_of(person, secret):
            keys, places = heaps[(key >> 56) + 128]
            keys.append(key)
            places.append(place)
    return heaps


def merged_keys(parts: "Sequence[list[tuple[array[int], array[int]]]]") -> KeyTable:
    """One table of what `keys_by_first_byte` made of each part."""
    table = KeyTable(array("q"), array("q"), array("q", [0]))
    for heap in range(256):
        rows = sorted(row for part in parts for row in zip(*part[heap], strict=True))
        table.keys.extend(key for key, _ in rows)
        table.places.extend(place for _, place in rows)
    slots = range(-_HALF + 1, _HALF)
    table.starts.extend(bisect_left(table.keys, slot << 48) for slot in slots)
    table.starts.append(len(table.keys))
    return table


def linked(
    incoming: Iterable[Comparable],
    register: Sequence[Candidate],
    table: KeyTable,
    judge: Judge,
    secret: bytes,
    *,
    most_of_a_key: int = 2000,
    most_answers: int = 3,
) -> Iterator[tuple[Graded, ...]]:
    """For each incoming record, in order, its best candidates that are worth showing, most likely first."""
    for stated in incoming:
        keys = keys_of(stated, secret, stored=False)
        found = {place for key in keys for place in table.of(key, most_of_a_key)}
        graded = judge.grade(stated, [register[place] for place in found])
        yield tuple(nsmallest(most_answers, (one for one in graded if one.grade != "none"), key=_order))


def within(
    places: Iterable[int],
    register: Sequence[Candidate],
    table: KeyTable,
    judge: Judge,
    secret: bytes,
    *,
    most_of_a_key: int = 2000,
    most_pairs: int = 20,
) -> Iterator[tuple[int, int, Graded]]:
    """Pairs of one register that may be one worker, each once: that of the lower place asks.

    Each pair is judged alone (three entries of one worker are no rivals of one another) and both ways round, since some
    guards look at one side: the lower grade counts, and the reasons of both. Of one place the likeliest `most_pairs`.
    """
    for place in places:
        person = register[place].person
        found = {other for key in keys_of(person, secret) for other in table.of(key, most_of_a_key) if other > place}
        pairs: list[tuple[int, Graded]] = []
        for other in sorted(found):
            (one,) = judge.grade(person, [register[other]])
            if one.grade == "none":
                continue
            (back,) = judge.grade(register[other].person, [register[place]])
            if back.grade != "none":
                lower = max(one, back, key=lambda graded: _GRADES.index(graded.grade))
                reasons = tuple(dict.fromkeys((*one.reasons, *back.reasons)))
                pairs.append((other, replace(lower, reasons=reasons)))
        for other, graded in nsmallest(most_pairs, pairs, key=lambda pair: (-pair[1].odds, pair[0])):
            yield place, other, graded


def _order(one: Graded) -> tuple[float, str]:
    return -one.odds, one.identity
