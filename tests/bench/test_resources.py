"""What the bench sends is R4, and always the same."""

import json
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench.copy_in import Archive
from bench.rest import bundles, mixes, population, resources
from bench.rest.client import Target
from bench.rest.driver import Book, Missing, Session
from fhir_server.outcomes import Issue
from fhir_server.r4.structure import check

SUBJECT, VISIT = "Patient/p1", "Encounter/e1"


def everything() -> Iterator[resources.Resource]:
    """One of every kind that a workload sends."""
    chance = random.Random(1)
    yield from (one["resource"] for one in population.life_of(3, [("Binary/b1", 250_000)])["entry"])
    for kind in mixes.KINDS:
        yield mixes.one_of_kind(kind, chance, population.Stock({"Patient": ["p1"], "Encounter": ["e1"]}))
    session = Session(Target("http://127.0.0.1/fhir"), Book(), 1)
    at = {kind: f"{kind}/x1" for kind in bundles.CHAIN}
    yield from (make(session, at) for make in bundles.CHAIN.values())
    yield json.loads(mixes.provide_bundle(chance, SUBJECT))
    yield json.loads(next(bundles.own_bundles(1)))
    yield from (Archive(1_000).resource(number, lot=lot) for number in (1, 15, 20) for lot in (False, True))


def test_every_resource_of_every_workload_is_r4() -> None:
    """Our own structure check has nothing to say: a server that refuses one refuses R4."""
    faults: dict[str, list[Issue]] = {}
    for one in everything():
        faults.setdefault(one["resourceType"], []).extend(check(one))
    assert {"Patient", "Claim", "ExplanationOfBenefit", "Bundle", "DocumentReference"} <= set(faults)
    assert {name: found for name, found in faults.items() if found} == {}


def test_the_provide_bundle_is_that_of_mhd() -> None:
    """ITI-65: a transaction with SubmissionSet, DocumentReference and Binary that refer to each other by fullUrl."""
    bundle = json.loads(mixes.provide_bundle(random.Random(2), SUBJECT))
    submission, document, binary = bundle["entry"]
    assert bundle["type"] == "transaction"
    assert [one["resource"]["resourceType"] for one in bundle["entry"]] == ["List", "DocumentReference", "Binary"]
    assert submission["resource"]["entry"][0]["item"]["reference"] == document["fullUrl"]
    assert document["resource"]["content"][0]["attachment"]["url"] == binary["fullUrl"]


def test_the_population_is_the_same_on_every_machine() -> None:
    """The seed decides everything, and two patients differ."""
    assert population.life_of(7) == population.life_of(7)
    assert population.life_of(7) != population.life_of(8)
    assert Archive(1_000).resource(33) == Archive(1_000).resource(33)
    assert resources.scan(1, 1_000) == resources.scan(1, 1_000)


@pytest.mark.parametrize("count", [1, 2, 40])
def test_scans_are_as_large_as_scans_are(count: int) -> None:
    """From 200 kB to 5 MB, more small ones than large ones, and exactly as long as is said."""
    sizes = population.scan_sizes(count)
    assert len(sizes) == count
    assert sizes == sorted(sizes)
    assert sizes[0] == 200_000
    assert count == 1 or sizes[-1] == 5_000_000
    assert len(resources.scan(1, sizes[0])) == sizes[0]


def test_of_a_folder_of_synthea_the_transactions_are_sent_hospitals_first(tmp_path: Path) -> None:
    """Patients refer to hospitals and practitioners, so these go first; what is no transaction stays out."""
    for name, kind in (("Anna.json", "transaction"), ("hospitalInformation.json", "transaction"), ("Group.json", "x")):
        (tmp_path / name).write_text(json.dumps({"resourceType": "Bundle", "type": kind, "id": name[:4]}), "utf-8")
    assert [json.loads(one)["id"] for one in bundles.synthea_bundles(tmp_path)] == ["hosp", "Anna"]
    with pytest.raises(Missing, match="no transaction"):
        list(bundles.synthea_bundles(tmp_path / "elsewhere"))


def test_a_whole_patient_is_as_large_as_one_of_synthea() -> None:
    """38,970 resources in 100 bundles are 390 each; the bundles are what the name of W9 says."""
    sizes = [len(json.loads(one)["entry"]) for one in bundles.own_bundles(2)]
    assert all(380 < size < 400 for size in sizes)
