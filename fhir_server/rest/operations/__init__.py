"""One module per $operation; the routes and the CapabilityStatement follow from this table."""

from fhir_server.rest.operations.bulk_import import IMPORT
from fhir_server.rest.operations.declare_access import DECLARE_ACCESS
from fhir_server.rest.operations.diff import DIFF
from fhir_server.rest.operations.docref import DOCREF
from fhir_server.rest.operations.everything import EVERYTHING
from fhir_server.rest.operations.expand import EXPAND
from fhir_server.rest.operations.export import EXPORT, GROUP_EXPORT, PATIENT_EXPORT
from fhir_server.rest.operations.expunge import EXPUNGE
from fhir_server.rest.operations.generate_metadata import GENERATE_METADATA
from fhir_server.rest.operations.graphql import GRAPHQL
from fhir_server.rest.operations.ihe_pix import IHE_PIX
from fhir_server.rest.operations.index_status import INDEX_STATUS
from fhir_server.rest.operations.lastn import LASTN
from fhir_server.rest.operations.lookup import LOOKUP
from fhir_server.rest.operations.match import MATCH
from fhir_server.rest.operations.meta import META
from fhir_server.rest.operations.meta_change import META_ADD, META_DELETE
from fhir_server.rest.operations.operation import Operation
from fhir_server.rest.operations.redact import REDACT
from fhir_server.rest.operations.subsumes import SUBSUMES
from fhir_server.rest.operations.transfer import TRANSFER
from fhir_server.rest.operations.translate import TRANSLATE
from fhir_server.rest.operations.upload import UPLOAD
from fhir_server.rest.operations.validate import VALIDATE
from fhir_server.rest.operations.validate_code import IN_CODE_SYSTEM, IN_VALUE_SET

OPERATIONS: tuple[Operation, ...] = (
    DECLARE_ACCESS,
    DIFF,
    DOCREF,
    EVERYTHING,
    EXPAND,
    EXPORT,
    EXPUNGE,
    GENERATE_METADATA,
    GRAPHQL,
    GROUP_EXPORT,
    IHE_PIX,
    IMPORT,
    INDEX_STATUS,
    IN_CODE_SYSTEM,
    IN_VALUE_SET,
    LASTN,
    LOOKUP,
    MATCH,
    META,
    META_ADD,
    META_DELETE,
    PATIENT_EXPORT,
    REDACT,
    SUBSUMES,
    TRANSFER,
    TRANSLATE,
    UPLOAD,
    VALIDATE,
)
