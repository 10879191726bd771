"""A row of the trail that was changed, taken away or added is found: docs/adr/0006."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psycopg
import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from adapters.time_stamping import TimeStampingService
from fhir_server.caller import service
from fhir_server.records import audit
from fhir_server.records.trail_anchor import Anchoring
from fhir_server.records.trail_verify import Question, Report, verify
from fhir_server.scans.seal import DemoAuthority, make_demo_authority
from fhir_server.store import audit_seals
from fhir_server.store.access_log import AccessLog, AccessRow
from fhir_server.store.audit_seals import AuditSeals
from fhir_server.store.database import Database
from tests.tsa import Tsa, running_tsa

Owner = Callable[..., None]
DAY = timedelta(days=1)


def rows(count: int, at: datetime | None = None) -> list[AccessRow]:
    return [
        audit.access(service("test"), "read", f"r{n}", resource_type="Patient", resource_id="p", patient_id="p", at=at)
        for n in range(count)
    ]


@pytest.fixture
def as_owner(database_dsn: str) -> Owner:
    """A statement of the superuser, who may do everything."""

    def run(statement: str, *values: object) -> None:
        with psycopg.connect(database_dsn, autocommit=True) as connection:
            connection.execute("set dmst.tenant = 0")
            changed = connection.execute(statement.encode(), values)
            assert changed.rowcount, "nothing was changed: the test would prove nothing"

    return run


@pytest.fixture
def trail(database: Database) -> AccessLog:
    return AccessLog(database, sync=True)


@pytest.fixture
async def seals(database: Database, trail: AccessLog) -> AuditSeals:
    """Five seals of four rows each: ids 1 to 20."""
    seals = AuditSeals(database)
    for _ in range(5):
        await trail.append(*rows(4))
        assert await seals.seal_once() == 4
    return seals


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> DemoAuthority:
    return make_demo_authority(tmp_path_factory.mktemp("tsa"))


@pytest.fixture
def tsa(authority: DemoAuthority) -> Iterator[Tsa]:
    with running_tsa(authority) as tsa:
        yield tsa


def told(report: Report) -> list[tuple[str, int]]:
    return [(fault.kind, fault.seal) for fault in report.faults]


async def test_a_trail_that_nobody_touched_is_whole(seals: AuditSeals, trail: AccessLog) -> None:
    """Every row is under a seal; what came since is said, and so is that nobody stamps."""
    report = await verify(seals, Question())
    assert (report.seals, report.rows, report.faults, report.unsealed, report.unproven) == (5, 20, [], 0, False)
    assert report.remarks
    assert "DMST_FHIR_AUDIT_TSA" in report.remarks[0]
    await trail.append(*rows(3))
    report = await verify(seals, Question())
    assert (report.rows, report.unsealed, report.faults) == (20, 3, [])


@pytest.mark.parametrize(
    ("statement", "expected"),
    [
        ("update access set patient_id = 'q' where id = 10", [("altered", 3)]),
        ("update access set at = at + interval '1 microsecond' where id = 1", [("altered", 1)]),
        ("update access set professional = 'x' where id = 20", [("altered", 5)]),
        ("update access set client_id = null where id = 5", [("altered", 2)]),
        ("update access set tenant = 1 where id = 6", [("removed", 2)]),
        ("delete from access where id = 11", [("removed", 3)]),
        ("delete from access where id between 9 and 12", [("removed", 3)]),
        ("delete from access where id = 20", [("removed", 5)]),
        ("delete from access where id >= 19", [("removed", 5)]),
        (
            "insert into access (id, at, interaction, outcome, request_id) overriding system value"
            " values (-1, now(), 'read', 0, 'x')",
            [("inserted", 1)],
        ),
        ("update access_seal set digest = sha256('x') where number = 2", [("seal-altered", 2)]),
        ("update access_seal set rows = 3 where number = 2", [("seal-altered", 2)]),
        ("update access_seal set sealed = sealed - interval '1 day' where number = 4", [("altered", 4)]),
        ("update access_seal set digest = sha256('x') where number = 5", [("altered", 5)]),
        ("delete from access_seal where number = 3", [("seals-missing", 3)]),
        ("delete from access_seal where number <= 2", [("seals-missing", 1)]),
        ("with gone as (delete from access_seal where number = 2) delete from access where id between 5 and 8",
         [("seals-missing", 2)]),
    ],
)  # fmt: skip
async def test_what_a_superuser_changes_is_found(
    seals: AuditSeals, as_owner: Owner, statement: str, expected: list[tuple[str, int]]
) -> None:
    """Which seal, and nothing about the others: those after it still hold."""
    as_owner(statement)
    report = await verify(seals, Question())
    assert told(report) == expected


async def test_a_row_between_two_others_is_found(database: Database, trail: AccessLog, as_owner: Owner) -> None:
    """Ids that were never committed leave room: somebody who fills it is seen."""
    await trail.append(*rows(2))
    as_owner("select nextval('access_id_seq')")
    await trail.append(*rows(2))
    seals = AuditSeals(database)
    await seals.seal_once()
    as_owner(
        "insert into access (id, at, interaction, outcome, request_id) overriding system value"
        " values (3, now(), 'read', 0, 'x')"
    )
    report = await verify(seals, Question())
    assert told(report) == [("inserted", 1)]
    assert (report.faults[0].first_id, report.faults[0].last_id) == (1, 5)


async def test_the_role_of_the_server_changes_nothing_of_the_trail(database: Database, seals: AuditSeals) -> None:
    """It appends and reads; not even a fault of ours in a statement can alter a row or a seal."""
    for table in ("access", "access_seal", "access_anchor"):
        for statement in (f"delete from {table}", f"update {table} set tenant = 0", f"truncate {table}"):
            async with database.connection() as connection:
                with pytest.raises(psycopg.errors.InsufficientPrivilege):
                    await connection.execute(statement.encode())


async def test_nothing_is_sealed_below_a_transaction_that_has_not_ended(
    database: Database, database_dsn: str, trail: AccessLog
) -> None:
    """A row with a lower id that becomes visible later: the seal waits for it, and readers do not wait for the seal."""
    seals = AuditSeals(database)
    with psycopg.connect(database_dsn) as slow:
        slow.execute("set dmst.tenant = 0")
        slow.execute("insert into access (at, interaction, outcome, request_id) values (now(), 'read', 0, 'slow')")
        await trail.append(*rows(2))
        sealing = asyncio.create_task(seals.seal_once())
        await asyncio.sleep(0.3)
        assert not sealing.done()
        await asyncio.wait_for(trail.append(*rows(2)), 1)
        slow.commit()
    assert await sealing == 3
    assert await seals.seal_once() == 2
    assert (await verify(seals, Question())).faults == []


async def test_rows_that_were_rolled_back_leave_gaps_that_are_no_fault(
    database: Database, database_dsn: str, trail: AccessLog
) -> None:
    """Their ids are never given again."""
    with psycopg.connect(database_dsn) as undone:
        undone.execute("set dmst.tenant = 0")
        undone.execute("insert into access (at, interaction, outcome, request_id) values (now(), 'read', 0, 'x')")
        await trail.append(*rows(2))
        undone.rollback()
    seals = AuditSeals(database)
    assert await seals.seal_once() == 2
    report = await verify(seals, Question())
    assert (report.rows, report.faults) == (2, [])


async def test_many_writers_and_several_sealers_make_one_chain(
    database_dsn: str, trail: AccessLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every process seals; each row is under one seal, and the numbers have no gap."""
    monkeypatch.setattr(audit_seals, "LARGEST", 50)
    monkeypatch.setattr(audit_seals, "CHUNK", 20)
    databases = [Database(database_dsn, connections=2, statement_timeout_ms=15_000) for _ in range(3)]
    writing = asyncio.gather(*(trail.append(*rows(5)) for _ in range(200)))

    async def seal(database: Database) -> int:
        sealed = 0
        while not writing.done():
            sealed += await AuditSeals(database).seal_once()
        return sealed + await AuditSeals(database).seal_once()

    sealed = await asyncio.gather(*map(seal, databases))
    rest = await AuditSeals(databases[0]).seal_once()
    report = await verify(AuditSeals(databases[0]), Question())
    assert sum(sealed) + rest == report.rows == 1000
    assert (report.faults, report.unsealed) == ([], 0)
    assert report.seals >= 1000 / 60
    for database in databases:
        await database.close()


