"""Whole registers compared: one with another at a take-over, one with itself for its duplicates.

The same keys, levels, guards and grades as online (linkage/batch.py), shared among processes. Nothing is written, and
no pair tells a name: it has the numbers under which both lists know the two, and codes.
"""

import contextlib
import gc
import secrets
import signal
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from multiprocessing import get_context
from typing import Any, Final, NamedTuple, TypeVar

from fhir_server.linkage.batch import KeyTable, keys_by_first_byte, linked, merged_keys, within
from fhir_server.linkage.comparable import Comparable, comparable
from fhir_server.linkage.grade import Candidate, Grade, Graded, Judge, explained
from fhir_server.linkage.guards import WORDS
from fhir_server.linkage.model import Model
from fhir_server.linkage.traits import TraitsIns
from fhir_server.linkage.workers import traits_of
from mappings.patient_fr_core import PatientIdentity, WorkerRecord

_T = TypeVar("_T")

PART: Final = 2000
"""Records that a process takes at once."""
FEW: Final = 5000
"""Records up to which one process is quicker than several."""
DUPLICATES: Final = 0.02
"""Share of the workers of a register who are supposed to be in it once more: the prior of a pair of it."""
SEVERAL_LINES: Final = "several-lines"
MEANING: Final = {**WORDS, SEVERAL_LINES: "plusieurs lignes désignent le même salarié : doublon du fichier possible"}
"""Code of a reason -> what is read."""


class Listed(NamedTuple):
    """One entry of a register: the number it is known by there, and its traits."""

    number: str
    traits: TraitsIns
    former_matricules: tuple[str, ...] = ()


class Pair(NamedTuple):
    """Two entries; `other` is empty where nobody of the register is worth showing. `levels` are `trait:level`."""

    number: str
    other: str
    grade: Grade
    score: float = 0.0
    odds: float = 0.0
    reasons: tuple[str, ...] = ()
    levels: tuple[str, ...] = ()


def _silent(_done: int, _of: int | None = None, /) -> None:
    pass


@dataclass(frozen=True, slots=True)
class Way:
    """How registers are compared. Outside `production` test matricules are ordinary ones."""

    model: Model
    production: bool = True
    processes: int = 1
    tell: Callable[[int, int | None], None] = field(default=_silent)


def of_file(worker: WorkerRecord) -> Listed:
    """A line of a register file, under its folder number."""
    traits = TraitsIns(
        birth_name=worker.birth_name,
        used_name=worker.used_name,
        given_names=worker.given_names,
        birth_date=worker.birth_date,
        sex=worker.sex,
        birth_place=worker.birth_place,
        matricule_ins=worker.matricule_ins,
        oid_ins=worker.oid_ins,
    )
    return Listed(worker.folder_number, traits)


def of_store(identity: PatientIdentity) -> Listed:
    """A Patient, under its reference."""
    return Listed(f"Patient/{identity.patient_id}", traits_of(identity), identity.former_matricules)


def prepared(people: Iterable[Listed], way: Way) -> list[Comparable]:
    """The forms that are compared."""
    families, givens = way.model.families, way.model.givens
    made = (comparable(one.traits, one.former_matricules, families=families, givens=givens) for one in people)
    return list(made if way.production else (replace(one, fictitious=False) for one in made))


def compared(incoming: Sequence[Listed], register: Sequence[Listed], way: Way) -> list[Pair]:
    """For each incoming entry, in order, its best candidates (three at most), or one Pair without another.

    Where several entries would be certain of one worker none is: at most one of them can be right without a duplicate.
    """
    if not incoming:
        return []
    with _held(register, way) as held:
        held.incoming = incoming
        pairs = list(chain.from_iterable(_over(held, _compare_part, len(incoming))))
    certain = Counter(pair.other for pair in pairs if pair.grade == "certain")
    return [
        pair._replace(grade="possible", reasons=(*pair.reasons, SEVERAL_LINES))
        if pair.grade == "certain" and certain[pair.other] > 1
        else pair
        for pair in pairs
    ]


