"""patch, by id or by criteria: JSON Patch, FHIRPath Patch and XML Patch; https://hl7.org/fhir/R4/http.html#patch

The current version is read, changed, and written on condition that it is still the current one; where it is not,
and the client did not ask for a version, it is tried again on the newer one.
"""

from dataclasses import replace
from typing import Any, Final

import orjson

from fhir_server.outcomes import (
    BadParameter,
    Failure,
    Gone,
    MethodNotAllowed,
    MultipleMatches,
    NotFound,
    PreconditionRequired,
    UnsupportedMediaType,
    VersionConflict,
)
from fhir_server.r4 import search_query
from fhir_server.r4.patch import json_text
from fhir_server.r4.patch.fhirpath_patch import apply_fhirpath_patch
from fhir_server.r4.patch.json_patch import apply_json_patch
from fhir_server.r4.patch.xml_patch import apply_xml_patch
from fhir_server.r4.subjects import patient_in_bytes
from fhir_server.r4.xml import to_json, to_xml
from fhir_server.records import audit
from fhir_server.records.audit import query_for_trail
from fhir_server.records.sharing.updates import check_patch
from fhir_server.records.validation import parse_json
from fhir_server.records.write import Incoming, Outcome, incoming_from_bytes
from fhir_server.rest.create import written_answer
from fhir_server.rest.forms import FORMS
from fhir_server.rest.http import Answer, Exchange
from fhir_server.rest.service import Service
from fhir_server.rest.update import criteria, expected_version
from fhir_server.store.resources import Stored

ATTEMPTS: Final = 5
JSON_PATCH: Final = "application/json-patch+json"
XML_PATCH: Final = "application/xml-patch+xml"

Condition = tuple[tuple[str, str], ...]


async def patch(exchange: Exchange, service: Service) -> Answer:
    """PATCH Type/id."""
    resource_type, resource_id = exchange.segments
    return await _patch(exchange, service, resource_type, resource_id, None)


async def conditional_patch(exchange: Exchange, service: Service) -> Answer:
    """PATCH Type?criteria: of none 404, of one a patch, of more 412."""
    (resource_type,) = exchange.segments
    must_patch(exchange, service, resource_type, exchange.header(b"if-match"))
    condition = criteria(exchange)
    resource_id = await matching(exchange, service, resource_type, condition)
    return await _patch(exchange, service, resource_type, resource_id, condition)


async def _patch(
    exchange: Exchange, service: Service, resource_type: str, resource_id: str, condition: Condition | None
) -> Answer:
    asked = must_patch(exchange, service, resource_type, exchange.header(b"if-match"))
    media_type = exchange.media_type()
    body = await exchange.body(service.largest_body)
    for attempt in range(1, ATTEMPTS + 1):
        incoming = await patched(exchange, service, resource_type, resource_id, media_type, body)
        if asked is not None:
            incoming = replace(incoming, expected_version=asked)
        try:
            result = await _written(exchange, service, replace(incoming, condition=condition))
        except VersionConflict:
            if asked is not None or attempt == ATTEMPTS:
                raise
            continue
        return await written_answer(exchange, service, result)
    raise AssertionError("unreachable")


async def _written(exchange: Exchange, service: Service, incoming: Incoming) -> Outcome:
    (result,) = await service.door.write(
        exchange.known_caller(), [incoming], interaction="patch", request_id=exchange.request_id
    )
    return result


def must_patch(exchange: Exchange, service: Service, resource_type: str, if_match: str | None) -> int | None:
    """The version that the client names, where he may patch: change, and read as well.

    What a patch does follows from what is there (`test`, a FHIRPath with `where`), so that its success or failure would
    tell one who may only change what he may not read. Raises Forbidden, MethodNotAllowed, BadParameter,
    PreconditionRequired.
    """
    caller = exchange.known_caller()
    caller.must("u", resource_type)
    caller.must("r", resource_type)
    if resource_type == "Binary":
        raise MethodNotAllowed("A Binary is replaced, not patched")
    asked = expected_version(if_match)
    if asked is None and service.settings.require_if_match:
        raise PreconditionRequired('A resource is changed over a version that you name: If-Match: W/"..."')
    return asked


