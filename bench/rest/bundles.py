"""Workloads of writing: small transactions, the chain of nine linked resources, and whole patients at once.

Sources: Blaze's transaction.js (W3), os-fhir-server-bench (W4), HealthSamurai's crud.js (W7), Synthea bundles (W9).
"""

import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import orjson

from bench.rest import resources
from bench.rest.client import Connection
from bench.rest.driver import Book, Iterate, Missing, Session, Watch
from bench.rest.mixes import Ground
from bench.rest.population import SEED, each, must, reference_of
from bench.rest.resources import Resource, urn


async def transaction_of_two(_: Ground) -> Iterate:
    """W3: Patient and Observation that refers to it."""

    async def step(session: Session) -> None:
        chance = session.chance
        subject = urn(chance)
        reading = resources.observation(chance, subject, subject)
        del reading["encounter"]
        bundle = resources.transaction([(subject, resources.patient(chance)), (urn(chance), reading)])
        await session.ask("transaction", "POST", "", orjson.dumps(bundle), resources=2)

    return step


async def transaction_of_four(_: Ground) -> Iterate:
    """W4: Patient, Encounter and two Observations."""

    async def step(session: Session) -> None:
        chance = session.chance
        subject, visit = urn(chance), urn(chance)
        bundle = resources.transaction([
            (subject, resources.patient(chance)),
            (visit, resources.encounter(chance, subject)),
            (urn(chance), resources.observation(chance, subject, visit)),
            (urn(chance), resources.observation(chance, subject, visit)),
        ])  # fmt: skip
        await session.ask("transaction", "POST", "", orjson.dumps(bundle), resources=4)

    return step


Links = dict[str, str]
CHAIN: Final[dict[str, Callable[[Session, Links], Resource]]] = {
    "Patient": lambda session, _: resources.patient(session.chance),
    "Location": lambda session, _: resources.location(session.chance),
    "Organization": lambda session, _: resources.organization(session.chance),
    "Practitioner": lambda session, _: resources.practitioner(session.chance),
    "Encounter": lambda session, at: resources.encounter(session.chance, at["Patient"]),
    "Observation": lambda session, at: resources.observation(session.chance, at["Patient"], at["Encounter"]),
    "MedicationRequest": lambda session, at: resources.medication_request(
        session.chance, at["Patient"], at["Encounter"]
    ),
    "Claim": lambda session, at: resources.claim(
        session.chance, at["Patient"], at["Practitioner"], at["Organization"]
    ),
    "ExplanationOfBenefit": lambda session, at: resources.explanation_of_benefit(
        session.chance, at["Patient"], at["Practitioner"], at["Organization"], at["Claim"]
    ),
}  # fmt: skip


async def crud_chain(_: Ground) -> Iterate:
    """W7: nine linked resources created, each read, each updated, deleted from the last to the first: 36 requests."""

    async def step(session: Session) -> None:
        at: Links = {}
        made: list[Resource] = []
        for kind, make in CHAIN.items():
            resource = make(session, at)
            answer = await session.ask("create", "POST", kind, orjson.dumps(resource), expect=(201,), keep=True)
            must(f"POST {kind}", answer, 201)
            at[kind] = reference_of(answer.location)
            made.append({**resource, "id": at[kind].partition("/")[2]})
        for reference in at.values():
            await session.ask("read", "GET", reference)
        for resource in made:
            changed = orjson.dumps({**resource, "language": "fr"})
            await session.ask("update", "PUT", at[resource["resourceType"]], changed)
        for reference in reversed(at.values()):
            await session.ask("delete", "DELETE", reference, expect=(200, 204))

    return step


async def whole_patients(ground: Ground, watch: Watch) -> Book:
    """W9: one transaction a patient, four at a time, to the end. Raises Missing when one is refused."""
    book = Book()

    async def send(connection: Connection, bundle: bytes) -> None:
        answer = await connection.ask("POST", "", bundle, keep=True)
        must("the transaction of one patient", answer, 200)
        book.latencies["transaction"].append(answer.milliseconds)
        book.size += answer.size
        book.resources += len(orjson.loads(answer.body)["entry"])

    bundles = list(synthea_bundles(ground.synthea) if ground.synthea else own_bundles(ground.patients))
    watch.start()
    await each(ground.target, bundles, send)
    watch.stop()
    return book


def own_bundles(patients: int) -> Iterator[bytes]:
    """Patients of 390 resources, which is what those of Synthea have on average."""
    for number in range(patients):
        yield orjson.dumps(resources.life(random.Random(SEED * 3 + number), visits=26, readings=12))


def synthea_bundles(folder: Path) -> Iterator[bytes]:
    """The transactions in a folder of Synthea output (`*.json`), hospitals and practitioners first."""
    files = sorted(folder.glob("*.json"), key=lambda file: ("nformation" not in file.name, file.name))
    found = [body for body in map(Path.read_bytes, files) if orjson.loads(body).get("type") == "transaction"]
    if not found:
        raise Missing(f"{folder} holds no transaction")
    yield from found
