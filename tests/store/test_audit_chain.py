"""The form in which the trail is sealed: what others can compute by docs/adr/0006, with nothing of ours."""

import hashlib
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime

import pytest

from fhir_server.store.access_log import AccessLog, AccessRow
from fhir_server.store.audit_chain import GENESIS, Sealing
from fhir_server.store.audit_seals import AuditSeals
from fhir_server.store.database import Database

AT = datetime(2026, 3, 4, 5, 6, 7, 89, UTC)
STRANGE = 'é "\\ \n\t\x01\x7f\u2028 \U0001f600 </ ,]'


def line(*values: object) -> bytes:
    """RFC 8785: no white space, UTF-8, only what must be escaped is."""
    return json.dumps(values, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"


@pytest.fixture
async def third(database_dsn: str) -> AsyncIterator[Database]:
    database = Database(database_dsn, connections=2, statement_timeout_ms=15_000, tenant=3)
    yield database
    await database.close()


async def test_a_seal_can_be_computed_by_its_description(third: Database) -> None:
    """Rows of every kind of value, and the seal after another."""
    rows = [
        AccessRow(AT, "read", 0, "c", "r", "TREAT", 34, "d1", 2, "p1", None, None, "q1", "10001"),
        AccessRow(AT, "search-type", 4, None, None, None, None, None, None, None, STRANGE, STRANGE, "", None),
        AccessRow(AT, "read", 0, "c", "r", "BTG", 34, "d1", 2, "p1", None, None, "q1", "10001", "break-glass"),
    ]
    seals, previous = AuditSeals(third), GENESIS
    for number, row in enumerate(rows, start=1):
        await AccessLog(third, sync=True).append(row)
        assert await seals.seal_once() == 1
        (seal,) = await seals.seals(number - 1, number, 1)
        moment = 1_772_600_767_000_089
        kept = row[1:15] if row.circumstance else row[1:14]  # the circumstance is the last, where there is one
        written = line(3, seal.first_id, moment, *kept)
        sealed = round((seal.sealed - datetime(1970, 1, 1, tzinfo=UTC)).total_seconds() * 1_000_000)
        end = line("dmst-fhir-audit-seal/1", 3, number, seal.first_id, seal.last_id, 1, sealed)
        assert seal.previous == previous
        assert seal.digest == hashlib.sha256(previous + written + end).digest()
        previous = seal.digest


def test_a_seal_depends_on_every_part_of_what_it_says() -> None:
    """Order, number, moment, tenant, the seal before: each changes the digest."""
    rows = [[0, n, 1, "read"] for n in (1, 2, 3)]

    def digest(
        some: list[list[object]] = rows,
        *,
        tenant: int = 0,
        previous: bytes = GENESIS,
        number: int = 1,
        at: datetime = AT,
    ) -> bytes:
        sealing = Sealing(tenant, previous)
        for row in some:
            sealing.add([row])
        sealing.add([])
        return sealing.end(number, at).digest

    others = [
        digest(rows[:2]),
        digest([rows[1], rows[0], rows[2]]),
        digest(tenant=1),
        digest(previous=bytes(31) + b"\x01"),
        digest(number=2),
        digest(at=AT.replace(microsecond=90)),
    ]
    assert len({digest(), *others}) == 7
    whole = Sealing(0, GENESIS)
    whole.add(rows)
    assert whole.end(1, AT).digest == digest(), "how rows come in groups does not matter"