def duplicates(register: Sequence[Listed], way: Way) -> list[tuple[Pair, dict[str, Any]]]:
    """Pairs of one register that may be one worker, and of each the waterfall as JSON."""
    if not register:
        return []
    with _held(register, replace(way, model=replace(way.model, share=DUPLICATES))) as held:
        return list(chain.from_iterable(_over(held, _part_within, len(register))))


@dataclass(slots=True)
class _Held:
    """What the processes share, by being forked after it was made."""

    way: Way
    secret: bytes
    register: list[Candidate]
    judge: Judge
    table: KeyTable | None = None
    incoming: Sequence[Listed] = ()


_shared: _Held | None = None


@contextlib.contextmanager
def _held(register: Sequence[Listed], way: Way) -> Generator[_Held]:
    """The register and its keys, while entered. One at a time."""
    global _shared  # noqa: PLW0603 - what is forked reads it
    collecting = gc.isenabled()
    gc.disable()  # nothing here makes cycles, and each search for them looks at the whole register
    try:
        yield _with_keys(register, way)
    finally:
        _shared = None
        if collecting:
            gc.enable()


def _with_keys(register: Sequence[Listed], way: Way) -> _Held:
    global _shared  # noqa: PLW0603 - as above
    people: list[Candidate] = []
    for start in range(0, len(register), PART):
        part = register[start : start + PART]
        made = prepared(part, way)
        people += [Candidate(one.number, person) for one, person in zip(part, made, strict=True)]
        way.tell(len(people), len(register))
    _shared = _Held(way, secrets.token_bytes(32), people, Judge(way.model, len(people)))
    _shared.table = merged_keys(list(_over(_shared, _keys_part, len(people))))
    return _shared


def _over(held: _Held, work: Callable[[tuple[int, int]], _T], size: int) -> Iterator[_T]:
    """`work` on every part, in order; in processes of its own where that is worth it.

    An interruption ends the processes.
    """
    processes = held.way.processes if size > FEW else 1
    step = PART if work is not _keys_part else max(-(-size // processes), 1)
    parts = [(start, min(start + step, size)) for start in range(0, size, step)]
    if processes == 1:
        for part in parts:
            yield work(part)
            held.way.tell(part[1], size)
        return
    with get_context("fork").Pool(processes, initializer=_deaf) as pool:
        for part, done in zip(parts, pool.imap(work, parts), strict=True):
            yield done
            held.way.tell(part[1], size)


def _deaf() -> None:
    """The process that started this one hears the interruption, and ends it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _now() -> _Held:
    assert _shared
    return _shared


def _keys_part(part: tuple[int, int]) -> Any:
    held = _now()
    return keys_by_first_byte((one.person for one in held.register[part[0] : part[1]]), held.secret, part[0])


def _compare_part(part: tuple[int, int]) -> list[Pair]:
    held = _now()
    assert held.table
    mine = held.incoming[part[0] : part[1]]
    answers = linked(prepared(mine, held.way), held.register, held.table, held.judge, held.secret)
    return [pair for one, graded in zip(mine, answers, strict=True) for pair in _pairs(one.number, graded)]


def _pairs(number: str, graded: Sequence[Graded]) -> list[Pair]:
    return [_pair(number, one.identity, one) for one in graded] or [Pair(number, "", "none")]


def _part_within(part: tuple[int, int]) -> list[tuple[Pair, dict[str, Any]]]:
    held = _now()
    assert held.table
    found = within(range(*part), held.register, held.table, held.judge, held.secret)
    people = held.register
    return [(_pair(people[a].identity, people[b].identity, one), explained(one)) for a, b, one in found]


def _pair(number: str, other: str, one: Graded) -> Pair:
    levels = tuple(f"{step.field}:{step.level}" for step in one.waterfall.steps if step.says != "nothing")
    return Pair(number, other, one.grade, round(one.posterior, 6), round(one.odds, 1), one.reasons, levels)
