"""CodeSystem/$lookup: https://hl7.org/fhir/R4/codesystem-operation-lookup.html"""

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest

from tests.rest.operations.terms import answered, official, posted, told
from tests.support import Caller, Server, issues, keep
from tests.terminology.exposures import EXPOSURES, EXPOSURES_SYSTEM, ICD, SUPPLEMENT, SUPPLEMENT_SYSTEM, concept

Make = Callable[..., Awaitable[Caller]]
LOOKUP = "CodeSystem/$lookup"
OLDER = EXPOSURES_SYSTEM | {"id": "older", "version": "1", "concept": [concept("noise", "Racket")]}
NOISE = {"system": EXPOSURES, "code": "noise"}


@pytest.fixture
async def kept(fhir_client: httpx.AsyncClient) -> httpx.AsyncClient:
    """Two versions of a code system, and a supplement."""
    await keep(fhir_client, EXPOSURES_SYSTEM, OLDER, SUPPLEMENT_SYSTEM)
    return fhir_client


@pytest.mark.parametrize(
    ("path", "named", "version", "display"),
    [
        (LOOKUP, NOISE, "2", "Noise"),
        (LOOKUP, NOISE | {"version": "1"}, "1", "Racket"),
        (LOOKUP, {"coding": NOISE}, "2", "Noise"),
        (LOOKUP, {"coding": NOISE | {"version": "1"}}, "1", "Racket"),
        (LOOKUP, NOISE | {"displayLanguage": "fr"}, "2", "Bruit"),
        (LOOKUP, NOISE | {"displayLanguage": "de"}, "2", "Noise"),
        ("CodeSystem/older/$lookup", {"code": "noise"}, "1", "Racket"),
        ("CodeSystem/expositions/$lookup", NOISE | {"version": "2"}, "2", "Noise"),
        ("CodeSystem/expositions/$lookup", {"coding": NOISE}, "2", "Noise"),
    ],
)
async def test_a_code_is_looked_up(
    kept: httpx.AsyncClient, path: str, named: dict[str, Any], version: str, display: str
) -> None:
    """By code and system, by coding, by version, and as an instance; by POST and by GET."""
    found = await answered(kept, path, named)
    assert told(found) == {"name": "Expositions", "version": version, "display": display}


async def test_properties_and_designations(kept: httpx.AsyncClient) -> None:
    """All there are, or those that are asked for."""
    found = await answered(kept, LOOKUP, NOISE)
    names = [one["name"] for one in found["parameter"]]
    assert names == ["name", "version", "display", "designation", *["property"] * 5]
    assert found["parameter"][6] == {
        "name": "property",
        "part": [
            {"name": "code", "valueCode": "parent"},
            {"name": "value", "valueCode": "physical"},
            {"name": "description", "valueString": "Physical agent"},
        ],
    }
    few = await answered(kept, LOOKUP, NOISE | {"property": ["tableau", "lang.fr"]})
    assert [one["name"] for one in few["parameter"]] == ["name", "version", "display", "designation", "property"]


async def test_a_supplement_speaks_french(kept: httpx.AsyncClient) -> None:
    """Where the code system does not."""
    found = await answered(kept, LOOKUP, {"system": EXPOSURES, "code": "benzol", "displayLanguage": "fr-FR"})
    assert told(found)["display"] == "Benzène"


async def test_the_example_of_hl7_is_looked_up(fhir_client: httpx.AsyncClient) -> None:
    """With a designation that is for a use."""
    example = official("codesystem-example")
    await keep(fhir_client, example)
    found = await answered(fhir_client, LOOKUP, {"system": example["url"], "code": "chol"})
    assert told(found) == {"name": "ACMECholCodesBlood", "version": "20160128", "display": "SChol"}
    (designation,) = (one["part"] for one in found["parameter"] if one["name"] == "designation")
    assert designation == [
        {"name": "use", "valueCoding": example["concept"][2]["designation"][0]["use"]},
        {"name": "value", "valueString": "Obdurate Labs uses this with both kinds of units..."},
    ]


