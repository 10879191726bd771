"""Documents that others provide: Provide Document Bundle [ITI-65] and what is published alone [ITI-105, ITI-106].

https://profiles.ihe.net/ITI/MHD/ITI-65.html, https://profiles.ihe.net/ITI/MHD/ITI-105.html, ITI-106.html

What is asked of them is decided in `records/sharing`; here the documents that are already kept are looked up, what is
replaced becomes superseded in the same transaction, and identifiers that are taken are refused within it.
"""

import contextlib
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, Final

import orjson
import pybase64

from fhir_server.outcomes import BusinessRule, Gone, InvalidResource, Issue, NotFound, TooCostly
from fhir_server.ports import Blob
from fhir_server.r4.patch import json_text
from fhir_server.r4.references import is_local
from fhir_server.r4.resource_types import TYPE_NUMBER
from fhir_server.records.sharing.conformance import faults
from fhir_server.records.sharing.profiles import Profile, claimed, profiles
from fhir_server.records.sharing.provide_bundle import (
    Content,
    Entry,
    attachment_faults,
    business_identifier,
    content_names,
    errors,
    profile_of,
    replaced_by,
    warnings,
)
from fhir_server.records.write import Alongside, Incoming, incoming_from_dict
from fhir_server.rest.http import Exchange
from fhir_server.rest.patch import JSON_PATCH, matching, patched
from fhir_server.rest.service import Service
from fhir_server.store.commit import Written
from fhir_server.store.database import Connection
from mappings.submission_set import identity, submission_oid, submission_set
from terminology import systems

SUPERSEDE: Final = b'[{"op":"replace","path":"/status","value":"superseded"}]'
# What a document follows once its bytes are a Binary: the first of these that it does follow.
ONCE_PUBLISHED: Final = {
    systems.PDSM_SIMPLIFIED_PUBLISH: (systems.PDSM_DOCUMENT_REFERENCE, systems.MHD_MINIMAL_DOCUMENT),
    systems.MHD_SIMPLIFIED_PUBLISH: (systems.MHD_UNCONTAINED_DOCUMENT, systems.MHD_MINIMAL_DOCUMENT),
}


@dataclass(frozen=True, slots=True)
class Provided:
    """What is written: the entries in their order, then the replaced documents that no entry names."""

    incoming: Sequence[Incoming]
    alongside: Alongside | None = None
    warnings: Mapping[int, Sequence[Issue]] = field(default_factory=dict)
    """By the number of the entry."""
    supersedes: bool = False
    """Whether documents are superseded over the version that was read: on a conflict it may be tried again."""


async def provided(
    exchange: Exchange, service: Service, bundle: Mapping[str, Any], incoming: Sequence[Incoming]
) -> Provided:
    """A transaction as ITI-65 has it, where its Bundle names a profile of ITI-65; any other as it came.

    Raises InvalidResource with every breach of MHD or PDSm at once, Forbidden, NotFound, BusinessRule within the
    transaction (an identifier that is taken, a replaced document of somebody else or superseded before).
    """
    profile = profile_of(bundle)
    if profile is None:
        return Provided(incoming)
    if len(incoming) != len(bundle["entry"]):
        raise InvalidResource("A Provide Document Bundle reads nothing: send GET in another", expression="Bundle.entry")
    entries = [_entry(n, part, one) for n, (part, one) in enumerate(zip(bundle["entry"], incoming, strict=True))]
    elsewhere = await _elsewhere(exchange, service, entries)
    if found := errors(profile, entries, elsewhere):
        raise InvalidResource(issues=found)
    kept, claims = _unique([*_protected(entries, incoming)])
    more, links = await _superseding(exchange, service, kept)
    return Provided(
        [*kept, *more],
        _within([*kept, *more], claims, links),
        {entry.number: found for entry in entries if (found := warnings(entry))},
        supersedes=bool(more),
    )


async def published(exchange: Exchange, service: Service, simplified: Incoming) -> Provided:
    """Simplified Publish: the DocumentReference without its bytes first, then its Binary, its lot, what it replaces.

    Raises InvalidResource with every breach, Forbidden, and what `provided` raises within the transaction.
    """
    resource = simplified.resource
    asked = [profile for profile in claimed(resource) if profile.url in ONCE_PUBLISHED]
    found = [fault for profile in asked for fault in faults(resource, profile, "DocumentReference")]
    if found:
        raise InvalidResource(issues=found)
    must_publish(exchange)  # before its bytes are kept
    attachment = resource["content"][0]["attachment"]
    blob = await service.blobs.put_bytes(pybase64.b64decode(attachment["data"]))
    content = Content(attachment["contentType"], blob.size, blob.sha1)
    if wrong := list(attachment_faults(attachment, content, "DocumentReference.content[0].attachment")):
        raise InvalidResource(issues=wrong)
    return await alone(exchange, service, _without_data(simplified, content, asked), blob)


