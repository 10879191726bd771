"""OpenAPI of this server, made from its route tables, as JSON and as a page that needs nothing from elsewhere.

https://spec.openapis.org/oas/v3.1.0 - FHIR describes itself by its CapabilityStatement; this is for tools that do not
read it.
"""

from collections.abc import Iterable, Iterator
from functools import lru_cache
from http import HTTPStatus
from importlib.metadata import version
from typing import Any, Final

import orjson
from fastapi import APIRouter
from fastapi.responses import Response
from jinja2 import Environment, PackageLoader

from fhir_server.outcomes import Failure
from fhir_server.r4.resource_types import RESOURCE_TYPES
from fhir_server.rest.operations.graphql import GRAPHQL
from fhir_server.rest.patch import JSON_PATCH, XML_PATCH
from fhir_server.rest.routes import OPERATION_ROUTES, ROUTES, Route, codes_of, operations_of

FHIR_TYPES: Final = ("application/fhir+json", "application/fhir+xml")
FORM: Final = "application/x-www-form-urlencoded"
# Interaction -> what it does in a few words, and the statuses of its success.
ABOUT: Final[dict[str, tuple[str, tuple[int, ...]]]] = {
    "metadata": ("What this server does, as CapabilityStatement", (200,)),
    "smart-configuration": ("How to come to a token (SMART on FHIR)", (200,)),
    "transaction": ("A Bundle of type transaction or batch", (200,)),
    "search-type": ("Resources of one type by criteria", (200,)),
    "search-system": ("Resources of several types by criteria that all of them have", (200,)),
    "create": ("A new resource; one that is there already with If-None-Exist", (200, 201)),
    "read": ("The current version; the bytes of a Binary, or a part of them", (200, 206, 304)),
    "vread": ("One version", (200, 206, 304)),
    "update": ("A resource as it is to be, new or not", (200, 201)),
    "patch": ("A change of a resource", (200,)),
    "delete": ("A resource that is to be there no more", (204,)),
    "$graphql": ("A query in GraphQL", (200,)),
}
ELSE: Final = ("", (200, 201, 202, 204, 304))
BODIES: Final[dict[str, tuple[str, ...]]] = {
    "create": FHIR_TYPES,
    "update": FHIR_TYPES,
    "transaction": FHIR_TYPES,
    "patch": (JSON_PATCH, XML_PATCH, *FHIR_TYPES),
}
# The letters of the path shapes of the routes.
PLACES: Final[dict[str, tuple[str, dict[str, Any]]]] = {
    "I": ("id", {"type": "string", "pattern": "^[A-Za-z0-9\\-.]{1,64}$"}),
    "V": ("version", {"type": "string", "pattern": "^[0-9]{1,9}$"}),
}
SEARCH: Final[dict[str, dict[str, Any]]] = {
    "_id": {"type": "string"},
    "_lastUpdated": {"type": "string", "examples": ["ge2026-01-01"]},
    "_count": {"type": "integer", "minimum": 0},
    "_sort": {"type": "string", "examples": ["-_lastUpdated"]},
    "_include": {"type": "string"},
    "_revinclude": {"type": "string"},
    "_total": {"enum": ["none", "estimate", "accurate"]},
    "_cursor": {"type": "string", "description": "Where a page begins: out of a link, never made by hand"},
}
# Interaction -> the parameters that are the same on every type.
SEARCHES: Final[dict[str, dict[str, dict[str, Any]]]] = {
    "search-type": SEARCH,
    "search-system": {**SEARCH, "_type": {"type": "string", "examples": ["Patient,Observation"]}},
}
HEADERS: Final[dict[str, tuple[str, ...]]] = {
    "create": ("If-None-Exist", "Prefer"),
    "read": ("If-None-Match", "Range"),
    "update": ("If-Match", "Prefer"),
    "patch": ("If-Match", "Prefer"),
    "delete": ("If-Match",),
}
TOKEN_FIELDS: Final = (
    "grant_type", "scope", "client_id", "client_secret", "client_assertion_type", "client_assertion",
)  # fmt: skip
GRAPHQL_BODIES: Final = ("application/graphql", "application/json", *FHIR_TYPES)
GRAPHQL_PARAMETERS: Final = ("query", "variables", "operationName")
OUTCOME: Final = {"$ref": "#/components/responses/OperationOutcome"}
RESOURCE: Final = {
    "type": "object",
    "required": ["resourceType"],
    "properties": {"resourceType": {"type": "string"}},
    "description": "A FHIR R4 resource: https://hl7.org/fhir/R4/resourcelist.html",
}
# What answers in another language than FHIR, failures included.
NOT_FHIR: Final[dict[str, tuple[str, ...]]] = {
    GRAPHQL.name: ("application/json",),
    "smart-configuration": ("application/json", *FHIR_TYPES),
}
JSON_ANSWER: Final = {"application/json": {"schema": {"type": "object"}}}


