"""CodeSystem/$validate-code and ValueSet/$validate-code.

https://hl7.org/fhir/R4/codesystem-operation-validate-code.html,
https://hl7.org/fhir/R4/valueset-operation-validate-code.html
"""

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest

from tests.rest.operations.terms import answered, jeu_de_valeurs, official, posted, told
from tests.support import Caller, issues, keep
from tests.terminology.exposures import (
    AT_WORK,
    EXPOSURES,
    EXPOSURES_SYSTEM,
    ICD,
    SUPPLEMENT,
    SUPPLEMENT_SYSTEM,
    concept,
    value_set,
    where,
)
from tests.terminology.exposures import codes as taken

Make = Callable[..., Awaitable[Caller]]
OF_SYSTEM, OF_SET = "CodeSystem/$validate-code", "ValueSet/$validate-code"
NOISES = value_set(AT_WORK, where("concept", "is-a", "noise"), id="noises", version="1")
OLDER = EXPOSURES_SYSTEM | {"id": "older", "version": "1", "concept": [concept("cold", "Cold", "Froid")]}
NOISE = {"system": EXPOSURES, "code": "noise", "display": "Bruit"}
LEAD = {"system": EXPOSURES, "code": "lead"}


@pytest.fixture
async def kept(fhir_client: httpx.AsyncClient) -> httpx.AsyncClient:
    """Two versions of a code system, a supplement, and a value set."""
    await keep(fhir_client, EXPOSURES_SYSTEM, OLDER, SUPPLEMENT_SYSTEM, NOISES)
    return fhir_client


@pytest.mark.parametrize(
    ("named", "expected"),
    [
        ({"code": "noise"}, {"result": True, "display": "Noise"}),
        ({"code": "noise", "display": "Bruit"}, {"result": True, "display": "Noise"}),
        ({"code": "noise", "displayLanguage": "fr"}, {"result": True, "display": "Bruit"}),
        ({"code": "benzol", "display": "benzène", "displayLanguage": "fr"},
         {"result": True, "display": "Benzène", "message": "The code is inactive"}),
        ({"code": "noise", "display": "Silence"},
         {"result": False, "display": "Noise", "message": "The code is known, and it is not called so"}),
        ({"code": "heat"}, {"result": False, "message": "The code system has no such code"}),
        ({"code": "cold"}, {"result": False, "message": "The code system has no such code"}),
        ({"code": "cold", "version": "1"}, {"result": True, "display": "Cold"}),
        ({"code": "physical"}, {"result": True, "display": "Physical agent"}),
        ({"code": "physical", "abstract": True}, {"result": True, "display": "Physical agent"}),
        ({"code": "physical", "abstract": False},
         {"result": False, "display": "Physical agent",
          "message": "The code is abstract: it groups others and is not used itself"}),
        ({"coding": NOISE}, {"result": True, "display": "Noise"}),
        ({"coding": NOISE | {"version": "1"}}, {"result": False, "message": "The code system has no such code"}),
        ({"coding": {"system": EXPOSURES, "code": "cold", "version": "1"}}, {"result": True, "display": "Cold"}),
        ({"coding": NOISE | {"version": "9"}},
         {"result": False, "message": "The coding is of another version of the code system"}),
        ({"coding": {"system": ICD, "code": "noise"}},
         {"result": False, "message": "The coding is of another code system, or of none"}),
        ({"codeableConcept": {"coding": [{"code": "W42"}, NOISE]}}, {"result": True, "display": "Noise"}),
        ({"codeableConcept": {"coding": [{"display": "x"}]}},
         {"result": False, "message": "The coding is of another code system, or of none"}),
    ],
)  # fmt: skip
async def test_a_code_is_judged_by_its_code_system(
    kept: httpx.AsyncClient, named: dict[str, Any], expected: dict[str, Any]
) -> None:
    """The newest version in force, or the one that is named; by POST and by GET."""
    assert told(await answered(kept, OF_SYSTEM, {"url": EXPOSURES, **named})) == expected


