"""The records of one scanned folder attached to a worker: documents, their bytes, the classeur and the chain
of proof.

PDSm 3.1.1 comprehensive DocumentReference and Folder (IHE MHD 4.2.3), Provenance with activities of ISO
21089, decret 2016-1673 on reliable copies: context and date of the copy, fingerprint, seal, traced
operations.
"""

import base64
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from types import MappingProxyType
from typing import Any, Final
from urllib.parse import quote

from mappings.elements import Element, coding, concept, identifier, in_the_record_of, instant, present, reference
from mappings.nomenclature import CATEGORIES, TO_QUALIFY, DocumentKind
from mappings.organization import SPST, siret
from mappings.practitioner import OCCUPATIONAL_PHYSICIAN
from terminology import systems


@dataclass(frozen=True, slots=True)
class ScannedDocument:
    """One document of the folder; ids are given by the caller, so that the same document always becomes the
    same records.

    `document_id` is that of the lot, `unique_oid` `urn:oid:2.25.N`. `dated` is the FHIR date written on the
    paper. `sha1` is raw bytes, `sha256` hexadecimal. `title` holds no personal data. `replaces` and
    `transforms` are ids of DocumentReferences: the earlier delivery of this document, and the original of
    which this one is a PDF/A rendition.
    """

    document_reference_id: str
    binary_id: str
    document_id: str
    unique_oid: str
    kind: DocumentKind
    dated: str | None
    scanned_at: datetime
    created: datetime
    media_type: str
    size: int
    sha1: bytes
    sha256: str
    pages: int
    title: str
    replaces: str | None = None
    transforms: str | None = None


@dataclass(frozen=True, slots=True)
class FolderContext:
    """Where the folder comes from, whose it is, and how each step of the chain went.

    `patient_contained` is `source_patient_info` of the Patient, `doctor_practitioner_role` the
    PractitionerRole to contain as author (None: an unnamed occupational physician of the service).
    `provenance_id` gives the id of a step: `originate`, `receive`, `verify`, `link`, or
    `transform/<DocumentReference id>`. `match_reasons` are codes of ATTACHMENT_REASON; `attached_by` is the
    user who decided, None where the rule did; `confirmed_by` a second one who agreed. `signature_der` (CMS) and
    `token_der` (RFC 3161) seal the manifest, since `sealed_at` where that is known.
    """

    lot: str
    barcode: str
    carton: str | None
    provider_name: str
    provider_siret: str | None
    operator: str
    scanner: str
    convention: str
    centre_id: str
    custodian_id: str
    patient_id: str
    patient_contained: Element
    doctor_practitioner_role: Element | None
    list_id: str
    provenance_id: Callable[[str], str]
    manifest_sha256: str
    seal_summary: str
    signature_der: bytes | None
    token_der: bytes | None
    received_at: datetime
    verified_at: datetime
    attached_at: datetime
    match_reasons: tuple[str, ...]
    attached_by: str | None
    sealed_at: datetime | None = None
    confirmed_by: str | None = None


_XDS_SD: Final[Mapping[str, str]] = MappingProxyType(
    {
        "application/pdf": "urn:ihe:iti:xds-sd:pdf:2008",
        "text/plain": "urn:ihe:iti:xds-sd:text:2008",
        "text/rtf": "urn:ihe:iti-fr:xds-sd:rtf:2010",
        "image/jpeg": "urn:ihe:iti-fr:xds-sd:jpeg:2010",
        "image/tiff": "urn:ihe:iti-fr:xds-sd:tiff:2010",
    }
)
"""Media type -> format code of TRE_A11, after ASS_A12 of the CI-SIS."""

_CONFIDENTIALITY: Final[Mapping[str, str]] = MappingProxyType(
    {
        "N": "normal",
        "R": "restricted",
        "V": "very restricted",
    }
)

_SOURCE_SIGNATURE: Final = coding(systems.SIGNATURE_TYPE, "1.2.840.10065.1.12.1.14", "Source Signature")
_TIMESTAMP_SIGNATURE: Final = coding(systems.SIGNATURE_TYPE, "1.2.840.10065.1.12.1.18", "Timestamp Signature")

AUTHOR: Final = "author"
SOURCE_PATIENT: Final = "source-patient"


