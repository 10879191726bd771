"""ValueSet/$expand: https://hl7.org/fhir/R4/valueset-operation-expand.html"""

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any

import httpx
import orjson
import pytest

from fhir_server.r4.xml import to_json
from tests.rest.operations.terms import answered, jeu_de_valeurs, listed, official, posted
from tests.support import Caller, Server, codes, issues, keep, put
from tests.terminology.exposures import (
    AT_WORK,
    EXPOSURES,
    EXPOSURES_SYSTEM,
    ICD,
    SUPPLEMENT,
    SUPPLEMENT_SYSTEM,
    value_set,
    where,
)
from tests.terminology.exposures import codes as taken

Make = Callable[..., Awaitable[Caller]]
EXPAND = "ValueSet/$expand"
NOISES = value_set(AT_WORK, where("concept", "is-a", "noise"), id="noises", version="1", title="Bruits")
WHOLE = value_set("http://test/ValueSet/whole", taken(), id="whole")
GENDERS = "http://hl7.org/fhir/ValueSet/administrative-gender"


@pytest.fixture
async def kept(fhir_client: httpx.AsyncClient) -> httpx.AsyncClient:
    """A code system with its French supplement, and two value sets of it."""
    await keep(fhir_client, EXPOSURES_SYSTEM, SUPPLEMENT_SYSTEM, NOISES, WHOLE)
    return fhir_client


@pytest.mark.parametrize(
    ("path", "named"),
    [
        (EXPAND, {"url": AT_WORK}),
        (EXPAND, {"url": AT_WORK, "valueSetVersion": "1"}),
        (EXPAND, {"url": f"{AT_WORK}|1"}),
        (EXPAND, {"valueSet": {name: value for name, value in NOISES.items() if name != "id"}}),
        ("ValueSet/noises/$expand", {}),
    ],
)
async def test_a_value_set_is_expanded(kept: httpx.AsyncClient, path: str, named: dict[str, Any]) -> None:
    """By its URL, by its version, sent along, and by its id; by POST and by GET."""
    if named:
        found = await answered(kept, path, named)
    else:
        found = (await kept.get(f"/fhir/{path}")).json()
    assert (found["resourceType"], found["url"], found["title"]) == ("ValueSet", AT_WORK, "Bruits")
    told = found["expansion"]
    assert told["total"] == 2
    assert told["contains"] == [
        {"system": EXPOSURES, "code": "noise", "display": "Noise"},
        {"system": EXPOSURES, "code": "impulse-noise", "display": "Impulse noise"},
    ]
    assert told["identifier"].startswith("urn:uuid:")
    assert datetime.fromisoformat(told["timestamp"]) <= datetime.now(UTC)
    assert "compose" not in found
    assert "versionId" not in found.get("meta", {})


async def test_every_expansion_has_an_identifier_of_its_own(kept: httpx.AsyncClient) -> None:
    """So that a client knows them apart."""
    answers = [(await kept.get(f"/fhir/{EXPAND}", params={"url": AT_WORK})).json() for _ in range(2)]
    assert len({one["expansion"]["identifier"] for one in answers}) == 2


@pytest.mark.parametrize(
    ("named", "expected"),
    [
        ({"filter": "bruit"}, ["noise", "impulse-noise"]),
        ({"filter": "AGENT PHYS"}, ["physical"]),
        ({"offset": 1, "count": 2}, ["noise", "impulse-noise"]),
        ({"count": 0}, []),
        ({"activeOnly": True, "filter": "benz"}, []),
        ({"activeOnly": False, "filter": "benz"}, ["benzol"]),
        ({"excludeNotForUI": True, "filter": "agent"}, []),
        ({"excludeNested": True, "excludePostCoordinated": True, "filter": "lea"}, ["lead"]),
        ({"exclude-system": [EXPOSURES]}, []),
        ({"system-version": [f"{EXPOSURES}|2"], "check-system-version": [f"{EXPOSURES}|2"], "filter": "lea"}, ["lead"]),
        ({"force-system-version": [f"{EXPOSURES}|2"], "filter": "lea"}, ["lead"]),
    ],
)
async def test_what_shapes_an_expansion_is_told_in_it(
    kept: httpx.AsyncClient, named: dict[str, Any], expected: list[str]
) -> None:
    """Each parameter does its work, and stands among `expansion.parameter` with the version that was used."""
    found = await answered(kept, EXPAND, {"url": WHOLE["url"], **named})
    assert listed(found) == expected
    echoed = [
        (one["name"], value) for one in found["expansion"]["parameter"] for key, value in one.items() if key != "name"
    ]
    asked = [(name, one) for name, value in named.items() for one in (value if isinstance(value, list) else [value])]
    assert echoed[: len(asked)] == asked
    assert ("version", f"{EXPOSURES}|2") in echoed


