"""$export of everything, of all patients, of a group: the kick-off request.

https://hl7.org/fhir/uv/bulkdata/export.html#bulk-data-kick-off-request - what is asked is understood and its rights are
checked here, at once; the work is a job.
"""

import re
from collections.abc import Iterable, Sequence
from typing import Any, Final

import orjson

from fhir_server.caller import Caller
from fhir_server.outcomes import BadParameter, Forbidden, Issue
from fhir_server.r4 import search_query
from fhir_server.r4.compartments import types_in
from fhir_server.r4.dates import is_instant
from fhir_server.r4.include import NAMES as INCLUDES
from fhir_server.r4.references import is_local
from fhir_server.r4.resource_types import RESOURCE_TYPES, TYPE_NUMBER
from fhir_server.records.audit import query_for_trail
from fhir_server.records.export_run import Wanted
from fhir_server.rest.bulk import accepted, must_be_asynchronous
from fhir_server.rest.http import Answer, Exchange
from fhir_server.rest.operations.operation import Arguments, Operation, arguments
from fhir_server.rest.service import Service

FORMATS: Final = frozenset({"application/fhir+ndjson", "application/ndjson", "ndjson"})
NOT_EXPORTED: Final = frozenset({"AuditEvent", "OperationOutcome", "Parameters"})
"""The access trail is no resource of the store; the others are containers of an exchange."""
NOT_SUPPORTED: Final = ("_elements", "includeAssociatedData", "organizeOutputBy", "allowPartialManifests")
RESULT_PARAMETERS: Final = INCLUDES | {"_count", "_sort", "_total", "_summary", "_elements", "_cursor", "_explain"}
MOST_PATIENTS: Final = 50_000
_NEXT_FILTER = re.compile(r",(?=[A-Z][A-Za-z]+\?)")


async def export(exchange: Exchange, service: Service) -> Answer:
    """GET or POST `$export`, `Patient/$export`, `Group/id/$export`: 202 and where to ask for the status."""
    must_be_asynchronous(exchange)
    caller = exchange.known_caller()
    lenient = exchange.prefers("handling") == "lenient"
    given = await arguments(
        exchange, service, "_outputFormat", "_since", "_until", "_type", "_typeFilter", "patient", *NOT_SUPPORTED,
        lenient=lenient,
    )  # fmt: skip
    reader = _Reader(exchange, caller, given)
    wanted = reader.wanted(f"{service.base}/{'/'.join(exchange.segments)}{_query_of(exchange)}")
    if reader.faults and not (lenient and all(issue.code == "not-supported" for issue in reader.faults)):
        raise BadParameter(issues=reader.faults)
    patients = await _patients(exchange, service, reader.patients)
    wanted = Wanted(wanted.level, wanted.types, wanted.shown, wanted.since, wanted.until, patients, wanted.filters)
    job_id = await service.bulk.ask_export(caller, wanted, exchange.request_id, _for_trail(exchange, wanted))
    return accepted(service, job_id, reader.faults)


def _query_of(exchange: Exchange) -> str:
    return "?" + exchange.query.decode("latin-1") if exchange.query else ""


