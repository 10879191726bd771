"""Lines of NDJSON made ready to be written: parsed, validated, indexed and packed, in a process of its own.

https://hl7.org/fhir/R4/nd-json.html - nothing is asked of the database here: what is there already, and what references
lead to, is known to the process that writes, which sends a chunk back with what is special about its lines.
"""

import gc
import os
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import pybase64

from fhir_server.caller import Caller
from fhir_server.outcomes import BadParameter, BadSyntax, BusinessRule, Failure, Forbidden, TooLarge
from fhir_server.r4.references import is_local, literal_references, literal_targets
from fhir_server.r4.resource_types import TYPE_NAME, TYPE_NUMBER
from fhir_server.r4.search_parameters import REGISTRY, Known
from fhir_server.r4.subjects import patient_in
from fhir_server.records.render import Rendering, renderer, without_member
from fhir_server.records.validation import parse_json, validate
from fhir_server.records.withdrawal import Concerned
from fhir_server.records.write import new_id, refuse_what_the_law_does_not_give
from fhir_server.store.author import may_not_write
from fhir_server.store.bulk_load import Apart, Deferred, Forward, Packer, Prepared, Refusal, Special, Stamp, new_stamp
from fhir_server.store.commit import Write
from fhir_server.store.labels import labels_of
from fhir_server.store.search_index import rows_of
from mappings.access_facts import access_facts

BYTES_PER_CHUNK: Final = 8 * 1024 * 1024
NOT_IMPORTED: Final = frozenset({"AuditEvent", "OperationOutcome", "Parameters"})
"""What this server writes by itself, and containers of an exchange."""


@dataclass(frozen=True, slots=True)
class Line:
    """A line of a file: its number from 1, and its bytes."""

    number: int
    start: int
    length: int


@dataclass(frozen=True, slots=True)
class Chunk:
    """Part of a file: `length` bytes from `start` with `count` lines, numbered from `first`; or some `lines` of it."""

    path: Path
    count: int
    start: int = 0
    length: int = 0
    first: int = 1
    lines: tuple[Line, ...] = ()


@dataclass(frozen=True, slots=True)
class Terms:
    """What holds for every line of a file: its type where one was named, who writes, the longest line; `closed` are the
    bits of what he may not write, by the table of roles that is in force.
    """

    type: str | None
    caller: Caller
    longest: int
    closed: int = 0


@dataclass(frozen=True, slots=True)
class Task:
    """What one process is asked to do with a chunk: `known` are the search parameters that are in use."""

    chunk: Chunk
    terms: Terms
    rids: Sequence[int]
    special: Special
    known: Known


def begin(owner: int) -> None:
    """At the start of a process of the pool: end when process `owner` is gone, which (-9) may tell nobody.

    Parsed lines hold no cycles and live for one chunk: the collector would look through them a hundred times in vain.
    """
    gc.freeze()
    gc.set_threshold(500_000)

    def watch() -> None:
        while True:
            time.sleep(1)
            try:
                os.kill(owner, 0)
            except ProcessLookupError:
                os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def prepare(task: Task) -> Prepared:
    """The lines of a chunk, ready to be written; those that are invalid become refusals."""
    REGISTRY.use(task.known.additions, content=task.known.content)
    work = _Work(task.terms, task.rids, task.special)
    work.prepared.known = task.known.version
    for line, body in _read(task.chunk, max(BYTES_PER_CHUNK, task.terms.longest + 2)):
        work.prepared.lines += 1
        try:
            work.take(line, body)
        except Failure as failure:
            issues = tuple((i.severity, i.code, i.diagnostics, i.expression) for i in failure.issues)
            work.prepared.refusals.append(Refusal(line.number, issues))
    return work.done()


def _read(chunk: Chunk, most: int) -> Iterator[tuple[Line, bytes]]:
    """The lines, of a chunk that is one endless line only so much that it is seen to be too long."""
    with chunk.path.open("rb") as file:
        if chunk.lines:
            for line in chunk.lines:
                file.seek(line.start)
                yield line, file.read(line.length)
            return
        file.seek(chunk.start)
        at = chunk.start
        content = file.read(min(chunk.length, most))
        for number, body in enumerate(content.removesuffix(b"\n").split(b"\n"), start=chunk.first):
            yield Line(number, at, len(body)), body
            at += len(body) + 1


