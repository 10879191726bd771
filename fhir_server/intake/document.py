"""The documents of one folder, from files to written records: decided, attached or set aside, in one transaction.

A folder that is certain becomes DocumentReferences, Binaries, Provenances, a List, deliveries with their Tasks.
One that is not is kept whole, bytes and evidence, where no query reaches it, until a person decides.
"""

import asyncio
import tempfile
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson
import structlog

from fhir_server.caller import service
from fhir_server.consent.decide import ON_REQUEST
from fhir_server.identity.decisions import grounds_of
from fhir_server.identity.matcher import Matcher
from fhir_server.identity.matching import Certain, Doubtful, Evidence, Match, Scored
from fhir_server.identity.resolve import Resolver
from fhir_server.intake.proofs import proofs_of
from fhir_server.intake.register import centre_id_of
from fhir_server.linkage.grade import explained
from fhir_server.linkage.traits import TraitsIns
from fhir_server.outbox.jobs import Jobs
from fhir_server.outbox.recipients import Recipient
from fhir_server.outcomes import BusinessRule, Conflict, NotFound
from fhir_server.ports import Blob
from fhir_server.r4.resource_types import TYPE_NUMBER
from fhir_server.records.identifiers import oid_of, service_id_of, stable_id
from fhir_server.records.read import Archive
from fhir_server.records.tasks import task_of
from fhir_server.records.write import Door, Incoming, incoming_from_dict, new_id
from fhir_server.scans.examination import Examination
from fhir_server.scans.index_file import IndexLine
from fhir_server.scans.index_file import read as read_index
from fhir_server.scans.manifest import ListedDocument, ListedFolder, Manifest, parse
from fhir_server.scans.rendition import to_pdfa
from fhir_server.scans.unpack import Problem
from fhir_server.settings import Settings
from fhir_server.store.access_log import AccessRow
from fhir_server.store.commit import Written
from fhir_server.store.database import Connection, Database
from fhir_server.store.identity_events import (
    OPEN,
    IdentityEvents,
    NewEvent,
    add_event,
    hold_folder,
    withhold_versions,
)
from fhir_server.store.outbox_rows import DeliveryRow, insert_deliveries
from fhir_server.store.scan_lots import (
    DocumentRow,
    Earlier,
    FolderRow,
    ScanLots,
    same_content,
    same_identity,
    settle_folder,
    withdraw_from_review,
)
from mappings.elements import reference
from mappings.filing import filed_again, is_unfiled, proof_filed_again, shown, tells_of_a_filing
from mappings.nomenclature import kind_of, kinds
from mappings.organization import centre
from mappings.scan_lot_list import scan_lot_list
from mappings.scanned_document import (
    FolderContext,
    ScannedDocument,
    records_of_folder,
    source_patient_info,
    superseded,
)
from terminology import systems

log = structlog.get_logger(__name__)

CALLER = service("intake")
PDF = "application/pdf"
MOST_REFERRING = 10_000
NON_TRANSMISSIBLE = {"system": systems.SECURITY_TAG, "code": "non-transmissible"}
Resource = dict[str, Any]


@dataclass(frozen=True, slots=True)
class LotFacts:
    """What is true of the whole lot. `root` is where its files lie, None once they are in the blob store only."""

    manifest: Manifest
    manifest_sha256: bytes
    signature: bytes | None
    token: bytes | None
    seal: Mapping[str, Any]
    received_at: datetime
    root: Path | None


@dataclass(frozen=True, slots=True)
class _Kept:
    """A document whose bytes are in the blob store; `rendition` is its PDF/A where it came as an image."""

    listed: ListedDocument
    blob: Blob
    replaces: str | None
    rendition: Blob | None


@dataclass(frozen=True, slots=True)
class Filing:
    """A decision to attach: its `event`, by whom, and what is written or asked with it in the one transaction.

    `number` says how often the folder was attached before, `flagged` names documents that are non-transmissible. `hold`
    takes the folder for this transaction and raises Conflict where somebody has decided meanwhile. None in `by` is the
    rule.
    """

    event: NewEvent
    by: str | None = None
    confirmed_by: str | None = None
    number: int = 0
    flagged: frozenset[str] = frozenset()
    hold: Callable[[Connection], Awaitable[None]] | None = None
    accesses: Sequence[AccessRow] = field(default_factory=tuple[AccessRow, ...])


