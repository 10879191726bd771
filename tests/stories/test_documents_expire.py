"""Documents are kept as long as the law says, and not for ever: listed, approved by people, destroyed, proved.

dmst.md scenario A13 and section 1.7.
"""

import asyncio
import csv
import hashlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import httpx
import orjson
import pytest

from fhir_server.app import Parts, build, make_destroyer, make_due_documents
from fhir_server.outcomes import BadParameter, BadSyntax, Conflict, DanglingReference, NotFound, Unavailable
from fhir_server.r4.resource_types import TYPE_NUMBER
from fhir_server.records.write import deletion, new_id
from fhir_server.retention import approval, holds, listing
from fhir_server.retention.destruction import Destroyer, Fate
from fhir_server.retention.due import CALLER
from fhir_server.settings import Settings
from fhir_server.store.expunge import Expunge
from fhir_server.store.retention import RetentionRows
from mappings.nomenclature import kind_of
from mappings.scanned_document import kind_concept
from terminology import systems
from tests.stories.support import Provider, asking, count, dmst_fhir, running_service
from tests.support import keep, patient, put

PDF = b"%PDF-1.7 une fiche de visite"
WORKER = patient("w", birthDate="1950", extension=[{"url": systems.EXTENSION_LAST_VISIT, "valueDate": "1990"}])
ASBESTOS = {
    "resourceType": "Observation",
    "id": "asbestos",
    "status": "final",
    "code": {"coding": [{"system": systems.RETENTION_CLASS, "code": "AMIANTE50"}]},
    "subject": {"reference": "Patient/w"},
    "effectivePeriod": {"start": "1975", "end": "1985"},
}
VISIT = {
    "resourceType": "Encounter",
    "id": "visit",
    "status": "finished",
    "class": {"system": "http://terminology.hl7.org/CodeSystem/v3-ActCode", "code": "AMB"},
    "subject": {"reference": "Patient/w"},
    "period": {"start": "2020-05-06", "end": "2020-05-06"},
}


def document(identity: str, kind: str = "DMST-CORR-MED", worker: str = "w", **more: Any) -> dict[str, Any]:
    return {
        "resourceType": "DocumentReference",
        "id": identity,
        "status": "current",
        "type": kind_concept(kind_of(kind)),
        "subject": {"reference": f"Patient/{worker}"},
        "date": "2026-11-01T10:00:00Z",
        "content": [{"attachment": {"contentType": "application/pdf", "url": f"Binary/{identity}"}}],
        **more,
    }


@dataclass
class World:
    """A service, somebody who writes to it, and the day that it is."""

    parts: Parts
    client: httpx.AsyncClient
    folder: Path
    fates: list[Fate] = field(default_factory=list)

    async def document(self, identity: str, kind: str = "DMST-CORR-MED", worker: str = "w", **more: Any) -> None:
        """A document with its bytes, which the document protects."""
        await keep(self.client, document(identity, kind, worker, **more))
        headers = {"content-type": "application/pdf", "x-security-context": f"DocumentReference/{identity}"}
        answer = await self.client.put(f"/fhir/Binary/{identity}", content=PDF, headers=headers)
        assert answer.status_code == 201, answer.text

    async def due(self, day: date) -> list[dict[str, Any]]:
        return [one.as_row() async for one in make_due_documents(self.parts).at(day)]

    async def list(self, day: date, form: str = "csv") -> Path:
        path = self.folder / f"list.{form}"
        due = make_due_documents(self.parts).at(day)
        path.write_text("".join([f"{line}\n" async for line in listing.lines(due, form)]), encoding="utf-8")
        return path

    async def approve(self, path: Path, *names: str) -> str:
        rows = RetentionRows(self.parts.database)
        for name in names:
            approved = await approval.approve(rows, path, by=name, needed=2)
        return approved.list_id

    def destroyer(self, day: date, **more: Any) -> Destroyer:
        at = datetime(day.year, day.month, day.day, 12, tzinfo=UTC)
        return replace(make_destroyer(self.parts), now=lambda: at, **more)

    async def delete(self, day: date, **more: Any) -> dict[str, tuple[str, tuple[str, ...]]]:
        """{document: (state, why)}."""
        fates: list[Fate] = []
        await self.destroyer(day, **more).run(fates.append)
        assert len({one.document for one in fates}) == len(fates)
        return {one.document: (one.state, one.why) for one in fates}

    async def status(self, path: str) -> int:
        return (await self.client.get(f"/fhir/{path}")).status_code


