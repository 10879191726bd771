"""What is decided on when a document leaves: read out of the store, for `consent.decide`."""

from collections.abc import Mapping
from typing import Any, Final

import orjson

from fhir_server.consent.decide import DocumentFact
from fhir_server.r4 import search_query
from fhir_server.records.read import Archive
from mappings.access_facts import NON_TRANSMISSIBLE, QUARANTINE, access_facts
from mappings.consent import ConsentFact, consent_facts
from mappings.document_kind import kind_of_document
from mappings.nomenclature import UNQUALIFIED

WHOLE_FOLDER: Final = "DMST-FONDS"


async def consents_of(archive: Archive, patient_id: str) -> list[ConsentFact]:
    """The rights that a worker exercises now."""
    query = search_query.parse(
        "Consent", [("patient", f"Patient/{patient_id}"), ("status", "active"), ("_count", "1000")]
    )
    page = await archive.searches.page(query, None)
    return [fact for hit in page.hits for fact in consent_facts(orjson.loads(hit.doc))]


def document_fact(document_reference: Mapping[str, Any]) -> DocumentFact:
    """What counts of a DocumentReference."""
    kind = kind_of_document(document_reference)
    guard = access_facts(document_reference).guard
    return DocumentFact(
        kind=kind.code,
        current=document_reference.get("status") == "current",
        transmissible=not guard & NON_TRANSMISSIBLE,
        quarantined=bool(guard & QUARANTINE),
        qualified_type=kind.code != UNQUALIFIED,
        whole_folder=kind.code == WHOLE_FOLDER,
        dmp_candidate=kind.dmp == "yes",
        transferable=kind.transfer == "yes",
        minimal=kind.minimal,
    )
