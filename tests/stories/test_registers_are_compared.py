"""A register is taken over: compared, its duplicates looked for, a model of its own; nothing is linked or written.

docs/identity.md. What the service decided keeps the version of the model that decided it.
"""

import asyncio
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fhir_server.app import Parts
from fhir_server.caller import Caller
from fhir_server.caller import service as itself
from fhir_server.identity.registers import Pair
from fhir_server.intake.register import patient_id_of
from fhir_server.linkage.model import checksum, default_model, written
from fhir_server.outcomes import Forbidden, NotFound
from fhir_server.settings import Settings
from tests.stories.support import SAMPLES, Provider, count, dmst_fhir, running_service

HEADING = (
    "numero_dossier;nom_naissance;prenoms;date_naissance;sexe;lieu_naissance;matricule_ins;oid_ins;statut_identite"
)
OID = "1.2.250.1.213.1.4.8"
REGISTER = (
    "1;LE GOFF;ANNE;14/03/1985;F;29019;285032901921873;{oid};QUAL",
    "2;LEGOFF;ANNE;14/03/1985;F;29019;285032901921873;{oid};QUAL",  # the same INS twice
    "3;KERMADEC;ZOE;02/11/1979;F;29019;279112901900154;{oid};QUAL",
    "4;KERMADEC;ZOE;02/11/1979;F;29019;279112901900251;{oid};QUAL",  # only the INS tells them apart
    "5;KERMADEC;CHLOE;02/11/1979;F;29019;;;PROV",  # a twin
    "6;DURAND;PAUL;20/01/1968;M;75101;;;VALI",
    "7;DURAND;PAUL;20/01/1968;M;75101;;;PROV",  # a duplicate without INS
)
OPERATOR = replace(itself("review"), professional="b.durand")


def with_key(line: str) -> str:
    """The line with the right key of its matricule."""
    cells = line.format(oid=OID).split(";")
    if cells[6]:
        number = cells[6][:13]
        cells[6] = f"{number}{97 - int(number) % 97:02d}"
    return ";".join(cells)


def register(file: Path, *lines: str) -> Path:
    file.write_text("\n".join((HEADING, *map(with_key, lines))) + "\n", encoding="utf-8")
    return file


async def run(world: Settings, *words: str, status: int = 0) -> str:
    result = await asyncio.to_thread(dmst_fhir, world, *words)
    assert result.exit_code == status, (words, result.output, result.exception)
    return result.output


async def rows(service: Parts) -> list[Any]:
    return [await count(service, table) for table in ("resource", "resource_history", "identity_event")]


async def test_a_register_is_compared_and_its_duplicates_become_cases(world: Settings, tmp_path: Path) -> None:
    here = register(tmp_path / "here.csv", *REGISTER)
    there = register(
        tmp_path / "there.csv",
        "a;DURAND;PAUL;20/01/1968;M;75101;;;PROV",
        "b;KERMADEC;ZOÉ;02/11/1979;F;29019;;;PROV",
        "c;NGUYEN;LINH;30/07/1990;F;99243;;;PROV",
        f"d;{'X' * 500};LINH;30/07/1990;F;99243;;;PROV",
    )
    async with running_service(world) as service:
        await service.register.import_csv(here.read_bytes())
        before = await rows(service)
    report = tmp_path / "report.json"

    said = await run(world, "identities", "compare", str(there), "-o", str(report), "--by", "b.durand", status=1)
    assert "plus de 100 caractères" in said
    assert "Rien n'a été enregistré" in said
    found = json.loads(report.read_text())
    assert found["refused_lines"] == 1
    assert {(p["number"], p["grade"]) for p in found["pairs"]} == {("a", "possible"), ("b", "possible"), ("c", "none")}
    assert all("G6-rival" in p["reasons"] for p in found["pairs"] if p["number"] == "a")
    said = await run(world, "identities", "compare", str(here), str(here), "-o", str(report))
    assert "7 lignes comparées à 7 salariés" in said
    for word in ("GOFF", "KERMADEC", "1979"):
        assert word not in said + report.read_text()

    dedupe = ("identities", "dedupe", "-o", str(tmp_path / "duplicates.csv"), "--by", "b.durand")
    assert "Rien n'a été enregistré" in await run(world, *dedupe)
    async with running_service(world) as service:
        assert await rows(service) == before
    assert "Cas ouverts : 2 doublons, 1 collisions" in await run(world, *dedupe, "--open-cases")
    assert "Cas ouverts : 0 doublons, 0 collisions" in await run(world, *dedupe, "--open-cases")
    async with running_service(world) as service:
        assert (await rows(service))[:2] == before[:2]  # no record was touched
        assert await count(service, "resource where doc like '%seealso%'") == 0
        cases = await count(service, "identity_event where model = 'fr-1' and decided_by = 'b.durand'")
        assert cases == 3
        assert await count(service, "identity_event where explanation::text ~ 'GOFF|KERMADEC|DURAND'") == 0
        assert await count(service, "access where query = 'identities=dedupe'") == 3
    listed = await run(world, "identities", "cases", "--by", "b.durand")
    assert listed.count("duplicate-case-opened") == 2
    case = next(line.split()[0] for line in listed.splitlines() if "collision" in line)
    await run(world, "identities", "close", case.removeprefix("event"), "--by", "b.durand")
    assert "0 doublons, 0 collisions" in await run(world, *dedupe, "--open-cases")  # what a person closed stays closed