@asynccontextmanager
async def a_world(settings: Settings, folder: Path) -> AsyncIterator[World]:
    async with build(settings) as parts, asking(parts) as client:
        yield World(parts, client, folder)


@pytest.fixture
async def world(make_settings: Callable[..., Settings], tmp_path: Path) -> AsyncIterator[World]:
    async with a_world(make_settings(), tmp_path) as world:
        await keep(world.client, WORKER, ASBESTOS)
        await world.document("one")
        await world.document("two", "DMST-EXPO-AMIANTE")
        yield world


LAST_DAY, DAY_AFTER = date(2035, 12, 31), date(2036, 1, 1)


async def test_a13_a_worker_exposed_to_asbestos_is_kept_until_2035(world: World) -> None:
    """Last visit 1990, asbestos to 1985, death unknown: CHEM50 (2035) outlasts 2030."""
    for day in (date(2031, 1, 1), date(2034, 12, 31), LAST_DAY):
        assert await world.due(day) == [], day
    due = await world.due(DAY_AFTER)
    assert due == [
        {
            "patient": "w",
            "document": identity,
            "version": 1,
            "until": "2035-12-31",
            "reasons": ["D40 R4624-45-9 2030-12-31", "AMIANTE50 R4412-55 2035-12-31"],
        }
        for identity in ("one", "two")
    ]
    await holds.hold(world.parts.door, "w", reason="contentieux", by="dpo")
    assert await world.due(DAY_AFTER) == []
    assert await world.due(date(2500, 1, 1)) == []
    assert await holds.release(world.parts.database, world.parts.door, "w", by="dpo") == 1
    assert await world.due(DAY_AFTER) == due


async def test_two_people_approve_and_the_documents_are_gone_for_good(world: World) -> None:
    """Neither the records, nor their versions, nor what names their bytes is left; the proof is."""
    await put(world.client, document("one", description="revu"))
    path = await world.list(DAY_AFTER)
    await world.approve(path, "M. Dupont")
    assert await world.delete(DAY_AFTER) == {}, "one person is not enough"
    with pytest.raises(Conflict):
        await world.approve(path, "m. dupont ")
    list_id = await world.approve(path, "DPO")
    assert await world.delete(DAY_AFTER) == {"one": ("destroyed", ()), "two": ("destroyed", ())}
    for name in ("DocumentReference/one", "Binary/one", "DocumentReference/two", "Binary/two"):
        assert await world.status(name) == 404
        assert await world.status(f"{name}/_history/1") == 404
    sha256 = hashlib.sha256(PDF)
    assert await count(world.parts, "resource where blob_sha256 is not null") == 0
    assert await count(world.parts, "resource_history where blob_sha256 is not null") == 0
    asked = f"Provenance?target:identifier={systems.DESTROYED}|DocumentReference/one"
    (found,) = (await world.client.get(f"/fhir/{asked}")).json()["entry"]
    proof = found["resource"]
    assert proof["activity"]["coding"][0]["code"] == "destroy"
    assert [agent["who"]["identifier"]["value"] for agent in proof["agent"]] == ["m. dupont", "dpo", "dmst-fhir"]
    assert proof["entity"][0]["what"]["identifier"]["value"] == sha256.hexdigest()
    assert "revu" not in orjson.dumps(proof).decode()
    async with world.parts.database.connection() as connection:
        cursor = await connection.execute(
            b"select list_id, state, contents, reasons, provenance_id from retention_item"
            b" where document_reference_id = 'one'"
        )
        (row,) = await cursor.fetchall()
    assert row[:3] == (list_id, "destroyed", [sha256.digest()])
    assert row[3]["approvers"] == ["m. dupont", "dpo"]
    assert row[3]["reasons"][1] == ["AMIANTE50", "R4412-55", "2035-12-31"]
    assert row[4] == proof["id"]
    trail = "access where client_id = 'self:retention' and patient_id = 'w' and resource_id = 'one'"
    assert await count(world.parts, f"{trail} and interaction = 'delete'") == 1
    assert await count(world.parts, f"{trail} and query = '$expunge'") == 1
    assert await world.due(DAY_AFTER) == []
    assert await world.delete(DAY_AFTER) == {}


