"""The identifiers by which one worker is known: those of his Patient and of the Patients linked to him.

IHE PIXm ITI-83. Links say that two Patients are about one person (R4 Patient.link); this server merges none of them.
Two qualified identities with different INS are two persons, whatever a link says (RNIV 1: collision).
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import orjson

from fhir_server.outcomes import Conflict, Issue
from fhir_server.r4 import search_query
from fhir_server.r4.references import is_local
from fhir_server.r4.search_criteria import SearchQuery
from fhir_server.sight import Sight
from fhir_server.store.search import Search
from mappings.patient_fr_core import identity_of
from mappings.patient_match import shown_identifiers
from terminology import systems

MOST: Final = 50
"""Patients that are looked at for one worker."""
ALWAYS_KNOWN: Final = frozenset({systems.NUMERO_DOSSIER, f"urn:oid:{systems.INS_NIR_OID}"})

Identifier = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Known:
    """A Patient, with the identifiers of it that may leave."""

    patient_id: str
    active: bool
    identifiers: tuple[Identifier, ...]
    matricule: tuple[str, str | None] | None
    links: tuple[str, ...]


class CrossReferences:
    """Looks them up in one store, as a caller sees it."""

    def __init__(self, search: Search) -> None:
        self._search = search

    async def knows(self, system: str, sight: Sight) -> bool:
        """Whether somebody in sight has an identifier of this domain, or this server gives them out."""
        if system in ALWAYS_KNOWN:
            return True
        return bool(await self._page([("identifier", f"{search_query.escaped(system)}|"), ("_count", "1")], sight))

    async def of_identifier(self, system: str, value: str, sight: Sight) -> list[Known]:
        """Who bears the identifier, and who is linked to him; nobody where it is of a deprecated Patient alone.

        Raises Conflict where several bear it whom no link joins: it designates nobody.
        """
        asked = f"{search_query.escaped(system)}|{search_query.escaped(value)}"
        bearing = await self._page([("identifier", asked), ("_count", str(MOST))], sight)
        return await self._joined([one for one in bearing if _bears(one, system, value)], sight)

    async def of_patient(self, patient_id: str, sight: Sight) -> list[Known]:
        """The same of a Patient by his id."""
        return await self._joined(await self._page([("_id", patient_id)], sight), sight)

    async def _joined(self, bearing: Sequence[Known], sight: Sight) -> list[Known]:
        if not bearing:
            return []
        joined = await self._linked(bearing[0], sight)
        if any(one.patient_id not in joined and one.active for one in bearing):
            text = "Several workers bear this identifier, and nothing says that they are one"
            raise Conflict(issues=[Issue("error", "multiple-matches", text, "sourceIdentifier")])
        return list(joined.values()) if any(one.active for one in joined.values()) else []

    async def _linked(self, first: Known, sight: Sight) -> dict[str, Known]:
        """Links lead both ways, and on."""
        found, new = {first.patient_id: first}, [first]
        while new and len(found) < MOST:
            ids = sorted({target for one in new for target in one.links} - found.keys())[:MOST]
            named = await self._page([("_id", ",".join(ids)), ("_count", str(MOST))], sight) if ids else []
            leading = ",".join(f"Patient/{one.patient_id}" for one in new)
            met = [*named, *await self._page([("link", leading), ("_count", str(MOST))], sight)]
            new = [one for one in _distinct(met) if one.patient_id not in found and not _collides(one, found.values())]
            found |= {one.patient_id: one for one in new}
        return found

    async def _page(self, pairs: list[tuple[str, str]], sight: Sight) -> list[Known]:
        query: SearchQuery = replace(search_query.parse("Patient", pairs), sight=sight)
        return [_known(orjson.loads(hit.doc)) for hit in (await self._search.page(query, None)).hits]


def _known(patient: Mapping[str, Any]) -> Known:
    identity = identity_of(patient)
    others = (is_local(str(link.get("other", {}).get("reference", ""))) for link in patient.get("link", []))
    return Known(
        identity.patient_id,
        identity.active,
        tuple(shown_identifiers(patient)),
        (identity.matricule_ins, identity.oid_ins) if identity.matricule_ins else None,
        tuple(other[1] for other in others if other and other[0] == "Patient"),
    )


def _distinct(met: Iterable[Known]) -> list[Known]:
    return list({one.patient_id: one for one in met}.values())


def _bears(one: Known, system: str, value: str) -> bool:
    """An INS that may not leave is not asked by either."""
    return any(number.get("system") == system and number.get("value") == value for number in one.identifiers)


def _collides(one: Known, found: Iterable[Known]) -> bool:
    return one.matricule is not None and any(
        other.matricule is not None and other.matricule != one.matricule for other in found
    )