class _Rejected(Exception):
    """The folder may not come in after all: what the transaction found."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        super().__init__()
        self.problems = tuple(problems)


class DocumentIntake:
    """Settles folders."""

    def __init__(
        self,
        *,
        door: Door,
        archive: Archive,
        database: Database,
        jobs: Jobs,
        recipients: Sequence[Recipient],
        matcher: Matcher,
        settings: Settings,
    ) -> None:
        self._door = door
        self._archive = archive
        self._database = database
        self._jobs = jobs
        self._recipients = recipients
        self._settings = settings
        self._lots = ScanLots(database)
        self._events = IdentityEvents(database)
        self._resolver = Resolver(matcher, production=settings.production)

    async def settle(
        self,
        lot: LotFacts,
        position: int,
        folder: ListedFolder,
        examination: Examination,
        lines: Sequence[IndexLine],
    ) -> FolderRow:
        """What becomes of one examined folder: rejected, set aside for review, or attached to its worker."""
        name = lot.manifest.lot
        row = FolderRow(folder.barcode, position, "rejected", [], None, _list_id(name, folder.barcode), None)
        problems = examination.problems or self._too_large(folder) or await self._misfits(lot, folder)
        if problems:
            return await self._reject(lot, folder, row, problems)
        earlier = await self._earlier(lot, folder)
        evidence = evidence_of(folder, examination, lines)
        match = await self._resolver.resolve(evidence)
        remarks = [*examination.remarks, *_unknown_kinds(folder)]
        row = row._replace(problems=_as_json(remarks), evidence=evidence_as_json(evidence, match, self._resolver.model))
        try:
            kept = await self._keep_all(lot, folder, earlier)
            if isinstance(match, Certain):
                attach = row._replace(state="accepted", patient_id=match.patient_id)
                event = NewEvent(
                    "attach",
                    lot=name,
                    barcode=folder.barcode,
                    patient_id=match.patient_id,
                    grade="certain",
                    score=match.graded.posterior if match.graded else None,
                    model=self._resolver.model,
                    explanation=grounds_of(attach.evidence),
                )
                return await self._attach(lot, folder, attach, kept, match.reasons, Filing(event))
            doubt = Problem(match.code, None, ", ".join(match.reasons))
            waiting = row._replace(state="to-review", problems=_as_json([doubt, *remarks]))
            return await self._set_aside(lot, folder, waiting, kept)
        except _Rejected as rejected:
            return await self._reject(lot, folder, row, rejected.problems)

    async def attach(
        self, lot: str, barcode: str, patient_id: str, *, by: str, filing: Filing | None = None
    ) -> FolderRow:
        """A person decided whose folder this is; `filing` is his decision, where more is known than who he is.

        Raises NotFound, Conflict when it does not wait for a decision, Gone for a worker who was deleted.
        """
        facts, folder = await self.again(lot, barcode)
        row = await self._lots.folder(lot, barcode)
        if row is None or row.state not in OPEN:
            raise Conflict("This folder does not wait for a decision")
        patient = await self._archive.resources.read(TYPE_NUMBER["Patient"], patient_id)
        if patient is None or patient.deleted:
            raise NotFound("There is no such worker")
        waiting = {r.document_id for r in await self._lots.documents(lot, barcode) if r.state == "to-review"}
        folder = replace(folder, documents=tuple(one for one in folder.documents if one.document_id in waiting))
        earlier = await self._earlier(facts, folder)
        kept = await self._keep_all(facts, folder, earlier)
        accepted = row._replace(state="accepted", patient_id=patient_id)
        number = sum(event.kind == "attach" for event in await self._events.of_folder(lot, barcode))
        event = NewEvent("attach", lot=lot, barcode=barcode, patient_id=patient_id, decided_by=by, role="operator")
        filing = replace(filing or Filing(event), by=by, number=number)
        try:
            return await self._attach(facts, folder, accepted, kept, ("human-decision",), filing)
        except _Rejected as rejected:
            codes = ", ".join(sorted({problem.code for problem in rejected.problems}))
            raise Conflict(f"These documents came in otherwise meanwhile ({codes})") from rejected

    async def resolve_again(self, lot: str, barcode: str, said: Mapping[str, Any] | None) -> dict[str, Any]:
        """Whose folder it could be by the register of now: evidence as reviewers see it. Raises NotFound.

        Without what datamatrices on its pages said, which is not kept: it leads to a person, never to an attachment.
        """
        facts, folder = await self._again(lot, barcode)
        lines = await self.index_lines(facts, barcode)
        read = tuple((said or {}).get("barcodes", ()))
        evidence = evidence_of(folder, Examination(barcode, (), (), read, ()), lines)
        return evidence_as_json(evidence, await self._resolver.resolve(evidence), self._resolver.model)

    async def index_lines(self, lot: LotFacts, barcode: str) -> list[IndexLine]:
        """What the provider keyed of a folder."""
        kept = lot.seal.get("index")
        if not kept:
            return []
        lines, _ = await asyncio.to_thread(read_index, await self._bytes(bytes.fromhex(kept)))
        return [line for line in lines if line.folder == barcode]

    async def again(self, lot: str, barcode: str) -> tuple[LotFacts, ListedFolder]:
        """A folder of a lot that was received before, out of what was kept of it. Raises NotFound."""
        return await self._again(lot, barcode)

    async def write_lot_list(self, lot: LotFacts, list_id: str) -> None:
        """The List of the lot, with the folders that were attached."""
        folders = await self._lots.folders(lot.manifest.lot)
        resource = scan_lot_list(
            list_id,
            lot.manifest.lot,
            received_at=lot.received_at,
            folder_list_ids=[folder.list_id for folder in folders if folder.state == "accepted"],
        )
        await self._door.write(
            CALLER, [incoming_from_dict(resource, method="update")], interaction="update", request_id=new_id()
        )

    async def _reject(
        self, lot: LotFacts, folder: ListedFolder, row: FolderRow, problems: Sequence[Problem]
    ) -> FolderRow:
        rejected = row._replace(state="rejected", problems=_as_json(problems), evidence=None)
        await self._lots.settle(lot.manifest.lot, rejected, _rows(folder, "rejected", {}), datetime.now(UTC))
        return rejected

    def _too_large(self, folder: ListedFolder) -> list[Problem]:
        largest = self._settings.max_binary_mb
        return [
            Problem("E05", document.file.path, f"the file is larger than the {largest} MB that are accepted")
            for document in folder.documents
            if document.file.size > largest * 1024 * 1024
        ]

    async def _misfits(self, lot: LotFacts, folder: ListedFolder) -> list[Problem]:
        """E09, E16: what is in already, before anything is kept. Asked again inside the transaction that writes."""
        async with self._database.connection() as connection:
            return await duplicates(connection, lot.manifest.lot, folder)

    async def _earlier(self, lot: LotFacts, folder: ListedFolder) -> dict[str, Earlier]:
        """The earlier delivery of each document, where this folder says that it replaces one."""
        if folder.replaces_lot is None:
            return {}
        names = [document.document_id for document in folder.documents]
        async with self._database.connection() as connection:
            rows = await same_identity(connection, lot.manifest.lot, folder.barcode, names)
        return {row.document_id: row for row in rows}

    async def _keep_all(self, lot: LotFacts, folder: ListedFolder, earlier: Mapping[str, Earlier]) -> list[_Kept]:
        """The bytes of every document that is new, in the blob store; those that did not change are left alone."""
        kept: list[_Kept] = []
        for document in folder.documents:
            before = earlier.get(document.document_id)
            if before and before.sha256.hex() == document.file.sha256:
                continue
            blob = await self._keep(lot, document)
            rendition = None if document.media_type == PDF else await self._rendition(document, blob)
            kept.append(_Kept(document, blob, before.document_reference_id if before else None, rendition))
        return kept

    async def _keep(self, lot: LotFacts, document: ListedDocument) -> Blob:
        largest = self._settings.max_binary_mb * 1024 * 1024
        if lot.root is None:  # it waited for a person, and was kept when it came
            return await asyncio.to_thread(self._kept, bytes.fromhex(document.file.sha256), largest)
        blob = await asyncio.to_thread(self._archive.blobs.put_file, lot.root / document.file.path, largest=largest)
        if blob.sha256.hex() != document.file.sha256:
            raise _Rejected([Problem("E02", document.file.path, "the file changed while it was received")])
        return blob

    def _kept(self, sha256: bytes, largest: int) -> Blob:
        with self._archive.blobs.as_file(sha256) as source:
            return self._archive.blobs.put_file(source, largest=largest)

    async def _rendition(self, document: ListedDocument, blob: Blob) -> Blob:
        blobs = self._archive.blobs

        def make() -> Blob:
            with tempfile.TemporaryDirectory() as folder:
                target = Path(folder) / "rendition.pdf"
                with blobs.as_file(blob.sha256) as source:
                    to_pdfa(source, target)
                return blobs.put_file(target, largest=self._settings.max_binary_mb * 1024 * 1024)

        try:
            return await asyncio.to_thread(make)
        except BusinessRule as refused:
            raise _Rejected([Problem("E05", document.file.path, refused.diagnostics)]) from refused

    async def _set_aside(self, lot: LotFacts, folder: ListedFolder, row: FolderRow, kept: Sequence[_Kept]) -> FolderRow:
        """Kept, and invisible: no record exists that a query could find."""
        names = {one.listed.document_id for one in kept}
        async with self._database.transaction() as connection:
            if problems := await duplicates(connection, lot.manifest.lot, folder):
                raise _Rejected(problems)
            if folder.replaces_lot:
                await withdraw_from_review(connection, folder.replaces_lot, folder.barcode, datetime.now(UTC))
            rows = [r for r in _rows(folder, "to-review", {}) if r.document_id in names]
            await settle_folder(connection, lot.manifest.lot, row, rows, datetime.now(UTC))
        return row

    async def _attach(
        self,
        lot: LotFacts,
        folder: ListedFolder,
        row: FolderRow,
        kept: Sequence[_Kept],
        reasons: tuple[str, ...],
        filing: Filing,
    ) -> FolderRow:
        """Every record of the folder, its rows, deliveries and jobs: one transaction, or nothing."""
        assert row.patient_id
        now = datetime.now(UTC)
        documents = _scanned(lot.manifest.lot, await self._still_his(kept, row.patient_id), now)
        incoming = await self._incoming(lot, folder, row, documents, reasons, filing, now) if documents else []
        deliveries = self._deliveries(_to_deliver(documents, incoming), row.patient_id, now, filing.number)
        custodian = service_id_of(self._settings)
        incoming += [incoming_from_dict(task_of(delivery, custodian_id=custodian)) for delivery in deliveries]
        references = {d.document_id: d.document_reference_id for d in documents if not d.transforms}

        event = replace(filing.event, provenance_id=_link_id(lot.manifest.lot, folder.barcode, filing.number))

        async def alongside(connection: Connection, written: Sequence[Written]) -> None:
            problems = await duplicates(connection, lot.manifest.lot, folder)  # before the folder: as others do
            if filing.by is not None and filing.hold is None:
                await _must_wait(connection, lot.manifest.lot, folder.barcode)
            elif filing.hold:
                await filing.hold(connection)
            await add_event(connection, event if incoming else replace(event, provenance_id=None), now)
            if filing.number:
                await withhold_versions(connection, [(one.type, one.id) for one in written if one.version > 1])
            if problems:
                raise _AsFailure(problems)
            if folder.replaces_lot:
                await withdraw_from_review(connection, folder.replaces_lot, folder.barcode, now)
            rows = [r for r in _rows(folder, "accepted", references) if r.document_id in references]
            await settle_folder(connection, lot.manifest.lot, row, rows, now)
            if deliveries:
                new = await insert_deliveries(
                    connection,
                    [(d.delivery_id, d.recipient, d.document_reference_id, d.patient_id) for d in deliveries],
                    now,
                )
                await self._jobs.defer_dispatch(connection, new)

        try:
            if incoming:
                await self._door.write(
                    replace(CALLER, professional=filing.by),
                    incoming,
                    interaction="transaction",
                    request_id=new_id(),
                    alongside=alongside,
                    accesses=filing.accesses,
                )
            else:  # a re-delivery in which nothing changed
                async with self._database.transaction() as connection:
                    await alongside(connection, [])
        except _AsFailure as failure:
            raise _Rejected(failure.problems) from failure
        return row

    async def _incoming(
        self,
        lot: LotFacts,
        folder: ListedFolder,
        row: FolderRow,
        documents: Sequence[ScannedDocument],
        reasons: tuple[str, ...],
        filing: Filing,
        now: datetime,
    ) -> list[Incoming]:
        patient = await self._resource("Patient", row.patient_id or "")
        context = self._context(lot, folder, row, patient, reasons, filing, now)
        doctor = await self._doctor(patient)
        context = replace(context, doctor_practitioner_role=doctor)
        blobs = {d.binary_id: d for d in documents}
        incoming: list[Incoming] = []
        records = _flagged(records_of_folder(context, documents), documents, filing.flagged)
        changed = await self._filed_before(records, reference(f"Patient/{row.patient_id}")) if filing.number else {}
        for resource in records:
            known = changed.pop((resource["resourceType"], resource["id"]), None)
            if known and resource["resourceType"] == "Binary":  # its bytes are there, and it tells of nobody
                continue
            one = incoming_from_dict(known or resource, method="update" if filing.number else "create")
            if document := blobs.get(resource["id"]):
                one = replace(one, blob=Blob(bytes.fromhex(document.sha256), document.sha1, document.size))
            incoming.append(one)
        incoming += [incoming_from_dict(resource, method="update") for resource in changed.values()]
        for document in documents:
            if document.replaces and not document.transforms:
                before = await self._resource("DocumentReference", document.replaces)
                incoming.append(incoming_from_dict(superseded(before), method="update"))
        incoming += await self._surroundings(lot)
        return incoming

    def _context(
        self,
        lot: LotFacts,
        folder: ListedFolder,
        row: FolderRow,
        patient: Resource,
        reasons: tuple[str, ...],
        filing: Filing,
        now: datetime,
    ) -> FolderContext:
        manifest = lot.manifest
        stamped = lot.seal.get("timestamp_at")
        return FolderContext(
            lot=manifest.lot,
            barcode=folder.barcode,
            carton=folder.carton,
            provider_name=manifest.provider,
            provider_siret=manifest.provider_siret,
            operator=manifest.operator,
            scanner=manifest.scanner,
            convention=manifest.convention,
            centre_id=centre_id_of(manifest.centre),
            custodian_id=service_id_of(self._settings),
            patient_id=patient["id"],
            patient_contained=source_patient_info(patient),
            doctor_practitioner_role=None,
            list_id=row.list_id,
            provenance_id=lambda step: _step_id(step, manifest.lot, folder.barcode, filing.number),
            manifest_sha256=lot.manifest_sha256.hex(),
            seal_summary=_seal_summary(lot.seal),
            signature_der=lot.signature,
            token_der=lot.token,
            received_at=lot.received_at,
            verified_at=now,
            attached_at=now,
            match_reasons=reasons,
            attached_by=filing.by,
            confirmed_by=filing.confirmed_by,
            sealed_at=datetime.fromisoformat(stamped) if stamped else None,
        )

    async def _still_his(self, kept: Sequence[_Kept], patient_id: str) -> list[_Kept]:
        """A document replaces an earlier one of the same worker only."""
        checked: list[_Kept] = []
        for one in kept:
            before = await self._resource("DocumentReference", one.replaces) if one.replaces else {}
            his = before.get("subject", {}).get("reference") == f"Patient/{patient_id}"
            checked.append(one if his else replace(one, replaces=None))
        return checked

    async def _filed_before(self, records: Sequence[Resource], patient: Resource) -> dict[tuple[str, str], Resource]:
        """Of records that are made anew those that are there, taken out of a record: as they are filed again. With them
        what was made of the documents meanwhile.
        """
        keys = [(TYPE_NUMBER[one["resourceType"]], one["id"]) for one in records]
        stored = [orjson.loads(one.doc) for one in await self._archive.resources.read_many(keys) if one.doc]
        fresh = {(one["resourceType"], one["id"]): one for one in records}
        again: dict[tuple[str, str], Resource] = {}
        for one in stored:
            key = (one["resourceType"], one["id"])
            if key[0] == "Provenance":
                again[key] = proof_filed_again(one, patient)
            else:
                again[key] = shown(one) if key[0] == "Binary" else filed_again(one, fresh[key])
        documents = [key[1] for key in fresh if key[0] == "DocumentReference"]
        first = ("DocumentReference", documents[0])
        for one in await made_of(self._archive, self._events, documents):
            if is_unfiled(one) and ("DocumentReference", one["id"]) not in again:
                original = fresh.get(("DocumentReference", _original_of(one, documents))) or fresh[first]
                again["DocumentReference", one["id"]] = filed_again(one, original)
        for proof in await proofs_of(self._archive, [key[1] for key in again if key[0] == "DocumentReference"]):
            one = orjson.loads(proof.doc or b"{}")
            if is_unfiled(one) and not tells_of_a_filing(one) and ("Provenance", one["id"]) not in again:
                again["Provenance", one["id"]] = proof_filed_again(one, patient)
        return again

    async def _doctor(self, patient: Resource) -> Resource | None:
        """The role of the worker's doctor, which the DocumentReference contains as its author."""
        for doctor in patient.get("generalPractitioner", []):
            target = str(doctor.get("reference", ""))
            if target.startswith("PractitionerRole/"):
                stored = await self._archive.resources.read(
                    TYPE_NUMBER["PractitionerRole"], target.removeprefix("PractitionerRole/")
                )
                if stored and stored.doc:
                    return orjson.loads(stored.doc)
        return None

    async def _surroundings(self, lot: LotFacts) -> list[Incoming]:
        """The centre of the lot, where no register has named it yet."""
        centre_id = centre_id_of(lot.manifest.centre)
        if await self._archive.resources.read(TYPE_NUMBER["Organization"], centre_id):
            return []
        code = lot.manifest.centre
        resource = centre(centre_id, code, f"Centre {code}", service_id=service_id_of(self._settings))
        return [incoming_from_dict(resource, method="update")]

    async def _resource(self, resource_type: str, resource_id: str) -> Resource:
        stored = await self._archive.resources.read(TYPE_NUMBER[resource_type], resource_id)
        if stored is None or stored.doc is None:
            raise NotFound(f"{resource_type}/{resource_id} does not exist")
        return orjson.loads(stored.doc)

    def _deliveries(self, documents: Sequence[str], patient_id: str, now: datetime, number: int) -> list[DeliveryRow]:
        """One per document and recipient."""
        return [
            DeliveryRow(
                stable_id("delivery", recipient.name, document, *_numbered(number)),
                recipient.name,
                document,
                patient_id,
                "pending",
                0,
                None,
                None,
                None,
                now,
                now,
            )
            for document in documents
            for recipient in self._recipients
            if recipient.kind not in ON_REQUEST
        ]

    async def _again(self, lot: str, barcode: str) -> tuple[LotFacts, ListedFolder]:
        """A lot that was received before, out of what was kept of it."""
        row = await self._lots.read(lot)
        if row is None:
            raise NotFound("There is no such lot")
        manifest = parse(await self._bytes(row.manifest_sha256))
        folder = next((f for f in manifest.folders if f.barcode == barcode), None)
        if folder is None:
            raise NotFound("There is no such folder in this lot")
        signature, token = row.seal.get("signature"), row.seal.get("token")
        facts = LotFacts(
            manifest=manifest,
            manifest_sha256=row.manifest_sha256,
            signature=await self._bytes(bytes.fromhex(signature)) if signature else None,
            token=await self._bytes(bytes.fromhex(token)) if token else None,
            seal=row.seal,
            received_at=row.received,
            root=None,
        )
        return facts, folder

    async def _bytes(self, sha256: bytes) -> bytes:
        return b"".join([chunk async for chunk in self._archive.blobs.chunks(sha256)])


