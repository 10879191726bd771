"""Persons and records: whose record a worker sees, who is of which team, what a declared reason opens.

R4624-45-5, R4624-45-8 C. trav. One server for each way to take accesses out of the team.
"""

from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest

from fhir_server import person_commands
from fhir_server.app import Parts
from fhir_server.caller import Caller
from fhir_server.intake.register import centre_id_of, service_id_of
from fhir_server.outcomes import BadParameter
from fhir_server.records import audit
from fhir_server.records.write import new_id
from fhir_server.rest.oauth.roles import RoleTable
from fhir_server.rest.standings import NOTHING_CLAIMED, Claims, Standings
from fhir_server.settings import Settings
from fhir_server.store.persons import Persons
from mappings.consent import WORKER_RIGHT
from mappings.organization import centre
from mappings.patient_fr_core import WorkerRecord, to_patient
from terminology import systems
from tests.support import EVERYTHING, Resource, Server, codes, document_reference, keep, observation, serving

INS = "255069912345678"
HEALTH = {"category": [{"coding": [{"system": systems.DMST_CATEGORY, "code": "3"}]}]}
SAID = "Malaise au poste de travail, seul médecin sur place"


def worker(number: str, centre_id: str = "c7", **more: Any) -> Resource:
    """A worker of the register, of a qualified identity unless told otherwise."""
    record: dict[str, Any] = {
        "birth_name": "TESTEUR", "used_name": None, "given_names": ("CAMILLE",), "birth_date": "1955-06-01",
        "sex": "female", "birth_place": "99999", "matricule_ins": f"25506991234{number:0>4}",
        "oid_ins": systems.INS_TEST_OID, "status": "QUAL", "attributes": frozenset(), **more,
    }  # fmt: skip
    told = WorkerRecord(folder_number=number, **{**_rest(), **record})
    return to_patient(told, patient_id=f"w{number}", organization_id=centre_id, practitioner_role_id=None)


def _rest() -> dict[str, Any]:
    """The other columns, which say nothing."""
    from dataclasses import MISSING, fields

    return {
        one.name: None
        for one in fields(WorkerRecord)
        if one.default is MISSING and one.default_factory is MISSING and one.name != "folder_number"
    }


def person(role: str, name: str = "person-1", **more: Any) -> Caller:
    return Caller(f"person:x:{name}", name, role, ("system/*.rs",), professional=name, **more)


async def a_worker_of(standings: Standings, claims: Claims = NOTHING_CLAIMED) -> str | None:
    return (await standings.now(person("travailleur"), claims)).caller.worker


@pytest.fixture
def settings(make_settings: Callable[..., Settings]) -> Settings:
    return make_settings()


async def test_a_worker_is_found_to_the_letter_or_not_at_all(parts: Parts, server: Server) -> None:
    """A claim beside the register: a qualified identity, its identifier now, and of one alone."""
    doctor = (await server.client(EVERYTHING)).http
    number = "255069912340001"
    await keep(doctor, centre("c7", "C07", "Centre", service_id="c7") | {"partOf": {"reference": "Organization/c7"}})
    await keep(doctor, worker("1"), worker("2", status="VALI"), worker("3", attributes=frozenset({"douteuse"})))
    old = worker("4")
    old["identifier"] = [{**one, "use": "old"} if one["value"].endswith("0004") else one for one in old["identifier"]]
    await keep(doctor, old)
    standings = Standings(parts.persons, mode="told")

    async def by(system: str, value: str) -> str | None:
        return await a_worker_of(standings, Claims((system, value)))

    assert await by(systems.INS_TEST, number) == "w1"
    assert await by(systems.NUMERO_DOSSIER, "1") == "w1"
    assert await by(systems.INS_NIR, number) is None, "a matricule is nothing without its OID"
    assert await by(systems.INS_TEST, number[:-1]) is None
    assert await by(systems.INS_TEST, f"{number} ") is None
    assert await by(systems.NUMERO_DOSSIER, "2") is None, "validated only"
    assert await by(systems.NUMERO_DOSSIER, "3") is None, "doubtful"
    assert await by(systems.INS_TEST, "255069912340004") is None, "a former number"
    assert await by("", "") is None
    twin = worker("5")
    twin["identifier"][0]["value"] = "1"
    await keep(doctor, twin)
    assert await by(systems.NUMERO_DOSSIER, "1") is None, "two hits: nothing in sight"
    assert await by(systems.INS_TEST, number) == "w1"


