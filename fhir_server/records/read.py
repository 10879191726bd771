"""Reading on behalf of a caller: his scopes are checked, his access is traced, and then he gets the bytes.

The trace is kept before the answer leaves. A refusal is traced too (by the edge, which knows it is one).
"""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import datetime

import orjson

from fhir_server.caller import Caller
from fhir_server.outcomes import Gone, NotFound
from fhir_server.r4.references import is_local
from fhir_server.r4.resource_types import TYPE_NUMBER
from fhir_server.r4.search_criteria import AnyOf, IdIs, ReferenceIs, SearchQuery, narrowed
from fhir_server.records import audit
from fhir_server.store.access_log import AccessLog
from fhir_server.store.blobs import Blobs
from fhir_server.store.includes import Included, Includes
from fhir_server.store.ordering import Place
from fhir_server.store.resources import Resources, Stored
from fhir_server.store.search import Page, Search


@dataclass(frozen=True, slots=True)
class Archive:
    """Reads over one store."""

    resources: Resources
    searches: Search
    blobs: Blobs
    accesses: AccessLog
    includes: Includes

    async def read(self, caller: Caller, resource_type: str, resource_id: str, request_id: str) -> Stored:
        """The current version. Raises Forbidden, NotFound, Gone."""
        caller.must("r", resource_type)
        found = await self.resources.read(TYPE_NUMBER[resource_type], resource_id)
        stored = _present(found, resource_type, resource_id)
        await self._trace(caller, "read", request_id, resource_type, stored)
        return stored

    async def vread(
        self, caller: Caller, resource_type: str, resource_id: str, version: int, request_id: str
    ) -> Stored:
        """One version. Raises Forbidden, NotFound, Gone."""
        caller.must("r", resource_type)
        found = await self.resources.read_version(TYPE_NUMBER[resource_type], resource_id, version)
        stored = _present(found, resource_type, resource_id)
        await self._trace(caller, "vread", request_id, resource_type, stored)
        return stored

    async def history(
        self,
        caller: Caller,
        resource_type: str,
        resource_id: str,
        request_id: str,
        *,
        since: datetime | None,
        before: int,
        limit: int,
    ) -> tuple[list[Stored], int]:
        """Versions below `before`, newest first, and how many there are in all. Raises Forbidden, NotFound."""
        caller.must("r", resource_type)
        number = TYPE_NUMBER[resource_type]
        versions, total = await asyncio.gather(
            self.resources.history(number, resource_id, since=since, before=before, limit=limit),
            self.resources.count_versions(number, resource_id, since=since),
        )
        if not total and not await self.resources.read(number, resource_id):
            raise NotFound(f"{resource_type}/{resource_id} does not exist")
        patient = next((audit.patient_in_bytes(resource_type, resource_id, v.doc) for v in versions if v.doc), None)
        await self.accesses.append(
            audit.access(
                caller,
                "history-instance",
                request_id,
                resource_type=resource_type,
                resource_id=resource_id,
                patient_id=patient,
            )
        )
        return versions, total

    async def search(self, caller: Caller, query: SearchQuery, after: Place | None, request_id: str, text: str) -> Page:
        """One page. `text` is the query as it was asked, for the trail. Raises Forbidden, TooCostly, Unavailable."""
        query = narrowed(query, lambda resource_type: caller.may("s", resource_type))
        caller.must_search(query.asked_types)
        row = audit.access(
            caller,
            "search-type",
            request_id,
            resource_type=query.resource_type,
            patient_id=_patient_asked(query),
            query=text,
        )
        if row.patient_id:
            page, _ = await asyncio.gather(self.searches.page(query, after), self.accesses.append(row))
            return page
        page = await self.searches.page(query, after)
        shown = {audit.patient_in_bytes(query.resource_type, hit.id, hit.doc) for hit in page.hits}
        rows = [row._replace(patient_id=patient) for patient in sorted(shown - {None}, key=str)] or [row]
        await asyncio.gather(*(self.accesses.append(one) for one in rows))
        return page

    async def along(self, caller: Caller, query: SearchQuery, page: Page, request_id: str) -> list[Included]:
        """What `_include` and `_revinclude` bring along, without what this caller may not read. Raises TooCostly."""
        if not query.includes:
            return []
        hits = ((hit.id, hit.doc) for hit in page.hits)
        found = await self.includes.of(query.resource_type, hits, query.includes)
        shown = [one for one in found if caller.may("r", one.type)]
        await asyncio.gather(
            *(
                self.accesses.append(
                    audit.access(
                        caller,
                        "search-type",
                        request_id,
                        resource_type=one.type,
                        resource_id=one.id,
                        patient_id=audit.patient_in_bytes(one.type, one.id, one.doc),
                    )
                )
                for one in shown
            )
        )
        return shown

    def content(self, stored: Stored, start: int = 0, length: int | None = None) -> AsyncIterator[bytes]:
        """The bytes of a Binary that was read before. Raises NotFound where it has none."""
        if stored.blob_sha256 is None:
            raise NotFound("This Binary has no content")
        return self.blobs.chunks(stored.blob_sha256, start, length)

    async def _trace(
        self, caller: Caller, interaction: str, request_id: str, resource_type: str, stored: Stored
    ) -> None:
        patient = audit.patient_in_bytes(resource_type, stored.id, stored.doc or b"")
        if resource_type == "Binary":
            patient = await self._owner_of_binary(caller, stored)
        await self.accesses.append(
            audit.access(
                caller,
                interaction,
                request_id,
                resource_type=resource_type,
                resource_id=stored.id,
                version=stored.version,
                patient_id=patient,
            )
        )

    async def _owner_of_binary(self, caller: Caller, stored: Stored) -> str | None:
        """Whose bytes these are: the worker of what protects them. Raises Forbidden where that may not be read.

        https://hl7.org/fhir/R4/binary.html#security - who may not read the DocumentReference may not read its bytes.
        """
        context = orjson.loads(stored.doc or b"{}").get("securityContext", {}).get("reference")
        target = is_local(context) if context else None
        if target is None:
            return None
        caller.must("r", target[0])
        protector = await self.resources.read(TYPE_NUMBER[target[0]], target[1])
        return audit.patient_in_bytes(*target, protector.doc) if protector and protector.doc else None


def _present(found: Stored | None, resource_type: str, resource_id: str) -> Stored:
    if found is None:
        raise NotFound(f"{resource_type}/{resource_id} does not exist")
    if found.deleted:
        raise Gone(f"{resource_type}/{resource_id} was deleted")
    return found


def _patient_asked(query: SearchQuery) -> str | None:
    """The one worker whom a search is about, where it names one."""
    for criterion in query.criteria:
        match criterion:
            case ReferenceIs(parameter, targets) if parameter.code in ("patient", "subject"):
                patients = [t.removeprefix("Patient/") for t in targets if t.startswith("Patient/")]
                if len(patients) == 1:
                    return patients[0]
            case AnyOf(criteria):  # a compartment
                leading = {one.targets for one in criteria if isinstance(one, ReferenceIs)}
                if len(leading) == 1 and len(targets := leading.pop()) == 1 and targets[0].startswith("Patient/"):
                    return targets[0].removeprefix("Patient/")
            case IdIs((only,)) if query.resource_type == "Patient":
                return only
            case _:
                pass
    return None
