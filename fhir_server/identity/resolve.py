"""Whose folder is it: candidates out of the store, then the decision of matching.py.

Candidates are looked up by the folder number, and by parts of the identities that the folder states. The
decision sees all of them at once, so a rival is never missed because a better one came first.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

import orjson

from fhir_server.identity.matching import Evidence, Known, Match, match
from fhir_server.identity.reading import traits_read, with_reading
from fhir_server.linkage.comparable import Comparable, comparable
from fhir_server.linkage.grade import Candidate, Graded, Judge
from fhir_server.linkage.model import default_model
from fhir_server.linkage.traits import TraitsIns
from fhir_server.linkage.workers import parts_of_record, traits_of, worker_of
from fhir_server.r4 import search_query
from fhir_server.sight import EVERYTHING
from fhir_server.store.candidates import Candidates
from fhir_server.store.search import Search
from mappings.patient_fr_core import PatientIdentity, identity_of
from terminology import systems

MOST_CANDIDATES = 200


class Resolver:
    """Finds the worker of a scanned folder."""

    def __init__(self, search: Search, candidates: Candidates, *, production: bool) -> None:
        self._search = search
        self._candidates = candidates
        self._production = production
        self._model = default_model()

    @property
    def model(self) -> str:
        """The version of the model by which likeness is weighed."""
        return self._model.version

    async def resolve(self, evidence: Evidence) -> Match:
        """Certain, Doubtful or Unknown; never a guess. Raises Unavailable when the store is out of reach."""
        stated = [*evidence.codes, *([evidence.index] if evidence.index else [])]
        found: dict[str, PatientIdentity] = {}
        for pairs in _queries(evidence):
            query = search_query.parse("Patient", [*pairs, ("_count", str(MOST_CANDIDATES))])
            _take((hit.doc for hit in (await self._search.page(query, None)).hits), found)
        await self._find(stated, found)
        of_the_register = {number for one in found.values() for number in one.folder_numbers}
        # A laboratory label is a barcode too: only a number that designates somebody speaks of a person.
        barcodes = tuple(
            code for code in evidence.barcodes if code in of_the_register or code == evidence.folder_number
        )
        told = replace(evidence, barcodes=barcodes)
        judge = Judge(self._model, await self._candidates.register_size())
        persons = [Candidate(one.patient_id, self._compared(worker_of(one, self._model))) for one in found.values()]
        grades = [self._grades(judge, traits, persons) for traits in stated]
        decided = match(told, [known(one) for one in found.values()], production=self._production, grades=grades)
        if evidence.read is None:
            return decided
        # Those whom the cover alone brings up come after the decision: they cannot make it.
        await self._find([traits_read(evidence.read)], found)
        return with_reading(decided, evidence.read, [known(one) for one in found.values()])

    async def _find(self, stated: Iterable[TraitsIns], found: dict[str, PatientIdentity]) -> None:
        """Who shares a part of an identity with what is stated."""
        if parts := {part for traits in stated for part in parts_of_record(traits)}:
            alike = await self._candidates.alike(parts, EVERYTHING)
            _take((one.doc for one in alike.candidates), found)

    def _grades(self, judge: Judge, stated: TraitsIns, persons: Sequence[Candidate]) -> Mapping[str, Graded]:
        incoming = comparable(stated, families=self._model.families, givens=self._model.givens)
        return {one.identity: one for one in judge.grade(self._compared(incoming), persons)}

    def _compared(self, person: Comparable) -> Comparable:
        """Outside production test identities are ordinary ones."""
        return person if self._production else replace(person, fictitious=False)


def known(identity: PatientIdentity) -> Known:
    """A stored Patient as matching sees it."""
    return Known(
        patient_id=identity.patient_id,
        traits=traits_of(identity),
        former_matricules=identity.former_matricules,
        status=identity.status,
        attributes=identity.attributes,
        folder_numbers=identity.folder_numbers,
    )


def _queries(evidence: Evidence) -> Iterable[list[tuple[str, str]]]:
    numbers = {evidence.folder_number, *evidence.barcodes} - {None}
    for number in sorted(str(n) for n in numbers):
        yield [("identifier", f"{systems.NUMERO_DOSSIER}|{_escaped(number)}")]


def _take(docs: Iterable[bytes], found: dict[str, PatientIdentity]) -> None:
    for doc in docs:
        identity = identity_of(orjson.loads(doc))
        if identity.active:
            found[identity.patient_id] = identity


def _escaped(value: str) -> str:
    """A literal value inside a search parameter (R4 3.1.1.4.0.1)."""
    return value.replace("\\", "\\\\").replace(",", "\\,").replace("|", "\\|").replace("$", "\\$")