async def test_an_expansion_in_french(kept: httpx.AsyncClient) -> None:
    """`displayLanguage=fr`: names of the code system, else of its supplement, which is told."""
    found = await answered(kept, EXPAND, {"url": WHOLE["url"], "displayLanguage": "fr"})
    shown = {one["code"]: one["display"] for one in found["expansion"]["contains"]}
    assert (shown["noise"], shown["benzol"], shown["chemical"]) == ("Bruit", "Benzène", "Agent chimique")
    assert {"name": "displayLanguage", "valueCode": "fr"} in found["expansion"]["parameter"]
    assert {"name": "used-supplement", "valueUri": f"{SUPPLEMENT}|1"} in found["expansion"]["parameter"]


async def test_other_names_come_along(kept: httpx.AsyncClient) -> None:
    """`includeDesignations`, `designation`, `includeDefinition`."""
    named = {"url": AT_WORK, "includeDesignations": True, "designation": ["fr"], "includeDefinition": True}
    found = await answered(kept, EXPAND, named)
    assert found["expansion"]["contains"][0]["designation"] == [{"language": "fr", "value": "Bruit"}]
    assert found["compose"] == NOISES["compose"]


async def test_today_is_the_only_time_that_is_answered_for(kept: httpx.AsyncClient) -> None:
    """`date`: repeated where it is now, refused where it is not."""
    today = datetime.now(UTC).date().isoformat()
    found = await answered(kept, EXPAND, {"url": AT_WORK, "date": today})
    assert {"name": "date", "valueDateTime": today} in found["expansion"]["parameter"]
    for other in ("2020", "2020-01-01T00:00:00Z", "2999-12-31"):
        answer = await posted(kept, EXPAND, {"url": AT_WORK, "date": other})
        assert (answer.status_code, issues(answer)) == (400, [("not-supported", "date")])


async def test_an_expansion_in_xml(kept: httpx.AsyncClient) -> None:
    """Asked in XML, answered in XML."""
    parameter = f'<parameter><name value="url"/><valueUri value="{AT_WORK}"/></parameter>'
    body = f'<Parameters xmlns="http://hl7.org/fhir">{parameter}</Parameters>'
    headers = {"content-type": "application/fhir+xml", "accept": "application/fhir+xml"}
    answer = await kept.post(f"/fhir/{EXPAND}", content=body, headers=headers)
    assert answer.headers["content-type"].startswith("application/fhir+xml")
    assert listed(orjson.loads(to_json(answer.content))) == ["noise", "impulse-noise"]


async def test_the_newest_version_in_force_is_meant(kept: httpx.AsyncClient) -> None:
    """Whatever was put here first."""
    others = {"10": "active", "9": "active", "11": "draft", "12": "retired"}
    for version, status in others.items():
        one = value_set(AT_WORK, taken("lead"), id=f"v{version}", version=version) | {"status": status}
        await keep(kept, one)
    assert (await answered(kept, EXPAND, {"url": AT_WORK}))["version"] == "10"
    assert (await answered(kept, EXPAND, {"url": AT_WORK, "valueSetVersion": "12"}))["version"] == "12"


async def test_of_two_that_are_alike_the_last_put_here_is_meant(kept: httpx.AsyncClient) -> None:
    """Of one URL, without a version, in force both."""
    for name in ("one", "two"):
        await keep(kept, value_set("http://test/ValueSet/twice", taken("lead"), id=name, title=name))
    assert (await answered(kept, EXPAND, {"url": "http://test/ValueSet/twice"}))["title"] == "two"


