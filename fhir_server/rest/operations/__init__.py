"""One module per $operation; the routes and the CapabilityStatement follow from this table."""

from fhir_server.rest.operations.index_status import INDEX_STATUS
from fhir_server.rest.operations.meta import META
from fhir_server.rest.operations.operation import Operation

OPERATIONS: tuple[Operation, ...] = (META, INDEX_STATUS)
