"""Where a person stands in the service: delegated, of which centres, whose record is his, what he declared.

R4624-45-5, R4624-45-8 C. trav. What is recorded of a person is asked for every ten seconds at most, as tokens are.
"""

import time
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import replace
from typing import Final, NamedTuple

from fhir_server import roles
from fhir_server.caller import Caller, Standing
from fhir_server.consent.decide import OutOfTeam
from fhir_server.sight import own_hash
from fhir_server.store.persons import Persons

SECONDS: Final = 10.0
MOST_KEPT: Final = 10_000


class Claims(NamedTuple):
    """What a provider says of a person beside his role: an identifier (system, value) of him as a worker of the
    register, and the codes of his centres.
    """

    worker: tuple[str, str] | None = None
    centres: tuple[str, ...] = ()


NOTHING_CLAIMED: Final = Claims()


class Known(NamedTuple):
    """A caller with his standing, and until when that may be taken for true (as `time.time`)."""

    caller: Caller
    until: float


class Standings:
    """`mode` is how the service takes accesses out of the team; `everybodys` are organisations in whose charge a worker
    is in everybody's (the service itself).
    """

    def __init__(self, persons: Persons, *, mode: OutOfTeam, everybodys: Sequence[str] = (), seconds: float = SECONDS):
        self._persons = persons
        self._mode: OutOfTeam = mode
        self._everybodys = tuple(everybodys)
        self._seconds = seconds
        self._kept: OrderedDict[tuple[str, Caller, Claims], Known] = OrderedDict()

    def forget(self, person: str) -> None:
        """What is recorded of him has changed."""
        for key in [one for one in self._kept if one[0] == person]:
            del self._kept[key]

    async def kept(self, caller: Caller, claims: Claims) -> Known:
        """The same as `now`, of at most ten seconds ago: for who has no token that would be remembered."""
        key = (caller.person, caller, claims)
        known = self._kept.get(key)
        if known is None or known.until <= time.time():
            known = self._kept[key] = await self.now(caller, claims)
            self._kept.move_to_end(key)
            while len(self._kept) > MOST_KEPT:
                self._kept.popitem(last=False)
        return known

    async def now(self, caller: Caller, claims: Claims) -> Known:
        """The caller as he stands. Of roles of which nothing is recorded nothing is asked."""
        until = time.time() + self._seconds
        role = caller.role
        if not (roles.needs_delegation(role) or roles.is_of_a_team(role) or roles.sees_own_record(role)):
            return Known(caller, until)
        recorded = await self._persons.recorded(caller.person)
        if roles.sees_own_record(role):
            return Known(replace(caller, worker=await self._worker(caller, claims, recorded.linked)), until)
        delegated = caller.delegated or (roles.needs_delegation(role) and recorded.delegated)
        standing = Standing()
        if roles.is_of_a_team(role):
            centres = await self._persons.centres_with(sorted({*recorded.centres, *claims.centres}))
            declared = {
                one.patient_id: one.kind for one in sorted(recorded.declared, key=lambda one: one.kind, reverse=True)
            }
            until = min([until, *(one.ends for one in recorded.declared)])
            standing = Standing(
                (*sorted(centres), *self._everybodys) if centres or self._mode != "told" else (),
                self._mode != "told",
                tuple(declared.items()),
                tuple(own_hash(f"Patient/{patient_id}") for patient_id in declared),
            )
        return Known(replace(caller, delegated=delegated, standing=standing), until)

    async def _worker(self, caller: Caller, claims: Claims, linked: Sequence[str]) -> str | None:
        """The one worker that all say he is; None where none, or two, are said."""
        found = {*linked, *([caller.worker] if caller.worker else [])}
        if claims.worker:
            claimed = await self._persons.workers_with(*claims.worker)
            if len(claimed) != 1:
                return None
            found.update(claimed)
        return found.pop() if len(found) == 1 else None
