"""Pages taken out of a document: a derivative without them for everybody, and the original for the médecin du travail.

R4624-45-7 C. trav. and CSP R4127-45 (what is not handed on), R4624-45-5 (the trace). One transaction makes the new
document and withholds the old one with every form of it, and what waited to be sent goes without those pages.
"""

import asyncio
import tempfile
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import orjson

from fhir_server.caller import Caller
from fhir_server.outbox.jobs import Jobs
from fhir_server.outcomes import BadParameter, BusinessRule, Conflict
from fhir_server.ports import Blob
from fhir_server.r4 import search_query
from fhir_server.r4.resource_types import TYPE_NUMBER
from fhir_server.records.identifiers import oid_of, stable_id
from fhir_server.records.read import Archive, present
from fhir_server.records.write import Door, Incoming, author_of, incoming_from_dict, new_id
from fhir_server.scans.redaction import without_pages
from fhir_server.settings import Settings
from fhir_server.store.commit import Written
from fhir_server.store.database import Connection
from fhir_server.store.outbox_rows import insert_deliveries, waiting_deliveries
from fhir_server.store.resources import Stored
from mappings import redaction as mapping
from mappings.access_facts import NON_TRANSMISSIBLE, QUARANTINE, access_facts
from mappings.retention import binaries_of
from terminology import systems

DOCUMENT, BINARY, LIST = "DocumentReference", "Binary", "List"
PDF: Final = "application/pdf"
MOST_FORMS: Final = 20
"""Originals, renditions and redactions of one document: more than that is no document of a scan."""


@dataclass(frozen=True, slots=True)
class _Form:
    """One form of the document: as it was scanned, as PDF/A, or redacted before."""

    stored: Stored
    resource: dict[str, Any]

    @property
    def name(self) -> str:
        return f"{DOCUMENT}/{self.stored.id}"

    @property
    def is_withheld(self) -> bool:
        return bool(access_facts(self.resource).guard & NON_TRANSMISSIBLE)

    def is_pdf(self) -> bool:
        return self.resource["content"][0].get("attachment", {}).get("contentType") == PDF


