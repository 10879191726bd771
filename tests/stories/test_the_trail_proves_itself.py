"""The DPO asks who saw a file: nothing that was answered is missing, nothing was changed, and the copy is signed.

dmst.md scenario A10; art. R4624-45-5 C. trav.; real processes, kill -9.
"""

import asyncio
import csv
import json
import os
import shutil
import subprocess
from datetime import UTC, datetime
from pathlib import Path

import httpx
import psutil
import psycopg
import pytest
from cryptography.hazmat.primitives.serialization import Encoding
from pydantic import SecretStr

from bench.measure import postgres_processes
from fhir_server import embedded
from fhir_server.app import Parts, build
from fhir_server.caller import service as own
from fhir_server.records import audit
from fhir_server.records.trail_verify import Question, verify
from fhir_server.scans.seal import DemoAuthority
from fhir_server.scans.seal import verify as verify_signature
from fhir_server.settings import Settings
from tests.stories.support import dmst_fhir, kill, process, until
from tests.support import EVERYTHING, FHIR_JSON, free_port
from tests.tsa import running_tsa

READERS = 8


def command(settings: Settings, *words: str) -> tuple[int, str]:
    """Status and output of `dmst-fhir ...`, without the events of its log."""
    done = dmst_fhir(settings, *words)
    told = [line for line in done.stderr.splitlines(keepends=True) if not line.startswith('{"')]
    return done.exit_code, done.stdout + "".join(told)


async def test_no_access_that_was_answered_is_lost_by_kill_nine(tmp_path: Path, redis_url: str) -> None:
    """Readers of a server that is killed, one time with PostgreSQL: each 200 has its row, and the chain holds."""
    data = tmp_path / "own"
    data.mkdir(mode=0o755)
    settings = Settings(
        data=data, redis=SecretStr(redis_url), port=free_port(), audit_seal_seconds=0.1, drain_seconds=0
    )
    answered: list[str] = []
    with embedded.running(data):
        async with build(settings) as parts:
            client_id, _ = await parts.clients.add("reader", EVERYTHING, "external-system")
            token, _ = await parts.clients.give_token(client_id, EVERYTHING, 60)
        headers = {"authorization": f"Bearer {token}", **FHIR_JSON}
        base = f"http://127.0.0.1:{settings.port}"
        for turn in range(4):
            before = len(answered)
            with process(settings, "serve") as server:
                async with httpx.AsyncClient(base_url=base, headers=headers, timeout=10) as client:
                    await until(lambda client=client: _ready(client), "the server is ready")
                    put = await client.put("/fhir/Patient/p", content=b'{"resourceType":"Patient","id":"p"}')
                    assert put.status_code in (200, 201)
                    reading = [asyncio.create_task(_read(client, f"{turn}-{n}", answered)) for n in range(READERS)]
                    await asyncio.sleep(0.7)
                    family = postgres_processes(data) if turn == 2 else []
                    kill(server)
                    for one in family:
                        _kill(one)
                    await asyncio.gather(*reading)
            assert len(answered) > before, "the kill came after some answers"
            if family:
                psutil.wait_procs(family, timeout=30)
                embedded._stop_postgres(data / "postgres")
                embedded._start_postgres(data / "postgres")
        async with build(settings) as parts:
            kept = await _request_ids(parts)
            assert [one for one in answered if one not in kept] == []
            await parts.seals.seal_once()
            report = await verify(parts.seals, Question())
            assert (report.faults, report.unsealed) == ([], 0)
            assert report.seals > 4, "seals were made while the readers read"
            assert report.rows >= len(answered)


async def _ready(client: httpx.AsyncClient) -> bool:
    try:
        return (await client.get("/readyz")).status_code == 200
    except httpx.TransportError:
        return False


async def _read(client: httpx.AsyncClient, reader: str, answered: list[str]) -> None:
    for turn in range(1_000_000):
        try:
            answer = await client.get("/fhir/Patient/p", headers={"x-request-id": f"{reader}-{turn}"})
        except httpx.HTTPError:
            return
        if answer.status_code == 200:
            answered.append(f"{reader}-{turn}")


