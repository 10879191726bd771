"""Patient/$ihe-pix and the feed of identities: IHE PIXm ITI-83 and ITI-104."""

from collections.abc import Callable
from typing import Any, Final

import httpx
import orjson
import pytest

from fhir_server.settings import Settings
from fhir_server.store.identity_events import IdentityEvents
from terminology import systems
from tests.rest.operations.test_match import NIR, NUMBER, ins, reliability
from tests.rest.test_added_parameters import QUICK, in_use, parameter
from tests.support import EVERYTHING, FHIR_JSON, FOLDERS, Resource, Server, found, issues, keep, patient, serving

RED: Final = "urn:oid:1.3.6.1.4.1.21367.13.20.1000"
BLUE: Final = "urn:oid:1.3.6.1.4.1.21367.13.20.3000"


def number(system: str, value: str, **more: str) -> dict[str, str]:
    return {**more, "system": system, "value": value}


def linked(other: str, kind: str = "seealso") -> dict[str, Any]:
    return {"link": [{"other": {"reference": f"Patient/{other}"}, "type": kind}]}


async def pix(client: httpx.AsyncClient, source: str, *targets: str) -> httpx.Response:
    asked: list[tuple[str, str | int | float | bool | None]] = [
        ("sourceIdentifier", source),
        *(("targetSystem", one) for one in targets),
    ]
    return await client.get("/fhir/Patient/$ihe-pix", params=asked)


async def known(client: httpx.AsyncClient, source: str, *targets: str) -> tuple[set[str], set[str]]:
    """Values of the identifiers, and the Patients."""
    answer = await pix(client, source, *targets)
    assert answer.status_code == 200, answer.text
    given = answer.json().get("parameter", [])
    numbers = [one["valueIdentifier"]["value"] for one in given if one["name"] == "targetIdentifier"]
    ids = [one["valueReference"]["reference"] for one in given if one["name"] == "targetId"]
    assert len(set(numbers)) == len(numbers)
    return set(numbers), set(ids)


@pytest.fixture
async def register(fhir_client: httpx.AsyncClient) -> httpx.AsyncClient:
    """Three Patients of one worker, joined in a row; one who is alone; one who is nobody's any more."""
    await keep(
        fhir_client,
        patient("red", identifier=[number(RED, "R1"), number(RED, "R1-old", use="old")]),
        patient("blue", identifier=[number(BLUE, "B1")], **linked("red")),
        patient("third", identifier=[number(FOLDERS, "F1")], **linked("blue", "refer")),
        patient("alone", identifier=[number(RED, "R2")]),
        patient("gone", identifier=[number(RED, "R3")], active=False),
    )
    return fhir_client


async def test_all_identifiers_but_the_one_asked_by(register: httpx.AsyncClient) -> None:
    """Along links in both directions, each once, and the Patients themselves."""
    everybody = {"Patient/red", "Patient/blue", "Patient/third"}
    assert await known(register, f"{RED}|R1") == ({"R1-old", "B1", "F1"}, everybody)
    assert await known(register, f"{BLUE}|B1") == ({"R1", "R1-old", "F1"}, everybody)
    assert await known(register, f"{RED}|R2") == (set(), {"Patient/alone"})


async def test_only_the_domains_that_are_asked_for(register: httpx.AsyncClient) -> None:
    assert await known(register, f"{RED}|R1", BLUE) == ({"B1"}, {"Patient/blue"})
    assert await known(register, f"{RED}|R1", BLUE, FOLDERS) == ({"B1", "F1"}, {"Patient/blue", "Patient/third"})
    assert await known(register, f"{RED}|R2", BLUE) == (set(), set()), "known, and nothing to tell"
    here = "http://test/fhir"
    assert await known(register, f"{RED}|R2", here) == (set(), {"Patient/alone"})


async def test_a_logical_id_is_an_identifier_of_this_server(register: httpx.AsyncClient) -> None:
    told = {"R1", "R1-old", "B1", "F1"}, {"Patient/blue", "Patient/third"}
    assert await known(register, "http://test/fhir|Patient/red") == told
    assert (await pix(register, "http://test/fhir|Patient/nobody")).status_code == 404


@pytest.mark.parametrize(
    ("source", "targets", "status", "expected"),
    [
        (f"{RED}|nobody", [], 404, ("not-found", "sourceIdentifier")),
        (f"{RED}|R3", [], 404, ("not-found", "sourceIdentifier")),
        ("urn:oid:1.2.3|R1", [], 400, ("code-invalid", "sourceIdentifier")),
        (f"{RED}|R1", ["urn:oid:1.2.3"], 403, ("code-invalid", "targetSystem")),
        (f"{RED}|R1", [BLUE, "urn:oid:1.2.3"], 403, ("code-invalid", "targetSystem")),
        ("R1", [], 400, ("invalid", "sourceIdentifier")),
        (f"{RED}|", [], 400, ("invalid", "sourceIdentifier")),
    ],
)
async def test_what_is_not_known_is_refused_as_the_profile_says(
    register: httpx.AsyncClient, source: str, targets: list[str], status: int, expected: tuple[str, str]
) -> None:
    answer = await pix(register, source, *targets)
    assert answer.status_code == status, answer.text
    assert issues(answer) == [expected]
    assert (await register.get("/fhir/Patient/$ihe-pix")).status_code == 400


