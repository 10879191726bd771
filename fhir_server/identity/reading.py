"""What was read of the words of a cover, beside a decision that was made without it. Pure.

RNIV 1 v2.0: traits are taken from documents and codes, never from a guess at printed letters. So a reading only takes
away: `with_reading` never makes anything certain. It holds a certain folder back where it plainly names somebody else,
speaks for or against candidates that are shown to a person, and proposes some where nobody was found.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final, Literal

from rapidfuzz.distance import OSA

from fhir_server.identity.matching import Certain, Doubtful, Known, Match, Scored
from fhir_server.linkage.traits import TraitsIns, glued, halves, words
from fhir_server.scans.cover import CoverReading, FieldName

# Below this confidence a value is shown to a person and counts for nothing; below that one it accuses nobody.
USABLE: Final = 0.6
_SURE: Final = 0.8

Likeness = Literal["same", "near", "unlike", "other"]
"""`near` is what a misread letter or digit explains; `other` is what no misreading explains; `unlike` is between."""


@dataclass(frozen=True, slots=True)
class _Said:
    """How the values of a cover compare with one worker; None where the cover or the register says nothing."""

    name: Likeness | None
    given: Likeness | None
    born: Likeness | None
    matricule: Likeness | None

    @property
    def speaks_for(self) -> bool:
        told = (self.name, self.given, self.born)
        alike = sum(one in ("same", "near") for one in told)
        return not self.differs and (self.matricule == "same" or (alike > 1 and "same" in told))

    @property
    def differs(self) -> tuple[str, ...]:
        """What is plainly another person's. A name alone is not: people marry, and covers are old. Nor is one stray
        value under a label that was misread: there must be another trait beside it, whatever that one says.
        """
        told = [one for one in (self.name, self.given, self.born) if one]
        found = (
            ("cover-other-matricule", self.matricule == "other"),
            ("cover-names-another", "other" in (self.given, self.born) and len(told) > 1),
        )
        return tuple(reason for reason, holds in found if holds)


def with_reading(match: Match, reading: CoverReading | None, workers: Sequence[Known]) -> Match:
    """The decision, once the words of the cover are known as well. `workers` are all that either brought up.

    - Certain stays Certain, with `cover-agrees` where it does, or becomes Doubtful: E12 where the cover carries the
      matricule of another, E13 where given name or birth date are plainly those of another.
    - Doubtful keeps its candidates, in their order, each with what the cover says of him; workers whom the cover alone
      brings up come last.
    - Unknown becomes Doubtful (E10) where the cover proposes somebody.
    """
    if reading is None or not reading.fields:
        return match
    said = {worker.patient_id: _compare(reading, worker) for worker in workers}
    if isinstance(match, Certain):
        return _held(match, said)
    candidates = match.candidates if isinstance(match, Doubtful) else ()
    shown = tuple(_told(one, said.get(one.patient_id)) for one in candidates)
    known = {one.patient_id for one in candidates}
    proposed = tuple(
        Scored(patient_id, ("cover-proposes",), ())
        for patient_id, one in sorted(said.items())
        if one.speaks_for and patient_id not in known
    )
    if not shown and not proposed:
        return match
    reasons = (*match.reasons, *(("cover-proposes",) if proposed else ()))
    return Doubtful((*shown, *proposed), match.code, tuple(dict.fromkeys(reasons)))


def _held(match: Certain, said: dict[str, _Said]) -> Certain | Doubtful:
    one = said.get(match.patient_id)
    if one is None:
        return match
    if not one.differs:
        return replace(match, reasons=(*match.reasons, "cover-agrees")) if one.speaks_for else match
    chosen = Scored(match.patient_id, match.reasons, ("cover-differs",), match.graded)
    others = tuple(
        Scored(patient_id, ("cover-proposes",), ())
        for patient_id, other in sorted(said.items())
        if patient_id != match.patient_id and other.speaks_for
    )
    code = "E12" if "cover-other-matricule" in one.differs else "E13"
    return Doubtful((chosen, *others), code, one.differs)


def _told(candidate: Scored, said: _Said | None) -> Scored:
    if said and said.differs:
        return replace(candidate, conflicts=(*candidate.conflicts, "cover-differs"))
    if said and said.speaks_for:
        return replace(candidate, agreements=(*candidate.agreements, "cover-agrees"))
    return candidate


def traits_read(reading: CoverReading) -> TraitsIns:
    """What was read with some confidence, to find those whom it could mean."""
    given = value_of(reading, "given_names")
    return TraitsIns(
        birth_name=value_of(reading, "birth_name"),
        used_name=value_of(reading, "used_name"),
        given_names=tuple(given.split(",")) if given else (),
        birth_date=value_of(reading, "birth_date"),
        matricule_ins=value_of(reading, "matricule"),
    )


def value_of(reading: CoverReading, name: FieldName, least: float = USABLE) -> str | None:
    """One value of the reading, where it is read with that confidence."""
    return next((f.value for f in reading.fields if f.name == name and f.confidence >= least), None)


def _compare(reading: CoverReading, worker: Known) -> _Said:
    traits = worker.traits
    names = [n for n in (value_of(reading, "birth_name"), value_of(reading, "used_name")) if n]
    held = [n for n in (traits.birth_name, traits.used_name) if n]
    given = value_of(reading, "given_names")
    numbers = [m for m in (traits.matricule_ins, *worker.former_matricules) if m]
    return _Said(
        name=_best([_like_names(a, b) for a in names for b in held]),
        given=_sure(reading, "given_names", _like_given_names(given, traits.given_names) if given else None),
        born=_sure(reading, "birth_date", _like_dates(value_of(reading, "birth_date"), traits.birth_date)),
        matricule=_sure(
            reading,
            "matricule",
            _best([_like_matricules(m, n) for m in [value_of(reading, "matricule")] if m for n in numbers]),
        ),
    )


_KINDEST: Final[tuple[Likeness, ...]] = ("same", "near", "unlike", "other")


def _best(found: Sequence[Likeness]) -> Likeness | None:
    return next((one for one in _KINDEST if one in found), None)


def _sure(reading: CoverReading, name: FieldName, found: Likeness | None) -> Likeness | None:
    """A value that was read with some doubt is never plainly another's."""
    return "unlike" if found == "other" and value_of(reading, name, _SURE) is None else found


