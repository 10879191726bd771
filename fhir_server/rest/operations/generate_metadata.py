"""$generate-metadata: a structured document is published with the metadata that it holds itself [ITI-106].

https://profiles.ihe.net/ITI/MHD/ITI-106.html, https://profiles.ihe.net/ITI/MHD/OperationDefinition-generate-metadata.html
The document is kept in the form in which it came, and published as Simplified Publish [ITI-105] publishes one: Binary,
DocumentReference, lot de soumission and what it replaces, in one transaction.
"""

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

import orjson
import pybase64

from fhir_server.outcomes import BadParameter, BusinessRule, InvalidResource, Issue
from fhir_server.r4 import search_query
from fhir_server.r4.patch import json_text
from fhir_server.r4.xml import to_xml
from fhir_server.records.audit import query_for_trail
from fhir_server.records.sharing.structured_document import StructuredDocument, read_document
from fhir_server.records.validation import parse_json, validate
from fhir_server.records.write import Incoming, incoming_from_dict, new_id
from fhir_server.rest.document_sharing import alone, binary_url, identified_by, must_publish
from fhir_server.rest.forms import Received, received_as_sent
from fhir_server.rest.http import Answer, Exchange
from fhir_server.rest.operations.operation import Operation
from fhir_server.rest.service import Service
from fhir_server.store.search import Found
from mappings import clinical_document, fhir_document
from mappings.generated_metadata import Metadata, NotDerivable, document_reference, unique_identifier
from terminology import systems

DOCUMENT: Final = "document"
FHIR_TYPES: Final = {"json": "application/fhir+json", "xml": "application/fhir+xml"}
# A document whose patient has more numbers than this was not made for matching.
MOST_IDENTIFIERS: Final = 20


class Given(NamedTuple):
    """The document as it will be kept, and as it was read."""

    content: bytes
    content_type: str
    read: StructuredDocument


async def generate_metadata(exchange: Exchange, service: Service) -> Answer:
    """POST DocumentReference/$generate-metadata, with Parameters or the document itself.

    Answers Parameters with a reference to the DocumentReference, new or of the same document published before. Raises
    Forbidden, InvalidResource for what is no structured document or does not say enough, BusinessRule for a patient who
    is not certain and an identifier that another document has.
    """
    _must(exchange)
    given = await _given(exchange, service)
    metadata = await asyncio.to_thread(_metadata, given.read)
    subject = await _subject(exchange, service, metadata)
    blob = await service.blobs.put_bytes(given.content)
    sha1 = pybase64.b64encode(blob.sha1).decode()
    if known := await _published_before(exchange, service, metadata, sha1):
        return _answer(known)
    document = _document(metadata, subject, {"contentType": given.content_type, "size": blob.size, "hash": sha1})
    shared = await alone(exchange, service, document, blob)
    try:
        result, *_ = await service.door.write(
            exchange.known_caller(),
            shared.incoming,
            interaction="create",
            request_id=exchange.request_id,
            alongside=shared.alongside,
        )
    except BusinessRule:  # perhaps the same request arrived twice, and the other was faster
        if known := await _published_before(exchange, service, metadata, sha1):
            return _answer(known)
        raise
    return _answer(result.id)


def _must(exchange: Exchange) -> None:
    """Before anything is read: what is published, and whom it is about, is found by searches."""
    must_publish(exchange)
    exchange.known_caller().must_search(("DocumentReference", "List", "Patient"))


async def _given(exchange: Exchange, service: Service) -> Given:
    """The document of the request. Raises UnsupportedMediaType, BadSyntax, BadParameter, InvalidResource."""
    received = await received_as_sent(exchange, service.largest_body)
    resource = parse_json(received.json)
    place = ""
    if resource["resourceType"] == "Parameters":
        place = "Parameters.parameter[0].resource"
        resource = _parameter(resource)
    else:
        validate(resource)
    if resource["resourceType"] == "Bundle":
        content = received.body if not place else _part(received)
        return Given(content, FHIR_TYPES[received.form], StructuredDocument(resource, None))
    if resource["resourceType"] != "Binary" or "data" not in resource:
        raise BadParameter("The document is a Bundle, or a Binary with data", expression=place or "Binary.data")
    content, content_type = pybase64.b64decode("".join(resource["data"].split())), resource["contentType"]
    read = await asyncio.to_thread(read_document, content, content_type)  # beside the requests of others
    return Given(content, content_type, read)


def _parameter(parameters: Mapping[str, Any]) -> Mapping[str, Any]:
    """The resource of the one parameter that there is. Raises BadParameter, InvalidResource."""
    validate(parameters)
    found = parameters.get("parameter", [])
    if len(found) != 1 or found[0]["name"] != DOCUMENT or "resource" not in found[0]:
        raise BadParameter(
            "This operation has one parameter: `document`, a resource", expression="Parameters.parameter"
        )
    return found[0]["resource"]