async def test_a_visit_or_a_hold_after_the_approval_blocks(world: World) -> None:
    """Each decision is taken again when it is carried out; what was blocked has to be approved again."""
    await world.approve(await world.list(DAY_AFTER), "a", "b")
    await keep(world.client, VISIT)
    not_before = ("blocked", ("not-before 2060-05-06",))
    assert await world.delete(DAY_AFTER) == {"one": not_before, "two": not_before}
    assert await world.delete(date(2061, 1, 1)) == {}, "it was blocked, and nobody approved it since"
    path = await world.list(date(2061, 1, 1))
    await world.approve(path, "a", "b")
    await holds.hold(world.parts.door, "w", reason="contentieux", by="dpo")
    assert await world.delete(date(2061, 1, 1)) == {"one": ("blocked", ("HOLD",)), "two": ("blocked", ("HOLD",))}
    assert await world.status("Binary/one") == 200


async def test_a_hold_that_comes_between_decision_and_destruction_blocks(world: World) -> None:
    """The transaction that destroys sees what was committed before it, whatever was decided a moment ago."""
    await world.approve(await world.list(DAY_AFTER), "a", "b")
    destroyer = world.destroyer(DAY_AFTER)

    class Hurried:
        """Somebody is quicker than the destruction."""

        async def write(self, *words: Any, **more: Any) -> Any:
            if not await count(world.parts, f"resource where type = {TYPE_NUMBER['Flag']}"):
                await holds.hold(world.parts.door, "w", reason="contentieux", by="dpo")
            return await world.parts.door.write(*words, **more)

    fates: list[Fate] = []
    hurried: Any = Hurried()
    await replace(destroyer, door=hurried).run(fates.append)
    assert {(one.document, one.state, one.why) for one in fates} == {
        ("one", "blocked", ("HOLD",)),
        ("two", "blocked", ("HOLD",)),
    }
    assert await world.status("DocumentReference/one") == 200


async def test_what_changed_or_is_referred_to_is_not_destroyed(world: World) -> None:
    """Another version than the approved one; a document on which a Consent rests; one that somebody deleted."""
    for identity in ("proof", "gone"):
        await world.document(identity)
    path = await world.list(DAY_AFTER)
    await put(world.client, document("two", "DMST-EXPO-AMIANTE", description="corrigé"))
    await keep(
        world.client,
        {
            "resourceType": "Consent",
            "id": "c",
            "status": "active",
            "scope": {"coding": [{"system": "http://terminology.hl7.org/CodeSystem/consentscope", "code": "adr"}]},
            "category": [{"coding": [{"system": "http://loinc.org", "code": "59284-0"}]}],
            "patient": {"reference": "Patient/w"},
            "policyRule": {"text": "CSP L1111-17 IV"},
            "sourceReference": {"reference": "DocumentReference/proof"},
        },
    )
    going = [deletion("Binary", "gone"), deletion("DocumentReference", "gone")]
    await world.parts.door.write(CALLER, going, interaction="delete", request_id=new_id())
    await world.approve(path, "a", "b")
    assert await world.delete(DAY_AFTER) == {
        "one": ("destroyed", ()),
        "two": ("blocked", ("changed",)),
        "proof": ("blocked", ("referred-to-by Consent",)),
        "gone": ("blocked", ("gone",)),
    }
    assert await world.status("Binary/proof") == 200


async def test_bytes_that_another_document_has_stay(world: World) -> None:
    """Of the same worker or of another: a document takes no bytes with it that are not its own."""
    await keep(world.client, patient("other"))
    shared = [{"attachment": {"contentType": "application/pdf", "url": "Binary/foreign"}}]
    await world.document("foreign", worker="other")
    await world.document("thief", content=shared)
    await world.approve(await world.list(DAY_AFTER), "a", "b")
    fates = await world.delete(DAY_AFTER)
    assert fates["thief"] == ("destroyed", ())
    assert (await world.client.get("/fhir/Binary/foreign")).content == PDF


async def test_a_run_that_is_killed_is_finished_by_the_next(world: World) -> None:
    """Deleted, and not yet expunged: the next run does the rest, and decides nothing anew."""
    await world.approve(await world.list(DAY_AFTER), "a", "b")

    class Killed(Expunge):
        async def deleted_resources(self, *words: Any, **more: Any) -> int:
            raise Unavailable("killed")

    with pytest.raises(Unavailable):
        await world.delete(DAY_AFTER, expunge=Killed(world.parts.database))
    assert await world.status("DocumentReference/one") == 410
    assert await count(world.parts, "retention_item where state = 'deleted'") == 2
    assert await count(world.parts, "resource_history where blob_sha256 is not null") == 2
    await keep(world.client, VISIT)
    assert await world.delete(DAY_AFTER) == {"one": ("destroyed", ()), "two": ("destroyed", ())}
    assert await count(world.parts, "resource_history where blob_sha256 is not null") == 0
    assert await count(world.parts, "retention_item where state = 'destroyed'") == 2


