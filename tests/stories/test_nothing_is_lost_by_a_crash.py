"""Killed anywhere, nothing is half there: real processes, kill -9, and the same counts as without.

dmst.md scenario A14; the last part of the road: a recipient holds each document once.
"""

import asyncio
import json
from pathlib import Path

import psutil
import pytest
from pydantic import SecretStr
from redis.asyncio import Redis

from fhir_server import embedded
from fhir_server.app import Parts
from fhir_server.caller import Caller
from fhir_server.outcomes import StorageFull, Unavailable
from fhir_server.ports import AcknowledgedLot
from fhir_server.r4.resource_types import TYPE_NUMBER
from fhir_server.records.bulk import Source
from fhir_server.records.export_run import Wanted
from fhir_server.settings import Settings
from fhir_server.store.transient import Transient
from tests.stories.support import (
    CERTAIN,
    DESCRIPTION,
    SAMPLES,
    Provider,
    asking,
    count,
    dispatch_all,
    kill,
    process,
    running_service,
    until,
)

MANY = 20_000


async def test_an_intake_that_is_killed_goes_on_where_it_stopped(world: Settings, provider: Provider):
    """A14: no folder is visible in part, and the end is the same as without the kill."""
    lot = provider.lot()
    async with running_service(world) as service:
        with process(world, "ingest", str(lot)) as ingest:
            await until(lambda: count(service, "scan_folder"), "the first folder is settled")
            family = psutil.Process(ingest.pid).children(recursive=True)
            kill(ingest)
        await until(
            lambda: not any(process.is_running() for process in family),
            "the inspectors of the dead process leave too",
        )
        settled = await count(service, "scan_folder")
        assert settled < len(DESCRIPTION["folder"]), "the kill came in the middle"
        await no_folder_is_half_there(service)
        answer = await service.lots.receive(lot)
        assert len(answer.folders) == len(DESCRIPTION["folder"])
        assert {f.barcode for f in answer.folders if f.state == "accepted"} == set(CERTAIN)
        await no_folder_is_half_there(service)
        assert await count(service, "resource_history") == 0, "nothing was written twice"


async def no_folder_is_half_there(service: Parts) -> None:
    """Every settled document has its records, every record belongs to a settled document."""
    accepted = await count(service, "scan_document where state = 'accepted'")
    async with asking(service) as client:
        found = (await client.get("/fhir/DocumentReference?_count=200")).json().get("entry", [])
        originals = [e for e in found if not e["resource"].get("relatesTo")]
        assert len(originals) == accepted
        for entry in found:
            answer = await client.get(f"/fhir/{entry['resource']['content'][0]['attachment']['url']}")
            assert answer.status_code == 200
            assert len(answer.content) == entry["resource"]["content"][0]["attachment"]["size"]


async def test_a_dispatch_that_is_killed_delivers_each_document_once(world: Settings, provider: Provider):
    """The worker dies while the recipient has the document and we do not know it yet: it is sent again, held once."""
    assert world.recipients
    world.recipients.write_text(
        '[[recipient]]\nname = "lent"\nkind = "logiciel-metier"\nadapter = "loopback"\noptions = { slow = 0.5 }\n',
        encoding="utf-8",
    )
    held = world.data / "loopback" / "lent"
    async with running_service(world) as service:
        await service.lots.receive(provider.lot("100000101", "100000102"))
        with process(world, "work") as worker:
            await until(lambda: held.exists() and any(held.glob("*.bin")), "the recipient holds a document")
            kill(worker)
        sending = await count(service, "delivery where state = 'sending'")
        assert sending, "the kill came in the middle"
        with process(world, "work"):
            await until(
                lambda: all_done(service), "every delivery is handed over by the worker that came after the dead one"
            )
        assert await count(service, "delivery where state = 'handed_over'") == 8
        assert len(list(held.glob("*.bin"))) == 8
        assert len(list(held.glob("*.json"))) == 8
        masters = [json.loads(p.read_text())["masterIdentifier"]["value"] for p in held.glob("*.json")]
        assert len(set(masters)) == 8


async def all_done(service: Parts) -> bool:
    return await count(service, "delivery where state in ('pending', 'sending')") == 0


async def test_bulk_jobs_that_are_killed_go_on(world: Settings, tmp_path: Path):
    """`$import` and `$export` of a worker that dies: another goes on where it was, and each resource is there once."""
    world = world.model_copy(update={"import_folder": tmp_path, "import_processes": 1})
    (tmp_path / "all.ndjson").write_bytes(b"".join(b'{"resourceType":"Patient","id":"p%d"}\n' % n for n in range(MANY)))
    operator = Caller("client", "operator", "operator", ("system/*.cruds",))
    async with running_service(world) as service:

        async def is_at(what: str) -> bool:
            return await count(service, f"bulk_job where {what}") == 1

        here = await count(service, "resource where not deleted")
        job = await service.bulk.ask_import(operator, [Source("Patient", "all.ndjson")], "request", "$import")
        with process(world, "work") as worker:
            await until(lambda: count(service, "bulk_input where reached > 0"), "a chunk is in")
            kill(worker)
        assert await is_at("state = 'running'"), "the kill came in the middle"
        with process(world, "work"):
            await until(lambda: is_at("state = 'complete'"), "another worker has finished the import")
        assert await count(service, "resource where id ~ '^p[0-9]+$' and version = 1") == MANY
        assert (await service.bulk.jobs.inputs(job))[0].kept == MANY
        await service.bulk.cancel(operator, job)

        wanted = Wanted("system", tuple(sorted(TYPE_NUMBER)), "$export")
        job = await service.bulk.ask_export(operator, wanted, "request", "$export")
        folder = world.exports_folder / job
        with process(world, "work") as worker:
            await until(lambda: is_at("until is not null"), "the export has begun")
            async with service.database.transaction() as connection:
                await connection.execute(b"select from bulk_job for update")  # what is written cannot be noted
                await until(lambda: any(path.stat().st_size for path in folder.glob("*")), "a file is written")
                kill(worker)
        assert await is_at("state = 'running'"), "the kill came in the middle"
        with process(world, "work"):
            await until(lambda: is_at("state = 'complete'"), "another worker has finished the export")
        lines = [line for path in folder.iterdir() for line in path.read_bytes().splitlines()]
        names = [(resource["resourceType"], resource["id"]) for resource in map(json.loads, lines)]
        assert len(names) == len(set(names)) == here + MANY


