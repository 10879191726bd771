"""One table: method and shape of the path -> interaction. The CapabilityStatement is computed from it.

https://hl7.org/fhir/R4/http.html#summary - `T` is a resource type, `I` an id, `V` a version.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from fhir_server.rest.bundle import transaction
from fhir_server.rest.create import create
from fhir_server.rest.history import history
from fhir_server.rest.http import Answer, Exchange
from fhir_server.rest.metadata import metadata
from fhir_server.rest.read import read, vread
from fhir_server.rest.search import search, search_by_post
from fhir_server.rest.service import Service
from fhir_server.rest.update import update

Interaction = Callable[[Exchange, Service], Awaitable[Answer]]


@dataclass(frozen=True, slots=True)
class Route:
    """`code` is the R4 interaction code (type-restful-interaction or system-restful-interaction), None for metadata."""

    method: str
    shape: tuple[str, ...]
    interaction: Interaction
    code: str | None
    needs_caller: bool = True


ROUTES = (
    Route("GET", ("metadata",), metadata, None, needs_caller=False),
    Route("POST", (), transaction, "transaction"),
    Route("GET", ("T",), search, "search-type"),
    Route("POST", ("T", "_search"), search_by_post, "search-type"),
    Route("POST", ("T",), create, "create"),
    Route("GET", ("T", "I"), read, "read"),
    Route("PUT", ("T", "I"), update, "update"),
    Route("GET", ("T", "I", "_history"), history, "history-instance"),
    Route("GET", ("T", "I", "_history", "V"), vread, "vread"),
)

# What this server writes by itself and shows only: nobody else creates or changes it.
SHOWN_ONLY = {"AuditEvent": frozenset({"read", "search-type"})}
# Containers of an exchange, not records of a person.
NOT_KEPT = frozenset({"Parameters", "OperationOutcome"})


def codes_of(resource_type: str) -> frozenset[str]:
    """The interactions that this server offers on a type."""
    if resource_type in NOT_KEPT:
        return frozenset()
    offered = frozenset(route.code for route in ROUTES if route.code and route.shape[:1] == ("T",))
    return SHOWN_ONLY.get(resource_type, offered)
