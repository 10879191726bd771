"""What bad input gets: a code, a sentence that names the file and what is wrong; nothing lost or half written."""

import hashlib
import io
import os
import shutil
import zipfile
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson
import pikepdf
import pytest

from fhir_server.app import Parts
from fhir_server.scans.builder import build_zip
from fhir_server.scans.seal import make_demo_authority
from fhir_server.settings import Settings
from tests.stories.support import DESCRIPTION, SAMPLES, Provider, count, running_service


def a_pdf(path: Path, change: Callable[[pikepdf.Pdf], None] | None = None, **how: Any) -> None:
    """A scanned page of the samples, changed."""
    with pikepdf.open(SAMPLES / "100000101-aptitude.pdf") as pdf:
        if change:
            change(pdf)
        pdf.save(path, **how)


def javascript(pdf: pikepdf.Pdf) -> None:
    pdf.Root.OpenAction = pikepdf.Dictionary(S=pikepdf.Name.JavaScript, JS="app.alert(1)")


def launch(pdf: pikepdf.Pdf) -> None:
    pdf.Root.OpenAction = pikepdf.Dictionary(S=pikepdf.Name.Launch, F="calc.exe")


def embedded_file(pdf: pikepdf.Pdf) -> None:
    pdf.attachments["note.txt"] = b"hidden"


BROKEN: dict[str, tuple[str, Callable[[Path], None]]] = {
    "encrypted": ("E05", lambda p: a_pdf(p, encryption=pikepdf.Encryption(owner="o", user="u"))),
    "javascript": ("E05", lambda p: a_pdf(p, javascript)),
    "a launch action": ("E05", lambda p: a_pdf(p, launch)),
    "an embedded file": ("E05", lambda p: a_pdf(p, embedded_file)),
    "truncated": ("E05", lambda p: p.write_bytes((SAMPLES / "100000101-aptitude.pdf").read_bytes()[:9000])),
}


def edited(lot: Path, provider: Provider, change: Callable[[dict[str, Any]], None]) -> Path:
    """The provider's manifest, wrong and properly sealed."""
    manifest = orjson.loads((lot / "manifest.json").read_bytes())
    change(manifest)
    raw = orjson.dumps(manifest)
    (lot / "manifest.json").write_bytes(raw)
    signature, token = provider.authority.seal(raw, datetime.now(UTC))
    (lot / "manifest.json.p7s").write_bytes(signature)
    (lot / "manifest.json.tsr").write_bytes(token)
    return lot


def with_broken(provider: Provider, break_it: Callable[[Path], None]) -> Path:
    """A lot whose manifest lists a bad file with the right hash: what a careless provider would send."""
    lot = provider.lot("100000101", "100000102")

    def relisted(manifest: dict[str, Any]) -> None:
        listed = next(d for f in manifest["folders"] for d in f["documents"] if d["file"]["path"].endswith("0003.pdf"))
        path = lot / listed["file"]["path"]
        break_it(path)
        listed["file"]["size"] = path.stat().st_size
        listed["file"]["sha256"] = hashlib.sha256(path.read_bytes()).hexdigest()

    return edited(lot, provider, relisted)


@pytest.mark.parametrize("what", BROKEN)
async def test_a_file_that_may_not_come_in_rejects_its_folder(service: Parts, provider: Provider, what: str):
    """Encrypted, active, truncated: the code, the path of the file, and not one record."""
    code, break_it = BROKEN[what]
    rebuilt = with_broken(provider, break_it)
    answer = await service.lots.receive(rebuilt)
    folders = {folder.barcode: folder for folder in answer.folders}
    assert folders["100000102"].state == "accepted"
    assert folders["100000101"].state == "rejected"
    assert code in {problem.code for problem in folders["100000101"].problems}
    assert all(problem.path for problem in folders["100000101"].problems)
    assert await count(service, "scan_document where state = 'rejected' and document_reference_id is not null") == 0


async def test_a_manifest_that_lies_about_pages_rejects_the_folder(service: Parts, provider: Provider):
    """E04: two pages were announced, one came."""

    def lie(manifest: dict[str, Any]) -> None:
        document = manifest["folders"][0]["documents"][0]
        document["pages"] += 1
        for holder in (manifest.get("counts", {}), manifest):
            if "pages" in holder:
                holder["pages"] += 1

    (folder,) = (await service.lots.receive(edited(provider.lot("100000102"), provider, lie))).folders
    assert folder.state == "rejected"
    assert "E04" in {problem.code for problem in folder.problems}


async def test_a_missing_and_an_extra_file_reject_the_folder(service: Parts, provider: Provider):
    """E03, with the path of each."""
    lot = provider.lot("100000101", "100000102", "100000103")
    missing = next((lot / "DOSSIER_100000101").iterdir())
    missing.unlink()
    (lot / "DOSSIER_100000102" / "surprise.pdf").write_bytes(b"%PDF-1.4")
    answer = await service.lots.receive(lot)
    folders = {folder.barcode: folder for folder in answer.folders}
    assert [(p.code, p.path) for p in folders["100000101"].problems] == [("E03", f"DOSSIER_100000101/{missing.name}")]
    assert [(p.code, p.path) for p in folders["100000102"].problems] == [("E03", "DOSSIER_100000102/surprise.pdf")]
    assert folders["100000103"].state == "accepted"