async def matching(exchange: Exchange, service: Service, resource_type: str, condition: Condition) -> str:
    """The id of the one resource that meets the criteria: a search, and traced as one.

    Raises Forbidden, NotFound, MultipleMatches, BadParameter.
    """
    caller = exchange.known_caller()
    query = replace(search_query.parse(resource_type, condition), count=2)
    if not query.criteria:
        raise BadParameter("Say which resource: by its id, or by criteria after the ?")
    text = query_for_trail([resource_type], query.applied)
    ids = [hit.id for hit in (await service.archive.search(caller, query, None, exchange.request_id, text)).hits]
    if not ids:
        raise NotFound(f"No {resource_type} meets the criteria")
    if len(ids) > 1:
        raise MultipleMatches(f"The criteria find more than one {resource_type}")
    return ids[0]


async def patched(
    exchange: Exchange, service: Service, resource_type: str, resource_id: str, media_type: str, body: bytes
) -> Incoming:
    """The resource as the patch makes it, to be written over the version that it was made from.

    For callers who passed `must_patch`. A patch that fails is traced, since it tells what is there. Raises NotFound,
    Gone, UnsupportedMediaType, BadSyntax, PatchFailed, InvalidResource, MethodNotAllowed: of a document that follows
    PDSm only the status, labels and archiving change.
    """
    stored = await service.archive.current(exchange.known_caller(), resource_type, resource_id, "r", "u")
    if stored is None:
        raise NotFound(f"{resource_type}/{resource_id} does not exist")
    if stored.doc is None:
        raise Gone(f"{resource_type}/{resource_id} was deleted")
    try:
        incoming = incoming_from_bytes(
            _applied(stored.doc, media_type, body),
            method="update",
            resource_type=resource_type,
            resource_id=resource_id,
            expected_version=stored.version,
        )
        if resource_type in ("DocumentReference", "List"):
            check_patch(orjson.loads(stored.doc), incoming.resource)
    except Failure:
        await _trace_failure(exchange, service, resource_type, stored)
        raise
    return incoming


async def _trace_failure(exchange: Exchange, service: Service, resource_type: str, stored: Stored) -> None:
    row = audit.access(
        exchange.known_caller(),
        "patch",
        exchange.request_id,
        outcome=audit.REFUSED,
        resource_type=resource_type,
        resource_id=stored.id,
        version=stored.version,
        patient_id=patient_in_bytes(resource_type, stored.id, stored.doc or b""),
    )
    await service.archive.accesses.append(row)


def _applied(doc: bytes, media_type: str, body: bytes) -> bytes:
    if media_type == JSON_PATCH:
        return apply_json_patch(doc, body)
    if media_type == XML_PATCH:
        return to_json(apply_xml_patch(to_xml(doc), body))
    form = FORMS.get(media_type)
    if form is None or media_type in ("*/*", "application/*", "text/*"):
        raise UnsupportedMediaType(
            f"A patch is {JSON_PATCH}, {XML_PATCH}, or a Parameters resource as FHIR JSON or XML,"
            f" not '{media_type[:100]}'"
        )
    return apply_fhirpath_patch(doc, parameters_of_patch(to_json(body) if form == "xml" else body))


def parameters_of_patch(body: bytes) -> dict[str, Any]:
    """The Parameters of a FHIRPath Patch. Raises BadParameter when it is another resource."""
    parameters = parse_json(body)  # says what is wrong with it; read again so that decimals keep their digits
    if parameters["resourceType"] != "Parameters":
        raise BadParameter("A FHIRPath Patch is a Parameters resource", expression="resourceType")
    return json_text.read(body, "the patch")