def _part(received: Received) -> bytes:
    """A Bundle inside of Parameters, in the form in which those came and with its numbers as they were written."""
    document = json_text.write(json_text.read(received.json, "the body")["parameter"][0]["resource"])
    return to_xml(document) if received.form == "xml" else document


def _metadata(document: StructuredDocument) -> Metadata:
    """What the document says of itself. Raises InvalidResource where that is not enough."""
    try:
        if document.bundle is not None:
            return fhir_document.metadata(document.bundle)
        return clinical_document.metadata(document.header or {})
    except NotDerivable as fault:
        raise InvalidResource(issues=[Issue("error", fault.code, str(fault), fault.place)]) from None


async def _subject(exchange: Exchange, service: Service, metadata: Metadata) -> str:
    """The worker whom the document is about: the only one who has one of its identifiers, and none that differs.

    Traits decide nothing here: what they would leave to a person belongs to intake. Raises BusinessRule.
    """
    identifiers = metadata.patient_identifiers
    if not 0 < len(identifiers) <= MOST_IDENTIFIERS:
        raise _doubtful(
            "required", f"the patient of the document has 1 to {MOST_IDENTIFIERS} identifiers with their systems"
        )
    found = await _found(exchange, service, "Patient", identifiers)
    if not found:
        raise _doubtful("not-found", "no worker here has an identifier of the document's patient")
    if len(found) > 1:
        raise _doubtful("multiple-matches", "the identifiers of the document's patient are those of several workers")
    if _contradicts(orjson.loads(found[0].doc), identifiers):
        raise _doubtful("conflict", "a worker has an identifier of the document's patient, and another that differs")
    return f"Patient/{found[0].id}"


def _doubtful(code: str, text: str) -> BusinessRule:
    return BusinessRule(issues=[Issue("error", code, f"XDSUnknownPatientId: {text}", "DocumentReference.subject")])


def _contradicts(patient: Mapping[str, Any], identifiers: list[tuple[str, str]]) -> bool:
    """Whether the worker has current numbers of a system that the document uses too, and none of those in it."""
    for system in {system for system, _ in identifiers}:
        here = {
            one.get("value")
            for one in patient.get("identifier", ())
            if one.get("system") == system and one.get("use") != "old"
        }
        if here and not any((system, value) in identifiers for value in here):
            return True
    return False


async def _published_before(exchange: Exchange, service: Service, metadata: Metadata, sha1: str) -> str | None:
    """The id of the current DocumentReference of these very bytes. Raises BusinessRule for an identifier in use."""
    unique_id = metadata.unique_id["system"], metadata.unique_id["value"]
    for one in await _found(exchange, service, "DocumentReference", [unique_id]):
        known = orjson.loads(one.doc)
        hashes = [part["attachment"].get("hash") for part in known["content"]]
        if known["status"] == "current" and hashes == [sha1]:
            return one.id
        text = "XDSNonIdenticalHash: another document has this identifier, or this one was superseded or withdrawn"
        raise BusinessRule(issues=[Issue("error", "duplicate", text, "DocumentReference.masterIdentifier")])
    return None


async def _found(
    exchange: Exchange, service: Service, resource_type: str, identifiers: list[tuple[str, str]]
) -> list[Found]:
    """Up to two resources that have one of the identifiers: a search, with its rights and its trail."""
    query = replace(search_query.parse(resource_type, identified_by(*identifiers)), count=2)
    text = query_for_trail([resource_type], query.applied)
    page = await service.archive.search(exchange.known_caller(), query, None, exchange.request_id, text)
    return list(page.hits)


def _document(metadata: Metadata, subject: str, attachment: Mapping[str, Any]) -> Incoming:
    """The DocumentReference. Raises InvalidResource where the document has a time or a code that is none."""
    url = binary_url({"masterIdentifier": unique_identifier(metadata.unique_id)})
    resource = document_reference(
        metadata, subject=subject, attachment={**attachment, "url": url}, now=datetime.now(UTC)
    )
    return incoming_from_dict({**resource, "id": new_id()})


def _answer(document_id: str) -> Answer:
    reference = {"reference": f"DocumentReference/{document_id}"}
    parameter = {"name": "DocumentReference", "valueReference": reference}
    return Answer(200, orjson.dumps({"resourceType": "Parameters", "parameter": [parameter]}))


GENERATE_METADATA = Operation(
    "$generate-metadata",
    systems.MHD_GENERATE_METADATA,
    generate_metadata,
    frozenset({"type"}),
    frozenset({"DocumentReference"}),
    affects_state=True,
)