async def test_each_tenant_has_a_chain_of_its_own(database_dsn: str) -> None:
    """And neither sees that of the other."""
    for tenant in (1, 2):
        database = Database(database_dsn, connections=2, statement_timeout_ms=15_000, tenant=tenant)
        await AccessLog(database, sync=True).append(*rows(tenant))
        seals = AuditSeals(database)
        assert await seals.seal_once() == tenant
        report = await verify(seals, Question())
        assert (report.seals, report.rows, report.faults) == (1, tenant, [])
        await database.close()


async def test_a_part_of_the_trail_is_verified_by_its_days(
    database: Database, trail: AccessLog, as_owner: Owner
) -> None:
    """What was written then; a fault elsewhere is not looked for."""
    now = datetime.now(UTC)
    seals = AuditSeals(database)
    for days in (300, 200, 100):
        await trail.append(*rows(4, now - timedelta(days=days)))
        await seals.seal_once()
    as_owner("update access set role = 'x' where id = 2")
    older, middle = now - 250 * DAY, now - 150 * DAY
    report = await verify(seals, Question(low=older, high=middle))
    assert (report.seals, report.rows, report.faults) == (1, 4, [])
    assert told(await verify(seals, Question(high=older))) == [("altered", 1)]
    assert (await verify(seals, Question(low=now + DAY))).seals == 0