async def test_the_worker_takes_lots_out_of_the_drop_folder(world: Settings, provider: Provider):
    """Sentinel, intake, acknowledgement, delivery: the whole road without a hand."""
    incoming = world.incoming_folder
    async with running_service(world) as service:
        with process(world, "work"):
            await until((incoming / "done").exists, "the worker made its folders")
            provider.folder = incoming
            lot = provider.lot("100000101")
            answer = incoming / "acknowledgements" / f"{lot.name}.ack.json"
            await until(answer.exists, "the acknowledgement")
            assert json.loads(answer.read_text())["state"] == "accepted"
            await until(lambda: not (incoming / f"{lot.name}.ok").exists(), "the sentinel is taken away")
            await until(lambda: all_done(service), "the deliveries settle")
        assert (incoming / "done" / lot.name).exists()
        assert await count(service, "delivery where state = 'handed_over'") == 4
        assert await count(service, "delivery where state = 'withheld' and reason = 'dmp-consent-missing'") == 4


async def test_postgresql_gone_in_the_middle_loses_nothing(
    tmp_path_factory: pytest.TempPathFactory, trust: Path, redis_url: str, provider: Provider
):
    """The intake says that the database is out of reach; when it is back, the lot goes on where it was."""
    data = tmp_path_factory.mktemp("own")
    data.chmod(0o755)
    lot = provider.lot()
    with embedded.running(data) as servers:
        settings = Settings(
            data=data, postgres=SecretStr(servers.postgres), redis=SecretStr(redis_url), seal_trust=trust
        )
        async with running_service(settings) as service:
            stopped = asyncio.Event()

            def stop_in_the_middle(done: int, _of: int) -> None:
                if done == 2 and not stopped.is_set():
                    stopped.set()
                    embedded._stop_postgres(data / "postgres")

            with pytest.raises(Unavailable):
                await service.lots.receive(lot, stop_in_the_middle)
            assert stopped.is_set()
            embedded._start_postgres(data / "postgres")
            answer = await service.lots.receive(lot)
            assert {f.barcode for f in answer.folders if f.state == "accepted"} == set(CERTAIN)
            await no_folder_is_half_there(service)


async def test_redis_gone_costs_counters_and_progress_only(world: Settings, provider: Provider):
    """Redis holds only what may be lost: lots are received, and attempts are counted in this process alone."""
    nowhere = world.model_copy(update={"redis": SecretStr("redis://127.0.0.1:1/0")})
    async with running_service(nowhere) as service:
        assert (await service.lots.receive(provider.lot("100000101"))).state == "accepted"
        await dispatch_all(service)
    transient = Transient(Redis.from_url("redis://127.0.0.1:1/0"))
    assert [await transient.count("x", add=1) for _ in range(3)] == [1, 2, 3]
    assert await transient.progress("LOT") is None
    assert not await transient.answers()
    await transient.close()


async def test_a_lot_is_complete_only_with_its_sentinel(world: Settings, provider: Provider):
    """What is still being copied into the drop folder is left alone."""
    from adapters.scanner.drop_folder import DropFolder

    async with running_service(world) as service:
        folder = DropFolder(world.incoming_folder, service.lots.receive_and_answer)
        folder.prepare()
        provider.folder = world.incoming_folder
        lot = provider.lot("100000101")
        (world.incoming_folder / f"{lot.name}.ok").rename(provider.folder / "later")
        assert await folder.look() == 0
        (provider.folder / "later").rename(world.incoming_folder / f"{lot.name}.ok")
        assert await folder.look() == 1
        assert await folder.look() == 0


async def test_a_lot_that_cannot_be_taken_in_holds_up_no_other(tmp_path: Path):
    """Neither a failure of ours nor a bug: its sentinel stays, and it is asked again."""
    from adapters.scanner.drop_folder import DropFolder

    asked: list[str] = []

    async def receive(lot: Path) -> AcknowledgedLot:
        asked.append(lot.name)
        if lot.name == "LOT_1":
            raise StorageFull("The disk is full")
        if lot.name == "LOT_2":
            raise ZeroDivisionError
        return AcknowledgedLot(f"{lot.name}.ack.json", b"{}")

    folder = DropFolder(tmp_path, receive)
    folder.prepare()
    for name in ("LOT_1", "LOT_2", "LOT_3"):
        (tmp_path / name).mkdir()
        (tmp_path / f"{name}.ok").touch()
    assert [await folder.look(), await folder.look()] == [1, 0]
    assert asked == ["LOT_1", "LOT_2", "LOT_3", "LOT_1", "LOT_2"]
    assert (tmp_path / "done" / "LOT_3").is_dir()


def test_the_samples_are_small_and_there():
    """The demonstration runs on what is in the repository."""
    size = sum(path.stat().st_size for path in SAMPLES.iterdir())
    assert size < 4 * 1024 * 1024
