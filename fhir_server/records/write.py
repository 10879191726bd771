"""The one door through which resources are written, whatever they came in by.

Each request becomes one unit of change: validated, its references checked, indexed, traced and kept in one
transaction, with whatever the caller writes beside it (scan lots, deliveries, jobs). Nothing is half there.
"""

import secrets
import time
import uuid
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, Literal
from urllib.parse import parse_qsl

import orjson

from fhir_server.caller import Caller, Permission
from fhir_server.outcomes import BadParameter, BadSyntax, DanglingReference, Issue, MultipleMatches, NotFound
from fhir_server.ports import Blob
from fhir_server.r4 import search_query
from fhir_server.r4.references import is_local, literal_references
from fhir_server.r4.resource_types import TYPE_NAME, TYPE_NUMBER
from fhir_server.r4.search_criteria import SearchQuery
from fhir_server.records import audit
from fhir_server.records.render import renderer, with_links
from fhir_server.records.validation import parse_json, validate
from fhir_server.store.access_log import AccessRow
from fhir_server.store.commit import Commits, Plan, Unit, Write, Written
from fhir_server.store.database import Connection
from fhir_server.store.resources import Key, read_within
from fhir_server.store.search import condition_lock, find_ids
from fhir_server.store.search_index import NO_ROWS, rows_of