async def alone(exchange: Exchange, service: Service, document: Incoming, blob: Blob) -> Provided:
    """A DocumentReference, with the Binary of its bytes, a lot de soumission of its own, and what it replaces.

    Its attachment has the `binary_url` of the document. Raises Forbidden, and what `provided` raises within the
    transaction.
    """
    resource = document.resource
    document = replace(document, full_url=identity(resource, "DocumentReference").urn)
    binary = {
        "resourceType": "Binary",
        "id": str(identity(resource, "Binary")),
        "contentType": resource["content"][0]["attachment"]["contentType"],
        "securityContext": {"reference": document.full_url},
    }
    lot = submission_set(
        resource, str(document.full_url), client_id=exchange.known_caller().client_id, now=datetime.now(UTC)
    )
    parts = [
        replace(incoming_from_dict(binary, method="update"), blob=blob),
        replace(
            incoming_from_dict({**lot, "id": str(identity(resource, "List"))}),
            condition=identified_by((systems.URI, submission_oid(resource))),
        ),
    ]
    kept, claims = _unique([document, *parts])
    more, links = await _superseding(exchange, service, kept)
    return Provided([*kept, *more], _within([*kept, *more], claims, links))


def must_publish(exchange: Exchange) -> None:
    """Raises Forbidden where the caller may not write the parts of a document that is published alone."""
    exchange.known_caller().must("c", "DocumentReference")
    exchange.known_caller().must("u", "Binary")
    exchange.known_caller().must("c", "List")


def binary_url(document_reference: Mapping[str, Any]) -> str:
    """Where the bytes of a document that is published alone will be: always the same place for its masterIdentifier."""
    return f"Binary/{identity(document_reference, 'Binary')}"


def _entry(number: int, part: Mapping[str, Any], one: Incoming) -> Entry:
    content = None
    if one.type == "Binary" and one.blob is not None:
        content = Content(str(one.resource.get("contentType", "")), one.blob.size, one.blob.sha1)
    request = part["request"]
    return Entry(number, request["method"], one.resource, request["url"], one.full_url, content)


async def _elsewhere(exchange: Exchange, service: Service, entries: Sequence[Entry]) -> dict[str, Content | None]:
    """The Binaries that attachments name and that were put here before (a large document goes first, as raw bytes).

    To a caller who may not read Binaries nothing is told of them, so that they are not compared: None.
    """
    named = {
        str(part["attachment"].get("url", ""))
        for entry in entries
        if entry.kind == "document"
        for part in entry.resource.get("content", ())
    }
    found: dict[str, Content | None] = {}
    left = service.largest_binary
    for url in sorted(named - content_names(entries).keys()):
        target = is_local(url)
        if target is None or target[0] != "Binary":
            continue
        if not exchange.known_caller().may("r", "Binary"):
            found[url] = None
            continue
        with contextlib.suppress(NotFound, Gone):
            known = await _kept_content(exchange, service, target[1], left)
            found[url], left = known, left - known.size
    return found


async def _kept_content(exchange: Exchange, service: Service, binary_id: str, largest: int) -> Content:
    """What is kept of a Binary. Raises Forbidden, NotFound, Gone, TooCostly beyond `largest` bytes."""
    stored = await service.archive.read(exchange.known_caller(), "Binary", binary_id, exchange.request_id)
    if (stored.blob_size or 0) > largest:
        raise TooCostly(
            "The Binaries that this Bundle names are too large to be compared at once: send several Bundles"
        )
    sha1 = hashlib.sha1(usedforsecurity=False)
    async for chunk in service.archive.content(stored):
        sha1.update(chunk)
    media_type = str(orjson.loads(stored.doc or b"{}").get("contentType", ""))
    return Content(media_type, stored.blob_size or 0, sha1.digest())


def _protected(entries: Sequence[Entry], incoming: Sequence[Incoming]) -> list[Incoming]:
    """The entries, with each Binary under the protection of its document: its readers are traced with their worker.

    https://hl7.org/fhir/R4/binary.html#security
    """
    names = content_names(entries)
    owner: dict[int, str] = {}
    for entry in entries:
        for part in entry.resource.get("content", ()) if entry.kind == "document" and entry.full_url else ():
            content = names.get(str(part["attachment"].get("url", "")))
            if content is not None and "securityContext" not in content.resource:
                owner[content.number] = str(entry.full_url)
    return [_owned(one, owner[n]) if n in owner else one for n, one in enumerate(incoming)]


def _owned(one: Incoming, document: str) -> Incoming:
    context = {"reference": document}
    body = one.body.rstrip()[:-1] + b',"securityContext":' + orjson.dumps(context) + b"}"
    return replace(one, resource={**one.resource, "securityContext": context}, body=body)


def _unique(incoming: Sequence[Incoming]) -> tuple[list[Incoming], dict[int, str]]:
    """New documents and lists that come without condition get one, on their own identifier: nobody else may have it.

    The numbers of these entries, each with the place of its identifier, are what `_within` then verifies.
    """
    kept: list[Incoming] = []
    claims: dict[int, str] = {}
    for number, one in enumerate(incoming):
        own = None
        if one.method == "create" and one.type in ("DocumentReference", "List") and not one.condition:
            own = business_identifier(one.resource)
        if own is None:
            kept.append(one)
            continue
        kept.append(replace(one, condition=identified_by((str(own.get("system", "")), str(own.get("value", ""))))))
        claims[number] = f"{one.where}.resource" if one.where else one.type
    return kept, claims