async def test_a_lot_without_seal_is_refused_where_one_is_required(service: Parts, provider: Provider):
    """E01, and nothing is kept."""
    answer = await service.lots.receive(provider.lot("100000101", sealed=False))
    assert answer.state == "rejected"
    assert [problem.code for problem in answer.problems] == ["E01"]
    assert await count(service, "scan_lot") == 0


async def test_a_lot_without_seal_comes_in_where_none_is_required(world: Settings, provider: Provider):
    """The agreement with the provider decides."""
    async with running_service(world.model_copy(update={"seal": "optional"})) as service:
        answer = await service.lots.receive(provider.lot("100000101", sealed=False))
    assert answer.state == "accepted"
    assert answer.seal.state == "absent"


async def test_a_seal_of_somebody_else_is_refused(service: Parts, provider: Provider, tmp_path: Path):
    """A good signature of an authority that we do not trust is no seal."""
    provider.authority = make_demo_authority(tmp_path / "stranger")
    answer = await service.lots.receive(provider.lot("100000101"))
    assert answer.state == "rejected"
    assert {problem.code for problem in answer.problems} == {"E01"}


async def test_one_changed_byte_in_the_manifest_breaks_the_seal(service: Parts, provider: Provider):
    """E01: whatever the seal covers is what was sealed."""
    lot = provider.lot("100000101")
    manifest = lot / "manifest.json"
    manifest.write_bytes(manifest.read_bytes().replace(b"OP-042", b"OP-043"))
    answer = await service.lots.receive(lot)
    assert answer.state == "rejected"
    assert answer.seal.state == "invalid"


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff\xfe", b'{"format":"other"}'])
async def test_an_unreadable_manifest_is_e01(service: Parts, provider: Provider, content: bytes):
    """Whatever the bytes: the lot is refused with a reason, and the service goes on."""
    lot = provider.lot("100000101")
    (lot / "manifest.json").write_bytes(content)
    answer = await service.lots.receive(lot)
    assert answer.state == "rejected"
    assert {problem.code for problem in answer.problems} == {"E01"}
    assert all(problem.detail for problem in answer.problems)


async def test_a_link_in_the_lot_is_refused(service: Parts, provider: Provider):
    """A link could lead anywhere on this machine."""
    lot = provider.lot("100000101")
    (lot / "DOSSIER_100000101" / "link.pdf").symlink_to("/etc/hostname")
    answer = await service.lots.receive(lot)
    assert answer.state == "rejected"
    assert "link" in answer.problems[0].detail


async def test_a_zip_that_climbs_out_of_its_folder_is_refused(service: Parts, tmp_path: Path):
    """Zip slip: nothing is written, inside or outside."""
    archive = tmp_path / "LOT_20261015_C07_0666.zip"
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("LOT_20261015_C07_0666/../../evil.txt", "x")
    answer = await service.lots.receive(archive)
    assert answer.state == "rejected"
    assert {problem.code for problem in answer.problems} == {"E01"}
    assert not list(tmp_path.rglob("evil.txt"))


async def test_a_zipped_lot_comes_in_like_any_other(service: Parts, provider: Provider):
    """And what it was unpacked to is gone afterwards."""
    description = {**DESCRIPTION, "folder": [f for f in DESCRIPTION["folder"] if f["barcode"] == "100000101"]}
    archive = build_zip(
        description,
        SAMPLES,
        provider.folder,
        lot="LOT_20261015_C07_0500",
        at=datetime.now(UTC),
        seal=provider.authority,
    )
    assert (await service.lots.receive(archive)).state == "accepted"
    assert not any((service.settings.data / "unpacked").iterdir())


async def test_names_in_latin_1_are_read_as_they_were_written(service: Parts, provider: Provider):
    """An index in ISO-8859-1 with accents still finds its worker."""

    def accents(description: dict[str, Any]) -> None:
        description["folder"][0]["given_names"] = ["Claire", "Marïe"]

    lot = provider.lot("100000101", change=accents)
    index = lot / "index.csv"
    raw = index.read_text(encoding="utf-8").encode("latin-1")
    index.write_bytes(raw)

    def relisted(manifest: dict[str, Any]) -> None:
        manifest["index"]["size"] = len(raw)
        manifest["index"]["sha256"] = hashlib.sha256(raw).hexdigest()

    (folder,) = (await service.lots.receive(edited(lot, provider, relisted))).folders
    assert folder.state == "accepted"


async def test_a_document_larger_than_allowed_rejects_its_folder(world: Settings, provider: Provider, tmp_path: Path):
    """A huge file is refused with a code; it is never read into memory."""
    source = tmp_path / "source"
    shutil.copytree(SAMPLES, source)
    target = source / "100000101-aptitude.pdf"
    with pikepdf.open(target) as pdf:
        pdf.Root.Filler = pikepdf.Stream(pdf, os.urandom(3 * 1024 * 1024))
        buffer = io.BytesIO()
        pdf.save(buffer)
    target.write_bytes(buffer.getvalue())
    async with running_service(world.model_copy(update={"max_binary_mb": 2})) as service:
        answer = await service.lots.receive(provider.lot("100000101", "100000102", source=source))
    folders = {folder.barcode: folder for folder in answer.folders}
    assert folders["100000101"].state == "rejected"
    assert folders["100000102"].state == "accepted"


async def test_an_empty_delivery_is_refused(service: Parts, tmp_path: Path):
    """A folder with nothing in it is not a lot."""
    lot = tmp_path / "LOT_20261015_C07_0000"
    lot.mkdir()
    answer = await service.lots.receive(lot)
    assert answer.state == "rejected"
    assert answer.problems[0].code == "E01"