class _Work:
    """One chunk in the making."""

    def __init__(self, terms: Terms, rids: Sequence[int], special: Special) -> None:
        stamp: Stamp = new_stamp()
        self.prepared = Prepared(special=special, stamp=stamp)
        self._terms = terms
        self._special = special
        self._stamp = stamp
        self._packer = Packer(rids, stamp)

    def take(self, line: Line, body: bytes) -> None:
        """One line. Raises the Failure that says why it cannot be taken in."""
        body = body.strip(b"\r\n\t ")
        if not body:
            return
        resource, rendered = self._resource(body)
        identity = resource.get("id") or resource.setdefault("id", new_id())
        number = TYPE_NUMBER[resource["resourceType"]]
        if line.number in self._special.refused or access_facts(resource).guard & self._terms.closed:
            raise may_not_write(f"{resource['resourceType']}/{identity}")
        self._refer(line, resource)
        twins = self.prepared.identities.setdefault((number, identity), [])
        twins.append(line.number)
        if line.number in self._special.left_out:
            self._leave_out(line, number, identity, resource)
            return
        patient = identity if resource["resourceType"] == "Patient" else patient_in(resource)
        if patient:
            self.prepared.patients.add(patient)
        self._keep(line, number, identity, resource, rendered, is_twin=len(twins) > 1)

    def _resource(self, body: bytes) -> tuple[dict[str, Any], bytes]:
        terms = self._terms
        if len(body) > terms.longest:
            raise TooLarge(f"The line is longer than {terms.longest // (1024 * 1024)} MB")
        resource = parse_json(body)
        kind = resource["resourceType"]
        if terms.type is not None and kind != terms.type:
            raise BadParameter(f"This input is of {terms.type}", expression="resourceType")
        if kind in NOT_IMPORTED:
            raise BusinessRule("Resources of this type are not imported", expression="resourceType")
        validate(resource)
        if not (terms.caller.may_wholly("c", kind) and terms.caller.may_wholly("u", kind)):
            raise Forbidden(f"No scope of this client allows 'c' and 'u' on every {kind}")
        refuse_what_the_law_does_not_give([(resource, None)])
        return resource, body

    def _refer(self, line: Line, resource: dict[str, Any]) -> None:
        """Note the references that this server must be able to follow. Raises BadSyntax for those that nobody can."""
        targets: set[tuple[int, str]] = set()
        for reference in literal_targets(resource):
            if target := is_local(reference):
                targets.add((TYPE_NUMBER[target[0]], target[1]))
            elif "?" in reference and ":" not in reference:
                raise BadSyntax("Conditional references are not supported", expression=resource["resourceType"])
        for target in targets:
            self.prepared.references.setdefault(target, []).append(line.number)

    def _leave_out(self, line: Line, number: int, identity: str, resource: dict[str, Any]) -> None:
        """A line that waits, and for what."""
        self.prepared.left_out.append(Deferred(line.number, line.start, line.length, number, identity))
        for place, reference in literal_references(resource):
            if target := is_local(reference):
                self.prepared.forwards.append(Forward(line.number, place, TYPE_NUMBER[target[0]], target[1]))

    def _keep(
        self, line: Line, number: int, identity: str, resource: dict[str, Any], body: bytes, *, is_twin: bool
    ) -> None:
        data = resource.pop("data", None) if TYPE_NAME[number] == "Binary" else None
        if data is not None:
            body = without_member(body, "data")
            self.prepared.blobs[line.number] = pybase64.b64decode(data, validate=True)
        concerned = Concerned([(identity, resource)])
        self.prepared.withheld += concerned.documents
        self.prepared.consenting += concerned.patients
        rendering = renderer(body, TYPE_NAME[number], identity)
        rows = rows_of(resource)
        if data is not None or is_twin or line.number in self._special.apart:
            self.prepared.apart.append(Apart(line.number, Write(number, identity, "either", rendering, rows)))
            return
        doc = self._stamped(rendering)
        self.prepared.labels.update(labels_of(doc))
        self._packer.add(number, identity, doc, rows)

    def _stamped(self, rendering: Rendering) -> bytes:
        """The first version, its moment left open."""
        return b'%s1","lastUpdated":"%s"%s' % (rendering.head, self._stamp.text, rendering.tail)

    def done(self) -> Prepared:
        """The chunk, with what is special about its lines as they were prepared."""
        prepared = self.prepared
        packer = self._packer
        prepared.copies, prepared.others, prepared.count = packer.copies(), packer.others, packer.count
        apart = frozenset(one.line for one in prepared.apart)
        prepared.special = replace(self._special, apart=apart)
        return prepared