@dataclass(frozen=True, slots=True)
class Redacted:
    """What was made: the new DocumentReference and its Provenance, and which documents were withheld."""

    document_id: str
    provenance_id: str
    withheld: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Redactor:
    """Over one store."""

    door: Door
    archive: Archive
    jobs: Jobs
    settings: Settings

    async def redact(
        self,
        caller: Caller,
        document_id: str,
        pages: Collection[int],
        reason: str,
        *,
        request_id: str,
        by: str | None = None,
    ) -> Redacted:
        """Take `pages` (from 1) out of a document that the caller sees and may change. `reason` is one of
        `mappings.redaction.REASONS`, `by` the person where the caller does not say who he is.

        Raises Forbidden, NotFound, Gone; BadParameter for pages and reasons that there are not; BusinessRule where
        there is no PDF to take pages out of, or nothing would be left; Conflict where it is redacted already;
        VersionConflict where somebody writes it at this moment.
        """
        caller.must("u", DOCUMENT)
        caller.must("c", DOCUMENT)
        if reason not in mapping.REASONS:
            raise BadParameter(f"The reason is one of {', '.join(mapping.REASONS)}", expression="reason")
        asked = _Form(*await self._asked(caller, document_id, request_id))
        guard = access_facts(asked.resource).guard
        author_of(caller).must_write(asked.name, guard, guard | NON_TRANSMISSIBLE)
        forms = await self._forms(asked)
        _refuse_twice(asked, forms)
        source = _with_pdf(asked, forms)
        before = await self._binary_of(source)
        assert before.blob_sha256
        blob, left = await asyncio.to_thread(self._without, before.blob_sha256, pages)
        identity = new_id()
        of = mapping.Redaction(
            document_id=identity,
            unique_oid=oid_of(identity),
            binary_id=new_id(),
            provenance_id=new_id(),
            source_id=source.stored.id,
            source_sha256=before.blob_sha256.hex(),
            pages=tuple(sorted(set(pages))),
            pages_left=left,
            reason=reason,
            size=blob.size,
            sha1=blob.sha1,
            sha256=blob.sha256.hex(),
            by=by or caller.professional,
            client=caller.client_id,
            at=datetime.now(UTC),
        )
        document = mapping.redacted(of, source.resource)
        if access_facts(document).guard & (NON_TRANSMISSIBLE | QUARANTINE):
            raise BusinessRule("No document of this kind is seen by others: there is nothing to make for them")
        incoming = [
            incoming_from_dict(document),
            replace(incoming_from_dict(mapping.binary(of)), blob=blob),
            incoming_from_dict(mapping.provenance(of, document)),
            *[_update(mapping.withheld(one.resource), one.stored) for one in forms if not one.is_withheld],
            *await self._bytes_behind(forms),
            *await self._folders(forms, identity),
        ]
        names = [one.stored.id for one in forms]
        patient = access_facts(document).worker

        async def alongside(connection: Connection, _written: Sequence[Written]) -> None:
            if patient:
                await self._deliver_instead(connection, names, identity, patient, of.at)

        # What follows from the change of a document needs no scope of its own; the role is asked of each part of it.
        able = replace(caller, scopes=("system/*.cruds",))
        await self.door.write(able, incoming, interaction="operation", request_id=request_id, alongside=alongside)
        return Redacted(identity, of.provenance_id, tuple(names))

    async def _asked(self, caller: Caller, document_id: str, request_id: str) -> tuple[Stored, dict[str, Any]]:
        found = await self.archive.resources.read(TYPE_NUMBER[DOCUMENT], document_id)
        await self.archive.must_see(caller, "operation", request_id, DOCUMENT, found)
        stored = present(found, DOCUMENT, document_id)
        return stored, orjson.loads(stored.doc or b"{}")

    async def _forms(self, asked: _Form) -> list[_Form]:
        """Everything that shows these pages: what it was made of, and what was made of that. Raises BusinessRule."""
        forms = {asked.stored.id: asked}
        pending = [asked]
        while pending:
            one = pending.pop()
            found = [await self._current(target) for target in _made_of(one.resource)]
            found += list(await self._found(DOCUMENT, "relatesto", one.name))
            for stored in found:
                if stored is None or stored.doc is None or stored.id in forms:
                    continue
                form = _Form(stored, orjson.loads(stored.doc))
                if stored.id in _made_of(one.resource) or one.stored.id in _made_of(form.resource):
                    forms[stored.id] = form
                    pending.append(form)
            if len(forms) > MOST_FORMS:
                raise BusinessRule("This document has too many forms to be redacted at once")
        return list(forms.values())

    async def _current(self, document_id: str) -> Stored | None:
        return await self.archive.resources.read(TYPE_NUMBER[DOCUMENT], document_id)

    async def _found(self, resource_type: str, parameter: str, value: str) -> list[Stored]:
        query = search_query.parse(resource_type, [(parameter, value), ("_count", "100")])
        page = await self.archive.searches.page(query, None)
        keys = [(TYPE_NUMBER[resource_type], hit.id) for hit in page.hits]
        return list(await self.archive.resources.read_many(keys)) if keys else []

    async def _binary_of(self, form: _Form) -> Stored:
        """Its bytes. Raises BusinessRule where they are not one Binary of this server."""
        held = binaries_of(form.resource, self.settings.public_base)
        contents = form.resource["content"]
        stored = await self.archive.resources.read(TYPE_NUMBER[BINARY], held[0]) if held else None
        if len(contents) != 1 or stored is None or stored.blob_sha256 is None:
            raise BusinessRule("Pages are taken out of a document whose one content is a Binary of this server")
        return stored

    def _without(self, sha256: bytes, pages: Collection[int]) -> tuple[Blob, int]:
        with tempfile.TemporaryDirectory() as folder:
            target = Path(folder) / "redacted.pdf"
            with self.archive.blobs.as_file(sha256) as source:
                left = without_pages(source, target, pages)
            return self.archive.blobs.put_file(target, largest=self.settings.max_binary_mb * 1024 * 1024), left

    async def _bytes_behind(self, forms: Sequence[_Form]) -> list[Incoming]:
        """The Binaries that nothing protects, or something else: from now on the form that they belong to."""
        changed: list[Incoming] = []
        for form in forms:
            for identity in binaries_of(form.resource, self.settings.public_base):
                stored = await self.archive.resources.read(TYPE_NUMBER[BINARY], identity)
                if stored is None or stored.doc is None or stored.blob_sha256 is None or stored.blob_size is None:
                    continue
                resource = orjson.loads(stored.doc)
                if resource.get("securityContext", {}).get("reference") != form.name:
                    one = _update({**resource, "securityContext": {"reference": form.name}}, stored)
                    changed.append(replace(one, blob=Blob(stored.blob_sha256, b"", stored.blob_size)))
        return changed

    async def _folders(self, forms: Sequence[_Form], document_id: str) -> list[Incoming]:
        """The classeurs that hold a form hold the new document too."""
        folders: dict[str, Stored] = {}
        for form in forms:
            folders |= {one.id: one for one in await self._found(LIST, "item", form.name)}
        changed: list[Incoming] = []
        for stored in folders.values():
            resource = orjson.loads(stored.doc or b"{}")
            kinds = resource.get("code", {}).get("coding", [])
            if any((one.get("system"), one.get("code")) == (systems.MHD_LIST_TYPES, "folder") for one in kinds):
                entry = {"item": {"reference": f"{DOCUMENT}/{document_id}"}}
                changed.append(_update({**resource, "entry": [*resource.get("entry", []), entry]}, stored))
        return changed

    async def _deliver_instead(
        self, connection: Connection, withheld: Sequence[str], document_id: str, patient_id: str, at: datetime
    ) -> None:
        """Whoever waited for a form that is withheld now waits for the new document."""
        recipients = sorted({recipient for _, recipient in await waiting_deliveries(connection, withheld, [])})
        rows = [(stable_id("delivery", one, document_id), one, document_id, patient_id) for one in recipients]
        if rows:
            await self.jobs.defer_dispatch(connection, await insert_deliveries(connection, rows, at))


