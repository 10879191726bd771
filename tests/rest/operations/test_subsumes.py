"""CodeSystem/$subsumes: https://hl7.org/fhir/R4/codesystem-operation-subsumes.html"""

from collections.abc import Awaitable, Callable
from typing import Any

import httpx
import pytest

from tests.rest.operations.terms import answered, posted, told
from tests.support import Caller, issues, keep
from tests.terminology.exposures import EXPOSURES, EXPOSURES_SYSTEM, ICD, SUPPLEMENT_SYSTEM, concept

Make = Callable[..., Awaitable[Caller]]
SUBSUMES = "CodeSystem/$subsumes"
ON = "CodeSystem/expositions/$subsumes"
OLDER = EXPOSURES_SYSTEM | {
    "id": "older",
    "version": "1",
    "concept": [concept("lead", "Lead", None, concept("noise", "Noise"))],
}


def pair(one: str, other: str) -> dict[str, Any]:
    return {"codeA": one, "codeB": other}


def coding(code: str, **more: str) -> dict[str, Any]:
    return {"system": EXPOSURES, "code": code, **more}


async def test_a_coding_is_known_by_its_parts(kept: httpx.AsyncClient) -> None:
    """JSON does not say which data type a value is of, and others have a code that is no text."""
    context = {"code": {"code": "lead"}, "valueQuantity": {"value": 1}}
    parameters = [{"name": name, "valueUsageContext": context} for name in ("codingA", "codingB")]
    answer = await kept.post(f"/fhir/{ON}", json={"resourceType": "Parameters", "parameter": parameters})
    assert (answer.status_code, issues(answer)) == (400, [("invalid", "codingA")])
    told = [
        {
            "name": n,
            "valueCoding": {
                **coding("lead"),
                "id": "i",
                "_display": {"extension": [{"url": "urn:test", "valueString": "x"}]},
            },
        }
        for n in ("codingA", "codingB")
    ]
    answer = await kept.post(f"/fhir/{ON}", json={"resourceType": "Parameters", "parameter": told})
    assert answer.status_code == 200, answer.text


@pytest.fixture
async def kept(fhir_client: httpx.AsyncClient) -> httpx.AsyncClient:
    """Two versions of a code system that have another hierarchy, and a supplement."""
    await keep(fhir_client, EXPOSURES_SYSTEM, OLDER, SUPPLEMENT_SYSTEM)
    return fhir_client


@pytest.mark.parametrize(
    ("one", "other", "outcome"),
    [
        ("noise", "noise", "equivalent"),
        ("physical", "impulse-noise", "subsumes"),
        ("impulse-noise", "physical", "subsumed-by"),
        ("lead", "noise", "not-subsumed"),
    ],
)
async def test_two_codes_are_compared(kept: httpx.AsyncClient, one: str, other: str, outcome: str) -> None:
    """As codes, as codings and mixed, on the type and on an instance; by POST and by GET."""
    codings = {"codingA": coding(one), "codingB": coding(other)}
    for path, named in (
        (SUBSUMES, {"system": EXPOSURES, **pair(one, other)}),
        (SUBSUMES, {"system": EXPOSURES, **codings}),
        (SUBSUMES, {"system": EXPOSURES, "codeA": one, "codingB": coding(other, version="2")}),
        (ON, pair(one, other)),
        (ON, codings),
    ):
        assert told(await answered(kept, path, named)) == {"outcome": outcome}


@pytest.mark.parametrize(
    ("path", "named"),
    [
        (SUBSUMES, {"system": EXPOSURES, "version": "1", **pair("lead", "noise")}),
        (SUBSUMES, {"system": f"{EXPOSURES}|1", **pair("lead", "noise")}),
        (SUBSUMES, {"system": EXPOSURES, "codingA": coding("lead", version="1"), "codeB": "noise"}),
        ("CodeSystem/older/$subsumes", pair("lead", "noise")),
    ],
)
async def test_another_version_has_another_hierarchy(kept: httpx.AsyncClient, path: str, named: dict[str, Any]) -> None:
    """By `version`, by that of a coding, as an instance."""
    assert told(await answered(kept, path, named)) == {"outcome": "subsumes"}


