"""Patient/$match: the ten cases of IHE PDQm ITI-119 by their numbers, what is refused, and who learns what."""

import base64
from collections.abc import Callable, Mapping
from typing import Any, Final

import httpx
import orjson
import pytest

from fhir_server.identity import matcher
from fhir_server.settings import Settings
from terminology import systems
from tests.support import EVERYTHING, FHIR_JSON, Resource, Server, codes, ids_of, issues, keep, serving

GRADE: Final = systems.MATCH_GRADE
NIR: Final = f"urn:oid:{systems.INS_NIR_OID}"
TEST: Final = f"urn:oid:{systems.INS_TEST_OID}"
NUMBER: Final = "279035121518989"
"""PAT-TROIS DOMINIQUE of the examples of the ANS: a key that fits."""


def person(family: str = "LE GOFF", given: str = "ANNE", born: str | None = "1979-03-14", **more: Any) -> Resource:
    """A Patient as somebody asks for it."""
    return {
        "resourceType": "Patient",
        "name": [{"use": "official", "family": family, "given": [given]}],
        **({"birthDate": born} if born else {}),
        "gender": "female",
        **more,
    }


def worker(
    identity: str, family: str = "LE GOFF", given: str = "ANNE", born: str = "1979-03-14", **more: Any
) -> Resource:
    """One who is kept."""
    return {**person(family, given, born), "id": identity, **more}


def reliability(code: str) -> list[dict[str, Any]]:
    coded = {"url": "identityStatus", "valueCoding": {"system": systems.FR_CORE_V2_0445, "code": code}}
    return [{"url": systems.FR_CORE_IDENTITY_RELIABILITY, "extension": [coded]}]


def ins(value: str = NUMBER, system: str = NIR, use: str = "official") -> dict[str, str]:
    return {"use": use, "system": system, "value": value}


def parameters(patient: Resource, **given: Any) -> Resource:
    kinds = {bool: "valueBoolean", int: "valueInteger"}
    others = [{"name": name, kinds[type(value)]: value} for name, value in given.items()]
    return {"resourceType": "Parameters", "parameter": [{"name": "resource", "resource": patient}, *others]}


async def asked(client: httpx.AsyncClient, body: Resource, **headers: str) -> httpx.Response:
    return await client.post("/fhir/Patient/$match", content=orjson.dumps(body), headers={**FHIR_JSON, **headers})


async def matched(client: httpx.AsyncClient, body: Resource) -> Resource:
    answer = await asked(client, body)
    assert answer.status_code == 200, answer.text
    return answer.json()


def entries(bundle: Resource) -> list[Resource]:
    return [one for one in bundle.get("entry", []) if one["search"]["mode"] == "match"]


def warnings(bundle: Resource) -> list[dict[str, Any]]:
    found = [one["resource"] for one in bundle.get("entry", []) if one["search"]["mode"] == "outcome"]
    return [issue for outcome in found for issue in outcome["issue"]]


def grade(entry: Mapping[str, Any]) -> str:
    (found,) = (one["valueCode"] for one in entry["search"]["extension"] if one["url"] == GRADE)
    return found


def reasons(entry: Mapping[str, Any]) -> list[str]:
    extensions = entry["search"]["extension"]
    return [one["valueCoding"]["code"] for one in extensions if one["url"] == systems.EXTENSION_MATCH_REASON]


@pytest.fixture
async def register(fhir_client: httpx.AsyncClient) -> httpx.AsyncClient:
    """A worker, her twin, somebody of nearly her name, a deprecated record of hers, and others."""
    await keep(
        fhir_client,
        worker("anne"),
        worker("twin", given="MARIE"),
        worker("paul", "MARTIN", "PAUL", "1961-01-09", gender="male"),
        worker("paul-2", "MARTIN", "PAUL", "1961-01-09", gender="male"),
        worker("gone", "DURAND", "ZOE", "1990-05-05", active=False),
        worker("jean", "LEROUX", "JEAN", "1970-07-01", gender="male"),
    )
    return fhir_client