def _made_of(document: dict[str, Any]) -> list[str]:
    targets = [
        one["target"].get("reference", "") for one in document.get("relatesTo", []) if one["code"] == "transforms"
    ]
    return [target.split("/")[1] for target in targets if target.startswith(f"{DOCUMENT}/")]


def _refuse_twice(asked: _Form, forms: Sequence[_Form]) -> None:
    """Redacting the original again would bring back the pages that were taken out before. Raises Conflict."""
    for one in forms:
        made_before = one.stored.id != asked.stored.id and mapping.is_redacted(one.resource) and not one.is_withheld
        if made_before and one.resource.get("status") == "current":
            raise Conflict(f"Pages were taken out already: redact {one.name}, or withdraw it first")


def _with_pdf(asked: _Form, forms: Sequence[_Form]) -> _Form:
    """The form to take pages out of: what was asked for, or its PDF/A where it is an image. Raises BusinessRule."""
    if asked.is_pdf():
        return asked
    for one in forms:
        if one.is_pdf() and asked.stored.id in _made_of(one.resource) and not mapping.is_redacted(one.resource):
            return one
    raise BusinessRule("Pages are taken out of a PDF, and there is none of this document: flag it as a whole")


def _update(resource: dict[str, Any], stored: Stored) -> Incoming:
    return replace(incoming_from_dict(resource, method="update"), expected_version=stored.version)
