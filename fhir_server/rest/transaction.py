"""transaction: https://hl7.org/fhir/R4/http.html#transaction - all entries or none, answered in their order.

It takes POST (with ifNoneExist), PUT, PATCH and DELETE, by id or by criteria, and GET, which sees what the others wrote
and, failing, undoes it. IHE ITI-65 Provide Document Bundle arrives here.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import orjson

from fhir_server.outcomes import Failure, Forbidden, InvalidResource, Issue, TooCostly, VersionConflict
from fhir_server.r4.resource_types import TYPE_NUMBER
from fhir_server.records.render import instant
from fhir_server.records.write import Alongside, Incoming, Outcome
from fhir_server.rest.batch import Budget, answered
from fhir_server.rest.create import done, may_be_shown
from fhir_server.rest.document_sharing import Provided, provided
from fhir_server.rest.http import Answer, Exchange, outcome, preferred_return
from fhir_server.rest.patch import ATTEMPTS
from fhir_server.rest.service import Service
from fhir_server.rest.transaction_entry import Wish, wish_of
from fhir_server.store.commit import Written
from fhir_server.store.database import Connection
from fhir_server.store.resources import Key, Stored

MOST_READS: Final = 100  # they are answered while the locks of the writes are held


async def transaction(
    exchange: Exchange, service: Service, bundle: Mapping[str, Any], bodies: Sequence[bytes]
) -> Answer:
    """`bodies` are the resources of the entries as received. Raises the Failure of the entry that cannot be done."""
    for attempt in range(1, ATTEMPTS + 1):
        wishes = await _wishes(exchange, service, bundle.get("entry", []), bodies)
        shared = await provided(exchange, service, bundle, [wish.incoming for wish in wishes if wish.incoming])
        try:
            return await _performed(exchange, service, wishes, shared)
        except VersionConflict:
            if attempt == ATTEMPTS or not (shared.supersedes or any(wish.again for wish in wishes)):
                raise
    raise AssertionError("unreachable")


async def _wishes(
    exchange: Exchange, service: Service, entries: Sequence[Mapping[str, Any]], bodies: Sequence[bytes]
) -> list[Wish]:
    """What each entry asks for. Raises with every fault of every entry at once, or Forbidden."""
    wishes: list[Wish] = []
    faults: list[Failure] = []
    for number, (entry, body) in enumerate(zip(entries, bodies, strict=True)):
        where = f"Bundle.entry[{number}]"
        try:
            wishes.append(await wish_of(exchange, service, entry, body, where))
        except Failure as failure:
            faults.append(failure.within(where))
            if isinstance(failure, Forbidden):
                raise faults[-1] from None
    if faults:
        kind = type(faults[0]) if len({fault.status for fault in faults}) == 1 else InvalidResource
        raise kind(issues=[issue for fault in faults for issue in fault.issues])
    if sum(wish.read is not None for wish in wishes) > MOST_READS:
        raise TooCostly(f"A transaction reads at most {MOST_READS} times: read in a batch")
    return wishes


async def _performed(exchange: Exchange, service: Service, wishes: Sequence[Wish], shared: Provided) -> Answer:
    reading = _Reading(service, [wish for wish in wishes if wish.read])
    outcomes = await service.door.write(
        exchange.known_caller(),
        shared.incoming,
        interaction="transaction",
        request_id=exchange.request_id,
        alongside=shared.alongside or reading.alongside,  # a Provide Document Bundle reads nothing
    )
    told = _Told(exchange, service, await _found(service, shared.incoming, outcomes), shared.warnings)
    written, reads = enumerate(outcomes), iter(reading.answers)
    answers = [told.answer(*next(written)) if wish.incoming else next(reads) for wish in wishes]
    head = b'{"resourceType":"Bundle","type":"transaction-response"'
    _, echo = preferred_return(exchange)
    return Answer(200, head + (b',"entry":[' + b",".join(answers) + b"]}" if answers else b"}"), echo)


async def _found(service: Service, incoming: Sequence[Incoming], outcomes: Sequence[Outcome]) -> dict[Key, Stored]:
    """What conditions found there already."""
    pairs = zip(incoming, outcomes, strict=True)
    keys = {(TYPE_NUMBER[o.type], o.id) for one, o in pairs if o.written is None and one.method == "create"}
    stored = await service.archive.resources.read_many(sorted(keys)) if keys else []
    return {(one.type, one.id): one for one in stored}


class _Reading:
    """The GET entries, answered inside the transaction once everything is written in it."""

    def __init__(self, service: Service, wishes: Sequence[Wish]) -> None:
        self._service = service
        self._wishes = wishes
        self.answers: list[bytes] = []

    @property
    def alongside(self) -> Alongside | None:
        return self._read if self._wishes else None

    async def _read(self, connection: Connection, _written: Sequence[Written]) -> None:
        from fhir_server.rest.routes import perform  # the table lists the interaction that brought us here

        self.answers = []
        budget = Budget(self._service.largest_body)
        async with self._service.archive.within(connection) as archive:
            here = replace(self._service, archive=archive)
            for wish in self._wishes:
                assert wish.read
                try:
                    answer = await perform(wish.read, here)
                    self.answers.append(await answered(wish.read, answer, budget))
                except Failure as failure:
                    raise failure.within(wish.where) from None


@dataclass(frozen=True, slots=True)
class _Told:
    """How the writing entries of one transaction are answered."""

    exchange: Exchange
    service: Service
    found: Mapping[Key, Stored]
    warnings: Mapping[int, Sequence[Issue]]

    def answer(self, number: int, result: Outcome) -> bytes:
        """What became of the entry of this number among those that write."""
        asked, _ = preferred_return(self.exchange)
        written: Written | Stored | None = result.written or self.found.get((TYPE_NUMBER[result.type], result.id))
        if written is None or written.doc is None:
            etag = {"etag": f'W/"{written.version}"'} if written else {}
            return orjson.dumps({"response": {"status": "204 No Content", **etag}})
        name = f"{result.type}/{result.id}"
        response: dict[str, Any] = {
            "status": "201 Created" if result.written and result.written.created else "200 OK",
            "location": f"{self.service.base}/{name}/_history/{written.version}",
            "etag": f'W/"{written.version}"',
            "lastModified": instant(written.updated),
        }
        if found := self.warnings.get(number):
            response["outcome"] = outcome(found)
        elif asked == "OperationOutcome":
            response["outcome"] = done(f"{name} is at version {written.version}")
        body = orjson.dumps({"fullUrl": f"{self.service.base}/{name}", "response": response})
        if asked != "representation" or not may_be_shown(self.exchange.known_caller(), result.type, written.doc):
            return body
        return body[:-1] + b',"resource":' + written.doc + b"}"
