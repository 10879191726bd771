"""A sealed lot comes in: what is good becomes FHIR records, what is bad is rejected alone, what is doubtful waits.

dmst.md scenarios A1 to A4 and A14 to A16.
"""

import asyncio
import base64
import hashlib
import shutil
from pathlib import Path
from typing import Any

import orjson
import pytest

from fhir_server.app import Parts
from fhir_server.evidence import report
from fhir_server.outcomes import Conflict
from fhir_server.scans.acknowledgement import Acknowledgement, FolderResult
from tests.stories.support import CERTAIN, SAMPLES, Provider, asking, count


def by_barcode(answer: Any) -> dict[str, FolderResult]:
    return {folder.barcode: folder for folder in answer.folders}


def codes(folder: FolderResult) -> set[str]:
    return {problem.code for problem in folder.problems}


async def test_the_folders_of_known_workers_are_attached_and_the_others_are_not(service: Parts, provider: Provider):
    """Certain: attached. Doubtful: set aside. Broken: rejected. Each folder by itself."""
    answer = await service.lots.receive(provider.lot())
    folders = by_barcode(answer)
    assert answer.state == "partly-accepted"
    assert answer.seal.state == "valid"
    assert {b for b, f in folders.items() if f.state == "accepted"} == set(CERTAIN)
    assert codes(folders["100000104"]) == {"E13"}, "two workers in one folder"
    assert folders["100000106"].state == "to-review", "a provisional identity needs a person"
    assert folders["100000107"].state == "to-review", "the given name of a twin"
    assert codes(folders["100000109"]) == {"E05"}, "a file that does not open"


async def test_a_client_finds_the_scanned_page_of_a_worker_and_its_bytes(service: Parts, provider: Provider):
    """GET DocumentReference?patient=..., then GET the Binary: the bytes that were scanned."""
    await service.lots.receive(provider.lot("100000101"))
    async with asking(service) as client:
        worker = (await client.get("/fhir/Patient?identifier=100000101")).json()["entry"][0]["resource"]
        found = (await client.get(f"/fhir/DocumentReference?patient=Patient/{worker['id']}")).json()
        assert found["total"] == 4
        visit = next(
            e["resource"] for e in found["entry"] if e["resource"]["type"]["coding"][-1]["code"] == "DMST-VISITE"
        )
        attachment = visit["content"][0]["attachment"]
        answer = await client.get(f"/fhir/{attachment['url']}")
    original = (SAMPLES / "100000101-visite4.pdf").read_bytes()
    assert answer.content == original
    assert answer.headers["content-type"] == "application/pdf"
    assert attachment["hash"] == base64.b64encode(hashlib.sha1(original).digest()).decode()
    assert attachment["size"] == len(original)


async def test_every_step_of_the_chain_leaves_its_provenance(service: Parts, provider: Provider):
    """Scanned, received, verified, attached: one Provenance each, with the seal as signature."""
    await service.lots.receive(provider.lot("100000101"))
    async with asking(service) as client:
        document = (await client.get("/fhir/DocumentReference?_count=1")).json()["entry"][0]["resource"]
        found = (await client.get(f"/fhir/Provenance?target=DocumentReference/{document['id']}")).json()
    steps = {e["resource"]["activity"]["coding"][0]["code"]: e["resource"] for e in found["entry"]}
    assert set(steps) == {"originate", "receive", "verify", "link"}
    assert [s["sigFormat"] for s in steps["verify"]["signature"]] == [
        "application/pkcs7-signature",
        "application/timestamp-reply",
    ]


async def test_what_waits_for_a_person_has_no_record_that_a_query_could_find(service: Parts, provider: Provider):
    """A doubtful folder is invisible: no DocumentReference, no Binary, no List, no delivery."""
    await service.lots.receive(provider.lot("100000104", "100000106", "100000107"))
    async with asking(service) as client:
        for resource_type in ("DocumentReference", "Binary", "Provenance", "Task"):
            answer = (await client.get(f"/fhir/{resource_type}?_total=accurate")).json()
            assert answer["total"] == 0, resource_type
    assert await count(service, "delivery") == 0
    assert await count(service, "scan_folder where state = 'to-review'") == 3


