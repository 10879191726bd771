"""How fast a scan lot is verified, and how fast it becomes records that are visible, traced and on their way.

    python -m bench.lots [--documents 5000] [--work FOLDER] [--json FILE]

Makes a lot of documents of 3 pages (PDF/A-2b; two in three in black and white at 300 dpi as G4, the others in grey at
200 dpi as JPEG), two to a folder, the first with the barcode of its folder on its first page, for as many made-up
workers as there are folders; every folder matches for certain. No two documents are alike; their second and third
pages are drawn from a stock, since drawing 15,000 would take longer than measuring.

    verification   hash, structure, pages, ink and codes of every file, in the two processes that an intake has
    end to end     blobs, DocumentReferences, Binaries, Provenances, List, audit, deliveries with Tasks and jobs
    one large      a single PDF of 330 MB through the same intake: memory of each process
"""

import argparse
import asyncio
import csv
import io
import multiprocessing
import os
import random
import statistics
import subprocess
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from itertools import repeat
from pathlib import Path
from typing import Any, Final, Literal

import img2pdf
import pikepdf
import pikepdf.pdfa
import psutil
import zxingcpp
from PIL import Image, ImageDraw

from bench.measure import MB, PeakMemory, cpu_seconds, family, machine, postgres_processes, spread, write
from bench.ours import data_folder
from fhir_server.app import Parts, build
from fhir_server.intake.document import DocumentIntake
from fhir_server.intake.scan_lot import LotIntake
from fhir_server.scans import builder
from fhir_server.scans.examination import Terms, examine
from fhir_server.scans.inspection import inspect, prepare_process
from fhir_server.scans.manifest import parse
from fhir_server.scans.seal import make_demo_authority
from fhir_server.settings import Settings