async def test_rows_without_a_seal_for_long_are_not_proven(trail: AccessLog, seals: AuditSeals) -> None:
    """Nobody seals, or somebody took seals away: it is not said to be fine."""
    await trail.append(*rows(2, datetime.now(UTC) - DAY))
    report = await verify(seals, Question())
    assert (report.unsealed, report.unproven, report.faults) == (2, True, [])


@pytest.fixture
async def anchoring(seals: AuditSeals, tsa: Tsa, tmp_path: Path) -> AsyncIterator[Anchoring]:
    """The trail stamped once, with more seals after it."""
    stamper = TimeStampingService(tsa.url)
    anchoring = Anchoring(seals, stamper, [tsa.trust(tmp_path).read_bytes()], timedelta(hours=24))
    assert await anchoring.anchor_when_due()
    await seals.seal_once()
    yield anchoring
    await stamper.close()


def stamped(anchoring: Anchoring) -> Question:
    return Question(trust=anchoring.trust, every=anchoring.every)


async def test_the_newest_seal_is_time_stamped_once_a_day(anchoring: Anchoring, tsa: Tsa) -> None:
    """Its digest goes out and nothing else; verify believes the token, and who was not trusted is not believed."""
    newest = await anchoring.seals.newest()
    assert await anchoring.anchor_when_due() is None
    assert len(tsa.asked) == 1
    report = await verify(anchoring.seals, stamped(anchoring))
    assert (report.faults, report.remarks, report.anchored, report.anchors) == ([], [], 5, 1)
    assert newest
    assert newest.number == 6, "the row that tells of the token is sealed too"
    (seal,) = await anchoring.seals.seals(4, 5, 1)
    assert tsa.asked[0]["message_imprint"]["hashed_message"].native == seal.digest
    strangers = Question(trust=[], every=anchoring.every)
    assert told(await verify(anchoring.seals, strangers)) == [("anchor", 5)]
    assert (await verify(anchoring.seals, Question(every=anchoring.every))).unproven