def _kill(one: psutil.Process) -> None:
    try:
        one.kill()
    except psutil.NoSuchProcess:
        return


async def _request_ids(parts: Parts) -> set[str]:
    async with parts.database.connection() as connection:
        cursor = await connection.execute(b"select request_id from access where interaction = 'read'")
        return {row[0] for row in await cursor.fetchall()}


async def test_the_commands_say_by_their_status_what_became_of_the_trail(
    world: Settings, authority: DemoAuthority, tmp_path: Path, dsn: str
) -> None:
    """Sealed and stamped by the worker process; then somebody edits one row by hand."""
    with running_tsa(authority) as tsa:
        world = world.model_copy(
            update={
                "audit_seal_seconds": 0.1,
                "audit_tsa": SecretStr(tsa.url),
                "audit_tsa_trust": tsa.trust(tmp_path),
            }
        )
        async with build(world) as parts:
            await parts.archive.accesses.append(*(audit.access(own("test"), "read", f"r{n}") for n in range(20)))
            with process(world, "work"):
                await until(parts.seals.newest, "the worker seals")

                async def is_stamped() -> bool:
                    return await parts.seals.newest_anchor() is not None

                asked = world.model_copy(update={"audit_anchor_hours": 0.0001})
                with process(asked, "work"):
                    await until(is_stamped, "a worker has the seal stamped")
        status, said = await asyncio.to_thread(command, world, "audit", "verify")
        assert (status, "time-stamped up to seal" in said, "OK" in said) == (0, True, True), said
        unstamped = world.model_copy(update={"audit_tsa": None, "audit_tsa_trust": None})
        status, said = await asyncio.to_thread(command, unstamped, "audit", "verify")
        assert (status, "time stamps not checked" in said, "no time stamps" in said) == (3, True, True), said
        with psycopg.connect(dsn, autocommit=True) as connection:
            connection.execute("set dmst.tenant = 0")
            connection.execute("update access set patient_id = 'somebody' where request_id = 'r7'")
        told = tmp_path / "report.json"
        status, said = await asyncio.to_thread(command, world, "audit", "verify", "--json", str(told))
        assert (status, "altered" in said, "seal 1" in said) == (2, True, True), said
        (fault,) = json.loads(told.read_bytes())["faults"]
        assert (fault["kind"], fault["seal"]) == ("altered", 1)
        assert await asyncio.to_thread(command, world, "audit", "verify", "--from", "yesterday") == (
            1,
            "invalid --from is a date such as 2026-01-31 or a moment with its offset\n",
        )
        nowhere = world.model_copy(update={"audit_tsa_trust": None})
        with process(nowhere, "work") as worker:
            assert await asyncio.to_thread(worker.wait) == 1, "a half configuration does not start"
        assert "DMST_FHIR_AUDIT_TSA_TRUST" in (world.data / "work.log").read_text()


