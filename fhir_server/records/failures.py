"""Refusals that anybody can cause as often as he likes: in the trail, and no flood of it.

IHE ITI-20 (failed logins), R4624-45-5 C. trav. So many of a minute are kept one by one; of the others of that minute
there is one row for each kind, which says how many they were. A process that dies loses the account of one minute.
"""

import asyncio
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final

import structlog

from fhir_server.outcomes import Failure
from fhir_server.store.access_log import AccessLog, AccessRow

MINUTE: Final = 60.0
MOST_KINDS: Final = 1_000
"""Kinds of one minute that have an account of their own: beyond them nobody is named."""
log = structlog.get_logger(__name__)


class Failures:
    """Of one process; `each` are kept one by one in a minute."""

    def __init__(self, accesses: AccessLog, *, each: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._accesses = accesses
        self._each = each
        self._clock = clock
        self._began = clock()
        self._told = 0
        self._more: dict[tuple[str, str, str | None], tuple[int, AccessRow]] = {}

    async def tell(self, row: AccessRow, kind: str) -> None:
        """Keep a row, or count it. Raises nothing: who is refused is refused, kept or not."""
        try:
            if self._clock() - self._began >= MINUTE:
                await self.turn()
            if self._told < self._each:
                self._told += 1
                await self._accesses.append(row)
                return
        except Failure as failure:
            log.warning("refusal not traced", reason=failure.diagnostics)
            return
        key = (row.interaction, kind, row.client_id)
        if key not in self._more and len(self._more) >= MOST_KINDS:
            key = (row.interaction, kind, None)
        count, _ = self._more.get(key, (0, row))
        self._more[key] = (count + 1, row)

    async def turn(self) -> None:
        """A minute is over: its account, then the next."""
        self._began, self._told = self._clock(), 0
        more, self._more = self._more, {}
        await self._accesses.append(*(_account(*key, *told) for key, told in more.items()))

    async def turn_forever(self) -> None:
        """Each minute, and at the end."""
        try:
            while True:
                await asyncio.sleep(MINUTE)
                await self._turn_safely()
        finally:
            await asyncio.shield(self._turn_safely())

    async def _turn_safely(self) -> None:
        try:
            await self.turn()
        except Failure as failure:
            log.warning("account of refusals not traced", reason=failure.diagnostics)


def _account(_interaction: str, kind: str, client_id: str | None, count: int, row: AccessRow) -> AccessRow:
    """One row for many: without what was different about each."""
    return row._replace(
        at=datetime.now(UTC),
        client_id=client_id,
        professional=row.professional if client_id else None,
        role=row.role if client_id else None,
        type=None,
        resource_id=None,
        version=None,
        patient_id=None,
        query=f"repeated={count}&reason={kind}",
    )