def unique_id(oid: str) -> Element:
    """The uniqueId of MHD: `oid` is `urn:oid:...`."""
    return identifier(systems.URI, oid, use="usual", type_=concept(systems.MHD_IDENTIFIER_TYPE, "uniqueId"))


def format_of(media_type: str) -> Element:
    """The format code of an unstructured document of this media type; for others IHE's
    `mimeTypeSufficient`.
    """
    return coding(systems.TRE_A11, _XDS_SD.get(media_type, "urn:ihe:iti:xds:2017:mimeTypeSufficient"))


def source_patient_info(patient: Mapping[str, Any]) -> Element:
    """The Patient as it stood when the document was attached: identifiers and traits, nothing else (XDS
    sourcePatientInfo).
    """
    kept = {name: patient[name] for name in ("identifier", "name", "gender", "birthDate") if name in patient}
    return {"resourceType": "Patient", "id": SOURCE_PATIENT, **kept}


def kind_concept(kind: DocumentKind) -> Element:
    """The type: national code first where there is one, then ours."""
    own = coding(systems.DMST_NOMENCLATURE, kind.code, kind.label)
    if kind.type_system is None or kind.type_code is None:
        return {"coding": [own], "text": kind.label}
    return {"coding": [coding(kind.type_system, kind.type_code, kind.type_display), own], "text": kind.label}


def category_concept(kind: DocumentKind) -> Element:
    """The one category that PDSm allows: class of TRE_A03 where there is one, and the
    headings of R4624-45-4.
    """
    of_class = [coding(systems.TRE_A03, kind.class_code, kind.class_display)] if kind.class_code else []
    headings = [(code, CATEGORIES[code]) for code in kind.categories] or [TO_QUALIFY]
    return {"coding": [*of_class, *(coding(systems.DMST_CATEGORY, code, label) for code, label in headings)]}


def _author(context: FolderContext) -> Element:
    role = context.doctor_practitioner_role or {
        "resourceType": "PractitionerRole",
        "code": [{"coding": [OCCUPATIONAL_PHYSICIAN]}],
        "organization": reference(f"Organization/{context.custodian_id}"),
    }
    return {**{name: part for name, part in role.items() if name != "meta"}, "id": AUTHOR}


def _attachment(document: ScannedDocument) -> Element:
    return {
        "extension": [
            {"url": systems.EXTENSION_SHA256, "valueString": document.sha256},
            {"url": systems.EXTENSION_PAGES, "valuePositiveInt": document.pages},
        ],
        "contentType": document.media_type,
        "language": "fr-FR",
        "url": f"Binary/{document.binary_id}",
        "size": document.size,
        "hash": base64.b64encode(document.sha1).decode("ascii"),
        "title": document.title,
        "creation": instant(document.created),
    }


def _relations(document: ScannedDocument) -> list[Element]:
    said = (("replaces", document.replaces), ("transforms", document.transforms))
    return [{"code": code, "target": reference(f"DocumentReference/{to}")} for code, to in said if to]


def document_reference(context: FolderContext, document: ScannedDocument) -> Element:
    """The fiche of one document, PDSm comprehensive."""
    label = coding(
        systems.CONFIDENTIALITY,
        document.kind.confidentiality,
        _CONFIDENTIALITY[document.kind.confidentiality],
    )
    number = identifier(systems.SCAN_DOCUMENT, f"{context.lot}/{document.document_id}")
    return present(
        resourceType="DocumentReference",
        id=document.document_reference_id,
        meta={"profile": [systems.PDSM_DOCUMENT_REFERENCE]},
        contained=[_author(context), context.patient_contained],
        masterIdentifier=unique_id(document.unique_oid),
        identifier=[number],
        status="current",
        type=kind_concept(document.kind),
        category=[category_concept(document.kind)],
        subject=reference(f"Patient/{context.patient_id}"),
        date=instant(context.attached_at),
        author=[reference(f"#{AUTHOR}")],
        custodian=reference(f"Organization/{context.custodian_id}"),
        relatesTo=_relations(document),
        securityLabel=[{"coding": [label]}],
        content=[{"attachment": _attachment(document), "format": format_of(document.media_type)}],
        context={
            "period": {"start": document.dated or instant(document.scanned_at)},
            "facilityType": {"coding": [SPST]},
            "practiceSetting": concept(systems.TRE_A01, "AMBULATOIRE", "Ambulatoire"),
            "sourcePatientInfo": reference(f"#{SOURCE_PATIENT}"),
        },
    )