def identified_by(*identifiers: tuple[str, str]) -> tuple[tuple[str, str], ...]:
    """The criterion that finds what has one of these identifiers (system, value)."""
    tokens = ["|".join(text.translate({ord(c): "\\" + c for c in "\\,|$"}) for text in one) for one in identifiers]
    return (("identifier", ",".join(tokens)),)


async def _superseding(
    exchange: Exchange, service: Service, incoming: Sequence[Incoming]
) -> tuple[list[Incoming], list[tuple[int, int]]]:
    """The updates that supersede what is replaced, where no entry does; who replaces whom, as numbers of entries."""
    more: list[Incoming] = []
    links: list[tuple[int, int]] = []
    place_of = {one.resource_id: n for n, one in enumerate(incoming) if one.type == "DocumentReference"}
    for number, one in enumerate(incoming):
        if one.type != "DocumentReference" or one.method != "create":
            continue
        for target in replaced_by(one.resource):
            try:
                resource_id = await _document(exchange, service, target)
                if resource_id not in place_of:
                    exchange.known_caller().must("u", one.type)
                    change = await patched(exchange, service, one.type, resource_id, JSON_PATCH, SUPERSEDE)
                    place_of[resource_id] = len(incoming) + len(more)
                    more.append(change)
            except (NotFound, Gone) as none:
                text = "the document to replace is not here: DocumentReference/id, or the identifier of a document"
                raise InvalidResource(issues=[Issue("error", "not-found", text, _relation(one))]) from none
            links.append((number, place_of[resource_id]))
    return more, links


async def _document(exchange: Exchange, service: Service, target: Mapping[str, Any]) -> str:
    """The id of the document that a Reference means: by its literal reference, or by its identifier."""
    local = is_local(str(target.get("reference", "")))
    if local and local[0] == "DocumentReference":
        return local[1]
    identifier = target.get("identifier", {})
    if "value" not in identifier:
        raise NotFound
    condition = identified_by((str(identifier.get("system", "")), str(identifier["value"])))
    return await matching(exchange, service, "DocumentReference", condition)


def _relation(one: Incoming) -> str:
    return f"{one.where}.resource.relatesTo" if one.where else "DocumentReference.relatesTo"


def _within(
    incoming: Sequence[Incoming], claims: Mapping[int, str], links: Sequence[tuple[int, int]]
) -> Alongside | None:
    """What can only be told inside the transaction; None where there is nothing to tell."""
    if not claims and not links:
        return None

    async def verify(_connection: Connection, written: Sequence[Written]) -> None:
        there = {(one.type, one.id): one for one in written}
        results = [there.get((TYPE_NUMBER[one.type], one.resource_id)) for one in incoming]
        faults_found = [
            Issue("error", "duplicate", "XDSDuplicateUniqueIdInRegistry: another resource has this identifier", place)
            for number, place in claims.items()
            if results[number] is None
        ]
        for new, old in links:
            faults_found += _replacement(incoming[new], results[new], incoming[old], results[old])
        if faults_found:
            raise BusinessRule(issues=faults_found)

    return verify


def _replacement(new: Incoming, created: Written | None, old: Incoming, superseded: Written | None) -> list[Issue]:
    """A new document replaces one that was current, of the same person."""
    if created is None or superseded is None:
        return []  # it was there already: the same request, once more
    place = _relation(new)
    found: list[Issue] = []
    if superseded.version == old.expected_version:
        text = "XDSRegistryDeprecatedDocumentError: the document to replace was superseded before"
        found.append(Issue("error", "business-rule", text, place))
    subjects = [orjson.loads(one.doc or b"{}").get("subject", {}) for one in (created, superseded)]
    if subjects[0] != subjects[1] and subjects[0].get("reference") != subjects[1].get("reference"):
        text = "XDSPatientIdDoesNotMatch: the document to replace is about another Patient"
        found.append(Issue("error", "business-rule", text, place))
    return found


def _without_data(simplified: Incoming, content: Content, asked: Sequence[Profile]) -> Incoming:
    """The DocumentReference once its document is a Binary: url, size and hash in the place of data."""
    resource = json_text.read(simplified.body, "the body")
    attachment = resource["content"][0]["attachment"]
    del attachment["data"]
    attachment |= {
        "url": binary_url(simplified.resource),
        "size": content.size,
        "hash": pybase64.b64encode(content.sha1 or b"").decode(),
    }
    followed = [name for one in asked for name in ONCE_PUBLISHED[one.url]]
    plain = orjson.loads(json_text.write(resource))
    profile = next((name for name in followed if not list(faults(plain, profiles()[name], "DocumentReference"))), None)
    others = [name for name in resource["meta"]["profile"] if str(name).partition("|")[0] not in ONCE_PUBLISHED]
    resource["meta"]["profile"] = [*others, *([profile] if profile else [])]
    if not resource["meta"]["profile"]:
        del resource["meta"]["profile"]
    body = json_text.write(resource)
    return replace(simplified, resource=orjson.loads(body), body=body)
