"""What a written SearchParameter means to this server: an operator's becomes searchable, any other is a resource.

https://hl7.org/fhir/R4/searchparameter.html - whoever may say what is indexed decides what every write costs, so that
is for operators; what they put in use nobody else changes.
"""

from collections.abc import Mapping
from typing import Any

from fhir_server.caller import Caller
from fhir_server.outcomes import Forbidden
from fhir_server.r4.parameter_definition import Definition, definition_of
from fhir_server.store import custom_parameters
from fhir_server.store.database import Connection


def asked_by(caller: Caller, resource: Mapping[str, Any]) -> Definition | None:
    """What a SearchParameter asks for; None where it stays a plain resource. Raises BusinessRule."""
    return definition_of(resource) if caller.role == "operator" else None


async def put_in_use(connection: Connection, caller: Caller, resource_id: str, wanted: Definition | None) -> None:
    """Search by `wanted`, in the place of what the SearchParameter with this id said before; None retires that.

    Inside the transaction that writes it. Raises Forbidden, BusinessRule.
    """
    if caller.role != "operator":
        if await custom_parameters.is_in_use(connection, resource_id):
            raise Forbidden("Only an operator may change or delete a SearchParameter that this server searches by")
    elif wanted is None:
        await custom_parameters.retire(connection, resource_id)
    else:
        await custom_parameters.announce(connection, resource_id, wanted)
