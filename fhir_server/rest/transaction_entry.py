"""One entry of a transaction as what it asks for: something to write, or something to read afterwards.

https://hl7.org/fhir/R4/bundle.html#transaction
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

import pybase64

from fhir_server.caller import Permission
from fhir_server.outcomes import BadParameter, MethodNotAllowed
from fhir_server.r4.resource_types import TYPE_NUMBER
from fhir_server.records.conditions import Pairs, condition_of
from fhir_server.records.write import Incoming, deletion, new_id
from fhir_server.rest import binary
from fhir_server.rest.batch import as_exchange
from fhir_server.rest.http import Exchange
from fhir_server.rest.patch import matching, must_patch, patched
from fhir_server.rest.service import Service
from fhir_server.rest.update import expected_version, guarded

READS: Final = frozenset(
    {"read", "vread", "search-type", "search-system", "history-instance", "history-type", "history-system"}
)


@dataclass(frozen=True, slots=True)
class Wish:
    """`incoming` or `read` is there; `again` says that the entry may be tried on a newer version."""

    where: str
    incoming: Incoming | None = None
    read: Exchange | None = None
    again: bool = False


@dataclass(frozen=True, slots=True)
class _Entry:
    """An entry taken apart: `Type/id` or `Type?criteria`, and what is sent."""

    exchange: Exchange
    service: Service
    request: Mapping[str, Any]
    resource: Any
    body: bytes
    type: str
    id: str
    condition: Pairs | None
    full_url: str | None

    def must(self, permission: Permission) -> None:
        self.exchange.known_caller().must(permission, self.type)

    def must_name_one(self) -> None:
        """By its id or by criteria. Raises BadParameter."""
        if bool(self.id) == (self.condition is not None):
            text = f"The url of a {self.request['method']} is Type/id or Type?criteria"
            raise BadParameter(text, expression="request.url")


async def wish_of(exchange: Exchange, service: Service, entry: Mapping[str, Any], body: bytes, where: str) -> Wish:
    """What an entry of a valid Bundle asks for. Raises Failures whose places are relative to the entry."""
    from fhir_server.rest.routes import codes_of  # the table lists the interaction that brought us here

    request = entry["request"]
    if request["method"] in ("GET", "HEAD"):
        return Wish(where, read=_read(exchange, entry))
    path, query_mark, query = str(request["url"]).partition("?")
    resource_type, _, resource_id = path.partition("/")
    if resource_type not in TYPE_NUMBER or "/" in resource_id or resource_id.startswith(("_", "$")):
        raise BadParameter("The url is not Type, Type/id or Type?criteria", expression="request.url")
    if CODES[request["method"]] not in codes_of(resource_type):
        raise MethodNotAllowed(f"This server does not offer {CODES[request['method']]} on {resource_type}")
    condition = condition_of(query) if query_mark else None
    resource = entry.get("resource")
    one = _Entry(
        exchange, service, request, resource, body, resource_type, resource_id, condition, entry.get("fullUrl")
    )
    incoming = await MAKERS[request["method"]](one)
    again = request["method"] == "PATCH" and "ifMatch" not in request
    return Wish(where, replace(incoming, where=where), again=again)


def _read(exchange: Exchange, entry: Mapping[str, Any]) -> Exchange:
    from fhir_server.rest.routes import route_of  # the table lists the interaction that brought us here

    one = as_exchange(exchange, entry, b"")
    if route_of(one).code not in READS:
        raise BadParameter("A transaction reads, searches and tells histories", expression="request.url")
    return one


async def _create(one: _Entry) -> Incoming:
    _must_be_of_type(one)
    if one.id or one.condition is not None:
        raise BadParameter("The url of a POST is the type of the resource", expression="request.url")
    one.must("c")
    condition = one.request.get("ifNoneExist")
    wish = Incoming(
        resource=one.resource,
        body=one.body,
        method="create",
        resource_id=new_id(),
        condition=condition_of(condition) if condition is not None else None,
        full_url=one.full_url,
    )
    return await _with_content(one, wish)


async def _update(one: _Entry) -> Incoming:
    _must_be_of_type(one)
    one.must_name_one()
    if one.id and one.resource.get("id") != one.id:
        raise BadParameter("The url and the id of the resource do not agree", expression="request.url")
    if one.type == "Binary" and one.condition is not None:
        raise MethodNotAllowed("A Binary is updated by its id")
    one.must("u")
    identity = one.id or one.resource.get("id") or new_id()
    wish = Incoming(one.resource, one.body, "update", identity, one.condition, full_url=one.full_url)
    wish = guarded(wish, one.service, one.request.get("ifMatch"), one.request.get("ifNoneMatch"))
    return await _with_content(one, wish)


async def _delete(one: _Entry) -> Incoming:
    one.must_name_one()
    version = expected_version(one.request.get("ifMatch"))
    return deletion(one.type, one.id or None, condition=one.condition, expected_version=version)


async def _patch(one: _Entry) -> Incoming:
    """A Parameters resource, or a Binary that holds a JSON or XML Patch (R4 3.1.0.8, 3.1.0.11)."""
    one.must_name_one()
    if one.resource is None:
        raise BadParameter("A PATCH has a Parameters or a Binary", expression="resource")
    asked = must_patch(one.exchange, one.service, one.type, one.request.get("ifMatch"))
    media_type, body = "application/fhir+json", one.body
    if one.resource["resourceType"] == "Binary":
        media_type, body = str(one.resource.get("contentType")), pybase64.b64decode(one.resource.get("data", ""))
    identity = one.id
    if one.condition is not None:
        identity = await matching(one.exchange, one.service, one.type, one.condition)
    changed = await patched(one.exchange, one.service, one.type, identity, media_type, body)
    return replace(
        changed, condition=one.condition, expected_version=changed.expected_version if asked is None else asked
    )


def _must_be_of_type(one: _Entry) -> None:
    if one.resource is None:
        raise BadParameter(f"A {one.request['method']} has a resource", expression="resource")
    if one.resource["resourceType"] != one.type:
        raise BadParameter("The url is not the type of the resource", expression="request.url")


async def _with_content(one: _Entry, wish: Incoming) -> Incoming:
    """The data of a Binary goes to the blob store."""
    if one.type != "Binary":
        return wish
    given = wish.resource_id if wish.method == "update" and wish.condition is None else None
    kept = await binary.from_json(one.body, one.service, "update" if given else "create", given)
    return replace(wish, resource=kept.resource, body=kept.body, blob=kept.blob)


CODES: Final = {"POST": "create", "PUT": "update", "DELETE": "delete", "PATCH": "patch"}
MAKERS: Final = {"POST": _create, "PUT": _update, "DELETE": _delete, "PATCH": _patch}