async def test_the_value_sets_of_required_bindings_are_known(kept: httpx.AsyncClient) -> None:
    """R4's own, with systems and displays; a ValueSet that is kept under their URL comes first."""
    found = await answered(kept, EXPAND, {"url": GENDERS})
    assert found["version"] == "4.0.1"
    assert found["expansion"]["contains"][0] == {
        "system": "http://hl7.org/fhir/administrative-gender", "code": "male", "display": "Male",
    }  # fmt: skip
    assert (await answered(kept, EXPAND, {"url": f"{GENDERS}|4.0.1"}))["expansion"]["total"] == 4
    own = value_set(GENDERS, taken("female", system="http://hl7.org/fhir/administrative-gender"), id="own")
    await keep(kept, own)
    assert listed(await answered(kept, EXPAND, {"url": GENDERS})) == ["female"]


async def test_the_example_of_hl7_is_expanded(fhir_client: httpx.AsyncClient) -> None:
    """Codes of a code system that is not kept, listed by the value set; `lockedDate` and a version."""
    example = official("valueset-example")
    await keep(fhir_client, example)
    found = await answered(fhir_client, EXPAND, {"url": example["url"]})
    listed_there = example["compose"]["include"][0]
    assert [(one["code"], one["display"]) for one in found["expansion"]["contains"]] == [
        (one["code"], one["display"]) for one in listed_there["concept"]
    ]
    assert found["expansion"]["parameter"] == [{"name": "version", "valueUri": "http://loinc.org|2.36"}]


@pytest.mark.parametrize(
    ("name", "text", "code", "display"),
    [
        ("JDV_J08_XdsConfidentialityCode_CISIS", "tres", "V", "Très restreint"),
        ("JDV_J04_XdsPracticeSettingCode_CISIS", "ambul", "AMBULATOIRE", "Ambulatoire"),
    ],
)
async def test_jeux_de_valeurs_are_expanded(
    fhir_client: httpx.AsyncClient, name: str, text: str, code: str, display: str
) -> None:
    """Whole, and by what a user types without accents."""
    resource = jeu_de_valeurs(name)
    await keep(fhir_client, resource)
    count = sum(len(part["concept"]) for part in resource["compose"]["include"])
    assert (await answered(fhir_client, EXPAND, {"url": resource["url"]}))["expansion"]["total"] == count
    found = await answered(fhir_client, EXPAND, {"url": resource["url"], "filter": text, "displayLanguage": "fr"})
    assert (code, display) in [(one["code"], one["display"]) for one in found["expansion"]["contains"]]


BROKEN = value_set(AT_WORK, where("colour", "=", "red"))


@pytest.mark.parametrize(
    ("named", "status", "issue"),
    [
        ({}, 400, ("required", "url")),
        ({"url": AT_WORK, "valueSet": NOISES}, 400, ("invalid", "valueSet")),
        ({"valueSet": NOISES, "valueSetVersion": "1"}, 400, ("invalid", "valueSetVersion")),
        ({"url": [AT_WORK, AT_WORK]}, 400, ("invalid", "url")),
        ({"url": True}, 400, ("invalid", "url")),
        ({"valueSet": EXPOSURES_SYSTEM}, 400, ("invalid", "valueSet")),
        ({"valueSet": NOISES | {"status": "x"}}, 422, ("code-invalid", "Parameters.parameter[0].resource.status")),
        ({"url": f"{AT_WORK}|1", "valueSetVersion": "2"}, 400, ("invalid", "url")),
        ({"url": AT_WORK, "colour": "red"}, 400, ("invalid", None)),
        ({"url": AT_WORK, "context": "http://test/p#Patient"}, 400, ("not-supported", "context")),
        ({"url": AT_WORK, "contextDirection": "incoming"}, 400, ("not-supported", "contextDirection")),
        ({"url": AT_WORK, "count": -1}, 400, ("invalid", "count")),
        ({"url": AT_WORK, "offset": "one"}, 400, ("invalid", "offset")),
        ({"url": AT_WORK, "activeOnly": "yes"}, 400, ("invalid", "activeOnly")),
        ({"url": AT_WORK, "displayLanguage": "français"}, 400, ("invalid", "displayLanguage")),
        ({"url": AT_WORK, "date": "soon"}, 400, ("invalid", "date")),
        ({"url": AT_WORK, "filter": " "}, 400, ("invalid", "filter")),
        ({"url": AT_WORK, "system-version": ["http://test"]}, 400, ("invalid", "system-version")),
        ({"url": AT_WORK, "force-system-version": ["s|1", "s|2"]}, 400, ("invalid", "force-system-version")),
        ({"url": "http://test/ValueSet/unknown"}, 404, ("not-found", "url")),
        ({"url": AT_WORK, "valueSetVersion": "7"}, 404, ("not-found", "url")),
        ({"valueSet": BROKEN}, 422, ("not-supported", "ValueSet.compose.include[0].filter[0].property")),
        ({"valueSet": value_set(AT_WORK, taken(system=ICD))}, 422, ("not-found", "ValueSet.compose.include.system")),
        ({"valueSet": value_set(AT_WORK, {"valueSet": ["http://test/x"]})}, 422,
         ("not-found", "ValueSet.compose.include[0].valueSet")),
        ({"valueSet": {"resourceType": "ValueSet", "status": "active"}}, 422, ("not-supported", "ValueSet.compose")),
        ({"url": WHOLE["url"], "check-system-version": [f"{EXPOSURES}|1"]}, 422,
         ("not-found", "ValueSet.compose.include.system")),
        ({"valueSet": value_set(AT_WORK, taken(version="2")), "check-system-version": [f"{EXPOSURES}|1"]}, 422,
         ("not-supported", "check-system-version")),
    ],
)  # fmt: skip
async def test_what_is_wrong_is_told(
    kept: httpx.AsyncClient, named: dict[str, Any], status: int, issue: tuple[str, str | None]
) -> None:
    """With its place."""
    answer = await posted(kept, EXPAND, named)
    assert (answer.status_code, issues(answer)) == (status, [issue])


