"""Workloads whose step is one request: reads, creates, read mix, CRUD mix, search families, document mix.

Sources of the shares: mock.health fhir-server-compare (W6), HealthSamurai fhir-server-performance-benchmark (W8).
"""

import random
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import quote

import orjson
import pybase64

from bench.rest import resources
from bench.rest.client import Connection, Target
from bench.rest.driver import Iterate, Missing, Session
from bench.rest.population import Stock, must, reason, reference_of

MINIMAL: Final = "prefer: return=minimal\r\n"
DAYS_ASKED: Final = 365
RANGE: Final = 65_536


@dataclass(slots=True)
class Ground:
    """What a workload stands on. `notes` is for what a reader of the result must know, such as searches refused."""

    target: Target
    stock: Stock
    patients: int = 100
    synthea: Any = None
    notes: list[str] = field(default_factory=list)


async def read_by_id(ground: Ground) -> Iterate:
    """W1."""
    stock = ground.stock
    names = [f"{kind}/{one}" for kind in stock.ids if kind != "Binary" for one in stock.of(kind)]
    if not names:
        raise Missing("the population is empty")

    async def step(session: Session) -> None:
        await session.ask("read", "GET", session.chance.choice(names))

    return step


async def create_patient(_: Ground) -> Iterate:
    """W2."""

    async def step(session: Session) -> None:
        body = orjson.dumps(resources.patient(session.chance))
        await session.ask("create", "POST", "Patient", body, expect=(201,), resources=1)

    return step


async def read_mix(ground: Ground) -> Iterate:
    """W5: 45 % read, 20 % a page of Patients, 20 % Observations of one, 10 % his Conditions, 5 % history."""
    stock = ground.stock

    async def step(session: Session) -> None:
        chance = session.chance
        subject = stock.one_of(chance, "Patient")
        share = chance.random()
        if share < 0.45:
            await session.ask("read", "GET", subject)
        elif share < 0.65:
            await session.ask("Patient?_count=20", "GET", "Patient?_count=20")
        elif share < 0.85:
            await session.ask("Observation?patient", "GET", f"Observation?patient={subject}&_count=50")
        elif share < 0.95:
            await session.ask("Condition?patient", "GET", f"Condition?patient={subject}")
        else:
            await session.ask("history", "GET", f"{subject}/_history")

    return step


KINDS: Final = {"Observation": 50, "Patient": 20, "Condition": 15, "Encounter": 10, "MedicationRequest": 5}


def one_of_kind(kind: str, chance: random.Random, stock: Stock) -> resources.Resource:
    """A new resource of one of the KINDS about somebody who is there."""
    if kind == "Patient":
        return resources.patient(chance)
    subject = stock.one_of(chance, "Patient")
    if kind == "Encounter":
        return resources.encounter(chance, subject)
    make = {
        "Observation": resources.observation,
        "Condition": resources.condition,
        "MedicationRequest": resources.medication_request,
    }[kind]
    return make(chance, subject, stock.one_of(chance, "Encounter"))


async def crud_mix(ground: Ground) -> Iterate:
    """W6: 10 % create, 60 % read, 25 % update and 5 % delete of what the client created itself."""
    stock, names, weights = ground.stock, list(KINDS), list(KINDS.values())

    async def create(session: Session, kind: str) -> None:
        resource = one_of_kind(kind, session.chance, stock)
        answer = await session.ask("create", "POST", kind, orjson.dumps(resource), expect=(201,))
        if answer.status == 201:
            session.own.append({**resource, "id": reference_of(answer.location).partition("/")[2]})

    async def step(session: Session) -> None:
        chance = session.chance
        kind = chance.choices(names, weights)[0]
        share = chance.random()
        if share < 0.6:
            await session.ask("read", "GET", stock.one_of(chance, kind))
        elif share < 0.7 or not session.own:
            await create(session, kind)
        elif share < 0.95:
            mine = chance.choice(session.own)
            mine["language"] = chance.choice(("fr", "en", "de", "nl"))
            await session.ask("update", "PUT", f"{mine['resourceType']}/{mine['id']}", orjson.dumps(mine))
        else:
            mine = session.own.pop(chance.randrange(len(session.own)))
            url = f"{mine['resourceType']}/{mine['id']}"
            await session.ask("delete", "DELETE", url, expect=(200, 204))

    return step


Query = Callable[[random.Random, Stock], str]


def _born(prefix: str) -> Query:
    def query(chance: random.Random, _: Stock) -> str:
        return f"Patient?birthdate={prefix}{chance.randrange(1955, 2004)}-{chance.randrange(1, 13):02}-15&_count=100"

    return query


def asked(*parts: object) -> str:
    """The parts of a value in a query, with the bars between them, as a URL may hold it."""
    return quote("|".join(map(str, parts)), safe="$,:/")


def _reading(chance: random.Random) -> tuple[str, float, str]:
    code, _, unit, mean, spread = chance.choice(resources.READINGS)
    return code, round(mean + spread, 1), unit


def _quantity(chance: random.Random, _: Stock) -> str:
    value, unit = _reading(chance)[1:]
    return f"Observation?value-quantity={asked(f'gt{value}', resources.UCUM, unit)}&_count=100"


def _composite(chance: random.Random, _: Stock) -> str:
    code, value, unit = _reading(chance)
    pair = asked(resources.LOINC, f"{code}$gt{value}", resources.UCUM, unit)
    return f"Observation?code-value-quantity={pair}&_count=100"


