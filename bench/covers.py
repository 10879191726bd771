"""How well the words of covers are read: generated covers, degraded as scanners degrade them, and the sample scans.

`python -m bench.covers [people]` writes bench/results/covers.json. What is counted is what matters to a folder: values
that are right, wrong or not stated, characters, seconds a page, folders held back for nothing and folders of another
that are seen.
"""

import io
import json
import random
import shutil
import statistics
import sys
import time
from collections import defaultdict
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any, Final

import pikepdf
import pypdfium2
from PIL import Image, ImageChops, ImageFilter
from rapidfuzz.distance import Levenshtein

from fhir_server.identity.matching import Certain, Known
from fhir_server.identity.reading import with_reading
from fhir_server.linkage.traits import TraitsIns
from fhir_server.scans import ocr
from fhir_server.scans.cover import CoverReading, read_cover
from fhir_server.scans.rendition import first_page

ROOT: Final = Path(__file__).resolve().parents[1]
SCANS: Final = ROOT.parent / "shared" / "data" / "scans"
SCANNED: Final = date(2026, 10, 15)
FONTS: Final = ("Helvetica", "Times-Roman", "Courier", "Helvetica-Bold")

# fmt: off
SURNAMES: Final = (
    "LEFÈVRE", "BÉRANGER", "D'HÉRAULT", "DE LA TOUR", "LE GOFF", "MÜLLER", "CHÊNEBENOÎT", "FRANÇOIS", "NOËL-LACHÂTRE",
    "GARÇON", "PÉRÈS", "BOÎTEUX", "L'HÔPITAL", "MARTIN", "ŒUVRARD", "DUPONT", "KERVELLA", "N'GUYEN", "ÉTIENNE",
    "CÔTE", "MAÎTREJEAN", "AÏT ALI", "SCHÜTZ", "GRANDJEAN-PLÂTRE",
)
GIVEN: Final = (
    "Anaïs", "François-Xavier", "Zoé", "Jérôme", "Hélène", "Loïc", "Gaëlle", "Éric", "Françoise", "André", "Maëva",
    "Benoît", "Inès", "Noël", "Chloé", "Marie-Thérèse", "Paul", "Julie", "Stéphane", "Aurélie",
)
MONTHS: Final = (
    "janvier", "février", "mars", "avril", "mai", "juin", "juillet", "août", "septembre", "octobre", "novembre",
    "décembre",
)
# fmt: on


def drawn(lines: list[tuple[str, str]], *, dpi: int, font: str = "Helvetica", size: int = 12) -> Image.Image:
    """An A4 cover in grey with these labels and values, in a font that comes with the renderer."""
    pdf = pikepdf.new()
    page = pdf.add_blank_page(page_size=(595, 842))
    page.Resources = pikepdf.Dictionary(
        Font=pikepdf.Dictionary(
            F=pikepdf.Dictionary(
                Type=pikepdf.Name.Font,
                Subtype=pikepdf.Name.Type1,
                BaseFont=pikepdf.Name("/" + font),
                Encoding=pikepdf.Name.WinAnsiEncoding,
            )
        )
    )
    content = [_text("DOSSIER MÉDICAL EN SANTÉ AU TRAVAIL", 60, 780, 16)]
    for row, (label, value) in enumerate(lines):
        content += [_text(label, 60, 720 - row * 26, size), _text(value, 240, 720 - row * 26, size)]
    page.Contents = pdf.make_stream(b"\n".join(content))
    written = io.BytesIO()
    pdf.save(written)
    with pypdfium2.PdfDocument(written.getvalue()) as document:
        return document[0].render(scale=dpi / 72, grayscale=True).to_pil().copy()


def _text(text: str, x: int, y: int, size: int) -> bytes:
    escaped = text.replace("\\", r"\\").replace("(", r"\(").replace(")", r"\)").encode("cp1252")
    return b"BT /F %d Tf %d %d Td (%s) Tj ET" % (size, x, y, escaped)