async def test_a_chain_that_was_made_again_is_not_the_one_that_was_stamped(
    anchoring: Anchoring, as_owner: Owner
) -> None:
    """The chain alone holds no secret: a superuser may seal anew what he altered. The token is not his."""
    as_owner("update access set patient_id = 'q' where id = 10")
    as_owner("delete from access_seal where number >= 3")
    assert await anchoring.seals.seal_once()
    report = await verify(anchoring.seals, stamped(anchoring))
    assert told(report)[0] == ("cut", 5)


async def test_a_tail_that_was_cut_is_found_by_its_stamp(anchoring: Anchoring, as_owner: Owner) -> None:
    """Rows and seals gone together: the chain that is left holds, but it was longer."""
    as_owner("delete from access where id > 12")
    as_owner("delete from access_seal where number > 3")
    report = await verify(anchoring.seals, stamped(anchoring))
    assert told(report) == [("cut", 5)]
    as_owner("delete from access_anchor")
    cut = await verify(anchoring.seals, stamped(anchoring))
    assert cut.faults == [], "nothing inside the database tells any more ..."
    assert any("time stamp" in remark for remark in cut.remarks), "... but that no stamp is there"


async def test_an_authority_that_never_answered_is_told_when_it_is_late(seals: AuditSeals, as_owner: Owner) -> None:
    """The newest seal is of this minute on every running service: it must not excuse two days without any stamp."""
    asked = Question(trust=[], every=DAY)
    report = await verify(seals, asked)
    assert (report.remarks, report.unproven) == (["no time stamp yet"], False)
    as_owner("update access_seal set sealed = sealed - interval '3 days' where number = 1")
    report = await verify(seals, asked)
    assert report.unproven
    assert any("should be one by now" in remark for remark in report.remarks)


async def test_a_seal_that_was_noted_elsewhere_must_be_there(anchoring: Anchoring, as_owner: Owner) -> None:
    """Whoever keeps the newest seal outside the database sees what was cut with every stamp."""
    newest = await anchoring.seals.newest()
    assert newest
    question = Question(holds=[(newest.number, newest.digest)])
    assert (await verify(anchoring.seals, question)).faults == []
    for statement in ("delete from access where id > 12", "delete from access_seal where number > 3"):
        as_owner(statement)
    as_owner("delete from access_anchor")
    assert told(await verify(anchoring.seals, question)) == [("cut", newest.number)]


async def test_a_stamp_that_was_taken_away_or_exchanged_is_found(anchoring: Anchoring, as_owner: Owner) -> None:
    """The trail itself tells of each."""
    as_owner("update access_anchor set token = token || '\\x00'")
    assert ("anchor", 5) in told(await verify(anchoring.seals, stamped(anchoring)))
    as_owner("delete from access_anchor")
    assert told(await verify(anchoring.seals, stamped(anchoring))) == [("anchor", 5)]


@pytest.mark.parametrize("fault", ["away", "busy", "refuses", "other question", "other policy", "stranger"])
async def test_no_stamp_is_kept_that_does_not_hold(
    seals: AuditSeals, tsa: Tsa, tmp_path: Path, fault: str, authority: DemoAuthority
) -> None:
    """The authority is away, busy, says no, answers something else, or is not one that we trust."""
    trust = [tsa.trust(tmp_path).read_bytes()]
    stamper = TimeStampingService(
        "http://127.0.0.1:9/" if fault == "away" else tsa.url, policy="1.2.3.4" if fault == "other policy" else None
    )
    if fault == "stranger":
        other = make_demo_authority(tmp_path / "other")
        trust = [root.public_bytes(Encoding.PEM) for root in other.roots]
    tsa.status = {"busy": 503, "refuses": 403}.get(fault, 200)
    if fault == "other question":
        tsa.of_somebody_else = authority.seal(b"something else", datetime.now(UTC))[1]
    anchoring = Anchoring(seals, stamper, trust, DAY)
    assert await anchoring.anchor_when_due() is None
    assert await seals.newest_anchor() is None
    await stamper.close()
