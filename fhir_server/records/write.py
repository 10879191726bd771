"""The one door through which resources are written, whatever they came in by.

Each request becomes one unit of change: validated, its references checked, indexed, traced and kept in one
transaction, with whatever the caller writes beside it (scan lots, deliveries, jobs). Nothing is half there.
"""

import asyncio
import contextlib
import re
import secrets
import time
import uuid
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, Literal

import orjson

from fhir_server.caller import Caller, Permission
from fhir_server.outbox.jobs import Jobs
from fhir_server.outcomes import BadParameter, BusinessRule, DanglingReference, Forbidden, Issue
from fhir_server.ports import Blob
from fhir_server.r4.references import is_local, literal_references
from fhir_server.r4.resource_types import TYPE_NAME, TYPE_NUMBER
from fhir_server.r4.search_criteria import SearchQuery
from fhir_server.r4.subjects import patient_in, patient_in_bytes
from fhir_server.records import audit, consent_proof, search_parameters
from fhir_server.records.conditions import Sought, match, query_of, resolve, sought_in
from fhir_server.records.duplicates import open_cases, replaced_by
from fhir_server.records.links import Links
from fhir_server.records.render import renderer
from fhir_server.records.validation import parse_json, validate
from fhir_server.records.withdrawal import Concerned
from fhir_server.roles import OF_A_WORKER
from fhir_server.store.access_log import AccessRow
from fhir_server.store.author import Author
from fhir_server.store.commit import Commits, Plan, Unit, Write, Written, as_if
from fhir_server.store.database import Connection
from fhir_server.store.resources import Key, read_within
from fhir_server.store.search import condition_lock
from fhir_server.store.search_index import NO_ROWS, rows_of
from mappings.access_facts import OUTSIDE, access_facts
from mappings.consent import refusals