async def test_a_code_system_may_be_sent_along_or_be_an_instance(kept: httpx.AsyncClient) -> None:
    """`codeSystem`; `CodeSystem/id`, which judges by its own version."""
    sent = OLDER | {"url": "http://test/sent"}
    assert told(await answered(kept, OF_SYSTEM, {"codeSystem": sent, "code": "cold"}))["result"] is True
    path = "CodeSystem/older/$validate-code"
    assert told(await answered(kept, path, {"code": "cold"})) == {"result": True, "display": "Cold"}
    assert told(await answered(kept, path, {"code": "cold", "version": "2"}))["result"] is False
    assert told(await answered(kept, path, {"coding": NOISE | {"version": "2"}}))["result"] is False


@pytest.mark.parametrize(
    ("named", "expected"),
    [
        ({"system": EXPOSURES, "code": "noise"}, {"result": True, "display": "Noise"}),
        ({"system": EXPOSURES, "code": "noise", "display": "bruit"}, {"result": True, "display": "Noise"}),
        ({"system": EXPOSURES, "code": "noise", "systemVersion": "2"}, {"result": True, "display": "Noise"}),
        ({"system": EXPOSURES, "code": "noise", "systemVersion": "1"},
         {"result": False, "message": "The code is in neither the value set nor its code system"}),
        ({"system": EXPOSURES, "code": "lead"},
         {"result": False, "display": "Lead", "message": "The code is not in the value set"}),
        ({"system": EXPOSURES, "code": "lead", "displayLanguage": "fr"},
         {"result": False, "display": "Plomb", "message": "The code is not in the value set"}),
        ({"system": EXPOSURES, "code": "heat"},
         {"result": False, "message": "The code is in neither the value set nor its code system"}),
        ({"system": ICD, "code": "J45"}, {"result": False, "message": "The code is not in the value set"}),
        ({"coding": NOISE}, {"result": True, "display": "Noise"}),
        ({"coding": {"code": "noise"}}, {"result": False, "message": "The coding lacks its system or its code"}),
        ({"codeableConcept": {"coding": [LEAD, NOISE]}}, {"result": True, "display": "Noise"}),
        ({"codeableConcept": {"coding": [LEAD]}},
         {"result": False, "display": "Lead", "message": "The code is not in the value set"}),
    ],
)  # fmt: skip
async def test_a_code_is_judged_by_a_value_set(
    kept: httpx.AsyncClient, named: dict[str, Any], expected: dict[str, Any]
) -> None:
    """By URL, by URL and version, sent along, and as an instance."""
    for which in ({"url": AT_WORK}, {"url": AT_WORK, "valueSetVersion": "1"}, {"valueSet": NOISES}):
        assert told(await answered(kept, OF_SET, {**which, **named})) == expected
    assert told(await answered(kept, "ValueSet/noises/$validate-code", named)) == expected


@pytest.mark.parametrize(
    ("content", "code", "result", "word"),
    [
        ("fragment", "noise", True, None),
        ("fragment", "heat", False, "fragment"),
        ("not-present", "noise", False, "does not keep the codes"),
        ("example", "noise", False, "does not keep the codes"),
    ],
)
async def test_what_cannot_be_judged_is_not_called_right(
    kept: httpx.AsyncClient, content: str, code: str, result: bool, word: str | None
) -> None:
    """By the code system and by a value set that takes all of it, alike: false, and the message says why."""
    await keep(kept, EXPOSURES_SYSTEM | {"content": content})
    of_system = told(await answered(kept, OF_SYSTEM, {"url": EXPOSURES, "code": code}))
    whole = value_set(AT_WORK, taken())
    of_set = told(await answered(kept, OF_SET, {"valueSet": whole, "system": EXPOSURES, "code": code}))
    assert of_system["result"] is of_set["result"] is result
    assert of_system.get("message") == of_set.get("message")
    assert word is None or word in of_system["message"]


