"""One table: method and shape of the path -> interaction. The CapabilityStatement is computed from it.

https://hl7.org/fhir/R4/http.html#summary - `T` is a resource type, `I` an id, `V` a version,
`J` a bulk job and `F` a file of it.
"""

import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import cache
from typing import Final

import structlog

from fhir_server.outcomes import Failure, Forbidden, MethodNotAllowed, NotSupported, Throttled, Unauthenticated
from fhir_server.r4.compartments import COMPARTMENTS
from fhir_server.r4.resource_types import RESOURCE_TYPES, TYPE_NUMBER
from fhir_server.records import audit
from fhir_server.rest import bulk
from fhir_server.rest.bundle import bundle
from fhir_server.rest.create import create
from fhir_server.rest.delete import conditional_delete, delete
from fhir_server.rest.history import history, history_of_system, history_of_type
from fhir_server.rest.http import Answer, Exchange
from fhir_server.rest.metadata import metadata
from fhir_server.rest.operations import OPERATIONS, upload
from fhir_server.rest.operations.operation import Level, Operation
from fhir_server.rest.patch import conditional_patch, patch
from fhir_server.rest.read import read, vread
from fhir_server.rest.search import search, search_by_post
from fhir_server.rest.search_system import search_system, search_system_by_post
from fhir_server.rest.service import Service
from fhir_server.rest.smart_configuration import smart_configuration
from fhir_server.rest.update import conditional_update, update

log = structlog.get_logger(__name__)

Interaction = Callable[[Exchange, Service], Awaitable[Answer]]


@dataclass(frozen=True, slots=True)
class Route:
    """`code` is the R4 interaction code (type-restful-interaction or system-restful-interaction), None without one."""

    method: str
    shape: tuple[str, ...]
    interaction: Interaction
    code: str | None
    needs_caller: bool = True

    @property
    def name(self) -> str:
        """The interaction as the log and the metrics call it."""
        return self.code or self.shape[-1]


ROUTES = (
    Route("GET", ("metadata",), metadata, None, needs_caller=False),
    Route("GET", (".well-known", "smart-configuration"), smart_configuration, None, needs_caller=False),
    Route("POST", (), bundle, "transaction"),
    Route("GET", (), search_system, "search-system"),
    Route("POST", ("_search",), search_system_by_post, "search-system"),
    Route("GET", ("T",), search, "search-type"),
    Route("POST", ("T", "_search"), search_by_post, "search-type"),
    Route("GET", ("T", "I", "T"), search, "search-type"),
    Route("POST", ("T", "I", "T", "_search"), search_by_post, "search-type"),
    Route("POST", ("T",), create, "create"),
    Route("GET", ("T", "I"), read, "read"),
    Route("PUT", ("T", "I"), update, "update"),
    Route("PUT", ("T",), conditional_update, "update"),
    Route("PATCH", ("T", "I"), patch, "patch"),
    Route("PATCH", ("T",), conditional_patch, "patch"),
    Route("DELETE", ("T", "I"), delete, "delete"),
    Route("DELETE", ("T",), conditional_delete, "delete"),
    Route("GET", ("T", "I", "_history"), history, "history-instance"),
    Route("GET", ("T", "_history"), history_of_type, "history-type"),
    Route("GET", ("_history",), history_of_system, "history-system"),
    Route("GET", ("T", "I", "_history", "V"), vread, "vread"),
    Route("GET", (bulk.JOBS, "J"), bulk.status, None),
    Route("DELETE", (bulk.JOBS, "J"), bulk.cancel, None),
    Route("GET", (bulk.JOBS, "J", "F"), bulk.file, None),
)
SHAPES: Final[dict[Level, tuple[str, ...]]] = {"system": (), "type": ("T",), "instance": ("T", "I")}
# Two operations of one name, each on a type of its own, are one route.
OPERATION_ROUTES = tuple(
    dict.fromkeys(
        Route(method, (*SHAPES[level], operation.name), operation.perform, None)
        for operation in OPERATIONS
        for level in operation.levels
        for method in operation.methods
    )
)
# The other requests of $upload, which tus lays down.
UPLOAD_ROUTES = (
    Route("OPTIONS", ("T", "$upload"), upload.options, None, needs_caller=False),
    Route("GET", ("T", "$upload", "I"), upload.status, None),
    Route("PATCH", ("T", "$upload", "I"), upload.append, None),
    Route("DELETE", ("T", "$upload", "I"), upload.terminate, None),
)

# One POST to the base serves the first two.
SYSTEM_CODES = ("batch", "transaction", "history-system", "search-system")
# What this server writes by itself and shows only: nobody else creates or changes it.
SHOWN_ONLY = {"AuditEvent": frozenset({"read", "search-type"})}
# The bytes of a Binary are not part of the document that a patch would change.
NOT_OFFERED = {"Binary": frozenset({"patch"})}
# Containers of an exchange, not records of a person.
NOT_KEPT = frozenset({"Parameters", "OperationOutcome"})


@cache
def codes_of(resource_type: str) -> frozenset[str]:
    """The interactions that this server offers on a type."""
    if resource_type in NOT_KEPT:
        return frozenset()
    offered = frozenset(route.code for route in ROUTES if route.code and route.shape[:1] == ("T",))
    return SHOWN_ONLY.get(resource_type, offered) - NOT_OFFERED.get(resource_type, frozenset())


@cache
def types_offering(code: str) -> tuple[str, ...]:
    """The types on which an interaction is offered."""
    return tuple(name for name in RESOURCE_TYPES if code in codes_of(name))