class _AsFailure(BusinessRule):
    """Carries problems out of a transaction that is given up."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        super().__init__("The folder may not come in")
        self.problems = tuple(problems)


async def _must_wait(connection: Connection, lot: str, barcode: str) -> None:
    held = await hold_folder(connection, lot, barcode)
    if held is None or held.state not in OPEN:
        raise Conflict("This folder does not wait for a decision any more")


async def made_of(archive: Archive, events: IdentityEvents, documents: Sequence[str]) -> list[Resource]:
    """DocumentReferences, other than these, that say that they were made of one of these, or of one that was."""
    number = TYPE_NUMBER["DocumentReference"]
    known, found = list(documents), list[Resource]()
    while known:
        keys = await events.referring([("DocumentReference", one) for one in known], MOST_REFERRING)
        seen = {*documents, *(one["id"] for one in found)}
        read = await archive.resources.read_many([key for key in keys if key[0] == number and key[1] not in seen])
        new = [one for one in (orjson.loads(row.doc) for row in read if row.doc) if _original_of(one, known)]
        found += new
        known = [one["id"] for one in new]
    return found


def _original_of(document_reference: Mapping[str, Any], documents: Sequence[str]) -> str:
    """Of which of these documents this one was made (`transforms`, `appends`, `signs`); empty where of none."""
    for relation in document_reference.get("relatesTo", []):
        target = str(relation.get("target", {}).get("reference", "")).removeprefix("DocumentReference/")
        if relation.get("code") != "replaces" and target in documents:
            return target
    return ""


def _to_deliver(documents: Sequence[ScannedDocument], incoming: Sequence[Incoming]) -> list[str]:
    """The DocumentReferences that leave: of an image its PDF/A rendition, and what was made of them before they were
    filed again.
    """
    rendered = {document.transforms for document in documents if document.transforms}
    own = [document.document_reference_id for document in documents]
    made = [
        one.resource_id
        for one in incoming
        if one.type == "DocumentReference" and one.resource_id not in own and one.resource.get("status") == "current"
    ]
    return [one for one in own if one not in rendered] + made


def _numbered(number: int) -> tuple[str, ...]:
    """What is made anew at each filing has a name of its own from the second one on."""
    return (str(number),) if number else ()


def _step_id(step: str, lot: str, barcode: str, number: int) -> str:
    return stable_id("provenance", step, lot, barcode, *(_numbered(number) if step == "link" else ()))


def _link_id(lot: str, barcode: str, number: int) -> str:
    return _step_id("link", lot, barcode, number)


def _flagged(
    records: Sequence[Resource], documents: Sequence[ScannedDocument], flagged: frozenset[str]
) -> list[Resource]:
    """The records, the fiches of these documents and of their renditions marked non-transmissible."""
    marked = {d.document_reference_id for d in documents if d.document_id in flagged}
    marked |= {d.document_reference_id for d in documents if d.transforms in marked}
    return [
        {**one, "meta": {**one.get("meta", {}), "security": [NON_TRANSMISSIBLE]}}
        if one["resourceType"] == "DocumentReference" and one["id"] in marked
        else one
        for one in records
    ]


def evidence_of(folder: ListedFolder, examination: Examination, lines: Sequence[IndexLine]) -> Evidence:
    """What barcode, index and pages say of the owner. Index lines that disagree are several persons: the first
    is taken as index, the others count like codes read on the pages, so that the disagreement is seen."""
    stated: dict[TraitsIns, None] = {}
    for line in lines:
        stated[
            TraitsIns(
                birth_name=line.birth_name,
                used_name=line.used_name,
                given_names=line.given_names,
                birth_date=line.birth_date,
                sex=line.sex,
                matricule_ins=line.matricule_ins,
                oid_ins=line.oid_ins,
            )
        ] = None
    index, *others = stated or {None: None}
    codes = tuple(
        TraitsIns(
            birth_name=code.birth_name,
            given_names=code.given_names,
            birth_date=code.birth_date,
            sex={"M": "male", "F": "female"}.get(code.sex, "unknown"),  # pyright: ignore[reportArgumentType]
            birth_place=code.birth_place,
            matricule_ins=code.matricule,
            oid_ins=code.oid,
        )
        for code in examination.datamatrices
    )
    return Evidence(
        folder_number=folder.barcode,
        index=index,
        codes=(*codes, *(other for other in others if other)),
        barcodes=examination.barcodes,
        read=examination.reading,
    )


def evidence_as_json(evidence: Evidence, match: Match, model: str) -> dict[str, Any]:
    """What the reviewer will be shown: candidates, what speaks for and against each, and how much by this model."""
    match match:
        case Doubtful(candidates):
            pass
        case Certain(patient_id, reasons, graded):  # kept for the day on which somebody doubts it
            candidates = (Scored(patient_id, reasons, (), graded),)
        case _:
            candidates = ()
    return {
        "reasons": list(match.reasons),
        "barcodes": list(evidence.barcodes),
        "model": model,
        "candidates": [
            {"patient": c.patient_id, "for": list(c.agreements), "against": list(c.conflicts)}
            | (explained(c.graded) if c.graded else {})
            for c in candidates
        ],
        **_read_as_json(evidence, match),
    }


def _read_as_json(evidence: Evidence, match: Match) -> dict[str, Any]:
    """What was read of the cover, where a person has to look; of a folder that is settled nothing is kept of it."""
    if evidence.read is None or isinstance(match, Certain):
        return {}
    return {"read": [{"field": f.name, "value": f.value, "confidence": f.confidence} for f in evidence.read.fields]}


def _list_id(lot: str, barcode: str) -> str:
    return stable_id("scan-folder", lot, barcode)


def _scanned(lot: str, kept: Sequence[_Kept], now: datetime) -> list[ScannedDocument]:
    documents: list[ScannedDocument] = []
    for one in kept:
        listed = one.listed
        identity = stable_id("document", lot, listed.document_id)
        kind = kind_of(listed.kind)
        original = ScannedDocument(
            document_reference_id=identity,
            binary_id=stable_id("binary", lot, listed.document_id),
            document_id=listed.document_id,
            unique_oid=oid_of(identity),
            kind=kind,
            dated=listed.dated,
            scanned_at=listed.scanned_at,
            created=listed.scanned_at,
            media_type=listed.media_type,
            size=one.blob.size,
            sha1=one.blob.sha1,
            sha256=one.blob.sha256.hex(),
            pages=listed.pages,
            title=kind.label,
            replaces=one.replaces,
        )
        documents.append(original)
        if one.rendition:
            rendered = stable_id("rendition", lot, listed.document_id)
            documents.append(
                replace(
                    original,
                    document_reference_id=rendered,
                    binary_id=stable_id("rendition-binary", lot, listed.document_id),
                    document_id=f"{listed.document_id}.pdfa",
                    unique_oid=oid_of(rendered),
                    created=now,
                    media_type=PDF,
                    size=one.rendition.size,
                    sha1=one.rendition.sha1,
                    sha256=one.rendition.sha256.hex(),
                    replaces=None,
                    transforms=identity,
                )
            )
    return documents


def _rows(folder: ListedFolder, state: str, references: Mapping[str, str]) -> list[DocumentRow]:
    return [
        DocumentRow(
            document.document_id,
            document.file.path,
            bytes.fromhex(document.file.sha256),
            document.file.size,
            document.pages,
            document.media_type,
            state,
            references.get(document.document_id),
        )
        for document in folder.documents
    ]


async def duplicates(connection: Connection, lot: str, folder: ListedFolder) -> list[Problem]:
    """E09: bytes that are in already. E16: another content under a name that is in, without saying what it replaces."""
    contents = {bytes.fromhex(document.file.sha256): document for document in folder.documents}
    problems: list[Problem] = []
    if len(contents) < len(folder.documents):
        problems.append(Problem("E09", None, "two documents of this folder are the same file"))
    for twin in await same_content(connection, list(contents)):
        document = contents[twin.sha256]
        own = (twin.lot, twin.barcode, twin.document_id) == (lot, folder.barcode, document.document_id)
        unchanged = folder.replaces_lot is not None and (twin.barcode, twin.document_id) == (
            folder.barcode,
            document.document_id,
        )
        if not own and not unchanged:
            problems.append(
                Problem("E09", document.file.path, f"the same file is in lot {twin.lot}, document {twin.document_id}")
            )
    if folder.replaces_lot is None:
        names = {document.document_id: document for document in folder.documents}
        for earlier in await same_identity(connection, lot, folder.barcode, list(names)):
            path = names[earlier.document_id].file.path
            problems.append(Problem("E16", path, f"this document came in lot {earlier.lot}; say replaces_lot"))
    return problems


def _unknown_kinds(folder: ListedFolder) -> list[Problem]:
    return [
        Problem("E15", document.file.path, "this type is not in the nomenclature: the document waits to be qualified")
        for document in folder.documents
        if document.kind is not None and document.kind not in kinds()
    ]


def _seal_summary(seal: Mapping[str, Any]) -> str:
    if seal.get("state") != "valid":
        return "Lot non scellé."
    stamped = f", horodaté par {seal['timestamp_authority']}" if seal.get("timestamp_at") else ""
    return f"Scellé par {seal.get('signer')}{stamped}."


def _as_json(problems: Sequence[Problem]) -> list[dict[str, Any]]:
    return [{"code": p.code, "path": p.path, "detail": p.detail} for p in problems]