async def test_case_1_one_is_found(register: httpx.AsyncClient) -> None:
    """200, one entry with a score and a grade, the Patient as it is kept."""
    bundle = await matched(register, person("LEROUX", "JEAN", "1970-07-01", gender="male"))
    assert (bundle["type"], bundle["total"]) == ("searchset", 1)
    (entry,) = bundle["entry"]
    assert entry["fullUrl"] == "http://test/fhir/Patient/jean"
    assert entry["resource"]["id"] == "jean"
    assert 0.9 < entry["search"]["score"] <= 1
    assert grade(entry) == "certain"
    assert reasons(entry) == []


async def test_case_2_several_are_found_the_most_likely_first(register: httpx.AsyncClient) -> None:
    bundle = await matched(register, person())
    assert ids_of(bundle)[:2] == ["anne", "twin"]
    scores = [one["search"]["score"] for one in entries(bundle)]
    assert scores == sorted(scores, reverse=True)
    assert all(0 <= one <= 1 for one in scores)
    assert [grade(one) for one in entries(bundle)] == ["certain", "possible"]
    assert reasons(entries(bundle)[1]) == ["G1-same-family"]


async def test_case_3_only_certain_matches_and_one_is(register: httpx.AsyncClient) -> None:
    bundle = await matched(register, parameters(person(), onlyCertainMatches=True))
    assert [(one["resource"]["id"], grade(one)) for one in entries(bundle)] == [("anne", "certain")]


async def test_case_4_only_certain_matches_and_none_is(register: httpx.AsyncClient) -> None:
    """No entry at all."""
    someone = person("LEROUX", "JEAN", "1975-07-01", gender="male")
    assert ids_of(await matched(register, someone)) == ["jean"]
    bundle = await matched(register, parameters(someone, onlyCertainMatches=True))
    assert (bundle["total"], "entry" in bundle) == (0, False)


async def test_case_5_only_certain_matches_and_several_could_be_meant(register: httpx.AsyncClient) -> None:
    """Two of the same traits: neither is certain."""
    someone = person("MARTIN", "PAUL", "1961-01-09", gender="male")
    everybody = entries(await matched(register, someone))
    assert [grade(one) for one in everybody] == ["possible", "possible"]
    assert all(one["search"]["score"] < 1 for one in everybody)
    bundle = await matched(register, parameters(someone, onlyCertainMatches=True))
    assert (bundle["total"], "entry" in bundle) == (0, False)


async def test_case_6_count_cuts(register: httpx.AsyncClient) -> None:
    assert ids_of(await matched(register, parameters(person(), count=1))) == ["anne"]
    assert len(ids_of(await matched(register, parameters(person(), count=9999)))) == 2, "20 at most, however many"


async def test_case_7_nobody_is_found(register: httpx.AsyncClient) -> None:
    """200, and no error."""
    bundle = await matched(register, person("ZYWIEC", "OLGA", "1950-12-31"))
    assert (bundle["total"], ids_of(bundle), warnings(bundle)) == (0, [], [])


async def test_case_8_a_deprecated_patient_is_left_out(register: httpx.AsyncClient) -> None:
    """By his traits, and by his number too."""
    numbered = worker("gone", "DURAND", "ZOE", "1990-05-05", active=False)
    number = {"system": systems.NUMERO_DOSSIER, "value": "77"}
    await keep(register, {**numbered, "identifier": [number]})
    assert ids_of(await matched(register, person("DURAND", "ZOE", "1990-05-05", identifier=[number]))) == []