def _like_names(read: str, held: str) -> Likeness:
    a, b = glued(read), glued(held)
    if not a or not b:
        return "unlike"
    if a == b or a in halves(held) or b in halves(read):
        return "same"
    share = OSA.normalized_distance(a, b)
    if share <= 0.25 or OSA.distance(a, b) <= 1:
        return "near"
    return "other" if share > 0.6 and a not in b and b not in a else "unlike"


def _like_given_names(read: str, held: Sequence[str]) -> Likeness | None:
    """Any given name of the cover against any of the worker's: people go by their second one."""
    told = [name for name in read.split(",") if glued(name)]
    parts = {*told, *(word for name in told for word in words(name))}
    own = {*held, *(word for name in held for word in words(name))}
    initials = any(len(glued(one)) == 1 for one in (*told, *held))
    found = _best([_like_names(a, b) for a in parts for b in own])
    return "unlike" if found == "other" and initials else found


def _like_dates(read: str | None, held: str | None) -> Likeness | None:
    if not read or not held or len(held) != len(read):
        return None
    wrong = sum(a != b for a, b in zip(read, held, strict=True))
    swapped = read[:5] + read[8:] + "-" + read[5:7] == held
    # One digit misread, or a day and a month the other way round; three wrong digits at once are another's birthday.
    return "same" if not wrong else "near" if wrong == 1 or swapped else "other" if wrong > 2 else "unlike"


def _like_matricules(read: str, held: str) -> Likeness:
    """The key of the one that was read is right; only far from the worker's own it is another's."""
    wrong = OSA.distance(read[:13], held.replace(" ", "")[:13])
    return "same" if not wrong else "other" if wrong > 2 else "unlike"