@pytest.fixture
async def signing(world: Settings, authority: DemoAuthority, tmp_path: Path) -> Settings:
    """A service that signs, with a trail: 6,000 accesses to one worker and one to another."""
    from cryptography.hazmat.primitives.serialization import NoEncryption, PrivateFormat

    certificate, key = tmp_path / "export.pem", tmp_path / "export.key"
    certificate.write_bytes(authority.certificate.public_bytes(Encoding.PEM))
    key.write_bytes(authority.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    async with build(world) as parts:
        at = datetime(2026, 5, 6, 7, 8, 9, 123456, UTC)
        rows = [
            audit.access(own("test"), "read", f"=r{n}", resource_type="Patient", resource_id="p", patient_id="p", at=at)
            for n in range(6000)
        ]
        await parts.archive.accesses.append(*rows, rows[0]._replace(patient_id="q"))
        await parts.seals.seal_once()
    return world.model_copy(update={"audit_export_certificate": certificate, "audit_export_key": key})


@pytest.mark.parametrize("form", ["ndjson", "csv"])
async def test_an_export_is_whole_and_signed_and_an_access_itself(
    signing: Settings, authority: DemoAuthority, tmp_path: Path, form: str
) -> None:
    """Every access to one worker on one day, oldest first; its account and both signatures hold; openssl agrees."""
    file = tmp_path / "out" / f"trail.{form}"
    words = ("audit", "export", "--patient", "Patient/p", "--from", "2026-05-06", "--to", "2026-05-06")
    status, said = await asyncio.to_thread(command, signing, *words, "--format", form, "-o", str(file), "--by", "dpo")
    assert status == 0, said
    content = file.read_bytes()
    account = json.loads(file.with_name(f"{file.name}.account.json").read_bytes())
    assert (account["rows"], account["patient"], account["by"]) == (6000, "p", "dpo")
    assert account["seal"]["number"] >= 1
    if form == "ndjson":
        events = [json.loads(line) for line in content.splitlines()]
        assert {event["resourceType"] for event in events} == {"AuditEvent"}
        ids = [int(event["id"]) for event in events]
    else:
        lines = list(csv.DictReader(content.decode().splitlines()))
        assert lines[0]["at"] == "2026-05-06T07:08:09.123456+00:00"
        assert lines[0]["request_id"] == "'=r0", "a spreadsheet must not run it"
        ids = [int(line["id"]) for line in lines]
    assert ids == sorted(set(ids))
    assert (len(ids), ids[-1]) == (6000, account["last"])
    for signed in (file, file.with_name(f"{file.name}.account.json")):
        signature = signed.with_name(f"{signed.name}.p7s")
        assert verify_signature(signed.read_bytes(), signature.read_bytes(), None, authority.trust).state == "valid"
        assert verify_signature(b"x", signature.read_bytes(), None, authority.trust).state == "invalid"
        assert signed.stat().st_mode & 0o077 == 0
    if openssl := shutil.which("openssl"):
        ca = tmp_path / "ca.pem"
        ca.write_bytes(authority.trust[0].public_bytes(Encoding.PEM))
        done = subprocess.run(
            [openssl, "cms", "-verify", "-binary", "-inform", "DER", "-in", f"{file}.p7s", "-content", str(file),
             "-CAfile", str(ca), "-purpose", "any", "-out", os.devnull], check=False, capture_output=True,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
    async with build(signing) as parts, parts.database.connection() as connection:
        cursor = await connection.execute(
            b"select professional, patient_id, query from access where interaction = 'export'"
        )
        said = f"format={form}&from=2026-05-06T00:00:00+00:00&before=2026-05-07T00:00:00+00:00"
        assert await cursor.fetchall() == [("dpo", "p", said)]


async def test_nothing_is_handed_out_unsigned_unless_somebody_says_so(
    signing: Settings, world: Settings, tmp_path: Path
) -> None:
    """Without certificate and key it is refused, before anything is read; `--unsigned` is a choice that is seen."""
    file = tmp_path / "trail.ndjson"
    status, said = await asyncio.to_thread(command, world, "audit", "export", "-o", str(file))
    assert (status, "--unsigned" in said, file.exists()) == (1, True, False)
    half = signing.model_copy(update={"audit_export_key": signing.audit_export_certificate})
    status, said = await asyncio.to_thread(command, half, "audit", "export", "-o", str(file))
    assert (status, "DMST_FHIR_AUDIT_EXPORT_KEY" in said, file.exists()) == (1, True, False)
    status, said = await asyncio.to_thread(command, world, "audit", "export", "-o", str(file), "--unsigned")
    assert (status, json.loads(said)["rows"]) == (0, 6002), "this access is in it too"
    assert sorted(path.name for path in tmp_path.glob("*trail.ndjson*")) == [
        "trail.ndjson",
        "trail.ndjson.account.json",
    ]
    status, said = await asyncio.to_thread(command, world, "audit", "export", "-o", str(file), "--format", "xml")
    assert (status, "ndjson, csv" in said) == (1, True)