async def test_who_does_not_decide_on_identities_compares_none(service: Parts) -> None:
    """Default deny, traced; whoever decides says who he is."""
    one, other = (f"Patient/{patient_id_of(number)}" for number in ("100000101", "100000106"))
    pair = Pair(one, other, "certain", 1.0, 20.0)
    for role in ("technique", "direction", "assistant", "external-system"):
        caller = Caller("person:x", "x", role, ("system/*.cruds",), "TREAT", professional="x")
        with pytest.raises(Forbidden):
            await anext(service.identities.everybody(caller, "dedupe"))
        with pytest.raises(Forbidden):
            await service.identities.suspect(caller, pair, {}, "fr-1")
    assert await count(service, "access where query in ('identities=dedupe', 'identities=suspect')") == 8
    with pytest.raises(NotFound):
        await service.identities.suspect(OPERATOR, pair._replace(other="Patient/absent"), {}, "fr-1")
    assert await count(service, "identity_event where patient_id is not null") == 0


async def test_files_that_are_no_register(world: Settings, tmp_path: Path) -> None:
    empty, other = tmp_path / "empty.csv", tmp_path / "other.csv"
    empty.write_bytes(b"")
    other.write_text("nom;age\nX;3\n")
    report = tmp_path / "report.csv"
    for file in (empty, other):
        assert "no line of it" in await run(
            world, "identities", "compare", str(file), str(other), "-o", str(report), status=1
        )
    here = register(tmp_path / "here.csv", *REGISTER)
    nowhere = tmp_path / "nowhere" / "report.csv"
    await run(world, "identities", "compare", str(here), str(here), "-o", str(nowhere), status=1)
    assert not report.exists()


async def test_a_model_is_checked_before_the_service_starts(world: Settings, tmp_path: Path) -> None:
    good, bad = tmp_path / "good.json", tmp_path / "bad.json"
    good.write_text(written(default_model()))
    bad.write_text(written(default_model()).replace('"certain": 7.0', '"certain": 1.0'))
    assert default_model().checksum in (await run(world, "identities", "model", "check", str(good))).replace("\n", "")
    assert "certain 7.0" in await run(world, "identities", "model", "show", str(good))
    assert "SHA-256" in await run(world, "identities", "model", "check", str(bad), status=1)
    altered = world.model_copy(update={"identity_model": bad})
    for words in (("serve",), ("identities", "cases", "--by", "x")):
        said = " ".join((await run(altered, *words, status=1)).split())
        assert "la somme SHA-256 ne correspond pas" in said
    small = register(tmp_path / "here.csv", *REGISTER)
    said = await run(
        world, "identities", "train", "--out", str(tmp_path / "m.json"), "--register", str(small), status=1
    )
    assert "registre trop petit" in said
    assert not (tmp_path / "m.json").exists()


async def test_another_model_rewrites_no_past_decision(world: Settings, provider: Provider, tmp_path: Path) -> None:
    document = json.loads(written(default_model())) | {"version": "ours-1"}
    document["checksum"] = checksum(document)
    (tmp_path / "ours.json").write_text(json.dumps(document))
    kept = "select event_id, model, score, explanation::text from identity_event order by event_id"

    async def events(service: Parts) -> list[Any]:
        async with service.database.connection() as connection:
            return await (await connection.execute(kept)).fetchall()

    async with running_service(world) as service:
        await service.register.import_csv((SAMPLES / "workers.csv").read_bytes())
        await service.lots.receive(provider.lot("100000101"))
        before = await events(service)
    assert [event[1] for event in before] == ["fr-1"]
    async with running_service(world.model_copy(update={"identity_model": tmp_path / "ours.json"})) as service:
        await service.lots.receive(provider.lot("100000102"))
        after = await events(service)
    assert after[:1] == before
    assert [event[1] for event in after] == ["fr-1", "ours-1"]
