"""batch and transaction: https://hl7.org/fhir/R4/http.html#transaction - answers in the order of the entries.

A transaction writes all its entries or none: POST (with ifNoneExist), PUT, PATCH and DELETE; IHE ITI-65 Provide
Document Bundle arrives here. A batch is a request for each entry, every one answered by itself.
"""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import msgspec
import orjson
import pybase64

from fhir_server.outcomes import BadParameter, BadSyntax, Failure, Forbidden, InvalidResource, Issue
from fhir_server.r4.resource_types import TYPE_NUMBER
from fhir_server.records.render import instant
from fhir_server.records.validation import parse_json, validate
from fhir_server.records.write import Incoming, Outcome, condition_of, deletion, new_id
from fhir_server.rest import binary
from fhir_server.rest.batch import batch
from fhir_server.rest.document_sharing import provided
from fhir_server.rest.forms import received
from fhir_server.rest.http import Answer, Exchange, outcome
from fhir_server.rest.patch import matching, patched
from fhir_server.rest.service import Service
from fhir_server.rest.update import expected_version


class RawEntry(msgspec.Struct):
    """The raw bytes of an entry's resource, so that they are kept as received."""

    resource: msgspec.Raw = msgspec.Raw()


class RawBundle(msgspec.Struct):
    entry: list[RawEntry] = []


_decode = msgspec.json.Decoder(RawBundle).decode


async def bundle(exchange: Exchange, service: Service) -> Answer:
    """POST to the base: a Bundle of type batch or transaction."""
    body = await received(exchange, service.largest_body)
    posted = parse_json(body)
    if posted["resourceType"] != "Bundle" or posted.get("type") not in ("transaction", "batch"):
        raise BadSyntax("What is posted to the base is a Bundle of type transaction or batch", expression="Bundle.type")
    if posted["type"] == "batch":
        return await batch(exchange, service, posted, [bytes(entry.resource) for entry in _raw(body).entry])
    validate(posted)
    return await _transaction(exchange, service, posted, _raw(body))


def _raw(body: bytes) -> RawBundle:
    try:
        return _decode(body)
    except msgspec.ValidationError as error:
        raise BadSyntax("Bundle.entry is an array of objects", expression="Bundle.entry") from error


async def _transaction(exchange: Exchange, service: Service, posted: Mapping[str, Any], raw: RawBundle) -> Answer:
    asked = await _incoming(exchange, posted, raw, service)
    shared = await provided(exchange, service, posted, asked)
    written = await service.door.write(
        exchange.known_caller(),
        shared.incoming,
        interaction="transaction",
        request_id=exchange.request_id,
        alongside=shared.alongside,
    )
    outcomes = written[: len(asked)]
    found = await _found(service, outcomes)
    shown = exchange.prefers("return") != "minimal"
    may_read = exchange.known_caller().may
    entries = [
        _answer_entry(service, result, found, shared.warnings.get(n, ()), show=shown and may_read("r", result.type))
        for n, result in enumerate(outcomes)
    ]
    head = b'{"resourceType":"Bundle","type":"transaction-response"'
    return Answer(200, head + (b',"entry":[' + b",".join(entries) + b"]}" if entries else b"}"))


async def _incoming(exchange: Exchange, bundle: Mapping[str, Any], raw: RawBundle, service: Service) -> list[Incoming]:
    """Every entry as an Incoming. Raises with every fault of every entry at once, or Forbidden."""
    incoming: list[Incoming] = []
    faults: list[Issue] = []
    for number, (entry, kept) in enumerate(zip(bundle.get("entry", []), raw.entry, strict=True)):
        try:
            incoming.append(await _one(exchange, number, entry, bytes(kept.resource), service))
        except Forbidden:
            raise
        except Failure as failure:
            faults.extend(failure.issues)
    if faults:
        raise InvalidResource(issues=faults)
    return incoming


