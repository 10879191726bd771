"""Draw the sample scans: fictitious DMST pages that look as if they came out of a cardboard folder.

Run from the top of the repository: `python -m samples.make --hand HAND.ttf --print PRINT.ttf`; README.md says which
fonts. Reads workers.csv and lot.toml beside this file, writes the files that lot.toml names. The same fonts and the
same versions of Pillow and of img2pdf give the same files.
"""

import argparse
import csv
import io
import math
import random
import tomllib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import img2pdf
import pikepdf
import pikepdf.pdfa
import zxingcpp
from PIL import Image, ImageChops, ImageDraw, ImageFilter, ImageFont

from fhir_server.scans.codes import DatamatrixIns, write_datamatrix_ins

HERE = Path(__file__).resolve().parent

MM_PER_INCH = 25.4
BLACK, GREY, BLUE, RED, GREEN = (20, 20, 20), (110, 110, 110), (28, 42, 120), (178, 30, 40), (30, 110, 70)
Colour = tuple[int, int, int]


@dataclass(frozen=True)
class Worker:
    """A line of workers.csv."""

    number: str
    birth_name: str
    used_name: str
    given_names: tuple[str, ...]
    birth_date: str
    sex: str
    birth_place: str
    ins: str
    oid: str
    employer: str
    siret: str
    doctor: str
    rpps: str

    @property
    def datamatrix(self) -> str:
        day, month, year = self.birth_date.split("/")
        return write_datamatrix_ins(
            DatamatrixIns(
                self.ins,
                self.oid,
                self.given_names,
                self.birth_name,
                self.sex,
                f"{year}-{month}-{day}",
                self.birth_place,
            )
        )

    @property
    def person(self) -> str:
        return f"{self.used_name or self.birth_name} {self.given_names[0].capitalize()}"


def read_workers() -> dict[str, Worker]:
    with (HERE / "workers.csv").open(encoding="utf-8", newline="") as file:
        return {
            row["numero_dossier"]: Worker(
                row["numero_dossier"],
                row["nom_naissance"],
                row["nom_utilise"],
                tuple(row["prenoms"].split()),
                row["date_naissance"],
                row["sexe"],
                row["lieu_naissance"],
                row["matricule_ins"],
                row["oid_ins"],
                row["employeur"],
                row["siret"],
                row["medecin"],
                row["rpps"],
            )
            for row in csv.DictReader(file, delimiter=";")
        }


@dataclass
class Pen:
    """The two fonts, and the hand that never draws a line twice in the same way."""

    hand: Path
    type: Path
    random: random.Random
    fonts: dict[tuple[Path, int], ImageFont.FreeTypeFont] = field(default_factory=dict)

    def font(self, path: Path, pixels: int) -> ImageFont.FreeTypeFont:
        return self.fonts.setdefault((path, pixels), ImageFont.truetype(path, pixels))