Alongside = Callable[[Connection, Sequence[Written]], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Incoming:
    """One resource to write. `body` is its JSON as received, `resource` the same parsed; a deletion has no body.

    `condition` holds the pairs of a query: of If-None-Exist for a create, which then does nothing where it finds
    one; of a conditional update or delete, which is then about the one that it finds. `full_url` is its name inside a
    Bundle.
    """

    resource: Mapping[str, Any]
    body: bytes
    method: Literal["create", "update", "delete"]
    resource_id: str
    condition: tuple[tuple[str, str], ...] | None = None
    expected_version: int | None = None
    full_url: str | None = None
    blob: Blob | None = None
    where: str | None = None

    @property
    def type(self) -> str:
        return self.resource["resourceType"]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one Incoming: written now, or found there already (`written` None: the condition matched)."""

    type: str
    id: str
    written: Written | None


def new_id() -> str:
    """A UUID of version 7: later ids sort later, so the index grows at its end (RFC 9562 section 5.7)."""
    milliseconds = time.time_ns() // 1_000_000
    value = (milliseconds << 80) | secrets.randbits(80)
    value = (value & ~(0xF << 76)) | (0x7 << 76)
    value = (value & ~(0x3 << 62)) | (0x2 << 62)
    return str(uuid.UUID(int=value))


def incoming_from_bytes(
    body: bytes,
    *,
    method: Literal["create", "update"],
    resource_type: str,
    resource_id: str | None = None,
    condition: tuple[tuple[str, str], ...] | None = None,
    expected_version: int | None = None,
) -> Incoming:
    """A resource as a client sent it, parsed and validated. Raises BadSyntax, InvalidResource, BadParameter."""
    resource = parse_json(body)
    if resource["resourceType"] != resource_type:
        raise BadParameter(
            f"The URL says {resource_type}, the body {resource['resourceType']}", expression="resourceType"
        )
    if method == "update" and condition is None and resource.get("id") != resource_id:
        raise BadParameter("The id in the body is not the id in the URL", expression=f"{resource_type}.id")
    validate(resource)
    given = resource.get("id") if method == "update" else None
    return Incoming(resource, body, method, resource_id or given or new_id(), condition, expected_version)


def incoming_from_dict(resource: Mapping[str, Any], *, method: Literal["create", "update"] = "create") -> Incoming:
    """A resource that a mapping of ours made; it is validated like any other."""
    validate(resource)
    return Incoming(resource, orjson.dumps(resource), method, resource["id"])


def deletion(
    resource_type: str,
    resource_id: str | None,
    *,
    condition: tuple[tuple[str, str], ...] | None = None,
    expected_version: int | None = None,
) -> Incoming:
    """The wish that a resource be deleted, known by its id or by criteria; its earlier versions stay readable."""
    identity = resource_id or new_id()
    resource = {"resourceType": resource_type, "id": identity}
    return Incoming(resource, b"", "delete", identity, condition, expected_version)


PERMISSIONS: Final[Mapping[str, Permission]] = {"create": "c", "update": "u", "delete": "d"}


class Door:
    """Writes resources on behalf of a caller."""

    def __init__(self, commits: Commits) -> None:
        self._commits = commits

    async def write(
        self,
        caller: Caller,
        incoming: Sequence[Incoming],
        *,
        interaction: str,
        request_id: str,
        alongside: Alongside | None = None,
        accesses: Sequence[AccessRow] = (),
    ) -> list[Outcome]:
        """Write all or nothing; outcomes are in the order of `incoming`.

        `alongside` writes other rows in the same transaction, `accesses` are traced beside those of the writing.

        Raises Forbidden, DanglingReference, Conflict, VersionConflict, MultipleMatches, NotFound, Unavailable.
        """
        for one in incoming:
            caller.must(PERMISSIONS[one.method], one.type)
        conditions = {number: _condition(one) for number, one in enumerate(incoming) if one.condition}
        for query in conditions.values():
            caller.must_search(query.asked_types)  # the answer tells whether anything meets the criteria
        _refuse_twins(incoming)
        attempt = _Attempt(caller, incoming, conditions, interaction, request_id, accesses)
        unit = Unit(
            attempt.plan,
            touches=frozenset((TYPE_NUMBER[one.type], one.resource_id) for one in incoming),
            locks=frozenset(condition_lock(one.type, one.condition) for one in incoming if one.condition),
            alongside=alongside,
        )
        written = iter(await self._commits.submit(unit))
        return [
            Outcome(one.type, attempt.found[number], None)
            if number in attempt.found
            else Outcome(one.type, one.resource_id, next(written))
            for number, one in enumerate(attempt.meant)
        ]


class _Attempt:
    """One request on its way: what its conditions found, what its links became."""

    def __init__(
        self,
        caller: Caller,
        incoming: Sequence[Incoming],
        conditions: Mapping[int, SearchQuery],
        interaction: str,
        request_id: str,
        accesses: Sequence[AccessRow],
    ) -> None:
        self.caller = caller
        self.incoming = incoming
        self.conditions = conditions
        self.interaction = interaction
        self.request_id = request_id
        self.accesses = accesses
        self.found: dict[int, str] = {}
        self.meant: list[Incoming] = list(incoming)
        self._owners: dict[Key, str | None] = {}
        self._ready: Plan | None = None
        if not any(one.condition or one.method == "delete" for one in incoming):
            self._ready = self._plan_of(_linked(incoming, {}))

    async def plan(self, connection: Connection) -> Plan:
        """Called inside the transaction, the locks of the conditions held; called again after a rollback."""
        if self._ready:
            return self._ready
        self.found = {}
        self.meant = list(self.incoming)
        for number, query in self.conditions.items():
            one = self.incoming[number]
            resource_id = await _match(connection, query, one.where)
            if one.method != "create":
                self.meant[number] = _about(one, resource_id)
            elif resource_id:
                self.found[number] = resource_id
        there = [(TYPE_NUMBER[one.type], one.resource_id) for one in self.meant if one.method == "delete"]
        there += [(TYPE_NUMBER[self.incoming[number].type], found) for number, found in self.found.items()]
        if there:
            self._owners = {
                (stored.type, stored.id): audit.patient_in_bytes(TYPE_NAME[stored.type], stored.id, stored.doc or b"")
                for stored in await read_within(connection, there)
            }
        return self._plan_of(_linked(self.meant, self.found))

    def _plan_of(self, linked: Iterable[Incoming]) -> Plan:
        writes: list[Write] = []
        accesses: list[AccessRow] = [*self.accesses]
        for one in linked:
            writes.append(_write_of(one))
            accesses.append(self._access(one.type, one.resource_id, self._owner_of(one)))
        for number, resource_id in self.found.items():  # nothing is written, and the client learns that it is there
            resource_type = self.incoming[number].type
            owner = self._owners.get((TYPE_NUMBER[resource_type], resource_id))
            accesses.append(self._access(resource_type, resource_id, owner))
        return Plan(writes, accesses)

    def _access(self, resource_type: str, resource_id: str, patient_id: str | None) -> AccessRow:
        return audit.access(
            self.caller,
            self.interaction,
            self.request_id,
            resource_type=resource_type,
            resource_id=resource_id,
            patient_id=patient_id,
        )

    def _owner_of(self, one: Incoming) -> str | None:
        """Whose record it is; of what will be deleted, whose it was."""
        if one.method == "delete":
            return self._owners.get((TYPE_NUMBER[one.type], one.resource_id))
        return one.resource_id if one.type == "Patient" else audit.patient_in(one.resource)


def _refuse_twins(incoming: Sequence[Incoming]) -> None:
    """Two entries for one identity would overwrite each other in silence (R4 3.1.0.11.2)."""
    seen: dict[object, int] = {}
    faults: list[Issue] = []
    for number, one in enumerate(incoming):
        keys: list[object] = [(one.type, one.resource_id)]
        if one.condition:
            keys.append((one.type, tuple(sorted(one.condition))))
        if one.full_url:
            keys.append(one.full_url)
        for key in keys:
            if key in seen:
                faults.append(
                    Issue("error", "duplicate", f"The same identity as entry {seen[key]}", one.where or one.type)
                )
            seen[key] = number
    if faults:
        raise BadParameter(issues=faults)


def _about(one: Incoming, resource_id: str | None) -> Incoming:
    """A conditional update or delete, now that its criteria were asked (R4 3.1.0.4.3, 3.1.0.7.1).

    Raises NotFound for a deletion of nothing, BadParameter for an update whose body names another id than the match.
    """
    if resource_id is None:
        if one.method == "delete":
            raise NotFound(f"No {one.type} meets the criteria")
        return one
    given = one.resource.get("id")
    if one.method == "update" and given not in (None, resource_id):
        raise BadParameter("The criteria find another id than that of the body", expression=f"{one.type}.id")
    if one.method == "delete":
        return replace(one, resource_id=resource_id, resource={**one.resource, "id": resource_id})
    return replace(one, resource_id=resource_id)


def _condition(one: Incoming) -> SearchQuery:
    """The criteria of a conditional create, update or delete. Raises BadParameter."""
    query = search_query.parse(one.type, one.condition or ())
    if not query.criteria:
        raise BadParameter("A condition needs a criterion", expression=one.where)
    return query


async def _match(connection: Connection, query: SearchQuery, where: str | None) -> str | None:
    """The resource that a condition finds, or None. Raises MultipleMatches."""
    ids = await find_ids(connection, query, 2)
    if len(ids) > 1:
        raise MultipleMatches(f"The condition finds more than one {query.resource_type}", expression=where)
    return ids[0] if ids else None


def _linked(incoming: Sequence[Incoming], found: Mapping[int, str]) -> list[Incoming]:
    """The entries that will be written, with the links among them resolved."""
    targets = {
        one.full_url: f"{one.type}/{found.get(number, one.resource_id)}"
        for number, one in enumerate(incoming)
        if one.full_url
    }
    remaining = [one for number, one in enumerate(incoming) if number not in found]
    if not targets:
        return remaining
    linked: list[Incoming] = []
    for one in remaining:
        body = with_links(one.body, targets) if one.body else one.body
        linked.append(one if body == one.body else replace(one, body=body, resource=orjson.loads(body)))
    return linked


def _write_of(one: Incoming) -> Write:
    if one.method == "delete":
        type_number = TYPE_NUMBER[one.type]
        return Write(type_number, one.resource_id, "update", None, NO_ROWS, expected_version=one.expected_version)
    return Write(
        type=TYPE_NUMBER[one.type],
        id=one.resource_id,
        must="create" if one.method == "create" else "either",
        render=renderer(one.body, one.type, one.resource_id),
        rows=rows_of(one.resource),
        references=_local_references(one),
        expected_version=one.expected_version,
        blob_sha256=one.blob.sha256 if one.blob else None,
        blob_size=one.blob.size if one.blob else None,
    )


def _local_references(one: Incoming) -> list[tuple[str, int, str]]:
    """The references that this server must be able to follow. Raises for those that nobody can."""
    local: list[tuple[str, int, str]] = []
    faults: list[Issue] = []
    for where, reference in literal_references(one.resource):
        if reference.startswith("urn:uuid:") and one.full_url:
            faults.append(Issue("error", "not-found", "No entry of the Bundle has this fullUrl", where))
        elif "?" in reference:
            faults.append(Issue("error", "not-supported", "Conditional references are not supported", where))
        elif target := is_local(reference):
            local.append((where, TYPE_NUMBER[target[0]], target[1]))
    if faults:
        raise DanglingReference(issues=faults)
    return local


def name_of(written: Written) -> str:
    """`Type/id`."""
    return f"{TYPE_NAME[written.type]}/{written.id}"


def condition_of(value: str) -> tuple[tuple[str, str], ...]:
    """The pairs of an If-None-Exist header or `ifNoneExist` element. Raises BadSyntax when it is empty."""
    pairs = tuple(parse_qsl(value.partition("?")[2] or value, keep_blank_values=True))
    if not pairs or any("\0" in name or "\0" in text for name, text in pairs):
        raise BadSyntax("If-None-Exist is empty or holds a NUL character")
    return pairs
