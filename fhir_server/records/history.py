"""Histories on behalf of a caller: what he may not read is not shown, not counted, and every worker shown is traced.

https://hl7.org/fhir/R4/http.html#history - of one resource with the right to read it; of a type, and of everything,
with the right to search as well, as SMART v2 has it, since nobody names what will be shown.
"""

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import orjson

from fhir_server.caller import Caller
from fhir_server.outcomes import Forbidden
from fhir_server.r4.resource_types import RESOURCE_TYPES, TYPE_NAME, TYPE_NUMBER
from fhir_server.r4.subjects import patient_in_bytes
from fhir_server.records import audit
from fhir_server.records.protection import BINARY, Verdict
from fhir_server.records.read import Archive, absent
from fhir_server.store.bounds import meets
from fhir_server.store.histories import Moment, Past, Span


@dataclass(frozen=True, slots=True)
class Asked:
    """One page of a history. `text` is the query for the trail; `counted` asks for the total even where it costs."""

    span: Span
    below: Moment
    count: int
    counted: bool
    text: str
    request_id: str


@dataclass(frozen=True, slots=True)
class Chapter:
    """One page: its versions, where the next one starts (None: this is the last), and the total where it is known."""

    versions: tuple[Past, ...]
    next: Moment | None
    total: int | None


async def of_instance(archive: Archive, caller: Caller, resource_type: str, resource_id: str, asked: Asked) -> Chapter:
    """The versions of one resource, counted unless scopes may allow some of them only. Raises Forbidden, NotFound."""
    caller.must("r", resource_type)
    key = TYPE_NUMBER[resource_type], resource_id
    current = await archive.resources.read(*key)
    await archive.must_see(caller, "history-instance", asked.request_id, resource_type, current)
    if not current:
        raise absent(resource_type, resource_id)
    span = replace(asked.span, sight=caller.sight("r"))
    versions, counted = await asyncio.gather(
        archive.histories.of_instance(key, span, asked.below, asked.count + 1),
        archive.histories.count_of_instance(key, span),
    )
    if resource_type == BINARY:  # what protects it now protects what it was too
        docs = [current.doc or b"{}"] + [_document_of(one) for one in versions]
        verdict = await archive.protection.of_documents(caller, docs)
        await archive.worker_of(verdict, caller, "history-instance", asked.request_id, resource_id)
    met, following = _cut(versions, asked)
    seen = [one for one in met if await archive.protection.of_then(caller, _document_of(one))]
    page = _met(seen, span)
    if resource_type in span.sight.bounds:
        total = _of_whole(page, following, asked)
    else:
        total = counted if len(seen) == len(met) else None
    await _trace(archive, caller, "history-instance", page, asked, (resource_type, resource_id))
    return Chapter(page, following, total)


async def of_type(archive: Archive, caller: Caller, resource_type: str, asked: Asked) -> Chapter:
    """The versions of every resource of a type. Raises Forbidden, Unavailable."""
    caller.must("r", resource_type)
    caller.must("s", resource_type)
    return await _of_types(archive, caller, [resource_type], "history-type", asked)


async def of_system(archive: Archive, caller: Caller, offered: Iterable[str], asked: Asked) -> Chapter:
    """The versions of every resource of the types that this caller may read. Raises Forbidden, Unavailable."""
    types = [name for name in offered if caller.may("r", name) and caller.may("s", name)]
    if not types:
        raise Forbidden("No scope of this client allows 'r' and 's' on any type")
    return await _of_types(archive, caller, types, "history-system", asked)


async def _of_types(archive: Archive, caller: Caller, types: Sequence[str], interaction: str, asked: Asked) -> Chapter:
    numbers = [TYPE_NUMBER[name] for name in types]
    span = replace(asked.span, sight=caller.sight("r", "s"))
    found = await archive.histories.of_types(numbers, span, asked.below, asked.count + 1)
    page, following = _cut(found, asked)
    page = tuple([one for one in _met(page, span) if await _may_see(archive, caller, one)])
    total = _of_whole(page, following, asked)
    if (
        total is None
        and asked.counted
        and span.sight.bounds.keys().isdisjoint(types)
        and (BINARY not in types or all(caller.may("r", name) for name in RESOURCE_TYPES))
    ):
        total = await archive.histories.count_of_types(numbers, span)
    await _trace(archive, caller, interaction, page, asked, (types[0] if interaction == "history-type" else "", None))
    return Chapter(page, following, total)


def _met(page: Sequence[Past], span: Span) -> tuple[Past, ...]:
    """The versions that meet what scopes ask. That the resource does now, the store has seen to.

    Both, since a scope is about what a resource says: one that was put under another category is gone from who may see
    the former only, and who may see the latter does not read what stood under the former.
    """
    return tuple(one for one in page if meets(span.sight, TYPE_NAME[one.type], one.doc))


def _of_whole(page: Sequence[Past], following: Moment | None, asked: Asked) -> int | None:
    """The total where the page is the whole history."""
    return len(page) if asked.below == Moment() and asked.count and not following else None


def _cut(versions: Sequence[Past], asked: Asked) -> tuple[tuple[Past, ...], Moment | None]:
    page = tuple(versions[: asked.count])
    return page, page[-1].place if page and len(versions) > asked.count else None


def _document_of(one: Past) -> bytes:
    return one.doc or one.last or orjson.dumps({"resourceType": TYPE_NAME[one.type]})


async def _verdict(archive: Archive, caller: Caller, one: Past) -> Verdict:
    """https://hl7.org/fhir/R4/binary.html#security - who may see a version, and whose it is."""
    if TYPE_NAME[one.type] == BINARY:
        return await archive.protection.of_document(caller, _document_of(one))
    return Verdict(allowed=True, patient_id=patient_in_bytes(TYPE_NAME[one.type], one.id, _document_of(one)))


async def _may_see(archive: Archive, caller: Caller, one: Past) -> bool:
    if not await archive.protection.of_then(caller, _document_of(one)):
        return False
    return (await _verdict(archive, caller, one)).allowed


async def _trace(
    archive: Archive,
    caller: Caller,
    interaction: str,
    page: Sequence[Past],
    asked: Asked,
    about: tuple[str, str | None],
) -> None:
    """A row for each worker whose record was shown, also where all that is left of it is a deletion."""
    row = audit.access(
        caller,
        interaction,
        asked.request_id,
        resource_type=about[0] or None,
        resource_id=about[1],
        query=asked.text or None,
    )
    owners = {(await _verdict(archive, caller, one)).patient_id for one in page}
    rows = [row._replace(patient_id=patient) for patient in sorted(owners - {None}, key=str)] or [row]
    await archive.accesses.append(*rows)