def degraded(chance: random.Random, page: Image.Image) -> Image.Image:
    """Askew, out of focus, grained, pale, and pressed into a small JPEG."""
    pale = page.point([60 + level * 175 // 255 for level in range(256)])
    turned = pale.rotate(chance.uniform(-1.2, 1.2), fillcolor=235, resample=Image.Resampling.BICUBIC)
    soft = turned.filter(ImageFilter.GaussianBlur(page.width / 2480 * chance.uniform(0.8, 1.8)))
    grained = ImageChops.add(soft, Image.effect_noise(soft.size, chance.uniform(8, 20)), 1, -128)
    data = io.BytesIO()
    grained.save(data, "JPEG", quality=chance.randint(25, 60))
    return Image.open(data).convert("L")


def person(chance: random.Random) -> tuple[dict[str, str], str]:
    """The fields of a person, and the birth date as the cover writes it."""
    born = date(chance.randint(1962, 2004), chance.randint(1, 12), chance.randint(1, 28))
    sex = chance.choice("MF")
    place = f"{chance.randint(21, 95):02}{chance.randint(1, 600):03}"
    number = f"{1 if sex == 'M' else 2}{born:%y%m}{place}{chance.randint(1, 400):03}"
    fields = {
        "folder_number": f"{chance.randint(100000, 999999):09}",
        "birth_name": chance.choice(SURNAMES),
        "given_names": ", ".join(chance.sample(GIVEN, chance.randint(1, 3))),
        "birth_date": born.isoformat(),
        "sex": "male" if sex == "M" else "female",
        "matricule": f"{number}{97 - int(number) % 97:02}",
    }
    if sex == "F" and chance.random() < 0.5:
        fields["used_name"] = chance.choice(SURNAMES)
    forms = (f"{born:%d/%m/%Y}", f"{born:%d.%m.%y}", f"{born.day} {MONTHS[born.month - 1]} {born.year}")
    return fields, chance.choice(forms)


def cover_of(chance: random.Random, fields: dict[str, str], written_date: str, dpi: int) -> Image.Image:
    number = fields["matricule"]
    written = f"{number[0]} {number[1:3]} {number[3:5]} {number[5:7]} {number[7:10]} {number[10:13]} {number[13:]}"
    lines = [
        ("N° de dossier :", fields["folder_number"]),
        ("Nom de naissance :", fields["birth_name"]),
        ("Nom d'usage :", fields.get("used_name", "")),
        ("Prénom(s) :", fields["given_names"]),
        ("Né(e) le :", written_date),
        ("Sexe :", "M" if fields["sex"] == "male" else "F"),
        ("N° Sécurité sociale :", written),
        ("Entreprise :", "Fonderie Exemple SA"),
    ]
    return drawn(lines, dpi=dpi, font=chance.choice(FONTS), size=chance.choice((11, 12, 14)))


def worker(fields: dict[str, str]) -> Known:
    """The same person as the register has her."""
    traits = TraitsIns(
        birth_name=fields["birth_name"],
        used_name=fields.get("used_name"),
        given_names=tuple(fields["given_names"].upper().split(", ")),
        birth_date=fields["birth_date"],
        matricule_ins=fields["matricule"],
    )
    return Known("owner", traits, (), "QUAL", frozenset(), (fields["folder_number"],))


def doubted(reading: CoverReading, owner: Known) -> bool:
    return not isinstance(with_reading(Certain("owner", ()), reading, [owner]), Certain)


def measure(people: int, seed: int, program: Path) -> dict[str, Any]:
    chance = random.Random(seed)
    persons = [person(chance) for _ in range(people)]
    results: dict[str, Any] = {}
    for dpi in (200, 300):
        for condition in ("clean", "degraded", "bilevel"):
            fields: dict[str, dict[str, float]] = defaultdict(lambda: defaultdict(float))
            seconds: list[float] = []
            held = strangers = twins = 0
            for position, (truth, written) in enumerate(persons):
                page = cover_of(chance, truth, written, dpi)
                page = page if condition == "clean" else degraded(chance, page)
                page = page.point([255 * (level > 160) for level in range(256)]) if condition == "bilevel" else page
                began = time.perf_counter()
                sized = page.resize((ocr.WIDTH, round(page.height * ocr.WIDTH / page.width)), Image.Resampling.BILINEAR)
                reading = read_cover(ocr.read_zone(sized, program, seconds=60), scanned=SCANNED)
                seconds.append(time.perf_counter() - began)
                read = {field.name: field.value for field in reading.fields}
                for name, value in truth.items():
                    _count(fields[name], value, read.get(name))  # pyright: ignore[reportArgumentType]
                owner = worker(truth)
                held += doubted(reading, owner)
                strangers += doubted(reading, worker(persons[position - 1][0]))
                other = "SYLVAIN" if "SYLVAIN" not in owner.traits.given_names else "OLGA"
                twin = replace(owner.traits, given_names=(other,), matricule_ins=None)
                twins += doubted(reading, replace(owner, traits=twin))
            results[f"{dpi} dpi {condition}"] = {
                "fields": {name: _shares(counts) for name, counts in fields.items()},
                "held_back_for_nothing": held / people,
                "covers_of_a_stranger_seen": strangers / people,
                "covers_of_a_twin_seen": twins / people,
                "seconds_median": round(statistics.median(seconds), 2),
                "seconds_longest": round(max(seconds), 2),
            }
    return results


def _count(counts: dict[str, float], truth: str, read: str | None) -> None:
    counts["all"] += 1
    counts["stated"] += read is not None
    counts["right"] += read == truth
    counts["characters"] += len(truth)
    if read is not None:
        counts["of_stated"] += len(truth)
        counts["wrong_characters"] += Levenshtein.distance(read, truth)


def _shares(counts: dict[str, float]) -> dict[str, float]:
    wrong = counts["stated"] - counts["right"]
    return {
        "right": round(counts["right"] / counts["all"], 3),
        "wrong": round(wrong / counts["all"], 3),
        "not_stated": round(1 - counts["stated"] / counts["all"], 3),
        "character_accuracy": round(1 - counts["wrong_characters"] / max(1, counts["of_stated"]), 4),
    }


def measure_scans(program: Path) -> dict[str, Any]:
    """Pages that are no covers: every field that is stated is invented."""
    results: dict[str, Any] = {}
    for path in sorted(SCANS.glob("*")):
        try:
            page = first_page(path, ocr.WIDTH, grey=True)
        except Exception:  # some are broken on purpose
            continue
        began = time.perf_counter()
        reading = read_cover(ocr.read_zone(page, program, seconds=60), scanned=SCANNED)
        results[path.name] = {"fields": len(reading.fields), "seconds": round(time.perf_counter() - began, 2)}
    return results


def main() -> None:
    found = shutil.which("tesseract")
    if not found:
        sys.exit("Tesseract is not installed: see tools/test-packages")
    people = int(sys.argv[1]) if len(sys.argv) > 1 else 25
    results = {"people": people, "covers": measure(people, 4, Path(found)), "sample_scans": measure_scans(Path(found))}
    (ROOT / "bench" / "results" / "covers.json").write_text(
        json.dumps(results, indent=2, ensure_ascii=False) + "\n", encoding="utf-8"
    )
    print(json.dumps(results, indent=2, ensure_ascii=False))


if __name__ == "__main__":
    main()
