"""The words of a cover: they hold a folder back, they are shown to whoever decides, and they attach nothing."""

import shutil
from pathlib import Path
from typing import Any

import pytest

from bench.covers import drawn
from fhir_server.app import Parts
from fhir_server.settings import Settings
from fhir_server.store.scan_lots import FolderRow, ScanLots
from tests.stories.support import SAMPLES, Provider, running_service

PROGRAM = shutil.which("tesseract")
JULIEN = "100000102"
SOMEBODY = [("Nom de naissance :", "GABARIT"), ("Prénoms :", "BERNARD, LOUIS"), ("Né le :", "08/05/1961")]
HIM = [("Nom de naissance :", "FICTIVEAU"), ("Prénoms :", "JULIEN"), ("Né le :", "22 juillet 1985")]


def delivered(provider: Provider, folder: Path, lines: list[tuple[str, str]], **index: str) -> Path:
    """The folder of Julien, its cover printed anew, without barcode or datamatrix; `index` says other things of him."""
    source = folder / f"source{provider.number}"
    shutil.copytree(SAMPLES, source)
    drawn(lines, dpi=200).save(source / "cover.png", dpi=(200, 200))

    def change(description: dict[str, Any]) -> None:
        (entry,) = description["folder"]
        entry["document"] = [{"file": "cover.png", "type": "DMST-COUV", "dated": "2024-06-12", "dpi": 200}]
        entry.update(index)

    return provider.lot(JULIEN, change=change, source=source)


async def received(service: Parts, lot: Path) -> FolderRow:
    told = await service.lots.receive(lot)
    row = await ScanLots(service.database).folder(told.lot, told.folders[0].barcode)
    assert row
    return row


@pytest.mark.skipif(PROGRAM is None, reason="Tesseract is not installed: see tools/test-packages")
async def test_the_words_of_a_cover_hold_back_and_propose_and_attach_nothing(
    world: Settings, provider: Provider, tmp_path: Path
) -> None:
    """Barcode and index are certain of Julien: a cover of Bernard waits, with what was read; Julien's own goes in, and
    nothing of what was read is kept. Where the index names nobody, the cover proposes him, and still a person decides.
    """
    settings = world.model_copy(update={"cover_reader": Path(str(PROGRAM)), "cover_seconds": 60.0})
    async with running_service(settings) as service:
        waiting = await received(service, delivered(provider, tmp_path, SOMEBODY))
        assert (waiting.state, waiting.problems[0]["code"]) == ("to-review", "E13")
        assert waiting.evidence
        assert waiting.evidence["reasons"] == ["cover-names-another"]
        first, second = waiting.evidence["candidates"]
        assert (first["against"], second["for"]) == (["cover-differs"], ["cover-proposes"])
        read = {one["field"]: one["value"] for one in waiting.evidence["read"]}
        assert read == {"birth_name": "GABARIT", "given_names": "BERNARD, LOUIS", "birth_date": "1961-05-08"}

        nobody = {"birth_name": "INCONNU", "given_names": ["PERSONNE"], "birth_date": "1950-01-01", "ins": ""}
        proposed = await received(
            service, delivered(provider, tmp_path, HIM, barcode="999999999", ins_oid="", **nobody)
        )
        assert proposed.state == "to-review"
        assert proposed.evidence
        assert [one["for"] for one in proposed.evidence["candidates"]] == [["cover-proposes"]]

        again = delivered(provider, tmp_path, [*HIM, ("Sexe :", "M")], replaces_lot="LOT_20261015_C07_0001")
        certain = await received(service, again)
        assert (certain.state, certain.patient_id) == ("accepted", first["patient"])
        assert certain.evidence
        assert "cover-agrees" in certain.evidence["reasons"]
        assert "read" not in certain.evidence


async def test_a_reader_that_is_gone_stops_no_lot(world: Settings, provider: Provider, tmp_path: Path) -> None:
    """The folder goes the way that it would go without."""
    async with running_service(world.model_copy(update={"cover_reader": tmp_path / "nothing"})) as service:
        row = await received(service, delivered(provider, tmp_path, SOMEBODY))
        assert row.state == "accepted"
