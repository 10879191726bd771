"""delete, by id or by criteria, with If-Match: https://hl7.org/fhir/R4/http.html#delete - earlier versions stay."""

from fhir_server.outcomes import Gone, NotFound
from fhir_server.records.write import Incoming, deletion
from fhir_server.rest.http import Answer, Exchange
from fhir_server.rest.service import Service
from fhir_server.rest.update import criteria, expected_version


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
    except (NotFound, Gone):
        return Answer(204)
    assert result.written
    return Answer(204, headers=[(b"etag", b'W/"%d"' % result.written.version)])