async def test_the_words_of_the_refusals_are_those_of_the_profile(register: httpx.AsyncClient) -> None:
    for source, target, words in (
        (f"{RED}|nobody", BLUE, "sourceIdentifier Patient Identifier not found"),
        ("urn:oid:1.2.3|R1", BLUE, "sourceIdentifier Assigning Authority not found"),
        (f"{RED}|R1", "urn:oid:1.2.3", "targetSystem not found"),
    ):
        assert (await pix(register, source, target)).json()["issue"][0]["diagnostics"] == words


async def test_an_identifier_of_two_designates_nobody(register: httpx.AsyncClient) -> None:
    await keep(register, patient("same", identifier=[number(RED, "R2")]))
    answer = await pix(register, f"{RED}|R2")
    assert (answer.status_code, issues(answer)) == (409, [("multiple-matches", "sourceIdentifier")])
    await keep(register, patient("same", identifier=[number(RED, "R2")], **linked("alone")))
    assert await known(register, f"{RED}|R2") == (set(), {"Patient/alone", "Patient/same"})


async def test_an_ins_is_known_of_a_qualified_identity_only(register: httpx.AsyncClient) -> None:
    """Neither given out nor asked by otherwise; and no link joins two qualified identities of different INS."""
    bearing: Resource = {"identifier": [ins(), number(RED, "R4")]}
    await keep(register, patient("q", extension=reliability("PROV"), **bearing))
    assert await known(register, f"{RED}|R4") == (set(), {"Patient/q"})
    assert (await pix(register, f"{NIR}|{NUMBER}")).status_code == 404
    await keep(register, patient("q", extension=reliability("VALI"), **bearing))
    assert await known(register, f"{RED}|R4", NIR) == ({NUMBER}, {"Patient/q"})
    assert await known(register, f"{NIR}|{NUMBER}", RED) == ({"R4"}, {"Patient/q"})
    other: Resource = {"identifier": [ins("260058815400233"), number(RED, "R5")]}
    await keep(register, patient("r", extension=reliability("VALI"), **other, **linked("q")))
    assert await known(register, f"{RED}|R4") == ({NUMBER}, {"Patient/q"})


async def test_who_is_out_of_sight_is_not_known(register: httpx.AsyncClient, server: Server) -> None:
    """Nor his domain; and who may not search workers may not ask."""
    blind = (await server.client(("system/Patient.rs",), role="employeur")).http
    assert (await pix(blind, f"{RED}|R1")).status_code == 400
    other = (await server.client(("system/Observation.rs",))).http
    assert (await pix(other, f"{RED}|R1")).status_code == 403
    part = (await server.client((f"system/Patient.rs?identifier={RED}|",))).http
    assert await known(part, f"{RED}|R1") == ({"R1-old"}, {"Patient/red"})


async def test_each_worker_has_an_event_without_the_identifier(register: httpx.AsyncClient, server: Server) -> None:
    await known(register, f"{RED}|R1", BLUE)
    rows = await server.rows(
        "select patient_id, query from access where starts_with(query, '$ihe-pix') order by patient_id"
    )
    query = f"$ihe-pix?sourceIdentifier={RED}|***&targetSystem={BLUE}"
    assert rows == [("blue", query), ("red", query), ("third", query)]
    event = (await register.get("/fhir/AuditEvent?patient=Patient/third&_count=1")).json()["entry"][0]["resource"]
    assert ("urn:ihe:event-type-code", "ITI-83") in {(one["system"], one["code"]) for one in event["subtype"]}


async def fed(client: httpx.AsyncClient, resource: Resource, asked_by: str) -> httpx.Response:
    return await client.put(
        "/fhir/Patient", params={"identifier": asked_by}, content=orjson.dumps(resource), headers=FHIR_JSON
    )


async def test_a_feed_adds_revises_and_removes(fhir_client: httpx.AsyncClient) -> None:
    """ITI-104: conditional update, and conditional delete (Remove Patient Option)."""
    one = patient(identifier=[number(RED, "R1")])
    assert (await fed(fhir_client, one, f"{RED}|R1")).status_code == 201
    revised = await fed(fhir_client, {**one, "birthDate": "1979-03-14"}, f"{RED}|R1")
    assert revised.status_code == 200
    assert await found(fhir_client, f"Patient?identifier={RED}|R1") == [revised.json()["id"]]
    assert (await fhir_client.delete(f"/fhir/Patient?identifier={RED}|R1")).status_code == 204
    assert (await pix(fhir_client, f"{RED}|R1")).status_code in (400, 404)