async def test_a_link_says_whose_record_it_is(parts: Parts, server: Server) -> None:
    """Recorded by somebody, in the trail; two links, or a link beside another claim, are none."""
    doctor = (await server.client(EVERYTHING)).http
    await keep(doctor, {"resourceType": "Organization", "id": "c7"}, worker("1"), worker("2"))
    standings = Standings(parts.persons, mode="told")
    with pytest.raises(BadParameter):
        await person_commands.link(parts, "person-1", "Patient/nobody", "Mme A")
    await person_commands.link(parts, "person-1", "Patient/w1", "Mme A")
    assert await a_worker_of(standings) == "w1"
    assert await a_worker_of(standings, Claims((systems.NUMERO_DOSSIER, "1"))) == "w1"
    assert await a_worker_of(standings, Claims((systems.NUMERO_DOSSIER, "2"))) is None
    assert await a_worker_of(standings, Claims((systems.NUMERO_DOSSIER, "9"))) is None
    await person_commands.link(parts, "person-1", "w2", "Mme A")
    assert await a_worker_of(standings) is None
    assert await person_commands.unlink(parts, "person-1", "Patient/w2", "M. B") == "1 ended"
    assert await a_worker_of(standings) == "w1"
    assert await person_commands.unlink(parts, "person-1", None, "M. B") == "1 ended"
    assert await a_worker_of(standings) is None
    told = await person_commands.listing(parts)
    assert told.count("by Mme A") == 2
    rows = await server.rows(
        "select patient_id, professional, query from access where query like 'persons%%' order by id"
    )
    assert rows == [
        ("w1", "Mme A", "persons link"),
        ("w2", "Mme A", "persons link"),
        ("w2", "M. B", "persons unlink"),
        ("w1", "M. B", "persons unlink"),
    ]


def table(**more: Any) -> RoleTable:
    rule = {"role": "travailleur", "when": {"groups": ["salarie"]}, "scopes": ["system/*.rs"]}
    return RoleTable.model_validate({"second_factor": {"amr": ["otp"]}, "role": [rule], **more})


def test_claims_that_say_who_a_worker_is() -> None:
    """The first rule whose value is there counts; one without its system, or with two values, is of nobody."""
    by_ins = {"value": ["ins.matricule"], "system_claim": ["ins.oid"]}
    by_number = {"value": ["number"], "system": systems.NUMERO_DOSSIER}
    both = table(worker=[by_ins, by_number], claims={"centre": ["teams.code"]})
    ins = {"matricule": INS, "oid": systems.INS_NIR_OID}
    assert both.claimed({"ins": ins, "number": "7"}).worker == (systems.INS_NIR, INS)
    assert both.claimed({"ins": {**ins, "oid": systems.INS_NIR}}).worker == (systems.INS_NIR, INS)
    assert both.claimed({"number": "7"}).worker == (systems.NUMERO_DOSSIER, "7")
    assert both.claimed({"ins": {"matricule": INS}, "number": "7"}).worker == ("", "")
    assert both.claimed({"number": ["7", "8"]}).worker == ("", "")
    assert both.claimed({}).worker is None
    assert both.claimed({"teams": [{"code": "C07"}, {"code": "C01"}]}).centres == ("C01", "C07")
    assert table().claimed({"number": "7"}) == NOTHING_CLAIMED
    for wrong in ({"value": ["x"]}, {"value": ["x"], "system": "a", "system_claim": ["b"]}, {"value": []}):
        with pytest.raises(ValueError, match="worker"):
            table(worker=[wrong])


@pytest.fixture
async def strict(make_settings: Callable[..., Settings], request: pytest.FixtureRequest) -> AsyncIterator[Server]:
    """A service that keeps professionals to their teams: two workers of two centres, and one of the service itself."""
    async with serving(make_settings(out_of_team=request.param)) as server:
        doctor = (await server.client(EVERYTHING)).http
        service = service_id_of(server.settings)
        await keep(doctor, {"resourceType": "Organization", "id": service})
        for code in ("C07", "C01"):
            await keep(doctor, centre(centre_id_of(code), code, "Centre", service_id=service))
        for number, where in (("1", centre_id_of("C07")), ("2", centre_id_of("C01")), ("3", service)):
            await keep(doctor, worker(number, where), document_reference(f"w{number}", id=f"d{number}", **HEALTH))
        yield server


