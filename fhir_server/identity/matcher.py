"""Who could be meant, out of the register, and how likely: one service for Patient/$match and for scanned folders.

Candidates share a part of an identity with what is stated, or bear a number that it states; all of them are weighed at
once, so that a rival is never missed because a better one came first.
"""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final, NamedTuple

import orjson

from fhir_server.linkage.comparable import Comparable, comparable
from fhir_server.linkage.grade import Candidate, Graded, Judge
from fhir_server.linkage.model import Model
from fhir_server.linkage.traits import TraitsIns
from fhir_server.linkage.workers import parts_of_record, worker_of
from fhir_server.r4 import search_query
from fhir_server.sight import Sight
from fhir_server.store.candidates import MOST, Candidates
from fhir_server.store.search import Search
from mappings.patient_fr_core import PatientIdentity, identity_of

MOST_NUMBERED: Final = 200
MOST_NUMBERS: Final = 10
MOST_ONLINE: Final = 200
"""Candidates that an online question looks at, those who share most parts first: reading, preparing and grading one
takes 0.08 ms of processor time, so that 200 are 16 ms of one core.
"""
AT_ONCE: Final = 25
"""So many candidates are weighed on the event loop, in 2 ms; more in a thread, beside the requests of others."""


@dataclass(frozen=True, slots=True)
class Stated:
    """What is known of the person who is looked for. `numbers` are (system, value) of identifiers that are no INS: they
    bring people up, and speak for nobody.
    """

    traits: TraitsIns
    former_matricules: tuple[str, ...] = ()
    numbers: tuple[tuple[str, str], ...] = ()


class Person(NamedTuple):
    """A worker of the register who could be meant: his Patient as it is kept."""

    doc: bytes
    identity: PatientIdentity


class Likely(NamedTuple):
    """A worker, and how likely it is him."""

    person: Person
    graded: Graded


@dataclass(frozen=True, slots=True)
class Found:
    """Who is likely, the most likely first, nobody graded `none`. `partial` where not everybody was looked at."""

    likely: tuple[Likely, ...]
    partial: bool


class Matcher:
    """Looks workers up and grades them, under one model."""

    def __init__(self, search: Search, candidates: Candidates, model: Model, *, production: bool) -> None:
        self._search = search
        self._candidates = candidates
        self._production = production
        self._model = model
        self._judge = Judge(self._model)
        self._judged_for: int | None = None

    @property
    def model(self) -> str:
        """The version of the model by which likeness is weighed."""
        return self._model.version

    def compared(self, stated: Stated) -> Comparable:
        """What is stated, in the forms that are compared."""
        return self._told(
            comparable(
                stated.traits, stated.former_matricules, families=self._model.families, givens=self._model.givens
            )
        )

    async def match(self, stated: Stated, sight: Sight) -> Found:
        """Whom of those in sight this could be. Raises Unavailable, TooCostly."""
        docs, partial = await self.alike([stated], sight, most=MOST_ONLINE)
        numbered = await self.numbered(stated.numbers, sight) if stated.numbers else []
        judge, compared, brought = await self.judge(), self.compared(stated), [*docs, *numbered]
        if len(brought) <= AT_ONCE:
            return Found(self._weigh(judge, compared, brought), partial)
        return Found(await asyncio.to_thread(self._weigh, judge, compared, brought), partial)

    async def numbered(self, numbers: Iterable[tuple[str, str]], sight: Sight) -> list[bytes]:
        """Patients in sight who bear one of these identifiers, as JSON."""
        values = [
            f"{search_query.escaped(system)}|{search_query.escaped(value)}"
            for system, value in sorted(set(numbers))[:MOST_NUMBERS]
        ]
        if not values:
            return []
        query = search_query.parse("Patient", [("identifier", ",".join(values)), ("_count", str(MOST_NUMBERED))])
        return [hit.doc for hit in (await self._search.page(replace(query, sight=sight), None)).hits]

    async def alike(self, stated: Iterable[Stated], sight: Sight, *, most: int = MOST) -> tuple[list[bytes], bool]:
        """Patients in sight who share a part of an identity with one of these, and whether some were not looked at."""
        parts = {part for one in stated for part in parts_of_record(one.traits, one.former_matricules)}
        if not parts:
            return [], False
        found = await self._candidates.alike(parts, sight, most=most)
        return [one.doc for one in found.candidates], found.capped > 0 or len(found.candidates) == most

    async def judge(self) -> Judge:
        """Who grades, for the register as large as it is."""
        size = await self._candidates.register_size()
        if size != self._judged_for:
            self._judge, self._judged_for = Judge(self._model, size), size
        return self._judge

    def grades(self, judge: Judge, stated: Stated, persons: Iterable[PatientIdentity]) -> Mapping[str, Graded]:
        """How likely each of these is, by his id."""
        return {one.identity: one for one in judge.grade(self.compared(stated), self._candidates_of(persons))}

    def _weigh(self, judge: Judge, stated: Comparable, docs: Sequence[bytes]) -> tuple[Likely, ...]:
        persons = active(docs)
        graded = judge.grade(stated, self._candidates_of(one.identity for one in persons.values()))
        return tuple(Likely(persons[one.identity], one) for one in graded if one.grade != "none")

    def _candidates_of(self, persons: Iterable[PatientIdentity]) -> list[Candidate]:
        return [Candidate(one.patient_id, self._told(worker_of(one, self._model))) for one in persons]

    def _told(self, person: Comparable) -> Comparable:
        """Outside production test identities are ordinary ones."""
        return replace(person, fictitious=False) if person.fictitious and not self._production else person


def active(docs: Iterable[bytes]) -> dict[str, Person]:
    """Those who are not deprecated, by id."""
    persons = (Person(doc, identity_of(orjson.loads(doc))) for doc in docs)
    return {one.identity.patient_id: one for one in persons if one.identity.active}