async def test_a_resolved_duplicate_is_a_case_for_a_person(fhir_client: httpx.AsyncClient, server: Server) -> None:
    """Resolve Duplicate: nothing is merged; a case is open, once, however often the source says it."""
    await keep(fhir_client, patient("stays", identifier=[number(RED, "R1")]))
    subsumed = patient(identifier=[number(RED, "R9")], active=False, **linked("stays", "replaced-by"))
    assert (await fed(fhir_client, subsumed, f"{RED}|R9")).status_code == 201
    answer = await fed(fhir_client, {**subsumed, "birthDate": "1979-03-14"}, f"{RED}|R9")
    assert answer.status_code == 200
    (case,) = await IdentityEvents(server.database).open_cases()
    assert (case.kind, case.patient_id, case.other_patient_id) == (
        "duplicate-case-opened",
        answer.json()["id"],
        "stays",
    )
    assert case.explanation == {"source": "replaced-by", "statuses": ["PROV", "PROV"]}
    kept = (await fhir_client.get("/fhir/Patient/stays")).json()
    assert "link" not in kept
    told = await known(fhir_client, f"{RED}|R9")
    assert told == ({"R1"}, {"Patient/stays", f"Patient/{case.patient_id}"})


async def test_a_duplicate_of_two_qualified_identities_is_a_collision(
    fhir_client: httpx.AsyncClient, server: Server
) -> None:
    vali: Resource = {"extension": reliability("VALI")}
    await keep(fhir_client, patient("a", identifier=[ins()], **vali))
    await keep(fhir_client, patient("b", identifier=[ins("260058815400233")], **vali, **linked("a", "replaced-by")))
    (case,) = await IdentityEvents(server.database).open_cases()
    assert case.kind == "collision-case-opened"


PDQM: Final = {
    "_id": "anne",
    "active": "true",
    "family": "morel",
    "given": "anne",
    "identifier": f"{RED}|R1",
    "telecom": "0102030405",
    "birthdate": "1979-03-14",
    "address": "Lyon",
    "address-city": "Lyon",
    "address-country": "FR",
    "address-postalcode": "69003",
    "address-state": "Rhone",
    "gender": "female",
    "_lastUpdated": "ge2020",
}


async def test_each_parameter_of_pdqm_finds_and_does_not_find(fhir_client: httpx.AsyncClient) -> None:
    """IHE PDQm ITI-78; all of them together too, and by POST."""
    await keep(
        fhir_client,
        patient(
            "anne",
            "MOREL",
            name=[{"family": "MOREL", "given": ["Anne"]}],
            active=True,
            identifier=[number(RED, "R1")],
            telecom=[{"system": "phone", "value": "0102030405"}],
            birthDate="1979-03-14",
            gender="female",
            address=[{"city": "Lyon", "country": "FR", "postalCode": "69003", "state": "Rhone"}],
        ),
        patient("other", "DURAND", active=False, gender="male"),
    )
    other = {"active": "false", "gender": "male", "_lastUpdated": "lt2020", "birthdate": "1980"}
    for name, value in PDQM.items():
        assert "anne" in await found(fhir_client, f"Patient?{name}={value}"), name
        assert "anne" not in await found(fhir_client, f"Patient?{name}={other.get(name, 'nobody')}"), name
    together = await fhir_client.post("/fhir/Patient/_search", data=PDQM)
    assert [one["resource"]["id"] for one in together.json()["entry"]] == ["anne"]


async def test_the_mothers_name_is_searched_once_an_operator_adds_it(make_settings: Callable[..., Settings]) -> None:
    """PDQm has it, R4's own parameters have not: it is added as any other parameter is."""
    url = "http://hl7.org/fhir/StructureDefinition/patient-mothersMaidenName"
    added = parameter("mothersMaidenName", "string", f"Patient.extension('{url}').value.ofType(string)")
    async with serving(make_settings(parameters_seconds=QUICK)) as server:
        operator = (await server.client(EVERYTHING, role="operator")).http
        assert (await operator.get("/fhir/Patient?mothersMaidenName=petit")).status_code == 400
        await keep(operator, added, patient("anne", extension=[{"url": url, "valueString": "PETIT"}]))
        await in_use(operator, "mothersMaidenName")
        assert await found(operator, "Patient?mothersMaidenName=petit") == ["anne"]


async def test_what_is_claimed_of_pixm_and_pdqm(anonymous: httpx.AsyncClient) -> None:
    """The Manager of PIXm, with each line of its requirements; of PDQm the operation, for one parameter is wanting."""
    statement = (await anonymous.get("/fhir/metadata")).json()
    assert systems.PIXM_MANAGER in statement["instantiates"]
    assert not any("PDQm" in one for one in statement["instantiates"])
    (said,) = (one for one in statement["rest"][0]["resource"] if one["type"] == "Patient")
    assert {"update", "delete"} <= {one["code"] for one in said["interaction"]}
    assert (said["conditionalCreate"], said["conditionalUpdate"], said["conditionalDelete"]) == (True, True, "single")
    operations = {one["name"]: one["definition"] for one in said["operation"]}
    assert (operations["match"], operations["ihe-pix"]) == (systems.PDQM_MATCH, systems.PIXM_PIX)
    assert PDQM.keys() <= {one["name"] for one in said["searchParam"]}
