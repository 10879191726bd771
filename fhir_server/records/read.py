"""Reading on behalf of a caller: his scopes are checked, his access is traced, and then he gets the bytes.

The trace is kept before the answer leaves. A refusal is traced too (by the edge, which knows it is one).
"""

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from dataclasses import dataclass, replace

from fhir_server.caller import Caller, Permission
from fhir_server.metrics import Metrics
from fhir_server.outcomes import BadParameter, Gone, NotFound
from fhir_server.ports import BlobStore
from fhir_server.r4.include import Include
from fhir_server.r4.resource_types import TYPE_NAME, TYPE_NUMBER
from fhir_server.r4.search_criteria import AnyOf, IdIs, ReferenceIs, SearchQuery, narrowed
from fhir_server.r4.subjects import patient_in_bytes
from fhir_server.records import audit
from fhir_server.records.protection import BINARY, Protection, Verdict
from fhir_server.store.access_log import AccessesWithin, AccessLog
from fhir_server.store.compartments import Compartments
from fhir_server.store.database import Connection, Database, Lent
from fhir_server.store.definitions import Definitions
from fhir_server.store.histories import Histories
from fhir_server.store.includes import Included, Includes
from fhir_server.store.labels import Labels
from fhir_server.store.ordering import Place
from fhir_server.store.resources import Resources, Stored
from fhir_server.store.search import Page, Search