async def test_who_takes_the_id_of_a_deleted_document_does_not_keep_its_versions(world: World) -> None:
    """Between the deletion and the removal of its rows somebody writes under the same id: only what is new stays."""
    await world.approve(await world.list(DAY_AFTER), "a", "b")

    class Killed(Expunge):
        async def deleted_resources(self, *words: Any, **more: Any) -> int:
            raise Unavailable("killed")

    with pytest.raises(Unavailable):
        await world.delete(DAY_AFTER, expunge=Killed(world.parts.database))
    await keep(world.client, document("one", description="nouveau"))
    assert await world.delete(DAY_AFTER) == {"one": ("destroyed", ()), "two": ("destroyed", ())}
    assert (await world.client.get("/fhir/DocumentReference/one")).json()["description"] == "nouveau"
    assert await world.status("DocumentReference/one/_history/1") == 404


async def test_a_row_that_somebody_holds_is_left_for_the_next_run(world: World) -> None:
    """It is said to be busy, and not said to be destroyed."""
    await world.approve(await world.list(DAY_AFTER), "a", "b")

    class Late(Expunge):
        async def deleted_resources(self, *words: Any, **more: Any) -> int:
            async with self.database.transaction() as connection:
                await connection.execute(b"select from resource where id = 'one' for update")
                return await Expunge(self.database).deleted_resources(*words, **more)

    assert await world.delete(DAY_AFTER, expunge=Late(world.parts.database)) == {
        "one": ("busy", ()),
        "two": ("destroyed", ()),
    }
    assert await world.delete(DAY_AFTER) == {"one": ("destroyed", ())}
    assert await count(world.parts, "resource where id = 'one'") == 0


async def test_records_that_are_linked_are_one_worker(world: World) -> None:
    """A visit in the other record of the same person keeps the documents of both."""
    await keep(world.client, patient("double", link=[{"other": {"reference": "Patient/w"}, "type": "seealso"}]))
    assert [one["document"] for one in await world.due(DAY_AFTER)] == ["one", "two"]
    await keep(world.client, {**VISIT, "subject": {"reference": "Patient/double"}})
    await world.document("three", worker="double")
    assert await world.due(DAY_AFTER) == []
    due = await world.due(date(2061, 1, 1))
    assert {(one["document"], one["patient"]) for one in due} == {("one", "w"), ("two", "w"), ("three", "double")}


async def test_the_list_is_the_same_in_csv_and_json_and_a_line_struck_out_stays(world: World) -> None:
    """Whoever strikes a line out keeps a document; what is no list is refused, with the line."""
    texts = await world.list(DAY_AFTER), await world.list(DAY_AFTER, "json")
    assert listing.identity(texts[0]) == listing.identity(texts[1])
    rows = list(csv.DictReader(texts[0].read_text(encoding="utf-8").splitlines()))
    assert [row["document"] for row in rows] == ["one", "two"]
    assert orjson.loads(texts[1].read_bytes())[0]["document"] == "one"
    kept = texts[0].read_text(encoding="utf-8").splitlines()
    texts[0].write_text("\n".join(kept[:2]), encoding="utf-8")
    await world.approve(texts[0], "a", "b")
    assert await world.delete(DAY_AFTER) == {"one": ("destroyed", ())}
    assert await world.status("Binary/two") == 200
    table = await world.list(DAY_AFTER, "table")
    with pytest.raises(BadSyntax):
        await world.approve(table, "a")
    texts[0].write_text("\n".join([kept[0], "w,two,one,2035-12-31,"]), encoding="utf-8")
    with pytest.raises(BadSyntax, match="Line 2"):
        await world.approve(texts[0], "a")
    texts[0].write_text(kept[0], encoding="utf-8")
    with pytest.raises(BadParameter):
        await world.approve(texts[0], "a")