async def test_the_value_sets_of_required_bindings_judge(kept: httpx.AsyncClient) -> None:
    """R4's own; its code system is not kept, and its list says it all."""
    named = {
        "url": "http://hl7.org/fhir/ValueSet/administrative-gender",
        "system": "http://hl7.org/fhir/administrative-gender",
    }
    assert told(await answered(kept, OF_SET, {**named, "code": "male", "display": "male"}))["result"] is True
    assert told(await answered(kept, OF_SET, {**named, "code": "m"}))["result"] is False


async def test_a_jeu_de_valeurs_judges(fhir_client: httpx.AsyncClient) -> None:
    """Codes and their French names, of code systems that are not kept."""
    resource = jeu_de_valeurs("JDV_HL7_Confidentiality_CISIS")
    await keep(fhir_client, resource)
    named = {"url": resource["url"], "system": "urn:oid:2.16.840.1.113883.5.25"}
    found = told(await answered(fhir_client, OF_SET, {**named, "code": "V", "display": "très restreint"}))
    assert (found["result"], found["display"]) == (True, "Très restreint")
    assert told(await answered(fhir_client, OF_SET, {**named, "code": "V", "display": "Normal"}))["result"] is False
    assert told(await answered(fhir_client, OF_SET, {**named, "code": "Z"}))["result"] is False


async def test_the_example_of_hl7_judges(fhir_client: httpx.AsyncClient) -> None:
    """A code system and a value set."""
    system, cholesterol = official("codesystem-example"), official("valueset-example")
    await keep(fhir_client, system, cholesterol)
    named = {"url": system["url"], "code": "chol-mass", "display": "SChol (mmol/L)"}
    assert told(await answered(fhir_client, OF_SYSTEM, named))["result"] is True
    named = {"url": cholesterol["url"], "system": "http://loinc.org", "code": "35200-5"}
    assert told(await answered(fhir_client, OF_SET, {**named, "systemVersion": "2.36"}))["result"] is True
    assert told(await answered(fhir_client, OF_SET, {**named, "systemVersion": "2.37"}))["result"] is False


async def test_today_is_the_only_time_that_is_judged_for(kept: httpx.AsyncClient) -> None:
    """`date`."""
    now = datetime.now(UTC).date().isoformat()
    for path, named in ((OF_SYSTEM, {"url": EXPOSURES}), (OF_SET, {"url": AT_WORK, "system": EXPOSURES})):
        assert told(await answered(kept, path, {**named, "code": "noise", "date": now}))["result"] is True
        answer = await posted(kept, path, {**named, "code": "noise", "date": "2020"})
        assert (answer.status_code, issues(answer)) == (400, [("not-supported", "date")])


CODE = {"code": "noise"}