LOT = "LOT_20260302_C07_0001"
LARGE_LOT = "LOT_20260302_C07_0002"
LARGE_BYTES = 330 * MB
SCANNED_AT = datetime(2026, 3, 2, 9, tzinfo=UTC)
PROCESSES = 2
Searched = Literal["first", "every"]
SEARCHED: Final[tuple[Searched, ...]] = ("first", "every")
PAGES = 3
STOCK = 24
ROWS_PER_STRIP = 278  # TIFF 6.0
RECIPIENTS = '[[recipient]]\nname = "loopback"\nkind = "logiciel-metier"\nadapter = "loopback"\n'


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--documents", type=int, default=5_000)
    parser.add_argument("--large-mb", type=int, default=LARGE_BYTES // MB)
    parser.add_argument("--work", type=Path, help="folder of the lot, used again when it is there")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    result: dict[str, Any] = {"machine": machine()}
    with data_folder(options.work) as work:
        lot = make_lot(work, options.documents)
        result["inspection"] = measure_inspection(work)
        result["verification"] = measure_verification(lot)
        result["end_to_end"] = {f"codes on {pages} page": _in_own_process(work, lot, pages) for pages in SEARCHED}
        result["one_large_pdf"] = _in_own_process(work, make_large(work, options.large_mb * MB), "every")
    write("lots", result, options.json)


# The lot.


@dataclass(frozen=True, slots=True)
class _Person:
    """A made-up worker: names of syllables, a birth date of his own, no INS."""

    number: int

    @property
    def folder(self) -> str:
        return f"{200_000_000 + self.number}"

    @property
    def birth_name(self) -> str:
        return "".join("BADUFIKOLEMINOPARESITU"[2 * (self.number // 11**n % 11) :][:2] for n in range(5))

    @property
    def birth_date(self) -> str:
        return (SCANNED_AT - timedelta(days=7_000 + self.number * 7 % 14_000)).date().isoformat()

    @property
    def sex(self) -> str:
        return "FM"[self.number % 2]


def make_lot(work: Path, documents: int) -> Path:
    """Draw the documents, write the register, build and seal the lot; what is there already stays."""
    lot = work / "lots" / LOT
    if not lot.exists():
        people = [_Person(number) for number in range(documents // 2)]
        (work / "pages").mkdir(exist_ok=True)
        with ProcessPoolExecutor(os.cpu_count()) as pool:
            list(pool.map(_draw_folder, people, repeat(work / "pages"), chunksize=50))
        _write_register(work / "workers.csv", people)
        (work / "recipients.toml").write_text(RECIPIENTS, encoding="utf-8")
        _build(
            work, LOT, [_describe(person, (f"{person.folder}-1.pdf", f"{person.folder}-2.pdf")) for person in people]
        )
    return lot


def make_large(work: Path, size: int) -> Path:
    """A lot of one folder with one PDF of colour pages at 300 dpi, 1.1 MB each."""
    lot = work / "lots" / LARGE_LOT
    if not lot.exists():
        noise = Image.frombytes("L", (620, 877), random.Random(5).randbytes(620 * 877))
        sheet = _writing(random.Random(5), 300)
        page = _jpeg(Image.blend(sheet, noise.resize(sheet.size), 0.12).convert("RGB"), 300, 78)
        _pdf(work / "pages" / "large.pdf", [page] * (size // len(page) + 1))
        _build(work, LARGE_LOT, [_describe(_Person(0), ("large.pdf",))])
    return lot


def _build(work: Path, lot: str, folders: list[dict[str, Any]]) -> None:
    description = {
        "provider": "Numérisation Exemple SAS",
        "centre": "C07",
        "convention": "CONV-2026-01 v1.2",
        "operator": "OP-001",
        "scanner": "SCAN-01",
        "folder": folders,
    }
    seal = make_demo_authority(work / "authority")
    (work / "trust.pem").write_bytes(
        b"".join((work / "authority" / f"{name}.pem").read_bytes() for name in ("ca", "tsa-ca"))
    )
    builder.build(description, work / "pages", work / "lots", lot=lot, at=SCANNED_AT, seal=seal)


def _describe(person: _Person, files: tuple[str, ...]) -> dict[str, Any]:
    return {
        "barcode": person.folder,
        "birth_name": person.birth_name,
        "given_names": ["CAMILLE"],
        "birth_date": person.birth_date,
        "sex": person.sex,
        "worker_number": person.folder,
        "document": [{"file": file, "type": "DMST-VISITE", "dated": "2020-01-15"} for file in files],
    }


def _files(person: _Person) -> tuple[str, str]:
    return f"{person.folder}-1.pdf", f"{person.folder}-2.pdf"


def _write_register(file: Path, people: list[_Person]) -> None:
    columns = ("numero_dossier", "nom_naissance", "prenoms", "date_naissance", "sexe", "statut_identite", "centre")
    with file.open("w", encoding="utf-8", newline="") as text:
        rows = csv.writer(text, delimiter=";")
        rows.writerow(columns)
        rows.writerows((p.folder, p.birth_name, "CAMILLE", p.birth_date, p.sex, "VALI", "C07") for p in people)


@cache
def _stock() -> list[bytes]:
    """Pages that come again: bilevel and grey."""
    chance = random.Random(2)
    bilevel = [_g4(_writing(chance, 300)) for _ in range(STOCK)]
    return bilevel + [_jpeg(_grained(chance, _writing(chance, 200)), 200, 45) for _ in range(STOCK // 2)]


def _draw_folder(person: _Person, target: Path) -> None:
    """The two documents of a worker."""
    chance = random.Random(person.number)
    for file, barcode in zip(_files(person), (person.folder, None), strict=True):
        if chance.random() < 2 / 3:
            first = _g4(_writing(chance, 300, barcode))
        else:
            first = _jpeg(_grained(chance, _writing(chance, 200, barcode)), 200, 45)
        _pdf(target / file, [first, *chance.sample(_stock(), PAGES - 1)])


def _writing(chance: random.Random, dpi: int, barcode: str | None = None) -> Image.Image:
    """A page of made-up words with a line of its own, perhaps with a Code 128 at its top."""
    page = _written(dpi, chance.randrange(8)).copy()
    ImageDraw.Draw(page).text((0.6 * dpi, 1.3 * dpi), _words(chance), fill=40, font_size=dpi // 8)
    if barcode:
        drawn = zxingcpp.create_barcode(barcode, zxingcpp.BarcodeFormat.Code128).to_image(scale=dpi // 60)
        symbol = Image.frombuffer("L", (drawn.shape[1], drawn.shape[0]), memoryview(drawn).tobytes())
        page.paste(symbol, (dpi // 2, dpi // 2))
    return page


@cache
def _written(dpi: int, number: int) -> Image.Image:
    chance = random.Random(number)
    page = Image.new("L", (round(8.27 * dpi), round(11.69 * dpi)), 246)
    draw = ImageDraw.Draw(page)
    for line in range(36):
        draw.text((0.6 * dpi, (1.6 + 0.27 * line) * dpi), _words(chance), fill=40, font_size=dpi // 8)
    return page


def _words(chance: random.Random) -> str:
    return " ".join("".join(chance.choices("aeioulnrst", k=chance.randint(2, 9))) for _ in range(11))


def _grained(chance: random.Random, page: Image.Image) -> Image.Image:
    """Paper is not even."""
    size = (page.width // 3, page.height // 3)
    grain = Image.frombytes("L", size, chance.randbytes(size[0] * size[1])).resize(page.size)
    return Image.blend(page, grain, 0.05)


def _jpeg(image: Image.Image, dpi: int, quality: int) -> bytes:
    data = io.BytesIO()
    image.save(data, "JPEG", quality=quality, dpi=(dpi, dpi))
    return data.getvalue()


def _g4(image: Image.Image) -> bytes:
    data = io.BytesIO()
    bilevel = image.convert("1", dither=Image.Dither.NONE)
    # In one strip, which img2pdf takes as it is.
    bilevel.save(data, "TIFF", compression="group4", dpi=(300, 300), tiffinfo={ROWS_PER_STRIP: image.height})
    return data.getvalue()


def _pdf(file: Path, pages: list[bytes]) -> None:
    with pikepdf.open(io.BytesIO(img2pdf.convert(pages, engine=img2pdf.Engine.internal))) as pdf:
        pikepdf.pdfa.save(pdf, file, "2b")


# What is measured.


def measure_inspection(work: Path) -> dict[str, Any]:
    """CPU milliseconds of one document of three pages, by kind of page and by which pages are searched for codes."""
    chance = random.Random(9)
    colour = Image.merge("RGB", [_grained(chance, _writing(chance, 300)) for _ in range(3)])
    kinds = {
        "bilevel 300 dpi G4": _g4(_writing(chance, 300, "123456789")),
        "grey 200 dpi JPEG": _jpeg(_grained(chance, _writing(chance, 200, "123456789")), 200, 45),
        "grey 300 dpi JPEG": _jpeg(_grained(chance, _writing(chance, 300, "123456789")), 300, 45),
        "colour 300 dpi JPEG": _jpeg(colour, 300, 75),
    }
    results: dict[str, Any] = {}
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn"), initializer=prepare_process) as pool:
        for name, page in kinds.items():
            file = work / "pages" / "inspected.pdf"
            _pdf(file, [page] * PAGES)
            taken = {pages: pool.submit(_inspect_often, file, pages).result() for pages in SEARCHED}
            results[name] = {"kb_per_page": len(page) // 1000, "cpu_ms": taken}
    return results


def _inspect_often(file: Path, pages: Searched) -> float:
    taken: list[float] = []
    for _ in range(15):
        began = time.process_time()
        inspect(file, read_codes_on=pages)
        taken.append((time.process_time() - began) * 1000)
    return round(statistics.median(taken), 1)


def measure_verification(lot: Path) -> dict[str, Any]:
    """Every folder of the lot through `examine`, in two processes, with codes read on the first and on every page."""
    manifest = parse((lot / "manifest.json").read_bytes())
    documents = [document for folder in manifest.folders for document in folder.documents]
    size = sum(document.file.size for document in documents)
    results: dict[str, Any] = {
        "documents": len(documents),
        "pages": manifest.pages,
        "mb": round(size / MB),
        "kb_per_document": round(size / 1000 / len(documents)),
    }
    for pages in SEARCHED:
        terms = Terms(200, pages, require_pdfa=True)
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(PROCESSES, mp_context=context, initializer=prepare_process) as pool:
            list(pool.map(examine, repeat(lot, 8), manifest.folders[:8], repeat(terms, 8)))  # imports are done
            load = os.getloadavg()[0]
            before = cpu_seconds(family(os.getpid())[1:])
            began = time.perf_counter()
            count = len(manifest.folders)
            found = list(pool.map(examine, repeat(lot, count), manifest.folders, repeat(terms, count), chunksize=8))
            seconds = time.perf_counter() - began
            cpu = cpu_seconds(family(os.getpid())[1:]) - before
        assert not any(examination.problems for examination in found)
        results[f"codes on {pages} page"] = {
            "seconds": round(seconds, 1),
            "documents_per_second": round(len(documents) / seconds),
            "mb_per_second": round(size / MB / seconds),
            "cpu_ms_per_document": round(cpu * 1000 / len(documents), 1),
            "load_average_before": round(load, 2),
        }
    return results


def _in_own_process(work: Path, lot: Path, pages: Searched) -> dict[str, Any]:
    """Memory is measured in a process that has done nothing else."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(_receive, work, lot, pages).result()


def _receive(work: Path, lot: Path, pages: Searched) -> dict[str, Any]:
    return asyncio.run(measure_intake(work, lot, pages))


async def measure_intake(work: Path, lot: Path, pages: Searched) -> dict[str, Any]:
    """One lot through `LotIntake.receive`, after the register was imported with the command line."""
    data = work / f"data-{lot.name}-{time.time_ns()}"
    settings = Settings(
        data=data,
        recipients=work / "recipients.toml",
        seal_trust=work / "trust.pem",
        read_codes_on=pages,
        log_level="warning",
    )
    command = [sys.executable, "-m", "fhir_server", "workers", "import", str(work / "workers.csv"), "--data", str(data)]
    began = time.perf_counter()
    await asyncio.to_thread(subprocess.run, command, check=True, capture_output=True)
    imported = time.perf_counter() - began
    async with build(settings) as parts:
        timed = _Timed(parts.documents)
        intake = LotIntake(
            documents=timed,  # pyright: ignore[reportArgumentType] - the two methods that an intake calls
            database=parts.database,
            blobs=parts.blobs,
            transient=parts.transient,
            settings=settings,
        )
        database = postgres_processes(data)
        own = psutil.Process()
        steps: list[float] = []
        load = os.getloadavg()[0]
        before = cpu_seconds([own]), cpu_seconds(database)
        began = time.perf_counter()
        with PeakMemory(lambda: family(os.getpid())) as memory:
            answer = await intake.receive(lot, lambda _done, _all: steps.append(time.perf_counter() - began))
            seconds = time.perf_counter() - began
            cpu = cpu_seconds([own]) - before[0], cpu_seconds(postgres_processes(data)) - before[1]
            cpu_inspectors = cpu_seconds(family(os.getpid())[1:])
            children = [process.pid for process in family(os.getpid())[1:]]
        await intake.close()
        rows = await _count(parts)
    documents = sum(folder.documents for folder in answer.folders)
    fifth = max(1, len(steps) // 5)
    return {
        "state": answer.state,
        "folders": answer.counts.folders,
        "accepted": answer.counts.accepted,
        "documents": documents,
        "register_import_seconds": round(imported, 1),
        "seconds": round(seconds, 1),
        "documents_per_second": round(documents / seconds, 1),
        "documents_per_second_in_last_fifth": round(documents / 5 / (steps[-1] - steps[-fifth - 1]), 1)
        if len(steps) > 5
        else None,
        "settling_ms": spread(timed.milliseconds) if len(timed.milliseconds) > 1 else timed.milliseconds,
        "cpu_ms_per_document": {
            "intake": round(cpu[0] * 1000 / documents, 1),
            "inspectors": round(cpu_inspectors * 1000 / documents, 1),
            "postgres": round(cpu[1] * 1000 / documents, 1),
        },
        "load_average_before": round(load, 2),
        "peak_rss_mb": {
            "intake": round(memory.each[os.getpid()]),
            "inspectors": sorted((round(memory.each.get(pid, 0)) for pid in children), reverse=True),
            "together": round(memory.together),
        },
        "rows": rows,
    }


class _Timed:
    """Settles folders as the intake behind it does, and keeps how long each took."""

    def __init__(self, documents: DocumentIntake) -> None:
        self._documents = documents
        self.write_lot_list = documents.write_lot_list
        self.milliseconds: list[float] = []

    async def settle(self, *what: Any) -> Any:
        began = time.perf_counter()
        try:
            return await self._documents.settle(*what)
        finally:
            self.milliseconds.append((time.perf_counter() - began) * 1000)


async def _count(parts: Parts) -> dict[str, int]:
    """What is there afterwards, counted in the database."""
    async with parts.database.connection() as connection:
        counted = {
            name: await (await connection.execute(query)).fetchone()
            for name, query in (
                ("resources", b"select count(*) from resource"),
                ("access", b"select count(*) from access"),
                ("delivery", b"select count(*) from delivery"),
                ("jobs", b"select count(*) from procrastinate_jobs"),
            )
        }
    return {name: row[0] if row else 0 for name, row in counted.items()}


if __name__ == "__main__":
    main()