class Sheet:
    """A sheet of paper measured in millimetres, at a resolution."""

    def __init__(self, pen: Pen, dpi: int, paper: Colour = (252, 251, 247)) -> None:
        self.pen, self.dpi = pen, dpi
        self.image = Image.new("RGB", (self.px(210), self.px(297)), paper)
        self.draw = ImageDraw.Draw(self.image)

    def px(self, mm: float) -> int:
        return round(mm * self.dpi / MM_PER_INCH)

    def type(self, x: float, y: float, text: str, size: float = 3.6, ink: Colour = BLACK, bold: bool = False) -> None:
        font = self.pen.font(self.pen.type, self.px(size))
        self.draw.text((self.px(x), self.px(y)), text, ink, font, stroke_width=self.px(0.12) if bold else 0)

    def write(self, x: float, y: float, text: str, size: float = 4.6, ink: Colour = BLUE) -> None:
        """Write by hand: each word a little off the line, and a little turned."""
        chance = self.pen.random
        font = self.pen.font(self.pen.hand, self.px(size))
        at = self.px(x)
        for word in text.split():
            width = round(font.getlength(word))
            patch = Image.new("L", (width + self.px(4), self.px(size * 2.4)), 0)
            ImageDraw.Draw(patch).text((self.px(2), self.px(size * 0.5)), word, chance.randint(200, 255), font)
            patch = patch.rotate(chance.uniform(-1.5, 2.0), Image.Resampling.BICUBIC)
            down = self.px(y - size * 0.5) + chance.randint(-self.px(0.4), self.px(0.4))
            self.image.paste(Image.new("RGB", patch.size, ink), (at - self.px(2), down), patch)
            at += width + self.px(size * chance.uniform(0.3, 0.5))

    def line(self, *points: float, ink: Colour = BLACK, width: float = 0.25) -> None:
        self.draw.line([self.px(value) for value in points], ink, max(1, self.px(width)))

    def box(
        self, x: float, y: float, across: float, down: float, ink: Colour = BLACK, fill: Colour | None = None
    ) -> None:
        edges = (self.px(x), self.px(y), self.px(x + across), self.px(y + down))
        self.draw.rectangle(edges, fill, ink, max(1, self.px(0.25)))

    def tick(self, x: float, y: float, label: str, ticked: bool = False) -> None:
        self.box(x, y, 3.2, 3.2)
        self.type(x + 4.6, y - 0.4, label)
        if ticked:
            self.line(x - 0.4, y + 1.2, x + 1.3, y + 3.0, x + 4.4, y - 1.4, ink=BLUE, width=0.5)

    def code(self, x: float, y: float, text: str, kind: zxingcpp.BarcodeFormat, module: float) -> None:
        """Stick a label with a code on the sheet; `module` is the width of its narrowest part."""
        options = {"force_square": True} if kind == zxingcpp.BarcodeFormat.DataMatrix else {}
        drawn = zxingcpp.create_barcode(text, kind, **options).to_image(scale=1)
        label = Image.frombuffer("L", (drawn.shape[1], drawn.shape[0]), memoryview(drawn).tobytes())
        side = max(2, self.px(module))
        label = label.resize((label.width * side, label.height * side), Image.Resampling.NEAREST)
        self.image.paste(label.convert("RGB"), (self.px(x), self.px(y)))

    def stamp(
        self, x: float, y: float, lines: Sequence[str], ink: Colour, turn: float, round_one: bool = False
    ) -> None:
        """Stamp the sheet, tilted, unevenly inked."""
        across, down = self.px(58), self.px(58 if round_one else 26)
        patch = Image.new("L", (across, down), 0)
        draw = ImageDraw.Draw(patch)
        edges = (self.px(1), self.px(1), across - self.px(1), down - self.px(1))
        (draw.ellipse if round_one else draw.rectangle)(edges, outline=230, width=self.px(0.7))
        for number, text in enumerate(lines):
            font = self.pen.font(self.pen.type, self.px(3.4 if number else 4.0))
            middle = (across - font.getlength(text)) / 2
            draw.text((middle, down / 2 + self.px(5.2 * (number - len(lines) / 2))), text, 235, font, stroke_width=1)
        worn = grain(self.pen.random, patch.size, 6).point(levels(lambda level: min(255, 130 + level)))
        patch = ImageChops.multiply(patch, worn).rotate(turn, Image.Resampling.BICUBIC, expand=True)
        self.image.paste(Image.new("RGB", patch.size, ink), (self.px(x), self.px(y)), patch)

    def sign(self, x: float, y: float, ink: Colour = BLUE) -> None:
        """Sign: a flourish of a few loops."""
        chance = self.pen.random
        loops, lean = chance.uniform(3, 5), chance.uniform(0.4, 0.8)
        path = [
            (
                x + 34 * t + 5 * math.sin(loops * 6.3 * t),
                y + 6 * (1 - t) * math.cos(loops * 6.3 * t + lean) + 2 * t,
            )
            for t in (step / 120 for step in range(121))
        ]
        self.draw.line([(self.px(a), self.px(b)) for a, b in path], ink, max(2, self.px(0.45)), joint="curve")


