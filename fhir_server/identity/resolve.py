"""Whose folder is it: candidates out of the store, then the decision of matching.py.

Candidates are looked up by what designates a worker: folder number, INS, birth date with family name. The
decision sees all of them at once, so a rival is never missed because a better one came first.
"""

from collections.abc import Iterable

import orjson

from fhir_server.identity.matching import Evidence, Known, Match, match
from fhir_server.identity.traits import TraitsIns
from fhir_server.r4 import search_query
from fhir_server.store.search import Search
from mappings.patient_fr_core import PatientIdentity, identity_of
from terminology import systems

MOST_CANDIDATES = 200


class Resolver:
    """Finds the worker of a scanned folder."""

    def __init__(self, search: Search, *, production: bool) -> None:
        self._search = search
        self._production = production

    async def resolve(self, evidence: Evidence) -> Match:
        """Certain, Doubtful or Unknown; never a guess. Raises Unavailable when the store is out of reach."""
        found: dict[str, Known] = {}
        for pairs in _queries(evidence):
            query = search_query.parse("Patient", [*pairs, ("_count", str(MOST_CANDIDATES))])
            page = await self._search.page(query, None)
            found.update((hit.id, known(identity_of(orjson.loads(hit.doc)))) for hit in page.hits)
        of_the_register = {number for one in found.values() for number in one.folder_numbers}
        # A laboratory label is a barcode too: only a number that designates somebody speaks of a person.
        barcodes = tuple(
            code for code in evidence.barcodes if code in of_the_register or code == evidence.folder_number
        )
        told = Evidence(evidence.folder_number, evidence.index, evidence.codes, barcodes)
        return match(told, list(found.values()), production=self._production)


def known(identity: PatientIdentity) -> Known:
    """A stored Patient as matching sees it."""
    return Known(
        patient_id=identity.patient_id,
        traits=TraitsIns(
            birth_name=identity.birth_name,
            used_name=identity.used_name,
            given_names=identity.given_names,
            birth_date=identity.birth_date,
            sex=identity.sex,
            birth_place=identity.birth_place,
            matricule_ins=identity.matricule_ins,
            oid_ins=identity.oid_ins,
        ),
        former_matricules=identity.former_matricules,
        status=identity.status,
        attributes=identity.attributes,
        folder_numbers=identity.folder_numbers,
    )


def _queries(evidence: Evidence) -> Iterable[list[tuple[str, str]]]:
    numbers = {evidence.folder_number, *evidence.barcodes} - {None}
    for number in sorted(str(n) for n in numbers):
        yield [("identifier", f"{systems.NUMERO_DOSSIER}|{_escaped(number)}")]
    stated = [*evidence.codes, *([evidence.index] if evidence.index else [])]
    for matricule, oid in sorted({(t.matricule_ins, t.oid_ins) for t in stated if t.matricule_ins and t.oid_ins}):
        yield [("identifier", f"urn:oid:{oid}|{_escaped(str(matricule))}")]
    names = {(t.birth_date, name) for t in stated if t.birth_date for name in (t.birth_name, t.used_name) if name}
    for birth_date, name in sorted(names):
        yield [("birthdate", birth_date), ("family", _escaped(name))]


def _escaped(value: str) -> str:
    """A literal value inside a search parameter (R4 3.1.1.4.0.1)."""
    return value.replace("\\", "\\\\").replace(",", "\\,").replace("|", "\\|").replace("$", "\\$")
