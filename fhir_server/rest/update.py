"""update, by id or by criteria, with If-Match and update as create: https://hl7.org/fhir/R4/http.html#update"""

import re
from dataclasses import replace

from fhir_server.outcomes import BadParameter, MethodNotAllowed
from fhir_server.records.write import Incoming, incoming_from_bytes
from fhir_server.rest import binary
from fhir_server.rest.create import written_answer
from fhir_server.rest.forms import received
from fhir_server.rest.http import Answer, Exchange
from fhir_server.rest.service import Service

_ETAG = re.compile(r'(?:W/)?"(\d{1,9})"')


async def update(exchange: Exchange, service: Service) -> Answer:
    resource_type, resource_id = exchange.segments
    exchange.known_caller().must("u", resource_type)
    if resource_type == "Binary":
        expected = expected_version(exchange.header(b"if-match"))
        incoming = replace(await binary.incoming(exchange, service, resource_id), expected_version=expected)
    else:
        incoming = incoming_from_bytes(
            await received(exchange, service.largest_body),
            method="update",
            resource_type=resource_type,
            resource_id=resource_id,
        )
    return await _written(exchange, service, incoming)


async def conditional_update(exchange: Exchange, service: Service) -> Answer:
    """PUT Type?criteria: of none a create, of one an update, of more 412 (https://hl7.org/fhir/R4/http.html#cond-update)."""
    (resource_type,) = exchange.segments
    exchange.known_caller().must("u", resource_type)
    if resource_type == "Binary":
        raise MethodNotAllowed("A Binary is updated by its id")
    incoming = incoming_from_bytes(
        await received(exchange, service.largest_body),
        method="update",
        resource_type=resource_type,
        condition=criteria(exchange),
    )
    return await _written(exchange, service, incoming)


async def _written(exchange: Exchange, service: Service, incoming: Incoming) -> Answer:
    wish = guarded(incoming, service, exchange.header(b"if-match"), exchange.header(b"if-none-match"))
    (result,) = await service.door.write(
        exchange.known_caller(), [wish], interaction="update", request_id=exchange.request_id
    )
    return await written_answer(exchange, service, result)


def guarded(incoming: Incoming, service: Service, if_match: str | None, if_none_match: str | None) -> Incoming:
    """An update with the conditions of its request and of the settings. Raises BadParameter."""
    if if_none_match is not None and if_none_match.strip() != "*":
        raise BadParameter("On an update If-None-Match is *, which asks that there be nothing yet")
    return replace(
        incoming,
        expected_version=expected_version(if_match),
        only_new=if_none_match is not None,
        may_create=service.settings.update_create,
        needs_version=service.settings.require_if_match,
    )


def criteria(exchange: Exchange) -> tuple[tuple[str, str], ...]:
    """The criteria in the URL of a conditional update or delete. Raises BadParameter where there are none."""
    pairs = tuple((name, value) for name, value in exchange.pairs() if name not in ("_format", "_pretty"))
    if not pairs:
        raise BadParameter("Say which resource: by its id, or by criteria after the ?")
    return pairs


def expected_version(if_match: str | None) -> int | None:
    """The version that If-Match names. Raises BadParameter when it names none of ours."""
    if if_match is None:
        return None
    match = _ETAG.fullmatch(if_match.strip())
    if not match:
        raise BadParameter('If-Match must be a version such as W/"3"')
    return int(match[1])