async def test_today_is_the_only_time_that_is_told_of(kept: httpx.AsyncClient) -> None:
    """`date`."""
    now = datetime.now(UTC).strftime("%Y-%m")
    assert told(await answered(kept, LOOKUP, NOISE | {"date": now}))["display"] == "Noise"
    answer = await posted(kept, LOOKUP, NOISE | {"date": "2020-02"})
    assert (answer.status_code, issues(answer)) == (400, [("not-supported", "date")])


ON = "CodeSystem/expositions/$lookup"


@pytest.mark.parametrize(
    ("path", "named", "status", "issue"),
    [
        (LOOKUP, {}, 400, ("required", "code")),
        (LOOKUP, {"code": "noise"}, 400, ("required", "system")),
        (LOOKUP, {"system": EXPOSURES}, 400, ("required", "code")),
        (LOOKUP, {"coding": {"code": "noise"}}, 400, ("required", "system")),
        (LOOKUP, {"coding": {"system": EXPOSURES}}, 400, ("required", "coding")),
        (LOOKUP, {"coding": NOISE, "code": "noise"}, 400, ("invalid", "coding")),
        (LOOKUP, {"coding": NOISE, "version": "2"}, 400, ("invalid", "version")),
        (LOOKUP, NOISE | {"displayLanguage": "fr_FR"}, 400, ("invalid", "displayLanguage")),
        (LOOKUP, NOISE | {"url": EXPOSURES}, 400, ("invalid", None)),
        (LOOKUP, {"system": ICD, "code": "J45"}, 404, ("not-found", "system")),
        (LOOKUP, {"system": SUPPLEMENT, "code": "lead"}, 404, ("not-found", "system")),
        (LOOKUP, NOISE | {"version": "9"}, 404, ("not-found", "system")),
        (LOOKUP, {"system": EXPOSURES, "code": "heat"}, 404, ("not-found", "code")),
        (ON, {"code": "heat"}, 404, ("not-found", "code")),
        (ON, {"code": "noise", "system": ICD}, 400, ("invalid", "system")),
        (ON, NOISE | {"version": "1"}, 400, ("invalid", "system")),
        ("CodeSystem/expositions-fr/$lookup", {"code": "lead"}, 422, ("not-supported", "content")),
        ("CodeSystem/never/$lookup", {"code": "lead"}, 404, ("not-found", None)),
    ],
)
async def test_what_is_wrong_is_told(
    kept: httpx.AsyncClient, path: str, named: dict[str, Any], status: int, issue: tuple[str, str | None]
) -> None:
    """With its place."""
    answer = await posted(kept, path, named)
    assert (answer.status_code, issues(answer)) == (status, [issue])


@pytest.mark.parametrize(
    ("content", "code", "status"),
    [("fragment", "noise", 200), ("fragment", "heat", 404), ("not-present", "noise", 404), ("example", "noise", 404)],
)
async def test_a_code_system_that_is_not_whole_says_so(
    kept: httpx.AsyncClient, content: str, code: str, status: int
) -> None:
    """Not here is not the same as not there."""
    await keep(kept, EXPOSURES_SYSTEM | {"content": content})
    answer = await posted(kept, LOOKUP, {"system": EXPOSURES, "code": code})
    assert answer.status_code == status
    assert status == 200 or "does not keep all codes" in answer.json()["issue"][0]["diagnostics"]


async def test_who_may_not_read_code_systems_learns_nothing(
    kept: httpx.AsyncClient, server: Server, client_with: Make
) -> None:
    """403, of what is there and what is not; who may is traced."""
    few = (await client_with("system/Patient.r", "system/CodeSystem.s")).http
    answers = [
        await posted(few, LOOKUP, NOISE),
        await posted(few, LOOKUP, {"system": ICD, "code": "x"}),
        await posted(few, ON, {"code": "noise"}),
    ]
    assert {(answer.status_code, answer.text) for answer in answers} == {(403, answers[0].text)}
    enough = await client_with("system/CodeSystem.r")
    assert (await posted(enough.http, LOOKUP, NOISE)).status_code == 200
    rows = await server.rows("select interaction, query from access where client_id = %s", enough.client_id)
    assert rows == [("operation", "$lookup")]