FAMILIES: Final[Mapping[str, Query]] = {
    "name": lambda chance, _: (
        f"Patient?name={chance.choice(resources.SYLLABLES)}{chance.choice(resources.SYLLABLES)}&_count=100"
    ),
    "name:contains": lambda chance, _: f"Patient?name:contains={chance.choice(resources.SYLLABLES)}&_count=100",
    "birthdate": _born(""),
    "birthdate ne": _born("ne"),
    "birthdate lt": _born("lt"),
    "birthdate gt": _born("gt"),
    "token Observation": lambda chance, _: f"Observation?code={asked(resources.LOINC, _reading(chance)[0])}&_count=100",
    "token Encounter": lambda chance, _: f"Encounter?class={chance.choice(('AMB', 'EMER', 'IMP'))}&_count=100",
    "reference": lambda chance, stock: f"Observation?subject={stock.one_of(chance, 'Patient')}&_count=100",
    "quantity": _quantity,
    "composite": _composite,
}


async def search_families(ground: Ground) -> Iterate:
    """W8: each family in turn; one that the server refuses is noted and left out."""
    probe, chance = Connection(ground.target), random.Random(1)
    taken: dict[str, Query] = {}
    for name, query in FAMILIES.items():
        answer = await probe.ask("GET", query(chance, ground.stock), keep=True)
        if answer.status == 200:
            taken[name] = query
        else:
            ground.notes.append(f"{name} is refused ({answer.status}: {reason(answer.body)})")
    probe.close()
    if not taken:
        raise Missing("every search family is refused")
    names = list(taken)

    async def step(session: Session) -> None:
        name = session.chance.choice(names)
        await session.ask(name, "GET", taken[name](session.chance, ground.stock))

    return step


async def document_mix(ground: Ground) -> Iterate:
    """W11: 60 % search of documents, 20 % a range of a scan, 15 % ITI-65 Provide Document Bundle, 5 % $docref."""
    if not ground.stock.scans:
        raise Missing("the document mix needs scans: --scans is 0")
    steps: list[tuple[float, Callable[[Session, Stock], Awaitable[None]]]] = [
        (0.60, _find_documents), (0.20, _retrieve_range), (0.15, _provide)
    ]  # fmt: skip
    probe = Connection(ground.target)
    answer = await probe.ask("GET", _docref(random.Random(1), ground.stock), keep=True)
    probe.close()
    if answer.status == 200:
        steps.append((0.05, _ask_docref))
    else:
        ground.notes.append(f"$docref is refused ({answer.status}: {reason(answer.body)}), the other shares remain")
    weights, doings = [weight for weight, _ in steps], [doing for _, doing in steps]

    async def step(session: Session) -> None:
        await session.chance.choices(doings, weights)[0](session, ground.stock)

    return step


async def _find_documents(session: Session, stock: Stock) -> None:
    chance = session.chance
    kind = chance.choice(resources.DOCUMENT_TYPES)[0]
    start = resources.FIRST_DAY.year + chance.randrange(8)
    url = (
        f"DocumentReference?patient={stock.one_of(chance, 'Patient')}&type={asked(resources.LOINC, kind)}"
        f"&date=ge{start}-01-01&date=lt{start + 3}-01-01&_sort=-date&_count=20"
    )
    await session.ask("find documents", "GET", url)


async def _retrieve_range(session: Session, stock: Stock) -> None:
    reference, size = session.chance.choice(stock.scans)
    start = session.chance.randrange(max(1, size - RANGE))
    headers = f"accept: application/pdf\r\nrange: bytes={start}-{min(size, start + RANGE) - 1}\r\n"
    await session.ask("retrieve range", "GET", reference, headers=headers, expect=(206,))


def _docref(chance: random.Random, stock: Stock) -> str:
    kind = chance.choice(resources.DOCUMENT_TYPES)[0]
    return f"DocumentReference/$docref?patient={stock.one_of(chance, 'Patient')}&type={asked(resources.LOINC, kind)}"


async def _ask_docref(session: Session, stock: Stock) -> None:
    await session.ask("$docref", "GET", _docref(session.chance, stock))


_CONTENT: Final = pybase64.b64encode(resources.scan(0, 200_000))


def provide_bundle(chance: random.Random, subject: str) -> bytes:
    """An ITI-65 transaction: SubmissionSet, DocumentReference and a Binary of 200 kB."""
    document, binary = resources.urn(chance), resources.urn(chance)
    bundle = resources.transaction([
        (resources.urn(chance), resources.submission_set(chance, subject, document)),
        (document, resources.document_reference(chance, subject, binary, 200_000)),
        (binary, {"resourceType": "Binary", "contentType": "application/pdf", "data": "DATA"}),
    ])  # fmt: skip
    bundle["meta"] = {"profile": ["https://profiles.ihe.net/ITI/MHD/StructureDefinition/IHE.MHD.Minimal.ProvideBundle"]}
    return orjson.dumps(bundle).replace(b'"data":"DATA"', b'"data":"%s"' % _CONTENT)


async def _provide(session: Session, stock: Stock) -> None:
    body = provide_bundle(session.chance, stock.one_of(session.chance, "Patient"))
    answer = await session.ask("provide (ITI-65)", "POST", "", body, headers=MINIMAL, keep=True)
    if answer.status not in (200, 401, 429, 503):
        must("ITI-65 Provide Document Bundle", answer, 200)
