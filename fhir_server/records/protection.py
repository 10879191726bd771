"""Who may have the bytes of a Binary: whoever may read what protects it.

https://hl7.org/fhir/R4/binary.html#security - `securityContext` names a resource, of any type, whose rules hold for the
Binary. What cannot be asked (deleted, elsewhere, unknown) allows nobody.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace

import orjson

from fhir_server.caller import Caller
from fhir_server.r4.references import is_local
from fhir_server.r4.resource_types import TYPE_NUMBER
from fhir_server.r4.subjects import patient_in_bytes
from fhir_server.sight import own_hash
from fhir_server.store.resources import Resources, Stored
from mappings.access_facts import IDENTITY, WORKER_UNCLEAR, access_facts

BINARY = "Binary"
LONGEST_CHAIN = 5  # a Binary may be protected by a Binary


@dataclass(frozen=True, slots=True)
class Verdict:
    """May the caller have it, and whose record it is: the worker of what protects it, where that is known."""

    allowed: bool
    patient_id: str | None = None


@dataclass(frozen=True, slots=True)
class Protection:
    """Decides over one store."""

    resources: Resources

    async def of_versions(self, caller: Caller, versions: Iterable[Stored]) -> Verdict:
        """Versions of one Binary: all of them, or none. A deleted one counts as it was before."""
        return await self.of_documents(caller, [await self._document_of(version) for version in versions])

    async def of_documents(self, caller: Caller, docs: Iterable[bytes]) -> Verdict:
        """One Binary as its JSON was at several times: all of them, or none."""
        patient: str | None = None
        for doc in docs:
            verdict = await self.of_document(caller, doc)
            patient = verdict.patient_id or patient
            if not verdict.allowed:
                return Verdict(allowed=False, patient_id=patient)
        return Verdict(allowed=True, patient_id=patient)

    async def of_document(self, caller: Caller, doc: bytes) -> Verdict:
        """A Binary given as its JSON."""
        for _ in range(LONGEST_CHAIN):
            context = orjson.loads(doc).get("securityContext")
            if context is None:
                return Verdict(allowed=True)
            target = is_local(str(context.get("reference", "")))
            if target is None:
                return Verdict(allowed=False)
            protector = await self.resources.read(TYPE_NUMBER[target[0]], target[1])
            if protector is None or protector.doc is None:
                return Verdict(allowed=False)
            patient = patient_in_bytes(*target, protector.doc)
            if not protector.is_in(caller.sight("r")):
                return Verdict(allowed=False, patient_id=patient)
            if target[0] != BINARY or not caller.may("r", BINARY):
                return Verdict(caller.may("r", target[0]), patient)
            doc = protector.doc
        return Verdict(allowed=False)

    async def of_then(self, caller: Caller, doc: bytes | None) -> bool:
        """May the caller see a version by whom it is about? It may have been in the record of another worker than its
        resource is now, and he is asked as of now. Whether the resource is in sight is another question.
        """
        sight = caller.sight("r")
        if doc is None or (not sight.rights and sight.only is None and sight.team is None):
            return True
        facts, hidden = access_facts(orjson.loads(doc)), sight.hidden & WORKER_UNCLEAR
        if facts.worker is None:
            return not facts.guard & hidden
        worker = await self.resources.read(TYPE_NUMBER["Patient"], facts.worker)
        guard = facts.guard & (IDENTITY | WORKER_UNCLEAR)
        held = worker.held if worker else ()
        return replace(sight, hidden=hidden).covers(guard, own_hash(f"Patient/{facts.worker}"), held)

    async def _document_of(self, stored: Stored) -> bytes:
        if stored.doc is not None:
            return stored.doc
        before = await self.resources.read_version(stored.type, stored.id, stored.version - 1)
        return before.doc if before and before.doc else b"{}"