@pytest.mark.parametrize(
    ("path", "named", "status", "issue"),
    [
        (SUBSUMES, pair("lead", "noise"), 400, ("required", "system")),
        (SUBSUMES, {"codingA": coding("lead"), "codingB": coding("noise")}, 400, ("required", "system")),
        (SUBSUMES, {"system": EXPOSURES, "codeA": "lead"}, 400, ("required", "codeB")),
        (SUBSUMES, {"system": EXPOSURES, "codeB": "lead"}, 400, ("required", "codeA")),
        (SUBSUMES, {"system": EXPOSURES, "codingA": coding("a"), **pair("lead", "noise")}, 400, ("invalid", "codingA")),
        (SUBSUMES, {"system": EXPOSURES, "codingA": {"display": "x"}, "codeB": "lead"}, 400, ("required", "codingA")),
        (SUBSUMES, {"system": EXPOSURES, "codingA": coding("lead", version="1"), "codeB": "lead", "version": "2"}, 400,
         ("invalid", "version")),
        (SUBSUMES, {"system": EXPOSURES, "codingA": {"system": ICD, "code": "lead"}, "codeB": "lead"}, 400,
         ("invalid", "codingA")),
        (SUBSUMES, {"system": EXPOSURES, **pair("lead", "noise"), "url": EXPOSURES}, 400, ("invalid", None)),
        (SUBSUMES, {"system": ICD, **pair("lead", "noise")}, 404, ("not-found", "system")),
        (SUBSUMES, {"system": EXPOSURES, "version": "9", **pair("lead", "noise")}, 404, ("not-found", "system")),
        (SUBSUMES, {"system": EXPOSURES, **pair("heat", "noise")}, 404, ("not-found", "codeA")),
        (SUBSUMES, {"system": EXPOSURES, **pair("noise", "heat")}, 404, ("not-found", "codeB")),
        (ON, {"system": EXPOSURES, **pair("lead", "noise")}, 400, ("invalid", "system")),
        ("CodeSystem/expositions-fr/$subsumes", pair("lead", "benzol"), 422, ("not-supported", "content")),
    ],
)  # fmt: skip
async def test_what_is_wrong_is_told(
    kept: httpx.AsyncClient, path: str, named: dict[str, Any], status: int, issue: tuple[str, str | None]
) -> None:
    """With its place."""
    answer = await posted(kept, path, named)
    assert (answer.status_code, issues(answer)) == (status, [issue])


@pytest.mark.parametrize(
    ("changes", "place"),
    [
        ({"hierarchyMeaning": "part-of"}, "hierarchyMeaning"),
        ({"hierarchyMeaning": "grouped-by"}, "hierarchyMeaning"),
        ({"content": "fragment"}, None),
    ],
)
async def test_what_cannot_be_told_is_an_error(
    kept: httpx.AsyncClient, changes: dict[str, Any], place: str | None
) -> None:
    """As R4 says: "If the server is unable to determine the relationship"."""
    await keep(kept, EXPOSURES_SYSTEM | changes)
    answer = await posted(kept, SUBSUMES, {"system": EXPOSURES, **pair("lead", "noise")})
    assert (answer.status_code, issues(answer)) == (422, [("not-supported", place)])


async def test_who_may_not_read_code_systems_learns_nothing(kept: httpx.AsyncClient, client_with: Make) -> None:
    """403, of what is there and what is not."""
    few = (await client_with("system/Patient.r", "system/CodeSystem.cus")).http
    answers = [
        await posted(few, SUBSUMES, {"system": EXPOSURES, **pair("lead", "noise")}),
        await posted(few, SUBSUMES, {"system": ICD, **pair("lead", "noise")}),
        await posted(few, ON, pair("lead", "noise")),
    ]
    assert {(answer.status_code, answer.text) for answer in answers} == {(403, answers[0].text)}
    enough = (await client_with("system/CodeSystem.r")).http
    assert (await posted(enough, ON, pair("lead", "noise"))).status_code == 200