@pytest.mark.parametrize(
    ("body", "status", "expected"),
    [
        ({"resourceType": "Parameters"}, 400, [("required", "resource")]),
        ({"resourceType": "Observation"}, 400, [("structure", "Parameters")]),
        (parameters({"resourceType": "Person"}), 400, [("invalid", "resource")]),
        (parameters(person(), count=-1), 400, [("invalid", "count")]),
        (parameters(person(), threshold=1), 400, [("invalid", None)]),
        (person(born="31/02/1980"), 422, [("value", "Patient.birthDate")]),
        (person(gender="M"), 422, [("code-invalid", "Patient.gender")]),
        (person("A" * 501), 422, [("too-long", "Patient.name[0].family")]),
        (person("???", "!!!"), 422, [("required", "Patient.name.family"), ("required", "Patient.name.given")]),
    ],
)
async def test_case_9_what_cannot_be_asked_is_refused(
    fhir_client: httpx.AsyncClient, body: Resource, status: int, expected: list[tuple[str, str | None]]
) -> None:
    """An OperationOutcome that says where."""
    answer = await asked(fhir_client, body)
    assert answer.status_code == status, answer.text
    assert issues(answer)[: len(expected)] == expected


async def test_case_10_matches_with_warnings(register: httpx.AsyncClient) -> None:
    """A key that does not fit, and a number of another sex: told, beside the match."""
    bundle = await matched(register, person(identifier=[ins("179035121518901")]))
    assert ids_of(bundle)[0] == "anne"
    told = warnings(bundle)
    assert {one["severity"] for one in told} == {"warning"}
    assert {one["expression"][0] for one in told} == {"Patient.identifier", "Patient.gender"}


@pytest.mark.parametrize(
    "body",
    [
        {"resourceType": "Patient"},
        {"resourceType": "Patient", "name": [{"family": "LE GOFF"}]},
        {"resourceType": "Patient", "birthDate": "1979-03-14", "gender": "female"},
        {"resourceType": "Patient", "identifier": [ins()]},
        {"resourceType": "Patient", "identifier": [{"system": systems.NUMERO_DOSSIER, "value": "1"}]},
        {"resourceType": "Patient", "name": [{"family": "LE GOFF"}], "identifier": [ins("0" * 15)]},
    ],
)
async def test_too_little_is_refused_and_what_is_missing_told(register: httpx.AsyncClient, body: Resource) -> None:
    answer = await asked(register, body)
    assert answer.status_code == 422
    assert set(codes(answer)) == {"required"}
    assert len(issues(answer)) in (3, 4)


@pytest.mark.parametrize(
    "body",
    [
        person("le goff", "anne"),
        person("Légoff", "Änne"),
        person("LE  GOFF" + "\u00a0" * 9, "ANNE \U0001f600"),
        {**person(), "name": [{"text": "x"}, {"use": "maiden", "family": "Le-Goff"}, {"given": ["", "Anne"][1:]}]},
        person(identifier=[{"use": "old", "system": NIR, "value": "not a number"}]),
        person(identifier=[ins("999999999999999")]),
        person(identifier=[ins(), ins("1810363220456")]),
    ],
)
async def test_odd_writing_is_read(register: httpx.AsyncClient, body: Resource) -> None:
    assert ids_of(await matched(register, body))[0] == "anne"


async def test_long_names_are_read_in_part(register: httpx.AsyncClient) -> None:
    assert ids_of(await matched(register, person("X" * 500, "Y" * 500))) == []


async def test_a_bare_patient_and_xml_are_read_and_answered(register: httpx.AsyncClient) -> None:
    """As PDQm asks: Parameters or a Patient, JSON or XML."""
    patient = (
        '<Patient xmlns="http://hl7.org/fhir"><name><use value="official"/><family value="LE GOFF"/>'
        '<given value="ANNE"/></name><birthDate value="1979-03-14"/></Patient>'
    )
    wrapped = (
        '<Parameters xmlns="http://hl7.org/fhir"><parameter><name value="resource"/>'
        f"<resource>{patient}</resource></parameter>"
        '<parameter><name value="count"/><valueInteger value="1"/></parameter></Parameters>'
    )
    headers = {"content-type": "application/fhir+xml", "accept": "application/fhir+xml"}
    for body in (patient, wrapped):
        answer = await register.post("/fhir/Patient/$match", content=body.encode(), headers=headers)
        assert answer.status_code == 200, answer.text
        assert answer.headers["content-type"].startswith("application/fhir+xml")
        assert '<id value="anne"/>' in answer.text
        assert '<valueCode value="certain"/>' in answer.text
    assert (await register.get("/fhir/Patient/$match")).status_code == 405