def superseded(document_reference: Mapping[str, Any]) -> Element:
    """The same fiche once another document took its place (MHD: deprecated); everything else stays."""
    return {**document_reference, "status": "superseded"}


def _binary(document: ScannedDocument) -> Element:
    """The Binary without its data: the bytes go to the store beside it."""
    return {
        "resourceType": "Binary",
        "id": document.binary_id,
        "contentType": document.media_type,
        "securityContext": reference(f"DocumentReference/{document.document_reference_id}"),
    }


def _folder_list(context: FolderContext, documents: Sequence[ScannedDocument]) -> Element:
    """The classeur, PDSm folder; its entries keep the order of the paper."""
    designation = concept(systems.FOLDER_TYPE, "dmst-numerise", "DMST numérisé")
    return {
        "resourceType": "List",
        "id": context.list_id,
        "meta": {"profile": [systems.PDSM_FOLDER]},
        "extension": [{"url": systems.MHD_DESIGNATION_TYPE, "valueCodeableConcept": designation}],
        "identifier": _paper(context),
        "status": "current",
        "mode": "working",
        "title": "Dossier médical en santé au travail numérisé",
        "code": concept(systems.MHD_LIST_TYPES, "folder"),
        "subject": reference(f"Patient/{context.patient_id}"),
        "date": instant(context.attached_at),
        "entry": [{"item": reference(f"DocumentReference/{d.document_reference_id}")} for d in documents],
    }


def _paper(context: FolderContext) -> list[Element]:
    """What designates the paper folder: its place in the lot, and its carton."""
    folder = identifier(systems.SCAN_FOLDER, f"{context.lot}/{context.barcode}")
    return [folder, *([identifier(systems.CARTON, context.carton)] if context.carton else [])]


# --- Provenance: one per step, of all documents of the folder


def _participant(role: str) -> Element:
    return concept(systems.PROVENANCE_PARTICIPANT, role)


def _provider(context: FolderContext) -> Element:
    number = siret(context.provider_siret) if context.provider_siret else None
    return reference(type_="Organization", identified=number, display=context.provider_name)


def _provenance(
    context: FolderContext, step: str, activity: str, targets: Sequence[str], happened: Element, **parts: Any
) -> Element:
    return present(
        resourceType="Provenance",
        id=context.provenance_id(step),
        extension=in_the_record_of(reference(f"Patient/{context.patient_id}")),
        target=[reference(target) for target in targets],
        **happened,
        recorded=instant(context.attached_at),
        activity=concept(systems.ISO_21089, activity),
        **parts,
    )


def _originate(context: FolderContext, documents: Sequence[ScannedDocument], targets: Sequence[str]) -> Element:
    moments = sorted(document.scanned_at for document in documents)
    operator = reference(type_="Practitioner", identified=identifier(systems.SCAN_OPERATOR, context.operator))
    scanner = reference(type_="Device", identified=identifier(systems.SCANNER, context.scanner))
    return _provenance(
        context,
        "originate",
        "originate",
        targets,
        {"occurredPeriod": {"start": instant(moments[0]), "end": instant(moments[-1])}},
        policy=[f"{systems.CONVENTION}/{quote(context.convention, safe='')}"],
        agent=[
            {"type": _participant("enterer"), "who": operator, "onBehalfOf": _provider(context)},
            {"type": _participant("assembler"), "who": scanner},
        ],
        entity=[
            {"role": "source", "what": reference(identified=paper, display="Original sur papier")}
            for paper in _paper(context)
        ],
    )


def _receive(context: FolderContext, targets: Sequence[str]) -> Element:
    lot = identifier(systems.SCAN_LOT, context.lot)
    return _provenance(
        context,
        "receive",
        "receive",
        targets,
        {"occurredDateTime": instant(context.received_at)},
        agent=[
            {"type": _participant("custodian"), "who": reference(f"Organization/{context.custodian_id}")},
            {"type": _participant("performer"), "who": reference(f"Organization/{context.centre_id}")},
        ],
        entity=[{"role": "source", "what": reference(identified=lot, display="Lot de numérisation")}],
    )