async def nurse(server: Server, *centres: str, role: str = "infirmier") -> tuple[httpx.AsyncClient, str]:
    made = await server.client(EVERYTHING, role=role)
    persons = Persons(server.database)
    for code in centres:
        await persons.join(made.client_id, code, "Dr Test", audit.access(None, "operation", new_id()))
    return made.http, made.client_id


async def seen(http: httpx.AsyncClient) -> list[str]:
    """By search, and the same by reads."""
    found = (await http.get("/fhir/DocumentReference?_total=accurate")).json()
    ids = sorted(one["resource"]["id"] for one in found.get("entry", []))
    assert found["total"] == len(ids)
    for number in "123":
        answer = await http.get(f"/fhir/DocumentReference/d{number}")
        assert answer.status_code == (200 if f"d{number}" in ids else 404), answer.text
    return ids


def declaration(reason: str, text: str = SAID) -> Resource:
    return {
        "resourceType": "Parameters",
        "parameter": [{"name": "reason", "valueCode": reason}, {"name": "text", "valueString": text}],
    }


async def declare(http: httpx.AsyncClient, number: str, reason: str, text: str = SAID) -> httpx.Response:
    return await http.post(f"/fhir/Patient/w{number}/$declare-access", json=declaration(reason, text))


@pytest.mark.parametrize("strict", ["told"], indirect=True)
async def test_an_access_out_of_the_team_is_told(strict: Server) -> None:
    """Of whom the centre is known, about whom it is known; searched by it, and exported."""
    http, who = await nurse(strict, "C07")
    assert await seen(http) == ["d1", "d2", "d3"]
    nobody, _ = await nurse(strict)
    assert await seen(nobody) == ["d1", "d2", "d3"]
    dpo = (await strict.client(EVERYTHING, role="dpo")).http
    answer = await dpo.get("/fhir/AuditEvent?subtype=out-of-team")
    events = [one["resource"] for one in answer.json()["entry"]]
    about = {
        what["what"]["reference"] for one in events for what in one["entity"] if "reference" in what.get("what", {})
    }
    assert about == {"Patient/w2", "DocumentReference/d2/_history/1"}
    coding = {"system": systems.ACCESS_CIRCUMSTANCE, "code": "out-of-team"}
    assert all(coding in one["subtype"] for one in events)
    assert {agent["who"]["identifier"]["value"] for one in events for agent in one["agent"] if agent["requestor"]} == {
        who
    }
    both = await dpo.get(f"/fhir/AuditEvent?subtype={systems.ACCESS_CIRCUMSTANCE}|out-of-team&subtype=read")
    assert [one["resource"]["subtype"][0]["code"] for one in both.json()["entry"]] == ["read"]


@pytest.mark.parametrize("strict", ["reason"], indirect=True)
async def test_records_of_another_team_want_a_reason(strict: Server, capsys: pytest.CaptureFixture[str]) -> None:
    """On every path until it is declared; for one worker and for a while; who he is, is not concealed."""
    http, who = await nurse(strict, "C07")
    assert await seen(http) == ["d1", "d3"]
    nowhere, _ = await nurse(strict)
    assert await seen(nowhere) == ["d3"], "of no centre"
    mpc = (await strict.client(EVERYTHING, role="medecin-praticien-correspondant")).http
    assert await seen(mpc) == ["d1", "d2", "d3"], "of no team"
    assert (await http.get("/fhir/Patient/w2")).status_code == 200
    assert (await http.get("/fhir/DocumentReference?subject:Patient.name=testeur&_summary=count")).json()["total"] == 2
    for wrong in (("TREAT", SAID), ("BTG", "court")):
        answer = await declare(http, "2", *wrong)
        assert (answer.status_code, codes(answer)) == (403, ["forbidden"])
    answer = await http.post(f"/fhir/Patient/w2/$declare-access?text={SAID}")
    assert answer.status_code == 400
    assert (await declare(http, "9", "remplacement")).status_code == 404
    answer = await declare(http, "2", "remplacement")
    assert answer.status_code == 200
    kind, until = (next(iter(set(one) - {"name"})) for one in answer.json()["parameter"])
    told = {one["name"]: one[key] for one, key in zip(answer.json()["parameter"], (kind, until), strict=True)}
    assert told["kind"] == "reason-given"
    assert 3500 < (datetime.fromisoformat(told["until"]) - datetime.now(UTC)).total_seconds() <= 3600
    assert await seen(http) == ["d1", "d2", "d3"]
    assert await seen(nowhere) == ["d3"], "he alone"
    await strict.rows("update declared_access set high = now() where person = %s", who)
    again = Standings(Persons(strict.database), mode="reason")
    caller = Caller(who, "x", "infirmier", EVERYTHING)
    assert (await again.now(caller, NOTHING_CLAIMED)).caller.standing.declared == (), "it ends"
    rows = await strict.rows("select distinct circumstance from access where client_id = %s order by 1", who)
    assert rows == [("break-glass out-of-team",), ("out-of-team",), ("reason-given out-of-team",), (None,)]
    await nowhere.get("/fhir/DocumentReference?patient=w2")
    asked = (
        "select outcome from access where interaction = 'search-type' and patient_id = 'w2' and query like 'patient%%'"
    )
    assert await strict.rows(asked) == [(4,)], "a refusal"
    assert "Malaise" not in capsys.readouterr().err