async def test_a_single_match_is_one_that_stands_out(register: httpx.AsyncClient) -> None:
    """`onlySingleMatch` of R5 and later: one, or none where two are alike, which is told."""
    assert ids_of(await matched(register, parameters(person(), onlySingleMatch=True))) == ["anne"]
    two = person("MARTIN", "PAUL", "1961-01-09", gender="male")
    bundle = await matched(register, parameters(two, onlySingleMatch=True))
    assert ids_of(bundle) == []
    assert [one["code"] for one in warnings(bundle)] == ["multiple-matches"]


async def test_a_number_brings_somebody_up_and_speaks_for_nobody(register: httpx.AsyncClient) -> None:
    """A folder number finds the worker whose traits share nothing that is looked up; his traits alone are weighed."""
    number = {"system": systems.NUMERO_DOSSIER, "value": "0042"}
    await keep(register, worker("jean", "LEROUX", "JEAN", "1970-07-01", gender="male", identifier=[number]))
    swapped = person("LEROUK", "JEHAN", "1971-08-02", gender="male")
    assert ids_of(await matched(register, swapped)) == []
    by_number = entries(await matched(register, {**swapped, "identifier": [number]}))
    assert [grade(one) for one in by_number] in ([], ["possible"])
    other = await matched(register, person("ZYWIEC", "OLGA", "1950-12-31", identifier=[number]))
    assert ids_of(other) == [], "whose traits say that he is another is not shown"


async def test_a_former_name_and_a_former_ins_are_known(register: httpx.AsyncClient) -> None:
    """All that is known of a worker counts: birth name and used name, INS of before."""
    names = [{"use": "official", "family": "PETIT", "given": ["LISE"]}, {"use": "usual", "family": "GRAND"}]
    old = [ins("279035121518989", use="old"), ins("260058815400233")]
    await keep(
        register,
        worker("lise", born="1960-05-02", extension=reliability("VALI"), identifier=old) | {"name": names},
    )
    by_name = person("GRAND", "LISE", "1960-05-02")
    assert ids_of(await matched(register, by_name)) == ["lise"]
    by_old = entries(await matched(register, person("PETIT", "LISE", None, identifier=[ins()])))
    assert [one["resource"]["id"] for one in by_old] == ["lise"]


async def test_an_ins_leaves_of_a_qualified_identity_only(register: httpx.AsyncClient) -> None:
    """EXI ID 29: of any other the Patient comes without it, and says that it is not the whole."""
    number = {"system": systems.NUMERO_DOSSIER, "value": "0042"}
    bearing = {"identifier": [number, ins(), ins("260058815400233", use="old")]}
    for status, expected in (("PROV", [number]), (None, [number]), ("VALI", bearing["identifier"])):
        extension = {"extension": reliability(status)} if status else {}
        await keep(register, worker("jean", "LEROUX", "JEAN", "1970-07-01", gender="male", **extension, **bearing))
        asked_for = person("LEROUX", "JEAN", "1970-07-01", gender="male")
        (entry,) = entries(await matched(register, asked_for))
        assert entry["resource"]["identifier"] == expected, status
        tags = [one["code"] for one in entry["resource"].get("meta", {}).get("tag", [])]
        assert tags == ([] if status == "VALI" else ["SUBSETTED"])


async def test_who_is_out_of_sight_is_nobody(register: httpx.AsyncClient, server: Server) -> None:
    """By role, by scope, by a scope with a search."""
    blind = (await server.client(("system/Patient.rs",), role="employeur")).http
    assert ids_of(await matched(blind, person())) == []
    other = (await server.client(("system/Observation.rs",))).http
    assert (await asked(other, person())).status_code == 403
    part = (await server.client(("system/Patient.rs?gender=male",))).http
    assert ids_of(await matched(part, person())) == []
    assert ids_of(await matched(part, person("LEROUX", "JEAN", "1970-07-01", gender="male"))) == ["jean"]