@cache
def types_together() -> tuple[str, ...]:
    """The types that are searched together: the trail is not, which is kept elsewhere and has criteria of its own."""
    return tuple(name for name in types_offering("search-type") if name not in SHOWN_ONLY)


@cache
def operations_of(resource_type: str) -> tuple[Operation, ...]:
    """The operations on a type or its instances; on what is only shown, none."""
    if resource_type in NOT_KEPT or resource_type in SHOWN_ONLY:
        return ()
    return tuple(one for one in OPERATIONS if one.levels & {"type", "instance"} and one.is_about(resource_type))


_ID = re.compile(r"[A-Za-z0-9\-.]{1,64}")
_TABLE = {(route.method, route.shape): route for route in (*ROUTES, *OPERATION_ROUTES, *UPLOAD_ROUTES)}
_METHODS = {shape: sorted(m for m, s in _TABLE if s == shape) for _, shape in _TABLE}


def route_of(exchange: Exchange) -> Route:
    """The interaction that a request asks for. Raises NotSupported, MethodNotAllowed."""
    shape = _shape(exchange.segments)
    method = "GET" if exchange.method == "HEAD" else exchange.method
    route = _TABLE.get((method, shape))
    if route is None:
        if shape in _METHODS:
            raise MethodNotAllowed(f"Here this server answers {', '.join(_METHODS[shape])}")
        raise NotSupported("This server has nothing under this path")
    resource_type = _type_of(exchange.segments, route)
    if resource_type and not _is_offered(route, resource_type):
        raise MethodNotAllowed(f"This server does not offer {route.code or shape[-1]} on {resource_type}")
    return route


def answers_options(segments: tuple[str, ...]) -> bool:
    """Whether a path has more to say to OPTIONS than which methods it knows."""
    return ("OPTIONS", _shape(segments)) in _TABLE


def methods_of(segments: tuple[str, ...]) -> list[str]:
    """What this server answers under a path, whoever asks. Raises NotSupported where there is nothing."""
    shape = _shape(segments)
    if shape not in _METHODS:
        raise NotSupported("This server has nothing under this path")
    routes = [_TABLE[method, shape] for method in _METHODS[shape]]
    offered = {
        route.method
        for route in routes
        if not (resource_type := _type_of(segments, route)) or _is_offered(route, resource_type)
    }
    return sorted(offered | {"OPTIONS"} | ({"HEAD"} if "GET" in offered else set()))


def _type_of(segments: tuple[str, ...], route: Route) -> str | None:
    """The resource type that a request is about: in a compartment, the one that is searched."""
    return next((segments[at] for at in (2, 0) if route.shape[at : at + 1] == ("T",)), None)


def _is_offered(route: Route, resource_type: str) -> bool:
    if route.code is None:
        return any(
            route.shape[: len(SHAPES[level]) + 1] == (*SHAPES[level], operation.name)
            for operation in operations_of(resource_type)
            for level in operation.levels
        )
    return route.code in codes_of(resource_type)


def _shape(segments: tuple[str, ...]) -> tuple[str, ...]:
    if segments[:1] == (bulk.JOBS,):
        return (bulk.JOBS, "J", "F")[: len(segments)] if len(segments) <= len("_JF") else segments
    if not segments or segments[0] not in TYPE_NUMBER:
        return segments
    shape = ["T"]
    for position, segment in enumerate(segments[1:], start=1):
        if segment.startswith(("_", "$")):
            shape.append(segment)
        elif position == 2 and segment in TYPE_NUMBER and segments[0] in COMPARTMENTS:
            shape.append("T")
        elif position == 3:
            shape.append("V")
        else:
            shape.append("I" if _ID.fullmatch(segment) else "?")
    return tuple(shape)


async def perform(exchange: Exchange, service: Service) -> Answer:
    """One request of a caller who is known already: an entry of a batch. Raises Failure, and traces a refusal."""
    route = route_of(exchange)
    if route.interaction is bundle:
        raise NotSupported("A batch holds no other batch or transaction")
    if route.shape[:1] == (bulk.JOBS,) or {"$export", "$import"}.intersection(route.shape[-1:]):
        raise NotSupported("A bulk job is no entry of a batch")
    if route.shape[-1:] == ("$graphql",):
        raise NotSupported("What GraphQL answers is no resource, so it is no entry of a batch")
    try:
        service.limits.request(exchange.known_caller())
        return await route.interaction(exchange, service)
    except Failure as failure:
        await trace_refusal(exchange, service, failure)
        raise


async def trace_refusal(exchange: Exchange, service: Service, failure: Failure) -> None:
    """A refusal is an access too: somebody asked for what he may not have, or more often than he may.

    What can be caused without end (nobody known, too often) is told one by one so often in a minute, and then counted.
    """
    if not isinstance(failure, Unauthenticated | Forbidden | Throttled):
        return
    route = route_of(exchange)  # there is one: nobody is refused before
    resource_type = exchange.segments[0] if "T" in route.shape else None
    resource_id = exchange.segments[1] if route.shape[1:2] == ("I",) else None  # in a compartment, of what it is of
    row = audit.access(
        exchange.caller,
        route.code or "operation",
        exchange.request_id,
        outcome=audit.REFUSED,
        resource_type=resource_type,
        resource_id=resource_id,
        patient_id=resource_id if resource_type == "Patient" else None,
    )
    if isinstance(failure, Throttled) or exchange.caller is None:
        await service.failures.tell(row, failure.code)
        return
    try:
        await service.archive.accesses.append(row)
    except Failure as second:
        log.warning("refusal not traced", request_id=exchange.request_id, reason=second.diagnostics)