def grain(chance: random.Random, size: tuple[int, int], coarseness: int) -> Image.Image:
    """Noise from 0 to 255 of which each grain covers some pixels; seeded, as Pillow's own is not."""
    across, down = max(1, size[0] // coarseness), max(1, size[1] // coarseness)
    return Image.frombytes("L", (across, down), chance.randbytes(across * down)).resize(size, Image.Resampling.BILINEAR)


def levels(change: Callable[[int], float]) -> list[int]:
    """A change of grey level as Pillow's table."""
    return [round(change(level)) for level in range(256)]


@dataclass(frozen=True)
class Page:
    """A page as the scanner stored it: JPEG or TIFF G4 data."""

    data: bytes


def scan(sheet: Sheet, colour: str, quality: int = 38) -> Page:
    """Lay the sheet on the scanner, a little askew, and scan it in `colour`, `grey` or `bilevel`."""
    chance = sheet.pen.random
    image = sheet.image.rotate(
        chance.choice((-1, 1)) * chance.uniform(0.25, 0.8),
        Image.Resampling.BICUBIC,
        fillcolor=(236, 235, 230),
    )
    image = ImageChops.subtract(
        image, grain(chance, image.size, 3).point(levels(lambda level: level // 18)).convert("RGB")
    ).filter(ImageFilter.GaussianBlur(sheet.dpi / 420))
    shadow = Image.linear_gradient("L").rotate(90).resize(image.size).point(levels(lambda level: max(0, level - 235)))
    image = ImageChops.subtract(image, shadow.convert("RGB"))
    data = io.BytesIO()
    dpi = (sheet.dpi, sheet.dpi)
    if colour == "bilevel":
        bilevel = image.convert("L").point(levels(lambda level: 255 if level > 165 else 0)).convert("1")
        for _ in range(140):
            x, y = chance.randrange(bilevel.width - 3), chance.randrange(bilevel.height - 3)
            bilevel.paste(0, (x, y, x + chance.randint(1, 3), y + chance.randint(1, 3)))
        bilevel.save(data, "TIFF", compression="group4", dpi=dpi)
    else:
        image.convert("L" if colour == "grey" else "RGB").save(data, "JPEG", quality=quality, dpi=dpi, optimize=True)
    return Page(data.getvalue())


def identity_zone(sheet: Sheet, worker: Worker, top: float = 14, label: bool = False) -> None:
    """The typed zone at the top of a form; with a label, the INS datamatrix beside it."""
    sheet.type(14, top, "SERVICE DE PRÉVENTION ET DE SANTÉ AU TRAVAIL - Centre C07", 3.2, GREY)
    sheet.box(14, top + 6, 140, 26)
    sheet.type(17, top + 8, f"Nom de naissance : {worker.birth_name}")
    sheet.type(17, top + 13.5, f"Nom utilisé : {worker.used_name or worker.birth_name}")
    sheet.type(17, top + 19, f"Prénoms : {' '.join(worker.given_names)}")
    sheet.type(17, top + 24.5, f"Né(e) le {worker.birth_date}   Sexe {worker.sex}   Dossier {worker.number}")
    if label and worker.ins:
        sheet.code(164, top + 2, worker.datamatrix, zxingcpp.BarcodeFormat.DataMatrix, 0.42)


def title(sheet: Sheet, text: str, y: float = 52) -> None:
    sheet.type(14, y, text, 5.6, BLACK, bold=True)
    sheet.line(14, y + 8.5, 196, y + 8.5, width=0.5)


def cover(pen: Pen, worker: Worker) -> list[Page]:
    sheet = Sheet(pen, 300)
    sheet.type(14, 16, "DOSSIER MÉDICAL EN SANTÉ AU TRAVAIL", 7, bold=True)
    sheet.type(14, 27, "Couverture - à placer devant le dossier avant numérisation", 3.6, GREY)
    sheet.code(14, 38, worker.number, zxingcpp.BarcodeFormat.Code128, 0.5)
    sheet.type(30, 66, worker.number, 5)
    if worker.ins:
        sheet.code(150, 36, worker.datamatrix, zxingcpp.BarcodeFormat.DataMatrix, 0.5)
        sheet.type(150, 59, "INS", 3.4, GREY)
    sheet.box(14, 84, 182, 70)
    rows = (
        ("Nom de naissance", worker.birth_name),
        ("Nom utilisé", worker.used_name or worker.birth_name),
        ("Prénoms de naissance", " ".join(worker.given_names)),
        ("Date de naissance", worker.birth_date),
        ("Sexe", worker.sex),
        ("Lieu de naissance (INSEE)", worker.birth_place),
        ("Employeur", worker.employer),
        ("SIRET", worker.siret),
        ("Médecin du travail", worker.doctor),
    )
    for number, (name, value) in enumerate(rows):
        sheet.type(18, 88 + 7.2 * number, name, 3.6, GREY)
        sheet.type(78, 88 + 7.2 * number, value, 3.9, bold=True)
    sheet.type(14, 164, "Suivi", 4.4, bold=True)
    for number, (label, ticked) in enumerate(
        (("Suivi individuel simple", False), ("Suivi adapté", False), ("Suivi renforcé (SIR)", True))
    ):
        sheet.tick(18, 173 + 7 * number, label, ticked)
    sheet.write(18, 206, "Carton 12, ancien classement B", 5)
    sheet.type(14, 280, "Document fictif - aucune personne réelle", 3.2, GREY)
    return [scan(sheet, "bilevel")]


VISITS = (
    (
        "Visite d'embauche",
        (
            "Pas d'antécédent notable. Vaccins à jour.",
            "TA 12/7, pouls 68, poids 71, taille 1,74.",
            "Audition normale.",
        ),
    ),
    (
        "Visite périodique",
        (
            "Bruit signalé à l'atelier de moulage.",
            "Port des bouchons irrégulier.",
            "Lombalgie en fin de poste, RAS examen.",
        ),
    ),
    (
        "Visite de reprise",
        (
            "Reprise après 6 semaines, entorse cheville.",
            "Éviter échelle et port de charge 15 jours.",
            "À revoir à un mois.",
        ),
    ),
    (
        "Visite périodique",
        ("Légère baisse à 4 kHz à gauche.", "Demande étude de poste.", "Tabac : arrêt depuis mars."),
    ),
)


def visits(pen: Pen, worker: Worker, pages: int, label: bool) -> list[Page]:
    made: list[Page] = []
    for number in range(pages):
        sheet = Sheet(pen, 200, (250, 246, 232))
        identity_zone(sheet, worker, label=label and number == 0)
        title(sheet, "FICHE DE VISITE MÉDICALE")
        for half in range(2):
            kind, notes = VISITS[(2 * number + half) % len(VISITS)]
            top = 66 + 106 * half
            sheet.type(14, top, "Date", 3.4, GREY)
            sheet.write(
                26,
                top - 1,
                f"{pen.random.randint(2, 27)}/{pen.random.randint(1, 11)}/{2001 + 3 * number + half}",
            )
            for place, name in enumerate(("Embauche", "Périodique", "Reprise")):
                sheet.tick(76 + 34 * place, top, name, name.lower()[:5] in kind.lower())
            for rule in range(9):
                sheet.line(14, top + 17 + 8.4 * rule, 196, top + 17 + 8.4 * rule, ink=(190, 190, 180), width=0.15)
            sheet.write(16, top + 10, f"{kind} - poste : mouleur", 4.8)
            for rule, note in enumerate(notes, 1):
                sheet.write(16 + pen.random.uniform(0, 4), top + 10 + 8.4 * rule, note, 4.8)
            sheet.write(
                16,
                top + 10 + 8.4 * 5,
                pen.random.choice(("Apte.", "Apte, à revoir.", "Apte sans réserve.")),
                5.4,
            )
            sheet.sign(138, top + 72)
        made.append(scan(sheet, "grey"))
    return made


def aptitude(pen: Pen, worker: Worker) -> list[Page]:
    sheet = Sheet(pen, 200, (250, 240, 190))
    identity_zone(sheet, worker)
    title(sheet, "FICHE D'APTITUDE MÉDICALE")
    sheet.type(14, 68, f"Employeur : {worker.employer} - SIRET {worker.siret}")
    sheet.type(14, 78, "Poste occupé :")
    sheet.write(44, 76, "agent polyvalent, atelier 2")
    sheet.type(14, 92, "Conclusion du médecin du travail :", bold=True)
    for number, (text, ticked) in enumerate(
        (
            ("Apte au poste", True),
            ("Apte avec aménagement", False),
            ("Inapte temporaire", False),
            ("À revoir", False),
        )
    ):
        sheet.tick(20, 102 + 8 * number, text, ticked)
    sheet.type(14, 142, "Observations :")
    sheet.write(20, 150, "Protections auditives obligatoires.", 5)
    sheet.write(20, 159, "Prochaine visite dans 24 mois.", 5)
    sheet.type(14, 186, f"Le médecin du travail : {worker.doctor}")
    sheet.stamp(118, 188, (worker.doctor, "Médecin du travail", f"RPPS {worker.rpps}"), RED, 7)
    sheet.stamp(28, 200, ("SPST EXEMPLE", "Centre C07", "Fictif"), BLUE, -13, round_one=True)
    sheet.sign(132, 214)
    sheet.type(14, 280, "Exemplaire à conserver dans le dossier médical - document fictif", 3, GREY)
    return [scan(sheet, "colour", 30)]


def audiogram(pen: Pen, worker: Worker) -> list[Page]:
    sheet = Sheet(pen, 200)
    identity_zone(sheet, worker)
    title(sheet, "AUDIOGRAMME TONAL")
    frequencies = (125, 250, 500, 1000, 2000, 3000, 4000, 6000, 8000)
    left, top, across, down = 32.0, 78.0, 150.0, 120.0
    for number, frequency in enumerate(frequencies):
        x = left + across * number / (len(frequencies) - 1)
        sheet.line(x, top, x, top + down, ink=(150, 170, 160), width=0.2)
        sheet.type(x - 4, top - 6, str(frequency), 3.2)
    for level in range(-10, 121, 10):
        y = top + down * (level + 10) / 130
        sheet.line(left, y, left + across, y, ink=(150, 170, 160), width=0.2)
        sheet.type(left - 11, y - 2, str(level), 3.2)
    for ear, ink, losses in (
        ("OD", RED, (10, 10, 10, 15, 15, 25, 35, 30, 20)),
        ("OG", BLUE, (10, 15, 10, 15, 20, 30, 45, 40, 25)),
    ):
        points = [
            (
                left + across * n / (len(frequencies) - 1),
                top + down * (loss + pen.random.choice((-2, 0, 3)) + 10) / 130,
            )
            for n, loss in enumerate(losses)
        ]
        sheet.line(*(value for point in points for value in point), ink=ink, width=0.5)
        for x, y in points:
            if ear == "OD":
                sheet.draw.ellipse(
                    [sheet.px(value) for value in (x - 1.6, y - 1.6, x + 1.6, y + 1.6)], outline=ink, width=3
                )
            else:
                sheet.line(x - 1.5, y - 1.5, x + 1.5, y + 1.5, ink=ink, width=0.5)
                sheet.line(x - 1.5, y + 1.5, x + 1.5, y - 1.5, ink=ink, width=0.5)
    sheet.type(left, top + down + 4, "Fréquences (Hz) - pertes (dB HL) - OD rond rouge, OG croix bleue", 3.2, GREY)
    sheet.write(20, 218, "Encoche à 4 kHz, contrôle dans un an.", 5)
    sheet.sign(140, 238)
    return [scan(sheet, "colour", 30)]


RESULTS = (
    ("Hémoglobine", "14,1 g/dL", "13,0 - 17,0"),
    ("Leucocytes", "6,8 G/L", "4,0 - 10,0"),
    ("Plaquettes", "245 G/L", "150 - 400"),
    ("Créatinine", "78 µmol/L", "60 - 105"),
    ("ASAT", "24 UI/L", "< 40"),
    ("ALAT", "31 UI/L", "< 45"),
    ("Gamma-GT", "42 UI/L", "< 55"),
    ("Plombémie", "62 µg/L", "< 100"),
    ("Acide hippurique urinaire", "0,4 g/g créat.", "< 1,5"),
    ("Acides mandélique et phénylglyoxylique", "52 mg/g créat.", "< 400"),
)


def laboratory(pen: Pen, worker: Worker) -> list[Page]:
    made: list[Page] = []
    for number in range(2):
        sheet = Sheet(pen, 300)
        sheet.type(14, 14, "LABORATOIRE DE BIOLOGIE FICTIF", 5.4, bold=True)
        sheet.type(14, 22, "12 rue de l'Exemple, 00000 Ville-Modèle", 3.4, GREY)
        sheet.box(110, 12, 86, 26)
        sheet.type(113, 15, f"{worker.person}", 4, bold=True)
        sheet.type(113, 21.5, f"Né(e) {worker.birth_name} le {worker.birth_date}", 3.4)
        sheet.type(113, 28, f"Prescripteur : {worker.doctor}", 3.4)
        title(sheet, f"COMPTE RENDU D'ANALYSES - page {number + 1}/2")
        for row, (name, value, usual) in enumerate(RESULTS[5 * number : 5 * number + 5]):
            y = 72 + 15 * row
            sheet.type(18, y, name, 4)
            sheet.type(104, y, value, 4, bold=True)
            sheet.type(150, y, usual, 3.8, GREY)
            sheet.line(14, y + 9, 196, y + 9, ink=GREY, width=0.15)
        sheet.type(14, 160, "Valeurs usuelles à titre indicatif. Document fictif.", 3.4, GREY)
        if number:
            sheet.write(20, 180, "Vu le 9/10, RAS.", 6)
            sheet.sign(120, 192)
        made.append(scan(sheet, "bilevel"))
    return made


def exposure(pen: Pen, worker: Worker) -> list[Page]:
    made: list[Page] = []
    agents = (
        ("Styrène", "2003 - 2009", "stratification", "masque A2"),
        ("Toluène", "2003 - 2012", "dégraissage", "gants nitrile"),
        ("Chromates (CMR)", "2007 - 2012", "peinture", "cabine ventilée"),
        ("Plomb", "2010 - 2014", "décapage", "masque P3"),
        ("Bruit > 85 dB(A)", "2001 - 2019", "ponçage", "bouchons moulés"),
        ("Silice cristalline", "2012 - 2016", "sablage", "adduction d'air"),
    )
    for number in range(2):
        sheet = Sheet(pen, 300)
        identity_zone(sheet, worker, label=number == 0)
        title(sheet, "FICHE INDIVIDUELLE D'EXPOSITION")
        for column, heading in enumerate(("Agent", "Période", "Tâche", "Protection")):
            sheet.type(16 + 45 * column, 66, heading, 3.8, bold=True)
        for row in range(4):
            y = 74 + 20 * row
            for column in range(4):
                sheet.box(14 + 45.5 * column, y, 45.5, 20)
            if 3 * number + row < len(agents) and row < 3:
                for column, text in enumerate(agents[3 * number + row]):
                    sheet.write(16 + 45.5 * column, y + 6, text, 4.4, BLACK)
        sheet.type(14, 164, f"Établie par l'employeur : {worker.employer}")
        sheet.sign(130, 178, BLACK)
        made.append(scan(sheet, "bilevel"))
    return made


def letter(pen: Pen, worker: Worker) -> list[Page]:
    sheet = Sheet(pen, 200)
    sheet.type(14, 16, "Docteur Camille MODÈLE", 4.6, bold=True)
    sheet.type(14, 22.5, "Pneumologue - Centre hospitalier fictif", 3.6)
    sheet.type(120, 44, f"À l'attention du {worker.doctor}")
    sheet.type(120, 52, "le 14 janvier 2026")
    sheet.type(
        14,
        70,
        f"Concerne : {worker.person}, né(e) {worker.birth_name} le {worker.birth_date}",
        3.8,
        bold=True,
    )
    text = (
        "Cher confrère, chère consœur,",
        "J'ai reçu en consultation la personne citée ci-dessus, adressée pour une toux",
        "sèche évoluant depuis trois mois, plus marquée en fin de semaine de travail.",
        "L'auscultation est libre. La spirométrie montre un VEMS à 2,61 L (88 %),",
        "un rapport VEMS/CVF à 0,76, sans réversibilité significative.",
        "La radiographie du thorax est sans particularité.",
        "Je propose un débitmètre de pointe au poste et au repos pendant deux semaines,",
        "puis un nouveau bilan. Il me paraît utile de revoir la ventilation du local.",
        "Bien confraternellement,",
    )
    for row, line in enumerate(text):
        sheet.type(14, 86 + 9.5 * row, line, 3.9)
    sheet.sign(128, 186)
    sheet.stamp(20, 196, ("REÇU LE", "20 JAN. 2026", "SPST - C07"), GREEN, -6)
    sheet.type(14, 280, "Courrier fictif", 3, GREY)
    return [scan(sheet, "grey")]


def questionnaire(pen: Pen, worker: Worker) -> list[Page]:
    questions = (
        "Avez-vous des douleurs du dos ?",
        "Avez-vous des douleurs des épaules ?",
        "Dormez-vous bien ?",
        "Portez-vous des charges lourdes ?",
        "Travaillez-vous de nuit ?",
        "Êtes-vous gêné(e) par le bruit ?",
        "Utilisez-vous des produits irritants ?",
        "Votre peau est-elle irritée ?",
        "Toussez-vous au travail ?",
        "Portez-vous des lunettes ?",
        "Avez-vous eu un accident du travail ?",
        "Souhaitez-vous parler d'autre chose ?",
    )
    made: list[Page] = []
    for number in range(3):
        sheet = Sheet(pen, 300)
        identity_zone(sheet, worker)
        title(sheet, f"AUTO-QUESTIONNAIRE DE SANTÉ - feuille {number + 1}/3")
        for row, question in enumerate(questions[4 * number : 4 * number + 4]):
            y = 72 + 36 * row
            sheet.type(16, y, f"{4 * number + row + 1}. {question}", 4)
            yes = pen.random.random() < 0.5
            sheet.tick(140, y, "oui", yes)
            sheet.tick(165, y, "non", not yes)
            if yes:
                sheet.write(22, y + 10, pen.random.choice(("parfois le soir", "depuis l'été", "surtout le lundi")), 5)
            sheet.line(22, y + 20, 190, y + 20, ink=GREY, width=0.15)
        made.append(scan(sheet, "bilevel"))
    return made


def vaccination(pen: Pen, worker: Worker) -> list[Page]:
    sheet = Sheet(pen, 200, (238, 244, 250))
    identity_zone(sheet, worker)
    title(sheet, "CARNET DE VACCINATION (copie)")
    for row, (vaccine, when) in enumerate(
        (("DTPolio", "3/4/2012"), ("Hépatite B", "17/9/2014"), ("DTPolio", "2/5/2022"))
    ):
        sheet.box(14, 70 + 26 * row, 182, 26)
        sheet.write(18, 78 + 26 * row, vaccine, 5.4)
        sheet.write(84, 78 + 26 * row, when, 5.4)
        sheet.sign(146, 82 + 26 * row)
    sheet.stamp(96, 160, ("Infirmerie", "Gabarit SARL"), BLUE, 5)
    return [scan(sheet, "colour", 30)]


def vision(pen: Pen, worker: Worker) -> list[Page]:
    sheet = Sheet(pen, 200)
    identity_zone(sheet, worker)
    title(sheet, "CONTRÔLE VISUEL")
    for row, (test, right, left) in enumerate(
        (
            ("Vision de loin", "10/10", "8/10"),
            ("Vision de près", "P2", "P2"),
            ("Couleurs", "normale", "normale"),
        )
    ):
        sheet.type(18, 72 + 16 * row, test, 4.2)
        sheet.write(92, 70 + 16 * row, right, 5.4)
        sheet.write(146, 70 + 16 * row, left, 5.4)
        sheet.line(14, 82 + 16 * row, 196, 82 + 16 * row, ink=GREY)
    sheet.sign(130, 140)
    return [scan(sheet, "grey")]


Drawing = Callable[[Pen, Worker], list[Page]]

# What is on the pages of each kind of file; `visite3.pdf` says the number of its pages.
DRAWINGS: dict[str, Drawing] = {
    "couverture": cover,
    "visite1": lambda pen, worker: visits(pen, worker, 1, label=False),
    "visite2": lambda pen, worker: visits(pen, worker, 2, label=True),
    "visite3": lambda pen, worker: visits(pen, worker, 3, label=True),
    "visite4": lambda pen, worker: visits(pen, worker, 4, label=True),
    "aptitude": aptitude,
    "audiogramme": audiogram,
    "biologie": laboratory,
    "exposition": exposure,
    "courrier": letter,
    "questionnaire": questionnaire,
    "vaccination": vaccination,
    "vision": vision,
    "broken": lambda pen, worker: visits(pen, worker, 1, label=False),
}


def save(pages: list[Page], path: Path) -> None:
    """Store the pages as the name of the file asks."""
    if path.suffix == ".jpg":
        path.write_bytes(pages[0].data)
    elif path.suffix == ".png":
        with Image.open(io.BytesIO(pages[0].data)) as image:
            # In six levels of grey the grain is gone: noise is what a PNG cannot compress.
            plain = image.point(levels(lambda level: min(255, round(level / 51) * 51)))
            plain.save(path, dpi=image.info["dpi"], optimize=True)
    elif path.suffix == ".tif":
        images = [Image.open(io.BytesIO(page.data)) for page in pages]
        images[0].save(path, compression="group4", save_all=True, append_images=images[1:], dpi=images[0].info["dpi"])
    else:
        save_pdfa(pages, path)


def save_pdfa(pages: list[Page], path: Path) -> None:
    plain = io.BytesIO()
    img2pdf.convert([page.data for page in pages], outputstream=plain, engine=img2pdf.Engine.internal, nodate=True)
    with pikepdf.open(plain) as pdf:
        pikepdf.pdfa.prepare(pdf, "2b")
        with pdf.open_metadata(set_pikepdf_as_editor=False, update_docinfo=False) as metadata:
            metadata["xmp:MetadataDate"] = "2026-10-15T08:00:00+02:00"
        tables = pikepdf.ObjectStreamMode.disable if path.stem.endswith("broken") else pikepdf.ObjectStreamMode.generate
        pikepdf.pdfa.save(pdf, path, "2b", repair=False, deterministic_id=True, object_stream_mode=tables)


def cut_short(path: Path) -> None:
    """Lose the end of a PDF, as a transfer that stopped does; a lenient reader still counts its pages."""
    path.write_bytes(path.read_bytes()[:-64])


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--hand", type=Path, required=True, help="a handwriting font (TrueType)")
    arguments.add_argument("--print", type=Path, required=True, help="a font for printed forms (TrueType)")
    fonts = arguments.parse_args()
    workers = read_workers()
    lot = tomllib.loads((HERE / "lot.toml").read_text(encoding="utf-8"))
    for folder in lot["folder"]:
        for document in folder["document"]:
            path = HERE / document["file"]
            number, kind = path.stem.split("-", 1)
            pen = Pen(fonts.hand, fonts.print, random.Random(path.name))
            save(DRAWINGS[kind](pen, workers[number]), path)
            if kind == "broken":
                cut_short(path)


if __name__ == "__main__":
    main()
