"""Is the trail as it was sealed? Every row is read again, every seal made again, every time stamp checked.

docs/adr/0006; memory holds some rows and some seals, however long the trail is.
"""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Final, Literal
from urllib.parse import parse_qs

from fhir_server.records.trail_anchor import CALLER, NOTE
from fhir_server.scans.seal import verify_stamp
from fhir_server.store.audit_chain import GENESIS, Row, Seal, Sealing
from fhir_server.store.audit_seals import AuditSeals

Kind = Literal["altered", "removed", "inserted", "seal-altered", "seals-missing", "chain-broken", "anchor", "cut"]

MOST_TOLD: Final = 1_000
"""Faults that a report tells one by one; beyond it they are counted."""
AT_ONCE: Final = 500
LATE: Final = timedelta(minutes=10)
"""From this age on a row without a seal is a fault of the sealing, or of somebody who took seals away."""
_CLIENT, _QUERY = 5, 12  # where they stand in a row as it is sealed


@dataclass(frozen=True, slots=True)
class Fault:
    """What is not as it was sealed: in which seal, which ids that seal closes, and what it is."""

    kind: Kind
    seal: int
    first_id: int
    last_id: int
    text: str


@dataclass(slots=True)
class Report:
    """What was looked at and what was found; `remarks` say what could not be proven."""

    seals: int = 0
    rows: int = 0
    faults: list[Fault] = field(default_factory=list)
    faulty: int = 0
    remarks: list[str] = field(default_factory=list)
    newest: Seal | None = None
    unsealed: int = 0
    unsealed_since: datetime | None = None
    anchors: int = 0
    anchored: int | None = None
    """The newest seal that has a time stamp which holds."""
    anchored_at: datetime | None = None

    unproven: bool = False
    """Something that should be sealed, stamped or checked by now is not."""

    def fault(self, kind: Kind, seal: int, first_id: int, last_id: int, text: str) -> None:
        self.faulty += 1
        if len(self.faults) < MOST_TOLD:
            self.faults.append(Fault(kind, seal, first_id, last_id, text))


@dataclass(frozen=True, slots=True)
class Question:
    """What to verify: everything, or the seals of what was written from `low` to before `high`.

    `trust` holds the certificates of time-stamping authorities (PEM), None where none are named. `every` is how often
    the trail should be stamped, None where nobody stamps it. `holds` are seals as somebody noted them: number, digest.
    """

    low: datetime | None = None
    high: datetime | None = None
    trust: Sequence[bytes] | None = None
    every: timedelta | None = None
    holds: Sequence[tuple[int, bytes]] = ()


async def verify(seals: AuditSeals, asked: Question) -> Report:
    """Walk the seals and say what is not as it was. Raises Unavailable."""
    report = Report(newest=await seals.newest())
    first, last = 1, report.newest.number if report.newest else 0
    if asked.low or asked.high:
        first, last = await seals.numbers(asked.low or _BEGINNING, asked.high or _END) or (1, 0)
    noted = await _walk(seals, first, last, report)
    await _check_anchors(seals, first, asked, noted, report)
    (oldest,) = await seals.seals(first - 1, last, 1) or (None,)
    _remark_on_anchors(asked, oldest, report)
    for number, digest in asked.holds:
        (found,) = await seals.seals(number - 1, number, 1) or (None,)
        if found is None or found.digest != digest:
            report.fault("cut", number, 0, 0, f"seal {number} is not there as it was noted")
    if asked.high is None:
        await _check_end(seals, report)
    return report


_BEGINNING, _END = datetime(1, 1, 1, tzinfo=UTC), datetime(9999, 12, 31, tzinfo=UTC)


async def _walk(seals: AuditSeals, first: int, last: int, report: Report) -> dict[int, str]:
    """Make each seal again; returns which anchors the rows tell of (number of the seal, SHA-256 of the token)."""
    noted: dict[int, str] = {}
    (before,) = await seals.seals(first - 2, first - 1, 1) or (None,)
    floor = before.last_id if before else None
    rows = _Rows(seals, floor)
    waiting: tuple[Seal, Seal] | None = None
    number = first - 1
    while number < last:
        for stored in await seals.seals(number, last, AT_ONCE) or [None]:
            if stored is None:
                report.fault("seals-missing", number + 1, 0, 0, f"seals {number + 1} to {last} are missing")
                number = last
                break
            if stored.number > number + 1:
                missing = f"seals {number + 1} to {stored.number - 1} are missing"
                report.fault("seals-missing", number + 1, (floor or 0) + 1, stored.first_id - 1, missing)
                await rows.skip(stored.first_id - 1)
                before = None
            if waiting:
                _judge(*waiting, stored if stored.number == number + 1 else None, report)
            if before and waiting is None and stored.previous != before.digest:
                _unlinked(stored, report)
            if stored.number == 1 and stored.previous != GENESIS:
                _unlinked(stored, report)
            sealing = Sealing(seals.database.tenant, stored.previous)
            async for some in rows.upto(stored.last_id):
                sealing.add(some)
                _note(some, noted)
            waiting = stored, sealing.end(stored.number, stored.sealed)
            report.seals, report.rows = report.seals + 1, report.rows + sealing.rows
            number, floor, before = stored.number, stored.last_id, stored
    if waiting:
        following = await seals.seals(last, last + 1, 1)
        _judge(*waiting, following[0] if following else None, report)
    return noted