async def test_how_much_a_trait_speaks_is_for_reviewers(register: httpx.AsyncClient, server: Server) -> None:
    """Score, grade and reasons for everybody; fields, levels and bits where the role decides on identities."""
    explained = parameters(person(), _explain=True)
    software = (await server.client(EVERYTHING)).http
    assert (await asked(software, explained)).status_code == 403
    nurse = (await server.client(EVERYTHING, role="infirmier")).http
    urls = {one["url"] for one in entries(await matched(nurse, person()))[0]["search"]["extension"]}
    assert urls == {GRADE}
    bundle = await matched(nurse, explained)
    (steps,) = (
        one["extension"]
        for one in entries(bundle)[0]["search"]["extension"]
        if one["url"] == systems.EXTENSION_MATCH_STEPS
    )
    told = [{part["url"]: part for part in one["extension"]} for one in steps if one["url"] == "step"]
    assert {"family", "given", "born"} <= {one["field"]["valueString"] for one in told}
    assert all(isinstance(one["bits"]["valueDecimal"], int | float) for one in told)
    assert "GOFF" not in orjson.dumps(steps).decode()
    answer = await asked(nurse, explained, accept="application/fhir+xml")
    assert (answer.status_code, "match-steps" in answer.text) == (200, True)


async def test_the_trail_says_who_was_found_and_never_by_what(register: httpx.AsyncClient, server: Server) -> None:
    """An event of ITI-119 for each worker who was shown, one where nobody was."""
    await matched(register, parameters(person(), count=2))
    await matched(register, person("ZYWIEC", "OLGA", "1950-12-31"))
    rows = await server.rows("select patient_id, query from access where starts_with(query, '$match') order by id")
    stated = "stated=family,given,birthDate,gender"
    assert rows == [
        ("anne", f"$match?count=2&{stated}"),
        ("twin", f"$match?count=2&{stated}"),
        (None, f"$match?{stated}"),
    ]
    event = (await register.get("/fhir/AuditEvent?patient=Patient/twin&_count=1")).json()["entry"][0]["resource"]
    assert {"urn:ihe:event-type-code|ITI-119", f"{systems.RESTFUL_INTERACTION}|operation"} == {
        f"{one['system']}|{one['code']}" for one in event["subtype"]
    }
    (query,) = (one["query"] for one in event["entity"] if "query" in one)
    assert base64.b64decode(query).decode() == f"$match?count=2&{stated}"


async def test_asking_too_often_is_fishing(make_settings: Callable[..., Settings]) -> None:
    """It counts as a search by traits."""
    async with serving(make_settings(person_identity_searches_per_minute=2)) as server:
        nurse = (await server.client(EVERYTHING, role="infirmier")).http
        answers = [await asked(nurse, person()) for _ in range(3)]
        assert [one.status_code for one in answers] == [200, 200, 429]
        assert int(answers[-1].headers["retry-after"]) > 0


async def test_a_test_ins_is_certain_of_nobody_in_production(make_settings: Callable[..., Settings]) -> None:
    tested = person(identifier=[ins(system=TEST)])
    for production, expected in ((True, "possible"), (False, "certain")):
        async with serving(make_settings(production=production)) as server:
            client = (await server.client(EVERYTHING)).http
            await keep(client, worker("anne"))
            bundle = await matched(client, tested)
            assert [grade(one) for one in entries(bundle)] == [expected]
            assert any("test" in one["diagnostics"] for one in warnings(bundle)) == production


async def test_many_candidates_are_weighed_aside_and_cut(
    fhir_client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same answer whether in a thread or not; where not all were looked at, that is told."""
    await keep(
        fhir_client, worker("anne"), *(worker(f"s{n}", given=name) for n, name in enumerate(("LEA", "EVE", "IDA")))
    )
    at_once = await matched(fhir_client, person())
    monkeypatch.setattr(matcher, "AT_ONCE", 1)
    assert await matched(fhir_client, person()) == at_once
    monkeypatch.setattr(matcher, "MOST_ONLINE", 2)
    bundle = await matched(fhir_client, person())
    assert ids_of(bundle)[0] == "anne"
    assert [one["code"] for one in warnings(bundle)] == ["incomplete"]
