"""$diff: what changed between two versions of a resource, as a FHIRPath Patch.

https://hl7.org/fhir/R4/fhirpatch.html - R4 has no operation for it; this one is asked as that of HAPI.
"""

import asyncio
from typing import Final

from fhir_server.outcomes import BadParameter
from fhir_server.r4.patch.difference import difference
from fhir_server.r4.resource_types import RESOURCE_TYPES
from fhir_server.rest.http import Answer, Exchange
from fhir_server.rest.operations.operation import Arguments, Operation, arguments, only
from fhir_server.rest.service import Service
from fhir_server.store.resources import Stored
from terminology.systems import OWN

COMPARED: Final = frozenset(RESOURCE_TYPES) - {"Binary"}
"""The bytes of a Binary are no part of its document."""


async def diff(exchange: Exchange, service: Service) -> Answer:
    """GET or POST Type/id/$diff: from `fromVersion` (the one before) to `toVersion` (the current one)."""
    given = await arguments(exchange, service, "fromVersion", "toVersion")
    to_version, from_version = _version(given, "toVersion"), _version(given, "fromVersion")
    new = await _stored(exchange, service, to_version)
    if from_version is None:
        from_version = max(new.version - 1, 1)
    old = await _stored(exchange, service, from_version)
    return Answer(200, await asyncio.to_thread(difference, old.doc or b"", new.doc or b""))


def _version(given: Arguments, name: str) -> int | None:
    value = only(given, name)
    if value is None:
        return None
    text = str(value).rpartition("/_history/")[2]
    if not text.isdecimal() or not 0 < int(text[:10]) < 2**31:
        raise BadParameter(f"{name} is the number of a version", expression=name)
    return int(text)


async def _stored(exchange: Exchange, service: Service, version: int | None) -> Stored:
    """A version as a read or vread gives it: with its right, and traced. Raises Forbidden, NotFound, Gone."""
    resource_type, resource_id, _ = exchange.segments
    caller, archive = exchange.known_caller(), service.archive
    if version is None:
        return await archive.read(caller, resource_type, resource_id, exchange.request_id)
    return await archive.vread(caller, resource_type, resource_id, version, exchange.request_id)


DIFF = Operation("$diff", f"{OWN}/OperationDefinition/Resource-diff", diff, frozenset({"instance"}), COMPARED)