@lru_cache(maxsize=1)
def document(base: str) -> dict[str, Any]:
    """The OpenAPI document; `base` is the FHIR base as clients see it."""
    paths: dict[str, dict[str, Any]] = {}
    for route in (*ROUTES, *OPERATION_ROUTES):
        paths.setdefault(_path(route), {})[route.method.lower()] = _operation(route)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "dmst-fhir",
            "version": version("dmst-fhir"),
            "description": "HL7 FHIR R4. The whole truth is the CapabilityStatement at /fhir/metadata.",
        },
        "servers": [{"url": base.removesuffix("/fhir")}],
        "paths": {**paths, **_beside()},
        "components": {
            "schemas": {"Resource": RESOURCE},
            "responses": {"OperationOutcome": {"description": "Why not", "content": _content(FHIR_TYPES)}},
            "securitySchemes": {
                "oauth2": {
                    "type": "oauth2",
                    "flows": {"clientCredentials": {"tokenUrl": "/oauth2/token", "scopes": _scopes()}},
                }
            },
        },
    }


def _path(route: Route) -> str:
    names = {"T": "{type}", **{letter: f"{{{name}}}" for letter, (name, _) in PLACES.items()}}
    return "/".join(("/fhir", *(names.get(part, part) for part in route.shape)))


def _operation(route: Route) -> dict[str, Any]:
    summary, statuses = ABOUT.get(route.name, ELSE)
    media_types = (*FHIR_TYPES, "*/*") if route.name in ("read", "vread") else NOT_FHIR.get(route.name, FHIR_TYPES)
    failed = {"description": "Why not", "content": _content(media_types)} if route.name in NOT_FHIR else OUTCOME
    done = {str(status): _done(status, media_types) for status in statuses}
    operation: dict[str, Any] = {
        "operationId": "-".join((route.method.lower(), *(part.strip("_$") for part in route.shape), route.name)),
        "summary": summary or route.name,
        "tags": ["operations" if route.name.startswith("$") else "interactions"],
        "parameters": list(_parameters(route)),
        "responses": {**done, **{str(status): failed for status in _failures()}},
        "security": [{"oauth2": []}] if route.needs_caller else [],
    }
    if body := _body(route):
        operation["requestBody"] = body
    return operation


def _done(status: int, media_types: Iterable[str]) -> dict[str, Any]:
    described: dict[str, Any] = {"description": HTTPStatus(status).phrase}
    return described if status in (204, 304) else {**described, "content": _content(media_types)}


def _content(media_types: Iterable[str]) -> dict[str, Any]:
    schemas = {"application/fhir+json": {"$ref": "#/components/schemas/Resource"}}
    return {media_type: {"schema": schemas.get(media_type, {})} for media_type in media_types}


def _failures() -> list[int]:
    """Every failure that this server knows; what a single request may meet is a matter of its body."""
    return sorted({kind.status for kind in (Failure, *Failure.__subclasses__())})


