"""delete, by id or by criteria, with If-Match: https://hl7.org/fhir/R4/http.html#delete - earlier versions stay."""

import orjson

from fhir_server.outcomes import Gone, NotFound
from fhir_server.records.write import Incoming, deletion
from fhir_server.rest.create import done
from fhir_server.rest.http import Answer, Exchange, Header, preferred_return
from fhir_server.rest.service import Service
from fhir_server.rest.update import criteria, expected_version
from fhir_server.store.commit import Written


async def delete(exchange: Exchange, service: Service) -> Answer:
    """204, also for what is deleted already or was never there: the client has what it wanted."""
    resource_type, resource_id = exchange.segments
    version = expected_version(exchange.header(b"if-match"))
    return await _delete(exchange, service, deletion(resource_type, resource_id, expected_version=version))


async def conditional_delete(exchange: Exchange, service: Service) -> Answer:
    """DELETE Type?criteria: one match goes, none is no error, more are 412 and all stay."""
    (resource_type,) = exchange.segments
    version = expected_version(exchange.header(b"if-match"))
    wish = deletion(resource_type, None, condition=criteria(exchange), expected_version=version)
    return await _delete(exchange, service, wish)


async def _delete(exchange: Exchange, service: Service, wish: Incoming) -> Answer:
    try:
        (result,) = await service.door.write(
            exchange.known_caller(), [wish], interaction="delete", request_id=exchange.request_id
        )
    except (NotFound, Gone):  # somebody else was quicker
        return _answer(exchange, None)
    return _answer(exchange, result.written)


def _answer(exchange: Exchange, written: Written | None) -> Answer:
    headers: list[Header] = [(b"etag", b'W/"%d"' % written.version)] if written else []
    asked, echo = preferred_return(exchange)
    if asked == "OperationOutcome":
        return Answer(
            200, orjson.dumps(done("It is gone" if written else "There was nothing to delete")), headers + echo
        )
    return Answer(204, b"", headers + (echo if asked == "minimal" else []))