class _Reader:
    """The parameters of one request, and everything that is wrong with them."""

    def __init__(self, exchange: Exchange, caller: Caller, given: Arguments) -> None:
        self._caller = caller
        self._given = given
        self.level = {1: "system", 2: "patient", 3: "group"}[len(exchange.segments)]
        self.faults: list[Issue] = []
        self.patients: list[str] | None = None
        self._posted = exchange.method == "POST"

    def wanted(self, shown: str) -> Wanted:
        """Raises Forbidden for a type that is named and that the caller may not read and search."""
        for name in NOT_SUPPORTED:
            if name in self._given:
                self._fault("not-supported", f"{name} is not supported", name)
        for text in self._texts("_outputFormat"):
            if text.replace(" ", "+") not in FORMATS:
                self._fault("not-supported", f"The output is {', '.join(sorted(FORMATS))}", "_outputFormat")
        self._read_patients()
        types = self._types()
        filters = self._filters(types)
        return Wanted(
            self.level, types, shown, self._instant("_since"), self._instant("_until"), filters=tuple(filters)
        )

    def _fault(self, code: str, text: str, name: str) -> None:
        self.faults.append(Issue("error", code, text, name))

    def _texts(self, name: str) -> list[str]:
        values = self._given.get(name, [])
        texts = [value for value in values if isinstance(value, str)]
        if len(texts) < len(values):
            self._fault("invalid", f"{name} is a text", name)
        return texts

    def _instant(self, name: str) -> str | None:
        texts = self._texts(name)
        if len(texts) > 1:
            self._fault("invalid", f"{name} stands once", name)
        for text in texts:
            moment = text.replace(" ", "+")
            if is_instant(moment):
                return moment
            self._fault("invalid", f"{name} is an instant such as 2026-01-31T08:00:00Z", name)
        return None

    def _offered(self) -> list[str]:
        within = {"Patient", *types_in("Patient")} if self.level != "system" else set(RESOURCE_TYPES)
        return [name for name in RESOURCE_TYPES if name in within - NOT_EXPORTED]

    def _types(self) -> tuple[str, ...]:
        offered = self._offered()
        named = [name for text in self._texts("_type") for name in text.split(",") if name]
        if not named:
            readable = tuple(name for name in offered if self._caller.may("r", name) and self._caller.may("s", name))
            if not readable:
                raise Forbidden("No scope of this client allows 'r' and 's' on anything that could be exported here")
            return readable
        known = list(dict.fromkeys(name for name in named if name in offered))
        for name in dict.fromkeys(named):
            if name not in TYPE_NUMBER:
                self._fault("not-supported", f"{name[:100]} is no resource type of R4", "_type")
            elif name not in offered:
                self._fault("not-supported", f"{name} is not exported here", "_type")
        for name in known:
            self._caller.must("r", name)
            self._caller.must("s", name)
        if not known and not any(issue.expression == "_type" and issue.code == "invalid" for issue in self.faults):
            self._fault("invalid", "_type names nothing that is exported here", "_type")
        return tuple(known)

    def _filters(self, types: Sequence[str]) -> list[tuple[str, tuple[tuple[str, str], ...]]]:
        """`Type?query`, each an ordinary search; those of one type are alternatives."""
        found: list[tuple[str, tuple[tuple[str, str], ...]]] = []
        for text in (one for value in self._texts("_typeFilter") for one in _NEXT_FILTER.split(value)):
            name, mark, query = text.partition("?")
            if not mark or name not in types:
                self._fault("invalid", "_typeFilter is Type?query, of a type that is exported", "_typeFilter")
                continue
            try:
                found.append((name, self._pairs(name, query)))
            except BadParameter as fault:
                self.faults += [Issue("error", one.code, one.diagnostics, "_typeFilter") for one in fault.issues]
        return found

    def _pairs(self, name: str, query: str) -> tuple[tuple[str, str], ...]:
        from fhir_server.rest.http import decode_pairs

        pairs = tuple(decode_pairs(query.encode("ascii", "xmlcharrefreplace")))
        if any(key.partition(":")[0] in RESULT_PARAMETERS for key, _ in pairs):
            raise BadParameter("_typeFilter holds criteria only: no _count, _sort, _include and the like")
        parsed = search_query.parse(name, pairs)
        if not parsed.criteria:
            raise BadParameter("_typeFilter needs a criterion")
        self._caller.must_search(parsed.asked_types)
        return pairs

    def _read_patients(self) -> None:
        values = self._given.get("patient", [])
        if not values:
            return
        if self.level == "system" or not self._posted:
            self._fault("invalid", "patient goes with POST to Patient/$export or Group/id/$export", "patient")
            return
        self.patients = []
        for value in values:
            reference = value.get("reference", "") if isinstance(value, dict) else ""
            target = is_local(reference)
            if target and target[0] == "Patient":
                self.patients.append(target[1])
            else:
                self._fault("invalid", "patient is a Reference to Patient/id of this server", "patient")


async def _patients(exchange: Exchange, service: Service, asked: Sequence[str] | None) -> tuple[str, ...] | None:
    """Whose records are wanted; None means everybody's. Raises Forbidden, NotFound, BadParameter."""
    if len(exchange.segments) == 1:
        return None
    caller = exchange.known_caller()
    caller.must("r", "Patient")
    if len(exchange.segments) == 2:
        return None if asked is None else await _existing(caller, service, asked)
    group = await service.archive.read(caller, "Group", exchange.segments[1], exchange.request_id)
    members = _members(orjson.loads(group.doc or b"{}"), service.base)
    if asked is not None:
        if not members.issuperset(asked):
            raise BadParameter("A patient that is asked for is not in the group", expression="patient")
        members = frozenset(asked)
    if len(members) > MOST_PATIENTS:
        raise BadParameter(f"A group of more than {MOST_PATIENTS} patients is not exported")
    return tuple(sorted(members))


async def _existing(caller: Caller, service: Service, asked: Iterable[str]) -> tuple[str, ...]:
    wanted = tuple(sorted(set(asked)))
    number = TYPE_NUMBER["Patient"]
    sight = caller.sight("r")
    read = await service.archive.resources.read_many([(number, one) for one in wanted])
    there = {row.id for row in read if row.doc and row.is_in(sight)}
    if missing := [one for one in wanted if one not in there]:
        raise BadParameter(f"Patient/{missing[0]} does not exist on this server", expression="patient")
    return wanted


def _members(group: dict[str, Any], base: str) -> frozenset[str]:
    """The patients of a Group that are members now; groups within it are not followed."""
    found: set[str] = set()
    for member in group.get("member", []):
        reference = member.get("entity", {}).get("reference", "").removeprefix(base + "/")
        target = is_local(reference)
        if target and target[0] == "Patient" and not member.get("inactive", False):
            found.add(target[1])
    return frozenset(found)


def _for_trail(exchange: Exchange, wanted: Wanted) -> str:
    """The request as the trail may keep it: criteria without what may say who somebody is."""
    filters = [f"{name}?{query_for_trail([name], pairs)}" for name, pairs in wanted.filters]
    return "/".join(exchange.segments) + " " + " ".join([",".join(wanted.types), *filters])


_DEFINITIONS: Final = "http://hl7.org/fhir/uv/bulkdata/OperationDefinition/"
EXPORT = Operation("$export", _DEFINITIONS + "export", export, frozenset({"system"}))
PATIENT_EXPORT = Operation(
    "$export", _DEFINITIONS + "patient-export", export, frozenset({"type"}), frozenset({"Patient"})
)
GROUP_EXPORT = Operation(
    "$export", _DEFINITIONS + "group-export", export, frozenset({"instance"}), frozenset({"Group"})
)