@pytest.mark.parametrize(
    ("path", "named", "status", "issue"),
    [
        (OF_SYSTEM, {}, 400, ("required", "code")),
        (OF_SYSTEM, CODE, 400, ("required", "url")),
        (OF_SYSTEM, {"coding": NOISE}, 400, ("required", "url")),
        (OF_SYSTEM, {"url": EXPOSURES}, 400, ("required", "code")),
        (OF_SYSTEM, {"url": EXPOSURES, "codeSystem": OLDER, **CODE}, 400, ("invalid", "codeSystem")),
        (OF_SYSTEM, {"url": EXPOSURES, **CODE, "coding": NOISE}, 400, ("invalid", "coding")),
        (OF_SYSTEM, {"url": EXPOSURES, "coding": NOISE, "display": "Bruit"}, 400, ("invalid", "display")),
        (OF_SYSTEM, {"url": EXPOSURES, **CODE, "system": EXPOSURES}, 400, ("invalid", None)),
        (OF_SYSTEM, {"url": EXPOSURES, "coding": "noise"}, 400, ("invalid", "coding")),
        (OF_SYSTEM, {"url": EXPOSURES, "codeableConcept": "noise"}, 400, ("invalid", "codeableConcept")),
        (OF_SYSTEM, {"url": EXPOSURES, **CODE, "abstract": "perhaps"}, 400, ("invalid", "abstract")),
        (OF_SYSTEM, {"url": "http://test/unknown", **CODE}, 404, ("not-found", "url")),
        (OF_SYSTEM, {"url": EXPOSURES, "version": "9", **CODE}, 404, ("not-found", "url")),
        (OF_SYSTEM, {"url": SUPPLEMENT, **CODE}, 404, ("not-found", "url")),
        ("CodeSystem/expositions-fr/$validate-code", CODE, 422, ("not-supported", "content")),
        ("CodeSystem/expositions/$validate-code", {"url": EXPOSURES, **CODE}, 400, ("invalid", "url")),
        ("CodeSystem/never/$validate-code", CODE, 404, ("not-found", None)),
        (OF_SET, CODE, 400, ("required", "url")),
        (OF_SET, {"url": AT_WORK}, 400, ("required", "code")),
        (OF_SET, {"url": AT_WORK, **CODE}, 400, ("required", "system")),
        (OF_SET, {"url": AT_WORK, "coding": NOISE, "system": EXPOSURES}, 400, ("invalid", "system")),
        (OF_SET, {"url": AT_WORK, "coding": NOISE, "systemVersion": "2"}, 400, ("invalid", "systemVersion")),
        (OF_SET, {"url": AT_WORK, "context": "http://test/p", "coding": NOISE}, 400, ("not-supported", "context")),
        (OF_SET, {"url": "http://test/unknown", "coding": NOISE}, 404, ("not-found", "url")),
        (OF_SET, {"valueSet": value_set(AT_WORK, {"valueSet": ["http://test/x"]}), "coding": NOISE}, 422,
         ("not-found", "ValueSet.compose.include[0].valueSet")),
        (OF_SET, {"valueSet": value_set(AT_WORK, where("colour", "=", "red")), "coding": NOISE}, 422,
         ("not-supported", "ValueSet.compose.include[0].filter[0].property")),
    ],
)  # fmt: skip
async def test_what_is_wrong_is_told(
    kept: httpx.AsyncClient, path: str, named: dict[str, Any], status: int, issue: tuple[str, str | None]
) -> None:
    """With its place."""
    answer = await posted(kept, path, named)
    assert (answer.status_code, issues(answer)) == (status, [issue])


@pytest.mark.parametrize(
    ("path", "named", "needed"),
    [
        (OF_SYSTEM, {"url": EXPOSURES, "code": "noise"}, ["system/CodeSystem.r"]),
        ("CodeSystem/expositions/$validate-code", {"code": "noise"}, ["system/CodeSystem.r"]),
        (OF_SET, {"url": AT_WORK, "coding": NOISE}, ["system/CodeSystem.r", "system/ValueSet.r"]),
        ("ValueSet/noises/$validate-code", {"coding": NOISE}, ["system/CodeSystem.r", "system/ValueSet.r"]),
    ],
)
async def test_who_may_not_read_definitions_learns_nothing(
    kept: httpx.AsyncClient, client_with: Make, path: str, named: dict[str, Any], needed: list[str]
) -> None:
    """403 without one of the rights, whether there is such a definition or not."""
    enough = (await client_with(*needed)).http
    assert (await posted(enough, path, named)).status_code == 200
    for missing in needed:
        few = (await client_with("system/Patient.r", *(one for one in needed if one != missing))).http
        unknown = {**named, **({"url": "http://test/unknown"} if "url" in named else {})}
        answers = [await posted(few, path, named), await posted(few, path, unknown)]
        assert {(answer.status_code, answer.text) for answer in answers} == {(403, answers[0].text)}