async def test_a_hold_is_about_somebody_who_is_here(world: World) -> None:
    """An unknown worker, or one without a hold, is said to be so."""
    with pytest.raises(DanglingReference):
        await holds.hold(world.parts.door, "nobody", reason="contentieux", by="dpo")
    with pytest.raises(NotFound):
        await holds.release(world.parts.database, world.parts.door, "w", by="dpo")
    flag_id = await holds.hold(world.parts.door, "w", reason="contentieux", by="dpo")
    answer = (await world.client.get(f"/fhir/Provenance?target=Flag/{flag_id}")).json()
    (found,) = [entry["resource"] for entry in answer["entry"]]
    assert found["agent"][0]["who"]["identifier"]["value"] == "dpo"


async def test_looking_for_what_is_due_is_traced_for_each_worker_shown(world: World) -> None:
    """And for nobody else."""
    trail = "access where query = 'retention due'"
    await world.due(LAST_DAY)
    assert await count(world.parts, trail) == 0
    await world.due(DAY_AFTER)
    assert await count(world.parts, f"{trail} and patient_id = 'w'") == 1


async def test_a_scanned_folder_is_destroyed_and_its_traces_stay(
    make_settings: Callable[..., Settings], trust: Path, provider: Provider, tmp_path: Path
) -> None:
    """Its four steps are still told, of documents that are gone by name; the paper it came on does not come back."""
    settings = make_settings(seal_trust=trust)
    async with running_service(settings) as parts, asking(parts) as client:
        world = World(parts, client, tmp_path)
        await parts.lots.receive(provider.lot("100000101"))
        day = date(2100, 1, 1)
        (worker,) = {one["patient"] for one in await world.due(day)}
        before = {one["document"] for one in await world.due(day)}
        assert len(before) == 4
        await world.approve(await world.list(day), "a", "b")
        assert await world.delete(day) == dict.fromkeys(before, ("destroyed", ()))
        traces = (await client.get("/fhir/Provenance?_count=100")).json()["entry"]
        told = [one["resource"] for one in traces]
        activities = sorted(one["activity"]["coding"][0]["code"] for one in told)
        assert activities == ["destroy"] * 4 + ["link", "originate", "receive", "verify"]
        gone = {f"DocumentReference/{one}" for one in before}
        for one in told:
            names = {target["identifier"]["value"] for target in one["target"] if "identifier" in target}
            assert names <= gone
            assert len(names) in (1, 4)
        verified = next(one for one in told if one["activity"]["coding"][0]["code"] == "verify")
        assert all(e["what"]["identifier"]["system"] == systems.SHA256 for e in verified["entity"])
        answer = await parts.lots.receive(provider.lot("100000101"))
        assert {folder.state for folder in answer.folders} == {"rejected"}, (
            "it was destroyed, and is not taken in again"
        )
        assert (await client.get(f"/fhir/DocumentReference?patient=Patient/{worker}")).json()["total"] == 0


async def test_the_commands_say_what_they_did(world: World) -> None:
    """From the hold to the last document: what is written by `due` is read by `approve`, and `delete` tells each."""

    async def run(*words: str) -> tuple[int, str, str]:
        done = await asyncio.to_thread(dmst_fhir, world.parts.settings, "retention", *words)
        return done.exit_code, done.stdout, done.stderr

    status, said, _ = await run("hold", "Patient/w", "--reason", "contentieux", "--by", "dpo")
    assert (status, said.startswith("held: Flag/")) == (0, True)
    due = ("due", "--at", "2100-01-01", "--format", "csv")
    assert (await run(*due))[:2] == (0, "patient,document,version,until,reasons\n")
    assert (await run("release", "Patient/w", "--by", "dpo"))[:2] == (0, "released: 1\n")
    status, said, _ = await run(*due)
    assert (status, len(said.splitlines())) == (0, 3)
    assert "TESTEUR" not in said
    path = world.folder / "list.csv"
    path.write_text(said, encoding="utf-8")
    assert "1 more must approve it" in (await run("approve", str(path), "--by", "dpo"))[1]
    status, _, complaint = await run("approve", str(path), "--by", "dpo")
    assert (status, "conflict" in complaint) == (1, True)
    assert (await run("approve", str(path), "--by", "medecin"))[0] == 0
    status, said, _ = await run("delete")
    assert (status, said) == (1, "one blocked not-before 2035-12-31\ntwo blocked not-before 2035-12-31\n")
    assert (await run("lists"))[1].endswith(" 2 blocked 2\n")