def _parameters(route: Route) -> Iterator[dict[str, Any]]:
    for part in route.shape:
        if part == "T":
            yield _parameter("type", "path", {"enum": list(_types(route))})
        elif part in PLACES:
            yield _parameter(PLACES[part][0], "path", PLACES[part][1])
    if route.method == "GET":
        for name, schema in SEARCHES.get(route.name, {}).items():
            yield _parameter(name, "query", schema)
    if route.name == GRAPHQL.name:
        for name in GRAPHQL_PARAMETERS:
            yield _parameter(name, "query", {"type": "string"})
    yield _parameter("_format", "query", {"enum": [*FHIR_TYPES, "json", "xml"]})
    for name in HEADERS.get(route.name, ()):
        yield _parameter(name, "header", {"type": "string"})


def _parameter(name: str, place: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {"name": name, "in": place, "required": place == "path", "schema": schema}


def _types(route: Route) -> Iterator[str]:
    for name in RESOURCE_TYPES:
        if route.code in codes_of(name) or any(one.name == route.name for one in operations_of(name)):
            yield name


def _body(route: Route) -> dict[str, Any] | None:
    if route.name in SEARCHES and route.method == "POST":
        fields = {"type": "object", "properties": SEARCHES[route.name], "additionalProperties": {"type": "string"}}
        return {"required": True, "content": {FORM: {"schema": fields}}}
    if route.name == GRAPHQL.name and route.method == "POST":
        return {"required": False, "content": _content(GRAPHQL_BODIES)}
    if route.name.startswith("$") and route.method == "POST":
        return {"required": False, "content": _content(FHIR_TYPES)}
    media_types = BODIES.get(route.name)
    return {"required": True, "content": _content(media_types)} if media_types else None


VERBS: Final = {"c": "create", "r": "read", "u": "update", "d": "delete", "s": "search"}


def _scopes() -> dict[str, str]:
    return {f"system/*.{letter}": verb for letter, verb in VERBS.items()}


def _beside() -> dict[str, Any]:
    """What is served beside FHIR."""
    fields = {name: {"type": "string"} for name in TOKEN_FIELDS}
    plain = {"content": {"text/plain": {"schema": {"type": "string"}}}, "description": "OK"}
    healthy = {"description": "OK", "content": JSON_ANSWER}
    return {
        "/oauth2/token": {
            "post": {
                "operationId": "token",
                "summary": "An access token for client credentials (RFC 6749 section 4.4)",
                "tags": ["beside"],
                "requestBody": {"content": {FORM: {"schema": {"type": "object", "properties": fields}}}},
                "responses": {
                    "200": healthy,
                    **{
                        str(status): {"description": "Why not", "content": JSON_ANSWER}
                        for status in (400, 401, 422, 429)
                    },
                    "503": OUTCOME,
                },
            }
        },
        "/livez": {
            "get": {"operationId": "livez", "summary": "It turns", "tags": ["beside"], "responses": {"200": healthy}}
        },
        "/readyz": {
            "get": {
                "operationId": "readyz",
                "summary": "It can do its work, and is not about to stop",
                "tags": ["beside"],
                "responses": {"200": healthy, "503": {"description": "Not now", "content": JSON_ANSWER}},
            }
        },
        "/metrics": {
            "get": {
                "operationId": "metrics",
                "summary": "Metrics for Prometheus; for clients in the role operator",
                "tags": ["beside"],
                "security": [{"oauth2": []}],
                "responses": {"200": plain, "401": OUTCOME, "403": OUTCOME, "503": OUTCOME},
            }
        },
    }


@lru_cache(maxsize=1)
def page(base: str) -> bytes:
    """The same as one page of HTML, without scripts and without anything from elsewhere."""
    environment = Environment(loader=PackageLoader("fhir_server", "templates"), autoescape=True)
    return environment.get_template("api.html").render(api=document(base)).encode()


def docs_routes(base: str) -> APIRouter:
    router = APIRouter()

    @router.get("/openapi.json")
    async def openapi() -> Response:
        return Response(orjson.dumps(document(base)), media_type="application/json")

    @router.get("/docs")
    async def docs() -> Response:
        safe = {"content-security-policy": "default-src 'none'; style-src 'unsafe-inline'"}
        return Response(page(base), media_type="text/html", headers=safe)

    return router