def _signature(context: FolderContext, kind: Element, der: bytes, media_type: str) -> Element:
    return {
        "type": [kind],
        "when": instant(context.sealed_at or context.received_at),
        "who": _provider(context),
        "targetFormat": "application/json",
        "sigFormat": media_type,
        "data": base64.b64encode(der).decode("ascii"),
    }


def _verify(context: FolderContext, documents: Sequence[ScannedDocument], targets: Sequence[str]) -> Element:
    """The manifest and each document with its SHA-256; the seal and the time stamp cover the manifest."""
    manifest = reference(
        identified=identifier(systems.SHA256, context.manifest_sha256),
        display=f"Manifeste du lot. {context.seal_summary}".strip(),
    )
    files = [
        reference(f"DocumentReference/{d.document_reference_id}", identified=identifier(systems.SHA256, d.sha256))
        for d in documents
    ]
    seals = (
        (_SOURCE_SIGNATURE, context.signature_der, "application/pkcs7-signature"),
        (_TIMESTAMP_SIGNATURE, context.token_der, "application/timestamp-reply"),
    )
    return _provenance(
        context,
        "verify",
        "verify",
        targets,
        {"occurredDateTime": instant(context.verified_at)},
        agent=[{"type": _participant("verifier"), "who": reference(f"Organization/{context.custodian_id}")}],
        entity=[{"role": "source", "what": what} for what in (manifest, *files)],
        signature=[_signature(context, kind, der, media_type) for kind, der, media_type in seals if der],
    )


def _link(context: FolderContext, targets: Sequence[str]) -> Element:
    """Attached to the person: by whom or by the rule, and for which reasons."""
    rule = reference(
        type_="Device", identified=identifier(systems.CLIENT, "dmst-fhir"), display="Règle de rapprochement"
    )
    users = [
        reference(type_="Practitioner", identified=identifier(systems.USER, user))
        for user in (context.attached_by, context.confirmed_by)
        if user
    ]
    return _provenance(
        context,
        "link",
        "link",
        targets,
        {"occurredDateTime": instant(context.attached_at)},
        reason=[concept(systems.ATTACHMENT_REASON, code) for code in context.match_reasons],
        agent=[
            {
                "type": _participant("verifier" if context.attached_by else "assembler"),
                "who": who,
                "onBehalfOf": reference(f"Organization/{context.custodian_id}"),
            }
            for who in users or [rule]
        ],
        entity=[{"role": "source", "what": reference(f"Patient/{context.patient_id}")}],
    )


def _transform(context: FolderContext, document: ScannedDocument) -> Element:
    """A rendition made by us of a document that stays as it came."""
    maker = reference(type_="Device", identified=identifier(systems.CLIENT, "dmst-fhir"))
    return _provenance(
        context,
        f"transform/{document.document_reference_id}",
        "transform",
        [f"DocumentReference/{document.document_reference_id}"],
        {"occurredDateTime": instant(document.created)},
        agent=[{"type": _participant("assembler"), "who": maker}],
        entity=[{"role": "source", "what": reference(f"DocumentReference/{document.transforms}")}],
    )


def records_of_folder(context: FolderContext, documents: Sequence[ScannedDocument]) -> list[Element]:
    """Every record of one attached folder, in an order in which each may refer to those before it.

    Per document a DocumentReference and a Binary without data; then the folder List and a Provenance per
    step, and one more per rendition. A folder without documents raises ValueError.
    """
    if not documents:
        raise ValueError("a folder without documents makes no records")
    scanned = [document for document in documents if not document.transforms]
    targets = [f"DocumentReference/{document.document_reference_id}" for document in scanned]
    targets.append(f"List/{context.list_id}")
    return [
        *(document_reference(context, document) for document in documents),
        *(_binary(document) for document in documents),
        _folder_list(context, documents),
        _originate(context, scanned, targets),
        _receive(context, targets),
        _verify(context, scanned, targets),
        _link(context, targets),
        *(_transform(context, document) for document in documents if document.transforms),
    ]