def _judge(stored: Seal, made: Seal, following: Seal | None, report: Report) -> None:
    """Compare a seal with what its rows give, and with what the seal after it holds of it."""
    where = (stored.number, stored.first_id, stored.last_id)
    if made == stored:
        if following and following.previous != stored.digest:
            _unlinked(following, report)
    elif made.digest == stored.digest or (following and following.previous == made.digest):
        report.fault("seal-altered", *where, "the seal itself was altered; its rows are as they were sealed")
    elif made.rows < stored.rows:
        report.fault("removed", *where, f"{stored.rows} rows were sealed, {made.rows} are there: rows were removed")
    elif made.rows > stored.rows:
        report.fault("inserted", *where, f"{stored.rows} rows were sealed, {made.rows} are there: rows were inserted")
    else:
        report.fault("altered", *where, "a row was altered, or what the seal says of its rows")


def _unlinked(seal: Seal, report: Report) -> None:
    text = f"it does not follow the seal before it: seal {seal.number - 1} was made again, or taken away"
    report.fault("chain-broken", seal.number, seal.first_id, seal.last_id, text)


def _note(rows: Sequence[Row], noted: dict[int, str]) -> None:
    for row in rows:
        if row[_CLIENT] == CALLER.client_id and row[_QUERY] and row[_QUERY].startswith(NOTE):
            said = parse_qs(row[_QUERY].removeprefix(NOTE))
            noted[int(said["seal"][0])] = said["token"][0]


async def _check_anchors(seals: AuditSeals, first: int, asked: Question, noted: dict[int, str], report: Report) -> None:
    """Each token holds for the seal that is there now; each that the trail tells of is there."""
    after = first - 1
    while found := await seals.anchors(after, 2**62, AT_ONCE):
        for anchor in found:
            after = anchor.seal
            report.anchors += 1
            if noted.pop(anchor.seal, None) not in (None, hashlib.sha256(anchor.token).hexdigest()):
                report.fault("anchor", anchor.seal, 0, 0, "its time stamp is not the one that the trail tells of")
            (seal,) = await seals.seals(anchor.seal - 1, anchor.seal, 1) or (None,)
            if seal is None:
                text = f"a seal that was time-stamped on {anchor.stamped:%Y-%m-%d} is gone: the end was cut"
                report.fault("cut", anchor.seal, 0, 0, text)
                continue
            if asked.trust is None:
                continue
            stamp = await asyncio.to_thread(verify_stamp, seal.digest, anchor.token, asked.trust, "this seal")
            if stamp.problems:
                text = "; ".join(stamp.problems)
                report.fault("anchor", anchor.seal, seal.first_id, seal.last_id, f"not as it was time-stamped: {text}")
            else:
                report.anchored, report.anchored_at = anchor.seal, stamp.moment
    for number in sorted(noted):
        report.fault("anchor", number, 0, 0, "the trail tells of its time stamp, which is gone")


def _remark_on_anchors(asked: Question, first: Seal | None, report: Report) -> None:
    """Say what no time stamp proves; `first` is the oldest seal that was looked at."""
    if asked.trust is None and report.anchors:
        report.unproven = True
        report.remarks.append("time stamps not checked: DMST_FHIR_AUDIT_TSA_TRUST names no authority")
    if asked.every is None:
        report.remarks.append(
            "no time stamps: DMST_FHIR_AUDIT_TSA names no authority; who rewrites the database can rewrite the seals"
        )
    elif asked.high is None and first:
        oldest = datetime.now(UTC) - 2 * asked.every
        if report.anchored_at is None and first.sealed > oldest:
            report.remarks.append("no time stamp yet")
        elif report.anchored_at is None:  # the newest seal is always young where a service runs: it tells nothing
            report.unproven = True
            report.remarks.append("no time stamp that holds, and there should be one by now")
        elif report.anchored_at < oldest:
            report.unproven = True
            report.remarks.append("the newest time stamp is older than it should be")


async def _check_end(seals: AuditSeals, report: Report) -> None:
    report.unsealed, report.unsealed_since = await seals.unsealed(report.newest.last_id if report.newest else None)
    if report.unsealed_since and datetime.now(UTC) - report.unsealed_since > LATE:
        report.unproven = True
        report.remarks.append("rows wait for their seal for long: nobody seals, or seals were taken away")


class _Rows:
    """The rows of the trail in the order of their ids, taken up to one id after the other."""

    def __init__(self, seals: AuditSeals, after: int | None) -> None:
        self._chunks = seals.rows(after, 2**63 - 1)
        self._held: list[Row] = []

    async def upto(self, last_id: int) -> AsyncIterator[Sequence[Row]]:
        while True:
            if not self._held:
                self._held = await anext(self._chunks, [])
            if not self._held or self._held[0][1] > last_id:
                return
            if self._held[-1][1] <= last_id:
                taken, self._held = self._held, []
            else:
                cut = next(position for position, row in enumerate(self._held) if row[1] > last_id)
                taken, self._held = self._held[:cut], self._held[cut:]
            yield taken

    async def skip(self, last_id: int) -> None:
        async for _ in self.upto(last_id):
            pass