async def _one(exchange: Exchange, number: int, entry: Mapping[str, Any], body: bytes, service: Service) -> Incoming:
    where = f"Bundle.entry[{number}]"
    request = entry.get("request") or {}
    method, url = request.get("method"), str(request.get("url", ""))
    resource = entry.get("resource")
    resource_type, _, resource_id = url.partition("/")
    if method == "DELETE":
        if resource_type not in TYPE_NUMBER or not resource_id or "?" in url:
            raise BadParameter("The url of a DELETE is Type/id", expression=f"{where}.request.url")
        wish = deletion(resource_type, resource_id, expected_version=expected_version(request.get("ifMatch")))
        return replace(wish, where=where)
    if method == "PATCH":
        return replace(await _patch(exchange, url, resource, body, service, where), where=where)
    if method not in ("POST", "PUT") or resource is None:
        raise BadParameter(
            "This server takes POST, PUT and PATCH entries with a resource, and DELETE entries, in a transaction",
            expression=f"{where}.request.method",
        )
    if resource_type not in TYPE_NUMBER or resource_type != resource["resourceType"] or "?" in url:
        raise BadParameter("The url is not the type of the resource", expression=f"{where}.request.url")
    if (method == "PUT") != bool(resource_id) or (resource_id and resource.get("id") != resource_id):
        raise BadParameter("The url and the id of the resource do not agree", expression=f"{where}.request.url")
    condition = request.get("ifNoneExist") if method == "POST" else None
    blob = None
    if resource_type == "Binary":
        kept = await binary.from_json(body, service, "create", resource_id or None)
        resource, body, blob = kept.resource, kept.body, kept.blob
    return Incoming(
        resource=resource,
        body=body,
        method="create" if method == "POST" else "update",
        resource_id=resource_id or new_id(),
        condition=condition_of(condition) if condition is not None else None,
        expected_version=expected_version(request.get("ifMatch")),
        full_url=entry.get("fullUrl"),
        blob=blob,
        where=where,
    )


async def _patch(exchange: Exchange, url: str, resource: Any, body: bytes, service: Service, where: str) -> Incoming:
    """A PATCH entry: a Parameters resource, or a Binary that holds a JSON or XML Patch (R4 3.1.0.8, 3.1.0.11)."""
    path, _, query = url.partition("?")
    resource_type, _, resource_id = path.partition("/")
    condition = condition_of(query) if query else None
    if resource_type not in TYPE_NUMBER or bool(resource_id) == bool(condition) or resource is None:
        raise BadParameter("The url of a PATCH is Type/id or Type?criteria", expression=f"{where}.request.url")
    media_type = "application/fhir+json"
    if resource["resourceType"] == "Binary":
        media_type, body = str(resource.get("contentType")), pybase64.b64decode(resource.get("data", ""))
    if condition:
        resource_id = await matching(exchange, service, resource_type, condition)
    changed = await patched(exchange, service, resource_type, resource_id, media_type, body)
    return replace(changed, condition=condition)


async def _found(service: Service, outcomes: list[Outcome]) -> dict[tuple[str, str], int]:
    """The versions of what the conditions found there already."""
    found = [result for result in outcomes if result.written is None]
    stored = await asyncio.gather(
        *(service.archive.resources.read(TYPE_NUMBER[result.type], result.id) for result in found)
    )
    return {(r.type, r.id): s.version for r, s in zip(found, stored, strict=True) if s}


def _answer_entry(
    service: Service,
    result: Outcome,
    found: Mapping[tuple[str, str], int],
    warnings: Sequence[Issue],
    *,
    show: bool,
) -> bytes:
    written = result.written
    version = written.version if written else found.get((result.type, result.id), 1)
    if written and written.doc is None:
        return orjson.dumps({"response": {"status": "204 No Content", "etag": f'W/"{version}"'}})
    response = {
        "status": "201 Created" if written and written.created else "200 OK",
        "location": f"{service.base}/{result.type}/{result.id}/_history/{version}",
        "etag": f'W/"{version}"',
        **({"lastModified": instant(written.updated)} if written else {}),
        **({"outcome": outcome(warnings)} if warnings else {}),
    }
    body = orjson.dumps({"fullUrl": f"{service.base}/{result.type}/{result.id}", "response": response})
    if not show or written is None or written.doc is None:
        return body
    return body[:-1] + b',"resource":' + written.doc + b"}"