@pytest.mark.parametrize("name", ["url", "valueSetVersion"])
async def test_an_instance_is_named_by_its_path(kept: httpx.AsyncClient, name: str) -> None:
    """And by nothing else."""
    answer = await kept.get("/fhir/ValueSet/noises/$expand", params={name: AT_WORK})
    assert (answer.status_code, issues(answer)) == (400, [("invalid", name)])


async def test_what_cannot_be_sent_in_a_url_is_asked_for_by_post(kept: httpx.AsyncClient) -> None:
    """A resource."""
    answer = await kept.get(f"/fhir/{EXPAND}", params={"valueSet": "{}"})
    assert (answer.status_code, issues(answer)) == (400, [("invalid", "valueSet")])


async def test_an_instance_that_is_gone_is_gone(kept: httpx.AsyncClient) -> None:
    """410; 404 where there never was one, and by its URL."""
    assert (await kept.delete("/fhir/ValueSet/noises")).status_code == 204
    assert (await kept.get("/fhir/ValueSet/noises/$expand")).status_code == 410
    assert (await kept.get("/fhir/ValueSet/never/$expand")).status_code == 404
    assert (await kept.get(f"/fhir/{EXPAND}", params={"url": AT_WORK})).status_code == 404


@pytest.mark.parametrize("content", ["not-present", "example"])
async def test_codes_that_are_not_kept_are_not_listed(kept: httpx.AsyncClient, content: str) -> None:
    """422, whichever way they are not kept."""
    await keep(kept, EXPOSURES_SYSTEM | {"content": content})
    answer = await kept.get(f"/fhir/{EXPAND}", params={"url": WHOLE["url"]})
    assert (answer.status_code, codes(answer)) == (422, ["not-supported"])


async def test_a_fragment_is_marked_as_unclosed(kept: httpx.AsyncClient) -> None:
    """The codes that there are, and that there may be others."""
    await keep(kept, EXPOSURES_SYSTEM | {"content": "fragment"})
    found = await answered(kept, EXPAND, {"url": WHOLE["url"]})
    assert found["expansion"]["extension"][0]["url"].endswith("valueset-unclosed")
    assert found["expansion"]["total"] == 8


async def test_what_has_changed_is_expanded_as_it_is(kept: httpx.AsyncClient) -> None:
    """Nothing that was read before is answered with: of the code system, its supplement, the value set."""
    await answered(kept, EXPAND, {"url": WHOLE["url"], "displayLanguage": "fr"})
    one = {"code": "heat", "display": "Heat"}
    await keep(kept, EXPOSURES_SYSTEM | {"concept": [one]})
    assert listed(await answered(kept, EXPAND, {"url": WHOLE["url"]})) == ["heat"]
    name = {"code": "heat", "designation": [{"language": "fr", "value": "Chaleur"}]}
    await keep(kept, SUPPLEMENT_SYSTEM | {"concept": [name]})
    found = await answered(kept, EXPAND, {"url": WHOLE["url"], "displayLanguage": "fr"})
    assert found["expansion"]["contains"][0]["display"] == "Chaleur"
    await kept.delete("/fhir/CodeSystem/expositions-fr")
    found = await answered(kept, EXPAND, {"url": WHOLE["url"], "displayLanguage": "fr"})
    assert found["expansion"]["contains"][0]["display"] == "Heat"


