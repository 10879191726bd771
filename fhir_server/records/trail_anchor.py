"""The newest seal of the trail, time-stamped by an authority of somebody else: what was sealed before, stays so.

RFC 3161; docs/adr/0006 says what this proves. The token is noted in the trail, so the next seal covers it.
"""

import asyncio
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

import structlog

from fhir_server.caller import service
from fhir_server.ports import Stamped, TimeStamper
from fhir_server.records import audit
from fhir_server.records.write import new_id
from fhir_server.scans.seal import verify_stamp
from fhir_server.store.access_log import insert_accesses
from fhir_server.store.audit_chain import Seal
from fhir_server.store.audit_seals import Anchor, AuditSeals, hold, keep_anchor

log = structlog.get_logger(__name__)

CALLER: Final = service("audit")
NOTE: Final = "$anchor?"
"""How the row of the trail begins that says: this seal has this token."""
AGAIN: Final = 300.0
"""Seconds until an authority that gave no token is asked again."""


@dataclass(frozen=True, slots=True)
class Anchoring:
    """Who stamps (None: nobody), whom we trust to, and how often."""

    seals: AuditSeals
    stamper: TimeStamper | None
    trust: Sequence[bytes]
    every: timedelta

    async def anchor_forever(self) -> None:
        """Stamp the newest seal whenever it is time; where nobody does, say so once and leave."""
        if self.stamper is None:
            log.info("the audit trail is sealed but not time-stamped: DMST_FHIR_AUDIT_TSA names no authority")
            return
        while True:
            try:
                await self.anchor_when_due()
            except Exception:
                log.exception("the audit trail could not be time-stamped, trying again")
            await asyncio.sleep(min(AGAIN, self.every.total_seconds()))

    async def anchor_when_due(self) -> Anchor | None:
        """A new anchor where the last is old enough and something was sealed since; one process of all does it."""
        last = await self.seals.newest_anchor()
        if last and datetime.now(UTC) - last.stamped < self.every:
            return None
        async with self.seals.database.transaction() as connection:
            if not await hold(connection, "anchor"):
                return None
            newest = await self.seals.newest()
            last = await self.seals.newest_anchor()
            if newest is None or (last and last.seal >= newest.number):
                return None
            anchor = await self._stamped(newest)
            if anchor is None:
                return None
            await keep_anchor(connection, anchor)
            token = hashlib.sha256(anchor.token).hexdigest()
            note = f"{NOTE}seal={anchor.seal}&token={token}"
            await insert_accesses(connection, [audit.access(CALLER, "operation", new_id(), query=note)])
        # Outside the database too, where the log is kept elsewhere: `dmst-fhir audit verify --holds`.
        log.info("audit trail time-stamped", seal=anchor.seal, digest=anchor.digest.hex(), authority=anchor.authority)
        return anchor

    async def _stamped(self, seal: Seal) -> Anchor | None:
        assert self.stamper
        answer = await self.stamper.stamp(seal.digest)
        if not isinstance(answer, Stamped):
            log.warning("no time stamp for the audit trail", reason=answer.reason, detail=answer.detail)
            return None
        stamp = await asyncio.to_thread(verify_stamp, seal.digest, answer.token, self.trust, "this seal")
        if stamp.problems or stamp.moment is None:
            log.warning("a time stamp for the audit trail does not hold", problems=stamp.problems)
            return None
        return Anchor(seal.number, seal.digest, stamp.moment, stamp.authority or "", answer.token)