@pytest.mark.parametrize("strict", ["emergency"], indirect=True)
async def test_a_broken_glass_opens_nothing_that_the_law_keeps(strict: Server) -> None:
    """Neither what the worker opposes, nor personal notes; told with its own code, and what was said."""
    doctor = (await strict.client(EVERYTHING, role="medecin-travail")).http
    http, _ = await nurse(strict, "C07")
    assistant, _ = await nurse(strict, "C07", role="assistant")
    refused = await declare(http, "2", "remplacement")
    assert (refused.status_code, "emergency-only" in refused.text) == (403, True)
    refused = await declare(assistant, "2", "BTG")
    assert (refused.status_code, "no-break-glass" in refused.text) == (403, True)
    note = document_reference("w2", id="note", **HEALTH)
    note["meta"] = {"security": [{"system": systems.SECURITY_TAG, "code": "non-transmissible"}]}
    system = (await strict.client(EVERYTHING)).http
    await keep(system, note)
    assert (await declare(http, "2", "BTG")).status_code == 200
    assert await seen(http) == ["d1", "d2", "d3"]
    assert (await http.get("/fhir/DocumentReference/note")).status_code == 404
    opposed = {
        "resourceType": "Consent", "id": "k", "status": "active", "scope": {"coding": [{"code": "patient-privacy"}]},
        "category": [{"coding": [{"system": WORKER_RIGHT, "code": "C2"}]}], "patient": {"reference": "Patient/w2"},
        "dateTime": "2026-01-01", "policyRule": {"text": "R4624-45-6"}, "provision": {"type": "deny"},
    }  # fmt: skip
    await keep(system, opposed)
    assert await seen(http) == ["d1", "d3"]
    assert (await doctor.get("/fhir/DocumentReference/d2")).status_code == 404, "a doctor of no centre of his"
    dpo = (await strict.client(EVERYTHING, role="dpo")).http
    said = (await dpo.get(f"/fhir/AuditEvent?subtype={systems.DICOM}|110127")).json()["entry"]
    good = [one["resource"] for one in said if one["resource"]["outcome"] == "0"]
    assert [(one["type"]["code"], one["purposeOfEvent"][0]["text"]) for one in good] == [("110113", SAID)]
    assert good[0]["purposeOfEvent"][0]["coding"][0]["code"] == "BTG"
    (denied,) = [one["resource"] for one in said if one["resource"]["outcome"] == "4"]
    assert denied["outcomeDesc"] == "no-break-glass"
    under = (await dpo.get("/fhir/AuditEvent?subtype=break-glass&subtype=read")).json()["entry"]
    assert {one["resource"]["purposeOfEvent"][0]["coding"][0]["code"] for one in under} == {"BTG"}


@pytest.mark.parametrize("strict", ["reason"], indirect=True)
async def test_a_worker_who_moves_changes_the_team(strict: Server) -> None:
    """In the commit of his Patient."""
    http, _ = await nurse(strict, "C07")
    system = (await strict.client(EVERYTHING)).http
    assert await seen(http) == ["d1", "d3"]
    await keep(system, worker("2", centre_id_of("C07")), worker("1", centre_id_of("C01")), observation("w1", id="o"))
    assert await seen(http) == ["d2", "d3"]
    assert (await http.get("/fhir/Observation/o")).status_code == 404