_OURS = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")
Alongside = Callable[[Connection, Sequence[Written]], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Incoming:
    """One resource to write. `body` is its JSON as received, `resource` the same parsed; a deletion has no body.

    `condition` holds the pairs of a query: of If-None-Exist for a create, which then does nothing where it finds
    one; of a conditional update or delete, which is then about the one that it finds. `full_url` is its name inside a
    Bundle, `where` its place there (`Bundle.entry[3]`). `only_new` is If-None-Match: *; `may_create` off refuses an
    update of what never was, `needs_version` a change without `expected_version`.
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
    only_new: bool = False
    may_create: bool = True
    needs_version: bool = False

    @property
    def type(self) -> str:
        return self.resource["resourceType"]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one Incoming; `written` is None where nothing had to be: a create that its condition found there
    already, a deletion of what is not there.
    """

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


def is_ours(resource_id: str) -> bool:
    """Whether `new_id` may have given it."""
    return bool(_OURS.fullmatch(resource_id))


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


AT_ONCE: Final = 50  # resources that are indexed before others get their turn
PERMISSIONS: Final[Mapping[str, Permission]] = {"create": "c", "update": "u", "delete": "d"}


class Door:
    """Writes resources on behalf of a caller."""

    def __init__(self, commits: Commits, jobs: Jobs | None = None) -> None:
        """`jobs` are given to deliveries that have to be decided upon anew; None where nothing is delivered."""
        self._commits = commits
        self._jobs = jobs

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

        Raises Forbidden, DanglingReference, Conflict, VersionConflict, MultipleMatches, NoMatch, Gone, TooCostly,
        MethodNotAllowed, PreconditionRequired, Unavailable, and BusinessRule for a search parameter that cannot be
        indexed; what is about one entry of a Bundle names it.
        """
        for one in incoming:
            _must(caller, one)
        refuse_what_the_law_does_not_give((one.resource, one.where) for one in incoming if one.method != "delete")
        queries = {
            number: query_of(caller, one.type, one.condition, one.where)
            for number, one in enumerate(incoming)
            if one.condition is not None
        }
        sought = sought_in(caller, ((one.resource, one.where) for one in incoming))
        for query in (*queries.values(), *(one.query for one in sought.values())):
            caller.must_search(query.asked_types)  # the answer tells whether anything meets the criteria
        _refuse_twins(incoming)
        attempt = _Attempt(caller, incoming, queries, sought, interaction, request_id, accesses)
        await attempt.prepare()
        if any(one.type == "SearchParameter" for one in incoming):
            alongside = _with_parameters(attempt, alongside)
        if any(one.type in ("Consent", "Binary") for one in incoming):
            alongside = _with_proofs(caller, incoming, alongside)
        if any(one.type == "Patient" and one.method != "delete" and replaced_by(one.resource) for one in incoming):
            alongside = _with_cases(caller, alongside)
        concerned = Concerned((one.resource_id, one.resource) for one in incoming if one.method != "delete")
        if concerned and self._jobs:
            alongside = _with_deliveries(concerned, self._jobs, alongside)
        conditions = [(one.type, one.condition) for one in incoming if one.condition]
        conditions += [(one.type, one.pairs) for one in sought.values()]
        unit = Unit(
            attempt.plan,
            touches=frozenset((TYPE_NUMBER[one.type], one.resource_id) for one in incoming),
            locks=frozenset(condition_lock(*condition) for condition in conditions),
            alongside=alongside,
            author=author_of(caller),
        )
        return attempt.outcomes(await self._commits.submit(unit))


def author_of(caller: Caller) -> Author:
    return Author(caller.sight("r"), caller.closed, caller.recalls, lambda number: caller.may("r", TYPE_NAME[number]))


def _must(caller: Caller, one: Incoming) -> None:
    try:
        caller.must(PERMISSIONS[one.method], one.type)
        if caller.closed & OF_A_WORKER == OF_A_WORKER and not access_facts(one.resource).guard & OUTSIDE:
            # Before anything is looked up: the answer must not tell what is there.
            raise Forbidden("This role writes nothing of a worker (R4624-45-5)")
    except Forbidden as failure:
        raise failure.within(one.where) from None


class _Attempt:
    """One request on its way: what its conditions found, what its links became."""

    def __init__(
        self,
        caller: Caller,
        incoming: Sequence[Incoming],
        queries: Mapping[int, SearchQuery],
        sought: Mapping[str, Sought],
        interaction: str,
        request_id: str,
        accesses: Sequence[AccessRow],
    ) -> None:
        self.caller = caller
        self.incoming = incoming
        self.queries = queries
        self.sought = sought
        self.interaction = interaction
        self.request_id = request_id
        self.accesses = accesses
        self.found: dict[int, str] = {}
        self.absent: set[int] = set()
        self.meant: list[Incoming] = list(incoming)
        self._owners: dict[Key, str | None] = {}
        self._ready: Plan | None = None

    async def prepare(self) -> None:
        """Plan now what can be planned without the database, before a transaction is open."""
        if not self.sought and not any(one.condition or one.method == "delete" for one in self.incoming):
            self._ready = await self._plan_of({})

    async def plan(self, connection: Connection) -> Plan:
        """Called inside the transaction, the locks of the conditions held; called again after a rollback.

        Deletions come first, then creates, then updates, then references (R4 3.1.0.11.2): each sees those before it.
        """
        if self._ready:
            return self._ready
        self.found, self.absent, self.meant, self._owners = {}, set(), list(self.incoming), {}
        await self._settle(connection, "delete", after=())
        await self._look_up(connection)
        await self._settle(connection, "create", after=("delete",))
        await self._settle(connection, "update", after=("delete", "create"))
        _refuse_twins([one for number, one in enumerate(self.meant) if not self.is_settled(number)])
        async with self._after(connection, ("delete", "create", "update"), (one.query for one in self.sought.values())):
            resolved = await resolve(connection, self.sought)
        await self._look_up(connection)
        return await self._plan_of(resolved)

    async def _settle(self, connection: Connection, method: str, *, after: Sequence[str]) -> None:
        """What the criteria of the entries of one method mean. Raises MultipleMatches, BadParameter."""
        mine = {number: query for number, query in self.queries.items() if self.incoming[number].method == method}
        if not mine:
            return
        async with self._after(connection, after, mine.values()):
            for number, query in mine.items():
                one = self.incoming[number]
                resource_id = await match(connection, query, one.where)
                if method == "create" and resource_id:
                    self.found[number] = resource_id
                elif method == "delete" and not resource_id:
                    self.absent.add(number)
                elif method != "create" and resource_id:
                    self.meant[number] = _about(one, resource_id)

    @contextlib.asynccontextmanager
    async def _after(
        self, connection: Connection, methods: Sequence[str], queries: Iterable[SearchQuery]
    ) -> AsyncGenerator[None]:
        """The database as the entries of these methods leave it, where that can matter to the queries."""
        asked = {name for query in queries for name in query.asked_types}
        if not any(one.method in methods and one.type in asked for one in self.incoming):
            yield
            return
        earlier = [one for one in self._linked({}) if one.method in methods]
        async with as_if(connection, [_write_of(one, ()) for one in earlier]):
            yield

    async def _look_up(self, connection: Connection) -> None:
        """What there is of what goes or was found: whose it was, and whether it is there at all."""
        gone = [n for n, one in enumerate(self.meant) if one.method == "delete" and n not in self.absent]
        keys = {n: (TYPE_NUMBER[self.meant[n].type], self.meant[n].resource_id) for n in gone}
        wanted = [*keys.values(), *((TYPE_NUMBER[self.meant[n].type], found) for n, found in self.found.items())]
        if not wanted or self._owners.keys() >= set(wanted):
            return
        there = {(stored.type, stored.id): stored for stored in await read_within(connection, wanted)}
        self.absent |= {n for n, key in keys.items() if key not in there or there[key].deleted}
        self._owners = {
            key: patient_in_bytes(TYPE_NAME[key[0]], key[1], stored.doc or b"") for key, stored in there.items()
        }

    def outcomes(self, written: Iterable[Written]) -> list[Outcome]:
        """What became of each, once it is committed."""
        left = iter(written)
        return [
            Outcome(one.type, self.found.get(number, one.resource_id), None if self.is_settled(number) else next(left))
            for number, one in enumerate(self.meant)
        ]

    def is_settled(self, number: int) -> bool:
        """Nothing is left to write: it is there already, or what should go is not there."""
        return number in self.found or number in self.absent

    def _linked(self, resolved: Mapping[str, str]) -> Iterator[Incoming]:
        """The entries that will be written, with the links among them and the conditional references resolved."""
        names = {
            one.full_url: f"{one.type}/{self.found.get(number, one.resource_id)}"
            for number, one in enumerate(self.meant)
            if one.full_url
        }
        links = Links(names, resolved)
        for number, one in enumerate(self.meant):
            if not self.is_settled(number):
                body = links.in_body(one.body, one.full_url)
                yield one if body == one.body else replace(one, body=body, resource=orjson.loads(body))

    async def _plan_of(self, resolved: Mapping[str, str]) -> Plan:
        writes: list[Write] = []
        accesses: list[AccessRow] = [*self.accesses]
        for one in self._linked(resolved):
            if len(writes) % AT_ONCE == AT_ONCE - 1:
                await asyncio.sleep(0)
            write = _write_of(one, _local_references(one))
            bound = self.caller.bound(PERMISSIONS[one.method], one.type)
            writes.append(replace(write, bound=bound) if bound else write)
            accesses.append(self._access(one.type, one.resource_id, self._owner_of(one)))
        for number, resource_id in self.found.items():  # nothing is written, and the client learns that it is there
            resource_type = self.incoming[number].type
            owner = self._owners.get((TYPE_NUMBER[resource_type], resource_id))
            accesses.append(self._access(resource_type, resource_id, owner))
        for number in sorted(self.absent):
            one = self.incoming[number]
            accesses.append(self._access(one.type, None if one.condition else one.resource_id, None))
        return Plan(writes, accesses)

    def _access(self, resource_type: str, resource_id: str | None, patient_id: str | None) -> AccessRow:
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
        return one.resource_id if one.type == "Patient" else patient_in(one.resource)


def _with_parameters(attempt: _Attempt, alongside: Alongside | None) -> Alongside:
    """What is written beside the resources, with what their SearchParameters change. Raises BusinessRule."""
    caller = attempt.caller
    wanted = {
        number: search_parameters.asked_by(caller, one.resource) if one.method != "delete" else None
        for number, one in enumerate(attempt.incoming)
        if one.type == "SearchParameter"
    }

    async def both(connection: Connection, written: Sequence[Written]) -> None:
        for number, definition in wanted.items():
            if not attempt.is_settled(number):
                await search_parameters.put_in_use(connection, caller, attempt.meant[number].resource_id, definition)
        if alongside:
            await alongside(connection, written)

    return both


def _with_deliveries(concerned: Concerned, jobs: Jobs, alongside: Alongside | None) -> Alongside:
    async def both(connection: Connection, written: Sequence[Written]) -> None:
        await concerned.ask_again(connection, jobs)
        if alongside:
            await alongside(connection, written)

    return both


def _with_proofs(caller: Caller, incoming: Sequence[Incoming], alongside: Alongside | None) -> Alongside | None:
    """Consents have proofs of their worker, and Binaries that prove one are not deleted."""
    consents = any(one.type == "Consent" and one.method != "delete" for one in incoming)
    gone = any(one.type == "Binary" and one.method == "delete" for one in incoming)
    if not consents and not gone:
        return alongside

    async def both(connection: Connection, written: Sequence[Written]) -> None:
        await consent_proof.check(connection, caller, written)
        await consent_proof.keep_proofs(
            connection, [one.id for one in written if one.type == TYPE_NUMBER["Binary"] and one.doc is None]
        )
        if alongside:
            await alongside(connection, written)

    return both


def _with_cases(caller: Caller, alongside: Alongside | None) -> Alongside:
    """Patients that are said to be replaced by others are looked at by a person."""

    async def both(connection: Connection, written: Sequence[Written]) -> None:
        await open_cases(connection, caller, written)
        if alongside:
            await alongside(connection, written)

    return both


def refuse_what_the_law_does_not_give(resources: Iterable[tuple[Mapping[str, Any], str | None]]) -> None:
    """Raises BusinessRule for a Consent that exercises no right of a worker (R4624-45-6, -8), with the article.

    `resources` are those to be written, each with its place in a Bundle.
    """
    faults = [
        issue
        for resource, where in resources
        if resource["resourceType"] == "Consent"
        for place, text in refusals(resource)
        for issue in BusinessRule(text, expression=place).within(where).issues
    ]
    if faults:
        raise BusinessRule(issues=faults)


def _refuse_twins(incoming: Sequence[Incoming]) -> None:
    """Two entries for one identity would overwrite each other in silence (R4 3.1.0.11.2)."""
    seen: dict[object, str] = {}
    faults: list[Issue] = []
    for number, one in enumerate(incoming):
        keys: list[object] = [(one.type, one.resource_id)]
        if one.condition:
            keys.append((one.type, tuple(sorted(one.condition))))
        if one.full_url:
            keys.append(one.full_url)
        for key in keys:
            if key in seen:
                faults.append(Issue("error", "duplicate", f"The same identity as {seen[key]}", one.where or one.type))
            seen[key] = one.where or f"entry {number}"
    if faults:
        raise BadParameter(issues=faults)


def _about(one: Incoming, resource_id: str) -> Incoming:
    """A conditional update or delete, now that its criteria were asked (R4 3.1.0.4.3, 3.1.0.7.1).

    Raises BadParameter for an update whose body names another id than the match.
    """
    given = one.resource.get("id")
    if one.method == "update" and given not in (None, resource_id):
        place = f"{one.type}.id"
        raise BadParameter("The criteria find another id than that of the body", expression=place).within(one.where)
    if one.method == "delete":
        return replace(one, resource_id=resource_id, resource={**one.resource, "id": resource_id})
    return replace(one, resource_id=resource_id)


def _write_of(one: Incoming, references: Sequence[tuple[str, int, str]]) -> Write:
    if one.method == "delete":
        number = TYPE_NUMBER[one.type]
        version = one.expected_version
        return Write(number, one.resource_id, "update", None, NO_ROWS, expected_version=version, where=one.where)
    is_given = one.condition is None or one.resource.get("id") is not None  # else the id would be ours
    return Write(
        type=TYPE_NUMBER[one.type],
        id=one.resource_id,
        must="create" if one.method == "create" else "either",
        render=renderer(one.body, one.type, one.resource_id),
        rows=rows_of(one.resource),
        resource=one.resource,
        references=references,
        expected_version=one.expected_version,
        blob_sha256=one.blob.sha256 if one.blob else None,
        blob_size=one.blob.size if one.blob else None,
        only_new=one.only_new,
        may_create=one.may_create or not is_given,
        needs_version=one.needs_version,
        where=one.where,
    )


def _local_references(one: Incoming) -> list[tuple[str, int, str]]:
    """The references that this server must be able to follow. Raises for those that nobody can."""
    local: list[tuple[str, int, str]] = []
    faults: list[Issue] = []
    for where, reference in literal_references(one.resource):
        if reference.startswith("urn:uuid:") and (one.where or one.full_url):
            faults.append(Issue("error", "not-found", "No entry of the Bundle has this fullUrl", where))
        elif "?" in reference:
            faults.append(Issue("error", "not-supported", "Conditional references belong into transactions", where))
        elif target := is_local(reference):
            local.append((where, TYPE_NUMBER[target[0]], target[1]))
    if faults:
        raise DanglingReference(issues=faults).within(one.where)
    return local


def name_of(written: Written) -> str:
    """`Type/id`."""
    return f"{TYPE_NAME[written.type]}/{written.id}"