async def test_a_large_value_set_is_worked_through_in_pages(fhir_client: httpx.AsyncClient) -> None:
    """More than ten thousand codes at once are too costly; so is more than that as one page."""
    many = [{"code": f"c{number}", "display": f"Code {number}"} for number in range(12_000)]
    await keep(fhir_client, EXPOSURES_SYSTEM | {"concept": many}, WHOLE)
    for named in ({}, {"count": 11_000}, {"filter": "code"}):
        answer = await posted(fhir_client, EXPAND, {"url": WHOLE["url"], **named})
        assert (answer.status_code, codes(answer)) == (403, ["too-costly"])
    found: list[str] = []
    for offset in (0, 7_000):
        page = await posted(fhir_client, EXPAND, {"url": WHOLE["url"], "offset": offset, "count": 7_000})
        assert page.json()["expansion"]["total"] == 12_000
        found += listed(page.json())
    assert found == [one["code"] for one in many]
    assert listed(await answered(fhir_client, EXPAND, {"url": WHOLE["url"], "filter": "c11999"})) == ["c11999"]


@pytest.mark.parametrize(
    "scopes", [(), ("system/CodeSystem.crus",), ("system/ValueSet.crus",), ("system/ValueSet.s", "system/CodeSystem.r")]
)
async def test_who_may_not_read_definitions_learns_nothing(
    kept: httpx.AsyncClient, client_with: Make, scopes: tuple[str, ...]
) -> None:
    """403, in the same words whether they are kept or not."""
    few = (await client_with("system/Patient.r", *scopes)).http
    answers = [
        await few.get(f"/fhir/{EXPAND}", params={"url": AT_WORK}),
        await few.get(f"/fhir/{EXPAND}", params={"url": "http://test/unknown"}),
        await few.get("/fhir/ValueSet/noises/$expand"),
        await few.get("/fhir/ValueSet/unknown/$expand"),
        await posted(few, EXPAND, {"valueSet": NOISES}),
    ]
    assert {(answer.status_code, answer.text) for answer in answers} == {(403, answers[0].text)}


async def test_who_may_read_definitions_is_answered_and_traced(server: Server, client_with: Make) -> None:
    """`r` on ValueSet and CodeSystem is enough."""
    enough = await client_with("system/ValueSet.r", "system/CodeSystem.r")
    everything = (await server.client(["system/*.cruds"])).http
    await keep(everything, EXPOSURES_SYSTEM, NOISES)
    assert listed(await answered(enough.http, EXPAND, {"url": AT_WORK})) == ["noise", "impulse-noise"]
    assert (await enough.http.get("/fhir/ValueSet/noises/$expand")).status_code == 200
    rows = await server.rows(
        "select interaction, resource_id, query, outcome from access where client_id = %s order by at", enough.client_id
    )
    assert rows == [("operation", None, "$expand", 0), ("operation", None, "$expand", 0), ("read", "noises", None, 0)]


async def test_an_expansion_in_a_batch(kept: httpx.AsyncClient) -> None:
    """As any other request."""
    request = {"request": {"method": "GET", "url": f"{EXPAND}?url={AT_WORK}"}}
    bundle = {"resourceType": "Bundle", "type": "batch", "entry": [request]}
    answer = await kept.post("/fhir", content=orjson.dumps(bundle), headers={"content-type": "application/fhir+json"})
    assert listed(answer.json()["entry"][0]["resource"]) == ["noise", "impulse-noise"]


async def test_two_value_sets_in_a_circle_are_told(kept: httpx.AsyncClient) -> None:
    """422."""
    other = "http://test/ValueSet/other"
    await put(kept, value_set(AT_WORK, {"valueSet": [other]}, id="noises"))
    await put(kept, value_set(other, {"valueSet": [AT_WORK]}, id="other"))
    answer = await kept.get(f"/fhir/{EXPAND}", params={"url": AT_WORK})
    assert (answer.status_code, issues(answer)) == (422, [("not-supported", "ValueSet.compose")])