async def test_a_person_attaches_a_folder_and_is_named_in_its_provenance(service: Parts, provider: Provider):
    """The review queue empties by decisions, which are recorded as somebody's."""
    answer = await service.lots.receive(provider.lot("100000106"))
    async with asking(service) as client:
        worker = (await client.get("/fhir/Patient?identifier=100000106")).json()["entry"][0]["resource"]
        await service.documents.attach(answer.lot, "100000106", worker["id"], by="jdurand")
        found = (await client.get(f"/fhir/DocumentReference?patient=Patient/{worker['id']}")).json()
        links = (await client.get("/fhir/Provenance?_count=50")).json()
    assert len(found["entry"]) == 6, "four documents, and a PDF/A rendition of each of the two images"
    link = next(e["resource"] for e in links["entry"] if e["resource"]["activity"]["coding"][0]["code"] == "link")
    assert link["agent"][0]["who"]["identifier"]["value"] == "jdurand"
    assert await count(service, "scan_folder where state = 'to-review'") == 0


async def test_one_altered_file_rejects_exactly_its_folder(service: Parts, provider: Provider):
    """A1: the other folders proceed, and the acknowledgement lists the one with E02 and the file."""
    lot = provider.lot(*CERTAIN)
    victim = next((lot / "DOSSIER_100000102").glob("*.pdf"))
    content = bytearray(victim.read_bytes())
    content[len(content) // 2] ^= 1
    victim.write_bytes(content)
    folders = by_barcode(await service.lots.receive(lot))
    assert {b: f.state for b, f in folders.items()} == {
        "100000101": "accepted",
        "100000102": "rejected",
        "100000103": "accepted",
    }
    (problem,) = folders["100000102"].problems
    assert (problem.code, problem.path) == ("E02", f"DOSSIER_100000102/{victim.name}")


async def test_the_same_lot_twice_adds_nothing(service: Parts, provider: Provider):
    """A2: the second answer says already ingested; not one more row."""
    lot = provider.lot(*CERTAIN)
    await service.lots.receive(lot)
    before = await count(service, "resource")
    again = await service.lots.receive(lot)
    assert again.state == "already-ingested"
    assert await count(service, "resource") == before
    assert await count(service, "resource_history") == 0


async def test_what_was_rejected_is_rejected_again(service: Parts, provider: Provider):
    """The provider keeps the paper of what is not in, also when he lost the first answer."""
    lot = provider.lot(*CERTAIN)
    next((lot / "DOSSIER_100000102").glob("*.pdf")).write_bytes(b"%PDF-1.7 something else")
    first = await service.lots.receive(lot)
    again = await service.lots.receive(lot)
    assert (first.state, again.state) == ("partly-accepted", "partly-accepted")
    assert [folder.state for folder in again.folders] == ["already-ingested", "rejected", "already-ingested"]
    assert again.folders[1].problems == first.folders[1].problems


async def test_one_lot_given_to_two_at_once_is_taken_in_by_one(service: Parts, provider: Provider):
    """Two workers on one drop folder: the archive that one reads is not unpacked again under his hands."""
    lot = provider.lot(*CERTAIN)
    archive = Path(shutil.make_archive(str(lot), "zip", lot.parent, lot.name))
    answers = await asyncio.gather(*(service.lots.receive(archive) for _ in range(3)), return_exceptions=True)
    taken = [answer for answer in answers if isinstance(answer, Acknowledgement)]
    assert [answer.state for answer in taken] == ["accepted"]
    assert sum(isinstance(answer, Conflict) for answer in answers) == 2
    assert (await service.lots.receive(archive)).state == "already-ingested"


async def test_the_same_files_in_another_lot_are_duplicates(service: Parts, provider: Provider):
    """E09 or E16: what is in already does not come in beside itself."""
    await service.lots.receive(provider.lot("100000101"))
    (folder,) = (await service.lots.receive(provider.lot("100000101"))).folders
    assert folder.state == "rejected"
    assert "E09" in codes(folder)


async def test_two_lots_with_the_same_files_at_the_same_moment_let_one_in(service: Parts, provider: Provider):
    """Racing lots wait for each other on what they both bring."""
    first, second = provider.lot("100000101"), provider.lot("100000101")
    answers = await asyncio.gather(service.lots.receive(first), service.lots.receive(second))
    assert sorted(a.folders[0].state for a in answers) == ["accepted", "rejected"]
    async with asking(service) as client:
        assert (await client.get("/fhir/DocumentReference?_total=accurate")).json()["total"] == 4


async def test_another_lot_under_the_same_name_is_refused(service: Parts, provider: Provider, tmp_path: Path):
    """E16: a name stands for one content."""
    await service.lots.receive(provider.lot("100000101", name="LOT_20261015_C07_0077"))
    provider.folder = tmp_path / "again"
    provider.folder.mkdir()
    answer = await service.lots.receive(provider.lot("100000102", name="LOT_20261015_C07_0077"))
    assert answer.state == "rejected"
    assert [p.code for p in answer.problems] == ["E16"]


async def test_a_corrected_document_becomes_a_new_one_and_supersedes_the_old(
    service: Parts, provider: Provider, tmp_path: Path
):
    """Re-delivery replaces by a new version and never overwrites; what did not change stays as it is."""
    first = await service.lots.receive(provider.lot("100000101"))
    source = tmp_path / "corrected"
    shutil.copytree(SAMPLES, source)
    shutil.copy(SAMPLES / "100000103-aptitude.pdf", source / "100000101-aptitude.pdf")

    def as_correction(description: dict[str, Any]) -> None:
        description["folder"][0]["replaces_lot"] = first.lot

    answer = await service.lots.receive(provider.lot("100000101", change=as_correction, source=source))
    assert answer.folders[0].state == "accepted", answer.folders[0].problems
    async with asking(service) as client:
        current = (await client.get("/fhir/DocumentReference?status=current")).json()["entry"]
        old = (await client.get("/fhir/DocumentReference?status=superseded")).json()["entry"]
    assert len(current) == 4
    assert len(old) == 1
    new = next(e["resource"] for e in current if "relatesTo" in e["resource"])
    assert new["relatesTo"] == [
        {"code": "replaces", "target": {"reference": f"DocumentReference/{old[0]['resource']['id']}"}}
    ]
    assert old[0]["resource"]["meta"]["versionId"] == "2"


async def test_an_image_is_kept_as_it_came_and_rendered_beside(service: Parts, provider: Provider):
    """The TIFF stays byte-identical; a PDF/A that transforms it can be read by everybody."""
    await service.lots.receive(provider.lot("100000103"))
    async with asking(service) as client:
        found = (await client.get("/fhir/DocumentReference?_count=50")).json()["entry"]
        by_type = {}
        for entry in found:
            document = entry["resource"]
            attachment = document["content"][0]["attachment"]
            if document["type"]["coding"][-1]["code"] == "DMST-QUEST":
                by_type[attachment["contentType"]] = (
                    document,
                    (await client.get(f"/fhir/{attachment['url']}")).content,
                )
    original, rendition = by_type["image/tiff"], by_type["application/pdf"]
    assert original[1] == (SAMPLES / "100000103-questionnaire.tif").read_bytes()
    assert rendition[1].startswith(b"%PDF")
    assert rendition[0]["relatesTo"] == [
        {"code": "transforms", "target": {"reference": f"DocumentReference/{original[0]['id']}"}}
    ]


async def test_the_evidence_report_passes_and_notices_every_kind_of_tampering(service: Parts, provider: Provider):
    """A16: bytes, manifest and seal are verified again; one changed byte in any of them fails."""
    await service.lots.receive(provider.lot("100000101"))
    async with asking(service) as client:
        document = (await client.get("/fhir/DocumentReference?_count=1")).json()["entry"][0]["resource"]
    name = f"DocumentReference/{document['id']}"
    good = await report(service, name)
    assert good.passed
    assert {check.result for check in good.checks} == {"pass"}
    for column, label in (("sha256", "SHA-256 du contenu"), ("manifest", "SHA-256 du manifeste")):
        async with service.database.connection() as connection:
            row = await (
                await connection.execute(
                    b"select blob_sha256, (select manifest_sha256 from scan_lot) from resource"
                    b" where blob_sha256 is not null and id = %s",
                    (document["content"][0]["attachment"]["url"].removeprefix("Binary/"),),
                )
            ).fetchone()
        assert row
        sealed = await service.blobs.keys.find(row[0] if column == "sha256" else row[1])
        path = service.blobs.below.path(sealed.address)
        kept = path.read_bytes()
        path.write_bytes(kept[:-1] + bytes([kept[-1] ^ 1]))
        bad = await report(service, name)
        path.write_bytes(kept)
        assert not bad.passed
        assert any(check.result == "fail" and label in check.label for check in bad.checks)


async def test_a_rendition_has_evidence_of_its_own_and_of_its_original(service: Parts, provider: Provider):
    """The PDF/A that we made is not in the manifest; the image that it shows is."""
    await service.lots.receive(provider.lot("100000103"))
    async with asking(service) as client:
        found = (await client.get("/fhir/DocumentReference?_count=50")).json()["entry"]
    rendition = next(e["resource"] for e in found if e["resource"].get("relatesTo"))
    assert (await report(service, f"DocumentReference/{rendition['id']}")).passed


async def test_the_acknowledgement_names_no_person(service: Parts, provider: Provider):
    """The provider is told barcodes, files and codes; no name, no birth date, no INS."""
    answer = await service.lots.receive_and_answer(provider.lot())
    told = answer.content.decode()
    assert orjson.loads(told)["lot"]
    for trait in ("BEAUTEST", "FICTIVEAU", "JULIEN", "1978-03-14", "278037511500060", "185076938300004"):
        assert trait not in told


async def test_lots_and_folders_are_lists(service: Parts, provider: Provider):
    """A lot is the List of the folders that were attached; a folder the List of its documents."""
    answer = await service.lots.receive(provider.lot("100000101", "100000102", "100000109"))
    async with asking(service) as client:
        lots = (await client.get(f"/fhir/List?identifier={answer.lot}")).json()["entry"]
        entries = [e["item"]["reference"] for e in lots[0]["resource"]["entry"]]
        folder = (await client.get(f"/fhir/{entries[0]}")).json()
    assert len(entries) == 2
    assert len(folder["entry"]) == 4


@pytest.mark.parametrize("parameter", ["patient", "entity"])
async def test_reading_a_document_is_traced_in_the_workers_record(service: Parts, provider: Provider, parameter: str):
    """A15: who read what, found again by worker and by document, as AuditEvent."""
    await service.lots.receive(provider.lot("100000101"))
    async with asking(service) as client:
        document = (await client.get("/fhir/DocumentReference?_count=1")).json()["entry"][0]["resource"]
        await client.get(f"/fhir/DocumentReference/{document['id']}")
        asked = {
            "patient": document["subject"]["reference"],
            "entity": f"DocumentReference/{document['id']}",
        }[parameter]
        trail = (await client.get(f"/fhir/AuditEvent?{parameter}={asked}")).json()["entry"]
    actions = [entry["resource"]["subtype"][0]["code"] for entry in trail]
    assert "read" in actions
    assert "transaction" in actions