@dataclass(frozen=True, slots=True)
class Archive:
    """Reads over one store."""

    resources: Resources
    searches: Search
    blobs: BlobStore
    accesses: AccessLog
    includes: Includes
    compartments: Compartments
    labels: Labels
    histories: Histories
    definitions: Definitions
    metrics: Metrics

    @classmethod
    def over(
        cls, database: Database, searches: Search, blobs: BlobStore, accesses: AccessLog, metrics: Metrics | None = None
    ) -> "Archive":
        """Everything that reads one database; `searches` may ask a replica of it."""
        resources = Resources(database)
        return cls(
            resources,
            searches,
            blobs,
            accesses,
            Includes(database, resources),
            Compartments(database),
            Labels(database),
            Histories(database),
            Definitions(database, searches.shelf),
            metrics or Metrics(),
        )

    @contextlib.asynccontextmanager
    async def within(self, connection: Connection) -> AsyncGenerator["Archive"]:
        """The same as a transaction sees it, with what it wrote; its traces are kept when the transaction is."""
        database, accesses = Lent(connection), AccessesWithin(connection)
        yield Archive.over(database, Search(database), self.blobs, accesses, self.metrics)
        await accesses.flush()

    async def read(self, caller: Caller, resource_type: str, resource_id: str, request_id: str) -> Stored:
        """The current version. Raises Forbidden, NotFound, Gone."""
        caller.must("r", resource_type)
        found = await self.resources.read(TYPE_NUMBER[resource_type], resource_id)
        await self.must_see(caller, "read", request_id, resource_type, found)
        if resource_type == BINARY:
            owner = await self.owner_of_binary(caller, "read", request_id, resource_id, [found] if found else [])
        else:
            owner = patient_in_bytes(resource_type, resource_id, found.doc or b"") if found else None
        stored = present(found, resource_type, resource_id)
        await self._trace(caller, "read", request_id, resource_type, stored, owner)
        return stored

    async def vread(
        self, caller: Caller, resource_type: str, resource_id: str, version: int, request_id: str
    ) -> Stored:
        """One version. Raises Forbidden, NotFound, Gone."""
        caller.must("r", resource_type)
        number = TYPE_NUMBER[resource_type]
        found = await self.resources.read_version(number, resource_id, version)
        await self.must_see(caller, "vread", request_id, resource_type, found)
        if resource_type in caller.sight("r").bounds:  # what scopes no longer allow now, they do not as it was
            now = await self.resources.read(number, resource_id)
            await self.must_see(caller, "vread", request_id, resource_type, now)
        if found and not await self.protection.of_then(caller, found.doc):
            await self._trace_refusal(caller, "vread", request_id, resource_type, found)
            raise absent(resource_type, resource_id)
        if resource_type == BINARY:  # what protects it now protects what it was too
            known = [one for one in (await self.resources.read(number, resource_id), found) if one]
            owner = await self.owner_of_binary(caller, "vread", request_id, resource_id, known)
        else:
            owner = patient_in_bytes(resource_type, resource_id, found.doc or b"") if found else None
        stored = present(found, resource_type, resource_id)
        await self._trace(caller, "vread", request_id, resource_type, stored, owner)
        return stored

    async def read_referred(
        self, caller: Caller, keys: Sequence[tuple[str, str]], request_id: str
    ) -> dict[tuple[str, str], Stored]:
        """Of these resources (type, id) the current versions that are there and that the caller may read.

        Each is traced as a read of its own. A refusal is traced too, and looks like what is not there.
        """
        allowed = [(name, resource_id) for name, resource_id in keys if caller.may("r", name)]
        read = await self.resources.read_many([(TYPE_NUMBER[name], one) for name, one in allowed]) if allowed else []
        found = {(TYPE_NAME[one.type], one.id): one for one in read if one.doc is not None}
        verdicts = dict(
            zip(found, await asyncio.gather(*(self._verdict(caller, *one) for one in found.items())), strict=True)
        )
        refused = Verdict(allowed=False)
        verdicts |= {(name, resource_id): refused for name, resource_id in keys if not caller.may("r", name)}
        await self.accesses.append(
            *(
                audit.access(
                    caller,
                    "read",
                    request_id,
                    outcome=audit.SUCCESS if verdict.allowed else audit.REFUSED,
                    resource_type=name,
                    resource_id=resource_id,
                    version=found[name, resource_id].version if verdict.allowed else None,
                    patient_id=verdict.patient_id,
                )
                for (name, resource_id), verdict in verdicts.items()
            )
        )
        return {key: one for key, one in found.items() if verdicts[key].allowed}

    async def must_see(
        self, caller: Caller, interaction: str, request_id: str, resource_type: str, found: Stored | None
    ) -> None:
        """Raises NotFound, and traces a refusal, where the caller's role or scopes keep from him what was found.

        Not Forbidden: who may not see it does not learn that it is there.
        """
        if found is None or found.is_in(caller.sight("r")):
            return
        await self._trace_refusal(caller, interaction, request_id, resource_type, found)
        raise absent(resource_type, found.id)

    async def _trace_refusal(
        self, caller: Caller, interaction: str, request_id: str, resource_type: str, found: Stored
    ) -> None:
        await self.accesses.append(
            audit.access(
                caller,
                interaction,
                request_id,
                outcome=audit.REFUSED,
                resource_type=resource_type,
                resource_id=found.id,
                patient_id=patient_in_bytes(resource_type, found.id, found.doc or b""),
            )
        )

    async def current(
        self, caller: Caller, resource_type: str, resource_id: str, *permissions: Permission
    ) -> Stored | None:
        """What is there now, also as a deletion, where the caller's role lets him see it.

        And his scopes all these permissions on it; whether he has them on the type at all is not asked.
        """
        found = await self.resources.read(TYPE_NUMBER[resource_type], resource_id)
        return found if found and found.is_in(caller.sight(*permissions)) else None

    async def _verdict(self, caller: Caller, key: tuple[str, str], stored: Stored) -> Verdict:
        """Of a resource of a type that the caller may read."""
        if not stored.is_in(caller.sight("r")):
            return Verdict(False, patient_in_bytes(*key, stored.doc or b""))
        if key[0] == BINARY:
            return await self.protection.of_document(caller, stored.doc or b"")
        return Verdict(True, patient_in_bytes(*key, stored.doc or b""))

    async def search(self, caller: Caller, query: SearchQuery, after: Place | None, request_id: str, text: str) -> Page:
        """One page. `text` is the query as it was asked, for the trail. Raises Forbidden, TooCostly, Unavailable."""
        query = replace(narrowed(query, lambda resource_type: caller.may("s", resource_type)), sight=caller.sight("s"))
        caller.must_search(query.asked_types)
        if query.resource_type == BINARY and query.only_count:
            raise BadParameter("Binaries are not counted: some may be hidden from you", expression="_summary")
        row = audit.access(
            caller,
            "search-type",
            request_id,
            resource_type=query.resource_type,
            patient_id=patient_asked(query),
            query=text,
        )
        if row.patient_id and await self._is_opposed(query, row.patient_id):
            row = row._replace(outcome=audit.REFUSED)
        if row.patient_id:
            page, _ = await asyncio.gather(self._page(query, after), self.accesses.append(row))
            return page
        page = await self._page(query, after)
        if query.resource_type == BINARY:
            page = await self._readable(caller, page, after)
        shown = {patient_in_bytes(query.resource_type, hit.id, hit.doc) for hit in page.hits}
        rows = [row._replace(patient_id=patient) for patient in sorted(shown - {None}, key=str)] or [row]
        await self.accesses.append(*rows)
        return page

    async def _is_opposed(self, query: SearchQuery, patient_id: str) -> bool:
        """Whether this record is kept from who asks, by its worker (R4624-45-6) or as that of another team: the attempt
        is traced as a refusal.
        """
        sight = query.sight
        if (not sight.rights and sight.team is None) or query.resource_type == "Patient":
            return False
        worker = await self.resources.read(TYPE_NUMBER["Patient"], patient_id)
        return worker is not None and not sight.covers(0, worker.worker, worker.held)

    async def _page(self, query: SearchQuery, after: Place | None) -> Page:
        began = time.perf_counter()
        with self.metrics.traces.span("search"):
            page = await self.searches.page(query, after)
        self.metrics.search_seconds.observe(time.perf_counter() - began)
        return page

    async def along(
        self, caller: Caller, wanted: Sequence[Include], hits: Sequence[Included], request_id: str
    ) -> list[Included]:
        """What `_include` and `_revinclude` bring along, without what this caller may not read. Raises TooCostly."""
        if not wanted:
            return []
        found = await self.includes.of(hits, wanted, caller.sight("r"))
        shown = [
            one
            for one in found
            if caller.may("r", one.type)
            and (one.type != BINARY or (await self.protection.of_document(caller, one.doc)).allowed)
        ]
        await self.accesses.append(
            *(
                audit.access(
                    caller,
                    "search-type",
                    request_id,
                    resource_type=one.type,
                    resource_id=one.id,
                    patient_id=patient_in_bytes(one.type, one.id, one.doc),
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
        self,
        caller: Caller,
        interaction: str,
        request_id: str,
        resource_type: str,
        stored: Stored,
        patient_id: str | None,
    ) -> None:
        await self.accesses.append(
            audit.access(
                caller,
                interaction,
                request_id,
                resource_type=resource_type,
                resource_id=stored.id,
                version=stored.version,
                patient_id=patient_id,
            )
        )

    @property
    def protection(self) -> Protection:
        return Protection(self.resources)

    async def owner_of_binary(
        self, caller: Caller, interaction: str, request_id: str, resource_id: str, versions: Sequence[Stored]
    ) -> str | None:
        """Whose bytes these are. Where the caller may not have them: a trace of the refusal, and NotFound.

        Not Forbidden, and not Gone: who may not read a document does not learn that it is there.
        """
        verdict = await self.protection.of_versions(caller, versions)
        return await self.worker_of(verdict, caller, interaction, request_id, resource_id)

    async def worker_of(
        self, verdict: Verdict, caller: Caller, interaction: str, request_id: str, resource_id: str
    ) -> str | None:
        """Whose Binary it is, by a verdict on it. Raises NotFound where it is no, and traces that."""
        if verdict.allowed:
            return verdict.patient_id
        await self.accesses.append(
            audit.access(
                caller,
                interaction,
                request_id,
                outcome=audit.REFUSED,
                resource_type=BINARY,
                resource_id=resource_id,
                patient_id=verdict.patient_id,
            )
        )
        raise absent(BINARY, resource_id)

    async def may_have(self, caller: Caller, binaries: Sequence[tuple[str, bytes]]) -> list[bool]:
        """Whether the caller may have each of these Binaries (id, document), which may be earlier versions.

        What protects it now protects what it was too.
        """
        read = await self.resources.read_many([(TYPE_NUMBER[BINARY], one) for one, _ in binaries]) if binaries else []
        now = {one.id: one.doc for one in read}
        return [
            (await self.protection.of_documents(caller, {doc, now.get(one) or doc})).allowed for one, doc in binaries
        ]

    async def _readable(self, caller: Caller, page: Page, after: Place | None) -> Page:
        """A page of Binaries without those that the caller may not have, and without a total that would count them."""
        shown = await self.may_have(caller, [(hit.id, hit.doc) for hit in page.hits])
        hits = tuple(hit for hit, may in zip(page.hits, shown, strict=True) if may)
        whole = after is None and page.next is None
        return replace(page, hits=hits, total=len(hits) if whole else None)


def absent(resource_type: str, resource_id: str) -> NotFound:
    return NotFound(f"{resource_type}/{resource_id} does not exist")


def present(found: Stored | None, resource_type: str, resource_id: str) -> Stored:
    """What was found, if it is there. Raises NotFound, Gone."""
    if found is None:
        raise absent(resource_type, resource_id)
    if found.deleted:
        raise Gone(f"{resource_type}/{resource_id} was deleted")
    return found


def patient_asked(query: SearchQuery) -> str | None:
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
