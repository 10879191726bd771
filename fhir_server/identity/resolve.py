"""Whose folder is it: candidates out of the store, then the decision of matching.py.

Candidates are looked up by the folder number, and by parts of the identities that the folder states. The
decision sees all of them at once, so a rival is never missed because a better one came first.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from fhir_server.identity.matcher import Matcher, Stated, active
from fhir_server.identity.matching import Evidence, Known, Match, match
from fhir_server.identity.reading import traits_read, with_reading
from fhir_server.linkage.grade import Graded, Judge
from fhir_server.linkage.traits import TraitsIns
from fhir_server.linkage.workers import traits_of
from fhir_server.sight import EVERYTHING
from mappings.patient_fr_core import PatientIdentity
from terminology import systems


class Resolver:
    """Finds the worker of a scanned folder."""

    def __init__(self, matcher: Matcher, *, production: bool) -> None:
        self._matcher = matcher
        self._production = production

    @property
    def model(self) -> str:
        """The version of the model by which likeness is weighed."""
        return self._matcher.model

    async def resolve(self, evidence: Evidence) -> Match:
        """Certain, Doubtful or Unknown; never a guess. Raises Unavailable when the store is out of reach."""
        stated = [*evidence.codes, *([evidence.index] if evidence.index else [])]
        numbers = {str(number) for number in (evidence.folder_number, *evidence.barcodes) if number is not None}
        found: dict[str, PatientIdentity] = {}
        for number in sorted(numbers):
            _take(await self._matcher.numbered([(systems.NUMERO_DOSSIER, number)], EVERYTHING), found)
        await self._find(stated, found)
        of_the_register = {number for one in found.values() for number in one.folder_numbers}
        # A laboratory label is a barcode too: only a number that designates somebody speaks of a person.
        barcodes = tuple(
            code for code in evidence.barcodes if code in of_the_register or code == evidence.folder_number
        )
        told = replace(evidence, barcodes=barcodes)
        judge = await self._matcher.judge()
        grades = [self._grades(judge, traits, list(found.values())) for traits in stated]
        decided = match(told, [known(one) for one in found.values()], production=self._production, grades=grades)
        if evidence.read is None:
            return decided
        # Those whom the cover alone brings up come after the decision: they cannot make it.
        await self._find([traits_read(evidence.read)], found)
        return with_reading(decided, evidence.read, [known(one) for one in found.values()])

    async def _find(self, stated: Iterable[TraitsIns], found: dict[str, PatientIdentity]) -> None:
        """Who shares a part of an identity with what is stated."""
        docs, _ = await self._matcher.alike([Stated(traits) for traits in stated], EVERYTHING)
        _take(docs, found)

    def _grades(self, judge: Judge, stated: TraitsIns, persons: Sequence[PatientIdentity]) -> Mapping[str, Graded]:
        return self._matcher.grades(judge, Stated(stated), persons)


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


def _take(docs: Iterable[bytes], found: dict[str, PatientIdentity]) -> None:
    found.update((name, one.identity) for name, one in active(docs).items())
